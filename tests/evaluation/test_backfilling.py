"""The backfilling curve against one evaluation of each mixed gallery, put together by hand."""

import re

import numpy as np
import pytest

from compatlib.evaluation.compatibility import backfilling_curve
from compatlib.evaluation.retrieval import evaluate


@pytest.fixture(scope="module")
def galleries():
    random = np.random.default_rng(0)
    query_labels, gallery_labels = random.integers(5, size=40), random.integers(5, size=100)
    centres = random.standard_normal((5, 6))
    query = centres[query_labels] + 0.8 * random.standard_normal((40, 6))
    new = centres[gallery_labels] + 0.8 * random.standard_normal((100, 6))
    old = new + 1.5 * random.standard_normal((100, 6))
    return query, old, new, query_labels, gallery_labels, random.permutation(100)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_every_point_is_the_evaluation_of_that_gallery(galleries, distance):
    query, old, new, query_labels, gallery_labels, order = galleries
    curve = backfilling_curve(*galleries, distance=distance)
    assert curve.replaced.tolist() == [(i * 100) // 21 for i in range(22)]
    np.testing.assert_array_equal(curve.shares, curve.replaced / 100)
    for point, count in enumerate(curve.replaced):
        mixed = old.copy()
        mixed[order[:count]] = new[order[:count]]
        expected = evaluate(query, mixed, query_labels, gallery_labels, distance=distance).metrics()
        assert {name: values[point] for name, values in curve.values.items()} == expected
    for name, values in curve.values.items():
        assert values.shape == (22,)
        assert curve.area[name] == pytest.approx(sum(values) / 22, rel=1e-12)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [3, 6, 9])
def test_ends_are_the_cross_test_and_the_self_test(galleries, distance, size):
    query, old, new, query_labels, gallery_labels, order = galleries
    old = np.hstack([old, old])[:, :size]
    curve = backfilling_curve(query, old, new, query_labels, gallery_labels, order, distance=distance)
    for gallery, retrieval in ((old, curve.retrievals[0]), (new, curve.retrievals[-1])):
        alone = evaluate(query, gallery, query_labels, gallery_labels, distance=distance)
        np.testing.assert_array_equal(retrieval.average_precision, alone.average_precision)
        assert retrieval.collapse == alone.collapse


def test_query_is_normalised_anew_for_smaller_items():
    """An old item of the query's direction beats a nearly right new one; padded with zeros it would lose.

    The query is (3, 4). Cut to one coordinate it is (1), and the old item (2) has similarity 1; padded, the old item
    (2, 0) has similarity 0.6 only, less than the new item's 0.96.
    """
    query, old, new = np.array([[3.0, 4.0]]), np.array([[2.0], [2.0]]), np.array([[4.0, 3.0], [4.0, 3.0]])
    curve = backfilling_curve(query, old, new, [0], [0, 1], [1, 0], cutoffs=3)
    assert curve.replaced.tolist() == [0, 1, 2]
    assert [retrieval.first_rank.tolist() for retrieval in curve.retrievals] == [[2], [1], [2]]  # tie, alone ahead, tie


def test_options_are_those_of_evaluate(galleries):
    _, old, new, _, labels, order = galleries
    cameras = np.arange(100) % 4
    options = {"exclude_self": True, "query_cameras": cameras, "gallery_cameras": cameras, "ranks": (1, 10)}
    curve = backfilling_curve(new, old, new, labels, labels, order, cutoffs=2, **options)
    assert curve.replaced.tolist() == [0, 100]
    for gallery, retrieval in ((old, curve.retrievals[0]), (new, curve.retrievals[1])):
        assert retrieval.metrics() == evaluate(new, gallery, labels, labels, **options).metrics()


def test_small_galleries_repeat_their_points(galleries):
    query, old, new, query_labels, gallery_labels, _ = galleries
    gallery_labels = np.arange(5)
    curve = backfilling_curve(query, old[:5], new[:5], query_labels, gallery_labels, [4, 2, 0, 1, 3])
    assert curve.replaced.tolist() == [(i * 5) // 21 for i in range(22)]
    assert curve.retrievals[0] is curve.retrievals[1]


def test_subset_of_the_queries(galleries):
    query_labels = galleries[3]
    curve = backfilling_curve(*galleries, cutoffs=4)
    part = curve.subset(query_labels < 2)
    np.testing.assert_array_equal(part.shares, curve.shares)
    for whole, some in zip(curve.retrievals, part.retrievals, strict=True):
        assert some.metrics() == whole.subset(query_labels < 2).metrics()


def test_area_by_class_is_every_class_own_area(galleries):
    query_labels = galleries[3]
    curve = backfilling_curve(*galleries, cutoffs=4)
    for part, labels in ((curve, query_labels), (curve.subset(query_labels > 0), query_labels[query_labels > 0])):
        scores = part.area_by_class(labels, 5)
        assert scores.keys() == part.area.keys()
        for metric, area in part.area.items():
            assert scores[metric].mean == pytest.approx(area, rel=1e-12)
            for own in set(labels):
                alone = scores[metric].subset(np.arange(5) == own)
                assert alone.mean == pytest.approx(part.subset(labels == own).area[metric], rel=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"order": [0] * 100}, "order is no permutation of the items 0 to 99"),
        ({"order": np.arange(1, 101)}, "order is no permutation"),
        ({"order": np.arange(99)}, "order has 99 entries, gallery has 100"),
        ({"order": np.arange(100.0)}, "order has type float64"),
        ({"cutoffs": 1}, "cutoffs is 1; valid are whole numbers from 2"),
        ({"cutoffs": 22.0}, "cutoffs is 22.0"),
        ({"old_gallery": np.ones((99, 6))}, "galleries hold [99, 100] items"),
        ({"new_gallery": np.full((100, 6), np.nan)}, "gallery 1 holds values that are not finite"),
        ({"distance": "l2"}, "distance is 'l2'"),
        ({"exclude_self": True}, "exclude_self is True with 40 queries and 100 gallery items"),
    ],
)
def test_bad_input_is_refused(galleries, changed, message):
    names = ("query", "old_gallery", "new_gallery", "query_labels", "gallery_labels", "order")
    with pytest.raises(ValueError, match=re.escape(message)):
        backfilling_curve(**dict(zip(names, galleries, strict=True)) | changed)
