"""How measurements are written in tables."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from compatlib.evaluation.compatibility import update_gain
from compatlib.evaluation.statistics import FEWEST_SEEDS, Measured, Paired, against_chance, paired

# The fewest seeds whose bootstrap interval is shown: of three, its ends are the lowest and the highest seed.
FEWEST_DRAWN = 5
Values = Measured | Mapping[int, float] | pd.Series  # by seed, with scores by class where these are known


def in_percent(values: Values) -> str:
    """Mean over seeds and the half width of its 95 % interval over seeds, as in "28.9 ± 0.4"; "28.9" for one seed.

    The choice of test classes moves the levels of all models together, by far more than their differences: it counts in
    `points`, not here.
    """
    return _with_half_width(paired(_by_seed(values), 0), "{:.1f}")


def points(first: Values, second: Values) -> str:
    """Mean of first − second over seeds and half of its 95 % interval, in points with its sign, as in "+4.1 ± 0.3"."""
    return _with_half_width(paired(first, second), "{:+.1f}")


def points_from_chance(values: Values, chance: Values) -> str:
    """As `points`, of a measurement and a random ranking's score."""
    return _with_half_width(against_chance(values, chance), "{:+.1f}")


def effect(first: Values, second: Values) -> str:
    """What first − second is, as a sentence says it: "above by 1.3 ± 0.4 points", "open (+0.4 ± 0.7 points)"…

    Open is a difference whose interval holds 0. Fewer than three seeds decide nothing: "+1.3 points in the only seed".
    """
    link = paired(first, second)
    if link.equal:
        return "equal, query by query"
    if link.n < FEWEST_SEEDS:
        return f"{points(first, second)} points in {'the only seed' if link.n == 1 else 'two seeds'}"
    if link.low <= 0 <= link.high:
        return f"open ({points(first, second)} points)"
    size = points(first, second).lstrip("+-")
    return f"{'above' if link.mean > 0 else 'below'} by {size} points"


def seeds_in_words(number: int | str) -> str:
    """As in "1 seed", "3 seeds" or "5 to 10 seeds"."""
    return f"{number} seed{'' if number == 1 else 's'}"


def _with_half_width(link: Paired, form: str) -> str:
    mean = form.format(100 * link.mean)
    # The spaces do not break, so that a narrow column keeps a value in one line.
    return mean if np.isnan(link.high) else f"{mean}\u00a0±\u00a0{100 * (link.high - link.mean):.1f}"


def gain(cross: Values, old: Values, paragon: Values) -> str:
    """Update gain, as in "0.52"; from five seeds with its bootstrap interval, "0.52 [0.40, 0.61]"; or "undefined"."""
    found = update_gain(cross, old, paragon)
    if np.isnan(found.value):
        return "undefined"
    shows_interval = found.improvement.n >= FEWEST_DRAWN
    return f"{found.value:.2f}" + (f" [{found.low:.2f}, {found.high:.2f}]" if shows_interval else "")


def seeds_above(first: Values, second: Values) -> str:
    """In how many seeds first > second, as in "2 of 3"."""
    differences = paired(first, second).differences.values()
    return f"{sum(each > 0 for each in differences)} of {len(differences)}"


def mean_as(form: str | Callable[[float], str], factor: float = 1.0) -> Callable[..., str]:
    """Writes the mean, over seeds and over cells where there are several, times a factor, as in "{:.2f}"."""
    write = form.format if isinstance(form, str) else form
    return lambda *cells: write(factor * np.mean([_mean(each) for each in cells]))


def ratio_as(form: str, factor: float = 1.0) -> Callable[[Values, Values], str]:
    """Writes the first cell's mean over the second's, times a factor."""
    return lambda first, second: form.format(factor * _mean(first) / _mean(second))


def duration(seconds: float) -> str:
    """A duration in its largest fitting unit, as in "3.4 minutes", "5.1 hours" or "12.0 days"."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _mean(values: Values) -> float:
    return paired(_by_seed(values), 0).mean


def _by_seed(values: Values) -> Mapping[int, float] | pd.Series:
    """Without the scores by class."""
    return values.values if isinstance(values, Measured) else values
