"""The published study beside the papers' numbers, and what the published rows were made from."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from compatlib.study.lab import sidecars
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.figures.columns import level
from compatlib.study.lab.row_files import paper_values, read
from compatlib.study.lab.rows import Rows

# Settings and sources of `data/paper_values.csv`.
CIFAR = {"dataset": "CIFAR-100", "setting": "50->100 classes"}
IMAGENET = {"dataset": "ImageNet-1k", "setting": "500->1000 classes"}
FCT_2023, FCT_2022 = ("FCT", "apple/ml-fct README 2023"), ("FCT", "apple/ml-fct README 2022")
BT2 = ("BT2", "YifeiZhou02/BT-2 README")
# Tests: words, the papers' method, ours, the query's model, the gallery's; no name where a side has no such test.
Test = tuple[str, str, str, str, str]
OLD: Test = ("old / old", "none", "independent", "old", "old")
APART: Test = ("new / old, independent", "independent", "independent", "new", "old")
PARAGON: Test = ("new / new, paragon", "paragon", "independent", "new", "new")
BT2_ITSELF: tuple[Test, ...] = tuple(
    (f"{query} / {gallery}, BT2 itself (not run here)", "BT2", "", query, gallery)
    for query, gallery in (("new", "old"), ("new", "new"))
)  # given for CIFAR-100 alone


class Cell(NamedTuple):
    """One line of the comparison: words, what picks the papers' value, what picks our rows.

    Nothing in place of a value that no paper gives, or of rows that were not measured.
    """

    words: str
    paper: Mapping[str, str]
    ours: Mapping[str, Any]


def cells_of(tests: Iterable[Test], **place: Any) -> list[Cell]:
    """Tests over all queries as lines of a comparison; `place` picks all of our rows."""
    return [
        Cell(
            words,
            {"method": paper, "query": query, "gallery": gallery} if paper else {},
            pair(query, gallery, method=ours, subset="all") | place if ours else {},
        )
        for words, paper, ours, query, gallery in tests
    ]


@dataclass(frozen=True)
class Comparison:
    """Lines and columns of a table beside the papers.

    cells: the lines, each shown for every metric.
    papers: (paper, source) as in `data/paper_values.csv`; a column each.
    where: further columns of the papers' table, such as `dataset` and `setting`.
    metrics: names in rows and in the papers' table, and in words.
    """

    cells: Sequence[Cell]
    papers: Sequence[tuple[str, str]]
    where: Mapping[str, str]
    metrics: Mapping[str, str] = field(default_factory=lambda: METRICS)


def beside(published: Rows, compared: Comparison) -> pd.DataFrame:
    """Papers and published study, cell by cell, in percent; a cell that a paper's text does not give stays blank.

    Args:
        published: rows of one profile and data set.
        compared: what is compared.
    """
    quoted, lines = paper_values(), []
    for cell, (metric, title) in itertools.product(compared.cells, compared.metrics.items()):
        line = {"test": cell.words, "metric": f"{title} (%)"}
        for paper, source in compared.papers:
            column = f"{paper} ({source.rpartition(' ')[2]})" if source[-1].isdigit() else paper
            wanted = {"metric": metric, **compared.where, **cell.paper}
            line[column] = quoted_value(quoted, paper, source, **wanted) if cell.paper else ""
        is_measured = cell.ours and len(published.frame)
        text, n = level(metric=metric).entry(published, cell.ours) if is_measured else ("", 0)
        lines.append(line | {"this study": text, "n": n})
    return pd.DataFrame(lines)


def quoted_value(quoted: pd.DataFrame, paper: str, source: str, **wanted: str) -> str:
    """The level that a paper gives, in percent, or "" where its text has none.

    Args:
        quoted: the papers' numbers, `row_files.paper_values()`.
        paper: as in its column of this name.
        source: as in its column of this name.
        wanted: further columns and their values.

    Raises:
        ValueError: several values fit.
    """
    columns = {"paper": paper, "source": source, "kind": "level", **wanted}
    return _only(quoted[(quoted[[*columns]] == pd.Series(columns)).all(axis=1)])


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


def made_from(chapter: Chapter, profile: str, dataset: str) -> pd.DataFrame:
    """What a chapter's published rows of one profile and data set were made from, held against this version."""
    published = read(chapter.name).run(profile, dataset)
    return provenance_table(published, sidecars.current(chapter, published, profile, dataset))


def _only(found: pd.DataFrame) -> str:
    if len(found) > 1:
        raise ValueError(f"several values of a paper fit one cell: {found.to_dict('records')}")
    return f"{float(found['value'].iloc[0]):.1f}" if len(found) else ""
