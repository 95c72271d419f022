"""Trainings side by side: stages, order, what is reported, what a failure and a kill leave, and the same bits."""

import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from compatlib.checkpoints import read_tensors
from compatlib.study.lab import parallel
from compatlib.study.lab.make import make
from compatlib.study.lab.parallel import WORTH_A_PROCESS, Task, train_all
from compatlib.study.lab.progress import Work
from compatlib.study.lab.trainables import Base, Upgrade
from compatlib.study.settings import settings

PATIENCE = 120
PROJECT = Path(__file__).resolve().parents[3]


class Record(Work):
    """What a page was told: (name, share, text) of every report, and (name, worked) of every end."""

    def __init__(self, tasks=()):
        super().__init__({task.name: task.work for task in tasks})
        self.reports, self.ends = [], []

    def task(self, name):
        return lambda share, text: self.reports.append((name, share, text))

    def done(self, name, *, worked=True):
        self.ends.append((name, worked))


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_dead(process: psutil.Process) -> bool:
    """Also one whose end nobody has asked for yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# Within this process, and the choice of where to work.


def tasks_of(log: list, *described: tuple) -> list[Task]:
    """Tasks (name, work, stage) that log their names when they are carried out; "found" was trained before."""

    def train(name, report):
        report(0.5, f"half of {name}")
        log.append((name, os.getpid()))
        return name != "found"

    return [Task(name, partial(train, name), work, stage) for name, work, stage in described]


def test_this_process_has_its_threads_again_after_a_failure():
    threads = []

    def fail(report):
        threads.append(torch.get_num_threads())
        raise FloatingPointError("the loss is nan")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(FloatingPointError):
            train_all([Task("old", fail, 1)], Record(), processes=1)
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def no_process(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", refuse)


def test_stages_come_one_after_the_other_and_the_longest_first(no_process):
    log, progress = [], Record()
    described = [("b", 2, 0), ("z", 9, 1), ("found", 5, 0), ("c", 1, 0), ("last", 99, 7), ("y", 3, 1)]
    train_all(tasks_of(log, *described), progress, processes=1)
    order = ["found", "b", "c", "z", "y", "last"]
    assert log == [(name, os.getpid()) for name in order]
    assert progress.ends == [(name, name != "found") for name in order]
    assert progress.reports == [(name, 0.5, f"half of {name}") for name in order]


def test_little_to_do_is_done_in_this_process(no_process, monkeypatch):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    log = []
    train_all(tasks_of(log, ("a", WORTH_A_PROCESS / 2, 0), ("b", WORTH_A_PROCESS / 2 - 1, 1)), Record())
    assert len(log) == 2
    with pytest.raises(AssertionError, match="a process was started"):
        train_all(tasks_of(log, ("a", WORTH_A_PROCESS / 2, 0), ("b", WORTH_A_PROCESS / 2, 1)), Record())
    assert len(log) == 2


def test_on_a_gpu_one_after_the_other_is_trained(no_process, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    log = []
    train_all(tasks_of(log, ("a", 10 * WORTH_A_PROCESS, 0), ("b", 20 * WORTH_A_PROCESS, 0)), Record())
    assert [name for name, _ in log] == ["b", "a"]


@pytest.mark.parametrize("processes", [None, 1, 4])
def test_nothing_to_do(no_process, processes):
    train_all([], Record(), processes=processes)


def test_a_single_task_needs_no_process(no_process):
    log = []
    train_all(tasks_of(log, ("a", 10 * WORTH_A_PROCESS, 0)), Record(), processes=4)
    assert log == [("a", os.getpid())]


def test_in_this_process_a_failure_ends_all(no_process):
    log, progress = [], Record()
    tasks = tasks_of(log, ("first", 3, 0), ("third", 1, 0), ("fourth", 9, 1))

    def fail(report):
        raise FloatingPointError("the loss is nan in epoch 1")

    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        train_all([*tasks, Task("second", fail, 2)], progress, processes=1)
    assert [name for name, _ in log] == ["first"]
    assert progress.ends == [("first", True)]


# Who is begun when, seen in a pool of threads, which needs no seconds to start.


@pytest.fixture
def pools(monkeypatch) -> list[int]:
    """The sizes of the pools that were started."""
    sizes = []

    class Threads(ThreadPoolExecutor):
        def __init__(self, processes, context, initializer, initargs):
            super().__init__(processes)
            sizes.append(processes)
            monkeypatch.setattr(parallel, "_reports", *initargs)

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(parallel.multiprocessing, "get_context", lambda kind: SimpleNamespace(Queue=queue.Queue))
    return sizes


class Log:
    """Events in the order in which they happened."""

    def __init__(self):
        self.events, self.lock = [], threading.Lock()

    def add(self, *event):
        with self.lock:
            self.events.append(event)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_side_by_side_never_more_than_there_are_processes_and_never_two_stages(pools, processes):
    log, stage_of = Log(), {}

    def train(name, report):
        log.add("begin", name)
        time.sleep(0.01)
        log.add("end", name)
        return True

    tasks = []
    for number in range(15):
        name, stage = f"task {number}", number % 3
        stage_of[name] = stage
        tasks.append(Task(name, partial(train, name), work=number * 7 % 5, stage=stage))
    progress = Record()
    train_all(tasks, progress, processes=processes)
    under_way, ended = set(), []
    for kind, name in log.events:
        if kind == "begin":
            under_way.add(name)
            assert {stage_of[other] for other in under_way} == {stage_of[name]}
            assert all(stage_of[other] <= stage_of[name] for other in ended)
            assert sum(stage_of[other] < stage_of[name] for other in ended) == 5 * stage_of[name]
            assert len(under_way) <= processes
        else:
            under_way.remove(name)
            ended.append(name)
    assert sorted(progress.ends) == sorted((name, True) for name in stage_of)
    assert pools == [processes]


def test_two_of_a_stage_are_under_way_at_once(pools):
    meeting = threading.Barrier(2, timeout=PATIENCE)

    def train(report):
        meeting.wait()
        return True

    train_all([Task("a", train, 1), Task("b", train, 5)], Record(), processes=2)
    assert meeting.broken is False


def test_the_longest_is_begun_first(pools, monkeypatch):
    handed, submit = [], ThreadPoolExecutor.submit

    def record(pool, call, task):
        handed.append(task.name)
        return submit(pool, call, task)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", record)
    described = [("c", 2, 0), ("a", 7, 0), ("e", 1, 1), ("b", 5, 0), ("d", 9, 1)]
    train_all(tasks_of([], *described), Record(), processes=2)
    assert handed == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("cores", [2, 3, 64])
def test_by_default_there_is_a_process_for_each_core_that_may_be_used_and_has_something_to_do(
    pools, monkeypatch, cores
):
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    train_all(tasks_of([], *((f"task {number}", WORTH_A_PROCESS, 0) for number in range(4))), Record())
    assert pools == [min(cores, 4)]


def test_where_the_system_does_not_tell_the_cores_of_a_process_all_are_used(pools, monkeypatch):
    monkeypatch.delattr(parallel.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 2)
    train_all(tasks_of([], *((f"task {number}", WORTH_A_PROCESS, 0) for number in range(4))), Record())
    assert pools == [2]


def test_after_a_failure_what_is_under_way_is_finished_and_nothing_else_begun(pools):
    log, meeting, progress = Log(), threading.Barrier(2, timeout=PATIENCE), Record()

    def fail(report):
        meeting.wait()
        raise FloatingPointError("the loss is nan in epoch 1")

    def go_on(report):
        meeting.wait()
        time.sleep(0.5)
        report(1.0, "at its end")
        log.add("under way")
        return True

    def later(report):
        log.add("later")
        return True

    others = [Task(f"later {number}", later, 3 - number % 3, number % 2) for number in range(6)]
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        train_all([*others, Task("fails", fail, 9), Task("under way", go_on, 8)], progress, processes=2)
    assert log.events == [("under way",)]
    assert progress.ends == [("under way", True)]


# In processes of their own.


def train(run, what, report) -> bool:
    report(0.0, f"{os.getpid()} with {torch.get_num_threads()} thread")
    return make(run, what, 0, report=report)[1]


def tiny_run():
    smoke = settings({"profile": "smoke", "dataset": "digits"})
    sizes = {"classes": 6, "train_per_class": 10, "test_per_class": 4}
    training = smoke.training.model_copy(update={"epochs": 2, "batch_size": 8})
    return smoke.model_copy(update=sizes | {"training": training})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three models trained by two processes, the old one found; and again in this process, which has two threads."""
    run, folders = tiny_run(), {name: tmp_path_factory.mktemp(name) for name in ("apart", "here")}
    tasks = [Task(role, partial(train, run, Base(role)), work) for role, work in (("old", 60), ("new", 120))]
    tasks.append(Task("upgrade", partial(train, run, Upgrade("BCT C")), 120, 1))
    threads, progress = torch.get_num_threads(), Record(tasks)
    torch.set_num_threads(2)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COMPATLIB_ARTIFACTS", str(folders["here"]))
            train_all(tasks, Record(), processes=1)
            assert torch.get_num_threads() == 2
            torch.set_num_threads(1)
            patch.setenv("COMPATLIB_ARTIFACTS", str(folders["apart"]))
            train(run, Base("old"), lambda share, text: None)
            train_all(tasks, progress, processes=2)
    finally:
        torch.set_num_threads(threads)
    return folders, progress


