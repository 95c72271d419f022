"""Tuning for the chapter *BCT*: the weight of every method's compatibility term, chosen on held-out training images.

All methods are treated alike: one seed apart from the study's, a third of the epochs (all of them where heads are
trained), the class-incremental split of
the nine tenths that are kept, tested on the tenth that is held out. The best is the one with the highest rank 1 of
new / old.
"""

from collections.abc import Iterator
from typing import Literal

import pandas as pd

from compatlib.study.lab.cases import Case, case
from compatlib.study.lab.experiment import Chapter, validation
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.measures import scores
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Base, upgraded
from compatlib.study.settings import Knobs as BaseKnobs
from compatlib.study.settings import Settings

WEIGHTS = {
    "L2": (1.0, 10.0, 100.0),
    "CE + distance": (1.0, 3.0, 10.0),
    "triplet": (0.3, 1.0, 3.0, 10.0),
    "triplet, raw": (0.1, 0.3, 1.0, 3.0),
    "contrastive": (0.3, 1.0, 3.0, 10.0),
    "distillation": (0.3, 1.0, 3.0, 10.0),
    "BCT A": (0.3, 1.0, 3.0, 10.0),
    "BCT B": (0.3, 1.0, 3.0),
    "BCT C": (0.1, 0.3, 1.0, 3.0),
}
# Where heads are trained besides: form D, and on where the best stood at an end.
OF_HEADS = {
    "L2": (300.0,),  # at 1,000 it diverges
    "CE + distance": (0.1, 0.3),
    "contrastive": (30.0,),
    "distillation": (30.0,),
    "BCT D": (0.1, 0.3, 1.0, 3.0, 10.0),
}
ORDER = tuple(dict.fromkeys((*WEIGHTS, *OF_HEADS)))


class Knobs(BaseKnobs):
    """The distance that the weights are chosen for."""

    distance: Literal["cosine", "euclidean"] = "cosine"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every method with every weight, and models trained apart."""
    place = {"split": CLASS_INCREMENTAL, "variant": "validation", "distance": run.knobs.distance}
    old = Base("old")
    apart = {("new", "old"): (Base("new"), old), ("new", "new"): (Base("new"),) * 2, ("old", "old"): (old, old)}
    for (query, gallery), (q, g) in apart.items():
        names = {"method": "independent", "query_model": query, "gallery_model": gallery}
        yield case(Of(q), Of(g), scores, **names, **place)
    of_heads = OF_HEADS if run.encoders else {}
    for method in ORDER if run.encoders else WEIGHTS:
        for weight in (*WEIGHTS.get(method, ()), *of_heads.get(method, ())):
            new = upgraded(method, weight=weight)
            columns = {"method": method, "x_name": "weight", "x": weight, **place}
            yield case(Of(new), Of(old), scores, query_model="new", gallery_model="old", **columns)
            yield case(Of(new), Of(new), scores, query_model="new", gallery_model="new", **columns)


def judged(tuned: Rows) -> pd.Series:
    """What a weight is chosen by, the highest the best: the score by (method, weight), mean over seeds."""
    found = tuned.of(query_model="new", gallery_model="old", subset="all", metric="cmc@1", x_name="weight")
    return found.groupby(["method", "x"])["value"].mean()


def prepared(run: Settings) -> Settings:
    """On held-out images; whole networks for a third of their epochs."""
    return validation(run, shortened=1 if run.encoders else 3)


CHAPTER = Chapter("bct_tuning", Knobs, cases, prepared, is_published=False)
