"""How far a page or a command is: a kernel writes it to a file, and whoever executes the page prints the line.

A notebook's kernel has no terminal. The file that `COMPATLIB_PROGRESS` names is replaced, whole, by one JSON object
`{"task", "done", "seconds_left", "detail"}`; without the variable nothing is written.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from compatlib.files import replacing

_EVERY = 1.0  # seconds between two records


def duration_in_words(seconds: float) -> str:
    """A duration to two units, such as "45 s", "1 min 20 s", "2 h 5 min" or "3 d 4 h"."""
    total = max(0, round(seconds))
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    first = next((index for index, (_, length) in enumerate(units) if total >= length), len(units) - 1)
    words = []
    for name, length in units[first : first + 2]:
        count, total = divmod(total, length)
        if count or not words:
            words.append(f"{count} {name}")
    return " ".join(words)


class Work:
    """A page's planned tasks with their weights (any unit, such as images to train on), and how far each is.

    Use `report = work.task(name)` and call `report(share done, text)`; a task that needs no work is closed by
    `work.done(name)` and taken out of the estimate of the remaining time.

    tell: called with each record as a line, by a command that has a terminal.
    """

    def __init__(self, tasks: Mapping[str, float], tell: Callable[[str], None] | None = None) -> None:
        self._open, self._shares, self._tell = dict(tasks), {}, tell
        self._worked, self._begun, self._written = 0.0, time.monotonic(), -_EVERY

    def task(self, name: str):
        """A function (share done, text) that reports on the task `name`."""

        def report(share: float, text: str) -> None:
            self._shares[name] = share
            if time.monotonic() - self._written >= _EVERY:
                self._write(name, text)

        return report

    def done(self, name: str, *, worked: bool = True) -> None:
        """Close a task; `worked` is False where its result already existed."""
        weight = self._open.pop(name, 0.0)
        if worked:
            self._worked += weight
        self._write(name, "done" if worked else "found")

    def _write(self, name: str, text: str) -> None:
        target = os.environ.get("COMPATLIB_PROGRESS")
        self._written = time.monotonic()
        if not target and self._tell is None:
            return
        # Several tasks may be under way at once.
        partial = sum(weight * self._shares.get(name, 0.0) for name, weight in self._open.items())
        planned = self._worked + sum(self._open.values())
        share = min(1.0, (self._worked + partial) / planned) if planned > 0 else 1.0
        spent = time.monotonic() - self._begun
        left = spent * (1 - share) / share if share > 0.01 else None
        if self._tell is not None:
            time_left = "time left not known yet" if left is None else f"{duration_in_words(left)} left"
            self._tell(f"{name:<14} {share:4.0%} | {text} | {time_left}")
        if not target:
            return
        record = {"task": name, "done": share, "seconds_left": left, "detail": text}
        with replacing(Path(target)) as temporary:
            temporary.write_text(json.dumps(record), encoding="utf-8")
