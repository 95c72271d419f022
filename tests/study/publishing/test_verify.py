"""Published rows are measured again from the published models, and what differs is told."""

import math

import pytest

from compatlib.study.lab import artifacts, experiment, row_files, rows
from compatlib.study.lab.measures.cost import TIMINGS
from compatlib.study.publishing import verify
from compatlib.study.publishing.chapters import chapter_of
from compatlib.study.settings import settings


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """*The problem* at profile smoke, its rows and models published in a folder of its own."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        chapter = chapter_of("problem")
        outcome = experiment.measure(chapter, settings({"profile": "smoke", "seeds": "0"}, chapter.knobs))
        patch.setattr(artifacts, "PUBLISHED_MODELS", folder / "models")
        for artifact in outcome.to_publish.values():
            artifacts.publish(artifact)
        row_files.publish("problem", outcome.rows, folder)
    return folder


@pytest.fixture
def published(measured, monkeypatch):
    monkeypatch.setattr(row_files, "PUBLISHED", measured)
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", measured / "models")
    return measured


@pytest.mark.parametrize("everything", [False, True])
def test_what_was_published_is_measured_again_without_training(published, monkeypatch, everything):
    monkeypatch.setattr(artifacts, "_made", lambda *arguments: pytest.fail("a model was trained"))
    found = verify.verify("problem", "smoke", 0, everything=everything)
    assert found["agrees"].all()
    assert found["difference"].abs().max() <= verify.ROUNDING
    frame = row_files.read("problem").frame
    untimed = frame[~frame["metric"].isin(TIMINGS)]
    assert len(found) == len(untimed) if everything else 0 < len(found) < len(untimed)
    assert set(found["metric"]) == set(untimed["metric"])  # the sample has every kind of question


def test_a_value_that_is_not_what_the_models_give_is_told(published, monkeypatch, capsys):
    wrong = row_files.read("problem")
    place = wrong.frame[(wrong.frame["method"] == "chance") & (wrong.frame["metric"] == "map")].index[0]
    wrong.frame.loc[place, "value"] += 0.01
    monkeypatch.setattr(row_files, "read", lambda chapter: wrong)
    assert verify.main(["problem", "--profile", "smoke"]) == 1
    said = capsys.readouterr().out
    assert "1 outside of 0.003" in said
    assert "chance" in said.splitlines()[1]


def test_rows_of_an_earlier_version_are_left_out_and_it_says_so(published, monkeypatch, capsys):
    """Their models are others than those that are published now."""
    earlier = row_files.read("problem")
    about = earlier.sidecar["smoke/glyphs/0"]["cases"]
    for case in about[1:]:
        case["made"] = "of another making"
    monkeypatch.setattr(row_files, "read", lambda chapter: earlier)
    found = verify.verify("problem", "smoke", 0, everything=True)
    assert set(found["query_model"]) == {about[0]["cells"]["query_model"]}
    assert f"{len(about) - 1} of {len(about)} cases are of an earlier version" in capsys.readouterr().out


def test_a_model_trained_anew_is_tested_beside_the_published_one(published, monkeypatch, capsys):
    begun, made = [], artifacts._made

    def watched(*arguments):
        begun.append(arguments[1])
        return made(*arguments)

    monkeypatch.setattr(artifacts, "_made", watched)
    assert verify.main(["problem", "--profile", "smoke", "--train"]) == 0
    assert len(begun) == 1
    assert "cells measured again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "unknown chapter 'nothing'; choose one of problem"),
        (
            ["problem", "--profile", "smoke", "--seed", "7"],
            "no published row of 'problem' has profile 'smoke' and seed 7",
        ),
        (["problem", "--profile", "huge"], "unknown profile 'huge'"),
    ],
)
def test_what_cannot_be_verified_is_told(published, capsys, arguments, words):
    assert verify.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_without_published_models_it_says_so(published, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path)
    case_with_models = [case for case in chapter_of("problem").cases(_run(), 0) if case.trainables]
    assert not any(verify.is_measurable(_run(), case, 0) for case in case_with_models)
    with pytest.raises(ValueError, match="no case of 'problem' stands on published models alone"):
        verify.trained_again("problem", "smoke", 0)


def _run():
    chapter = chapter_of("problem")
    return settings({"profile": "smoke", "seeds": "0"}, chapter.knobs)


@pytest.mark.parametrize(
    ("published", "again", "agrees"),
    [
        (0.5, 0.5, True),
        (0.5, 0.5031, False),
        (2000.0, 2005.0, True),
        (2000.0, 2007.0, False),
        (math.nan, math.nan, True),
        (0.5, math.nan, False),
        (math.nan, 0.5, False),
    ],
)
def test_an_undefined_value_agrees_with_an_undefined_one_alone(published, again, agrees):
    frames = [rows.table([{"metric": "m", "seed": 0, "value": value}]) for value in (published, again)]
    assert verify.compared(*frames)["agrees"].tolist() == [agrees]


def test_a_cell_that_was_not_published_is_refused_even_where_it_is_undefined():
    frames = [rows.table([{"metric": metric, "seed": 0, "value": math.nan}]) for metric in ("a", "b")]
    with pytest.raises(ValueError, match="1 cells were not published"):
        verify.compared(*frames)
