"""The chapter *FCT*, its tuning and its trials on tiny runs: which cells there are, and a few numbers made by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.compatibility import backfilling_curve
from compatlib.evaluation.retrieval import evaluate
from compatlib.study.chapters.fct import plan, trials, tuning
from compatlib.study.chapters.fct.plan import (
    ANEW,
    CHANGES,
    CHAPTER,
    IN_HALVES,
    ON_IMAGES,
    SIZE,
    TABLES,
    TABLES_OF,
    WITH,
    WITHOUT,
    Knobs,
    cases,
)
from compatlib.study.lab import images, sidecars
from compatlib.study.lab.cases import Case
from compatlib.study.lab.experiment import measure, tasks, validation
from compatlib.study.lab.images import CLASS_INCREMENTAL, GENERATIONS
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.measures.cost import TIMINGS
from compatlib.study.lab.orders import RANDOM, UNCERTAINTY, order_of
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import H, Mixed, Of, of_role
from compatlib.study.lab.trainables import Side, Transformation, Upgrade
from compatlib.study.settings import changed, settings, tables, value_of

pytestmark = pytest.mark.usefixtures("keeps_trained")
SUBSETS, DISTANCES, SCORES = ("all", "known", "unknown"), ("cosine", "euclidean"), ("cmc@1", "cmc@5", "map")
DIM = 16
SIDE, NEW, OLD = Side("SimCLR", DIM), of_role("new"), of_role("old")
MAIN = {"split": CLASS_INCREMENTAL, "variant": "", "x_name": ""}


@pytest.fixture(scope="module")
def run(tiny_run):
    """Seed 1 has no sweep."""
    return tiny_run(Knobs, seeds=[0, 1])


@pytest.fixture(scope="module")
def measured(run, keeps_trained):
    return measure(CHAPTER, run)


@pytest.fixture(scope="module")
def labels(measured):
    return measured.first.labels(CLASS_INCREMENTAL)


# Which cells there are.


def test_rows_are_sound(measured, require_sound):
    require_sound(measured.rows, "fct")


def test_the_main_table_has_every_test_by_distance_subset_and_score(measured):
    pairs = {
        "independent": [("old", "old"), ("new", "old"), ("new", "new")],
        "BCT A": [("new", "old"), ("new", "new")],
        WITHOUT: [("new", "h(old)"), ("h(old)", "h(old)")],
        WITH: [("new", "h(old)"), ("h(old)", "h(old)")],
    }
    found = measured.rows.of(**MAIN, metric=list(SCORES), method=list(pairs))
    expected = [
        (method, *pair, distance, subset, metric, seed)
        for method, own in pairs.items()
        for pair in own
        for distance, subset, metric, seed in itertools.product(DISTANCES, SUBSETS, SCORES, (0, 1))
    ]
    columns = ["method", "query_model", "gallery_model", "distance", "subset", "metric", "seed"]
    assert sorted(map(tuple, found[columns].to_numpy())) == sorted(expected)


def test_sweeps_are_of_the_sweeps_seeds_only(measured):
    frame = measured.rows.frame
    swept = frame["x_name"].eq(SIZE) | frame["split"].eq(GENERATIONS) | frame["variant"].isin(CHANGES)
    swept |= frame["variant"].eq(ANEW) | frame["metric"].isin(TIMINGS)
    assert set(frame[swept]["seed"]) == {0}
    assert set(frame[frame["gallery_model"] == "mixed"]["seed"]) == {0, 1}
    assert set(measured.rows.of(metric="images_per_second")["seed"]) == {0}


@pytest.mark.parametrize(
    ("given", "wanted"), [("F1", ("F1",)), ("F5,F2", ("F1", "F2", "F5")), ("sizes", ("F1", "sizes")), ("", ON_IMAGES)]
)
def test_a_page_names_its_tables_and_always_has_the_first(tiny_run, measured, given, wanted):
    run = tiny_run(Knobs, tables=given)
    assert tables(run) == wanted
    whole = {case["case"] for case in measured.rows.sidecar["smoke/digits/0"]["cases"]}
    found = {sidecars.identity(case) for case in cases(run, 0)}
    assert found <= whole
    assert (found == whole) == (wanted == ON_IMAGES)


def test_a_table_that_is_not_asked_for_is_not_trained(tiny_run):
    run = tiny_run(Knobs, tables="F1")
    trained = [task.name for task in tasks(run, {0: list(cases(run, 0))})]
    own = ("old", "new", "new, BCT A against old", f"SimCLR {DIM} beside old")
    transformed = ("fct from old to new", f"fct from old and SimCLR {DIM} to new")
    assert sorted(trained) == sorted(f"{name}, seed 0" for name in own + transformed)


@pytest.mark.parametrize("profile", ["laptop", "study", "large"])
def test_a_profile_measures_its_tables(profile):
    run = settings({"profile": profile}, Knobs)
    assert tables(run) == TABLES_OF.get(profile, TABLES)
    planned = [case.columns for case in cases(run, run.sweep_seeds[0])]
    assert any(each["split"] == GENERATIONS for each in planned) == (profile == "laptop")
    assert any(each.get("variant") == "softmax to cosine" for each in planned) == (profile == "laptop")
    assert any(each.get("gallery_model") == "mixed" for each in planned) == (profile != "large")


def test_side_information_of_other_kinds_and_of_other_sizes_may_be_asked_for_apart(tiny_run):
    others = {Side("autoencoder", DIM), Side("supervised", DIM)}
    sizes = {Side("SimCLR", DIM // 4), Side("SimCLR", DIM // 2), Side("SimCLR", 2 * DIM)}
    for given, wanted in (("F1", None), ("F2", others), ("sizes", sizes), ("F2,sizes", others | sizes)):
        found = plan.sides(tiny_run(Knobs, tables=given))
        assert found == [] if wanted is None else found[:2] == [None, SIDE]
        assert set(found[2:]) == (wanted or set())
        assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tables": "F1,F9"}, r"unknown table \['F9'\]; choose from F1, views, F2"),
        ({"views": 0}, "'views' = 0"),
        ({"temperature": -1}, "'temperature' = -1"),
        ({"side": {"label_smoothing": 0.1}}, "label_smoothing is 0.1, but no label is used here"),
    ],
)
def test_wrong_parameters_are_refused(tiny_run, given, words):
    with pytest.raises(ValueError, match=words):
        tiny_run(Knobs, **given)


# Numbers.

COMPOSED = H(
    Transformation(Side("SimCLR", DIM, "old_quarter"), "old", "new"),
    stored=H(Transformation(Side("SimCLR", DIM, "old_quarter"), "old_quarter", "old")),
)
ONE_STEP = {"split": GENERATIONS, "method": WITH, "gallery_model": "h(v1)"}


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(
    ("cell", "query", "gallery"),
    [
        (MAIN | {"method": WITHOUT, "query_model": "new"}, NEW, H(Transformation())),
        (MAIN | {"method": WITH, "query_model": "h(old)"}, H(Transformation(SIDE)), H(Transformation(SIDE))),
        (MAIN | {"method": "independent", "query_model": "new", "gallery_model": "old"}, NEW, OLD),
        (MAIN | {"method": "BCT A", "query_model": "new", "gallery_model": "old"}, Of(Upgrade("BCT A")), OLD),
        ({"variant": IN_HALVES}, NEW, H(Transformation(SIDE), in_halves=True)),
        ({"variant": ANEW}, NEW, H(Transformation(SIDE, source="images"))),
        ({"x_name": SIZE, "x": 8.0, "query_model": "new"}, NEW, H(Transformation(Side("SimCLR", 8)))),
        ({"x_name": SIZE, "variant": "none"}, NEW, H(Transformation())),
        (
            {"x_name": SIZE, "variant": "autoencoder", "query_model": "side"},
            Of(Side("autoencoder", DIM)),
            Of(Side("autoencoder", DIM)),
        ),
        (
            {"variant": "a longer embedding", "method": WITH},
            NEW,
            H(Transformation(Side("SimCLR", DIM, "old_narrow"), "old_narrow")),
        ),
        ({"variant": "half of the images, then all", "method": WITHOUT}, NEW, H(Transformation(None, "old_samples"))),
        (ONE_STEP | {"variant": "", "query_model": "v2"}, OLD, COMPOSED.stored),
        (ONE_STEP | {"variant": "composed"}, NEW, COMPOSED),
        (
            ONE_STEP | {"variant": "learned again"},
            NEW,
            H(Transformation(Side("SimCLR", DIM, "old_quarter"), "old_quarter", "new")),
        ),
    ],
)
def test_a_row_is_the_score_of_its_spaces(measured, scored, cell, query, gallery, distance):
    split = cell.get("split", CLASS_INCREMENTAL)
    wanted = {"gallery_model": "side" if cell.get("query_model") == "side" else "h(old)"} | cell
    for metric in ("cmc@1", "map"):
        found = measured.rows.by_seed(**wanted, subset="all", metric=metric, distance=distance)[0]
        expected = scored(measured.first, query, gallery, split, "all", metric, distance)
        assert found == pytest.approx(expected, abs=1e-9)


def test_where_the_old_model_knew_every_class_there_is_one_subset(measured):
    assert set(measured.rows.of(variant="half of the images, then all", metric="map")["subset"]) == {"all"}
    assert set(measured.rows.of(variant="a longer embedding", metric="map")["subset"]) == set(SUBSETS)


def test_flips_are_against_the_old_models_own_test(measured, labels):
    """And not against the transformed gallery's."""
    old, new, changed_ = (measured.first.vectors(s, CLASS_INCREMENTAL) for s in (OLD, NEW, H(Transformation(SIDE))))
    for distance, subset in itertools.product(DISTANCES, SUBSETS):
        mask = {"all": labels >= 0, "known": labels < 5, "unknown": labels >= 5}[subset]
        before, after = (
            evaluate(*pair, labels, labels, exclude_self=True, distance=distance).first_rank[mask]
            for pair in ((old, old), (new, changed_))
        )
        cell = {**MAIN, "method": WITH, "subset": subset, "metric": "negative_flips", "distance": distance}
        expected = np.mean([b == 1 and a != 1 for b, a in zip(before, after, strict=True)])
        assert measured.rows.by_seed(**cell)[0] == pytest.approx(expected)


