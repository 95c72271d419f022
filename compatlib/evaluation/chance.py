"""What a ranking in random order scores: the level that "at chance" means, which is not 0."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma
from scipy.stats import hypergeom

from compatlib.evaluation import checks


@dataclass(frozen=True)
class Chance:
    """Expected scores: cmc (rank → share in [0, 1]), mean_average_precision in [0, 1]; n_valid as in `Retrieval`."""

    cmc: dict[int, float]
    mean_average_precision: float
    n_valid: int

    def metrics(self) -> dict[str, float]:
        """Every score by the names of `Retrieval.metrics`."""
        return {f"cmc@{rank}": share for rank, share in self.cmc.items()} | {
            "mean_average_precision": self.mean_average_precision
        }


def chance(
    query_labels,
    gallery_labels,
    *,
    exclude_self: bool = False,
    query_cameras=None,
    gallery_cameras=None,
    ranks: Sequence[int] = (1, 5),
) -> Chance:
    """Exact expectation of the scores of `evaluate` when each query's items are ranked uniformly at random, untied.

    With n items of which p are correct, CMC@k is 1 - C(n-p, k) / C(n, k) (hypergeometric), and the expected average
    precision is [H + (p-1)/(n-1) · (n - H)] / n, where H is the n-th harmonic number: the item at rank k is correct
    with probability p/n, and then 1 + (k-1)(p-1)/(n-1) of the first k are expected to be. The mean over the queries
    that have a correct item is returned.

    Args:
        query_labels: (q,) integers.
        gallery_labels: (g,) integers.
        exclude_self, query_cameras, gallery_cameras: items removed, as in `evaluate`.
        ranks: the ranks k of CMC@k, from 1.

    Raises:
        ValueError: as `evaluate`.
    """
    exclude_self, ranks = checks.flag(exclude_self, "exclude_self"), checks.ranks(ranks)
    query_labels, gallery_labels = _checked(query_labels, "query_labels"), _checked(gallery_labels, "gallery_labels")
    cameras = checks.cameras(query_cameras, gallery_cameras, len(query_labels), len(gallery_labels))
    if exclude_self:
        checks.equal_lengths(len(query_labels), len(gallery_labels))
    candidates, correct = _item_counts(query_labels, gallery_labels, exclude_self, cameras)
    valid = correct > 0
    if not valid.any():
        raise ValueError("no query has a correct item in the gallery; look whether both sides use the same labels")
    # Few queries differ in both counts, and the tail of the hypergeometric distribution is slow.
    counts, queries = np.unique(np.stack([candidates[valid], correct[valid]]), axis=1, return_counts=True)
    n, p = counts
    harmonic = digamma(n + 1) + np.euler_gamma
    average_precision = (harmonic + (p - 1) / np.maximum(n - 1, 1) * (n - harmonic)) / n
    return Chance(
        cmc={rank: _mean(hypergeom.sf(0, n, p, np.minimum(rank, n)), queries) for rank in ranks},
        mean_average_precision=_mean(average_precision, queries),
        n_valid=int(valid.sum()),
    )


def _mean(values: np.ndarray, queries: np.ndarray) -> float:
    return float(np.average(values, weights=queries))


def _checked(labels, name: str) -> np.ndarray:
    array = checks.as_array(labels, name)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} has shape {array.shape}; valid is one dimension with at least one entry")
    return checks.labels(array, name, len(array), name)


def _item_counts(query_labels, gallery_labels, exclude_self, cameras) -> tuple[np.ndarray, np.ndarray]:
    """(q,) number of items that remain for each query, and of correct ones among them."""
    same_label = _count_equal(query_labels[:, None], gallery_labels[:, None])
    removed_correct = np.zeros_like(same_label)
    removed_self = np.full_like(same_label, exclude_self)
    if cameras is not None:
        query_pairs = np.stack([query_labels, cameras[0]], axis=1)
        gallery_pairs = np.stack([gallery_labels, cameras[1]], axis=1)
        removed_correct += _count_equal(query_pairs, gallery_pairs)
    if exclude_self:
        own_label = query_labels == gallery_labels
        own_camera = own_label & (cameras[0] == cameras[1]) if cameras is not None else np.zeros_like(own_label)
        removed_self[own_camera] = 0  # removed by its camera already
        removed_correct[own_label & ~own_camera] += 1
        removed_self[own_label] = 0
    return len(gallery_labels) - removed_correct - removed_self, same_label - removed_correct


def _count_equal(query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
    """For every query row (q, c), the number of equal gallery rows (g, c)."""
    codes = np.unique(np.concatenate([query_rows, gallery_rows]), axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(codes[len(query_rows) :], minlength=codes.max() + 1)
    return counts[codes[: len(query_rows)]]
