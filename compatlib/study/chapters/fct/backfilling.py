"""Tables of the chapter *FCT* about backfilling, from its rows, and FastFill's worked example."""

import pandas as pd
import torch
from torch import nn

from compatlib.evaluation.statistics import Measured
from compatlib.methods.fct import fastfill_loss
from compatlib.study.chapters.fct import trials
from compatlib.study.chapters.fct.plan import BALANCE, BALANCES
from compatlib.study.chapters.fct.tables import DISTANCE_LINES, MAIN, PARAGON, by_distance
from compatlib.study.lab.figures.cells import RANK_1_AND_MAP, Picks
from compatlib.study.lab.figures.columns import Column, difference, level, levels, mean
from compatlib.study.lab.figures.tables import Line, by, crossed, table
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows

ORDERS = ("random", "uncertainty", "distance")
# Of the queries, or of those that such an item answers, at the first cut-off that the trials look at.
ANSWERS = {
    "classes begun": "classes that are begun",
    "answered by new": "queries that items embedded again answer",
    "right if new": "of these answers right",
    "right if transformed": "of the other answers right",
}


def curves_of(measured: Rows) -> list[tuple[str, str, str]]:
    """The curves that were measured: (method, order, with or without side-information).

    What the loss's balance changes are areas alone, in no order by name.
    """
    if "mixed" not in set(measured.frame["gallery_model"]):
        return []
    found = measured.of(gallery_model="mixed", metric="auc cmc@1", subset="all")
    named = found[found["variant"].str.contains(" order, ")]
    curves = {
        (method, *variant.split(" order, ")) for method, variant in zip(named["method"], named["variant"], strict=True)
    }
    return sorted(curves, key=lambda curve: (curve[2] == "with side-information", curve[0], ORDERS.index(curve[1])))


def curve_cell(method: str, order: str, beside: str) -> dict[str, str]:
    """What picks a curve's rows, its area's too."""
    return {"gallery_model": "mixed", "method": method, "variant": f"{order} order, {beside}"}


def _lines(measured: Rows) -> list[Line]:
    """A line for every curve."""
    return [
        (
            {"side-information": beside.partition(" ")[0], "h of": method, "order": order},
            curve_cell(method, order, beside),
        )
        for method, order, beside in curves_of(measured)
    ]


def area_table(measured: Rows, subset: str = "all") -> pd.DataFrame:
    """Table F5: mean over the backfilling curve, by transformation and order; mean over seeds, in percent.

    subset: `all`, or the queries of classes that the old model knew (`known`) or did not (`unknown`).
    """
    areas = {f"auc {metric}": words for metric, words in RANK_1_AND_MAP.items()}
    return table(measured, _lines(measured), by_distance(areas), subset=subset)


def start_table(measured: Rows) -> pd.DataFrame:
    """Where the curves begin: the gallery transformed, no item embedded again, and what new/new has more or less.

    In percent, and in points paired by seed: the transformed gallery's score − new/new's.
    """
    lines = [
        ({title: word for title, word in words.items() if title != "order"}, picks)
        for words, picks in _lines(measured)
        if words["order"] == "random"  # every order begins with the same gallery
    ]
    columns = {}
    for metric, words in RANK_1_AND_MAP.items():
        start, new = {"metric": metric, "x_name": SHARE, "x": 0.0}, {"metric": metric, "x": None, **MAIN, **PARAGON}
        columns[f"{words} (%)"] = level(**start)
        columns[f"{words}: start − new / new (points)"] = difference(start, new)
    return table(measured, crossed(lines, DISTANCE_LINES), columns, subset="all")


def balances() -> dict[str, tuple[Picks, Picks]]:
    """By the balance of FastFill's loss, what picks the areas of its gallery in its own order and in a random one."""
    place = {"split": MAIN["split"], "subset": "all", "gallery_model": "mixed", "method": "FastFill", "x_name": BALANCE}
    found = {}
    for weight, coordinates in BALANCES:
        own, random = (
            {**place, "x": weight, "variant": f"balance={coordinates} over coordinates;order={order}"}
            for order in ("uncertainty", "random")
        )
        found[f"× {weight:g}, {coordinates} of squares"] = own, random
    return found


