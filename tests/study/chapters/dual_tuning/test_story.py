from dataclasses import replace

import pytest

from compatlib.study.chapters.dual_tuning import figures, story
from compatlib.study.chapters.dual_tuning.plan import (
    DUAL,
    FEW,
    HALFWAY,
    METHODS,
    OTHER_HEAD,
    OTHER_LOSS,
    OWN,
    PARTS,
    PROTOTYPES,
    RELEASE,
    SHARE_OF_OUTLIERS,
)
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.figures.texts import effect
from compatlib.study.lab.rows import Rows
from tests.study.chapters.dual_tuning.made_rows import CROSS, OLD, SELF, dual
from tests.study.lab.figures import made

PLACE = {"split": "class-incremental", "variant": OWN, "x_name": "", "subset": "all", "metric": "map"}


@pytest.fixture(scope="module")
def both() -> list[Source]:
    """Heads with all tables; networks with D1 and D2 alone."""
    rows = dual()
    frame = rows.frame
    few = (frame["split"] == "class-incremental") & (frame["x_name"] == "") & (frame["variant"] != OTHER_HEAD)
    return [Source("heads", rows), Source("study", replace(rows, frame=frame[few]))]


def test_levels_stand_between_what_must_be_beaten_and_the_paragon(both):
    found = story.level_table(both).set_index("query / gallery")
    assert list(found) == ["heads (3 seeds)", "study (3 seeds)"]
    assert list(found.index) == [
        "old / old, what must be beaten",
        *(f"new / old, {method}" for method in METHODS),
        "new / new, the paragon",
    ]
    for source, column in zip(both, found, strict=True):
        own = made.level(source.rows, **PLACE, **CROSS, method=DUAL)
        assert found.loc[f"new / old, {DUAL}", column] == own
        assert found.iloc[0][column] == made.level(source.rows, **PLACE, **OLD)


def test_the_price_is_against_the_model_trained_alone(both):
    found = story.cost_table(both).set_index("method")
    assert list(found.index) == list(METHODS[1:])
    alone = {**SELF, "method": "independent"}
    expected = made.gained(both[0].rows, {**SELF, "method": "L2"}, alone, **PLACE)
    assert found.loc["L2", "heads (3 seeds)"] == expected


def test_settings_are_of_bct_and_dual_tuning_and_hold_each_to_its_own_old_model(both):
    found = story.setting_table(both).set_index(["old and new", "method"])
    words = ("the study's upgrade", OTHER_LOSS, "the non-negative head")
    assert list(found.index) == [(each, method) for each in words for method in story.SHOWN]
    assert list(found) == ["heads (1 to 3 seeds)", "study (1 to 3 seeds)"]
    cell = PLACE | {"variant": f"{OWN};{OTHER_LOSS}"}
    expected = made.gained(both[0].rows, {**CROSS, "method": DUAL}, OLD, **cell)
    assert found.loc[(OTHER_LOSS, DUAL), "heads (1 to 3 seeds)"] == expected
    assert found.loc[("the non-negative head", DUAL), "study (1 to 3 seeds)"] == ""


def test_parts_are_at_the_releases_weights(both):
    found = story.part_table(both).set_index("terms")
    assert list(found.index) == ["none", *PARTS]
    expected = made.level(both[1].rows, **PLACE | {"variant": RELEASE}, **CROSS, method="new to old")
    assert found.loc["new to old", "study (1 to 3 seeds)"] == expected
    assert found.loc["none", "heads (1 to 3 seeds)"] == made.level(both[0].rows, **PLACE, **CROSS, method="independent")


def test_unseen_identities_are_the_open_sets(both):
    found = story.unseen_table(both).set_index("method")
    assert list(found) == ["heads (1 seed)"]
    assert list(found.index) == list(FEW[1:])
    cell = PLACE | {"split": "open-set"}
    assert found.loc[DUAL, "heads (1 seed)"] == made.gained(both[0].rows, {**CROSS, "method": DUAL}, OLD, **cell)


def test_what_outliers_take_is_told_test_by_test(both):
    found = story.outlier_table(both).set_index(["test", "method"])
    assert [test for test, _ in found.index] == ["old / old", *["new / old"] * 5, *["new / new"] * 5]
    cell = {"x_name": SHARE_OF_OUTLIERS, "x": 0.4, "metric": "change of map"}
    expected = made.values(both[0].rows, **cell, **CROSS, method=PROTOTYPES)
    assert found.loc[("new / old", PROTOTYPES), "heads (1 seed)"] == made.text(expected, "{:+.1f}")


def test_findings_are_the_rows_numbers(both):
    lines = story.findings(both).data.splitlines()
    assert sum(line.startswith("- **") for line in lines) == 5
    wanted = [
        ({**CROSS, "method": DUAL}, OLD),
        ({**CROSS, "method": DUAL}, {**CROSS, "method": "BCT A"}),
        ({**SELF, "method": DUAL}, {**SELF, "method": "independent"}),
        ({**SELF, "method": "L2"}, {**SELF, "method": "independent"}),
        ({**CROSS, "method": PROTOTYPES}, {**CROSS, "method": HALFWAY}),
    ]
    for number, sides in enumerate(wanted):
        told = []
        for metric in ("map", "cmc@1"):
            told.append(effect(*(made.values(both[0].rows, **PLACE | {"metric": metric}, **side) for side in sides)))
        assert lines[3 * number + 1] == f"  - heads: mAP {told[0]}; rank 1 {told[1]}"


def test_the_first_picture_has_a_panel_a_source_and_a_mark_a_method(both):
    axes = figures.criteria(both).axes
    assert [axis.get_title() for axis in axes] == ["heads", "study"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(METHODS[1:])
    for axis, source in zip(axes, both, strict=True):
        assert any(set(line.get_xdata()) == {0} for line in axis.lines)
        shown = [points.get_offsets()[0, 0] for points in axis.collections[1::2]]
        assert len(shown) == 2 * (len(METHODS) - 1)
        rank_1 = PLACE | {"metric": "cmc@1"}
        cross, old = made.values(source.rows, **rank_1, **CROSS, method="L2"), made.values(source.rows, **rank_1, **OLD)
        assert shown[0] == pytest.approx(100 * (cross - old).mean())


def test_without_any_source_there_is_no_number():
    assert story.findings([]).data == "*No rows of this are published yet.*"
    assert story.level_table([]).empty
    assert story.outlier_table([]).empty


def test_rows_of_one_source_are_enough(both):
    rows: Rows = both[1].rows
    assert list(story.cost_table([Source("study", rows)])) == ["method", "study (3 seeds)"]
