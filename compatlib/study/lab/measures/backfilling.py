"""A transformed gallery while it is embedded again: its curve, and which items answer."""

import math

import numpy as np
from scipy.stats import spearmanr

from compatlib.evaluation.compatibility import BackfillingCurve, backfilling_curve
from compatlib.study.lab.cases import BY_CLASS, Case, Rows, measure
from compatlib.study.lab.measures.scores import named
from compatlib.study.lab.orders import order_of, true_losses
from compatlib.study.lab.seed import Seed

SHARE = "share replaced"
LOOKED_AT = (5, 10)  # cut-offs at which it is asked which items answer: about a quarter and a half of the gallery


def _curve(seed: Seed, case: Case) -> tuple[BackfillingCurve, np.ndarray]:
    """The curve of the mixed gallery, and the order."""
    mixed, split = case.gallery, case.split
    order, labels = order_of(seed, mixed, split), seed.labels(split)
    query, old, new = (seed.vectors(space, split) for space in (case.query, mixed.old, mixed.new))
    curve = backfilling_curve(query, old, new, labels, labels, order, exclude_self=True, distance=case.distance)
    return curve, order


@measure("backfilling")
def curve(seed: Seed, case: Case) -> Rows:
    """Scores at every cut-off on all queries, and their mean over the curve on every subset."""
    found, _ = _curve(seed, case)
    for share, retrieval in zip(found.shares, found.retrievals, strict=True):
        for metric, value in named(retrieval).items():
            yield {"subset": "all", "metric": metric, "x_name": SHARE, "x": float(share), "value": value}
    for subset, mask in seed.masks(case.split).items():
        yield from _areas(seed, case, found, subset, mask)


def _areas(seed: Seed, case: Case, curve: BackfillingCurve, subset: str, mask: np.ndarray) -> Rows:
    scores, labels = [named(retrieval.subset(mask)) for retrieval in curve.retrievals], seed.labels(case.split)
    classes = curve.area_by_class(labels, int(labels.max()) + 1) if subset == "all" else {}
    classes = {"map" if name == "mean_average_precision" else name: each for name, each in classes.items()}
    for metric in scores[0]:
        value = float(np.mean([each[metric] for each in scores]))
        own = {BY_CLASS: classes[metric]} if classes else {}
        yield {"subset": subset, "metric": f"auc {metric}", "value": value, **own}


@measure("backfilling")
def curve_area(seed: Seed, case: Case) -> Rows:
    """The means over the curve alone, on all queries."""
    found, order = _curve(seed, case)
    yield from _areas(seed, case, found, "all", np.ones(len(order), bool))


@measure("backfilling")
def answers(seed: Seed, case: Case) -> Rows:
    """Which items answer at rank 1, where about a quarter and a half of the gallery is embedded again."""
    found, order = _curve(seed, case)
    for cutoff in LOOKED_AT:
        replaced = np.zeros(len(order), bool)
        replaced[order[: found.replaced[cutoff]]] = True
        place = {"subset": "all", "x_name": SHARE, "x": float(found.shares[cutoff])}
        shares = answered(found.retrievals[cutoff].nearest, seed.labels(case.split), replaced)
        for metric, value in shares.items():
            yield place | {"metric": metric, "value": value}


def answered(nearest: np.ndarray, labels: np.ndarray, replaced: np.ndarray) -> dict[str, float]:
    """Which items of a mixed gallery answer at rank 1: shares of all queries, or of those that they answer (NaN: none).

    Args:
        nearest: (N,) the item that answers each query.
        labels: (N,) of queries and items alike.
        replaced: (N,) whether an item is embedded again.
    """
    by_new, is_right = replaced[nearest], labels[nearest] == labels
    return {
        "answered by new": float(by_new.mean()),
        "right if new": _mean(is_right[by_new]),
        "right if transformed": _mean(is_right[~by_new]),
        "classes begun": float(len(np.unique(labels[replaced])) / len(np.unique(labels))),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


@measure("fastfill")
def correlation(seed: Seed, case: Case) -> Rows:
    """Spearman's coefficient of FastFill's s and the loss that it states, over the test images."""
    mixed = case.gallery
    stated = mixed.old.log_variances(seed, case.split)
    value = float(spearmanr(stated, true_losses(seed, mixed, case.split)).statistic)
    yield {"subset": "all", "metric": "rank correlation", "value": value}
