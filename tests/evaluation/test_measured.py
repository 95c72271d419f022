"""Class scores and measurements: against loops over queries, and what they refuse."""

import re

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.statistics import ClassScores, Measured, mean_of


def test_class_scores_of_queries_are_those_of_a_loop():
    random = np.random.default_rng(0)
    values, labels, valid = random.random(50), random.integers(7, size=50), random.random(50) < 0.7
    values[~valid] = np.nan
    found = ClassScores.of_queries(values, valid, labels, 9)
    for own in range(9):
        queries = [query for query in range(50) if labels[query] == own and valid[query]]
        assert found.counts[own] == len(queries)
        assert found.sums[own] == pytest.approx(sum(values[query] for query in queries), rel=1e-12)
    assert found.mean == pytest.approx(values[valid].mean(), rel=1e-12)
    assert (found.sums.dtype, found.counts.dtype) == (np.float64, np.int64)


def test_subset_keeps_the_classes_that_are_selected():
    scores = ClassScores([1, 2, 0, 3], [2, 4, 0, 3])
    part = scores.subset(np.array([True, False, True, True]))
    assert (part.sums.tolist(), part.counts.tolist(), part.mean) == ([1, 0, 0, 3], [2, 0, 0, 3], 4 / 5)
    with pytest.raises(ValueError, match="counts from 0 of which one is above"):
        scores.subset(np.array([False, False, True, False]))
    with pytest.raises(ValueError, match=re.escape("mask has type int64 and shape (1,)")):
        scores.subset([1])


@pytest.mark.parametrize(
    ("sums", "counts", "message"),
    [
        ([1.0], [1.0], "counts float64 of shape (1,); valid are numbers and whole numbers, both (classes,)"),
        ([1.0, 2.0], [1], "sums are float64 of shape (2,)"),
        ([[1.0]], [[1]], "sums are float64 of shape (1, 1)"),
        (["a"], [1], "sums are <U1"),
        ([np.nan], [1], "valid are finite sums"),
        ([1.0], [-1], "counts from 0"),
        ([1.0, 1.0], [0, 1], "a sum of 0 where the count is 0"),
        ([0.0], [0], "counts from 0 of which one is above"),
        ([], [], "counts float64"),
        (None, [1], "sums is None"),
    ],
)
def test_class_scores_refuse(sums, counts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ClassScores(sums, counts)


@pytest.mark.parametrize(
    ("labels", "valid", "num_classes", "message"),
    [
        ([0, 3], [True, True], 3, "labels hold 0 to 3; valid are 0 to 2: number the classes from 0"),
        ([-1, 0], [True, True], 3, "labels hold -1 to 0"),
        ([0], [True, True], 3, "labels has 1 entries, the scored set has 2 items"),
        ([0.0, 1.0], [True, True], 3, "labels has type float64"),
        ([0, 1], [1, 1], 3, "valid has type int64"),
        ([0, 1], [False, False], 3, "counts from 0 of which one is above"),
        ([0, 1], [True, True], 0, "num_classes is 0"),
    ],
)
def test_class_scores_of_queries_refuse(labels, valid, num_classes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ClassScores.of_queries([0.5, 0.5], valid, labels, num_classes)


HALF, THIRD = ClassScores([1, 1], [2, 2]), ClassScores([1, 0], [2, 1])


def test_measurement_takes_a_series_and_strata_of_any_kind():
    found = Measured(pd.Series({3: 0.5, 1: 1 / 3}), {1: THIRD, 3: (HALF,)}, np.array([True, False]))
    assert found.values == {3: 0.5, 1: 1 / 3}
    assert found.by_class == {3: (HALF,), 1: (THIRD,)}
    assert found.strata.tolist() == [1, 0]
    assert Measured({0: 0.5}, {0: HALF}).strata.tolist() == [0, 0]
    assert Measured({0: 0.5}).by_class is None


def test_measurement_of_some_seeds():
    full = Measured({0: 0.5, 1: 1 / 3, 2: 0.5}, {0: HALF, 1: THIRD, 2: HALF}, [4, 5])
    part = full.of_seeds([2, 1])
    assert (list(part.values.items()), part.by_class) == ([(2, 0.5), (1, 1 / 3)], {2: (HALF,), 1: (THIRD,)})
    assert part.strata.tolist() == [4, 5]
    assert Measured(full.values).of_seeds([1]).by_class is None
    with pytest.raises(ValueError, match=re.escape("seeds [7] were not measured; valid are [0, 1, 2]")):
        full.of_seeds([1, 7])


@pytest.mark.parametrize(
    ("values", "by_class", "strata", "message"),
    [
        ({}, None, None, "values has the seeds []"),
        ({0: np.nan}, None, None, "values, seed 0, is nan"),
        ({0: 0.5}, {1: HALF}, None, "values has the seeds [0] and by_class has [1]"),
        ({0: 0.5}, {0: THIRD}, None, "values, seed 0, is 0.5 and the mean of its class scores is 0.333"),
        ({0: 50}, {0: HALF}, None, "both of one test, subset and unit"),
        ({0: 0.5}, {0: 0.5}, None, "valid are ClassScores, or a tuple of one or more"),
        ({0: 0.5}, {0: ()}, None, "valid are ClassScores, or a tuple of one or more"),
        ({0: 0.5, 1: 0.5}, {0: HALF, 1: ClassScores([1], [2])}, None, "by_class has [1, 2] classes"),
        ({0: 0.5}, {0: HALF}, [0], "strata is int64 of shape (1,); valid are integers or booleans, (2,)"),
        ({0: 0.5}, {0: HALF}, [0.0, 1.0], "strata is float64"),
    ],
)
def test_measurements_refuse(values, by_class, strata, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Measured(values, by_class, strata)


def test_mean_of_cells_is_that_of_their_values():
    a, b = Measured({0: 0.5, 1: 0.5}, {0: HALF, 1: HALF}), Measured({1: 0.5, 0: 1 / 3}, {1: HALF, 0: THIRD})
    found = mean_of(a, b)
    assert found.values == pytest.approx({0: (0.5 + 1 / 3) / 2, 1: 0.5})
    assert found.by_class == {0: (HALF, THIRD), 1: (HALF, HALF)}
    assert mean_of(a, Measured(b.values)).by_class is None
    assert mean_of({0: 1.0}, {0: 3.0}).values == {0: 2}


@pytest.mark.parametrize(
    ("measurements", "message"),
    [
        ((), "there are 0 measurements"),
        (({0: 1.0}, {1: 1.0}), "the first measurement has the seeds [0] and another has [1]"),
        (({0: 1.0}, 2.0), "measurement 1 is 2.0"),
        (
            (Measured({0: 0.5}, {0: HALF}), Measured({0: 0.5}, {0: HALF}, [0, 1])),
            "measurements have the strata [0, 0] and [0, 1]",
        ),
        ((Measured({0: 0.5}, {0: (HALF, HALF)}), Measured({0: 0.5}, {0: HALF})), "is a mean of cells itself"),
    ],
)
def test_means_without_meaning_are_refused(measurements, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mean_of(*measurements)
