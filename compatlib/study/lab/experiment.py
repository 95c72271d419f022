"""A chapter is its cases; what is measured of them, for every chapter alike."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab import class_scores, make, rows, sidecars
from compatlib.study.lab.artifacts import Artifact
from compatlib.study.lab.cases import BY_CLASS, Case
from compatlib.study.lab.images import data_digests
from compatlib.study.lab.parallel import Task, train_all
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.trainables import Base, Trainable
from compatlib.study.settings import Knobs, Settings

VALIDATION_SEED = 100


def unchanged(run: Settings) -> Settings:
    """The run itself."""
    return run


@dataclass(frozen=True)
class Chapter:
    """What a chapter measures.

    name: of its rows. knobs: its own parameters. cases: (run, seed) → the cases, the only source of its rows. prepared:
    the run as the cases see it. is_published: whether a reader gets the models; a tuning's are made for it alone.
    """

    name: str
    knobs: type[Knobs]
    cases: Callable[[Settings, int], Iterable[Case]]
    prepared: Callable[[Settings], Settings] = unchanged
    is_published: bool = True


@dataclass(frozen=True)
class Measured:
    """Rows of all seeds, the artifacts that they stand on by "name, seed s", digests of the images, the first seed.

    to_publish: those that a reader gets, of the run's published seeds. base_models: of roles alone, trained apart.
    """

    rows: rows.Rows
    artifacts: dict[str, Artifact]
    to_publish: dict[str, Artifact]
    base_models: dict[str, Artifact]
    data: dict[str, str]
    first: Seed


def validation(run: Settings, *, shortened: int = 1) -> Settings:
    """The run on held-out training images: nine tenths are trained on, the last is tested on; seeds of its own.

    Args:
        run: the run's settings.
        shortened: the base models' epochs are divided by it.
    """
    training = run.training.model_copy(update={"epochs": max(1, run.training.epochs // shortened)})
    seeds = tuple(VALIDATION_SEED + seed for seed in run.seeds)
    return run.model_copy(update={"validation": True, "training": training, "seeds": seeds})


def measure(chapter: Chapter, run: Settings) -> Measured:
    """Train or load all that the chapter's cases stand on, side by side, and ask what they ask."""
    run = chapter.prepared(run)
    plans = {seed: list(chapter.cases(run, seed)) for seed in run.seeds}
    train_all(tasks(run, plans))
    frames, sidecar, by_class, found, to_publish, first = [], {}, {}, {}, {}, None
    for number, cases in plans.items():
        begun, seed = time.monotonic(), Seed(run, number, chapter.name)
        records = [list(seed.rows([case])) for case in cases]
        made, group = artifacts(seed, cases), f"{run.profile}/{run.dataset}/{number}"
        by_class[group] = scores_by_class(row for each in records for row in each)
        frames += [row for each in records for row in each]
        about = sidecars.description(run, number, cases, records, made, time.monotonic() - begun)
        sidecar[group] = about
        found |= {f"{name}, seed {number}": each for name, each in made.items()}
        if chapter.is_published and (run.published_seeds is None or number in run.published_seeds):
            # One under other values has the name of another model.
            wanted = {what.name for what, _ in made.values()} if run.published_models is None else run.published_models
            given = {name: each for name, (what, each) in made.items() if what.is_published and name in wanted}
            to_publish |= {f"{name}, seed {number}": each for name, each in given.items()}
        first = first or seed
    return Measured(
        rows.Rows(rows.table(frames), sidecar, by_class),
        {name: artifact for name, (_, artifact) in found.items()},
        to_publish,
        {name: each for name, (what, each) in found.items() if isinstance(what, Base)},
        data_digests(run),
        first,
    )


def scores_by_class(records: Iterable[dict[str, Any]]) -> dict[str, ClassScores]:
    """Takes the class scores out of the records that have them; by the cell's name."""
    found = {}
    for row in records:
        scores = row.pop(BY_CLASS, None)
        if scores is not None:
            found[class_scores.cell_name(row, rows.CLASS_CELL)] = scores
    return found


def tasks(run: Settings, plans: Mapping[int, Sequence[Case]], models: Collection[str] = ()) -> list[Task]:
    """What is to be trained for these cases by seed, each model once, whichever cases share it.

    Args:
        run: the run's settings.
        plans: the cases by seed.
        models: names, without a seed; these and what they are made from. All where it is empty.

    Raises:
        ValueError: an unknown name; the valid ones are named.
    """
    found: dict[str, Task] = {}
    needed: dict[str, set[str]] = {}  # by the name of a model: keys
    for seed, cases in plans.items():
        for case in cases:
            own, words = case.run(run), changes_in_words(case.changes)
            whats = make.with_ancestors(case.trainables)
            keys = {what: make.key(own, what, seed) for what in whats}
            for task, what in zip(make.tasks(own, seed, case.trainables), whats, strict=True):
                key = keys[what]
                is_own = not words or key == make.key(run, what, seed)
                added = "" if is_own else words
                found.setdefault(key, Task(f"{task.name}{added}", task.train, task.work, task.stage))
                needed.setdefault(f"{what.name}{added}", set()).update(map(keys.get, make.with_ancestors([what])))
    if unknown := sorted(set(models) - set(needed)):
        raise ValueError(f"unknown model {unknown}; choose from {'; '.join(needed)}")
    wanted = set().union(*(needed[name] for name in models or needed))
    return [task for key, task in found.items() if key in wanted]


def artifacts(seed: Seed, cases: Iterable[Case]) -> dict[str, tuple[Trainable, Artifact]]:
    """What the cases stand on, by name: the trainable, and its artifact; parents that were not loaded are left out."""
    found = {}
    for case in cases:
        own, words = seed.under(case.changes), changes_in_words(case.changes)
        for what in case.trainables:
            found[f"{what.name}{words}"] = (what, own.made(what).artifact)
    return found


def changes_in_words(changes: Mapping[str, object]) -> str:
    """For names: ", views 2"; empty without changes."""
    values = {name: value if isinstance(value, bool | str) else f"{value:g}" for name, value in changes.items()}
    return "".join(f", {name.removeprefix('knobs.')} {value}" for name, value in values.items())
