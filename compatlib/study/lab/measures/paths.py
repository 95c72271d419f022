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
TAU, TAU_ENDS = "kendall tau", ("kendall tau low", "kendall tau high")
RESAMPLES = 1_000
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

    The query is searched in one, the gallery in the other: τ of one score by two super-networks is the ceiling that
    their noise leaves. Two scores of one super-network share its noise. So two scores of two super-networks are ranked
    too, the mean of both ways round: that τ alone is held to the ceiling.
    """
    own, other = (_scores(_history(seed, space)) for space in (case.query, case.gallery))
    yield from _rank_correlations({(SELF, CROSS): (own[SELF], own[CROSS])})
    yield from _rank_correlations({(name, f"{name}, {AGAIN}"): (own[name], other[name]) for name in own})
    across = float(np.mean([_tau(own[SELF], other[CROSS]), _tau(other[SELF], own[CROSS])]))
    yield _named(SELF, f"{CROSS}, {AGAIN}") | {"metric": TAU, "value": across}


@measure("paths", "retrieval")
def agreement_alone(seed: Seed, case: Case) -> Rows:
    """Kendall's τ of paths by the super-network's weights and trained by themselves, on the case's split.

    With each the ends of its 95 % interval, paths resampled: one seed's paths are few. The first pair is the search of
    random paths; each of the others a path trained alone, in the search's order, and the gallery.
    """
    (searched, _), *pairs = case.pairs
    inherited = _scores(_history(seed, searched)[: len(pairs)])
    tests = {SELF: [(query, query) for query, _ in pairs], CROSS: pairs}
    alone = {name: [_map(seed, case, *pair) for pair in each] for name, each in tests.items()}
    rankings = {(name, f"{name}, {ALONE}"): (inherited[name], alone[name]) for name in alone}
    if searched.search.is_recalibrated:  # said once
        rankings[f"{SELF}, {ALONE}", f"{CROSS}, {ALONE}"] = alone[SELF], alone[CROSS]
    yield from _rank_correlations(rankings)
    for names, values in rankings.items():
        for metric, value in zip(TAU_ENDS, tau_interval(*values), strict=True):
            yield _named(*names) | {"metric": metric, "value": value}


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
    """τ-b of every pair, under the two names."""
    for names, values in pairs.items():
        yield _named(*names) | {"metric": TAU, "value": _tau(*values)}


def _named(first: str, second: str) -> dict[str, str]:
    return {"subset": "all", "query_model": first, "gallery_model": second}


def _tau(first: Sequence[float], second: Sequence[float]) -> float:
    """τ-b; NaN where all values of a side are equal."""
    is_ranked = np.ptp(first) > 0 and np.ptp(second) > 0
    return float(kendalltau(first, second).statistic) if is_ranked else float("nan")


def tau_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Ends of the 95 % interval of τ-b: percentiles over resampled pairs; NaN where no resample has a τ.

    Args:
        first, second: values of the same items, in one order.
    """
    count = len(first)
    one, other = (np.sign(np.subtract.outer(each, each)) for each in map(np.asarray, (first, second)))
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)

    def total(signs: np.ndarray) -> np.ndarray:
        """Of each resample, over all of its pairs."""
        return ((times @ signs) * times).sum(axis=1)

    squares = total(one**2) * total(other**2)
    there = squares > 0
    if not there.any():
        return float("nan"), float("nan")
    low, high = np.percentile(total(one * other)[there] / np.sqrt(squares[there]), [2.5, 97.5])
    return float(low), float(high)
