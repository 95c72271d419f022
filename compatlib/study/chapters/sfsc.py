"""Chapter *SFSC*: one training of several compatible sub-models, its halves and its baselines → rows."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from compatlib.study import models, rows, sidecars, switchable_models, switchables
from compatlib.study.measured import Measured
from compatlib.study.parallel import Task, train_all
from compatlib.study.scoring import chance_rows
from compatlib.study.settings import Settings, TableKnobs, tables
from compatlib.study.switchable_rows import SwitchableTests, cost_rows, gradient_rows, method_rows
from compatlib.study.switchables import APART, METHODS, ONE_TO_ONE, SPLITS, SwitchableKnobs, Trained

CHAPTER = "sfsc"
# S1 is measured for every seed, the others for the sweeps' seeds; S3 to S5 are drawn from what these measure.
TABLES = ("S1", "S2", "open")
# Other readings of the projection: against the full model's gradient alone, or every tensor by itself.
READINGS = ("SFSC, against the full model", "CE + projection, tensor by tensor", "SFSC, tensor by tensor")
OF_TABLE = {
    "S1": ("closed", (*APART, "joint", "Asymmetric-S", "BCT-S", "CE + projection", "SFSC")),
    "S2": ("closed", ("BCT-S + uncertainty", *READINGS)),
    "open": ("open-set", ("independent", "BCT-S", "SFSC")),
}
STUDY = (
    "compatlib.study.gradient_statistics",
    "compatlib.study.scoring",
    "compatlib.study.switchable_models",
    "compatlib.study.switchable_rows",
    "compatlib.study.switchables",
)
CODE = (
    "compatlib.data.splits",
    "compatlib.embedding",
    "compatlib.evaluation.chance",
    "compatlib.evaluation.retrieval",
)
TRAINED_BY = (*switchable_models.APART_MODULES, *switchable_models.SWITCHABLE_MODULES, "compatlib.methods.bct")


class Knobs(TableKnobs, SwitchableKnobs):
    """The page's own parameters: the tables to measure, such as "S1,open", the distance, and how is trained."""

    chapter: ClassVar[str] = CHAPTER
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    distance: Literal["cosine", "euclidean"] = "cosine"


def measure(run: Settings) -> Measured:
    """Train or load the sub-models of every seed, and measure the run's tables."""
    train_all([task for seed in run.seeds for task in tasks(run, seed)])
    records, sidecar, found = [], {}, {}
    for seed in run.seeds:
        begun, tests = time.monotonic(), SwitchableTests(run, seed, CHAPTER)
        records += _records(tests)
        about = sidecars.description(run, version(run), tests.artifacts, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
        found |= {f"{name}, seed {seed}": artifact for name, artifact in tests.artifacts.items()}
    return Measured(rows.Rows(rows.table(records), sidecar), found, sidecars.data_digests(run))


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    return sidecars.version_of(run, (__name__, *STUDY), measured_by=CODE, trained_by=TRAINED_BY)


def wanted(run: Settings, seed: int) -> list[tuple[str, str]]:
    """(split, method) of the tables that a seed has a part in."""
    own = [table for table in tables(run) if table == TABLES[0] or seed in run.sweep_seeds]
    found = [(split, method) for table in own for split, methods in [OF_TABLE[table]] for method in methods]
    return sorted(found, key=lambda each: (list(SPLITS).index(each[0]), METHODS.index(each[1])))


def tasks(run: Settings, seed: int) -> list[Task]:
    """What is to be trained for a seed: base models first, then what needs them or nothing."""
    found = []
    for split in dict.fromkeys(split for split, _ in wanted(run, seed)):
        role = SPLITS[split]
        found.append(Task(f"{role}, seed {seed}", partial(_train_base, run, role, seed), models.work(run, role)))
    for split, method in wanted(run, seed):
        for what in switchables.trainings(run, method, split):
            name, stage = f"{switchables.name_of(what)}, seed {seed}", int(method == ONE_TO_ONE)
            found.append(Task(name, partial(train, run, what, seed), switchables.work(run, what), stage))
    return found


def _train_base(run: Settings, role: str, seed: int, report: models.Report) -> bool:
    return models.base_model(run, role, seed, report=report)[1]


def train(run: Settings, what: Trained, seed: int, report: models.Report) -> bool:
    """Carry out a training or find what it gave; whether it was carried out."""
    return switchable_models.made(run, what, seed, report=report)[1]


def _records(tests: SwitchableTests) -> Iterator[dict[str, Any]]:
    planned = wanted(tests.run, tests.seed)
    for split, method in planned:
        yield from method_rows(tests, method, split)
        yield from cost_rows(tests, method, split)
        yield from gradient_rows(tests, method, split)
    for split in dict.fromkeys(split for split, _ in planned):
        labels = tests.images(split).labels
        yield from chance_rows(partial(tests.record, split=split), labels, {"all": np.ones(len(labels), bool)})
