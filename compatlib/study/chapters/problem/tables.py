"""Tables of the chapter *the problem*, from its rows."""

import numpy as np
import pandas as pd

from compatlib.evaluation.retrieval import evaluate
from compatlib.study.lab.figures import texts
from compatlib.study.lab.figures.cells import CHANCE, pair
from compatlib.study.lab.figures.columns import Column, difference, level, levels
from compatlib.study.lab.figures.tables import BY_SUBSET, crossed, each, stacked, table
from compatlib.study.lab.rows import Rows

# What is compared: (case, query model, gallery model).
CASES = (
    ("two seeds of one network", "new", "twin"),
    ("two sizes of network", "small", "new"),
    ("half of the classes, then all", "new", "old"),
    ("half of the images, then all", "new", "old_samples"),
    ("half, shared initial weights", "new", "old_shared"),
)
SHORT = {"old_samples": "half", "old_shared": "shared"}
APART = {"method": "independent"}


def short(role: str) -> str:
    """A role's name in tables and figures."""
    return SHORT.get(role, role)


def named(query: str, gallery: str) -> str:
    """A test's name, as in "new / half"."""
    return f"{short(query)} / {short(gallery)}"


def result_table(measured: Rows) -> pd.DataFrame:
    """Self-tests and cross-tests of every case, and chance; and how many queries the most popular item answers."""
    lines = []
    for case, query, gallery in CASES:
        for test in ((gallery, gallery), (query, query), (query, gallery)):
            words = {"query / gallery": named(*test), "test": "self" if test[0] == test[1] else "cross"}
            lines.append(({"case": case, **words}, pair(*test, **APART)))
    chance = {"case": "a random ranking", "query / gallery": "", "test": "chance"}
    popular = level(metric="top_share").where(lambda picks: picks["method"] != CHANCE["method"])
    columns = levels("{} (%)") | {"queries that one item answers (%)": popular}
    return table(measured, [*lines, (chance, CHANCE)], columns, subset="all")


def criterion_table(measured: Rows, metric: str = "cmc@1") -> pd.DataFrame:
    """The measures of an upgrade, applied to every pair of models.

    M(new, old) − M(old, old), in points and in how many seeds it is above 0; the update gain; negative flips.
    """
    lines = []
    for case, query, gallery in CASES:
        old, cross, new = pair(gallery, gallery), pair(query, gallery), pair(query, query)
        columns = {
            "M(new, old) − M(old, old) (points)": difference(cross, old),
            "seeds that meet the criterion": Column((cross, old), texts.seeds_above),
            "update gain": Column((cross, old, new), texts.gain),
            "negative flips (%)": level(**cross, metric="negative_flips"),
        }
        line = ({"case": case, "new / old": named(query, gallery)}, {"metric": metric})
        lines.append(table(measured, [line], columns, subset="all", **APART))
    return stacked(*lines)


def subset_table(measured: Rows, *, query: str = "new", gallery: str = "old") -> pd.DataFrame:
    """Old self-test, cross-test and new self-test by subset of the queries: classes that the old model knew, or not.

    Beside the cross-test stand the queries that flip from right to wrong.
    """
    tests = ((gallery, gallery), (query, gallery), (query, query))
    lines = crossed(BY_SUBSET, each("query / gallery", {named(*test): pair(*test) for test in tests}))
    flips = level(metric="negative_flips").where(lambda picks: picks["query_model"] != picks["gallery_model"])
    return table(measured, lines, levels("{} (%)") | {"negative flips (%)": flips}, **APART)


def worked_example() -> pd.DataFrame:
    """Rank and average precision of every query of a tiny gallery whose axes the new model has swapped.

    Two models that separate the same four items equally well: the new one's embedding is the old one's with its
    coordinates exchanged. Integers, so that the numbers are the same on every processor.
    """
    labels = np.array([0, 0, 1, 1])
    old = np.array([[3, 0], [3, 1], [0, 3], [1, 3]], np.float32)
    new = old[:, ::-1].copy()
    lines = []
    for name, query, gallery in (("old / old", old, old), ("new / new", new, new), ("new / old", new, old)):
        result = evaluate(query, gallery, labels, labels, exclude_self=True)
        ranks = " ".join(map(str, result.first_rank))
        line = {"query / gallery": name, "first correct rank of each query": ranks, "rank 1": result.cmc[1]}
        lines.append(line | {"mAP": round(result.mean_average_precision, 4)})
    return pd.DataFrame(lines)
