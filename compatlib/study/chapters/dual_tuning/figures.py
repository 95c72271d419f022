"""Figures of the chapter *Dual-Tuning*, from its rows."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.evaluation.statistics import Measured, Paired
from compatlib.study.chapters.dual_tuning import story
from compatlib.study.chapters.dual_tuning.plan import (
    DUAL,
    HEADLINE,
    IN_RANDOM_ORDER,
    ON_OUTLIERS,
    RELEASE,
    SHARE_OF_OUTLIERS,
    WEIGHTS,
)
from compatlib.study.chapters.dual_tuning.tables import CROSS, OLD, ON_PROTOTYPES, PARAGON, PLAIN, SELF
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, Picks, measured_or_none, present
from compatlib.study.lab.figures.marks import curve, dots, level, logarithmic
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.images import CLASS_INCREMENTAL, OPEN_SET
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import NoRowError, Rows

TESTS = (("new / old", CROSS), ("new / new", SELF))
SPLITS = {CLASS_INCREMENTAL: "all classes", OPEN_SET: "unseen identities"}
KNOWN = {True: "classes old knew", False: "classes new to old"}


def criteria(sources: Sequence[Source]) -> Figure:
    """The criterion by method, a panel a source: right of the line new queries find more than old ones did."""
    panels: dict[str, dict[str, dict[str, Paired | None]]] = {}
    for source in sources:
        panels[source.words] = {
            title: {
                method: measured_or_none(
                    source.rows, *({**story.PLACE, "metric": metric, "method": method, **test} for test in (CROSS, OLD))
                )
                for method in story.COMPARED
            }
            for metric, title in RANK_1_AND_MAP.items()
        }
    figure = dots(panels, "new/old − old/old (points)", height=0.45 * len(story.COMPARED) + 1.9)
    for axis in figure.axes:
        axis.axvline(0, color=style.COLOURS[-1], linewidth=1.2)
    return figure


def mixed(measured: Rows, metric: str = "map") -> Figure:
    """Plot D3: new queries on a gallery of old and new items, by the share of old ones; a panel a split.

    The mean over seeds, and every seed as a thin line.
    """
    place = {"variant": IN_RANDOM_ORDER, "subset": "all", "metric": metric, "x_name": SHARE}
    splits = present(SPLITS, measured, "split", **place)
    figure, axes = style.panels(len(splits), (5.2 * len(splits), 4.4))
    for axis, split in zip(axes[0], splits, strict=True):
        for number, method in enumerate(present(HEADLINE, measured, **place, split=split)):
            found = measured.of(**place, split=split, method=method)
            look = {"markevery": 3, "markersize": 6}
            curve(axis, found.assign(x=100 - 100 * found["x"]), number, method, 100, **look)
        _mark(axis, measured, {**PLAIN, "split": split, "subset": "all", "metric": metric}, OLD, "--", "old / old")
        axis.invert_xaxis()
        axis.set_title(SPLITS[split])
        axis.set_xlabel("share of old items in the gallery (%)")
        axis.set_ylabel(f"{METRICS[metric]} (%)")
    return style.finished(figure, legend=len(HEADLINE) + 1)


def prototypes(measured: Rows) -> Figure:
    """Plot D4: by class, how often a query's nearest old prototype is that of its class; classes from worst to best.

    Means over seeds, of every class that the old model knew, and of every one that was new to it. Models trained apart,
    which do not meet, are left out.

    Raises:
        NoRowError: no scores by class are kept.
    """
    queries = {"old": {"query_model": "old", "method": "independent"}}
    names = present(HEADLINE[1:], measured, **PLAIN, **ON_PROTOTYPES)
    queries |= {f"new, {name}": {"query_model": "new", "method": name} for name in names}
    found = {
        words: measured.measured(**{**PLAIN, **ON_PROTOTYPES, **picks}, subset="all", metric="cmc@1")
        for words, picks in queries.items()
    }
    sorted_by = {words: {part: np.sort(100 * by_class(each, part)) for part in KNOWN} for words, each in found.items()}
    figure, axes = style.panels(len(queries), (3.0 * len(queries), 3.7), sharey=True)
    for axis, (words, parts) in zip(axes[0], sorted_by.items(), strict=True):
        for number, (part, accuracies) in enumerate(parts.items()):
            share = 100 * (np.arange(len(accuracies)) + 0.5) / len(accuracies)
            look = {**style.look(number), "markersize": 4, "linewidth": 1.0}
            axis.plot(share, accuracies, label=KNOWN[part], **look)
            for x, accuracy in zip(share, accuracies, strict=True):
                figure.note(axis, {"series": KNOWN[part], "x": x, "mean": accuracy})
            axis.axhline(accuracies.mean(), color=look["color"], linestyle=":", linewidth=1.2)
        axis.set_title(words)
        axis.set_xlabel("classes, worst to best (%)")
    axes[0, 0].set_ylabel("nearest prototype is right (%)")
    axes[0, 0].set_ylim(-3, 103)
    return style.finished(figure, legend=2)


def by_class(found: Measured, is_known: bool) -> np.ndarray:
    """Mean over seeds of a score by class, of the classes with queries that the old model knew, or did not.

    Raises:
        NoRowError: no scores by class are kept.
    """
    if found.by_class is None or found.strata is None:
        raise NoRowError("no scores by class are kept of these rows")
    scores = [one for (one,) in found.by_class.values()]
    sums, counts = (np.mean([getattr(each, name) for each in scores], axis=0) for name in ("sums", "counts"))
    wanted = (np.asarray(found.strata, bool) == is_known) & (counts > 0)
    return sums[wanted] / counts[wanted]


def outliers(measured: Rows, metric: str = "map") -> Figure:
    """D4's second part: new/old and new/new by the share of the old model's images with a wrong label."""
    place = {**PLAIN, "x_name": SHARE_OF_OUTLIERS, "subset": "all", "metric": metric}
    figure, axes = style.panels(len(TESTS), (4.8 * len(TESTS), 4.2), sharey=True)
    for axis, (words, test) in zip(axes[0], TESTS, strict=True):
        shown = [method for method in present(ON_OUTLIERS, measured, **place) if method != "independent"]
        for number, method in enumerate(shown):
            found = measured.of(**place, **test, method=method)
            curve(axis, found.assign(x=100 * found["x"]), number, method, 100)
        old = measured.of(**place, **OLD)
        look = {"color": style.COLOURS[-1], "linestyle": "--", "marker": ""}
        curve(axis, old.assign(x=100 * old["x"]), 0, "old / old", 100, **look)
        axis.set_title(words)
        axis.set_xlabel("old training images with a wrong label (%)")
        axis.set_xticks(sorted(100 * old["x"].unique()))
    axes[0, 0].set_ylabel(f"{METRICS[metric]} (%)")
    return style.finished(figure, legend=3)


def weights(measured: Rows, metric: str = "map") -> Figure:
    """D2's second part: cross-test and self-test of the whole method against each of its weights."""
    place = {"split": CLASS_INCREMENTAL, "variant": RELEASE, "subset": "all", "metric": metric, "method": DUAL}
    swept = present(WEIGHTS, measured, "x_name", **place)
    figure, axes = style.panels(len(swept), (4.8 * len(swept), 4.2), sharey=True)
    for axis, name in zip(axes[0], swept, strict=True):
        for number, (words, test) in enumerate(TESTS):
            found = measured.of(**place, **test, x_name=name)
            curve(axis, found, number, words, 100)
        own = {**PLAIN, "subset": "all", "metric": metric}
        _mark(axis, measured, own, PARAGON, ":", "new / new, the paragon")
        _mark(axis, measured, own, OLD, "--", "old / old: the criterion")
        logarithmic(axis, sorted(set(found["x"])))
        axis.set_xlabel(name)
    axes[0, 0].set_ylabel(f"{METRICS[metric]} (%)")
    return style.finished(figure, legend=2)


def _mark(axis: Axes, measured: Rows, place: Picks, cell: Picks, line: str, words: str) -> None:
    """A level as a line across."""
    height = 100 * measured.of(**{**place, **cell})["value"].mean()
    level(axis, height, words, linestyle=line, linewidth=1.3)
