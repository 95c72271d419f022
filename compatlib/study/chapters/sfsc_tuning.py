"""Tuning for the chapter *SFSC*: the learning rate of every loss and the evidential loss's logit scale.

One seed apart from the study's, a third of the epochs, the nine tenths of the training images that are kept, tested on
the tenth that is held out. A loss is tuned in its training without projection; the projected one takes the same values.
A candidate is judged by rank 1, in the mean of self-tests and cross-tests. Of the rates within half a point of the best
the lowest is taken; the logit scale is that of the best. Test images have no part in it.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pandas as pd

from compatlib.study import rows, sidecars, switchables, tuning
from compatlib.study.chapters import sfsc
from compatlib.study.parallel import Task, train_all
from compatlib.study.settings import Settings
from compatlib.study.switchable_models import SWITCHABLE_MODULES
from compatlib.study.switchable_rows import FULL_GALLERY, MEAN, OWN_GALLERIES, SwitchableTests, method_rows
from compatlib.study.switchables import BCT_S, SWITCHABLE, Trained
from compatlib.study.tuning import Tuned

CHAPTER = "sfsc_tuning"
TUNED = ("joint", "Asymmetric-S", BCT_S, "BCT-S + uncertainty")
RATES = (0.05, 0.1, 0.2, 0.4, 0.8)
LOGIT_SCALES = (1.0, 4.0, 16.0)


class Knobs(sfsc.Knobs):
    """What is not tuned, such as the widths; a profile's own for this tuning, not those that were chosen by it."""

    chapter: ClassVar[str] = CHAPTER


@dataclass(frozen=True)
class Candidate:
    """A training with one learning rate, and of the evidential loss one logit scale."""

    method: str
    rate: float
    scale: float | None = None

    @property
    def name(self) -> str:
        """For people, progress and sidecars."""
        return f"{self.method}, rate {self.rate:g}" + ("" if self.scale is None else f", logit scale {self.scale:g}")

    def run(self, run: Settings) -> Settings:
        """The run with this candidate's values."""
        values = {switchables.rate_of(self.method): self.rate}
        values |= {} if self.scale is None else {"logit_scale": self.scale}
        return run.model_copy(update={"knobs": run.knobs.model_copy(update=values)})


def candidates() -> list[Candidate]:
    """Every loss with every rate, the evidential one with every scale too."""
    return [Candidate(method, rate, scale) for method in TUNED for scale in _scales(method) for rate in RATES]


def _scales(method: str) -> tuple[float | None, ...]:
    return LOGIT_SCALES if SWITCHABLE.get(method, ("",))[0] == "evidential" else (None,)


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, tuning.__name__, *sfsc.STUDY)
    return sidecars.version_of(
        tuning.validation(run, shortened=3), modules, measured_by=sfsc.CODE, trained_by=SWITCHABLE_MODULES
    )


def judged(tuned: rows.Rows) -> pd.Series:
    """What a candidate is chosen by, the highest the best: by (method, logit scale, rate), mean over seeds."""
    found = tuned.of(query_model=MEAN, gallery_model=[OWN_GALLERIES, FULL_GALLERY], metric="cmc@1")
    return found.groupby(["method", "variant", "x"])["value"].mean()


def is_chosen(run: Settings, method: str, scale: str, rate: float) -> bool:
    """Whether a run trains the method with these values."""
    own = run.knobs
    return own.learning_rate(method) == rate and (not scale or own.logit_scale == float(scale))


def measure(run: Settings) -> Tuned:
    """Train every candidate, and test on the held-out images."""
    tuned = tuning.validation(run, shortened=3)
    train_all([_task(tuned, candidate, seed) for seed in tuned.seeds for candidate in candidates()])
    records, sidecar = [], {}
    for seed in tuned.seeds:
        begun, found = time.monotonic(), {}
        for candidate in candidates():
            tests = SwitchableTests(candidate.run(tuned), seed, CHAPTER)
            place = {"variant": "" if candidate.scale is None else f"{candidate.scale:g}"}
            place |= {"x_name": "learning rate", "x": candidate.rate}
            records += [record | place for record in method_rows(tests, candidate.method, "closed")]
            (found[candidate.name],) = tests.artifacts.values()
        about = sidecars.description(tuned, version(run), found, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
    return Tuned(rows.Rows(rows.table(records), sidecar), {})


def _task(tuned: Settings, candidate: Candidate, seed: int) -> Task:
    run, what = candidate.run(tuned), Trained(candidate.method)
    return Task(f"{candidate.name}, seed {seed}", partial(sfsc.train, run, what, seed), switchables.work(run, what))
