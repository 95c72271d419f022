"""Figures of the chapter *SFSC*, from its rows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from compatlib.study.chapters.sfsc.plan import FULL, WHOLE_MATRIX
from compatlib.study.chapters.sfsc.tables import PLAIN, methods_of, widths_of
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.tables import METRICS
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import BCT_S, INDEPENDENT, JOINT, ONE_TO_ONE, SFSC

# Table S1's methods; those of the ablation alone would lie upon them.
SHOWN = (INDEPENDENT, ONE_TO_ONE, JOINT, "Asymmetric-S", BCT_S, "CE + projection", SFSC)
GRADIENTS_SHOWN = ("Asymmetric-S", BCT_S, "CE + projection", "BCT-S + uncertainty", SFSC)


def matrices(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Every width's queries (down) against every width's gallery (across), mean over seeds."""
    style.apply()
    methods = [method for method in WHOLE_MATRIX if method in methods_of(measured)]
    widths = [f"{width:g}" for width in widths_of(measured)]
    figure, axes = plt.subplots(
        1, len(methods), figsize=(1.2 + 4.4 * len(methods), 4.0), layout="constrained", squeeze=False
    )
    found = measured.of(**PLAIN, split="closed", subset="all", metric=metric, method=methods, query_model=widths)
    means = 100 * found.pivot_table(index="query_model", columns=["method", "gallery_model"], values="value")
    top = means.to_numpy().max()
    for axis, method in zip(axes.flat, methods, strict=True):
        matrix = means[method].loc[widths, widths]
        look = {"annot": True, "fmt": ".1f", "cmap": "cividis", "vmin": 0, "vmax": top}
        sns.heatmap(matrix, ax=axis, cbar=axis is axes.flat[-1], cbar_kws={"label": f"{METRICS[metric]} (%)"}, **look)
        axis.set_title(method)
        axis.set(xlabel="gallery embedded at width", ylabel="query embedded at width")
        axis.tick_params(axis="y", rotation=0)
    return style.finished(figure)


def against_operations(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Plot S5: self-test and cross-test of every width against its operations, all methods; mean over seeds.

    Markers get smaller from method to method, as in `conflicts`.
    """
    style.apply()
    widths = widths_of(measured)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    methods = [method for method in SHOWN if method in methods_of(measured)]
    for number, method in enumerate(methods):
        cell = {**PLAIN, "split": "closed", "method": method}
        operations = [
            measured.by_seed(**cell, query_model=f"{width:g}", metric="flops").mean() / 1e6 for width in widths
        ]
        look = {"color": style.COLOURS[number], "marker": style.MARKERS[number], "label": method}
        look["markersize"] = 5 + len(methods) - 1 - number
        for axis, is_self in zip(axes, (True, False), strict=True):
            scores = [
                100
                * measured.by_seed(
                    **cell,
                    subset="all",
                    metric=metric,
                    query_model=f"{width:g}",
                    gallery_model=f"{width if is_self else FULL:g}",
                )
                for width in widths
            ]
            axis.plot(operations, [each.mean() for each in scores], **look)
            for place, each in zip(operations, scores, strict=True):
                axis.scatter(np.full(len(each), place), each, s=9, color=look["color"], alpha=0.5)
    axes[0].set_title("on its own gallery")
    axes[1].set_title("on the full model's gallery")
    for axis in axes:
        axis.set_xlabel("operations an image (MFLOPs)")
        axis.set_xscale("log")
        axis.set_xticks(operations, [f"{each:.3g}" for each in operations])
        axis.minorticks_off()
        axis.set_ylabel(f"{METRICS[metric]} (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return style.finished(figure)


def conflicts(measured: Rows) -> Figure:
    """Plot S3: cosine of the widths' gradients, pairs that conflict, and updates that hurt some width, by epoch.

    The mean over seeds, and over pairs where there are several; every seed as a thin line. Markers get smaller from
    method to method: where nothing is projected the lines of two methods coincide.
    """
    style.apply()
    panels = {
        "cosine of two widths' gradients": ("cosine", 1.0),
        "pairs that conflict (%)": ("conflicts", 100.0),
        "updates that hurt a width (%)": ("hurt any", 100.0),
    }
    methods = [method for method in GRADIENTS_SHOWN if method in methods_of(measured)]
    figure, axes = plt.subplots(1, len(panels), figsize=(12.5, 4.2), layout="constrained")
    for axis, (title, (metric, factor)) in zip(axes, panels.items(), strict=True):
        for number, method in enumerate(methods):
            found = measured.of(split="closed", method=method, metric=metric, x_name=EPOCH)
            # Conflicts are there pair by pair too; the mean over pairs has no models' names.
            found = found[found["query_model"] == ""] if metric == "conflicts" else found
            size = 5 + 2 * (len(methods) - 1 - number)
            _by_epoch(axis, found.assign(value=factor * found["value"]), number, method, size)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].axhline(0, color=style.COLOURS[-1], linewidth=1)
    for axis in axes[1:]:
        axis.set_ylim(0, max(1, axis.get_ylim()[1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods), frameon=False)
    return style.finished(figure)


def priorities(measured: Rows) -> Figure:
    """Plot S4: every width's gradient norm and mean uncertainty by epoch, and one against the other."""
    style.apply()
    methods = [method for method in (BCT_S, SFSC) if method in methods_of(measured)]
    widths = [f"{width:g}" for width in widths_of(measured)]
    figure, axes = plt.subplots(
        len(methods), 3, figsize=(12.5, 3.6 * len(methods)), layout="constrained", squeeze=False
    )
    for row, method in zip(axes, methods, strict=True):
        found = measured.of(split="closed", method=method, metric=["gradient norm", "uncertainty"], x_name=EPOCH)
        for axis, metric in zip(row, ("gradient norm", "uncertainty"), strict=False):
            for number, width in enumerate(widths):
                own = found[(found["metric"] == metric) & (found["query_model"] == width)]
                _by_epoch(axis, own, number, f"width {width}")
            axis.set(xlabel="epoch", ylabel=metric if metric == "gradient norm" else "uncertainty u = K / S")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        means = found.groupby(["metric", "query_model", "x"])["value"].mean()
        for number, width in enumerate(widths):
            row[2].plot(
                means["uncertainty"][width],
                means["gradient norm"][width],
                color=style.COLOURS[number],
                marker=style.MARKERS[number],
                markersize=5,
            )
        row[2].set(xlabel="uncertainty u = K / S", ylabel="gradient norm")
        row[1].set_title(method)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return style.finished(figure)


def _by_epoch(axis: Axes, found: pd.DataFrame, number: int, label: str, size: int = 5) -> None:
    table = found.pivot_table(index="x", columns="seed", values="value")
    colour = style.COLOURS[number]
    axis.plot(table.index, table.mean(axis=1), color=colour, marker=style.MARKERS[number], markersize=size, label=label)
    if len(table.columns) > 1:
        axis.plot(table, color=colour, linewidth=0.6, alpha=0.5)
