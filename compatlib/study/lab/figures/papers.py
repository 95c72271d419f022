"""The published study beside the papers' numbers, and what the published rows were made from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from compatlib.study.lab.figures.tables import METRICS, in_percent
from compatlib.study.lab.rows import Rows, paper_values


class Cell(NamedTuple):
    """One line of the comparison: words, what picks the papers' value, what picks our rows.

    Nothing in place of a value that no paper gives, or of rows that were not measured.
    """

    words: str
    paper: Mapping[str, str]
    ours: Mapping[str, str]


def beside(
    published: Rows,
    cells: Sequence[Cell],
    papers: Sequence[tuple[str, str]],
    *,
    metrics: Mapping[str, str] = METRICS,
    **where: str,
) -> pd.DataFrame:
    """Paper and published study, cell by cell, in percent; a cell that a paper's text does not give stays blank.

    Args:
        published: rows of one profile and data set.
        cells: the lines, each shown for every metric.
        papers: (paper, source) as in `data/paper_values.csv`; a column each.
        metrics: names in rows and in the papers' table, and in words.
        where: further columns of the papers' table, such as `dataset` and `setting`.
    """
    quoted, lines = paper_values(), []
    for cell in cells:
        for metric, title in metrics.items():
            line = {"test": cell.words, "metric": f"{title} (%)"}
            for paper, source in papers:
                wanted = {"paper": paper, "source": source, "metric": metric, "kind": "level", **where, **cell.paper}
                found = quoted[(quoted[list(wanted)] == pd.Series(wanted)).all(axis=1)]
                column = f"{paper} ({source.rpartition(' ')[2]})" if source[-1].isdigit() else paper
                line[column] = _only(found) if cell.paper else ""
            ours = _ours(published, metric=metric, **cell.ours) if cell.ours else pd.Series(dtype=float)
            lines.append(line | {"this study": in_percent(ours) if len(ours) else "", "n": len(ours)})
    return pd.DataFrame(lines)


def provenance_table(published: Rows, current: Mapping[str, str]) -> pd.DataFrame:
    """What every seed's published rows were made from, and how many of its cases are of this version.

    Args:
        published: a chapter's published rows of one profile and data set.
        current: what this version would make them from, by case (`sidecars.current`). The data's digests are told in
            the sidecar only: a reader need not have them.
    """
    lines = []
    for group, about in published.sidecar.items():
        run, _, seed = group.rpartition("/")
        earlier = sum(current.get(case["case"]) != case["made"] for case in about["cases"])
        lines.append(
            {
                "run": run,
                "seed": int(seed),
                "of an earlier version": f"{earlier} of {len(about['cases'])} cases" if earlier else "none",
                "commit": about["commit"] + (", with changes" if about["dirty"] else ""),
                "trained on": "; ".join(about["trained_on"]),
                "training (minutes)": f"{sum(about['training_seconds'].values()) / 60:.0f}",
            }
        )
    return pd.DataFrame(lines)


def _only(found: pd.DataFrame) -> str:
    if len(found) > 1:
        raise ValueError(f"several values of a paper fit one cell: {found.to_dict('records')}")
    return f"{float(found['value'].iloc[0]):.1f}" if len(found) else ""


def _ours(published: Rows, **wanted: str) -> pd.Series:
    if published.frame.empty:
        return pd.Series(dtype=float)
    return published.by_seed(**wanted)
