"""The chapter's rows: which cells there are, and every kind of number computed again by other means."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from compatlib.evaluation.compatibility import negative_flips
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import bct as bct_method
from compatlib.methods import fct as method
from compatlib.methods import independent, side_information
from compatlib.study import models, rows, sidecars
from compatlib.study.chapters import fct
from compatlib.study.settings import settings
from compatlib.study.transformation_rows import ANEW, IN_HALVES, SHARE, SIZE, WITH, WITHOUT
from compatlib.study.transformation_tests import applied
from compatlib.study.transformations import Side, Transformed
from compatlib.study.upgrades import Upgrade

PLAIN = "class-incremental"
KNOWN, CLASSES, PER_CLASS, DIM = 5, 10, 4, 16
SUBSETS, DISTANCES, SCORES = ("all", "known", "unknown"), ("cosine", "euclidean"), ("cmc@1", "cmc@5", "map")
SIDE = Side("SimCLR", DIM)
CELL = [name for name in rows.COLUMNS if name not in ("seed", "value")]
MAIN = {"split": PLAIN, "variant": "", "x_name": ""}
TIMES = ("images_per_second", "vectors_per_second", "build_seconds", "search_seconds")


def run_with(**given):
    """Ten classes of eight digits, four more to test each, an epoch or two; seed 1 has no sweep."""
    chosen = settings({"profile": "smoke", "dataset": "digits", **given}, fct.Knobs)
    training = chosen.training.model_copy(update={"epochs": 1, "batch_size": 16})
    recipes = {
        "side": chosen.knobs.side.model_copy(update={"epochs": 1, "batch_size": 16}),
        "transformation": chosen.knobs.transformation.model_copy(update={"epochs": 2, "batch_size": 16}),
    }
    sizes = {"classes": CLASSES, "train_per_class": 8, "test_per_class": PER_CLASS, "training": training}
    knobs = chosen.knobs.model_copy(update=recipes)
    return chosen.model_copy(update=sizes | {"seeds": (0, 1), "sweep_seeds": (0,), "knobs": knobs})


@pytest.fixture(scope="module")
def run():
    return run_with()


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield fct.measure(run)


@pytest.fixture(scope="module")
def tests(measured):
    """The first seed's models and embeddings."""
    return measured.first


@pytest.fixture
def found_only(monkeypatch):
    """From here on every model is found: none can be trained."""

    def refuse(*_, **__):
        raise AssertionError("a model is trained again")

    for module in (independent, bct_method, method):
        monkeypatch.setattr(module, "fit", refuse)
    for name in ("fit_simclr", "fit_autoencoder"):
        monkeypatch.setattr(side_information, name, refuse)
    for name in ("fit_fastfill", "fit_on_images"):
        monkeypatch.setattr(method, name, refuse)


def labels(run) -> np.ndarray:
    return models.test_images(run).labels.numpy()


def masks(run) -> dict[str, np.ndarray]:
    known = labels(run) < KNOWN
    return {"all": np.ones(len(known), bool), "known": known, "unknown": ~known}


def score(run, query, gallery, distance, subset, metric) -> float:
    found = evaluate(query, gallery, labels(run), labels(run), exclude_self=True, distance=distance)
    found = found.subset(masks(run)[subset])
    return found.mean_average_precision if metric == "map" else found.cmc[int(metric[4:])]


def by_hand(tests, what: Transformed, stored=None) -> np.ndarray:
    """h of the test images, by the module's own forward pass in the whole."""
    old, side = tests.stored(what) if stored is None else stored
    module = tests.module(what)
    module = module.transformation if what.objective == "fastfill" else module
    with torch.no_grad():
        return module(torch.from_numpy(old), torch.from_numpy(side)).numpy()


# Which cells there are.


