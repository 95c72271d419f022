"""What is asked of a super-network's paths: a search's history, whether rankings agree, and what a query costs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from scipy.stats import kendalltau

from compatlib.models.encoders import FLOPS
from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.images import images_to_test
from compatlib.study.lab.measures.cost import flops
from compatlib.study.lab.measures.scores import named
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Of, Searched

JUDGED = "paths judged"
SELF, CROSS = "M(q, q)", "M(q, g)"
AGAIN, ALONE = "another super-network", "trained alone"
WITHIN, LOSSES = "loss", (0.003, 0.016)  # CMP-NAS's two headlines: as shares of 1


@measure("paths")
def history(seed: Seed, case: Case) -> Rows:
    """Every path that the query's search judged, in its order, and with the super-network's weights its scores."""
    for number, found in enumerate(_history(seed, case.query), 1):
        variant = ";".join(filter(None, (case.columns.get("variant", ""), f"path={found['path']}")))
        place = {"variant": variant, "subset": "all", "x_name": JUDGED, "x": number}
        for metric in ("self_test", "cross_test", "flops"):
            yield place | {"metric": metric, "value": float(found[metric])}


@measure("paths")
def mean_history(seed: Seed, case: Case) -> Rows:
    """The mean scores of all paths that the query's search judged."""
    for metric in ("self_test", "cross_test"):
        value = float(np.mean([found[metric] for found in _history(seed, case.query)]))
        yield {"subset": "all", "metric": metric, "value": value}


@measure("paths")
def agreement(seed: Seed, case: Case) -> Rows:
    """Kendall's τ of rankings of the same paths: by two scores of one super-network, and by one score of two of them.

    The query is searched in one, the gallery in the other: the latter τ is the ceiling that a super-network's own noise
    leaves.
    """
    own, other = (_scores(_history(seed, space)) for space in (case.query, case.gallery))
    yield from _rank_correlations({(SELF, CROSS): (own[SELF], own[CROSS])})
    yield from _rank_correlations({(name, f"{name}, {AGAIN}"): (own[name], other[name]) for name in own})


@measure("paths", "retrieval")
def agreement_alone(seed: Seed, case: Case) -> Rows:
    """Kendall's τ of paths by the super-network's weights and trained by themselves, on the case's split.

    The first pair is the search of random paths; each of the others a path trained alone, in the search's order, and
    the gallery.
    """
    (searched, _), *pairs = case.pairs
    inherited = _scores(_history(seed, searched)[: len(pairs)])
    tests = {SELF: [(query, query) for query, _ in pairs], CROSS: pairs}
    alone = {name: [_map(seed, case, *pair) for pair in each] for name, each in tests.items()}
    yield from _rank_correlations({(name, f"{name}, {ALONE}"): (inherited[name], alone[name]) for name in alone})
    if searched.search.is_recalibrated:  # said once
        yield from _rank_correlations({(f"{SELF}, {ALONE}", f"{CROSS}, {ALONE}"): (alone[SELF], alone[CROSS])})


@measure("paths", "retrieval", "flops")
def cost_saved(seed: Seed, case: Case) -> Rows:
    """The largest share of the gallery model's operations that a query model saves within a loss, 0 where none does.

    The first pair is the gallery model on itself, the paragon; the others are query models and the gallery. A share s
    is a fold of 1 / (1 − s).
    """
    one = torch.as_tensor(images_to_test(seed.run, case.split)[0][0])[None]
    costs = [flops(seed.made(query.what).backbone(), one) for query, _ in case.pairs]
    scores = [named(seed.test(*pair, case.split, case.distance)) for pair in case.pairs]
    for metric in scores[0]:
        values = [each[metric] for each in scores]
        for loss in LOSSES:
            place = {"subset": "all", "metric": f"cost saved {metric}", "x_name": WITHIN, "x": loss}
            yield place | {"value": saved(costs, values, loss)}


def saved(costs: Sequence[float], scores: Sequence[float], loss: float) -> float:
    """Share of the first's cost that the cheapest of those saves whose score is at most `loss` below the first's.

    Args:
        costs: above 0.
        scores: in [0, 1], of the same models.
        loss: in [0, 1]; of scores, not relative.
    """
    fits = [cost for cost, score in zip(costs, scores, strict=True) if score >= scores[0] - loss]
    return 1 - min(fits) / costs[0]


@measure("flops")
def whole_cost(seed: Seed, case: Case) -> Rows:
    """Operations of an image through the query's encoder, which nobody trains, and its head."""
    space = case.query
    encoder = space.what.encoder(seed.run)
    one = torch.as_tensor(images_to_test(seed.run, case.split, encoder)[0][0])[None]
    head = flops(seed.made(space.what).backbone(), one)
    yield {"metric": "flops with encoder", "value": float(FLOPS[encoder] + head)}


def _history(seed: Seed, space: Searched) -> list[Mapping]:
    return seed.made(space.search).artifact.about["history"]


def _scores(history: Iterable[Mapping]) -> dict[str, list[float]]:
    return {name: [row[field] for row in history] for name, field in ((SELF, "self_test"), (CROSS, "cross_test"))}


def _map(seed: Seed, case: Case, query: Of, gallery: Of) -> float:
    return seed.test(query, gallery, case.split, case.distance).mean_average_precision


def _rank_correlations(pairs: Mapping[tuple[str, str], tuple[Sequence[float], Sequence[float]]]) -> Rows:
    """τ-b of every pair, under the two names; NaN where all values of a side are equal."""
    for (first, second), values in pairs.items():
        place = {"subset": "all", "metric": "kendall tau", "query_model": first, "gallery_model": second}
        tau = float(kendalltau(*values).statistic) if all(np.ptp(each) > 0 for each in values) else float("nan")
        yield place | {"value": tau}
