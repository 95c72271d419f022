"""What the tests of the study need alike: runs that take moments, and a folder for what they train."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.lab.trainables.widths import WidthKnobs
from compatlib.study.settings import Knobs, Settings, changed, settings

EPOCHS = {"knobs.side": 1, "knobs.transformation": 2, "training": 1}


class AllKnobs(TransformationKnobs, WidthKnobs):
    """All that a trainable may ask for."""


def _tiny_run(knobs: type[Knobs] = AllKnobs, **given) -> Settings:
    """Ten classes of eight digits, four more to test each, an epoch or two, three widths; seed 0."""
    run = settings({"profile": "smoke", "dataset": "digits", **given}, knobs)
    values = {"classes": 10, "train_per_class": 8, "test_per_class": 4, "sweep_seeds": (0,)}
    for recipe, epochs in EPOCHS.items():
        if recipe.removeprefix("knobs.") in (*knobs.model_fields, "training"):
            short = {"epochs": epochs, "batch_size": 16, "warmup_epochs": 1}
            values |= {f"{recipe}.{name}": value for name, value in short.items()}
    if "widths" in knobs.model_fields:
        values["knobs.widths"] = (0.25, 0.5, 1.0)
    return changed(run, values)


@pytest.fixture(scope="session")
def tiny_run() -> Callable[..., Settings]:
    """Makes settings: `tiny_run(Knobs, tables="B1")`."""
    return _tiny_run


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory) -> Path:
    """Where all tests of one process keep what they train."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def keeps_trained(trained_folder) -> Iterator[None]:
    """In a module that uses it, what was trained before is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(trained_folder))
        yield
