"""Compatibility scores against their definitions, written out."""

import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation._resampling import class_weights
from compatlib.evaluation.compatibility import (
    average_accuracy,
    average_compatibility,
    criterion,
    cross_test_matrix,
    negative_flips,
    negative_flips_by_class,
    update_gain,
)
from compatlib.evaluation.retrieval import evaluate
from compatlib.evaluation.statistics import ClassScores, Measured


@pytest.fixture(scope="module")
def models():
    """Three generations of different sizes over 60 queries and 90 items of 6 classes."""
    random = np.random.default_rng(0)
    query_labels, gallery_labels = random.integers(6, size=60), random.integers(6, size=90)
    embeddings = {}
    for name, size, noise in (("first", 5, 2.0), ("second", 8, 1.5), ("third", 6, 1.0)):
        centres = random.standard_normal((6, size))
        embeddings[name] = tuple(
            centres[labels] + noise * random.standard_normal((len(labels), size))
            for labels in (query_labels, gallery_labels)
        )
    return embeddings, query_labels, gallery_labels


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_matrix_holds_every_pair_of_models(models, distance):
    embeddings, query_labels, gallery_labels = models
    result = cross_test_matrix(embeddings, query_labels, gallery_labels, distance=distance, ranks=(1, 3))
    assert result.names == ("first", "second", "third")
    for metric in ("cmc@1", "cmc@3", "mean_average_precision"):
        matrix = result.matrix(metric)
        for i, query_model in enumerate(result.names):
            for j, gallery_model in enumerate(result.names):
                query, gallery = embeddings[query_model][0], embeddings[gallery_model][1]
                alone = evaluate(query, gallery, query_labels, gallery_labels, distance=distance, ranks=(1, 3))
                assert matrix[i, j] == alone.metrics()[metric]
    mask = query_labels < 3
    part = result.subset(mask)
    assert part.names == result.names
    for pair, retrieval in result.retrievals.items():
        assert part.retrievals[pair].metrics() == retrieval.subset(mask).metrics()


def test_matrix_takes_the_options_of_evaluate(models):
    embeddings, _, labels = models
    galleries = {name: (gallery, gallery) for name, (_, gallery) in embeddings.items()}
    cameras = np.arange(90) % 3
    options = {"exclude_self": True, "query_cameras": cameras, "gallery_cameras": cameras}
    result = cross_test_matrix(galleries, labels, labels, **options)
    alone = evaluate(galleries["second"][0], galleries["first"][0], labels, labels, **options)
    np.testing.assert_array_equal(result.retrievals["second", "first"].average_precision, alone.average_precision)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, "models is dict"),
        ([1, 2], "models is list"),
        ({"a": np.ones((2, 2))}, "model 'a' has ndarray; valid is a pair"),
        ({"a": (np.ones((2, 2)),)}, "model 'a' has tuple"),
    ],
)
def test_matrix_refuses(models, message):
    with pytest.raises(ValueError, match=message):
        cross_test_matrix(models, [0, 0], [0, 0])


def test_matrix_refuses_other_metrics(models):
    embeddings, query_labels, gallery_labels = models
    with pytest.raises(ValueError, match="metric is 'rank-1'; valid are 'cmc@1', 'cmc@5', 'mean_average_precision'"):
        cross_test_matrix({"a": embeddings["first"]}, query_labels, gallery_labels).matrix("rank-1")


def test_criterion_is_strict():
    assert criterion(0.4, 0.3)
    assert not criterion(0.3, 0.3)
    assert not criterion(0.2, np.float32(0.3))
    for bad in (np.nan, "0.3", None, True):
        with pytest.raises(ValueError, match="cross_test is"):
            criterion(bad, 0.3)
        with pytest.raises(ValueError, match="self_test is"):
            criterion(0.3, bad)


