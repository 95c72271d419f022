"""Under which conditions SFSC's claims hold: its effects against each axis that may decide them.

- *room*: the head, and the embedding's size d against the number of classes K. With K < d a cross-entropy leaves d − K
  directions free, in which each width may go its own way; a non-negative head leaves less of them.
- *divergence*: the weight of the evidential loss's divergence, and the factor of its logits.
- *fit*: training images a class, at equal steps: how well the narrowest width fits what it is trained on.
- *conflicts*: projection where gradients conflict, as they do under the triplet loss, against none.

Every axis has the other values of the profile. Effects are differences of two methods that differ in one part.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from compatlib.models.resnet import HEADS
from compatlib.study.chapters.sfsc.plan import FULL, score_cases, widths_of
from compatlib.study.chapters.sfsc.plan import Knobs as SwitchableKnobs
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLOSED
from compatlib.study.lab.measures import gradients, row_space_energy, training_accuracy
from compatlib.study.lab.trainables.widths import BCT_S, PROJECTED_TRIPLET, SFSC
from compatlib.study.settings import Settings

UNCERTAIN = "BCT-S + uncertainty"
AXES = ("room", "divergence", "fit", "conflicts")
DIMS = (32, 64, 128, 256)
DIVERGENCES, LOGIT_SCALES = (5e-4, 5e-3, 0.05, 0.5), (1.0, 4.0)
IMAGES_A_CLASS = (60, 150, 500)
CONFLICTING = ("Asymmetric-S", PROJECTED_TRIPLET)
DIM, DIVERGENCE, IMAGES = "size of the embedding", "weight of the divergence", "training images a class"


class Knobs(SwitchableKnobs):
    """SFSC's, those of its chapter in a profile; `tables` are the axes."""

    chapter: ClassVar[str] = "sfsc"
    all_tables: ClassVar[tuple[str, ...]] = AXES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = {}


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every axis, with every value of it."""
    for head, dim in itertools.product(HEADS, DIMS):
        changes = {"network.head": head, "network.dim": dim}
        yield from _place(run, (BCT_S, UNCERTAIN), changes, variant=f"axis=room;head={head}", x_name=DIM, x=float(dim))
    for scale, weight in itertools.product(LOGIT_SCALES, DIVERGENCES):
        changes = {"knobs.logit_scale": scale, "knobs.kl_weight": weight}
        variant = f"axis=divergence;logit scale={scale:g}"
        yield from _place(run, (UNCERTAIN, SFSC), changes, variant=variant, x_name=DIVERGENCE, x=weight)
    for number in IMAGES_A_CLASS:
        epochs = round(run.training.epochs * max(IMAGES_A_CLASS) / number)
        changes = {"train_per_class": number, "training.epochs": epochs}
        yield from _place(run, (BCT_S, UNCERTAIN), changes, variant="axis=fit", x_name=IMAGES, x=float(number))
    yield from _place(run, CONFLICTING, {}, variant="axis=conflicts")


def _place(run: Settings, methods: tuple[str, ...], changes: Mapping[str, Any], **columns: Any) -> Iterator[Case]:
    """Scores of the methods' widths, and what may explain them, in one place of the grid."""
    for method in methods:
        spaces = widths_of(run, method, CLOSED)
        found = [*score_cases(run, method, CLOSED, whole=(), **columns)]
        for width, space in spaces.items():
            names = {"split": CLOSED, "method": method, "query_model": f"{width:g}", **columns}
            found.append(case(space, space, row_space_energy, training_accuracy, **names))
        found.append(case(spaces[FULL], spaces[FULL], gradients, split=CLOSED, method=method, **columns))
        yield from under(found, changes)


CHAPTER = Chapter("conditions", Knobs, cases, is_published=False)
