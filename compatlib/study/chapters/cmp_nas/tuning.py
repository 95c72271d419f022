"""Tuning for the chapter *CMP-NAS*: weights of level 1's terms, and level 2's learning rates.

One seed apart from the study's, on identities that are kept for it: neither trained on nor tested with. Where heads are
trained the weights, all epochs, by rank 1 of query / gallery; the paper states 1 : 1 for its own objective, which is
tried at others too and stays at it. Where networks are, the rates of the super-network and of a path by itself, a third
of the epochs: by the mean cross-test of a few random paths, and by that of a hand-made path.
"""

from collections.abc import Iterator
from typing import ClassVar

import pandas as pd

from compatlib.study.chapters.cmp_nas import plan
from compatlib.study.chapters.cmp_nas.plan import BOTH, GALLERY, OBJECTIVES, QUERY, gallery, names, random_paths
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter, validation
from compatlib.study.lab.images import SEARCHED
from compatlib.study.lab.measures import mean_history, scores
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.spaces import Of, Searched
from compatlib.study.lab.trainables import Architecture, OnPath, Trainable, upgraded
from compatlib.study.settings import Settings, changed

WEIGHTS = {
    "logit distillation": (0.3, 1.0, 3.0, 10.0),
    "regression": (1.0, 10.0, 100.0, 300.0),
    "gallery classifier": (0.3, 1.0, 3.0, 10.0),
    BOTH: (0.3, 1.0, 3.0, 10.0),
}
RATES = (0.05, 0.1, 0.2, 0.4)  # SPOS has 0.5 for batches eight times as large
WEIGHT, RATE = "weight", "learning rate"
SUPERNET, ALONE = "super-network", "path by itself"
PATHS = 10
ORDER = (*WEIGHTS, SUPERNET, ALONE)
VARIANT = "validation"


class Knobs(plan.Knobs):
    """As the chapter's; rates: what is tried of level 2."""

    chapter: ClassVar[str] = "cmp_nas_tuning"
    rates: tuple[float, ...] = RATES


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every candidate, and the gallery model on itself."""
    model = Of(gallery(run))
    yield case(model, model, scores, **names(run, plan.PARAGON, query=GALLERY, variant=VARIANT))
    if run.encoders:
        for objective, weights in WEIGHTS.items():
            for weight in weights:
                what = upgraded(OBJECTIVES[objective], gallery(run), plan.query_role(run), weight)
                yield from _tested(run, what, objective, WEIGHT, weight)
        return
    for rate in run.knobs.rates:
        yield from under(_of_paths(run, rate), {"knobs.supernet.learning_rate": rate})
        alone = OnPath(Architecture(f"{run.knobs.blocks.kinds[0]}@1"), gallery(run))
        yield from under(_tested(run, alone, ALONE, RATE, rate), {"knobs.query.learning_rate": rate})


def _of_paths(run: Settings, rate: float) -> Iterator[Case]:
    space = Searched(random_paths(run))
    columns = {"split": SEARCHED, "method": SUPERNET, "variant": VARIANT, "x_name": RATE, "x": rate}
    yield case(space, space, mean_history, query_model=plan.PATH, **columns)


def _tested(run: Settings, what: Trainable, method: str, x_name: str, x: float) -> Iterator[Case]:
    columns = {"variant": VARIANT, "x_name": x_name, "x": x}
    yield case(Of(what), Of(gallery(run)), scores, **names(run, method, query=QUERY, **columns))
    yield case(Of(what), Of(what), scores, **names(run, method, query=QUERY, gallery=QUERY, **columns))


def judged(tuned: Rows) -> pd.Series:
    """What a candidate is chosen by, the highest the best: by (method, x), mean over seeds."""
    frame = tuned.frame
    by_rank = frame[(frame["metric"] == "cmc@1") & (frame["gallery_model"] == GALLERY) & (frame["x_name"] != "")]
    by_paths = frame[(frame["metric"] == "cross_test") & (frame["method"] == SUPERNET)]
    found = pd.concat([by_rank, by_paths]).groupby(["method", "x"])["value"].mean()
    return found.reindex([method for method in ORDER if method in found], level="method")


def weight_of(run: Settings, objective: str) -> float:
    """With which weight the chapter's run takes an objective of level 1."""
    return plan.query(run, objective).chosen_weight


def prepared(run: Settings) -> Settings:
    """On identities kept for it; whole networks for a third of their epochs, few paths."""
    own = validation(run, shortened=1 if run.encoders else 3)
    if run.encoders:
        return own
    epochs = {name: max(1, getattr(run.knobs, name).epochs // 3) for name in ("supernet", "query")}
    shorter = {f"knobs.{name}.epochs": count for name, count in epochs.items()}
    return changed(own, shorter | {"knobs.paths": min(PATHS, run.knobs.paths)})


CHAPTER = Chapter("cmp_nas_tuning", Knobs, cases, prepared, is_published=False)
