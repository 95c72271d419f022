"""Whether the embedded data tell models apart at profile `laptop`: a gap, no score at the top, seeds that agree."""

import numpy as np

from compatlib.evaluation.statistics import interval
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import of_role
from compatlib.study.settings import settings

LEAST_GAP, HIGHEST, WIDEST = 5.0, 97.0, 3.0


def run() -> list[dict]:
    """Of the base models of half of the classes and of all, over the profile's seeds, at rank 1."""
    laptop = settings({"profile": "laptop"})
    about, rank_1 = f"{laptop.dataset}, {len(laptop.seeds)} seeds", {}
    for role in ("old", "new"):
        found = [Seed(laptop, seed).test(*[of_role(role)] * 2, CLASS_INCREMENTAL, "cosine") for seed in laptop.seeds]
        rank_1[role] = 100 * np.array([each.cmc[1] for each in found])
    means = {role: own.mean() for role, own in rank_1.items()}
    spread = {role: interval(own)[2] - means[role] for role, own in rank_1.items()}
    return [
        {
            "name": "twice the classes to train on",
            "measured": means["new"] - means["old"],
            "bound": LEAST_GAP,
            "better": "higher",
            "unit": "points at rank 1",
            "detail": f"{means['old']:.1f} to {means['new']:.1f}, {about}",
        },
        {
            "name": "half width of the wider interval",
            "measured": max(spread.values()),
            "bound": WIDEST,
            "better": "lower",
            "unit": "points at rank 1",
            "detail": f"old {spread['old']:.1f}, new {spread['new']:.1f}, {about}",
        },
        {
            "name": "highest score of the profile's own models",
            "measured": max(rank_1["old"].max(), rank_1["new"].max()),
            "bound": HIGHEST,
            "better": "lower",
            "unit": "% at rank 1",
            "detail": about,
        },
    ]
