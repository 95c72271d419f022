"""What several chapters' figures draw alike."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from compatlib.data.images import ImageSet
from compatlib.evaluation.statistics import interval
from compatlib.study.lab.figures import style


def mark_interval(axis: Axes, values: pd.Series, place: float, number: int, label: str | None) -> None:
    """Mean and 95 % interval over seeds as a horizontal line at the height `place`, each seed's point small."""
    mean, low, high = interval(values.to_numpy())
    colour = style.COLOURS[number]
    if np.isfinite(low):
        axis.plot([low, high], [place, place], color=colour, linewidth=1.6)
    axis.scatter(values, np.full(len(values), place), color=colour, s=9, alpha=0.6)
    axis.scatter([mean], [place], color=colour, marker=style.MARKERS[number], s=42, label=label, zorder=3)


def draw_image(axis: Axes, images: ImageSet, index: int) -> None:
    """One image of a set, in grey where it has a single channel."""
    pixels = images.images[index].permute(1, 2, 0).numpy()
    axis.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", interpolation="nearest")
