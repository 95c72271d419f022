"""What every chapter asks of an upgrade, whatever the method."""

from collections.abc import Iterator
from typing import Any

from compatlib.study.lab.cases import Case, case
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.measures import collapse, flips, popularity, scores
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Trainable
from compatlib.study.lab.trainables.upgrades import INDEPENDENT
from compatlib.study.settings import Settings


def upgrade_cases(
    run: Settings, method: str, old: Trainable, new: Trainable, *, split: str = CLASS_INCREMENTAL, **columns: Any
) -> Iterator[Case]:
    """new/old, new/new, what flips and whether anything collapsed; of models trained apart old/old too.

    Args:
        run: the run's settings; its knobs name the distance.
        method: as the rows call it.
        old: the deployed model.
        new: its successor.
        split: which images are tested on.
        **columns: further ones of the rows.
    """
    place = {"split": split, "method": method, "distance": run.knobs.distance, **columns}
    cross, own = {"query_model": "new", "gallery_model": "old"}, {"query_model": "new", "gallery_model": "new"}
    yield case(Of(new), Of(old), scores, popularity, flips, **place, **cross)
    yield case(Of(new), Of(new), scores, popularity, collapse, **place, **own)
    if method == INDEPENDENT:
        before = {"query_model": "old", "gallery_model": "old"}
        yield case(Of(old), Of(old), scores, popularity, collapse, **place, **before)