def test_the_main_table_has_every_test_by_distance_subset_and_score(measured):
    pairs = {
        "independent": [("old", "old"), ("new", "old"), ("new", "new")],
        "BCT A": [("new", "old"), ("new", "new")],
        WITHOUT: [("new", "h(old)"), ("h(old)", "h(old)")],
        WITH: [("new", "h(old)"), ("h(old)", "h(old)")],
    }
    found = measured.rows.of(**MAIN, metric=list(SCORES), method=list(pairs))
    found = found[found["query_model"].isin(["old", "new", "h(old)"]) & (found["gallery_model"] != "mixed")]
    expected = [
        (method, *pair, distance, subset, metric, seed)
        for method, own in pairs.items()
        for pair in own
        for distance, subset, metric, seed in itertools.product(DISTANCES, SUBSETS, SCORES, (0, 1))
    ]
    columns = ["method", "query_model", "gallery_model", "distance", "subset", "metric", "seed"]
    assert sorted(map(tuple, found[columns].to_numpy())) == sorted(expected)


def test_no_cell_has_two_values_of_a_seed(measured):
    frame = measured.rows.frame
    assert not frame.duplicated([*CELL, "seed"]).any()
    assert frame["value"].notna().all()
    assert set(frame["chapter"]) == {"fct"}


def test_sweeps_are_of_the_sweeps_seeds_only(measured):
    frame = measured.rows.frame
    swept = frame["x_name"].eq(SIZE) | frame["split"].eq("three generations") | frame["variant"].isin(fct.CHANGES)
    swept |= frame["variant"].eq(ANEW)
    assert set(frame[swept]["seed"]) == {0}
    assert set(frame[frame["gallery_model"] == "mixed"]["seed"]) == {0, 1}


def test_a_table_that_is_not_asked_for_is_not_measured(run, monkeypatch):
    trained = []
    monkeypatch.setattr(fct, "train_all", lambda tasks: trained.extend(task.name for task in tasks))
    fct.train(run_with(tables="F1").model_copy(update={"seeds": (0,)}))
    assert sorted(trained) == sorted(
        f"{name}, seed 0"
        for name in (
            "old",
            "new",
            "new, BCT A against old",
            f"SimCLR {DIM} beside old",
            "fct from old to new",
            f"fct from old and SimCLR {DIM} to new",
        )
    )


