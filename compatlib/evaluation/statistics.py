"""Paired statistics over training seeds and test identities, and the verdict on a claim, computed from them.

An interval has up to two sources of chance: the training seeds, and the classes that the test set happens to hold. The
second needs scores by class (`ClassScores`, `Measured`); without them an interval covers seeds only, and says so.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import t as student

from compatlib.evaluation import checks
from compatlib.evaluation._measured import ClassScores, Measured, as_measured, by_seed, mean_of, require_equal_seeds
from compatlib.evaluation._resampling import resampled_classes

__all__ = [
    "ClassScores",
    "Measured",
    "Paired",
    "Verdict",
    "against_chance",
    "by_seed",
    "holm",
    "interval",
    "mean_of",
    "paired",
    "verdict",
]

CONFIDENCE = 0.95
FEWEST_SEEDS = 3
CLASS_RESAMPLES = 2_000  # the standard error over classes is then known to 1.6 %
CLASS_SEED = 0

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"
NO_DIFFERENCE = "no difference"

SEEDS, CLASSES = "seeds", "classes"  # the sources of chance
KINDS = ("direction", "chain", "equivalence", "at_chance", "above")


@dataclass(frozen=True)
class Paired:
    """Differences paired by seed, and the 95 % interval of their mean.

    The interval is mean ± t · √(se_seeds² + se_classes²), with Student's t of `df` degrees of freedom (ours). Those of
    the seeds are n - 1; those of the classes are their number less that of the strata, as each stratum has a mean of
    its own; both together have 1 / (s² / df_seeds + (1 - s)² / df_classes), with s = se_seeds² / (se_seeds² +
    se_classes²), after Welch (1947) and Satterthwaite (1946). What differs by seed and class together counts in both
    errors, which is conservative. With few seeds, whose own t is large, both sources may have a narrower interval than
    seeds alone.

    differences: seed → difference, in the first measurement's order.
    n: number of seeds.
    mean: mean difference.
    low, high: ends of the interval; NaN with a single seed. With equal differences in all seeds and classes the mean.
    se_seeds: standard error over training seeds; NaN with a single seed.
    se_classes: standard error over test classes, from `CLASS_RESAMPLES` resamples of the mean over seeds; NaN where
        `sources` lacks them. A stratum of a single class adds 0.
    standard_error: √(se_seeds² + se_classes²), of the sources that are covered; NaN with a single seed.
    df: degrees of freedom; NaN with a single seed.
    sources: the sources of chance that the interval covers, ("seeds",) or ("seeds", "classes").
    equal: whether both sides are equal in every seed, and where both have class scores in every class.
    """

    differences: dict[Hashable, float]
    n: int
    mean: float
    low: float
    high: float
    se_seeds: float
    se_classes: float
    standard_error: float
    df: float
    sources: tuple[str, ...]
    equal: bool

    def p_value(self, bound: float = 0.0) -> float:
        """Two-sided p-value, in [0, 1], of the mean difference being `bound`; NaN with a single seed.

        It is at most 0.05 where the bound is no inner point of the interval. With a standard error of 0 it is 1 at the
        bound and 0 elsewhere.
        """
        bound = checks.number(bound, "bound", -np.inf, np.inf)
        if self.standard_error == 0:
            return float(self.mean == bound)
        return float(2 * student.sf(abs(self.mean - bound) / self.standard_error, self.df))


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    kind: one of `KINDS`.
    outcome: of one link its own. Of a chain `reproduced` (every link is), `not reproduced` (at least one link is not),
        or `inconclusive` (otherwise).
    links: the differences that the claim is about: one, or one for each neighbouring pair of a chain.
    margin: of an equivalence, of a claim at chance, or the bound that a value lies *above*; else None.
    outcomes: each link's: `reproduced` (its interval lies wholly inside the claim), `not reproduced` (wholly outside of
        it), `no difference` (a direction or a chain's link whose two sides are equal throughout), `inconclusive`
        (otherwise, or with fewer than three seeds).
    """

    kind: str
    outcome: str
    links: tuple[Paired, ...]
    margin: float | None
    outcomes: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """The smallest level at which intervals of confidence 1 - level decide the claim, either way; in [0, 1] (ours).

        Of a link it is the larger of the two-sided p-values at the claim's ends (0, or ±margin). A chain is decided
        against by one link, and in favour by all: the smallest of the links whose mean lies outside the claim, else the
        largest. With fewer than three seeds nothing is decided: 1.
        """
        if self.links[0].n < FEWEST_SEEDS:
            return 1.0
        half = _half_width(self.kind, self.margin)
        ends = (0.0,) if half is None else (-half, half)
        levels = [max(link.p_value(end) for end in ends) for link in self.links]
        against = [level for level, link in zip(levels, self.links, strict=True) if not _holds(link.mean, half)]
        return min(against) if against else max(levels)


