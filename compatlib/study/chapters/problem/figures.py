"""Figures and tables of the chapter *the problem*, from its rows."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from compatlib.data.images import ImageSet
from compatlib.evaluation.retrieval import evaluate
from compatlib.evaluation.search import search
from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.marks import draw_image
from compatlib.study.lab.figures.papers import Cell, beside
from compatlib.study.lab.figures.tables import METRICS, duration, gain, in_percent, points
from compatlib.study.lab.rows import Rows

# What is compared: (case, query model, gallery model, the two self-tests it is held against).
CASES = (
    ("two seeds of one network", "new", "twin"),
    ("two sizes of network", "small", "new"),
    ("half of the classes, then all", "new", "old"),
    ("half of the images, then all", "new", "old_samples"),
    ("half, shared initial weights", "new", "old_shared"),
)
SHORT = {"old_samples": "half", "old_shared": "shared"}
PAPERS = (("FCT", "apple/ml-fct README 2023"), ("BT2", "YifeiZhou02/BT-2 README"))
# What can be quoted for the setting that this chapter's old and new models copy.
BESIDE = (
    Cell(
        "old / old",
        {"method": "none", "query": "old", "gallery": "old"},
        {"query_model": "old", "gallery_model": "old", "subset": "all", "method": "independent"},
    ),
    Cell(
        "new / old, independent",
        {"method": "independent", "query": "new", "gallery": "old"},
        {"query_model": "new", "gallery_model": "old", "subset": "all", "method": "independent"},
    ),
    Cell(
        "new / new (paragon)",
        {"method": "paragon", "query": "new", "gallery": "new"},
        {"query_model": "new", "gallery_model": "new", "subset": "all", "method": "independent"},
    ),
)


def result_table(measured: Rows) -> pd.DataFrame:
    """Self-tests and cross-tests of every case: mean over seeds and the 95 % interval's half width, in percent."""
    lines = []
    for case, query, gallery in CASES:
        for q, g in ((gallery, gallery), (query, query), (query, gallery)):
            line = {"case": case, "query / gallery": f"{_short(q)} / {_short(g)}"}
            line["test"] = "self" if q == g else "cross"
            for metric, title in METRICS.items():
                values = measured.by_seed(
                    query_model=q, gallery_model=g, subset="all", metric=metric, method="independent"
                )
                line[f"{title} (%)"] = in_percent(values)
            line["n"] = len(values)
            lines.append(line)
    chance = {"case": "a random ranking", "query / gallery": "", "test": "chance", "n": len(values)}
    for metric, title in METRICS.items():
        chance[f"{title} (%)"] = in_percent(measured.by_seed(method="chance", subset="all", metric=metric))
    return pd.DataFrame([*lines, chance])


