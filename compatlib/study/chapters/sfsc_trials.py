"""Trials beside *SFSC*'s tuning: a rate past its grid, other weights of the divergence, conflicts at other rates.

Trained and tested as the tuning's candidates are: one seed apart from the study's, a third of the epochs, held-out
training images; where two rates lie close together there, also for all epochs. Test images have no part in them.
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from compatlib.study import rows, sidecars, switchables, tuning
from compatlib.study.chapters import sfsc, sfsc_tuning
from compatlib.study.chapters.sfsc_tuning import Candidate
from compatlib.study.parallel import Task, train_all
from compatlib.study.settings import Settings
from compatlib.study.switchable_models import SWITCHABLE_MODULES
from compatlib.study.switchable_rows import SwitchableTests, gradient_rows, method_rows
from compatlib.study.switchables import BCT_S, JOINT, Trained
from compatlib.study.tuning import Tuned

CHAPTER = "sfsc_trials"
Knobs = sfsc_tuning.Knobs  # what was chosen by the tuning has no part in the trials either
UNCERTAIN = "BCT-S + uncertainty"


@dataclass(frozen=True)
class Trial(Candidate):
    """A candidate that the tuning has not, or one whose gradients are looked at.

    kl_weight: of the evidential loss's divergence; None for the published re-implementation's.
    is_long: trained for all epochs, as in the study, and not for a third of them.
    """

    kl_weight: float | None = None
    is_long: bool = False

    @property
    def name(self) -> str:
        """For people, progress and sidecars."""
        weight = "" if self.kl_weight is None else f", KL weight {self.kl_weight:g}"
        return super().name + weight + (", all epochs" if self.is_long else "")

    @property
    def variant(self) -> str:
        """What its rows have in this column: its values besides the learning rate."""
        return self.name.removeprefix(f"{self.method}, rate {self.rate:g}").removeprefix(", ")

    def run(self, run: Settings) -> Settings:
        """The run with this trial's values, on held-out training images."""
        tuned = super().run(tuning.validation(run, shortened=1 if self.is_long else 3))
        values = {} if self.kl_weight is None else {"kl_weight": self.kl_weight}
        return tuned.model_copy(update={"knobs": tuned.knobs.model_copy(update=values)})


TRIALS = (
    # Twice the last rate of the grid, where the last was the best.
    Trial(JOINT, 1.6),
    Trial("Asymmetric-S", 1.6),
    # Two rates that lie close together after a third of the epochs.
    Trial(JOINT, 0.4, is_long=True),
    Trial(JOINT, 0.8, is_long=True),
    # Whether the divergence, whose weight was taken over, is what costs rank 1: without it, and with a hundredfold.
    Trial(UNCERTAIN, 0.4, 4.0, kl_weight=0.0),
    Trial(UNCERTAIN, 0.4, 4.0, kl_weight=0.05),
    # Whether there would be conflicts to project at a slow and at a fast rate.
    Trial(BCT_S, 0.05),
    Trial(BCT_S, 0.8),
)


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, sfsc_tuning.__name__, tuning.__name__, *sfsc.STUDY)
    return sidecars.version_of(
        tuning.validation(run, shortened=3), modules, measured_by=sfsc.CODE, trained_by=SWITCHABLE_MODULES
    )


def measure(run: Settings) -> Tuned:
    """Train every trial and test it on the held-out images; of its gradients, what they did over the whole training."""
    tuned = tuning.validation(run, shortened=3)
    train_all([_task(run, trial, seed) for seed in tuned.seeds for trial in TRIALS])
    records, sidecar = [], {}
    for seed in tuned.seeds:
        begun, found = time.monotonic(), {}
        for trial in TRIALS:
            tests = SwitchableTests(trial.run(run), seed, CHAPTER)
            place = {"variant": trial.variant, "x_name": "learning rate", "x": trial.rate}
            records += [record | place for record in method_rows(tests, trial.method, "closed")]
            whole = (each for each in gradient_rows(tests, trial.method, "closed") if "x_name" not in each)
            records += [record | place for record in whole]
            (found[trial.name],) = tests.artifacts.values()
        about = sidecars.description(tuned, version(run), found, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
    return Tuned(rows.Rows(rows.table(records), sidecar), {})


def _task(run: Settings, trial: Trial, seed: int) -> Task:
    tuned, what = trial.run(run), Trained(trial.method)
    return Task(f"{trial.name}, seed {seed}", partial(sfsc.train, tuned, what, seed), switchables.work(tuned, what))
