"""Thresholds and rates against a search over every possible threshold."""

import numpy as np
import pytest

from compatlib.evaluation import _counting
from compatlib.evaluation.compatibility import transfer_threshold
from compatlib.evaluation.retrieval import (
    apply_threshold,
    apply_threshold_to_pairs,
    score_matrix,
    verification,
    verification_of_pairs,
)
from compatlib.evaluation.verification import _accepted_impostors, _number

FARS = (0, 1e-3, 0.01, 0.1, 0.29, 0.5, 0.999, 1)


def lowest_threshold(scores, same, far):
    """The lowest impostor score, or minus infinity, above which at most the share `far` of the impostors lies."""
    impostors = scores[~same]
    return min(t for t in [-np.inf, *impostors] if np.mean(impostors > t) <= far)


def pairs(query, gallery, query_labels, gallery_labels, distance, exclude_self):
    scores = score_matrix(query, gallery, distance, comparable=True)
    kept = ~np.eye(len(query), dtype=bool) if exclude_self else np.ones(scores.shape, dtype=bool)
    return scores[kept], (np.asarray(query_labels)[:, None] == np.asarray(gallery_labels))[kept]


@pytest.mark.parametrize("far", FARS)
@pytest.mark.parametrize("values", ["random", "tied", "all equal"])
def test_threshold_is_the_lowest_that_keeps_the_rate(values, far):
    random = np.random.default_rng(0)
    same = random.random(400) < 0.3
    scores = {
        "random": random.standard_normal(400),
        "tied": random.integers(4, size=400) / 4,
        "all equal": np.ones(400),
    }
    result = verification(scores[values], same, far)
    assert result.threshold == lowest_threshold(scores[values], same, far)
    accepted = scores[values] > result.threshold
    assert result.true_accept_rate == accepted[same].mean()
    assert result.false_accept_rate == accepted[~same].mean() <= far
    assert (result.n_genuine, result.n_impostor) == (same.sum(), (~same).sum())
    assert apply_threshold(result.threshold, scores[values], same) == result


def test_a_worked_example():
    """Impostors 9 7 7 3, genuine 9 8 7: one impostor of four may pass, the tie at 7 is rejected on both sides."""
    scores, same = np.array([9.0, 7, 7, 3, 9, 8, 7]), np.array([0, 0, 0, 0, 1, 1, 1], bool)
    result = verification(scores, same, far=0.25)
    assert result.threshold == 7
    assert (result.true_accept_rate, result.false_accept_rate) == (2 / 3, 1 / 4)
    assert verification(scores, same, far=0.75).threshold == 3
    assert verification(scores, same, far=0.5).false_accept_rate == 0.25


