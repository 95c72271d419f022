"""Rows made by hand, and what tables must say of them, computed apart: by filters, means and Student's t alone."""

import itertools
import re
import zlib
from collections.abc import Iterable
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from compatlib.study.lab.rows import Rows, table

SUBSETS, METRICS = ("all", "known", "unknown"), ("cmc@1", "cmc@5", "map")
RUN = {"profile": "study", "dataset": "cifar100"}
SCORES = {"subset": SUBSETS, "metric": METRICS}


def made(*cells: dict[str, Any], seeds: Iterable[int] = range(3), **shared: Any) -> Rows:
    """A row for every seed and every combination of the columns' values; tuples are several values.

    The value follows from the cell alone, in [0.1, 0.6), and moves with the seed.
    """
    records = []
    for cell in cells:
        lists = {name: value if isinstance(value, tuple) else (value,) for name, value in (shared | cell).items()}
        for values in itertools.product(*lists.values()):
            row = RUN | dict(zip(lists, values, strict=True))
            number = zlib.crc32(repr(sorted(row.items())).encode())
            for seed in seeds:
                value = 0.1 + number % 4_999 / 10_007 + 0.001 * seed * (number % 13 - 6)
                records.append(row | {"seed": seed, "value": value})
    return Rows(table(records), {})


def without_classes(rows: Rows) -> Rows:
    """The rows without their scores by class: intervals over seeds alone, as they are computed here."""
    return replace(rows, by_class={})


def values(rows: Rows, **cell: Any) -> pd.Series:
    """By seed, the value of the one cell with these columns."""
    frame = rows.frame
    for name, value in cell.items():
        frame = frame[frame[name].isna() if value is None else frame[name] == value]
    assert frame["seed"].is_unique, cell
    assert len(frame), cell
    return frame.set_index("seed")["value"].sort_index()


def text(found: pd.Series, form: str = "{:.1f}") -> str:
    """Mean and half of the 95 % interval over seeds, times 100."""
    found = found.to_numpy()
    mean = form.format(100 * np.mean(found))
    if len(found) == 1:
        return mean
    half = 100 * student.ppf(0.975, len(found) - 1) * np.std(found, ddof=1) / np.sqrt(len(found))
    return f"{mean}\u00a0±\u00a0{half:.1f}"


def level(rows: Rows, **cell: Any) -> str:
    """A level, in percent."""
    return text(values(rows, **cell))


def gained(rows: Rows, first: dict[str, Any], second: dict[str, Any], **shared: Any) -> str:
    """First − second over the seeds that both have, in points."""
    return text((values(rows, **shared | first) - values(rows, **shared | second)).dropna(), "{:+.1f}")


def seen(table: str) -> pd.DataFrame:
    """What a reader sees in a table's HTML, as text with plain spaces."""
    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    heads, *entries = [[unescape(text).replace("\u00a0", " ") for text in line] for line in lines]
    return pd.DataFrame(entries, columns=heads)
