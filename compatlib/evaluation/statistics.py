"""Paired statistics over training seeds, and the verdict on a claim, computed from them.

An interval here covers training seeds only, not the choice of the test set.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import t as student

from compatlib.evaluation import checks
from compatlib.evaluation._measured import ClassScores, Measured, by_seed, mean_of

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

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
INCONCLUSIVE = "inconclusive"

KINDS = ("direction", "chain", "equivalence", "at_chance")


@dataclass(frozen=True)
class Paired:
    """Differences paired by seed, and the 95 % interval of their mean (Student's t, n - 1 degrees of freedom).

    differences: seed → difference, in the first measurement's order.
    n: number of seeds.
    mean: mean difference.
    low, high: ends of the interval; NaN with a single seed. With equal differences both are the mean.
    """

    differences: dict[Hashable, float]
    n: int
    mean: float
    low: float
    high: float


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
    """The differences a - b over seeds, with the 95 % Student-t interval of their mean.

    Args:
        a, b: mappings or Series seed → finite value, over the same seeds in any order.

    Raises:
        ValueError: as `by_seed`, and where the seeds differ.
    """
    a, b = by_seed(a, "a"), by_seed(b, "b")
    if a.keys() != b.keys():
        raise ValueError(
            f"a has the seeds {list(a)} and b has {list(b)}; only equal seeds make pairs: drop those without a partner"
        )
    differences = {seed: value - b[seed] for seed, value in a.items()}
    mean, low, high = interval(np.array(list(differences.values())))
    return Paired(differences, len(differences), mean, low, high)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and both ends of its 95 % Student-t interval over (n,) values; NaN ends for n = 1."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, np.nan, np.nan
    if np.all(values == values[0]):  # the mean of equal values may be off by a rounding error
        return float(values[0]), float(values[0]), float(values[0])
    half = float(student.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


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
