"""Training several models side by side: one process a core, one thread each.

Networks as small as the study's keep one core busy; two of them train faster than one after the other on two cores.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection

import torch

from compatlib.study.lab.progress import Work

Train = Callable[..., bool]
# Images to train on from which processes of their own pay: one needs some seconds to start.
WORTH_A_PROCESS = 100_000


@dataclass(frozen=True)
class Task:
    """A model to train or to find: `train(report=…)` says whether it was trained now; it must be picklable.

    work: images times epochs. stage: tasks of a lower stage are done before.
    """

    name: str
    train: Train
    work: float
    stage: int = 0


def train_all(tasks: Sequence[Task], progress: Work | None = None, *, processes: int | None = None) -> None:
    """Carry out all tasks, those of one stage side by side, the longest first.

    Args:
        tasks: what is to be trained.
        progress: has a task of the same name for each; by default one that has these tasks and no others.
        processes: how many at once. By default one for each processor that this process may use, one where there is a
            GPU or too little to do; with one nothing leaves this process, which trains with one thread too.

    Raises:
        Whatever a task raises; those under way are finished first, the others are not begun.
    """
    if progress is None:
        progress = Work({task.name: task.work for task in tasks})
    if processes is None:
        is_small = sum(task.work for task in tasks) < WORTH_A_PROCESS
        processes = 1 if torch.cuda.is_available() or is_small else _processors()
    processes = min(processes, len(tasks))
    stages = [
        sorted((task for task in tasks if task.stage == stage), key=lambda task: -task.work)
        for stage in sorted({task.stage for task in tasks})
    ]
    if processes <= 1:
        with _one_thread():
            for task in (task for stage in stages for task in stage):
                progress.done(task.name, worked=task.train(report=progress.task(task.name)))
        return
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(reports,)) as pool:
        for stage in stages:
            _side_by_side(stage, pool, processes, reports, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a process of the pool: the same bits, and no threads that wait for each other on a busy machine.

    A single large network on a processor of many cores pays with their number. Beside a GPU all threads are left.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if torch.cuda.is_available() else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _processors() -> int:
    """How many this process may use; where the system does not tell, all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _side_by_side(
    stage: Sequence[Task], pool: ProcessPoolExecutor, processes: int, reports: multiprocessing.Queue, progress: Work
) -> None:
    """Carry out a stage and pass on what its processes report.

    No more tasks are handed over than there are processes: a pool does not give back those that it holds in reserve.
    """
    waiting, under_way, failure = list(stage), {}, None
    while under_way or (waiting and failure is None):
        while waiting and failure is None and len(under_way) < processes:
            task = waiting.pop(0)
            under_way[pool.submit(_carry_out, task)] = task
        done, _ = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
        _pass_on(reports, progress)
        for future in done:
            task = under_way.pop(future)
            if future.exception() is None:
                progress.done(task.name, worked=future.result())
            else:
                failure = failure or future.exception()
    if failure is not None:
        raise failure


def _pass_on(reports: multiprocessing.Queue, progress: Work) -> None:
    while True:
        try:
            name, share, text = reports.get_nowait()
        except queue.Empty:
            return
        progress.task(name)(share, text)


_reports = None  # in a process of the pool: where its reports go


def _begin(reports: multiprocessing.Queue) -> None:
    """Set up a process of the pool, which must not outlive the one that asked for it."""
    global _reports
    _reports = reports
    reports.cancel_join_thread()  # else a process would wait at its end for somebody to read its last reports
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _carry_out(task: Task) -> bool:
    return task.train(report=lambda share, text: _reports.put((task.name, share, text)))
