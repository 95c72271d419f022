"""Figures of the chapter *FCT*, from its rows."""

import numpy as np
from matplotlib.figure import Figure

from compatlib.data.images import ImageSet
from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct.backfilling import balances, curve_cell, curves_of
from compatlib.study.chapters.fct.tables import BCT, MAIN, OLD, PARAGON, TRANSFORMED, TRANSFORMED_WITH
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, compared
from compatlib.study.lab.figures.marks import curve, differences, dots, draw_image, level
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows

SHOWN = {
    "old / old": OLD,
    "new / old, BCT": BCT,
    "new / h(old), without": TRANSFORMED,
    "new / h(old), with": TRANSFORMED_WITH,
    "new / new": PARAGON,
}
LINES = {
    ("FCT", "random"): "-",
    ("FastFill", "random"): ":",
    ("FastFill", "uncertainty"): "-",
    ("FastFill", "distance"): "--",
}


def levels(measured: Rows) -> Figure:
    """The paper's order: every test of table F1 that has a place in it, by score and distance."""
    panels = {}
    for metric, title in METRICS.items():
        place = {**MAIN, "subset": "all", "metric": metric}
        panels[title] = {
            distance: {
                words: compared(measured, {**place, **cell, "distance": distance}) for words, cell in SHOWN.items()
            }
            for distance in DISTANCES
        }
    return dots(panels, "{} (%)", height=3.6)


def curves(measured: Rows, metric: str = "cmc@1", distance: str = "euclidean") -> Figure:
    """Plot F5: the score while the gallery is embedded again, without and with side-information.

    The mean over seeds, and every seed as a thin line.
    """
    place = {"subset": "all", "metric": metric, "distance": distance}
    beside_of = dict.fromkeys(beside for *which, beside in curves_of(measured) if tuple(which) in LINES)
    figure, axes = style.panels(len(beside_of), (5.2 * len(beside_of), 4.4), sharey=True)
    new = 100 * measured.by_seed(**MAIN, **PARAGON, **place).mean()
    for axis, beside in zip(axes[0], beside_of, strict=True):
        for number, ((method, order), line) in enumerate(LINES.items()):
            found = measured.of(**curve_cell(method, order, beside), **place, x_name=SHARE)
            look = {"linestyle": line, "markevery": 3, "markersize": 6}
            curve(axis, found.assign(x=100 * found["x"]), number, f"h of {method}, {order} order", 100, **look)
        level(axis, new, "new / new: all backfilled", linestyle=":", linewidth=1.4)
        axis.set_title(beside)
        axis.set_xlabel("share of the gallery embedded again (%)")
    axes[0, 0].set_ylabel(f"{METRICS[metric]} (%), {distance}")
    return style.finished(figure, legend=2)


def balance(measured: Rows) -> Figure:
    """What FastFill's own order gains over a random one of the same gallery, by the balance of its loss.

    Areas of the backfilling curves under cosine, in points with 95 % intervals; right of the line its order helps.
    """
    panels = {}
    for metric, title in RANK_1_AND_MAP.items():
        place = {"metric": f"auc {metric}", "distance": "cosine"}
        links = {
            words: compared(measured, {**own, **place}, {**random, **place})
            for words, (own, random) in balances().items()
        }
        panels[title] = {"its own order − a random one": links}
    figure = differences(panels, "{} (points)", height=3.2)
    figure.axes[0].set_ylabel("cross-entropy in FastFill's loss")
    return figure


def first_and_last(images: ImageSet, log_variances: np.ndarray, *, count: int = 12) -> Figure:
    """The gallery items that FastFill embeds again first, and those that it leaves to the end.

    Args:
        images: the gallery.
        log_variances: (N,) stated for every item.
        count: items of either kind.
    """
    count = min(count, len(images) // 2)
    order = np.argsort(-log_variances, kind="stable")
    figure, axes = style.panels(count, (0.8 * count, 2.3), rows=2, layout=None)
    for row, (words, items) in enumerate((("first", order[:count]), ("last", order[-count:][::-1]))):
        for axis, item in zip(axes[row], items, strict=True):
            draw_image(axis, images, item)
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{log_variances[item]:.1f}", fontsize=9, pad=2)
            figure.note(axis, {"panel": words, "measure": "", "item": item, "stated s": log_variances[item]})
        axes[row, 0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=11)
    figure.subplots_adjust(wspace=0.08, hspace=0.35)
    return style.finished(figure)
