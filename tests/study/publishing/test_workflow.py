"""What the workflow asks of Snakemake, and what it refuses before; whole builds are in tests/test_workflow.py."""

import os

import pytest
import yaml

from compatlib.study.publishing import workflow
from compatlib.study.publishing.runs import Run
from compatlib.study.publishing.workflow import _profile_folder, _snakemake_command, main


@pytest.mark.parametrize("name", ["007", "0", "1e3", "on", "null", "True", "nan", "0x1F", "1_000", "0o7", "mine"])
def test_names_reach_snakemake_as_they_are_spelled(repository, name):
    from snakemake.cli import parse_config

    run = Run("smoke", name, "0,1", repository)
    command = _snakemake_command(run, run.html, 2, "")
    config = parse_config(command[command.index("--config") + 1 :])
    assert Run.from_config(config, repository) == run


def test_nothing_given_is_nothing_told(repository):
    run = Run("smoke", root=repository)
    command = _snakemake_command(run, run.html, 2, "")
    assert command[command.index("--config") + 1 :] == ["profile=!!str smoke"]


def test_profiles_are_named_without_the_repositorys_path(repository):
    """Snakemake would take a bracket in it for a pattern, find no profile, and say nothing."""
    moved = repository.rename(repository.with_name("a [b]"))
    run = Run("smoke", root=moved)
    command = _snakemake_command(run, run.html, 2, str(moved / "executors" / "slurm"))
    assert command[command.index("--workflow-profile") + 1] == "executors/common"
    assert command[command.index("--profile") + 1] == "executors/slurm"


@pytest.mark.parametrize(
    ("folder", "root", "words"),
    [
        ("absent", "repository", "there is no executor profile '.*absent'; name its folder, such as executors/slurm"),
        ("my [queue]", "repository", r"the executor profile, \.\./my \[queue\], holds one of \*\?\[; put the folder"),
        ("queue", 'a"b', "the path .* holds one of .*, which no job of a queue bears; move the checkout"),
        ("queue", "$HOME", "which no job of a queue bears; move the checkout"),
    ],
)
def test_executor_profile_that_cannot_be_used_is_refused(repository, tmp_path, folder, root, words):
    for name in ("queue", "my [queue]"):
        (tmp_path / name).mkdir()
    run = Run("smoke", root=repository.rename(tmp_path / root))
    with pytest.raises(ValueError, match=words):
        _profile_folder(str(tmp_path / folder), run)


def test_files_times_rerun_nothing(repository):
    """A clock may be set back: digests alone say what is fresh."""
    settings = yaml.safe_load((repository / "executors" / "common" / "config.yaml").read_text())
    assert settings["rerun-triggers"] == ["params"]


def test_notebook_that_the_contents_lack_is_told_before_any_page_is_executed(repository, monkeypatch, capsys):
    monkeypatch.setattr(workflow, "check_contents", lambda root, check=workflow.check_contents: check(repository))
    monkeypatch.setattr(workflow, "build", None)
    contents = repository / "book" / "_toc.yml"
    contents.write_text(contents.read_text().replace("  - file: chapters/second\n", ""))
    assert main(["book", "--profile", "smoke"]) == 2
    assert "book/_toc.yml lacks chapters/second" in capsys.readouterr().err


def test_checkout_that_cannot_be_written_to_is_told(repository, monkeypatch, capsys):
    (repository / "build").touch()
    monkeypatch.setattr(workflow.Run, "from_config", lambda config: Run("smoke", root=repository))
    monkeypatch.setattr(workflow, "page_names", lambda: ("first",))
    assert main(["page", "first"]) == 2
    assert str(repository / "build") in capsys.readouterr().err
    assert os.path.getsize(repository / "build") == 0
