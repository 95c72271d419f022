"""The chapter's rows made by hand: three seeds of a study, in which all tables were measured, and three of heads."""

import pandas as pd

from compatlib.study.chapters.cmp_nas.plan import (
    AS_LEFT,
    OBJECTIVES,
    PARAGON,
    PATH,
    PATH_AGAIN,
    PATH_LEFT,
    RANDOM_PATHS,
)
from compatlib.study.chapters.cmp_nas.tables import ALONE_RANKINGS, HAND_MADE, RANKINGS
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.measures.paths import JUDGED, LOSSES, TAU, TAU_ENDS, WITHIN
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.supernets import SEARCHES
from tests.study.lab.figures.made import METRICS, made

CAPS, PATHS, ALONE = ("cap=6", "cap=8"), 4, ("1", "2", "3")
CROSS, SELF = pair("query", "gallery"), pair("query", "query")
SCORES = {"subset": "all", "metric": METRICS, "distance": "cosine"}
COSTS = {"metric": ("flops", "training_seconds"), "distance": "cosine"}


def in_words(taus: pd.Series) -> str:
    """Of rank correlations the mean and half of the 95 % interval over three seeds."""
    half = 4.302653 * taus.std() / 3**0.5
    return f"{taus.mean():+.2f}\u00a0±\u00a0{half:.2f}"


def of_network(method: str, variant: str = "") -> list[dict]:
    """Both tests of a query network, its size and its training."""
    place = {"split": OPEN_SET, "method": method, "variant": variant}
    return [place | each for each in (CROSS | SCORES, SELF | SCORES, CROSS | COSTS)]


def level_1(*variants: str, cost: str = "flops") -> list[dict]:
    paragon = {"split": OPEN_SET, "method": PARAGON, **pair("gallery", "gallery"), "distance": "cosine"}
    found = [paragon | SCORES, paragon | {"metric": cost}, {"split": OPEN_SET, "method": "chance", **SCORES}]
    for variant in variants:
        found += [cell for method in OBJECTIVES for cell in of_network(method, variant)]
    return found


def history(method: str, query: str) -> list[dict]:
    place = {"split": SEARCHED, "method": method, "query_model": query, "subset": "all", "x_name": JUDGED}
    asked = {"metric": ("self_test", "cross_test", "flops")}
    return [place | asked | {"x": float(n), "variant": f"path=3@1 x@{n}"} for n in range(1, PATHS + 1)]


def level_2() -> list[dict]:
    found = [cell for query in (PATH, PATH_AGAIN, PATH_LEFT) for cell in history(RANDOM_PATHS, query)]
    tau = {"method": RANDOM_PATHS, "subset": "all", "metric": (TAU, *TAU_ENDS)}
    found += [tau | {"split": SEARCHED, "metric": TAU} | pair(*names) for names in RANKINGS.values()]
    for split, variant in ((split, variant) for split in (SEARCHED, OPEN_SET) for variant in ("", AS_LEFT)):
        names = list(ALONE_RANKINGS.values())[: 2 if variant else 3]
        found += [tau | {"split": split, "variant": variant, "distance": "cosine"} | pair(*each) for each in names]
    found += [
        {"split": OPEN_SET, "method": RANDOM_PATHS} | pair(each, other) | SCORES
        for each in ALONE
        for other in (each, "gallery")
    ]
    searches = [(by, CAPS[0]) for by in SEARCHES] + [("R2", CAPS[1])]
    for by, cap in searches:
        found += history(by, f"{PATH}, {cap}") + of_network(by, cap)
    for name in HAND_MADE:
        found += of_network(name)
    for method, variant in [*searches, *((name, "") for name in HAND_MADE if "throughout" in name)]:
        place = {"split": OPEN_SET, "method": method, "variant": variant}
        found += [place | pair(query, "gallery") | SCORES for query in (PATH, PATH_LEFT)]
    for method in ("hand-made", "searched"):
        saved = {"split": OPEN_SET, "method": method, "x_name": WITHIN, "x": LOSSES, "subset": "all"}
        found += [saved | CROSS | {"metric": tuple(f"cost saved {each}" for each in METRICS), "distance": "cosine"}]
    return found


def study() -> Rows:
    """All tables."""
    return made(*level_1(""), *level_2())


def heads() -> Rows:
    """Level 1, by two encoders of queries."""
    further = [
        {"split": OPEN_SET, "method": method, "variant": variant, **CROSS, "metric": "flops with encoder"}
        for method in OBJECTIVES
        for variant in ("", "encoder=lite1")
    ]
    return made(*level_1("", "encoder=lite1", cost="flops with encoder"), *further)
