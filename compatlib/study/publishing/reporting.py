"""What is said while a page is executed: plain lines with the page, its share done, its task and the time left.

A kernel has no terminal. What it works at it writes to the file that $COMPATLIB_PROGRESS names, one JSON object
`{"task", "done", "seconds_left", "detail"}` which is replaced as a whole; here it is read and told to the reader.
Pages may run side by side, so nothing is overwritten: each line stands for itself.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from compatlib.study.lab.progress import duration_in_words

VARIABLE = "COMPATLIB_PROGRESS"


def read_progress(path: Path) -> dict | None:
    """The kernel's last report, None where there is none (yet) or it is not of the agreed form."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        done, left = float(report["done"]), report.get("seconds_left")
        return {
            "task": str(report["task"]),
            "detail": str(report.get("detail") or ""),
            "done": min(max(done, 0.0), 1.0),
            "seconds_left": None if left is None else max(float(left), 0.0),
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class Reporter:
    """Prints a line when the page got on, at most one every `interval` seconds, and one every `heartbeat` regardless.

    Args:
        page: name that every line begins with.
        n_cells: number of cells of the notebook.
        progress: file that the kernel writes its reports to.
        expected_seconds: what the page took the last time, None if unknown.
        stream: where the lines go; standard error by default.
        interval, heartbeat: seconds.
    """

    def __init__(
        self,
        page: str,
        n_cells: int,
        progress: Path,
        *,
        expected_seconds: float | None = None,
        stream: TextIO | None = None,
        interval: float = 5.0,
        heartbeat: float = 30.0,
    ):
        self.page, self.n_cells, self.progress = page, n_cells, progress
        self.expected_seconds = expected_seconds
        self.stream = stream or sys.stderr
        self.interval, self.heartbeat = interval, heartbeat
        self._cell = 0
        self._said = ""
        self._start = self._said_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Reporter":
        self._start = self._said_at = time.monotonic()
        self.say("  0% | starting")
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def cell_started(self) -> None:
        """Take note that the next cell runs now."""
        self._cell += 1

    @property
    def elapsed(self) -> float:
        """Seconds since the page was begun."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print one line of this page."""
        print(f"{self.page:<14} {text}", file=self.stream, flush=True)

    def line(self) -> str:
        """The state of the page in words."""
        report = read_progress(self.progress)
        # The kernel reports on its training; when that is over there are still cells to come.
        share = min(report["done"] if report else self._cell_share, 0.99)
        parts = [f"{share:4.0%}", f"cell {self._cell} of {self.n_cells}"]
        if report:
            parts.append(", ".join(text for text in (report["task"], report["detail"]) if text))
        return " | ".join([*parts, self._time_left(report, share)])

    @property
    def _cell_share(self) -> float:
        return max(self._cell - 1, 0) / max(self.n_cells, 1)

    def _time_left(self, report: dict | None, share: float) -> str:
        if report and report["done"] < 1 and report["seconds_left"] is not None:
            return f"{duration_in_words(report['seconds_left'])} left"
        if report and 0.02 < report["done"] < 1:
            return f"about {duration_in_words(self._left(share))} left"
        if self.expected_seconds is not None:
            return f"about {duration_in_words(self.expected_seconds - self.elapsed)} left, by the last time"
        if self._cell_share > 0:
            return f"about {duration_in_words(self._left(self._cell_share))} left, if cells are alike"
        return "time left not known yet"

    def _left(self, share: float) -> float:
        return self.elapsed * (1 - share) / share

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            quiet_for = time.monotonic() - self._said_at
            if quiet_for < self.interval:
                continue
            # The time left changes by itself: only the rest of the line tells that the page got on.
            line = self.line()
            if line.rpartition(" | ")[0] != self._said or quiet_for >= self.heartbeat:
                self._said, self._said_at = line.rpartition(" | ")[0], time.monotonic()
                self.say(line)
