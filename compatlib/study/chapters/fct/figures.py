"""Figures of the chapter *FCT*, from its rows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.data.images import ImageSet
from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct.backfilling import curves_of
from compatlib.study.chapters.fct.tables import MAIN, OLD, PARAGON, TESTS
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.marks import draw_image, mark_interval
from compatlib.study.lab.figures.tables import METRICS
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows

SHOWN = {
    "old / old": OLD,
    "new / old, BCT": TESTS["new / old, BCT (form A)"],
    "new / h(old), without": TESTS["new / h(old), without side-information"],
    "new / h(old), with": TESTS["new / h(old), with side-information"],
    "new / new": PARAGON,
}
LINES = {
    ("FCT", "random"): "-",
    ("FastFill", "random"): ":",
    ("FastFill", "uncertainty"): "-",
    ("FastFill", "distance"): "--",
}


def levels(measured: Rows) -> Figure:
    """The paper's order: every test of table F1 that has a place in it, by score and distance.

    Mean and 95 % interval over seeds, each seed's point small.
    """
    style.apply()
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), sharey=True, layout="constrained")
    for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for number, distance in enumerate(DISTANCES):
            for place, picked in enumerate(SHOWN.values()):
                values = 100 * measured.by_seed(**MAIN, **picked, subset="all", metric=metric, distance=distance)
                mark_interval(axis, values, place + 0.24 * (number - 0.5), number, distance if place == 0 else None)
        axis.set_title(title)
        axis.set_xlabel(f"{title} (%)")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(SHOWN)), list(SHOWN))
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return style.finished(figure)


def curves(measured: Rows, metric: str = "cmc@1", distance: str = "euclidean") -> Figure:
    """Plot F5: the score while the gallery is embedded again, without and with side-information.

    The mean over seeds, and every seed as a thin line.
    """
    style.apply()
    measured_curves = [curve for curve in curves_of(measured) if curve[:2] in LINES]
    panels = list(dict.fromkeys(beside for _, _, beside in measured_curves))
    size = (5.2 * len(panels), 4.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, beside in zip(axes.flat, panels, strict=True):
        for number, (method, order) in enumerate(LINES):
            place = {"gallery_model": "mixed", "method": method, "variant": f"{order} order, {beside}"}
            found = measured.of(**place, metric=metric, subset="all", distance=distance, x_name=SHARE)
            _curve(axis, found, number, f"h of {method}, {order} order", LINES[method, order])
        new = 100 * measured.by_seed(**MAIN, **PARAGON, subset="all", metric=metric, distance=distance).mean()
        axis.axhline(new, color=style.COLOURS[-1], linestyle=":", linewidth=1.4, label="new / new: all backfilled")
        axis.set_title(beside)
        axis.set_xlabel("share of the gallery embedded again (%)")
    axes[0, 0].set_ylabel(f"{METRICS[metric]} (%), {distance}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return style.finished(figure)


def _curve(axis: Axes, found: pd.DataFrame, number: int, label: str, line: str) -> None:
    table = 100 * found.pivot_table(index="x", columns="seed", values="value")
    look = {"color": style.COLOURS[number], "marker": style.MARKERS[number]}
    shares, mean = 100 * table.index, table.mean(axis=1)
    axis.plot(shares, mean, linestyle=line, markevery=3, markersize=6, label=label, **look)
    if len(table.columns) > 1:
        axis.plot(shares, table, color=look["color"], linestyle=line, linewidth=0.6, alpha=0.5)


def first_and_last(images: ImageSet, log_variances: np.ndarray, *, count: int = 12) -> Figure:
    """The gallery items that FastFill embeds again first, and those that it leaves to the end.

    Args:
        images: the gallery.
        log_variances: (N,) stated for every item.
        count: items of either kind.
    """
    style.apply()
    count = min(count, len(images) // 2)
    order = np.argsort(-log_variances, kind="stable")
    figure, axes = plt.subplots(2, count, figsize=(0.8 * count, 2.3), squeeze=False)
    for row, (words, items) in enumerate((("first", order[:count]), ("last", order[-count:][::-1]))):
        for axis, item in zip(axes[row], items, strict=True):
            draw_image(axis, images, item)
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{log_variances[item]:.1f}", fontsize=9, pad=2)
        axes[row, 0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=11)
    figure.subplots_adjust(wspace=0.08, hspace=0.35)
    return style.finished(figure)
