"""The archive: whole in itself, and the same from the same book."""

import json
import threading
import time
import zipfile

import pytest

from compatlib.study.publishing import book
from compatlib.study.publishing.processes import only_build
from compatlib.study.publishing.publish import archive, publish, remote_loads
from compatlib.study.publishing.runs import Run


@pytest.fixture
def html(tmp_path):
    folder = tmp_path / "html"
    (folder / "_static").mkdir(parents=True)
    (folder / "index.html").write_text(
        '<link rel="canonical" href="https://a.org/x"><a href="https://a.org">a link to click</a>'
        '<script src="_static/a.js"></script><img src="data:image/png;base64,AA=="><img src="x.png">'
    )
    (folder / "_static" / "a.js").write_text('// see https://a.org\nconst namespace = "http://www.w3.org/2000/svg";')
    (folder / "_static" / "a.css").write_text('a { background: url("b.png") } /* https://a.org */')
    return folder


def test_links_comments_and_names_load_nothing(html):
    assert remote_loads(html) == []


@pytest.mark.parametrize(
    ("name", "text", "address"),
    [
        ("p.html", '<script async src="https://b.org/m.js"></script>', "https://b.org/m.js"),
        ("p.html", '<SCRIPT SRC="//b.org/m.js"></SCRIPT>', "//b.org/m.js"),
        ("p.html", '<link rel="stylesheet" href="http://b.org/m.css">', "http://b.org/m.css"),
        ("p.html", '<img src="https://b.org/m.png"/>', "https://b.org/m.png"),
        ("p.html", '<iframe src="https://b.org/f"></iframe>', "https://b.org/f"),
        ("p.html", '<p style="background: url(https://b.org/m.png)">', "https://b.org/m.png"),
        ("p.html", '<style>@import "https://b.org/m.css";</style>', "https://b.org/m.css"),
        ("p.html", '<script>const A_URL = "https://b.org/m.js";</script>', "https://b.org/m.js"),
        ("p.css", '@font-face { src: url("https://b.org/m.woff2") }', "https://b.org/m.woff2"),
        ("p.js", 'fetch("https://b.org/m.json")', "https://b.org/m.json"),
        ("p.js", "script.src = 'https://b.org/m.js'", "https://b.org/m.js"),
        ("deep/p.svg", '<svg><image href="https://b.org/m.png"/></svg>', "https://b.org/m.png"),
    ],
)
def test_what_would_be_loaded_from_a_network_is_found_and_refused(html, tmp_path, name, text, address):
    (html / name).parent.mkdir(exist_ok=True)
    (html / name).write_text(text)
    assert remote_loads(html) == [f"{name}: {address}"]
    with pytest.raises(ValueError, match="would load from a network"):
        archive(html, tmp_path / "book.zip")
    assert not (tmp_path / "book.zip").exists()


def test_equal_books_make_equal_archives(html, tmp_path):
    first = archive(html, tmp_path / "book.zip").read_bytes()
    for path in html.rglob("*"):
        path.touch()
    assert archive(html, tmp_path / "book.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "book.zip") as file:
        assert file.namelist() == ["book/_static/a.css", "book/_static/a.js", "book/index.html"]
        assert file.read("book/index.html") == (html / "index.html").read_bytes()


def test_only_a_fresh_book_is_published(repository, html):
    run = Run("smoke", root=repository)
    with pytest.raises(ValueError, match="no fresh book of run smoke"):
        publish(run)
    run.folder.mkdir(parents=True)
    html.rename(run.html.parent)
    (run.html.parent / "build.json").write_text(json.dumps(book._made_from(run)))
    assert publish(run) == repository / "build" / "compatlib-book-smoke.zip"
    (repository / "book" / "intro.md").write_text("# Another\n")
    with pytest.raises(ValueError, match="no fresh book"):
        publish(run)


def test_an_archive_waits_for_a_build_that_would_replace_the_book(repository, html, capfd):
    run, found = Run("smoke", root=repository), []
    run.folder.mkdir(parents=True)
    html.rename(run.html.parent)
    (run.html.parent / "build.json").write_text(json.dumps(book._made_from(run)))
    thread = threading.Thread(target=lambda: found.append(publish(run)))
    with only_build(repository / "build" / "lock"):
        thread.start()
        told, deadline = "", time.monotonic() + 60
        while "another build is at work in this folder; waiting for its end" not in told:
            assert time.monotonic() < deadline
            time.sleep(0.02)
            told += capfd.readouterr().err
        assert found == []
    thread.join(60)
    assert found == [repository / "build" / "compatlib-book-smoke.zip"]
