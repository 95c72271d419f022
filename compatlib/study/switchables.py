"""Sub-models of several widths, by method: parts of one switchable network, or networks of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compatlib.data.augment import crop_and_flip
from compatlib.methods import bct, independent, sfsc
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.slimmable import WIDTHS, Slimmable
from compatlib.study import artifacts, models
from compatlib.study.artifacts import Artifact
from compatlib.study.gradient_statistics import GradientStatistics
from compatlib.study.models import Report
from compatlib.study.settings import Knobs, Settings, Training
from compatlib.training import Fit, initialised

INDEPENDENT, ONE_TO_ONE, JOINT, BCT_S, SFSC = "independent", "one-to-one BCT", "joint", "BCT-S", "SFSC"
# Loss of the narrower widths and projection, of the methods that train one switchable network.
SWITCHABLE = {
    "Asymmetric-S": ("triplet", "none"),
    BCT_S: ("cross-entropy", "none"),
    "BCT-S + uncertainty": ("evidential", "none"),
    "CE + projection": ("cross-entropy", "all"),
    SFSC: ("evidential", "all"),
    "SFSC, against the full model": ("evidential", "full"),
    "CE + projection, tensor by tensor": ("cross-entropy", "tensor"),
    "SFSC, tensor by tensor": ("evidential", "tensor"),
}
APART = (INDEPENDENT, ONE_TO_ONE)  # a training for every narrower width; the full model is the base model
METHODS = (*APART, JOINT, *SWITCHABLE)
SPLITS = {"closed": "new", "open-set": "new_open"}  # by the role whose images, network and streams every method has
APART_MODULES = ("compatlib.models.slimmable", *models.TRAINING_MODULES)
SWITCHABLE_MODULES = ("compatlib.methods.sfsc", *models.NETWORK_MODULES)


class SwitchableKnobs(Knobs):
    """How sub-models are trained, where several are at once.

    widths: ascending shares of the channels, of which the last is 1. rate_…: the learning rate, by the loss of the
    narrower widths, or of separate networks that are trained jointly. logit_scale, kl_weight: of the evidential loss.
    clip_norm: of the whole update's gradient; 0 for none.
    """

    widths: tuple[float, ...] = WIDTHS
    rate_cross_entropy: float = Field(0.2, gt=0)
    rate_evidential: float = Field(0.2, gt=0)
    rate_triplet: float = Field(0.2, gt=0)
    rate_joint: float = Field(0.4, gt=0)
    logit_scale: float = Field(1.0, gt=0)
    kl_weight: float = Field(5e-4, ge=0)
    clip_norm: float = Field(10.0, ge=0)

    def learning_rate(self, method: str) -> float:
        """Of the method's training."""
        return getattr(self, rate_of(method))

    @field_validator("widths")
    @classmethod
    def _ascending(cls, widths: tuple[float, ...]) -> tuple[float, ...]:
        if len(widths) < 2 or list(widths) != sorted(set(widths)) or widths[0] <= 0 or widths[-1] != 1:
            raise ValueError(f"widths must be two or more ascending shares in (0, 1], the last of them 1; got {widths}")
        return widths


def rate_of(method: str) -> str:
    """The knob that holds the learning rate of a method which trains several widths at once."""
    return "rate_joint" if method == JOINT else f"rate_{SWITCHABLE[method][0].replace('-', '_')}"


@dataclass(frozen=True)
class Trained:
    """A training: of every width at once, or, of a method in `APART`, of one.

    method: a name in `METHODS`. split: a name in `SPLITS`. width: below 1, None for all at once.
    """

    method: str
    split: str = "closed"
    width: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; choose one of {METHODS}")
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; choose one of {tuple(SPLITS)}")
        if (self.width is None) == (self.method in APART):
            raise ValueError(f"{self.method} trains {'one width' if self.width is None else 'all widths'} at a time")

    @property
    def role(self) -> str:
        """Whose images, network and streams it has."""
        return SPLITS[self.split]