@pytest.mark.parametrize("beside", ["without", "with"])
@pytest.mark.parametrize(("method", "objective"), [("FCT", "fct"), ("FastFill", "fastfill")])
def test_curves_begin_transformed_and_end_backfilled(measured, scored, method, objective, beside):
    h = H(Transformation(SIDE if beside == "with" else None, objective=objective))
    found = measured.rows.of(method=method, gallery_model="mixed", seed=0)
    variants = {variant for variant in found["variant"] if variant.endswith(f"order, {beside} side-information")}
    orders = {variant.partition(" ")[0] for variant in variants}
    assert orders == {"random", "distance"} | ({"uncertainty"} if method == "FastFill" else set())
    for variant, distance, metric in itertools.product(variants, DISTANCES, SCORES):
        place = {"method": method, "variant": variant, "distance": distance, "seed": 0}
        own = measured.rows.of(**place, metric=metric, x_name=SHARE).sort_values("x")
        assert len(own) == 22
        assert own["x"].iloc[[0, -1]].tolist() == [0, 1]
        ends = [
            scored(measured.first, NEW, gallery, CLASS_INCREMENTAL, "all", metric, distance) for gallery in (h, NEW)
        ]
        assert own["value"].iloc[[0, -1]].tolist() == pytest.approx(ends)
        mean = measured.rows.by_seed(**place, metric=f"auc {metric}", subset="all")[0]
        assert mean == pytest.approx(own["value"].mean())


