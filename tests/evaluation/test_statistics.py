"""Paired intervals against scipy, and verdicts against the definition over families of intervals."""

import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from compatlib.evaluation.statistics import (
    INCONCLUSIVE,
    NO_DIFFERENCE,
    NOT_REPRODUCED,
    REPRODUCED,
    ClassScores,
    Measured,
    against_chance,
    by_seed,
    holm,
    paired,
    verdict,
)


def seeds(*values) -> dict[int, float]:
    return dict(enumerate(values))


def with_interval(low: float, high: float, n: int = 3) -> dict[int, float]:
    """Values over seeds whose 95 % interval is [low, high]."""
    unit = np.linspace(-1, 1, n)
    half = stats.t.ppf(0.975, n - 1) * unit.std(ddof=1) / np.sqrt(n)
    return seeds(*((low + high) / 2 + (high - low) / 2 / half * unit))


def of_classes(*sums) -> Measured:
    """A measurement from every seed's sums by class, of four queries a class."""
    scores = {seed: ClassScores(each, [4] * len(each)) for seed, each in enumerate(sums)}
    return Measured({seed: each.mean for seed, each in scores.items()}, scores)


ZERO = seeds(0, 0, 0)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
def test_interval_is_that_of_the_paired_t_test(n, scale):
    random = np.random.default_rng(n)
    a, b = scale * random.standard_normal(n), scale * random.standard_normal(n)
    result = paired(seeds(*a), seeds(*b))
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (result.n, result.mean) == (n, pytest.approx((a - b).mean(), rel=1e-12))
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert result.differences == dict(enumerate(a - b))


def test_a_worked_example():
    """Differences 1, 2, 3: mean 2, standard error 1/√3, Student's t with two degrees of freedom: 4.302653."""
    result = paired({0: 3, 1: 2, 2: 4}, {0: 2, 1: 0, 2: 1})
    assert result.differences == {0: 1, 1: 2, 2: 3}
    assert (result.low, result.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)


def test_pairs_are_formed_by_seed_not_by_place():
    a, b = {7: 1.0, 3: 2.0, 5: 4.0}, {5: 3.0, 7: 0.5, 3: 0.0}
    result = paired(a, b)
    assert result.differences == {7: 0.5, 3: 2.0, 5: 1.0}
    series = paired(pd.Series(a), pd.Series(b).sort_index())
    np.testing.assert_equal(asdict(series), asdict(result))


def test_swapping_sides_mirrors_the_interval():
    random = np.random.default_rng(0)
    a, b = seeds(*random.standard_normal(6)), seeds(*random.standard_normal(6))
    forth, back = paired(a, b), paired(b, a)
    assert (back.mean, back.low, back.high) == pytest.approx((-forth.mean, -forth.high, -forth.low), rel=1e-12)


def test_equal_differences_have_a_point_as_interval():
    result = paired(seeds(0.3, 0.3, 0.3), seeds(0.1, 0.1, 0.1))
    assert result.low == result.mean == result.high == 0.3 - 0.1


