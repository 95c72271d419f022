"""Where a page's numbers come from."""

import subprocess

import numpy
import pytest
from pydantic import BaseModel

from compatlib.study.lab import provenance as module
from compatlib.study.lab.provenance import Provenance, provenance, source_commit, versions


class Inner(BaseModel):
    width: int = 8


class Settings(BaseModel):
    profile: str = "smoke"
    seeds: tuple[int, ...] = (0, 1)
    model: Inner = Inner()


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def committed(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "One")
    return tmp_path


def test_commit_of_a_clean_tree(committed):
    commit, is_dirty = source_commit(committed)
    assert git(committed, "rev-parse", "HEAD").startswith(commit)
    assert len(commit) == 12
    assert not is_dirty


@pytest.mark.parametrize("name", ["file", "another"])
def test_changed_and_new_files_make_a_tree_dirty(committed, name):
    (committed / name).write_text("2")
    assert source_commit(committed)[1]


def test_rows_that_a_run_has_published_make_no_tree_dirty(committed):
    published = committed / "data" / "published"
    published.mkdir(parents=True)
    (published / "problem.csv").write_text("rows")
    assert not source_commit(committed)[1]
    (committed / "data" / "other.csv").write_text("rows")
    assert source_commit(committed)[1]


def test_folder_without_a_repository_is_unknown(committed):
    inner = committed / "site-packages"  # inside of somebody's repository, but not its root
    inner.mkdir()
    assert source_commit(inner) == ("unknown", False)


def test_folder_whose_repository_is_damaged_is_not_taken_for_the_one_around_it(committed):
    inner = committed / "checkout"
    (inner / ".git").mkdir(parents=True)
    assert source_commit(inner) == ("unknown", False)


def test_commit_is_this_checkouts_whatever_gits_variables_and_settings_say(committed, tmp_path_factory, monkeypatch):
    """In a commit's hook they name the repository that is committed to."""
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "-m", "Other")
    before = source_commit(committed)
    monkeypatch.setenv("HOME", str(other))
    (other / ".gitconfig").write_text("[status]\n    showUntrackedFiles = no\n")
    values = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / "index"}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    assert source_commit(committed) == before
    (committed / "another").write_text("2")
    assert source_commit(committed) == (before[0], True)


def test_duration_does_not_follow_a_clock_that_is_set(monkeypatch):
    before = float(provenance(Settings()).rows["duration"].removesuffix(" s"))
    real = module.time.time
    monkeypatch.setattr(module.time, "time", lambda: real() - 86_400)
    assert before <= float(provenance(Settings()).rows["duration"].removesuffix(" s")) < before + 3_600


def test_machine_without_git_is_unknown(committed, monkeypatch):
    monkeypatch.setenv("PATH", str(committed))
    assert source_commit(committed) == ("unknown", False)


def test_table_names_all_that_is_known(monkeypatch):
    monkeypatch.setattr(module, "source_commit", lambda: ("0123456789ab", True))
    rows = provenance(Settings(), {"old, seed 0": "k1"}, data={"glyphs train": "h1"}).rows
    assert rows["commit"] == "0123456789ab, with changes that were not committed"
    assert rows["parameters"] == "profile = smoke, seeds = 0,1, model.width = 8"
    assert rows["data glyphs train"] == "h1"
    assert rows["artifact old, seed 0"] == "k1"
    assert f"numpy {numpy.__version__}" in rows["versions"]
    assert rows["duration"].endswith(" s")
    assert float(rows["duration"].removesuffix(" s")) >= 0
    assert rows["device"]


def test_versions_are_of_what_numbers_depend_on():
    assert set(versions()) == {"python", "torch", "numpy", "faiss-cpu", "compatlib"}


def test_table_is_shown_as_text_and_as_escaped_html():
    table = Provenance({"a": "1 < 2", "long": "b"})
    assert repr(table) == "a     1 < 2\nlong  b"
    assert "<td>1 &lt; 2</td>" in table._repr_html_()
    assert table._repr_html_().count("<tr>") == 2
