"""The chapter's rows: which cells there are, and every kind of number computed again by other means."""

import itertools

import numpy as np
import pytest
import torch

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import bct, independent
from compatlib.methods import sfsc as method_module
from compatlib.study import models, rows, switchable_models, switchables
from compatlib.study.chapters import sfsc
from compatlib.study.settings import settings
from compatlib.study.switchable_rows import EPOCH, FULL_GALLERY, MEAN, OWN_GALLERIES, WHOLE_MATRIX
from compatlib.study.switchables import APART, METHODS, SWITCHABLE, Trained

WIDTHS, SCORES = (0.25, 0.5, 1.0), ("cmc@1", "cmc@5", "map")
NAMES = [f"{width:g}" for width in WIDTHS]
CELL = [name for name in rows.COLUMNS if name not in ("seed", "value")]
OPEN = ("independent", "BCT-S", "SFSC")


def run_with(**given):
    """Ten classes of eight digits, four more to test each, two epochs; seed 0 has no sweep."""
    chosen = settings({"profile": "smoke", "dataset": "digits", **given}, sfsc.Knobs)
    training = chosen.training.model_copy(update={"epochs": 2, "batch_size": 16})
    sizes = {"classes": 10, "train_per_class": 8, "test_per_class": 4, "training": training}
    sizes |= {"seeds": (0, 1), "sweep_seeds": (1,)}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update={"widths": WIDTHS})})


@pytest.fixture(scope="module")
def run():
    return run_with()


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield sfsc.measure(run)