def test_one_seed_has_no_interval():
    result = paired({4: 2.0}, {4: 1.0})
    assert (result.n, result.mean) == (1, 1)
    assert np.isnan([result.low, result.high]).all()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({0: 1.0}, {1: 1.0}, "a has the seeds [0] and b has [1]; only equal seeds make pairs"),
        ({0: 1.0, 1: 2.0}, {0: 1.0}, "only equal seeds make pairs"),
        ({0: 1.0}, {"0": 1.0}, "only equal seeds make pairs"),
        ({}, {}, "a has the seeds []; valid are one or more"),
        ([1.0, 2.0], [1.0, 2.0], "a is [1.0, 2.0]; valid is a mapping or Series seed → value"),
        (np.ones(3), np.ones(3), "valid is a mapping or Series"),
        (1.0, 2.0, "a is 1.0; valid is a mapping or Series"),
        (None, {0: 1.0}, "a is None; valid is a mapping or Series"),
        ({0: np.nan}, {0: 1.0}, "a, seed 0, is nan; valid are finite numbers"),
        ({0: 1.0}, {0: np.inf}, "b, seed 0, is inf; valid are finite numbers"),
        ({0: "1.0"}, {0: 1.0}, "a, seed 0, is '1.0'"),
        ({0: True}, {0: 1.0}, "a, seed 0, is True"),
        ({0: None}, {0: 1.0}, "a, seed 0, is None"),
        (pd.Series([1.0, 2.0], index=[3, 3]), {3: 1.0}, "a has the seeds [3, 3]; valid are one or more, each once"),
        (pd.DataFrame({"x": [1.0]}), {"x": 1.0}, "a, seed x, is"),
    ],
)
def test_unpaired_measurements_are_refused(a, b, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        paired(a, b)


def test_values_become_plain_floats():
    values = by_seed(pd.Series([np.float32(0.5), 1.0], index=[0, 1]), "x")
    assert all(type(value) is float for value in values.values())


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1e-6, 1, REPRODUCED),
        (-1e-6, 1, INCONCLUSIVE),
        (-1, 1e-6, INCONCLUSIVE),
        (-1, -1e-6, NOT_REPRODUCED),
        (-3, -2, NOT_REPRODUCED),
        (2, 3, REPRODUCED),
    ],
)
@pytest.mark.parametrize("n", [3, 5, 8])
def test_direction(low, high, outcome, n):
    values = with_interval(low, high, n)
    result = verdict("direction", values, seeds(*[0] * n))
    assert result.outcome == outcome
    assert (result.links[0].low, result.links[0].high) == pytest.approx((low, high), abs=1e-12)
    assert (result.kind, result.margin) == ("direction", None)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.9, 0.9, REPRODUCED),
        (0.2, 0.9, REPRODUCED),
        (-0.9, 1.1, INCONCLUSIVE),
        (-1.1, 0.9, INCONCLUSIVE),
        (-2, 2, INCONCLUSIVE),
        (0.9, 1.1, INCONCLUSIVE),
        (1.1, 2, NOT_REPRODUCED),
        (-2, -1.1, NOT_REPRODUCED),
    ],
)
def test_equivalence_and_chance(low, high, outcome):
    values = with_interval(low, high)
    assert verdict("equivalence", values, ZERO, margin=1).outcome == outcome
    shifted = {seed: value + 5 for seed, value in values.items()}
    assert verdict("at_chance", shifted, chance_level=5, margin=1).outcome == outcome
    assert verdict("at_chance", shifted, chance_level=pd.Series([5.0] * 3), margin=1).outcome == outcome


def test_level_of_chance_may_differ_by_seed():
    result = verdict("at_chance", seeds(0.1, 0.2, 0.3), chance_level=seeds(0.1, 0.2, 0.3), margin=0)
    assert result.outcome == REPRODUCED
    assert result.links[0].differences == ZERO


@pytest.mark.parametrize(
    ("links", "outcome"),
    [
        ([(1, 2), (1, 2)], REPRODUCED),
        ([(1, 2), (-1, 2)], INCONCLUSIVE),
        ([(-1, 2), (-2, -1)], NOT_REPRODUCED),
        ([(1, 2), (-2, -1)], NOT_REPRODUCED),
        ([(-2, -1), (1, 2), (1, 2)], NOT_REPRODUCED),
        ([(1, 2), (1, 2), (-1, 2)], INCONCLUSIVE),
        ([(1, 2)] * 5, REPRODUCED),
    ],
)
def test_chain_holds_if_every_link_does(links, outcome):
    rungs = [ZERO]
    for low, high in links:
        step = with_interval(low, high)
        rungs.append({seed: value + step[seed] for seed, value in rungs[-1].items()})
    result = verdict("chain", *rungs)
    assert result.outcome == outcome
    assert [(link.low, link.high) for link in result.links] == [pytest.approx(link, abs=1e-12) for link in links]


def test_chain_of_two_is_a_direction():
    low, high = seeds(1, 2, 3), seeds(2, 4, 3.5)
    chain, direction = (verdict(*each).links for each in (("chain", low, high), ("direction", high, low)))
    np.testing.assert_equal([asdict(link) for link in chain], [asdict(link) for link in direction])


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_are_inconclusive(n):
    high, low = seeds(*range(100, 100 + n)), seeds(*range(n))
    assert verdict("direction", high, low).outcome == INCONCLUSIVE
    assert verdict("direction", low, high).outcome == INCONCLUSIVE
    assert verdict("chain", low, high).outcome == INCONCLUSIVE
    assert verdict("equivalence", high, high, margin=1).outcome == INCONCLUSIVE
    assert verdict("at_chance", high, chance_level=0, margin=1).outcome == INCONCLUSIVE


