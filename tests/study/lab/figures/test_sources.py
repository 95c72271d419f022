"""Tables with a column a source, findings, and what is shown of every source."""

from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from compatlib.study.lab.figures import papers, sources
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.columns import Column, difference, level
from compatlib.study.lab.figures.sources import Finding, Paper, Source
from compatlib.study.lab.figures.tables import by, table
from compatlib.study.lab.figures.texts import effect
from compatlib.study.lab.rows import NoRowError, Rows
from tests.study.lab.figures import made

TEST = pair("new", "old", subset="all")
SETTINGS = {
    "dataset": "cifar100",
    "encoders": None,
    "network": {"head": "relu_pool"},
    "training": {"epochs": 12},
}


@pytest.fixture(scope="module")
def both() -> list[Source]:
    """One source of three seeds with methods a, b and c, whose c has a single seed; one of one seed with b alone."""
    full = made.made({"method": ("a", "b"), **TEST, "metric": ("map", "cmc@1")})
    single = made.made({"method": "c", **TEST, "metric": "map"}, seeds=(1,))
    other = made.made({"method": "b", **TEST, "metric": "map"}, seeds=(0,))
    sizes = made.made({"method": "b", "query_model": ("0.5", "1"), "metric": "parameters"}).frame
    sizes["value"] = sizes["query_model"].astype(float) * 80_000
    wide = Rows(pd.concat([full.frame, single.frame, sizes]), {"study/cifar100/0": {"settings": SETTINGS}})
    heads = {**SETTINGS, "network": {"head": "linear_bn"}, "encoders": {"old": "lite0", "new": "lite2"}}
    return [Source("wide", wide), Source("narrow", replace(other, sidecar={"heads/lite/0": {"settings": heads}}))]


def test_a_source_is_a_column_and_what_it_has_not_is_blank(both):
    empty = Source("empty", Rows(both[0].rows.frame.iloc[:0], {}))
    found = sources.by_source(by("method", "method", "abcd"), level(metric="map"), [*both, empty], **TEST)
    assert list(found) == ["method", "wide (1 to 3 seeds)", "narrow (1 seed)"]
    assert list(found["method"]) == ["a", "b", "c"]  # of d no source has a row
    wide, narrow = (source.rows for source in both)
    place = {**TEST, "metric": "map"}
    assert list(found["wide (1 to 3 seeds)"]) == [made.level(wide, **place, method=method) for method in "abc"]
    assert list(found["narrow (1 seed)"]) == ["", made.level(narrow, **place, method="b"), ""]


def test_differences_are_of_one_source_each(both):
    column = difference({"metric": "map"}, {"metric": "map", "method": "a"})
    found = sources.by_source(by("method", "method", "ab"), column, both, **TEST)
    wide = both[0].rows
    gained = made.gained(wide, {"method": "b"}, {"method": "a"}, **TEST, metric="map")
    assert found.to_dict("records") == [{"method": "b", "wide (3 seeds)": gained}]


def test_a_line_may_have_a_column_of_its_own(both):
    lines = [({"score": "mAP"}, {}), ({"score": "rank 1"}, {})]
    found = sources.by_source(lines, [level(metric="map"), level(metric="cmc@1")], both, **TEST, method="b")
    wide = both[0].rows
    expected = [made.level(wide, **TEST, method="b", metric=metric) for metric in ("map", "cmc@1")]
    assert list(found["wide (3 seeds)"]) == expected
    with pytest.raises(ValueError, match="zip"):
        sources.by_source(lines, [level(metric="map")], both, **TEST, method="b")


def test_without_any_row_there_is_an_empty_table(both):
    found = sources.by_source(by("method", "method", "xy"), level(metric="map"), both, **TEST)
    assert list(found) == ["method"]
    assert found.empty


def test_rows_of_several_cells_are_refused_and_not_left_blank(both):
    with pytest.raises(ValueError, match="several cells"):
        sources.by_source(by("method", "method", "a"), level(), both, **TEST)


