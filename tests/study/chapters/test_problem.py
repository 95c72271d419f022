"""The chapter *the problem* on tiny settings: its rows against evaluations made by hand."""

import numpy as np
import pytest

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models, sidecars
from compatlib.study.chapters import problem
from compatlib.study.settings import settings


@pytest.fixture(scope="module")
def run():
    chosen = settings({"profile": "smoke", "seeds": [0]}, problem.Knobs)
    small = {"classes": 6, "train_per_class": 8, "test_per_class": 4}
    return chosen.model_copy(update=small | {"training": chosen.training.model_copy(update={"epochs": 1})})


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield problem.measure(run)


@pytest.mark.parametrize(("query", "gallery"), [("new", "old"), ("new", "new"), ("small", "new"), ("old", "twin")])
def test_rows_are_the_scores_of_an_evaluation_made_by_hand(run, measured, query, gallery):
    labels = models.test_images(run).labels.numpy()
    embeddings = {
        role: embed(models.base_model(run, role, 0)[0].backbone, models.test_images(run)) for role in (query, gallery)
    }
    known = labels < 3
    for subset, mask in {"all": labels >= 0, "known": known, "unknown": ~known}.items():
        result = evaluate(embeddings[query], embeddings[gallery], labels, labels, exclude_self=True)
        wanted = {"query_model": query, "gallery_model": gallery, "subset": subset, "method": "independent"}
        rank1 = measured.rows.by_seed(**wanted, metric="cmc@1")[0]
        mean = measured.rows.by_seed(**wanted, metric="map")[0]
        assert rank1 == pytest.approx(np.mean(result.first_rank[mask] == 1))
        assert mean == pytest.approx(np.mean(result.average_precision[mask]))


def test_every_model_is_tested_against_every_model_on_every_subset(measured):
    scores = measured.rows.of(metric="cmc@1", method="independent")
    assert len(scores) == len(problem.ROLES) ** 2 * 3
    assert not measured.rows.frame.duplicated([name for name in measured.rows.frame.columns if name != "value"]).any()


def test_the_chance_level_of_a_balanced_set_is_the_same_for_every_subset(measured):
    for subset in ("all", "known", "unknown"):
        level = measured.rows.by_seed(method="chance", subset=subset, metric="cmc@1")[0]
        assert level == pytest.approx(3 / 23)


def test_negative_flips_are_those_of_first_ranks(run, measured):
    labels = models.test_images(run).labels
    old, new = (embed(models.base_model(run, role, 0)[0].backbone, models.test_images(run)) for role in ("old", "new"))
    before = evaluate(old, old, labels, labels, exclude_self=True).first_rank
    after = evaluate(new, old, labels, labels, exclude_self=True).first_rank
    known = models.ROLES["old"].share(run).labels.unique()
    is_known = [label in known for label in labels]
    for subset, chosen in {
        "all": [True] * len(labels),
        "known": is_known,
        "unknown": [not k for k in is_known],
    }.items():
        cell = {"query_model": "new", "gallery_model": "old", "subset": subset, "metric": "negative_flips"}
        ranks = [pair for pair, is_chosen in zip(zip(before, after, strict=True), chosen, strict=True) if is_chosen]
        assert 0 < len(ranks) <= len(labels)
        assert measured.rows.by_seed(**cell)[0] == pytest.approx(np.mean([b == 1 and a != 1 for b, a in ranks]))


def test_the_sidecar_tells_what_the_rows_were_made_from(run, measured):
    (about,) = measured.rows.sidecar.values()
    assert set(about["artifacts"]) == set(problem.ROLES)
    assert about["made_from"]["settings"]["classes"] == 6
    assert about["made_from"]["data"] == measured.data
    assert set(about["training_seconds"]) == set(problem.ROLES)


def test_a_second_call_trains_nothing_and_gives_the_same_scores(run, measured, monkeypatch):
    monkeypatch.setattr("compatlib.methods.independent.fit", None)
    first, again = (frame[frame["metric"] != "images_per_second"] for frame in (measured.rows.frame, _frame(run)))
    assert again.equals(first)


def _frame(run):
    return problem.measure(run).rows.frame


def test_current_versions_agree_with_what_a_run_writes(run, measured):
    smoke = settings({"profile": "smoke"}, problem.Knobs)
    (version,) = sidecars.current_versions(measured.rows, problem).values()
    assert version == problem.version(smoke)
    assert version["code"] == measured.rows.sidecar["smoke/glyphs/0"]["made_from"]["code"]


def test_impossible_knobs_are_refused():
    with pytest.raises(ValueError, match="'distance' = 'manhattan'"):
        settings({"distance": "manhattan"}, problem.Knobs)
