"""Top-k search through faiss: exact, or with an inverted file and product quantisation."""

import time
from dataclasses import dataclass

import faiss
import numpy as np

from compatlib.evaluation import _counting, checks

INDEXES = ("exact", "ivfpq")


@dataclass(frozen=True)
class IvfPq:
    """Parameters of the inverted file with product quantisation (Jégou et al., PAMI 2011); None: a value from the data.

    lists: cells of the inverted file; by default 4 √g, but at least 39 items a cell (faiss's own lower bound).
    probes: cells searched per query; by default a quarter of them, at most 64.
    code_size: bytes per item at 8 bits, must divide the embedding's size; by default one for every two coordinates.
    bits: bits of each of the `code_size` parts of a code, from 4 to 8; training needs 2 ** bits items.
    seed: of both k-means runs.
    """

    lists: int | None = None
    probes: int | None = None
    code_size: int | None = None
    bits: int = 8
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest items of every query, nearest first.

    scores: (q, k) float32: the similarity under cosine, minus the squared distance under euclidean; estimates where the
        index is approximate. Minus infinity where an approximate search found fewer than k items.
    indices: (q, k) int64, -1 where fewer were found. The order of equal scores is not defined.
    build_seconds, search_seconds: wall-clock time of preparing and filling the index, and of the search.
    bytes_per_item: size of one item in the index: 4 bytes a coordinate, or its code with the number of its list.
    """

    scores: np.ndarray
    indices: np.ndarray
    build_seconds: float
    search_seconds: float
    bytes_per_item: int


def search(
    query,
    gallery,
    k: int,
    *,
    index: str = "exact",
    distance: str = "cosine",
    parameters: IvfPq | None = None,
) -> Neighbours:
    """Finds the k nearest gallery items of every query. Equal input and parameters give equal results.

    Args:
        query: (q, d) float array or tensor.
        gallery: (g, d) float array or tensor; of unequal sizes only the common first coordinates count.
        k: number of items, from 1 to g.
        index: `exact` or `ivfpq`.
        distance: `cosine` or `euclidean`, as in `evaluate`.
        parameters: of `ivfpq` only.

    Raises:
        ValueError: for input that `evaluate` refuses, k outside of its range, a gallery too small to train the index,
            and parameters that do not fit.
    """
    checks.choice(index, "index", INDEXES)
    checks.choice(distance, "distance", checks.DISTANCES)
    query = checks.embeddings(query, "query", distance=distance)
    gallery = checks.embeddings(gallery, "gallery", distance=distance)
    k = checks.whole_number(k, "k", 1, len(gallery))
    if index == "exact" and parameters is not None:
        raise ValueError(f"parameters is {parameters!r} with index 'exact', which has none; give index='ivfpq'")
    size = min(query.shape[1], gallery.shape[1])
    started = time.perf_counter()
    items = _prepared(gallery, size, distance)
    approximate = _trained(items, distance, parameters) if index == "ivfpq" else None
    ready = time.perf_counter()
    wanted = _prepared(query, size, distance)
    if approximate is None:
        scores, indices = faiss.knn(wanted, items, k, metric=_metric(distance))
    else:
        scores, indices = approximate.search(wanted, k)
    finished = time.perf_counter()
    if distance == "euclidean":
        scores = -scores
    scores[indices < 0] = -np.inf
    bytes_per_item = 4 * size if approximate is None else int(approximate.sa_code_size())
    return Neighbours(scores, indices, ready - started, finished - ready, bytes_per_item)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """Share, in [0, 1], of the expected items (q, k) that stand anywhere in the same query's found items (q, m).

    Raises:
        ValueError: unless both are two-dimensional integer arrays with the same number of rows.
    """
    found, expected = checks.as_array(found, "found"), checks.as_array(expected, "expected")
    for array, name in ((found, "found"), (expected, "expected")):
        if array.ndim != 2 or array.dtype.kind not in "iu" or 0 in array.shape or len(array) != len(found):
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; valid are indices (q, k), equal q")
    return float(np.mean([np.isin(row, candidates).mean() for row, candidates in zip(expected, found, strict=True)]))


def _metric(distance: str) -> int:
    return faiss.METRIC_INNER_PRODUCT if distance == "cosine" else faiss.METRIC_L2


def _prepared(array: np.ndarray, size: int, distance: str) -> np.ndarray:
    prepared = np.empty((len(array), size), dtype=np.float32)
    prepared[:] = array[:, :size]
    if distance == "cosine":
        _counting.square_and_normalise(prepared, np.empty(len(prepared)), True)
    return prepared


def _trained(items: np.ndarray, distance: str, parameters: IvfPq | None) -> faiss.IndexIVFPQ:
    lists, probes, code_size, bits, seed = _resolved(parameters or IvfPq(), *items.shape)
    quantizer = faiss.IndexFlat(items.shape[1], _metric(distance))
    index = faiss.IndexIVFPQ(quantizer, items.shape[1], lists, code_size, bits, _metric(distance))
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = seed
        clustering.min_points_per_centroid = 1  # faiss prints a warning otherwise; our own bounds stand in `_resolved`
    index.train(items)
    index.add(items)
    index.nprobe = probes
    return index


def _resolved(parameters: IvfPq, n: int, size: int) -> tuple[int, int, int, int, int]:
    bits = checks.whole_number(parameters.bits, "bits", 4, 8)
    if n < 2**bits:
        raise ValueError(f"the gallery has {n} items; codes of {bits} bits need {2**bits}: use index='exact'")
    lists = max(1, min(round(4 * n**0.5), n // 39)) if parameters.lists is None else parameters.lists
    lists = checks.whole_number(lists, "lists", 1, n)
    probes = max(1, min(-(-lists // 4), 64)) if parameters.probes is None else parameters.probes
    divisors = [m for m in range(1, size + 1) if size % m == 0]
    code_size = parameters.code_size
    if code_size is None:
        code_size = max(m for m in divisors if m <= max(1, size // 2))
    if code_size not in divisors:
        raise ValueError(f"code_size is {code_size!r}; it must divide the embedding's size {size}: {divisors}")
    return (
        lists,
        checks.whole_number(probes, "probes", 1, lists),
        checks.whole_number(code_size, "code_size", 1),
        bits,
        checks.whole_number(parameters.seed, "seed", 0, 2**31 - 1),
    )
