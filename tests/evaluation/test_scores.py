"""The scores themselves: exact where they can be, equal for equal vectors, near float64 elsewhere."""

import numpy as np
import pytest

from compatlib.evaluation._scores import STRIP_ROWS, Scorer, score_matrix


def float64_scores(query, gallery, distance, comparable=False):
    query, gallery = np.asarray(query, np.float64), np.asarray(gallery, np.float64)
    if distance == "cosine":
        norms = np.linalg.norm(query, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
        return np.divide(query @ gallery.T, norms, out=np.zeros(norms.shape), where=norms > 0)
    squared = ((query[:, None] - gallery[None]) ** 2).sum(axis=2)
    return -squared if comparable else (query**2).sum(axis=1)[:, None] - squared


@pytest.mark.parametrize(("distance", "comparable"), [("cosine", False), ("euclidean", False), ("euclidean", True)])
@pytest.mark.parametrize("size", [1, 2, 17, 128, 513])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scores_are_near_those_of_float64(size, distance, comparable, scale):
    random = np.random.default_rng(size)
    query, gallery = (scale * random.standard_normal((n, size)).astype(np.float32) for n in (30, 70))
    query[3], gallery[5] = 0, 0
    expected = float64_scores(query, gallery, distance, comparable)
    bound = 1 if distance == "cosine" else 3 * max((query**2).sum(axis=1).max(), (gallery**2).sum(axis=1).max())
    error = np.abs(score_matrix(query, gallery, distance, comparable=comparable) - expected)
    assert error.max() <= 6e-8 * bound * np.sqrt(size + 3) * 2


@pytest.mark.parametrize("comparable", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_whole_numbers_are_exact_under_the_euclidean_distance(comparable, dtype):
    random = np.random.default_rng(0)
    query, gallery = (random.integers(-30, 31, (n, 64)).astype(dtype) for n in (80, 200))
    expected = float64_scores(query, gallery, "euclidean", comparable)
    np.testing.assert_array_equal(score_matrix(query, gallery, "euclidean", comparable=comparable), expected)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    ("n_query", "n_gallery", "size"),
    [(1, 1, 1), (3, 130, 7), (65, 66, 33), (1000, 3001, 64), (STRIP_ROWS + 1, 9001, 129), (70, 90, 2049)],
)
def test_equal_vectors_have_equal_scores_wherever_they_stand(n_query, n_gallery, size, distance):
    random = np.random.default_rng(size)
    query, gallery = (np.repeat(random.standard_normal((1, size)), n, axis=0) for n in (n_query, n_gallery))
    values = {
        float(value)
        for _, scores in Scorer(query, [gallery], distance=distance).strips()
        for value in np.unique(scores)
    }
    assert len(values) == 1


def test_score_of_a_pair_depends_on_no_other_vector():
    random = np.random.default_rng(0)
    query, gallery = random.standard_normal((200, 40)), random.standard_normal((500, 40))
    other_query, other_gallery = random.standard_normal((200, 40)), random.standard_normal((500, 40))
    other_query[7], other_gallery[11] = query[150], gallery[401]
    assert score_matrix(query, gallery)[150, 401] == score_matrix(other_query, other_gallery)[7, 11]


def test_strips_cover_every_query_once():
    random = np.random.default_rng(0)
    query, gallery = random.standard_normal((2 * STRIP_ROWS + 5, 3)), random.standard_normal((10, 3))
    rows = [rows for rows, _ in Scorer(query, [gallery], distance="cosine").strips()]
    assert [index for each in rows for index in range(each.start, each.stop)] == list(range(len(query)))
    assert max(each.stop - each.start for each in rows) == STRIP_ROWS


def test_wide_galleries_make_short_strips():
    """The number of scores held stays bounded while the gallery grows."""
    query = np.ones((2000, 1), dtype=np.float32)
    for n_gallery, rows in ((100, 1024), (65_536, 1024), (200_000, 320), (3_000_000, 64)):
        scorer = Scorer(query, [np.ones((n_gallery, 1), dtype=np.float32)], distance="cosine")
        assert scorer.strip_rows == rows


@pytest.mark.parametrize(("distance", "comparable"), [("manhattan", False), ("cosine", "yes")])
def test_options_are_checked(distance, comparable):
    with pytest.raises(ValueError, match="valid are"):
        score_matrix(np.ones((1, 1)), np.ones((1, 1)), distance, comparable=comparable)
