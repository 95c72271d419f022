"""Runs so small that a training takes a tenth of a second, and folders of their own for what is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compatlib.study.lab import artifacts
from compatlib.study.settings import Knobs, Settings, settings


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Empty folders for what is kept and what is published."""
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "kept"))
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "published")
    return tmp_path / "kept", tmp_path / "published"


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Settings]:
    """Makes runs on ten classes of eight digits, two epochs each: `tiny(knobs, hidden_dim=9)`."""

    def make(knobs: type[Knobs] = Knobs, **given) -> Settings:
        run = settings({"profile": "smoke", "dataset": "digits", **given}, knobs)
        short = {"epochs": 2, "batch_size": 16}
        own = {name: getattr(run.knobs, name, None) for name in ("side", "transformation")}
        recipes = {name: recipe.model_copy(update=short) for name, recipe in own.items() if recipe is not None}
        changes = {"classes": 10, "train_per_class": 8, "test_per_class": 4}
        changes |= {"training": run.training.model_copy(update=short)}
        return run.model_copy(update=changes | {"knobs": run.knobs.model_copy(update=recipes)})

    return make