def beside_papers(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside FCT's and BT2's released numbers of the same setting."""
    return beside(published, BESIDE, PAPERS, dataset="CIFAR-100", setting="50->100 classes")


def criterion_table(measured: Rows, metric: str = "cmc@1") -> pd.DataFrame:
    """The measures of an upgrade, applied to every pair: M(old, old), M(new, old), M(new, new), and what follows.

    The criterion, in points and in how many seeds it is met; the update gain; negative flips.
    """
    lines = []
    for case, query, gallery in CASES:
        cell = {"method": "independent", "subset": "all", "metric": metric}
        old, cross, new = (
            measured.by_seed(**cell, query_model=q, gallery_model=g)
            for q, g in ((gallery, gallery), (query, gallery), (query, query))
        )
        flips = measured.by_seed(**cell | {"metric": "negative_flips"}, query_model=query, gallery_model=gallery)
        lines.append(
            {
                "case": case,
                "new / old": f"{_short(query)} / {_short(gallery)}",
                "M(new, old) − M(old, old) (points)": points(cross, old),
                "seeds that meet the criterion": f"{int((cross > old).sum())} of {len(cross)}",
                "update gain": gain(cross, old, new),
                "negative flips (%)": in_percent(flips),
            }
        )
    return pd.DataFrame(lines)


def subset_table(measured: Rows, *, query: str = "new", gallery: str = "old") -> pd.DataFrame:
    """Old self-test, cross-test and new self-test by subset of the queries: classes that the old model knew, or not.

    Beside the cross-test stand the queries that flip from right to wrong.
    """
    lines = []
    for subset, words in (("all", "all classes"), ("known", "classes old knew"), ("unknown", "classes new to old")):
        for q, g in ((gallery, gallery), (query, gallery), (query, query)):
            line = {"queries": words, "query / gallery": f"{_short(q)} / {_short(g)}"}
            for metric, title in METRICS.items():
                cell = {"query_model": q, "gallery_model": g, "subset": subset, "metric": metric}
                line[f"{title} (%)"] = in_percent(measured.by_seed(method="independent", **cell))
            flips = measured.by_seed(method="independent", **cell | {"metric": "negative_flips"}) if q != g else None
            lines.append(line | {"negative flips (%)": "" if flips is None else in_percent(flips)})
    return pd.DataFrame(lines)


def cross_tests(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Bars for self-tests and cross-tests of every case, a point for each seed, and the chance level as a line."""
    style.apply()
    figure, grid = plt.subplots(2, 3, figsize=(9.2, 6.2), sharey=True, layout="constrained")
    axes = list(grid.flat)
    chance = 100 * measured.by_seed(method="chance", subset="all", metric=metric).mean()
    for axis, (case, query, gallery) in zip(axes, CASES, strict=False):
        pairs = ((gallery, gallery), (query, query), (query, gallery))
        for place, pair in enumerate(pairs):
            _bar(axis, place, measured, pair, metric)
        axis.axhline(chance, color=style.COLOURS[-1], linestyle=":", linewidth=1.4, label="chance")
        axis.set_xticks(range(3), [f"{_short(q)}\n/ {_short(g)}" for q, g in pairs], fontsize=10)
        axis.set_title(case, fontsize=11)
        axis.margins(y=0.16)  # room for the numbers above the bars
        axis.grid(axis="x", visible=False)
    for axis in grid[:, 0]:
        axis.set_ylabel(f"{METRICS[metric]} (%)")
    axes[-1].set_axis_off()
    axes[-1].legend(handles=_legend(), loc="center", title="query model / gallery model", frameon=False)
    return style.finished(figure)


def _bar(axis: Axes, place: int, measured: Rows, pair: tuple[str, str], metric: str) -> None:
    """One test: its mean as a bar with the number above, and every seed as a point."""
    cell = {"query_model": pair[0], "gallery_model": pair[1], "subset": "all", "metric": metric}
    values = 100 * measured.by_seed(method="independent", **cell)
    kind = int(pair[0] != pair[1])
    spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(1)
    axis.bar(place, values.mean(), color=style.COLOURS[kind], alpha=0.45, width=0.7)
    axis.scatter(place + spread, values, color=style.COLOURS[kind], marker=style.MARKERS[kind], s=24, zorder=3)
    above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 11}
    axis.annotate(f"{values.mean():.1f}", (place, values.max()), **above)


def _legend() -> list[Line2D]:
    marked = [
        Line2D([], [], color=style.COLOURS[kind], marker=style.MARKERS[kind], linestyle="", label=label)
        for kind, label in enumerate(("self-test, one seed", "cross-test, one seed"))
    ]
    return [*marked, Line2D([], [], color=style.COLOURS[-1], linestyle=":", label="chance")]


