"""Figures of the chapter *the problem*, from its rows."""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.data.images import ImageSet
from compatlib.evaluation.search import search
from compatlib.evaluation.statistics import Paired
from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.chapters.problem.story import PLACE
from compatlib.study.chapters.problem.tables import CASES
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import CHANCE, METRICS, Picks, measured_or_none, pair
from compatlib.study.lab.figures.marks import differences, dots, draw_image, heat_maps, level
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.rows import Rows

NAMES = {
    "old": "old\n(first half of classes)",
    "old_samples": "old\n(half of the images)",
    "old_shared": "old, initial weights\nof new",
    "small": "small\nnetwork",
    "twin": "twin\n(another seed)",
    "new": "new",
}
HEIGHT = 0.55 * len(CASES) + 1.9  # of the pictures with a line a case, in inches


def meetings(sources: Sequence[Source], metric: str = "cmc@1") -> Figure:
    """Each model alone and the two together, by case, a panel a source; a dotted line at a random ranking's score."""
    tests: dict[str, Callable[[str, str], Picks]] = {
        "gallery's model alone": lambda query, gallery: pair(gallery, gallery),
        "query's model alone": lambda query, gallery: pair(query, query),
        "the two together": pair,
    }
    panels: dict[str, dict[str, dict[str, Paired | None]]] = {}
    for source in sources:
        panels[source.words] = {
            words: {
                case: measured_or_none(source.rows, {**PLACE, "metric": metric, **test(*models)})
                for case, *models in CASES
            }
            for words, test in tests.items()
        }
    figure = dots(panels, f"{METRICS[metric]} (%)", height=HEIGHT)
    for axis, source in zip(figure.axes, sources, strict=True):
        chance = 100 * source.rows.by_seed(**CHANCE, subset="all", metric=metric).mean()
        level(axis, chance, "a random ranking", across=True, linestyle=":", linewidth=1.4)
    return figure


def apart(sources: Sequence[Source]) -> Figure:
    """How far from a random ranking two models are together, by case and score, a panel a source."""
    panels: dict[str, dict[str, dict[str, Paired | None]]] = {}
    for source in sources:
        panels[source.words] = {}
        for metric, title in METRICS.items():
            chance = {**PLACE, **CHANCE, "metric": metric}
            panels[source.words][title] = {
                case: measured_or_none(source.rows, {**PLACE, "metric": metric, **pair(*models)}, chance)
                for case, *models in CASES
            }
    return differences(panels, "together − random (points)", height=HEIGHT, sharex=True)


def heat_map(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Every model's queries against every model's gallery, mean over seeds, in percent."""
    wanted = measured.of(**PLACE, metric=metric)
    matrix = 100 * wanted.pivot_table(index="query_model", columns="gallery_model", values="value")
    matrix = matrix.loc[list(ROLES), list(ROLES)].rename(index=NAMES, columns=NAMES)
    words = ("gallery embedded by", "query embedded by", f"{METRICS[metric]} (%)")
    return heat_maps({"": matrix}, words, size=(7.1, 6.0), turned=45)


def ranked_galleries(
    images: ImageSet, query: np.ndarray, galleries: dict[str, np.ndarray], *, examples: int, distance: str, top: int = 5
) -> Figure:
    """Queries with the first items of each gallery; right ones are framed and ticked, wrong ones framed and crossed.

    The queries are spread evenly over the test set's classes, not chosen by result.

    Args:
        images: the test set, queries and gallery in one.
        query: (N, d) embeddings of the queries.
        galleries: title → (N, d) embeddings of the gallery.
        examples: number of queries.
        distance: `cosine` or `euclidean`.
        top: items shown for each gallery.
    """
    chosen = np.linspace(0, len(images), examples, endpoint=False, dtype=int) + len(images) // (2 * examples)
    columns = 1 + len(galleries) * (top + 1)
    figure, axes = style.panels(columns, (0.78 * columns, 1.02 * examples + 0.5), rows=examples, layout=None)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index in zip(axes[:, 0], chosen, strict=True):
        draw_image(axis, images, index)
        _frame(axis, "black", "-")
        name = images.class_names[int(images.labels[index])].split("/")[-1].lower()
        axis.set_ylabel(textwrap.fill(name, 20), rotation=0, ha="right", va="center", fontsize=8)
    _head(axes[0, 0], "query")
    for block, (title, gallery) in enumerate(galleries.items()):
        own = axes[:, 2 + block * (top + 1) :][:, :top]
        found = search(query[chosen], gallery, top + 1, distance=distance).indices
        for row, index, nearest in zip(own, chosen, found, strict=True):
            _ranked(row, images, index, [item for item in nearest if item != index], title)
        _head(own[0, top // 2], title)
    figure.subplots_adjust(wspace=0.12, hspace=0.35)
    return style.finished(figure)


def _ranked(axes: np.ndarray, images: ImageSet, query: int, items: list[int], gallery: str) -> None:
    """One query's first items, as many as there are axes."""
    for rank, (axis, item) in enumerate(zip(axes, items, strict=False), 1):
        is_right = bool(images.labels[item] == images.labels[query])
        draw_image(axis, images, item)
        _frame(axis, style.COLOURS[0] if is_right else style.COLOURS[1], "-" if is_right else "--")
        axis.set_title("✓" if is_right else "✗", fontsize=10, color="black", pad=2)
        row = {"query": query, "rank": rank, "item": item, "right": "yes" if is_right else "no"}
        axis.figure.note(axis, {"panel": gallery, "measure": "", **row})


def _head(axis: Axes, title: str) -> None:
    axis.annotate(title, (0.5, 1.45), xycoords="axes fraction", ha="center", fontsize=10)


def _frame(axis: Axes, colour: str, line: str) -> None:
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle=line)
