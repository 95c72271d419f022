"""Builds as a reader starts them, and what they said."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 1_000


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "compatlib.study.publishing.workflow", *words, "--profile", "smoke", "--cores", "4"]


def start(root: Path, *words: str, **environment: str) -> subprocess.Popen:
    """Begin a build in a group of its own, as a terminal does."""
    return subprocess.Popen(
        command(*words),
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "COMPATLIB_BUILD": ""} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def build(root: Path, *words: str, status: int = 0, **environment: str) -> str:
    """What a build said."""
    process = start(root, *words, **environment)
    told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, told
    return told


def executed(told: str) -> list[str]:
    """Pages that were executed, in order."""
    return re.findall(r"^(\w+) +100% \| done in", told, flags=re.MULTILINE)


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
