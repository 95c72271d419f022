"""Tuning: runs that see training images only, apart from the study's seeds."""

from dataclasses import dataclass

from compatlib.study import rows
from compatlib.study.artifacts import Artifact
from compatlib.study.settings import Settings

SEED = 100


@dataclass(frozen=True)
class Tuned:
    """Rows of a tuning; none of its models is published."""

    rows: rows.Rows
    to_publish: dict[str, Artifact]


def validation(run: Settings, *, shortened: int = 1) -> Settings:
    """The run on held-out training images: nine tenths are trained on, the last is tested on; seeds of its own.

    Args:
        run: the run's settings.
        shortened: the base models' epochs are divided by it.
    """
    training = run.training.model_copy(update={"epochs": max(1, run.training.epochs // shortened)})
    seeds = tuple(SEED + seed for seed in run.seeds)
    return run.model_copy(update={"validation": True, "training": training, "seeds": seeds})
