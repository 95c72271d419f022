"""Training models of a chapter without measuring them."""

import pytest

from compatlib.study.lab import artifacts
from compatlib.study.publishing import train


@pytest.fixture
def under_way(monkeypatch):
    """What is handed over to be trained: names and processes; the last is told as a run would be."""
    handed = []

    def train_all(tasks, progress, *, processes):
        handed.append(([task.name for task in tasks], processes))
        for task in tasks:
            progress.done(task.name)

    monkeypatch.setattr(train, "train_all", train_all)
    return handed


def test_the_named_models_are_trained_with_what_they_are_made_from(under_way, capsys):
    given = ["bct", "--profile", "smoke", "--seeds", "3", "--processes", "4", "--models"]
    assert train.main([*given, "new, BCT A against old; twin"]) == 2
    assert "unknown model ['twin']; choose from new; old; new, L2 against old;" in capsys.readouterr().err
    assert train.main([*given, "new, BCT A against old; new"]) == 0
    assert under_way == [(["new, seed 3", "old, seed 3", "new, BCT A against old, seed 3"], 4)]
    told = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" | ")[0].split(" | ")[-1] for line in told[:-1]] == ["done"] * 3
    assert told[-1] == f"the models are in {artifacts.folder()}"


def test_by_default_all_models_of_a_chapter_are_trained(under_way):
    train.train("problem", "smoke", seeds="0,1")
    ((names, processes),) = under_way
    assert {"old_samples, seed 0", "small, seed 1", "twin, seed 1"} <= set(names)
    assert len(names) == 12
    assert processes is None


def test_each_is_kept_and_a_tuning_has_seeds_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path))
    train.train("sfsc_tuning", "smoke", "digits", "0", "joint, rate_joint 0.8", 1)
    (path,) = tmp_path.glob("*.safetensors")
    assert path.name.startswith("digits-joint-100-")


def test_the_command_line_names_what_is_wrong(under_way, monkeypatch, capsys):
    assert train.main(["nothing"]) == 2
    assert "unknown chapter 'nothing'; choose one of problem, bct" in capsys.readouterr().err
    assert train.main(["sfsc", "--profile", "smoke", "--processes", "0"]) == 2
    assert "processes is 0; valid are whole numbers from 1" in capsys.readouterr().err
    assert under_way == []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_all", interrupted)
    assert train.main(["sfsc", "--profile", "smoke"]) == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err
