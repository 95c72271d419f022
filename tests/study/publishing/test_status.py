"""What `make status` says."""

import json
import time

import nbformat
import pytest

from compatlib.study.publishing import book
from compatlib.study.publishing.runs import ROOT, Run, page_parts
from compatlib.study.publishing.status import COLUMNS, folder_size, main, status


def make_page(run, page, age=0.0, dirty=False):
    notebook = nbformat.read(run.notebook(page), as_version=4)
    about = {"parts": page_parts(page, run), "commit": "0123456789ab", "dirty": dirty, "finished": time.time() - age}
    notebook.metadata["compatlib"] = about
    run.page(page).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, run.page(page))


def make_book(run):
    run.html.parent.mkdir(parents=True)
    about = {"commit": "0123456789ab", "dirty": False, "finished": time.time()} | book._made_from(run)
    (run.html.parent / "build.json").write_text(json.dumps(about))


@pytest.fixture
def run(repository):
    return Run("smoke", "omniglot_small", "0,2", root=repository)


def test_nothing_is_built(repository):
    (repository / "build" / "artifacts").mkdir(parents=True)
    table = status(repository)
    assert tuple(table.columns) == COLUMNS
    assert table.empty


def test_pages_and_book_with_what_they_are_from(run):
    make_page(run, "first", age=7_200)
    make_page(run, "second", dirty=True)
    make_book(run)
    rows = {row["what"]: row for row in status(run.root).to_dict("records")}
    assert set(rows) == {"first", "second", "the book"}
    assert rows["first"] == {
        "run": "smoke_omniglot_small_seeds-0-2",
        "what": "first",
        "profile": "smoke",
        "dataset": "omniglot_small",
        "seeds": "0,2",
        "commit": "0123456789ab",
        "age": "2 h",
        "state": "fresh",
    }
    assert rows["second"]["commit"] == "0123456789ab+"
    assert rows["the book"]["state"] == "fresh"


def test_stale_page_says_what_changed_and_makes_the_book_stale(run):
    make_page(run, "first")
    make_page(run, "second")
    make_book(run)
    (run.root / "compatlib" / "example.py").write_text("value = 2\n")
    states = status(run.root).set_index("what")["state"].to_dict()
    assert states == {"first": "stale: code changed", "second": "fresh", "the book": "stale"}


def test_page_whose_notebook_is_gone_is_stale(run):
    make_page(run, "second")
    run.notebook("second").unlink()
    assert status(run.root)["state"].tolist() == ["stale: notebook changed"]


def test_failed_page_is_named(run):
    run.log("first").parent.mkdir(parents=True)
    run.log("first").with_suffix(".failed.txt").write_text("page first failed")
    (row,) = status(run.root).to_dict("records")
    assert (row["what"], row["state"]) == ("first", "failed")


def test_page_that_cannot_be_read_is_damaged(run):
    make_page(run, "first")
    run.page("first").write_text("{")
    (row,) = status(run.root).to_dict("records")
    assert (row["what"], row["commit"], row["state"]) == ("first", "", "damaged")


def test_runs_stand_side_by_side_with_the_profiles_own_data_set(run):
    make_page(run, "first")
    make_page(Run("laptop", root=run.root), "first")
    (run.root / "build" / "notes").mkdir()
    table = status(run.root)
    assert table["run"].tolist() == ["laptop", "smoke_omniglot_small_seeds-0-2"]
    assert table["dataset"].tolist() == ["glyphs", "omniglot_small"]
    assert table["seeds"].tolist() == ["the profile's", "0,2"]


def test_sizes_count_all_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "y").write_bytes(b"678")
    assert folder_size(tmp_path) == 8
    assert folder_size(tmp_path / "absent") == 0


def test_command_tells_the_size_of_the_caches(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "artifacts"))
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "data.npz").write_bytes(b"0" * 2_500_000)
    (tmp_path / "artifacts" / "old.safetensors").write_bytes(b"0" * 300_000)
    assert main() == 0
    told = capsys.readouterr().out
    assert f"cache of data: 2.5 MB in {tmp_path}\n" in told
    assert f"cache of trained models: 0.3 MB in {tmp_path / 'artifacts'}\n" in told
    assert str(ROOT) not in told
