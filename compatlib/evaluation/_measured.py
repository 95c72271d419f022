"""Measurements over training seeds, with their scores by query class where these are known."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compatlib.evaluation import checks

AGREEMENT = 1e-6  # a value and the mean of its class scores may differ by this much


@dataclass(frozen=True, eq=False)
class ClassScores:
    """A score that is a mean over queries, by query class, of one test and one seed.

    sums: (classes,) float64, sum over the valid queries of each class; 0 where it has none.
    counts: (classes,) int64, number of valid queries of each class.

    Raises:
        ValueError: for other shapes or types, values that are not finite, a sum without a query, and no query at all.
    """

    sums: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        sums, counts = checks.as_array(self.sums, "sums"), checks.as_array(self.counts, "counts")
        are_numbers = sums.dtype.kind in "fiu" and counts.dtype.kind in "iu"
        if not are_numbers or sums.ndim != 1 or sums.shape != counts.shape:
            raise ValueError(
                f"sums are {sums.dtype} of shape {sums.shape} and counts {counts.dtype} of shape {counts.shape}; valid "
                "are numbers and whole numbers, both (classes,)"
            )
        if not np.isfinite(sums).all() or (counts < 0).any() or (sums[counts == 0] != 0).any() or not counts.any():
            raise ValueError(
                f"sums {sums} with counts {counts}; valid are finite sums, counts from 0 of which one is above, and a "
                "sum of 0 where the count is 0"
            )
        object.__setattr__(self, "sums", sums.astype(np.float64))
        object.__setattr__(self, "counts", counts.astype(np.int64))

    @classmethod
    def of_queries(cls, values, valid, labels, num_classes: int) -> "ClassScores":
        """The sums and counts of q queries' own scores.

        Args:
            values: (q,) numbers or booleans, one score a query; those of queries that are not valid are not looked at.
            valid: (q,) bool, the queries that count.
            labels: (q,) integers from 0 to num_classes - 1, the queries' classes.
            num_classes: number of classes.

        Raises:
            ValueError: for another length, type or range, and where no query is valid.
        """
        num_classes, values = checks.whole_number(num_classes, "num_classes", 1), checks.as_array(values, "values")
        valid = checks.mask(valid, "valid", len(values))
        labels = checks.labels(labels, "labels", len(values), "the scored set")
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= num_classes:
            raise ValueError(
                f"labels hold {labels.min()} to {labels.max()}; valid are 0 to {num_classes - 1}: number the classes "
                "from 0, or give a larger num_classes"
            )
        counts = np.bincount(labels[valid], minlength=num_classes)
        return cls(np.bincount(labels[valid], weights=values[valid], minlength=num_classes), counts)

    @property
    def mean(self) -> float:
        """The score itself, the mean over all valid queries; up to rounding, as sums are added in another order."""
        return float(self.sums.sum() / self.counts.sum())

    def subset(self, mask) -> "ClassScores":
        """The same score over the queries of the classes that the boolean mask (classes,) selects.

        Raises:
            ValueError: for a mask of another type or shape, and where these classes have no valid query.
        """
        mask = checks.mask(mask, "mask", len(self.counts))
        return ClassScores(np.where(mask, self.sums, 0), np.where(mask, self.counts, 0))


@dataclass(frozen=True, eq=False)
class Measured:
    """A measurement over seeds, with what is known of its classes.

    values: seed → finite value; a mapping or a Series.
    by_class: seed → the value's `ClassScores`, over the same seeds; of a mean of several cells a tuple, one each. None
        where the value is no mean over queries, or is not known by class.
    strata: (classes,) integers or booleans, the stratum within which a class is resampled, such as whether the old
        model knew it; None for a single stratum. All measurements of a claim have the same.

    Raises:
        ValueError: as `by_seed`; for class scores of other seeds, of unequal numbers of classes, or whose mean is not
            the value; for strata of another type or shape.
    """

    values: Mapping[Hashable, float]
    by_class: Mapping[Hashable, ClassScores | tuple[ClassScores, ...]] | None = None
    strata: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = by_seed(self.values, "values")
        object.__setattr__(self, "values", values)
        if self.by_class is None:
            return
        cells = {seed: each if isinstance(each, tuple) else (each,) for seed, each in self.by_class.items()}
        if cells.keys() != values.keys():
            raise ValueError(
                f"values has the seeds {list(values)} and by_class has {list(cells)}; valid are class scores of every "
                "seed, or None"
            )
        for seed, value in values.items():
            _check_cells(cells[seed], seed, value)
        object.__setattr__(self, "by_class", cells)
        object.__setattr__(self, "strata", _checked_strata(self.strata, cells))

    def of_seeds(self, seeds: Sequence[Hashable]) -> "Measured":
        """The measurement of these seeds alone, in this order.

        Raises:
            ValueError: for no seeds, and for one that was not measured.
        """
        missing = [seed for seed in seeds if seed not in self.values]
        if missing:
            raise ValueError(f"seeds {missing} were not measured; valid are {list(self.values)}")
        by_class = None if self.by_class is None else {seed: self.by_class[seed] for seed in seeds}
        return Measured({seed: self.values[seed] for seed in seeds}, by_class, self.strata)


def _check_cells(cells: tuple, seed: Hashable, value: float) -> None:
    if not cells or not all(isinstance(each, ClassScores) for each in cells):
        raise ValueError(f"by_class, seed {seed}, is {cells}; valid are ClassScores, or a tuple of one or more")
    mean = float(np.mean([each.mean for each in cells]))
    if abs(mean - value) > AGREEMENT:
        raise ValueError(
            f"values, seed {seed}, is {value} and the mean of its class scores is {mean}; valid are equal ones: both "
            "of one test, subset and unit"
        )


def _checked_strata(strata, cells: dict[Hashable, tuple[ClassScores, ...]]) -> np.ndarray:
    sizes = {len(each.counts) for of_seed in cells.values() for each in of_seed}
    if len(sizes) != 1:
        raise ValueError(f"by_class has {sorted(sizes)} classes; valid is one number: that of all classes of the test")
    (size,) = sizes
    strata = np.zeros(size, dtype=np.int64) if strata is None else checks.as_array(strata, "strata")
    if strata.shape != (size,) or strata.dtype.kind not in "biu":
        raise ValueError(
            f"strata is {strata.dtype} of shape {strata.shape}; valid are integers or booleans, ({size},): one a class"
        )
    return strata.astype(np.int64)


def mean_of(*measurements: Measured) -> Measured:
    """The mean of several cells, such as of methods, seed by seed; a resample of classes is the same in each of them.

    Args:
        measurements: one or more over the same seeds, each of one cell. Where one lacks class scores, the mean does.

    Raises:
        ValueError: for no measurement, other seeds, other strata, and means of means.
    """
    measurements = [as_measured(each, f"measurement {number}") for number, each in enumerate(measurements)]
    if not measurements:
        raise ValueError("there are 0 measurements to take the mean of; valid is one or more")
    for each in measurements[1:]:
        require_equal_seeds(measurements[0].values, each.values, "the first measurement", "another")
    seeds = measurements[0].values
    values = {seed: float(np.mean([each.values[seed] for each in measurements])) for seed in seeds}
    if any(each.by_class is None for each in measurements):
        return Measured(values)
    cells = {seed: sum((each.by_class[seed] for each in measurements), ()) for seed in seeds}
    if any(len(of_seed) != len(measurements) for of_seed in cells.values()):
        raise ValueError("a measurement is a mean of cells itself; valid are single cells: give all of them at once")
    return Measured(values, cells, common_strata(measurements))


def by_seed(values, name: str) -> dict[Hashable, float]:
    """Seed → value as a dict of floats.

    Args:
        values: a mapping, or anything with `items()` such as a pandas Series indexed by seed.
        name: how an error calls it.

    Raises:
        ValueError: for anything else, no seeds, a seed that stands twice, or values that are not finite numbers.
    """
    if not isinstance(values, Mapping) and not callable(getattr(values, "items", None)):
        raise ValueError(
            f"{name} is {values!r}; valid is a mapping or Series seed → value, as pairs are formed by seed"
        )
    entries = list(values.items())
    seeds = dict(entries)
    if not entries or len(seeds) != len(entries):
        raise ValueError(f"{name} has the seeds {[seed for seed, _ in entries]}; valid are one or more, each once")
    return {seed: checks.number(value, f"{name}, seed {seed},", -np.inf, np.inf) for seed, value in seeds.items()}


def as_measured(values, name: str) -> Measured:
    """A measurement, without class scores where `values` is a plain mapping; errors as `by_seed`."""
    return values if isinstance(values, Measured) else Measured(by_seed(values, name))


def common_strata(measurements: Sequence[Measured]) -> np.ndarray:
    """The strata that all measurements have; each has class scores. Raises ValueError where they differ."""
    first = measurements[0].strata
    for each in measurements[1:]:
        if not np.array_equal(first, each.strata):
            raise ValueError(
                f"measurements have the strata {first.tolist()} and {each.strata.tolist()}; valid are the same: "
                "resampled classes must be those of one test set"
            )
    return first


def require_equal_seeds(a: Mapping, b: Mapping, name: str, other: str) -> None:
    """Raises ValueError where two mappings by seed, under these names, are of different seeds."""
    if a.keys() != b.keys():
        raise ValueError(
            f"{name} has the seeds {list(a)} and {other} has {list(b)}; only equal seeds make pairs: drop those "
            "without a partner"
        )