def test_what_is_doubted_most_is_embedded_first(measured, labels):
    h = H(Transformation(SIDE, objective="fastfill"))
    doubts = h.log_variances(measured.first, CLASS_INCREMENTAL)
    first = sorted(range(40), key=lambda item: -doubts[item])
    new, gallery = (measured.first.vectors(space, CLASS_INCREMENTAL) for space in (NEW, h))
    place = {"method": "FastFill", "variant": "uncertainty order, with side-information", "distance": "euclidean"}
    found = measured.rows.of(**place, metric="map", subset="all", x_name=SHARE, seed=0).sort_values("x")["value"]
    for step in (1, 8, 20):
        mixed = gallery.copy()
        mixed[first[: step * 40 // 21]] = new[first[: step * 40 // 21]]
        test = evaluate(new, mixed, labels, labels, exclude_self=True, distance="euclidean")
        assert found.iloc[step] == pytest.approx(test.mean_average_precision)


# What it stands on, and a second call.


def test_the_sidecar_names_what_a_seed_stands_on(measured):
    names = {"old", "new", "new, BCT A against old", f"SimCLR {DIM} beside old", "fct from old to new"}
    names |= {f"fct from old and SimCLR {DIM} to new", "fastfill from old to new"}
    names |= {f"fastfill from old and SimCLR {DIM} to new"}
    assert set(measured.rows.sidecar) == {"smoke/digits/0", "smoke/digits/1"}
    assert set(measured.rows.sidecar["smoke/digits/1"]["artifacts"]) == names


def test_what_is_published_is_what_takes_long_and_is_small(measured):
    names = {name.rpartition(", seed ")[0] for name in measured.to_publish}
    assert {"old", "new", f"SimCLR {DIM} beside old", "new, BCT A against old"} <= names
    assert not any("fct from" in name or "fastfill from" in name for name in names)


def test_a_second_call_trains_nothing_and_gives_the_same_scores(tiny_run, measured, found_only, comparable):
    again = measure(CHAPTER, tiny_run(Knobs, tables="F1,F5", seeds=[1])).rows.frame
    pd.testing.assert_frame_equal(comparable(measured.rows.frame.query("seed == 1")), comparable(again))


# Tuning.

VALUES = {"hidden_dim": (8, 16), "transformation.epochs": (1, 2), "side.learning_rate": (0.1,)}
CELLS = [(knob, value) for knob, values in VALUES.items() for value in values]


@pytest.fixture(scope="module")
def tuned_run(tiny_run):
    """Four classes of twenty digits, of which two are held out."""
    return tiny_run(tuning.Knobs, seeds=[2]).model_copy(update={"classes": 4, "train_per_class": 20})


@pytest.fixture(scope="module")
def tuned(tuned_run, keeps_trained, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch, without_test_images(tuned_run):
        patch.setattr(tuning, "VALUES", VALUES)
        return measure(tuning.CHAPTER, tuned_run)


def test_the_tuning_tests_every_value_without_and_with_side_information(tuned, require_sound):
    require_sound(tuned.rows, "fct_tuning")
    for (knob, value), (method, query), distance in itertools.product(
        CELLS, ((WITHOUT, "new"), (WITH, "new"), (WITH, "side")), DISTANCES
    ):
        cell = {"x_name": knob, "x": value, "method": method, "query_model": query, "distance": distance}
        found = tuned.rows.by_seed(**cell, subset="all", metric="cmc@1", variant="validation")
        assert list(found.index) == [102]
    assert set(zip(tuned.rows.frame["x_name"], tuned.rows.frame["x"], strict=True)) == set(CELLS)
    assert tuned.to_publish == {}


def test_a_tunings_row_is_the_score_on_held_out_images(tuned_run, tuned, found_only):
    own = Seed(changed(validation(tuned_run), {"knobs.hidden_dim": 16}), 102)
    held_out = images.images_to_test(own.run).labels.numpy()
    assert len(held_out) == 8
    new, h = (own.vectors(space, CLASS_INCREMENTAL) for space in (NEW, H(Transformation(SIDE))))
    test = evaluate(new, h, held_out, held_out, exclude_self=True, distance="euclidean")
    cell = {"x_name": "hidden_dim", "x": 16.0, "method": WITH, "query_model": "new", "distance": "euclidean"}
    found = tuned.rows.by_seed(**cell, subset="all", metric="map")[102]
    assert found == pytest.approx(test.mean_average_precision)


def test_the_best_value_is_the_best_mean_of_both_transformations_and_distances(tuned):
    judged = tuning.judged(tuned.rows)
    assert sorted(judged.index) == sorted(CELLS)
    for knob, value in CELLS:
        cell = {"x_name": knob, "x": value, "subset": "all", "metric": "cmc@1", "query_model": "new"}
        scores = [
            tuned.rows.by_seed(**cell, method=method, distance=distance)[102]
            for method, distance in itertools.product((WITHOUT, WITH), DISTANCES)
        ]
        assert judged[knob, value] == pytest.approx(sum(scores) / 4)


@pytest.mark.parametrize("profile", ["laptop", "study", "large", "heads"])
def test_one_value_is_changed_and_it_is_one_that_a_run_takes(profile):
    run = validation(settings({"profile": profile}, tuning.Knobs))
    found = {(case.columns["x_name"], case.columns["x"]): case for case in tuning.cases(run, run.seeds[0])}
    assert set(found) == {(knob, value) for knob in tuning.VALUES for value in tuning.values_of(run, knob)}
    for (knob, value), case in found.items():
        assert case.changes == {f"knobs.{knob}": value}
        own = case.run(run)
        assert value_of(own, f"knobs.{knob}") == value
        own.knobs.transformation.recipe()  # its values still go together
        own.knobs.side.recipe()


def test_no_model_is_planned_twice(tuned_run, keeps_trained):
    """Most do not depend on the value that is changed."""
    run = validation(tuned_run)
    planned = tasks(run, {102: list(tuning.cases(run, 102))})
    assert len({task.name for task in planned}) == len(planned)
    base = [task.name for task in planned if task.name.startswith(("old", "new"))]
    assert sorted(base) == ["new, seed 102", "old, seed 102"]


def test_the_studys_recipe_is_the_best_that_was_tried():
    """Of equal ones the first, as of the hidden sizes; SimCLR's are at the end of what was tried, as the page says."""
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "study", "cifar100"))
    run = settings({"profile": "study"}, Knobs)
    assert {knob: tuple(judged[knob].index) for knob in tuning.VALUES} == tuning.VALUES
    for knob, values in tuning.VALUES.items():
        best = judged[knob].idxmax()
        assert value_of(run, f"knobs.{knob}") == best
        assert (best in (values[0], values[-1])) == (knob.startswith("side") or knob == "temperature")


def test_the_recipe_of_heads_is_the_best_that_was_tried_but_for_epochs_that_cost_twice_as_much():
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "heads", "cifar100_lite"))
    run, start = (settings({"profile": "heads"}, knobs) for knobs in (Knobs, tuning.Knobs))
    for knob in tuning.VALUES:
        tried, chosen = judged[knob], value_of(run, f"knobs.{knob}")
        assert tuple(tried.index) == tuning.values_of(run, knob)
        assert value_of(start, f"knobs.{knob}") in tried
        if knob == "side.epochs":
            assert tried.max() - tried[chosen] < 0.002
        else:
            assert chosen == tried.idxmax()
            assert chosen not in (tried.index[0], tried.index[-1])


