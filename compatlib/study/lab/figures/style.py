"""One style for all figures: a palette and markers that colour-blind readers can tell apart, and readable sizes."""

from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from compatlib.study.lab.figures.behind import Picture

# Okabe and Ito's palette, and a marker beside every colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def look(number: int) -> dict[str, str]:
    """Colour and marker of a figure's number-th method, or whatever it tells apart."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def panels(columns: int, size: tuple[float, float], rows: int = 1, **options: Any) -> tuple[Picture, np.ndarray]:
    """A figure of so many inches in the study's style, and its axes, (rows, columns)."""
    apply()
    options = {"layout": "constrained", **options}
    return plt.subplots(rows, columns, figsize=size, squeeze=False, FigureClass=Picture, **options)


def finished(figure: Figure, *, legend: int = 0) -> Figure:
    """The figure, taken out of pyplot's hands: a page shows what its cell returns, once.

    legend: columns of the legend below, which has every label of any panel once; 0 for none.
    """
    if legend:
        found: dict[str, Any] = {}
        for axis in figure.axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=legend, frameon=False)
    plt.close(figure)
    return figure


def apply() -> None:
    """Set seaborn's and matplotlib's defaults for the study's figures, whatever file of settings lies in reach."""
    matplotlib.rcdefaults()
    sns.set_theme(context="notebook", style="whitegrid", palette=list(COLOURS))
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "compatlib",
        }
    )
