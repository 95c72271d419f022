"""How hard the embedded data are at profile `laptop`: what more classes and a wider network are worth there."""

import numpy as np

from compatlib.evaluation.retrieval import Retrieval
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import of_role
from compatlib.study.settings import Settings, settings

WIDER, LEAST_POINTS, HIGHEST = 4, 5.0, 97.0


def _retrieval(run: Settings, role: str, seed: int) -> Retrieval:
    return Seed(run, seed).test(of_role(role), of_role(role), CLASS_INCREMENTAL, "cosine")


def _wider(run: Settings) -> Settings:
    network = run.network.model_copy(update={"widths": tuple(WIDER * width for width in run.network.widths)})
    return run.model_copy(update={"network": network})


def run() -> list[dict]:
    """Points of mAP, mean over the profile's seeds, and the highest score of its own models, the wide one's beside."""
    laptop = settings({"profile": "laptop"})
    found = {
        "old": [_retrieval(laptop, "old", seed) for seed in laptop.seeds],
        "new": [_retrieval(laptop, "new", seed) for seed in laptop.seeds],
        "wide": [_retrieval(_wider(laptop), "new", seed) for seed in laptop.seeds],
    }
    means = {name: 100 * np.mean([each.mean_average_precision for each in own]) for name, own in found.items()}
    best = {name: [100 * max(each.cmc[rank] for each in own) for rank in (1, 5)] for name, own in found.items()}
    wide = "{:.1f} and {:.1f}".format(*best["wide"])
    about = f"{laptop.dataset}, {len(laptop.seeds)} seeds"
    return [
        {
            "name": "twice the classes to train on",
            "measured": means["new"] - means["old"],
            "bound": LEAST_POINTS,
            "better": "higher",
            "unit": "points of mAP",
            "detail": f"{means['old']:.1f} to {means['new']:.1f}, {about}",
        },
        {
            "name": f"{WIDER} times the width",
            "measured": means["wide"] - means["new"],
            "bound": LEAST_POINTS,
            "better": "higher",
            "unit": "points of mAP",
            "detail": f"{means['new']:.1f} to {means['wide']:.1f}, {about}",
        },
        {
            "name": "highest score of the profile's own models",
            "measured": max(*best["old"], *best["new"]),
            "bound": HIGHEST,
            "better": "lower",
            "unit": "%",
            "detail": f"rank 1 and rank 5; at {WIDER} times the width {wide}, {about}",
        },
    ]
