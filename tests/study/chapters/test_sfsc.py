"""The chapter *SFSC*, its tuning and its trials on tiny runs: which cells there are, and numbers made by hand."""

import itertools

import numpy as np
import pytest

from compatlib.evaluation.retrieval import evaluate
from compatlib.study.chapters.sfsc import plan, trials, tuning
from compatlib.study.chapters.sfsc.plan import (
    CHAPTER,
    FULL_GALLERY,
    MEAN,
    OF_TABLE,
    OWN_GALLERIES,
    WHOLE_MATRIX,
    Knobs,
    cases,
    wanted,
    widths_of,
)
from compatlib.study.chapters.sfsc.trials import TRIALS, Trial
from compatlib.study.lab import sidecars
from compatlib.study.lab.experiment import measure, tasks, validation
from compatlib.study.lab.images import CLOSED, OPEN_SET
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.trainables import Base
from compatlib.study.lab.trainables.widths import APART, BCT_S, METHODS, SFSC, SWITCHABLE
from compatlib.study.settings import changed, settings

pytestmark = pytest.mark.usefixtures("keeps_trained")
NAMES, SCORES = ("0.25", "0.5", "1"), ("cmc@1", "cmc@5", "map")
OPEN = ("independent", "BCT-S", "SFSC")


@pytest.fixture(scope="module")
def run(tiny_run):
    """Two epochs, one seed, which has all tables."""
    return changed(tiny_run(Knobs), {"training.epochs": 2})


@pytest.fixture(scope="module")
def measured(run, keeps_trained):
    return measure(CHAPTER, run)


def expected_pairs(method: str) -> set[tuple[str, str]]:
    every = set(itertools.product(NAMES, NAMES))
    return every if method in WHOLE_MATRIX else {pair for pair in every if pair[1] in (pair[0], "1")}


# Which cells there are.


def test_rows_are_sound(measured, require_sound):
    require_sound(measured.rows, "sfsc")


def test_every_method_has_the_pairs_of_widths_that_its_tables_show(measured):
    for split, methods in ((CLOSED, METHODS), (OPEN_SET, OPEN)):
        for method, metric in itertools.product(methods, SCORES):
            found = measured.rows.of(split=split, method=method, metric=metric)
            pairs = set(zip(found["query_model"], found["gallery_model"], strict=True))
            assert pairs == expected_pairs(method) | {(MEAN, OWN_GALLERIES), (MEAN, FULL_GALLERY)}
            assert set(found["subset"]) == {"all"}
    assert set(measured.rows.of(split=OPEN_SET)["method"]) == {*OPEN, "chance"}


def test_what_a_training_costs_and_what_its_gradients_did_stand_beside(measured):
    for split, methods in ((CLOSED, METHODS), (OPEN_SET, OPEN)):
        for method in methods:
            found = measured.rows.of(split=split, method=method)
            sizes = found[found["metric"].isin(["parameters", "flops"])]
            assert set(sizes["query_model"]) == set(NAMES)
            assert "training_seconds" in set(found["metric"])
            assert ("hurt any" in set(found["metric"])) == (method in SWITCHABLE)
            assert set(found["x_name"]) == ({"", "epoch", "tensor"} if method in SWITCHABLE else {""})


@pytest.mark.parametrize(
    ("given", "tables"), [("", ("S1", "S2", "open")), ("open", ("S1", "open")), ("S2", ("S1", "S2")), ("S1", ("S1",))]
)
def test_a_page_names_its_tables_and_always_has_the_first(tiny_run, given, tables):
    run = tiny_run(Knobs, tables=given)
    expected = {(split, method) for table in tables for split, methods in [OF_TABLE[table]] for method in methods}
    found = wanted(run, 0)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert set(wanted(run, 7)) == {(CLOSED, method) for method in OF_TABLE["S1"][1]}  # a seed without sweeps