def paired(a, b) -> Paired:
    """The differences a - b over seeds, with the 95 % interval of their mean (see `Paired`).

    Where both sides have class scores the interval covers test classes beside seeds: whole classes are resampled within
    strata, the same ones on both sides and for all seeds. Classes without a valid query on either side are left out;
    where every stratum has one class there is nothing to resample.

    Args:
        a: `Measured`, or a mapping or Series seed → finite value.
        b: the same, over the same seeds in any order; or one number, fixed for all seeds and classes, so that `paired`
            of 0 gives the interval of a measurement itself.

    Raises:
        ValueError: as `by_seed`; where the seeds, the number of classes or the strata differ; and where a resample
            leaves a side without a valid query.
    """
    a, is_fixed = as_measured(a, "a"), checks.is_number(b)
    return _paired(a, as_measured(dict.fromkeys(a.values, b) if is_fixed else b, "b"), is_fixed=is_fixed)


def _paired(a: Measured, b: Measured, *, is_fixed: bool = False) -> Paired:
    """As `paired`; with `is_fixed` b has no class scores, as it does not depend on the choice of classes."""
    require_equal_seeds(a.values, b.values, "a", "b")
    differences = {seed: value - b.values[seed] for seed, value in a.values.items()}
    values = np.array(list(differences.values()))
    n, mean, se_seeds = len(values), _mean(values), _standard_error(values)
    standard_error, se_classes, df = se_seeds, np.nan, float(n - 1)
    draws = resampled_classes([(a,) if is_fixed else (a, b)], CLASS_RESAMPLES, CLASS_SEED)
    if draws is not None:
        se_classes = float(np.std(draws.differences[0].mean(axis=1), ddof=1))
        standard_error = float(np.hypot(se_seeds, se_classes))
        df = _degrees_of_freedom(se_seeds, n - 1, se_classes, draws.df)
    low, high = _ends(mean, standard_error, df)
    return Paired(
        differences=differences,
        n=n,
        mean=mean,
        low=low,
        high=high,
        se_seeds=se_seeds,
        se_classes=se_classes,
        standard_error=standard_error,
        df=df if n > 1 else np.nan,
        sources=(SEEDS,) if draws is None else (SEEDS, CLASSES),
        equal=not values.any() and _equal_classes(a, b),
    )


def _equal_classes(a: Measured, b: Measured) -> bool:
    """Whether no class tells the sides apart; so where one has no class scores."""
    if a.by_class is None or b.by_class is None:
        return True
    return all(
        len(a.by_class[seed]) == len(b.by_class[seed])
        and all(
            np.array_equal(one.sums, other.sums) and np.array_equal(one.counts, other.counts)
            for one, other in zip(a.by_class[seed], b.by_class[seed], strict=True)
        )
        for seed in a.values
    )


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and both ends of its 95 % Student-t interval over (n,) values, seeds only; NaN ends for n = 1."""
    values = checks.as_array(values, "values")
    mean = _mean(values)
    return mean, *_ends(mean, _standard_error(values), len(values) - 1)


def _mean(values: np.ndarray) -> float:
    """The mean, exactly where all values are equal; NumPy's may be off by a rounding error."""
    return float(values[0] if np.all(values == values[0]) else np.mean(values))


def _standard_error(values: np.ndarray) -> float:
    if len(values) < 2:
        return np.nan
    return 0.0 if np.all(values == values[0]) else float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _ends(mean: float, standard_error: float, df: float) -> tuple[float, float]:
    """Both ends of an interval, mean ± t · standard error; NaN without a degree of freedom."""
    if not df > 0:
        return np.nan, np.nan
    half = float(student.ppf((1 + CONFIDENCE) / 2, df) * standard_error)
    return mean - half, mean + half


def _degrees_of_freedom(first: float, first_df: int, second: float, second_df: int) -> float:
    """Welch's and Satterthwaite's, of √(first² + second²); the first's where that is 0 or, of a single seed, NaN."""
    total = first**2 + second**2
    if not total > 0:
        return float(first_df)
    share = first**2 / total
    return 1 / (share**2 / first_df + (1 - share) ** 2 / second_df)


