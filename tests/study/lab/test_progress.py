"""Progress: what share of the planned work is done, how long the rest takes, and a file that is always whole."""

import json
import os

import numpy as np
import pytest

from compatlib.study.lab import progress
from compatlib.study.lab.progress import Work


@pytest.fixture
def target(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("COMPATLIB_PROGRESS", str(path))
    return path


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told the time."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def read(path) -> dict:
    return json.loads(path.read_text())


def test_the_share_is_the_work_done_over_the_work_planned(target, clock):
    work = Work({"old": 30.0, "new": 60.0, "small": 10.0})
    work.done("old")
    assert read(target)["done"] == pytest.approx(0.3)
    clock.now += 2
    work.task("new")(0.5, "epoch 3 of 6")
    assert read(target)["done"] == pytest.approx(0.6)
    assert read(target)["task"] == "new"
    assert read(target)["detail"] == "epoch 3 of 6"
    work.done("new")
    work.done("small")
    assert read(target)["done"] == 1.0


def test_the_remaining_time_follows_the_pace_so_far(target, clock):
    work = Work({"old": 1.0, "new": 3.0})
    clock.now += 20
    work.task("old")(0.5, "")
    assert read(target)["seconds_left"] == pytest.approx(140.0)
    clock.now += 20
    work.done("old")
    assert read(target)["seconds_left"] == pytest.approx(120.0)
    clock.now += 120
    work.done("new")
    assert read(target)["seconds_left"] == 0.0


def test_no_time_is_guessed_from_a_hundredth_of_the_work(target, clock):
    work = Work({"old": 100.0})
    clock.now += 5
    work.task("old")(0.009, "epoch 1")
    assert read(target)["seconds_left"] is None
    clock.now += 5
    work.task("old")(0.02, "epoch 1")
    assert read(target)["seconds_left"] == pytest.approx(490.0)


def test_what_was_found_is_taken_out_of_the_estimate(target, clock):
    work = Work({"old": 50.0, "new": 100.0})
    work.done("old", worked=False)
    assert read(target) == {"task": "old", "done": 0.0, "seconds_left": None, "detail": "found"}
    clock.now += 10
    work.task("new")(0.25, "epoch 2")
    assert read(target)["done"] == pytest.approx(0.25)
    assert read(target)["seconds_left"] == pytest.approx(30.0)


@pytest.mark.parametrize("weights", [[0.1, 0.2, 0.3], [1e9, 1.0, 1e-3], [0.7] * 9, [1.0]])
def test_if_everything_was_found_all_is_done(target, clock, weights):
    """Weights are real numbers, whose sums do not come back to 0 by subtraction."""
    work = Work({str(number): weight for number, weight in enumerate(weights)})
    for number in range(len(weights)):
        work.done(str(number), worked=False)
    assert read(target)["done"] == 1.0
    assert read(target)["seconds_left"] == 0.0


def test_the_share_never_falls_and_never_exceeds_one(target, clock):
    work, shares = Work({"a": 1.0, "b": 2.0, "c": 3.0}), []
    for name in "abc":
        report = work.task(name)
        for step in range(1, 5):
            clock.now += 1
            report(step / 4, "")
            shares.append(read(target)["done"])
        work.done(name)
        shares.append(read(target)["done"])
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    clock.now += 1
    work.task("c")(1.0, "after its end")
    assert read(target)["done"] == 1.0


def test_tasks_that_are_under_way_at_once_count_together(target, clock):
    work = Work({"a": 30.0, "b": 50.0, "c": 20.0})
    first, second = work.task("a"), work.task("b")
    first(0.5, "epoch 1")
    assert read(target)["done"] == pytest.approx(0.15)
    clock.now += 10
    second(0.4, "epoch 2")
    assert read(target) == {
        "task": "b",
        "done": pytest.approx(0.35),
        "seconds_left": pytest.approx(10 * 0.65 / 0.35),
        "detail": "epoch 2",
    }
    clock.now += 10
    first(0.9, "epoch 3")
    assert read(target)["done"] == pytest.approx(0.47)
    work.done("b")
    assert read(target)["done"] == pytest.approx(0.77)
    work.done("c", worked=False)
    assert read(target)["done"] == pytest.approx(0.77 / 0.8)
    assert read(target)["seconds_left"] == pytest.approx(20 * 0.03 / 0.77)
    work.done("a")
    assert read(target)["done"] == 1.0


def test_what_is_reported_between_two_records_is_not_lost(target, clock):
    work = Work({"a": 1.0, "b": 1.0})
    work.task("a")(0.2, "")
    clock.now += 0.5
    work.task("a")(0.6, "too soon to be written")
    assert read(target)["done"] == pytest.approx(0.1)
    clock.now += 0.5
    work.task("b")(0.2, "")
    assert read(target)["done"] == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(5))