@pytest.mark.parametrize("given", [["SFSC", "BCT-S"], ["joint"]])
def test_a_run_may_measure_some_methods_alone(tiny_run, given):
    run = tiny_run(Knobs, tables="S1,open", methods=given)
    expected = {(split, method) for split, methods in map(OF_TABLE.get, ("S1", "open")) for method in methods}
    assert set(wanted(run, 0)) == {(split, method) for split, method in expected if method in given}
    planned = list(cases(run, 0))
    assert {case.columns["method"] for case in planned} == {*given, "chance"}
    assert {task.name.split(",")[0] for task in tasks(run, {0: planned})} == set(given)


def test_the_large_profile_measures_its_headline_alone():
    run = settings({"profile": "large"}, Knobs)
    assert wanted(run, 2) == [(CLOSED, "BCT-S"), (CLOSED, "SFSC")]
    assert len(wanted(settings({"profile": "large", "methods": [*METHODS], "tables": "open"}, Knobs), 2)) == 10


def test_a_table_that_is_not_asked_for_is_not_trained(tiny_run):
    run = tiny_run(Knobs, tables="open")
    stages = {task.name: task.stage for task in tasks(run, {0: list(cases(run, 0))})}
    assert {"SFSC, open-set, seed 0", "SFSC, seed 0"} <= set(stages)
    assert "BCT-S + uncertainty, seed 0" not in stages
    assert {stages["new, seed 0"], stages["new_open, seed 0"], stages["SFSC, seed 0"]} == {0}
    assert stages["one-to-one BCT 0.25, seed 0"] == 1  # it is held against the base model


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tables": "S3"}, r"unknown table \['S3'\]; choose from S1, S2, open"),
        ({"widths": [0.5, 0.25, 1.0]}, "widths must be two or more ascending shares"),
        ({"widths": [0.25, 0.5]}, "the last of them 1"),
        ({"logit_scale": 0}, "'logit_scale' = 0"),
        ({"methods": ["SFSC", "S"]}, r"unknown method \['S'\]; choose from independent; one-to-one BCT;"),
        ({"distance": "manhattan"}, "'distance' = 'manhattan'"),
    ],
)
def test_wrong_parameters_are_refused(tiny_run, given, words):
    with pytest.raises(ValueError, match=words):
        tiny_run(Knobs, **given)


# Numbers.


@pytest.mark.parametrize(
    ("split", "method"), [(CLOSED, method) for method in METHODS] + [(OPEN_SET, method) for method in OPEN]
)
def test_a_matrix_of_widths_and_its_means_are_those_of_the_spaces(run, measured, scored, found_only, split, method):
    spaces = dict(zip(NAMES, widths_of(run, method, split).values(), strict=True))
    place = {"split": split, "method": method}
    for metric in ("cmc@1", "map"):
        scores = {
            (query, gallery): scored(measured.first, spaces[query], spaces[gallery], split, "all", metric, "cosine")
            for query, gallery in expected_pairs(method)
        }
        for (query, gallery), value in scores.items():
            cell = {"query_model": query, "gallery_model": gallery, "metric": metric}
            assert measured.rows.by_seed(**place, **cell)[0] == pytest.approx(value)
        own = np.mean([scores[name, name] for name in NAMES])
        full = np.mean([scores[name, "1"] for name in NAMES[:-1]])
        for gallery, value in ((OWN_GALLERIES, own), (FULL_GALLERY, full)):
            cell = {"query_model": MEAN, "gallery_model": gallery, "metric": metric}
            found = measured.rows.measured(**place, **cell)
            assert found.values[0] == pytest.approx(value)
            assert found.by_class[0][0].mean == pytest.approx(value)


def test_the_full_model_of_those_trained_apart_is_the_base_model(run):
    for method, split, role in ((APART[0], CLOSED, "new"), (APART[1], CLOSED, "new"), (APART[0], OPEN_SET, "new_open")):
        spaces = widths_of(run, method, split)
        assert spaces[1.0].what == Base(role)
        assert len({space.what for space in spaces.values()}) == 3
    for method in ("joint", "SFSC"):
        spaces = widths_of(run, method, CLOSED)
        assert len({space.what for space in spaces.values()}) == 1
        assert [space.width for space in spaces.values()] == [0.25, 0.5, 1.0]


