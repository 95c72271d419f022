"""Tuning: every method with every weight, on held-out training images alone, by seeds of its own."""

import itertools

import numpy as np
import pytest

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models, rows, sidecars
from compatlib.study.chapters import bct, bct_tuning, fct
from compatlib.study.digests import module_digest
from compatlib.study.settings import settings
from compatlib.study.upgrade_rows import FORMS
from compatlib.study.upgrades import METHODS, Upgrade, model_of, name_of
from compatlib.study.weights import WEIGHTS

CLASSES, PER_CLASS = 4, 20
CANDIDATES = [(method, weight) for method, weights in bct_tuning.WEIGHTS.items() for weight in weights]
SOME = CANDIDATES[::7]
SUBSETS, SCORES = ("all", "known", "unknown"), ("cmc@1", "cmc@5", "map")


@pytest.fixture(scope="module")
def run():
    """Four classes of twenty digits, of which two are held out; four epochs, of which one is left."""
    chosen = settings({"profile": "smoke", "dataset": "digits", "seeds": [2]}, bct_tuning.Knobs)
    training = chosen.training.model_copy(update={"epochs": 4, "batch_size": 16})
    sizes = {"classes": CLASSES, "train_per_class": PER_CLASS, "test_per_class": 3}
    return chosen.model_copy(update=sizes | {"training": training})


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        with without_test_images(run):
            outcome = bct_tuning.measure(run)
        yield outcome


def test_every_method_is_tested_with_every_weight_and_the_untuned_are_there_to_compare(measured):
    common = {"split": "class-incremental", "variant": "validation", "subset": "all", "metric": "cmc@1"}
    cells = [{"method": method, "x_name": "weight", "x": weight, "query_model": "new"} for method, weight in CANDIDATES]
    cells = [cell | {"gallery_model": gallery} for gallery in ("old", "new") for cell in cells]
    for query, gallery in (("new", "old"), ("new", "new"), ("old", "old")):
        cells.append({"method": "independent", "x_name": "", "query_model": query, "gallery_model": gallery})
    for cell in cells:
        value = measured.rows.by_seed(**common, **cell)
        assert list(value.index) == [102]
    scores = measured.rows.frame.groupby(["method", "x", "query_model", "gallery_model"], dropna=False)
    assert len(scores) == len(cells)
    for _, group in scores:
        pairs = sorted(zip(group["subset"], group["metric"], strict=True))
        assert pairs == sorted(itertools.product(SUBSETS, SCORES))
    assert measured.rows.frame["value"].between(0, 1).all()


def test_methods_are_tuned_alike():
    for method, weights in bct_tuning.WEIGHTS.items():
        assert len(weights) >= 3
        assert list(weights) == sorted(set(weights))
        assert min(weights) > 0
        assert Upgrade(method).old == "old"  # a method that upgrades know
    assert set(METHODS) - {"independent"} <= set(bct_tuning.WEIGHTS)


def test_training_and_test_are_parts_of_the_training_images(run, measured):
    tuned = bct_tuning.validation(run)
    kept, held_out = models.training_images(tuned), models.test_images(tuned)
    assert (len(kept), len(held_out)) == (CLASSES * 18, CLASSES * 2)
    whole = sorted(image.numpy().tobytes() for image in models.training_images(run).images)
    assert sorted(image.numpy().tobytes() for part in (kept, held_out) for image in part.images) == whole
    (about,) = measured.rows.sidecar.values()
    assert about["made_from"]["data"] == {"training": kept.digest(), "test": held_out.digest()}
    assert models.test_images(run).digest() not in about["made_from"]["data"].values()