def verdict(kind: str, *measurements, margin: float | None = None, chance_level=None) -> Verdict:
    """The verdict on a claim, from the intervals of `paired`.

    Args:
        kind: `direction`: a > b. `chain`: a < b < c…, every link. `equivalence`: |a - b| ≤ margin. `at_chance`:
            |a - chance_level| ≤ margin. `above`: a > margin.
        measurements: `Measured`, or mappings or Series seed → value, over the same seeds: a and b; a, b, c…; a and b;
            a alone; a alone.
        margin: half width, from 0, of an equivalence or of a claim at chance; the bound, any number, of *above*; in the
            unit of the values.
        chance_level: the computed level (see `chance`), one number, a mapping seed → number or `Measured`. Without
            class scores it is fixed while classes are resampled, which is exact where all are of one size.

    Raises:
        ValueError: for another kind, another number of measurements, a margin or chance level that is missing or has
            no meaning, and as `paired`.
    """
    checks.choice(kind, "kind", KINDS)
    _require_arguments(kind, measurements, margin, chance_level)
    if margin is not None:
        margin = checks.number(margin, "margin", -np.inf if kind == "above" else 0, np.inf)
    if kind == "chain":
        links = [paired(above, below) for below, above in pairwise(measurements)]
    elif kind == "at_chance":
        links = [against_chance(measurements[0], chance_level)]
    elif kind == "above":
        links = [paired(measurements[0], margin)]
    else:
        links = [paired(*measurements)]
    outcomes = tuple(_link_outcome(link, kind, margin) for link in links)
    return Verdict(kind, outcomes[0] if kind != "chain" else _chain_outcome(outcomes), tuple(links), margin, outcomes)


def _require_arguments(kind: str, measurements: tuple, margin, chance_level) -> None:
    fewest, most = {"direction": (2, 2), "chain": (2, None), "equivalence": (2, 2)}.get(kind, (1, 1))
    if len(measurements) < fewest or (most is not None and len(measurements) > most):
        wanted = f"{fewest} or more" if most is None else f"{fewest}"
        raise ValueError(f"{len(measurements)} measurements for a claim of kind {kind!r}; valid is {wanted}")
    for value, name, needed in (
        (margin, "margin", kind in ("equivalence", "at_chance", "above")),
        (chance_level, "chance_level", kind == "at_chance"),
    ):
        if needed != (value is not None):
            raise ValueError(f"{name} is {value!r}; a claim of kind {kind!r} {'needs one' if needed else 'has none'}")


def against_chance(measurement, chance_level) -> Paired:
    """The measurement less a random ranking's score, with the 95 % interval of the mean, as `verdict` judges it.

    Args:
        measurement: as in `paired`.
        chance_level: as in `verdict`: without class scores it is fixed while classes are resampled.

    Raises:
        ValueError: as `paired`.
    """
    measurement = as_measured(measurement, "the measurement")
    if checks.is_number(chance_level):
        chance_level = dict.fromkeys(measurement.values, chance_level)
    level = as_measured(chance_level, "chance_level")
    return _paired(measurement, level, is_fixed=level.by_class is None)


def _half_width(kind: str, margin: float | None) -> float | None:
    """Of a claim that a difference lies in [-margin, margin]; None where the claim is that it lies above 0."""
    return margin if kind in ("equivalence", "at_chance") else None


def _holds(difference: float, half: float | None) -> bool:
    return difference > 0 if half is None else abs(difference) <= half


def _link_outcome(link: Paired, kind: str, margin: float | None) -> str:
    """One interval against its claim: above 0 (open), or from -margin to margin (closed)."""
    half = _half_width(kind, margin)
    if link.n < FEWEST_SEEDS:
        return INCONCLUSIVE
    if link.equal and kind in ("direction", "chain"):
        return NO_DIFFERENCE
    if _holds(link.low, half) and _holds(link.high, half):
        return REPRODUCED
    outside = link.high <= 0 if half is None else link.low > half or link.high < -half
    return NOT_REPRODUCED if outside else INCONCLUSIVE


def _chain_outcome(links: Sequence[str]) -> str:
    """Of links that must all hold: one that does not hold refutes the claim."""
    if NOT_REPRODUCED in links:
        return NOT_REPRODUCED
    return REPRODUCED if set(links) == {REPRODUCED} else INCONCLUSIVE


def holm(p_values, level: float = 0.05) -> np.ndarray:
    """Which hypotheses are rejected while the chance of any false rejection stays at or below a level.

    Holm (1979), step-down: of k p-values in rising order, the i-th is rejected if it and all before it are at most
    level / (k - i + 1).

    Args:
        p_values: (k,) numbers in [0, 1], of all hypotheses tested, decided or not; k may be 0.
        level: in [0, 1].

    Returns:
        (k,) bool, in the order given.

    Raises:
        ValueError: for other shapes or values, NaN included.
    """
    values, level = checks.as_array(p_values, "p_values"), checks.number(level, "level", 0, 1)
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p_values is {p_values!r}; valid are numbers in [0, 1], (k,): leave out what is not measured")
    order = np.argsort(values)
    stands = np.logical_and.accumulate(values[order] <= level / np.arange(len(values), 0, -1))
    return stands[np.argsort(order)]
