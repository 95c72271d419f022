"""How numbers are written in tables."""

import numpy as np
import pandas as pd
from IPython.display import HTML

from compatlib.evaluation.compatibility import update_gain
from compatlib.evaluation.statistics import interval, paired

# The fewest seeds whose bootstrap interval is shown: of three, its ends are the lowest and the highest seed.
FEWEST_DRAWN = 5
METRICS = {"cmc@1": "rank 1", "cmc@5": "rank 5", "map": "mAP"}


def show(frame: pd.DataFrame) -> HTML:
    """A table as a page shows it: without the numbers of its lines."""
    return HTML(frame.to_html(index=False))


def in_percent(values: pd.Series) -> str:
    """Mean over seeds and the 95 % interval's half width, as in "28.9 ± 0.4"; "28.9" for a single seed."""
    mean, _, high = interval(100 * values.to_numpy())
    # The spaces do not break, so that a narrow column keeps a value in one line.
    return f"{mean:.1f}" if np.isnan(high) else f"{mean:.1f}\u00a0±\u00a0{high - mean:.1f}"


def points(first: pd.Series, second: pd.Series) -> str:
    """Mean of first − second over seeds and half of its 95 % interval, in points with its sign, as in "+4.1 ± 0.3"."""
    link = paired(first.to_dict(), second.to_dict())
    half = f"\u00a0±\u00a0{100 * (link.high - link.mean):.1f}" if link.n > 1 else ""
    return f"{100 * link.mean:+.1f}{half}"


def gain(cross: pd.Series, old: pd.Series, paragon: pd.Series) -> str:
    """Update gain, as in "0.52"; from five seeds with its bootstrap interval, "0.52 [0.40, 0.61]"; or "undefined"."""
    found = update_gain(cross.to_dict(), old.to_dict(), paragon.to_dict())
    if np.isnan(found.value):
        return "undefined"
    return f"{found.value:.2f}" + (f" [{found.low:.2f}, {found.high:.2f}]" if len(cross) >= FEWEST_DRAWN else "")


def duration(seconds: float) -> str:
    """A duration in its largest fitting unit, as in "3.4 minutes", "5.1 hours" or "12.0 days"."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} seconds"
