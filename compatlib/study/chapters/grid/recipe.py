"""Three choices of the recipe, changed one at a time: what each does to BCT (form A) and to SFSC, on one seed.

The study keeps them as its published models were trained: a warm-up whose first step has the rate 0, Nesterov's
momentum, and logits under autocast. Every model of a case is trained by the changed recipe, the old one too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pandas as pd

from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN, OWN_GALLERIES, score_cases
from compatlib.study.chapters.sfsc.plan import Knobs as SwitchableKnobs
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.figures.cells import RANK_1_AND_MAP, pair
from compatlib.study.lab.figures.columns import Column, difference, level
from compatlib.study.lab.figures.tables import by, table
from compatlib.study.lab.images import CLASS_INCREMENTAL, CLOSED
from compatlib.study.lab.measures import scores
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Base, Upgrade
from compatlib.study.lab.trainables.widths import SFSC
from compatlib.study.lab.upgrade_cases import upgrade_cases
from compatlib.study.settings import Settings, changed

AS_PUBLISHED = "as published"
CHOICES = {
    AS_PUBLISHED: {},
    "warm-up from the first step": {"training.warmup_from_zero": False},
    "momentum without Nesterov's": {"training.nesterov": False},
    "logits in float32": {"training.logits": "float32"},
}


class Knobs(SwitchableKnobs):
    """SFSC's; those of its chapter in a profile."""

    chapter: ClassVar[str] = "sfsc"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """BCT's upgrade and SFSC's widths under every choice; where the run's own is the choice, nothing is trained."""
    old, new = Base("old"), Upgrade("BCT A")
    for words, changes in CHOICES.items():
        if changes and changed(run, changes) == run:
            continue
        place = {"split": CLASS_INCREMENTAL, "method": "BCT A", "distance": run.knobs.distance, "variant": words}
        before = case(Of(old), Of(old), scores, **pair("old", "old"), **place)
        yield from under([before, *upgrade_cases(run, "BCT A", old, new, variant=words)], changes)
        yield from under(score_cases(run, SFSC, CLOSED, variant=words), changes)


def upgrade_table(measured: Rows) -> pd.DataFrame:
    """BCT A under every choice, and the criterion's difference, in points."""
    tests = {name: pair(*name.split(" / ")) for name in ("old / old", "new / old", "new / new")}
    criterion = {
        f"new / old − old / old, {words} (points)": difference(
            {**tests["new / old"], "metric": metric}, {**tests["old / old"], "metric": metric}
        )
        for metric, words in RANK_1_AND_MAP.items()
    }
    return _by_choice(measured, "BCT A", tests, criterion)


def switchable_table(measured: Rows) -> pd.DataFrame:
    """SFSC under every choice, means over widths: on their own galleries, and on the full model's."""
    return _by_choice(measured, SFSC, {"self-test": pair(MEAN, OWN_GALLERIES), "on full": pair(MEAN, FULL_GALLERY)})


def _by_choice(
    measured: Rows, method: str, tests: Mapping[str, Mapping[str, Any]], more: Mapping[str, Column] | None = None
) -> pd.DataFrame:
    columns = {
        f"{title}, {words} (%)": level(**test, metric=metric)
        for metric, words in RANK_1_AND_MAP.items()
        for title, test in tests.items()
    }
    return table(measured, by("recipe", "variant", CHOICES), columns | (more or {}), method=method, subset="all")


CHAPTER = Chapter("recipe", Knobs, cases, is_published=False)
