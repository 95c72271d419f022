"""Upgrades: a deployed model, its successor, and the method that makes the two compatible."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from torch import nn

from compatlib.data.images import Images
from compatlib.embedding import embed
from compatlib.methods import bct, bct_baselines, cmp_nas, dual_tuning
from compatlib.study.lab.roles import role_of, share_of
from compatlib.study.lab.trainables.base import Base, RoleModel, Trainable
from compatlib.study.settings import Settings
from compatlib.training import Fit

Terms = Mapping[str, float] | tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Method:
    """How a successor is trained against its old model.

    behaviours, settings: what decides it, for its key. fit: (images=…, old=…, weight=…, backbone=…, classifier=…,
    recipe=…, placement) → Fit, with `old` a `make.Made`. weight: of the compatibility term where an upgrade names none,
    the best of those tried on held-out training images, but for BCT, whose claims are about openBCT's λ = 1, and for
    Dual-Tuning, whose release has weights. passes: how long a step takes, in steps of independent training. terms: the
    weights of further terms by name, where a method has some; `fit` is told them too.
    """

    behaviours: tuple[str, ...]
    fit: Callable[..., Fit]
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    passes: float = 1.0
    terms: Mapping[str, float] = field(default_factory=dict)


def _bct(form: str) -> Method:
    return Method(("bct", "synthesis"), partial(_fit_bct, form=form), {"form": form})


def _aligned(alignment: str, weight: float = 1.0, **settings: Any) -> Method:
    return Method(
        ("alignments",), partial(_fit_aligned, alignment, **settings), {"alignment": alignment} | settings, weight, 1.3
    )


def _dual(weight: float, passes: float, prototypes: str | None = None, **terms: float) -> Method:
    fit = partial(_fit_dual, prototypes)
    return Method(("dual-tuning",), fit, {"prototypes": prototypes}, weight, passes, terms)


def _query(objective: cmp_nas.Objective, passes: float = 1.0) -> Method:
    return Method(("cmp-nas",), partial(_fit_query, objective), {"objective": objective}, passes=passes)


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


def _fit_dual(prototypes: str | None, *, old: Any, weight: float, **others: Any) -> Fit:
    """Of the prototypes' weight; without prototypes it is that of both mutual terms."""
    if prototypes is None:
        weights = {"weight": 0.0, "old_to_new": weight, "new_to_old": weight}
    else:
        weights = {"weight": weight, "kind": prototypes, "old_to_new": 0.0, "new_to_old": 0.0}
    old_model = {f"old_{name}": old.parts[name] for name in ("backbone", "classifier")}
    return dual_tuning.fit(**old_model, **weights | others)


def _fit_query(objective: cmp_nas.Objective, *, old: Any, **others: Any) -> Fit:
    gallery_model = {f"gallery_{name}": old.parts[name] for name in ("backbone", "classifier")}
    return cmp_nas.fit_query(objective=objective, **gallery_model, **others)


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
    "Dual-Tuning": _dual(0.1, 1.3, "softmax", old_to_new=0.2, new_to_old=0.2),
    "Dual-Tuning, distance": _dual(0.1, 1.3, "distance", old_to_new=0.2, new_to_old=0.2),
    "prototypes": _dual(0.1, 1.0, "softmax"),
    "prototypes, distance": _dual(0.1, 1.0, "distance"),
    "mutual": _dual(0.2, 1.3),
    "two-way triplet": _aligned("two_way_triplet"),
    # CMP-NAS's further objectives; its own, both classifiers, is BCT's form A, its regression L2.
    "initialised": _query("initialised"),
    "logit distillation": _query("distillation", 1.3),
    "gallery term": _query("gallery"),
}
INDEPENDENT = "independent"


def _by_method(numbers: Any) -> Any:
    numbers = tuple(numbers.items()) if isinstance(numbers, Mapping) else numbers
    unknown = [name for name, _ in numbers if name not in METHODS]
    if unknown:
        raise ValueError(f"weights are given for {unknown}, which are no methods; choose from {tuple(METHODS)}")
    return numbers


# Weights by method, a mapping or pairs: a chapter's parameter, where a tuning found others than `METHODS` has.
ByMethod = Annotated[tuple[tuple[str, Annotated[float, Field(gt=0)]], ...], BeforeValidator(_by_method)]
OLD = Base("old")


@dataclass(frozen=True)
class Upgrade(RoleModel):
    """A successor and what it is trained against.

    method: a name in `METHODS`. old: the deployed model. new: the role whose images, network, classifier and streams
    the successor has. weight: of the compatibility term (of Dual-Tuning's, the prototypes'); None for the method's own.
    terms: weights of the method's further terms by name, a mapping or pairs, of those that are not the method's own.

    Raises:
        ValueError: an unknown method, role or term.
    """

    method: str
    old: Trainable = OLD
    new: str = "new"
    weight: float | None = None
    terms: Terms = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; choose one of {(INDEPENDENT, *METHODS)}")
        role_of(self.new)
        if self.weight == METHODS[self.method].weight:
            object.__setattr__(self, "weight", None)  # one model has one description
        given, own = dict(self.terms), METHODS[self.method].terms
        unknown = [name for name in given if name not in own]
        if unknown:
            raise ValueError(f"unknown terms {unknown} of {self.method}; it has {tuple(own) or 'one weight alone'}")
        others = tuple((name, given[name]) for name in own if given.get(name, own[name]) != own[name])
        object.__setattr__(self, "terms", others)

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
    def chosen_terms(self) -> dict[str, float]:
        """The weights of the method's further terms by name."""
        return {**METHODS[self.method].terms, **dict(self.terms)}

    @property
    def name(self) -> str:
        """Such as "new, BCT C against old"."""
        weight = "" if self.weight is None else f" × {self.weight:g}"
        weight += "".join(f", {name} × {value:g}" for name, value in self.terms)
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
        """The role's, the method's, and the weights."""
        chosen = {"weight": self.chosen_weight, **self.chosen_terms}
        return super().settings(run) | METHODS[self.method].settings | chosen

    def work(self, run: Settings) -> float:
        """The role's; a baseline runs the old model on every batch too."""
        return super().work(run) * METHODS[self.method].passes

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By the method."""
        (old,) = parents
        told = {**self.chosen_terms, **parts, **self.placement(run, seed), **placement}
        return METHODS[self.method].fit(old=old, weight=self.chosen_weight, **told)


def upgraded(
    method: str, old: Trainable = OLD, new: str = "new", weight: float | None = None, terms: Terms = ()
) -> Trainable:
    """The successor by a method; trained `independent`, it is the base model of its role."""
    return Base(new) if method == INDEPENDENT else Upgrade(method, old, new, weight, terms)
