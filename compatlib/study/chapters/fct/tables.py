"""Tables of the chapter *FCT*, from its rows."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct import tuning
from compatlib.study.chapters.fct.plan import ANEW, IN_HALVES, SIZE, WITH, WITHOUT
from compatlib.study.lab.figures import tables
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, SUBSETS, pair, present
from compatlib.study.lab.figures.columns import Column, difference, differences, level, levels, mean
from compatlib.study.lab.figures.tables import BY_SUBSET, by, crossed, each, table
from compatlib.study.lab.figures.texts import duration
from compatlib.study.lab.measures.cost import NEIGHBOURS
from compatlib.study.lab.rows import Rows
from compatlib.study.settings import Settings

MAIN = {"split": "class-incremental", "variant": "", "x_name": ""}
NEW_ON_H = pair("new", "h(old)")
OLD, APART, PARAGON = (pair(*test, method="independent") for test in (("old", "old"), ("new", "old"), ("new", "new")))
BCT = pair("new", "old", method="BCT A")
TRANSFORMED, TRANSFORMED_WITH = ({**NEW_ON_H, "method": method} for method in (WITHOUT, WITH))
TESTS = {
    "old / old: what must be beaten": OLD,
    "new / old, independent": APART,
    "new / old, BCT (form A)": BCT,
    "new / h(old), without side-information": TRANSFORMED,
    "new / h(old), with side-information": TRANSFORMED_WITH,
    "h(old) / h(old), without": pair("h(old)", "h(old)", method=WITHOUT),
    "h(old) / h(old), with": pair("h(old)", "h(old)", method=WITH),
    "new / new of BCT (form A)": pair("new", "new", method="BCT A"),
    "new / new of FCT: the paragon itself, left alone": PARAGON,
    "a random ranking": {"method": "chance"},
}
# The links of the paper's order, and what they are called: first − second.
LINKS = {
    "without − old/old": (TRANSFORMED, OLD),
    "with − without": (TRANSFORMED_WITH, TRANSFORMED),
    "new/new − with": (PARAGON, TRANSFORMED_WITH),
    "with − BCT": (TRANSFORMED_WITH, BCT),
}
DISTANCE_LINES = by("distance", "distance", DISTANCES)


def by_distance(metrics: Mapping[str, str] = RANK_1_AND_MAP, **cell: Any) -> dict[str, Column]:
    """A level by distance and metric."""
    found = {}
    for distance in DISTANCES:
        found |= levels(f"{distance}: {{}} (%)", metrics, distance=distance, **cell)
    return found


def result_table(measured: Rows) -> pd.DataFrame:
    """Table F1: every test under both distances."""
    return table(measured, each("query / gallery", TESTS), by_distance(METRICS), **MAIN, subset="all")


def link_table(measured: Rows) -> pd.DataFrame:
    """The paper's order link by link, by subset of the queries: paired differences over seeds, in points."""
    lines = crossed(DISTANCE_LINES, BY_SUBSET, by("score", "metric", RANK_1_AND_MAP, METRICS))
    return table(measured, lines, {f"{title} (points)": difference(*link) for title, link in LINKS.items()}, **MAIN)


def storage_table(measured: Rows) -> pd.DataFrame:
    """new / h(old) with side-information: what storing halves, or fitting on images instead of stored views, changes.

    In points against the main table's, of the same seeds.
    """
    place = {**TRANSFORMED_WITH, "split": MAIN["split"], "x_name": "", "subset": "all"}
    variants, columns = present((IN_HALVES, ANEW), measured, "variant", **place), {}
    for distance in DISTANCES:
        title = f"{distance}: {{}} (points)"
        columns |= differences(title, {}, {"variant": ""}, RANK_1_AND_MAP, distance=distance)
    return table(measured, by("with side-information, but", "variant", variants), columns, **place)


def flip_table(measured: Rows) -> pd.DataFrame:
    """Queries right at rank 1 under old/old and wrong under new / h(old); share of the most popular item."""
    methods = {WITHOUT: "without side-information", WITH: "with side-information"}
    columns = {
        f"negative flips, {words} (%)": level(subset=subset, metric="negative_flips")
        for subset, words in SUBSETS.items()
    }
    columns["most popular item (%)"] = level(subset="all", metric="top_share")
    lines = crossed(by("new / h(old)", "method", methods, methods), DISTANCE_LINES)
    return table(measured, lines, columns, **MAIN, **NEW_ON_H)


