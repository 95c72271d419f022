"""Measuring and publishing a chapter seed by seed."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from compatlib.study.lab import artifacts, experiment, row_files, rows
from compatlib.study.publishing import measure
from compatlib.study.publishing.chapters import CHAPTERS


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Folders of its own, and a bench that is interrupted at seed 2."""
    monkeypatch.setattr(row_files, "PUBLISHED", tmp_path)
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "models")
    monkeypatch.setattr(experiment, "measure", interrupted_at_seed_2)
    return tmp_path


def interrupted_at_seed_2(chapter, run):
    (seed,) = run.seeds
    if seed == 2:
        raise KeyboardInterrupt
    record = {"profile": run.profile, "dataset": run.dataset, "metric": "cmc@1", "seed": seed, "value": seed / 10}
    case = {"case": "a", "cells": {}, "metrics": ["cmc@1"], "behaviours": [], "made": "m"}
    about = {f"{run.profile}/{run.dataset}/{seed}": {"cases": [case], "behaviours": {}}}
    model = artifacts.Artifact(
        f"{seed}" * 64, {"weight": torch.ones(2)}, {"name": f"old-{seed}", "key": f"{seed}" * 64}
    )
    return SimpleNamespace(
        rows=rows.Rows(rows.table([record | {"chapter": chapter.name}]), about), to_publish={"old": model}
    )


def test_an_interrupted_run_keeps_the_seeds_that_it_has(published):
    with pytest.raises(KeyboardInterrupt):
        measure.measure("problem", "smoke", seeds="0,1,2")
    kept = row_files.read("problem", published)
    assert list(kept.frame["seed"]) == [0, 1]
    assert len(list((published / "models").glob("*.safetensors"))) == 2


def test_a_seed_that_is_measured_again_replaces_its_rows(published):
    measure.measure("problem", "smoke", seeds="0,1")
    measure.measure("problem", "smoke", seeds="1")
    assert list(row_files.read("problem", published).frame["seed"]) == [0, 1]


@pytest.mark.parametrize(("seeds", "swept"), [("", [True, False]), ("7", [False]), ("0,99", [True, True])])
def test_a_seed_asked_for_by_number_has_the_cells_that_the_profile_gives_it(published, monkeypatch, seeds, swept):
    """Of a profile whose last seeds are the headline's alone; one that it does not have is swept."""
    found = []

    def measured(chapter, run):
        found.append(run.seeds[0] in run.sweep_seeds)
        return interrupted_at_seed_2(chapter, run)

    monkeypatch.setattr(experiment, "measure", measured)
    monkeypatch.setattr(measure, "settings", partial(_of_two_seeds, measure.settings))
    measure.measure("bct", "smoke", seeds=seeds)
    assert found == swept


def _of_two_seeds(settings, namespace, knobs):
    run = settings(namespace, knobs)
    return run if namespace["seeds"] else run.model_copy(update={"seeds": (0, 7), "sweep_seeds": (0,)})


def test_a_tuning_is_a_chapter_too(published):
    measure.measure("sfsc_tuning", "smoke", seeds="1")
    assert set(row_files.read("sfsc_tuning", published).frame["chapter"]) == {"sfsc_tuning"}


def test_the_command_line_names_what_is_wrong(published, capsys):
    assert measure.main(["nothing"]) == 2
    assert f"unknown chapter 'nothing'; choose one of {', '.join(CHAPTERS)}" in capsys.readouterr().err
    assert measure.main(["problem", "--profile", "huge"]) == 2
    assert "unknown profile 'huge'; choose one of" in capsys.readouterr().err
    assert measure.main(["problem", "--profile", "smoke", "--seeds", "0"]) == 0
    assert "seed 0: 1 rows" in capsys.readouterr().out
