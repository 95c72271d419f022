"""Data drawn from seeded generators, and modules small enough to be computed in float64 through the library's code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compatlib.data import features, sources
from compatlib.data.features import FeatureSet
from compatlib.data.images import ImageSet
from compatlib.study.lab import images, roles
from compatlib.study.lab.make import Made
from compatlib.study.lab.trainables import Trainable, supernets, transformations, widths
from compatlib.study.settings import Network, Settings, Training

CLASSES, SIDE, FEATURE_SIZE = 12, 8, 10
LITE = ("lite0", "lite2")
PER_CLASS = {"train": torch.full((CLASSES,), 8), "test": 3 + torch.arange(CLASSES) % 4}


def numbers(seed: int, *shape: int) -> Tensor:
    """Float64 normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole(seed: int, high: int, *shape: int) -> Tensor:
    """Int64 numbers from 0 to high − 1."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def pictures(seed: int, count: int, channels: int = 3, height: int = SIDE, width: int = SIDE) -> Tensor:
    """uint8 images."""
    return whole(seed, 256, count, channels, height, width).to(torch.uint8)


def image_set(seed: int = 0, per_class: int = 5, classes: int = 4, **shape: int) -> ImageSet:
    """Images of a few classes, in turn."""
    labels = torch.arange(per_class * classes) % classes
    return ImageSet(pictures(seed, len(labels), **shape), labels, tuple(f"class {label}" for label in range(classes)))


def feature_set(encoder: str, split: str = "train") -> FeatureSet:
    """Drawn features of two views, another space for every encoder, around a centre for every class."""
    parts = {name: torch.arange(CLASSES).repeat_interleave(counts) for name, counts in PER_CLASS.items()}
    labels, size = torch.cat(list(parts.values())), (1, FEATURE_SIZE)
    place, scale = int(encoder[-1]), 1 + torch.arange(FEATURE_SIZE)
    drawn = numbers(place, CLASSES, *size)[labels] + 0.5 * numbers(9 + place, len(labels), 2, FEATURE_SIZE)
    names = tuple(f"class {label}" for label in range(CLASSES))
    whole_set = FeatureSet((drawn * scale).half().numpy(), labels, names, encoder, encoder=encoder)
    return whole_set.select(torch.arange(len(labels)).split([*map(len, parts.values())])[list(parts).index(split)])


def put(module: nn.Module, seed: int, scale: float = 0.3) -> nn.Module:
    """Give every parameter drawn numbers, in the order of their names; BatchNorm's are near 1 and 0, its variance 1."""
    with torch.no_grad():
        for place, (name, parameter) in enumerate(module.named_parameters()):
            drawn = scale * numbers(1000 * seed + place, *parameter.shape)
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(drawn + is_scale)
    return module


class Flat(nn.Module):
    """uint8 images → two linear maps with a ReLU between, in the type of its weights."""

    def __init__(self, seed: int, dim: int = 4, pixels: int = 3 * SIDE * SIDE, dtype: torch.dtype = torch.float64):
        super().__init__()
        self.dim = dim
        self.first, self.second = nn.Linear(pixels, 6, dtype=dtype), nn.Linear(6, dim, dtype=dtype)
        put(self, seed, 0.2)

    def forward(self, inputs: Tensor) -> Tensor:
        own = inputs.to(self.first.weight.dtype) / 255
        return self.second(torch.relu(self.first(own.flatten(1))))


def weights(module: nn.Module) -> Tensor:
    """All of a module's state in one vector, in the order of its names."""
    return torch.cat([each.detach().double().flatten() for each in module.state_dict().values()])


def with_gradients(function: Any, *inputs: Tensor) -> list[Tensor]:
    """A scalar function's value, and its gradient with respect to each input that is a float."""
    leaves = [each.clone().requires_grad_() if each.is_floating_point() else each for each in inputs]
    value = function(*leaves)
    floats = [leaf for leaf in leaves if leaf.requires_grad]
    return [value.detach(), *torch.autograd.grad(value, floats, allow_unused=True)]


