"""Make what can be trained: the only place that computes a key, and loads a trainable or fits it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compatlib.study.lab import artifacts, behaviours
from compatlib.study.lab.artifacts import Artifact
from compatlib.study.lab.parallel import Task
from compatlib.study.lab.trainables import Trainable
from compatlib.study.lab.trainables.base import Report, differing
from compatlib.study.settings import Settings
from compatlib.training import Fit


@dataclass(frozen=True)
class Made:
    """A trainable's trained parts in eval mode, and the artifact that they came from."""

    what: Trainable
    parts: nn.Module
    artifact: Artifact

    @property
    def key(self) -> str:
        """The artifact's key."""
        return self.artifact.key

    def backbone(self, width: float = 1.0) -> nn.Module:
        """Images → (N, d); of several widths, the stand-alone sub-model of one."""
        return self.what.backbone(self.parts, width)


def behaviours_of(run: Settings, what: Trainable) -> dict[str, int]:
    """The numbers of the behaviours that decide a trainable in this run, without its parents'."""
    return behaviours.versions(what.behaviours, what.settings(run))


def key_content(run: Settings, what: Trainable, seed: int) -> dict[str, Any]:
    """All that the key of a trainable is made of; neither it nor its parents are trained for it."""
    return {
        "kind": what.kind,
        "seed": seed,
        "settings": differing(what.settings(run)),
        "data": what.images(run).digest(),
        "parents": [key(run, parent, seed) for parent in what.parents],
        "behaviours": behaviours_of(run, what),
    }


def key(run: Settings, what: Trainable, seed: int) -> str:
    """The key under which a trainable of a run and seed is kept."""
    return artifacts.key_of(key_content(run, what, seed))


def make(run: Settings, what: Trainable, seed: int, *, report: Report | None = None) -> tuple[Made, bool]:
    """The trained parts, and whether they had to be trained now; parents are made where a training needs them."""
    parents = cache(lambda: [make(run, parent, seed)[0] for parent in what.parents])
    parts = what.built(run, seed, parents)

    def fit(checkpoint: Path) -> Fit:
        return what.fit(run, seed, parts, parents(), checkpoint=checkpoint, report=report)

    name = f"{run.dataset} {what.name} {seed}"
    artifact, is_new = artifacts.load_or_fit(name, key_content(run, what, seed), parts, fit)
    parts.to(memory_format=torch.channels_last)
    return Made(what, parts, artifact), is_new


def with_ancestors(wanted: Iterable[Trainable]) -> list[Trainable]:
    """These and all that they are made from, each once, parents first."""
    found: dict[Trainable, None] = {}
    for what in wanted:
        found |= dict.fromkeys([*with_ancestors(what.parents), what])
    return list(found)


def tasks(run: Settings, seed: int, wanted: Iterable[Trainable], words: str = "") -> list[Task]:
    """What is to be trained for these, with all that they are made from; `words` are added to the names."""
    return [
        Task(f"{what.name}, seed {seed}{words}", partial(_train, run, what, seed), what.work(run), what.stage())
        for what in with_ancestors(wanted)
    ]


def _train(run: Settings, what: Trainable, seed: int, report: Report) -> bool:
    return make(run, what, seed, report=report)[1]