@pytest.mark.parametrize("n", [1, 3, 7, 10, 100, 999, 1000, 3000, 12345])
def test_number_of_accepted_impostors_is_not_lost_to_rounding(n):
    for accepted in range(0, n + 1, max(1, n // 97)):
        assert _accepted_impostors(accepted / n, n) == accepted
    for far in (1e-3, 0.29, 0.57, 0.1):
        accepted = _accepted_impostors(far, n)
        assert accepted / n <= far
        assert accepted == n or (accepted + 1) / n > far


@pytest.mark.parametrize("far", FARS)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("values", ["random", "tied", "collapsed"])
def test_all_pairs_are_as_explicit_pairs(values, exclude_self, distance, far):
    random = np.random.default_rng(0)
    points = {
        "random": random.standard_normal((80, 5)),
        "tied": random.integers(-1, 2, (80, 3)) * 1.0,
        "collapsed": np.zeros((80, 3)),
    }[values]
    labels = random.integers(6, size=80)
    options = {"distance": distance, "exclude_self": exclude_self}
    result = verification_of_pairs(points, points, labels, labels, far=far, **options)
    scores, same = pairs(points, points, labels, labels, **options)
    assert result == verification(scores, same, far)
    assert apply_threshold_to_pairs(result.threshold, points, points, labels, labels, **options) == result


def test_several_strips_of_pairs():
    random = np.random.default_rng(0)
    query, gallery = random.standard_normal((1100, 4)), random.standard_normal((300, 7))
    query_labels, gallery_labels = random.integers(20, size=1100), random.integers(20, size=300)
    result = verification_of_pairs(query, gallery, query_labels, gallery_labels, far=0.01)
    assert result == verification(*pairs(query, gallery, query_labels, gallery_labels, "cosine", False), 0.01)


def test_bits_order_as_numbers_do():
    values = np.array([-np.finfo(np.float32).max, -1.5, -1, -1e-40, -0.0, 0.0, 1e-45, 1, 1.0000001, 3e38], np.float32)
    halves = []
    for value in values:
        prefix, suffix = np.zeros((1, 65536), np.int64), np.zeros((1, 65536), np.int64)
        arguments = np.full((1, 1), value).view(np.uint32), np.zeros(1, np.int64), np.ones(1, np.int64), np.full(1, -1)
        _counting.count_impostor_bits(*arguments, -1, prefix)
        upper = int(prefix[0].argmax())
        _counting.count_impostor_bits(*arguments, upper, suffix)
        halves.append((upper, int(suffix[0].argmax())))
        assert _number(*halves[-1]) == value
    assert halves == sorted(halves)
    assert halves[4] == halves[5]


def test_threshold_is_transferred_to_the_new_model():
    random = np.random.default_rng(0)
    labels = random.integers(8, size=120)
    centres = random.standard_normal((8, 6))
    old = centres[labels] + random.standard_normal((120, 6))
    new = np.hstack([centres[labels] + 0.5 * random.standard_normal((120, 6)), random.standard_normal((120, 3))])
    for distance in ("cosine", "euclidean"):
        result = transfer_threshold(old, old, new, labels, labels, far=0.02, distance=distance, exclude_self=True)
        assert result.fixed == verification(*pairs(old, old, labels, labels, distance, True), 0.02)
        scores, same = pairs(new, old, labels, labels, distance, True)
        assert result.transferred == apply_threshold(result.fixed.threshold, scores, same)
        assert result.transferred.false_accept_rate != result.fixed.false_accept_rate
    unchanged = transfer_threshold(old, old, old, labels, labels, exclude_self=True)
    assert unchanged.transferred == unchanged.fixed


def rates_by_loop(scores, query_labels, gallery_labels, threshold, chosen, exclude_self):
    """True and false accept rates of the chosen queries, and their numbers of pairs, one pair after the other."""
    accepted, number = {True: 0, False: 0}, {True: 0, False: 0}
    for q in np.flatnonzero(chosen):
        for g in range(len(gallery_labels)):
            if not (exclude_self and q == g):
                genuine = bool(query_labels[q] == gallery_labels[g])
                number[genuine] += 1
                accepted[genuine] += float(scores[q, g]) > threshold
    return accepted[True] / number[True], accepted[False] / number[False], number[True], number[False]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_a_subset_keeps_the_threshold_and_counts_its_own_pairs(distance, exclude_self):
    random = np.random.default_rng(1)
    old, new = random.integers(-2, 3, (90, 4)) * 1.0, random.integers(-2, 3, (90, 6)) * 1.0
    labels = random.integers(9, size=90)
    options = {"distance": distance, "exclude_self": exclude_self}
    transfer = transfer_threshold(old, old, new, labels, labels, far=0.03, **options)
    for chosen in (labels < 5, labels >= 5, np.arange(90) == 7, labels >= 0):
        part = transfer.subset(chosen)
        for query, rates in ((old, part.fixed), (new, part.transferred)):
            assert rates.threshold == transfer.fixed.threshold
            scores = score_matrix(query, old, distance, comparable=True)
            found = (rates.true_accept_rate, rates.false_accept_rate, rates.n_genuine, rates.n_impostor)
            assert found == rates_by_loop(scores, labels, labels, rates.threshold, chosen, exclude_self)
    assert transfer.subset(labels >= 0) == transfer


def test_the_subsets_of_a_partition_add_up():
    random = np.random.default_rng(2)
    query, labels = random.standard_normal((1500, 5)), random.integers(10, size=1500)
    whole = verification_of_pairs(query, query, labels, labels, far=0.05, exclude_self=True)
    parts = [whole.subset(labels == label) for label in range(10)]
    assert sum(part.n_genuine for part in parts) == whole.n_genuine
    assert sum(part.n_impostor for part in parts) == whole.n_impostor
    false = sum(part.false_accept_rate * part.n_impostor for part in parts) / whole.n_impostor
    true = sum(part.true_accept_rate * part.n_genuine for part in parts) / whole.n_genuine
    assert (true, false) == pytest.approx((whole.true_accept_rate, whole.false_accept_rate))
    assert min(part.false_accept_rate for part in parts) < whole.false_accept_rate
    assert parts[0].subset(np.ones(len(parts[0].by_query.n_genuine), bool)) == parts[0]


def test_bad_subsets_are_refused():
    points, labels = np.eye(4), np.array([0, 0, 1, 2])
    whole = verification_of_pairs(points, points, labels, labels, exclude_self=True)
    with pytest.raises(ValueError, match=r"mask has type int64 and shape \(4,\)"):
        whole.subset(labels)
    with pytest.raises(ValueError, match=r"mask has type bool and shape \(3,\)"):
        whole.subset(labels[:3] == 0)
    with pytest.raises(ValueError, match="0 genuine and 3 impostor pairs"):
        whole.subset(labels == 2)
    with pytest.raises(ValueError, match="0 genuine and 0 impostor pairs"):
        whole.subset(labels == 7)
    explicit = verification(np.array([0.1, 0.9]), np.array([False, True]))
    with pytest.raises(ValueError, match="explicit pairs, which belong to no query"):
        explicit.subset(np.array([True, True]))


def test_a_threshold_between_two_numbers_of_the_scores_type_is_not_rounded():
    """In float32 0.1 is 0.10000000149, which lies above a threshold of 0.1."""
    scores, same = np.array([0.1, 0.1], np.float32), np.array([True, False])
    assert apply_threshold(0.1, scores, same).true_accept_rate == 1
    assert apply_threshold(float(np.float32(0.1)), scores, same).true_accept_rate == 0
    points, labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]], np.float32), np.array([0, 0, 1])
    score = float(score_matrix(points, points)[0, 2])
    below = np.nextafter(score, -1)
    assert np.float32(below) == np.float32(score)
    sides = (points, points, labels, labels)
    assert apply_threshold_to_pairs(below, *sides, exclude_self=True).false_accept_rate == 1
    assert apply_threshold_to_pairs(score, *sides, exclude_self=True).false_accept_rate == 0


