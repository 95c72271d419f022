"""Retrieval scores against explicit loops and scikit-learn, given the same scores."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from compatlib.evaluation.retrieval import evaluate, evaluate_mixed, score_matrix

PROJECT = Path(__file__).resolve().parents[2]
DISTANCES = ("cosine", "euclidean")


def oracle(scores, query_labels, gallery_labels, exclude_self=False, query_cameras=None, gallery_cameras=None):
    """First rank, average precision and nearest item of each query by an explicit loop over its items."""
    first_ranks, precisions, nearest = [], [], []
    for i in range(len(query_labels)):
        kept = []
        for j in range(len(gallery_labels)):
            same_identity = query_labels[i] == gallery_labels[j]
            same_camera = query_cameras is not None and query_cameras[i] == gallery_cameras[j]
            if not (exclude_self and i == j) and not (same_identity and same_camera):
                kept.append((scores[i, j], bool(same_identity), j))
        nearest.append(max(kept, key=lambda item: (item[0], -item[2]))[2] if kept else -1)
        correct = [score for score, same, _ in kept if same]
        if not correct:
            first_ranks.append(0)
            precisions.append(np.nan)
            continue
        first_ranks.append(1 + sum(score >= max(correct) for score, same, _ in kept if not same))
        precisions.append(average_precision_score([same for _, same, _ in kept], [score for score, _, _ in kept]))
    return np.array(first_ranks), np.array(precisions), np.array(nearest)


def assert_as_oracle(result, scores, query_labels, gallery_labels, **options):
    first_rank, precision, nearest = oracle(scores, query_labels, gallery_labels, **options)
    np.testing.assert_array_equal(result.first_rank, first_rank)
    np.testing.assert_allclose(result.average_precision, precision, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(result.nearest, nearest)
    valid = first_rank > 0
    assert result.n_valid == valid.sum()
    assert result.cmc == {rank: (first_rank[valid] <= rank).mean() for rank in result.cmc}
    assert result.mean_average_precision == pytest.approx(np.nanmean(precision), rel=1e-12)
    answered = nearest[nearest >= 0]
    popular = max((answered == item).sum() for item in set(answered))
    assert result.collapse.top_share == popular / len(nearest)


def family(name: str, seed: int):
    """A seeded input: query, gallery, query labels, gallery labels, options."""
    random = np.random.default_rng(seed)

    def normal(n, d=12):
        return random.standard_normal((n, d))

    def classes(n, k=5):
        return random.integers(k, size=n)

    if name == "random":
        return normal(37), normal(53), classes(37), classes(53), {}
    if name == "tied":
        return (
            random.integers(-1, 2, (41, 3)) * 1.0,
            random.integers(-1, 2, (60, 3)) * 1.0,
            classes(41),
            classes(60),
            {},
        )
    if name == "duplicated":
        gallery = np.repeat(normal(8), 7, axis=0)[random.permutation(56)]
        return gallery[::2], gallery, classes(28), classes(56), {}
    if name == "collapsed":
        return np.ones((9, 4)), np.ones((30, 4)), classes(9), np.arange(30) % 5, {}
    if name == "zero vectors":
        query, gallery = normal(20), normal(30)
        query[::3], gallery[::4] = 0, 0
        return query, gallery, classes(20), classes(30), {}
    if name == "single item":
        return normal(6), normal(1), np.array([4, 4, 4, 0, 4, 1]), np.array([4]), {}
    if name == "single query":
        return normal(1), normal(40), np.array([2]), classes(40), {}
    if name == "no match for some":
        return normal(30), normal(40), classes(30, 9), classes(40, 4), {}
    if name == "all correct":
        return normal(5), normal(33), np.zeros(5, int), np.zeros(33, int), {}
    if name == "one label each":
        return normal(64), normal(64), random.permutation(64) - 30, random.permutation(64) - 30, {}
    if name == "itself":
        points = random.integers(-2, 3, (50, 3)) * 1.0
        labels = classes(50)
        return points, points, labels, labels, {"exclude_self": True}
    if name == "itself under other labels":
        points = random.integers(-2, 3, (50, 3)) * 1.0
        return points, points, classes(50), classes(50), {"exclude_self": True}
    if name == "alone with itself":  # query 0's own item is its only correct one
        labels = np.array([7, 1, 1, 2, 2])
        return normal(5), normal(5), labels, labels, {"exclude_self": True}
    if name == "cameras":
        cameras = {"query_cameras": random.integers(3, size=40), "gallery_cameras": random.integers(3, size=70)}
        return (
            random.integers(-1, 3, (40, 4)) * 1.0,
            random.integers(-1, 3, (70, 4)) * 1.0,
            classes(40),
            classes(70),
            cameras,
        )
    if name == "cameras and itself":
        labels, cameras = classes(45, 9), random.integers(2, size=45)
        options = {"exclude_self": True, "query_cameras": cameras, "gallery_cameras": cameras}
        return normal(45), normal(45), labels, labels, options
    if name == "skewed scores":  # a few correct scores far below the others, which all share one cell of the grid
        gallery = np.zeros((400, 2))
        gallery[:, 0] = 1
        gallery[:, 1] = 2.0 ** -random.integers(0, 12, 400)
        gallery[::7, 1] *= -50
        return np.array([[0.0, 1.0], [0.5, -1.0]]), gallery, np.array([0, 1]), classes(400, 2), {}
    if name == "other sizes":
        return normal(25, 9), normal(31, 5), classes(25), classes(31), {}
    raise AssertionError(name)


FAMILIES = (
    "random",
    "tied",
    "duplicated",
    "collapsed",
    "zero vectors",
    "single item",
    "single query",
    "no match for some",
    "all correct",
    "one label each",
    "itself",
    "itself under other labels",
    "alone with itself",
    "cameras",
    "cameras and itself",
    "skewed scores",
    "other sizes",
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_those_of_the_loop(name, distance, dtype):
    for seed in range(2):
        query, gallery, query_labels, gallery_labels, options = family(name, seed)
        query, gallery = query.astype(dtype), gallery.astype(dtype)
        result = evaluate(
            query, gallery, query_labels, gallery_labels, distance=distance, ranks=(1, 2, 5, 99), **options
        )
        scores = score_matrix(query, gallery, distance)
        assert_as_oracle(result, scores, query_labels, gallery_labels, **options)


@pytest.mark.parametrize("distance", DISTANCES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_small_input_is_as_the_loop(distance, data):
    n_query, n_gallery, size = (data.draw(st.integers(1, high)) for high in (6, 12, 3))
    integers = st.integers(-2, 2)

    def draw(rows, columns, values=integers):
        return np.array(data.draw(st.lists(values, min_size=rows * columns, max_size=rows * columns))).reshape(rows, -1)

    query, gallery = draw(n_query, size).astype(np.float32), draw(n_gallery, size).astype(np.float32)
    query_labels, gallery_labels = draw(n_query, 1).ravel(), draw(n_gallery, 1).ravel()
    gallery_labels[0] = query_labels[0]
    result = evaluate(query, gallery, query_labels, gallery_labels, distance=distance)
    assert_as_oracle(result, score_matrix(query, gallery, distance), query_labels, gallery_labels)


@pytest.mark.parametrize("distance", DISTANCES)
def test_several_strips_and_products_are_as_the_loop(distance):
    """More queries than a strip holds, more items than a product, exact scores with many ties."""
    random = np.random.default_rng(0)
    n_query, n_gallery = 1100, 9001
    query, gallery = random.integers(0, 4, (n_query, 5)) * 1.0, random.integers(0, 4, (n_gallery, 5)) * 1.0
    query_labels, gallery_labels = random.integers(60, size=n_query), random.integers(60, size=n_gallery)
    cameras = {"query_cameras": query_labels % 2, "gallery_cameras": random.integers(2, size=n_gallery)}
    result = evaluate(query, gallery, query_labels, gallery_labels, distance=distance, **cameras)
    scores = score_matrix(query, gallery, distance)
    chosen = np.array([0, 1, 63, 64, 500, 1022, 1023, 1024, 1025, 1099])
    first_rank, precision, nearest = oracle(
        scores[chosen],
        query_labels[chosen],
        gallery_labels,
        query_cameras=cameras["query_cameras"][chosen],
        gallery_cameras=cameras["gallery_cameras"],
    )
    np.testing.assert_array_equal(result.first_rank[chosen], first_rank)
    np.testing.assert_allclose(result.average_precision[chosen], precision, rtol=1e-12)
    np.testing.assert_array_equal(result.nearest[chosen], nearest)


def test_a_worked_example():
    """Query at 0 on a line; items at distance 1 (wrong), 2 (right), 2 (wrong), 3 (right)."""
    gallery = np.array([[1.0], [2.0], [-2.0], [3.0]])
    result = evaluate(np.zeros((1, 1)), gallery, [0], [1, 0, 1, 0], distance="euclidean", ranks=(1, 2, 3))
    assert result.first_rank.tolist() == [3]
    assert result.cmc == {1: 0.0, 2: 0.0, 3: 1.0}
    assert result.mean_average_precision == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert result.nearest.tolist() == [0]
    assert result.metrics() == {"cmc@1": 0, "cmc@2": 0, "cmc@3": 1, "mean_average_precision": pytest.approx(5 / 12)}


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.7])
def test_collapsed_model_scores_nothing(distance, value):
    """All items tie: the correct ones come last, average precision is their share, one item answers nearly all."""
    points, labels = np.full((40, 6), value, dtype=np.float32), np.arange(40) % 4
    result = evaluate(points, points, labels, labels, distance=distance, exclude_self=True)
    assert set(result.first_rank) == {31}
    assert result.cmc == {1: 0, 5: 0}
    np.testing.assert_allclose(result.average_precision, 9 / 39, rtol=1e-12)
    assert result.collapse.top_share == 39 / 40
    assert result.collapse.zero_queries == result.collapse.zero_gallery == (40 if value == 0 else 0)


def test_zero_vectors_are_neither_near_nor_far():
    """Under cosine a zero item has similarity 0: behind an acute angle, before an obtuse one."""
    gallery = np.array([[-1.0, -1.0], [0.0, 0.0], [2.0, 1.0]])
    scores = score_matrix(np.array([[1.0, 1.0]]), gallery)
    assert scores[0, 1] == 0
    assert scores[0, 0] < 0 < scores[0, 2]
    result = evaluate(np.array([[1.0, 1.0], [0.0, 0.0]]), gallery, [5, 5], [1, 5, 1])
    assert result.first_rank.tolist() == [2, 3]
    assert (result.collapse.zero_queries, result.collapse.zero_gallery) == (1, 1)
    assert result.collapse.query_norms == (0, pytest.approx(2**0.5))
    assert result.collapse.gallery_norms == (0, pytest.approx(5**0.5))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", [name for name in FAMILIES if "itself" not in name])  # there, an index means something
def test_order_of_the_items_is_irrelevant(name, distance):
    query, gallery, query_labels, gallery_labels, options = family(name, 3)
    random = np.random.default_rng(0)
    of_query, of_gallery = random.permutation(len(query)), random.permutation(len(gallery))
    result = evaluate(query, gallery, query_labels, gallery_labels, distance=distance, **options)
    moved_options = {}
    if "query_cameras" in options:
        moved_options["query_cameras"] = options["query_cameras"][of_query]
        moved_options["gallery_cameras"] = options["gallery_cameras"][of_gallery]
    moved = evaluate(
        query[of_query],
        gallery[of_gallery],
        query_labels[of_query],
        gallery_labels[of_gallery],
        distance=distance,
        **moved_options,
    )
    np.testing.assert_array_equal(moved.first_rank, result.first_rank[of_query])
    np.testing.assert_array_equal(moved.average_precision, result.average_precision[of_query])


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [2.0**-30, 0.5, 2.0**40])
def test_scale_by_a_power_of_two_changes_nothing(distance, scale):
    query, gallery, query_labels, gallery_labels, _ = family("random", 5)
    result = evaluate(query, gallery, query_labels, gallery_labels, distance=distance)
    scaled = evaluate(query * scale, gallery * scale, query_labels, gallery_labels, distance=distance)
    np.testing.assert_array_equal(scaled.first_rank, result.first_rank)
    np.testing.assert_array_equal(scaled.average_precision, result.average_precision)


def test_cosine_ignores_the_norm_of_each_vector_and_euclidean_does_not():
    query, gallery, query_labels, gallery_labels, _ = family("random", 6)
    factors = 2.0 ** np.random.default_rng(0).integers(-9, 9, (len(gallery), 1))
    for distance, equal in (("cosine", True), ("euclidean", False)):
        plain = evaluate(query, gallery, query_labels, gallery_labels, distance=distance).average_precision
        scaled = evaluate(query, gallery * factors, query_labels, gallery_labels, distance=distance).average_precision
        assert np.array_equal(plain, scaled) == equal


def test_labels_are_names_only():
    query, gallery, query_labels, gallery_labels, _ = family("random", 7)
    names = np.array([2**62, -(2**62), 0, 17, -1])
    plain = evaluate(query, gallery, query_labels, gallery_labels)
    renamed = evaluate(query, gallery, names[query_labels], names[gallery_labels])
    np.testing.assert_array_equal(plain.average_precision, renamed.average_precision)
    small = evaluate(query, gallery, query_labels.astype(np.uint8), torch.from_numpy(gallery_labels.astype(np.int16)))
    np.testing.assert_array_equal(plain.average_precision, small.average_precision)


@pytest.mark.parametrize("distance", DISTANCES)
def test_unequal_sizes_are_cut_to_the_common_coordinates(distance):
    query, gallery, query_labels, gallery_labels, _ = family("random", 8)
    cut = evaluate(query[:, :7], gallery[:, :7], query_labels, gallery_labels, distance=distance)
    for short_query, short_gallery in ((query[:, :7], gallery), (query, gallery[:, :7])):
        result = evaluate(short_query, short_gallery, query_labels, gallery_labels, distance=distance)
        np.testing.assert_array_equal(result.average_precision, cut.average_precision)
        assert result.collapse == cut.collapse


def test_containers_and_types_do_not_matter(tmp_path):
    query, gallery, query_labels, gallery_labels, _ = family("random", 9)
    query, gallery = query.astype(np.float16), gallery.astype(np.float16)
    plain = evaluate(query.astype(np.float32), gallery.astype(np.float32), query_labels, gallery_labels)
    mapped = np.lib.format.open_memmap(tmp_path / "gallery.npy", "w+", np.float16, gallery.shape)
    mapped[:] = gallery
    versions = {
        "float16": (query, gallery),
        "float64": (query.astype(np.float64), gallery.astype(np.float64)),
        "other byte order": (query.astype(">f4"), gallery.astype(">f8")),
        "strided": (np.repeat(query, 2, axis=1)[:, ::2], np.asfortranarray(gallery)),
        "memory-mapped": (query, mapped),
        "tensors": (torch.from_numpy(query), torch.from_numpy(gallery)),
        "with gradient": (torch.from_numpy(query).float().requires_grad_(), torch.from_numpy(gallery).double()),
    }
    for name, (some_query, some_gallery) in versions.items():
        result = evaluate(some_query, some_gallery, torch.from_numpy(query_labels), gallery_labels)
        np.testing.assert_array_equal(result.average_precision, plain.average_precision, err_msg=name)


def test_input_is_left_as_it_was():
    query, gallery, query_labels, gallery_labels, _ = family("random", 10)
    arrays = [query.astype(np.float32), gallery.astype(np.float32), query_labels, gallery_labels]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    for distance in DISTANCES:
        evaluate(*arrays, distance=distance)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def on_threads(*arrays, **options):
    """The evaluation on one, two and three threads."""
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(evaluate(*arrays, **options))
    finally:
        torch.set_num_threads(before)
    return results


def test_number_of_threads_does_not_matter():
    random = np.random.default_rng(11)
    labels = [random.integers(300, size=count) for count in (1500, 9000)]
    # Sums of whole numbers below 2^24 are exact, in whatever order threads take them.
    whole = [random.integers(-300, 301, (count, 32)).astype(np.float32) for count in (1500, 9000)]
    alone, *others = on_threads(*whole, *labels, distance="euclidean")
    for result in others:
        np.testing.assert_array_equal(result.first_rank, alone.first_rank)
        np.testing.assert_array_equal(result.average_precision, alone.average_precision)
        np.testing.assert_array_equal(result.nearest, alone.nearest)
    # Others may differ in their last bit, and then items all but tied change places.
    normal = [random.standard_normal((count, 32), dtype=np.float32) for count in (1500, 9000)]
    alone, *others = on_threads(*normal, *labels)
    for result in others:
        assert np.mean(result.nearest == alone.nearest) > 0.99
        assert np.nanmean(np.abs(result.average_precision - alone.average_precision)) < 1e-4


# numba and torch share an OpenMP runtime: a fresh process, for only numba's first parallel loop sets its threads.
THREADS = """
import numpy, torch
from compatlib.evaluation.retrieval import evaluate
from compatlib.evaluation.verification import verification_of_pairs
for threads in (1, 2):
    torch.set_num_threads(threads)
    items, labels = numpy.eye(8, dtype=numpy.float32), numpy.arange(8) % 2
    evaluate(items, items, labels, labels)
    verification_of_pairs(items, items, labels, labels)
    print(torch.get_num_threads())
