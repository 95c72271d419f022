"""The browser sees what is wrong: a small book with one fault of every kind, and one without."""

import base64
import io
from pathlib import Path

import pytest

from tests.browsing import CHROMIUM, WIDTHS, faults

PIL = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open pages in")


def picture(mode: str, name: str = "") -> str:
    """An image tag with a picture of two pixels in it."""
    file = io.BytesIO()
    PIL.new(mode, (2, 2)).save(file, "png")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return f'<img src="{source}" alt="{name}">'


WIDE = "<table><tr>" + "<td>wwwwwwwwwwww</td>" * 20 + "</tr></table>"
FAULTS = {
    "picture http": '<img src="missing.png" alt="missing">',
    "has no alternative text": picture("RGB"),
    "is transparent": picture("RGBA", "transparent"),
    "is not rendered": "<mjx-merror>\\wrong</mjx-merror>",
    "raw text": "<p>It is {glue:text}`number` points.</p>",
    "wider than its window": '<div style="width: 2000px">long</div>',
    "is wider than the page": f'<div style="overflow-x: hidden">{WIDE}</div>',
    "leads nowhere": '<a href="nowhere.html">there</a>',
    "to whole.html#nowhere leads nowhere": '<a href="whole.html#nowhere">there</a>',
    "broken": "<script>throw new Error('broken')</script>",
    "complained": "<script>console.error('complained')</script>",
}


def write(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"<!doctype html><html><body><article>{body}</article></body></html>", encoding="utf-8")


def test_every_kind_of_fault_is_seen_and_a_whole_page_has_none(tmp_path):
    folder = tmp_path / "html"
    folder.mkdir()
    found = "<div id='search-results'><p>1 page</p><ul><li><a href='whole.html'>whole</a></li></ul></div>"
    write(folder, "search.html", found)
    scrolls = f'<div style="overflow-x: auto">{WIDE}</div>'
    write(folder, "whole.html", f'<p id="here">{picture("RGB", "a picture")} <a href="#here">here</a></p>{scrolls}')
    assert faults(folder, tmp_path / "shots") == []
    assert len(list((tmp_path / "shots").glob("whole-*.png"))) == 2 * len(WIDTHS)
    for number, body in enumerate(FAULTS.values()):
        write(folder, f"page{number}.html", body)
    # A story, which has a page of details, may not even scroll within itself.
    write(folder, "story.html", scrolls)
    write(folder, "story_details.html", scrolls)
    told = faults(folder, tmp_path / "shots")
    for number, words in enumerate(FAULTS):
        own = [each for each in told if each.startswith(f"page{number}.html")]
        assert own, f"nothing is told of {words!r}"
        assert any(words in each for each in own), own
    assert sum(each.startswith("story.html") for each in told) == len(WIDTHS)
    assert not [each for each in told if each.startswith(("whole.html", "story_details.html"))]


def test_a_search_that_finds_nothing_is_told(tmp_path):
    folder = tmp_path / "html"
    folder.mkdir()
    write(folder, "search.html", "<div id='search-results'><p>no page</p></div>")
    assert faults(folder, tmp_path / "shots") == ["the search does not find 'influence loss'"]
