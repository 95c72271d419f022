"""Verification: does a pair of images show one identity? True accept rate (TAR) at a false accept rate (FAR).

A pair is *genuine* (equal labels) or an *impostor* pair; it is accepted when its score is strictly above a threshold.
The threshold at a given FAR is the (a + 1)-th largest impostor score, where a is the largest number of accepted
impostors with a / impostors ≤ FAR: at the threshold itself all are rejected, so pairs tied with it count as wrong for
genuine pairs and never lift the FAR above the given one. (Ties: not published; our reading.)
"""

import math
from dataclasses import dataclass, field

import numpy as np

from compatlib.evaluation import _counting, checks
from compatlib.evaluation._scores import Scorer

PARTS = 16  # rows counted side by side


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Numbers of every query's pairs with the gallery: four int64 arrays (q,).

    n_genuine, n_impostor: pairs. accepted_genuine, accepted_impostor: those of them with a score above the threshold.
    """

    n_genuine: np.ndarray
    n_impostor: np.ndarray
    accepted_genuine: np.ndarray
    accepted_impostor: np.ndarray


@dataclass(frozen=True)
class Verification:
    """Rates at a threshold: pairs with a score strictly above it are accepted.

    threshold: a similarity under cosine, minus a squared distance under euclidean; minus infinity accepts all pairs.
    true_accept_rate, false_accept_rate: shares, in [0, 1], of the genuine and of the impostor pairs accepted.
    n_genuine, n_impostor: number of pairs.
    by_query: what the rates add up from; None for explicit pairs, which belong to no query.
    """

    threshold: float
    true_accept_rate: float
    false_accept_rate: float
    n_genuine: int
    n_impostor: int
    by_query: PairCounts | None = field(default=None, compare=False, repr=False)

    def subset(self, mask) -> "Verification":
        """The rates at the same threshold over the pairs of the queries that the boolean mask (q,) selects.

        Raises:
            ValueError: for a mask of another type or shape, where it selects no genuine or no impostor pair, and for
                rates of explicit pairs.
        """
        if self.by_query is None:
            raise ValueError(
                "these rates are of explicit pairs, which belong to no query: choose among the pairs, and call "
                "apply_threshold with this threshold"
            )
        mask = checks.mask(mask, "mask", len(self.by_query.n_genuine))
        return _rates(self.threshold, PairCounts(*(counts[mask] for counts in vars(self.by_query).values())))


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
    accepted = scores > np.float64(_checked_threshold(threshold))
    rates = float(accepted[same].mean()), float(accepted[~same].mean())
    return Verification(float(threshold), *rates, int(same.sum()), int((~same).sum()))


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

    Three passes over the scores: the first counts the impostors by the upper half of their scores' bits, the second
    those that share the threshold's upper half by the lower one, the third the pairs above the threshold.

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
    return pairs.rates(pairs.threshold(checks.number(far, "far", 0, 1)))


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
    return pairs.rates(_checked_threshold(threshold))


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
            yield rows, scores, self.query_labels[rows], own

    def rates(self, threshold: float) -> Verification:
        """Rates, over all queries and by query, of the pairs that score above a threshold."""
        genuine, accepted_genuine, accepted_impostor = np.zeros((3, len(self.query_labels)), dtype=np.int64)
        for rows, scores, labels, own in self._strips():
            results = (genuine[rows], accepted_genuine[rows], accepted_impostor[rows])
            _counting.count_accepted(scores, labels, self.gallery_labels, own, threshold, *results)
        impostor = len(self.gallery_labels) - int(self.exclude_self) - genuine
        return _rates(threshold, PairCounts(genuine, impostor, accepted_genuine, accepted_impostor))

    def threshold(self, far: float) -> float:
        """The lowest threshold above which at most the share `far` of the impostor pairs scores."""
        upper = self._histogram(-1)
        n_impostor = int(upper.sum())
        accepted = _accepted_impostors(far, n_impostor) if n_impostor else 0
        if accepted == n_impostor:
            return -np.inf
        prefix, above = _bucket(upper, accepted)
        return _number(prefix, _bucket(self._histogram(prefix), accepted - above)[0])

    def _histogram(self, prefix: int) -> np.ndarray:
        """(65536,) impostor pairs by half of their score's bits; see `_counting.count_impostor_bits`."""
        counts = np.zeros((PARTS, 65536), dtype=np.int64)
        for _, scores, labels, own in self._strips():
            _counting.count_impostor_bits(scores.view(np.uint32), labels, self.gallery_labels, own, prefix, counts)
        return counts.sum(axis=0)


def _bucket(counts: np.ndarray, accepted: int) -> tuple[int, int]:
    """The bucket of the (accepted + 1)-th largest impostor, and the number of impostors in higher buckets."""
    reached = np.cumsum(counts[::-1])
    steps = int(np.searchsorted(reached, accepted, side="right"))
    return len(counts) - 1 - steps, int(reached[steps] - counts[::-1][steps])


def _number(prefix: int, suffix: int) -> float:
    """The float32 whose ordered bits are these two halves; undoes the change of `_counting.count_impostor_bits`."""
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
    if checks.is_number(threshold) and threshold == -np.inf:
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


def _rates(threshold: float, counts: PairCounts) -> Verification:
    n_genuine, n_impostor = int(counts.n_genuine.sum()), int(counts.n_impostor.sum())
    _require_both_kinds(n_genuine, n_impostor)
    true_accept_rate = int(counts.accepted_genuine.sum()) / n_genuine
    false_accept_rate = int(counts.accepted_impostor.sum()) / n_impostor
    return Verification(float(threshold), true_accept_rate, false_accept_rate, n_genuine, n_impostor, counts)