def test_averages_of_a_worked_example():
    """Pairs (1,0): 5 > 4 holds; (2,0): 4 > 4 is a tie; (2,1): 5 > 6 fails."""
    matrix = np.array([[4, 9, 9], [5, 6, 9], [4, 5, 8]])
    assert average_compatibility(matrix) == pytest.approx(1 / 3)
    assert average_accuracy(matrix) == pytest.approx((4 + 5 + 6 + 4 + 5 + 8) / 6)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_averages_over_loops(n):
    for seed in range(5):
        matrix = np.random.default_rng(seed).integers(5, size=(n, n)) / 5
        pairs = [(i, j) for i in range(n) for j in range(i)]
        lower = [matrix[i, j] for i in range(n) for j in range(i + 1)]
        assert average_accuracy(matrix) == pytest.approx(sum(lower) / len(lower))
        if pairs:
            held = sum(matrix[i, j] > matrix[j, j] for i, j in pairs)
            assert average_compatibility(matrix) == pytest.approx(held / len(pairs))


@pytest.mark.parametrize(
    "matrix", [np.ones((2, 3)), np.ones(4), np.ones((2, 2, 2)), np.full((2, 2), np.nan), [["a"]], None]
)
def test_averages_refuse(matrix):
    for average in (average_compatibility, average_accuracy):
        with pytest.raises(ValueError, match="matrix"):
            average(matrix)
    with pytest.raises(ValueError, match=re.escape("matrix has shape (1, 1); valid is (n, n) with n from 2")):
        average_compatibility([[0.5]])


def test_negative_flips_of_a_worked_example():
    """Five valid queries: right → right, right → wrong (twice), wrong → right, wrong → wrong; one invalid."""
    assert negative_flips([1, 1, 1, 2, 3, 0], [1, 2, 9, 1, 2, 0]) == 2 / 5
    assert negative_flips([1, 2], [1, 1]) == 0


def test_negative_flips_of_evaluations(models):
    embeddings, query_labels, gallery_labels = models
    result = cross_test_matrix(embeddings, query_labels, gallery_labels)
    old, new = result.retrievals["first", "first"], result.retrievals["second", "first"]
    flips = sum(a == 1 and b > 1 for a, b in zip(old.first_rank, new.first_rank, strict=True))
    assert 0 < negative_flips(old, new) == flips / old.n_valid
    assert negative_flips(old, old) == 0
    mask = query_labels == 2
    part = sum(a == 1 and b > 1 for a, b in zip(old.first_rank[mask], new.first_rank[mask], strict=True))
    assert negative_flips(old.subset(mask), new.subset(mask)) == part / mask.sum()


def test_negative_flips_by_class_add_up_to_the_share(models):
    embeddings, query_labels, gallery_labels = models
    result = cross_test_matrix(embeddings, query_labels, gallery_labels)
    old, new = result.retrievals["first", "first"], result.retrievals["second", "first"]
    for mask in (query_labels >= 0, query_labels > 2, np.arange(60) % 3 == 0):
        sides = old.subset(mask), new.subset(mask)
        found = negative_flips_by_class(*sides, query_labels[mask], 7)
        assert found.mean == negative_flips(*sides)
        for own in range(7):
            queries = [
                (a, b) for a, b, c in zip(*(s.first_rank for s in sides), query_labels[mask], strict=True) if c == own
            ]
            assert found.sums[own] == sum(a == 1 and b > 1 for a, b in queries)
            assert found.counts[own] == sum(a > 0 for a, _ in queries)