def side_table(measured: Rows) -> pd.DataFrame:
    """Table F2: new / h(old) by kind and size of side-information, and the side-information searched alone."""
    place = {"split": MAIN["split"], "subset": "all", "x_name": SIZE}
    found = measured.of(**place, **NEW_ON_H)
    sides = sorted(set(zip(found["variant"], found["x"], strict=True)), key=lambda side: (side[0] != "none", *side))
    lines = [
        ({"side-information": kind, "size": f"{size:g}" if size else ""}, {"variant": kind, "x": size})
        for kind, size in sides
    ]
    columns = {}
    for distance in DISTANCES:
        columns |= levels(f"{distance}: {{}} (%)", RANK_1_AND_MAP, **NEW_ON_H, distance=distance)
        own = {**NEW_ON_H, "metric": "cmc@1", "distance": distance}
        columns[f"{distance}: gain at rank 1 (points)"] = difference(own, {**own, "variant": "none", "x": 0.0})
    alone = level(**pair("side", "side"), metric="cmc@1", distance="cosine")
    columns["alone, cosine: rank 1 (%)"] = alone.where(lambda picks: picks["x"] > 0)
    return table(measured, lines, columns, **place)


def change_table(measured: Rows, changes: Iterable[str]) -> pd.DataFrame:
    """Table F3: what else old and new model may differ in; rank 1 under both distances."""
    tests = {
        "old / old": OLD,
        "new / old, independent": APART,
        "new / h(old), without": TRANSFORMED,
        "new / h(old), with": TRANSFORMED_WITH,
        "new / new": PARAGON,
    }
    columns = {f"{title} (%)": level(**test) for title, test in tests.items()}
    lines = crossed(by("old and new differ in", "variant", changes), DISTANCE_LINES)
    return table(measured, lines, columns, subset="all", metric="cmc@1")


def tuning_table(tuned: Rows, chosen: Settings) -> pd.DataFrame:
    """Rank 1 on the held-out training images by value of each knob, one changed at a time.

    Args:
        tuned: the tuning's rows.
        chosen: the chapter's run, whose values are marked.
    """
    tests = {
        "new / h(old), without": TRANSFORMED,
        "new / h(old), with": TRANSFORMED_WITH,
        "side-information alone": pair("side", "side", method=WITH),
    }
    columns = {
        f"{title}, {distance} (%)": level(**test, subset="all", metric="cmc@1", distance=distance)
        for title, test in tests.items()
        for distance in DISTANCES
    }
    judged, titles = tuning.judged(tuned), {"x_name": "what", "x": "value"}
    marked = partial(_is_chosen, chosen)
    return tables.tuning(tuned, judged, titles, columns, marked, judged_by="mean of the first four (%)")


def chain_table(measured: Rows) -> pd.DataFrame:
    """Table F4: the first generation's gallery, two updates later."""
    own = {name: pair(name, name, method="independent") for name in ("v1", "v2", "v3")}
    third = pair("v3", "h(v1)", method=WITH)
    lines = {
        "v1 / v1": own["v1"],
        "v2 / h(v1)": pair("v2", "h(v1)", method=WITH),
        "v2 / v2": own["v2"],
        "v3 / h(h(v1)): composed": {**third, "variant": "composed"},
        "v3 / h(v1): learned again from what is stored": {**third, "variant": "learned again"},
        "v3 / v3": own["v3"],
    }
    return table(measured, each("query / gallery", lines), by_distance(), split="three generations", subset="all")


def cost_table(measured: Rows, old_dim: int, side_dim: int, new_dim: int) -> pd.DataFrame:
    """Table F6: bytes an item, and the time for a million items at the measured speed of this machine."""
    where = {**MAIN, **TRANSFORMED_WITH}
    images, vectors = (
        duration(1e6 / measured.by_seed(**where, metric=metric).mean())
        for metric in ("images_per_second", "vectors_per_second")
    )
    return pd.DataFrame(
        {
            "what": words,
            "float32 (bytes an item)": 4 * numbers,
            "float16 (bytes an item)": 2 * numbers,
            "time for a million": time,
        }
        for words, numbers, time in (
            ("stored beside an item: embedding and side-information", old_dim + side_dim, ""),
            ("a million transformed from file to file", new_dim, vectors),
            ("a million images embedded again (reading them not counted)", new_dim, images),
        )
    )


def index_table(measured: Rows) -> pd.DataFrame:
    """Table F6, second part: the transformed gallery behind an index; it is built anew after each upgrade."""
    columns = {
        f"recall at {NEIGHBOURS} (%)": level(metric=f"recall@{NEIGHBOURS}"),
        "bytes an item": mean("{:.0f}", metric="bytes_per_item"),
        "build (seconds)": mean("{:.2f}", metric="build_seconds"),
        "search, all queries (seconds)": mean("{:.2f}", metric="search_seconds"),
    }
    where = {"method": WITH, "gallery_model": "h(old)", "distance": "cosine"}
    return table(measured, by("search", "variant", ("exact", "IVF-PQ")), columns, **where)


def _is_chosen(chosen: Settings, knob: str, value: float) -> bool:
    own: Any = chosen.knobs
    for name in knob.split("."):  # a name with a dot is a value of a recipe
        own = getattr(own, name)
    return own == value
