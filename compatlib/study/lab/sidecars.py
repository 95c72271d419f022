"""What rows were made from: the sidecar of a chapter's rows, case by case, and what this version would make them from.

A row ages by what its case stands on and by nothing else: `made` of a case is a digest of the settings of all that it
stands on, of the numbers of their behaviours and of the case's own, without seed and data.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from compatlib.study.lab.artifacts import Artifact
from compatlib.study.lab.cases import Case
from compatlib.study.lab.images import data_digests, known_classes
from compatlib.study.lab.make import behaviours_of, with_ancestors
from compatlib.study.lab.provenance import device, source_commit, versions
from compatlib.study.lab.row_files import read
from compatlib.study.lab.rows import CELL, Rows
from compatlib.study.lab.trainables import Trainable
from compatlib.study.lab.trainables.base import differing
from compatlib.study.settings import Settings, settings

if TYPE_CHECKING:
    from compatlib.study.lab.experiment import Chapter

SIZES = ("classes", "train_per_class", "test_per_class", "image_size", "validation")


def made_from(run: Settings, case: Case) -> str:
    """16 hexadecimal digits that change with anything that decides a case's rows, but for seed and data."""
    own = case.run(run)
    content = {
        "sizes": [getattr(own, name) for name in SIZES],
        "behaviours": case.behaviours(run),
        "models": [
            [what.kind, differing(what.settings(own)), behaviours_of(own, what)]
            for what in with_ancestors(case.trainables)
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def identity(case: Case) -> str:
    """What a case is called among those of its chapter: its columns, and what is asked."""
    asked = [each.function.__name__ for each in case.ask]
    return json.dumps([dict(case.columns), asked], sort_keys=True)


def description(
    run: Settings,
    seed: int,
    cases: Sequence[Case],
    records: Sequence[Sequence[Mapping[str, Any]]],
    artifacts: Mapping[str, tuple[Trainable, Artifact]],
    seconds: float,
) -> dict[str, Any]:
    """What a seed's rows were made from, and the circumstances.

    Args:
        run: the run's settings.
        seed: the seed.
        cases: all of its cases.
        records: the rows of each case.
        artifacts: what the cases stand on, by name.
        seconds: what measuring the seed took once its models were there.
    """
    commit, is_dirty = source_commit()
    abouts = {name: artifact.about for name, (_, artifact) in artifacts.items()}
    return {
        "settings": run.model_dump(mode="json", exclude={"seeds", "sweep_seeds"}),
        "data": data_digests(run),
        "known_classes": known_classes(run),
        "behaviours": {name: number for case in cases for name, number in case.behaviours(run).items()},
        "cases": [described(run, case, rows) for case, rows in zip(cases, records, strict=True)],
        "artifacts": {name: artifact.key for name, (_, artifact) in artifacts.items()},
        "training_seconds": {name: round(about["cost"]["seconds"], 1) for name, about in abouts.items()},
        "trained_on": sorted({f"{about['device']}, torch {about['torch']}" for about in abouts.values()}),
        "commit": commit,
        "dirty": is_dirty,
        "versions": versions(),
        "device": device(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
    }


def described(run: Settings, case: Case, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One case in the sidecar: what picks its rows, what it stands on, and what it was made from.

    cells: the columns that all of its rows have in common. metrics: of its rows.
    """
    cells = {name: rows[0].get(name, "") for name in CELL if len({row.get(name, "") for row in rows}) == 1}
    cells = {name: value for name, value in cells.items() if name not in ("profile", "dataset", "chapter", "metric")}
    return {
        "case": identity(case),
        "cells": cells,
        "metrics": sorted({row["metric"] for row in rows}),
        "behaviours": list(case.behaviours(run)),
        "made": made_from(run, case),
    }


def current(chapter: "Chapter", published: Rows, profile: str, dataset: str) -> dict[str, str]:
    """What this version would make the cases of published rows from: case → `made_from`; no data is read.

    Args:
        chapter: whose cases.
        published: the chapter's rows, whose seeds are asked for.
        profile: of the run.
        dataset: of the run.
    """
    seeds = sorted({int(group.rpartition("/")[2]) for group in published.run(profile, dataset).sidecar})
    if not seeds:
        return {}
    run = chapter.prepared(settings({"profile": profile, "dataset": dataset, "seeds": seeds}, chapter.knobs))
    # What a case is made from is the same for every seed.
    cases = {identity(case): case for seed in seeds for case in chapter.cases(run, seed)}
    return {name: made_from(run, case) for name, case in cases.items()}


def published(chapter: "Chapter", profile: str, dataset: str) -> Rows:
    """A chapter's published rows of one profile and data set, those of one version only: see `Rows.comparable`."""
    own = read(chapter.name).run(profile, dataset)
    return own.comparable(current(chapter, own, profile, dataset))
