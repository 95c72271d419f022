"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows."""

from collections.abc import Iterable, Sequence

import pandas as pd
from IPython.display import Markdown

from compatlib.study.chapters.sfsc.plan import FULL
from compatlib.study.chapters.sfsc.tables import ABLATION, CLOSED, ON_FULL, OWN, PLAIN, widths_of
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.columns import Column, difference, level
from compatlib.study.lab.figures.sources import Entries, Finding, Source
from compatlib.study.lab.figures.tables import by, each
from compatlib.study.lab.trainables.widths import BCT_S, METHODS, SFSC, SWITCHABLE

PLACE = {**PLAIN, "subset": "all"}
MEANS = {"own": OWN, "full": ON_FULL}
NARROWEST = "0.25"
# Those that have lines of their own in the details alone: other readings of the projection.
SHORT = [name for name in METHODS if "tensor" not in name and "against" not in name]


def level_table(sources: Iterable[Entries], gallery: str, metric: str = "map", split: str = "closed") -> pd.DataFrame:
    """Every method's mean over widths: on their "own" galleries, or the narrower ones' on the "full" model's."""
    column = level(**MEANS[gallery], metric=metric)
    return by_sources.by_source(by("method", "method", SHORT), column, sources, **PLACE, split=split)


def part_table(sources: Iterable[Entries], gallery: str = "full", metric: str = "map") -> pd.DataFrame:
    """What each half of the method adds to BCT-S, in points."""
    cell = {**MEANS[gallery], "metric": metric}
    lines = each("switchable network", {words: {"method": method} for words, method in ABLATION.items()})
    column = difference(cell, {**cell, "method": BCT_S})
    return by_sources.by_source(lines, column, sources, **PLACE, **CLOSED)


def pays_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """Whether a narrow query of SFSC is better off on the full model's gallery than on its own, in points, by width."""
    sources = list(sources)
    widths = _widths(sources)[:-1]
    columns = [difference(pair(width, f"{FULL:g}"), pair(width, width)) for width in widths]
    lines = each("width of the query", {width: {} for width in widths})
    return by_sources.by_source(lines, columns, sources, **PLACE, **CLOSED, method=SFSC, metric=metric)


def conflict_table(sources: Iterable[Entries]) -> pd.DataFrame:
    """The share of pairs of widths whose gradients conflict, over a whole training, in percent."""
    lines = by("switchable network", "method", [name for name in SWITCHABLE if name in SHORT])
    return by_sources.by_source(lines, level(metric="conflicts"), sources, **PLAIN, **CLOSED, query_model="")


def findings(sources: Sequence[Source]) -> Markdown:
    """What the rows of every source say of the claim's parts."""
    conflicts = {"plain": level(method=BCT_S), "evidential": level(method=SFSC)}
    where = {**PLAIN, **CLOSED, "metric": "conflicts", "query_model": ""}
    wanted = [
        _against("The server's gallery: SFSC against plain training (BCT-S)", *_methods(ON_FULL, SFSC)),
        _against("Each width's own gallery: SFSC against plain training (BCT-S)", *_methods(OWN, SFSC)),
        _against(
            "A quarter-width query of SFSC: the server's gallery against one of its own making",
            {**pair(NARROWEST, f"{FULL:g}"), "method": SFSC},
            {**pair(NARROWEST, NARROWEST), "method": SFSC},
        ),
        _against(
            "Projection alone, on the server's gallery: CE + projection against BCT-S",
            *_methods(ON_FULL, "CE + projection"),
        ),
        Finding(
            "Pairs of widths whose gradients conflict",
            "{plain} % under plain training, {evidential} % under SFSC",
            {name: _placed(column, where) for name, column in conflicts.items()},
        ),
    ]
    return by_sources.findings(wanted, sources)


def _widths(sources: Iterable[Source]) -> list[str]:
    """All that any source has, ascending."""
    return [f"{width:g}" for width in sorted({width for source in sources for width in widths_of(source.rows)})]


def _against(what: str, first: dict[str, str], second: dict[str, str]) -> Finding:
    return by_sources.against(what, first, second, **PLACE, **CLOSED)


def _methods(means: dict[str, str], method: str) -> tuple[dict[str, str], dict[str, str]]:
    return {**means, "method": method}, {**means, "method": BCT_S}


def _placed(column: Column, where: dict[str, str]) -> Column:
    return Column(tuple({**where, **cell} for cell in column.cells), column.written)
