"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from compatlib.study.chapters.fct.backfilling import curve_cell
from compatlib.study.chapters.fct.plan import CHANGES, DRAWS, RIVAL, SIZE, WITH, WITHOUT
from compatlib.study.chapters.fct.tables import BCT, LINKS, MAIN, NEW_ON_H, OLD, PARAGON, TRANSFORMED, TRANSFORMED_WITH
from compatlib.study.lab.figures import papers
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.cells import Picks, pair
from compatlib.study.lab.figures.columns import Column, difference, level, mean
from compatlib.study.lab.figures.sources import Entries, Finding, Paper, Source, against
from compatlib.study.lab.figures.tables import Line, each
from compatlib.study.lab.figures.texts import effect
from compatlib.study.lab.trainables.sides import COMPONENTS

PLACE = {**MAIN, "subset": "all", "distance": "euclidean"}  # the paper's distance
COSINE = {**PLACE, "distance": "cosine"}
RIVAL_ON_OLD = pair("new", "old again", method=RIVAL)
LEVELS = {
    "old / old": OLD,
    "new / old, BCT (form A)": BCT,
    "new / h(old), without side-information": TRANSFORMED,
    "new / h(old), with side-information": TRANSFORMED_WITH,
    "new / new, where every image is embedded again": PARAGON,
}
IN_FCT = {
    ("independent", "old", "old"): "none",
    (WITHOUT, "new", "h(old)"): "FCT no side-information",
    (WITH, "new", "h(old)"): "FCT",
    ("independent", "new", "new"): "paragon",
}
EQUAL = 128.0  # numbers of side-information, as many as the new embedding has
AREAS = {"cmc@1": "auc cmc@1", "map": "auc map"}


def level_table(sources: Iterable[Entries], metric: str = "cmc@1") -> pd.DataFrame:
    """The paper's order, from old / old to new / new, beside the release's numbers."""
    release = Paper("FCT (2023)", *papers.FCT_2023, papers.CIFAR, _in_fct)
    return by_sources.by_source(each("query / gallery", LEVELS), level(metric=metric), [*sources, release], **PLACE)


def link_table(sources: Iterable[Source], metric: str = "cmc@1", distance: str = "euclidean") -> pd.DataFrame:
    """The order link by link, in points; above 0 a link holds."""
    columns = [difference(*link) for link in LINKS.values()]
    place = {**PLACE, "distance": distance, "metric": metric}
    return by_sources.by_source(each("link", {words: {} for words in LINKS}), columns, sources, **place)


