"""Spaces: ways to get vectors (N, d) of a split's test images, each with what it stands on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from compatlib.embedding import embed
from compatlib.methods.path_scores import recalibrate
from compatlib.study.lab.images import OPEN_SET, calibration_images, images_to_test, training_images
from compatlib.study.lab.roles import share_of
from compatlib.study.lab.trainables import Architecture, Base, PathSearch, SuperNetwork, Trainable, Transformation
from compatlib.study.lab.trainables.sides import RAW

if TYPE_CHECKING:
    from compatlib.study.lab.seed import Seed


class Space:
    """Vectors of a split's test images; a subclass is a frozen dataclass.

    behaviours: which decide the vectors, besides those of its trainables. is_gallery_of_queries: whether its items are
    the test images, so that a query must not find itself.
    """

    behaviours: ClassVar[tuple[str, ...]] = ("embedding",)
    is_gallery_of_queries: ClassVar[bool] = True

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """What it stands on."""
        return ()

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(N, d); asked for through `Seed.vectors`, which keeps them.

        Raises:
            ValueError: a space that has none by itself.
        """
        raise ValueError(f"{type(self).__name__} has no vectors by itself; ask for those that it is made of")

    def kept_bytes(self, seed: "Seed", split: str) -> int:
        """Bytes that must be kept of an item for these vectors to be had.

        Raises:
            ValueError: a space that is not made item by item.
        """
        raise ValueError(f"{type(self).__name__} is not made item by item; ask for the spaces that it is made of")

    def labels(self, seed: "Seed", split: str) -> np.ndarray:
        """(N,) of its items."""
        return seed.labels(split)


@dataclass(frozen=True)
class Labels(Space):
    """No vectors: what is asked needs labels alone."""

    behaviours = ()


@dataclass(frozen=True)
class _OfModel(Space):
    """What one model alone decides."""

    what: Trainable

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """The model."""
        return (self.what,)


@dataclass(frozen=True)
class Of(_OfModel):
    """Embeddings by a model; of one of several widths, by the stand-alone sub-model."""

    width: float = 1.0

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(N, d)."""
        images = images_to_test(seed.run, split, self.what.encoder(seed.run))
        return embed(seed.made(self.what).backbone(self.width), images).numpy()

    def kept_bytes(self, seed: "Seed", split: str) -> int:
        """Those of an image, or of its features: one view in the type in which they are stored."""
        one = images_to_test(seed.run, split, self.what.encoder(seed.run))[0][0]
        return (one[0] if seed.run.encoders else one).nbytes


def of_role(role: str) -> Of:
    """Embeddings by a base model."""
    return Of(Base(role))


@dataclass(frozen=True)
class Searched(Space):
    """No vectors: what is asked of a search needs its history alone."""

    search: PathSearch
    behaviours = ()

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """The search."""
        return (self.search,)


@dataclass(frozen=True)
class OfPath(Space):
    """Embeddings by a path of a super-network, with its weights.

    is_recalibrated: whether BatchNorm's statistics are the path's own, taken from training images; else they are those
    that the super-network's training has left.
    """

    network: SuperNetwork
    architecture: Architecture
    is_recalibrated: bool = True
    behaviours = ("embedding", "path scores")

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """The super-network, and the search that found the path."""
        search = self.architecture.search
        return (self.network, *(() if search is None else (search,)))

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(N, d)."""
        whole, search = seed.made(self.network).parts["network"], self.architecture.search
        path = self.architecture.path(whole, None if search is None else seed.made(search))
        backbone = whole.extract(path).eval()
        if self.is_recalibrated:
            recalibrate(backbone, calibration_images(seed.run))
        return embed(backbone, images_to_test(seed.run, split)).numpy()


