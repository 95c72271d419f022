import numpy as np
import pytest

from compatlib.evaluation.statistics import ClassScores, Measured, paired
from compatlib.study.lab.figures import texts

THREE = {0: 0.40, 1: 0.41, 2: 0.42}


def by_class(shift: float = 0.0) -> Measured:
    """Three seeds of four classes of ten queries each, whose scores differ by far more than the seeds do."""
    scores = np.array([0.1, 0.3, 0.5, 0.7]) + shift
    found = {seed: ClassScores(10 * (scores + 0.01 * seed), np.full(4, 10)) for seed in range(3)}
    return Measured({seed: each.mean for seed, each in found.items()}, found)


def test_levels_have_half_of_students_interval():
    # t(0.975, 2) = 4.303 times a deviation of 1 point over the root of 3.
    assert texts.in_percent(THREE) == "41.0\u00a0±\u00a02.5"
    assert texts.in_percent({0: 0.40}) == "40.0"


def test_differences_are_paired_by_seed_and_have_a_sign():
    assert texts.points({0: 0.5, 1: 0.51, 2: 0.52}, THREE) == "+10.0\u00a0±\u00a00.0"
    assert texts.points(THREE, {0: 0.5, 1: 0.5, 2: 0.5}) == "-9.0\u00a0±\u00a02.5"
    assert texts.points({0: 0.2}, {0: 0.4}) == "-20.0"


def test_the_choice_of_test_classes_counts_in_differences_and_not_in_levels():
    assert texts.in_percent(by_class()) == texts.in_percent(by_class().values)
    # What is common to the classes cancels in a difference, what is not widens its interval.
    assert texts.points(by_class(0.1), by_class()) == "+10.0\u00a0±\u00a00.0"
    level = dict.fromkeys(range(3), 0.3)
    link = paired(by_class(), level)
    assert texts.points(by_class(), level) == f"+11.0\u00a0±\u00a0{100 * (link.high - link.mean):.1f}"


@pytest.mark.parametrize(("seeds", "shown"), [(1, "undefined"), (4, "0.30"), (5, "0.30 [0.30, 0.30]")])
def test_the_gain_has_its_interval_from_five_seeds(seeds, shown):
    cross, old, new = ({seed: value + 0.01 * seed for seed in range(seeds)} for value in (0.43, 0.40, 0.50))
    assert texts.gain(cross, old, new) == shown


def test_seeds_are_counted_where_the_first_is_above():
    assert texts.seeds_above({0: 0.5, 1: 0.4, 2: 0.4}, {0: 0.4, 1: 0.4, 2: 0.5}) == "1 of 3"


def test_means_and_ratios_take_the_form_that_is_asked_for():
    assert texts.mean_as("{:.2f}")(THREE) == "0.41"
    assert texts.mean_as("{:.1f}", 100)(THREE, {0: 0.2, 1: 0.2, 2: 0.2}) == "30.5"
    assert texts.mean_as(texts.duration)({0: 100, 1: 200}) == "2.5 minutes"
    assert texts.ratio_as("{:.0f}", 100)({0: 1, 1: 2}, {0: 3, 1: 3}) == "50"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59, "59 seconds"), (150, "2.5 minutes"), (9000, "2.5 hours"), (864_000, "10.0 days")],
)
def test_durations_are_in_their_largest_fitting_unit(seconds, words):
    assert texts.duration(seconds) == words


def test_an_effect_says_above_below_or_open():
    assert texts.effect({0: 0.5, 1: 0.51, 2: 0.52}, THREE) == "above by 10.0\u00a0±\u00a00.0 points"
    assert texts.effect(THREE, {0: 0.5, 1: 0.5, 2: 0.5}) == "below by 9.0\u00a0±\u00a02.5 points"
    assert texts.effect(THREE, {0: 0.41, 1: 0.41, 2: 0.40}) == "open (+0.3\u00a0±\u00a03.8 points)"
    assert texts.effect(THREE, THREE) == "equal, query by query"


def test_fewer_than_three_seeds_have_no_effect():
    assert texts.effect({0: 0.2}, {0: 0.4}) == "-20.0 points in the only seed"
    assert texts.effect({0: 0.4, 1: 0.4}, {0: 0.2, 1: 0.2}) == "+20.0\u00a0±\u00a00.0 points in two seeds"


def test_seeds_in_words():
    assert [texts.seeds_in_words(each) for each in (1, 3, "5 to 10")] == ["1 seed", "3 seeds", "5 to 10 seeds"]
