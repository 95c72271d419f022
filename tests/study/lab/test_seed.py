"""One seed: tests against evaluations made by hand, everything made once, splits and runs apart."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study.lab import images, rows, seed, spaces
from compatlib.study.lab.cases import case, measure, under
from compatlib.study.lab.images import CLASS_INCREMENTAL, CLOSED, GENERATIONS, OPEN_SET, SAMPLE_INCREMENTAL
from compatlib.study.lab.make import make
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import ClassMeans, Labels, Of, Space, of_role
from compatlib.study.lab.trainables import Base, Upgrade

pytestmark = pytest.mark.usefixtures("keeps_trained")
OLD, NEW = of_role("old"), of_role("new")
BCT = Of(Upgrade("BCT C"))
OPEN = Of(Upgrade("BCT C", Base("old_open"), "new_open"))


@pytest.fixture(scope="module")
def tests(tiny_run):
    return Seed(tiny_run(), 0, "bct")


def by_hand(run, query, gallery, split, distance):
    tested = images.open_set(run).test if split == OPEN_SET else images.images_to_test(run)
    pair = [embed(make(run, space.what, 0)[0].backbone(), tested) for space in (query, gallery)]
    return evaluate(*pair, tested.labels, tested.labels, exclude_self=True, distance=distance)


def equal(first, second) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name == "average_precision")
        for name in ("first_rank", "average_precision", "nearest")
    )


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("query", "gallery", "split"),
    [
        (NEW, OLD, CLASS_INCREMENTAL),
        (OLD, OLD, CLASS_INCREMENTAL),
        (BCT, OLD, CLASS_INCREMENTAL),
        (NEW, OLD, GENERATIONS),
        (NEW, OLD, OPEN_SET),
        (OPEN, of_role("old_open"), OPEN_SET),
    ],
)
def test_a_test_is_an_evaluation_made_by_hand(tests, query, gallery, split, distance):
    assert equal(tests.test(query, gallery, split, distance), by_hand(tests.run, query, gallery, split, distance))


@dataclass(frozen=True)
class Axes(Space):
    """Every item has an axis of its own, and shares it with the item at the same place alone."""

    is_gallery_of_queries: bool = True

    def vectors(self, seed, split):
        return np.eye(len(seed.labels(split)), dtype=np.float32)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_only_in_a_gallery_that_is_no_gallery_of_the_queries_a_query_finds_the_item_at_its_place(tests, distance):
    places = np.arange(40)
    own = tests.test(Axes(), Axes(), CLASS_INCREMENTAL, distance).nearest
    assert not (own == places).any()
    other = tests.test(Axes(), Axes(is_gallery_of_queries=False), CLASS_INCREMENTAL, distance).nearest
    assert (other == places).all()


def test_class_means_are_met_under_their_classes(tests):
    means = ClassMeans(Base("new"))
    found = tests.test(NEW, means, CLASS_INCREMENTAL, "cosine")
    queries, gallery = (tests.vectors(space, CLASS_INCREMENTAL) for space in (NEW, means))
    cosines = queries @ gallery.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(gallery, axis=1)
    labels = tests.labels(CLASS_INCREMENTAL)
    ranks = [1 + sum(own > own[label]) for own, label in zip(cosines, labels, strict=True)]
    assert found.first_rank.tolist() == ranks


def test_open_set_tests_have_identities_of_their_own(tests):
    labels = {split: tests.labels(split) for split in (OPEN_SET, CLASS_INCREMENTAL, SAMPLE_INCREMENTAL, CLOSED)}
    assert sorted(set(labels.pop(OPEN_SET))) == [6, 7, 8, 9]
    for own in labels.values():
        assert own.tolist() == images.images_to_test(tests.run).labels.tolist()


def test_splits_do_not_mix(tests):
    """The same pair of models on both, in either order."""
    for splits in itertools.permutations((CLASS_INCREMENTAL, OPEN_SET)):
        fresh = Seed(tests.run, 0, "bct")
        lengths = {split: len(fresh.test(NEW, OLD, split, "cosine").first_rank) for split in splits}
        assert lengths == {CLASS_INCREMENTAL: 40, OPEN_SET: 48}
        assert {split: len(fresh.vectors(NEW, split)) for split in splits} == lengths


def test_tests_do_not_mix_pairs_nor_distances(tests):
    pairs = [(NEW, OLD), (OLD, NEW), (OLD, OLD), (BCT, OLD), (NEW, BCT)]
    found = [tests.test(*pair, CLASS_INCREMENTAL, "cosine") for pair in pairs]
    found.append(tests.test(NEW, OLD, CLASS_INCREMENTAL, "euclidean"))
    assert not any(equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_everything_is_made_once(tests, monkeypatch):
    fresh, made, embedded = Seed(tests.run, 0, "bct"), [], []

    def count_made(run, what, number):
        made.append(what)
        return make(run, what, number)

    def count_embedded(backbone, tested):
        embedded.append(len(tested))
        return embed(backbone, tested)

    monkeypatch.setattr(seed, "make", count_made)
    monkeypatch.setattr(spaces, "embed", count_embedded)
    alike = Of(Upgrade("BCT C", weight=1.0))  # the method's own weight
    for new, split in itertools.product((BCT, alike, NEW), (CLASS_INCREMENTAL, SAMPLE_INCREMENTAL, GENERATIONS)):
        assert fresh.test(new, OLD, split, "cosine") is fresh.test(new, OLD, CLASS_INCREMENTAL, "cosine")
        fresh.vectors(ClassMeans(new.what), split)
    assert made == [Upgrade("BCT C"), Base("old"), Base("new")]
    assert sorted(embedded) == [40, 40, 40, 80, 80]


def test_a_model_is_of_its_run_and_its_seed(tests, monkeypatch):
    asked = []

    def record(run, what, number):
        asked.append((run, what, number))
        return object(), False

    monkeypatch.setattr(seed, "make", record)
    Seed(tests.run, 5).made(Base("new"))
    assert asked == [(tests.run, Base("new"), 5)]


def test_a_seed_of_the_run_with_other_values_is_made_once_and_apart(tests):
    own = Seed(tests.run, 3, "chapter")
    assert own.under({}) is own
    other = own.under({"training.epochs": 2})
    assert own.under({"training.epochs": 2}) is other
    assert (other.run.training.epochs, other.seed, other.chapter) == (2, 3, "chapter")
    assert own.under({"training.epochs": tests.run.training.epochs}).run == own.run
    assert not np.allclose(own.vectors(NEW, CLASS_INCREMENTAL), other.vectors(NEW, CLASS_INCREMENTAL))


@measure()
def epochs(own, _):
    """A value of the run, two rows."""
    yield {"metric": "epochs", "value": own.run.training.epochs}
    yield {"metric": "epochs", "value": 0.5, "subset": "known", "method": "the row's own"}


def test_a_row_has_the_columns_of_run_seed_and_case_and_its_own_before_them(tests):
    own = case(Labels(), Labels(), epochs, method="of the case", split=CLASS_INCREMENTAL)
    found = list(Seed(tests.run, 3, "chapter").rows([own, *under([own], {"training.epochs": 9})]))
    place = {"profile": "smoke", "dataset": "digits", "chapter": "chapter", "seed": 3, "split": CLASS_INCREMENTAL}
    first = place | {"metric": "epochs", "method": "of the case"}
    second = first | {"value": 0.5, "subset": "known", "method": "the row's own"}
    assert found == [first | {"value": 1}, second, first | {"value": 9}, second]
    assert len(rows.table(found)) == 4
