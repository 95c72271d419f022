"""The processes of a build: one build at a time in a folder, and none of its parts outlives it."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

# Names the process that builds, as host:process:its start.
VARIABLE = "COMPATLIB_BUILD"

# How an interrupted build is ended, and the seconds that each signal is given to work.
PATIENCE = {signal.SIGINT: 20.0, signal.SIGTERM: 5.0, signal.SIGKILL: 5.0}


def build_mark() -> str:
    """This process in the form of $COMPATLIB_BUILD."""
    return f"{socket.gethostname()}:{os.getpid()}:{start_of(os.getpid())}"


def start_of(number: int) -> str:
    """When a process of this machine was started: a text that is its own, and the same however the clock is set.

    Raises:
        psutil.NoSuchProcess: there is none of this number.
    """
    try:  # Linux counts from the machine's own start; the first field that may hold a space is in brackets
        return Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return str(psutil.Process(number).create_time())


def stop_with_build() -> None:
    """Stop this process (as SIGTERM does) when the build that asked for it was killed.

    Otherwise the next build would wait for it, or work beside it. On another machine than the build's, such as a
    cluster's node, the process goes on: there the queue decides.
    """
    host, _, process = os.environ.get(VARIABLE, "").partition(":")
    if host != socket.gethostname():
        return
    number, _, start = process.partition(":")

    def watch():
        while _is_alive(int(number), start):
            time.sleep(1)
        print("the build has ended; this page stops too", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _is_alive(number: int, start: str) -> bool:
    try:
        return start_of(number) == start and psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def only_build(path: Path, other: str = "another build is at work in this folder") -> Iterator[int]:
    """Hold the lock on this file, waiting for a build that has it, which is told; gives the lock's descriptor.

    The lock is the operating system's: however a build ends, its lock ends with it. A process which is started with
    the descriptor holds the lock too, as long as it lives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{other}; waiting for its end", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def run_group(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], lock: int) -> int:
    """Run a command with all its descendants as one group, which an interrupt of this process ends as a whole.

    Returns:
        The command's exit status, or 130 when it was interrupted.
    """
    early: list[int] = []  # interrupts that came while the command was being started, which must not leave it behind
    numbers = (signal.SIGINT, signal.SIGTERM)
    signals = {number: signal.signal(number, lambda received, _: early.append(received)) for number in numbers}
    options = {"cwd": folder, "env": dict(environment), "stdin": subprocess.DEVNULL, "pass_fds": (lock,)}
    try:
        process = subprocess.Popen(command, start_new_session=True, **options)
        try:
            for number in signals:
                signal.signal(number, _interrupt)
            if early:
                raise KeyboardInterrupt
            return process.wait()
        except KeyboardInterrupt:
            for number in signals:
                signal.signal(number, signal.SIG_IGN)
            _end_group(process)
            return 130
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)


def _interrupt(*_):
    raise KeyboardInterrupt


def _end_group(process: subprocess.Popen) -> None:
    """Interrupt a group, and end by force what is left of it after a while; kernels end with their page."""
    for number, patience in PATIENCE.items():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _has_members(process.pid):
                process.wait()  # it has ended, and is taken note of
                return
            time.sleep(0.05)


def _has_members(group: int) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
