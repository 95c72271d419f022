"""All chapters by name, their tunings and trials too: who publishes speaks of all of them, no chapter of another."""

from compatlib.study.chapters.bct import plan as bct
from compatlib.study.chapters.bct import tuning as bct_tuning
from compatlib.study.chapters.cmp_nas import plan as cmp_nas
from compatlib.study.chapters.cmp_nas import tuning as cmp_nas_tuning
from compatlib.study.chapters.dual_tuning import plan as dual_tuning
from compatlib.study.chapters.dual_tuning import tuning as dual_tuning_weights
from compatlib.study.chapters.fct import plan as fct
from compatlib.study.chapters.fct import trials as fct_trials
from compatlib.study.chapters.fct import tuning as fct_tuning
from compatlib.study.chapters.grid import conditions, recipe
from compatlib.study.chapters.problem import plan as problem
from compatlib.study.chapters.sfsc import plan as sfsc
from compatlib.study.chapters.sfsc import trials as sfsc_trials
from compatlib.study.chapters.sfsc import tuning as sfsc_tuning
from compatlib.study.lab.experiment import Chapter

CHAPTERS: dict[str, Chapter] = {
    module.CHAPTER.name: module.CHAPTER
    for module in (
        problem,
        bct,
        bct_tuning,
        fct,
        fct_tuning,
        fct_trials,
        dual_tuning,
        dual_tuning_weights,
        sfsc,
        sfsc_tuning,
        sfsc_trials,
        cmp_nas,
        cmp_nas_tuning,
        recipe,
        conditions,
    )
}


def chapter_of(name: str) -> Chapter:
    """The chapter of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in CHAPTERS:
        raise ValueError(f"unknown chapter {name!r}; choose one of {', '.join(CHAPTERS)}")
    return CHAPTERS[name]
