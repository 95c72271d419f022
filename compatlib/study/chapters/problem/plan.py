"""What the chapter *the problem* measures: base models trained apart, each against each."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from compatlib.study.lab.cases import Case, case
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.measures import chance, flips, image_speed, popularity, scores
from compatlib.study.lab.spaces import Labels, of_role
from compatlib.study.settings import Knobs as BaseKnobs
from compatlib.study.settings import Settings

ROLES = ("old", "old_samples", "old_shared", "small", "twin", "new")


class Knobs(BaseKnobs):
    """The page's own parameters: the distance, and how many queries are shown with their galleries."""

    distance: Literal["cosine", "euclidean"] = "cosine"
    examples: int = Field(4, ge=1, le=20)


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Self-tests, cross-tests, chance, and how fast each model embeds."""
    place = {"split": CLASS_INCREMENTAL, "distance": run.knobs.distance}
    for query in ROLES:
        for gallery in ROLES:
            asked = (scores, popularity) if query == gallery else (scores, popularity, flips)
            names = {"query_model": query, "gallery_model": gallery}
            yield case(of_role(query), of_role(gallery), *asked, method="independent", **names, **place)
        own = {"query_model": query, "gallery_model": query}
        yield case(of_role(query), of_role(query), image_speed, method="independent", **own, **place)
    yield case(Labels(), Labels(), chance, method="chance", **place)


CHAPTER = Chapter("problem", Knobs, cases)