def heat_map(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Every model's queries against every model's gallery, mean over seeds, in percent."""
    style.apply()
    wanted = measured.of(method="independent", subset="all", metric=metric)
    matrix = 100 * wanted.pivot_table(index="query_model", columns="gallery_model", values="value")
    matrix = matrix.loc[list(ROLES), list(ROLES)]
    figure, axis = plt.subplots(figsize=(8.4, 6), layout="constrained")
    names = [style.NAMES[role] for role in ROLES]
    sns.heatmap(
        matrix,
        annot=True,
        fmt=".1f",
        cmap="cividis",
        ax=axis,
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"label": f"{METRICS[metric]} (%)"},
        annot_kws={"size": 11},
    )
    axis.set(xlabel="gallery embedded by", ylabel="query embedded by")
    axis.tick_params(axis="x", rotation=45)
    axis.tick_params(axis="y", rotation=0)
    return style.finished(figure)


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
    style.apply()
    chosen = np.linspace(0, len(images), examples, endpoint=False, dtype=int) + len(images) // (2 * examples)
    columns = 1 + len(galleries) * (top + 1)
    figure, axes = plt.subplots(examples, columns, figsize=(0.78 * columns, 1.02 * examples + 0.5), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, index in enumerate(chosen):
        draw_image(axes[row, 0], images, index)
        _frame(axes[row, 0], "black", "-")
        name = images.class_names[int(images.labels[index])].split("/")[-1].lower()
        beside = {"rotation": 0, "ha": "right", "va": "center", "fontsize": 8}
        axes[row, 0].set_ylabel(textwrap.fill(name, 20), **beside)
    axes[0, 0].annotate("query", (0.5, 1.45), xycoords="axes fraction", ha="center", fontsize=10)
    for block, (title, gallery) in enumerate(galleries.items()):
        first = 2 + block * (top + 1)
        found = search(query[chosen], gallery, top + 1, distance=distance).indices
        for row, index in enumerate(chosen):
            nearest = [item for item in found[row] if item != index][:top]
            for place, item in enumerate(nearest):
                axis = axes[row, first + place]
                is_right = bool(images.labels[item] == images.labels[index])
                draw_image(axis, images, item)
                _frame(axis, style.COLOURS[0] if is_right else style.COLOURS[1], "-" if is_right else "--")
                axis.set_title("✓" if is_right else "✗", fontsize=10, color="black", pad=2)
        axes[0, first + top // 2].annotate(title, (0.5, 1.45), xycoords="axes fraction", ha="center", fontsize=10)
    figure.subplots_adjust(wspace=0.12, hspace=0.35)
    return style.finished(figure)


def _frame(axis, colour: str, line: str) -> None:
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle=line)


def backfilling_cost(measured: Rows, dim: int, role: str = "new") -> pd.DataFrame:
    """What re-embedding a gallery costs at the measured speed: hours on this machine, and bytes of the embeddings.

    Reading and decoding the images, which usually costs more than a network as small as this, is not counted.
    """
    speed = measured.by_seed(query_model=role, gallery_model=role, metric="images_per_second").mean()
    lines = []
    for count, words in ((10**6, "a million"), (10**9, "a billion")):
        lines.append(
            {
                "images": words,
                "embedding again": duration(count / speed),
                "float32 (GB)": f"{4 * dim * count / 1e9:,.1f}",
                "float16 (GB)": f"{2 * dim * count / 1e9:,.1f}",
            }
        )
    return pd.DataFrame(lines)


def worked_example() -> pd.DataFrame:
    """Rank and average precision of every query of a tiny gallery whose axes the new model has swapped.

    Two models that separate the same four items equally well: the new one's embedding is the old one's with its
    coordinates exchanged. Integers, so that the numbers are the same on every processor.
    """
    labels = np.array([0, 0, 1, 1])
    old = np.array([[3, 0], [3, 1], [0, 3], [1, 3]], np.float32)
    new = old[:, ::-1].copy()
    lines = []
    for name, query, gallery in (("old / old", old, old), ("new / new", new, new), ("new / old", new, old)):
        result = evaluate(query, gallery, labels, labels, exclude_self=True)
        ranks = " ".join(map(str, result.first_rank))
        line = {"query / gallery": name, "first correct rank of each query": ranks, "rank 1": result.cmc[1]}
        lines.append(line | {"mAP": round(result.mean_average_precision, 4)})
    return pd.DataFrame(lines)


def _short(role: str) -> str:
    return SHORT.get(role, role)