def test_seeds_are_apart_from_the_studys_and_epochs_a_third(run, measured):
    for profile in ("smoke", "laptop", "study", "large"):
        own = settings({"profile": profile}, bct_tuning.Knobs)
        tuned = bct_tuning.validation(own)
        assert len(tuned.seeds) == len(own.seeds)
        assert not set(tuned.seeds) & {*own.seeds, *own.sweep_seeds}
        assert tuned.training.epochs == own.training.epochs // 3
        tuned.training.recipe()  # its values still go together
        same = {"seeds": own.seeds, "training": own.training, "validation": False}
        assert tuned.model_copy(update=same) == own
    assert list(measured.rows.sidecar) == ["smoke/digits/102"]
    assert set(measured.rows.frame["seed"]) == {102}
    tuned = bct_tuning.validation(run)
    (about,) = measured.rows.sidecar.values()
    for source in ("old", "new", *(Upgrade(method, weight=weight) for method, weight in SOME)):
        model, trained_now = model_of(tuned, source, 102)
        assert not trained_now
        assert about["artifacts"][name_of(source)] == model.key
        assert model.artifact.about["settings"]["seed"] == 102
        assert model.artifact.about["settings"]["training"]["epochs"] == 1
        assert model_of(run, source, 2)[0].key != model.key
    assert len(about["artifacts"]) == 2 + len(CANDIDATES)


@pytest.mark.parametrize(("method", "weight"), SOME)
def test_rows_are_the_scores_of_an_evaluation_made_by_hand(run, measured, method, weight):
    tuned = bct_tuning.validation(run)
    held_out = models.test_images(tuned)
    labels = held_out.labels.numpy()
    vectors = [embed(model_of(tuned, s, 102)[0].backbone, held_out) for s in (Upgrade(method, weight=weight), "old")]
    test = evaluate(*vectors, labels, labels, exclude_self=True)
    for subset, mask in {"all": labels >= 0, "known": labels < 2, "unknown": labels >= 2}.items():
        cell = {"method": method, "x": weight, "query_model": "new", "gallery_model": "old", "subset": subset}
        assert measured.rows.by_seed(**cell, metric="cmc@1")[102] == np.mean(test.first_rank[mask] == 1)
        precision = np.mean(test.average_precision[mask])
        assert measured.rows.by_seed(**cell, metric="map")[102] == pytest.approx(precision)


def test_the_best_weight_of_a_method_is_the_best_at_new_against_old(measured):
    judged = bct_tuning.judged(measured.rows)
    assert sorted(judged.index) == sorted(CANDIDATES)
    for method, weight in CANDIDATES:
        cell = {"method": method, "x": weight, "query_model": "new", "gallery_model": "old"}
        assert judged[method, weight] == measured.rows.by_seed(**cell, subset="all", metric="cmc@1")[102]


def test_the_studys_weights_are_the_best_that_were_tried():
    """BCT's is openBCT's, whatever the tuning says; of form A it is the best too, as the page says."""
    judged = bct_tuning.judged(sidecars.published(bct_tuning, "study", "cifar100"))
    best = {method: judged[method].idxmax() for method in bct_tuning.WEIGHTS if method not in FORMS}
    assert best == {method: WEIGHTS[method] for method in best}
    assert {WEIGHTS[form] for form in FORMS} == {1.0}
    assert judged["BCT A"].idxmax() == 1.0
    for method, weights in bct_tuning.WEIGHTS.items():
        assert judged[method].idxmax() in weights[1:-1]  # a best at the grid's end would ask for more


def test_a_weight_that_is_chosen_marks_the_rows_of_chapters_and_not_the_tunings(run):
    weights = module_digest("compatlib.study.weights")
    assert weights in bct.version(run)["code"]
    assert weights in fct.version(run)["code"]
    assert weights not in bct_tuning.version(run)["code"]


def test_none_of_its_models_is_published(measured):
    assert measured.to_publish == {}


def test_the_current_version_is_the_one_that_a_run_writes(run, measured):
    (about,) = measured.rows.sidecar.values()
    assert about["made_from"] == bct_tuning.version(run) | {"data": about["made_from"]["data"]}
    assert about["made_from"]["settings"]["validation"] is True
    assert bct_tuning.version(run) != bct.version(run)
    (current,) = sidecars.current_versions(measured.rows, bct_tuning).values()
    assert current["code"] == about["made_from"]["code"]
    assert current["settings"]["validation"] is True


def test_its_rows_are_never_pooled_with_the_chapters(measured):
    frame = measured.rows.frame
    assert set(frame["chapter"]) == {"bct_tuning"}
    assert set(frame["variant"]) == {"validation"}
    assert not frame.duplicated([name for name in rows.COLUMNS if name != "value"]).any()