def test_a_process_trains_the_same_bits_as_this_one(trained):
    folders, _ = trained
    names = {folder: sorted(path.name for path in folders[folder].glob("*.safetensors")) for folder in folders}
    assert names["here"] == names["apart"]
    assert len(names["here"]) == 3
    for name in names["here"]:
        (here, _), (apart, about) = (read_tensors(folders[folder] / name) for folder in ("here", "apart"))
        assert about["threads"] == 1
        assert list(here) == list(apart)
        assert all(torch.equal(here[tensor], apart[tensor]) for tensor in here)


def test_reports_of_processes_arrive_in_their_order(trained):
    _, progress = trained
    steps = {name: [share for task, share, _ in progress.reports if task == name] for name in ("old", "new", "upgrade")}
    assert steps["old"] == [0.0]
    assert steps["new"] == pytest.approx([step / 14 for step in range(15)])
    # The very last ones of all may come too late to be of use.
    assert len(steps["upgrade"]) > 0
    assert steps["upgrade"] == pytest.approx([step / 14 for step in range(15)][: len(steps["upgrade"])])
    firsts = {task: text for task, share, text in progress.reports if share == 0}
    assert all(text.endswith("with 1 thread") for text in firsts.values())
    workers = {int(text.split()[0]) for text in firsts.values()}
    assert os.getpid() not in workers
    assert not any(psutil.pid_exists(worker) and not is_dead(psutil.Process(worker)) for worker in workers)


