"""Trials around *FCT*'s plot F5: why embedding again in FastFill's order loses to a random order on the study's images.

On the study's seeds and test images, without side-information, under the Euclidean distance. They explain what F5
shows, and no value of the study was chosen by them. Some orders need labels or new embeddings, which no user has.
"""

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from compatlib.evaluation.compatibility import backfilling_curve
from compatlib.methods.fct import fastfill_loss
from compatlib.study import models, rows, sidecars
from compatlib.study.chapters import fct, fct_tuning
from compatlib.study.parallel import train_all
from compatlib.study.scoring import Record, named
from compatlib.study.settings import Settings
from compatlib.study.transformation_rows import CLASS_INCREMENTAL, SHARE
from compatlib.study.transformation_tests import TransformationTests
from compatlib.study.transformations import Transformed
from compatlib.study.tuning import Tuned
from compatlib.training import stream

CHAPTER = "fct_trials"
Knobs = fct.Knobs
DISTANCE = "euclidean"
FASTFILL = Transformed(objective="fastfill")
RANDOM, UNCERTAINTY, ASCENDING = "random", "uncertainty", "uncertainty, ascending"
IN_TURN, BY_CLASS, LOSS = "uncertainty, classes in turn", "class by class", "true loss"
ORDERS = (RANDOM, UNCERTAINTY, ASCENDING, IN_TURN, BY_CLASS, LOSS)
# FastFill fitted for as long and at the rate of the release, where the study has what was tuned for FCT's objective.
RECIPES = {
    "the study's": {},
    "the release's epochs and rate": {"transformation.epochs": 80, "transformation.learning_rate": 5e-4},
}
LOOKED_AT = (5, 10)  # cut-offs at which it is asked which items answer: about a quarter and a half of the gallery


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, fct_tuning.__name__, "compatlib.study.weights", *fct.STUDY)
    return sidecars.version_of(run, modules, measured_by=fct.CODE, trained_by=fct.TRAINED_BY)


def with_recipe(run: Settings, recipe: str) -> Settings:
    """The run with FastFill's transformation fitted by one of `RECIPES`."""
    for knob, value in RECIPES[recipe].items():
        run = fct_tuning.changed(run, knob, value)
    return run


def measure(run: Settings) -> Tuned:
    """Fit FastFill by every recipe and embed the gallery again in every order."""
    train_all(
        [
            task
            for seed in run.seeds
            for recipe in RECIPES
            for task in fct.tasks(with_recipe(run, recipe), seed, [FASTFILL], f", {recipe} recipe")
        ]
    )
    records, sidecar = [], {}
    for seed in run.seeds:
        begun, artifacts = time.monotonic(), {}
        for recipe in RECIPES:
            tests = TransformationTests(with_recipe(run, recipe), seed, CHAPTER)
            records += _records(tests, recipe)
            artifacts |= {f"{name}, {recipe} recipe": artifact for name, artifact in tests.artifacts.items()}
        about = sidecars.description(run, version(run), artifacts, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
    return Tuned(rows.Rows(rows.table(records), sidecar), {})


def _records(tests: TransformationTests, recipe: str) -> Iterator[dict[str, Any]]:
    new, changed, stated = tests.embeddings("new"), tests.transformed(FASTFILL), tests.log_variances(FASTFILL)
    losses = item_losses(new, changed, tests.labels, models.base_model(tests.run, "new", tests.seed)[0].classifier)
    record = partial(tests.record, split=CLASS_INCREMENTAL, method="FastFill", distance=DISTANCE, subset="all")
    correlation = float(spearmanr(stated, losses).statistic)
    yield record(variant=recipe, metric="rank correlation", value=correlation)
    for order, items in orders(tests.labels, stated, losses, tests.seed).items():
        if recipe == "the study's" or order in (RANDOM, UNCERTAINTY):
            place = {"variant": f"{order} order, {recipe} recipe", "query_model": "new", "gallery_model": "mixed"}
            yield from _order_rows(partial(record, **place), new, changed, tests.labels, items)


def item_losses(new: np.ndarray, changed: np.ndarray, labels: np.ndarray, classifier: torch.nn.Module) -> np.ndarray:
    """ℓ of every item (N,), what FastFill's s is to state the logarithm of: twice its loss at s = 0."""
    sides = (torch.from_numpy(changed), torch.from_numpy(new), torch.from_numpy(labels))
    zero = torch.zeros(1)
    with torch.inference_mode():
        found = [
            2 * float(fastfill_loss(one[None], zero, target[None], label[None], classifier))
            for one, target, label in zip(*sides, strict=True)
        ]
    return np.array(found)


def orders(labels: np.ndarray, stated: np.ndarray, losses: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Every order of `ORDERS`, (N,) first item first, by labels, stated log-variances and true losses (N,)."""
    random = torch.randperm(len(labels), generator=stream(seed, "gallery", "order")).numpy()
    classes = torch.randperm(int(labels.max()) + 1, generator=stream(seed, "gallery", "classes")).numpy()
    uncertainty = np.argsort(-stated, kind="stable")
    found = {
        RANDOM: random,
        UNCERTAINTY: uncertainty,
        ASCENDING: uncertainty[::-1],
        IN_TURN: uncertainty[np.argsort(_place_in_class(labels[uncertainty]), kind="stable")],
        BY_CLASS: random[np.argsort(classes[labels[random]], kind="stable")],
        LOSS: np.argsort(-losses, kind="stable"),
    }
    return {order: found[order].copy() for order in ORDERS}


def _place_in_class(labels: np.ndarray) -> np.ndarray:
    """Of every item, how many of its class stand before it."""
    seen: dict[int, int] = {}
    places = []
    for label in labels.tolist():
        places.append(seen.get(label, 0))
        seen[label] = places[-1] + 1
    return np.array(places)


def _order_rows(
    record: Record, new: np.ndarray, changed: np.ndarray, labels: np.ndarray, order: np.ndarray
) -> Iterator[dict[str, Any]]:
    curve = backfilling_curve(new, changed, new, labels, labels, order, exclude_self=True, distance=DISTANCE)
    for metric in named(curve.retrievals[0]):
        values = [named(retrieval)[metric] for retrieval in curve.retrievals]
        yield record(metric=f"auc {metric}", value=float(np.mean(values)))
    for cutoff in LOOKED_AT:
        replaced = np.zeros(len(order), bool)
        replaced[order[: curve.replaced[cutoff]]] = True
        place = {"x_name": SHARE, "x": float(curve.shares[cutoff])}
        for metric, value in answers(curve.retrievals[cutoff].nearest, labels, replaced).items():
            yield record(metric=metric, value=value, **place)


def answers(nearest: np.ndarray, labels: np.ndarray, replaced: np.ndarray) -> dict[str, float]:
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
