"""Upgrades: a deployed model, its successor, and the method that makes the two compatible."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from compatlib.data.images import Images
from compatlib.embedding import embed
from compatlib.methods import bct, bct_baselines
from compatlib.study.lab.roles import role_of, share_of
from compatlib.study.lab.trainables.base import Base, RoleModel, Trainable
from compatlib.study.settings import Settings
from compatlib.training import Fit


@dataclass(frozen=True)
class Method:
    """How a successor is trained against its old model.

    behaviours, settings: what decides it, for its key. fit: (images=…, old=…, weight=…, backbone=…, classifier=…,
    recipe=…, placement) → Fit, with `old` a `make.Made`. weight: of the compatibility term where an upgrade names none,
    the best of those tried on held-out training images, but for BCT, whose claims are about openBCT's λ = 1. passes:
    how long a step takes, in steps of independent training.
    """

    behaviours: tuple[str, ...]
    fit: Callable[..., Fit]
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    passes: float = 1.0


def _bct(form: str) -> Method:
    return Method(("bct", "synthesis"), partial(_fit_bct, form=form), {"form": form})


def _aligned(alignment: str, weight: float = 1.0, **settings: Any) -> Method:
    return Method(
        ("alignments",), partial(_fit_aligned, alignment, **settings), {"alignment": alignment} | settings, weight, 1.3
    )


def _fit_bct(*, form: str, old: Any, images: Any, **others: Any) -> Fit:
    classifier = old.parts["classifier"]
    if form != "A":
        classifier = extended(old, images, form)
    return bct.fit(images=images, old_classifier=classifier, **others)


def _fit_aligned(alignment: str, *, old: Any, classification: bool = True, **others: Any) -> Fit:
    options = {"normalize": others.pop("normalize")} if "normalize" in others else {}
    if alignment == "distillation":
        loss: Any = bct_baselines.Distillation(old.parts["classifier"].weight)
    else:
        loss = partial(getattr(bct_baselines, alignment), **options)
    old_backbone = old.parts["backbone"]
    return bct_baselines.fit(old_backbone=old_backbone, alignment=loss, classification=classification, **others)


def extended(old: Any, images: Any, form: str) -> nn.Module:
    """The old model's classifier with a row for every class of the images, made as BCT's form B, C or D says."""
    classes, own = int(images.labels.max()) + 1, old.parts["classifier"]
    make = bct.ridge_classifier if form == "D" else partial(bct.synthesize_classifier, normalize=form == "C")
    rows = make(embed(old.parts["backbone"], images), images.labels, classes, own.weight.detach())
    classifier = copy.deepcopy(own)
    classifier.weight = nn.Parameter(rows)
    return classifier


METHODS: dict[str, Method] = {
    "L2": _aligned("squared_error", 10.0, classification=False),
    "CE + distance": _aligned("normalised_distance", 3.0),
    "triplet": _aligned("hardest_triplet", 3.0),
    "triplet, raw": _aligned("hardest_triplet", normalize=False),
    "contrastive": _aligned("contrastive", 3.0),
    "distillation": _aligned("distillation", 3.0),
    "BCT A": _bct("A"),
    "BCT B": _bct("B"),
    "BCT C": _bct("C"),
    "BCT D": _bct("D"),
}
INDEPENDENT = "independent"
OLD = Base("old")


@dataclass(frozen=True)
class Upgrade(RoleModel):
    """A successor and what it is trained against.

    method: a name in `METHODS`. old: the deployed model. new: the role whose images, network, classifier and streams
    the successor has. weight: of the compatibility term; None for the method's own.

    Raises:
        ValueError: an unknown method or role.
    """

    method: str
    old: Trainable = OLD
    new: str = "new"
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; choose one of {(INDEPENDENT, *METHODS)}")
        role_of(self.new)
        if self.weight == METHODS[self.method].weight:
            object.__setattr__(self, "weight", None)  # one model has one description

    @property
    def base_role(self) -> str:
        """The successor's."""
        return self.new

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The method's."""
        return METHODS[self.method].behaviours

    @property
    def chosen_weight(self) -> float:
        """The weight of the compatibility term."""
        return METHODS[self.method].weight if self.weight is None else self.weight

    @property
    def name(self) -> str:
        """Such as "new, BCT C against old"."""
        weight = "" if self.weight is None else f" × {self.weight:g}"
        against = f"({self.old.name})" if isinstance(self.old, Upgrade) else self.old.name
        return f"{self.new}, {self.method}{weight} against {against}"

    @property
    def parents(self) -> tuple[Trainable, ...]:
        """The old model."""
        return (self.old,)

    def images(self, run: Settings) -> Images:
        """The successor's; as the old model's encoder sees them too, where that is another."""
        return share_of(self.new, run, self.encoder(run), self.old.encoder(run))

    def settings(self, run: Settings) -> dict[str, Any]:
        """The role's, the method's, and the weight."""
        return super().settings(run) | METHODS[self.method].settings | {"weight": self.chosen_weight}

    def work(self, run: Settings) -> float:
        """The role's; a baseline runs the old model on every batch too."""
        return super().work(run) * METHODS[self.method].passes

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By the method."""
        (old,) = parents
        fit = METHODS[self.method].fit
        return fit(old=old, weight=self.chosen_weight, **parts, **self.placement(run, seed), **placement)


def upgraded(method: str, old: Trainable = OLD, new: str = "new", weight: float | None = None) -> Trainable:
    """The successor by a method; trained `independent`, it is the base model of its role."""
    return Base(new) if method == INDEPENDENT else Upgrade(method, old, new, weight)
