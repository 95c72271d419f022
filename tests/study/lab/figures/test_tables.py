"""The one function behind all tables, with its columns and cells, against filters and means."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab import class_scores
from compatlib.study.lab.figures import cells, tables
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.figures.columns import Column, difference, differences, from_chance, level, levels, mean
from compatlib.study.lab.rows import CLASS_CELL, Rows
from tests.study.lab.figures import made

NAMES = ("old", "new")
CROSS, OLD = pair("new", "old"), pair("old", "old", method="a")


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Tests of two models by three methods; the last method has two seeds only."""
    tests = {"query_model": NAMES, "gallery_model": NAMES, **made.SCORES}
    both = made.made({"method": ("a", "b"), **tests})
    return Rows(pd.concat([both.frame, made.made({"method": "c", **tests}, seeds=(0, 2)).frame]), {})


def test_a_table_has_a_line_for_each_line_and_an_entry_for_each_column(rows):
    columns = levels("cross: {} (%)", **CROSS) | {"mean": mean("{:.3f}", **CROSS, metric="map")}
    found = tables.table(rows, tables.by("method", "method", "abc"), columns, subset="known")
    assert list(found) == ["method", "cross: rank 1 (%)", "cross: rank 5 (%)", "cross: mAP (%)", "mean", "n"]
    assert list(found["n"]) == [3, 3, 2]
    for line in found.to_dict("records"):
        cell = {"method": line["method"], "subset": "known", **CROSS}
        for metric, words in METRICS.items():
            assert line[f"cross: {words} (%)"] == made.level(rows, **cell, metric=metric)
        assert line["mean"] == f"{made.values(rows, **cell, metric='map').mean():.3f}"


def test_differences_are_over_the_seeds_that_both_cells_have(rows):
    columns = differences("{}", CROSS, OLD, {"cmc@1": "rank 1"})
    found = tables.table(rows, tables.by("", "method", "abc"), columns, subset="all").set_index("")
    for method in "abc":
        expected = made.gained(rows, CROSS | {"method": method}, OLD, subset="all", metric="cmc@1")
        assert found.loc[method, "rank 1"] == expected
    assert list(found["n"]) == [3, 3, 2]


def test_what_a_column_picks_goes_before_what_its_line_picks(rows):
    lines = tables.each("", {"new": {"query_model": "new"}})
    columns = {"line's": level(gallery_model="old"), "column's": level(**OLD)}
    where = {"method": "a", "subset": "all", "metric": "map"}
    found = tables.table(rows, lines, columns, **where).iloc[0]
    assert found["line's"] == made.level(rows, **CROSS, **where)
    assert found["column's"] == made.level(rows, **{**where, **OLD})


def test_a_difference_is_blank_in_the_line_that_it_is_against(rows):
    own = {**CROSS, "metric": "map"}
    columns = {"against a": difference(own, {**own, "method": "a"})}
    found = tables.table(rows, tables.by("method", "method", "ab"), columns, subset="all")
    assert found["against a"][0] == "" != found["against a"][1]
    assert list(found["n"]) == ["", 3]


def test_a_column_stands_in_the_lines_that_it_is_for(rows):
    column = level(**CROSS, metric="map").where(lambda picks: picks["method"] == "b")
    shown = tables.table(rows, tables.by("method", "method", "abc"), {"of b": column}, subset="all")["of b"]
    assert [bool(each) for each in shown] == [False, True, False]


def test_the_number_of_seeds_is_a_range_where_entries_differ(rows):
    columns = {method: level(**CROSS, method=method) for method in "ac"}
    where = {"subset": "all", "metric": "map"}
    assert tables.table(rows, [({}, {})], columns, **where)["n"][0] == "2 to 3"
    assert "n" not in tables.table(rows, [({}, {})], columns, count=False, **where)


def test_what_no_value_has_is_undefined_and_no_figure_shows_it(rows):
    frame = rows.frame.copy()
    lost = (frame["method"] == "b") & (frame["seed"] == 1)
    frame.loc[lost, "value"] = np.nan
    columns = {"level": level(**CROSS), "against old": difference(CROSS, OLD)}
    where = {"subset": "all", "metric": "map"}
    found = tables.table(Rows(frame, {}), tables.by("method", "method", "ab"), columns, **where)
    assert list(found["level"]) == [made.level(rows, **CROSS, **where, method="a"), "undefined"]
    assert found["against old"][1] == "undefined"
    with pytest.raises(ValueError, match="no figure can show it"):
        cells.compared(Rows(frame, {}), {**CROSS, **where, "method": "b"})


def test_cells_that_are_missing_or_several_are_refused(rows):
    with pytest.raises(ValueError, match="no row has"):
        tables.table(rows, tables.by("method", "method", "d"), levels("{}", **CROSS), subset="all")
    with pytest.raises(ValueError, match=r"several cells, which differ in .*subset"):
        tables.table(rows, tables.by("method", "method", "a"), levels("{}", **CROSS))
    apart = Rows(pd.concat([rows.frame, made.made({"method": "z", "metric": "map"}, seeds=(7,)).frame]), {})
    with pytest.raises(ValueError, match="a seed that all"):
        cells.compared(apart, {"method": "z"}, {**CROSS, "method": "a", "subset": "all", "metric": "map"})


