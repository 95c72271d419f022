"""All chapters: their names, and that the published rows are those that the plans yield for the published profile."""

import itertools

import numpy as np
import pytest

from compatlib.study.lab import row_files, rows, sidecars
from compatlib.study.lab.measures import (
    agreement,
    agreement_alone,
    answers,
    cost_saved,
    curve,
    gradients_by_epoch,
    gradients_by_tensor,
    history,
    index,
    old_classifier,
)
from compatlib.study.publishing.chapters import CHAPTERS, chapter_of
from compatlib.study.settings import settings

# Columns that a measure writes itself, besides subset and metric.
WRITTEN = {
    curve: ("x_name", "x"),
    answers: ("x_name", "x"),
    gradients_by_epoch: ("x_name", "x", "query_model", "gallery_model"),
    gradients_by_tensor: ("x_name", "x", "variant"),
    index: ("variant", "distance"),
    old_classifier: ("query_model", "gallery_model"),
    history: ("x_name", "x", "variant"),
    agreement: ("query_model", "gallery_model"),
    agreement_alone: ("query_model", "gallery_model"),
    cost_saved: ("x_name", "x"),
}
FREE = ("profile", "dataset", "chapter", "subset", "metric")
# SFSC's conditions are measured on heads alone; the others have not been measured yet.
WAITING = ("conditions", "dual_tuning", "dual_tuning_weights", "cmp_nas", "cmp_nas_tuning")
ALL = pytest.mark.parametrize("name", [name for name in CHAPTERS if name not in WAITING])


def published_plan(name: str):
    """The published rows of a chapter on CIFAR-100, and the cases of every seed."""
    chapter, published = CHAPTERS[name], row_files.read(name).run("study", "cifar100")
    seeds = sorted({int(group.rpartition("/")[2]) for group in published.sidecar})
    run = settings({"profile": "study", "dataset": "cifar100", "seeds": seeds}, chapter.knobs)
    prepared = chapter.prepared(run)
    return published, {seed: list(chapter.cases(prepared, seed)) for seed in seeds}


def test_chapters_are_known_by_their_names():
    assert set(CHAPTERS) == {
        "problem",
        *("bct", "bct_tuning"),
        *("fct", "fct_tuning", "fct_trials"),
        *("dual_tuning", "dual_tuning_weights"),
        *("sfsc", "sfsc_tuning", "sfsc_trials"),
        *("cmp_nas", "cmp_nas_tuning"),
        *("recipe", "conditions"),
    }
    for name, chapter in CHAPTERS.items():
        assert chapter_of(name) is chapter
        assert chapter.name == name
        assert chapter.is_published == (name in ("problem", "bct", "fct", "dual_tuning", "sfsc", "cmp_nas"))
    with pytest.raises(ValueError, match="unknown chapter 'nothing'; choose one of problem, bct"):
        chapter_of("nothing")


@ALL
def test_every_published_row_is_described(name):
    published = row_files.read(name)
    assert len(published.frame) > 100
    assert published.undescribed().empty
    assert set(rows.groups(published.frame)) == set(published.sidecar)


@ALL
def test_every_published_row_is_of_a_case_of_the_plan_and_every_case_has_rows(name):
    published, plan = published_plan(name)
    for seed, cases in plan.items():
        frame = published.frame[published.frame["seed"] == seed]
        columns = {column: frame[column].to_numpy() for column in rows.CELL}
        columns["x"] = np.where(np.isnan(columns["x"]), "", columns["x"].astype(object))
        found = np.zeros(len(frame), bool)
        for case in cases:
            free = {*FREE, *itertools.chain(*(WRITTEN.get(ask, ()) for ask in case.ask))}
            fits = np.ones(len(frame), bool)
            for column in set(rows.CELL) - free:
                fits &= columns[column] == case.columns.get(column, "")
            assert fits.any(), f"seed {seed} has no row of {case.columns}"
            found |= fits
        assert found.all(), f"of no case of seed {seed}: {frame[~found].iloc[0].to_dict()}"


@ALL
def test_the_published_descriptions_have_exactly_the_cases_of_the_plan(name):
    """Seed by seed; no data set is read for it."""
    published, plan = published_plan(name)
    for seed, cases in plan.items():
        described = [case["case"] for case in published.sidecar[f"study/cifar100/{seed}"]["cases"]]
        assert sorted(described) == sorted(map(sidecars.identity, cases))
        assert len(set(described)) == len(described)
    current = sidecars.current(CHAPTERS[name], published, "study", "cifar100")
    assert current.keys() == {sidecars.identity(case) for cases in plan.values() for case in cases}


@ALL
def test_a_description_has_the_columns_of_its_case_and_numbers_for_its_behaviours(name):
    published, plan = published_plan(name)
    for seed, cases in plan.items():
        about = published.sidecar[f"study/cifar100/{seed}"]
        by_name = {case["case"]: case for case in about["cases"]}
        for case in cases:
            own = by_name[sidecars.identity(case)]
            shared = own["cells"].keys() & case.columns.keys()
            assert {"split", "method"} <= shared
            assert {column: own["cells"][column] for column in shared} == {
                column: case.columns[column] for column in shared
            }
            assert set(own["behaviours"]) <= set(about["behaviours"])
