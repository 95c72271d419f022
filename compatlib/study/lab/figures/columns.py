"""Columns of tables: which cells an entry is made from, and how it is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compatlib.study.lab.figures.cells import CHANCE, METRICS, Picks, measurements
from compatlib.study.lab.figures.texts import in_percent, mean_as, points, points_from_chance
from compatlib.study.lab.rows import Rows

UNDEFINED = "undefined"


@dataclass(frozen=True)
class Column:
    """What stands in a column.

    cells: what picks each cell that an entry is made from; it goes before what the line and the table pick.
    written: the cells' measurements, over the seeds that all of them have → text.
    stands: whether a line has an entry, by what the line picks; elsewhere the column is blank.
    """

    cells: tuple[Picks, ...]
    written: Callable[..., str]
    stands: Callable[[Picks], bool] = lambda picks: True

    def entry(self, rows: Rows, picks: Picks) -> tuple[str, int | None]:
        """The text, "undefined" where a value is, and over how many seeds; "" and None where it does not stand."""
        if not self.stands(picks):
            return "", None
        found = measurements(rows, *({**picks, **cell} for cell in self.cells))
        if found is None:
            return UNDEFINED, None
        return self.written(*found), len(found[0].values)

    def where(self, stands: Callable[[Picks], bool]) -> "Column":
        """The column with entries in these lines alone."""
        return replace(self, stands=stands)


def level(**cell: Any) -> Column:
    """Mean and half of the 95 % interval, in percent."""
    return Column((cell,), in_percent)


def difference(first: Picks, second: Picks) -> Column:
    """First − second, paired by seed, in points; blank in the line whose cells they both are."""
    return Column((first, second), points).where(lambda picks: {**picks, **first} != {**picks, **second})


def from_chance(**cell: Any) -> Column:
    """A cell less a random ranking's score, in points."""
    return Column((cell, {**cell, **CHANCE}), points_from_chance)


def mean(form: str | Callable[[float], str], factor: float = 1.0, **cell: Any) -> Column:
    """The mean over seeds times a factor, in a format such as "{:.2f}" or as a function writes it."""
    return Column((cell,), mean_as(form, factor))


def levels(title: str, metrics: Mapping[str, str] = METRICS, **cell: Any) -> dict[str, Column]:
    """A level by metric; `{}` in the title is replaced by what the metric is called."""
    return {title.format(words): level(metric=metric, **cell) for metric, words in metrics.items()}


def differences(
    title: str, first: Picks, second: Picks, metrics: Mapping[str, str] = METRICS, **cell: Any
) -> dict[str, Column]:
    """A difference by metric, titled as `levels`; `cell` picks on both sides."""
    return {
        title.format(words): difference({"metric": metric, **cell, **first}, {"metric": metric, **cell, **second})
        for metric, words in metrics.items()
    }