@dataclass(frozen=True)
class H(Space):
    """Stored vectors, transformed to a new model's space: no image is read.

    transformation: h. stored: what is transformed; by default the embeddings of its old model. in_halves: the stored
    vectors lie in float16.
    """

    transformation: Transformation
    stored: Space | None = None
    in_halves: bool = False

    @property
    def from_space(self) -> Space:
        """What is transformed."""
        return of_role(self.transformation.old) if self.stored is None else self.stored

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """h, what it transforms, and the side-information beside it."""
        side = self.transformation.side
        return (self.transformation, *self.from_space.trainables, *([] if side is None else [side]))

    def inputs(self, seed: "Seed", split: str) -> tuple[np.ndarray, np.ndarray]:
        """What lies beside the gallery: stored vectors (N, d_old) and side-information (N, d_side)."""
        stored, side = seed.vectors(self.from_space, split), self.transformation.side
        found = stored, stored if side is None else seed.vectors(Of(side), split)
        return tuple(each.astype(np.float16).astype(np.float32) for each in found) if self.in_halves else found

    def kept_bytes(self, seed: "Seed", split: str) -> int:
        """Those of the stored vector and of the side-information beside it; raw features lie in their own type."""
        side, size = self.transformation.side, 2 if self.in_halves else 4
        stored = size * seed.vectors(self.from_space, split).shape[1]
        if side is None:
            return stored
        return stored + (Of(side).kept_bytes(seed, split) if side.side == RAW else size * side.dim)

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(N, d_new)."""
        return self._outcome(seed, split)[0]

    def log_variances(self, seed: "Seed", split: str) -> np.ndarray:
        """FastFill's, (N,).

        Raises:
            ValueError: the transformation states none.
        """
        if self.transformation.objective != "fastfill":
            raise ValueError(f"{self.transformation.name} states no uncertainty; its objective must be 'fastfill'")
        return self._outcome(seed, split)[1]

    def _outcome(self, seed: "Seed", split: str) -> tuple[np.ndarray, ...]:
        module = seed.made(self.transformation).parts
        with torch.inference_mode():
            outcome = module(*(torch.from_numpy(each) for each in self.inputs(seed, split)))
        return tuple(each.numpy() for each in (outcome if isinstance(outcome, tuple) else (outcome,)))


@dataclass(frozen=True)
class TrainingMean(_OfModel):
    """One vector: the mean embedding of all images that new models of the split are trained on."""

    is_gallery_of_queries = False

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(1, d), computed in float64."""
        role = "new_open" if split == OPEN_SET else "new"
        images = share_of(role, seed.run, self.what.encoder(seed.run))
        return embed(seed.made(self.what).backbone(), images).double().mean(dim=0, keepdim=True).float().numpy()


@dataclass(frozen=True)
class Shifted(Space):
    """Embeddings moved by one vector, so that their mean over training images is another model's, or 0: nothing is
    trained.

        φ(x) − mean φ + mean φ_onto

    onto: whose mean takes the place of the model's own; None leaves 0 (centred).
    """

    what: Trainable
    onto: Trainable | None = None
    behaviours = ("embedding", "centring")

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """The model, and the one onto whose mean it is moved."""
        return (self.what, *([] if self.onto is None else [self.onto]))

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(N, d).

        Raises:
            ValueError: the two models' embeddings differ in size.
        """
        moved = seed.vectors(Of(self.what), split) - seed.vectors(TrainingMean(self.what), split)
        if self.onto is None:
            return moved
        mean = seed.vectors(TrainingMean(self.onto), split)
        if mean.shape[1] != moved.shape[1]:
            raise ValueError(
                f"{self.what.name} has {moved.shape[1]} coordinates and {self.onto.name} {mean.shape[1]}: a mean can "
                "only be moved onto one of the same size"
            )
        return moved + mean


@dataclass(frozen=True)
class ClassMeans(_OfModel):
    """A gallery without its scatter: the mean embedding of every class's training images, in the classes' order."""

    is_gallery_of_queries = False

    def vectors(self, seed: "Seed", split: str) -> np.ndarray:
        """(classes, d)."""
        training = training_images(seed.run, self.what.encoder(seed.run))
        embeddings = embed(seed.made(self.what).backbone(), training).double()
        sums = torch.zeros(len(training.class_names), embeddings.shape[1], dtype=torch.float64)
        sums.index_add_(0, training.labels, embeddings)
        counts = torch.bincount(training.labels, minlength=len(sums))
        return (sums / counts[:, None]).float().numpy()

    def labels(self, seed: "Seed", split: str) -> np.ndarray:
        """(classes,)."""
        return np.arange(len(training_images(seed.run).class_names))


@dataclass(frozen=True)
class Mixed(Space):
    """A gallery that is embedded again item by item: old vectors, the new ones that replace them, and in which order.

    old: transformed, or as they are stored. order: a name in `orders.ORDERS`. stated_by: whose uncertainty an order
    follows, by default the old vectors' own, where a transformation states one.
    """

    old: Space
    new: Space
    order: str
    stated_by: H | None = None
    behaviours = ("embedding", "orders")

    @property
    def trainables(self) -> tuple[Trainable, ...]:
        """Those of all."""
        stated = () if self.stated_by is None else self.stated_by.trainables
        return tuple(dict.fromkeys((*self.old.trainables, *self.new.trainables, *stated)))
