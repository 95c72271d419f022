"""Upgrades: a deployed model, its successor, and the method that makes the two compatible."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from compatlib.data.images import Images
from compatlib.embedding import embed
from compatlib.methods import bct, bct_baselines
from compatlib.study import models
from compatlib.study.models import Model, Report
from compatlib.study.settings import Settings
from compatlib.study.weights import WEIGHTS
from compatlib.training import Fit, Recipe

METHODS = (
    "independent",
    "L2",
    "CE + distance",
    "triplet, raw",
    "contrastive",
    "distillation",
    "BCT A",
    "BCT B",
    "BCT C",
)
# What else may differ between old and new: words for a row, old role, new role.
CHANGES = {
    "a wider and deeper network": ("old_small", "new_deep"),
    "a longer embedding": ("old_narrow", "new"),
    "a shorter embedding": ("old", "new_narrow"),
    "softmax to cosine": ("old", "new_cosine"),
    "softmax to ArcFace": ("old", "new_arcface"),
    "classes only, both cosine": ("old_cosine", "new_cosine"),
    "network, embedding and loss": ("old_small_narrow", "new_deep_arcface"),
}
_ALIGNMENTS: dict[str, Any] = {
    "L2": bct_baselines.squared_error,
    "CE + distance": bct_baselines.normalised_distance,
    "triplet": bct_baselines.hardest_triplet,
    "triplet, raw": partial(bct_baselines.hardest_triplet, normalize=False),
    "contrastive": bct_baselines.contrastive,
}


@dataclass(frozen=True)
class Upgrade:
    """A successor and what it is trained against.

    method: one of `METHODS`. old: the deployed model, a role of the study's base models or an upgrade of its own. new:
    the role whose images, network, classifier and streams the successor has. weight: of the compatibility term; the
    method's own by default.
    """

    method: str
    old: "str | Upgrade" = "old"
    new: str = "new"
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS and self.method not in _ALIGNMENTS:
            raise ValueError(f"unknown method {self.method!r}; choose one of {METHODS}")

    @property
    def chosen_weight(self) -> float:
        """The weight of the compatibility term."""
        return WEIGHTS.get(self.method, 1.0) if self.weight is None else self.weight


Source = str | Upgrade


def base_of(source: Source) -> str:
    """The role that stands for this model's images and network."""
    return source if isinstance(source, str) else source.new


def canonical(source: Source) -> Source:
    """The same model's shortest description: the role where it is trained apart, no weight that is the method's own."""
    if isinstance(source, str):
        return source
    if source.method == "independent":
        return source.new
    weight = None if source.weight == WEIGHTS.get(source.method, 1.0) else source.weight
    return replace(source, old=canonical(source.old), weight=weight)


def depth(source: Source) -> int:
    """How many trainings must come one after the other before this model's: 0 for a base model."""
    source = canonical(source)
    return 0 if isinstance(source, str) else 1 + depth(source.old)


def name_of(source: Source) -> str:
    """A name for people and for progress lines, such as "new, BCT C against old"."""
    source = canonical(source)
    if isinstance(source, str):
        return source
    weight = "" if source.weight is None else f" × {source.weight:g}"
    against = source.old if isinstance(source.old, str) else f"({name_of(source.old)})"
    return f"{source.new}, {source.method}{weight} against {against}"


def work(run: Settings, source: Source) -> float:
    """How much there is to do, in the unit of `models.work`; a baseline also runs the old model on every batch."""
    again = 1.3 if isinstance(source, Upgrade) and source.method in (*_ALIGNMENTS, "distillation") else 1.0
    return again * models.work(run, base_of(source))


def model_of(run: Settings, source: Source, seed: int, *, report: Report | None = None) -> tuple[Model, bool]:
    """The model of a role or of an upgrade, and whether it had to be trained now; its old model is made first."""
    source = canonical(source)
    if isinstance(source, str):
        return models.base_model(run, source, seed, report=report)
    old, _ = model_of(run, source.old, seed)
    return models.trained_model(
        run,
        f"{source.new}-{source.method.lower().replace(' ', '-')}",
        source.new,
        seed,
        fit=_fit_of(source, old),
        modules=_modules_of(source),
        options={"method": source.method, "weight": source.chosen_weight},
        parents=[old.key],
        report=report,
    )


def _modules_of(upgrade: Upgrade) -> tuple[str, ...]:
    if upgrade.method.startswith("BCT"):
        return ("compatlib.methods.bct", "compatlib.embedding", *models.NETWORK_MODULES)
    return ("compatlib.methods.bct_baselines", *models.NETWORK_MODULES)


def _fit_of(upgrade: Upgrade, old: Model) -> Callable[..., Fit]:
    weight = upgrade.chosen_weight
    if upgrade.method.startswith("BCT"):
        return partial(_fit_bct, old=old, form=upgrade.method[-1], weight=weight)
    if upgrade.method == "distillation":
        alignment = bct_baselines.Distillation(old.classifier.weight)
    else:
        alignment = _ALIGNMENTS[upgrade.method]
    classification = upgrade.method != "L2"
    return partial(
        bct_baselines.fit, old_backbone=old.backbone, alignment=alignment, weight=weight, classification=classification
    )


def _fit_bct(
    backbone: nn.Module, classifier: nn.Module, images: Images, recipe: Recipe, *, old: Model, form: str, **others: Any
) -> Fit:
    old_classifier = old.classifier if form == "A" else extended(old, images, normalize=form == "C")
    return bct.fit(backbone, classifier, images, recipe, old_classifier=old_classifier, **others)


def extended(old: Model, images: Images, *, normalize: bool) -> nn.Module:
    """The old model's classifier with a row for every class of the images, synthesised where it has none."""
    classes = int(images.labels.max()) + 1
    rows = bct.synthesize_classifier(
        embed(old.backbone, images), images.labels, classes, old.classifier.weight, normalize=normalize
    )
    classifier = copy.deepcopy(old.classifier)
    classifier.weight = nn.Parameter(rows)
    return classifier
