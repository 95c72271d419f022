"""Computations of what trains: loop, augmentation, networks, classifiers, methods and losses."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip, two_noisy_views, two_views, unchanged, view_with_noise
from compatlib.data.by_encoder import ByEncoder
from compatlib.data.images import FolderImages, batches
from compatlib.methods import (
    architecture_search,
    bct,
    bct_baselines,
    cmp_nas,
    conflicts,
    dual_tuning,
    evidential,
    fct,
    independent,
    path_scores,
    sfsc,
    side_information,
    stored_views,
)
from compatlib.methods.common import resized
from compatlib.models import heads, resnet, slimmable, supernet
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.slimmable import WIDTHS, Slimmable, sliced
from compatlib.study.lab import images as lab_images
from compatlib.study.lab.gradient_statistics import GradientStatistics
from compatlib.training import Recipe
from tests.study.lab.pinned.drawn import (
    LITE,
    SIDE,
    Flat,
    feature_set,
    image_set,
    numbers,
    on_features,
    pictures,
    put,
    run,
    weights,
    whole,
    with_gradients,
)
from tests.study.lab.pinned.values import As, pins, single, trained

Found = Iterator[tuple[str, Any]]


@dataclass
class Vectors:
    """A training set in memory of float64 vectors."""

    vectors: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.vectors[indices], self.labels[indices]


VECTORS = Vectors(numbers(1, 43, 5), whole(2, 3, 43))
STEPS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.3}  # ten steps
RECIPES = {
    "sgd": Recipe(**STEPS),
    "without Nesterov's": Recipe(**STEPS, nesterov=False),
    "without momentum": Recipe(**STEPS, momentum=0.0),
    "adam": Recipe(**STEPS | {"learning_rate": 0.01}, optimizer="adam", weight_decay=2**-5),
    "constant": Recipe(**STEPS, schedule="constant"),
    "warm-up": Recipe(**STEPS, warmup_epochs=0.6),
    "warm-up, not from zero": Recipe(**STEPS, warmup_epochs=0.6, warmup_from_zero=False),
    "warm-up of steps": Recipe(**STEPS, warmup_steps=3),
    "steps": Recipe(**STEPS, schedule="steps", milestones=(0.4, 1.2), decay=0.3),
    "clipped": Recipe(**STEPS, clip_norm=0.2),
    "a batch larger than the set": Recipe(**STEPS | {"batch_size": 100}),
}


def _linear(seed: int = 3, dim: int = 5, classes: int = 3) -> nn.Linear:
    return put(nn.Linear(dim, classes, dtype=torch.float64), seed)


def _fit(objective: Any, module: nn.Module, recipe: Recipe = RECIPES["sgd"], **options: Any) -> training.Fit:
    return training.fit(objective, module, VECTORS, recipe, **{"seed": 7, "role": "new"} | options)


def _history(outcome: training.Fit) -> list[float]:
    return [row[name] for row in outcome.history for name in ("value", "learning_rate")]


@pins("loop")
def recipes() -> Found:
    for words, recipe in RECIPES.items():
        module = _linear()

        def objective(inputs: Tensor, labels: Tensor, indices: Tensor, module: nn.Module = module) -> Iterator:
            yield "own", F.cross_entropy(module(inputs), labels)

        outcome = _fit(objective, module, recipe)
        yield f"{words}, history", _history(outcome)
        yield f"{words}, weights", weights(module)
        yield f"{words}, rates", [recipe.rate(epoch, 0.2) for epoch in (0.0, 0.3, 0.5, 0.6, 1.0, 1.9)]


@pins("loop")
def several_losses() -> Found:
    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        logits = module(inputs)
        yield "first", {"own": F.cross_entropy(logits, labels), "size": logits.square().mean()}
        yield "second", module(inputs).square().sum()

    def combine(parameters: list, gradients: dict[str, list]) -> list:
        names.extend(gradients)
        return [3 * a - 0.1 * b for a, b in zip(*gradients.values(), strict=True)]

    module, names = _linear(), []
    yield "sum, history", _history(_fit(objective, module))
    yield "sum, weights", weights(module)
    module = _linear()
    outcome = _fit(objective, module, combine=combine)
    yield "combined, terms", [row["term"] for row in outcome.history]
    yield "combined, history", _history(outcome)
    yield "combined, weights", weights(module)
    yield "combined, names", names[:2]


@pins("loop")
def streams() -> Found:
    """Order, augmentation and an objective's own draws."""
    seen, drawn, own = [], [], []

    def augment(inputs: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(int(torch.randint(10**6, (), generator=generator)))
        return inputs

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        seen.extend(indices.tolist())
        own.append(int(torch.randint(10**6, ())))
        yield "own", F.cross_entropy(module(inputs), labels)

    module = _linear()
    _fit(objective, module, augment=augment)
    yield "order, first epoch", seen[:40]
    yield "order, second epoch", seen[40:]
    yield "augmentation", drawn
    yield "objective", own
    asked = [(0, "old"), (1, "old"), (0, "new"), (0, "old", "weights"), (0, "old", "order", 3)]
    yield "seeds", [training.stream(*each).initial_seed() for each in asked]
    yield "weights", single(weights(training.initialised(partial(nn.Linear, 3, 2), 4, "new")))
    yield "unchanged", unchanged(torch.arange(3), torch.Generator())


@pins("loop")
def modes() -> Found:
    """Frozen modules, modules that train, what an epoch's beginning may change, and what is in eval mode afterwards."""
    frozen, module, began = put(nn.BatchNorm1d(5).double(), 1), nn.Sequential(nn.BatchNorm1d(5).double(), _linear()), []
    modes = []

    def on_epoch(epoch: int, epochs: int) -> None:
        began.extend((epoch, epochs, module.training))
        if epoch == 1:
            module[0].eval()

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        modes.append(module[0].training)
        yield "own", F.cross_entropy(module(frozen(inputs)), labels)

    fixed = module[1].bias.requires_grad_(False)
    _fit(objective, module, frozen=(frozen,), on_epoch=on_epoch)
    yield "epochs", began
    yield "training", modes
    yield "afterwards", [module.training, frozen.training, frozen.weight.requires_grad]
    yield "weights", weights(module)
    yield "frozen", torch.cat([weights(frozen), fixed])


@pins("loop")
def interrupted() -> Found:
    """A training that is stopped at its seventh step and goes on from its checkpoint."""
    left = [7, 100]
    module = _linear()

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        yield "own", F.cross_entropy(module(inputs), labels)

    with tempfile.TemporaryDirectory() as folder:
        options = {"checkpoint": Path(folder) / "checkpoint", "checkpoint_seconds": 0.0}
        recipe = RECIPES["adam"]
        for _ in range(2):
            try:
                outcome = _fit(objective, module, recipe, **options)
            except KeyboardInterrupt:
                left.pop(0)
                module = _linear(9)
        yield "steps left", left
        yield "history", _history(outcome)
        yield "weights", weights(module)


@pins("loop")
def precision() -> Found:
    """What autocast makes of a product, and of a loss that is yielded."""
    seen, module = [], put(nn.Linear(5, 3), 3)

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        logits = module(inputs.float())
        seen.append(str(logits.dtype))
        yield "own", F.cross_entropy(logits, labels)

    for name in training.PRECISIONS:
        outcome = _fit(objective, module, Recipe(**STEPS | {"epochs": 1}, precision=name))
        yield f"{name}, types", [seen[-1], str(module.weight.dtype)]
        yield f"{name}, history", As("rounded", _history(outcome))


class _Items(torch.utils.data.Dataset):
    """A set that gives one item at a time."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index]


@pins("loop")
def sets_of_images() -> Found:
    images, order = image_set(3, height=2, width=2), torch.tensor([4, 0, 7, 7, 2])
    for words, each in (("in memory", images), ("item by item", _Items(images))):
        parts = [[inputs.long().sum(), *labels, *indices] for inputs, labels, indices in batches(each, order, 2)]
        yield f"{words}", [int(number) for part in parts for number in part]
    yield "digest", images.digest()
    yield "part", images.select(torch.tensor([5, 1])).labels
    with tempfile.TemporaryDirectory() as folder:
        for name in ("b", "a"):
            (Path(folder) / name).mkdir()
            for number in (2, 1):
                (Path(folder) / name / f"{number}.png").write_bytes(f"{name}{number}".encode())
        stored = FolderImages(folder, size=4)
        yield "folder", [*stored.class_names, *(file.name for file in stored.files), *map(str, stored.labels.tolist())]
        yield "folder, digest", stored.digest()
        yield "folder, part", stored.select(torch.tensor([3, 0])).digest()


@pins("augment")
def crops() -> Found:
    images = pictures(1, 6)
    for padding, flip in ((4, True), (1, True), (2, False), (0, True)):
        generator = torch.Generator().manual_seed(5)
        yield f"padding {padding}, flip {flip}", crop_and_flip(images, generator, padding=padding, flip=flip)
    yield "of its own accord", crop_and_flip(images, torch.Generator().manual_seed(6))
    yield "floats", crop_and_flip(numbers(2, 3, 1, 4, 4), torch.Generator().manual_seed(6))


@pins("augment")
def simclr_views() -> Found:
    """Channel by channel, as a pixel may be rounded otherwise elsewhere."""
    for words, flip, channels in (("colour", True, 3), ("grey", True, 1), ("colour, no flip", False, 3)):
        images = (pictures(3, 8, channels, 16, 16).double() / 4).to(torch.uint8)
        images = (images * (torch.arange(channels) + 1).view(-1, 1, 1) * 0.4).to(torch.uint8)
        images[:, :, :6, :9] += 150
        first, second = two_views(images, torch.Generator().manual_seed(8), flip=flip)
        for name, view in (("first", first), ("second", second)):
            left, upper = view.double()[..., :8].mean((2, 3)), view.double()[:, :, :8].mean((2, 3))
            yield f"{words}, {name}", As("trained", torch.stack([left, upper, view.double().mean((2, 3))]))


NETWORKS = {
    "relu_pool": {},
    "linear_bn": {"head": "linear_bn"},
    "blocks 2": {"blocks": 2},
    "stem stride 2": {"stem_stride": 2},
    "grey, three stages": {"in_channels": 1, "widths": (8, 8, 16)},
}


def _network(seed: int = 1, **options: Any) -> resnet.Backbone:
    return put(resnet.small_resnet(**{"widths": (8, 16), "dim": 6} | options), seed)


def _wide(network: resnet.Backbone, images: Tensor) -> Tensor:
    """A backbone's embeddings in float64, but for the scaling of pixels."""
    network = network.double()
    return network.head(network.trunk(resnet.scaled(images).double()))


@pins("resnet")
def small_networks() -> Found:
    for words, options in NETWORKS.items():
        network, images = _network(**options), pictures(2, 4, options.get("in_channels", 3))
        yield f"{words}, names", list(network.state_dict())
        yield f"{words}, float32", single(network.eval()(images))
        yield f"{words}, evaluated", _wide(network.eval(), images)
        embeddings = _wide(network.train(), images)
        yield f"{words}, trained", embeddings
        gradients = torch.autograd.grad(embeddings.pow(3).sum(), list(network.parameters()))
        yield f"{words}, gradients", torch.cat([each.flatten() for each in gradients])
        yield f"{words}, statistics", weights(network)
        yield f"{words}, parameters", resnet.parameter_count(network)


@pins("resnet")
def begun_networks() -> Found:
    """Initial weights, of all options' networks, and of torchvision's."""
    for words, options in NETWORKS.items():
        make = partial(resnet.small_resnet, **{"widths": (8, 16), "dim": 6} | options)
        yield words, single(weights(training.initialised(make, 2, "new")))
    yield "standard", list(resnet.small_resnet().state_dict())
    yield "standard, parameters", resnet.parameter_count(resnet.small_resnet())


@pins("resnet")
def large_networks() -> Found:
    network = training.initialised(partial(resnet.torchvision_resnet, "resnet18", dim=6), 3, "new")
    yield "names", list(network.state_dict())
    yield "weights", single(weights(network.head))
    yield "embeddings", trained(_wide(network.eval(), pictures(4, 2, 3, 32, 32)))
    yield "head", list(resnet.make_head("linear_bn", 512, 6).state_dict())
    yield "pixels", single(resnet.scaled(pictures(5, 2)))


@pins("resnet")
def rounded_networks() -> Found:
    network, images = _network().eval(), pictures(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = network(images)
        yield "types", [str(embeddings.dtype), str(network.trunk(resnet.scaled(images)).dtype)]
    yield "embeddings", As("rounded", embeddings)


FEATURE_BATCH = feature_set("lite0").batch(torch.arange(6))[0]
FEATURES = {"first": numbers(7, 12, 2, 5).half(), "second": 3 * numbers(8, 12, 2, 4).half() + 1}


@pins("noise")
def noisy_views() -> Found:
    deviation = {"first": torch.arange(5.0), "second": torch.ones(4)}
    for seed in range(2):
        both = view_with_noise(FEATURES, torch.Generator().manual_seed(seed), deviation=deviation)
        yield f"both, seed {seed}", single(torch.cat(list(both.values()), dim=1))
    alone = {"deviation": deviation["first"], "noise": 0.5, "encoder": "first"}
    yield "alone", single(view_with_noise(FEATURES["first"], torch.Generator().manual_seed(0), **alone))
    yield "unnamed", single(view_with_noise(FEATURES["second"], torch.Generator().manual_seed(3)))


@pins("noise")
def features_of_a_run() -> Found:
    """In which deviations the noise is, and how much of it there is where a profile says nothing."""
    own = run(**on_features())
    yield "arguments", list(lab_images.augmentation(own).values())
    both = ByEncoder({encoder: feature_set(encoder) for encoder in LITE})
    for words, each in (("one", feature_set("lite0")), ("both", both)):
        found = lab_images.augment(own, each)(each.batch(torch.arange(6))[0], torch.Generator().manual_seed(4))
        yield words, single(found if words == "one" else torch.cat(list(found.values()), dim=1))


@pins("noise")
def noisy_pairs() -> Found:
    options = {"deviation": torch.arange(5.0), "mean": torch.full((5,), 9.0), "noise": 0.5, "encoder": "first"}
    for dropped in (0.0, 0.4):
        pair = two_noisy_views(FEATURES["first"], torch.Generator().manual_seed(2), dropped=dropped, **options)
        yield f"dropped {dropped}", single(torch.cat(pair))
    own, knobs = run(**on_features()), run().knobs
    yield "share", knobs.dropped
    found = lab_images.two_views_of(own, feature_set("lite0"))(FEATURE_BATCH, torch.Generator().manual_seed(4))
    yield "of a run", single(torch.cat(found))


@pins("projection")
def projections() -> Found:
    features = feature_set("lite0")
    mean, deviation = lab_images.standardisation(features)
    raw, components = heads.Projection(mean, deviation), heads.Projection(mean, deviation, 3)
    outcome = side_information.fit_components(components, features)
    yield "raw", single(raw(features.features))
    yield "components", single(components.components)
    yield "coordinates", single(components(features.features))
    yield "names", [*raw.state_dict(), *components.state_dict()]
    yield "history", len(outcome.history)


def _head(**options: Any) -> heads.FeatureHead:
    mean, deviation = numbers(4, 5).float(), numbers(5, 5).float().abs()
    return heads.feature_head(mean, deviation, **{"hidden": 6, "dim": 4} | options)


@pins("heads")
def heads_on_features() -> Found:
    for head in resnet.HEADS:
        network, features = put(_head(head=head), 2), FEATURES["first"]
        yield f"{head}, names", list(network.state_dict())
        yield f"{head}, evaluated", single(network.eval()(features))
        embeddings = network.train()(features)
        yield f"{head}, trained", trained(embeddings)
        gradients = torch.autograd.grad(embeddings.pow(3).sum(), list(network.parameters()))
        yield f"{head}, gradients", trained(torch.cat([each.flatten() for each in gradients]))
        yield f"{head}, begun", single(weights(training.initialised(partial(_head, head=head), 2, "new")))
        yield f"{head}, of several", single(put(_head(head=head, encoder="first"), 2).eval()(FEATURES))
    yield (
        "standard",
        [str(tuple(each.shape)) for each in heads.feature_head(torch.zeros(9), torch.ones(9)).parameters()],
    )


@pins("heads")
def standardised() -> Found:
    for part in (feature_set("lite0"), feature_set("lite2").select(torch.tensor([3, 1, 8]))):
        yield f"{len(part)} items", single(torch.cat(lab_images.standardisation(part)))


LABELS = torch.tensor([0, 2, 1, 1, 2, 0])


@pins("classifiers")
def kinds() -> Found:
    embeddings = numbers(1, 6, 4)
    kinds = {
        "linear": LinearClassifier(4, 3),
        "cosine": CosineClassifier(4, 3),
        "cosine, scale 4": CosineClassifier(4, 3, 4.0),
        "arcface": ArcFaceClassifier(4, 3),
        "arcface, margin 1": ArcFaceClassifier(4, 3, margin=1.0),
    }
    for words, classifier in kinds.items():
        wide = put(classifier, 2).double()
        with torch.no_grad():
            wide.weight[0], wide.weight[2] = embeddings[0], -embeddings[1]  # at the angles 0 and π
        yield f"{words}, logits", wide(embeddings)
        yield f"{words}, logits with labels", wide(embeddings, LABELS)

        def loss(vectors: Tensor, wide: nn.Module = wide) -> Tensor:
            return wide(vectors, LABELS).square().sum()

        yield f"{words}, gradient", with_gradients(loss, embeddings)[1].float()
        yield f"{words}, gradient of rows", torch.autograd.grad(loss(embeddings), wide.weight)[0].float()


@pins("classifiers")
def begun_rows() -> Found:
    for kind in (LinearClassifier, CosineClassifier, ArcFaceClassifier):
        made = training.initialised(partial(kind, 5, 7), 1, "new classifier")
        yield kind.__name__, single(weights(made))
        yield f"{kind.__name__}, names", list(made.state_dict())


@pins("classifiers")
def rounded_rows() -> Found:
    embeddings = numbers(1, 6, 4).float() + torch.arange(4) / 3
    for kind in (LinearClassifier, CosineClassifier, ArcFaceClassifier):
        for full in (False, True):
            classifier = put(kind(4, 3, full_precision=full), 2)
            exact = classifier(embeddings)
            with torch.autocast("cpu", torch.bfloat16):
                logits = classifier(embeddings)
            yield f"{kind.__name__}, {full}", [str(logits.dtype), str(bool((logits - exact).abs().max() < 1e-4))]


@pins("slimmable")
def switched() -> Found:
    """Embeddings and statistics at every width, and the sub-models' own weights."""
    for words, options in (("one block", {}), ("linear_bn, stem stride 2", {"head": "linear_bn", "stem_stride": 2})):
        network = Slimmable(_network(**options), WIDTHS).double()
        images = resnet.scaled(pictures(2, 4)).double()
        for width in WIDTHS:
            inner = network.switch(width).backbone
            embeddings = inner.train().head(inner.trunk(images))
            yield f"{words}, {width}, trained", embeddings
            inner.eval()
            yield f"{words}, {width}, evaluated", inner.head(inner.trunk(images))
            own = network.extract(width)
            yield f"{words}, {width}, extracted", own.head(own.trunk(images))
            yield f"{words}, {width}, weights", weights(own)
            yield f"{words}, {width}, names", list(own.state_dict())
        yield f"{words}, names", list(network.state_dict())
        yield f"{words}, shared", [str(tuple(each.shape)) for each in network.shared_parameters()]
    yield "sizes", [sliced(size, width) for size in (1, 3, 8, 10, 14, 16, 66) for width in (0.05, *WIDTHS)]
    yield "widths", [*slimmable.WIDTHS, *Slimmable(_network()).widths]


@pins("slimmable")
def switched_as_it_is() -> Found:
    network = Slimmable(_network().eval(), (0.5, 1.0))
    for width in network.widths:
        yield f"{width}", single(network.switch(width)(pictures(2, 4)))
    gradients = torch.autograd.grad(network.switch(0.5)(pictures(3, 4)).sum(), network.shared_parameters())
    yield "gradients", single(torch.cat([each.flatten() for each in gradients]))


IMAGES = image_set(1)  # 20 images of four classes
FOUR = Recipe(epochs=2, batch_size=10, learning_rate=0.2)  # four steps
FIT = {"seed": 3, "role": "new"}


def _classifier(seed: int = 2, dim: int = 4, classes: int = 4, kind: Any = LinearClassifier, **options: Any):
    return put(kind(dim, classes, **options), seed).double()


def _told(outcome: training.Fit, *modules: nn.Module) -> Found:
    """History and weights of a training through float32 losses."""
    yield "terms", [row["term"] for row in outcome.history]
    yield "history", single([row["value"] for row in outcome.history])
    for number, module in enumerate(modules):
        yield f"weights {number}", single(weights(module))


def _named(words: str, found: Found) -> Found:
    for part, value in found:
        yield f"{words}, {part}", value


def _types_seen(owner: Any, name: str, fit: Any) -> list[str]:
    """Under autocast: the type in which a loss gets its vectors, and that of a product of them there."""
    seen, own = [], getattr(owner, name)

    def watched(vectors: Tensor, *others: Any, **options: Any) -> Tensor:
        seen[:] = str(vectors.dtype), str((vectors @ vectors.T).dtype)
        return own(vectors, *others, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, watched)
        fit(recipe=Recipe(epochs=1, batch_size=20, precision="bfloat16"), seed=3)
    return seen


@pins("independent")
def fit_independent() -> Found:
    for words, kind, smoothing in (
        ("linear", LinearClassifier, 0.0),
        ("smoothed", LinearClassifier, 0.1),
        ("arcface", ArcFaceClassifier, 0.0),
    ):
        modules = Flat(1), _classifier(kind=kind)
        outcome = independent.fit(*modules, IMAGES, FOUR, **FIT, label_smoothing=smoothing)
        yield from _named(words, _told(outcome, *modules))


@pins("bct")
def influence() -> Found:
    embeddings, labels, weight = numbers(1, 6, 4), torch.tensor([0, 3, 1, 1, 2, 0]), numbers(2, 4, 4)
    cosine = put(CosineClassifier(4, 4), 5).double()
    cases = {
        "all classes": (weight, None),
        "two classes": (weight, 2),
        "listed classes": (weight, [3, 1]),
        "no class": (weight, 0),
        "a module": (_linear(4, 4, 4), None),
        "cosine": (cosine, None),
        "arcface": (put(ArcFaceClassifier(4, 4), 5).double(), None),
        "shorter rows": (weight[:, :3], None),
        "longer rows": (numbers(3, 4, 6), 3),
    }
    for words, (classifier, known) in cases.items():
        loss = partial(bct.influence_loss, labels=labels, old_classifier=classifier, known_classes=known)
        value, gradient = with_gradients(loss, embeddings)
        yield f"{words}, loss", value
        yield f"{words}, gradient", gradient.float()
    yield "resized", torch.cat([resized(embeddings, 3).flatten(), resized(embeddings, 6).flatten()])


@pins("bct")
def fit_bct() -> Found:
    cases = {
        "all classes": {},
        "two classes, weight 3": {"known_classes": 2, "weight": 3.0},
        "smoothed": {"label_smoothing": 0.1},
    }
    for words, options in cases.items():
        modules, old = (Flat(1), _classifier()), _classifier(5)
        outcome = bct.fit(*modules, IMAGES, FOUR, **FIT, old_classifier=old, **options)
        yield from _named(words, _told(outcome, *modules, old))


@pins("synthesis")
def synthesised_rows() -> Found:
    embeddings, labels, real = numbers(1, 12, 3), torch.arange(12) % 4, numbers(2, 2, 3)
    for words, old in (("two real rows", real), ("no real row", None), ("real rows alone", numbers(3, 4, 3))):
        for form, normalize in (("B", False), ("C", True)):
            yield f"{words}, {form}", bct.synthesize_classifier(embeddings, labels, 4, old, normalize)
    yield "of its own accord", bct.synthesize_classifier(embeddings.float(), labels, 4, real.float())


PAIR = numbers(11, 6, 4), numbers(12, 6, 4)
ALIGNMENTS = {
    "squared_error": bct_baselines.squared_error,
    "normalised_distance": bct_baselines.normalised_distance,
    "hardest_triplet": bct_baselines.hardest_triplet,
    "hardest_triplet, raw": partial(bct_baselines.hardest_triplet, normalize=False),
    "two_way_triplet": bct_baselines.two_way_triplet,
    "two_way_triplet, raw": partial(bct_baselines.two_way_triplet, normalize=False),
    "contrastive": bct_baselines.contrastive,
    "contrastive, temperature 1": partial(bct_baselines.contrastive, temperature=1.0),
}


@pins("alignments")
def alignments() -> Found:
    for words, alignment in ALIGNMENTS.items():
        value, *gradients = with_gradients(alignment, *PAIR, LABELS)
        yield f"{words}, loss", value
        yield f"{words}, gradients", torch.stack(gradients[:1] if gradients[1] is None else gradients)
    value, gradient, _ = with_gradients(bct_baselines.Distillation(numbers(3, 5, 4)), *PAIR, LABELS)
    yield "distillation, loss", value
    yield "distillation, gradient", gradient.float()


@pins("alignments")
def fit_aligned() -> Found:
    cases = {
        "weight 1": {},
        "weight 3, smoothed": {"weight": 3.0, "label_smoothing": 0.1},
        "without classification": {"classification": False},
        "a longer old embedding": {"old": Flat(6, 5)},
        "a shorter old embedding": {"old": Flat(6, 3)},
    }
    for words, options in cases.items():
        old = options.pop("old", Flat(6))
        modules = Flat(1), _classifier()
        options |= {"old_backbone": old, "alignment": bct_baselines.squared_error}
        yield from _named(words, _told(bct_baselines.fit(*modules, IMAGES, FOUR, **FIT, **options), *modules))


@pins("alignments")
def aligned_types() -> Found:
    """An alignment sees float32, and the old model what the new one sees, under autocast too."""
    seen = []

    def alignment(new: Tensor, old: Tensor, labels: Tensor) -> Tensor:
        seen.extend((str(new.dtype), str(old.dtype), str((new @ old.T).dtype)))
        return (new - old).square().mean()

    parts = Flat(1, dtype=torch.float32), put(LinearClassifier(4, 4), 2)
    recipe = Recipe(epochs=1, batch_size=20, precision="bfloat16")
    old = Flat(6, dtype=torch.float32)
    bct_baselines.fit(*parts, IMAGES, recipe, **FIT, old_backbone=old, alignment=alignment)
    yield "types", seen


@pins("dual-tuning")
def prototypes_and_swapped_classifiers() -> Found:
    embeddings, labels = numbers(1, 12, 3), torch.arange(12) % 4
    means = dual_tuning.prototypes(embeddings, labels, 4)
    yield "prototypes", means
    (new, old), labels = PAIR, torch.tensor([0, 3, 1, 1, 2, 0])
    for kind in dual_tuning.KINDS:
        for words, rows in (("shorter", means), ("equal", numbers(2, 4, 4)), ("longer", numbers(3, 4, 6))):
            loss = partial(dual_tuning.prototype_loss, labels=labels, prototypes=rows, kind=kind)
            value, gradient = with_gradients(loss, new)
            yield f"{kind}, {words} prototypes, loss", value
            yield f"{kind}, {words} prototypes, gradient", gradient
    classifiers = {"linear": LinearClassifier, "cosine": CosineClassifier, "arcface": ArcFaceClassifier}
    for words, kind in classifiers.items():
        for known, other in ((None, old), (2, numbers(4, 6, 3)), ([3, 0], numbers(5, 6, 7))):
            parts = _classifier(kind=kind), _classifier(5, other.shape[1], kind=kind)
            both = dual_tuning.mutual_loss(new, other, labels, *parts, known)
            yield f"{words}, known {known}", single([float(each.detach()) for each in both])
            gradient = torch.autograd.grad(both.old_to_new, parts[0].weight)[0]
            yield f"{words}, known {known}, gradient", single(gradient)


@pins("dual-tuning")
def fit_dual_tuning() -> Found:
    cases = {
        "of its own accord": {},
        "other weights, smoothed": {"weight": 0.5, "old_to_new": 0.7, "new_to_old": 0.3, "label_smoothing": 0.1},
        "distance alone": {"old_to_new": 0.0, "new_to_old": 0.0, "kind": "distance"},
        "old to new alone, two classes": {"weight": 0.0, "new_to_old": 0.0, "known_classes": 2},
        "new to old alone, two classes": {"weight": 0.0, "old_to_new": 0.0, "known_classes": 2},
        "a longer old embedding": {"old": 5},
        "a shorter old embedding": {"old": 3},
    }
    for words, options in cases.items():
        size = options.pop("old", 4)
        modules, old = (Flat(1), _classifier()), (Flat(6, size), _classifier(5, size))
        options |= {"old_backbone": old[0], "old_classifier": old[1]}
        yield from _named(words, _told(dual_tuning.fit(*modules, IMAGES, FOUR, **FIT, **options), *modules, *old))


@pins("dual-tuning")
def types_of_prototypes() -> Found:
    parts = Flat(1, dtype=torch.float32), put(LinearClassifier(4, 4), 2)
    old = {"old_backbone": Flat(6, dtype=torch.float32), "old_classifier": put(LinearClassifier(4, 4), 3)}
    fit = partial(dual_tuning.fit, *parts, IMAGES, role="new", **old)
    yield "types", _types_seen(dual_tuning, "prototype_loss", fit)


@pins("simclr")
def views_that_find_each_other() -> Found:
    for temperature in (0.5, 0.1):
        loss = partial(side_information.nt_xent, temperature=temperature)
        value, *gradients = with_gradients(loss, *PAIR)
        yield f"temperature {temperature}, loss", value
        yield f"temperature {temperature}, gradients", torch.stack(gradients)


@pins("simclr")
def fit_simclr() -> Found:
    for words, options in (
        ("of its own accord", {}),
        ("temperature 0.1, projection 3, no flip", {"temperature": 0.1, "projection_dim": 3, "flip": False}),
    ):
        backbone = Flat(1, dtype=torch.float32)
        outcome = side_information.fit_simclr(backbone, IMAGES, FOUR, seed=3, **options)
        yield from _named(words, _told(outcome))
        yield f"{words}, weights", trained(weights(backbone))


@pins("simclr")
def types_of_views() -> Found:
    fit = partial(side_information.fit_simclr, Flat(1, dtype=torch.float32), IMAGES)
    yield "types", _types_seen(side_information, "nt_xent", fit)


@pins("autoencoder")
def fit_autoencoder() -> Found:
    for words, options in (("of its own accord", {}), ("role and augmentation", {"role": "a", "augment": unchanged})):
        backbone = Flat(1, dtype=torch.float32)
        outcome = side_information.fit_autoencoder(backbone, IMAGES, FOUR, seed=3, **options)
        yield f"{words}, history", trained([row["value"] for row in outcome.history])
        yield f"{words}, weights", trained(weights(backbone))
    decoder = put(side_information._decoder(4, (3, 8, 12)), 2).double()
    yield "decoder, names", list(decoder.state_dict())
    yield "decoder", decoder.train()(numbers(1, 3, 4))


class Sums(nn.Module):
    """Images → whole numbers: sums of pixels, weighted by place."""

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1).long()
        return torch.stack([flat.sum(1), (flat * (torch.arange(flat.shape[1]) % 7)).sum(1)], dim=1).float()


@pins("views")
def embedded_views() -> Found:
    sums, other = Sums(), nn.Sequential(Sums(), nn.Hardtanh(0, 9000))
    for words, options in (("one batch", {"views": 2}), ("batches of 8", {"views": 3, "batch_size": 8})):
        yield words, stored_views.embed_views(sums, IMAGES, seed=4, **options).long()
    yield "number", len(stored_views.embed_views(sums, IMAGES, seed=4))
    crop = partial(crop_and_flip, padding=1, flip=False)
    for words, side in (("with side", other), ("without side", None)):
        stored = stored_views.store_views(sums, side, other, IMAGES, seed=4, views=2, augment=crop)
        for name in ("old", "side", "new"):
            yield f"{words}, {name}", getattr(stored, name).long()
        yield f"{words}, labels", stored.labels
    (old, side, new), labels = stored.batch(torch.tensor([3, 0, 11]))
    yield "a batch", torch.cat([each.long().flatten() for each in (old, side, new, labels)])
    inputs = tuple(whole(seed, 100, 3, 9, 2) for seed in (1, 2, 3))
    yield "one view", torch.cat(stored_views.one_view(inputs, torch.Generator().manual_seed(6)), dim=1)


STORED = fct.StoredViews(numbers(1, 2, 20, 3), numbers(2, 2, 20, 2), numbers(3, 2, 20, 4), torch.arange(20) % 4)
ADAM = Recipe(epochs=5, batch_size=10, learning_rate=0.01, optimizer="adam", weight_decay=2**-15, warmup_epochs=1)


def _transformation(seed: int = 4, sizes: tuple[int, ...] = (3, 2, 4, 5)) -> fct.Transformation:
    return put(fct.Transformation(*sizes), seed).double()


@pins("fct")
def transformed() -> Found:
    transformation = _transformation()
    old, side = numbers(1, 6, 3), numbers(2, 6, 2)
    yield "names", list(transformation.state_dict())
    yield "trained", transformation.train()(old, side)
    yield "evaluated", transformation.eval()(old, side)
    made = training.initialised(partial(fct.Transformation, 3, 2, 4, 5), 1, "transformation")
    yield "begun", single(weights(made))
    yield "parameters", resnet.parameter_count(fct.Transformation(16, 16, 8))


@pins("fct")
def fit_fct() -> Found:
    transformation = _transformation()
    outcome = fct.fit(transformation, STORED, ADAM, seed=3)
    yield "terms", [row["term"] for row in outcome.history]
    yield "history", [row["value"] for row in outcome.history]
    yield "weights", weights(transformation)
    yield "batches", transformation.mixed[1].num_batches_tracked
    for words, side in (("with side", Flat(7, 2)), ("without side", None)):
        transformation = _transformation(4, (3, 3 if side is None else 2, 4, 5))
        models = {"old": Flat(6, 3), "side": side, "new": Flat(8)}
        outcome = fct.fit_on_images(transformation, IMAGES, ADAM, **models, seed=3)
        yield f"on images, {words}, history", [row["value"] for row in outcome.history]
        yield f"on images, {words}, weights", weights(transformation)


@pins("fastfill")
def missed() -> Found:
    rows = _linear(2, 4, 3)
    balances = {"weighed": {"cross_entropy": 0.01}, "sum": {"coordinates": "sum"}, "alone": {"cross_entropy": 0.0}}
    options_of = {"of its own accord": {}, "not smoothed": {"label_smoothing": 0.0}} | balances
    for words, options in options_of.items():

        def loss(embedding: Tensor, variance: Tensor, new: Tensor, options: dict = options) -> Tensor:
            return fct.fastfill_loss(embedding, variance, new, LABELS, rows, **options)

        value, *gradients = with_gradients(loss, PAIR[0], numbers(5, 6), PAIR[1])
        yield f"{words}, loss", value
        yield f"{words}, gradients", torch.cat([each.flatten() for each in gradients])
    module = put(fct.FastFill(fct.Transformation(3, 2, 4, 5)), 4).double().eval()
    embedding, variance = module(numbers(1, 6, 3), numbers(2, 6, 2))
    yield "names", list(module.state_dict())
    yield "embedding", embedding
    yield "log-variance", variance


@pins("fastfill")
def fit_fastfill() -> Found:
    module, classifier = put(fct.FastFill(fct.Transformation(3, 2, 4, 5)), 4).double(), put(LinearClassifier(4, 4), 5)
    outcome = fct.fit_fastfill(module, STORED, ADAM, new_classifier=classifier, seed=3)
    yield "history", trained([row["value"] for row in outcome.history])
    yield "weights", trained(weights(module))
    yield "batches", module.transformation.mixed[1].num_batches_tracked


@pins("fastfill")
def types_of_transformed() -> Found:
    parts = [each.float() for each in (STORED.old, STORED.side, STORED.new)]
    module = fct.FastFill(fct.Transformation(3, 2, 4, 5))
    fit = partial(
        fct.fit_fastfill, module, fct.StoredViews(*parts, STORED.labels), new_classifier=LinearClassifier(4, 4)
    )
    yield "types", _types_seen(fct, "fastfill_loss", fit)


class Plain(nn.Module):
    """A backbone without convolutions, so that a switchable network is computed in float64."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(
                48, 8, bias=False
            ),  # behind which a BatchNorm would take the bias off, its gradient only rounding
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Linear(8, 6),
            nn.ReLU(),
            nn.Linear(6, 4),
        )
        put(self, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs.to(self.layers[1].weight.dtype) / 255)


SMALL = image_set(1, height=4, width=4)


def _switchable(loss: str, projection: str, on_step: Any = None, recipe: Recipe = FOUR, **options: Any) -> Found:
    network, classifier = Slimmable(Plain(), (0.5, 0.75, 1.0), (3, 4, 4)).double(), _classifier()
    options = {"loss": loss, "projection": projection, "seed": 3, "on_step": on_step} | options
    outcome = sfsc.fit(network, classifier, SMALL, recipe, **options)
    yield from _told(outcome, network, classifier)
    yield "width", network.width


@pins("sfsc")
def fit_sfsc() -> Found:
    yield from _named("cross-entropy", _switchable("cross-entropy", "none"))
    yield from _named("smoothed", _switchable("cross-entropy", "none", label_smoothing=0.1))
    yield from _named("evidential", _switchable("evidential", "none"))
    yield from _named("evidential, scaled", _switchable("evidential", "none", logit_scale=4.0, kl_weight=0.1))
    yield from _named("triplet", _switchable("triplet", "none"))
    yield from _named("triplet, margin 1", _switchable("triplet", "none", margin=1.0))


@pins("sfsc")
def steps() -> Found:
    seen: list[sfsc.Step] = []
    for loss, projection in (("evidential", "none"), ("cross-entropy", "all"), ("triplet", "tensor")):
        list(_switchable(loss, projection, seen.append, logit_scale=2.0))
        yield f"{loss}, names", [*seen[-1].names, *seen[-1].uncertainty]
        yield f"{loss}, grams", single(torch.stack([step.grams for step in seen]))
        yield f"{loss}, gram", single(seen[-1].gram)
        yield f"{loss}, products", single(torch.stack([step.products for step in seen]))
        yield f"{loss}, uncertainty", single([each for step in seen for each in step.uncertainty.values()])
        seen.clear()


@pins("sfsc")
def types_of_widths() -> Found:
    for loss, name in (("evidential", "evidential_loss"), ("triplet", "hardest_triplet")):
        network = Slimmable(Plain(), (0.5, 1.0), (3, 4, 4))
        fit = partial(sfsc.fit, network, LinearClassifier(4, 4), SMALL, loss=loss, projection="none")
        yield loss, _types_seen(sfsc, name, fit)


@pins("sfsc")
def fit_joint() -> Found:
    for words, options in (("of its own accord", {}), ("smoothed", {"label_smoothing": 0.1})):
        backbones, classifier = nn.ModuleDict({"wide": Flat(1), "narrow": Flat(6)}), _classifier()
        outcome = sfsc.fit_joint(backbones, classifier, IMAGES, FOUR, seed=3, **options)
        yield from _named(words, _told(outcome, backbones, classifier))


@pins("evidential")
def evidence() -> Found:
    logits = 3 * numbers(1, 6, 5)
    for words, kl_weight in (("standard", {}), ("no divergence", {"kl_weight": 0.0}), ("1", {"kl_weight": 1.0})):
        for size, own in (("small", logits), ("large", 30 * logits)):
            value, gradient = with_gradients(partial(evidential.evidential_loss, labels=LABELS, **kl_weight), own)
            yield f"{words}, {size} logits, loss", value
            yield f"{words}, {size} logits, gradient", gradient
    yield "uncertainty", evidential.uncertainty(logits)
    yield "type", str(evidential.evidential_loss(logits.float(), LABELS).dtype)


@pins("triplet")
def triplets() -> Found:
    for words, options in (("margin 0.3", {"margin": 0.3}), ("margin 0.3, raw", {"margin": 0.3, "normalize": False})):
        loss = partial(bct_baselines.hardest_triplet, **options)
        for labels in (LABELS, torch.ones(6, dtype=torch.int64)):
            value, *gradients = with_gradients(loss, *PAIR, labels)
            yield f"{words}, {labels.unique().numel()} classes, loss", value
            yield f"{words}, {labels.unique().numel()} classes, gradients", torch.stack(gradients)


def _supernet(seed: int = 1, **options: Any) -> supernet.SuperNet:
    sizes = {"widths": (8, 12), "blocks": (1, 2), "strides": (1, 2), "middles": (0.5, 1), "stem_width": 6}
    network = put(supernet.SuperNet(**sizes | {"dim": 4, "image_size": SIDE} | options), seed)
    return network.eval()


@pins("supernet")
def paths() -> Found:
    """Every kind and width, with and without a shorter way; both heads, by the statistics of the batch and kept."""
    images = pictures(1, 6)
    for head in resnet.HEADS:
        network = _supernet(head=head)
        for choice in network.choices:
            path = (choice, *reversed(network.choices[:2]))
            yield f"{head}, {choice}", single(network.switch(path)(images))
            yield f"{head}, {choice}, by itself", single(network.extract(path)(images))
            yield f"{head}, {choice}, operations", network.flops(path)
        training = network.train().switch(network.start)(images)
        yield f"{head}, of the batch", trained(training)
    yield "choices", list(network.choices)
    yield "cheapest", list(network.cheapest())
    yield "drawn", [choice for seed in (1, 2) for choice in network.random_path(torch.Generator().manual_seed(seed))]
    strided = _supernet(stem_stride=2, kinds=("5",), in_channels=1, image_size=(13, 7))
    yield "strided", strided.flops(strided.start)
    yield "begun", single(weights(training_begun()))


def training_begun() -> nn.Module:
    return training.initialised(lambda: supernet.SuperNet(widths=(8,), blocks=(1,), strides=(2,), stem_width=6), 1, "a")


@pins("supernet")
def widths_of_a_middle() -> Found:
    network = supernet.SuperNet(widths=(8,), blocks=(1,), strides=(2,), stem_width=6)
    yield "choices", list(network.choices)
    yield "in use", [len(supernet.norms_in_use(network.switch((choice,)))) for choice in network.choices]


@pins("cmp-nas")
def fit_query() -> Found:
    for objective in cmp_nas.NEEDS:
        for weight in (1.0, 0.4):
            modules, gallery = (
                (Flat(seed, dtype=torch.float32), put(LinearClassifier(4, 4), seed + 1)) for seed in (1, 5)
            )
            given = dict(zip(("gallery_backbone", "gallery_classifier"), gallery, strict=True))
            told = FIT | given | {"objective": objective, "weight": weight, "label_smoothing": 0.1}
            outcome = cmp_nas.fit_query(*modules, IMAGES, FOUR, **told)
            yield from _named(f"{objective} × {weight}", _told(outcome, *modules, *gallery))


@pins("cmp-nas")
def fit_supernet() -> Found:
    network, classifier = _supernet(), put(LinearClassifier(4, 4), 2)
    told = {"gallery_classifier": put(LinearClassifier(4, 4), 3), "weight": 0.5, "label_smoothing": 0.1}
    outcome = cmp_nas.fit_supernet(network, classifier, IMAGES, FOUR, **FIT, **told)
    yield "history", trained([row["value"] for row in outcome.history])
    yield "weights", trained(weights(network))
    yield "path", list(network.path)
    drawn, told = [], {"gallery_classifier": put(LinearClassifier(4, 4), 3), "seed": 3, "role": "a"}
    network.random_path = lambda generator: drawn.append(str(generator.initial_seed())) or network.start
    cmp_nas.fit_supernet(network, classifier, IMAGES, FOUR, **told)
    yield "drawn", drawn


def _judge(**options: Any) -> path_scores.Judge:
    """Of random images, so that scores lie apart."""
    calibration = image_set(2, classes=5)
    return path_scores.Judge(_supernet(), IMAGES, _network(3).eval(), calibration, batch_size=10, **options)


@pins("path scores")
def scored_paths() -> Found:
    path = ("3@0.5", "x@1", "5@0.5")
    for words, judge in {
        "plain": _judge(),
        "rank 1": _judge(metric="cmc@1"),
        "a gallery": _judge(gallery=image_set(3, per_class=7)),
    }.items():
        score = judge(path)
        yield words, trained([score.self_test, score.cross_test])
        yield f"{words}, operations", [score.path, str(score.flops)]
    network = _supernet()
    for size in (10, 12, 40):
        with network.at(path) as own:
            path_scores.recalibrate(own, image_set(2, classes=5), batch_size=size)
        yield f"recalibrated by {size}", trained(weights(network))


class Counting:
    """A judge without images: by how many blocks a path is as `best`, and how few operations it has."""

    def __init__(self) -> None:
        self.network = _supernet(blocks=(2, 4))
        self.best = self.network.random_path(torch.Generator().manual_seed(99))

    def __call__(self, path: supernet.Path) -> path_scores.Score:
        share = sum(a == b for a, b in zip(path, self.best, strict=True)) / len(path)
        flops = self.network.flops(path)
        return path_scores.Score(" ".join(path), 1 - share / 2, share + 1e3 / flops, flops, 0.0)


@pins("evolution")
def evolved() -> Found:
    sizes = architecture_search.Evolution(6, 4, 3, 2, 2, 0.4)
    judge = Counting()
    most = judge.network.flops(judge.network.start)
    for reward in architecture_search.REWARDS:
        found = architecture_search.evolve(judge, most, seed=2, reward=reward, evolution=sizes)
        yield f"{reward}, best", list(found.best)
        yield f"{reward}, paths", [f"{row['path']}, {row['origin']}, {row['generation']}" for row in found.history]
        yield f"{reward}, rewards", [row["reward"] for row in found.history]
    found = architecture_search.random_search(judge, most, seed=2, evolution=sizes)
    yield "random, paths", [row["path"] for row in found.history]
    yield "sizes", list(map(str, vars(architecture_search.Evolution()).values()))


GRADIENTS = torch.stack([numbers(1, 6), numbers(2, 6), -numbers(1, 6) + 0.5 * numbers(4, 6), numbers(5, 6)])


@pins("pcgrad")
def projected() -> Found:
    gram = GRADIENTS @ GRADIENTS.T
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        yield f"weights, {seed}", conflicts.conflict_weights(gram, generator)
        yield f"sum, {seed}", conflicts.project_conflicts(GRADIENTS, generator)
    for full in (0, 3):
        yield f"against {full}", conflicts.full_conflict_weights(gram, full)
    short = torch.tensor([[1.0, -1e-3], [-1e-3, 1e-44]], dtype=torch.float64)
    yield "a short one", conflicts.full_conflict_weights(short.float(), 1)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield "global generator", conflicts.conflict_weights(gram)


@pins("pcgrad")
def fit_projected() -> Found:
    for projection in ("all", "full", "tensor"):
        seen: list[sfsc.Step] = []
        found = dict(_switchable("triplet", projection, seen.append))
        yield f"{projection}, history", found["history"]
        yield f"{projection}, weights of steps", single(torch.cat([step.weights.flatten() for step in seen]))
        yield f"{projection}, weights", found["weights 0"]
        yield f"{projection}, without watching", dict(_switchable("triplet", projection))["weights 0"]


@pins("gradients")
def statistics() -> Found:
    """Three steps of two epochs of two; whole numbers of conflicts, so that shares are exact."""
    names = ("1.0", "0.5", "0.25")
    watch = GradientStatistics(names, ("a", "b"), 3, 2)
    for step in range(3):
        own = numbers(step, 2, 3, 6).float()
        grams, weighted = own @ own.mT, torch.eye(3) + (0.0 if step else torch.eye(3).flip(0))
        watch(sfsc.Step(names, grams, weighted, {name: 0.1 * place + step for place, name in enumerate(names)}))
    watch(sfsc.Step(names, torch.zeros(2, 3, 3), torch.eye(3), dict.fromkeys(names, 0.5)))
    for name in ("norm", "uncertainty", "cosine", "conflicts", "tensor_conflicts", "hurt", "hurt_any"):
        yield name, single(getattr(watch, name)[:2])
    yield "buffers", list(watch.state_dict())
