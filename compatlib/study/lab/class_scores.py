"""Scores by class, beside the rows: of every cell that is a mean over queries, the sum over each query class.

One compressed file a chapter, `<chapter>.classes.npz`: for every group "profile/dataset/seed" the cells' names, sums
(cells, classes) and numbers of valid queries (cells, classes). A cell is named by its row's columns, of all queries;
those of a subset are the sums over its classes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compatlib.evaluation.statistics import ClassScores
from compatlib.files import DAMAGE, replacing

ByCell = Mapping[str, ClassScores]
_PARTS = ("cells", "sums", "counts")


def cell_name(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    """The name of a row's cell: its columns as JSON, an `x` that it lacks as null."""
    values = {name: row.get(name, "") for name in columns}
    x = values.get("x", "")
    values["x"] = None if x == "" or x != x else round(float(x), 6)  # as it is written in the rows
    return json.dumps(values, sort_keys=True)


def read(path: Path) -> dict[str, dict[str, ClassScores]]:
    """By group, the class scores of every cell; none where there is no file.

    Raises:
        ValueError: a damaged file.
    """
    if not path.exists():
        return {}
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            groups = sorted({name.rpartition("/")[0] for name in file.files})
            return {group: _cells(*(file[f"{group}/{part}"] for part in _PARTS)) for group in groups}
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({error}); restore it from the repository") from error


def _cells(cells: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> dict[str, ClassScores]:
    return {
        str(cell): ClassScores(own.astype(np.float64), count.astype(np.int64))
        for cell, own, count in zip(cells, sums, counts, strict=True)
    }


def _stacked(by_class: Sequence[np.ndarray]) -> np.ndarray:
    """(cells, classes): a split whose last classes have no query has 0 there."""
    classes = max(map(len, by_class))
    return np.stack([np.pad(each, (0, classes - len(each))) for each in by_class])


def write(path: Path, groups: Mapping[str, ByCell]) -> None:
    """Write the file anew, under a temporary name first."""
    content = {}
    for group, cells in sorted(groups.items()):
        names = sorted(cells)
        if names:
            arrays = (
                np.array(names),
                _stacked([cells[name].sums for name in names]),
                _stacked([cells[name].counts for name in names]).astype(np.int32),
            )
            content |= {f"{group}/{part}": array for part, array in zip(_PARTS, arrays, strict=True)}
    if not content:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)
