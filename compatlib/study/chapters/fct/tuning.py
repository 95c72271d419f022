"""Tuning for the chapter *FCT*: the recipes of side-information and of the transformation, on held-out training images.

A profile says where this tuning starts, and one value at a time is changed from there. What was chosen by it are the
chapter's own values in the same profile. Both transformations, without and with side-information, have one recipe, the
best at rank 1 of new / h(old) in the mean over both and over both distances. Test images have no part in it.
"""

from collections.abc import Iterator
from typing import ClassVar

import pandas as pd

from compatlib.study.chapters.fct.plan import WITH, WITHOUT, pair_cases
from compatlib.study.lab.cases import Case, under
from compatlib.study.lab.experiment import Chapter, validation
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.spaces import H, Of, of_role
from compatlib.study.lab.trainables import Transformation, own_side
from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.settings import Settings

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
# Where heads are trained besides, on where the best stood at an end.
OF_HEADS = {
    "hidden_dim": (64,),
    "views": (1,),
    "temperature": (0.02, 0.05),
    "side.learning_rate": (0.8,),
    "side.epochs": (48,),
}


class Knobs(TransformationKnobs):
    """Where the tuning starts from."""

    chapter: ClassVar[str] = "fct_tuning"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every value of every knob."""
    side, new = own_side(run), of_role("new")
    for knob in VALUES:
        for value in values_of(run, knob):
            place = {"variant": "validation", "x_name": knob, "x": float(value)}
            without = pair_cases(WITHOUT, {("new", "h(old)"): (new, H(Transformation()))}, **place)
            pairs = {("new", "h(old)"): (new, H(Transformation(side))), ("side", "side"): (Of(side), Of(side))}
            for each in (without, pair_cases(WITH, pairs, **place)):
                yield from under(each, {f"knobs.{knob}": value})


def values_of(run: Settings, knob: str) -> tuple[float, ...]:
    """What is tried of a knob, ascending."""
    return tuple(sorted((*VALUES[knob], *(OF_HEADS.get(knob, ()) if run.encoders else ()))))


def judged(tuned: Rows) -> pd.Series:
    """What a value is chosen by, the highest the best: the score by (knob, value), mean over seeds."""
    found = tuned.of(query_model="new", gallery_model="h(old)", subset="all", metric="cmc@1")
    return found.groupby(["x_name", "x"])["value"].mean()


CHAPTER = Chapter("fct_tuning", Knobs, cases, validation, is_published=False)
