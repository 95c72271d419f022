"""Tables of the chapter *FCT* about backfilling, from its rows, and FastFill's worked example."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from compatlib.evaluation.checks import DISTANCES
from compatlib.methods.fct import fastfill_loss
from compatlib.study.chapters.fct import trials
from compatlib.study.chapters.fct.tables import MAIN, PARAGON
from compatlib.study.lab.figures.tables import METRICS, in_percent, points
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows

# Of the queries, or of those that such an item answers, at the first cut-off that the trials look at.
ANSWERS = {
    "classes begun": "classes that are begun",
    "answered by new": "queries that items embedded again answer",
    "right if new": "of these answers right",
    "right if transformed": "of the other answers right",
}


def curves_of(measured: Rows) -> list[tuple[str, str, str]]:
    """The curves that were measured: (method, order, with or without side-information)."""
    if "mixed" not in set(measured.frame["gallery_model"]):
        return []
    found = measured.of(gallery_model="mixed", metric="auc cmc@1", subset="all")
    pairs = list(dict.fromkeys(zip(found["method"], found["variant"], strict=True)))
    curves = [(method, *variant.split(" order, ")) for method, variant in pairs]
    orders = {"random": 0, "uncertainty": 1, "distance": 2}
    return sorted(curves, key=lambda curve: (curve[2] == "with side-information", curve[0], orders[curve[1]]))


def area_table(measured: Rows, subset: str = "all") -> pd.DataFrame:
    """Table F5: mean over the backfilling curve, by transformation and order; mean over seeds, in percent.

    subset: `all`, or the queries of classes that the old model knew (`known`) or did not (`unknown`).
    """
    lines = []
    for method, order, beside in curves_of(measured):
        line = {"side-information": beside.partition(" ")[0], "h of": method, "order": order}
        for distance in DISTANCES:
            for metric in ("cmc@1", "map"):
                place = {"gallery_model": "mixed", "method": method, "variant": f"{order} order, {beside}"}
                where = {**place, "subset": subset, "metric": f"auc {metric}", "distance": distance}
                values = measured.by_seed(**where)
                line[f"{distance}: {METRICS[metric]} (%)"] = in_percent(values)
        lines.append(line | {"n": len(values)})
    return pd.DataFrame(lines)


def order_table(tried: Rows) -> pd.DataFrame:
    """Every order of the trials around F5: its areas, against the random order's of the same recipe.

    tried: rows of the chapter's trials.
    """
    lines, measured = [], set(tried.frame["variant"])
    for recipe in trials.RECIPES:
        variants = {order: f"{order} order, {recipe} recipe" for order in trials.ORDERS}
        random = tried.by_seed(variant=variants[trials.RANDOM], metric="auc cmc@1")
        for order, variant in variants.items():
            if variant not in measured:
                continue
            areas = {metric: tried.by_seed(variant=variant, metric=f"auc {metric}") for metric in ("cmc@1", "map")}
            line = {"recipe of h": recipe, "order": order, "rank 1 (%)": in_percent(areas["cmc@1"])}
            line["rank 1: against random (points)"] = "" if order == trials.RANDOM else points(areas["cmc@1"], random)
            line["mAP (%)"] = in_percent(areas["map"])
            lines.append(line | {"n": len(random)})
    return pd.DataFrame(lines)


def answer_table(tried: Rows) -> pd.DataFrame:
    """Which items answer at rank 1, by order, where about a quarter is embedded again; with the study's recipe."""
    lines = []
    for order in trials.ORDERS:
        where = {"variant": f"{order} order, {next(iter(trials.RECIPES))} recipe"}
        looked_at = tried.of(**where, metric="classes begun")["x"].min()
        line = {"order": order}
        for metric, title in ANSWERS.items():
            line[f"{title} (%)"] = in_percent(tried.by_seed(**where, metric=metric, x=looked_at))
        lines.append(line)
    return pd.DataFrame(lines)


def correlation_table(tried: Rows) -> pd.DataFrame:
    """How well FastFill's s ranks the items by the loss that they have: Spearman's coefficient over test images."""
    lines = []
    for recipe in trials.RECIPES:
        found = tried.by_seed(variant=recipe, metric="rank correlation")
        line = {"recipe of h": recipe, "s and the true loss": f"{found.mean():.2f}", "n": len(found)}
        lines.append(line | {"lowest and highest seed": f"{found.min():.2f} to {found.max():.2f}"})
    return pd.DataFrame(lines)


def start_table(measured: Rows) -> pd.DataFrame:
    """Where the curves begin: the gallery transformed, no item embedded again, and what new/new has more or less.

    In percent, and in points paired by seed: the transformed gallery's score − new/new's.
    """
    lines = []
    for method, order, beside in curves_of(measured):
        if order != "random":  # every order begins with the same gallery
            continue
        place = {"gallery_model": "mixed", "method": method, "variant": f"{order} order, {beside}", "x_name": SHARE}
        for distance in DISTANCES:
            line = {"side-information": beside.partition(" ")[0], "h of": method, "distance": distance}
            for metric in ("cmc@1", "map"):
                where = {"subset": "all", "metric": metric, "distance": distance}
                start, new = measured.by_seed(**place, **where, x=0), measured.by_seed(**MAIN, **PARAGON, **where)
                line[f"{METRICS[metric]} (%)"] = in_percent(start)
                line[f"{METRICS[metric]}: start − new / new (points)"] = points(start, new[start.index])
            lines.append(line | {"n": len(start)})
    return pd.DataFrame(lines)


def worked_example() -> pd.DataFrame:
    """FastFill's loss of three items: what is missed, the uncertainty that is stated, and the order that follows.

    Small integers, so that the numbers are the same on every processor.
    """
    new = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    transformed = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1, 0])
    classifier = nn.Identity()  # the embedding's coordinates are the logits of two classes
    zero = torch.zeros(1)
    lines = []
    for item, (target, found) in enumerate(zip(new.split(1), transformed.split(1), strict=True)):
        label = labels[item : item + 1]
        # At s = 0 the loss is half of what is missed; it is least where s is the logarithm of what is missed.
        missed = 2 * fastfill_loss(found, zero, target, label, classifier)
        best = missed.log().reshape(1)
        least = fastfill_loss(found, best, target, label, classifier)
        distance = (target - found).norm().item()
        line = {"item": str(item + 1), "φ_new": _vector(target), "h": _vector(found), "‖φ_new − h‖": f"{distance:.4f}"}
        line |= {
            "missed ℓ": f"{missed.item():.4f}",
            "best s = ln ℓ": f"{best.item():.4f}",
            "loss": f"{least.item():.4f}",
        }
        lines.append(line)
    order = np.argsort([-float(line["best s = ln ℓ"]) for line in lines], kind="stable")
    return pd.DataFrame(
        [line | {"backfilled": str(int(np.flatnonzero(order == i)[0]) + 1)} for i, line in enumerate(lines)]
    )


def _vector(values: torch.Tensor) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.flatten().tolist()) + ")"
