"""Trials beside *SFSC*'s tuning: a rate past its grid, other weights of the divergence, conflicts at other rates.

Trained and tested as the tuning's candidates are: one seed apart from the study's, a third of the epochs, held-out
training images; where two rates lie close together there, also for all epochs. Test images have no part in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from compatlib.study.chapters.sfsc.plan import FULL, widths_of
from compatlib.study.chapters.sfsc.tuning import Knobs, candidate
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter, validation
from compatlib.study.lab.images import CLOSED
from compatlib.study.lab.measures import gradients
from compatlib.study.lab.trainables.widths import BCT_S, JOINT, SWITCHABLE, rate_of
from compatlib.study.settings import Settings, load_profile

UNCERTAIN = "BCT-S + uncertainty"


@dataclass(frozen=True)
class Trial:
    """A candidate that the tuning has not, or one whose gradients are looked at.

    scale, kl_weight: of the evidential loss; None for the run's. is_long: trained for all epochs, as in the study, and
    not for a third of them.
    """

    method: str
    rate: float
    scale: float | None = None
    kl_weight: float | None = None
    is_long: bool = False

    @property
    def variant(self) -> str:
        """What its rows have in this column: its values besides the learning rate."""
        words = [f"{name} {value:g}" for name, value in self._named if value is not None]
        return ", ".join(words + (["all epochs"] if self.is_long else []))

    @property
    def _named(self) -> tuple[tuple[str, float | None], ...]:
        return ("logit scale", self.scale), ("KL weight", self.kl_weight)

    @property
    def values(self) -> dict[str, float]:
        """Of the evidential loss, by knob."""
        found = {"logit_scale": self.scale, "kl_weight": self.kl_weight}
        return {name: value for name, value in found.items() if value is not None}


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


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every trial; of its gradients, what they did over the whole training."""
    all_epochs = load_profile(run.profile)["training"]["epochs"]
    for trial in TRIALS:
        changes: dict[str, Any] = {"training.epochs": all_epochs} if trial.is_long else {}
        yield from candidate(run, trial.method, trial.rate, trial.values, trial.variant, **changes)
        if trial.method in SWITCHABLE:
            space = widths_of(run, trial.method, CLOSED)[FULL]
            place = {"variant": trial.variant, "x_name": "learning rate", "x": trial.rate}
            looked_at = case(space, space, gradients, split=CLOSED, method=trial.method, **place)
            own = {rate_of(trial.method): trial.rate, **trial.values}
            yield from under([looked_at], {f"knobs.{name}": value for name, value in own.items()} | changes)


CHAPTER = Chapter("sfsc_trials", Knobs, cases, partial(validation, shortened=3), is_published=False)
