"""Sub-models of several widths: parts of one switchable network, or networks of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import Field, field_validator
from torch import nn

from compatlib.data.features import FeatureSet
from compatlib.data.images import Images
from compatlib.methods import bct, independent, sfsc
from compatlib.models.slimmable import WIDTHS, Slimmable, sliced
from compatlib.study.lab.gradient_statistics import GradientStatistics
from compatlib.study.lab.images import CLOSED, OPEN_SET
from compatlib.study.lab.roles import make_backbone, role_of, share_of
from compatlib.study.lab.trainables.base import Base, RoleModel, Trainable
from compatlib.study.settings import Knobs, Network, Settings, Training
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
PROJECTED_TRIPLET = "Asymmetric-S + projection"
TRIED = {PROJECTED_TRIPLET: ("triplet", "all")}  # in grids alone: projection where most gradients conflict
APART = (INDEPENDENT, ONE_TO_ONE)  # a training for every narrower width; the full model is the base model
METHODS = (*APART, JOINT, *SWITCHABLE)
# What may be another on the open-set split.
OF_A_SPLIT = ("rate_cross_entropy", "rate_evidential", "rate_triplet", "rate_joint", "logit_scale", "kl_weight")
SPLITS = {CLOSED: "new", OPEN_SET: "new_open"}  # by the role whose images, network and streams every method has


class WidthKnobs(Knobs):
    """How sub-models are trained, where several are at once.

    widths: ascending shares of the channels, of which the last is 1. rate_…: the learning rate, by the loss of the
    narrower widths, or of separate networks that are trained jointly. logit_scale, kl_weight: of the evidential loss.
    clip_norm: of the whole update's gradient; 0 for none. open_set: which of these are others on the open-set split; a
    mapping, or pairs.
    """

    widths: tuple[float, ...] = WIDTHS
    rate_cross_entropy: float = Field(0.2, gt=0)
    rate_evidential: float = Field(0.2, gt=0)
    rate_triplet: float = Field(0.2, gt=0)
    rate_joint: float = Field(0.4, gt=0)
    logit_scale: float = Field(1.0, gt=0)
    kl_weight: float = Field(5e-4, ge=0)
    clip_norm: float = Field(10.0, ge=0)
    open_set: tuple[tuple[str, Annotated[float, Field(gt=0)]], ...] = ()

    def learning_rate(self, method: str) -> float:
        """Of the method's training."""
        return getattr(self, rate_of(method))

    @field_validator("open_set", mode="before")
    @classmethod
    def _of_a_loss(cls, values: Any) -> Any:
        values, valid = tuple(values.items()) if isinstance(values, Mapping) else values, OF_A_SPLIT
        unknown = [name for name, _ in values if name not in valid]
        if unknown:
            raise ValueError(f"values of the open-set split are given for {unknown}; choose from {valid}")
        return values

    @field_validator("widths")
    @classmethod
    def _ascending(cls, widths: tuple[float, ...]) -> tuple[float, ...]:
        if len(widths) < 2 or list(widths) != sorted(set(widths)) or widths[0] <= 0 or widths[-1] != 1:
            raise ValueError(f"widths must be two or more ascending shares in (0, 1], the last of them 1; got {widths}")
        return widths


def rate_of(method: str) -> str:
    """The knob that holds the learning rate of a method which trains several widths at once."""
    return "rate_joint" if method == JOINT else f"rate_{(SWITCHABLE | TRIED)[method][0].replace('-', '_')}"


class _OfSplit(RoleModel):
    """A training with the images, network and streams of a split's role, described by method and split."""

    method: str
    split: str
    valid: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.method not in self.valid:
            raise ValueError(f"unknown method {self.method!r}; choose one of {self.valid}")
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; choose one of {tuple(SPLITS)}")

    @property
    def base_role(self) -> str:
        """The split's."""
        return SPLITS[self.split]

    def work(self, run: Settings) -> float:
        """A width costs between its share and that squared."""
        return super().work(run) * sum(0.2 + 0.8 * width**1.5 for width in self.trained_widths(run))

    def trained_widths(self, run: Settings) -> tuple[float, ...]:
        """The widths of this training."""
        return run.knobs.widths

    @property
    def _of_split(self) -> str:
        return "" if self.split == CLOSED else f", {self.split}"


