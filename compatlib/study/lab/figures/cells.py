"""Cells of rows, as tables and figures pick them: one value by seed each, and what two of them differ by."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from compatlib.evaluation.statistics import Measured, Paired, against_chance, paired
from compatlib.study.lab.rows import NoRowError, Rows

METRICS = {"cmc@1": "rank 1", "cmc@5": "rank 5", "map": "mAP"}
RANK_1_AND_MAP = {metric: METRICS[metric] for metric in ("cmc@1", "map")}
SUBSETS = {"all": "all classes", "known": "classes old knew", "unknown": "classes new to old"}
CHANCE = {"method": "chance", "query_model": "", "gallery_model": ""}  # what picks a random ranking's score
Picks = Mapping[str, Any]  # columns of rows, and the values that pick a cell; None: any value


def pair(query: str, gallery: str, **more: str) -> dict[str, str]:
    """What picks a test's rows."""
    return {"query_model": query, "gallery_model": gallery, **more}


def present(names: Iterable[str], rows: Rows, column: str = "method", **where: Any) -> list[str]:
    """Those of the names, in their order, that rows have in a column."""
    there = set(rows.of(**where)[column])
    return [name for name in names if name in there]


def measurements(rows: Rows, *cells: Picks) -> list[Measured] | None:
    """Of each cell, over the seeds that all of them have; None where a value is undefined.

    Raises:
        ValueError: as `Rows.together`.
    """
    wanted = [{name: value for name, value in cell.items() if value is not None} for cell in cells]
    if rows.frame["value"].hasnans and not all(np.isfinite(rows.by_seed(**cell)).all() for cell in wanted):
        return None
    return rows.together(*wanted)


def measured_or_none(rows: Rows, first: Picks, second: Picks | None = None) -> Paired | None:
    """As `compared`; None where no row has one of them."""
    try:
        return compared(rows, first, second)
    except NoRowError:
        return None


def compared(rows: Rows, first: Picks, second: Picks | None = None) -> Paired:
    """First − second over the seeds that both have, or the first itself, with its 95 % interval; for figures.

    A difference's interval covers the choice of test classes too where scores by class are kept, a level's seeds alone.
    A random ranking's score (`CHANCE`) does not hang on that choice.

    Raises:
        ValueError: as `measurements`, and where a value is undefined.
    """
    cells = [first] if second is None else [first, second]
    found = measurements(rows, *cells)
    if found is None:
        raise ValueError(f"a value of {cells} is undefined, so that no figure can show it")
    if second is None:
        return paired(found[0].values, 0)
    return (against_chance if CHANCE.items() <= second.items() else paired)(*found)