def balance_table(measured: Rows) -> pd.DataFrame:
    """FastFill by the balance of its loss: areas in a random order, and what its own order gains, under cosine."""
    found = []
    for words, (own, random) in balances().items():
        columns = {}
        for metric, title in RANK_1_AND_MAP.items():
            area = {"metric": f"auc {metric}"}
            columns[f"{title}, random order (%)"] = level(**random, **area)
            columns[f"{title}: its own − random (points)"] = difference({**own, **area}, {**random, **area})
        found.append(table(measured, [({"cross-entropy": words}, {})], columns, distance="cosine"))
    return pd.concat(found, ignore_index=True)


def order_table(tried: Rows) -> pd.DataFrame:
    """Every order of the trials around F5: its areas, against the random order's of the same recipe.

    tried: rows of the chapter's trials.
    """
    there, found = set(tried.frame["variant"]), []
    for recipe in trials.RECIPES:
        variants = {order: _variant(order, recipe) for order in trials.ORDERS}
        lines = [
            ({"recipe of h": recipe, "order": order}, {"variant": variant})
            for order, variant in variants.items()
            if variant in there
        ]
        area, random = {"metric": "auc cmc@1"}, {"metric": "auc cmc@1", "variant": variants[trials.RANDOM]}
        columns = {
            "rank 1 (%)": level(**area),
            "rank 1: against random (points)": difference(area, random),
            "mAP (%)": level(metric="auc map"),
        }
        found.append(table(tried, lines, columns))
    return pd.concat(found, ignore_index=True)


def answer_table(tried: Rows) -> pd.DataFrame:
    """Which items answer at rank 1, by order, where about a quarter is embedded again; with the study's recipe."""
    recipe, lines = next(iter(trials.RECIPES)), []
    for order in trials.ORDERS:
        where = {"variant": _variant(order, recipe)}
        looked_at = tried.of(**where, metric="classes begun")["x"].min()
        lines.append(({"order": order}, {**where, "x": looked_at}))
    return table(tried, lines, levels("{} (%)", ANSWERS))


def correlation_table(tried: Rows) -> pd.DataFrame:
    """How well FastFill's s ranks the items by the loss that they have: Spearman's coefficient over test images."""
    columns = {
        "s and the true loss": mean("{:.2f}"),
        "lowest and highest seed": Column(({},), _range),
    }
    return table(tried, by("recipe of h", "variant", trials.RECIPES), columns, metric="rank correlation")


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
    for target, found, label in zip(new.split(1), transformed.split(1), labels.split(1), strict=True):
        # At s = 0 the loss is half of what is missed; it is least where s is the logarithm of what is missed.
        missed = 2 * fastfill_loss(found, zero, target, label, classifier)
        best = missed.log().reshape(1)
        least = fastfill_loss(found, best, target, label, classifier)
        numbers = {"‖φ_new − h‖": (target - found).norm(), "missed ℓ": missed, "best s = ln ℓ": best, "loss": least}
        line = {"item": str(len(lines) + 1), "φ_new": _vector(target), "h": _vector(found)}
        lines.append(line | {title: f"{number.item():.4f}" for title, number in numbers.items()})
    doubts = pd.Series([float(line["best s = ln ℓ"]) for line in lines])
    return pd.DataFrame(lines).assign(backfilled=doubts.rank(ascending=False, method="first").map("{:.0f}".format))


def _variant(order: str, recipe: str) -> str:
    return f"{order} order, {recipe} recipe"


def _range(values: Measured) -> str:
    found = values.values.values()
    return f"{min(found):.2f} to {max(found):.2f}"


def _vector(values: torch.Tensor) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.flatten().tolist()) + ")"
