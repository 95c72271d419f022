"""Scores between queries and gallery items, in strips of complete rows, by products of one fixed shape.

A library's matrix product promises equal results only for equal shapes. Within one scorer all products have the same
shape, the last ones padded with zeros, so that equal vectors get equal scores wherever they stand in their sets.
"""

from collections.abc import Iterator

import numpy as np
import torch

from compatlib.evaluation import _counting, checks

STRIP_ROWS = 1024  # most queries of a strip,
STRIP_SCORES = 1 << 26  # and most scores of one (256 MB), as long as it has
FEWEST_ROWS = 64  # rows, with which a product is still efficient
PRODUCT_SCORES = 1 << 23  # most scores of one product
MULTIPLE = 64  # sides of a product are multiples of this, so that a library needs no special code at the edges
BLOCK_ROWS = 4096  # rows converted and normalised together


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class Scorer:
    """Prepares queries and gallery items so that one inner product is their score; higher means nearer.

    cosine: both are cut to their common first coordinates and divided by their norm there; a zero vector stays zero, so
    its similarity to everything is 0. euclidean: [2q, -1] · [g, |g|²] = 2q·g - |g|², which orders one query's items
    as minus the squared distance does, and loses fewer digits than the distance would when |q| is much larger than |g|.
    With `comparable` it is minus the squared distance itself, comparable between queries. Sums of small whole numbers
    are exact; otherwise the error is that of a float32 inner product, about 6e-8 · (2|q||g| + |g|²).

    A gallery may be mixed from several parts of different sizes: item j is row j of part `part_of[j]`. A query then
    holds one segment for every common size, and an item fills its own segment only. Under the Euclidean distance a
    further coordinate takes off the |q|² of the segment and adds that of the widest one, so that all items can be
    compared.

    Memory beyond the input: the prepared gallery (4 · g · width bytes) and one strip of scores (256 MB, or 64 rows).

    Args:
        query: (q, d) checked embeddings.
        parts: each (g, d of that part).
        part_of: (g,) index of a part for every item, or None for a single part.
        distance: cosine or euclidean.
        comparable: see above; no meaning under cosine.

    Attributes:
        gallery_norms: (g,) norms of the items' compared coordinates.
        query_norms: (q,) norms of the queries' widest compared coordinates; filled strip by strip.
    """

    def __init__(
        self,
        query: np.ndarray,
        parts: list[np.ndarray],
        part_of: np.ndarray | None = None,
        *,
        distance: str,
        comparable: bool = False,
    ):
        self.query, self.cosine, self.comparable = query, distance == "cosine", comparable
        part_of = np.zeros(len(parts[0]), dtype=np.int8) if part_of is None else part_of
        used = np.unique(part_of)  # without absent parts a wholly old gallery scores exactly as evaluated alone
        part_sizes = {int(part): min(query.shape[1], parts[part].shape[1]) for part in used}
        self.sizes = sorted(set(part_sizes.values()))
        self.segments = dict(zip(self.sizes, np.cumsum([0, *self.sizes[:-1]]).tolist(), strict=True))
        self.coordinates = sum(self.sizes)
        self.width = self.coordinates + (0 if self.cosine else 1 + len(self.sizes))

        n_query, n_gallery = len(query), len(part_of)
        fitting = max(FEWEST_ROWS, STRIP_SCORES // n_gallery // MULTIPLE * MULTIPLE)
        self.strip_rows = min(STRIP_ROWS, fitting, _rounded_up(n_query, MULTIPLE))
        n_products = -(-self.strip_rows * n_gallery // PRODUCT_SCORES)
        self.product_items = _rounded_up(-(-n_gallery // n_products), MULTIPLE)
        padded = _rounded_up(n_gallery, self.product_items)
        self.query_norms, self.gallery_norms = np.empty(n_query), np.empty(n_gallery)
        self._items = np.zeros((padded, self.width), dtype=np.float32)
        self._strip = np.empty((self.strip_rows, padded), dtype=np.float32)
        for first in range(0, n_gallery, BLOCK_ROWS):
            block = slice(first, min(first + BLOCK_ROWS, n_gallery))
            for part, size in part_sizes.items():
                chosen = block if len(part_sizes) == 1 else first + np.flatnonzero(part_of[block] == part)
                self._fill_items(parts[part], chosen, size)

    def _prepare(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A float32 copy of the rows, normalised under cosine, and their squared norms before that."""
        block = np.array(rows, dtype=np.float32, order="C")
        squares = np.empty(len(block))
        _counting.square_and_normalise(block, squares, self.cosine)
        return block, squares

    def _fill_items(self, array: np.ndarray, chosen: np.ndarray | slice, size: int) -> None:
        block, squares = self._prepare(array[chosen, :size])
        start = self.segments[size]
        self._items[chosen, start : start + size] = block
        self.gallery_norms[chosen] = np.sqrt(squares)
        if not self.cosine:
            self._items[chosen, self.coordinates] = squares
            self._items[chosen, self.coordinates + 1 + self.sizes.index(size)] = 1

    def _queries(self, first: int) -> np.ndarray:
        rows = self.query[first : first + self.strip_rows]
        prepared = np.zeros((self.strip_rows, self.width), dtype=np.float32)
        squares = {}
        for size in self.sizes:
            block, squares[size] = self._prepare(rows[:, :size])
            start = self.segments[size]
            prepared[: len(rows), start : start + size] = block if self.cosine else 2 * block
        widest = squares[self.sizes[-1]]
        self.query_norms[first : first + len(rows)] = np.sqrt(widest)
        if not self.cosine:
            prepared[: len(rows), self.coordinates] = -1
            for i, size in enumerate(self.sizes):
                reference = 0 if self.comparable else widest
                prepared[: len(rows), self.coordinates + 1 + i] = reference - squares[size]
        return prepared

    def strips(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Runs of queries with their scores (n, g) against the whole gallery; the next strip overwrites the scores."""
        n_query, n_gallery = len(self.query), len(self.gallery_norms)
        items, strip = torch.from_numpy(self._items), torch.from_numpy(self._strip)
        for first in range(0, n_query, self.strip_rows):
            queries = torch.from_numpy(self._queries(first))
            for item in range(0, len(items), self.product_items):
                columns = slice(item, item + self.product_items)
                torch.mm(queries, items[columns].T, out=strip[:, columns])
            rows = slice(first, min(first + self.strip_rows, n_query))
            yield rows, self._strip[: rows.stop - first, :n_gallery]


def score_matrix(query, gallery, distance: str = "cosine", *, comparable: bool = False) -> np.ndarray:
    """All scores of a small query set and gallery, bitwise those that `evaluate` ranks by.

    Args:
        query: (q, d) float array or tensor.
        gallery: (g, d) float array or tensor; of unequal sizes only the common first coordinates count.
        distance: `cosine` gives the similarity, in [-1, 1] up to rounding; `euclidean` gives 2q·g - |g|², which orders
            a query's items as minus the squared distance does.
        comparable: under `euclidean`, minus the squared distance itself, as the verification scores.

    Returns:
        (q, g) float32, higher means nearer.

    Raises:
        ValueError: for input that `evaluate` refuses.
    """
    checks.choice(distance, "distance", checks.DISTANCES)
    comparable = checks.flag(comparable, "comparable")
    query = checks.embeddings(query, "query", distance=distance)
    gallery = checks.embeddings(gallery, "gallery", distance=distance)
    matrix = np.empty((len(query), len(gallery)), dtype=np.float32)
    for rows, scores in Scorer(query, [gallery], distance=distance, comparable=comparable).strips():
        matrix[rows] = scores
    return matrix
