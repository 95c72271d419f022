"""Figures of the chapter *the problem*, from its rows."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from compatlib.data.images import ImageSet
from compatlib.evaluation.search import search
from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.chapters.problem.tables import APART, CASES, short
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.figures.marks import draw_image, heat_maps
from compatlib.study.lab.rows import Rows

NAMES = {
    "old": "old\n(first half of classes)",
    "old_samples": "old\n(half of the images)",
    "old_shared": "old, initial weights\nof new",
    "small": "small\nnetwork",
    "twin": "twin\n(another seed)",
    "new": "new",
}


def cross_tests(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Bars for self-tests and cross-tests of every case, a point for each seed, and the chance level as a line."""
    figure, grid = style.panels(3, (9.2, 6.2), rows=2, sharey=True)
    axes = list(grid.flat)
    chance = 100 * measured.by_seed(method="chance", subset="all", metric=metric).mean()
    for axis, (case, query, gallery) in zip(axes, CASES, strict=False):
        tests = ((gallery, gallery), (query, query), (query, gallery))
        for place, test in enumerate(tests):
            _bar(axis, place, measured, test, metric)
        axis.axhline(chance, color=style.COLOURS[-1], linestyle=":", linewidth=1.4, label="chance")
        axis.set_xticks(range(3), [f"{short(q)}\n/ {short(g)}" for q, g in tests], fontsize=10)
        axis.set_title(case, fontsize=11)
        axis.margins(y=0.16)  # room for the numbers above the bars
        axis.grid(axis="x", visible=False)
    for axis in grid[:, 0]:
        axis.set_ylabel(f"{METRICS[metric]} (%)")
    axes[-1].set_axis_off()
    axes[-1].legend(handles=_legend(), loc="center", title="query model / gallery model", frameon=False)
    return style.finished(figure)


def _bar(axis: Axes, place: int, measured: Rows, test: tuple[str, str], metric: str) -> None:
    """One test: its mean as a bar with the number above, and every seed as a point."""
    values = 100 * measured.by_seed(**pair(*test, **APART), subset="all", metric=metric)
    look = style.look(int(test[0] != test[1]))
    spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(1)
    axis.bar(place, values.mean(), color=look["color"], alpha=0.45, width=0.7)
    axis.scatter(place + spread, values, **look, s=24, zorder=3)
    above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 11}
    axis.annotate(f"{values.mean():.1f}", (place, values.max()), **above)


def _legend() -> list[Line2D]:
    marked = [
        Line2D([], [], **style.look(kind), linestyle="", label=label)
        for kind, label in enumerate(("self-test, one seed", "cross-test, one seed"))
    ]
    return [*marked, Line2D([], [], color=style.COLOURS[-1], linestyle=":", label="chance")]


def heat_map(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Every model's queries against every model's gallery, mean over seeds, in percent."""
    wanted = measured.of(**APART, subset="all", metric=metric)
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
            _ranked(row, images, index, [item for item in nearest if item != index])
        _head(own[0, top // 2], title)
    figure.subplots_adjust(wspace=0.12, hspace=0.35)
    return style.finished(figure)


def _ranked(axes: np.ndarray, images: ImageSet, query: int, items: list[int]) -> None:
    """One query's first items, as many as there are axes."""
    for axis, item in zip(axes, items, strict=False):
        is_right = bool(images.labels[item] == images.labels[query])
        draw_image(axis, images, item)
        _frame(axis, style.COLOURS[0] if is_right else style.COLOURS[1], "-" if is_right else "--")
        axis.set_title("✓" if is_right else "✗", fontsize=10, color="black", pad=2)


def _head(axis: Axes, title: str) -> None:
    axis.annotate(title, (0.5, 1.45), xycoords="axes fraction", ha="center", fontsize=10)


def _frame(axis: Axes, colour: str, line: str) -> None:
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle=line)
