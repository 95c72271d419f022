"""Trials around the backfilling order: what each order is, and what answers a query, computed again by loops."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from compatlib.evaluation.compatibility import backfilling_curve
from compatlib.study import models, rows, sidecars
from compatlib.study.chapters import fct, fct_trials
from compatlib.study.chapters.fct_trials import (
    ASCENDING,
    BY_CLASS,
    FASTFILL,
    IN_TURN,
    LOSS,
    ORDERS,
    RANDOM,
    UNCERTAINTY,
)
from compatlib.study.settings import settings
from compatlib.study.transformation_tests import TransformationTests

RECIPES = {"the study's": {}, "longer": {"transformation.epochs": 3}}
COMMITTED = dict(fct_trials.RECIPES)
LABELS = np.repeat(np.arange(5), 6)


@pytest.fixture(scope="module")
def run():
    """Four classes of sixteen digits, five more to test each."""
    chosen = settings({"profile": "smoke", "dataset": "digits", "seeds": [1]}, fct_trials.Knobs)
    training = chosen.training.model_copy(update={"epochs": 1, "batch_size": 16})
    recipe = chosen.knobs.transformation.model_copy(update={"epochs": 2, "batch_size": 16})
    sizes = {"classes": 4, "train_per_class": 16, "test_per_class": 5, "training": training}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update={"transformation": recipe})})


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        patch.setattr(fct_trials, "RECIPES", RECIPES)
        yield fct_trials.measure(run)


@pytest.fixture(scope="module")
def stated():
    return np.random.default_rng(0).normal(size=len(LABELS))


@pytest.fixture(scope="module")
def found(stated):
    return fct_trials.orders(LABELS, stated, stated**2, seed=0)


def test_every_order_holds_every_item_once(found):
    assert tuple(found) == ORDERS
    for order in found.values():
        assert sorted(order) == list(range(len(LABELS)))


def test_orders_by_uncertainty_and_by_loss_descend(found, stated):
    assert (np.diff(stated[found[UNCERTAINTY]]) <= 0).all()
    assert (np.diff(stated[found[ASCENDING]]) >= 0).all()
    assert (np.diff(stated[found[LOSS]] ** 2) <= 0).all()


def test_classes_in_turn_take_one_of_each_before_the_second_of_any(found, stated):
    rounds = found[IN_TURN].reshape(6, 5)
    for one in rounds:
        assert sorted(LABELS[one]) == list(range(5))
    for label in range(5):
        own = [item for item in found[IN_TURN] if LABELS[item] == label]
        assert (np.diff(stated[own]) <= 0).all()


def test_class_by_class_ends_a_class_before_the_next_and_keeps_the_random_order_within(found):
    sequence = LABELS[found[BY_CLASS]]
    assert len(list(itertools.groupby(sequence))) == 5
    for label in range(5):
        assert [i for i in found[BY_CLASS] if LABELS[i] == label] == [i for i in found[RANDOM] if LABELS[i] == label]


def test_items_losses_are_the_formulas():
    torch.manual_seed(0)
    new, changed, labels = torch.randn(7, 3), torch.randn(7, 3), torch.arange(7) % 4
    classifier = torch.nn.Linear(3, 4)
    losses = fct_trials.item_losses(new.numpy(), changed.numpy(), labels.numpy(), classifier)
    for item in range(7):
        logits = classifier(changed[item]).detach().double()
        target = 0.9 * F.one_hot(labels[item], 4) + 0.1 / 4
        missed = (new[item] - changed[item]).double().square().mean() - (target * logits.log_softmax(0)).sum()
        assert losses[item] == pytest.approx(float(missed), rel=1e-5)


def test_what_answers_a_query_is_counted_query_by_query():
    generator = np.random.default_rng(3)
    nearest, labels, replaced = generator.integers(0, 12, size=12), np.arange(12) % 3, np.arange(12) < 5
    new, transformed = [], []
    for query, item in enumerate(nearest):
        (new if replaced[item] else transformed).append(labels[item] == labels[query])
    assert new
    assert transformed
    answers = fct_trials.answers(nearest, labels, replaced)
    assert answers["answered by new"] == pytest.approx(len(new) / 12)
    assert answers["right if new"] == pytest.approx(sum(new) / len(new))
    assert answers["right if transformed"] == pytest.approx(sum(transformed) / len(transformed))
    assert answers["classes begun"] == 1
    assert fct_trials.answers(nearest, labels, labels == 1)["classes begun"] == pytest.approx(1 / 3)
    assert np.isnan(fct_trials.answers(nearest, labels, np.ones(12, bool))["right if transformed"])


def test_a_row_is_the_area_of_a_curve_made_by_hand(run, measured):
    tests = TransformationTests(fct_trials.with_recipe(run, "the study's"), 1, "by hand")
    new, changed = tests.embeddings("new"), tests.transformed(FASTFILL)
    order = np.argsort(-tests.log_variances(FASTFILL), kind="stable")
    labels = tests.labels
    curve = backfilling_curve(new, changed, new, labels, labels, order, exclude_self=True, distance="euclidean")
    variant = "uncertainty order, the study's recipe"
    assert measured.rows.by_seed(variant=variant, metric="auc cmc@1")[1] == pytest.approx(curve.area["cmc@1"])
    assert measured.rows.by_seed(variant=variant, metric="auc map")[1] == pytest.approx(
        curve.area["mean_average_precision"]
    )


def test_every_order_has_its_rows_and_a_recipe_the_two_that_compare_it(measured):
    areas = measured.rows.of(metric="auc cmc@1")
    wanted = {f"{order} order, the study's recipe" for order in ORDERS}
    assert set(areas["variant"]) == wanted | {"random order, longer recipe", "uncertainty order, longer recipe"}
    shares = measured.rows.of(metric="answered by new")
    assert len(shares) == 2 * len(areas)
    assert sorted(set(shares["x"])) == [4 / 20, 9 / 20]
    correlations = measured.rows.of(metric="rank correlation")
    assert sorted(correlations["variant"]) == ["longer", "the study's"]
    assert correlations["value"].between(-1, 1).all()
    assert measured.to_publish == {}


def test_a_recipe_changes_what_it_names_and_nothing_else(monkeypatch):
    monkeypatch.setattr(fct_trials, "RECIPES", COMMITTED)
    run = settings({"profile": "study"}, fct_trials.Knobs)
    changed = fct_trials.with_recipe(run, "the release's epochs and rate")
    own, released = run.knobs.transformation, fct.TransformationKnobs().transformation
    assert changed.knobs.transformation == own.model_copy(
        update={"epochs": released.epochs, "learning_rate": released.learning_rate}
    )
    assert changed.model_copy(update={"knobs": run.knobs}) == run
    assert fct_trials.with_recipe(run, "the study's") == run


def test_the_current_version_is_the_one_that_a_run_writes(run, measured):
    (about,) = measured.rows.sidecar.values()
    assert rows.made_by(about["made_from"], fct_trials.version(run))
    assert models.test_images(run).digest() == about["made_from"]["data"]["test"]


def test_the_published_trials_are_all_there_and_are_the_studys_own_curves():
    """Where both measure the same, both say the same, but for what another processor makes of a fit."""
    tried = sidecars.published(fct_trials, "study", "cifar100")
    study = sidecars.published(fct, "study", "cifar100")
    assert len(set(tried.frame["seed"])) >= 3
    for order in (RANDOM, UNCERTAINTY):
        mine = tried.by_seed(variant=f"{order} order, the study's recipe", metric="auc cmc@1")
        place = {"method": "FastFill", "variant": f"{order} order, without side-information", "subset": "all"}
        theirs = study.by_seed(**place, metric="auc cmc@1", distance="euclidean")
        assert list(mine) == pytest.approx(list(theirs[mine.index]), abs=0.01)
