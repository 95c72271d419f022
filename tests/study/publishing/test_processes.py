"""Builds one at a time, and nothing that outlives its build."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from compatlib.study.publishing import processes
from compatlib.study.publishing.processes import build_mark, only_build, run_group, start_of

PATIENCE = 60


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(code: str, **environment) -> subprocess.Popen:
    command = [sys.executable, "-c", code]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom compatlib.study.publishing.processes import only_build\n"
    "with only_build(Path({lock!r})):\n    print('in', flush=True)\n    {then}\n"
)


def test_second_build_waits_for_the_first(tmp_path):
    lock = tmp_path / "build" / "lock"
    with only_build(lock):
        second = start(HOLD.format(lock=str(lock), then="pass"))
        assert "another build is at work" in second.stdout.readline()
        assert second.poll() is None
    assert second.communicate(timeout=PATIENCE)[0] == "in\n"


def test_killed_build_leaves_no_lock(tmp_path):
    first = start(HOLD.format(lock=str(tmp_path / "lock"), then="time.sleep(600)"))
    assert first.stdout.readline() == "in\n"
    first.kill()
    first.communicate(timeout=PATIENCE)
    with only_build(tmp_path / "lock"):
        pass


def test_what_a_build_started_holds_its_lock(tmp_path):
    """A killed build's Snakemake may live on for a while; the next build waits for that too."""
    with only_build(tmp_path / "lock") as lock:
        child = subprocess.Popen(["sleep", "600"], pass_fds=(lock,))
    second = start(HOLD.format(lock=str(tmp_path / "lock"), then="pass"))
    assert "another build is at work" in second.stdout.readline()
    child.kill()
    child.wait()
    assert second.communicate(timeout=PATIENCE)[0] == "in\n"


@pytest.mark.parametrize("status", [0, 1, 7])
def test_status_of_the_command_is_handed_on(tmp_path, status):
    with only_build(tmp_path / "lock") as lock:
        command = ["sh", "-c", f"exit {status}"]
        assert run_group(command, folder=tmp_path, environment=os.environ, lock=lock) == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_whole_group(tmp_path, number):
    """Also what its leader leaves behind and what, like a shell's background, does not listen to interrupts."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from compatlib.study.publishing.processes import PATIENCE, only_build, run_group\n"
        "PATIENCE[signal.SIGINT] = 0.5\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "with only_build(folder / 'lock') as lock:\n"
        "    command = ['sh', '-c', 'sleep 600 & echo $! > inner; wait']\n"
        "    status = run_group(command, folder=folder, environment=os.environ, lock=lock)\n"
        "sys.exit(status)\n"
    )
    build = start(code)
    wait_until(lambda: (tmp_path / "inner").exists() and (tmp_path / "inner").read_text().endswith("\n"))
    inner = int((tmp_path / "inner").read_text())
    build.send_signal(number)
    build.communicate(timeout=PATIENCE)
    assert build.returncode == 130
    wait_until(lambda: not psutil.pid_exists(inner) or psutil.Process(inner).status() == psutil.STATUS_ZOMBIE)


def test_interrupt_while_the_command_is_being_started_ends_it_too(tmp_path, monkeypatch):
    """The command itself sends it, as early as can be: now and then before its shell has begun to heed interrupts."""
    monkeypatch.setitem(processes.PATIENCE, signal.SIGINT, 0.5)
    others = psutil.Process().children(recursive=True)  # of the tests that ran here before
    for _ in range(10):
        with only_build(tmp_path / "lock") as lock:
            command = ["sh", "-c", "kill -INT $PPID; sleep 600"]
            assert run_group(command, folder=tmp_path, environment=os.environ, lock=lock) == 130
    assert [each for each in psutil.Process().children(recursive=True) if each not in others] == []


WATCH = (
    "import time\nfrom compatlib.study.publishing.processes import stop_with_build\n"
    "stop_with_build()\nprint('on', flush=True)\n"
)


def test_page_stops_with_its_build():
    build = start("import time\ntime.sleep(600)")
    mark = f"{processes.socket.gethostname()}:{build.pid}:{start_of(build.pid)}"
    page = start(WATCH + "time.sleep(600)", COMPATLIB_BUILD=mark)
    assert page.stdout.readline() == "on\n"
    assert page.poll() is None
    build.kill()
    build.communicate(timeout=PATIENCE)
    assert "the build has ended" in page.communicate(timeout=PATIENCE)[0]
    assert page.returncode == -signal.SIGTERM


@pytest.mark.parametrize("mark", ["", "another-machine:1:0.0"])
def test_page_without_a_build_on_this_machine_goes_on(mark):
    page = start(WATCH + "time.sleep(1.5)\nprint('done')", COMPATLIB_BUILD=mark)
    assert page.communicate(timeout=PATIENCE)[0] == "on\ndone\n"
    assert page.returncode == 0


def test_mark_names_this_very_process():
    host, number, begun = build_mark().split(":")
    assert (host, int(number)) == (processes.socket.gethostname(), os.getpid())
    assert processes._is_alive(int(number), begun)
    assert not processes._is_alive(int(number), f"{begun}0")


def test_mark_stays_the_same_when_the_clock_is_set(monkeypatch):
    """psutil counts from the time of day at which the machine was started, and that changes with the clock."""
    mark, real = build_mark(), psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3_600)
    assert build_mark() == mark
    time.sleep(0.05)  # several ticks of the system's clock of processes
    later = subprocess.Popen(["sleep", "600"])
    try:
        assert start_of(later.pid) != start_of(os.getpid())
    finally:
        later.kill()
        later.wait()


def test_number_of_no_process_is_not_alive():
    ended = subprocess.Popen(["true"])
    begun = start_of(ended.pid)
    ended.wait()
    assert not processes._is_alive(ended.pid, begun)