def test_negative_flips_by_class_of_a_worked_example():
    found = negative_flips_by_class([1, 1, 1, 2, 3, 0], [1, 2, 9, 1, 2, 0], [0, 0, 1, 1, 3, 2], 4)
    assert (found.sums.tolist(), found.counts.tolist()) == ([1, 1, 0, 0], [2, 2, 0, 1])
    with pytest.raises(ValueError, match="labels hold 0 to 4; valid are 0 to 3"):
        negative_flips_by_class([1, 1], [1, 2], [0, 4], 4)
    with pytest.raises(ValueError, match="none can flip"):
        negative_flips_by_class([0], [0], [0], 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ([1, 2], [1], "old has 2 valid of 2 queries and new has 1 of 1"),
        ([1, 0], [0, 1], "valid are the same queries against the same items"),
        ([1, 0], [1, 1], "old has 1 valid of 2"),
        ([0, 0], [0, 0], "none can flip"),
        ([], [], "old is float64 of shape"),
        ([1.0], [1.0], "old is float64"),
        ([1], [[1]], "new is int64 of shape"),
        ([1], [-1], "new is int64"),
        (None, [1], "old is None"),
    ],
)
def test_negative_flips_refuse(old, new, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        negative_flips(old, new)


def test_gain_is_the_ratio_of_means():
    """Not the mean of ratios: (1 + 3) / (2 + 10), not (1/2 + 3/10) / 2."""
    result = update_gain({0: 1.0, 1: 3.0, 2: 2.0}, {0: 0.0, 1: 0.0, 2: 0.0}, {0: 4.0, 1: 8.0, 2: 6.0})
    assert result.value == pytest.approx(6 / 18)
    assert result.improvement.mean == pytest.approx(2)
    assert result.possible.mean == pytest.approx(6)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_interval_is_the_bootstrap_over_all_resamples(n):
    """Every resample of the seeds counted once; the drawn interval lies within a step of its quantiles."""
    random = np.random.default_rng(n)
    old = random.random(n)
    cross, paragon = old + 0.3 + 0.1 * random.random(n), old + 1 + 0.01 * random.random(n)
    result = update_gain(cross, old, paragon, resamples=200_000)
    grid = np.stack(np.meshgrid(*[np.arange(n)] * n), axis=-1).reshape(-1, n)
    ratios = np.sort((cross - old)[grid].mean(axis=1) / (paragon - old)[grid].mean(axis=1))
    for share, end in ((0.025, result.low), (0.975, result.high)):
        position = np.searchsorted(ratios, end * (1 + 1e-12), side="right")
        assert np.isclose(ratios, end, rtol=1e-9).any()
        below = np.searchsorted(ratios, end * (1 - 1e-12)) / len(ratios)
        assert below - 0.002 <= share <= position / len(ratios) + 0.002
    assert result.low <= result.value <= result.high


def test_gain_of_the_paragon_is_one_and_of_the_old_model_zero():
    old, paragon = {0: 0.3, 1: 0.31, 2: 0.29}, {0: 0.5, 1: 0.52, 2: 0.51}
    paragon_gain = update_gain(paragon, old, paragon)
    assert (paragon_gain.value, paragon_gain.low, paragon_gain.high) == pytest.approx((1, 1, 1))
    old_gain = update_gain(old, old, paragon)
    assert (old_gain.value, old_gain.low, old_gain.high) == (0, 0, 0)


def test_gain_is_undefined_where_the_denominator_may_be_zero():
    cross, old = {0: 0.4, 1: 0.4, 2: 0.4}, {0: 0.3, 1: 0.3, 2: 0.3}
    for paragon in ({0: 0.4, 1: 0.2, 2: 0.5}, old):
        result = update_gain(cross, old, paragon)
        assert np.isnan([result.value, result.low, result.high]).all()
        assert result.possible.low <= 0 <= result.possible.high
    single = update_gain({0: 0.4}, {0: 0.3}, {0: 0.5})
    assert np.isnan(single.value)
    assert single.improvement.mean / single.possible.mean == pytest.approx(0.5)


def test_gain_takes_series_and_arrays_and_repeats_itself():
    cross, old, paragon = np.array([0.4, 0.45, 0.41]), np.array([0.3, 0.33, 0.31]), np.array([0.5, 0.56, 0.54])
    first = update_gain(cross, old, paragon)
    for kind in (pd.Series, lambda values: dict(enumerate(values))):
        again = update_gain(*map(kind, (cross, old, paragon)))
        np.testing.assert_equal(asdict(again), asdict(first))
    shuffled = {2: 0.54, 0: 0.5, 1: 0.56}
    assert first.value == update_gain(cross, old, shuffled).value


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1.0, 2.0], [1.0], [1.0, 2.0]), {}, "only equal seeds make pairs"),
        (({0: 1.0}, {0: 1.0}, {1: 1.0}), {}, "only equal seeds make pairs"),
        (([[1.0]], [1.0], [1.0]), {}, "cross has shape (1, 1)"),
        (([1.0], [np.nan], [1.0]), {}, "old, seed 0, is nan"),
        (([1.0], [1.0], [True]), {}, "paragon, seed 0, is True"),
        (([1.0], [1.0], []), {}, "paragon has the seeds []"),
        (([1.0], [1.0], [1.0]), {"resamples": 10}, "resamples is 10"),
        (([1.0], [1.0], [1.0]), {"seed": -1}, "seed is -1"),
    ],
)
def test_gain_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        update_gain(*arguments, **options)


