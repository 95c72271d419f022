"""Tidy rows: the only form in which a result travels from a run to tables, plots, verdicts and tests.

One CSV a chapter, and beside it a sidecar of the same name in JSON that tells for every (profile, data set, seed) what
its rows were made from, and the scores by class (`class_scores`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from compatlib.evaluation.statistics import ClassScores, Measured
from compatlib.study.lab import class_scores

COLUMNS = (
    "profile",
    "dataset",
    "split",
    "chapter",
    "method",
    "variant",
    "query_model",
    "gallery_model",
    "distance",
    "subset",
    "metric",
    "x_name",
    "x",
    "seed",
    "value",
)
GROUP = ("profile", "dataset", "seed")
CELL = tuple(name for name in COLUMNS if name not in ("seed", "value"))
CLASS_CELL = tuple(
    name for name in CELL if name not in ("profile", "dataset", "chapter")
)  # names a cell's class scores
IS_CURRENT = "is_current"  # a column of rows that were compared with what this version would make them from
_TEXTS = [name for name in CELL if name != "x"]


class NoRowError(ValueError):
    """No row is what was asked for: it was not measured, or not in this version."""


@dataclass(frozen=True)
class Rows:
    """A chapter's rows, and for every group of them, keyed "profile/dataset/seed", what it was made from.

    by_class: by group, the class scores of its cells (`class_scores`).
    """

    frame: pd.DataFrame
    sidecar: dict[str, dict[str, Any]]
    by_class: Mapping[str, class_scores.ByCell] = field(default_factory=dict)

    def of(self, **wanted: Any) -> pd.DataFrame:
        """The rows whose columns have these values (a list or tuple: one of them).

        Raises:
            ValueError: an unknown column; `NoRowError` where there is no such row.
        """
        unknown = set(wanted) - set(COLUMNS)
        if unknown:
            raise ValueError(f"unknown column {sorted(unknown)}; rows have {COLUMNS}")
        fits = np.ones(len(self.frame), bool)
        for name, value in wanted.items():
            fits &= self.frame[name].isin(value if isinstance(value, list | tuple) else [value]).to_numpy()
        chosen = self.frame[fits]
        if chosen.empty:
            raise NoRowError(f"no row has {wanted}")
        return chosen

    def run(self, profile: str, dataset: str) -> "Rows":
        """The rows and the descriptions of one profile and data set; none where there are none."""
        frame = self.frame[(self.frame["profile"] == profile) & (self.frame["dataset"] == dataset)]
        sidecar = {g: about for g, about in self.sidecar.items() if g.rpartition("/")[0] == f"{profile}/{dataset}"}
        return Rows(frame, sidecar, self.by_class)

    def comparable(self, current: Mapping[str, str] | None = None) -> "Rows":
        """The rows whose case was made alike in all seeds, of rows of one profile and data set.

        Case by case: those that this version would make are taken where there are any, else those of the largest group
        of seeds that agree, the lowest seed's of equal ones.

        Args:
            current: case → what this version would make it from (`sidecars.current`). None: nothing is known to be of
                an earlier version.

        Returns:
            Rows with a column `is_current`.
        """
        made: dict[str, list[str]] = {}
        for group in sorted(self.sidecar, key=_seed_of):
            for case in self.sidecar[group]["cases"]:
                made.setdefault(case["case"], []).append(case["made"])
        chosen = {case: max(each, key=each.count) for case, each in made.items()}
        if current is not None:
            chosen |= {case: current[case] for case, each in made.items() if current.get(case) in each}
        agrees, is_current = np.ones(len(self.frame), bool), np.ones(len(self.frame), bool)
        for _, case, places in self._cases():
            agrees[places] &= case["made"] == chosen[case["case"]]
            is_current[places] &= current is None or current.get(case["case"]) == case["made"]
        frame = self.frame.assign(**{IS_CURRENT: is_current})[agrees]
        left = set(frame["seed"])
        sidecar = {group: about for group, about in self.sidecar.items() if _seed_of(group) in left}
        return Rows(frame, sidecar, self.by_class)

    def joined(self, others: Iterable["Rows"]) -> "Rows":
        """With the other chapters' rows of the same cells, of seeds that are missing here; of cells of this version.

        A cell is found by what it is, whichever chapter measured it; the rows stand under this chapter's name.

        Args:
            others: comparable rows of the same profile and data set.
        """
        cell = [name for name in CELL if name != "chapter"]
        frame, by_class = self.frame, {group: dict(cells) for group, cells in self.by_class.items()}
        for other in others:
            current = other.frame[other.frame[IS_CURRENT]]
            # A merge on the columns keeps what stands in both; the seeds that stand here stay as they are.
            own = frame.loc[frame[IS_CURRENT], cell].drop_duplicates()
            new = current.merge(own, on=cell).merge(
                frame[[*cell, "seed"]], on=[*cell, "seed"], how="left", indicator=True
            )
            new = new[new["_merge"] == "left_only"].drop(columns="_merge").assign(chapter=self._chapter)
            frame = pd.concat([frame, new], ignore_index=True) if len(new) else frame
            # Only of the rows that are added: those of another measurement of a seed are others.
            for row in new.to_dict("records"):
                scores, cells = other._class_scores(row), by_class.setdefault(_group_of(row), {})
                cells.pop(_class_cell(row), None)
                cells |= {} if scores is None else {_class_cell(row): scores}
        return Rows(frame, self.sidecar, by_class)

    def measured(self, **wanted: Any) -> Measured:
        """The value by seed of the one cell that `wanted` picks, with its class scores where all seeds have them.

        Classes that the old model knew and did not know are strata of their own where the split has both.

        Raises:
            ValueError: as `by_seed`.
        """
        return self._measured(self._cell(**wanted))

    def _measured(self, cell: pd.DataFrame) -> Measured:
        values, subset = _by_seed(cell), cell["subset"].iloc[0]
        # What names a cell is the same in all of its rows but for the seed.
        row = cell.iloc[0].to_dict()
        found = {int(seed): self._class_scores({**row, "seed": int(seed)}) for seed in cell["seed"]}
        if any(each is None for each in found.values()):
            return Measured(values)
        known = self._known(cell)
        strata = None if known is None else np.arange(len(next(iter(found.values())).sums)) < known
        if subset != "all":
            mask = strata if subset == "known" else ~strata
            found = {seed: each.subset(mask) for seed, each in found.items()}
        return Measured(values, found, strata)

    @property
    def _chapter(self) -> str:
        return str(self.frame["chapter"].iloc[0]) if len(self.frame) else ""

    def together(self, *cells: Mapping[str, Any]) -> list[Measured]:
        """Of each cell, `measured` over the seeds that all of them have: a sweep may be measured for some seeds only.

        Raises:
            ValueError: as `by_seed`; `NoRowError` where no seed has all cells.
        """
        found = [self._cell(**cell) for cell in cells]
        seeds = sorted(set.intersection(*(set(each["seed"]) for each in found)))
        if not seeds:
            raise NoRowError(f"no row has a seed that all of these cells have: {list(cells)}")
        return [self._measured(each[each["seed"].isin(seeds)]) for each in found]

    def _class_scores(self, row: Mapping[str, Any]) -> ClassScores | None:
        return self.by_class.get(_group_of(row), {}).get(_class_cell(row))

    def _known(self, picked: pd.DataFrame) -> int | None:
        """How many classes the old model knew, of rows whose split has classes that it did not know."""
        if picked["split"].iloc[0] != "class-incremental":
            return None
        return next((about["known_classes"] for about in self.sidecar.values() if "known_classes" in about), None)

    def behaviours(self, **wanted: Any) -> dict[str, int]:
        """The numbers of the behaviours that the rows which `wanted` picks stand on, by name.

        Raises:
            ValueError: as `of`, or the rows stand on one behaviour's different numbers.
        """
        picked, found = Rows(self.of(**wanted), self.sidecar), {}
        for about, case, places in picked._cases():
            for name in case["behaviours"] if len(places) else ():
                number = about["behaviours"][name]
                if found.setdefault(name, number) != number:
                    raise ValueError(f"{wanted} picks rows of different versions of {name!r}; make them comparable")
        return found

    def undescribed(self) -> pd.DataFrame:
        """The rows that no case of the sidecar describes."""
        described = np.zeros(len(self.frame), bool)
        for _, _, places in self._cases():
            described[places] = True
        return self.frame[~described]

    def _cases(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], np.ndarray]]:
        """Every seed's description, each of its cases, and the places of the case's rows."""
        columns = {name: self.frame[name].to_numpy() for name in CELL}
        columns["x"] = np.array([_as_written(x) for x in columns["x"]], dtype=object)
        # Numbers in place of values: comparing these is most of the work.
        coded = {name: pd.factorize(values) for name, values in columns.items()}
        numbers = {name: {value: at for at, value in enumerate(values)} for name, (_, values) in coded.items()}
        group = np.array(groups(self.frame))
        for name, about in self.sidecar.items():
            places = np.flatnonzero(group == name)
            own = {column: codes[places] for column, (codes, _) in coded.items()}
            for case in about["cases"]:
                fits = np.isin(own["metric"], [numbers["metric"].get(metric, -1) for metric in case["metrics"]])
                for column, value in case["cells"].items():
                    written = _as_written(value) if column == "x" else value
                    fits &= own[column] == numbers[column].get(written, -1)
                yield about, case, places[fits]

    def by_seed(self, **wanted: Any) -> pd.Series:
        """Value by seed of the one cell that `wanted` picks.

        Raises:
            ValueError: as `of`, or the rows belong to several cells, even if no seed has more than one.
        """
        return _by_seed(self._cell(**wanted))

    def _cell(self, **wanted: Any) -> pd.DataFrame:
        """The rows of the one cell that `wanted` picks; errors as `by_seed`."""
        chosen = self.of(**wanted)
        columns = {name: chosen[name].to_numpy() for name in CELL}
        differing = [name for name, values in columns.items() if not _is_one(values)]
        if differing or not chosen["seed"].is_unique:
            raise ValueError(f"{wanted} picks rows of several cells, which differ in {differing}; say which")
        return chosen


def _is_one(values: np.ndarray) -> bool:
    """Whether all are equal, or none of them a number."""
    first = values[0]
    return bool((values == first).all()) or (first != first and all(each != each for each in values))


def _by_seed(cell: pd.DataFrame) -> pd.Series:
    return cell.set_index("seed")["value"].sort_index()


def table(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows from records; a text column that a record lacks is empty, `x` too.

    Raises:
        ValueError: an unknown column, or a record without metric, seed or value.
    """
    records = list(records)
    for record in records:
        unknown, missing = set(record) - set(COLUMNS), {"metric", "seed", "value"} - set(record)
        if unknown or missing:
            raise ValueError(f"a row has unknown columns {sorted(unknown)} and lacks {sorted(missing)}: {record}")
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    return typed(frame)


def groups(frame: pd.DataFrame) -> list[str]:
    """The group "profile/dataset/seed" of every row."""
    return [
        f"{profile}/{dataset}/{seed}" for profile, dataset, seed in zip(*(frame[name] for name in GROUP), strict=True)
    ]


def _as_written(x: Any) -> float | str:
    """An x as it is read again: to six decimals, and empty where there is none."""
    return "" if x == "" or x != x else round(float(x), 6)


def _group_of(row: Mapping[str, Any]) -> str:
    return "/".join(str(row[name]) for name in GROUP)


def _class_cell(row: Mapping[str, Any]) -> str:
    """The name of the class scores of a row: those of all queries serve its subsets too."""
    return class_scores.cell_name({**row, "subset": "all"}, CLASS_CELL)


def _seed_of(group: str) -> int:
    return int(group.rpartition("/")[2])


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Every column in its type; a text that is missing is empty."""
    frame = frame.copy()
    frame[_TEXTS] = frame[_TEXTS].astype(object).where(frame[_TEXTS].notna(), "").astype(str)
    frame["x"] = pd.to_numeric(frame["x"]).astype(float)
    frame["seed"] = frame["seed"].astype(int)
    frame["value"] = frame["value"].astype(float)
    return frame
