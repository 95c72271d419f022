"""The chapter's rows made by hand: three seeds of all tables, one of the fit on images."""

import itertools

import pandas as pd

from compatlib.study.chapters.fct.plan import (
    ANEW,
    BALANCE,
    BALANCES,
    CHANGES,
    CURVES,
    IN_HALVES,
    NAMES,
    SIZE,
    WITH,
    WITHOUT,
)
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows
from tests.study.lab.figures.made import METRICS, SCORES, SUBSETS, made

CLASSES = {"split": "class-incremental"}
BOTH = {"distance": ("cosine", "euclidean")}
NEW_ON_H = pair("new", "h(old)")
APART = [pair(*test, method="independent") for test in (("old", "old"), ("new", "old"), ("new", "new"))]
SIDES = (("none", 0.0), ("SimCLR", 64.0), ("SimCLR", 128.0), ("autoencoder", 128.0), ("principal components", 128.0))
SHARES = tuple(step / 21 for step in range(22))


def fct() -> Rows:
    """All tables."""
    methods = {"method": (WITHOUT, WITH)}
    main = [*APART, pair("new", ("old", "new"), method="BCT A"), {"method": "chance"}]
    main += [methods | NEW_ON_H, methods | pair("h(old)", "h(old)"), NEW_ON_H | {"method": WITH, "variant": IN_HALVES}]
    found = [CLASSES | BOTH | SCORES | cell for cell in main]
    flips = {"metric": "negative_flips", "subset": SUBSETS}, {"metric": "top_share", "subset": "all"}
    found += [CLASSES | BOTH | methods | NEW_ON_H | cell for cell in flips]
    for kind, size in SIDES:
        place = (
            CLASSES | BOTH | SCORES | {"method": WITH if size else WITHOUT, "variant": kind, "x_name": SIZE, "x": size}
        )
        found += [place | NEW_ON_H] + [place | pair("side", "side")] * (size > 0)
    changes = BOTH | SCORES | {"variant": tuple(CHANGES)}
    found += [changes | cell for cell in (*APART, methods | NEW_ON_H)]
    chain = BOTH | SCORES | {"split": "three generations"}
    found += [chain | pair(name, name, method="independent") for name in ("v1", "v2", "v3")]
    found += [chain | pair("v2", "h(v1)", method=WITH)]
    found += [chain | pair("v3", "h(v1)", method=WITH, variant=way) for way in ("composed", "learned again")]
    for (kind, orders), side in itertools.product(CURVES.items(), ("without", "with")):
        variants = tuple(f"{order} order, {side} side-information" for order in orders)
        curve = CLASSES | BOTH | pair("new", "mixed", method=NAMES[kind]) | {"variant": variants}
        found.append(curve | {"metric": tuple(f"auc {metric}" for metric in METRICS), "subset": SUBSETS})
        found.append(curve | {"metric": METRICS, "subset": "all", "x_name": SHARE, "x": SHARES})
    cost = CLASSES | NEW_ON_H | {"method": WITH}
    found.append(cost | {"metric": ("images_per_second", "vectors_per_second")})
    indexed = ("recall@10", "build_seconds", "search_seconds", "bytes_per_item")
    found.append(cost | {"metric": indexed, "variant": ("exact", "IVF-PQ"), "distance": "cosine"})
    anew = CLASSES | BOTH | SCORES | NEW_ON_H | {"method": WITH, "variant": ANEW}
    return Rows(pd.concat([made(*found).frame, made(anew, seeds=(1,)).frame]), {})


def balanced() -> Rows:
    """Areas of the backfilling curves by the balance of FastFill's loss."""
    place = {**CLASSES, **pair("new", "mixed", method="FastFill"), "x_name": BALANCE, "subset": "all"}
    place |= {"distance": "cosine", "metric": ("auc map", "auc cmc@1")}
    cells = []
    for weight, coordinates in BALANCES:
        words = f"balance={coordinates} over coordinates"
        cells.append({**place, "x": weight, "variant": (f"{words};order=uncertainty", f"{words};order=random")})
    return made(*cells)
