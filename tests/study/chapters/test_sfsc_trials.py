"""Trials beside the tuning: its own training and testing, other values, and what the gradients did."""

import pytest

from compatlib.study import rows, sidecars, switchable_models, tuning
from compatlib.study.chapters import sfsc, sfsc_trials, sfsc_tuning
from compatlib.study.chapters.sfsc_trials import TRIALS, Trial
from compatlib.study.settings import settings
from compatlib.study.switchable_rows import FULL_GALLERY, MEAN, OWN_GALLERIES
from compatlib.study.switchables import SWITCHABLE, Trained

FEW = (
    Trial("joint", 0.2),
    Trial("joint", 0.2, is_long=True),
    Trial("BCT-S", 0.1),
    Trial("BCT-S + uncertainty", 0.1, 4.0, kl_weight=0.0),
)
SEED = 102


@pytest.fixture(scope="module")
def run():
    """Four classes of twenty digits, of which two are held out; three epochs, of which one is left."""
    chosen = settings({"profile": "smoke", "dataset": "digits", "seeds": [2]}, sfsc_trials.Knobs)
    training = chosen.training.model_copy(update={"epochs": 3, "batch_size": 16})
    sizes = {"classes": 4, "train_per_class": 20, "test_per_class": 3, "training": training}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update={"widths": (0.5, 1.0)})})


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        patch.setattr(sfsc_trials, "TRIALS", FEW)
        with without_test_images(run):
            outcome = sfsc_trials.measure(run)
        yield outcome


def test_every_trial_has_scores_and_a_switchable_one_its_conflicts(measured):
    frame = measured.rows.frame
    assert set(frame["seed"]) == {SEED}
    assert measured.to_publish == {}
    for trial in FEW:
        where = {"method": trial.method, "variant": trial.variant, "x": trial.rate}
        for gallery in (OWN_GALLERIES, FULL_GALLERY):
            assert 0 <= measured.rows.by_seed(**where, query_model=MEAN, gallery_model=gallery, metric="map")[SEED] <= 1
        conflicts = frame[(frame["method"] == trial.method) & (frame["metric"] == "conflicts")]
        assert len(conflicts) == (trial.method in SWITCHABLE)


def test_a_row_of_conflicts_is_the_mean_over_the_training_of_that_trial(run, measured):
    trial = FEW[-1]
    tuned = trial.run(run)
    assert (tuned.knobs.rate_evidential, tuned.knobs.logit_scale, tuned.knobs.kl_weight) == (0.1, 4.0, 0.0)
    made, trained_now = switchable_models.made(tuned, Trained(trial.method), SEED)
    assert not trained_now
    where = {"method": trial.method, "variant": trial.variant, "x": trial.rate}
    own = measured.rows.by_seed(**where, metric="conflicts")[SEED]
    assert own == pytest.approx(float(made.statistics.conflicts[:, 0, 1].mean()))


def test_the_trials_are_none_of_the_tunings_but_where_the_gradients_are_looked_at():
    tried = {(candidate.method, candidate.rate, candidate.scale) for candidate in sfsc_tuning.candidates()}
    alike = [trial for trial in TRIALS if trial.kl_weight is None and not trial.is_long]
    again = [trial for trial in alike if (trial.method, trial.rate, trial.scale) in tried]
    assert again
    assert all(trial.method in SWITCHABLE for trial in again)
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
    assert len({(trial.method, trial.variant, trial.rate) for trial in TRIALS}) == len(TRIALS)
    assert all(trial.kl_weight != sfsc.Knobs().kl_weight for trial in TRIALS)


def test_the_columns_value_names_what_is_not_the_rate():
    assert [trial.variant for trial in FEW] == ["", "all epochs", "", "logit scale 4, KL weight 0"]
    assert FEW[-1].name == "BCT-S + uncertainty, rate 0.1, logit scale 4, KL weight 0"


def test_the_current_version_is_the_one_that_a_run_writes(run, measured):
    (about,) = measured.rows.sidecar.values()
    assert rows.made_by(about["made_from"], sfsc_trials.version(run))
    assert about["made_from"]["settings"]["validation"] is True


@pytest.mark.parametrize("method", sfsc_tuning.TUNED)
def test_a_trial_without_values_of_its_own_is_the_tunings_candidate(run, method):
    """So that the two tables can stand side by side."""
    tuned, scale = tuning.validation(run, shortened=3), 4.0 if method == "BCT-S + uncertainty" else None
    assert Trial(method, 0.05, scale).run(run) == sfsc_tuning.Candidate(method, 0.05, scale).run(tuned)


def test_a_long_trial_differs_by_its_epochs_alone(run):
    short, long = Trial("joint", 0.2).run(run), Trial("joint", 0.2, is_long=True).run(run)
    assert (short.training.epochs, long.training.epochs) == (1, run.training.epochs)
    assert long.model_copy(update={"training": short.training}) == short


def test_the_published_trials_are_all_there():
    tried = sidecars.published(sfsc_trials, "study", "cifar100")
    found = set(zip(tried.frame["method"], tried.frame["variant"], tried.frame["x"], strict=True))
    assert found == {(trial.method, trial.variant, trial.rate) for trial in TRIALS}
