"""Verification: does a pair of images show one identity? True accept rate (TAR) at a false accept rate (FAR).

A pair is *genuine* (equal labels) or an *impostor* pair; it is accepted when its score is strictly above a threshold.
The threshold at a given FAR is the (a + 1)-th largest impostor score, where a is the largest number of accepted
impostors with a / impostors ≤ FAR: at the threshold itself all are rejected, so pairs tied with it count as wrong for
genuine pairs and never lift the FAR above the given one. (Ties: not published; our reading.)
"""

import math
from dataclasses import dataclass

import numpy as np

from compatlib.evaluation import _counting, checks
from compatlib.evaluation._scores import Scorer

PARTS = 16  # rows counted side by side


@dataclass(frozen=True)
class Verification:
    """Rates at a threshold: pairs with a score strictly above it are accepted.

    threshold: a similarity under cosine, minus a squared distance under euclidean; minus infinity accepts all pairs.
    true_accept_rate, false_accept_rate: shares, in [0, 1], of the genuine and of the impostor pairs accepted.
    n_genuine, n_impostor: number of pairs.
    """

    threshold: float
    true_accept_rate: float
    false_accept_rate: float
    n_genuine: int
    n_impostor: int


def verification(scores, same, far: float = 1e-3) -> Verification:
    """Fixes the threshold at a false accept rate over explicit pairs.

    Args:
        scores: (n,) finite floats, higher means more alike.
        same: (n,) bool, True for genuine pairs.
        far: highest false accept rate, in [0, 1].

    Raises:
        ValueError: for other shapes or types, scores that are not finite, and without genuine or impostor pairs.
    """
    scores, same = _checked_pairs(scores, same)
    far = checks.number(far, "far", 0, 1)
    impostors = scores[~same]
    accepted = _accepted_impostors(far, len(impostors))
    threshold = -np.inf
    if accepted < len(impostors):
        position = len(impostors) - 1 - accepted
        threshold = float(np.partition(impostors, position)[position])
    return apply_threshold(threshold, scores, same)


def apply_threshold(threshold: float, scores, same) -> Verification:
    """The rates that a threshold has over explicit pairs; arguments and errors as in `verification`."""
    scores, same = _checked_pairs(scores, same)
    accepted = scores > _checked_threshold(threshold)
    return _rates(threshold, int((accepted & same).sum()), int((accepted & ~same).sum()), int(same.sum()), same.size)


def verification_of_pairs(
    query,
    gallery,
    query_labels,
    gallery_labels,
    *,
    far: float = 1e-3,
    distance: str = "cosine",
    exclude_self: bool = False,
) -> Verification:
    """As `verification`, over all pairs of a query and a gallery item; exact, without a query × gallery matrix.

    Two passes over the scores: the first counts the scores by the upper half of their bits, the second those
    that share the threshold's upper half by the lower one.

    Args:
        query, gallery: (q, d) and (g, d) as in `evaluate`. In a set against itself both orders of a pair count.
        query_labels, gallery_labels: (q,) and (g,) integers.
        far: highest false accept rate, in [0, 1].
        distance: `cosine` or `euclidean`.
        exclude_self: leaves out the pairs (i, i); needs q = g.

    Raises:
        ValueError: as `evaluate`, and without genuine or impostor pairs.
    """
    pairs = _Pairs(query, gallery, query_labels, gallery_labels, distance, exclude_self)
    far = checks.number(far, "far", 0, 1)
    upper = pairs.histogram(-1)
    totals = upper.sum(axis=1)
    _require_both_kinds(int(totals[1]), int(totals[0]))
    accepted = _accepted_impostors(far, int(totals[0]))
    if accepted == totals[0]:
        return _rates(-np.inf, int(totals[1]), int(totals[0]), int(totals[1]), int(totals.sum()))
    prefix, above = _bucket(upper, accepted)
    suffix, above_within = _bucket(pairs.histogram(prefix), accepted - int(above[0]))
    genuine, impostor = int(above[1] + above_within[1]), int(above[0] + above_within[0])
    return _rates(_number(prefix, suffix), genuine, impostor, int(totals[1]), int(totals.sum()))


def apply_threshold_to_pairs(
    threshold: float,
    query,
    gallery,
    query_labels,
    gallery_labels,
    *,
    distance: str = "cosine",
    exclude_self: bool = False,
) -> Verification:
    """The rates that a threshold has over all pairs; arguments and errors as in `verification_of_pairs`."""
    pairs = _Pairs(query, gallery, query_labels, gallery_labels, distance, exclude_self)
    threshold = _checked_threshold(threshold)
    accepted, genuine = pairs.accepted(threshold)
    n_pairs = len(pairs.query_labels) * (len(pairs.gallery_labels) - int(pairs.exclude_self))
    return _rates(threshold, accepted[1], accepted[0], genuine, n_pairs)


