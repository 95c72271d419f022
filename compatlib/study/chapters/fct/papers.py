"""The published rows of the chapter *FCT* beside what can be quoted: FCT, BT2 and FastFill."""

import pandas as pd

from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct.plan import WITH, WITHOUT
from compatlib.study.chapters.fct.tables import LINKS, MAIN, OLD, PARAGON, cell
from compatlib.study.lab.figures.papers import Cell, beside
from compatlib.study.lab.figures.tables import METRICS, points
from compatlib.study.lab.rows import Rows, paper_values

_TESTS = (
    ("old / old", {"method": "none", "query": "old", "gallery": "old"}, OLD),
    (
        "new / h(old), without side-information",
        {"method": "FCT no side-information", "query": "new", "gallery": "h(old)"},
        cell(WITHOUT, "new", "h(old)"),
    ),
    (
        "new / h(old), with side-information",
        {"method": "FCT", "query": "new", "gallery": "h(old)"},
        cell(WITH, "new", "h(old)"),
    ),
    ("new / new", {"method": "paragon", "query": "new", "gallery": "new"}, PARAGON),
)
_BT2 = (
    ("old / old", {"method": "none", "query": "old", "gallery": "old"}, OLD),
    (
        "new / old, independent",
        {"method": "independent", "query": "new", "gallery": "old"},
        cell("independent", "new", "old"),
    ),
    ("new / old, BCT (ours: form A)", {"method": "BCT", "query": "new", "gallery": "old"}, cell("BCT A", "new", "old")),
    ("new / h(old), with side-information", {}, cell(WITH, "new", "h(old)")),
    ("new / new, BCT (ours: form A)", {"method": "BCT", "query": "new", "gallery": "new"}, cell("BCT A", "new", "new")),
    ("new / new", {"method": "paragon", "query": "new", "gallery": "new"}, PARAGON),
)
_BT2_ITSELF = (
    ("new / old, BT2 (not run here)", {"method": "BT2", "query": "new", "gallery": "old"}, {}),
    ("new / new, BT2 (not run here)", {"method": "BT2", "query": "new", "gallery": "new"}, {}),
)
_CURVES = (
    ("FCT, random order", "FCT random order", "FCT", "random"),
    ("FastFill, its own order", "FastFill", "FastFill", "uncertainty"),
)
FCT_2023, FCT_2022 = ("FCT", "apple/ml-fct README 2023"), ("FCT", "apple/ml-fct README 2022")
BT2, FASTFILL = ("BT2", "YifeiZhou02/BT-2 README"), ("FastFill", "apple/ml-fct README 2023")


def beside_cifar(published: Rows) -> pd.DataFrame:
    """The published study beside FCT's released numbers of the same setting, CIFAR-100, 50 → 100 classes; Euclidean."""
    where = {"dataset": "CIFAR-100", "setting": "50->100 classes"}
    return beside(published, _cells(_TESTS, "euclidean"), (FCT_2023, FCT_2022), **where)


def beside_bt2(published: Rows) -> pd.DataFrame:
    """The published study beside BT2's released numbers of the same setting; cosine, as theirs."""
    where = {"dataset": "CIFAR-100", "setting": "50->100 classes"}
    return beside(published, _cells((*_BT2, *_BT2_ITSELF), "cosine"), (BT2,), **where)


def beside_imagenet(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside FCT's numbers on ImageNet: orders may be compared, levels not."""
    where = {"dataset": "ImageNet-1k", "setting": "500->1000 classes"}
    return beside(published, _cells(_TESTS, "euclidean"), (FCT_2023,), **where)


def beside_bt2_imagenet(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside BT2's numbers on ImageNet: orders may be compared, levels not."""
    where = {"dataset": "ImageNet-1k", "setting": "500->1000 classes"}
    return beside(published, _cells(_BT2, "cosine"), (BT2,), **where)


def beside_fastfill(published: Rows) -> pd.DataFrame:
    """Areas under the backfilling curve, without side-information, beside FastFill's on CIFAR-100."""
    where = {"dataset": "CIFAR-100", "setting": "50->100 classes"}
    return _areas(published, ("without",), **where)


def beside_fastfill_imagenet(published: Rows) -> pd.DataFrame:
    """Areas on CIFAR-100 beside FastFill's on ImageNet, the only ones that it gives with side-information too."""
    where = {"dataset": "ImageNet-1k", "setting": "500->1000 classes"}
    return _areas(published, ("without", "with"), **where)


def gain_table(published: Rows) -> pd.DataFrame:
    """What FCT with side-information gains over BCT, in points: the abstract's, each on its data set, and ours."""
    quoted = paper_values()
    quoted = quoted[(quoted["paper"] == "FCT") & (quoted["kind"] == "gain over BCT")]
    names = ["from", "data set", "score", "FCT − BCT (points)", "n"]
    lines = [("FCT, abstract", line.dataset, line.metric, f"{line.value:+.1f}", "") for line in quoted.itertuples()]
    bct, fct = LINKS["with − BCT"]
    for distance in DISTANCES:
        for metric, title in METRICS.items():
            where = {**MAIN, "subset": "all", "metric": metric, "distance": distance}
            low = published.by_seed(**where, **bct)
            high = published.by_seed(**where, **fct, seed=list(low.index))
            gained = points(high, low[high.index])
            lines.append(("this study", "CIFAR-100", f"{title}, {distance}", gained, f"{len(high)}"))
    return pd.DataFrame(lines, columns=names)


def _areas(published: Rows, with_or_without: tuple[str, ...], **where: str) -> pd.DataFrame:
    cells = []
    for side in with_or_without:
        note = {"without": "no side-information", "with": "side-information"}[side]
        for words, paper, method, order in _CURVES:
            ours = {"method": method, "gallery_model": "mixed", "subset": "all", "distance": "euclidean"}
            cells.append(
                Cell(
                    f"{words}, {side}" if len(with_or_without) > 1 else words,
                    {"method": paper, "query": "new", "gallery": "mixed", "note": note},
                    ours | {"variant": f"{order} order, {side} side-information"},
                )
            )
    metrics = {f"auc {metric}": title for metric, title in METRICS.items()}
    return beside(published, cells, (FASTFILL,), metrics=metrics, **where)


def _cells(tests: tuple, distance: str) -> list[Cell]:
    place = {**MAIN, "subset": "all", "distance": distance}
    return [Cell(words, paper, {**place, **ours} if ours else {}) for words, paper, ours in tests]
