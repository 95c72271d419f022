"""CMP-NAS's second level: super-networks against a gallery model, searches of their paths, networks that these find."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from compatlib.data.images import Images
from compatlib.methods import cmp_nas
from compatlib.methods.architecture_search import REWARDS, Evolution
from compatlib.methods.path_scores import Judge
from compatlib.models import supernet
from compatlib.models.resnet import Backbone
from compatlib.models.supernet import KINDS, SuperNet
from compatlib.study.lab import artifacts, behaviours
from compatlib.study.lab.images import augment, augmentation, calibration_images, search_images
from compatlib.study.lab.roles import make_classifier, share_of
from compatlib.study.lab.trainables.base import RoleModel, Trainable, differing
from compatlib.study.settings import Knobs, Settings, Training
from compatlib.training import Cost, Fit, initialised, one_device

ROLE = "query_open"  # whose images the super-network and every network of a path have
RANDOM = "random search"
SEARCHES = (*REWARDS, RANDOM)


class Blocks(Knobs):
    """The choice blocks of a super-network, as `SuperNet` takes them; middles are its default's."""

    widths: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (2, 3, 3)
    strides: tuple[int, ...] = (2, 2, 2)
    kinds: tuple[str, ...] = KINDS
    stem_width: int = 16
    stem_stride: int = 1

    def network(self, run: Settings) -> SuperNet:
        """An untrained super-network for the run's images, with the head of its networks."""
        one = share_of(ROLE, run)[0][0]
        place = {"in_channels": one.shape[0], "image_size": tuple(one.shape[1:])}
        return SuperNet(**self.model_dump(), dim=run.network.dim, head=run.network.head, **place)


class SearchKnobs(Knobs):
    """How super-networks are trained and searched; the defaults are SPOS's where it has some.

    blocks: of the super-network. supernet, query: recipes of its training, and of a path's by itself. evolution: sizes
    of a search. paths, alone: random paths that are scored with its weights, and how many of them are trained by
    themselves. calibration, searched: images by which BatchNorm is recalibrated, and those that a path is judged by.
    search_precision: of both.
    """

    blocks: Blocks = Blocks()
    supernet: Training = Training(epochs=120, batch_size=1024, learning_rate=0.5, weight_decay=4e-5)
    query: Training = Training(epochs=240, batch_size=1024, learning_rate=0.5, weight_decay=4e-5)
    evolution: Evolution = Evolution()
    paths: int = Field(100, ge=2)
    alone: int = Field(20, ge=2)
    calibration: int = Field(2_000, ge=1)
    searched: int = Field(3_000, ge=1)
    search_precision: Literal["float32", "bfloat16"] = "float32"


def _trained(run: Settings, recipe: Training) -> dict[str, Any]:
    """What the keys of a super-network and of a network of one path have in common."""
    return {
        "blocks": differing(run.knobs.blocks.model_dump(mode="json"), Blocks().model_dump(mode="json")),
        "embedding": [run.network.dim, run.network.head],
        "training": recipe.model_dump(mode="json"),
        "augmentation": augmentation(run),
        "weight": 1.0,
    }


@dataclass(frozen=True)
class SuperNetwork(Trainable):
    """A super-network trained against a gallery model, every step one path.

    gallery: the gallery model. draw: 0, or the number of another one, from streams of its own.
    """

    gallery: Trainable
    draw: int = 0
    kind = "super-network"
    behaviours = ("cmp-nas", "supernet")
    is_published = False

    @property
    def name(self) -> str:
        """Such as "super-network against gallery_open"."""
        return f"super-network{f' {self.draw + 1}' if self.draw else ''} against {self.gallery.name}"

    @property
    def parents(self) -> tuple[Trainable, ...]:
        """The gallery model."""
        return (self.gallery,)

    @property
    def stream(self) -> str:
        """Of weights, order, augmentation and paths."""
        return f"super-network {self.draw}"

    def images(self, run: Settings) -> Images:
        """A query model's."""
        return share_of(ROLE, run)

    def settings(self, run: Settings) -> dict[str, Any]:
        """Stream, blocks, recipe and augmentation."""
        return {"stream": self.stream, **_trained(run, run.knobs.supernet)}

    def work(self, run: Settings) -> float:
        """Images times epochs."""
        return len(self.images(run)) * run.knobs.supernet.epochs

    def build(self, run: Settings, seed: int) -> nn.ModuleDict:
        """The network and a classifier of all its paths."""
        make = partial(make_classifier, "linear", run.network.dim, self.images(run), run.knobs.supernet)
        network = initialised(partial(run.knobs.blocks.network, run), seed, self.stream)
        return nn.ModuleDict({"network": network, "classifier": initialised(make, seed, f"{self.stream} classifier")})

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By `cmp_nas.fit_supernet`."""
        (gallery,) = parents
        images, recipe = self.images(run), run.knobs.supernet
        told = {"gallery_classifier": gallery.parts["classifier"], "augment": augment(run, images), "role": self.stream}
        told |= {"label_smoothing": recipe.label_smoothing, **placement}
        return cmp_nas.fit_supernet(**parts, images=images, recipe=recipe.recipe(), seed=seed, **told)


class FoundPath(nn.Module):
    """A path as what is kept of a search: every block's choice by its number."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.register_buffer("choices", torch.zeros(blocks, dtype=torch.int64))

    def path(self, network: SuperNet) -> supernet.Path:
        """In the network's words."""
        return tuple(network.choices[place] for place in self.choices.tolist())


