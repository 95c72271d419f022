"""Side-information: what is stored beside an old embedding, learned on the old images alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from compatlib.data.images import Images
from compatlib.methods import independent, side_information
from compatlib.models.heads import Projection
from compatlib.study.lab.images import augment, augmentation, encoder_of, standardisation, two_views_of
from compatlib.study.lab.roles import make_backbone, make_classifier, role_of, share_of
from compatlib.study.lab.trainables.base import Trainable
from compatlib.study.settings import Settings, Training
from compatlib.training import Cost, Fit, initialised

_BEHAVIOUR = {"SimCLR": "simclr", "autoencoder": "autoencoder", "supervised": "independent"}
KINDS = tuple(_BEHAVIOUR)
# Of features alone: themselves, and their principal components.
RAW, COMPONENTS = "raw features", "principal components"
OF_FEATURES = ("SimCLR", "supervised", RAW, COMPONENTS)


@dataclass(frozen=True)
class Side(Trainable):
    """Side-information learned on the images of an old model.

    side: a name in `KINDS`, of features in `OF_FEATURES`. dim: its size. old: the role beside which it stands; its
    images and its network, with another size of embedding, are what it is learned on and with.

    Raises:
        ValueError: an unknown kind or role.
    """

    side: str
    dim: int
    old: str = "old"
    kind = "side"

    def __post_init__(self) -> None:
        valid = tuple(dict.fromkeys((*KINDS, *OF_FEATURES)))
        if self.side not in valid:
            raise ValueError(f"unknown side-information {self.side!r}; choose one of {valid}")
        role_of(self.old)

    @property
    def behaviours(self) -> tuple[str, ...]:
        """Its kind's."""
        return (_BEHAVIOUR.get(self.side, "projection"),)

    @property
    def name(self) -> str:
        """Such as "SimCLR 128 beside old"."""
        return f"{self.side} {self.dim} beside {self.old}"

    @property
    def stream(self) -> str:
        """Of its weights, order and augmentation."""
        return f"side {self.side}"

    def encoder(self, run: Settings) -> str | None:
        """The old role's."""
        return encoder_of(run, self.old)

    def images(self, run: Settings) -> Images:
        """The old role's."""
        return share_of(self.old, run)

    def network(self, run: Settings):
        """The old role's, with an embedding of its own size."""
        return role_of(self.old).network(run).model_copy(update={"dim": self.dim})

    def recipe(self, run: Settings) -> Training:
        """A second supervised model is trained as the old one was; the others have a recipe of their own."""
        return run.training if self.side == "supervised" else run.knobs.side

    def settings(self, run: Settings) -> dict[str, Any]:
        """Stream, network, recipe and augmentation; of SimCLR temperature and projection too."""
        if self.side in (RAW, COMPONENTS):
            return {"side": self.side, "dim": self.dim}
        found = {
            "stream": self.stream,
            "network": self.network(run).model_dump(mode="json"),
            "training": self.recipe(run).model_dump(mode="json"),
            "augmentation": augmentation(run),
        }
        dropped = {"dropped": run.knobs.dropped} if run.encoders else {}
        return found | (_simclr_options(run) | dropped if self.side == "SimCLR" else {})

    def work(self, run: Settings) -> float:
        """Images times epochs, twice for two views."""
        if self.side in (RAW, COMPONENTS):
            return len(self.images(run))
        return len(self.images(run)) * self.recipe(run).epochs * (2 if self.side == "SimCLR" else 1)

    def build(self, run: Settings, seed: int) -> nn.Module:
        """The backbone; what is thrown away after training is made by `fit`.

        Raises:
            ValueError: a kind that is not of what the run trains on, images or features, or raw features of another
                size.
        """
        kinds = OF_FEATURES if run.encoders else KINDS
        if self.side not in kinds:
            raise ValueError(f"{self.side!r} is no side-information of a run of {run.dataset}; choose one of {kinds}")
        if self.side in (RAW, COMPONENTS):
            images = self.images(run)
            size = images.stored.shape[-1]
            if self.side == RAW and self.dim != size:
                raise ValueError(f"the raw features have {size} numbers, not {self.dim}")
            return Projection(*standardisation(images), None if self.side == RAW else self.dim, images.encoder)
        return initialised(partial(make_backbone, self.network(run), self.images(run)), seed, self.stream)

    def fit(self, run: Settings, seed: int, parts: nn.Module, parents: Sequence[Any], **placement: Any) -> Fit:
        """By its kind."""
        images = self.images(run)
        if self.side == RAW:
            return Fit([], Cost(0.0, 0.0, "cpu", 1))
        if self.side == COMPONENTS:
            return side_information.fit_components(parts, images)
        common = {"images": images, "recipe": self.recipe(run).recipe(), "seed": seed, "role": self.stream} | placement
        if self.side == "SimCLR":
            views = two_views_of(run, images)
            return side_information.fit_simclr(parts, views=views, **_simclr_options(run), **common)
        common["augment"] = augment(run, images)
        if self.side == "autoencoder":
            return side_information.fit_autoencoder(parts, **common)
        make = partial(make_classifier, "linear", self.dim, images, self.recipe(run))
        classifier = initialised(make, seed, f"{self.stream} classifier")
        smoothing = run.training.label_smoothing
        return independent.fit(parts, classifier, label_smoothing=smoothing, **common)

    def backbone(self, parts: nn.Module, width: float = 1.0) -> nn.Module:
        """Images → (N, dim)."""
        return parts


def own_side(run: Settings, old: str = "old") -> Side:
    """The study's side-information: SimCLR on the images of the role `old`, of the new embedding's size."""
    return Side("SimCLR", run.network.dim, old)


def _simclr_options(run: Settings) -> dict[str, Any]:
    return {"temperature": run.knobs.temperature, "projection_dim": run.knobs.projection_dim}
