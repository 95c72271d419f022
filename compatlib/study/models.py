"""The study's models: the base models by role, shared by all chapters, and how any model is trained or found.

A role `old…` is a deployed model; `new…` is its successor trained without a compatibility term, the paragon too.

- `old`: the first half of the classes. `old_samples`: the first half of every class's images. `old_quarter`: the first
  quarter of the classes. `old_shared`: as `old`, but from the initial weights of `new`, which the study else forbids.
- `new`: all classes. `twin`: as `new`, from another stream: another seed of the same network. `small`: as `new`, a
  smaller network.
- `old_open`, `new_open`: an open-set split; a quarter and a half of the classes, none of which is tested on.
- What else an upgrade may change, on the classes of `old` and `new`: `old_small` (a smaller network), `new_deep` (twice
  the blocks), `old_narrow`, `new_narrow` (half the embedding's size), `old_cosine`, `new_cosine`, `new_arcface`
  (another classifier), `old_small_narrow`, `new_deep_arcface` (several at once).

Each role has a stream of its own, so that no two models of one seed share initial weights, order or augmentation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from compatlib.data import sources, splits
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.methods import independent
from compatlib.models import classifiers, resnet
from compatlib.study import artifacts
from compatlib.study.settings import Network, Settings
from compatlib.training import Fit, initialised

# Mirrored, a letter or a digit is another sign.
WITHOUT_FLIP = ("glyphs", "digits", "omniglot_small")
NETWORK_MODULES = ("compatlib.models.resnet", "compatlib.models.classifiers")
TRAINING_MODULES = ("compatlib.methods.independent", *NETWORK_MODULES)
CLASSIFIERS = {
    "linear": classifiers.LinearClassifier,
    "cosine": classifiers.CosineClassifier,
    "arcface": classifiers.ArcFaceClassifier,
}
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Role:
    """What a model is trained on, which network and classifier it has, and whose initial weights."""

    share: Callable[[Settings], Images]
    network: Callable[[Settings], Network]
    classifier: Literal["linear", "cosine", "arcface"] = "linear"
    weights_of: str | None = None


@lru_cache(maxsize=4)
def images(
    dataset: str, split: str, classes: int | None = None, per_class: int | None = None, size: int = 32
) -> Images:
    """A split of a data set, read once a process: `train`, `test`, or the parts of `train`, `kept` and `held out`."""
    if split in ("train", "test"):
        return sources.load(dataset, split, classes=classes, per_class=per_class, size=size)
    kept, held_out = splits.hold_out(images(dataset, "train", classes, per_class, size))
    return {"kept": kept, "held out": held_out}[split]


def training_images(run: Settings) -> Images:
    """The run's training images, all classes; a validation's are those that are not held out."""
    split = "kept" if run.validation else "train"
    return images(run.dataset, split, run.classes, run.train_per_class, run.image_size)


def test_images(run: Settings) -> Images:
    """The run's test images, all classes: query set and gallery in one; a validation's are held-out training images."""
    if run.validation:
        return images(run.dataset, "held out", run.classes, run.train_per_class, run.image_size)
    return images(run.dataset, "test", run.classes, run.test_per_class, run.image_size)


@lru_cache(maxsize=1)
def open_set(run: Settings) -> splits.OpenSetSplit:
    """The run's open-set split: identities to train on, to validate with, and to test on."""
    return splits.open_set(training_images(run), test_images(run))


def _all(run: Settings) -> Images:
    return training_images(run)


def _old_classes(run: Settings, share: float = 0.5) -> Images:
    return splits.class_incremental(training_images(run), share)[0]


def _old_samples(run: Settings) -> Images:
    return splits.sample_incremental(training_images(run))[0]


def _new_open(run: Settings) -> Images:
    return open_set(run).train


def _old_open(run: Settings) -> Images:
    split = open_set(run)
    return splits.of_classes(split.train, 0, split.old_classes)


def _network(run: Settings) -> Network:
    return run.network


def _small(run: Settings) -> Network:
    return run.small_network


