"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from compatlib.study.chapters.bct.plan import ALL_METHODS, CHAIN, CHAINED, DRAWS, SAME_ENCODER
from compatlib.study.chapters.bct.tables import CROSS, OLD, PARAGON, PLAIN, SELF
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.figures import papers
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.cells import Picks, pair
from compatlib.study.lab.figures.columns import difference, level
from compatlib.study.lab.figures.sources import Entries, Paper, Source, against
from compatlib.study.lab.figures.tables import by, each

PLACE = {**PLAIN, "subset": "all"}
METHODS = ALL_METHODS[1:]
FORM_A, FORM_C, CONTRASTIVE = "BCT A", "BCT C", "contrastive"
COMPARED = (FORM_A, FORM_C, CONTRASTIVE)  # by head and offset
# How embeddings are compared: as they are, the query moved onto the gallery's mean, both without their means.
AS_THEY_ARE, SHIFTED, CENTRED = "", "offset=shifted", "offset=centred"
FIRST, *_, LAST = CHAIN


def level_table(sources: Iterable[Entries], metric: str = "cmc@1") -> pd.DataFrame:
    """What queries find in the old gallery, by method; above it what must be beaten, below it the paragon."""
    lines = {"old / old, what must be beaten": OLD}
    lines |= {f"new / old, {method}": _on_old(method) for method in ALL_METHODS}
    lines |= {"new / new, the paragon": PARAGON}
    bt2 = Paper("BT²", *papers.BT2, papers.CIFAR, _in_bt2)
    return by_sources.by_source(each("query / gallery", lines), level(metric=metric), [*sources, bt2], **PLACE)


def criterion_table(
    sources: Iterable[Source], metric: str = "cmc@1", offset: str = AS_THEY_ARE, subset: str = "all"
) -> pd.DataFrame:
    """new/old − old/old in points, by method: above 0 the criterion is met.

    Args:
        sources: in the order of the columns.
        metric: the score.
        offset: how embeddings are compared.
        subset: of the queries.
    """
    where = {**PLACE, "subset": subset, "metric": metric}
    return by_sources.by_source(by("method", "method", METHODS), difference(*criterion(offset)), sources, **where)


def criterion(offset: str = AS_THEY_ARE, variant: str = "") -> tuple[Picks, Picks]:
    """The two cells of the criterion; old/old loses its own mean only where both do."""
    moved, still = (f"{variant};{each}".strip(";") for each in (offset, offset if offset == CENTRED else ""))
    return {**CROSS, "variant": moved}, {**OLD, "variant": still}


def cost_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """What the new model pays for being compatible: new/new − the paragon's in points, by method."""
    lines = by("method", "method", METHODS)
    return by_sources.by_source(lines, difference(SELF, PARAGON), sources, **PLACE, metric=metric)


def change_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """The criterion in points, form A, by what an upgrade changes, and with other classes as the old ones."""
    plain = {**PLACE, "method": FORM_A}
    lines: dict[str, Mapping[str, str]] = {"half of the classes, then all": plain}
    lines["half of every class's images, then all"] = {**plain, "split": "sample-incremental", "method": FORM_C}
    lines |= {change: {**plain, "variant": change} for change in (*CHANGES, SAME_ENCODER)}
    lines |= {f"the first, draw {draw} of the old classes": {**plain, "variant": f"draw={draw}"} for draw in DRAWS}
    return by_sources.by_source(each("what changes", lines), difference(CROSS, OLD), sources, metric=metric)


def chain_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """Two upgrades later: the third model's queries on the first gallery, less the first model's own, in points."""
    lines, columns = [], []
    for method in CHAINED:
        for words, offset in (("", AS_THEY_ARE), (", queries shifted", SHIFTED)):
            lines.append(({"chain": f"{method}{words}"}, {"method": method}))
            columns.append(difference(pair(LAST, FIRST, variant=offset), pair(FIRST, FIRST, variant="")))
    place = {"split": "three generations", "subset": "all", "metric": metric}
    return by_sources.by_source(lines, columns, sources, **place)


def unseen_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """The criterion in points on identities that neither model was trained on, form A, by the weight λ."""
    weights = sorted({weight for source in sources for weight in _swept(source)})
    lines = [({"weight λ": f"{weight:g}"}, {"x": weight}) for weight in weights]
    column = difference({**CROSS, "method": FORM_A}, {**OLD, "x": 0.0})
    place = {"split": "open-set", "variant": "", "x_name": "weight", "subset": "all", "metric": metric}
    return by_sources.by_source(lines, column, sources, **place)


def findings(sources: Sequence[Source]) -> Markdown:
    """What the rows of every source say of the claim's parts."""
    wanted = [
        ("The criterion: form A's queries on the old gallery, against the old model's", _on_old(FORM_A), OLD),
        ("The same by form C, which has rows for the new classes too", _on_old(FORM_C), OLD),
        ("Form A, its queries moved onto the old model's mean", {**_on_old(FORM_A), "variant": SHIFTED}, OLD),
        ("The price: form A's new / new against the paragon's", {**SELF, "method": FORM_A}, PARAGON),
        ("A contrastive loss beside form A, on the old gallery", _on_old(CONTRASTIVE), _on_old(FORM_A)),
    ]
    return by_sources.findings([against(*each, **PLACE) for each in wanted], sources)


def _on_old(method: str) -> dict[str, str]:
    return {**CROSS, "method": method}


def _swept(source: Source) -> set[float]:
    frame = source.rows.frame
    own = frame[(frame["split"] == "open-set") & (frame["x_name"] == "weight") & (frame["method"] == FORM_A)]
    return set(own["x"])


def _in_bt2(picks: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Where BT²'s table, whose data set and split are ours, has a cell; its BCT is form A."""
    query, gallery = picks["query_model"], picks["gallery_model"]
    named = {
        ("independent", "old", "old"): "none",
        ("independent", "new", "old"): "independent",
        ("independent", "new", "new"): "paragon",
        (FORM_A, "new", "old"): "BCT",
    }.get((picks["method"], query, gallery))
    return named and {"method": named, "query": query, "gallery": gallery, "metric": picks["metric"]}
