"""What rows were made from: settings, code and data decide; seeds and circumstances are told beside."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from compatlib.study.artifacts import Artifact
from compatlib.study.digests import code_digest, module_digest
from compatlib.study.provenance import versions
from compatlib.study.sidecars import current_versions, data_digests, description, version_of

from compatlib.study import models, rows, sidecars
from compatlib.study.chapters import bct, bct_tuning, problem
from compatlib.study.settings import settings

CHAPTERS = pytest.mark.parametrize("chapter", [problem, bct, bct_tuning], ids=lambda chapter: chapter.CHAPTER)
MEASURED_BY = ("compatlib.embedding", "compatlib.evaluation.compatibility")


@pytest.fixture
def run():
    smoke = settings({"profile": "smoke", "dataset": "digits"}, bct.Knobs)
    return smoke.model_copy(update={"classes": 4, "train_per_class": 20, "test_per_class": 3})


def version(run, chapter=problem.__name__, **options):
    return version_of(run, (chapter,), **({"measured_by": MEASURED_BY} | options))


# Versions.


def test_a_version_has_settings_the_code_that_measures_the_chapter_and_the_code_that_trains(run):
    assert version(run) == {
        "settings": run.model_dump(mode="json", exclude={"seeds", "sweep_seeds"}),
        "code": [code_digest(MEASURED_BY), module_digest(problem.__name__)],
        "training_code": code_digest(models.TRAINING_MODULES),
    }
    assert json.loads(json.dumps(version(run))) == version(run)  # as it will be read again


def test_seeds_leave_the_version(run):
    assert version(run.model_copy(update={"seeds": (4, 5), "sweep_seeds": (9,)})) == version(run)


def test_what_decides_the_rows_changes_the_version(run):
    others = [
        version(run.model_copy(update={"classes": 3})),
        version(run.model_copy(update={"validation": True})),
        version(run.model_copy(update={"training": run.training.model_copy(update={"epochs": 9})})),
        version(run.model_copy(update={"network": run.network.model_copy(update={"dim": 3})})),
        version(run.model_copy(update={"knobs": bct.Knobs(distance="euclidean")})),
        version(run, bct.__name__),
        version(run, measured_by=MEASURED_BY[:1]),
        version(run, trained_by=(*models.TRAINING_MODULES, "compatlib.methods.bct")),
    ]
    texts = [json.dumps(each, sort_keys=True) for each in (version(run), *others)]
    assert len(set(texts)) == len(texts)


def test_a_module_that_does_not_exist_is_refused(run):
    with pytest.raises(ValueError, match=r"'compatlib\.study\.chapters\.nothing' is no module"):
        version(run, "compatlib.study.chapters.nothing")
    with pytest.raises(ValueError, match=r"'compatlib\.nothing'"):
        version(run, trained_by=("compatlib.nothing",))


@CHAPTERS
def test_current_versions_are_the_chapters_own_one_for_each_profile_and_data_set(chapter):
    groups = ["study/cifar100/0", "study/cifar100/1", "smoke/glyphs/0", "smoke/digits/100"]
    current = current_versions(rows.Rows(rows.table([]), {group: {} for group in groups}), chapter)
    assert list(current) == ["study/cifar100", "smoke/glyphs", "smoke/digits"]
    for name, made_from in current.items():
        profile, dataset = name.split("/")
        assert made_from == chapter.version(settings({"profile": profile, "dataset": dataset}, chapter.Knobs))
        assert (made_from["settings"]["profile"], made_from["settings"]["dataset"]) == (profile, dataset)


def test_a_chapter_may_have_no_parameters_of_its_own():
    chapter = SimpleNamespace(version=lambda run: run.knobs.model_dump())
    assert current_versions(rows.Rows(rows.table([]), {"smoke/digits/0": {}}), chapter) == {"smoke/digits": {}}


def test_nothing_published_has_no_current_version():
    assert current_versions(rows.Rows(rows.table([]), {}), problem) == {}


def test_a_chapter_follows_the_code_of_the_methods_that_it_trains(run):
    for method in ("bct", "bct_baselines"):
        assert f"compatlib.methods.{method}" in bct.TRAINED_BY
    assert bct.version(run)["training_code"] == code_digest(bct.TRAINED_BY) != problem.version(run)["training_code"]


# Data and circumstances.


def test_data_digests_are_those_of_the_runs_images(run):
    digests = data_digests(run)
    assert digests == {"training": models.training_images(run).digest(), "test": models.test_images(run).digest()}
    fewer = data_digests(run.model_copy(update={"test_per_class": 2}))
    assert fewer["training"] == digests["training"]
    assert fewer["test"] != digests["test"]
    validation = data_digests(run.model_copy(update={"validation": True}))
    assert not set(validation.values()) & set(digests.values())


def artifact(name: str, seconds: float, device: str) -> Artifact:
    about = {"name": name, "cost": {"seconds": seconds}, "device": device, "torch": "2.0", "history": [1, 2]}
    return Artifact(name[0] * 64, {"weight": torch.ones(2)}, about)


def test_a_description_tells_what_rows_were_made_from_and_the_circumstances(run):
    artifacts = {
        "old": artifact("old", 1.26, "x86_64"),
        "new": artifact("new", 20.0, "arm"),
        "c": artifact("c", 3, "arm"),
    }
    about = description(run, {"settings": {"classes": 4}, "code": "c"}, artifacts, 12.345)
    assert about["made_from"] == {"settings": {"classes": 4}, "code": "c", "data": data_digests(run)}
    assert about["artifacts"] == {"old": "o" * 64, "new": "n" * 64, "c": "c" * 64}
    assert about["training_seconds"] == {"old": 1.3, "new": 20.0, "c": 3}
    assert about["trained_on"] == ["arm, torch 2.0", "x86_64, torch 2.0"]
    assert about["seconds"] == 12.3
    assert about["threads"] == torch.get_num_threads()
    assert about["versions"] == versions()
    assert re.fullmatch(r"[0-9a-f]{12}|unknown", about["commit"])
    assert isinstance(about["dirty"], bool)
    assert json.loads(json.dumps(about)) == about


def test_what_is_told_beside_leaves_what_rows_were_made_from(run, monkeypatch):
    """Seeds are pooled by `made_from`, so that the commit and the duration must not be part of it."""
    first = description(run, version(run), {}, 1.0)
    monkeypatch.setattr(sidecars, "source_commit", lambda: ("another", True))
    second = description(run, version(run), {"old": artifact("old", 1, "x86_64")}, 99.0)
    assert second["commit"] == "another"
    assert second["made_from"] == first["made_from"]


def test_the_version_that_was_given_is_not_changed(run):
    given = version(run)
    description(run, given, {}, 1.0)
    assert given == version(run)