def test_sizes_of_a_width_are_the_same_for_every_method(measured):
    for metric in ("parameters", "flops"):
        found = {
            tuple(measured.rows.by_seed(split=CLOSED, method=m, query_model=name, metric=metric)[0] for name in NAMES)
            for m in METHODS
        }
        (sizes,) = found
        assert list(sizes) == sorted(set(sizes))


def test_the_cost_of_a_method_is_all_that_it_trains(run, measured, found_only):
    for method in ("independent", "joint", "SFSC"):
        whats = {space.what for space in widths_of(run, method, CLOSED).values()}
        seconds = sum(measured.first.made(what).artifact.about["cost"]["seconds"] for what in whats)
        row = measured.rows.by_seed(split=CLOSED, method=method, metric="training_seconds")
        assert row[0] == pytest.approx(seconds)


def test_conflicts_are_those_that_the_training_kept(run, measured, found_only):
    pairs = ((0, 1), (0, 2), (1, 2))
    for method in (BCT_S, "SFSC"):
        kept = measured.first.made(widths_of(run, method, CLOSED)[1.0].what).parts["statistics"]
        where = {"split": CLOSED, "method": method, "metric": "conflicts"}
        share = np.mean([float(kept.conflicts[:, i, j].mean()) for i, j in pairs])
        found = measured.rows.by_seed(**where, x_name="", query_model="")
        assert found[0] == pytest.approx(share, abs=1e-6)
        epochs = measured.rows.of(**where, x_name="epoch", query_model="0.25", gallery_model="1", seed=0)
        assert epochs.sort_values("x")["value"].tolist() == pytest.approx(kept.conflicts[:, 0, 2].tolist())
        tensors = measured.rows.of(**where, x_name="tensor", seed=0).sort_values("x")
        assert tuple(tensors["variant"]) == kept.tensors


def test_all_models_are_published(measured):
    assert measured.to_publish == measured.artifacts
    assert set(measured.base_models) == {"new, seed 0", "new_open, seed 0"}


# Tuning.

RATES, SCALES = (0.1, 0.2), (1.0, 4.0)


@pytest.fixture(scope="module")
def tuned_run(tiny_run):
    """Four classes of twenty digits, of which two are held out; three epochs, of which one is left."""
    values = {"classes": 4, "train_per_class": 20, "training.epochs": 3, "knobs.widths": (0.5, 1.0)}
    values |= {"knobs.rates": RATES, "knobs.logit_scales": SCALES}
    return changed(tiny_run(tuning.Knobs, seeds=[2]), values)


@pytest.fixture(scope="module")
def tuned(tuned_run, keeps_trained, without_test_images):
    """Measured where no test image can be read."""
    with without_test_images(tuned_run):
        return measure(tuning.CHAPTER, tuned_run)


def test_every_loss_is_tried_with_every_rate_and_the_evidential_one_with_every_scale(tuned, require_sound):
    require_sound(tuned.rows, "sfsc_tuning")
    found = tuned.rows.of(query_model=MEAN, gallery_model=FULL_GALLERY, metric="cmc@1")
    tried = sorted(zip(found["method"], found["variant"], found["x"], strict=True))
    plain = [(method, "", rate) for method in ("joint", "Asymmetric-S", "BCT-S") for rate in RATES]
    assert tried == sorted(plain + [("BCT-S + uncertainty", f"{s:g}", rate) for s in SCALES for rate in RATES])
    assert {SWITCHABLE[m][0] for m in tuning.TUNED if m in SWITCHABLE} == {loss for loss, _ in SWITCHABLE.values()}
    assert set(tuned.rows.frame["seed"]) == {102}
    assert set(tuned.rows.frame["x_name"]) == {"learning rate"}
    assert tuned.to_publish == {}


