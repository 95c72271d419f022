"""Tuning for the chapter *Dual-Tuning*: the weights of every method's compatibility terms, on held-out training images.

As in *BCT*, and all methods alike: one seed apart from the study's, a third of the epochs (all of them where heads are
trained), the class-incremental split of the nine tenths that are kept, tested on the tenth that is held out; the best
has the highest rank 1 of new / old. The baselines that *BCT* has tuned with the signed head are not tuned again. Where
the page measures unseen identities all methods are tuned for them too, on identities that are kept for it.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

import pandas as pd

from compatlib.study.chapters.dual_tuning.plan import DUAL, DUAL_DISTANCE, MUTUAL, OWN, PROTOTYPES, SIGNED, with_head
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter, validation
from compatlib.study.lab.images import CLASS_INCREMENTAL, OPEN_SET
from compatlib.study.lab.measures import scores
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Base, Trainable, upgraded
from compatlib.study.lab.trainables.upgrades import INDEPENDENT
from compatlib.study.lab.trainables.upgrades import METHODS as TRAINED
from compatlib.study.settings import Knobs as BaseKnobs
from compatlib.study.settings import Settings

SHARED = {  # with *BCT*
    "L2": (10.0, 100.0, 300.0),  # at 1,000 it diverges
    "CE + distance": (0.3, 1.0, 3.0, 10.0),
    "distillation": (1.0, 3.0, 10.0, 30.0),
    "BCT A": (0.3, 1.0, 3.0, 10.0),
}
OWN_WEIGHTS = {
    "two-way triplet": (0.3, 1.0, 3.0, 10.0, 30.0),
    MUTUAL: (0.1, 0.2, 0.5, 1.0, 3.0),
    PROTOTYPES: (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "prototypes, distance": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    DUAL: (0.003, 0.01, 0.03, 0.1, 0.3),
    DUAL_DISTANCE: (0.003, 0.01, 0.03, 0.1, 0.3),
}
OF_MUTUAL = (0.1, 0.2, 0.5, 1.0)  # the whole method's, with each of its weights
ORDER = (*SHARED, *OWN_WEIGHTS)
VARIANT = f"{OWN};validation"
MUTUAL_IS = ";mutual="  # what the variant of a whole method says besides


class Knobs(BaseKnobs):
    """The distance that the weights are chosen for."""

    chapter: ClassVar[str] = "dual_tuning_weights"
    distance: Literal["cosine", "euclidean"] = "cosine"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every method with every weight, and models trained apart."""
    own = OWN_WEIGHTS if run.network.head == SIGNED else SHARED | OWN_WEIGHTS
    found = list(split_cases(run, own, "old", "new", CLASS_INCREMENTAL))
    if run.encoders:
        found += split_cases(run, SHARED | OWN_WEIGHTS, "old_open", "new_open", OPEN_SET)
    yield from under(found, with_head(run, SIGNED))


def split_cases(
    run: Settings, weights: dict[str, tuple[float, ...]], old_role: str, new_role: str, split: str
) -> Iterator[Case]:
    """Every candidate of one split."""
    old, place = Base(old_role), {"split": split, "distance": run.knobs.distance}
    apart = {"method": INDEPENDENT, "variant": VARIANT, **place}
    yield case(Of(old), Of(old), scores, query_model="old", gallery_model="old", **apart)
    yield from _tested(Base(new_role), old, apart)
    for method, tried in weights.items():
        for weight, mutual in itertools.product(tried, OF_MUTUAL if TRAINED[method].terms else (None,)):
            terms = {} if mutual is None else dict.fromkeys(TRAINED[method].terms, mutual)
            variant = VARIANT if mutual is None else f"{VARIANT}{MUTUAL_IS}{mutual:g}"
            columns = {"method": method, "variant": variant, "x_name": "weight", "x": weight, **place}
            yield from _tested(upgraded(method, old, new_role, weight, terms), old, columns)


def _tested(new: Trainable, old: Trainable, columns: dict) -> Iterator[Case]:
    yield case(Of(new), Of(old), scores, query_model="new", gallery_model="old", **columns)
    yield case(Of(new), Of(new), scores, query_model="new", gallery_model="new", **columns)


def judged(tuned: Rows, split: str = CLASS_INCREMENTAL) -> pd.Series:
    """What weights are chosen by, the highest the best: the score by (method, variant, weight), mean over seeds."""
    place = {"split": split, "query_model": "new", "gallery_model": "old", "x_name": "weight"}
    found = tuned.of(**place, subset="all", metric="cmc@1")
    return found.groupby(["method", "variant", "x"])["value"].mean()


def mutual_of(variant: str) -> float | None:
    """The weight of both mutual terms that a candidate's variant says; None where its method has none."""
    said = variant.partition(MUTUAL_IS)[2]
    return float(said) if said else None


def prepared(run: Settings) -> Settings:
    """On held-out images; whole networks for a third of their epochs."""
    return validation(run, shortened=1 if run.encoders else 3)


CHAPTER = Chapter("dual_tuning_weights", Knobs, cases, prepared, is_published=False)
