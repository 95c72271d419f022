"""A chapter that has a page of details has a story: short, every table and plot once, its code folded."""

import re
from pathlib import Path

import nbformat
import pytest

from compatlib.study.publishing.runs import ROOT, page_names

DETAILS = "_details"
STORIES = [name.removesuffix(DETAILS) for name in page_names() if name.endswith(DETAILS)]
PAGES = [name for story in STORIES for name in (story, f"{story}{DETAILS}")]
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
