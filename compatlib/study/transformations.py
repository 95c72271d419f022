"""FCT's parts of an upgrade: side-information beside the old model, and the transformation to the new one's space."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.methods import fct, independent, side_information
from compatlib.models.classifiers import LinearClassifier
from compatlib.study import artifacts, models
from compatlib.study.artifacts import Artifact
from compatlib.study.models import Report
from compatlib.study.settings import Knobs, Settings, Training
from compatlib.training import Fit, Recipe, initialised

KINDS = ("SimCLR", "autoencoder", "supervised")
OBJECTIVES, SOURCES = ("fct", "fastfill"), ("views", "images")
KEPT = 4  # sets of views, of 205 MB each at 50,000 images, 8 views and 128 dimensions
_kept: dict[tuple, Tensor] = {}
SIDE_MODULES = ("compatlib.methods.side_information", *models.TRAINING_MODULES)
TRANSFORMATION_MODULES = ("compatlib.methods.fct",)


class TransformationKnobs(Knobs):
    """How side-information and transformations are trained; the defaults are the release's, or SimCLR's.

    views: augmented views of a training image that are embedded once. hidden_dim: of the transformation.
    transformation, side: recipes of the transformation and of side-information. temperature, projection_dim: SimCLR's.
    """

    views: int = Field(8, ge=1)
    hidden_dim: int = Field(2048, ge=1)
    transformation: Training = Training(
        epochs=80, batch_size=1024, optimizer="adam", learning_rate=5e-4, weight_decay=2**-15, warmup_epochs=5
    )
    side: Training = Training(epochs=100, batch_size=256, learning_rate=0.4, warmup_epochs=5)
    temperature: float = Field(0.5, gt=0)
    projection_dim: int = Field(64, ge=1)

    @field_validator("transformation", "side")
    @classmethod
    def _plain(cls, recipe: Training) -> Training:
        if recipe.label_smoothing:
            raise ValueError(f"label_smoothing is {recipe.label_smoothing}, but no label is used here; leave it at 0")
        return recipe


@dataclass(frozen=True)
class Side:
    """Side-information learned on the images of an old model.

    kind: a name in `KINDS`. dim: its size. old: the role beside which it stands; its images and its network, with
    another size of embedding, are what it is learned on and with.
    """

    kind: str
    dim: int
    old: str = "old"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown side-information {self.kind!r}; choose one of {KINDS}")


def own_side(run: Settings, old: str = "old") -> Side:
    """The study's side-information: SimCLR on the images of the role `old`, of the new embedding's size."""
    return Side("SimCLR", run.network.dim, old)


@dataclass(frozen=True)
class Transformed:
    """A transformation h from an old model's space to a new one's.

    old, new: roles of base models. side: None feeds the old embedding in twice. objective: FCT's, or FastFill's with
    its uncertainty. source: the stored views, or images embedded anew at every step.
    """

    side: Side | None = None
    old: str = "old"
    new: str = "new"
    objective: Literal["fct", "fastfill"] = "fct"
    source: Literal["views", "images"] = "views"

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES or self.source not in SOURCES:
            raise ValueError(
                f"objective is {self.objective!r} and source {self.source!r}; valid are {OBJECTIVES} and {SOURCES}"
            )
        if (self.objective, self.source) == ("fastfill", "images"):
            raise ValueError("FastFill is fitted on stored views only: choose source 'views', or objective 'fct'")


@dataclass(frozen=True)
class Made:
    """A trained module in eval mode, and the artifact that it came from."""

    module: nn.Module
    artifact: Artifact


def name_of(what: Side | Transformed) -> str:
    """A name for people, progress and files, such as "fct from old and SimCLR 128 to new"."""
    if isinstance(what, Side):
        return f"{what.kind} {what.dim} beside {what.old}"
    start = what.old if what.side is None else f"{what.old} and {what.side.kind} {what.side.dim}"
    # In a chain of updates the side-information is the first model's.
    beside = f" beside {what.side.old}" if what.side is not None and what.side.old != what.old else ""
    return f"{what.objective} from {start}{beside} to {what.new}" + (" on images" if what.source == "images" else "")


def work(run: Settings, what: Side | Transformed) -> float:
    """How much there is to do, in the unit of `models.work` (a guess): images times epochs through the network."""
    if isinstance(what, Side):
        share = len(models.role_of(what.old).share(run))
        return share * side_recipe(run, what).epochs * (2 if what.kind == "SimCLR" else 1)
    share, epochs = len(models.role_of(what.new).share(run)), run.knobs.transformation.epochs
    return share * (run.knobs.views if what.source == "views" else epochs) + 0.2 * share * epochs


def side_model(run: Settings, side: Side, seed: int, *, report: Report | None = None) -> tuple[Made, bool]:
    """The model of side-information, images → (N, dim), and whether it had to be trained now."""
    about = models.role_of(side.old)
    share, recipe = about.share(run), side_recipe(run, side)
    network = about.network(run).model_copy(update={"dim": side.dim})
    settings = {
        "side": side.kind,
        "role": side.old,
        "seed": seed,
        "network": network.model_dump(mode="json"),
        "training": recipe.model_dump(mode="json"),
        "augmentation": models.augmentation(run),
    }
    settings |= _simclr_options(run) if side.kind == "SimCLR" else {}
    key = artifacts.key_of(settings, data=share.digest(), modules=SIDE_MODULES)
    make = partial(models.make_backbone, network, share[0][0].shape[0])
    backbone = initialised(make, seed, f"side {side.kind}")

    def fit(checkpoint: Path) -> Fit:
        placement = {"seed": seed, "role": f"side {side.kind}", "checkpoint": checkpoint, "report": report}
        return _fit_side(run, side, backbone, share, recipe.recipe(), placement)

    name = f"{run.dataset}-side-{side.kind.lower()}-{side.dim}-{side.old}-{seed}"
    artifact, is_new = artifacts.load_or_fit(name, key, settings, backbone, fit)
    return Made(backbone, artifact), is_new


def side_recipe(run: Settings, side: Side) -> Training:
    """A second supervised model is trained as the old one was; the others have a recipe of their own."""
    return run.training if side.kind == "supervised" else run.knobs.side


def _simclr_options(run: Settings) -> dict[str, Any]:
    return {"temperature": run.knobs.temperature, "projection_dim": run.knobs.projection_dim}


def _fit_side(
    run: Settings, side: Side, backbone: nn.Module, images: Images, recipe: Recipe, placement: dict[str, Any]
) -> Fit:
    crop = models.augmentation(run)
    if side.kind == "SimCLR":
        options = _simclr_options(run) | placement
        return side_information.fit_simclr(backbone, images, recipe, flip=crop["flip"], **options)
    augment = partial(crop_and_flip, **crop)
    if side.kind == "autoencoder":
        return side_information.fit_autoencoder(backbone, images, recipe, augment=augment, **placement)
    make = partial(LinearClassifier, side.dim, int(images.labels.max()) + 1)
    classifier = initialised(make, placement["seed"], f"{placement['role']} classifier")
    smoothing = {"label_smoothing": run.training.label_smoothing}
    return independent.fit(backbone, classifier, images, recipe, augment=augment, **smoothing, **placement)


def transformation(run: Settings, what: Transformed, seed: int, *, report: Report | None = None) -> tuple[Made, bool]:
    """The transformation (a `FastFill` where that is the objective), and whether it had to be trained now.

    The models that it goes between are made first, where they are missing.
    """
    old, new = (models.base_model(run, role, seed)[0] for role in (what.old, what.new))
    side = None if what.side is None else side_model(run, what.side, seed)[0]
    share, knobs = models.role_of(what.new).share(run), run.knobs
    settings = {
        "objective": what.objective,
        "source": what.source,
        "seed": seed,
        "hidden_dim": knobs.hidden_dim,
        "training": knobs.transformation.model_dump(mode="json"),
        "augmentation": models.augmentation(run),
    }
    settings |= {"views": knobs.views, "precision": run.training.precision} if what.source == "views" else {}
    parents = [old.key, new.key] + ([] if side is None else [side.artifact.key])
    key = artifacts.key_of(settings, data=share.digest(), modules=TRANSFORMATION_MODULES, parents=parents)
    sizes = (old.backbone.dim, old.backbone.dim if side is None else side.module.dim, new.backbone.dim)
    module = initialised(partial(_untrained, what.objective, *sizes, knobs.hidden_dim), seed, "transformation")
    options: dict[str, Any] = {"recipe": knobs.transformation.recipe(), "seed": seed, "role": "transformation"}

    def fit(checkpoint: Path) -> Fit:
        placement = options | {"checkpoint": checkpoint, "report": report}
        if what.source == "images":
            crop = partial(crop_and_flip, **models.augmentation(run))
            parts = {"old": old.backbone, "side": side and side.module, "new": new.backbone}
            return fct.fit_on_images(module, share, augment=crop, **parts, **placement)
        views = _stored(run, what, seed, report)
        if what.objective == "fastfill":
            return fct.fit_fastfill(module, views, new_classifier=new.classifier, **placement)
        return fct.fit(module, views, **placement)

    name = f"{run.dataset}-{name_of(what).replace(' ', '-')}-{seed}"
    artifact, is_new = artifacts.load_or_fit(name, key, settings, module, fit)
    return Made(module, artifact), is_new


def _untrained(objective: str, old_dim: int, side_dim: int, new_dim: int, hidden_dim: int) -> nn.Module:
    """Both objectives start from the same transformation: the head comes after it in the stream."""
    transformation = fct.Transformation(old_dim, side_dim, new_dim, hidden_dim)
    return fct.FastFill(transformation) if objective == "fastfill" else transformation


def _stored(run: Settings, what: Transformed, seed: int, report: Report | None) -> fct.StoredViews:
    sources = (what.old, what.new) if what.side is None else (what.old, what.side, what.new)
    stored = [_views(run, source, what.new, seed) for source in sources]
    labels = models.role_of(what.new).share(run).labels
    return fct.StoredViews(stored[0], stored[0] if what.side is None else stored[1], stored[-1], labels)


def _views(run: Settings, source: str | Side, share: str, seed: int) -> Tensor:
    """Augmented views of the images of the role `share`, embedded by one model; the last few are kept.

    Kept under what they depend on, so that runs which differ in something else share them.
    """
    if isinstance(source, Side):
        made = side_model(run, source, seed)[0]
        model, key = made.module, made.artifact.key
    else:
        base = models.base_model(run, source, seed)[0]
        model, key = base.backbone, base.key
    images, crop = models.role_of(share).share(run), models.augmentation(run)
    place = (key, images.digest(), run.knobs.views, run.training.precision, seed, *sorted(crop.items()))
    if place not in _kept:
        while len(_kept) >= KEPT:
            _kept.pop(next(iter(_kept)))
        options = {"views": run.knobs.views, "precision": run.training.precision}
        _kept[place] = fct.embed_views(model, images, seed=seed, augment=partial(crop_and_flip, **crop), **options)
    return _kept[place]