# Trials.

RECIPES = {"the study's": {}, "longer": {"knobs.transformation.epochs": 3}}


@pytest.fixture(scope="module")
def tried(tiny_run, keeps_trained):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "RECIPES", RECIPES)
        return measure(trials.CHAPTER, tiny_run(Knobs))


def test_every_order_has_its_rows_and_a_recipe_the_two_that_compare_it(tried, require_sound):
    require_sound(tried.rows, "fct_trials")
    areas = tried.rows.of(metric="auc cmc@1")
    wanted = {f"{order} order, the study's recipe" for order in trials.ORDERS}
    assert set(areas["variant"]) == wanted | {"random order, longer recipe", "uncertainty order, longer recipe"}
    assert len(tried.rows.of(metric="answered by new")) == 2 * len(areas)
    correlations = tried.rows.of(metric="rank correlation")
    assert sorted(correlations["variant"]) == ["longer", "the study's"]
    assert correlations["value"].between(-1, 1).all()
    assert set(tried.rows.frame["distance"]) == {"euclidean"}
    assert tried.to_publish == {}


@pytest.mark.parametrize(("recipe", "order"), [("the study's", "class by class"), ("longer", UNCERTAINTY)])
def test_a_trials_row_is_the_area_of_a_curve_made_by_hand(tried, labels, recipe, order):
    own = tried.first.under(RECIPES[recipe])
    mixed = Mixed(H(Transformation(objective="fastfill")), NEW, order)
    new, changed_ = (own.vectors(space, CLASS_INCREMENTAL) for space in (NEW, mixed.old))
    items = order_of(own, mixed, CLASS_INCREMENTAL)
    curve = backfilling_curve(new, changed_, new, labels, labels, items, exclude_self=True, distance="euclidean")
    for metric, name in (("cmc@1", "cmc@1"), ("map", "mean_average_precision")):
        found = tried.rows.by_seed(variant=f"{order} order, {recipe} recipe", metric=f"auc {metric}")[0]
        assert found == pytest.approx(curve.area[name])


