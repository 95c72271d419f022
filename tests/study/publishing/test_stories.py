"""A chapter that has a page of details has a story: short, every table and plot once, its code folded."""

import re
from pathlib import Path

import nbformat
import pytest

from compatlib.study.publishing.runs import ROOT, page_names

DETAILS = "_details"
STORIES = [name.removesuffix(DETAILS) for name in page_names() if name.endswith(DETAILS)]
PAGES = [name for story in STORIES for name in (story, f"{story}{DETAILS}")]
# A number with a unit, or an interval; formulas, code and the level of the intervals are no results.
NOT_PROSE = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|^    .*?$|95 % intervals?", re.DOTALL | re.MULTILINE)
TYPED = re.compile(
    r"(?<![\w-])[+−-]?\d[\d.,]*\s*(±|%|points?\b|seconds?\b|minutes?\b|hours?\b|[kMG]?B\b|bytes\b)"
    r"|\[[+−-]?\d[\d.]*,\s*[+−-]?\d"
)
SHOWS = re.compile(r"^(show|shown|drawn|side_by_side|\w*figures\.\w+|sources\.tunings)\(", re.MULTILINE)
HIDDEN = {"hide-input", "remove-cell", "remove-input"}


def cells(name: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(Path(ROOT, "notebooks", f"{name}.ipynb"), as_version=4).cells


def tables(name: str) -> list[str]:
    """The first line of every table of results and of prose, as text; columns stand between bars."""
    found = []
    for cell in cells(name):
        if cell.cell_type == "markdown":
            found += re.findall(r"^(\|.*\|)\n\|[-:|]+\|$", cell.source, re.MULTILINE)
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            found += [
                "|".join(re.findall(r"<th>(.*?)</th>", head)) for head in re.findall(r"<thead>.*?</thead>", html, re.S)
            ]
    return found


def test_there_is_a_story():
    assert "sfsc" in STORIES


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_short(name):
    words = sum(len(cell.source.split()) for cell in cells(name) if cell.cell_type == "markdown")
    assert words <= 1_200
    assert len(cells(name)) <= 33
    assert len(tables(name)) <= 10
    assert all(len(head.strip("|").split("|")) <= 8 for head in tables(name))


@pytest.mark.parametrize("name", PAGES)
def test_code_is_folded_or_out_of_sight(name):
    for number, cell in enumerate(cells(name), 1):
        if cell.cell_type == "code":
            assert HIDDEN & set(cell.metadata.get("tags", [])), f"cell {number} shows its code"


@pytest.mark.parametrize("name", STORIES)
def test_nothing_is_shown_twice(name):
    sources = [cell.source for page in (name, f"{name}{DETAILS}") for cell in cells(page) if cell.cell_type == "code"]
    calls = re.compile(r"(show|shown|drawn|figures\.\w+)\(")
    shown = [line for source in sources for line in source.splitlines() if calls.match(line)]
    assert len(set(shown)) == len(shown) > 10


def shows(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell shows tables or figures, by its calls and by what is stored of it."""
    if cell.cell_type == "markdown":
        return bool(re.search(r"^\|[-:| ]+\|$", cell.source, re.MULTILINE))
    stored = [output.get("data", {}) for output in cell.outputs]
    is_stored = any("image/png" in data or "<table" in data.get("text/html", "") for data in stored)
    return is_stored or bool(SHOWS.search(cell.source))


@pytest.mark.parametrize("name", page_names())
def test_tables_and_figures_have_captions_of_their_own(name):
    captions = [cell.metadata["caption"] for cell in cells(name) if "caption" in cell.metadata]
    assert [cell.id for cell in cells(name) if shows(cell) != ("caption" in cell.metadata)] == []
    assert len(set(captions)) == len(captions) > 0
    assert not [words for words in captions if words != words.strip() or words.endswith((".", ":"))]


def test_places_of_links_are_of_one_table_or_figure_each():
    ids = [cell.id for name in page_names() for cell in cells(name) if "caption" in cell.metadata]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", name)] == []


def typed(prose: str) -> list[str]:
    return [match.group() for match in TYPED.finditer(NOT_PROSE.sub("", prose))]


@pytest.mark.parametrize("name", STORIES)
def test_no_result_is_typed_into_a_storys_prose(name):
    for cell in cells(name):
        if cell.cell_type == "markdown":
            assert not typed(cell.source), f"compute it: {typed(cell.source)}"


def test_a_typed_result_is_seen():
    assert typed("It gains 3.2 points, +4.4 ± 1.2, or 12 % [+1.0, +2.0], in 40 minutes.") == [
        "3.2 points",
        "+4.4 ±",
        "12 %",
        "[+1.0, +2",
        "40 minutes",
    ]
    assert not typed(
        "The 95 % intervals of 3 seeds, `50 %`, $d = 3$ points, rank 1, 128 numbers.\n\n    sleep 5 seconds\n"
    )
