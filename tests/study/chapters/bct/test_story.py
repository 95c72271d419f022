from dataclasses import replace

import pandas as pd
import pytest

from compatlib.study.chapters.bct import figures, story
from compatlib.study.chapters.bct.plan import ALL_METHODS, CHAIN, METHODS
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.figures.texts import effect
from compatlib.study.lab.rows import Rows
from tests.study.chapters.bct import made_rows
from tests.study.chapters.bct.made_rows import CROSS, OLD, SELF, bct
from tests.study.lab.figures import made

RANK_1 = {"split": "class-incremental", "variant": "", "x_name": "", "subset": "all", "metric": "cmc@1"}
SHIFTED, CENTRED = "offset=shifted", "offset=centred"
OTHER_HEAD = "head=relu_pool"


def described(rows: Rows, head: str) -> Rows:
    about = {"settings": {"dataset": "cifar100", "network": {"head": head}, "training": {"epochs": 1}}}
    return replace(rows, sidecar={"a/b/0": about})


@pytest.fixture(scope="module")
def both() -> list[Source]:
    """Heads, whose rows know offsets, the other head and form D; and networks, whose rows do not."""
    place = {"split": "class-incremental"}
    cells = []
    for head in ("", OTHER_HEAD):
        for offset in (SHIFTED, CENTRED):
            cells += made_rows.tests(tuple(ALL_METHODS), **place, variant=f"{head};{offset}".strip(";"))
        if head:
            cells += made_rows.tests(tuple(ALL_METHODS), **place, variant=head)
    cells += made_rows.tests(("BCT D",), **place)[:3]
    cells += [
        cell for draw in (1, 2) for cell in made_rows.tests(("independent", "BCT A"), **place, variant=f"draw={draw}")
    ]
    chain = {"split": "three generations", "subset": "all", "metric": ("cmc@1", "map"), "variant": SHIFTED}
    cells.append({**chain, **pair(CHAIN_LAST, CHAIN_FIRST), "method": "BCT A"})
    more = made.made(*cells, distance="cosine").frame
    rows = bct()
    frame = pd.concat([rows.frame, more]).drop_duplicates([name for name in rows.frame if name != "value"])
    return [Source("heads", described(Rows(frame, {}), "linear_bn")), Source("study", described(rows, "relu_pool"))]


CHAIN_FIRST, *_, CHAIN_LAST = CHAIN


def test_levels_stand_between_what_must_be_beaten_and_the_paragon_beside_bt2(both):
    found = story.level_table(both).set_index("query / gallery")
    assert list(found) == ["heads (3 seeds)", "study (3 seeds)", "BT²"]
    assert [found.index[0], found.index[-1]] == ["old / old, what must be beaten", "new / new, the paragon"]
    assert list(found["BT²"])[:2] == ["33.6", "0.8"]
    assert (found.loc["new / old, BCT A", "BT²"], found.loc["new / new, the paragon", "BT²"]) == ("25.0", "62.7")
    assert (found["BT²"] != "").sum() == 4
    for source, column in zip(both, found, strict=False):
        own = made.level(source.rows, **RANK_1, **CROSS, method="contrastive")
        assert found.loc["new / old, contrastive", column] == own
        assert found.iloc[0][column] == made.level(source.rows, **RANK_1, **OLD)
    assert found.loc["new / old, BCT D", "study (3 seeds)"] == ""


@pytest.mark.parametrize(("offset", "old"), [(story.AS_THEY_ARE, ""), (story.SHIFTED, ""), (story.CENTRED, CENTRED)])
@pytest.mark.parametrize("metric", ["cmc@1", "map"])
def test_the_criterion_keeps_the_old_models_own_test_unless_both_are_centred(both, offset, old, metric):
    found = story.criterion_table(both, metric, offset).set_index("method")
    place = {**RANK_1, "metric": metric}
    first = {**CROSS, "method": "BCT A", "variant": offset}
    expected = made.gained(
        both[0].rows, first, {**OLD, "variant": old}, **{k: v for k, v in place.items() if k != "variant"}
    )
    assert found.loc["BCT A", "heads (3 seeds)"] == expected
    assert list(found.index) == list(ALL_METHODS[1:])
    assert len(found.columns) == (1 if offset else 2)


def test_the_criterion_may_be_of_a_subset(both):
    found = story.criterion_table(both, subset="known").set_index("method")
    expected = made.gained(both[1].rows, {**CROSS, "method": "L2"}, OLD, **RANK_1 | {"subset": "known"})
    assert found.loc["L2", "study (3 seeds)"] == expected


def test_the_price_is_against_the_model_trained_alone(both):
    found = story.cost_table(both).set_index("method")
    alone = {**SELF, "method": "independent"}
    for method in METHODS[1:]:
        expected = made.gained(both[1].rows, {**SELF, "method": method}, alone, **RANK_1)
        assert found.loc[method, "study (3 seeds)"] == expected


