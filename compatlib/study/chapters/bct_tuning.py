"""Tuning for the chapter *BCT*: the weight of every method's compatibility term, chosen on held-out training images.

All methods are treated alike: one seed apart from the study's, a third of the epochs, the class-incremental split of
the nine tenths that are kept, tested on the tenth that is held out. Test images have no part in it. The best is the one
with the highest rank 1 of new / old.
"""

import time
from functools import partial
from typing import Any, Literal

import pandas as pd

from compatlib.study import rows, sidecars, tuning, upgrades
from compatlib.study.chapters import bct
from compatlib.study.scoring import score_rows
from compatlib.study.seed_tests import SeedTests
from compatlib.study.settings import Knobs as BaseKnobs
from compatlib.study.settings import Settings
from compatlib.study.tuning import Tuned
from compatlib.study.upgrades import Upgrade

CHAPTER = "bct_tuning"
WEIGHTS = {
    "L2": (1.0, 10.0, 100.0),
    "CE + distance": (1.0, 3.0, 10.0),
    "triplet": (0.3, 1.0, 3.0, 10.0),
    "triplet, raw": (0.1, 0.3, 1.0, 3.0),
    "contrastive": (0.3, 1.0, 3.0, 10.0),
    "distillation": (0.3, 1.0, 3.0, 10.0),
    "BCT A": (0.3, 1.0, 3.0, 10.0),
    "BCT B": (0.3, 1.0, 3.0),
    "BCT C": (0.1, 0.3, 1.0, 3.0),
}


class Knobs(BaseKnobs):
    """The distance that the weights are chosen for."""

    distance: Literal["cosine", "euclidean"] = "cosine"


def validation(run: Settings) -> Settings:
    """The run with a third of its epochs, on held-out training images; its seeds are apart from the study's."""
    return tuning.validation(run, shortened=3)


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, tuning.__name__, *bct.STUDY)
    return sidecars.version_of(validation(run), modules, measured_by=bct.CODE, trained_by=bct.TRAINED_BY)


def judged(tuned: rows.Rows) -> pd.Series:
    """What a weight is chosen by, the highest the best: the score by (method, weight), mean over seeds."""
    found = tuned.of(query_model="new", gallery_model="old", subset="all", metric="cmc@1", x_name="weight")
    return found.groupby(["method", "x"])["value"].mean()


def measure(run: Settings) -> Tuned:
    """Train every method with every weight, and test on the held-out images."""
    tuned = validation(run)
    candidates = [Upgrade(method, weight=weight) for method, weights in WEIGHTS.items() for weight in weights]
    independent = Upgrade("independent")
    bct.train(tuned, {seed: [independent, *candidates] for seed in tuned.seeds})
    records, sidecar = [], {}
    for seed in tuned.seeds:
        begun, tests = time.monotonic(), SeedTests(tuned, seed, CHAPTER)
        for upgrade in (independent, *candidates):
            records += _rows(tests, upgrade)
        made = {upgrades.name_of(source): model.artifact for source, model in tests.models.items()}
        about = sidecars.description(tuned, version(run), made, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
    return Tuned(rows.Rows(rows.table(records), sidecar), {})


def _rows(tests: SeedTests, upgrade: Upgrade) -> list[dict[str, Any]]:
    split = "class-incremental"
    place = {"split": split, "variant": "validation", "method": upgrade.method}
    place |= {"x_name": "weight", "x": upgrade.weight} if upgrade.weight else {}
    pairs = {("new", "old"): (upgrade, upgrade.old), ("new", "new"): (upgrade, upgrade)}
    if upgrade.method == "independent":
        pairs["old", "old"] = upgrade.old, upgrade.old
    found = []
    for (query, gallery), sources in pairs.items():
        record = partial(tests.record, **place, query_model=query, gallery_model=gallery)
        found += score_rows(record, tests.test(*sources, split), tests.masks(split))
    return found