def gains(seed: int = 0, class_spread: float = 0.05, n: int = 4) -> tuple[list[Measured], np.ndarray, np.ndarray]:
    """M(new, old), M(old, old) and M(paragon, paragon) by class; their sums (3, seeds, classes) and counts."""
    random, counts = np.random.default_rng(seed), np.array([9, 8, 12, 7, 10, 11, 6, 9])
    effects = 0.02 * random.standard_normal((3, n, 1)) + class_spread * random.standard_normal((3, 1, 8))
    sums = counts * (np.array([0.45, 0.4, 0.6])[:, None, None] + effects)
    sides = []
    for side in sums:
        scores = {key: ClassScores(each, counts) for key, each in enumerate(side)}
        sides.append(Measured({key: each.mean for key, each in scores.items()}, scores, [0, 0, 0, 0, 1, 1, 1, 1]))
    return sides, sums, counts


def test_gain_resamples_classes_and_seeds_together():
    """Every resample written out: its seeds, its classes, three means, one ratio."""
    sides, sums, counts = gains()
    result = update_gain(*sides, resamples=500, seed=3)
    weights = class_weights((0, 0, 0, 0, 1, 1, 1, 1), 500, 3)
    seeds = np.random.default_rng(3).integers(4, size=(500, 4))
    ratios = []
    for weight, drawn in zip(weights, seeds, strict=True):
        cross, old, paragon = (
            np.mean([sum(weight * side[key]) / sum(weight * counts) for key in drawn]) for side in sums
        )
        ratios.append((cross - old) / (paragon - old))
    expected = np.percentile(ratios, [2.5, 97.5], method="closest_observation")
    assert (result.low, result.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert result.sources == result.possible.sources == ("seeds", "classes")
    alone = update_gain(*(side.values for side in sides), resamples=500, seed=3)
    assert (alone.value, alone.sources) == (result.value, ("seeds",))
    assert result.high - result.low > alone.high - alone.low


def test_gain_of_seeds_alone_where_a_side_has_no_class_scores():
    (cross, old, paragon), _, _ = gains()
    found = update_gain(cross, old, paragon.values)
    plain = update_gain(cross.values, old.values, paragon.values)
    assert (found.value, found.low, found.high, found.sources) == (plain.value, plain.low, plain.high, ("seeds",))
    assert found.improvement.sources == ("seeds", "classes")


def test_gain_is_undefined_where_other_classes_may_have_no_gain():
    """Eight classes that differ much: the denominator is above 0 in every seed, but perhaps not for other classes."""
    sides, _, _ = gains(class_spread=0.6)
    found = update_gain(*sides)
    assert found.possible.low < 0 < found.possible.high
    assert np.isnan([found.value, found.low, found.high]).all()
    assert np.isfinite(update_gain(*(side.values for side in sides)).value)


def test_gain_of_the_paragon_is_one_and_of_the_old_model_zero_in_all_classes():
    (_, old, paragon), _, _ = gains()
    paragon_gain, old_gain = update_gain(paragon, old, paragon), update_gain(old, old, paragon)
    assert (paragon_gain.value, paragon_gain.low, paragon_gain.high) == pytest.approx((1, 1, 1))
    assert (old_gain.value, old_gain.low, old_gain.high) == (0, 0, 0)