def test_equal_values_are_a_point():
    """No spread: a tie shows no difference, but it is an equivalence, also exactly at the margin."""
    assert verdict("direction", ZERO, ZERO).outcome == NO_DIFFERENCE
    assert verdict("direction", seeds(1, 1, 1), ZERO).outcome == REPRODUCED
    assert verdict("equivalence", ZERO, ZERO, margin=0).outcome == REPRODUCED
    assert verdict("equivalence", seeds(1, 1, 1), ZERO, margin=1).outcome == REPRODUCED
    assert verdict("equivalence", seeds(2, 2, 2), ZERO, margin=1).outcome == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(1e-6, 1, REPRODUCED), (-1e-6, 1, INCONCLUSIVE), (-1, 1e-6, INCONCLUSIVE), (-3, -1e-6, NOT_REPRODUCED)],
)
@pytest.mark.parametrize("bound", [0, 0.05, -2])
def test_above_is_a_direction_against_a_bound(low, high, outcome, bound):
    values = {seed: value + bound for seed, value in with_interval(low, high).items()}
    result = verdict("above", values, margin=bound)
    assert (result.kind, result.outcome, result.outcomes, result.margin) == ("above", outcome, (outcome,), bound)
    assert (result.links[0].low, result.links[0].high) == pytest.approx((low, high), abs=1e-12)


def test_value_at_its_bound_is_not_above_it():
    assert verdict("above", seeds(0.05, 0.05, 0.05), margin=0.05).outcome == NOT_REPRODUCED
    assert verdict("above", of_classes([1, 3], [1, 3], [1, 3]), margin=0.4).outcome == INCONCLUSIVE


@pytest.mark.parametrize(
    ("above", "below", "outcome"),
    [
        (of_classes(*[[1, 3]] * 3), of_classes(*[[1, 3]] * 3), NO_DIFFERENCE),
        (of_classes(*[[1, 3]] * 3), of_classes(*[[2, 2]] * 3), INCONCLUSIVE),  # equal means of unequal classes
        (of_classes([1, 3], [2, 2], [0, 4]), of_classes([1, 3], [2, 2], [0, 4]), NO_DIFFERENCE),
        (of_classes([1, 3], [2, 2], [0, 4]), of_classes([1, 3], [2, 2], [0, 3]), INCONCLUSIVE),
        (of_classes(*[[1, 3]] * 3), seeds(0.5, 0.5, 0.5), NO_DIFFERENCE),  # one side's classes are not known
        (seeds(0.5, 0.4, 0.3), seeds(0.5, 0.4, 0.3), NO_DIFFERENCE),
        (seeds(0.5, 0.4, 0.3), seeds(0.5, 0.4, 0.3 - 1e-15), INCONCLUSIVE),
        (seeds(0.5, 0.4), seeds(0.5, 0.4), INCONCLUSIVE),  # two seeds
    ],
)
def test_no_difference_is_equality_throughout(above, below, outcome):
    assert verdict("direction", above, below).outcome == outcome
    if outcome == NO_DIFFERENCE:
        assert verdict("equivalence", above, below, margin=0).outcome == REPRODUCED


@pytest.mark.parametrize(
    ("rungs", "outcomes", "outcome"),
    [
        ((0, 0), (NO_DIFFERENCE,), INCONCLUSIVE),
        ((0, 0, 1), (NO_DIFFERENCE, REPRODUCED), INCONCLUSIVE),
        ((0, 1, 1, 2), (REPRODUCED, NO_DIFFERENCE, REPRODUCED), INCONCLUSIVE),
        ((1, 1, 0), (NO_DIFFERENCE, NOT_REPRODUCED), NOT_REPRODUCED),
        ((0, 1, 2), (REPRODUCED, REPRODUCED), REPRODUCED),
    ],
)
def test_chain_with_a_link_of_no_difference_is_at_best_inconclusive(rungs, outcomes, outcome):
    result = verdict("chain", *(seeds(rung, rung, rung) for rung in rungs))
    assert (result.outcomes, result.outcome) == (outcomes, outcome)