def test_changes_are_form_as_and_of_samples_the_one_form_there_is(both):
    found = story.change_table(both).set_index("what changes")
    assert list(found.index[2:]) == [
        *CHANGES,
        "the first, draw 1 of the old classes",
        "the first, draw 2 of the old classes",
    ]
    rows, column = both[0].rows, "heads (1 to 3 seeds)"
    place = {name: value for name, value in RANK_1.items() if name != "variant"}
    for words, variant in ((next(iter(CHANGES)), next(iter(CHANGES))), (found.index[-1], "draw=2")):
        expected = made.gained(rows, {**CROSS, "method": "BCT A"}, OLD, **place, variant=variant)
        assert found.loc[words, column] == expected
    samples = RANK_1 | {"split": "sample-incremental"}
    expected = made.gained(rows, {**CROSS, "method": "BCT C"}, OLD, **samples)
    assert found.loc["half of every class's images, then all", column] == expected


def test_the_chain_is_the_third_models_queries_against_the_firsts_own(both):
    found = story.chain_table(both).set_index("chain")
    assert list(found.index) == ["independent", "BCT A", "BCT A, queries shifted"]
    rows = both[0].rows
    place = {"split": "three generations", "subset": "all", "metric": "cmc@1", "method": "BCT A"}
    last, first = pair(CHAIN_LAST, CHAIN_FIRST), pair(CHAIN_FIRST, CHAIN_FIRST, variant="")
    for words, variant in (("BCT A", ""), ("BCT A, queries shifted", SHIFTED)):
        expected = made.gained(rows, {**last, "variant": variant}, first, **place)
        assert found.loc[words, "heads (3 seeds)"] == expected


def test_unseen_identities_have_a_line_a_weight(both):
    found = story.unseen_table(both).set_index("weight λ")
    assert list(found.index) == ["0.1", "0.3", "1", "3", "10"]
    place = {"split": "open-set", "x_name": "weight", "subset": "all", "metric": "cmc@1"}
    expected = made.gained(both[1].rows, {**CROSS, "method": "BCT A", "x": 3.0}, {**OLD, "x": 0.0}, **place)
    assert found.loc["3", "study (1 seed)"] == expected


def test_findings_are_the_rows_numbers(both):
    lines = story.findings(both).data.splitlines()
    assert sum(line.startswith("- **") for line in lines) == 5
    for source in both:
        told = []
        for metric in ("map", "cmc@1"):
            cell = {**RANK_1, "metric": metric}
            pairs = (made.values(source.rows, **cell, **side) for side in ({**CROSS, "method": "BCT A"}, OLD))
            told.append(effect(*pairs))
        assert lines[1 + both.index(source)] == f"  - {source.words}: mAP {told[0]}; rank 1 {told[1]}"
    (place,) = (number for number, line in enumerate(lines) if "moved onto" in line)
    assert lines[place + 1].startswith("  - heads:")
    assert lines[place + 2].startswith("- **")  # the other source has no such rows


def test_the_first_picture_has_a_panel_a_source_and_a_mark_a_method_that_it_has(both):
    axes = figures.criteria(both).axes
    assert [axis.get_title() for axis in axes] == ["heads", "study"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(ALL_METHODS[1:])
    for axis, source, missing in zip(axes, both, (0, 1), strict=True):
        shown = [points.get_offsets()[0, 0] for points in axis.collections[1::2]]
        assert len(shown) == 2 * (len(ALL_METHODS) - 1 - missing)
        first = {**RANK_1, **CROSS, "method": "L2"}
        cross, old = made.values(source.rows, **first), made.values(source.rows, **RANK_1, **OLD)
        assert shown[0] == pytest.approx(100 * (cross - old).mean())


def test_when_it_holds_is_shown_by_form_head_and_offset(both):
    axes = figures.when(both).axes
    lines = [text.get_text() for text in axes[0].get_yticklabels()]
    assert lines[:2] == ["BCT A, non-negative head", "BCT A, signed head"]
    heads, study = ([points.get_offsets()[0] for points in axis.collections[1::2]] for axis in axes)
    assert (len(heads), len(study)) == (3 * 6, 3)  # three comparisons of three methods and two heads; of one head, raw
    place = {name: value for name, value in RANK_1.items() if name != "variant"}
    first = {**CROSS, "method": "BCT A", "variant": f"{OTHER_HEAD};{SHIFTED}"}
    cross = made.values(both[0].rows, **place, **first)
    old = made.values(both[0].rows, **place, **OLD, variant=OTHER_HEAD)
    (shifted,) = (x for x, y in heads[6:12] if round(y) == 0)
    assert shifted == pytest.approx(100 * (cross - old).mean())
