"""The page's tables with a column a source, its findings and its figures, from rows made by hand."""

import numpy as np
import pytest

from compatlib.study.chapters.cmp_nas import figures, story
from compatlib.study.chapters.cmp_nas.plan import OBJECTIVES, PARAGON, RANDOM_PATHS
from compatlib.study.chapters.cmp_nas.tables import RANKINGS
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.trainables.supernets import SEARCHES
from tests.study.chapters.cmp_nas.made_rows import ALONE, CAPS, CROSS, PATHS, SELF, heads, in_words, study
from tests.study.lab.figures import made

PLACE = {"split": OPEN_SET, "variant": "", "x_name": "", "subset": "all", "metric": "map"}


@pytest.fixture(scope="module")
def both() -> list[Source]:
    """Heads have level 1 alone."""
    return [Source("heads", heads()), Source("study", study())]


def test_objectives_and_the_rule_have_a_column_a_source(both):
    levels, rule = story.objective_table(both), story.rule_table(both)
    assert list(levels)[1:] == list(rule)[1:] == ["heads (3 seeds)", "study (3 seeds)"]
    for source, column in zip(both, list(rule)[1:], strict=True):
        for place, method in enumerate(OBJECTIVES):
            assert levels[column][place] == made.level(source.rows, **PLACE, **CROSS, method=method)
            assert rule[column][place] == made.gained(source.rows, CROSS, SELF, **PLACE, method=method)


def test_level_2_has_the_columns_of_those_that_measured_it(both):
    rows = both[1].rows
    rewards = story.reward_table(both)
    assert list(rewards) == ["cap", "searched by", "study (3 seeds)"]
    expected = [made.level(rows, **PLACE | {"variant": CAPS[0]}, **CROSS, method=by) for by in SEARCHES]
    assert list(rewards["study (3 seeds)"]) == expected
    rankings = story.ranking_table(both)
    place = {"split": SEARCHED, "method": RANDOM_PATHS, "metric": "kendall tau", "variant": ""}
    across, ceiling, *others = (made.values(rows, **place, **pair(*names)) for names in RANKINGS.values())
    expected = [in_words(taus) for taus in (across, ceiling, *others, ceiling - across)]
    assert list(rankings["study (3 seeds)"]) == expected
    assert f"below it by {expected[-1]}" in story.findings(both).data
    folds = story.fold_table(both)
    assert list(folds["the paper's abstract"]) == ["80", "", "23", ""]
    saved = made.values(rows, split=OPEN_SET, method="searched", metric="cost saved map", x=0.003)
    assert folds["study (3 seeds)"][0] == f"{1 / (1 - saved.mean()):.1f}"


def test_without_sources_nothing_is_claimed():
    assert story.reward_table([]).empty
    assert story.fold_table([]).empty
    assert "No rows" in story.findings([]).data


def test_findings_speak_of_a_source_only_where_it_measured_them(both):
    found = story.findings(both).data
    assert found.count("  - heads:") == 2
    assert found.count("  - study:") == 5
    rows = both[1].rows
    place = PLACE | {"variant": CAPS[0]} | CROSS
    gained = made.gained(rows, {"method": "R2"}, {"method": "random search"}, **place)
    assert gained.lstrip("+-") in found.partition("Searched by R2, at most 6 MFLOPs")[2]
    saved = made.values(rows, split=OPEN_SET, method="hand-made", metric="cost saved map", x=0.016)
    assert f"{1 / (1 - saved.mean()):.1f}-fold by hand-made ones" in found
    assert "- **Rankings" not in story.findings(both[:1]).data


def test_costs_are_added_up_before_anything_is_measured():
    found = story.costs().set_index("what")
    assert found.loc["super-networks", "how many"] == 6
    assert found.loc["random paths from scratch", "how many"] == 20
    assert found.loc["paths judged (fewer: none twice)", "how many"] == 3 * (5 * 240 + 2 * 100) + 100
    hours = found["core-hours"].astype(float)
    assert hours["all"] == pytest.approx(hours.drop("all").sum(), abs=0.4)


def test_the_rule_has_a_panel_a_source_and_a_line_at_zero(both):
    figure = figures.rule(both)
    assert [axis.get_title() for axis in figure.axes] == ["heads", "study"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(OBJECTIVES)


def offsets(axis, label: str) -> np.ndarray:
    (found,) = [each for each in axis.collections if each.get_label() == label]
    return np.asarray(found.get_offsets())


def test_operations_are_those_of_networks_or_of_encoders(both):
    rows = both[1].rows
    (axis,) = figures.against_operations(rows).axes
    place = {"split": OPEN_SET, "method": "R1", "variant": CAPS[0], **CROSS}
    cost = made.values(rows, **place, metric="flops").mean() / 1e6
    score = 100 * made.values(rows, **place, subset="all", metric="map").mean()
    assert offsets(axis, "searched by R1").tolist() == [pytest.approx([cost, score])]
    (axis,) = figures.against_operations(both[0].rows).axes
    place = {"split": OPEN_SET, "method": "both", "variant": ""}
    cost = made.values(both[0].rows, **place, **CROSS, metric="flops with encoder").mean() / 1e6
    score = 100 * made.values(both[0].rows, **place, **SELF, subset="all", metric="map").mean()
    assert offsets(axis, "M(q, q)")[0] == pytest.approx([cost, score])
    whole = {"split": OPEN_SET, "method": PARAGON}
    cost = made.values(both[0].rows, **whole, metric="flops with encoder").mean() / 1e6
    score = 100 * made.values(both[0].rows, **whole, subset="all", metric="map").mean()
    assert offsets(axis, "M(g, g), the paragon").tolist() == [pytest.approx([cost, score])]


def test_paths_are_points_and_searches_lines_that_never_fall_in_their_reward(both):
    rows = both[1].rows
    left, right = figures.rankings(rows).axes
    assert len(offsets(left, "seed 1")) == len(offsets(right, "seed 1")) == PATHS
    assert [len(offsets(axis, "seed 2")) for axis in figures.inherited(rows).axes] == [len(ALONE)] * 3
    own, cross = figures.searches(rows).axes
    for axis, by in ((own, "R1"), (cross, "R2"), (cross, "random search")):
        (line,) = [each for each in axis.lines if each.get_label() == by]
        assert (np.diff(line.get_ydata()) >= 0).all()
        assert list(line.get_xdata()) == list(range(1, PATHS + 1))
