"""Scores, flips, thresholds and chance: every subset's by explicit loops, and the class scores behind them."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from compatlib.evaluation.chance import chance as level_of
from compatlib.evaluation.retrieval import evaluate
from compatlib.study.lab.cases import BY_CLASS, Case, case
from compatlib.study.lab.images import CLASS_INCREMENTAL, CLOSED, OPEN_SET, SAMPLE_INCREMENTAL
from compatlib.study.lab.measures import chance, change, flips, mean_scores, popularity, rank_1, scores, threshold
from compatlib.study.lab.measures.scores import FAR, named
from compatlib.study.lab.spaces import Labels

DISTANCES = pytest.mark.parametrize("distance", ["cosine", "euclidean"])
SCORES = ("cmc@1", "cmc@5", "map")


def asked(seed, ask, query, gallery, distance="cosine", split=CLASS_INCREMENTAL, **options) -> dict:
    """Rows by (subset, metric)."""
    own = case(query, gallery, ask, split=split, distance=distance, **options)
    found = list(ask(seed, own))
    by_cell = {(row["subset"], row["metric"]): row for row in found}
    assert len(by_cell) == len(found)
    return by_cell


def ranked(query, gallery, distance) -> np.ndarray:
    """(N, N - 1) the other items, nearest first; of equally near ones the first first."""
    far = cdist(query.astype(float), gallery.astype(float), metric=distance)
    far = np.nan_to_num(far, nan=1.0)
    np.fill_diagonal(far, np.inf)
    return np.argsort(np.round(far, 9), axis=1, kind="stable")[:, :-1]


def scores_by_hand(order: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    """Query by query; correct items that are equally near as wrong ones come last (see `evaluate`)."""
    found = {name: [] for name in SCORES}
    for query, items in enumerate(order):
        ranks = [rank for rank, item in enumerate(items, 1) if labels[item] == labels[query]]
        found["cmc@1"].append(float(ranks[0] <= 1))
        found["cmc@5"].append(float(ranks[0] <= 5))
        found["map"].append(sum(count / rank for count, rank in enumerate(ranks, 1)) / len(ranks))
    return found


@pytest.fixture(scope="module")
def new(drawn):
    return drawn(1, towards=0.7)


@pytest.fixture(scope="module")
def old(drawn):
    return drawn(2, dim=5, towards=0.5)


@DISTANCES
@pytest.mark.parametrize("self_test", [True, False])
def test_scores_are_those_of_every_subsets_queries(seed, labels, masks, new, old, distance, self_test):
    gallery = new if self_test else old
    query, items = (seed.vectors(space, CLASS_INCREMENTAL) for space in (new, gallery))
    test = evaluate(query, items, labels, labels, exclude_self=True, distance=distance)
    found = asked(seed, scores, new, gallery, distance)
    assert set(found) == set(itertools.product(masks, SCORES))
    for subset, mask in masks.items():
        ranks = [int(rank) for rank, wanted in zip(test.first_rank, mask, strict=True) if wanted]
        assert found[subset, "cmc@1"]["value"] == pytest.approx(sum(rank <= 1 for rank in ranks) / len(ranks))
        assert found[subset, "cmc@5"]["value"] == pytest.approx(sum(rank <= 5 for rank in ranks) / len(ranks))
        precisions = [float(test.average_precision[i]) for i in np.flatnonzero(mask)]
        assert found[subset, "map"]["value"] == pytest.approx(sum(precisions) / len(precisions))
    assert 0 < found["all", "cmc@1"]["value"] < 1


def test_scores_are_those_of_a_ranking_made_by_hand(seed, labels, masks, drawn):
    """Of vectors whose distances all differ."""
    query, gallery = drawn(7, dim=32, towards=0.1), drawn(8, dim=32, towards=0.1)
    pair = [seed.vectors(space, CLASS_INCREMENTAL) for space in (query, gallery)]
    by_hand = scores_by_hand(ranked(*pair, "cosine"), labels)
    found = asked(seed, scores, query, gallery)
    for (subset, mask), metric in itertools.product(masks.items(), SCORES):
        expected = np.mean(np.array(by_hand[metric])[mask])
        assert found[subset, metric]["value"] == pytest.approx(expected)
    assert 0 < found["all", "cmc@1"]["value"] < 1


@DISTANCES
def test_scores_by_class_give_back_the_value_of_every_subset(seed, masks, new, old, distance):
    """For every measure that has them; the rows of subsets have none, for they are sums over their classes."""
    found = asked(seed, scores, new, old, distance)
    found |= asked(seed, flips, new, old, distance)
    assert set(found) == set(itertools.product(masks, (*SCORES, "negative_flips")))
    for metric in (*SCORES, "negative_flips"):
        by_class = found["all", metric][BY_CLASS]
        assert by_class.counts.tolist() == [4] * 10
        for subset, classes in (("all", range(10)), ("known", range(5)), ("unknown", range(5, 10))):
            own = list(classes)
            assert by_class.sums[own].sum() / by_class.counts[own].sum() == pytest.approx(
                found[subset, metric]["value"]
            )
            assert (BY_CLASS in found[subset, metric]) == (subset == "all")


@pytest.mark.parametrize(("split", "subsets"), [(SAMPLE_INCREMENTAL, ["all"]), (CLOSED, ["all"]), (OPEN_SET, ["all"])])
def test_where_no_class_is_known_there_is_one_subset(seed, drawn, split, subsets):
    """Or every class is."""
    for ask in (scores, flips, rank_1, threshold):
        found = asked(seed, ask, drawn(1), drawn(2), split=split)
        assert list(dict.fromkeys(subset for subset, _ in found)) == subsets


@DISTANCES
def test_rank_1_alone_is_that_of_the_scores(seed, masks, new, old, distance):
    found, whole = asked(seed, rank_1, new, old, distance), asked(seed, scores, new, old, distance)
    assert set(found) == {(subset, "cmc@1") for subset in masks}
    for cell, row in found.items():
        assert row["value"] == whole[cell]["value"]
    assert found["all", "cmc@1"][BY_CLASS].sums.tolist() == whole["all", "cmc@1"][BY_CLASS].sums.tolist()


def test_means_over_pairs_are_means_of_their_scores_and_of_their_class_scores(seed, drawn):
    pairs = tuple((drawn(number), drawn(number + 10)) for number in range(3))
    own = Case(pairs, (mean_scores,), {"split": CLASS_INCREMENTAL, "distance": "cosine"})
    found = {row["metric"]: row for row in mean_scores(seed, own)}
    assert set(found) == set(SCORES)
    for metric, row in found.items():
        each = [asked(seed, scores, *pair)["all", metric] for pair in pairs]
        assert row["subset"] == "all"
        assert row["value"] == pytest.approx(sum(one["value"] for one in each) / 3)
        assert row[BY_CLASS].mean == pytest.approx(row["value"])
        for label in range(10):
            assert row[BY_CLASS].sums[label] == pytest.approx(sum(one[BY_CLASS].sums[label] for one in each) / 3)


def test_a_change_is_the_first_pairs_scores_less_the_seconds_with_those_by_class(seed, drawn):
    pairs = ((drawn(1), drawn(2)), (drawn(3), drawn(3)))
    own = Case(pairs, (change,), {"split": CLASS_INCREMENTAL, "distance": "cosine"})
    found = {row["metric"]: row for row in change(seed, own)}
    assert set(found) == {f"change of {metric}" for metric in SCORES}
    for metric in SCORES:
        row = found[f"change of {metric}"]
        first, second = (asked(seed, scores, *pair)["all", metric] for pair in pairs)
        assert row["subset"] == "all"
        assert row["value"] == pytest.approx(first["value"] - second["value"])
        assert row["value"] != 0
        assert row[BY_CLASS].mean == pytest.approx(row["value"])
        expected = [a - b for a, b in zip(first[BY_CLASS].sums, second[BY_CLASS].sums, strict=True)]
        assert row[BY_CLASS].sums == pytest.approx(expected)


def test_popularity_is_the_share_of_the_most_popular_item(seed, labels, new, old):
    pair = [seed.vectors(space, CLASS_INCREMENTAL) for space in (new, old)]
    nearest = evaluate(*pair, labels, labels, exclude_self=True).nearest.tolist()
    most = max(nearest.count(item) for item in range(40)) / 40
    assert asked(seed, popularity, new, old)["all", "top_share"]["value"] == pytest.approx(most)
    assert 1 / 40 < most < 1


@DISTANCES
@pytest.mark.parametrize("has_before", [True, False])
def test_flips_are_those_of_first_ranks(seed, labels, masks, drawn, new, old, distance, has_before):
    """Before the upgrade stands the gallery's self-test, or another's."""
    before = drawn(3) if has_before else old
    found = asked(seed, flips, new, old, distance, before=drawn(3) if has_before else None)
    ranks = []
    for query, gallery in ((before, before), (new, old)):
        pair = [seed.vectors(space, CLASS_INCREMENTAL) for space in (query, gallery)]
        ranks.append(evaluate(*pair, labels, labels, exclude_self=True, distance=distance).first_rank)
    flipped = [b == 1 and a != 1 for b, a in zip(*ranks, strict=True)]
    for subset, mask in masks.items():
        own = [each for each, wanted in zip(flipped, mask, strict=True) if wanted]
        assert found[subset, "negative_flips"]["value"] == pytest.approx(sum(own) / len(own))
    assert any(flipped)


def rates(scores: np.ndarray, labels: np.ndarray, threshold: float, chosen: np.ndarray) -> tuple[float, float]:
    """(FAR, TAR) pair by pair of the chosen queries; nothing is compared with itself."""
    accepted, pairs = {True: 0, False: 0}, {True: 0, False: 0}
    for query, gallery in itertools.permutations(range(len(labels)), 2):
        if chosen[query]:
            genuine = bool(labels[query] == labels[gallery])
            pairs[genuine] += 1
            accepted[genuine] += bool(scores[query, gallery] > threshold)
    return accepted[False] / pairs[False], accepted[True] / pairs[True]


def test_a_threshold_is_fixed_under_old_old_on_all_queries_and_transferred(seed, labels, masks, drawn):
    """Under the Euclidean distance of whole numbers, whose squares are exact."""
    old, new = drawn(4, dim=12, spread=2), drawn(5, dim=12, spread=2)
    before, after = (seed.vectors(space, CLASS_INCREMENTAL).astype(float) for space in (old, new))
    own, cross = (-cdist(query, before, "sqeuclidean") for query in (before, after))
    impostors = sorted(own[labels[:, None] != labels[None, :]], reverse=True)
    allowed = int(FAR * len(impostors))
    assert allowed == 1  # of 1,440
    fixed = impostors[allowed]
    found = asked(seed, threshold, new, old, "euclidean")
    for subset, mask in masks.items():
        for words, each in (("fixed", own), ("transferred", cross)):
            far, tar = rates(each, labels, fixed, mask)
            assert found[subset, f"{words} FAR"]["value"] == pytest.approx(far)
            assert found[subset, f"{words} TAR"]["value"] == pytest.approx(tar)
    assert len(found) == 12
    assert 0 < found["all", "transferred TAR"]["value"] < 1


def test_the_fixed_threshold_knows_nothing_of_the_successor(seed, drawn):
    old, successors = drawn(4, dim=12, spread=2), (drawn(number, dim=12, spread=2) for number in (5, 6))
    first, second = (asked(seed, threshold, new, old, "euclidean") for new in successors)
    for cell in (cell for cell in first if cell[1].startswith("fixed")):
        assert first[cell]["value"] == second[cell]["value"]
    assert first["all", "transferred TAR"]["value"] != second["all", "transferred TAR"]["value"]


def chance_of(n: int, correct: int) -> dict[str, float]:
    """Expected scores of one query with n items in random order, rank by rank."""
    missed = {k: math.comb(n - correct, k) / math.comb(n, k) for k in (1, 5)}
    precision = 0.0
    for rank in range(1, n + 1):
        # The item at this rank is correct, and so many of those before it are expected to be.
        before = (rank - 1) * (correct - 1) / (n - 1)
        precision += correct / n * (1 + before) / rank / correct
    return {"cmc@1": 1 - missed[1], "cmc@5": 1 - missed[5], "map": precision}


def test_chance_is_that_of_a_random_ranking_of_the_whole_gallery(seed, masks, monkeypatch):
    """Of classes of unequal size, one of a single item, which no query can be asked of."""
    labels = np.array([3, 0, 1, 2, 0, 1, 2, 2, 8, 8, 5, 2] + [7] * 28)
    monkeypatch.setattr(seed, "labels", lambda split: labels, raising=True)
    own = {"all": labels >= 0, "known": labels < 5, "unknown": labels >= 5}
    monkeypatch.setattr(seed, "masks", lambda split: own, raising=True)
    found = asked(seed, chance, Labels(), Labels())
    for subset, mask in own.items():
        counts = [labels.tolist().count(label) for label, wanted in zip(labels, mask, strict=True) if wanted]
        levels = [chance_of(39, count - 1) for count in counts if count > 1]
        for metric in SCORES:
            expected = sum(level[metric] for level in levels) / len(levels)
            assert found[subset, metric]["value"] == pytest.approx(expected)


def test_names_of_scores_are_those_of_the_papers_values():
    vectors, labels = np.eye(12, dtype=np.float32), np.arange(12) % 4
    test = evaluate(vectors, vectors, labels, labels, ranks=(1, 2, 10))
    assert named(test) == {"cmc@1": 1.0, "cmc@2": 1.0, "cmc@10": 1.0, "map": test.mean_average_precision}
    assert list(named(level_of(labels, labels))) == ["cmc@1", "cmc@5", "map"]
