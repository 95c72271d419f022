"""FCT's transformations from an old model's space to a new one's, and how they and side-information are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from compatlib.data.images import Images
from compatlib.methods import fct
from compatlib.study.lab.images import augment, augmentation, encoder_of
from compatlib.study.lab.roles import role_of, share_of
from compatlib.study.lab.trainables.base import Base, Trainable
from compatlib.study.lab.trainables.sides import Side
from compatlib.study.settings import Knobs, Settings, Training
from compatlib.training import Fit, initialised

OBJECTIVES, SOURCES = ("fct", "fastfill"), ("views", "images")
STREAM = "transformation"
KEPT = 4  # sets of views, of 205 MB each at 50,000 images, 8 views and 128 dimensions
_kept: dict[tuple, Tensor] = {}


class TransformationKnobs(Knobs):
    """How side-information and transformations are trained; the defaults are the release's, or SimCLR's.

    views: augmented views of a training image that are embedded once. hidden_dim: of the transformation.
    transformation, side: recipes of the transformation and of side-information. temperature, projection_dim: SimCLR's.
    dropped: share of the coordinates that a view of features lacks.
    """

    views: int = Field(8, ge=1)
    hidden_dim: int = Field(2048, ge=1)
    transformation: Training = Training(
        epochs=80, batch_size=1024, optimizer="adam", learning_rate=5e-4, weight_decay=2**-15, warmup_epochs=5
    )
    side: Training = Training(epochs=100, batch_size=256, learning_rate=0.4, warmup_epochs=5)
    temperature: float = Field(0.5, gt=0)
    projection_dim: int = Field(64, ge=1)
    dropped: float = Field(0.2, ge=0, lt=1)

    @field_validator("transformation", "side")
    @classmethod
    def _plain(cls, recipe: Training) -> Training:
        if recipe.label_smoothing:
            raise ValueError(f"label_smoothing is {recipe.label_smoothing}, but no label is used here; leave it at 0")
        return recipe


@dataclass(frozen=True)
class Transformation(Trainable):
    """A transformation h from an old model's space to a new one's.

    side: None feeds the old embedding in twice. old, new: roles of base models. objective: FCT's, or FastFill's with
    its uncertainty. source: the stored views, or images embedded anew at every step. cross_entropy, coordinates: the
    balance of FastFill's loss, as `fct.fastfill_loss` takes it.

    Raises:
        ValueError: an unknown objective, source or role, FastFill on images, or a balance of anything but FastFill.
    """

    side: Side | None = None
    old: str = "old"
    new: str = "new"
    objective: Literal["fct", "fastfill"] = "fct"
    source: Literal["views", "images"] = "views"
    cross_entropy: float = 1.0
    coordinates: Literal["mean", "sum"] = "mean"
    kind = "transformation"
    behaviours = ("fct", "fastfill", "views")
    is_published = False

    def __post_init__(self) -> None:
        for role in (self.old, self.new):
            role_of(role)
        if self.objective not in OBJECTIVES or self.source not in SOURCES:
            raise ValueError(
                f"objective is {self.objective!r} and source {self.source!r}; valid are {OBJECTIVES} and {SOURCES}"
            )
        if (self.objective, self.source) == ("fastfill", "images"):
            raise ValueError("FastFill is fitted on stored views only: choose source 'views', or objective 'fct'")
        if self.objective != "fastfill" and self._balance != {"cross_entropy": 1.0, "coordinates": "mean"}:
            raise ValueError(f"a balance {self._balance} is FastFill's; choose objective 'fastfill', or leave it away")

    @property
    def name(self) -> str:
        """Such as "fct from old and SimCLR 128 to new"."""
        start = self.old if self.side is None else f"{self.old} and {self.side.side} {self.side.dim}"
        # In a chain of updates the side-information is the first model's.
        beside = f" beside {self.side.old}" if self.side is not None and self.side.old != self.old else ""
        balance = "" if self.cross_entropy == 1 else f", cross-entropy × {self.cross_entropy:g}"
        balance += "" if self.coordinates == "mean" else ", sum"
        on = " on images" if self.source == "images" else ""
        return f"{self.objective} from {start}{beside} to {self.new}{on}{balance}"

    @property
    def _balance(self) -> dict[str, Any]:
        return {"cross_entropy": self.cross_entropy, "coordinates": self.coordinates}

    @property
    def parents(self) -> tuple[Trainable, ...]:
        """Old and new model, and the side-information where there is one."""
        return (Base(self.old), Base(self.new), *([] if self.side is None else [self.side]))

    def images(self, run: Settings) -> Images:
        """The new model's training images; as the old model's encoder sees them too, where that is another."""
        return share_of(self.new, run, *(encoder_of(run, role) for role in (self.new, *self._roles)))

    @property
    def _roles(self) -> tuple[str, ...]:
        """Whose images the parents see, in their order."""
        return (self.old, self.new, *(() if self.side is None else (self.side.old,)))

    def settings(self, run: Settings) -> dict[str, Any]:
        """Objective, source, size, recipe and augmentation; of stored views their number and precision."""
        knobs, is_stored = run.knobs, self.source == "views"
        return {
            "objective": self.objective,
            "source": self.source,
            "hidden_dim": knobs.hidden_dim,
            "training": knobs.transformation.model_dump(mode="json"),
            "augmentation": augmentation(run),
            "views": knobs.views if is_stored else None,
            "precision": run.training.precision if is_stored else "float32",
            **(self._balance if self.objective == "fastfill" else {}),
        }

    def work(self, run: Settings) -> float:
        """Images through the network for every view or epoch, and a fifth of that for h in every epoch."""
        share, epochs = len(self.images(run)), run.knobs.transformation.epochs
        return share * (run.knobs.views if self.source == "views" else epochs) + 0.2 * share * epochs

    def build(self, run: Settings, seed: int) -> nn.Module:
        """Both objectives start from the same transformation: FastFill's head comes after it in the stream."""
        old_dim, new_dim = (role_of(role).network(run).dim for role in (self.old, self.new))
        side_dim = old_dim if self.side is None else self.side.dim
        make = partial(_untrained, self.objective, old_dim, side_dim, new_dim, run.knobs.hidden_dim)
        return initialised(make, seed, STREAM)

    def fit(self, run: Settings, seed: int, parts: nn.Module, parents: Sequence[Any], **placement: Any) -> Fit:
        """On stored views, or on images."""
        old, new, *side = (made.backbone() for made in parents)
        common = {"recipe": run.knobs.transformation.recipe(), "seed": seed, "role": STREAM} | placement
        if self.source == "images":
            models = {"old": old, "side": side[0] if side else None, "new": new}
            changed = augment(run, self.images(run))
            return fct.fit_on_images(parts, self.images(run), augment=changed, **models, **common)
        # An encoder's views are the same alone and among others, and half the work.
        seen = [share_of(self.new, run, encoder_of(run, role)) for role in self._roles]
        stored = [_views(run, made, images, seed) for made, images in zip(parents, seen, strict=True)]
        beside = stored[2] if side else stored[0]
        views = fct.StoredViews(stored[0], beside, stored[1], self.images(run).labels)
        if self.objective == "fastfill":
            return fct.fit_fastfill(
                parts, views, new_classifier=parents[1].parts["classifier"], **self._balance, **common
            )
        return fct.fit(parts, views, **common)


def _untrained(objective: str, old_dim: int, side_dim: int, new_dim: int, hidden_dim: int) -> nn.Module:
    transformation = fct.Transformation(old_dim, side_dim, new_dim, hidden_dim)
    return fct.FastFill(transformation) if objective == "fastfill" else transformation


def _views(run: Settings, made: Any, images: Images, seed: int) -> Tensor:
    """Augmented views of the images, embedded by one model; the last few are kept, under what they depend on."""
    crop, options = augmentation(run), {"views": run.knobs.views, "precision": run.training.precision}
    place = (made.key, images.digest(), *options.values(), seed, *sorted(crop.items()))
    if place not in _kept:
        while len(_kept) >= KEPT:
            _kept.pop(next(iter(_kept)))
        changed = augment(run, images)
        _kept[place] = fct.embed_views(made.backbone(), images, seed=seed, augment=changed, **options)
    return _kept[place]
