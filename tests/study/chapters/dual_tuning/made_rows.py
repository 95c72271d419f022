"""The chapter's rows made by hand: three seeds of D1, the sweeps for the first."""

import pandas as pd

from compatlib.study.chapters.dual_tuning.plan import (
    DUAL,
    FEW,
    HALFWAY,
    HEADLINE,
    IN_RANDOM_ORDER,
    METHODS,
    ON_OUTLIERS,
    OTHER_HEAD,
    OTHER_LOSS,
    OUTLIERS,
    OWN,
    PARTS,
    RELEASE,
    SHARE_OF_OUTLIERS,
    WEIGHTS,
)
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows
from tests.study.lab.figures.made import SCORES, SUBSETS, made

CLASSES, UNSEEN = {"split": "class-incremental"}, {"split": "open-set"}
CROSS, SELF, OLD = pair("new", "old"), pair("new", "new"), pair("old", "old", method="independent")
FLIPS = {"metric": "negative_flips", "subset": SUBSETS, **CROSS}
SHARES = (0.0, 0.5, 1.0)
ALL = {"subset": "all", "metric": SCORES["metric"]}


def tests(methods: tuple[str, ...], **place) -> list[dict]:
    """What table D1 is made of."""
    cells = [{**test, "method": methods, **SCORES} for test in (CROSS, SELF)] + [{**FLIPS, "method": methods}]
    return [place | cell for cell in (*cells, {**OLD, **SCORES})]


def dual() -> Rows:
    """All tables."""
    plain, chances = {**CLASSES, "variant": OWN}, tuple(f"change of {metric}" for metric in SCORES["metric"])
    main = tests(METHODS, **plain)
    main += [
        {**plain, **CROSS, "method": HALFWAY, **ALL},
        {**plain, **SELF, "method": METHODS, "subset": "all", "metric": ("dead_coordinates", "zero_vectors")},
        {**plain, "query_model": "new", "gallery_model": ("old", "new"), "method": METHODS, "subset": "all"}
        | {"metric": "top_share"},
        {**plain, **pair("new", "old means"), "method": METHODS, "subset": SUBSETS, "metric": "cmc@1"},
        {**plain, **pair("old", "old means"), "method": "independent", "subset": SUBSETS, "metric": "cmc@1"},
    ]
    swept = tests(FEW, **CLASSES, variant=f"{OWN};{OTHER_LOSS}") + tests(HEADLINE, **CLASSES, variant=OTHER_HEAD)
    swept += tests(FEW, **UNSEEN, variant=OWN)
    swept += [{**CLASSES, "variant": RELEASE, **test, "method": tuple(PARTS), **SCORES} for test in (CROSS, SELF)]
    for name, weights in WEIGHTS.items():
        place = {**CLASSES, "variant": RELEASE, "method": DUAL, "x_name": name, "x": weights}
        swept += [{**place, **test, **ALL} for test in (CROSS, SELF)]
    for split in (CLASSES, UNSEEN):
        place = {**split, "variant": IN_RANDOM_ORDER, **pair("new", "mixed"), "method": HEADLINE, "subset": "all"}
        areas = tuple(f"auc {metric}" for metric in SCORES["metric"])
        swept += [{**place, "metric": SCORES["metric"], "x_name": SHARE, "x": SHARES}, {**place, "metric": areas}]
    place = {**plain, "x_name": SHARE_OF_OUTLIERS}
    for methods, each in ((ON_OUTLIERS[1:], (CROSS, SELF)), (("independent",), (pair("old", "old"),))):
        for test in each:
            swept.append({**place, **test, "method": methods, **ALL, "x": tuple(OUTLIERS)})
            swept.append({**place, **test, "method": methods, "subset": "all", "metric": chances, "x": (0.2, 0.4)})
    frames = made(*main, distance="cosine").frame, made(*swept, seeds=(0,), distance="cosine").frame
    return Rows(pd.concat(frames), {})