def test_none_picks_any_value():
    rows = made.made({"method": "a", "metric": "map", "x_name": "share", "x": 0.5})
    column = Column(({"x": None, "x_name": "share"},), lambda found: str(len(found.values)))
    assert column.entry(rows, {"x": 0.0}) == ("3", 3)


def test_lines_are_crossed_the_last_fastest():
    lines = tables.crossed(tables.by("method", "method", "ab"), tables.BY_SUBSET)
    assert [(*words.values(), *picks.values()) for words, picks in lines][2:5] == [
        ("a", "classes new to old", "a", "unknown"),
        ("b", "all classes", "b", "all"),
        ("b", "classes old knew", "b", "known"),
    ]


def test_lines_by_a_column_stand_for_themselves_or_have_words():
    assert tables.by("t", "c", {"x": (1, 2), "y": None}) == [({"t": "x"}, {"c": "x"}), ({"t": "y"}, {"c": "y"})]
    assert tables.by("t", "c", "xy", {"x": "an x"}) == [({"t": "an x"}, {"c": "x"}), ({"t": "y"}, {"c": "y"})]


def test_stacked_tables_keep_n_last_and_leave_blank_what_one_has_not():
    found = tables.stacked(pd.DataFrame([{"a": "1", "n": 3}]), pd.DataFrame([{"a": "2", "b": "x", "n": "3 to 5"}]))
    assert list(found) == ["a", "b", "n"]
    assert found.to_numpy().tolist() == [["1", "", 3], ["2", "x", "3 to 5"]]


def test_a_tuning_marks_what_is_chosen():
    tuned = made.made(
        {"method": ("a", "b"), "x_name": "rate", "x": (0.1, 0.5), "metric": ("cmc@1", "map")}, seeds=(100,)
    )
    judged = tuned.of(metric="cmc@1").groupby(["method", "x"])["value"].mean()
    titles = {"method": "method", "x": "rate"}
    columns = levels("{}", {"map": "mAP"})
    found = tables.tuning(tuned, judged, titles, columns, lambda *one: one == ("b", 0.1), judged_by="judged")
    assert list(found) == ["method", "rate", "mAP", "judged", "chosen"]
    assert list(found["chosen"]) == ["", "", "yes", ""]
    assert found["mAP"][3] == made.level(tuned, method="b", x=0.5, metric="map")
    assert found["judged"][1] == f"{100 * judged['a', 0.5]:.2f}"
    assert "judged" not in tables.tuning(tuned, judged, titles, columns, lambda *one: False)


def test_differences_take_in_the_scores_by_class(rows):
    """The interval of a difference is wider than the seeds' where classes differ in it."""
    where = {**CROSS, "subset": "all", "metric": "map"}
    by_class = {}
    for method, share in (("a", 2.0), ("b", 1.0)):
        for row in rows.of(**where, method=method).to_dict("records"):
            sums = 10 * row["value"] * np.array([2 - share, share])
            name = class_scores.cell_name(row, CLASS_CELL)
            scores = {name: ClassScores(sums, np.array([10, 10]))}
            by_class.setdefault(f"study/cifar100/{row['seed']}", {}).update(scores)
    known = replace(rows, by_class=by_class)
    first, second = ({**where, "method": method} for method in "ab")
    entry, seeds_alone = (difference(first, second).entry(each, {})[0] for each in (known, rows))
    assert entry.split("±")[0] == seeds_alone.split("±")[0]
    assert float(entry.split("±\u00a0")[1]) > float(seeds_alone.split("±\u00a0")[1])
    assert cells.compared(known, first, second).sources == ("seeds", "classes")
    assert level(**first).entry(known, {}) == level(**first).entry(rows, {})


def test_a_random_ranking_is_fixed_while_classes_are_resampled(rows):
    """Its score has no class scores, and the interval covers the choice of test classes nonetheless."""
    where = {"subset": "all", "metric": "map"}
    chance = made.made({"method": "chance", **where}).frame.assign(value=0.25)
    own = rows.of(**CROSS, **where, method="a")
    by_class = {
        f"study/cifar100/{row['seed']}": {
            class_scores.cell_name(row, CLASS_CELL): ClassScores(10 * row["value"] * np.array([0.5, 1.5]), [10, 10])
        }
        for row in own.to_dict("records")
    }
    both = Rows(pd.concat([own, chance]), {}, by_class)
    cell = {**CROSS, **where, "method": "a"}
    link = cells.compared(both, cell, {**cell, **cells.CHANCE})
    assert link.sources == ("seeds", "classes")
    half = 100 * (link.high - link.mean)
    expected = 100 * (own["value"].mean() - 0.25)
    assert from_chance(**cell).entry(both, {}) == (f"{expected:+.1f}\u00a0±\u00a0{half:.1f}", 3)
    assert cells.measured_or_none(both, {**cell, "method": "b"}) is None
    first, second = cells.measured_or_none(both, cell), cells.compared(both, cell)
    np.testing.assert_equal(asdict(first), asdict(second))


def test_names_are_present_in_their_order(rows):
    assert cells.present(("c", "x", "a"), rows) == ["c", "a"]
    assert cells.present(("b", "a"), rows, "method", query_model="new") == ["b", "a"]


def test_a_table_is_shown_without_the_numbers_of_its_lines():
    html = tables.show(pd.DataFrame({"a": ["x"]})).data
    assert "<td>x</td>" in html
    assert "<th>0</th>" not in html
    assert tables.show(pd.DataFrame({"a": []})).data == "<p><em>Not measured.</em></p>"
