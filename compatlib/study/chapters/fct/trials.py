"""Trials around *FCT*'s plot F5: why embedding again in FastFill's order loses to a random order on the study's images.

On the study's seeds and test images, without side-information, under the Euclidean distance. They explain what F5
shows, and no value of the study was chosen by them. Some orders need labels or new embeddings, which no user has.
"""

from collections.abc import Iterator

from compatlib.study.chapters.fct.plan import Knobs
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.measures import answers, correlation, curve_area
from compatlib.study.lab.orders import ASCENDING, BY_CLASS, IN_TURN, LOSS, RANDOM, UNCERTAINTY
from compatlib.study.lab.spaces import H, Mixed, of_role
from compatlib.study.lab.trainables import Transformation
from compatlib.study.settings import Settings

ORDERS = (RANDOM, UNCERTAINTY, ASCENDING, IN_TURN, BY_CLASS, LOSS)
# FastFill fitted for as long and at the rate of the release, where the study has what was tuned for FCT's objective.
RECIPES = {
    "the study's": {},
    "the release's epochs and rate": {"knobs.transformation.epochs": 80, "knobs.transformation.learning_rate": 5e-4},
}


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """FastFill by every recipe, and its gallery embedded again in every order."""
    for recipe, changes in RECIPES.items():
        orders = ORDERS if not changes else (RANDOM, UNCERTAINTY)
        yield from under(_cases(recipe, orders), changes)


def _cases(recipe: str, orders: tuple[str, ...]) -> Iterator[Case]:
    h, new = H(Transformation(objective="fastfill")), of_role("new")
    place = {"split": CLASS_INCREMENTAL, "method": "FastFill", "distance": "euclidean"}
    yield case(new, Mixed(h, new, UNCERTAINTY), correlation, variant=recipe, **place)
    for order in orders:
        names = {"variant": f"{order} order, {recipe} recipe", "query_model": "new", "gallery_model": "mixed"}
        yield case(new, Mixed(h, new, order), curve_area, answers, **names, **place)


CHAPTER = Chapter("fct_trials", Knobs, cases, is_published=False)
