"""Every table of rows is one function: lines and columns say what picks a cell, columns also how it is written."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

from compatlib.study.lab.figures.behind import Table
from compatlib.study.lab.figures.cells import SUBSETS, Picks
from compatlib.study.lab.figures.columns import Column
from compatlib.study.lab.rows import Rows

Line = tuple[Mapping[str, str], Picks]  # the words that stand before the line's numbers, and what picks its cells


def show(frame: pd.DataFrame, of: str = "") -> HTML:
    """A table as a page shows it, with its CSV; see `Table`. In words where it has no line."""
    words = f"{escape(of)}: not measured." if of else "Not measured."
    return Table(frame, of) if len(frame) else HTML(f"<p><em>{words}</em></p>")


def each(title: str, picks: Mapping[str, Picks]) -> list[Line]:
    """Lines under one title: the words of each → what picks its cells."""
    return [({title: words}, picked) for words, picked in picks.items()]


def by(title: str, column: str, names: Iterable[str], words: Mapping[str, str] | None = None) -> list[Line]:
    """Lines by a column's values, which stand for themselves or for what `words` calls them."""
    return each(title, {(words or {}).get(name, name): {column: name} for name in names})


def crossed(*sides: Iterable[Line]) -> list[Line]:
    """Lines of lines: every one of the first, with every one of the next."""
    return [
        ({k: v for words, _ in lines for k, v in words.items()}, {k: v for _, picks in lines for k, v in picks.items()})
        for lines in itertools.product(*sides)
    ]


BY_SUBSET = by("queries", "subset", SUBSETS, SUBSETS)


def table(
    rows: Rows, lines: Iterable[Line], columns: Mapping[str, Column], *, count: bool = True, **where: Any
) -> pd.DataFrame:
    """Lines down, columns across, as text; where `count`, last the number of seeds, as "3 to 5" where entries differ.

    Args:
        rows: of one profile and data set.
        lines: in their order.
        columns: by title.
        count: whether there is a column `n`.
        where: what picks the rows that all cells are among.

    Raises:
        ValueError: no row, or rows of several cells, where one cell is wanted; see `Rows.by_seed`.
    """
    rows = replace(rows, frame=rows.of(**where))
    found = []
    for words, picks in lines:
        entries = {title: column.entry(rows, picks) for title, column in columns.items()}
        line = {**words, **{title: text for title, (text, _) in entries.items()}}
        found.append(line | ({"n": seed_numbers([n for _, n in entries.values()])} if count else {}))
    return pd.DataFrame(found)


def stacked(*tables: pd.DataFrame) -> pd.DataFrame:
    """Tables one below the other; what one of them has not is blank there, and n stands last."""
    joined = pd.concat(tables, ignore_index=True)
    joined = joined.astype(object).where(joined.notna(), "")
    return joined[[name for name in joined if name != "n"] + [name for name in ("n",) if name in joined]]


def tuning(
    tuned: Rows,
    judged: pd.Series,
    titles: Mapping[str, str],
    columns: Mapping[str, Column],
    is_chosen: Callable[..., bool],
    *,
    judged_by: str | None = None,
) -> pd.DataFrame:
    """A line for every candidate: its values, its scores, what it is judged by, and whether the study uses it.

    Args:
        tuned: the tuning's rows.
        judged: by candidate, indexed by the columns that pick its rows, in the order of the lines.
        titles: of these columns.
        columns: by title.
        is_chosen: whether the study uses the candidate of these values, as in the index.
        judged_by: title of what is judged by, in percent; None where a column shows it already.
    """
    lines = []
    for values in judged.index:
        words = [value if isinstance(value, str) else f"{value:g}" for value in values]
        lines.append((dict(zip(titles.values(), words, strict=True)), dict(zip(titles, values, strict=True))))
    found = table(tuned, lines, columns, count=False)
    if judged_by:
        found[judged_by] = [f"{100 * value:.2f}" for value in judged]
    return found.assign(chosen=["yes" if is_chosen(*values) else "" for values in judged.index])


def seed_numbers(numbers: Iterable[int | None]) -> int | str:
    """How many seeds entries have: 3, or "3 to 5" where they differ; "" where there is none."""
    present = sorted({number for number in numbers if number is not None})
    if not present:
        return ""
    return present[0] if len(present) == 1 else f"{present[0]} to {present[-1]}"