def test_verdict_takes_both_sources_of_chance():
    """Every seed says +0.05, all of it from one of four classes: seeds alone decide, classes do not."""
    above, below = of_classes(*[[4, 2, 2, 2]] * 3), of_classes(*[[3.2, 2, 2, 2]] * 3)
    both, alone = verdict("direction", above, below), verdict("direction", above.values, below.values)
    assert (both.outcome, both.links[0].sources) == (INCONCLUSIVE, ("seeds", "classes"))
    assert (alone.outcome, alone.links[0].sources) == (REPRODUCED, ("seeds",))
    assert verdict("chain", below, above).links == both.links


def test_level_of_chance_is_fixed_unless_it_is_known_by_class():
    a = of_classes([1, 3, 2, 2], [1, 2, 2, 2], [1, 3, 3, 2])
    number = verdict("at_chance", a, chance_level=0.5, margin=0.1).links[0]
    assert number == verdict("at_chance", a, chance_level=seeds(0.5, 0.5, 0.5), margin=0.1).links[0]
    assert number.sources == ("seeds", "classes")
    by_class = verdict("at_chance", a, chance_level=of_classes(*[[1, 3, 2, 2]] * 3), margin=0.1).links[0]
    assert by_class.mean == number.mean
    assert by_class.se_classes < number.se_classes
    assert against_chance(a, 0.5) == number


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_p_value_is_that_of_the_paired_t_test(n):
    random = np.random.default_rng(n)
    a, b = random.standard_normal(n), random.standard_normal(n)
    result = paired(seeds(*a), seeds(*b))
    assert result.p_value() == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert result.p_value(0.3) == pytest.approx(stats.ttest_1samp(a - b, 0.3).pvalue, rel=1e-9)
    assert result.p_value(result.mean) == 1
    assert [result.p_value(end) for end in (result.low, result.high)] == pytest.approx([0.05, 0.05], rel=1e-9)


def test_p_value_covers_both_sources():
    result = paired(of_classes([1, 3, 2], [1, 4, 2], [0, 3, 4]), of_classes([0, 3, 1], [1, 1, 2], [0, 3, 1]))
    assert result.sources == ("seeds", "classes")
    assert [result.p_value(end) for end in (result.low, result.high)] == pytest.approx([0.05, 0.05], rel=1e-9)


def test_p_value_of_a_point():
    point = paired(seeds(1, 1, 1), ZERO)
    assert (point.p_value(), point.p_value(1)) == (0, 1)
    assert np.isnan(paired({0: 1.0}, {0: 0.0}).p_value())
    with pytest.raises(ValueError, match="bound is nan"):
        point.p_value(np.nan)


KINDS_WITH_MARGIN = {"direction": None, "equivalence": 0.5, "above": 0.5, "chain": None, "at_chance": 0.5}


@pytest.mark.parametrize("kind", KINDS_WITH_MARGIN)
@pytest.mark.parametrize("n", [3, 6])
def test_verdict_is_decided_where_its_p_value_is_at_most_the_level(kind, n):
    random, margin, decided = np.random.default_rng(n), KINDS_WITH_MARGIN[kind], set()
    for _ in range(200):
        count = {"chain": 3, "above": 1, "at_chance": 1}.get(kind, 2)
        levels = random.uniform(-1.5, 1.5, (count, 1))
        values = [seeds(*each) for each in levels + random.uniform(0, 0.5) * random.standard_normal((count, n))]
        options = {"chance_level": 0.1} if kind == "at_chance" else {}
        result = verdict(kind, *values, margin=margin, **options)
        assert (result.outcome != INCONCLUSIVE) == (result.p_value <= 0.05)
        decided.add(result.outcome)
    assert decided == {REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE}