def test_side_information_of_other_kinds_and_of_other_sizes_may_be_asked_for_apart():
    own, others = Side("SimCLR", DIM), {Side("autoencoder", DIM), Side("supervised", DIM)}
    sizes = {Side("SimCLR", DIM // 4), Side("SimCLR", DIM // 2), Side("SimCLR", 2 * DIM)}
    for tables, wanted in (("F1", None), ("F2", others), ("sizes", sizes), ("F2,sizes", others | sizes)):
        found = fct.sides(run_with(tables=tables))
        assert found == [] if wanted is None else found[:2] == [None, own]
        assert set(found[2:]) == (wanted or set())
        assert len(set(found)) == len(found)


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match=r"unknown table \['F9'\]; choose from F1, views, F2"):
        run_with(tables="F1,F9")


# The numbers.


@pytest.mark.parametrize("distance", DISTANCES)
def test_transformed_galleries_are_scored_as_any_other(run, measured, tests, distance):
    new = tests.embeddings("new")
    for name, what in ((WITHOUT, Transformed()), (WITH, Transformed(SIDE))):
        changed = by_hand(tests, what)
        for (query, sides), subset, metric in itertools.product(
            {"new": (new, changed), "h(old)": (changed, changed)}.items(), SUBSETS, SCORES
        ):
            cell = {**MAIN, "method": name, "query_model": query, "gallery_model": "h(old)"}
            cell |= {"subset": subset, "metric": metric, "distance": distance}
            expected = score(run, *sides, distance, subset, metric)
            assert measured.rows.by_seed(**cell)[0] == pytest.approx(expected)
        assert np.allclose(tests.transformed(what), changed, atol=1e-5)


@pytest.mark.parametrize(
    ("method_name", "query", "gallery"), [("independent", "old", "old"), ("independent", "new", "old")]
)
def test_models_apart_are_scored(run, measured, tests, method_name, query, gallery):
    for distance, subset in itertools.product(DISTANCES, SUBSETS):
        expected = score(run, tests.embeddings(query), tests.embeddings(gallery), distance, subset, "map")
        cell = {**MAIN, "method": method_name, "query_model": query, "gallery_model": gallery}
        assert measured.rows.by_seed(**cell, subset=subset, metric="map", distance=distance)[0] == pytest.approx(
            expected
        )


def test_bct_is_form_a_of_its_chapter(run, measured, tests):
    query = tests.embeddings(Upgrade("BCT A"))
    cell = {**MAIN, "method": "BCT A", "query_model": "new", "gallery_model": "old", "subset": "all", "metric": "map"}
    expected = score(run, query, tests.embeddings("old"), "cosine", "all", "map")
    assert measured.rows.by_seed(**cell, distance="cosine")[0] == pytest.approx(expected)


def test_flips_are_those_of_first_ranks(run, measured, tests):
    old, new, changed = tests.embeddings("old"), tests.embeddings("new"), tests.transformed(Transformed(SIDE))
    for distance, (subset, mask) in itertools.product(DISTANCES, masks(run).items()):
        ranks = [
            evaluate(*pair, labels(run), labels(run), exclude_self=True, distance=distance).first_rank[mask]
            for pair in ((old, old), (new, changed))
        ]
        cell = {**MAIN, "method": WITH, "gallery_model": "h(old)", "subset": subset, "metric": "negative_flips"}
        found = measured.rows.by_seed(**cell, distance=distance)[0]
        assert found == pytest.approx(np.mean([b == 1 and a != 1 for b, a in zip(*ranks, strict=True)]))
        assert found == pytest.approx(negative_flips(*ranks))


def test_half_precision_is_of_what_is_stored(run, measured, tests):
    what = Transformed(SIDE)
    stored = [vectors.astype(np.float16).astype(np.float32) for vectors in tests.stored(what)]
    assert not np.array_equal(stored[0], tests.stored(what)[0])
    changed = applied(tests.module(what), *stored)[0]
    cell = {"split": PLAIN, "variant": IN_HALVES, "subset": "all", "metric": "map", "distance": "euclidean"}
    expected = score(run, tests.embeddings("new"), changed, "euclidean", "all", "map")
    assert measured.rows.by_seed(**cell)[0] == pytest.approx(expected)


def test_a_transformation_may_be_fitted_on_images_as_in_the_release(run, measured, tests):
    changed = by_hand(tests, Transformed(SIDE, source="images"))
    assert not np.allclose(changed, tests.transformed(Transformed(SIDE)))
    cell = {"split": PLAIN, "variant": ANEW, "subset": "known", "metric": "map", "distance": "cosine"}
    expected = score(run, tests.embeddings("new"), changed, "cosine", "known", "map")
    assert measured.rows.by_seed(**cell)[0] == pytest.approx(expected)


def test_side_information_is_compared_by_kind_and_size(run, measured, tests):
    expected = {("none", 0), ("autoencoder", DIM), ("supervised", DIM), *(("SimCLR", size) for size in (4, 8, 16, 32))}
    found = measured.rows.of(x_name=SIZE, gallery_model="h(old)")
    assert set(zip(found["variant"], found["x"], strict=True)) == expected
    cell = {"split": PLAIN, "x_name": SIZE, "subset": "all", "metric": "map", "distance": "cosine"}
    new = tests.embeddings("new")
    for kind, size in expected:
        side = Side(kind, size) if size else None
        value = score(run, new, tests.transformed(Transformed(side)), "cosine", "all", "map")
        assert measured.rows.by_seed(**cell, variant=kind, x=size, gallery_model="h(old)")[0] == pytest.approx(value)
        if side:
            own = tests.embeddings(side)
            value = score(run, own, own, "cosine", "all", "map")
            assert measured.rows.by_seed(**cell, variant=kind, x=size, gallery_model="side")[0] == pytest.approx(value)
    main = {**MAIN, "method": WITH, "query_model": "new", "gallery_model": "h(old)"}
    main |= {"subset": "all", "metric": "map", "distance": "cosine"}
    same = measured.rows.by_seed(**cell, variant="SimCLR", x=DIM, gallery_model="h(old)")[0]
    assert measured.rows.by_seed(**main)[0] == same


def test_every_change_is_measured_without_and_with_side_information(run, measured, tests):
    for words, (old, new) in fct.CHANGES.items():
        cell = {"variant": words, "subset": "all", "metric": "map", "distance": "euclidean"}
        for name, side in ((WITHOUT, None), (WITH, Side("SimCLR", DIM, old))):
            changed = tests.transformed(Transformed(side, old, new))
            value = score(run, tests.embeddings(new), changed, "euclidean", "all", "map")
            assert measured.rows.by_seed(**cell, method=name)[0] == pytest.approx(value)
    subsets = measured.rows.of(variant="half of the images, then all", metric="map")["subset"]
    assert set(subsets) == {"all"}  # the old model knew every class
    assert set(measured.rows.of(variant="a longer embedding", metric="map")["subset"]) == set(SUBSETS)


def test_a_chain_is_composed_or_learned_again(run, measured, tests):
    side = Side("SimCLR", DIM, "old_quarter")
    stored = tests.embeddings(side)
    once = by_hand(tests, Transformed(side, "old_quarter", "old"))
    twice = by_hand(tests, Transformed(side, "old", "new"), (once, stored))
    again = by_hand(tests, Transformed(side, "old_quarter", "new"))
    place = {"split": "three generations", "subset": "all", "metric": "map", "distance": "euclidean"}
    for words, query, gallery in (("", "old", once), ("composed", "new", twice), ("learned again", "new", again)):
        cell = {"method": WITH, "gallery_model": "h(v1)", "variant": words}
        value = score(run, tests.embeddings(query), gallery, "euclidean", "all", "map")
        assert measured.rows.by_seed(**place, **cell)[0] == pytest.approx(value, abs=2e-3)


# Backfilling.


def area(values) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("beside", ["without", "with"])
def test_curves_begin_transformed_and_end_backfilled(run, measured, tests, beside):
    side = SIDE if beside == "with" else None
    for name, objective in (("FCT", "fct"), ("FastFill", "fastfill")):
        changed, new = tests.transformed(Transformed(side, objective=objective)), tests.embeddings("new")
        found = measured.rows.of(method=name, gallery_model="mixed", x_name=SHARE, seed=0)
        for variant in set(found["variant"]):
            if not variant.endswith(f"order, {beside} side-information"):
                continue
            for distance, metric in itertools.product(DISTANCES, SCORES):
                own = found[
                    (found["variant"] == variant) & (found["distance"] == distance) & (found["metric"] == metric)
                ]
                own = own.sort_values("x")
                assert len(own) == 22
                assert own["x"].iloc[[0, -1]].tolist() == [0, 1]
                ends = [score(run, new, gallery, distance, "all", metric) for gallery in (changed, new)]
                assert own["value"].iloc[[0, -1]].tolist() == pytest.approx(ends)
                cell = {"method": name, "variant": variant, "distance": distance, "subset": "all"}
                mean = measured.rows.by_seed(**cell, metric=f"auc {metric}")[0]
                assert mean == pytest.approx(area(own["value"].tolist()))


@pytest.mark.parametrize("order", ["uncertainty", "distance"])
def test_what_is_doubted_or_missed_most_is_embedded_first(run, measured, tests, order):
    what = Transformed(objective="fastfill")
    changed, new = tests.transformed(what), tests.embeddings("new")
    doubts = tests.log_variances(what)
    missed = np.array([np.sqrt(((a - b) ** 2).sum()) for a, b in zip(new, changed, strict=True)])
    first = sorted(range(len(new)), key=lambda item: -(doubts if order == "uncertainty" else missed)[item])
    place = {"method": "FastFill", "variant": f"{order} order, without side-information", "distance": "euclidean"}
    for step in (1, 8, 20):
        count = step * len(new) // 21
        gallery = changed.copy()
        gallery[first[:count]] = new[first[:count]]
        cell = {**place, "metric": "map", "subset": "all", "x_name": SHARE}
        found = measured.rows.of(**cell, seed=0).sort_values("x")["value"].iloc[step]
        assert found == pytest.approx(score(run, new, gallery, "euclidean", "all", "map"), abs=2e-3)


def test_uncertainties_are_the_heads(tests):
    what = Transformed(SIDE, objective="fastfill")
    module = tests.module(what)
    embedding = torch.from_numpy(by_hand(tests, what))
    with torch.no_grad():
        expected = embedding @ module.uncertainty.weight[0] + module.uncertainty.bias
    assert np.allclose(tests.log_variances(what), expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="states no uncertainty; its objective must be 'fastfill'"):
        tests.log_variances(Transformed())


def test_areas_by_subset_average_to_that_of_all(measured):
    """Both halves of the classes have equally many queries."""
    for variant in ("random order, with side-information", "uncertainty order, with side-information"):
        cell = {"method": "FastFill", "variant": variant, "distance": "cosine", "metric": "auc cmc@1"}
        whole, known, unknown = (measured.rows.by_seed(**cell, subset=subset) for subset in SUBSETS)
        assert np.allclose(whole, (known + unknown) / 2)


# Costs, the sidecar, and a second call.


def test_costs_are_positive_and_the_exact_search_finds_all(measured):
    for metric in TIMES:
        assert (measured.rows.of(metric=metric)["value"] > 0).all()
    cell = {"metric": "recall@10", "distance": "cosine"}
    assert measured.rows.by_seed(**cell, variant="exact")[0] == 1
    assert 0.2 < measured.rows.by_seed(**cell, variant="IVF-PQ")[0] <= 1
    bytes_of = {v: measured.rows.by_seed(metric="bytes_per_item", variant=v)[0] for v in ("exact", "IVF-PQ")}
    assert bytes_of["exact"] == 4 * DIM > bytes_of["IVF-PQ"]


def test_the_sidecar_tells_what_the_rows_were_made_from(run, measured):
    assert set(measured.rows.sidecar) == {"smoke/digits/0", "smoke/digits/1"}
    about = measured.rows.sidecar["smoke/digits/1"]
    names = {"old", "new", "new, BCT A against old", f"SimCLR {DIM} beside old", "fct from old to new"}
    names |= {f"fct from old and SimCLR {DIM} to new", "fastfill from old to new"}
    names |= {f"fastfill from old and SimCLR {DIM} to new"}
    assert set(about["artifacts"]) == names
    assert about["made_from"]["settings"]["knobs"]["hidden_dim"] == 32
    assert rows.made_by(about["made_from"], fct.version(run))
    other = run_with(hidden_dim=33)
    assert not rows.made_by(about["made_from"], fct.version(other))
    current = sidecars.current_versions(measured.rows, fct)
    assert set(current) == {"smoke/digits"}


def test_what_is_published_is_what_takes_long_and_is_small(measured):
    names = {name.rpartition(", seed ")[0] for name in measured.to_publish}
    assert {"old", "new", f"SimCLR {DIM} beside old", "new, BCT A against old"} <= names
    assert not any("fct from" in name or "fastfill from" in name for name in names)
    assert {name.rpartition(", seed ")[0] for name in measured.base_models} <= set(models.ROLES)


def test_a_second_call_trains_nothing_and_gives_the_same_scores(run, measured, found_only):
    again = fct.measure(run_with(tables="F1,F5").model_copy(update={"seeds": (1,)}))
    first = measured.rows.frame
    first = first[(first["seed"] == 1) & ~first["metric"].isin(TIMES)]
    pd.testing.assert_frame_equal(
        first.sort_values(CELL).reset_index(drop=True), again.rows.frame.sort_values(CELL).reset_index(drop=True)
    )
