"""Figures of the chapter *CMP-NAS*, from its rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.evaluation.statistics import Paired
from compatlib.methods.architecture_search import REWARDS
from compatlib.methods.path_scores import Score
from compatlib.study.chapters.cmp_nas.plan import (
    BOTH,
    GALLERY,
    OBJECTIVES,
    PATH,
    PATH_AGAIN,
    PATH_LEFT,
    RANDOM_PATHS,
)
from compatlib.study.chapters.cmp_nas.tables import (
    ACROSS,
    CEILING,
    CROSS_TEST,
    HAND_MADE,
    OF_PARAGON,
    OPEN,
    RANKINGS,
    SELF_TEST,
    caps_of,
    tau_level,
    taus,
)
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, compared, measured_or_none, present
from compatlib.study.lab.figures.marks import curve, differences, level
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.images import SEARCHED
from compatlib.study.lab.measures.paths import JUDGED
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.supernets import SEARCHES

PLACE = {**OPEN, "variant": "", "subset": "all"}
WHOLE = "M(g, g), the paragon"
SEEN = {"self_test": "M(q, q)", "cross_test": "M(q, g)"}


def rule(sources: Sequence[Source]) -> Figure:
    """The rule by objective, a panel a source: right of the line a query finds more in the large model's gallery."""
    panels: dict[str, dict[str, dict[str, Paired | None]]] = {}
    for source in sources:
        panels[source.words] = {
            title: {method: _rule(source.rows, method, metric) for method in OBJECTIVES}
            for metric, title in RANK_1_AND_MAP.items()
        }
    return differences(panels, "M(q, g) − M(q, q) (points)", height=0.5 * len(OBJECTIVES) + 1.4)


def _rule(measured: Rows, method: str, metric: str) -> Paired | None:
    cells = ({**PLACE, "metric": metric, "method": method, **test} for test in (CROSS_TEST, SELF_TEST))
    return measured_or_none(measured, *cells)


def against_operations(measured: Rows, metric: str = "map") -> Figure:
    """C4: M(q, g) against a query network's operations, hand-made and searched; a line across marks the paragon.

    Of heads, where nobody trains the encoders, their own operations count, and the rule's two sides are drawn.
    """
    if "flops with encoder" in set(measured.frame["metric"]):
        return _of_encoders(measured, metric)
    figure, axes = style.panels(1, (7.6, 4.8))
    axis = axes[0, 0]
    for number, (words, names) in enumerate(_networks(measured).items()):
        _points(axis, measured, names, number, words, metric, "flops")
    _finish(axis, measured, metric, "operations of a query image (MFLOPs)")
    return style.finished(figure, legend=3)


def _networks(measured: Rows) -> dict[str, list[dict[str, str]]]:
    """Query networks by who made them, a colour each."""
    found = {"hand-made": [{"method": name, "variant": ""} for name in present(HAND_MADE, measured, **OPEN)]}
    for by in SEARCHES:
        own = [{"method": by, "variant": cap} for cap in caps_of(measured)]
        own = [each for each in own if by in present(SEARCHES, measured, **OPEN, variant=each["variant"])]
        found[by if by not in REWARDS else f"searched by {by}"] = own
    return {words: names for words, names in found.items() if names}


def _of_encoders(measured: Rows, metric: str) -> Figure:
    figure, axes = style.panels(1, (6.4, 4.6))
    cost = "flops with encoder"
    variants = sorted(set(measured.of(**OPEN, method=BOTH, metric=cost)["variant"]))
    names = [{"method": BOTH, "variant": each} for each in variants]
    for number, (words, test) in enumerate((("M(q, g), both classifiers", CROSS_TEST), ("M(q, q)", SELF_TEST))):
        _points(axes[0, 0], measured, names, number, words, metric, cost, test)
    _points(axes[0, 0], measured, [OF_PARAGON], 2, WHOLE, metric, cost, {})
    _finish(axes[0, 0], measured, metric, "operations of a query image, encoder and head (MFLOPs)")
    return style.finished(figure, legend=3)


def _points(
    axis: Axes,
    measured: Rows,
    names: Sequence[Mapping[str, str]],
    number: int,
    words: str,
    metric: str,
    cost: str,
    test: Mapping[str, str] = CROSS_TEST,
) -> None:
    """Every seed as a small point, their mean as a large one with its 95 % interval."""
    look = style.look(number)
    for place, name in enumerate(names):
        operations = measured.by_seed(**{**OPEN, **CROSS_TEST, **name, "metric": cost}) / 1e6
        link = compared(measured, {**OPEN, **test, **name, "subset": "all", "metric": metric})
        network = f"{name['method']} {name['variant']}".strip()
        line, at = {"series": words, "network": network}, operations.mean()
        for seed, value in link.differences.items():
            axis.scatter([operations[seed]], [100 * value], color=look["color"], s=10, alpha=0.6)
            found = {"x": operations[seed], "value": 100 * value}
            axis.figure.note(axis, line | {"of": f"seed {seed}", **found})
        if np.isfinite(link.low):
            axis.plot([at, at], [100 * link.low, 100 * link.high], color=look["color"], linewidth=1.6)
        axis.scatter([at], [100 * link.mean], **look, s=52, zorder=3, label=None if place else words)
        found = {"x": at, "mean": 100 * link.mean, "low": 100 * link.low, "high": 100 * link.high}
        axis.figure.note(axis, line | {"of": "all seeds", **found})


