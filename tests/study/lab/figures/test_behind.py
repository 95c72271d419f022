"""What stands behind a table or a picture: the CSV of its output says what is seen."""

import io
import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from compatlib.evaluation.statistics import paired
from compatlib.study.lab.figures import marks, style
from compatlib.study.lab.figures.behind import LONGEST, STACKED, Picture, as_csv
from compatlib.study.lab.figures.tables import show
from tests.study.lab.figures import made

LINK = paired({0: 0.1, 1: 0.2, 2: 0.3}, 0)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def read(csv: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(csv), dtype=str, keep_default_na=False)


def wide(columns: int) -> pd.DataFrame:
    return pd.DataFrame([[f"{line} {column}" for column in range(columns)] for line in "ab"])


def test_a_tables_csv_is_the_table_as_it_is_shown():
    frame = pd.DataFrame({"method": ["a, b", 'the "c"', "<d>"], "heads (3 seeds)": ["1.0\u00a0±\u00a00.2", "", "2.0"]})
    data, about = show(frame)._repr_mimebundle_()
    assert read(data["text/csv"]).equals(made.seen(data["text/html"]))
    assert "\u00a0" not in data["text/csv"]
    assert about == {}


def test_a_table_says_of_which_source_it_is():
    shown = show(wide(2), "this build: <smoke>")
    assert shown._repr_mimebundle_()[1] == {"of": "this build: <smoke>"}
    assert "<caption>this build: &lt;smoke&gt;</caption>" in shown.data
    assert "<caption>" not in show(wide(2)).data
    assert show(wide(2).iloc[:0], "this <build>").data == "<p><em>this &lt;build&gt;: not measured.</em></p>"
    assert show(wide(2).iloc[:0]).data == "<p><em>Not measured.</em></p>"


@pytest.mark.parametrize("columns", [1, 6, 7, 8, 9])
def test_entries_of_a_table_that_a_phone_stacks_carry_their_headings(columns):
    frame = wide(columns).rename(columns=lambda number: f'"{number}" < {number + 1}')
    html = show(frame).data
    found = re.findall(r'<td data-label="(.*?)">(.*?)</td>', html)
    assert ('class="dataframe cards"' in html) == (columns in STACKED)
    if columns in STACKED:
        escaped = [f"&quot;{number}&quot; &lt; {number + 1}" for number in range(columns)]
        assert found == [(name, f"{line} {column}") for line in "ab" for column, name in enumerate(escaped)]
    else:
        assert html == frame.to_html(index=False)  # as ever


def test_a_table_that_is_too_long_to_be_stacked_scrolls():
    lines = pd.concat([wide(STACKED[0])] * LONGEST).reset_index(drop=True)
    assert "data-label" in show(lines[:LONGEST]).data
    assert "data-label" not in show(lines[: LONGEST + 1]).data


def test_numbers_have_six_digits():
    assert as_csv(pd.DataFrame({"x": [1 / 3, 1e-9, 5712000.0], "n": [1, 2, 3]})) == (
        "x,n\n0.333333,1\n1e-09,2\n5.712e+06,3\n"
    )


def test_a_picture_keeps_its_rows_under_the_words_that_it_ends_with():
    figure, axes = style.panels(2, (4, 2))
    marks.noted(axes[0, 0], LINK, {"series": "mAP", "line": "of\ntwo lines"}, across=True)
    marks.level(axes[0, 1], 7, "the level", linestyle=":")
    figure.note(axes[0, 1], {"series": "mAP", "x": 3, "mean": 4})
    axes[0, 0].set(title="left", xlabel="points", ylabel="its names")
    axes[0, 1].set(title="right", xlabel="weight\nof it")
    data, about = figure._repr_mimebundle_()
    seeds = {"seed 0": "10", "seed 1": "20", "seed 2": "30"}
    ends = {"low": f"{100 * LINK.low:.6g}", "high": f"{100 * LINK.high:.6g}"}
    assert [{k: v for k, v in line.items() if v} for line in read(data["text/csv"]).to_dict("records")] == [
        {"panel": "left", "measure": "points", "series": "mAP", "line": "of two lines", "mean": "20", **ends, **seeds},
        {"panel": "right", "measure": "its names", "series": "the level", "mean": "7"},
        {"panel": "right", "measure": "its names", "series": "mAP", "mean": "4", "weight of it": "3"},
    ]
    assert about == {}
    figure.suptitle("heads")
    assert figure._repr_mimebundle_()[1] == {"of": "heads"}


def test_panels_without_titles_are_told_apart_by_the_words_below_them():
    figure, axes = style.panels(2, (4, 2))
    for axis, words in zip(axes[0], ("weight", "share"), strict=True):
        marks.level(axis, 7, "the level")
        axis.set_xlabel(words)
    assert list(figure.frame["panel"]) == ["weight", "share"]
    marks.curve(axes[0, 1], pd.DataFrame({"x": [1], "seed": [0], "value": [2]}), 0, "a", panel="told")
    assert list(figure.frame["panel"]) == ["weight", "share", "told"]


def test_words_that_say_nothing_are_no_columns():
    figure, axes = style.panels(1, (2, 2))
    figure.note(axes[0, 0], {"series": None, "mean": 1})
    assert list(figure.frame) == ["mean"]


def test_a_picture_without_rows_has_no_csv():
    figure, _ = style.panels(1, (2, 2))
    assert isinstance(figure, Picture)
    assert figure._repr_mimebundle_() == ({}, {})


def test_what_several_chapters_draw_alike_is_kept():
    names = ["a", "b"]
    matrix = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], pd.Index(names, name="q"), pd.Index(names, name="g"))
    found = marks.heat_maps({"one": matrix}, ("gallery", "query", "score"), size=(3, 3)).frame
    assert found.to_dict("records") == [
        {"panel": "one", "measure": "score", "query": query, "gallery": gallery, "mean": matrix.loc[query, gallery]}
        for query in names
        for gallery in names
    ]
    dots = marks.dots({"left": {"one": {"low": LINK, "none": None}}}, "{} (%)", height=2).frame
    assert list(dots["line"]) == ["low"]
    assert list(dots["measure"]) == ["left (%)"]
    figure, axes = style.panels(1, (3, 3))
    rows = [{"x": x, "seed": seed, "value": 0.1 * x + 0.01 * seed} for x in (2, 1) for seed in range(2)]
    marks.curve(axes[0, 0], pd.DataFrame(rows), 1, "label", 100)
    axes[0, 0].set(xlabel="weight", ylabel="mAP (%)")
    assert figure.frame.to_dict("list") == {
        "measure": ["mAP (%)"] * 2,
        "series": ["label"] * 2,
        "weight": [1, 2],
        "mean": pytest.approx([10.5, 20.5]),
        "seed 0": pytest.approx([10, 20]),
        "seed 1": pytest.approx([11, 21]),
    }
