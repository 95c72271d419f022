"""Figures of the chapter *SFSC*, from its rows."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from compatlib.evaluation.statistics import Paired
from compatlib.study.chapters.sfsc.plan import FULL, WHOLE_MATRIX
from compatlib.study.chapters.sfsc.tables import CLOSED, ON_FULL, OWN, PLAIN, widths_of
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, measured_or_none, pair, present
from compatlib.study.lab.figures.marks import curve, differences, heat_maps, logarithmic
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.figures.texts import seeds_in_words
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import NoRowError, Rows
from compatlib.study.lab.trainables.widths import BCT_S, INDEPENDENT, JOINT, ONE_TO_ONE, SFSC

# Table S1's methods; those of the ablation alone would lie upon them.
SHOWN = (INDEPENDENT, ONE_TO_ONE, JOINT, "Asymmetric-S", BCT_S, "CE + projection", SFSC)
GRADIENTS_SHOWN = ("Asymmetric-S", BCT_S, "CE + projection", "BCT-S + uncertainty", SFSC)
# Lines of the page's first picture: the method, and whether the gallery is the query model's own.
MEETING = {
    "SFSC, on the server's gallery": (SFSC, False),
    "BCT-S, on the server's gallery": (BCT_S, False),
    "independent, on the server's gallery": (INDEPENDENT, False),
    "independent, on a gallery of its own": (INDEPENDENT, True),
}
UNCERTAINTY, NORM = "uncertainty u = K / S", "gradient norm"


def meeting(sources: Sequence[Source], metric: str = "map") -> Figure:
    """Queries of every width on the full model's gallery, a panel a source; mean over seeds, each seed a thin line.

    Beside them what a device reaches without the server: a network of the width by itself, on a gallery of its own.
    """
    figure, axes = style.panels(len(sources), (1.2 + 3.1 * len(sources), 4.2))
    place = {**CLOSED, **PLAIN, "subset": "all", "metric": metric}
    for axis, source in zip(axes[0], sources, strict=True):
        widths = [f"{width:g}" for width in widths_of(source.rows)]
        for number, (words, (method, is_own)) in enumerate(MEETING.items()):
            # At its full width an independent network would meet itself.
            asked = widths[:-1] if method == INDEPENDENT and not is_own else widths
            tests = [pair(width, width if is_own else f"{FULL:g}") for width in asked]
            try:
                found = pd.concat([source.rows.of(**place, **test, method=method) for test in tests])
            except NoRowError:
                continue
            look = {"linestyle": "--"} if is_own else {}
            found = found.assign(x=found["query_model"].astype(float))
            curve(axis, found, number, words, 100, markersize=8 - number, **look)
        axis.set_xticks([float(width) for width in widths], widths)
        axis.set_ylim(0, 1.04 * axis.get_ylim()[1])
        axis.set(title=source.words, xlabel="width of the query's model")
    axes[0, 0].set_ylabel(f"{METRICS[metric]} (%)")
    return style.finished(figure, legend=2)


def effects(sources: Sequence[Source], first: str = SFSC, second: str = BCT_S) -> Figure:
    """What the first method gains over the second, by source and score, with 95 % intervals; right of the line it does.

    Left the mean over all widths on their own galleries, right that of the narrower ones on the full model's.
    """
    panels: dict[str, dict[str, dict[str, Paired]]] = {}
    for title, means in (("on their own galleries", OWN), ("on the full model's gallery", ON_FULL)):
        panels[title] = {}
        for metric, words in RANK_1_AND_MAP.items():
            place = {**CLOSED, **PLAIN, **means, "subset": "all", "metric": metric}
            cells = [{**place, "method": method} for method in (first, second)]
            links = [(source.words, measured_or_none(source.rows, *cells)) for source in sources]
            panels[title][words] = {f"{name}\n({seeds_in_words(link.n)})": link for name, link in links if link}
    return differences(panels, f"{first} − {second} (points)", height=0.7 * len(sources) + 1.9, sharex=True)


def matrices(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Every width's queries (down) against every width's gallery (across), mean over seeds."""
    methods, widths = present(WHOLE_MATRIX, measured, **CLOSED), [f"{width:g}" for width in widths_of(measured)]
    found = measured.of(**PLAIN, **CLOSED, subset="all", metric=metric, method=methods, query_model=widths)
    means = 100 * found.pivot_table(index="query_model", columns=["method", "gallery_model"], values="value")
    words = ("gallery embedded at width", "query embedded at width", f"{METRICS[metric]} (%)")
    return heat_maps({method: means[method].loc[widths, widths] for method in methods}, words, size=(4.4, 4.0))


