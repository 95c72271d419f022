"""Figures of the chapter *BCT*, from its rows."""

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.evaluation.statistics import Paired
from compatlib.study.chapters.bct import story
from compatlib.study.chapters.bct.plan import CHAIN
from compatlib.study.chapters.bct.tables import CROSS, OLD, PARAGON, PLAIN, SELF, chained, methods_of
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, SUBSETS, Picks, compared, measured_or_none
from compatlib.study.lab.figures.marks import curve, differences, heat_maps, level, logarithmic
from compatlib.study.lab.figures.sources import HEADS, Source, own_head
from compatlib.study.lab.rows import Rows

GAINED = "new/old − old/old (points)"
SWEPT = (("new / old", CROSS), ("new / new", SELF))
SWEEPS = {"class-incremental": "half of the classes, then all", "open-set": "open set: unseen identities"}
SHARES = ("25 %", "50 %", "100 %")  # of the classes, by generation


def criterion(measured: Rows, split: str = "class-incremental") -> Figure:
    """M(new, old) − M(old, old) by method, metric and subset: right of the line the criterion is met."""
    methods, panels = methods_of(measured, split=split), {}
    for subset, words in SUBSETS.items():
        panels[words] = {}
        for metric, title in METRICS.items():
            place = {**PLAIN, "split": split, "subset": subset, "metric": metric}
            panels[words][title] = {
                method: compared(measured, {**place, **CROSS, "method": method}, {**place, **OLD}) for method in methods
            }
    return differences(panels, GAINED, height=0.5 * len(methods) + 1.9, sharex=True)


def criteria(sources: Sequence[Source]) -> Figure:
    """The criterion by method, a panel a source: right of the line new queries find more than old ones did."""
    panels: dict[str, dict[str, dict[str, Paired | None]]] = {}
    for source in sources:
        panels[source.words] = {
            title: {
                method: measured_or_none(source.rows, *_placed(story.criterion(), method=method, metric=metric))
                for method in story.METHODS
            }
            for metric, title in RANK_1_AND_MAP.items()
        }
    return differences(panels, GAINED, height=0.5 * len(story.METHODS) + 1.9)


def when(sources: Sequence[Source], metric: str = "cmc@1") -> Figure:
    """The criterion by form and head, as embeddings are compared: as they are, queries shifted, both centred."""
    offsets = {"as they are": story.AS_THEY_ARE, "queries shifted": story.SHIFTED, "both centred": story.CENTRED}
    panels: dict[str, dict[str, dict[str, Paired | None]]] = {}
    for source in sources:
        panels[source.words] = {}
        for words, offset in offsets.items():
            panels[source.words][words] = lines = {}
            for method, (head, named) in itertools.product(story.COMPARED, HEADS.items()):
                variant = "" if head == own_head(source) else f"head={head}"
                cells = _placed(story.criterion(offset, variant), method=method, metric=metric)
                lines[f"{method}, {named}"] = measured_or_none(source.rows, *cells)
    return differences(panels, GAINED, height=0.55 * len(story.COMPARED) * len(HEADS) + 1.9)


def _placed(criterion: tuple[Picks, Picks], **cell: str) -> list[dict[str, Any]]:
    return [{**story.PLACE, **cell, **side} for side in criterion]


def trade_off(measured: Rows, metric: str = "cmc@1", split: str = "class-incremental") -> Figure:
    """What compatibility costs: new/new across, new/old upwards, a point for each method and seed."""
    figure, axes = style.panels(1, (7.6, 5.2))
    axis, place = axes[0, 0], {**PLAIN, "split": split, "subset": "all", "metric": metric}
    old, paragon = (100 * measured.by_seed(**place, **cell).mean() for cell in (OLD, PARAGON))
    axis.axhline(old, color=style.COLOURS[-1], linestyle="--", linewidth=1.2)
    axis.axvline(paragon, color=style.COLOURS[-1], linestyle=":", linewidth=1.4)
    for number, method in enumerate(methods_of(measured, split=split)):
        own, cross = (100 * measured.by_seed(**place, **test, method=method) for test in (SELF, CROSS))
        look = style.look(number)
        is_hollow = number >= len(style.COLOURS)
        colours = {"facecolors": "none", "edgecolors": look["color"]} if is_hollow else {"color": look["color"]}
        axis.scatter(own, cross, marker=look["marker"], s=30, alpha=0.6, linewidths=1.4, **colours)
        large = {"marker": look["marker"], "s": 110, "linewidths": 1.8, "label": method}
        axis.scatter(own.mean(), cross.mean(), **large, **colours)
        for seed, value in cross.items():
            figure.note(axis, {"series": method, "seed": seed, "x": own[seed], "value": value})
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
    found = measured.of(split="three generations", variant="", subset="all", metric=metric)
    means = 100 * found.pivot_table(index="query_model", columns=["method", "gallery_model"], values="value")
    names = {name: f"{place} ({share})" for place, (name, share) in enumerate(zip(CHAIN, SHARES, strict=True), 1)}
    matrices = {}
    for method in chained(measured):
        matrix = means[method].loc[list(CHAIN), list(CHAIN)].rename(index=names, columns=names)
        matrices["trained apart" if method == "independent" else method] = matrix
    words = ("gallery of generation (classes)", "query of generation", f"{METRICS[metric]} (%)")
    return heat_maps(matrices, words, size=(3.9, 4.0))


def sweep(measured: Rows, metric: str = "cmc@1") -> Figure:
    """Cross-test and self-test of BCT against the influence loss's weight λ, on every split and form that was swept."""
    swept = set(measured.of(x_name="weight", method=["BCT A", "BCT C"])["split"])
    splits = [split for split in SWEEPS if split in swept]
    figure, axes = style.panels(len(splits), (5.0 * len(splits), 4.2))
    for axis, split in zip(axes[0], splits, strict=True):
        _swept(axis, measured, {"split": split, "variant": "", "subset": "all", "metric": metric, "x_name": "weight"})
        axis.set_title(SWEEPS[split])
        axis.set_ylabel(f"{METRICS[metric]} (%)")
    return style.finished(figure, legend=3)


def _swept(axis: Axes, measured: Rows, place: dict[str, str]) -> None:
    there = set(measured.of(**place)["method"])
    forms = [form for form in ("BCT A", "BCT C") if form in there]
    for form, (number, (words, test)) in itertools.product(forms, enumerate(SWEPT)):
        rows = measured.of(**place, **test, method=form)
        look = {} if form == "BCT A" else {"linestyle": "-.", "markerfacecolor": "white"}
        look["marker"] = style.MARKERS[number]
        curve(axis, rows, number + (0 if form == "BCT A" else 2), f"{words}, {form}", 100, **look)
    for cell, line, words in ((PARAGON, ":", "new / new, λ = 0 (paragon)"), (OLD, "--", "old / old: the criterion")):
        height = 100 * measured.of(**place, **cell)["value"].mean()
        level(axis, height, words, linestyle=line)
    logarithmic(axis, sorted(set(rows["x"])))
    axis.set_xlabel("weight λ of the influence loss")
