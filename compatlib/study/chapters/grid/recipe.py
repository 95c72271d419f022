"""Three choices of the recipe, changed one at a time: what each does to BCT (form A) and to SFSC, on one seed.

The study keeps them as its published models were trained: a warm-up whose first step has the rate 0, Nesterov's
momentum, and logits under autocast. Every model of a case is trained by the changed recipe, the old one too.
"""

from collections.abc import Iterator
from typing import ClassVar

from compatlib.study.chapters.bct.plan import upgrade_cases
from compatlib.study.chapters.sfsc.plan import Knobs as SwitchableKnobs
from compatlib.study.chapters.sfsc.plan import score_cases
from compatlib.study.lab.cases import Case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLOSED
from compatlib.study.lab.trainables import Base, Upgrade
from compatlib.study.lab.trainables.widths import SFSC
from compatlib.study.settings import Settings, changed

CHOICES = {
    "as published": {},
    "warm-up from the first step": {"training.warmup_from_zero": False},
    "momentum without Nesterov's": {"training.nesterov": False},
    "logits in float32": {"training.logits": "float32"},
}


class Knobs(SwitchableKnobs):
    """SFSC's; those of its chapter in a profile."""

    chapter: ClassVar[str] = "sfsc"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """BCT's upgrade and SFSC's widths under every choice; where the run's own is the choice, nothing is trained."""
    for words, changes in CHOICES.items():
        if changes and changed(run, changes) == run:
            continue
        yield from under(upgrade_cases(run, "BCT A", Base("old"), Upgrade("BCT A"), variant=words), changes)
        yield from under(score_cases(run, SFSC, CLOSED, variant=words), changes)


CHAPTER = Chapter("recipe", Knobs, cases, is_published=False)