@dataclass(frozen=True)
class PathSearch(Trainable):
    """A search of a super-network's paths; its history is kept with what it found.

    All searches of one super-network share the scores of paths, so that no path is judged twice. After an interruption
    it goes on with the scores that it has.

    network: which is searched. by: a reward, or `RANDOM`. cap: most operations of one image in millions; None for none.
    paths: in place of a search by generations, so many are drawn at random in one. is_recalibrated: whether BatchNorm's
    statistics are taken anew for every path.

    Raises:
        ValueError: an unknown reward, or a cap or a number of paths that is not positive.
    """

    network: SuperNetwork
    by: str
    cap: float | None = None
    paths: int | None = None
    is_recalibrated: bool = True
    kind = "search"
    behaviours = ("evolution",)

    def __post_init__(self) -> None:
        if self.by not in SEARCHES:
            raise ValueError(f"unknown reward {self.by!r}; choose one of {SEARCHES}")
        for name in ("cap", "paths"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; valid are numbers above 0, or None")

    @property
    def name(self) -> str:
        """Such as "search by R2 up to 6 MFLOPs in super-network against gallery_open"."""
        what = f"search by {self.by}" if self.paths is None else f"{self.paths} random paths"
        cap = "" if self.cap is None else f" up to {self.cap:g} MFLOPs"
        return f"{what}{cap} in {self.network.name}{'' if self.is_recalibrated else ', not recalibrated'}"

    @property
    def parents(self) -> tuple[Trainable, ...]:
        """The gallery model and the super-network."""
        return (self.network.gallery, self.network)

    def evolution(self, run: Settings) -> Evolution:
        """Sizes of the search."""
        if self.paths is None:
            return run.knobs.evolution
        return Evolution(population=self.paths, generations=1, crossovers=0, mutations=0)

    def judged(self, run: Settings) -> dict[str, Any]:
        """How a path is judged; of all searches that agree in it the scores are shared."""
        calibration = run.knobs.calibration if self.is_recalibrated else 0
        return {"calibration": calibration, "searched": run.knobs.searched, "scored in": run.knobs.search_precision}

    def images(self, run: Settings) -> Images:
        """Those that paths are judged by, of classes that nothing else has."""
        return search_images(run)

    def settings(self, run: Settings) -> dict[str, Any]:
        """Reward, cap, sizes, and how a path is judged."""
        sizes = differing(asdict(self.evolution(run)), asdict(Evolution()))
        return {"by": self.by, "cap": self.cap, "evolution": sizes, **self.judged(run)}

    def work(self, run: Settings) -> float:
        """Images that the paths embed; a third of a step of training each."""
        sizes = self.evolution(run)
        count = len(self.images(run)) + (run.knobs.calibration if self.is_recalibrated else 0)
        return sizes.population * sizes.generations * count / 3

    def build(self, run: Settings, seed: int) -> FoundPath:
        """No path yet."""
        return FoundPath(sum(run.knobs.blocks.blocks))

    def fit(
        self,
        run: Settings,
        seed: int,
        parts: FoundPath,
        parents: Sequence[Any],
        checkpoint: Path | None = None,
        report: Callable[[float, str], None] | None = None,
    ) -> Fit:
        """By `cmp_nas.evolve` or `random_search`; the history is the fit's."""
        gallery, made = parents
        network, images = made.parts["network"], self.images(run)
        calibration = calibration_images(run) if self.is_recalibrated else None
        judge = Judge(
            network,
            images,
            gallery.backbone(),
            calibration,
            precision=run.knobs.search_precision,
            record=None if checkpoint is None else checkpoint.with_name(f"scores-{self.scored(run, made.key)}.json"),
        )
        by_reward = self.by in REWARDS and self.paths is None
        search = partial(cmp_nas.evolve, reward=self.by) if by_reward else cmp_nas.random_search
        most = float("inf") if self.cap is None else 1e6 * self.cap
        found = search(judge, most, seed=seed, evolution=self.evolution(run), report=report)
        parts.choices.copy_(torch.tensor([network.choices.index(choice) for choice in found.best]))
        seconds = sum(row["seconds"] for row in found.history)
        seen = len(found.history) * (len(images) + (0 if calibration is None else len(calibration)))
        return Fit(found.history, Cost(seconds, seen / seconds, str(one_device().device), 1))

    def scored(self, run: Settings, network: str) -> str:
        """What tells the scores of a super-network's paths, by its key, from others: 16 hexadecimal digits."""
        content = {"network": network, **self.judged(run), "behaviours": behaviours.versions(["path scores"])}
        return artifacts.key_of(content | {"images": self.images(run).digest()})[:16]


@dataclass(frozen=True)
class Architecture:
    """A path of a super-network: one choice in every block, or what a search found.

    choice: such as `3@0.5`. search: whose best path it is. number: of its history's paths, from 1, not of the best.

    Raises:
        ValueError: both a choice and a search, neither, or a number below 1.
    """

    choice: str | None = None
    search: PathSearch | None = None
    number: int | None = None

    def __post_init__(self) -> None:
        if (self.choice is None) == (self.search is None) or (self.number is not None and self.number < 1):
            raise ValueError(f"{self} names a choice or a search, and of a search's paths one from number 1 on")

    @property
    def name(self) -> str:
        """Such as "3@0.5 throughout", or "path 4 of …"."""
        if self.search is None:
            return f"{self.choice} throughout"
        return f"{'the best' if self.number is None else f'path {self.number}'} of {self.search.name}"

    def path(self, network: SuperNet, search: Any = None) -> supernet.Path:
        """The path in a network's words; `search`: the `make.Made` search, where one found it.

        Raises:
            ValueError: the network has no such choice, or the search has judged fewer paths.
        """
        if self.search is None:
            return network.checked((self.choice,) * len(network.blocks))
        if self.number is None:
            return search.parts.path(network)
        history = search.artifact.about["history"]
        if self.number > len(history):
            raise ValueError(f"{self.search.name} has {len(history)} paths, not {self.number}; ask for one of these")
        return network.checked(history[self.number - 1]["path"].split())


@dataclass(frozen=True)
class OnPath(RoleModel):
    """A query network of one path, trained from scratch against a gallery model (level 1).

    All of a seed see the same images in the same order, and where two paths have the same choice its initial weights
    are the same: what differs is the architecture.
    """

    architecture: Architecture
    gallery: Trainable
    base_role = ROLE
    behaviours = ("cmp-nas", "supernet")

    @property
    def name(self) -> str:
        """Such as "query on 3@0.5 throughout against gallery_open"."""
        return f"query on {self.architecture.name} against {self.gallery.name}"

    @property
    def is_published(self) -> bool:  # type: ignore[override]
        """What a search chose is; random and hand-made networks are made for one table."""
        return self.architecture.search is not None and self.architecture.number is None

    @property
    def parents(self) -> tuple[Trainable, ...]:
        """The gallery model, and the search."""
        search = self.architecture.search
        return (self.gallery, *(() if search is None else (search,)))

    def recipe(self, run: Settings) -> Training:
        """That of a path by itself."""
        return run.knobs.query

    def settings(self, run: Settings) -> dict[str, Any]:
        """Blocks, recipe, augmentation and path; what a search found is its own key's."""
        chosen = {"choice": self.architecture.choice, "number": self.architecture.number}
        return {"stream": ROLE, **chosen, **_trained(run, self.recipe(run))}

    def work(self, run: Settings) -> float:
        """Images times epochs."""
        return len(self.images(run)) * self.recipe(run).epochs

    def built(self, run: Settings, seed: int, parents: Callable[[], Sequence[Any]]) -> nn.ModuleDict:
        """The path's network, cut out of an untrained super-network, and its classifier."""
        whole = initialised(partial(run.knobs.blocks.network, run), seed, ROLE)
        search = None if self.architecture.search is None else parents()[1]
        backbone: Backbone = whole.extract(self.architecture.path(whole, search))
        return nn.ModuleDict({"backbone": backbone, "classifier": self.new_classifier(run, seed)})

    def build(self, run: Settings, seed: int) -> nn.ModuleDict:
        """As `built`, where no search is asked.

        Raises:
            ValueError: a search found the path; only `built` is told which.
        """
        if self.architecture.search is not None:
            raise ValueError(f"{self.name} is what a search finds; `lab.make` builds it")
        return self.built(run, seed, tuple)

    def fit(self, run: Settings, seed: int, parts: nn.ModuleDict, parents: Sequence[Any], **placement: Any) -> Fit:
        """By `cmp_nas.fit_query`, own classifier and gallery classifier."""
        told = {**parts, **self.placement(run, seed), **placement}
        return cmp_nas.fit_query(**told, objective="both", gallery_classifier=parents[0].parts["classifier"])
