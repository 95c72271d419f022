"""Scores of compatibility between embedding models, from retrieval scores of cross-tests and self-tests.

M(a, b) is a retrieval score with queries embedded by a and the gallery by b.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compatlib.evaluation import checks
from compatlib.evaluation._measured import ClassScores, Measured, as_measured
from compatlib.evaluation._resampling import resampled_classes
from compatlib.evaluation.backfilling import BackfillingCurve, backfilling_curve
from compatlib.evaluation.retrieval import Retrieval, evaluate
from compatlib.evaluation.statistics import CLASSES, SEEDS, Paired, paired
from compatlib.evaluation.verification import Verification, apply_threshold_to_pairs, verification_of_pairs

__all__ = [
    "BackfillingCurve",
    "CrossTests",
    "ThresholdTransfer",
    "UpdateGain",
    "average_accuracy",
    "average_compatibility",
    "backfilling_curve",
    "criterion",
    "cross_test_matrix",
    "negative_flips",
    "negative_flips_by_class",
    "transfer_threshold",
    "update_gain",
]

RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class CrossTests:
    """Every model's queries against every model's gallery.

    names: the n models, oldest first.
    retrievals: (query model, gallery model) → scores.
    """

    names: tuple[str, ...]
    retrievals: dict[tuple[str, str], Retrieval]

    def matrix(self, metric: str) -> np.ndarray:
        """(n, n) values M(i, j), queries of model i against the gallery of model j, of one of `Retrieval.metrics`."""
        valid = tuple(self.retrievals[self.names[0], self.names[0]].metrics())
        checks.choice(metric, "metric", valid)
        return np.array([[self.retrievals[i, j].metrics()[metric] for j in self.names] for i in self.names])

    def subset(self, mask) -> "CrossTests":
        """The same scores over the queries that the boolean mask (q,) selects; errors as `Retrieval.subset`."""
        return CrossTests(self.names, {pair: each.subset(mask) for pair, each in self.retrievals.items()})


def cross_test_matrix(
    models: Mapping[str, tuple],
    query_labels,
    gallery_labels,
    *,
    distance: str = "cosine",
    exclude_self: bool = False,
    query_cameras=None,
    gallery_cameras=None,
    ranks: Sequence[int] = (1, 5),
) -> CrossTests:
    """Evaluates every model's queries against every model's gallery: n² evaluations.

    Args:
        models: name → (query embeddings (q, d), gallery embeddings (g, d)), oldest model first; d may differ by model.
        query_labels, gallery_labels, distance, exclude_self, query_cameras, gallery_cameras, ranks: as `evaluate`.

    Raises:
        ValueError: without models, for entries that are no pairs, and as `evaluate`.
    """
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"models is {type(models).__name__}; valid is a mapping name → (query, gallery), one or more")
    for name, pair in models.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"model {name!r} has {type(pair).__name__}; valid is a pair (query, gallery) of embeddings"
            )
    return CrossTests(
        tuple(models),
        {
            (i, j): evaluate(
                models[i][0],
                models[j][1],
                query_labels,
                gallery_labels,
                distance=distance,
                exclude_self=exclude_self,
                query_cameras=query_cameras,
                gallery_cameras=gallery_cameras,
                ranks=ranks,
            )
            for i in models
            for j in models
        },
    )


def criterion(cross_test: float, self_test: float) -> bool:
    """Whether a cross-test meets the compatibility criterion, cross-test > self-test; a tie fails.

    BCT (CVPR 2020): M(new, old) > M(old, old); FCT (CVPR 2022) with a transformation h: M(new, h(old)) > M(old, old);
    CMP-NAS (CVPR 2021), for a query model q and a gallery model g: M(q, g) > M(q, q).

    Raises:
        ValueError: unless both are finite numbers.
    """
    cross_test = checks.number(cross_test, "cross_test", -np.inf, np.inf)
    return cross_test > checks.number(self_test, "self_test", -np.inf, np.inf)


@dataclass(frozen=True)
class UpdateGain:
    """Share of the possible improvement that an update without backfilling gives; 1 is the paragon's.

    value: ratio of the mean improvements over seeds; NaN where the denominator's interval holds 0.
    low, high: 95 % percentile bootstrap interval; NaN where the value is, or a resample divides 0 by 0.
    improvement: M(new, old) - M(old, old), the numerator.
    possible: M(paragon, paragon) - M(old, old), the denominator.
    sources: the sources of chance that were resampled, ("seeds",) or ("seeds", "classes").
    """

    value: float
    low: float
    high: float
    improvement: Paired
    possible: Paired
    sources: tuple[str, ...]


def update_gain(cross, old, paragon, *, resamples: int = RESAMPLES, seed: int = 0) -> UpdateGain:
    """(M(new, old) - M(old, old)) / (M(paragon, paragon) - M(old, old)), BCT (CVPR 2020), over seeds.

    Over seeds it is the ratio of the means; the interval comes from seeds drawn with replacement, the three values of a
    seed together. Where all three have class scores, whole classes are drawn too, within strata and for every seed and
    value the same: seeds and classes crossed, which is mildly conservative (Owen 2007, *The pigeonhole bootstrap*). The
    gain is NaN where the denominator's interval (see `paired`) holds 0; that of a single seed is unbounded, so it does
    (the ratio of means and the rule for 0 are this study's choice).

    Args:
        cross: M(new, old): `Measured`, mapping or Series seed → value, or an array (n,) of which entry i is seed i.
        old: M(old, old), the same seeds.
        paragon: M(paragon, paragon), the same seeds.
        resamples: number of bootstrap resamples, from 100.
        seed: of the resampling.

    Raises:
        ValueError: for values that are not finite, arrays of unequal length, and as `paired`.
    """
    resamples = checks.whole_number(resamples, "resamples", 100)
    seed = checks.whole_number(seed, "seed", 0)
    cross, old, paragon = _by_seed(cross, "cross"), _by_seed(old, "old"), _by_seed(paragon, "paragon")
    improvement, possible = paired(cross, old), paired(paragon, old)
    draws = resampled_classes([(cross, old), (paragon, old)], resamples, seed)
    sources = (SEEDS,) if draws is None else (SEEDS, CLASSES)
    if possible.n < 2 or possible.low <= 0 <= possible.high:
        return UpdateGain(np.nan, np.nan, np.nan, improvement, possible, sources)
    if draws is None:
        gained, wanted = ([each.differences[key] for key in cross.values] for each in (improvement, possible))
    else:
        gained, wanted = draws.differences
    drawn = np.random.default_rng(seed).integers(possible.n, size=(resamples, possible.n))
    numerators, denominators = (
        np.take_along_axis(np.broadcast_to(each, drawn.shape), drawn, axis=1).mean(axis=1) for each in (gained, wanted)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.percentile(numerators / denominators, [2.5, 97.5], method="closest_observation")
    return UpdateGain(improvement.mean / possible.mean, float(low), float(high), improvement, possible, sources)


def _by_seed(values, name: str) -> Measured:
    if not isinstance(values, Measured) and not callable(getattr(values, "items", None)):
        array = checks.as_array(values, name)
        if array.ndim != 1:
            raise ValueError(f"{name} has shape {array.shape}; valid is one value a seed, (n,), or seed → value")
        values = dict(enumerate(array.tolist()))
    return as_measured(values, name)


def average_compatibility(matrix) -> float:
    """AC: share, in [0, 1], of the pairs of models i > j with M(i, j) > M(j, j); a tie fails.

    Args:
        matrix: (n, n) values M(i, j), queries of model i against the gallery of model j, oldest model first, n ≥ 2.

    Raises:
        ValueError: for another shape, fewer than two models, or values that are not finite numbers.
    """
    matrix = _checked_matrix(matrix, 2)
    newer, older = np.tril_indices(len(matrix), -1)
    return float(np.mean(matrix[newer, older] > matrix[older, older]))


def average_accuracy(matrix) -> float:
    """AA: mean of the lower triangle of M(i, j), diagonal included; arguments and errors as `average_compatibility`.

    A single model is enough here.
    """
    matrix = _checked_matrix(matrix, 1)
    return float(np.mean(matrix[np.tril_indices(len(matrix))]))


def _checked_matrix(matrix, fewest: int) -> np.ndarray:
    array = checks.as_array(matrix, "matrix")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or len(array) < fewest:
        raise ValueError(f"matrix has shape {array.shape}; valid is (n, n) with n from {fewest}")
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"matrix has type {array.dtype} or values that are not finite; valid are finite numbers")
    return array


def negative_flips(old, new) -> float:
    """Share, in [0, 1], of the valid queries that are right at rank 1 with the old model and wrong after the update.

    Args:
        old: the `Retrieval` of old/old, or its `first_rank` (q,).
        new: the same queries' `Retrieval` or `first_rank` of new/old. For a subset, give both sides' subsets.

    Raises:
        ValueError: for other input, sets of unequal length, queries valid on one side only, or no valid query.
    """
    flipped, valid = _flipped(old, new)
    return float(np.mean(flipped[valid]))


def negative_flips_by_class(old, new, labels, num_classes: int) -> ClassScores:
    """`negative_flips` by query class: numbers of flips and of valid queries.

    Args:
        old, new: as `negative_flips`.
        labels: (q,) integers from 0 to num_classes - 1, the queries' classes; of subsets their own queries'.
        num_classes: number of classes of the whole test.

    Raises:
        ValueError: as `negative_flips`, and for labels of another length, type or range.
    """
    return ClassScores.of_queries(*_flipped(old, new), labels, num_classes)


def _flipped(old, new) -> tuple[np.ndarray, np.ndarray]:
    """Which queries flip, and which are valid, both (q,) bool."""
    ranks = {}
    for name, side in (("old", old), ("new", new)):
        array = side.first_rank if isinstance(side, Retrieval) else checks.as_array(side, name)
        if array.ndim != 1 or array.dtype.kind not in "iu" or (array < 0).any():
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; valid is a Retrieval or first_rank (q,)")
        ranks[name] = array
    if ranks["old"].shape != ranks["new"].shape or ((ranks["old"] > 0) != (ranks["new"] > 0)).any():
        raise ValueError(
            f"old has {(ranks['old'] > 0).sum()} valid of {len(ranks['old'])} queries and new has "
            f"{(ranks['new'] > 0).sum()} of {len(ranks['new'])}; valid are the same queries against the same items"
        )
    valid = ranks["old"] > 0
    if not valid.any():
        raise ValueError("no query has a correct item in the gallery, so none can flip; look at labels and subset")
    return (ranks["old"] == 1) & (ranks["new"] > 1), valid


@dataclass(frozen=True)
class ThresholdTransfer:
    """A deployed threshold: `fixed` holds the rates where it was fixed (old/old), `transferred` those under new/old."""

    fixed: Verification
    transferred: Verification

    def subset(self, mask) -> "ThresholdTransfer":
        """The same threshold over the queries that the boolean mask (q,) selects; errors as `Verification.subset`."""
        return ThresholdTransfer(self.fixed.subset(mask), self.transferred.subset(mask))


def transfer_threshold(
    old_query,
    old_gallery,
    new_query,
    query_labels,
    gallery_labels,
    *,
    far: float = 1e-3,
    distance: str = "cosine",
    exclude_self: bool = False,
) -> ThresholdTransfer:
    """Fixes a verification threshold at a false accept rate under old/old, then applies it to new/old.

    Args:
        old_query, old_gallery: (q, d) and (g, d) embeddings by the old model.
        new_query: (q, d of the new model); old/old and new/old are each compared in their own common coordinates.
        query_labels, gallery_labels, far, distance, exclude_self: as `verification_of_pairs`.

    Raises:
        ValueError: as `verification_of_pairs`.
    """
    labels = (query_labels, gallery_labels)
    fixed = verification_of_pairs(
        old_query, old_gallery, *labels, far=far, distance=distance, exclude_self=exclude_self
    )
    transferred = apply_threshold_to_pairs(
        fixed.threshold, new_query, old_gallery, *labels, distance=distance, exclude_self=exclude_self
    )
    return ThresholdTransfer(fixed, transferred)
