"""Paired statistics over training seeds and test identities, and the verdict on a claim, computed from them.

An interval has up to two sources of chance: the training seeds, and the classes that the test set happens to hold. The
second needs scores by class (`ClassScores`, `Measured`); without them an interval covers seeds only, and says so.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real

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
    "by_seed",
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

SEEDS, CLASSES = "seeds", "classes"  # the sources of chance
KINDS = ("direction", "chain", "equivalence", "at_chance")


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


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim.

    kind: one of `KINDS`.
    outcome: `reproduced` (every link's interval lies wholly inside the claim), `not reproduced` (at least one link's
        lies wholly outside of it), `inconclusive` (otherwise, or with fewer than three seeds).
    links: the differences that the claim is about: one, or one for each neighbouring pair of a chain.
    margin: of an equivalence or of a claim at chance, else None.
    """

    kind: str
    outcome: str
    links: tuple[Paired, ...]
    margin: float | None


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
    a, is_fixed = as_measured(a, "a"), isinstance(b, Real)
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
    """The verdict on a claim, from intervals over seeds.

    Args:
        kind: `direction`: a > b. `chain`: a < b < c…, every link. `equivalence`: |a - b| ≤ margin. `at_chance`:
            |a - chance_level| ≤ margin.
        measurements: mappings or Series seed → value over the same seeds: a and b; a, b, c…; a and b; a alone.
        margin: half width, from 0, of an equivalence or of a claim at chance, in the unit of the values.
        chance_level: the computed level (see `chance`), one number or a mapping seed → number.

    Raises:
        ValueError: for another kind, another number of measurements, a margin or chance level that is missing or has
            no meaning, and as `paired`.
    """
    checks.choice(kind, "kind", KINDS)
    _require_arguments(kind, measurements, margin, chance_level)
    if margin is not None:
        margin = checks.number(margin, "margin", 0, np.inf)
    if kind == "chain":
        links = [paired(above, below) for below, above in pairwise(measurements)]
    elif kind == "at_chance":
        seeds = by_seed(measurements[0], "the measurement")
        if not callable(getattr(chance_level, "items", None)):
            chance_level = dict.fromkeys(seeds, chance_level)
        links = [paired(seeds, chance_level)]
    else:
        links = [paired(*measurements)]
    return Verdict(kind, _outcome([_link_outcome(link, margin) for link in links]), tuple(links), margin)


def _require_arguments(kind: str, measurements: tuple, margin, chance_level) -> None:
    fewest, most = {"direction": (2, 2), "chain": (2, None), "equivalence": (2, 2), "at_chance": (1, 1)}[kind]
    if len(measurements) < fewest or (most is not None and len(measurements) > most):
        wanted = f"{fewest} or more" if most is None else f"{fewest}"
        raise ValueError(f"{len(measurements)} measurements for a claim of kind {kind!r}; valid is {wanted}")
    for value, name, needed in (
        (margin, "margin", kind in ("equivalence", "at_chance")),
        (chance_level, "chance_level", kind == "at_chance"),
    ):
        if needed != (value is not None):
            raise ValueError(f"{name} is {value!r}; a claim of kind {kind!r} {'needs one' if needed else 'has none'}")


def _link_outcome(link: Paired, margin: float | None) -> str:
    """One interval against its claim: above 0 (open) without a margin, else from -margin to margin (closed)."""
    if link.n < FEWEST_SEEDS:
        return INCONCLUSIVE
    if margin is None:
        inside, outside = link.low > 0, link.high <= 0
    else:
        inside, outside = -margin <= link.low and link.high <= margin, link.low > margin or link.high < -margin
    return REPRODUCED if inside else NOT_REPRODUCED if outside else INCONCLUSIVE


def _outcome(links: list[str]) -> str:
    """Of several links that must all hold: one that does not hold refutes the claim."""
    for outcome in (NOT_REPRODUCED, INCONCLUSIVE):
        if outcome in links:
            return outcome
    return REPRODUCED
