"""Figures of the chapter *BCT*, from its rows."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from compatlib.study.chapters.bct.tables import CROSS, OLD, PLAIN, SELF, SUBSETS, chained, generation_matrix, methods_of
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.marks import mark_interval
from compatlib.study.lab.figures.tables import METRICS
from compatlib.study.lab.rows import Rows

SWEPT = (("new / old", CROSS), ("new / new", SELF))
SWEEPS = {"class-incremental": "half of the classes, then all", "open-set": "open set: unseen identities"}


def criterion(measured: Rows, split: str = "class-incremental") -> Figure:
    """M(new, old) − M(old, old) by method, metric and subset: right of the line the criterion is met.

    Mean and 95 % interval over seeds, each seed's point small.
    """
    style.apply()
    methods = methods_of(measured, split=split)
    figure, axes = plt.subplots(
        1, 3, figsize=(10.5, 0.5 * len(methods) + 1.9), sharex=True, sharey=True, layout="constrained"
    )
    for axis, (subset, words) in zip(axes, SUBSETS.items(), strict=True):
        for number, (metric, title) in enumerate(METRICS.items()):
            for place, method in enumerate(methods):
                values = _difference(measured, method, split=split, subset=subset, metric=metric)
                mark_interval(axis, values, place + 0.24 * (number - 1), number, title if place == 0 else None)
        axis.axvline(0, color=style.COLOURS[-1], linewidth=1.2)
        axis.set_title(words)
        axis.set_xlabel("new/old − old/old (points)")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return style.finished(figure)


def trade_off(measured: Rows, metric: str = "cmc@1", split: str = "class-incremental") -> Figure:
    """What compatibility costs: new/new across, new/old upwards, a point for each method and seed."""
    style.apply()
    figure, axis = plt.subplots(figsize=(7.6, 5.2), layout="constrained")
    place = {**PLAIN, "split": split, "subset": "all", "metric": metric}
    old = 100 * measured.by_seed(**place, **OLD).mean()
    paragon = 100 * measured.by_seed(**place, **SELF, method="independent").mean()
    axis.axhline(old, color=style.COLOURS[-1], linestyle="--", linewidth=1.2)
    axis.axvline(paragon, color=style.COLOURS[-1], linestyle=":", linewidth=1.4)
    for number, method in enumerate(methods_of(measured, split=split)):
        cross = 100 * measured.by_seed(**place, **CROSS, method=method)
        own = 100 * measured.by_seed(**place, **SELF, method=method)
        look = {"color": style.COLOURS[number % 7], "marker": style.MARKERS[number % 7]}
        hollow = {"facecolors": "none", "edgecolors": look["color"]} if number >= 7 else {"color": look["color"]}
        axis.scatter(own, cross, marker=look["marker"], s=30, alpha=0.6, linewidths=1.4, **hollow)
        axis.scatter(own.mean(), cross.mean(), marker=look["marker"], s=110, label=method, linewidths=1.8, **hollow)
    # The lines' names stand at the axes, where no point hides them.
    axis.annotate("old / old", (1.01, old), xycoords=("axes fraction", "data"), va="center", fontsize=10)
    axis.annotate("paragon", (paragon, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=10)
    axis.set_xlabel(f"new / new, {METRICS[metric]} (%)")
    axis.set_ylabel(f"new / old, {METRICS[metric]} (%)")
    axis.margins(0.08)
    figure.legend(loc="outside right center", frameon=False, title="mean of seeds (large)")
    return style.finished(figure)


def generations(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Three generations, each trained against its predecessor only: queries down, galleries across."""
    style.apply()
    methods = chained(measured)
    size = (1.4 + 3.9 * len(methods), 4.0)
    figure, axes = plt.subplots(1, len(methods), figsize=size, layout="constrained", squeeze=False)
    axes = axes[0]
    found = measured.of(split="three generations", subset="all", metric=metric)
    top = 100 * found["value"].max()
    names = ["1\n(25 %)", "2\n(50 %)", "3\n(100 %)"]
    for axis, method in zip(axes, methods, strict=True):
        rows = found[found["method"] == method]
        matrix = 100 * np.mean([generation_matrix(own) for _, own in rows.groupby("seed")], axis=0)
        sns.heatmap(
            matrix,
            annot=True,
            fmt=".1f",
            cmap="cividis",
            vmin=0,
            vmax=top,
            ax=axis,
            xticklabels=names,
            yticklabels=[name.replace("\n", " ") for name in names],
            cbar=axis is axes[-1],
            cbar_kws={"label": f"{METRICS[metric]} (%)"},
        )
        axis.set_title("trained apart" if method == "independent" else method)
        axis.set(xlabel="gallery of generation (classes)", ylabel="query of generation" if axis is axes[0] else "")
        axis.tick_params(axis="y", rotation=0)
    return style.finished(figure)


def sweep(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Cross-test and self-test of BCT against the influence loss's weight λ, on every split and form that was swept."""
    style.apply()
    swept = measured.of(x_name="weight", method=["BCT A", "BCT C"])
    splits = [split for split in SWEEPS if split in set(swept["split"])]
    figure, axes = plt.subplots(
        1, len(splits), figsize=(5.0 * len(splits), 4.2), sharey=False, layout="constrained", squeeze=False
    )
    for axis, split in zip(axes.flat, splits, strict=True):
        place = {"split": split, "variant": "", "subset": "all", "metric": metric, "x_name": "weight"}
        forms = [form for form in ("BCT A", "BCT C") if form in set(swept[swept["split"] == split]["method"])]
        for form, (number, (words, pair)) in itertools.product(forms, enumerate(SWEPT)):
            rows = measured.of(**place, **pair, method=form)
            mean = 100 * rows.groupby("x")["value"].mean()
            is_first = form == "BCT A"
            look = {"color": style.COLOURS[number + (0 if is_first else 2)], "marker": style.MARKERS[number]}
            look |= {"linestyle": "-" if is_first else "-.", "markerfacecolor": None if is_first else "white"}
            axis.plot(mean.index, mean, **look, label=f"{words}, {form}")
            axis.scatter(rows["x"], 100 * rows["value"], s=14, color=look["color"], alpha=0.6)
        without = {**place, "method": "independent"}
        paragon = 100 * measured.of(**without, **SELF)["value"].mean()
        old = 100 * measured.of(**place, **OLD)["value"].mean()
        axis.axhline(paragon, color=style.COLOURS[-1], linestyle=":", label="new / new, λ = 0 (paragon)")
        axis.axhline(old, color=style.COLOURS[-1], linestyle="--", label="old / old: the criterion")
        axis.set_xscale("log")
        axis.set_xticks(sorted(set(rows["x"])), [f"{x:g}" for x in sorted(set(rows["x"]))])
        axis.minorticks_off()
        axis.set_title(SWEEPS[split])
        axis.set_xlabel("weight λ of the influence loss")
        axis.set_ylabel(f"{METRICS[metric]} (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return style.finished(figure)


def _difference(measured: Rows, method: str, **where: str) -> pd.Series:
    """M(new, old) − M(old, old) by seed, in points."""
    cross = measured.by_seed(**{**PLAIN, **where}, **CROSS, method=method)
    return 100 * (cross - measured.by_seed(**{**PLAIN, **where}, **OLD, seed=list(cross.index)))