@pytest.fixture
def found_only(monkeypatch):
    """From here on every model is found: none can be trained."""
    for module, name in ((independent, "fit"), (bct, "fit"), (method_module, "fit"), (method_module, "fit_joint")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a model is trained again"))


def vectors(run, method: str, split: str, width: float, seed: int = 1) -> np.ndarray:
    test = models.test_images(run) if split == "closed" else models.open_set(run).test
    if method in APART and width == 1:
        return embed(models.base_model(run, switchables.SPLITS[split], seed)[0].backbone, test).numpy()
    what = Trained(method, split, width if method in APART else None)
    return embed(switchable_models.made(run, what, seed)[0].backbones[width], test).numpy()


def expected_pairs(method: str) -> set[tuple[str, str]]:
    every = set(itertools.product(NAMES, NAMES))
    return every if method in WHOLE_MATRIX else {pair for pair in every if pair[1] in (pair[0], "1")}


def test_every_method_has_the_pairs_of_widths_that_its_tables_show(measured):
    for split, methods in (("closed", METHODS), ("open-set", OPEN)):
        for method, metric in itertools.product(methods, SCORES):
            found = measured.rows.of(split=split, method=method, metric=metric)
            pairs = set(zip(found["query_model"], found["gallery_model"], strict=True))
            assert pairs == expected_pairs(method) | {(MEAN, OWN_GALLERIES), (MEAN, FULL_GALLERY)}
            is_swept = split == "open-set" or method in sfsc.OF_TABLE["S2"][1]
            assert set(found["seed"]) == ({1} if is_swept else {0, 1})
    assert set(measured.rows.of(split="open-set")["method"]) == {*OPEN, "chance"}


def test_no_cell_has_two_values_of_a_seed(measured):
    frame = measured.rows.frame
    assert not frame.duplicated([*CELL, "seed"]).any()
    assert frame["value"].notna().all()
    assert set(frame["chapter"]) == {"sfsc"}


@pytest.mark.parametrize("split", switchables.SPLITS)
def test_scores_are_those_of_an_evaluation_made_by_hand(run, measured, split, found_only):
    images = models.test_images(run) if split == "closed" else models.open_set(run).test
    labels = images.labels.numpy()
    for method in METHODS if split == "closed" else OPEN:
        scores = {}
        for query, gallery in sorted(expected_pairs(method)):
            pair = (vectors(run, method, split, float(width)) for width in (query, gallery))
            test = evaluate(*pair, labels, labels, exclude_self=True)
            scores[query, gallery] = {"cmc@1": test.cmc[1], "cmc@5": test.cmc[5], "map": test.mean_average_precision}
            cell = {"split": split, "method": method, "query_model": query, "gallery_model": gallery}
            for metric, value in scores[query, gallery].items():
                assert measured.rows.by_seed(**cell, metric=metric)[1] == pytest.approx(value, abs=1e-6)
        for metric in SCORES:
            cell = {"split": split, "method": method, "query_model": MEAN, "metric": metric}
            own = np.mean([scores[name, name][metric] for name in NAMES])
            full = np.mean([scores[name, "1"][metric] for name in NAMES[:-1]])
            assert measured.rows.by_seed(**cell, gallery_model=OWN_GALLERIES)[1] == pytest.approx(own, abs=1e-6)
            assert measured.rows.by_seed(**cell, gallery_model=FULL_GALLERY)[1] == pytest.approx(full, abs=1e-6)


def test_sizes_are_those_of_the_stand_alone_models(run, measured, found_only):
    for method in METHODS:
        made = [switchable_models.made(run, what, 1)[0] for what in switchables.trainings(run, method)]
        for width, backbone in {width: each for own in made for width, each in own.backbones.items()}.items():
            cell = {"split": "closed", "method": method, "query_model": f"{width:g}"}
            count = sum(parameter.numel() for parameter in backbone.parameters())
            assert measured.rows.by_seed(**cell, metric="parameters")[1] == count
    sizes = [
        [measured.rows.by_seed(split="closed", method=m, query_model=name, metric=what)[1] for name in NAMES]
        for m, what in itertools.product(METHODS, ("parameters", "flops"))
    ]
    # All methods' models of a width are alike, and a narrower one is smaller.
    assert len(set(map(tuple, sizes))) == 2
    assert all(own == sorted(set(own)) for own in sizes)


def test_the_cost_of_a_method_is_all_that_it_trains(run, measured, found_only):
    full = models.base_model(run, "new", 1)[0].artifact.about["cost"]["seconds"]
    for method in METHODS:
        trained = [switchable_models.made(run, what, 1)[0] for what in switchables.trainings(run, method)]
        seconds = sum(each.artifact.about["cost"]["seconds"] for each in trained) + (full if method in APART else 0)
        row = measured.rows.by_seed(split="closed", method=method, metric="training_seconds")
        assert row[1] == pytest.approx(seconds, abs=1e-5)


def test_statistics_are_those_that_the_training_kept(run, measured, found_only):
    for method in SWITCHABLE:
        statistics = switchable_models.made(run, Trained(method), 1)[0].statistics
        where = {"split": "closed", "method": method}
        for place, name in enumerate(("1", "0.5", "0.25")):
            for metric, values in (
                ("gradient norm", statistics.norm),
                ("uncertainty", statistics.uncertainty),
                ("hurt", statistics.hurt),
            ):
                found = measured.rows.of(**where, metric=metric, query_model=name, x_name=EPOCH, seed=1)
                assert found.sort_values("x")["value"].tolist() == pytest.approx(values[:, place].tolist(), abs=1e-5)
        pairs = ((0, 1), (0, 2), (1, 2))
        by_place = ("1", "0.5", "0.25")
        for (i, j), (metric, values) in itertools.product(
            pairs, (("cosine", statistics.cosine), ("conflicts", statistics.conflicts))
        ):
            pair = {"query_model": by_place[j], "gallery_model": by_place[i], "seed": 1}
            found = measured.rows.of(**where, metric=metric, x_name=EPOCH, **pair).sort_values("x")
            assert found["value"].tolist() == pytest.approx(values[:, i, j].tolist(), abs=1e-5)
        row = measured.rows.by_seed(**where, metric="hurt", x_name="")
        assert row[1] == pytest.approx(float(statistics.hurt.mean()), abs=1e-5)
        share = np.mean([float(statistics.conflicts[:, i, j].mean()) for i, j in pairs])
        row = measured.rows.by_seed(**where, metric="conflicts", x_name="", query_model="")
        assert row[1] == pytest.approx(share, abs=1e-5)
        row = measured.rows.by_seed(**where, metric="hurt any", x_name="")
        assert row[1] == pytest.approx(float(statistics.hurt_any.mean()), abs=1e-5)
        tensors = measured.rows.of(**where, metric="conflicts", x_name="tensor", seed=1).sort_values("x")
        assert tuple(tensors["variant"]) == statistics.tensors
        shares = [
            np.mean([float(statistics.tensor_conflicts[:, place, i, j].mean()) for i, j in pairs])
            for place in range(len(statistics.tensors))
        ]
        assert tensors["value"].tolist() == pytest.approx(shares, abs=1e-5)


def test_tensors_have_the_names_that_the_network_gives_them(run, measured, found_only):
    network = switchable_models._network(run, Trained("SFSC"), 1, WIDTHS)
    names = switchable_models.made(run, Trained("SFSC"), 1)[0].statistics.tensors
    by_name = dict(network.backbone.named_parameters())
    for name, parameter in zip(names, network.shared_parameters(), strict=False):
        assert by_name[name] is parameter
    assert names[-1] == "classifier.weight"


def test_a_table_that_is_not_asked_for_is_not_measured(monkeypatch):
    planned = []
    monkeypatch.setattr(sfsc, "train_all", lambda tasks: planned.extend(task.name for task in tasks))
    monkeypatch.setattr(sfsc, "_records", lambda tests: iter(()))
    monkeypatch.setattr(sfsc.sidecars, "description", lambda *_: {})
    sfsc.measure(run_with(tables="open").model_copy(update={"seeds": (1,)}))
    assert "SFSC, open-set, seed 1" in planned
    assert "SFSC, seed 1" in planned  # S1 is always there
    assert "BCT-S + uncertainty, seed 1" not in planned
    assert len(planned) == len(set(planned))


def test_base_models_come_before_what_is_held_against_them(run):
    stages = {task.name: task.stage for task in sfsc.tasks(run, 1)}
    assert {stages["new, seed 1"], stages["new_open, seed 1"], stages["SFSC, seed 1"]} == {0}
    assert stages["one-to-one BCT 0.25, seed 1"] == 1


def test_the_current_version_is_the_one_that_a_run_writes(run, measured):
    for seed in run.seeds:
        about = measured.rows.sidecar[f"smoke/digits/{seed}"]
        assert rows.made_by(about["made_from"], sfsc.version(run))
    assert set(measured.base_models) == {"new, seed 0", "new, seed 1", "new_open, seed 1"}
    assert measured.to_publish == measured.models


def test_another_seed_gives_other_models(run, measured, found_only):
    first, second = (vectors(run, "SFSC", "closed", 0.25, seed) for seed in (0, 1))
    assert not np.allclose(first, second)
    assert torch.isfinite(torch.from_numpy(first)).all()
