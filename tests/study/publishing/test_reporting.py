"""What is told while a page is executed."""

import io
import json
import threading
import time

import pytest

from compatlib.study.publishing.reporting import Reporter, duration_in_words, read_progress


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (80, "1 min 20 s"),
        (3_600, "1 h"),
        (3_659, "1 h"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds, words):
    assert duration_in_words(seconds) == words


def test_report_is_read_and_brought_into_range(tmp_path):
    path = tmp_path / "progress.json"
    path.write_text(json.dumps({"task": "training old", "done": 1.25, "seconds_left": -1, "detail": None}))
    assert read_progress(path) == {"task": "training old", "detail": "", "done": 1.0, "seconds_left": 0.0}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '{"task": "a"}', '{"task": "a", "done": "soon"}', '{"done": 0.5}']
)
def test_what_is_no_report_is_passed_over(tmp_path, content):
    path = tmp_path / "progress.json"
    path.write_text(content)
    assert read_progress(path) is None
    assert read_progress(tmp_path / "absent.json") is None


def reporter(tmp_path, **options) -> Reporter:
    return Reporter("problem", 4, tmp_path / "progress.json", stream=io.StringIO(), **options)


def report(tmp_path, **values):
    (tmp_path / "progress.json").write_text(json.dumps({"task": "training new", "detail": "seed 2"} | values))


def test_line_without_a_report_counts_cells(tmp_path):
    page = reporter(tmp_path)
    page.cell_started()
    assert page.line() == "  0% | cell 1 of 4 | time left not known yet"
    page.cell_started()
    page._start = time.monotonic() - 20
    assert page.line() == " 25% | cell 2 of 4 | about 1 min left, if cells are alike"


def test_line_after_the_training_speaks_of_the_cells_to_come(tmp_path):
    report(tmp_path, done=1.0, seconds_left=0)
    page = reporter(tmp_path, expected_seconds=30)
    assert page.line() == " 99% | cell 0 of 4 | training new, seed 2 | about 30 s left, by the last time"


def test_line_without_a_report_goes_by_the_last_time(tmp_path):
    assert (
        reporter(tmp_path, expected_seconds=75).line() == "  0% | cell 0 of 4 | about 1 min 15 s left, by the last time"
    )


def test_kernels_own_time_left_comes_first(tmp_path):
    report(tmp_path, done=0.5, seconds_left=90)
    line = reporter(tmp_path, expected_seconds=10).line()
    assert line == " 50% | cell 0 of 4 | training new, seed 2 | 1 min 30 s left"


def test_time_left_follows_from_the_share_done(tmp_path):
    report(tmp_path, done=0.25, seconds_left=None)
    page = reporter(tmp_path)
    page._start = time.monotonic() - 100
    assert page.line().endswith("| about 5 min left")


def lines_after(tmp_path, *reports, **options) -> list[str]:
    """Lines told about these reports, each of which stays until a line tells it."""
    page = reporter(tmp_path, interval=0.0, **options)
    with page:
        for values in reports:
            report(tmp_path, **values)
            deadline = time.monotonic() + 20
            while f"{values['done']:.0%}" not in page.stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.02)
    return page.stream.getvalue().splitlines()


def test_line_is_told_when_the_page_got_on_and_only_then(tmp_path):
    states = [{"done": 0.1, "seconds_left": 9}, {"done": 0.1, "seconds_left": 5}, {"done": 0.4, "seconds_left": 2}]
    lines = lines_after(tmp_path, *states)
    shares = [line.split("|")[0].split()[1] for line in lines if "training" in line]
    assert lines[0] == "problem          0% | starting"
    assert shares == ["10%", "40%"]
    assert all(line.startswith("problem ") for line in lines)


def test_heartbeat_tells_that_the_page_lives(tmp_path):
    page = reporter(tmp_path, interval=0.0, heartbeat=0.1)
    with page:
        deadline = time.monotonic() + 20
        while page.stream.getvalue().count("cell 0 of 4") < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert page.stream.getvalue().count("cell 0 of 4") >= 3


def test_nothing_is_told_after_the_end(tmp_path):
    threads = threading.active_count()
    page = reporter(tmp_path, interval=0.0, heartbeat=0.0)
    with page:
        pass
    assert threading.active_count() == threads
