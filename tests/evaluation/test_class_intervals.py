"""Intervals over seeds and classes: against explicit loops over queries, by their properties, and by their coverage."""

import re

import numpy as np
import pytest
from scipy import stats

from compatlib.evaluation._resampling import class_weights, resampled
from compatlib.evaluation.statistics import CLASS_RESAMPLES, CLASS_SEED, ClassScores, Measured, mean_of, paired

BOTH = ("seeds", "classes")


def measured(sums, counts, strata=None, seeds=None) -> Measured:
    """A measurement from sums (seeds, classes) and counts (classes,) or (seeds, classes)."""
    counts = np.broadcast_to(counts, np.shape(sums))
    scores = [ClassScores(*each) for each in zip(np.asarray(sums, dtype=float), counts, strict=True)]
    by_class = dict(zip(range(len(scores)) if seeds is None else seeds, scores, strict=True))
    return Measured({seed: each.mean for seed, each in by_class.items()}, by_class, strata)


def drawn(name: str, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A seeded family: both sides' sums (seeds, classes), counts (classes,), and strata (classes,)."""
    random = np.random.default_rng(seed)
    n, classes = {"many seeds": (12, 30), "two seeds": (2, 30), "many classes": (4, 150)}.get(name, (3, 30))
    counts = random.integers(5, 40, classes)
    strata = np.arange(classes) % 2
    if name == "classes without a query":
        counts[[0, 1, 4, 9]] = 0
    if name == "a stratum of one class":
        strata = (np.arange(classes) == 7).astype(int)
    if name == "three strata":
        strata = np.arange(classes) % 3 * 10 - 10
    effects = 0.1 * random.standard_normal((n, 1)) + 0.2 * random.standard_normal(classes)
    noise = 0.05 * random.standard_normal((2, n, classes))
    return counts * (0.5 + effects + noise[0]), counts * (0.45 + 0.5 * effects + noise[1]), counts, strata


FAMILIES = (
    "typical",
    "many seeds",
    "two seeds",
    "many classes",
    "classes without a query",
    "a stratum of one class",
    "three strata",
)


def of_family(name: str, seed: int = 0) -> tuple[Measured, Measured]:
    first, second, counts, strata = drawn(name, seed)
    return measured(first, counts, strata), measured(second, counts, strata)


def test_error_over_classes_is_the_spread_of_the_mean_over_resampled_queries():
    """Every resample written out: each query as often as its class, the mean over seeds of the difference."""
    random = np.random.default_rng(1)
    labels, strata = random.integers(6, size=40), np.array([0, 0, 0, 1, 1, 1])
    right = random.random((2, 3, 40)) < 0.6
    valid = random.random(40) < 0.9
    sides = []
    for side in right:
        scores = {seed: ClassScores.of_queries(each, valid, labels, 6) for seed, each in enumerate(side)}
        sides.append(Measured({seed: each.mean for seed, each in scores.items()}, scores, strata))
    weights = class_weights(tuple(strata), CLASS_RESAMPLES, CLASS_SEED)
    means = []
    for weight in weights:
        times = np.rint(weight / 1.5).astype(int)  # of three classes two are drawn, each counting 3/2
        assert sorted(times[:3])[-2:] in ([1, 1], [0, 2])
        queries = [query for query in range(40) for _ in range(times[labels[query]]) if valid[query]]
        means.append(np.mean([right[0, seed, queries].mean() - right[1, seed, queries].mean() for seed in range(3)]))
    result = paired(*sides)
    assert result.se_classes == pytest.approx(np.std(means, ddof=1), rel=1e-12)
    assert result.se_seeds == pytest.approx(stats.sem(right[0][:, valid].mean(1) - right[1][:, valid].mean(1)))
    assert result.sources == BOTH


@pytest.mark.parametrize("name", FAMILIES)
def test_interval_is_made_of_both_errors(name):
    result = paired(*of_family(name))
    assert result.sources == BOTH
    values = np.array(list(result.differences.values()))
    assert result.se_seeds == pytest.approx(stats.sem(values), rel=1e-12)
    variances = np.array([result.se_seeds**2, result.se_classes**2])
    _, _, counts, strata = drawn(name)
    own = np.array([result.n - 1, (counts > 0).sum() - len(set(strata))])
    assert result.standard_error == pytest.approx(np.sqrt(variances.sum()), rel=1e-12)
    assert result.df == pytest.approx(variances.sum() ** 2 / (variances**2 / own).sum(), rel=1e-9)
    half = stats.t.ppf(0.975, result.df) * np.sqrt(variances.sum())
    assert (result.low, result.high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_error_over_classes_is_near_that_of_a_stratified_ratio(name):
    """The variance of a ratio over strata, linearised (Cochran, *Sampling Techniques*)."""
    first, second, counts, strata = drawn(name)
    difference = (first - second).mean(axis=0)
    residual = (difference - difference.sum() / counts.sum() * counts) / counts.sum()
    groups = [residual[(strata == stratum) & (counts > 0)] for stratum in set(strata)]
    expected = np.sqrt(sum(len(group) * np.var(group, ddof=1) for group in groups if len(group) > 1))
    assert paired(*of_family(name)).se_classes == pytest.approx(expected, rel=0.06)


def test_frozen_values():
    first = [[3, 5, 2, 8, 1, 4], [4, 5, 3, 7, 2, 4], [3, 6, 3, 8, 1, 5]]
    second = [[2, 5, 1, 6, 2, 3], [2, 5, 1, 7, 2, 2], [3, 4, 2, 6, 1, 3]]
    counts, strata = [5, 8, 4, 9, 3, 7], [0, 0, 0, 1, 1, 1]
    result = paired(measured(first, counts, strata), measured(second, counts, strata))
    assert result.mean == pytest.approx(17 / 108, rel=1e-12)
    found = [result.se_seeds, result.se_classes, result.df, result.low, result.high]
    frozen = [0.024497697324672146, 0.04968936286965346, 5.527687444556613, 0.018990431218203013, 0.2958243835966117]
    assert found == pytest.approx(frozen, rel=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_order_of_seeds_does_not_matter(name):
    first, second, counts, strata = drawn(name)
    there = paired(measured(first, counts, strata), measured(second, counts, strata))
    seeds = list(range(len(first)))[::-1]
    back = paired(measured(first[::-1], counts, strata, seeds), measured(second, counts, strata))
    assert (back.mean, back.low, back.high) == pytest.approx((there.mean, there.low, there.high), rel=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_order_of_classes_matters_only_within_the_error_of_resampling(name):
    first, second, counts, strata = drawn(name)
    there = paired(*of_family(name))
    order = np.random.default_rng(0).permutation(len(counts))
    moved = paired(*(measured(side[:, order], counts[order], strata[order]) for side in (first, second)))
    assert moved.mean == pytest.approx(there.mean, rel=1e-12)
    assert moved.se_classes == pytest.approx(there.se_classes, rel=0.08)


@pytest.mark.parametrize("name", FAMILIES)
def test_constant_shifts_and_factor_scales(name):
    first, second, counts, strata = drawn(name)
    there = paired(*of_family(name))
    shifted = paired(measured(first + 0.25 * counts, counts, strata), measured(second, counts, strata))
    assert (shifted.low, shifted.high) == pytest.approx((there.low + 0.25, there.high + 0.25), rel=1e-9)
    scaled = paired(measured(100 * first, counts, strata), measured(100 * second, counts, strata))
    assert (scaled.low, scaled.high) == pytest.approx((100 * there.low, 100 * there.high), rel=1e-9)
    assert scaled.df == pytest.approx(there.df, rel=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_swapping_sides_negates(name):
    a, b = of_family(name)
    there, back = paired(a, b), paired(b, a)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), rel=1e-12)
    assert (back.se_classes, back.df) == pytest.approx((there.se_classes, there.df), rel=1e-9)


def test_more_seeds_are_narrower_on_average():
    widths = {}
    for n in (3, 5, 10, 40):
        results = [paired(*simulated(np.random.default_rng((n, draw)), n, 0.1, 0.1)) for draw in range(40)]
        widths[n] = np.mean([result.high - result.low for result in results])
    assert list(widths.values()) == sorted(widths.values(), reverse=True)


def test_what_a_class_adds_to_both_sides_cancels():
    """Hard and easy classes: a side alone varies with the choice of classes, the difference does not."""
    counts = np.full(40, 10)
    effects = counts * np.random.default_rng(0).random(40)
    seeds = np.array([[0.1], [0.2], [0.3]]) * counts
    a, b = measured(effects + 2 * seeds, counts), measured(effects + seeds, counts)
    assert paired(a, b).se_classes == pytest.approx(0, abs=1e-15)
    assert paired(a, 0).se_classes > 0.03


def test_what_strata_differ_by_is_no_chance():
    counts, strata = np.full(40, 10), np.arange(40) < 20
    sums = counts * (np.where(strata, 0.9, 0.1) + np.array([[0.0], [0.01], [0.02]]))
    assert paired(measured(sums, counts, strata), 0).se_classes == pytest.approx(0, abs=1e-15)
    assert paired(measured(sums, counts), 0).se_classes == pytest.approx(0.4 / np.sqrt(39), rel=0.06)


def test_one_number_has_no_chance_of_its_own():
    a, _ = of_family("typical")
    alone, against = paired(a, 0), paired(a, 0.5)
    assert (against.low, against.high) == pytest.approx((alone.low - 0.5, alone.high - 0.5), rel=1e-9)
    assert alone.sources == against.sources == BOTH
    assert paired(a.values, 0).sources == ("seeds",)


@pytest.mark.parametrize("sides", [(0, 1), (1, 0), (0, 0)])
def test_seeds_alone_where_a_side_has_no_class_scores(sides):
    full = of_family("typical")
    a, b = (each if has else each.values for each, has in zip(full, sides, strict=True))
    result = paired(a, b)
    expected = stats.ttest_1samp(list(result.differences.values()), 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert (result.sources, result.df, result.standard_error) == (("seeds",), 2, result.se_seeds)
    assert np.isnan(result.se_classes)


def test_one_seed_has_no_interval_but_an_error_over_classes():
    first, second, counts, strata = drawn("typical")
    result = paired(measured(first[:1], counts, strata), measured(second[:1], counts, strata))
    assert np.isnan([result.low, result.high, result.se_seeds, result.standard_error, result.df]).all()
    assert result.se_classes > 0


def test_equal_differences_in_all_seeds_leave_the_error_over_classes():
    counts = np.full(20, 8)
    effects = counts * np.random.default_rng(0).random(20)
    result = paired(measured([effects] * 3, counts), measured([0 * effects] * 3, counts))
    assert (result.se_seeds, result.df) == (0, 19)
    half = stats.t.ppf(0.975, 19) * result.se_classes
    assert result.se_classes > 0
    assert (result.low, result.high) == pytest.approx((result.mean - half, result.mean + half), rel=1e-12)


def test_sides_equal_in_every_class_have_a_point_as_interval():
    a, _ = of_family("typical")
    b, _ = of_family("typical")
    result = paired(a, b)
    assert (result.mean, result.low, result.high, result.se_classes) == (0, 0, 0, 0)
    assert result.equal


def test_equal_values_of_unequal_classes_are_not_equal():
    counts = [4, 4]
    result = paired(measured([[1, 3]] * 3, counts), measured([[3, 1]] * 3, counts))
    assert (result.mean, result.se_seeds, result.equal) == (0, 0, False)
    assert result.low < 0 < result.high


def test_stratum_of_one_class_adds_nothing():
    first, second, counts, strata = drawn("a stratum of one class")
    lone = np.flatnonzero(strata)[0]
    weights = class_weights(tuple(strata), 50, 0)
    assert (weights[:, lone] == 1).all()
    assert paired(*of_family("a stratum of one class")).sources == BOTH
    alone = paired(measured(first, counts, np.arange(30)), measured(second, counts, np.arange(30)))
    assert (alone.sources, alone.df) == (("seeds",), 2)


def test_classes_without_a_query_are_as_if_they_were_not_there():
    first, second, counts, strata = drawn("classes without a query")
    there, kept = paired(*of_family("classes without a query")), counts > 0
    gone = paired(*(measured(side[:, kept], counts[kept], strata[kept]) for side in (first, second)))
    assert gone == there


def test_counts_may_differ_by_side_and_seed():
    """As where one side has known classes only: each side's mean over its own queries, both over the same classes."""
    random = np.random.default_rng(3)
    counts, strata = random.integers(1, 9, (2, 3, 8)), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    counts[1, :, 4:] = 0
    sums = counts * random.random((2, 3, 8))
    result = paired(*(measured(*each, strata) for each in zip(sums, counts, strict=True)))
    weights = class_weights(tuple(strata), CLASS_RESAMPLES, CLASS_SEED)
    means = []
    for weight in weights:
        a, b = ([weight @ sums[i, s] / (weight @ counts[i, s]) for s in range(3)] for i in range(2))
        means.append(np.mean(a) - np.mean(b))
    assert result.se_classes == pytest.approx(np.std(means, ddof=1), rel=1e-9)


def test_mean_of_cells_resamples_the_same_classes_in_all():
    a, b = of_family("typical")
    both = mean_of(a, b)
    assert both.values == pytest.approx({seed: (a.values[seed] + b.values[seed]) / 2 for seed in a.values})
    strata, counts = a.strata, a.by_class[0][0].counts
    sums = {seed: (a.by_class[seed][0].sums + b.by_class[seed][0].sums) / 2 for seed in a.values}
    merged = measured(list(sums.values()), counts, strata)  # equal counts: the mean of cells is the cell of means
    for found, expected in ((paired(both, 0), paired(merged, 0)), (paired(both, b), paired(merged, b))):
        assert (found.se_classes, found.low, found.high) == pytest.approx(
            (expected.se_classes, expected.low, expected.high), rel=1e-9
        )
    assert paired(both, mean_of(b, a)).se_classes == pytest.approx(0, abs=1e-15)


def test_resample_without_a_query_is_refused():
    a, b = measured([[1, 0]] * 3, [1, 0]), measured([[0, 1]] * 3, [0, 1])
    message = "a resample of the 2 classes holds no valid query of a score that has some in 1 of them; give strata"
    with pytest.raises(ValueError, match=re.escape(message)):
        paired(a, b)
    apart = paired(*(Measured(each.values, each.by_class, [0, 1]) for each in (a, b)))
    assert apart.sources == ("seeds",)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (measured([[1, 2]] * 3, [4, 4], [0, 1]), "measurements have the strata [0, 0] and [0, 1]"),
        (measured([[1, 2, 3]] * 3, [4, 4, 4]), "measurements have the strata [0, 0] and [0, 0, 0]"),
        (measured([[1, 2]] * 2, [4, 4]), "only equal seeds make pairs"),
    ],
)
def test_measurements_of_other_tests_are_refused(other, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        paired(measured([[1, 2]] * 3, [4, 4]), other)


@pytest.mark.parametrize("strata", [(0,) * 7, (0, 0, 1, 1, 1, 0, 5), (True, False, True)])
def test_weights_draw_every_stratum_in_its_own_size(strata):
    weights = class_weights(strata, 4000, 3)
    labels = np.array(strata)
    for stratum in set(strata):
        own = weights[:, labels == stratum]
        size = own.shape[1]
        np.testing.assert_allclose(own.sum(axis=1), size, rtol=1e-12)
        assert own.mean(axis=0) == pytest.approx(np.ones(size), abs=0.06)
        assert own.var(axis=0) == pytest.approx(np.full(size, float(size > 1)), abs=0.1)
    assert not weights.flags.writeable
    np.testing.assert_array_equal(weights, class_weights.__wrapped__(strata, 4000, 3))
    assert (weights != class_weights(strata, 4000, 4)).any()


def test_classes_are_drawn_apart_from_seeds():
    """A ratio's bootstrap draws both from one number: not the same places twice."""
    places = np.random.default_rng(3).integers(5, size=(100, 4))
    same = np.array([np.bincount(row, minlength=5) for row in places]) * 5 / 4
    assert np.mean(class_weights((0,) * 5, 100, 3) == same) < 0.7


def test_resampled_is_the_written_out_sum():
    random = np.random.default_rng(0)
    weights = class_weights((0, 0, 1, 1, 1), 20, 0)
    terms = [[(k, random.random(5), random.integers(1, 4, 5)) for k in (1, -0.5, 2)] for _ in range(4)]
    expected = [
        [sum(k * sum(w * sums) / sum(w * counts) for k, sums, counts in of_seed) for of_seed in terms] for w in weights
    ]
    np.testing.assert_allclose(resampled(terms, weights), expected, rtol=1e-12)


def simulated(random, n: int, by_seed: float, by_class: float, by_both: float = 0.02) -> tuple[Measured, Measured]:
    """Both sides over 100 classes of 20 queries; the true difference is 0, of known classes 0.1 and of others -0.1.

    Either side has the classes' own difficulty; the difference has an effect of the seed, one of the class, and one of
    both together, of these spreads.
    """
    counts, strata = np.full(100, 20), np.arange(100) < 50
    shared = random.standard_normal((n, 1)) + random.standard_normal(100)
    effects = by_seed * random.standard_normal((n, 1)) + by_class * random.standard_normal(100)
    difference = np.where(strata, 0.1, -0.1) + effects + by_both * random.standard_normal((n, 100))
    return tuple(measured(20 * each, counts, strata) for each in (shared + difference, shared))


def coverage(n: int, spreads: tuple[float, ...], draws: int = 200) -> float:
    """Share of draws whose interval holds the true difference."""
    random = np.random.default_rng(n)
    results = [paired(*simulated(random, n, *spreads)) for _ in range(draws)]
    return np.mean([result.low <= 0 <= result.high for result in results])


@pytest.mark.parametrize("n", [3, 5, 10, 40])
def test_coverage(n):
    """Where seeds, both alike, or classes make the error (that of the mean over 100 classes is a tenth of the spread).

    At 95 % the share of 600 draws has a standard error of 0.9 %: the bounds lie two of these away.
    """
    spreads = [(0.1, 0.01), (0.1 * np.sqrt(n), 1), (0.001, 0.5)]
    assert 0.93 <= np.mean([coverage(n, each) for each in spreads]) <= 0.97


def test_what_differs_by_seed_and_class_together_is_counted_twice():
    """Conservative: the true error is √½ of the interval's."""
    assert coverage(5, (0, 0, 1)) >= 0.97
