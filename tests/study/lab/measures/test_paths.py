"""What is asked of searches: rank correlation by counting pairs, the cheapest that loses little, costs added up."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from compatlib.models.encoders import FLOPS
from compatlib.study.lab.cases import Case, case
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.make import Made
from compatlib.study.lab.measures import agreement, agreement_alone, history, mean_history
from compatlib.study.lab.measures.paths import ALONE, CROSS, SELF, saved, tau_interval
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Searched
from compatlib.study.lab.trainables import Base, PathSearch, SuperNetwork
from compatlib.study.lab.trainables.supernets import RANDOM

NETWORKS = [SuperNetwork(Base("gallery_open"), draw) for draw in (0, 1)]
SEARCHES = [PathSearch(network, RANDOM, paths=6) for network in NETWORKS]
SPLIT = {"split": CLASS_INCREMENTAL, "distance": "euclidean"}


def scores(place: int) -> list[tuple[float, float]]:
    return [tuple(each) for each in np.random.default_rng(place).integers(0, 5, (6, 2)) / 10]  # with ties


@pytest.fixture
def searched(seed) -> Seed:
    own = Seed(seed.run, 0)
    for place, what in enumerate(SEARCHES):
        rows = [
            {"path": f"3@1 x@{number}", "self_test": a, "cross_test": b, "flops": 100 - number}
            for number, (a, b) in enumerate(scores(place))
        ]
        own.put(Made(what, nn.Module(), SimpleNamespace(about={"history": rows})))
    return own


def tau(first, second) -> float:
    """Kendall's τ-b, pair by pair."""
    signs = [
        (np.sign(a - b), np.sign(c - d))
        for (a, c), (b, d) in itertools.combinations(zip(first, second, strict=True), 2)
    ]
    ties = [sum(each != 0 for each, _ in signs), sum(each != 0 for _, each in signs)]
    return sum(a * b for a, b in signs) / math.sqrt(ties[0] * ties[1])


def taus(rows, metric: str = "kendall tau") -> dict[tuple[str, str], float]:
    return {(row["query_model"], row["gallery_model"]): row["value"] for row in rows if row["metric"] == metric}


def test_a_history_is_told_path_by_path(searched):
    space = Searched(SEARCHES[0])
    rows = list(history(searched, case(space, space, history, **SPLIT)))
    assert len(rows) == 18
    assert [row["x"] for row in rows[::3]] == [1, 2, 3, 4, 5, 6]
    assert rows[3]["variant"] == "path=3@1 x@1"
    assert {row["metric"]: row["value"] for row in rows[3:6]} == {
        "self_test": scores(0)[1][0],
        "cross_test": scores(0)[1][1],
        "flops": 99.0,
    }
    means = {row["metric"]: row["value"] for row in mean_history(searched, case(space, space, mean_history, **SPLIT))}
    assert means["cross_test"] == pytest.approx(np.mean([b for _, b in scores(0)]))


def test_agreement_is_kendalls_of_two_scores_and_of_two_super_networks(searched):
    found = taus(agreement(searched, case(*map(Searched, SEARCHES), agreement, **SPLIT)))
    (own, cross), (again, cross_again) = (zip(*scores(place), strict=True) for place in (0, 1))
    assert found == {
        (SELF, CROSS): pytest.approx(tau(own, cross)),
        (SELF, f"{SELF}, another super-network"): pytest.approx(tau(own, again)),
        (CROSS, f"{CROSS}, another super-network"): pytest.approx(tau(cross, cross_again)),
        (SELF, f"{CROSS}, another super-network"): pytest.approx((tau(own, cross_again) + tau(again, cross)) / 2),
    }


def test_what_does_not_vary_has_no_rank_correlation(searched):
    rows = searched.made(SEARCHES[0]).artifact.about["history"]
    for row in rows:
        row["self_test"] = 0.5
    found = taus(agreement(searched, case(*map(Searched, SEARCHES), agreement, **SPLIT)))
    assert math.isnan(found[SELF, CROSS])


def test_networks_alone_are_ranked_as_the_first_paths_of_the_search(searched, drawn):
    queries, gallery = [drawn(number, towards=towards) for number, towards in enumerate((0.3, 1.0, 0.1))], drawn(9)
    pairs = ((Searched(SEARCHES[0]), Searched(SEARCHES[0])), *((query, gallery) for query in queries))
    rows = list(agreement_alone(searched, Case(pairs, (agreement_alone,), SPLIT)))
    found = taus(rows)

    def of(query, other):
        return searched.test(query, other, CLASS_INCREMENTAL, "euclidean").mean_average_precision

    own, cross = ([of(query, query) for query in queries], [of(query, gallery) for query in queries])
    inherited = [list(each) for each in zip(*scores(0)[:3], strict=True)]
    assert found[f"{SELF}, {ALONE}", f"{CROSS}, {ALONE}"] == pytest.approx(tau(own, cross))
    assert found[CROSS, f"{CROSS}, {ALONE}"] == pytest.approx(tau(inherited[1], cross))
    ends = [taus(rows, f"kendall tau {end}") for end in ("low", "high")]
    assert ends[0].keys() == ends[1].keys() == found.keys()
    assert all(ends[0][names] <= ends[1][names] for names in found)
    left = PathSearch(NETWORKS[0], RANDOM, paths=6, is_recalibrated=False)
    searched.put(Made(left, nn.Module(), searched.made(SEARCHES[0]).artifact))
    case_left = Case(((Searched(left), Searched(left)), *pairs[1:]), (agreement_alone,), SPLIT)
    assert len(taus(agreement_alone(searched, case_left))) == 2  # what does not hang on the search is said once


def test_the_interval_of_tau_is_that_of_paths_drawn_again():
    random = np.random.default_rng(1)
    first = random.integers(0, 12, 20)
    second = first + random.integers(0, 9, 20)  # with ties
    drawn = [tau(first[places], second[places]) for places in random.integers(0, 20, (2_000, 20))]
    low, high = tau_interval(first, second)
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.03)
    assert low < tau(first, second) < high
    assert tau_interval(first, -first) == pytest.approx((-1, -1))
    assert all(map(math.isnan, tau_interval(first, np.ones(20))))


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, 0.5), (0.049, 0.5), (0.05, 0.75), (0.2, 0.75), (0.26, 0.9), (1.0, 0.9)]
)
def test_saved_is_the_cheapest_that_loses_no_more(loss, expected):
    assert saved((10, 5, 2.5, 1), (0.5, 0.5, 0.45, 0.25), loss) == pytest.approx(expected)


def test_where_all_lose_more_nothing_is_saved():
    assert saved((10, 5), (0.5, 0.4), 0.05) == 0


def test_a_larger_encoder_has_more_operations():
    assert FLOPS["lite0"] < FLOPS["lite1"] < FLOPS["lite2"]
