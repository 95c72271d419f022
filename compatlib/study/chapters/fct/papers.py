"""What the published rows of the chapter *FCT* stand beside: FCT, BT2 and FastFill."""

import pandas as pd

from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct.backfilling import curve_cell
from compatlib.study.chapters.fct.plan import WITH, WITHOUT
from compatlib.study.chapters.fct.tables import LINKS, MAIN
from compatlib.study.lab.figures import papers
from compatlib.study.lab.figures.cells import METRICS
from compatlib.study.lab.figures.columns import difference
from compatlib.study.lab.figures.tables import by, crossed, table
from compatlib.study.lab.row_files import paper_values
from compatlib.study.lab.rows import Rows

_TESTS: tuple[papers.Test, ...] = (
    papers.OLD,
    ("new / h(old), without side-information", "FCT no side-information", WITHOUT, "new", "h(old)"),
    ("new / h(old), with side-information", "FCT", WITH, "new", "h(old)"),
    papers.PARAGON,
)
_BT2: tuple[papers.Test, ...] = (
    papers.OLD,
    papers.APART,
    ("new / old, BCT (ours: form A)", "BCT", "BCT A", "new", "old"),
    ("new / h(old), with side-information", "", WITH, "new", "h(old)"),
    ("new / new, BCT (ours: form A)", "BCT", "BCT A", "new", "new"),
    papers.PARAGON,
)
_CURVES = (
    ("FCT, random order", "FCT random order", "FCT", "random"),
    ("FastFill, its own order", "FastFill", "FastFill", "uncertainty"),
)
_NOTES = {"without": "no side-information", "with": "side-information"}


def _curves(*sides: str) -> list[papers.Cell]:
    """Areas under the backfilling curve, without or with side-information, as FastFill has them."""
    return [
        papers.Cell(
            f"{words}, {side}" if len(sides) > 1 else words,
            {"method": paper, "query": "new", "gallery": "mixed", "note": _NOTES[side]},
            curve_cell(method, order, f"{side} side-information") | {"subset": "all", "distance": "euclidean"},
        )
        for side in sides
        for words, paper, method, order in _CURVES
    ]


# The same setting as ours; of ImageNet orders may be compared, levels not.
FCT_CIFAR = papers.Comparison(
    papers.cells_of(_TESTS, **MAIN, distance="euclidean"), (papers.FCT_2023, papers.FCT_2022), papers.CIFAR
)
FCT_IMAGENET = papers.Comparison(
    papers.cells_of(_TESTS, **MAIN, distance="euclidean"), (papers.FCT_2023,), papers.IMAGENET
)
BT2_CIFAR = papers.Comparison(
    papers.cells_of(_BT2 + papers.BT2_ITSELF, **MAIN, distance="cosine"), (papers.BT2,), papers.CIFAR
)
BT2_IMAGENET = papers.Comparison(papers.cells_of(_BT2, **MAIN, distance="cosine"), (papers.BT2,), papers.IMAGENET)
_FASTFILL = ("FastFill", "apple/ml-fct README 2023")
_AREAS = {f"auc {metric}": words for metric, words in METRICS.items()}
FASTFILL_CIFAR = papers.Comparison(_curves("without"), (_FASTFILL,), papers.CIFAR, _AREAS)
FASTFILL_IMAGENET = papers.Comparison(_curves("without", "with"), (_FASTFILL,), papers.IMAGENET, _AREAS)


def gain_table(published: Rows) -> pd.DataFrame:
    """What FCT with side-information gains over BCT, in points: the abstract's, each on its data set, and ours."""
    quoted = paper_values()
    quoted = quoted[(quoted["paper"] == "FCT") & (quoted["kind"] == "gain over BCT")]
    names = ["from", "data set", "score", "FCT − BCT (points)", "n"]
    lines = [("FCT, abstract", line.dataset, line.metric, f"{line.value:+.1f}", "") for line in quoted.itertuples()]
    scores = crossed(by("distance", "distance", DISTANCES), by("score", "metric", METRICS, METRICS))
    ours = table(published, scores, {"gained": difference(*LINKS["with − BCT"])}, **MAIN, subset="all")
    lines += [
        ("this study", "CIFAR-100", f"{line.score}, {line.distance}", line.gained, line.n) for line in ours.itertuples()
    ]
    return pd.DataFrame(lines, columns=names)