def against_operations(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Plot S5: self-test and cross-test of every width against its operations, all methods; mean over seeds.

    Markers get smaller from method to method, as in `conflicts`.
    """
    figure, axes = style.panels(2, (11, 4.6))
    methods, widths = present(SHOWN, measured, **CLOSED), [f"{width:g}" for width in widths_of(measured)]
    place = {**CLOSED, **PLAIN}
    for axis, title in zip(axes[0], ("on its own gallery", "on the full model's gallery"), strict=True):
        for number, method in enumerate(methods):
            flops = measured.of(**place, method=method, metric="flops").groupby("query_model")["value"].mean() / 1e6
            galleries = widths if "own" in title else [f"{FULL:g}"] * len(widths)
            tests = [pair(*test) for test in zip(widths, galleries, strict=True)]
            cell = {**place, "method": method, "subset": "all", "metric": metric}
            found = pd.concat([measured.of(**cell, **test) for test in tests])
            found = found.assign(x=found["query_model"].map(flops))
            curve(axis, found, number, method, 100, markersize=5 + len(methods) - 1 - number)
        logarithmic(axis, flops[widths].tolist(), "{:.3g}")
        axis.set(title=title, xlabel="operations an image (MFLOPs)", ylabel=f"{METRICS[metric]} (%)")
    return style.finished(figure, legend=4)


def conflicts(measured: Rows) -> Figure:
    """Plot S3: cosine of the widths' gradients, pairs that conflict, and updates that hurt some width, by epoch.

    The mean over seeds, and over pairs where there are several; every seed as a thin line. Markers get smaller from
    method to method: where nothing is projected the lines of two methods coincide.
    """
    shown = {
        "cosine of two widths' gradients": ("cosine", 1.0),
        "pairs that conflict (%)": ("conflicts", 100.0),
        "updates that hurt a width (%)": ("hurt any", 100.0),
    }
    methods = present(GRADIENTS_SHOWN, measured, **CLOSED)
    figure, axes = style.panels(len(shown), (12.5, 4.2))
    for axis, (title, (metric, factor)) in zip(axes[0], shown.items(), strict=True):
        # Conflicts are there pair by pair too; the mean over pairs has no models' names.
        names = {"query_model": ""} if metric == "conflicts" else {}
        for number, method in enumerate(methods):
            found = measured.of(**CLOSED, method=method, metric=metric, x_name=EPOCH, **names)
            curve(axis, found, number, method, factor, markersize=5 + 2 * (len(methods) - 1 - number))
        _by_epoch(axis, title=title)
    axes[0, 0].axhline(0, color=style.COLOURS[-1], linewidth=1)
    for axis in axes[0, 1:]:
        axis.set_ylim(0, max(1, axis.get_ylim()[1]))
    return style.finished(figure, legend=len(methods))


def priorities(measured: Rows) -> Figure:
    """Plot S4: every width's gradient norm and mean uncertainty by epoch, and one against the other."""
    methods, widths = present((BCT_S, SFSC), measured, **CLOSED), [f"{width:g}" for width in widths_of(measured)]
    figure, axes = style.panels(3, (12.5, 3.6 * len(methods)), rows=len(methods))
    for row, method in zip(axes, methods, strict=True):
        for number, width in enumerate(widths):
            cell = {**CLOSED, "method": method, "query_model": width, "x_name": EPOCH}
            norms, doubts = (measured.of(**cell, metric=metric) for metric in (NORM, "uncertainty"))
            for axis, found in zip(row, (norms, doubts), strict=False):
                curve(axis, found, number, f"width {width}", panel=method, markersize=5)
            means = [found.groupby("x")["value"].mean() for found in (doubts, norms)]
            row[2].plot(*means, **style.look(number), markersize=5)
            for doubt, norm in zip(*means, strict=True):
                figure.note(row[2], {"panel": method, "series": f"width {width}", "x": doubt, "mean": norm})
        _by_epoch(row[0], ylabel=NORM)
        _by_epoch(row[1], ylabel=UNCERTAINTY, title=method)
        row[2].set(xlabel=UNCERTAINTY, ylabel=NORM)
    return style.finished(figure, legend=4)


def _by_epoch(axis: Axes, **words: Any) -> None:
    axis.set(xlabel="epoch", **words)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
