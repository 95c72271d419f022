"""The browser sees what is wrong: a small book with one fault of every kind, and one without."""

import base64
import io
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from compatlib.study.lab.figures.behind import STACKED
from compatlib.study.lab.figures.tables import show
from tests.browsing import CHROMIUM, WIDTHS, faults, opened

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open pages in")


def picture(mode: str, name: str = "") -> str:
    """An image tag with a picture of two pixels in it."""
    file = io.BytesIO()
    Image.new(mode, (2, 2)).save(file, "png")
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
    "to data/rows.csv leads nowhere": '<a href="data/rows.csv" download>Table 1 as CSV</a>',
    "id twice is there twice": '<p id="twice">one</p><p id="twice">two</p>',
    "to whole.html#nowhere leads nowhere": '<a href="whole.html#nowhere">there</a>',
    "broken": "<script>throw new Error('broken')</script>",
    "complained": "<script>console.error('complained')</script>",
}


STYLE = Path(__file__).resolve().parents[1] / "book" / "_static" / "tables.css"
# As wide as a story's tables may be: too wide for a phone, unless its lines are stacked there.
ENTRY = "50.0\u00a0±\u00a00.3"
STORYS = show(pd.DataFrame([[ENTRY] * STACKED[-1]] * 3, columns=[f"{n} (3 seeds)" for n in range(STACKED[-1])]))


def write(folder: Path, name: str, body: str, style: str = "") -> None:
    head = f'<meta name="viewport" content="width=device-width"><style>{style}</style>'
    text = f"<!doctype html><html><head>{head}</head><body><article>{body}</article></body></html>"
    (folder / name).write_text(text, encoding="utf-8")


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


def test_a_storys_widest_table_is_read_on_a_phone_and_a_table_that_is_not_stacked_is_told(tmp_path):
    folder = tmp_path / "html"
    folder.mkdir()
    write(folder, "search.html", "<div id='search-results'><ul><li><a href='wide.html'>wide</a></li></ul></div>")
    for name, body in (("stacked", STORYS.data), ("wide", STORYS.data.replace(" cards", ""))):
        write(folder, f"{name}.html", body, STYLE.read_text(encoding="utf-8"))
        write(folder, f"{name}_details.html", "")
    told = faults(folder, tmp_path / "shots")
    assert {each.partition(":")[0] for each in told} == {"wide.html (phone)"}
    assert any(each.startswith("wide.html (phone): table") for each in told)


def test_a_table_is_stacked_on_a_phone_alone_and_keeps_its_heads(tmp_path):
    write(tmp_path, "page.html", STORYS.data, STYLE.read_text(encoding="utf-8"))
    with opened() as browser:
        for device, (width, height) in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto((tmp_path / "page.html").as_uri())
            heads, entries = page.get_by_role("columnheader"), page.locator("tbody tr").first.get_by_role("cell")
            assert heads.all_inner_texts() == list(STORYS.frame)
            assert entries.all_inner_texts() == [ENTRY] * STACKED[-1]
            tops = {entry.bounding_box()["y"] for entry in entries.all()}
            before = entries.last.evaluate("entry => getComputedStyle(entry, '::before').content")
            assert (len(tops), before.startswith('"7 (3 seeds)"')) == ((1, False) if device == "desk" else (8, True))
            page.close()


def test_a_search_that_finds_nothing_is_told(tmp_path):
    folder = tmp_path / "html"
    folder.mkdir()
    write(folder, "search.html", "<div id='search-results'><p>no page</p></div>")
    assert faults(folder, tmp_path / "shots") == ["the search does not find 'influence loss'"]