@dataclass(frozen=True)
class Made:
    """Stand-alone sub-models in eval mode by width, and where they came from; statistics of switchable ones."""

    backbones: dict[float, nn.Module]
    artifact: Artifact
    statistics: GradientStatistics | None = None


def name_of(what: Trained) -> str:
    """A name for people, progress and files, such as "one-to-one BCT 0.25" or "SFSC, open-set"."""
    width = "" if what.width is None else f" {what.width:g}"
    return f"{what.method}{width}" + ("" if what.split == "closed" else f", {what.split}")


def work(run: Settings, what: Trained) -> float:
    """How much there is to do, in the unit of `models.work`: a width costs between its share and that squared."""
    widths = run.knobs.widths if what.width is None else (what.width,)
    return models.work(run, what.role) * sum(0.2 + 0.8 * width**1.5 for width in widths)


def trainings(run: Settings, method: str, split: str = "closed") -> list[Trained]:
    """The trainings that give a method's sub-models, besides the base model of full width in `APART`."""
    if method in APART:
        return [Trained(method, split, width) for width in run.knobs.widths[:-1]]
    return [Trained(method, split)]


def made(run: Settings, what: Trained, seed: int, *, report: Report | None = None) -> tuple[Made, bool]:
    """The sub-models of a training, and whether it had to be done now; a full model that it needs is made first."""
    if what.method in APART:
        return _apart(run, what, seed, report)
    if what.method == JOINT:
        return _joint(run, what, seed, report)
    return _switchable(run, what, seed, report)


def recipe_of(run: Settings, what: Trained) -> Training:
    """The base models' recipe for one width; for several, with the learning rate of their loss."""
    if what.method in APART:
        return run.training
    changes = {"learning_rate": run.knobs.learning_rate(what.method), "clip_norm": run.knobs.clip_norm or None}
    return run.training.model_copy(update=changes)


def _settings(run: Settings, what: Trained, seed: int) -> dict[str, Any]:
    """What every training's key has."""
    network = models.role_of(what.role).network(run)
    return {
        "method": what.method,
        "role": what.role,
        "seed": seed,
        "network": network.model_dump(mode="json"),
        "training": recipe_of(run, what).model_dump(mode="json"),
        "augmentation": models.augmentation(run),
        "widths": list(run.knobs.widths) if what.width is None else what.width,
    }


def _network(run: Settings, what: Trained, seed: int, widths: tuple[float, ...]) -> Slimmable:
    """A switchable network with the initial weights of the role's base model."""
    role = models.role_of(what.role)
    make = partial(models.make_backbone, role.network(run), role.share(run)[0][0].shape[0])
    return Slimmable(initialised(make, seed, what.role), widths)


def _classifier(run: Settings, what: Trained, seed: int) -> nn.Module:
    role = models.role_of(what.role)
    make = partial(LinearClassifier, role.network(run).dim, int(role.share(run).labels.max()) + 1)
    return initialised(make, seed, f"{what.role} classifier")


def _placement(run: Settings, what: Trained, seed: int, report: Report | None) -> dict[str, Any]:
    """What every `fit` is told besides its parts: the role's own streams, so that all methods see the same batches."""
    return {
        "seed": seed,
        "role": what.role,
        "augment": partial(crop_and_flip, **models.augmentation(run)),
        "label_smoothing": run.training.label_smoothing,
        "report": report,
    }


def _kept(
    run: Settings,
    what: Trained,
    seed: int,
    parts: nn.ModuleDict,
    fit: Callable[..., Fit],
    settings: dict[str, Any],
    **key: Any,
) -> tuple[Artifact, bool]:
    share = models.role_of(what.role).share(run)
    own = artifacts.key_of(settings, data=share.digest(), **key)
    name = f"{run.dataset}-{name_of(what).lower().replace(' ', '-').replace(',', '')}-{seed}"

    def train(checkpoint: Path) -> Fit:
        return fit(images=share, recipe=recipe_of(run, what).recipe(), checkpoint=checkpoint)

    found = artifacts.load_or_fit(name, own, settings, parts, train)
    parts.to(memory_format=torch.channels_last)
    return found