def test_p_value_of_what_decides_nothing():
    assert verdict("direction", seeds(9, 9), seeds(0, 0)).p_value == 1
    assert verdict("direction", {0: 9.0}, {0: 0.0}).p_value == 1
    assert verdict("direction", ZERO, ZERO).p_value == 1
    assert verdict("chain", ZERO, ZERO, seeds(1, 1, 1)).p_value == 1
    assert verdict("direction", seeds(1, 1, 1), ZERO).p_value == 0


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),  # 0.0125, 0.0167, then 0.03 > 0.025
        ([0.01, 0.02, 0.03], [True, True, True]),  # 0.0167, 0.025, 0.05
        ([0.02, 0.02, 0.02], [False, False, False]),
        ([0.02, 0.0, 0.02], [True, True, True]),
        ([0.05], [True]),
        ([0.050001], [False]),
        ([1, 0], [False, True]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, rejected):
    assert holm(p_values).tolist() == rejected


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closed_test_of_bonferroni(seed):
    """A hypothesis is rejected if every set of hypotheses that holds it has one at most at level / size of the set."""
    random = np.random.default_rng(seed)
    k, level = int(random.integers(1, 8)), float(random.choice([0.05, 0.2]))
    p_values = random.choice([0.004, 0.006, 0.01, 0.012, 0.02, 0.03, 0.05, 0.3], k)
    members = [[i for i in range(k) if number >> i & 1] for number in range(1, 2**k)]
    expected = [
        all(min(p_values[one] for one in group) <= level / len(group) for group in members if i in group)
        for i in range(k)
    ]
    assert holm(p_values, level).tolist() == expected


@pytest.mark.parametrize(
    ("p_values", "level", "message"),
    [
        ([0.1, np.nan], 0.05, "valid are numbers in [0, 1], (k,): leave out what is not measured"),
        ([-0.1], 0.05, "p_values is [-0.1]"),
        ([1.1], 0.05, "p_values is [1.1]"),
        ([[0.1]], 0.05, "p_values is [[0.1]]"),
        (["0.1"], 0.05, "p_values is ['0.1']"),
        (0.1, 0.05, "p_values is 0.1"),
        ([0.1], 5, "level is 5; valid are finite numbers from 0 to 1"),
    ],
)
def test_holm_refuses(p_values, level, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        holm(p_values, level)


@pytest.mark.parametrize(
    ("kind", "measurements", "options", "message"),
    [
        ("better", (ZERO, ZERO), {}, "kind is 'better'; valid are 'direction', 'chain', 'equivalence', 'at_chance'"),
        (None, (ZERO, ZERO), {}, "kind is None"),
        ("direction", (ZERO,), {}, "1 measurements for a claim of kind 'direction'; valid is 2"),
        ("direction", (ZERO, ZERO, ZERO), {}, "3 measurements for a claim of kind 'direction'; valid is 2"),
        ("chain", (ZERO,), {}, "valid is 2 or more"),
        ("at_chance", (ZERO, ZERO), {"margin": 1, "chance_level": 0}, "valid is 1"),
        ("equivalence", (ZERO, ZERO), {}, "margin is None; a claim of kind 'equivalence' needs one"),
        ("equivalence", (ZERO, ZERO), {"margin": -1}, "margin is -1"),
        ("equivalence", (ZERO, ZERO), {"margin": np.nan}, "margin is nan"),
        ("equivalence", (ZERO, ZERO), {"margin": "1"}, "margin is '1'"),
        ("direction", (ZERO, ZERO), {"margin": 1}, "margin is 1; a claim of kind 'direction' has none"),
        ("direction", (ZERO, ZERO), {"chance_level": 0}, "chance_level is 0; a claim of kind 'direction' has none"),
        ("at_chance", (ZERO,), {"margin": 1}, "chance_level is None; a claim of kind 'at_chance' needs one"),
        ("at_chance", (ZERO,), {"margin": 1, "chance_level": np.nan}, "is nan; valid are finite numbers"),
        ("at_chance", (ZERO,), {"margin": 1, "chance_level": {0: 1.0}}, "only equal seeds make pairs"),
        ("chain", (ZERO, seeds(1, 2)), {}, "only equal seeds make pairs"),
        ("above", (ZERO,), {}, "margin is None; a claim of kind 'above' needs one"),
        ("above", (ZERO, ZERO), {"margin": 1}, "2 measurements for a claim of kind 'above'; valid is 1"),
        ("above", (ZERO,), {"margin": np.inf}, "margin is inf"),
        ("above", (ZERO,), {"margin": True}, "margin is True"),
        ("above", (ZERO,), {"margin": 1, "chance_level": 0}, "a claim of kind 'above' has none"),
        ("at_chance", (ZERO,), {"margin": 1, "chance_level": "0"}, "chance_level is '0'; valid is a mapping"),
    ],
)
def test_claims_without_meaning_are_refused(kind, measurements, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        verdict(kind, *measurements, **options)
