"""A newcomer's path: a dummy method, added by the steps of CONTRIBUTING.md, is trained, measured and told apart."""

import pytest

from compatlib.methods import bct_baselines
from compatlib.study.chapters.bct.plan import Knobs, upgrade_cases
from compatlib.study.lab import behaviours, experiment, make
from compatlib.study.lab.behaviours import Behaviour
from compatlib.study.lab.trainables import Base, Upgrade, upgraded
from compatlib.study.lab.trainables.upgrades import METHODS, Method
from compatlib.study.settings import settings


def zero(new, old, labels):
    """Step 1, a loss that asks for nothing; the method is then independent training."""
    return (new - old.detach()).sum() * 0.0


def fit(*, old, **others):
    """Step 1, its fit: the old model is at hand, as `make.Made`."""
    return bct_baselines.fit(old_backbone=old.parts["backbone"], alignment=zero, **others)


def keys(run):
    return {what.name: make.key(run, what, 0) for what in (Base("new"), Upgrade("L2"), Upgrade("dummy"))}


@pytest.fixture
def dummy(monkeypatch, tmp_path):
    """Steps 2 and 3: a behaviour, and an entry among the methods."""
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path))
    own = Behaviour(1, ("compatlib.methods.bct_baselines",), on=("alignments",))
    monkeypatch.setitem(behaviours.BEHAVIOURS, "dummy", own)
    monkeypatch.setitem(METHODS, "dummy", Method(("dummy",), fit, {"alignment": "zero"}))


@pytest.mark.usefixtures("dummy")
def test_a_method_is_added_by_the_steps_of_contributing(monkeypatch):
    run = settings({"profile": "smoke"}, Knobs)

    def cases(run, seed):  # step 4
        for method in ("independent", "dummy"):
            yield from upgrade_cases(run, method, Base("old"), upgraded(method))

    measured = experiment.measure(experiment.Chapter("dummy", Knobs, cases), run)
    levels = {
        method: measured.rows.by_seed(
            method=method, query_model="new", gallery_model="new", subset="all", metric="cmc@1", variant=""
        )
        for method in ("independent", "dummy")
    }
    # A loss of zero leaves the new model what it is without: the same stream, the same batches.
    assert levels["dummy"].to_dict() == pytest.approx(levels["independent"].to_dict(), abs=0.03)
    about = measured.artifacts["new, dummy against old, seed 0"].about
    assert about["behaviours"]["dummy"] == 1
    assert {"loop", "alignments", "resnet"} < set(about["behaviours"])
    assert about["settings"]["alignment"] == "zero"
    # Its behaviour's next number makes it another model, and nothing else.
    before = keys(run)
    monkeypatch.setitem(behaviours.BEHAVIOURS, "dummy", Behaviour(2, (), on=("alignments",)))
    changed = {name for name, key in keys(run).items() if key != before[name]}
    assert changed == {"new, dummy against old"}
