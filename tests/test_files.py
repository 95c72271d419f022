"""Files are whole or as they were, one process at a time writes them, and who waits is told for what."""

import errno
import logging
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from compatlib.files import alone, naming, replacing, set_aside

PATIENCE = 60


def test_a_file_takes_its_place_at_the_end_and_its_folder_is_made(tmp_path):
    path = tmp_path / "far" / "file"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_files_may_wait_for_one_place(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as last:
        last.write_text("last")
        with replacing(path) as first:
            first.write_text("first")
        assert path.read_text() == "first"
    assert path.read_text() == "last"


def test_a_full_disk_is_told_with_the_files_name_once(tmp_path, full_disk):
    path, words = tmp_path / "inner", r"inner could not be written \(File too large\); what was there is as it was$"
    path.write_text("old")

    def write():
        with full_disk(10), naming(tmp_path / "outer", "nothing is left"), replacing(path) as temporary:
            temporary.write_text("x" * 11)

    with pytest.raises(OSError, match=words) as told:
        write()
    assert told.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"below could not be written"), replacing(tmp_path / "file" / "below"):
        pytest.fail("there is no folder to write to")


def test_who_waits_is_told_for_what(tmp_path, caplog):
    """The other holds the lock until the word is out."""
    lock, held, told, order = tmp_path / ".file.lock", threading.Event(), threading.Event(), []

    def hold():
        with alone(lock, "writes file"):
            held.set()
            assert told.wait(PATIENCE)
            order.append("first")

    listener = logging.Handler()
    listener.emit = lambda record: told.set()
    logging.getLogger("compatlib.files").addHandler(listener)
    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(PATIENCE)
        with alone(lock, "writes file too"):
            order.append("second")
    finally:
        logging.getLogger("compatlib.files").removeHandler(listener)
        thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == [f"waiting for another process, which writes file too (it holds {lock})"]
    assert not lock.exists()


def test_a_lock_whose_file_cannot_be_removed_is_released(tmp_path, monkeypatch):
    """As on Windows, where it is open; what went wrong within is told all the same."""

    def refuse(path, missing_ok=False):
        raise PermissionError(f"{path} is open")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ValueError, match=r"^the true error$"), alone(tmp_path / "lock", "works"):
        raise ValueError("the true error")
    with alone(tmp_path / "lock", "works"):
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_lock_that_is_free_is_taken_without_a_word_and_leaves_nothing(tmp_path, caplog, error):
    for _ in range(2):
        with suppress(KeyboardInterrupt), alone(tmp_path / "lock", "works"):
            assert (tmp_path / "lock").exists()
            if error:
                raise error
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_set_aside_takes_no_other_files_name(tmp_path):
    for text in "abc":
        (tmp_path / "file").write_text(text)
        assert set_aside(tmp_path / "file").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.damaged", "file.damaged1", "file.damaged2"]