def test_a_tunings_row_is_the_score_on_held_out_images(tuned_run, tuned, found_only):
    values = {"knobs.rate_evidential": 0.1, "knobs.logit_scale": 4.0}
    own = Seed(changed(validation(tuned_run, shortened=3), values), 102)
    spaces = widths_of(own.run, "BCT-S + uncertainty", CLOSED)
    labels = own.labels(CLOSED)
    assert len(labels) == 8
    test = evaluate(*(own.vectors(spaces[width], CLOSED) for width in (0.5, 1.0)), labels, labels, exclude_self=True)
    cell = {"method": "BCT-S + uncertainty", "variant": "4", "x": 0.1, "query_model": "0.5", "gallery_model": "1"}
    assert tuned.rows.by_seed(**cell, metric="map")[102] == pytest.approx(test.mean_average_precision)


def test_the_best_is_the_best_mean_of_both_tests(tuned):
    judged = tuning.judged(tuned.rows)
    assert len(judged) == 3 * len(RATES) + len(RATES) * len(SCALES)
    for method, scale, rate in judged.index:
        cell = {"method": method, "variant": scale, "x": rate, "query_model": MEAN, "metric": "cmc@1"}
        both = [tuned.rows.by_seed(**cell, gallery_model=g)[102] for g in (OWN_GALLERIES, FULL_GALLERY)]
        assert judged[method, scale, rate] == pytest.approx(sum(both) / 2)


def test_the_divergence_is_tuned_where_heads_are_trained_at_the_base_models_rate():
    run = settings({"profile": "heads"}, tuning.Knobs)
    planned = [case.columns for case in tuning.cases(run, 0)]
    found = {(each["variant"], each["x"]) for each in planned if tuning.DIVERGENCE in each["variant"]}
    tuned = {split: {each["method"] for each in planned if each["split"] == split} for split in (CLOSED, OPEN_SET)}
    assert tuned == {CLOSED: set(tuning.TUNED), OPEN_SET: {BCT_S, "BCT-S + uncertainty"}}
    assert {tuning.evidential_values(variant) for variant, _ in found} == {
        (scale, weight) for scale in tuning.LOGIT_SCALES for weight in tuning.DIVERGENCES
    }
    assert {rate for _, rate in found} == {run.training.learning_rate} <= set(tuning.RATES)
    assert tuning.evidential_values("4") == (4.0, Knobs().kl_weight)


def test_the_open_set_split_may_have_values_of_its_own():
    run = settings({"profile": "heads", "kl_weight": 0.5, "open_set": {"kl_weight": 0.05, "logit_scale": 2.0}}, Knobs)
    own = {case.columns["split"]: case.run(run).knobs for case in cases(run, 0) if case.columns["method"] == SFSC}
    assert (own[CLOSED].kl_weight, own[CLOSED].logit_scale) == (0.5, run.knobs.logit_scale)
    assert (own[OPEN_SET].kl_weight, own[OPEN_SET].logit_scale) == (0.05, 2.0)
    rate = own[OPEN_SET].rate_evidential
    for split, scale, weight in ((CLOSED, run.knobs.logit_scale, 0.5), (OPEN_SET, 2.0, 0.05)):
        words = f"{scale:g}{tuning.DIVERGENCE}{weight:g}"
        assert [tuning.is_chosen(run, SFSC, words, rate, each) for each in (CLOSED, OPEN_SET)] == [
            split == each for each in (CLOSED, OPEN_SET)
        ]
    with pytest.raises(
        ValueError, match=r"values of the open-set split are given for \['widths'\]; choose from \('rate_cr"
    ):
        settings({"profile": "heads", "open_set": {"widths": 2.0}}, Knobs)