@dataclass(frozen=True)
class Narrow(_OfSplit):
    """A narrower network of its own.

    Trained `independent` it has a stream of its own, weights, order and augmentation; against the full model's
    classifier (one-to-one BCT) it starts as that part of the full model's initial weights, and sees its batches.

    Raises:
        ValueError: an unknown method or split, or a width that is not below 1.
    """

    method: str
    width: float
    split: str = CLOSED
    valid = APART

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.width < 1:
            raise ValueError(
                f"a narrow network has a width in (0, 1), got {self.width}; the full one is the base model"
            )

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The method's, and how a network is made narrow."""
        return ("slimmable", "independent" if self.method == INDEPENDENT else "bct")

    @property
    def name(self) -> str:
        """Such as "one-to-one BCT 0.25" or "independent 0.5, open-set"."""
        return f"{self.method} {self.width:g}{self._of_split}"

    @property
    def parents(self) -> tuple[Trainable, ...]:
        """The full model, whose classifier one-to-one BCT is trained against."""
        return (Base(self.base_role),) if self.method == ONE_TO_ONE else ()

    @property
    def stream(self) -> str:
        """Of weights, order and augmentation."""
        return f"{self.base_role} width {self.width:g}" if self.method == INDEPENDENT else self.base_role

    @property
    def classifier_stream(self) -> str:
        """Of the classifier's initial weights: two that begin with the same rows would meet."""
        return f"{self.stream} classifier"

    def trained_widths(self, run: Settings) -> tuple[float, ...]:
        """Its own."""
        return (self.width,)

    def settings(self, run: Settings) -> dict[str, Any]:
        """The role's, the width, and whose part its initial weights are."""
        method = {"form": "A"} if self.method == ONE_TO_ONE else {"classifier": self.classifier_stream}
        return super().settings(run) | {"stream": self.stream, "width": self.width} | method

    def build(self, run: Settings, seed: int) -> nn.ModuleDict:
        """Backbone and classifier; the narrow network as `Slimmable.extract` makes it."""
        if self.method == INDEPENDENT:
            make = partial(make_backbone, self.narrowed(run), self.images(run))
            network, width = _switchable(initialised(make, seed, self.stream), (1.0,), self.images(run)), 1.0
        else:
            network, width = switchable_network(run, self.base_role, seed, (self.width, 1.0)), self.width
        return nn.ModuleDict({"backbone": network.extract(width), "classifier": self.new_classifier(run, seed)})

    def narrowed(self, run: Settings) -> Network:
        """The role's network with this share of its channels."""
        network = self.network(run)
        if network.hidden is not None:
            return network.model_copy(update={"hidden": sliced(network.hidden, self.width)})
        return network.model_copy(update={"widths": tuple(sliced(size, self.width) for size in network.widths)})

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By `methods.independent`, or by BCT against the full model's classifier."""
        common = {**parts, **self.placement(run, seed), "role": self.stream, **placement}
        if self.method == INDEPENDENT:
            return independent.fit(**common)
        (full,) = parents
        return bct.fit(**common, old_classifier=full.parts["classifier"])


