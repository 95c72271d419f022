"""The project's own book, whole, on profile `smoke`."""

import shutil
from pathlib import Path

import pytest

from compatlib.study.lab import artifacts
from compatlib.study.publishing.publish import remote_loads
from compatlib.study.publishing.runs import page_names
from tests.browsing import CHROMIUM, faults
from tests.building import build, executed, times

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1_200)]

PROJECT = Path(__file__).resolve().parents[1]
TRAINED = {"COMPATLIB_ARTIFACTS": str(artifacts.folder())}  # the notebooks' tests look there too


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of what the project's book is made from, without anything that was built."""
    root = tmp_path_factory.mktemp("project") / "compatlib"
    ignored = shutil.ignore_patterns("__pycache__", "chapters.tmp", "_build", "cache", ".ipynb_checkpoints")
    for name in ("compatlib", "notebooks", "book", "data", "executors"):
        shutil.copytree(PROJECT / name, root / name, ignore=ignored)
    shutil.rmtree(root / "book" / "chapters", ignore_errors=True)
    for name in ("Snakefile", "README.md", "pyproject.toml", "requirements.txt"):
        shutil.copy(PROJECT / name, root / name)
    return root


@pytest.fixture(scope="module")
def told(project) -> str:
    """What the build of the book said; models that the notebooks' own tests have trained are not trained again."""
    return build(project, "book", **TRAINED)


def test_the_projects_book_on_smoke(project, told):
    """Every notebook, then the HTML with no warning and nothing from a network; a second call runs nothing."""
    folder = project / "build" / "smoke"
    assert sorted(executed(told)) == list(page_names())
    assert sorted(path.stem for path in (project / "book" / "chapters").iterdir()) == list(page_names())
    assert str(folder / "html" / "index.html") in told
    assert remote_loads(folder / "html") == []
    for page in page_names():
        text = (folder / "html" / "chapters" / f"{page}.html").read_text()
        assert ("_static/mathjax/tex-chtml.js" in text) == ('class="math' in text)
    before = times(folder)
    again = build(project, "book", **TRAINED)
    assert "Nothing to be done" in again
    assert times(folder) == before


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the book in")
def test_a_reader_finds_no_fault_with_any_page(project, told):
    """At a desk's and a phone's width; first screens lie in `build/screenshots`, light and dark, to be looked at."""
    assert faults(project / "build" / "smoke" / "html", PROJECT / "build" / "screenshots") == []