def side_table(sources: Sequence[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """What side-information adds to the transformation without any, in points, by kind and size."""
    lines = [
        ({"side-information": kind, "numbers": f"{size:g}"}, {"variant": kind, "x": size})
        for kind, size in _kinds(sources)
    ]
    gained = difference({**NEW_ON_H, "method": WITH}, {**NEW_ON_H, "method": WITHOUT, "variant": "none", "x": 0.0})
    place = {**PLACE, "x_name": SIZE, "metric": metric}
    del place["variant"]
    return by_sources.by_source(lines, gained, sources, **place)


def kept_table(sources: Sequence[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """What must be kept of an item, in bytes where a source has measured them, and what new queries find then.

    The last line is a new head on raw features, which are kept in place of the embedding.
    """
    kinds = {
        f"{kind}, {size:g} numbers": {"variant": kind, "x_name": SIZE, "x": size} for kind, size in _kinds(sources)
    }
    tests: dict[str, Picks] = {
        "the old embedding": TRANSFORMED,
        **{f"and {words}": {**NEW_ON_H, "method": WITH, **picks} for words, picks in kinds.items()},
        "raw features, and a new head on them": RIVAL_ON_OLD,
    }
    place = {"variant": "", "x_name": "", "split": PLACE["split"], "distance": PLACE["distance"]}
    lines: list[Line] = []
    for words, picks in tests.items():
        kept = [source.entry(mean("{:.0f}", metric="kept_bytes"), {**place, **picks})[0] for source in sources]
        own = {**place, "subset": "all", "metric": metric, **picks}
        lines.append(({"kept of an item": words, "bytes": next(filter(None, kept), "")}, own))
    return by_sources.by_source(lines, level(), sources)


def change_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """new/h(old) with side-information − old/old in points, by what an upgrade changes, and by draw of old classes."""
    plain: dict[str, str] = {name: value for name, value in PLACE.items() if name != "split"}
    lines: dict[str, Mapping[str, str]] = {"half of the classes, then all": {**plain, "split": PLACE["split"]}}
    lines |= {change: {**plain, "variant": change} for change in CHANGES}
    lines |= {f"the first, draw {draw} of the old classes": {**plain, "variant": f"draw={draw}"} for draw in DRAWS}
    return by_sources.by_source(each("what changes", lines), difference(TRANSFORMED_WITH, OLD), sources, metric=metric)


def chain_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """Two upgrades later: the first gallery, transformed twice or from what is stored, less its own test, in points."""
    first = pair("v1", "v1", method="independent", variant="")
    lines, columns = [], []
    for words in ("composed", "learned again"):
        lines.append(({"the first gallery": words}, {}))
        columns.append(difference(pair("v3", "h(v1)", method=WITH, variant=words), first))
    place = {"split": "three generations", "subset": "all", "distance": PLACE["distance"], "metric": metric}
    return by_sources.by_source(lines, columns, sources, **place)


def order_table(sources: Iterable[Source], metric: str = "map", side: str = "with") -> pd.DataFrame:
    """What FastFill gains over FCT in a random order, as a whole and by its order alone, in points of the areas."""
    beside = f"{side} side-information"
    own, random, fct = (
        curve_cell(*which, beside) for which in (("FastFill", "uncertainty"), ("FastFill", "random"), ("FCT", "random"))
    )
    links = {
        "FastFill in its own order − FCT in a random one": (own, fct),
        "FastFill in its own order − FastFill in a random one": (own, random),
        "FastFill in a random order − FCT in a random one": (random, fct),
    }
    columns = [difference(*link) for link in links.values()]
    place = {"split": PLACE["split"], "subset": "all", "distance": PLACE["distance"], "metric": AREAS[metric]}
    return by_sources.by_source(each("areas", {words: {} for words in links}), columns, sources, **place)


def findings(sources: Sequence[Source]) -> Markdown:
    """What the rows of every source say of the claim's parts."""
    beside = "with side-information"
    own, random = curve_cell("FastFill", "uncertainty", beside), curve_cell("FCT", "random", beside)
    wanted = [
        (
            "The gallery transformed without side-information, against the old model's own test",
            *LINKS["without − old/old"],
        ),
        ("What side-information adds", *LINKS["with − without"]),
        ("FCT with side-information beside BCT (form A)", *LINKS["with − BCT"]),
        ("What is left to gain by embedding every image again", *LINKS["new/new − with"]),
        (
            "Where raw features are kept: a new head on them beside FCT with side-information",
            RIVAL_ON_OLD,
            TRANSFORMED_WITH,
        ),
    ]
    found = [against(*each, **PLACE) for each in wanted]
    kinds = (
        {**NEW_ON_H, "method": WITH, "variant": kind, "x_name": SIZE, "x": EQUAL} for kind in (COMPONENTS, "SimCLR")
    )
    words = f"Principal components of raw features in place of SimCLR, {EQUAL:g} numbers each"
    found.append(against(words, *kinds, **PLACE))
    areas = {
        name.replace("@", "_"): Column(tuple({**PLACE, **cell, "metric": area} for cell in (own, random)), effect)
        for name, area in AREAS.items()
    }
    words = "FastFill in its own order beside FCT in a random one, areas of the backfilling curves"
    return by_sources.findings([*found, Finding(words, "mAP {map}; rank 1 {cmc_1}", areas)], sources)


def _kinds(sources: Iterable[Source]) -> list[tuple[str, float]]:
    """Kinds and sizes of side-information that any source has, in order."""
    found = set()
    for source in sources:
        frame = source.rows.frame
        own = frame[(frame["x_name"] == SIZE) & (frame["method"] == WITH) & (frame["gallery_model"] == "h(old)")]
        found |= set(zip(own["variant"], own["x"], strict=True))
    return sorted(found)


def _in_fct(picks: Mapping[str, Any]) -> Mapping[str, str] | None:
    query, gallery = picks["query_model"], picks["gallery_model"]
    named = IN_FCT.get((picks["method"], query, gallery))
    return named and {"method": named, "query": query, "gallery": gallery, "metric": picks["metric"]}
