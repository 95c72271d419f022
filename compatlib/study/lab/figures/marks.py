"""What several chapters' figures draw alike."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.data.images import ImageSet
from compatlib.evaluation.statistics import Paired
from compatlib.study.lab.figures import style


def dots(
    panels: Mapping[str, Mapping[str, Mapping[str, Paired | None]]], label: str, *, height: float, sharex: bool = False
) -> Figure:
    """Means with their 95 % intervals, and every seed's value as a small point; in points.

    Args:
        panels: title → what has a colour and a marker of its own → line, from top to bottom → measurement, None where
            there is none; all panels have the same lines.
        label: of the axes below; `{}` is replaced by the panel's title.
        height: of the figure, in inches.
        sharex: whether the panels have one scale.
    """
    figure, axes = style.panels(len(panels), (3.5 * len(panels), height), sharex=sharex, sharey=True)
    for axis, (title, marked) in zip(axes[0], panels.items(), strict=True):
        for number, (name, lines) in enumerate(marked.items()):
            apart = 0.24 * (number - (len(marked) - 1) / 2)
            there = {place: link for place, link in enumerate(lines.values()) if link is not None}
            for place, link in there.items():
                mark_interval(axis, link, place + apart, number, name if place == min(there) else None)
                noted(axis, link, {"series": name, "line": list(lines)[place]}, across=True)
        axis.set_title(title)
        axis.set_xlabel(label.format(title))
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(lines)), list(lines))
    axes[0, 0].invert_yaxis()
    return style.finished(figure, legend=len(marked))


def differences(
    panels: Mapping[str, Mapping[str, Mapping[str, Paired | None]]], label: str, *, height: float, sharex: bool = False
) -> Figure:
    """`dots` of differences: with a line at 0 in every panel, and room around the marks."""
    figure = dots(panels, label, height=height, sharex=sharex)
    for axis in figure.axes:
        axis.axvline(0, color=style.COLOURS[-1], linewidth=1.2)
        axis.margins(x=0.08, y=0.12)
    return figure


def mark_interval(axis: Axes, link: Paired, place: float, number: int, label: str | None) -> None:
    """Mean and interval as a horizontal line at the height `place`, in points."""
    look, seeds = style.look(number), 100 * np.array(list(link.differences.values()))
    if np.isfinite(link.low):
        axis.plot([100 * link.low, 100 * link.high], [place, place], color=look["color"], linewidth=1.6)
    axis.scatter(seeds, np.full(len(seeds), place), color=look["color"], s=9, alpha=0.6)
    axis.scatter([100 * link.mean], [place], **look, s=42, label=label, zorder=3)


def noted(axis: Axes, link: Paired, place: Mapping[str, Any], *, across: bool = False) -> None:
    """Keep, with the figure, where a measurement is drawn, its mean and interval and every seed's value, in points."""
    seeds = {f"seed {seed}": 100 * value for seed, value in link.differences.items()}
    row = {**place, "mean": 100 * link.mean, "low": 100 * link.low, "high": 100 * link.high, **seeds}
    axis.figure.note(axis, row, across=across)


def level(axis: Axes, height: float, words: str, *, across: bool = False, **look: Any) -> None:
    """A level as a line through a panel: flat, or upright where values lie `across`; kept with the figure."""
    draw = axis.axvline if across else axis.axhline
    draw(height, **{"color": style.COLOURS[-1], "label": words, **look})
    axis.figure.note(axis, {"series": words, "mean": height}, across=across)


def heat_maps(
    matrices: Mapping[str, pd.DataFrame], words: tuple[str, str, str], *, size: tuple[float, float], turned: int = 0
) -> Figure:
    """Queries (down) against galleries (across) in percent, a panel a matrix, all on one scale from 0.

    Args:
        matrices: by title, with the names of models as index and columns.
        words: for the gallery's axis, the query's and the scale.
        size: of a panel, in inches.
        turned: the gallery's names, by degrees.
    """
    figure, axes = style.panels(len(matrices), (1.3 + size[0] * len(matrices), size[1]))
    top = max(matrix.to_numpy().max() for matrix in matrices.values())
    for number, (axis, (title, matrix)) in enumerate(zip(axes[0], matrices.items(), strict=True)):
        look = {"annot": True, "fmt": ".1f", "cmap": "cividis", "vmin": 0, "vmax": top, "annot_kws": {"size": 11}}
        is_last = number == len(matrices) - 1
        sns.heatmap(matrix, ax=axis, cbar=is_last, cbar_kws={"label": words[2]}, **look)
        axis.set(title=title, xlabel=words[0], ylabel="" if number else words[1])
        axis.tick_params(axis="x", rotation=turned)
        axis.tick_params(axis="y", rotation=0)
        for query, gallery in itertools.product(matrix.index, matrix.columns):
            found = {words[1]: query, words[0]: gallery, "mean": matrix.loc[query, gallery]}
            figure.note(axis, {"measure": words[2], **found})
    return style.finished(figure)


def curve(
    axis: Axes,
    found: pd.DataFrame,
    number: int,
    label: str,
    factor: float = 1.0,
    *,
    panel: str | None = None,
    **look: Any,
) -> None:
    """A score against `x`: the mean over seeds (and over whatever else differs), and every seed as a thin line.

    panel: what the rows behind it call the panel, where that is not its title.
    """
    seeds = factor * found.pivot_table(index="x", columns="seed", values="value")
    look = {**style.look(number), **look}
    axis.plot(seeds.index, seeds.mean(axis=1), label=label, **look)
    if len(seeds.columns) > 1:
        thin = {"color": look["color"], "linestyle": look.get("linestyle", "-"), "linewidth": 0.6, "alpha": 0.5}
        axis.plot(seeds, **thin)
    for x, values in seeds.iterrows():
        each = {f"seed {seed}": value for seed, value in values.items()} | ({"panel": panel} if panel else {})
        axis.figure.note(axis, {"series": label, "x": x, "mean": values.mean(), **each})


def logarithmic(axis: Axes, places: Sequence[float], form: str = "{:g}") -> None:
    """A logarithmic axis below, with a number at each of these places and nowhere else."""
    axis.set_xscale("log")
    axis.set_xticks(places, [form.format(place) for place in places])
    axis.minorticks_off()


def draw_image(axis: Axes, images: ImageSet, index: int) -> None:
    """One image of a set, in grey where it has a single channel."""
    pixels = images.images[index].permute(1, 2, 0).numpy()
    axis.imshow(pixels if pixels.shape[2] == 3 else pixels[:, :, 0], cmap="gray", interpolation="nearest")
