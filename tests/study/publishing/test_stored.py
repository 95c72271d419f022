"""Stored outputs: the same bytes from every execution."""

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from compatlib.study.publishing.stored import UNSTORED_TAG, clean, main, refresh


def test_twice_gives_the_same_bytes(tmp_path, write_notebook):
    path = write_notebook(tmp_path / "page.ipynb", "print(profile)", "import time\n\nprint(time.time_ns())", "1 + 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].metadata["tags"] = ["nbval-ignore-output", UNSTORED_TAG]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.1"}
    notebook.metadata["papermill"] = {"duration": 3.5}
    nbformat.write(notebook, path)
    refresh(path)
    first = path.read_bytes()
    refresh(path)
    assert path.read_bytes() == first
    stored = nbformat.read(path, as_version=4)
    assert [cell.id for cell in stored.cells] == [cell.id for cell in notebook.cells]
    assert stored.cells[2].outputs[0].text == "smoke\n"
    assert stored.cells[3].outputs == []
    assert stored.cells[4].outputs[0].data["text/plain"] == "2"
    assert [cell.get("execution_count") for cell in stored.cells] == [None, 1, 2, 3, 4]
    assert set(stored.metadata) == {"kernelspec", "language_info"}


def test_failing_notebook_is_left_as_it_was(tmp_path, write_notebook):
    path = write_notebook(tmp_path / "page.ipynb", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        refresh(path)
    assert path.read_bytes() == before
    assert [other.name for other in tmp_path.iterdir()] == ["page.ipynb"]


def test_notebook_that_is_changed_meanwhile_is_left_as_it_is(tmp_path, write_notebook):
    """A reader saves it in the middle: that is not lost."""
    path = write_notebook(tmp_path / "page.ipynb", "with open('page.ipynb', 'a') as file:\n    file.write(' ')")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"page\.ipynb was changed while it was executed, and is left as it is"):
        refresh(path)
    assert path.read_bytes() == before + b" "


def test_link_to_a_notebook_stays_one(tmp_path, write_notebook):
    path, link = write_notebook(tmp_path / "page.ipynb", "1 + 1"), tmp_path / "link.ipynb"
    link.symlink_to(path.name)
    refresh(link)
    assert link.is_symlink()
    assert nbformat.read(path, as_version=4).cells[-1].outputs[0].data["text/plain"] == "2"


def test_cleaning_keeps_tags_and_alternative_texts(tmp_path, write_notebook):
    notebook = nbformat.read(write_notebook(tmp_path / "page.ipynb", "1"), as_version=4)
    kept = {"tags": ["nbval-ignore-output"], "mystnb": {"image": {"alt": "A line"}}}
    notebook.cells[2].metadata = nbformat.from_dict(kept | {"execution": {"a": 1}, "papermill": {"b": 2}})
    clean(notebook)
    assert notebook.cells[2].metadata == kept
    nbformat.validate(notebook)


def test_unknown_name_is_refused(capsys):
    assert main(["absent"]) == 2
    assert "there is no notebook 'absent'" in capsys.readouterr().err