def test_a_model_that_was_found_is_told_from_one_that_was_trained(trained):
    _, progress = trained
    assert sorted(progress.ends[:2]) == [("new", True), ("old", False)]
    assert progress.ends[2:] == [("upgrade", True)]


def fail_soon(folder: Path, report) -> bool:
    wait_until((folder / "talking").exists)
    (folder / "failed").touch()
    raise FloatingPointError(f"the loss is nan in process {os.getpid()}")


def talk(folder: Path, report) -> bool:
    """More reports than a pipe holds, after another task has failed."""
    (folder / "talking").touch()
    wait_until((folder / "failed").exists)
    time.sleep(1)
    for step in range(20_000):
        report(step / 20_000, "as many words as a training says in an hour of work")
    (folder / "finished").touch()
    return True


def touch(path: Path, report) -> bool:
    path.touch()
    return True


def test_a_failure_in_a_process_reaches_the_caller_whatever_the_others_report(tmp_path):
    """A process waits at its end for its reports to be read, unless it is told not to."""
    tasks = [Task("fails", partial(fail_soon, tmp_path), 9), Task("talks", partial(talk, tmp_path), 8)]
    tasks += [Task(f"later {n}", partial(touch, tmp_path / f"later {n}"), 3, n % 2) for n in range(4)]
    with pytest.raises(FloatingPointError, match="the loss is nan in process") as raised:
        train_all(tasks, Record(tasks), processes=2)
    assert str(os.getpid()) not in str(raised.value)
    assert "fail_soon" in str(raised.value.__cause__)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["failed", "finished", "talking"]


SCRIPT = """
import os, sys, time
from pathlib import Path
from compatlib.study.lab.parallel import Task, train_all
from compatlib.study.lab.progress import Work


def work(report):
    Path(sys.argv[1], f"work {os.getpid()}").touch()
    while True:
        report(0.5, "at work")


def wait(report):
    Path(sys.argv[1], f"wait {os.getpid()}").touch()
    time.sleep(3600)


if __name__ == "__main__":
    train_all([Task("work", work, 2), Task("wait", wait, 1)], Work({"work": 2, "wait": 1}), processes=2)
"""


def test_no_process_outlives_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(list(tmp_path.glob("w* *"))) == 2)
        children = psutil.Process(parent.pid).children(recursive=True)
        workers = {int(path.name.split()[1]) for path in tmp_path.glob("w* *")}
        assert workers < {child.pid for child in children}
    finally:
        parent.kill()
        parent.wait()
    try:
        wait_until(lambda: all(is_dead(child) for child in children))
    finally:
        for child in children:
            if not is_dead(child):
                child.kill()
