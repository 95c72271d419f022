"""The chapter's rows made by hand: three seeds of what claims need, the sweeps for the first."""

import pandas as pd

from compatlib.study.chapters.bct.plan import CHAIN, FORMS, METHODS, WEIGHTS
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.rows import Rows
from tests.study.lab.figures.made import SCORES, SUBSETS, made

CLASSES, SAMPLES = {"split": "class-incremental"}, {"split": "sample-incremental"}
CROSS, SELF, OLD = pair("new", "old"), pair("new", "new"), pair("old", "old", method="independent")
FLIPS = {"metric": "negative_flips", "subset": SUBSETS, **CROSS}
MADE_FORMS, NAMES = ("BCT B", "BCT C"), ("real rows", "made rows")


def tests(methods: tuple[str, ...], **place) -> list[dict]:
    """What table B1 is made of."""
    cells = [{**test, "method": methods, **SCORES} for test in (CROSS, SELF)] + [{**FLIPS, "method": methods}]
    return [place | cell for cell in (*cells, {**OLD, **SCORES})]


def bct() -> Rows:
    """All tables."""
    methods, unseen = tuple(METHODS), {"subset": "all", "metric": SCORES["metric"]}
    rates = tuple(f"{name} {rate}" for name in ("fixed", "transferred") for rate in ("TAR", "FAR"))
    plain = [
        {**CROSS, "method": methods, "subset": SUBSETS, "metric": ("cosine", *rates)},
        {**CROSS, "method": methods, "subset": "all", "metric": "top_share"},
        {**SELF, "method": methods, "subset": "all", "metric": ("dead_coordinates", "zero_vectors")},
        {**pair("new", "old means"), "method": methods, "subset": SUBSETS, "metric": "cmc@1"},
        {**pair("old", "old means"), "method": "independent", "subset": SUBSETS, "metric": "cmc@1"},
        {"method": MADE_FORMS, "query_model": NAMES, "gallery_model": NAMES, "metric": ("norm", "cosine")},
    ]
    for forms, subsets in ((FORMS, "known"), (MADE_FORMS, "unknown")):
        judged = {"method": forms, "query_model": ("old", "new"), "gallery_model": "classifier", "subset": subsets}
        plain.append({**judged, "metric": ("classified", "influence loss", "into made rows")})
    chain = {"split": "three generations", "query_model": tuple(CHAIN), "gallery_model": tuple(CHAIN)}
    chain |= {"method": ("independent", "BCT A"), "subset": "all", "metric": SCORES["metric"]}
    swept = [cell for change in CHANGES for cell in tests(("independent", "BCT A"), **CLASSES, variant=change)]
    for split, forms in (("class-incremental", ("BCT A", "BCT C")), ("open-set", ("BCT A",))):
        place = {"split": split, "x_name": "weight", **unseen}
        swept += [{**place, **test, "method": forms, "x": WEIGHTS} for test in (CROSS, SELF)]
        swept += [{**place, **test, "method": "independent", "x": 0.0} for test in (CROSS, SELF, OLD)]
    claimed = tests(methods, **CLASSES) + tests(("independent", "BCT C"), **SAMPLES)
    seeds = made(*claimed, *(CLASSES | cell for cell in plain), chain, distance="cosine")
    return Rows(pd.concat([seeds.frame, made(*swept, seeds=(0,), distance="cosine").frame]), {})