def test_the_signed_study_tunes_and_measures_plain_training_and_the_methods_halves():
    run = settings({"profile": "study_signed"}, tuning.Knobs)
    tuned = {(case.columns["method"], case.columns["variant"]) for case in tuning.cases(run, 0)}
    assert {method for method, _ in tuned} == {BCT_S, "BCT-S + uncertainty"}
    assert {tuning.evidential_values(variant)[1] for _, variant in tuned if variant} == {5e-4, *run.knobs.divergences}
    assert {case.columns["x"] for case in tuning.cases(run, 0)} == {0.2, 0.4, 0.8}
    trainings = {(case.columns["method"], case.run(run).knobs) for case in tuning.cases(run, 0)}
    assert len(trainings) == 3 + 2 * (3 + 3)
    found = wanted(settings({"profile": "study_signed"}, Knobs), 1)
    assert found == [
        (CLOSED, BCT_S),
        (CLOSED, "BCT-S + uncertainty"),
        (CLOSED, "CE + projection"),
        (CLOSED, SFSC),
        (OPEN_SET, BCT_S),
        (OPEN_SET, SFSC),
    ]


@pytest.mark.parametrize("profile", ["smoke", "laptop", "study", "study_signed", "large", "heads"])
def test_what_was_chosen_has_no_part_in_the_tuning(profile):
    """Else choosing would make its rows an earlier version's."""
    run, chapter = (settings({"profile": profile}, knobs) for knobs in (tuning.Knobs, Knobs))
    assert run.knobs.widths == chapter.knobs.widths
    tried = ("widths", "methods", "rates", "logit_scales", "divergences")
    assert run.knobs == tuning.Knobs(**{name: getattr(run.knobs, name) for name in tried})
    for case in tuning.cases(run, 0):
        values = [case.columns[name] for name in ("method", "variant", "x", "split")]
        assert tuning.is_chosen(case.run(run), *values)
        other = changed(case.run(run), {f"knobs.{plan_rate(values[0])}": 0.123})
        assert not tuning.is_chosen(other, *values)


def plan_rate(method: str) -> str:
    return "rate_joint" if method == "joint" else f"rate_{SWITCHABLE[method][0].replace('-', '_')}"


def test_the_studys_values_are_the_lowest_rates_that_lie_within_half_a_point_of_the_best():
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "study", "cifar100"))
    run = settings({"profile": "study"}, Knobs)
    for method in tuning.TUNED:
        scale, _ = judged[method].idxmax()
        rates = judged[method, scale]
        assert tuple(rates.index) == tuning.RATES
        assert tuning.is_chosen(run, method, scale, rates.index[rates > rates.max() - 0.005].min())
    scales = sorted(float(scale) for scale in set(judged[BCT_S + " + uncertainty"].index.get_level_values("variant")))
    assert run.knobs.logit_scale in scales[1:-1]


OF_HEADS = {CLOSED: tuning.TUNED, OPEN_SET: tuning.OPEN_SETS_OWN}


@pytest.mark.parametrize(
    ("profile", "split", "methods"),
    [(profile, split, methods) for profile in ("heads", "omniglot") for split, methods in OF_HEADS.items()]
    + [("study_signed", CLOSED, tuning.OPEN_SETS_OWN)],
)
def test_the_values_of_signed_heads_are_chosen_by_the_same_rule(profile, split, methods):
    """The evidential loss's divergence was tried at one rate alone, that of the base models."""
    run = settings({"profile": profile}, Knobs)
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, profile, run.dataset), split)
    assert set(judged.index.get_level_values("method")) == set(methods)
    for method in methods:
        variant, _ = judged[method].idxmax()
        rates = judged[method, variant]
        chosen = rates.index[rates > judged[method].max() - 0.005].min()
        assert tuning.is_chosen(run, method, variant, chosen, split)


def test_past_the_grids_last_rate_a_loss_that_had_its_best_there_is_worse():
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "study", "cifar100"))
    last = judged.index.get_level_values("x").max()
    at_the_edge = {method for method in tuning.TUNED if judged[method].idxmax()[1] == last}
    tried = tuning.judged(sidecars.published(trials.CHAPTER, "study", "cifar100"))
    for method in at_the_edge:
        assert tried[method, "", 2 * last] < judged[method].max()
    assert at_the_edge == {"joint", "Asymmetric-S"}


# Trials.

