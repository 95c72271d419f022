"""Trainings that give sub-models of several widths, by method: what they are, and the recipes that they have."""

from dataclasses import dataclass

from pydantic import Field, field_validator

from compatlib.models.slimmable import WIDTHS
from compatlib.study import models
from compatlib.study.settings import Knobs, Settings, Training

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


def recipe_of(run: Settings, what: Trained) -> Training:
    """The base models' recipe for one width; for several, with the learning rate of their loss."""
    if what.method in APART:
        return run.training
    changes = {"learning_rate": run.knobs.learning_rate(what.method), "clip_norm": run.knobs.clip_norm or None}
    return run.training.model_copy(update=changes)
