"""The level of chance against every permutation of small galleries."""

import itertools
import math
import re

import numpy as np
import pytest

from compatlib.evaluation.retrieval import chance, evaluate


def expected_scores(correct: list[bool], ranks=(1, 2, 3)):
    """Mean CMC and average precision over all orders of the items, by counting."""
    cmc, precision, orders = dict.fromkeys(ranks, 0.0), 0.0, 0
    for order in itertools.permutations(correct):
        hits = [position for position, hit in enumerate(order, 1) if hit]
        for rank in ranks:
            cmc[rank] += hits[0] <= rank
        precision += sum((i + 1) / position for i, position in enumerate(hits)) / len(hits)
        orders += 1
    return {rank: value / orders for rank, value in cmc.items()}, precision / orders


@pytest.mark.parametrize(("n", "p"), [(n, p) for n in range(1, 8) for p in range(1, n + 1)])
def test_expectation_over_all_orders(n, p):
    labels = np.array([4] * p + [9] * (n - p))
    result = chance([4], labels, ranks=(1, 2, 3))
    cmc, precision = expected_scores((labels == 4).tolist())
    assert result.cmc == pytest.approx(cmc, rel=1e-12)
    assert result.mean_average_precision == pytest.approx(precision, rel=1e-12)


def test_removed_items_are_left_out_as_in_evaluate():
    """Mean over queries of the expectation over what remains: itself, and items of equal label and camera."""
    random = np.random.default_rng(0)
    labels, other = random.integers(3, size=7), random.integers(3, size=7)
    cameras, other_cameras = random.integers(2, size=7), random.integers(2, size=7)
    for gallery, exclude_self, camera in itertools.product((labels, other), (False, True), (False, True)):
        scores = []
        for i in range(7):
            kept = [
                bool(labels[i] == gallery[j])
                for j in range(7)
                if not (exclude_self and i == j)
                and not (camera and labels[i] == gallery[j] and cameras[i] == other_cameras[j])
            ]
            if any(kept):
                scores.append(expected_scores(kept))
        sides = {"query_cameras": cameras, "gallery_cameras": other_cameras} if camera else {}
        result = chance(labels, gallery, exclude_self=exclude_self, ranks=(1, 2, 3), **sides)
        assert result.n_valid == len(scores)
        assert result.mean_average_precision == pytest.approx(np.mean([precision for _, precision in scores]))
        assert result.cmc == pytest.approx({rank: np.mean([cmc[rank] for cmc, _ in scores]) for rank in (1, 2, 3)})


def test_random_embeddings_score_at_chance():
    """400 independent directions a class: within five standard errors, and the valid queries are the same."""
    random = np.random.default_rng(0)
    labels = np.arange(3000) % 30
    points = random.standard_normal((3000, 16))
    result, level = (
        evaluate(points, points, labels, labels, exclude_self=True),
        chance(labels, labels, exclude_self=True),
    )
    assert result.n_valid == level.n_valid
    for rank, share in level.cmc.items():
        assert abs(result.cmc[rank] - share) < 5 * math.sqrt(share * (1 - share) / 3000)
    assert result.mean_average_precision == pytest.approx(level.mean_average_precision, abs=2e-3)


def test_ten_thousand_images_of_a_hundred_classes():
    """CIFAR-100's test set against itself, by exact whole-number binomials and a plain sum; then frozen."""
    labels = np.repeat(np.arange(100), 100)
    level = chance(labels, labels, exclude_self=True)
    assert level.cmc[1] == pytest.approx(99 / 9999, rel=1e-12)
    assert level.cmc[5] == pytest.approx(1 - math.comb(9900, 5) / math.comb(9999, 5), rel=1e-9)
    precision = sum((1 + (rank - 1) * 98 / 9998) / rank for rank in range(1, 10000)) / 9999
    assert level.mean_average_precision == pytest.approx(precision, rel=1e-12)
    assert level.metrics() == pytest.approx(
        {"cmc@1": 0.00990099, "cmc@5": 0.04854383, "mean_average_precision": 0.01077121}, abs=1e-8
    )


def test_large_galleries_stay_accurate():
    level = chance([0], np.repeat([0, 1], [1, 2_000_000 - 1]), ranks=(1, 100, 3_000_000))
    assert level.cmc == pytest.approx({1: 5e-7, 100: 5e-5, 3_000_000: 1}, rel=1e-8)
    harmonic = math.log(2e6) + np.euler_gamma + 1 / 4e6
    assert level.mean_average_precision == pytest.approx(harmonic / 2e6, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0], [1]), {}, "no query has a correct item"),
        (([], [1]), {}, "query_labels has shape (0,)"),
        (([0], []), {}, "gallery_labels has shape (0,)"),
        (([[0]], [0]), {}, "query_labels has shape (1, 1)"),
        (([0.0], [0]), {}, "query_labels has type float64"),
        (([0], [True]), {}, "gallery_labels has type bool"),
        (([0, 0], [0]), {"exclude_self": True}, "2 queries and 1 gallery items"),
        (([0], [0]), {"exclude_self": 1}, "exclude_self is 1"),
        (([0], [0]), {"ranks": (0,)}, "a rank is 0"),
        (([0], [0]), {"query_cameras": [1]}, "gallery_cameras is None"),
        (([0], [0]), {"query_cameras": [1, 2], "gallery_cameras": [1]}, "query_cameras has 2 entries"),
    ],
)
def test_bad_input_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        chance(*arguments, **options)