def test_with_several_tasks_under_way_the_share_never_falls_either(target, clock, seed):
    random = np.random.default_rng(seed)
    names = [f"task {number}" for number in range(8)]
    weights = dict(zip(names, random.uniform(0.1, 9, len(names)), strict=True))
    work, waiting, under_way, shares = Work(weights), list(names), {}, []
    while waiting or under_way:
        while waiting and len(under_way) < 3:
            under_way[waiting.pop()] = 0.0
        name = str(random.choice(list(under_way)))
        clock.now += 1
        under_way[name] += random.uniform(0, 0.4)
        if under_way[name] < 1:
            work.task(name)(under_way[name], "")
            done = sum(weights[other] * under_way.get(other, other not in waiting) for other in names)
            assert read(target)["done"] == pytest.approx(done / sum(weights.values()))
        else:
            del under_way[name]
            work.done(name)
        shares.append(read(target)["done"])
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_reports_are_written_once_a_second_at_most_and_ends_always(target, clock):
    work = Work({"old": 1.0, "new": 1.0})
    report = work.task("old")
    written = []
    for tenth in range(1, 31):
        clock.now += 0.1
        report(tenth / 40, f"step {tenth}")
        written.append(read(target)["detail"])
    assert len(set(written)) in (3, 4)
    work.done("old")
    assert read(target)["detail"] == "done"
    work.done("new")
    assert read(target)["task"] == "new"


def test_the_first_report_is_written_whatever_the_clock_shows(target, clock):
    clock.now = 0.0  # a machine that was started just now
    work = Work({"old": 1.0})
    work.task("old")(0.5, "epoch 1")
    assert read(target)["done"] == 0.5


def test_the_file_is_replaced_whole(target, clock, monkeypatch):
    work = Work({"old": 1.0, "new": 1.0})
    work.done("old")
    before, real = target.read_bytes(), os.replace
    seen = []

    def replace(source, destination):
        seen.append((target.read_bytes(), json.loads(source.read_text())["task"]))
        real(source, destination)

    monkeypatch.setattr("os.replace", replace)
    work.done("new")
    assert seen == [(before, "new")]
    assert read(target)["task"] == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("value", ["", None])
def test_without_the_variable_nothing_is_written(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    if value is None:
        monkeypatch.delenv("COMPATLIB_PROGRESS", raising=False)
    else:
        monkeypatch.setenv("COMPATLIB_PROGRESS", value)
    work = Work({"old": 1.0})
    work.task("old")(0.5, "")
    work.done("old")
    assert list(tmp_path.iterdir()) == []


def test_a_command_is_told_every_record_as_a_line_without_a_file(monkeypatch, clock):
    monkeypatch.delenv("COMPATLIB_PROGRESS", raising=False)
    lines = []
    work = Work({"lite0": 3.0, "lite2": 1.0}, lines.append)
    work.task("lite0")(0.0, "begins")
    clock.now += 90
    work.task("lite0")(0.5, "4 of 8")
    clock.now += 0.5
    work.task("lite0")(0.6, "5 of 8")  # too soon for another line
    work.done("lite0")
    work.done("lite2", worked=False)
    assert lines == [
        "lite0            0% | begins | time left not known yet",
        "lite0           38% | 4 of 8 | 2 min 30 s left",
        "lite0           75% | done | 30 s left",
        "lite2          100% | found | 0 s left",
    ]