class _Pairs:
    """All pairs of a query and a gallery item, strip by strip."""

    def __init__(self, query, gallery, query_labels, gallery_labels, distance, exclude_self):
        checks.choice(distance, "distance", checks.DISTANCES)
        self.exclude_self = checks.flag(exclude_self, "exclude_self")
        query = checks.embeddings(query, "query", distance=distance)
        gallery = checks.embeddings(gallery, "gallery", distance=distance)
        self.query_labels = checks.labels(query_labels, "query_labels", len(query), "query")
        self.gallery_labels = checks.labels(gallery_labels, "gallery_labels", len(gallery), "gallery")
        if self.exclude_self:
            checks.equal_lengths(len(query), len(gallery))
        self.scorer = Scorer(query, [gallery], distance=distance, comparable=True)

    def _strips(self):
        for rows, scores in self.scorer.strips():
            own = np.arange(rows.start, rows.stop) if self.exclude_self else np.full(len(scores), -1)
            yield scores, self.query_labels[rows], own

    def histogram(self, prefix: int) -> np.ndarray:
        """(2, 65536) impostor and genuine pairs by half of their score's bits; see `_counting.count_bits`."""
        counts = np.zeros((PARTS, 2, 65536), dtype=np.int64)
        for scores, labels, own in self._strips():
            _counting.count_bits(scores.view(np.uint32), labels, self.gallery_labels, own, prefix, counts)
        return counts.sum(axis=0)

    def accepted(self, threshold: float) -> tuple[list[int], int]:
        """Accepted [impostor, genuine] pairs, and the number of genuine pairs."""
        accepted, n_genuine = [0, 0], 0
        for scores, labels, own in self._strips():
            for row, label, item in zip(scores, labels, own, strict=True):
                genuine, above = self.gallery_labels == label, row > threshold
                if item >= 0:
                    genuine[item] = above[item] = False
                n_genuine += int(genuine.sum())
                accepted[1] += int((above & genuine).sum())
                accepted[0] += int((above & ~genuine).sum())
        return accepted, n_genuine


def _bucket(counts: np.ndarray, accepted: int) -> tuple[int, np.ndarray]:
    """The bucket of the (accepted + 1)-th largest impostor, and the (2,) number of pairs in higher buckets."""
    reached = np.cumsum(counts[:, ::-1], axis=1)
    steps = int(np.searchsorted(reached[0], accepted, side="right"))
    return counts.shape[1] - 1 - steps, reached[:, steps] - counts[:, ::-1][:, steps]


def _number(prefix: int, suffix: int) -> float:
    """The float32 whose ordered bits are these two halves; undoes the change of `_counting.count_bits`."""
    key = prefix << 16 | suffix
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32))


def _accepted_impostors(far: float, n_impostor: int) -> int:
    """The largest a with a / n_impostor ≤ far; a plain floor of the product would lose one to rounding."""
    accepted = math.floor(far * n_impostor)
    while accepted < n_impostor and (accepted + 1) / n_impostor <= far:
        accepted += 1
    while accepted / n_impostor > far:
        accepted -= 1
    return accepted


def _checked_threshold(threshold: float) -> float:
    if threshold == -np.inf:
        return threshold
    return checks.number(threshold, "threshold", -3.5e38, 3.5e38)


def _checked_pairs(scores, same) -> tuple[np.ndarray, np.ndarray]:
    scores = checks.as_array(scores, "scores")
    if scores.ndim != 1 or scores.dtype.kind != "f" or not np.isfinite(scores).all():
        raise ValueError(f"scores is {scores.dtype} of shape {scores.shape}; valid are finite floats (n,)")
    same = checks.mask(same, "same", len(scores))
    _require_both_kinds(int(same.sum()), int((~same).sum()))
    return scores, same


def _require_both_kinds(n_genuine: int, n_impostor: int) -> None:
    if n_genuine == 0 or n_impostor == 0:
        raise ValueError(f"{n_genuine} genuine and {n_impostor} impostor pairs; give at least one of each")


def _rates(threshold: float, genuine: int, impostor: int, n_genuine: int, n_pairs: int) -> Verification:
    n_impostor = n_pairs - n_genuine
    _require_both_kinds(n_genuine, n_impostor)
    return Verification(float(threshold), genuine / n_genuine, impostor / n_impostor, n_genuine, n_impostor)
