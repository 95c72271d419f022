"""Under which conditions SFSC's halves help: one panel for every axis of the grid `conditions`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.evaluation.statistics import Paired
from compatlib.models.resnet import HEADS
from compatlib.study.chapters.grid.conditions import (
    CONFLICTING,
    DIM,
    DIVERGENCE,
    IMAGES,
    IMAGES_A_CLASS,
    LOGIT_SCALES,
    UNCERTAIN,
)
from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN, OWN_GALLERIES
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, Picks, compared, pair
from compatlib.study.lab.figures.marks import logarithmic, noted
from compatlib.study.lab.figures.sources import HEADS as HEADS_IN_WORDS
from compatlib.study.lab.rows import NoRowError, Rows
from compatlib.study.lab.trainables.widths import BCT_S

GALLERIES = {FULL_GALLERY: "on the full model's gallery", OWN_GALLERIES: "on their own galleries"}
PLACES = ("full gallery", "own galleries")  # in short


class Line(NamedTuple):
    """Words of a line, and what picks both sides of the difference; x picks the second's too where `is_paired`."""

    words: str
    first: Picks
    second: Picks
    is_paired: bool = True


def _lines() -> dict[str, list[Line]]:
    """By the axis's words, its lines: with the evidential loss less without it.

    The divergence has no part in plain training, whose one side is therefore that of all images, with the run's values.
    """
    plain = {"variant": "axis=fit", "x_name": IMAGES, "x": float(max(IMAGES_A_CLASS)), "method": BCT_S}
    room = {head: {"variant": f"axis=room;head={head}", "x_name": DIM} for head in HEADS}
    divergence = {f"{scale:g}": f"axis=divergence;logit scale={scale:g}" for scale in LOGIT_SCALES}
    fit = {"variant": "axis=fit", "x_name": IMAGES}
    return {
        DIM: [_evidential(HEADS_IN_WORDS[head], place) for head, place in room.items()],
        DIVERGENCE: [
            Line(f"logits times {scale}", {"variant": own, "x_name": DIVERGENCE, "method": UNCERTAIN}, plain, False)
            for scale, own in divergence.items()
        ],
        IMAGES: [_evidential("the run's head", fit)],
    }


def _evidential(words: str, place: Picks) -> Line:
    return Line(words, {**place, "method": UNCERTAIN}, {**place, "method": BCT_S})


def effects_by_condition(measured: Rows, metric: str = "map", gallery: str = FULL_GALLERY) -> Figure:
    """The effect of the evidential loss against each axis of the grid, and of projection where gradients conflict.

    Points with 95 % intervals; above the line the method's half helps.

    Args:
        measured: rows of `conditions`, of one profile and data set; an axis without rows has an empty panel.
        metric: the score.
        gallery: "full" for the narrower widths on the full model's, "own" for all on their own.
    """
    asked = {**pair(MEAN, gallery), "subset": "all", "metric": metric}
    figure, axes = style.panels(4, (14.5, 4.4), sharey=True)
    for axis, (words, lines) in zip(axes[0, :3], _lines().items(), strict=True):
        links: dict[float, Paired] = {}
        for number, line in enumerate(lines):
            found = _links(measured, line, asked)
            links |= found
            if found and words != IMAGES:
                _with_intervals(axis, list(found), list(found.values()), number, line.words)
        axis.set(xlabel=words, title="evidential loss")
        if links and words == IMAGES:
            _draw_fit(axis, measured, links)
        elif links:
            logarithmic(axis, sorted(links))
            axis.legend(frameon=False)
    _draw_conflicts(axes[0, 3], measured, metric)
    axes[0, 0].set_ylabel(f"{METRICS[metric]}, {GALLERIES[gallery]} (points)")
    for axis in axes[0]:
        axis.axhline(0, color=style.COLOURS[-1], linewidth=1.2)
    return style.finished(figure)


def _links(measured: Rows, line: Line, asked: Picks) -> dict[float, Paired]:
    """A line's differences by x; none where a side of the difference was not measured."""
    found = {}
    try:
        for x in sorted(measured.of(**asked, **line.first)["x"].unique()):
            second = {**line.second, "x": x} if line.is_paired else line.second
            found[x] = compared(measured, {**asked, **line.first, "x": x}, {**asked, **second})
    except NoRowError:
        return {}
    return found


def _draw_fit(axis: Axes, measured: Rows, links: Mapping[float, Paired]) -> None:
    """Differences by how well the narrowest width of plain training fits its images; their number stands beside."""
    place = {"variant": "axis=fit", "x_name": IMAGES, "method": BCT_S, "metric": "training_accuracy"}
    narrowest = min(measured.of(**place)["query_model"], key=float)
    fits = [100 * measured.of(**place, query_model=narrowest, x=x)["value"].mean() for x in links]
    _with_intervals(axis, fits, list(links.values()), 0, None)
    for fit, (images, link) in zip(fits, links.items(), strict=True):
        axis.annotate(f"{images:g}", (fit, 100 * link.mean), xytext=(6, 8), textcoords="offset points")
    axis.set_xlabel(f"training accuracy of width {narrowest} (%),\nby {IMAGES}")


def _draw_conflicts(axis: Axes, measured: Rows, metric: str) -> None:
    plain, projected = ({"variant": "axis=conflicts", "method": name} for name in CONFLICTING)
    links = {}
    for place, gallery in enumerate(GALLERIES):
        asked = {**pair(MEAN, gallery), "subset": "all", "metric": metric}
        try:
            links[place] = compared(measured, {**asked, **projected}, {**asked, **plain})
        except NoRowError:
            continue
    if links:
        _with_intervals(axis, list(links), list(links.values()), 2, None, dict(enumerate(PLACES)), linestyle="none")
        axis.set_xlim(-0.5, len(GALLERIES) - 0.5)
    axis.set_xticks(range(len(GALLERIES)), PLACES)
    axis.set(title="projection", xlabel="under the triplet loss")


def _with_intervals(
    axis: Axes,
    places: Sequence[float],
    links: Sequence[Paired],
    number: int,
    label: str | None,
    names: Mapping[float, str] | None = None,  # of places that are no numbers
    **look: Any,
) -> None:
    means = 100 * np.array([link.mean for link in links])
    ends = np.nan_to_num(100 * np.array([[link.mean - link.low, link.high - link.mean] for link in links]).T)
    axis.errorbar(places, means, yerr=ends, label=label, capsize=3, **style.look(number), **look)
    for place, link in zip(places, links, strict=True):
        noted(axis, link, {"series": label, "x": (names or {}).get(place, place)})