NETWORK = Network(widths=(8, 16), blocks=1, stem_stride=1, dim=8)


def run(**changes: Any) -> Settings:
    """A run on drawn images: two epochs of two steps, all knobs that a chapter may have."""
    knobs = {
        "views": 2,
        "hidden_dim": 16,
        "transformation": {"epochs": 2, "batch_size": 48, "optimizer": "adam", "learning_rate": 0.002},
        "side": {"epochs": 2, "batch_size": 24, "learning_rate": 0.02},
        "projection_dim": 6,
        "widths": (0.5, 1.0),
        "logit_scale": 2.0,
        "blocks": {"widths": (8, 12), "blocks": (1, 2), "strides": (1, 2), "kinds": ("3", "x"), "stem_width": 6},
        "supernet": {"epochs": 2, "batch_size": 24, "learning_rate": 0.05},
        "query": {"epochs": 2, "batch_size": 24, "learning_rate": 0.04},
        "evolution": {"population": 3, "generations": 2, "parents": 2, "crossovers": 1, "mutations": 1},
        "paths": 4,
        "calibration": 20,
        "searched": 5,
    }
    values = {
        "profile": "drawn",
        "dataset": "drawn",
        "seeds": (0,),
        "sweep_seeds": (0,),
        "image_size": SIDE,
        "network": NETWORK,
        "small_network": NETWORK.model_copy(update={"widths": (8, 8)}),
        "training": Training(epochs=2, batch_size=48, learning_rate=0.05),
        "knobs": AllKnobs(**knobs),
    }
    return Settings(**values | changes)


class AllKnobs(transformations.TransformationKnobs, widths.WidthKnobs, supernets.SearchKnobs):
    """Of every chapter whose trainables have some."""


def on_features() -> dict[str, Any]:
    """Changes of a run: heads on drawn features of two encoders."""
    network = Network(hidden=16, dim=8, head="linear_bn")
    small = network.model_copy(update={"hidden": 8})
    encoders = dict(zip(("old", "new"), LITE, strict=True))
    return {"dataset": "cifar100_lite", "encoders": encoders, "network": network, "small_network": small}


def _load(dataset: str, split: str, encoder: str | None = None, **_: Any) -> ImageSet | FeatureSet:
    """In place of the data sets: drawn images, brighter by class, so that there is something to learn; or features."""
    if encoder is not None:
        return feature_set(encoder, split)
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS[split])
    drawn = pictures(len(split), len(labels)).double() / 2 + 10 * labels[:, None, None, None]
    return ImageSet(drawn.round().to(torch.uint8), labels, tuple(f"class {label}" for label in range(CLASSES)))


@contextmanager
def drawn_data() -> Iterator[None]:
    """Drawn images in place of every data set, on one thread; what the lab keeps of a process's data is forgotten."""
    threads = torch.get_num_threads()

    def forget() -> None:
        images.images.cache_clear()
        images._open_set.cache_clear()
        images._search_images.cache_clear()
        images.standardisation.cache_clear()
        roles._share_of.cache_clear()
        transformations._kept.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load", _load)
        for name, source in features.SOURCES.items():
            patch.setitem(features.SOURCES, name, replace(source, size=FEATURE_SIZE))
        forget()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            forget()


def untrained(own: Settings, what: Trainable, seed: int = 0) -> Made:
    """A trainable's parts before any training, as if they had been trained."""
    parts = what.built(own, seed, lambda: [untrained(own, parent, seed) for parent in what.parents])
    return Made(what, parts.eval(), SimpleNamespace(key=what.name))


def fitted(own: Settings, what: Trainable, seed: int = 0) -> tuple[Any, nn.Module]:
    """What the training of a trainable gives, its parents untrained: (history's values, parts)."""
    parents = [untrained(own, parent, seed) for parent in what.parents]
    parts = what.built(own, seed, lambda: parents)
    outcome = what.fit(own, seed, parts, parents)
    return [row["value"] for row in outcome.history], parts