def _apart(run: Settings, what: Trained, seed: int, report: Report | None) -> tuple[Made, bool]:
    """A narrow network of its own, with the initial weights of that part of the full one."""
    settings = _settings(run, what, seed)
    backbone = _network(run, what, seed, (what.width, 1.0)).extract(what.width)
    classifier = _classifier(run, what, seed)
    parts = nn.ModuleDict({"backbone": backbone, "classifier": classifier})
    bound = {"backbone": backbone, "classifier": classifier} | _placement(run, what, seed, report)
    if what.method == INDEPENDENT:
        key: dict[str, Any] = {"modules": APART_MODULES}
        fit = partial(independent.fit, **bound)
    else:
        full = models.base_model(run, what.role, seed)[0]
        key = {"modules": (*APART_MODULES, "compatlib.methods.bct"), "parents": [full.key]}
        fit = partial(bct.fit, **bound, old_classifier=full.classifier)
    artifact, is_new = _kept(run, what, seed, parts, fit, settings, **key)
    return Made({what.width: backbone}, artifact), is_new


def _joint(run: Settings, what: Trained, seed: int, report: Report | None) -> tuple[Made, bool]:
    widths = run.knobs.widths
    network = _network(run, what, seed, widths)
    backbones = {width: network.extract(width) for width in widths}
    named = nn.ModuleDict({_word(width): backbone for width, backbone in backbones.items()})
    classifier = _classifier(run, what, seed)
    parts = nn.ModuleDict({"backbones": named, "classifier": classifier})
    fit = partial(sfsc.fit_joint, backbones=named, classifier=classifier, **_placement(run, what, seed, report))
    artifact, is_new = _kept(run, what, seed, parts, fit, _settings(run, what, seed), modules=SWITCHABLE_MODULES)
    return Made(backbones, artifact), is_new


def _switchable(run: Settings, what: Trained, seed: int, report: Report | None) -> tuple[Made, bool]:
    knobs, (loss, projection) = run.knobs, SWITCHABLE[what.method]
    options = {"loss": loss, "projection": projection}
    if loss == "evidential":
        options |= {"kl_weight": knobs.kl_weight, "logit_scale": knobs.logit_scale}
    network, classifier = _network(run, what, seed, knobs.widths), _classifier(run, what, seed)
    recipe, images = recipe_of(run, what).recipe(), len(models.role_of(what.role).share(run))
    statistics = GradientStatistics(
        tuple(str(width) for width in reversed(knobs.widths)),
        _shared_names(network, classifier),
        recipe.epochs,
        images // min(recipe.batch_size, images),
    )
    parts = nn.ModuleDict({"network": network, "classifier": classifier, "statistics": statistics})
    placement = _placement(run, what, seed, report)
    fit = partial(sfsc.fit, network=network, classifier=classifier, on_step=statistics, **options, **placement)
    modules = (*SWITCHABLE_MODULES, "compatlib.study.gradient_statistics")
    artifact, is_new = _kept(run, what, seed, parts, fit, _settings(run, what, seed) | options, modules=modules)
    return Made({width: network.extract(width).eval() for width in knobs.widths}, artifact, statistics), is_new


def _shared_names(network: Slimmable, classifier: nn.Module) -> tuple[str, ...]:
    """Of the tensors whose gradients are watched, in the order in which `sfsc.fit` has them."""
    names = {id(parameter): name for name, parameter in network.backbone.named_parameters()}
    own = [names[id(parameter)] for parameter in network.shared_parameters()]
    return (*own, *(f"classifier.{name}" for name, _ in classifier.named_parameters()))


def _word(width: float) -> str:
    """A width as a module's name, which may hold no dot."""
    return f"width_{round(1000 * width)}"


def flops(backbone: nn.Module, images: torch.Tensor) -> int:
    """Floating-point operations of one image's convolutions and linear maps, a product and its sum counted as two.

    Args:
        backbone: in eval mode.
        images: (1, channels, height, width) uint8.
    """
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone(images)
    return counter.get_total_flops()
