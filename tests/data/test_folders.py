"""Folders that a variable names, and what lies below a folder."""

from pathlib import Path

import pytest

from compatlib.data import folders


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("", "/default"),
        ("/somewhere/else", "/somewhere/else"),
        ("/with a space/inside", "/with a space/inside"),
        ("~", "{home}"),
        ("~/data", "{home}/data"),
        ("data", "{here}/data"),
        ("./data", "{here}/data"),
    ],
)
def test_a_folder_is_chosen_by_a_variable(tmp_path, monkeypatch, value, path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPATLIB_DATA", value)
    expected = path.format(home=tmp_path / "home", here=tmp_path)
    assert folders.chosen("COMPATLIB_DATA", Path("/default")) == Path(expected)


def test_without_the_variable_it_is_the_default(monkeypatch):
    monkeypatch.delenv("COMPATLIB_DATA", raising=False)
    assert folders.chosen("COMPATLIB_DATA", Path("default")) == Path("default")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/data ", "COMPATLIB_DATA is '/data ', with a space at its beginning or end; set it without"),
        (" ", "COMPATLIB_DATA is ' ', with a space"),
        ("/data\n", r"with a space at its beginning or end"),
        ("~nobody-of-this-name/data", "'~nobody-of-this-name/data', and there is no such home; name the whole path"),
        (__file__, "which is no folder; name a folder, or leave it unset for /default"),
    ],
)
def test_a_value_that_names_no_folder_is_refused(monkeypatch, value, words):
    monkeypatch.setenv("COMPATLIB_DATA", value)
    with pytest.raises(ValueError, match=words):
        folders.chosen("COMPATLIB_DATA", Path("/default"))


def test_files_that_systems_and_editors_leave_are_not_visible(tmp_path):
    for name in ("b.yml", "a.yml", "._a.yml", ".DS_Store", ".a.yml.swp"):
        (tmp_path / name).touch()
    (tmp_path / ".#a.yml").symlink_to("user@host.1234")  # an editor's lock, which leads nowhere
    assert folders.visible(tmp_path.iterdir()) == [tmp_path / "a.yml", tmp_path / "b.yml"]
    assert folders.files(tmp_path) == [tmp_path / "a.yml", tmp_path / "b.yml"]


def test_files_are_found_through_links_and_a_loop_ends(tmp_path):
    store, folder = tmp_path / "store", tmp_path / "folder"
    for name in ("cat/1.png", "2.png"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).touch()
    (folder / ".hidden").mkdir(parents=True)
    (folder / ".hidden" / "3.png").touch()
    (folder / "a").symlink_to(store / "cat")
    (folder / "b").symlink_to("a")
    (folder / "c.png").symlink_to(store / "2.png")
    (folder / "lost.png").symlink_to(store / "absent.png")
    (store / "cat" / "up").symlink_to(folder)
    found = [path.relative_to(folder).as_posix() for path in folders.files(folder)]
    assert found == ["a/1.png", "b/1.png", "c.png"]
    (tmp_path / "whole").symlink_to(folder)
    assert [path.relative_to(tmp_path / "whole").as_posix() for path in folders.files(tmp_path / "whole")] == found
    assert folders.files(tmp_path / "absent") == []
