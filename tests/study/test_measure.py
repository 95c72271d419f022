"""Measuring and publishing a chapter seed by seed."""

from types import SimpleNamespace

import pytest
import torch

from compatlib.study import artifacts, measure, rows
from compatlib.study.settings import Knobs


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A chapter that fails at seed 2, and folders of its own."""
    monkeypatch.setattr(rows, "PUBLISHED", tmp_path)
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "models")
    monkeypatch.setattr(measure.importlib, "import_module", lambda name: SimpleNamespace(measure=chapter, Knobs=Knobs))
    return tmp_path


def chapter(run):
    (seed,) = run.seeds
    if seed == 2:
        raise KeyboardInterrupt
    record = {"profile": run.profile, "dataset": run.dataset, "metric": "cmc@1", "seed": seed, "value": seed / 10}
    group = {f"{run.profile}/{run.dataset}/{seed}": {"made_from": {}}}
    model = artifacts.Artifact(
        f"{seed:064d}", {"weight": torch.ones(2)}, {"name": f"old-{seed}", "key": f"{seed:064d}"}
    )
    return SimpleNamespace(rows=rows.Rows(rows.table([record]), group), to_publish={"old": model})


def test_an_interrupted_run_keeps_the_seeds_that_it_has(published):
    with pytest.raises(KeyboardInterrupt):
        measure.measure("problem", "smoke", seeds="0,1,2")
    kept = rows.read("problem", published)
    assert list(kept.frame["seed"]) == [0, 1]
    assert len(list((published / "models").glob("*.safetensors"))) == 2


def test_a_seed_that_is_measured_again_replaces_its_rows(published):
    measure.measure("problem", "smoke", seeds="0,1")
    measure.measure("problem", "smoke", seeds="1")
    assert list(rows.read("problem", published).frame["seed"]) == [0, 1]


def test_the_command_line_names_what_is_wrong(published, capsys):
    assert measure.main(["nothing"]) == 2
    chapters = "bct, bct_tuning, fct, fct_trials, fct_tuning, problem"
    assert f"unknown chapter 'nothing'; choose one of {chapters}" in capsys.readouterr().err
    assert measure.main(["problem", "--profile", "huge"]) == 2
    assert "unknown profile 'huge'; choose one of" in capsys.readouterr().err
    assert measure.main(["problem", "--profile", "smoke", "--seeds", "0"]) == 0
    assert "seed 0: 1 rows" in capsys.readouterr().out
