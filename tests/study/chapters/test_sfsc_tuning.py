"""Tuning: every loss with every rate and scale, on held-out training images alone, by seeds of its own."""

import pytest

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models, rows, sidecars, switchable_models, tuning
from compatlib.study.chapters import sfsc, sfsc_trials, sfsc_tuning
from compatlib.study.chapters.sfsc_tuning import Candidate
from compatlib.study.settings import settings
from compatlib.study.switchable_rows import FULL_GALLERY, MEAN, OWN_GALLERIES
from compatlib.study.switchables import BCT_S, SWITCHABLE, Trained

RATES, SCALES = (0.1, 0.2), (1.0, 4.0)
CANDIDATES = {(c.method, "" if c.scale is None else f"{c.scale:g}", c.rate) for c in sfsc_tuning.candidates()}


@pytest.fixture(scope="module")
def run():
    """Four classes of twenty digits, of which two are held out; three epochs, of which one is left."""
    chosen = settings({"profile": "smoke", "dataset": "digits", "seeds": [2]}, sfsc_tuning.Knobs)
    training = chosen.training.model_copy(update={"epochs": 3, "batch_size": 16})
    sizes = {"classes": 4, "train_per_class": 20, "test_per_class": 3, "training": training}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update={"widths": (0.5, 1.0)})})


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        patch.setattr(sfsc_tuning, "RATES", RATES)
        patch.setattr(sfsc_tuning, "LOGIT_SCALES", SCALES)
        with without_test_images(run):
            outcome = sfsc_tuning.measure(run)
        yield outcome


def test_every_loss_is_tried_with_every_rate_and_the_evidential_one_with_every_scale(measured):
    found = measured.rows.of(query_model=MEAN, gallery_model=FULL_GALLERY, metric="cmc@1")
    tried = sorted(zip(found["method"], found["variant"], found["x"], strict=True))
    plain = [(method, "", rate) for method in ("joint", "Asymmetric-S", "BCT-S") for rate in RATES]
    assert tried == sorted(plain + [("BCT-S + uncertainty", f"{s:g}", rate) for s in SCALES for rate in RATES])
    assert {SWITCHABLE[m][0] for m in sfsc_tuning.TUNED if m in SWITCHABLE} == {loss for loss, _ in SWITCHABLE.values()}
    assert set(measured.rows.frame["seed"]) == {102}
    assert measured.to_publish == {}


def test_a_row_is_the_score_of_an_evaluation_made_by_hand(run, measured):
    candidate = Candidate("BCT-S + uncertainty", 0.1, 4.0)
    tuned = candidate.run(tuning.validation(run, shortened=3))
    assert (tuned.knobs.rate_evidential, tuned.knobs.logit_scale, tuned.training.epochs) == (0.1, 4.0, 1)
    held_out = models.test_images(tuned)
    made, trained_now = switchable_models.made(tuned, Trained(candidate.method), 102)
    assert not trained_now
    labels = held_out.labels.numpy()
    pair = (embed(made.backbones[width], held_out).numpy() for width in (0.5, 1.0))
    test = evaluate(*pair, labels, labels, exclude_self=True)
    cell = {"method": candidate.method, "variant": "4", "x": 0.1, "query_model": "0.5", "gallery_model": "1"}
    assert measured.rows.by_seed(**cell, metric="map")[102] == pytest.approx(test.mean_average_precision)


def test_the_best_is_the_best_mean_of_both_tests(measured):
    judged = sfsc_tuning.judged(measured.rows)
    assert len(judged) == 3 * len(RATES) + len(RATES) * len(SCALES)
    for method, scale, rate in judged.index:
        cell = {"method": method, "variant": scale, "x": rate, "query_model": MEAN, "metric": "cmc@1"}
        both = [measured.rows.by_seed(**cell, gallery_model=g)[102] for g in (OWN_GALLERIES, FULL_GALLERY)]
        assert judged[method, scale, rate] == pytest.approx(sum(both) / 2)


@pytest.mark.parametrize("profile", ["smoke", "laptop", "study", "large"])
def test_what_was_chosen_has_no_part_in_the_tuning(profile):
    """Else choosing would make its rows an earlier version's."""
    run, chapter = (settings({"profile": profile}, knobs) for knobs in (sfsc_tuning.Knobs, sfsc.Knobs))
    assert run.knobs.widths == chapter.knobs.widths
    assert run.knobs == sfsc_tuning.Knobs(widths=run.knobs.widths)
    for candidate in sfsc_tuning.candidates():
        chosen = candidate.run(settings({"profile": profile}, sfsc.Knobs))
        scale = "" if candidate.scale is None else f"{candidate.scale:g}"
        assert sfsc_tuning.is_chosen(chosen, candidate.method, scale, candidate.rate)
        other = Candidate(candidate.method, 0.123, candidate.scale).run(chosen)
        assert not sfsc_tuning.is_chosen(other, candidate.method, scale, candidate.rate)


def test_the_current_version_is_the_one_that_a_run_writes(run, measured):
    (about,) = measured.rows.sidecar.values()
    assert rows.made_by(about["made_from"], sfsc_tuning.version(run))
    assert about["made_from"]["settings"]["validation"] is True


def test_the_studys_values_are_the_lowest_rates_that_lie_within_half_a_point_of_the_best():
    judged = sfsc_tuning.judged(sidecars.published(sfsc_tuning, "study", "cifar100"))
    run = settings({"profile": "study"}, sfsc.Knobs)
    assert set(judged.index) == CANDIDATES
    for method in sfsc_tuning.TUNED:
        scale, _ = judged[method].idxmax()
        rates = judged[method, scale]
        assert sfsc_tuning.is_chosen(run, method, scale, rates.index[rates > rates.max() - 0.005].min())
    scales = sorted(float(scale) for scale in set(judged[BCT_S + " + uncertainty"].index.get_level_values("variant")))
    assert run.knobs.logit_scale in scales[1:-1]


def test_past_the_grids_last_rate_a_loss_that_had_its_best_there_is_worse():
    judged = sfsc_tuning.judged(sidecars.published(sfsc_tuning, "study", "cifar100"))
    last = judged.index.get_level_values("x").max()
    at_the_edge = {method for method in sfsc_tuning.TUNED if judged[method].idxmax()[1] == last}
    tried = sfsc_tuning.judged(sidecars.published(sfsc_trials, "study", "cifar100"))
    for method in at_the_edge:
        assert tried[method, "", 2 * last] < judged[method].max()
    assert at_the_edge == {"joint", "Asymmetric-S"}