"""


def test_an_evaluation_leaves_torch_its_number_of_threads():
    output = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["1", "2"]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("name", ["random", "no match for some", "itself", "zero vectors", "tied"])
def test_subset_is_the_evaluation_of_those_queries(name, distance):
    query, gallery, query_labels, gallery_labels, options = family(name, 12)
    mask = query_labels < 2
    whole = evaluate(query, gallery, query_labels, gallery_labels, distance=distance, ranks=(1, 3), **options)
    part = whole.subset(mask)
    if "exclude_self" in options:  # other queries are there no more, so the loop stands in for the evaluation
        scores = score_matrix(query, gallery, distance)
        first_rank, precision, _ = oracle(scores, query_labels, gallery_labels, **options)
        np.testing.assert_array_equal(part.first_rank, first_rank[mask])
        np.testing.assert_allclose(part.average_precision, precision[mask], rtol=1e-12)
        return
    alone = evaluate(query[mask], gallery, query_labels[mask], gallery_labels, distance=distance, ranks=(1, 3))
    np.testing.assert_array_equal(part.first_rank, alone.first_rank)
    assert part.metrics() == alone.metrics()
    assert part.collapse == alone.collapse
    assert part.n_valid == alone.n_valid


def test_subsets_average_to_the_whole():
    query, gallery, query_labels, gallery_labels, _ = family("no match for some", 13)
    whole = evaluate(query, gallery, query_labels, gallery_labels)
    parts = [whole.subset(mask) for mask in (query_labels < 2, query_labels >= 2)]
    assert sum(part.n_valid for part in parts) == whole.n_valid
    for name, value in whole.metrics().items():
        mean = sum(part.metrics()[name] * part.n_valid for part in parts) / whole.n_valid
        assert mean == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("mask", [[True] * 3, [1] * 30, np.ones((30, 1), bool), None, np.arange(30)])
def test_subset_needs_a_mask(mask):
    query, gallery, query_labels, gallery_labels, _ = family("no match for some", 13)
    with pytest.raises(ValueError, match=r"mask .*; (valid is bool of shape \(30,\)|give an array)"):
        evaluate(query, gallery, query_labels, gallery_labels).subset(mask)


def test_nothing_to_score_is_refused():
    """A mask of queries without a match, an empty mask, and labels that never meet."""
    query, gallery, query_labels, gallery_labels, _ = family("no match for some", 13)
    whole = evaluate(query, gallery, query_labels, gallery_labels)
    for mask in (whole.first_rank == 0, np.zeros(30, bool)):
        with pytest.raises(ValueError, match="has a correct item in the gallery"):
            whole.subset(mask)
    with pytest.raises(ValueError, match="none of the 30 queries has a correct item"):
        evaluate(query, gallery, query_labels, gallery_labels + 100)
    with pytest.raises(ValueError, match="exclude_self"):
        evaluate(query[:4], query[:4], np.arange(4), np.arange(4), exclude_self=True)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("sizes", [(6, 4), (4, 6), (6, 12), (6, 6), (3, 5)])
def test_mixed_gallery_is_compared_item_by_item(distance, sizes):
    """Queries of size 6 against items of two sizes, each cut with the query to their own common coordinates."""
    random = np.random.default_rng(0)
    query = random.integers(-3, 4, (20, 6)).astype(np.float64)
    parts = [random.integers(-3, 4, (45, size)).astype(np.float64) for size in sizes]
    part_of = random.integers(2, size=45)
    query_labels, gallery_labels = random.integers(4, size=20), random.integers(4, size=45)
    scores = np.empty((20, 45))
    for i in range(20):
        for j in range(45):
            item = parts[part_of[j]][j]
            common = min(6, len(item))
            a, b = query[i, :common], item[:common]
            if distance == "cosine":
                norms = np.linalg.norm(a) * np.linalg.norm(b)
                scores[i, j] = np.round(a @ b / norms, 6) if norms else 0  # ties up to rounding are ties
            else:
                scores[i, j] = -((a - b) ** 2).sum()
    result = evaluate_mixed(query, parts, part_of, query_labels, gallery_labels, distance=distance)
    first_rank, precision, _ = oracle(scores, query_labels, gallery_labels)
    if distance == "euclidean":
        np.testing.assert_array_equal(result.first_rank, first_rank)
        np.testing.assert_allclose(result.average_precision, precision, rtol=1e-12)
    else:  # items tied in exact arithmetic may differ in the last bit of float32
        assert np.mean(np.abs(result.average_precision - precision)) < 0.02
        assert np.median(np.abs(result.average_precision - precision)) < 1e-9


def test_mixed_gallery_of_directions_is_exact_under_cosine():
    """Random directions have no ties, so the ranks are those of float64."""
    random = np.random.default_rng(1)
    query, old, new = (random.standard_normal(shape) for shape in ((30, 8), (60, 5), (60, 8)))
    part_of = random.integers(2, size=60)
    query_labels, gallery_labels = random.integers(4, size=30), random.integers(4, size=60)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    scores = np.where(part_of, unit(query) @ unit(new).T, unit(query[:, :5]) @ unit(old).T)
    result = evaluate_mixed(query, [old, new], part_of, query_labels, gallery_labels)
    assert_as_oracle(result, scores, query_labels, gallery_labels)


@pytest.mark.parametrize("distance", DISTANCES)
def test_mixed_gallery_of_one_part_is_that_gallery(distance):
    query, old, query_labels, gallery_labels, _ = family("random", 14)
    new = np.random.default_rng(0).standard_normal((len(old), 20))
    for part, gallery in enumerate((old, new)):
        mixed = evaluate_mixed(
            query, [old, new], np.full(len(old), part), query_labels, gallery_labels, distance=distance
        )
        alone = evaluate(query, gallery, query_labels, gallery_labels, distance=distance)
        np.testing.assert_array_equal(mixed.average_precision, alone.average_precision)
        assert mixed.collapse == alone.collapse


@pytest.mark.parametrize(
    ("galleries", "part_of", "message"),
    [
        ([], None, "galleries is list"),
        (np.zeros((2, 5, 3)), None, "galleries is ndarray"),
        ([np.zeros((5, 3)), np.zeros((4, 3))], [0] * 5, r"galleries hold \[5, 4\] items"),
        ([np.zeros((5, 3))] * 2, [0, 1, 2, 0, 0], "part_of holds 0 to 2; valid are 0 to 1"),
        ([np.zeros((5, 3))] * 2, [-1] * 5, "part_of holds -1 to -1; valid are 0 to 1"),
        ([np.zeros((5, 3))] * 2, [0.0] * 5, "part_of has type float64"),
        ([np.zeros((5, 3))] * 2, None, "part_of is None with 2 galleries"),
    ],
)
def test_mixed_gallery_refuses(galleries, part_of, message):
    with pytest.raises(ValueError, match=message):
        evaluate_mixed(np.ones((2, 3)), galleries, part_of, [0, 0], [0] * 5)


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_by_class_add_up_to_the_scores(name):
    query, gallery, query_labels, gallery_labels, options = family(name, 4)
    classes = np.unique(query_labels)
    labels = np.searchsorted(classes, query_labels)  # one family has negative labels
    retrieval = evaluate(query, gallery, query_labels, gallery_labels, ranks=(1, 3), **options)
    random = np.random.default_rng(0)
    for mask in (np.full(len(labels), True), random.random(len(labels)) < 0.7, query_labels == query_labels.max()):
        if not (retrieval.first_rank[mask] > 0).any():
            continue
        part = retrieval.subset(mask)
        scores = part.by_class(labels[mask], len(classes) + 1)
        assert scores.keys() == part.metrics().keys()
        for metric, value in part.metrics().items():
            found = scores[metric]
            assert found.mean == (value if metric != "mean_average_precision" else pytest.approx(value, rel=1e-12))
            for own in range(len(classes) + 1):
                valid = (labels[mask] == own) & (part.first_rank > 0)
                own_scores = {
                    "cmc@1": part.first_rank[valid] <= 1,
                    "cmc@3": part.first_rank[valid] <= 3,
                    "mean_average_precision": part.average_precision[valid],
                }[metric]
                assert (found.counts[own], found.sums[own]) == (valid.sum(), pytest.approx(sum(own_scores), rel=1e-12))


def test_classes_of_a_subset_are_those_selected_afterwards():
    query, gallery, query_labels, gallery_labels, _ = family("random", 6)
    retrieval, known = evaluate(query, gallery, query_labels, gallery_labels), np.arange(5) < 3
    before = retrieval.subset(known[query_labels]).by_class(query_labels[known[query_labels]], 5)
    for metric, scores in retrieval.by_class(query_labels, 5).items():
        after = scores.subset(known)
        np.testing.assert_array_equal(after.sums, before[metric].sums)
        np.testing.assert_array_equal(after.counts, before[metric].counts)


def test_scores_by_class_refuse_labels_of_other_queries():
    query, gallery, query_labels, gallery_labels, _ = family("random", 6)
    retrieval = evaluate(query, gallery, query_labels, gallery_labels)
    with pytest.raises(ValueError, match="labels hold 0 to 4; valid are 0 to 3"):
        retrieval.by_class(query_labels, 4)
    with pytest.raises(ValueError, match="labels has 36 entries, the scored set has 37 items"):
        retrieval.by_class(query_labels[1:], 5)


# ru_maxrss would be inherited from the parent, and the difference of a small child of a large parent be 0.
MEMORY = """
from pathlib import Path
import numpy as np
from compatlib.evaluation.retrieval import evaluate

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

random = np.random.default_rng(0)
small = random.standard_normal((1000, 128), dtype=np.float32)
evaluate(small, small, np.arange(1000), np.arange(1000))  # libraries and compiled loops are there
gallery = np.tile(small, (1000, 1))
gallery[:, 0] = random.standard_normal(1_000_000, dtype=np.float32)
labels = np.arange(1_000_000) % 10_000
before = peak()
result = evaluate(small, gallery, labels[:1000], labels)
assert result.n_valid == 1000 and result.first_rank.min() == 1
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_for_a_million_items():
    """1,000 queries × 1,000,000 items × 128: at most 1.5 GB above the input; the matrix alone would be 4 GB."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEMORY], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) < 1.5e9
    assert done.stderr == ""
