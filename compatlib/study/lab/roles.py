"""The roles of base models, from which all chapters start: what each is trained on, its network and its classifier.

A role `old…` is a deployed model; `new…` is its successor trained without a compatibility term, the paragon too.

- `old`: the first half of the classes. `old_samples`: the first half of every class's images. `old_quarter`: the first
  quarter of the classes. `old_shared`: as `old`, but from the initial weights of `new`, which the study else forbids.
- `old_mislabelled_20`, `old_mislabelled_40`: as `old`, but so many percent of the images bear another class's label.
- `old_again`: all classes, on the old encoder where heads are trained: what could be learned from stored old features.
- `new`: all classes. `twin`: as `new`, from another stream: another seed of the same network. `small`: as `new`, a
  smaller network.
- `old_open`, `new_open`: an open-set split; a quarter and a half of the classes, none of which is tested on.
- `query_open`, `small_open`, `gallery_open`: as `new_open`; a query model (of heads on the old encoder), a smaller
  network, and a gallery model, a network of twice the widths.
- What else an upgrade may change, on the classes of `old` and `new`: `old_small` (a smaller network), `new_deep` (twice
  the blocks; of a head twice the hidden layer), `old_narrow`, `new_narrow` (half the embedding's size), `old_cosine`,
  `new_cosine`, `new_arcface` (another classifier), `old_small_narrow`, `new_deep_arcface` (several at once).

Where heads are trained, roles `old…` and `query…` stand on the old encoder, all others on the new one.

Each role has a stream of its own, so that no two models of one seed share initial weights, order or augmentation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

from torch import nn

from compatlib.data import splits
from compatlib.data.by_encoder import ByEncoder
from compatlib.data.features import FeatureSet
from compatlib.data.images import Images
from compatlib.models import classifiers, resnet
from compatlib.models.heads import feature_head
from compatlib.study.lab.images import encoder_of, open_set, standardisation, training_images
from compatlib.study.settings import Knobs, Network, Settings, Training

CLASSIFIERS = {
    "linear": classifiers.LinearClassifier,
    "cosine": classifiers.CosineClassifier,
    "arcface": classifiers.ArcFaceClassifier,
}


@dataclass(frozen=True)
class Role:
    """What a model is trained on, which network and classifier it has, and whose initial weights.

    share: (run, encoder) → the part of the training images, as an encoder sees them where heads are trained.
    """

    share: Callable[[Settings, str | None], Images]
    network: Callable[[Settings], Network]
    classifier: Literal["linear", "cosine", "arcface"] = "linear"
    weights_of: str | None = None


def _old_classes(run: Settings, encoder: str | None, share: float = 0.5) -> Images:
    return splits.class_incremental(training_images(run, encoder), share)[0]


def _mislabelled(run: Settings, encoder: str | None, share: float) -> Images:
    return splits.mislabelled(_old_classes(run, encoder), share)


def _old_samples(run: Settings, encoder: str | None) -> Images:
    return splits.sample_incremental(training_images(run, encoder))[0]


def _new_open(run: Settings, encoder: str | None) -> Images:
    return open_set(run, encoder).train


def _old_open(run: Settings, encoder: str | None) -> Images:
    split = open_set(run, encoder)
    return splits.of_classes(split.train, 0, split.old_classes)


def _network(run: Settings, **changes: Any) -> Network:
    return run.network.model_copy(update=changes)


def _deep(run: Settings) -> Network:
    """Twice the blocks; of a head twice the hidden layer."""
    if run.network.hidden is not None:
        return _network(run, hidden=2 * run.network.hidden)
    return _network(run, blocks=2 * run.network.blocks)


def _wide(run: Settings) -> Network:
    """Twice the widths; of a head twice the hidden layer."""
    if run.network.hidden is not None:
        return _deep(run)
    return _network(run, widths=tuple(2 * width for width in run.network.widths))


def _small(run: Settings) -> Network:
    return run.small_network


def _narrow(run: Settings) -> Network:
    return _network(run, dim=run.network.dim // 2)


def _small_narrow(run: Settings) -> Network:
    return run.small_network.model_copy(update={"dim": run.small_network.dim // 2})


ROLES = {
    "old": Role(_old_classes, _network),
    "old_samples": Role(_old_samples, _network),
    "old_quarter": Role(partial(_old_classes, share=0.25), _network),
    "old_shared": Role(_old_classes, _network, weights_of="new"),
    "old_small": Role(_old_classes, _small),
    "old_narrow": Role(_old_classes, _narrow),
    "old_cosine": Role(_old_classes, _network, "cosine"),
    "old_small_narrow": Role(_old_classes, _small_narrow),
    "old_again": Role(training_images, _network),
    "old_mislabelled_20": Role(partial(_mislabelled, share=0.2), _network),
    "old_mislabelled_40": Role(partial(_mislabelled, share=0.4), _network),
    "old_open": Role(_old_open, _network),
    "new": Role(training_images, _network),
    "twin": Role(training_images, _network),
    "small": Role(training_images, _small),
    "new_narrow": Role(training_images, _narrow),
    "new_deep": Role(training_images, _deep),
    "new_cosine": Role(training_images, _network, "cosine"),
    "new_arcface": Role(training_images, _network, "arcface"),
    "new_deep_arcface": Role(training_images, _deep, "arcface"),
    "new_open": Role(_new_open, _network),
    "query_open": Role(_new_open, _network),
    "small_open": Role(_new_open, _small),
    "gallery_open": Role(_new_open, _wide),
}


def share_of(name: str, run: Settings, *encoders: str | None) -> Images | FeatureSet | ByEncoder:
    """What a role is trained on; the last few are kept, for runs that differ in other values too.

    Args:
        name: the role's.
        run: the run's settings.
        *encoders: as which encoders see it, where heads are trained: by default as the role's own; as several of them
            where they differ, for two models that are trained, or looked at, together.

    Raises:
        ValueError: there is no such role.
    """
    role_of(name)
    seen = tuple(dict.fromkeys(encoders)) or (encoder_of(run, name),)
    others = {"knobs": Knobs(), "training": Training(epochs=1, learning_rate=1.0), "seeds": (0,), "sweep_seeds": (0,)}
    plain = run.model_copy(update=others)
    if len(seen) == 1:
        return _share_of(name, plain, seen[0])
    return ByEncoder({encoder: _share_of(name, plain, encoder) for encoder in seen})


@lru_cache(maxsize=12)
def _share_of(name: str, run: Settings, encoder: str | None) -> Images | FeatureSet:
    return ROLES[name].share(run, encoder)


def role_of(name: str) -> Role:
    """The role of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in ROLES:
        raise ValueError(f"unknown role {name!r}; choose one of {tuple(ROLES)}")
    return ROLES[name]


def make_backbone(network: Network, images: Images | FeatureSet) -> nn.Module:
    """An untrained backbone as the settings describe it, for images of this many channels, or on these features.

    Of features it keeps the mean and the deviation.
    """
    if network.hidden is not None:
        about = {"hidden": network.hidden, "dim": network.dim, "head": network.head, "encoder": images.encoder}
        return feature_head(*standardisation(images), **about)
    if network.torchvision is not None:
        return resnet.torchvision_resnet(network.torchvision, dim=network.dim, head=network.head)
    values = network.model_dump(exclude={"torchvision", "hidden"})
    return resnet.small_resnet(**values, in_channels=images[0][0].shape[0])


def make_classifier(kind: str, dim: int, images: Images, recipe: Training) -> nn.Module:
    """An untrained classifier with a row for every label up to the images' highest."""
    return CLASSIFIERS[kind](dim, int(images.labels.max()) + 1, full_precision=recipe.logits == "float32")
