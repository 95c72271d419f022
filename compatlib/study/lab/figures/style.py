"""One style for all figures: a palette and markers that colour-blind readers can tell apart, and readable sizes."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's palette, and a marker beside every colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {
    "old": "old\n(first half of classes)",
    "old_samples": "old\n(half of the images)",
    "old_shared": "old, initial weights\nof new",
    "small": "small\nnetwork",
    "twin": "twin\n(another seed)",
    "new": "new",
}


def finished(figure: Figure) -> Figure:
    """The figure, taken out of pyplot's hands: a page shows what its cell returns, once."""
    plt.close(figure)
    return figure


def apply() -> None:
    """Set seaborn's and matplotlib's defaults for the study's figures."""
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