def _narrow(run: Settings) -> Network:
    return run.network.model_copy(update={"dim": run.network.dim // 2})


def _small_narrow(run: Settings) -> Network:
    return run.small_network.model_copy(update={"dim": run.small_network.dim // 2})


def _deep(run: Settings) -> Network:
    return run.network.model_copy(update={"blocks": 2 * run.network.blocks})


ROLES = {
    "old": Role(_old_classes, _network),
    "old_samples": Role(_old_samples, _network),
    "old_quarter": Role(partial(_old_classes, share=0.25), _network),
    "old_shared": Role(_old_classes, _network, weights_of="new"),
    "old_small": Role(_old_classes, _small),
    "old_narrow": Role(_old_classes, _narrow),
    "old_cosine": Role(_old_classes, _network, "cosine"),
    "old_small_narrow": Role(_old_classes, _small_narrow),
    "old_open": Role(_old_open, _network),
    "new": Role(_all, _network),
    "twin": Role(_all, _network),
    "small": Role(_all, _small),
    "new_narrow": Role(_all, _narrow),
    "new_deep": Role(_all, _deep),
    "new_cosine": Role(_all, _network, "cosine"),
    "new_arcface": Role(_all, _network, "arcface"),
    "new_deep_arcface": Role(_all, _deep, "arcface"),
    "new_open": Role(_new_open, _network),
}


@dataclass(frozen=True)
class Model:
    """A trained backbone and classifier in eval mode, with the artifact they came from."""

    backbone: nn.Module
    classifier: nn.Module
    artifact: artifacts.Artifact

    @property
    def key(self) -> str:
        """The artifact's key."""
        return self.artifact.key


def make_backbone(network: Network, in_channels: int) -> nn.Module:
    """An untrained backbone as the settings describe it."""
    if network.torchvision is not None:
        return resnet.torchvision_resnet(network.torchvision, dim=network.dim, head=network.head)
    values = network.model_dump(exclude={"torchvision"})
    return resnet.small_resnet(**values, in_channels=in_channels)


def augmentation(run: Settings) -> dict[str, Any]:
    """Arguments of `crop_and_flip`: 4 pixels of shift at a side of 32, and no flip where it makes another sign."""
    side = training_images(run)[0][0].shape[-1]
    return {"padding": max(1, side // 8), "flip": run.dataset not in WITHOUT_FLIP}


def role_of(name: str) -> Role:
    """The role of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in ROLES:
        raise ValueError(f"unknown role {name!r}; choose one of {tuple(ROLES)}")
    return ROLES[name]


def work(run: Settings, role: str) -> float:
    """How much there is to do for a role: images times epochs, a smaller network less, a deeper one more (a guess)."""
    network = role_of(role).network(run)
    size = sum(network.widths) * network.blocks / (sum(run.network.widths) * run.network.blocks)
    return len(role_of(role).share(run)) * run.training.epochs * (0.3 + 0.7 * size)


def base_model(run: Settings, role: str, seed: int, *, report: Report | None = None) -> tuple[Model, bool]:
    """The base model of a role and a seed, and whether it had to be trained now.

    Raises:
        ValueError: an unknown role.
    """
    return trained_model(run, role, role, seed, fit=independent.fit, modules=TRAINING_MODULES, report=report)


def trained_model(
    run: Settings,
    name: str,
    role: str,
    seed: int,
    *,
    fit: Callable[..., Fit],
    modules: Sequence[str],
    options: Mapping[str, Any] | None = None,
    parents: Sequence[str] = (),
    report: Report | None = None,
) -> tuple[Model, bool]:
    """A model with the images, network, classifier and streams of a role, and whether it had to be trained now.

    A method's model has the role of the one it replaces, `new` most often, so that both start from the same weights and
    see the same images in the same order: what differs is the method.

    Args:
        run: the run's settings.
        name: what the artifact is called, the role's name for a base model.
        role: a name in `ROLES`.
        seed: any integer ≥ 0.
        fit: a method's `fit` with its own arguments bound: (backbone, classifier, images, recipe, seed=…, role=……).
        modules: compatlib modules that make the model, for its key.
        options: what was chosen besides the role, for its key (JSON-able): method, form, weight…
        parents: keys of the models it is made from.
        report: (share done, text).

    Raises:
        ValueError: an unknown role.
    """
    about = role_of(role)
    share, network = about.share(run), about.network(run)
    classes = int(share.labels.max()) + 1
    settings = {
        "role": role,
        "seed": seed,
        "network": network.model_dump(mode="json"),
        "training": run.training.model_dump(mode="json"),
        "classifier": about.classifier,
        "augmentation": augmentation(run),
        **(options or {}),
    }
    key = artifacts.key_of(settings, data=share.digest(), modules=modules, parents=parents)
    stream_role = about.weights_of or role
    backbone = initialised(lambda: make_backbone(network, share[0][0].shape[0]), seed, stream_role)
    make_classifier = partial(CLASSIFIERS[about.classifier], network.dim, classes)
    classifier = initialised(make_classifier, seed, f"{role} classifier")
    parts = nn.ModuleDict({"backbone": backbone, "classifier": classifier})

    def train(checkpoint: Path) -> Fit:
        return fit(
            backbone,
            classifier,
            share,
            run.training.recipe(),
            seed=seed,
            role=role,
            label_smoothing=run.training.label_smoothing,
            augment=partial(crop_and_flip, **augmentation(run)),
            checkpoint=checkpoint,
            report=report,
        )

    artifact, is_new = artifacts.load_or_fit(f"{run.dataset}-{name}-{seed}", key, settings, parts, train)
    parts.to(memory_format=torch.channels_last)
    return Model(backbone, classifier, artifact), is_new