FEW = (
    Trial("joint", 0.2),
    Trial("joint", 0.2, is_long=True),
    Trial("BCT-S", 0.1),
    Trial("BCT-S + uncertainty", 0.1, 4.0, kl_weight=0.0),
)


@pytest.fixture(scope="module")
def tried(tuned_run, keeps_trained, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch, without_test_images(tuned_run):
        patch.setattr(trials, "TRIALS", FEW)
        return measure(trials.CHAPTER, tuned_run)


def test_every_trial_has_scores_and_a_switchable_one_its_conflicts(tried, require_sound):
    require_sound(tried.rows, "sfsc_trials")
    frame = tried.rows.frame
    assert set(frame["seed"]) == {102}
    assert tried.to_publish == {}
    for trial in FEW:
        where = {"method": trial.method, "variant": trial.variant, "x": trial.rate}
        for gallery in (OWN_GALLERIES, FULL_GALLERY):
            assert 0 <= tried.rows.by_seed(**where, query_model=MEAN, gallery_model=gallery, metric="map")[102] <= 1
        conflicts = frame[(frame["method"] == trial.method) & (frame["metric"] == "conflicts")]
        assert len(conflicts) == (trial.method in SWITCHABLE)


def test_a_row_of_conflicts_is_the_mean_over_the_training_of_that_trial(tuned_run, tried, found_only):
    trial = FEW[-1]
    values = {"rate_evidential": 0.1, "logit_scale": 4.0, "kl_weight": 0.0}
    run = changed(validation(tuned_run, shortened=3), {f"knobs.{name}": value for name, value in values.items()})
    kept = Seed(run, 102).made(widths_of(run, trial.method, CLOSED)[1.0].what).parts["statistics"]
    where = {"method": trial.method, "variant": trial.variant, "x": trial.rate}
    own = tried.rows.by_seed(**where, metric="conflicts")[102]
    assert own == pytest.approx(float(kept.conflicts[:, 0, 1].mean()), abs=1e-6)


def test_a_long_trial_differs_by_its_epochs_alone(tuned_run, monkeypatch):
    monkeypatch.setattr(trials, "TRIALS", FEW)
    run = validation(tuned_run, shortened=3)
    found = {case.columns["variant"]: case for case in trials.cases(run, 102) if case.columns["method"] == "joint"}
    short, long = (found[variant].run(run) for variant in ("", "all epochs"))
    assert (short.training.epochs, long.training.epochs) == (1, 3)
    assert changed(long, {"training.epochs": 1}) == short


def test_the_columns_value_names_what_is_not_the_rate():
    assert [trial.variant for trial in FEW] == ["", "all epochs", "", "logit scale 4, KL weight 0"]


def test_a_trial_without_values_of_its_own_is_the_tunings_candidate(tuned_run, monkeypatch):
    """So that the two tables can stand side by side."""
    run = validation(tuned_run, shortened=3)
    alike = [Trial(m, RATES[0], 4.0 if m == "BCT-S + uncertainty" else None) for m in tuning.TUNED]
    monkeypatch.setattr(trials, "TRIALS", alike)
    tuned = [case for case in tuning.cases(run, 102) if case.columns["variant"] in ("", "4")]
    candidates = {(case.columns["method"], case.columns["x"]): case for case in tuned}
    for case in trials.cases(run, 102):
        assert case.run(run) == candidates[case.columns["method"], RATES[0]].run(run)


def test_the_trials_are_none_of_the_tunings_but_where_the_gradients_are_looked_at():
    run = settings({"profile": "study"}, tuning.Knobs)
    tried = {tuple(case.columns[name] for name in ("method", "x")) for case in tuning.cases(run, 100)}
    again = [t for t in TRIALS if t.kl_weight is None and not t.is_long and (t.method, t.rate) in tried]
    assert again
    assert all(trial.method in SWITCHABLE for trial in again)
    assert len({(trial.method, trial.variant, trial.rate) for trial in TRIALS}) == len(TRIALS)
    assert all(trial.kl_weight != plan.Knobs().kl_weight for trial in TRIALS)
