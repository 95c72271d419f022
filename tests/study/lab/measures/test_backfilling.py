"""Curves of a gallery that is embedded again: mixed and scored by hand at every cut-off."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import rankdata

from compatlib.evaluation.retrieval import evaluate
from compatlib.study.lab import orders
from compatlib.study.lab.cases import BY_CLASS, case
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.measures import answers, correlation, curve, curve_area
from compatlib.study.lab.measures.backfilling import LOOKED_AT, SHARE, answered
from compatlib.study.lab.orders import DISTANCE, RANDOM, UNCERTAINTY
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import H, Mixed, of_role
from compatlib.study.lab.trainables import Base, Transformation

SCORES = ("cmc@1", "cmc@5", "map")


def asked(seed, ask, mixed, distance="euclidean") -> list[dict]:
    return list(ask(seed, case(mixed.new, mixed, ask, split=CLASS_INCREMENTAL, distance=distance)))


def by_hand(seed, mixed, count: int, labels, distance="euclidean"):
    """The test of the gallery whose first `count` items are embedded again."""
    new, gallery = seed.vectors(mixed.new, CLASS_INCREMENTAL), seed.vectors(mixed.old, CLASS_INCREMENTAL).copy()
    first = orders.order_of(seed, mixed, CLASS_INCREMENTAL)[:count]
    gallery[first] = new[first]
    return evaluate(new, gallery, labels, labels, exclude_self=True, distance=distance)


def score(test, metric: str) -> float:
    return test.mean_average_precision if metric == "map" else test.cmc[int(metric[4:])]


@pytest.fixture(scope="module")
def mixed(drawn):
    return Mixed(drawn(2), drawn(1, spread=2), DISTANCE)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("order", [DISTANCE, RANDOM])
def test_a_curve_is_of_galleries_that_are_mixed_by_hand(seed, labels, drawn, order, distance):
    mixed = Mixed(drawn(2), drawn(1, spread=2), order)
    found = [row for row in asked(seed, curve, mixed, distance) if row.get("x_name") == SHARE]
    assert len(found) == 22 * 3
    assert {row["subset"] for row in found} == {"all"}
    for step, metric in itertools.product(range(22), SCORES):
        count = step * 40 // 21
        (row,) = [row for row in found[3 * step : 3 * step + 3] if row["metric"] == metric]
        assert row["x"] == pytest.approx(count / 40)
        assert row["value"] == pytest.approx(score(by_hand(seed, mixed, count, labels, distance), metric))


def test_a_gallery_may_be_mixed_of_stored_vectors_as_they_are(seed, labels):
    """As an old model made them, no transformation between."""
    mixed = Mixed(of_role("old"), of_role("new"), RANDOM)
    assert mixed.trainables == (Base("old"), Base("new"))
    own = Seed(seed.run, 0)
    for number, role in enumerate(("old", "new")):
        random = np.random.default_rng(number)
        own._vectors[of_role(role), False] = random.normal(size=(40, 6 + number)).astype(np.float32)
    found = {row["x"]: row["value"] for row in asked(own, curve, mixed) if row["metric"] == "map" and "x" in row}
    for share, gallery in ((0.0, "old"), (1.0, "new")):
        vectors = (own.vectors(of_role(role), CLASS_INCREMENTAL) for role in ("new", gallery))
        expected = evaluate(*vectors, labels, labels, exclude_self=True, distance="euclidean")
        assert found[share] == pytest.approx(expected.mean_average_precision)


def test_areas_are_means_over_the_cut_offs_of_every_subset(seed, labels, masks, mixed):
    areas = {(row["subset"], row["metric"]): row for row in asked(seed, curve, mixed) if "x_name" not in row}
    assert set(areas) == {(subset, f"auc {metric}") for subset, metric in itertools.product(masks, SCORES)}
    tests = [by_hand(seed, mixed, step * 40 // 21, labels) for step in range(22)]
    for (subset, mask), metric in itertools.product(masks.items(), SCORES):
        expected = sum(score(test.subset(mask), metric) for test in tests) / 22
        assert areas[subset, f"auc {metric}"]["value"] == pytest.approx(expected)


def test_an_areas_class_scores_give_back_the_value_of_every_subset(seed, mixed):
    areas = {(row["subset"], row["metric"]): row for row in asked(seed, curve, mixed) if "x_name" not in row}
    for metric in SCORES:
        by_class = areas["all", f"auc {metric}"][BY_CLASS]
        for subset, classes in (("all", slice(0, 10)), ("known", slice(0, 5)), ("unknown", slice(5, 10))):
            mean = by_class.sums[classes].sum() / by_class.counts[classes].sum()
            assert mean == pytest.approx(areas[subset, f"auc {metric}"]["value"])
            assert (BY_CLASS in areas[subset, f"auc {metric}"]) == (subset == "all")


def test_areas_alone_are_those_of_the_curve(seed, mixed):
    whole = {
        row["metric"]: row["value"] for row in asked(seed, curve, mixed) if row["subset"] == "all" and "x" not in row
    }
    alone = asked(seed, curve_area, mixed)
    assert {row["metric"]: row["value"] for row in alone} == whole
    assert {row["subset"] for row in alone} == {"all"}
    assert [row[BY_CLASS].mean for row in alone] == pytest.approx([row["value"] for row in alone])


def test_answers_are_looked_at_where_a_quarter_and_a_half_is_embedded_again(seed, labels, mixed):
    found = asked(seed, answers, mixed)
    assert {row["x_name"] for row in found} == {SHARE}
    for cutoff in LOOKED_AT:
        count = cutoff * 40 // 21
        replaced = np.isin(np.arange(40), orders.order_of(seed, mixed, CLASS_INCREMENTAL)[:count])
        expected = answered(by_hand(seed, mixed, count, labels).nearest, labels, replaced)
        own = {row["metric"]: row["value"] for row in found if row["x"] == pytest.approx(count / 40)}
        assert own == pytest.approx(expected)
    assert [cutoff * 40 // 21 / 40 for cutoff in LOOKED_AT] == [0.225, 0.475]


@pytest.mark.parametrize("number", range(4))
def test_what_answers_a_query_is_counted_query_by_query(number):
    random = np.random.default_rng(number)
    nearest, labels, replaced = random.integers(0, 12, size=12), np.arange(12) % 3, random.permutation(12) < 5
    new, transformed = [], []
    for query, item in enumerate(nearest):
        (new if replaced[item] else transformed).append(labels[item] == labels[query])
    assert new
    assert transformed
    found = answered(nearest, labels, replaced)
    assert found["answered by new"] == pytest.approx(len(new) / 12)
    assert found["right if new"] == pytest.approx(sum(new) / len(new))
    assert found["right if transformed"] == pytest.approx(sum(transformed) / len(transformed))
    assert found["classes begun"] == pytest.approx(len({labels[i] for i in range(12) if replaced[i]}) / 3)
    assert answered(nearest, labels, labels == 1)["classes begun"] == pytest.approx(1 / 3)
    assert np.isnan(answered(nearest, labels, np.ones(12, bool))["right if transformed"])


@dataclass(frozen=True)
class Stated(H):
    """A transformation that states a drawn uncertainty."""

    number: int = 0

    def log_variances(self, seed, split):
        return np.random.default_rng(self.number).integers(0, 9, 40).astype(float)


def test_the_correlation_is_of_what_is_stated_and_what_is_missed(seed, monkeypatch):
    """Spearman's coefficient: Pearson's of the ranks, equal values sharing theirs."""
    losses = np.random.default_rng(7).integers(0, 9, 40).astype(float)
    monkeypatch.setattr("compatlib.study.lab.measures.backfilling.true_losses", lambda *_: losses)
    for number in range(3):
        stated = Stated(Transformation(objective="fastfill"), number=number)
        (row,) = asked(seed, correlation, Mixed(stated, of_role("new"), UNCERTAINTY))
        first, second = (rankdata(values) for values in (stated.log_variances(seed, ""), losses))
        assert row["value"] == pytest.approx(np.corrcoef(first, second)[0, 1])
        assert (row["metric"], row["subset"]) == ("rank correlation", "all")


def test_a_curve_of_fastfill_is_in_the_order_of_its_own_uncertainty(keeps_trained, tiny_run, labels):
    trained = Seed(tiny_run(), 0)
    mixed = Mixed(H(Transformation(objective="fastfill")), of_role("new"), UNCERTAINTY)
    stated = mixed.old.log_variances(trained, CLASS_INCREMENTAL)
    new, gallery = (trained.vectors(space, CLASS_INCREMENTAL) for space in (mixed.new, mixed.old))
    gallery, first = gallery.copy(), sorted(range(40), key=lambda item: -stated[item])[:19]
    gallery[first] = new[first]
    expected = evaluate(new, gallery, labels, labels, exclude_self=True, distance="euclidean").cmc[1]
    rows = [row for row in asked(trained, curve, mixed) if row["metric"] == "cmc@1" and row.get("x") == 19 / 40]
    assert [row["value"] for row in rows] == pytest.approx([expected])