def test_a_paper_stands_beside_the_sources_where_it_may_be_quoted(both):
    def named(picks):
        return {"method": "none", "query": "old", "gallery": "old", "metric": picks["metric"]} if "a" in picks else None

    paper = Paper("FCT", *papers.FCT_2023, papers.CIFAR, named)
    assert paper.entry(level(metric="cmc@1"), {"a": 1}) == ("34.2", None)
    assert paper.entry(level(metric="cmc@7"), {"a": 1}) == ("", None)
    assert paper.entry(level(metric="cmc@1"), {}) == ("", None)
    assert paper.entry(difference({"metric": "map"}, {"metric": "cmc@1"}), {"a": 1}) == ("", None)
    lines = by("method", "method", "ab")
    found = sources.by_source(lines, level(metric="map"), [replace(paper, named=lambda _: None), *both], **TEST)
    assert "FCT" not in found  # nothing of it
    quoted = replace(paper, named=lambda picks: named({**picks, "a": 1}) if picks["method"] == "a" else None)
    assert list(sources.by_source(lines, level(metric="map"), [quoted, *both], **TEST)["FCT"]) == ["16.5", ""]


def test_a_finding_is_said_of_every_source_that_has_all_of_its_numbers(both):
    ratio = Column(({"method": "b", "metric": "map"}, {"method": "a", "metric": "map"}), effect)
    wanted = [
        Finding("b against a", "mAP {map}", {"map": ratio}),
        Finding("b", "{level} %", {"level": level(method="b", metric="map")}),
        Finding("never", "{level}", {"level": level(method="z", metric="map")}),
    ]
    wide, narrow = (source.rows for source in both)
    one, other = (made.values(wide, **TEST, metric="map", method=method) for method in "ba")
    levels = [made.level(rows, **TEST, metric="map", method="b") for rows in (wide, narrow)]
    assert sources.findings(wanted, both, **TEST).data.splitlines() == [
        "- **b against a**",
        f"  - wide: mAP {effect(one, other)}",
        "- **b**",
        f"  - wide: {levels[0]} %",
        f"  - narrow: {levels[1]} %",
    ]
    assert sources.findings(wanted[2:], both).data == sources.NOT_YET


def test_a_source_is_described_from_its_rows(both):
    assert [sources.description(source) for source in both] == [
        "data set `cifar100`, networks from scratch, non-negative head, 80,000 parameters, 12 epochs, 3 seeds",
        "data set `cifar100`, heads on lite2, which nothing trains, signed head, 12 epochs, 1 seed",
    ]


def test_a_source_whose_rows_all_name_a_head_is_of_the_one_of_most(both):
    frame = both[0].rows.frame.assign(variant="head=linear_bn")
    frame.loc[frame.index[0], "variant"] = "head=relu_pool;weights=release"
    named = replace(both[0], rows=replace(both[0].rows, frame=frame))
    assert "signed head" in sources.description(named)
    frame = frame.assign(variant=["", *frame["variant"][1:]])
    assert "non-negative head" in sources.description(replace(named, rows=replace(named.rows, frame=frame)))


def _shares(rows: Rows) -> pd.DataFrame:
    return table(rows, by("method", "method", "a"), {"mAP": level(metric="map")}, **TEST)


def test_long_tables_stand_under_the_sources_names_and_say_what_is_missing(both, monkeypatch):
    displayed = []
    monkeypatch.setattr(sources, "display", displayed.append)
    sources.shown(_shares, both)
    assert displayed[0].of == "wide"
    assert displayed[0].frame.equals(_shares(both[0].rows))
    assert displayed[1].data == "**narrow**: not measured"
    sources.shown(_shares, [])
    assert displayed[2].data == sources.NOT_YET


def test_pictures_stand_under_the_sources_names(both, monkeypatch):
    displayed = []
    monkeypatch.setattr(sources, "display", displayed.append)

    def draw(rows: Rows) -> Figure:
        rows.of(method="a")
        return Figure()

    sources.drawn(draw, both)
    assert displayed[0].get_suptitle() == "wide"
    assert displayed[1].data == "**narrow**: not measured"
    sources.drawn(draw, [])
    assert displayed[2].data == sources.NOT_YET


def test_one_picture_of_all_sources_is_in_words_where_there_is_none(both, monkeypatch):
    displayed = []
    monkeypatch.setattr(sources, "display", displayed.append)
    sources.side_by_side(lambda given: [source.words for source in given], both)
    sources.side_by_side(lambda given: pytest.fail("nothing can be drawn"), [])
    assert displayed[0] == ["wide", "narrow"]
    assert displayed[1].data == sources.NOT_YET


def test_what_is_not_there_is_an_error_of_its_own(both):
    with pytest.raises(NoRowError):
        both[0].rows.of(method="z")
    with pytest.raises(NoRowError):
        both[0].rows.together({"method": "c"}, {"method": "b", "metric": "map", "seed": 0})
