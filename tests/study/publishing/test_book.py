"""Only fresh pages of one run reach the book."""

import json
import os

import nbformat
import pytest

from compatlib.study.publishing import book
from compatlib.study.publishing.book import BookError, build_html, changed_parts, html_metadata, is_fresh
from compatlib.study.publishing.runs import Run, book_digest, page_parts


@pytest.fixture
def run(repository):
    return Run("smoke", root=repository)


@pytest.fixture
def make_page():
    """Puts a page there as if it had been executed from the present sources."""

    def make(run, page, words="words"):
        notebook = nbformat.read(run.notebook(page), as_version=4)
        notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=words)]
        notebook.metadata["compatlib"] = {"parts": page_parts(page, run), "commit": "0", "dirty": False}
        run.page(page).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, run.page(page))

    return make


@pytest.fixture
def with_table(make_page):
    """Puts a page there that shows a table, in a cell of this id."""

    def make(run, page, cell_id="levels"):
        make_page(run, page)
        notebook = nbformat.read(run.page(page), as_version=4)
        notebook.cells[-1].update(id=cell_id, metadata={"caption": "Levels"})
        data = {"text/html": "<table></table>", "text/csv": f"mAP\n{page}\n"}
        notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", data)]
        nbformat.write(notebook, run.page(page))

    return make


@pytest.fixture
def no_sphinx(monkeypatch):
    """Stands for Sphinx, which the workflow's test runs: says only which pages it was given."""

    def collect(folder, output):
        output.mkdir()
        pages = {path.stem: path.read_text() for path in (folder / "chapters").glob("*")}
        (output / "index.html").write_text(json.dumps(pages))

    monkeypatch.setattr(book, "_run_sphinx", collect)


@pytest.fixture
def whole(run, make_page):
    for page in ("first", "second"):
        make_page(run, page)
    return run


def test_fresh_pages_make_a_book_that_knows_what_it_is_from(whole, no_sphinx):
    build_html(whole)
    assert set(json.loads(whole.html.read_text())) == {"first", "second"}
    assert html_metadata(whole)["digest"] == book_digest(whole)


def test_book_is_of_these_very_pages_whatever_their_times(whole, make_page, no_sphinx):
    build_html(whole)
    for when in (0, 1e10):
        for path in (whole.page("first"), whole.html):
            os.utime(path, (when, when))
        assert is_fresh(whole)
    make_page(whole, "first", "other words")  # executed again, from the same sources
    assert changed_parts("first", whole) == ()
    assert not is_fresh(whole)
    build_html(whole)
    assert is_fresh(whole)
    whole.page("first").unlink()
    assert not is_fresh(whole)


def test_page_that_was_not_executed_is_refused(whole, no_sphinx):
    whole.page("second").unlink()
    assert changed_parts("second", whole) is None
    with pytest.raises(BookError, match="page second has not been executed for run smoke"):
        build_html(whole)


def test_stale_page_is_refused_and_the_earlier_book_left_alone(whole, no_sphinx):
    build_html(whole)
    earlier = whole.html.read_bytes()
    (whole.root / "compatlib" / "example.py").write_text("value = 3\n")
    assert changed_parts("first", whole) == ("code",)
    with pytest.raises(BookError, match="page first is stale, for its code changed"):
        build_html(whole)
    assert whole.html.read_bytes() == earlier
    assert html_metadata(whole)["digest"] != book_digest(whole)


def test_page_of_another_run_is_stale(whole, no_sphinx):
    other = Run("smoke", seeds="0", root=whole.root)
    other.folder.mkdir()
    whole.page("first").parent.rename(other.page("first").parent)
    assert changed_parts("first", other) == ("parameters",)
    with pytest.raises(BookError, match="stale"):
        build_html(other)


def test_chapters_are_exactly_those_of_the_run(whole, make_page, no_sphinx):
    build_html(whole)
    other = Run("laptop", root=whole.root)
    for page in ("first", "second"):
        make_page(other, page, "of the laptop")
    chapters = whole.root / "book" / "chapters"
    (chapters / "left-over.ipynb").write_text("x")
    build_html(other)
    assert sorted(path.name for path in chapters.iterdir()) == ["first.ipynb", "second.ipynb"]
    assert all("of the laptop" in path.read_text() for path in chapters.iterdir())
    assert "of the laptop" not in whole.html.read_text()


def test_the_rows_behind_a_table_lie_beside_its_page(whole, with_table, no_sphinx):
    executed = whole.page("first")
    with_table(whole, "first")
    before = executed.read_bytes()
    build_html(whole)
    assert (whole.html.parent / "chapters" / "data" / "levels.csv").read_text() == "mAP\nfirst\n"
    assert "Table 1." in json.loads(whole.html.read_text())["first"]
    assert executed.read_bytes() == before  # numbers are the book's
    assert is_fresh(whole)


def test_tables_of_two_pages_that_are_called_alike_are_refused(whole, with_table, no_sphinx):
    for page in ("first", "second"):
        with_table(whole, page)
    with pytest.raises(BookError, match=r"page second has a table or figure of another page's id: levels\.csv"):
        build_html(whole)
    with_table(whole, "second", "others")
    build_html(whole)
    assert len(list((whole.html.parent / "chapters" / "data").iterdir())) == 2


def test_failing_sphinx_leaves_the_earlier_book(whole, no_sphinx, monkeypatch):
    build_html(whole)
    earlier = whole.html.read_bytes()

    def fail(*_):
        raise BookError("Sphinx warned")

    monkeypatch.setattr(book, "_run_sphinx", fail)
    with pytest.raises(BookError):
        build_html(whole)
    assert whole.html.read_bytes() == earlier
    assert sorted(path.name for path in whole.folder.iterdir()) == ["html", "pages"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("  - file: chapters/second\n", "", "lacks chapters/second"),
        ("chapters/second", "chapters/third", "lacks chapters/second"),
        ("chapters:\n", "chapters:\n  - file: chapters/third\n", "names, without a notebook, chapters/third"),
    ],
)
def test_contents_that_do_not_fit_the_notebooks_are_refused(whole, no_sphinx, before, after, words):
    contents = whole.root / "book" / "_toc.yml"
    contents.write_text(contents.read_text().replace(before, after))
    with pytest.raises(BookError, match=words):
        build_html(whole)


def test_command_line_says_what_is_wrong(capsys):
    assert book.main(["--profile", "nonsense"]) == 1
    assert "unknown profile 'nonsense'" in capsys.readouterr().err
