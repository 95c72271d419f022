"""What every trainable is, and the simplest: a base model of a role, trained apart."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from compatlib.data.images import Images
from compatlib.methods import independent
from compatlib.study.lab.images import augment, augmentation, encoder_of
from compatlib.study.lab.roles import make_backbone, make_classifier, role_of, share_of
from compatlib.study.settings import Network, Settings, Training
from compatlib.training import Fit, initialised

# What need not be said in a key. A value here changes only together with a behaviour's number; a test pins them all.
DEFAULTS: dict[str, Any] = {
    "network": Network().model_dump(mode="json"),
    "training": Training(epochs=1, learning_rate=1).model_dump(mode="json", exclude={"epochs", "learning_rate"}),
    "augmentation": {"padding": 4, "flip": True},
    "classifier": "linear",
    "weights": None,
    "weight": 1.0,
    "classification": True,
    "normalize": True,
    "views": None,
    "precision": "float32",
    "cross_entropy": 1.0,
    "coordinates": "mean",
}


class Trainable(ABC):
    """Something that can be trained; a subclass is a frozen dataclass.

    kind: what a key calls it. behaviours: those that decide it, roots of `behaviours.versions`. is_published: whether a
    reader gets it with the published rows (a transformation is large, and fitted in minutes).
    """

    kind: ClassVar[str]
    behaviours: ClassVar[tuple[str, ...]]
    is_published: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """For people, progress and files; not part of a key."""

    @property
    def parents(self) -> "tuple[Trainable, ...]":
        """What it is made from, in the order in which `fit` takes them."""
        return ()

    def encoder(self, run: Settings) -> str | None:
        """On whose features it stands, where it embeds features; None where it embeds images, or nothing."""
        return None

    @abstractmethod
    def settings(self, run: Settings) -> dict[str, Any]:
        """All that was chosen, defaults included, but for seed and parents (JSON-able)."""

    @abstractmethod
    def images(self, run: Settings) -> Images:
        """What it is trained on."""

    @abstractmethod
    def work(self, run: Settings) -> float:
        """How much there is to do: images times epochs through the run's own network (a guess)."""

    @abstractmethod
    def build(self, run: Settings, seed: int) -> nn.Module:
        """Untrained, from its own streams; its state is what is kept."""

    def built(self, run: Settings, seed: int, parents: Callable[[], Sequence[Any]]) -> nn.Module:
        """As `build`; what only a parent tells, such as which network a search found, is asked of `parents()`."""
        return self.build(run, seed)

    @abstractmethod
    def fit(self, run: Settings, seed: int, parts: nn.Module, parents: Sequence[Any], **placement: Any) -> Fit:
        """Train what `build` gave.

        Args:
            run: the run's settings.
            seed: any integer ≥ 0.
            parts: from `build`; trained in place.
            parents: `make.Made`, one for each of `parents`.
            **placement: `checkpoint` and `report`, as `training.fit`.
        """

    def backbone(self, parts: nn.Module, width: float = 1.0) -> nn.Module:
        """Images → (N, d), of the trained parts; of several widths, the stand-alone sub-model of one.

        Raises:
            ValueError: it embeds no images.
        """
        raise ValueError(f"{self.name} embeds no images; take the vectors that it transforms")

    def stage(self) -> int:
        """How many trainings must come before: 0 where there is no parent."""
        return max((1 + parent.stage() for parent in self.parents), default=0)


def differing(settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings that are not their default, groups of them too: what a key holds."""
    defaults = DEFAULTS if defaults is None else defaults
    found = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping):
            value = differing(value, defaults[name])
            if value:
                found[name] = value
        elif name not in defaults or value != defaults[name]:
            found[name] = value
    return found


class RoleModel(Trainable):
    """A backbone and a classifier with the images, network and streams of a role.

    A method's model has the role of the one that it replaces, so that both start from the same weights and see the same
    images in the same order: what differs is the method.
    """

    kind = "model"

    @property
    @abstractmethod
    def base_role(self) -> str:
        """The role's name."""

    def encoder(self, run: Settings) -> str | None:
        """The role's."""
        return encoder_of(run, self.base_role)

    def images(self, run: Settings) -> Images:
        """The role's share of the training images."""
        return share_of(self.base_role, run)

    def network(self, run: Settings) -> Network:
        """The role's network."""
        return role_of(self.base_role).network(run)

    def recipe(self, run: Settings) -> Training:
        """The run's own."""
        return run.training

    def settings(self, run: Settings) -> dict[str, Any]:
        """Stream, network, recipe, classifier and augmentation."""
        role = role_of(self.base_role)
        return {
            "stream": self.base_role,
            "weights": role.weights_of,
            "network": self.network(run).model_dump(mode="json"),
            "training": self.recipe(run).model_dump(mode="json"),
            "classifier": role.classifier,
            "augmentation": augmentation(run),
        }

    def work(self, run: Settings) -> float:
        """Images times epochs, a smaller network less, a deeper one more."""
        network = self.network(run)
        size = sum(network.widths) * network.blocks / (sum(run.network.widths) * run.network.blocks)
        if network.hidden is not None:
            size = network.hidden / run.network.hidden
        return len(self.images(run)) * self.recipe(run).epochs * (0.3 + 0.7 * size)

    def build(self, run: Settings, seed: int) -> nn.ModuleDict:
        """Backbone and classifier, each from its stream."""
        role, network = role_of(self.base_role), self.network(run)
        backbone = partial(make_backbone, network, share_of(self.base_role, run))
        return nn.ModuleDict(
            {
                "backbone": initialised(backbone, seed, role.weights_of or self.base_role),
                "classifier": self.new_classifier(run, seed),
            }
        )

    @property
    def classifier_stream(self) -> str:
        """Of the classifier's initial weights."""
        return f"{self.base_role} classifier"

    def new_classifier(self, run: Settings, seed: int) -> nn.Module:
        """The role's classifier, untrained."""
        kind, dim = role_of(self.base_role).classifier, self.network(run).dim
        make = partial(make_classifier, kind, dim, self.images(run), self.recipe(run))
        return initialised(make, seed, self.classifier_stream)

    def placement(self, run: Settings, seed: int) -> dict[str, Any]:
        """What a method's `fit` is told besides its parts: the role's own streams, images and recipe."""
        return {
            "images": self.images(run),
            "recipe": self.recipe(run).recipe(),
            "seed": seed,
            "role": self.base_role,
            "label_smoothing": run.training.label_smoothing,
            "augment": augment(run, self.images(run)),
        }

    def backbone(self, parts: nn.ModuleDict, width: float = 1.0) -> nn.Module:
        """The only one."""
        return parts["backbone"]


@dataclass(frozen=True)
class Base(RoleModel):
    """A base model of a role, trained apart: a name in `roles.ROLES`.

    Raises:
        ValueError: there is no such role.
    """

    role: str
    behaviours = ("independent",)

    def __post_init__(self) -> None:
        role_of(self.role)

    @property
    def base_role(self) -> str:
        """The role itself."""
        return self.role

    @property
    def name(self) -> str:
        """The role's."""
        return self.role

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By `methods.independent`."""
        return independent.fit(**parts, **self.placement(run, seed), **placement)


Report = Callable[[float, str], None]