def _finish(axis: Axes, measured: Rows, metric: str, label: str) -> None:
    paragon = 100 * measured.by_seed(**{**PLACE, **OF_PARAGON, "metric": metric}).mean()
    level(axis, paragon, WHOLE, linestyle=":", linewidth=1.4)
    axis.set(xlabel=label, ylabel=f"{METRICS[metric]} (%)", xscale="log")


def rankings(measured: Rows) -> Figure:
    """C2: random paths by inherited weights: M(q, g) against M(q, q) and M(q, g), both by a second super-network."""
    own, again = (_paths(measured, query) for query in (PATH, PATH_AGAIN))
    figure, axes = style.panels(2, (10.4, 4.6), sharey=True)
    pairs = {
        "M(q, q) by another super-network (%)": (again["self_test"], ACROSS),
        "M(q, g) by another super-network (%)": (again["cross_test"], CEILING),
    }
    for axis, (label, (across, words)) in zip(axes[0], pairs.items(), strict=True):
        _scatter(axis, 100 * across, 100 * own["cross_test"])
        axis.set(xlabel=label, title=f"τ = {tau_level(taus(measured, RANKINGS[words]))}")
    axes[0, 0].set_ylabel("M(q, g) (%), mAP on the search's classes")
    return style.finished(figure, legend=len(own.index.unique("seed")))


def inherited(measured: Rows, metric: str = "map") -> Figure:
    """C5 and C2: what random paths reach trained alone, against their scores with inherited weights, and M(q, q)."""
    trained = measured.of(**OPEN, method=RANDOM_PATHS, variant="", subset="all", metric=metric)
    trained = trained.assign(x=trained["query_model"].astype(float)).set_index(["seed", "x"])
    is_cross = trained["gallery_model"] == GALLERY
    alone, own = (100 * trained[which]["value"] for which in (is_cross, ~is_cross))
    panels = {"recalibrated": PATH, "BatchNorm as it was left": PATH_LEFT}
    figure, axes = style.panels(len(panels) + 1, (13.2, 4.6), sharey=True)
    for axis, (title, query) in zip(axes[0], panels.items(), strict=False):
        scores = _paths(measured, query)["cross_test"].reset_index("variant", drop=True)
        _scatter(axis, 100 * scores.reindex(alone.index), alone)
        axis.set(xlabel="M(q, g) by the super-network's weights (%)", title=title)
    _scatter(axes[0, -1], own, alone)
    axes[0, -1].set(xlabel=f"M(q, q) trained alone, {METRICS[metric]} (%)", title="the other test")
    axes[0, 0].set_ylabel(f"M(q, g) trained alone, {METRICS[metric]} (%)")
    return style.finished(figure, legend=len(alone.index.unique("seed")))


def searches(measured: Rows) -> Figure:
    """C3: the best path so far by each search's own reward, as its M(q, q) and M(q, g), while paths are judged."""
    figure, axes = style.panels(2, (10.4, 4.4))
    query = f"{PATH}, {caps_of(measured)[0]}"
    for number, by in enumerate(present(SEARCHES, measured, split=SEARCHED, x_name=JUDGED)):
        best = _best_so_far(measured, by, query)
        for axis, (metric, words) in zip(axes[0], SEEN.items(), strict=True):
            found = best.assign(value=best[metric])
            curve(axis, found, number, by, 100, marker="", linewidth=1.8)
            axis.set(xlabel="paths judged", ylabel=f"{words} of the best so far (%)")
    return style.finished(figure, legend=len(SEARCHES))


def _best_so_far(measured: Rows, by: str, query: str) -> pd.DataFrame:
    scores = _history(measured, by, query).reset_index()
    reward = REWARDS.get(by, REWARDS["R2"])
    scores["reward"] = [reward(Score("", row.self_test, row.cross_test, 0, 0.0)) for row in scores.itertuples()]
    parts = []
    for _, own in scores.sort_values("x").groupby("seed"):
        at = np.maximum.accumulate(own["reward"].to_numpy())
        best = own.set_index("reward")[list(SEEN)]
        best = best[~best.index.duplicated()].loc[at].reset_index(drop=True)
        parts.append(best.assign(x=own["x"].to_numpy(), seed=own["seed"].to_numpy()))
    return pd.concat(parts, ignore_index=True)


def _paths(measured: Rows, query: str) -> pd.DataFrame:
    return _history(measured, RANDOM_PATHS, query)


def _history(measured: Rows, method: str, query: str) -> pd.DataFrame:
    """Scores of every path that was judged, by (seed, x, variant)."""
    found = measured.of(split=SEARCHED, method=method, query_model=query, x_name=JUDGED)
    return found.pivot_table(index=["seed", "x", "variant"], columns="metric", values="value")


def _scatter(axis: Axes, across: pd.Series, up: pd.Series) -> None:
    """Pairs of equal index, a colour a seed."""
    for number, seed in enumerate(up.index.unique("seed")):
        one, other = (each.xs(seed, level="seed") for each in (across, up))
        one = one.reindex(other.index)
        axis.scatter(one, other, s=26, alpha=0.75, label=f"seed {seed}", **style.look(number))
        for path, value in other.items():
            named = path if isinstance(path, tuple) else (path,)
            found = {"series": f"seed {seed}", "path": f"{named[0]:.0f}", "x": one[path], "value": value}
            axis.figure.note(axis, found)
