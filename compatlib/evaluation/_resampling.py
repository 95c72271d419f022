"""Resampling of whole classes: the cluster bootstrap of means over queries, within strata.

Field and Welsh (2007), *Bootstrapping clustered data*: whole clusters are drawn, and a drawn cluster keeps its queries.
Rao and Wu (1988), *Resampling inference with complex survey data*: of k clusters in a stratum k - 1 are drawn, each
with the weight k / (k - 1); drawing k has the variance too small by the factor (k - 1) / k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from compatlib.evaluation._measured import Measured, common_strata


@lru_cache(maxsize=8)
def class_weights(strata: tuple[int, ...], resamples: int, seed: int) -> np.ndarray:
    """How much every class counts in every resample, (resamples, classes) float64, read-only.

    From each stratum of k classes k - 1 are drawn with replacement, each drawing counting k / (k - 1), so that the
    weights of a stratum sum to k; a single class always counts 1.

    Args:
        strata: the stratum of each class.
        resamples: number of resamples.
        seed: of the draw; equal arguments give equal weights.
    """
    labels, random = np.array(strata), np.random.default_rng((seed, 1))  # apart from the stream that draws seeds
    weights = np.empty((resamples, len(labels)))
    for stratum in np.unique(labels):
        members = np.flatnonzero(labels == stratum)
        k, draws = len(members), max(len(members) - 1, 1)
        places = random.integers(k, size=(resamples, draws)) + k * np.arange(resamples)[:, None]
        counts = np.bincount(places.ravel(), minlength=resamples * k)
        weights[:, members] = counts.reshape(resamples, k) * (k / draws)
    weights.flags.writeable = False
    return weights


def resampled(terms: Sequence[Sequence[tuple]], weights: np.ndarray) -> np.ndarray:
    """A sum of means over queries for every resample and seed, (resamples, seeds).

    With weights w and a seed's terms t of coefficient k, sums S and counts N by class: Σ_t k_t · (w·S_t) / (w·N_t).
    Terms of equal counts are added up before the product: two sides that are equal differ by exactly 0 then.

    Args:
        terms: for every seed its terms (coefficient, sums (classes,), counts (classes,)).
        weights: (resamples, classes).

    Raises:
        ValueError: where a resample leaves a term without a query.
    """
    groups: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for column, of_seed in enumerate(terms):
        for coefficient, sums, counts in of_seed:
            _, added = groups.setdefault(counts.tobytes(), (counts, np.zeros((len(counts), len(terms)))))
            added[:, column] += coefficient * sums
    total = np.zeros((len(weights), len(terms)))
    for counts, added in groups.values():
        drawn = weights @ counts.astype(np.float64)
        if (drawn == 0).any():
            raise ValueError(
                f"a resample of the {len(counts)} classes holds no valid query of a score that has some in "
                f"{np.count_nonzero(counts)} of them; give strata that keep the classes with valid queries apart"
            )
        total += weights @ added / drawn[:, None]
    return total


@dataclass(frozen=True)
class ClassDraws:
    """What differences would be over other test classes.

    differences: one (resamples, n) array for each difference, a column a seed, from the same draw of classes.
    df: degrees of freedom of a standard error over them: number of classes less that of strata.
    """

    differences: list[np.ndarray]
    df: int


def resampled_classes(pairs: Sequence[tuple[Measured, ...]], resamples: int, seed: int) -> ClassDraws | None:
    """Differences over resampled classes; None where a side lacks class scores or no stratum has two classes.

    Args:
        pairs: (a, b) for the difference a - b, or (a,) for a itself; all over the same seeds and classes.
        resamples: number of resamples.
        seed: of the draw.
    """
    sides = [side for pair in pairs for side in pair]
    if any(side.by_class is None for side in sides):
        return None
    strata = common_strata(sides)
    used = sum(each.counts for side in sides for of_seed in side.by_class.values() for each in of_seed) > 0
    df = int(used.sum()) - len(np.unique(strata[used]))
    if df == 0:
        return None
    weights = class_weights(tuple(strata[used].tolist()), resamples, seed)
    return ClassDraws([resampled(_terms(pair, used), weights) for pair in pairs], df)


def _terms(pair: tuple[Measured, ...], used: np.ndarray) -> list[list[tuple]]:
    """For every seed of a, the coefficients, sums and counts whose means add up to the difference."""
    return [
        [
            (sign / len(side.by_class[seed]), each.sums[used], each.counts[used])
            for sign, side in zip((1, -1), pair, strict=False)  # a alone has no second
            for each in side.by_class[seed]
        ]
        for seed in pair[0].values
    ]
