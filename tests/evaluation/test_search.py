"""Top-k search: exact against a full sort, approximate by its recall."""

import numpy as np
import pytest
import torch

from compatlib.evaluation.retrieval import IvfPq, evaluate, recall, score_matrix, search

SMALL = IvfPq(lists=16, probes=8, code_size=8, bits=6, seed=3)


@pytest.fixture(scope="module")
def clusters():
    """2,000 items around 40 centres, 100 queries around the same."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, 16))
    gallery = centres[random.integers(40, size=2000)] + 0.4 * random.standard_normal((2000, 16))
    query = centres[random.integers(40, size=100)] + 0.4 * random.standard_normal((100, 16))
    return query.astype(np.float32), gallery.astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_exact_search_is_the_head_of_the_full_sort(clusters, distance, dtype):
    query, gallery = (side.astype(dtype) for side in clusters)
    scores = score_matrix(query, gallery, distance, comparable=True)
    found = search(query, torch.from_numpy(gallery), 10, distance=distance)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    assert recall(found.indices, expected) > 0.999  # two libraries may order a near-tie differently
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :10], rtol=1e-4, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert found.bytes_per_item == 64


def test_first_found_is_the_nearest_of_evaluate(clusters):
    query, gallery = clusters
    nearest = evaluate(query, gallery, np.zeros(100, int), np.zeros(2000, int)).nearest
    np.testing.assert_array_equal(search(query, gallery, 1).indices[:, 0], nearest)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_approximate_search_finds_most(clusters, distance):
    query, gallery = clusters
    exact = search(query, gallery, 10, distance=distance)
    found = search(query, gallery, 10, index="ivfpq", distance=distance, parameters=SMALL)
    assert recall(found.indices, exact.indices) > 0.6
    assert found.bytes_per_item < exact.bytes_per_item / 5
    np.testing.assert_allclose(found.scores[:, 0], exact.scores[:, 0], atol=0.35 if distance == "cosine" else 4)


def test_more_probes_and_longer_codes_find_more(clusters):
    query, gallery = clusters
    exact = search(query, gallery, 10).indices

    def found(**parameters):
        chosen = IvfPq(**{"lists": 16, "bits": 6} | parameters)
        return recall(search(query, gallery, 10, index="ivfpq", parameters=chosen).indices, exact)

    assert found(probes=1, code_size=8) < found(probes=16, code_size=8) < found(probes=16, code_size=16)


def test_equal_seeds_give_equal_results(clusters):
    query, gallery = clusters
    first, second = (search(query, gallery, 5, index="ivfpq", parameters=SMALL) for _ in range(2))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.scores, second.scores)
    other = search(query, gallery, 5, index="ivfpq", parameters=IvfPq(16, 8, 8, 6, seed=4))
    assert (other.scores != first.scores).any()


def test_defaults_fit_the_data(clusters, capfd):
    query, gallery = clusters
    found = search(query, gallery[:300, :7], 3, index="ivfpq")
    assert found.indices.shape == (100, 3)
    assert recall(found.indices, search(query, gallery[:300, :7], 3).indices) > 0.3
    assert capfd.readouterr() == ("", "")  # faiss writes its warnings past Python


def test_too_few_probed_items_are_marked(clusters):
    query, gallery = clusters
    found = search(query, gallery, 2000, index="ivfpq", parameters=IvfPq(lists=16, probes=1, code_size=4, bits=4))
    assert (found.indices == -1).any()
    assert np.isneginf(found.scores[found.indices == -1]).all()
    assert np.isfinite(found.scores[found.indices >= 0]).all()


def test_zero_vectors_have_similarity_zero():
    gallery = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 1.0]])
    found = search(np.array([[1.0, 0.0], [0.0, 0.0]]), gallery, 3)
    assert found.indices[0].tolist() == [2, 0, 1]
    np.testing.assert_allclose(found.scores, [[0.5**0.5, 0, -1], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0; valid are whole numbers from 1 to 2000"),
        ({"k": 2001}, "k is 2001"),
        ({"k": 1.0}, "k is 1.0"),
        ({"k": True}, "k is True"),
        ({"index": "hnsw"}, "index is 'hnsw'; valid are 'exact', 'ivfpq'"),
        ({"distance": "l1"}, "distance is 'l1'"),
        ({"parameters": SMALL}, "with index 'exact'"),
        ({"index": "ivfpq", "parameters": IvfPq(bits=9)}, "bits is 9"),
        ({"index": "ivfpq", "parameters": IvfPq(code_size=3)}, r"code_size is 3; .* size 16: \[1, 2, 4, 8, 16\]"),
        ({"index": "ivfpq", "parameters": IvfPq(code_size=2.0)}, "code_size is 2.0"),
        ({"index": "ivfpq", "parameters": IvfPq(lists=0)}, "lists is 0"),
        ({"index": "ivfpq", "parameters": IvfPq(lists=2001)}, "lists is 2001"),
        (
            {"index": "ivfpq", "parameters": IvfPq(lists=4, probes=5)},
            "probes is 5; valid are whole numbers from 1 to 4",
        ),
        ({"index": "ivfpq", "parameters": IvfPq(seed=-1)}, "seed is -1"),
    ],
)
def test_bad_options_are_refused(clusters, options, message):
    with pytest.raises(ValueError, match=message):
        search(*clusters, **{"k": 1} | options)


def test_gallery_too_small_to_train_is_refused(clusters):
    query, gallery = clusters
    with pytest.raises(ValueError, match="255 items; codes of 8 bits need 256: use index='exact'"):
        search(query, gallery[:255], 1, index="ivfpq")


def test_recall_counts_expected_items_in_any_place():
    assert recall([[3, 1, 2], [4, 5, 6]], [[1, 9], [6, 4]]) == 0.75
    for found, expected in (([1], [[1]]), ([[1.0]], [[1]]), ([[1], [2]], [[1]]), (np.empty((0, 1), int), [[1]])):
        with pytest.raises(ValueError, match="valid are indices"):
            recall(found, expected)
