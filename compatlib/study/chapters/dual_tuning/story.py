"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows.

The paper's own tables were not readable, so that none of its numbers stands beside them.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from IPython.display import Markdown

from compatlib.study.chapters.dual_tuning.plan import (
    DUAL,
    HALFWAY,
    METHODS,
    ON_OUTLIERS,
    OTHER_HEAD,
    OTHER_LOSS,
    OUTLIERS,
    OWN,
    PARTS,
    PROTOTYPES,
    RELEASE,
    SHARE_OF_OUTLIERS,
    SMALLER,
    SMALLER_ENCODER,
)
from compatlib.study.chapters.dual_tuning.plan import LARGER as LARGER_NETWORK
from compatlib.study.chapters.dual_tuning.tables import CROSS, OLD, PARAGON, PLAIN, SELF
from compatlib.study.lab.changes import SAME_ENCODER
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.columns import Column, difference, level
from compatlib.study.lab.figures.sources import Source, against
from compatlib.study.lab.figures.tables import Line, by, crossed, each
from compatlib.study.lab.figures.texts import points
from compatlib.study.lab.images import OPEN_SET

PLACE = {**PLAIN, "subset": "all"}
COMPARED = METHODS[1:]
BCT = "BCT A"
SHOWN = (BCT, DUAL)  # where a table has a line for every setting
SETTINGS = {
    "the study's upgrade": OWN,
    SAME_ENCODER: f"{OWN};{SAME_ENCODER}",
    SMALLER_ENCODER: f"{OWN};{SMALLER_ENCODER}",
    LARGER_NETWORK: f"{OWN};{LARGER_NETWORK}",
    SMALLER: f"{OWN};{SMALLER}",
    OTHER_LOSS: f"{OWN};{OTHER_LOSS}",
    "the non-negative head": OTHER_HEAD,
    **{f"draw {draw} of the old classes": f"{OWN};draw={draw}" for draw in (1, 2, 3, 4)},
}
MOST_OUTLIERS = max(OUTLIERS)


def level_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """What queries find in the old gallery, by method; above it what must be beaten, below it the paragon."""
    lines: dict[str, Mapping[str, str]] = {"old / old, what must be beaten": OLD}
    lines |= {f"new / old, {method}": _on_old(method) for method in METHODS}
    lines |= {"new / new, the paragon": PARAGON}
    return by_sources.by_source(each("query / gallery", lines), level(metric=metric), sources, **PLACE)


def cost_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """What the new model pays for being compatible: new/new − the paragon's in points, by method."""
    lines = by("method", "method", COMPARED)
    return by_sources.by_source(lines, difference(SELF, PARAGON), sources, **PLACE, metric=metric)


def setting_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """new/old − old/old in points, of BCT and of Dual-Tuning, by what old and new model differ in."""
    upgrades = each("old and new", {words: {"variant": variant} for words, variant in SETTINGS.items()})
    place = {name: value for name, value in PLACE.items() if name != "variant"}
    lines = crossed(upgrades, by("method", "method", SHOWN))
    return by_sources.by_source(lines, difference(CROSS, OLD), sources, **place, metric=metric)


def part_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """What each term alone, and all together, finds in the old gallery: new/old at the release's weights."""
    lines: list[Line] = each("terms", {"none": {"method": "independent", "variant": OWN}})
    lines += each("terms", {part: {"method": part, "variant": RELEASE} for part in PARTS})
    place = {name: value for name, value in PLACE.items() if name != "variant"}
    return by_sources.by_source(lines, level(**CROSS), sources, **place, metric=metric)


def unseen_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """new/old − old/old in points on identities that neither model was trained on, by method."""
    place = {**PLACE, "split": OPEN_SET, "metric": metric}
    return by_sources.by_source(by("method", "method", COMPARED), difference(CROSS, OLD), sources, **place)


def outlier_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """What wrong labels of the old model's images take from new/old and new/new of each method, in points."""
    lines: list[Line] = []
    columns = []
    for words, test in (("old / old", OLD), ("new / old", CROSS), ("new / new", SELF)):
        for method in ON_OUTLIERS if test is not OLD else ("independent",):
            lines.append(({"test": words, "method": "" if test is OLD else method}, {"method": method}))
            columns.append(Column(({**test, "metric": f"change of {metric}"},), lambda values: points(values, 0)))
    place = {**PLACE, "x_name": SHARE_OF_OUTLIERS, "x": MOST_OUTLIERS}
    return by_sources.by_source(lines, columns, sources, **place)


def findings(sources: Sequence[Source]) -> Markdown:
    """What the rows of every source say of the claim's parts."""
    wanted = [
        ("The criterion: Dual-Tuning's queries on the old gallery, against the old model's", _on_old(DUAL), OLD),
        ("Dual-Tuning beside BCT (form A), on the old gallery", _on_old(DUAL), _on_old(BCT)),
        ("The price: Dual-Tuning's new / new against the paragon's", {**SELF, "method": DUAL}, PARAGON),
        ("What L2 to the old samples costs: its new / new against the paragon's", {**SELF, "method": "L2"}, PARAGON),
        ("Prototypes alone, beside half of what the whole method gains", _on_old(PROTOTYPES), _on_old(HALFWAY)),
    ]
    return by_sources.findings([against(*each, **PLACE) for each in wanted], sources)


def _on_old(method: str) -> dict[str, str]:
    return {**CROSS, "method": method}
