"""Tuning for the chapter *FCT*: the recipes of side-information and of the transformation, on held-out training images.

A profile says where this tuning starts, and one value at a time is changed from there. What was chosen by it are the
chapter's own values in the same profile. Both transformations, without and with side-information, have one recipe, the
best at rank 1 of new / h(old) in the mean over both and over both distances. Test images have no part in it.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pandas as pd

from compatlib.study import rows, sidecars, tuning
from compatlib.study.chapters import fct
from compatlib.study.parallel import Task, train_all
from compatlib.study.settings import Settings
from compatlib.study.transformation_rows import CLASS_INCREMENTAL, WITH, WITHOUT, scored
from compatlib.study.transformation_tests import TransformationTests
from compatlib.study.transformations import TransformationKnobs, Transformed, own_side
from compatlib.study.tuning import Tuned

CHAPTER = "fct_tuning"
# Values by knob; a name with a dot is a value of a recipe.
VALUES = {
    "hidden_dim": (128, 256, 512, 1024),
    "views": (2, 4, 8),
    "transformation.epochs": (10, 20, 40, 80),
    "transformation.learning_rate": (5e-4, 2e-3, 5e-3),
    "temperature": (0.1, 0.2, 0.5),
    "side.learning_rate": (0.1, 0.2, 0.4),
    "side.epochs": (6, 12, 24),
}
SIDE_KNOBS = ("side.", "temperature")  # what a transformation has nothing to do with, but for its input


class Knobs(TransformationKnobs):
    """Where the tuning starts from."""

    chapter: ClassVar[str] = CHAPTER


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, tuning.__name__, *fct.STUDY)
    return sidecars.version_of(tuning.validation(run), modules, measured_by=fct.CODE, trained_by=fct.TRAINED_BY)


def changed(run: Settings, knob: str, value: float) -> Settings:
    """The run with one of its chapter's values changed."""
    name, _, part = knob.partition(".")
    own = getattr(run.knobs, name)
    value = own.model_copy(update={part: value}) if part else value
    return run.model_copy(update={"knobs": run.knobs.model_copy(update={name: value})})


def value_of(run: Settings, knob: str) -> float:
    """What the run has."""
    name, _, part = knob.partition(".")
    own = getattr(run.knobs, name)
    return getattr(own, part) if part else own


def judged(tuned: rows.Rows) -> pd.Series:
    """What a value is chosen by, the highest the best: the score by (knob, value), mean over seeds."""
    found = tuned.of(query_model="new", gallery_model="h(old)", subset="all", metric="cmc@1")
    return found.groupby(["x_name", "x"])["value"].mean()


def candidates(run: Settings) -> dict[tuple[str, float], Settings]:
    """The run with each value of each knob."""
    return {(knob, value): changed(run, knob, value) for knob, values in VALUES.items() for value in values}


def measure(run: Settings) -> Tuned:
    """Train with every value, and test on the held-out images."""
    tuned = tuning.validation(run)
    records, sidecar = [], {}
    train_all(_tasks(tuned))
    for seed in tuned.seeds:
        begun, artifacts = time.monotonic(), {}
        for (knob, value), each in candidates(tuned).items():
            tests = TransformationTests(each, seed, CHAPTER)
            records += _records(tests, knob, value)
            artifacts |= {f"{name}, {knob} {value:g}": artifact for name, artifact in tests.artifacts.items()}
        about = sidecars.description(tuned, version(run), artifacts, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
    return Tuned(rows.Rows(rows.table(records), sidecar), {})


def _tasks(tuned: Settings) -> list[Task]:
    """Every model once: most candidates share their side-information with the profile's own values."""
    found: dict[str, Task] = {}
    for seed in tuned.seeds:
        for (knob, value), each in {("", 0): tuned, **candidates(tuned)}.items():
            of_side = knob.startswith(SIDE_KNOBS)
            is_own = not knob or value == value_of(tuned, knob)
            for task in fct.tasks(each, seed, [Transformed(), Transformed(own_side(each))]):
                depends = task.stage > 0 or (of_side and "SimCLR" in task.name)
                words = f", {knob} {value:g}" if depends and not is_own else ""
                found.setdefault(task.name + words, replace(task, name=task.name + words))
    return list(found.values())


def _records(tests: TransformationTests, knob: str, value: float) -> Iterator[dict[str, Any]]:
    side, new, masks = own_side(tests.run), tests.embeddings("new"), tests.masks()
    own = tests.embeddings(side)
    place = {"split": CLASS_INCREMENTAL, "variant": "validation", "x_name": knob, "x": float(value)}
    for method, query, gallery, sides in (
        (WITHOUT, "new", "h(old)", (new, tests.transformed(Transformed()))),
        (WITH, "new", "h(old)", (new, tests.transformed(Transformed(side)))),
        (WITH, "side", "side", (own, own)),
    ):
        record = partial(tests.record, method=method, query_model=query, gallery_model=gallery, **place)
        yield from scored(tests, record, *sides, masks)
