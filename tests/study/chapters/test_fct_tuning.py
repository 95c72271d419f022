"""Tuning: one value changed at a time, on held-out training images alone, by seeds of its own."""

import itertools

import pytest

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models, rows, sidecars, transformations, tuning
from compatlib.study.chapters import fct, fct_tuning
from compatlib.study.settings import settings
from compatlib.study.transformation_rows import WITH, WITHOUT
from compatlib.study.transformation_tests import applied
from compatlib.study.transformations import Side, Transformed

VALUES = {"hidden_dim": (8, 16), "transformation.epochs": (1, 2), "side.learning_rate": (0.1,)}
COMMITTED = dict(fct_tuning.VALUES)
CELLS = [(knob, value) for knob, values in VALUES.items() for value in values]


@pytest.fixture(scope="module")
def run():
    """Four classes of twenty digits, of which two are held out."""
    chosen = settings({"profile": "smoke", "dataset": "digits", "seeds": [2]}, fct_tuning.Knobs)
    training = chosen.training.model_copy(update={"epochs": 1, "batch_size": 16})
    recipes = {
        "side": chosen.knobs.side.model_copy(update={"epochs": 1, "batch_size": 16}),
        "transformation": chosen.knobs.transformation.model_copy(update={"epochs": 2, "batch_size": 16}),
    }
    sizes = {"classes": 4, "train_per_class": 20, "test_per_class": 3, "training": training}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update=recipes)})


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        patch.setattr(fct_tuning, "VALUES", VALUES)
        with without_test_images(run):
            outcome = fct_tuning.measure(run)
        yield outcome


def test_every_value_is_tested_without_and_with_side_information_and_that_alone(measured):
    for (knob, value), (method, query), distance in itertools.product(
        CELLS, ((WITHOUT, "new"), (WITH, "new"), (WITH, "side")), ("cosine", "euclidean")
    ):
        cell = {"x_name": knob, "x": value, "method": method, "query_model": query, "distance": distance}
        found = measured.rows.by_seed(**cell, subset="all", metric="cmc@1", variant="validation")
        assert list(found.index) == [102]
        assert 0 <= found.iloc[0] <= 1
    assert set(zip(measured.rows.frame["x_name"], measured.rows.frame["x"], strict=True)) == set(CELLS)
    assert measured.to_publish == {}


def test_a_row_is_the_score_of_an_evaluation_made_by_hand(run, measured):
    each = fct_tuning.changed(tuning.validation(run), "hidden_dim", 16)
    held_out = models.test_images(each)
    labels = held_out.labels.numpy()
    old, new = (embed(models.base_model(each, role, 102)[0].backbone, held_out).numpy() for role in ("old", "new"))
    side = embed(transformations.side_model(each, transformations.own_side(each), 102)[0].module, held_out).numpy()
    module = transformations.transformation(each, Transformed(transformations.own_side(each)), 102)[0].module
    test = evaluate(new, applied(module, old, side)[0], labels, labels, exclude_self=True, distance="euclidean")
    cell = {"x_name": "hidden_dim", "x": 16.0, "method": WITH, "query_model": "new", "distance": "euclidean"}
    assert measured.rows.by_seed(**cell, subset="all", metric="map")[102] == pytest.approx(test.mean_average_precision)


def test_the_best_value_is_the_best_mean_of_both_transformations_and_distances(measured):
    judged = fct_tuning.judged(measured.rows)
    assert sorted(judged.index) == sorted(CELLS)
    for knob, value in CELLS:
        cell = {"x_name": knob, "x": value, "subset": "all", "metric": "cmc@1", "query_model": "new"}
        scores = [
            measured.rows.by_seed(**cell, method=method, distance=distance)[102]
            for method, distance in itertools.product((WITHOUT, WITH), ("cosine", "euclidean"))
        ]
        assert judged[knob, value] == pytest.approx(sum(scores) / 4)


def test_one_value_is_changed_and_nothing_else(run):
    for (knob, value), each in fct_tuning.candidates(run).items():
        assert fct_tuning.value_of(each, knob) == value
        back = fct_tuning.changed(each, knob, fct_tuning.value_of(run, knob))
        assert back == run


@pytest.mark.parametrize("profile", ["laptop", "study", "large"])
def test_values_are_ones_that_a_run_takes(profile, monkeypatch):
    monkeypatch.setattr(fct_tuning, "VALUES", COMMITTED)
    run = settings({"profile": profile}, fct_tuning.Knobs)
    for (knob, value), each in fct_tuning.candidates(run).items():
        again = fct.Knobs(**each.knobs.model_dump())
        assert fct_tuning.value_of(run.model_copy(update={"knobs": again}), knob) == value
        again.transformation.recipe()
        again.side.recipe()


def test_models_that_do_not_depend_on_a_value_are_made_once(run, measured):
    tuned = tuning.validation(run)
    keys = [
        transformations.side_model(each, Side("SimCLR", run.network.dim), 102)[0].artifact.key
        for each in fct_tuning.candidates(tuned).values()
    ]
    assert len(set(keys)) == 1 + len(
        {value for knob, value in CELLS if knob.startswith("side")} - {tuned.knobs.side.learning_rate}
    )


def test_no_model_is_planned_twice(run, measured):
    tuned = tuning.validation(run)
    planned = fct_tuning._tasks(tuned)
    keys = [_key(task) for task in planned]
    assert len(keys) == len(set(keys))


def _key(task) -> str:
    each, what, seed = task.train.args
    if isinstance(what, str):
        return models.base_model(each, what, seed)[0].key
    make = transformations.side_model if isinstance(what, Side) else transformations.transformation
    return make(each, what, seed)[0].artifact.key


def test_the_current_version_is_the_one_that_a_run_writes(run, measured):
    (about,) = measured.rows.sidecar.values()
    assert list(measured.rows.sidecar) == ["smoke/digits/102"]
    assert rows.made_by(about["made_from"], fct_tuning.version(run))
    assert about["made_from"]["settings"]["validation"] is True
    assert about["made_from"]["data"]["test"] == models.test_images(tuning.validation(run)).digest()


def test_the_studys_recipe_is_the_best_that_was_tried():
    """Of equal ones the first, as of the hidden sizes; SimCLR's are at the end of what was tried, as the page says."""
    judged = fct_tuning.judged(sidecars.published(fct_tuning, "study", "cifar100"))
    run = settings({"profile": "study"}, fct.Knobs)
    assert {knob: tuple(judged[knob].index) for knob in COMMITTED} == COMMITTED
    for knob, values in COMMITTED.items():
        best = judged[knob].idxmax()
        assert fct_tuning.value_of(run, knob) == best
        assert (best in (values[0], values[-1])) == knob.startswith(fct_tuning.SIDE_KNOBS)
