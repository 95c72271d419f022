"""One seed's tests: against evaluations made by hand, each model and each embedding made once, splits apart."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models, rows, seed_tests
from compatlib.study.chapters import bct
from compatlib.study.seed_tests import OPEN_SET, SeedTests
from compatlib.study.settings import settings
from compatlib.study.upgrades import Upgrade, model_of
from compatlib.study.weights import WEIGHTS

CLASSES = 10
PLAIN, SAMPLES = "class-incremental", "sample-incremental"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


def run_with(**knobs):
    """Ten classes of six digits, a third of them tested on, one epoch."""
    smoke = settings({"profile": "smoke", "dataset": "digits", **knobs}, bct.Knobs)
    sizes = {"classes": CLASSES, "train_per_class": 6, "test_per_class": 3}
    training = smoke.training.model_copy(update={"epochs": 1, "batch_size": 16})
    return smoke.model_copy(update=sizes | {"training": training})


@pytest.fixture(scope="module")
def tests():
    return SeedTests(run_with(), 0, "bct")


def by_hand(run, query, gallery, images, **options):
    backbones = [model_of(run, source, 0)[0].backbone for source in (query, gallery)]
    pair = [embed(backbone, images) for backbone in backbones]
    return evaluate(*pair, images.labels, images.labels, exclude_self=True, **options)


def equal(first, second) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name == "average_precision")
        for name in ("first_rank", "average_precision", "nearest")
    )


@pytest.mark.parametrize(
    ("query", "gallery", "split"),
    [
        ("new", "old", PLAIN),
        ("old", "old", PLAIN),
        (Upgrade("BCT C"), "old", PLAIN),
        ("new", "old", "three generations"),
        ("new", "old", OPEN_SET),
        (Upgrade("BCT C", "old_open", "new_open"), "old_open", OPEN_SET),
    ],
)
def test_a_test_is_an_evaluation_made_by_hand(tests, query, gallery, split):
    images = models.open_set(tests.run).test if split == OPEN_SET else models.test_images(tests.run)
    assert equal(tests.test(query, gallery, split), by_hand(tests.run, query, gallery, images))


def test_the_runs_distance_is_used():
    run = run_with(distance="euclidean")
    found = SeedTests(run, 0, "bct").test("new", "old", PLAIN)
    expected = {
        name: by_hand(run, "new", "old", models.test_images(run), distance=name) for name in ("euclidean", "cosine")
    }
    assert equal(found, expected["euclidean"])
    assert not equal(found, expected["cosine"])


def test_open_set_tests_have_identities_of_their_own(tests):
    own, plain = tests.images(OPEN_SET), tests.images(PLAIN)
    assert own.labels.unique().tolist() == [6, 7, 8, 9]
    assert len(own) == 4 * (6 + 3)
    assert plain.digest() == tests.images(SAMPLES).digest() == models.test_images(tests.run).digest()
    assert len(plain) == CLASSES * 3
    for role in ("old_open", "new_open"):
        assert not set(models.ROLES[role].share(tests.run).labels.tolist()) & set(own.labels.tolist())


def test_caches_do_not_mix_splits(tests):
    """The same pair of models on both, in either order."""
    for splits in ((PLAIN, OPEN_SET), (OPEN_SET, PLAIN)):
        fresh = SeedTests(tests.run, 0, "bct")
        lengths = {split: len(fresh.test("new", "old", split).first_rank) for split in splits}
        assert lengths == {PLAIN: 30, OPEN_SET: 36}
        assert {split: fresh.embeddings("new", split).shape[0] for split in splits} == lengths
        for split in splits:
            assert equal(fresh.test("new", "old", split), tests.test("new", "old", split))


def test_caches_do_not_mix_models(tests):
    pairs = [("new", "old"), ("old", "new"), ("old", "old"), (Upgrade("BCT C"), "old"), ("new", Upgrade("BCT C"))]
    found = [tests.test(*pair, PLAIN) for pair in pairs]
    assert len(set(map(id, found))) == len(pairs)
    assert not any(equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_every_model_and_every_embedding_is_made_once(tests, monkeypatch):
    fresh, made, embedded = SeedTests(tests.run, 0, "bct"), [], []

    def make(run, source, seed):
        made.append(source)
        return model_of(run, source, seed)

    def count(backbone, images):
        embedded.append(len(images))
        return embed(backbone, images)

    monkeypatch.setattr(seed_tests, "model_of", make)
    monkeypatch.setattr(seed_tests, "embed", count)
    aliases = [Upgrade("BCT C"), Upgrade("BCT C", Upgrade("independent", new="old"), weight=WEIGHTS["BCT C"])]
    for new in (*aliases, "new", Upgrade("independent")):
        for split in (PLAIN, SAMPLES):
            assert fresh.test(new, "old", split) is fresh.test(new, "old", PLAIN)
            fresh.class_means(new)
    assert made == [Upgrade("BCT C"), "old", "new"]
    assert list(fresh.models) == made
    assert sorted(embedded) == [30, 30, 30, 60, 60]
    assert fresh.model(aliases[0]) is fresh.model(aliases[1])
    assert fresh.test("new", "old", PLAIN) is fresh.test(Upgrade("independent"), "old", SAMPLES)


@pytest.mark.parametrize("source", ["old", "old_samples", Upgrade("BCT C")])
def test_class_means_are_those_of_all_training_images(tests, source):
    """Also of the classes that the model was not trained on."""
    training = models.training_images(tests.run)
    embeddings = embed(model_of(tests.run, source, 0)[0].backbone, training)
    found = tests.class_means(source)
    assert found.shape == (CLASSES, tests.run.network.dim)
    assert found.dtype == np.float32
    for label in range(CLASSES):
        rows_of_class = [embeddings[i] for i in range(len(training)) if training.labels[i] == label]
        assert len(rows_of_class) == 6
        torch.testing.assert_close(torch.from_numpy(found[label]), sum(rows_of_class) / 6)


def test_masks_follow_the_classes_that_the_old_model_knew(tests):
    labels = models.test_images(tests.run).labels.numpy()
    masks = tests.masks(PLAIN)
    assert list(masks) == ["all", "known", "unknown"]
    assert masks["all"].all()
    assert np.array_equal(masks["known"], labels < 5)
    assert np.array_equal(masks["unknown"], labels >= 5)
    for split, count in ((OPEN_SET, 36), (SAMPLES, len(labels))):  # no class is known, or every one
        only = tests.masks(split)
        assert list(only) == ["all"]
        assert only["all"].tolist() == [True] * count


def test_a_record_has_what_the_run_and_the_seed_say(tests):
    record = SeedTests(run_with(distance="euclidean"), 3, "chapter").record(metric="map", value=0.5, split=PLAIN)
    expected = {
        "profile": "smoke",
        "dataset": "digits",
        "chapter": "chapter",
        "seed": 3,
        "distance": "euclidean",
        "metric": "map",
        "value": 0.5,
        "split": PLAIN,
    }
    assert record == expected
    assert len(rows.table([record])) == 1


def test_a_model_is_of_its_seed(tests, monkeypatch):
    asked = []

    def make(run, source, seed):
        asked.append((run, source, seed))
        return SimpleNamespace(), False

    monkeypatch.setattr(seed_tests, "model_of", make)
    SeedTests(tests.run, 5, "bct").model(Upgrade("independent"))
    assert asked == [(tests.run, "new", 5)]