@pytest.mark.parametrize(
    ("scores", "same", "far", "message"),
    [
        ([0.1, np.nan], [True, False], 0.1, "scores is float64"),
        ([1, 2], [True, False], 0.1, "scores is int64"),
        ([[0.1]], [True], 0.1, "scores is float64 of shape"),
        ([0.1, 0.2], [1, 0], 0.1, "same has type int64"),
        ([0.1, 0.2], [True], 0.1, "same has type bool and shape"),
        ([0.1, 0.2], [True, True], 0.1, "2 genuine and 0 impostor pairs"),
        ([0.1, 0.2], [False, False], 0.1, "0 genuine and 2 impostor pairs"),
        ([0.1, 0.2], [True, False], -0.1, "far is -0.1; valid are finite numbers from 0 to 1"),
        ([0.1, 0.2], [True, False], 1.1, "far is 1.1"),
        ([0.1, 0.2], [True, False], np.nan, "far is nan"),
        ([0.1, 0.2], [True, False], "0.1", "far is '0.1'"),
        ([0.1, 0.2], [True, False], True, "far is True"),
    ],
)
def test_bad_pairs_are_refused(scores, same, far, message):
    with pytest.raises(ValueError, match=message):
        verification(scores, same, far)


def test_bad_sets_are_refused():
    points, labels = np.ones((4, 2)), np.array([0, 0, 1, 1])
    for threshold in (np.nan, np.inf, None, "0.5", np.array([0.5, 0.6])):
        with pytest.raises(ValueError, match="threshold is"):
            apply_threshold_to_pairs(threshold, points, points, labels, labels)
    for some_labels, message in ((labels * 0, "16 genuine and 0 impostor"), (labels - 5, "0 genuine and 16 impostor")):
        for call in (verification_of_pairs, lambda *sides: apply_threshold_to_pairs(0.5, *sides)):
            with pytest.raises(ValueError, match=message):
                call(points, points, labels * 0, some_labels)
    with pytest.raises(ValueError, match="3 queries and 4 gallery items"):
        verification_of_pairs(points[:3], points, labels[:3], labels, exclude_self=True)