@dataclass(frozen=True)
class Widths(_OfSplit):
    """A training of every width at once: one switchable network, or (`joint`) separate ones behind one classifier.

    Raises:
        ValueError: an unknown method or split.
    """

    method: str
    split: str = CLOSED
    valid = (JOINT, *SWITCHABLE, *TRIED)

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The training's, the losses' and the projection's, and what is watched of the gradients."""
        return ("sfsc",) if self.method == JOINT else ("sfsc", "evidential", "triplet", "pcgrad", "gradients")

    @property
    def name(self) -> str:
        """Such as "SFSC, open-set"."""
        return f"{self.method}{self._of_split}"

    def recipe(self, run: Settings) -> Training:
        """The run's, with the learning rate of the method's loss."""
        knobs = run.knobs
        changes = {"learning_rate": knobs.learning_rate(self.method), "clip_norm": knobs.clip_norm or None}
        return run.training.model_copy(update=changes)

    def options(self, run: Settings) -> dict[str, Any]:
        """What `sfsc.fit` is told of loss and projection."""
        loss, projection = (SWITCHABLE | TRIED)[self.method]
        evidential = {"kl_weight": run.knobs.kl_weight, "logit_scale": run.knobs.logit_scale}
        return {"loss": loss, "projection": projection} | (evidential if loss == "evidential" else {})

    def settings(self, run: Settings) -> dict[str, Any]:
        """The role's, the widths, and the method's loss and projection."""
        own = {"loss": JOINT} if self.method == JOINT else self.options(run)
        return super().settings(run) | {"widths": list(run.knobs.widths)} | own

    def build(self, run: Settings, seed: int) -> nn.ModuleDict:
        """The network (or the separate ones), the classifier, and statistics of the gradients where they are shared."""
        widths, classifier = run.knobs.widths, self.new_classifier(run, seed)
        network = switchable_network(run, self.base_role, seed, widths)
        if self.method == JOINT:
            backbones = nn.ModuleDict({_word(width): network.extract(width) for width in widths})
            return nn.ModuleDict({"backbones": backbones, "classifier": classifier})
        statistics = _statistics(network, classifier, self.recipe(run), self.images(run))
        return nn.ModuleDict({"network": network, "classifier": classifier, "statistics": statistics})

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By `sfsc.fit`, or `sfsc.fit_joint`."""
        common = {**self.placement(run, seed), **placement}
        if self.method == JOINT:
            return sfsc.fit_joint(**parts, **common)
        own = {"network": parts["network"], "classifier": parts["classifier"], "on_step": parts["statistics"]}
        return sfsc.fit(**own, **self.options(run), **common)

    def backbone(self, parts: nn.ModuleDict, width: float = 1.0) -> nn.Module:
        """The stand-alone sub-model of a width."""
        return parts["backbones"][_word(width)] if self.method == JOINT else parts["network"].extract(width).eval()


def switchable_network(run: Settings, role: str, seed: int, widths: Sequence[float]) -> Slimmable:
    """A switchable network with the initial weights of the role's base model."""
    about = role_of(role)
    images = share_of(role, run)
    return _switchable(initialised(partial(make_backbone, about.network(run), images), seed, role), widths, images)


def _switchable(backbone: nn.Module, widths: Sequence[float], images: Images | FeatureSet) -> Slimmable:
    """Tried on black images of its own kind; of features, on such of zeros."""
    size = images.stored.shape[-1:] if isinstance(images, FeatureSet) else None
    return Slimmable(backbone, widths, size)


def _statistics(network: Slimmable, classifier: nn.Module, recipe: Training, images: Images) -> GradientStatistics:
    """Of the tensors whose gradients are watched, in the order in which `sfsc.fit` has them."""
    names = {id(parameter): name for name, parameter in network.backbone.named_parameters()}
    own = [names[id(parameter)] for parameter in network.shared_parameters()]
    tensors = (*own, *(f"classifier.{name}" for name, _ in classifier.named_parameters()))
    steps = len(images) // min(recipe.batch_size, len(images))
    return GradientStatistics(tuple(str(width) for width in reversed(network.widths)), tensors, recipe.epochs, steps)


def _word(width: float) -> str:
    """A width as a module's name, which may hold no dot."""
    return f"width_{round(1000 * width)}"