def test_a_recipe_changes_what_it_names_and_nothing_else():
    run = settings({"profile": "study"}, Knobs)
    by_variant: dict[str, Case] = {case.columns["variant"]: case for case in trials.cases(run, 0)}
    own, released = run.knobs.transformation, plan.Knobs().transformation
    other = by_variant["random order, the release's epochs and rate recipe"].run(run)
    assert other.knobs.transformation == own.model_copy(
        update={"epochs": released.epochs, "learning_rate": released.learning_rate}
    )
    assert other.model_copy(update={"knobs": run.knobs}) == run
    assert by_variant["random order, the study's recipe"].run(run) == run


def test_the_published_trials_are_the_studys_own_curves():
    """Where both measure the same, both say the same, but for what another processor makes of a fit."""
    published = sidecars.published(trials.CHAPTER, "study", "cifar100")
    study = sidecars.published(CHAPTER, "study", "cifar100")
    assert len(set(published.frame["seed"])) >= 3
    for order in (RANDOM, UNCERTAINTY):
        mine = published.by_seed(variant=f"{order} order, the study's recipe", metric="auc cmc@1")
        place = {"method": "FastFill", "variant": f"{order} order, without side-information", "subset": "all"}
        theirs = study.by_seed(**place, metric="auc cmc@1", distance="euclidean")
        assert list(mine) == pytest.approx(list(theirs[mine.index]), abs=0.01)
