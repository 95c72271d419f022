"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from compatlib.study.chapters.problem.tables import APART, CASES, named
from compatlib.study.lab.figures import papers, texts
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.cells import CHANCE, METRICS, SUBSETS, Picks, pair
from compatlib.study.lab.figures.columns import Column, difference, from_chance, level, mean
from compatlib.study.lab.figures.sources import Entries, Finding, Paper, Source, against, settings_of
from compatlib.study.lab.figures.tables import each

PLACE = {**APART, "subset": "all"}
OLD, CROSS, NEW = pair("old", "old"), pair("new", "old"), pair("new", "new")
IN_PAPERS = {("old", "old"): "none", ("new", "old"): "independent", ("new", "new"): "paragon"}
GALLERIES = {"a million images": 10**6, "a billion images": 10**9}


def level_table(sources: Iterable[Entries], metric: str = "cmc@1") -> pd.DataFrame:
    """Both models' queries on both galleries, and a random ranking, beside the papers whose data and split are ours."""
    tests = {named(*test.values()): {**APART, **test} for test in (OLD, pair("old", "new"), CROSS, NEW)}
    lines = each("query / gallery", {**tests, "random": CHANCE})
    quoted = [
        Paper(words, *source, papers.CIFAR, _in_papers)
        for words, source in (("FCT (2023)", papers.FCT_2023), ("BT²", papers.BT2))
    ]
    return by_sources.by_source(lines, level(metric=metric), [*sources, *quoted], subset="all")


def chance_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """How far from a random ranking two models trained apart are, in points, by what differs between them."""
    lines = each("what differs", {f"{case} ({named(*test)})": {} for case, *test in CASES})
    columns = [from_chance(**APART, **pair(*test)) for _, *test in CASES]
    return by_sources.by_source(lines, columns, sources, subset="all", metric=metric)


def upgrade_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """What the upgrade from half of the classes to all brings, with the gallery embedded again and as it is."""
    measures = {
        "every image embedded again: new / new − old / old (points)": difference(NEW, OLD),
        "the gallery as it is: new / old − old / old (points)": difference(CROSS, OLD),
        "update gain: the second as a share of the first": Column((CROSS, OLD, NEW), texts.gain),
        "negative flips (% of the queries)": level(**CROSS, metric="negative_flips"),
    }
    lines = each("upgrade", {words: {} for words in measures})
    return by_sources.by_source(lines, list(measures.values()), sources, **PLACE, metric=metric)


def subset_table(sources: Iterable[Source], metric: str = "cmc@1") -> pd.DataFrame:
    """The tests of an upgrade by the queries' classes: those that the old model knew, and those that were new to it."""
    lines = {
        f"{SUBSETS[subset]}, {named(*test.values())}": {**test, "subset": subset}
        for subset in ("known", "unknown")
        for test in (OLD, CROSS, NEW)
    }
    return by_sources.by_source(each("queries of", lines), level(), sources, **APART, metric=metric)


def cost_table(sources: Iterable[Source]) -> pd.DataFrame:
    """What it costs to embed a gallery again at each source's measured speed, and the bytes that its embeddings fill.

    Where heads are trained on an encoder's stored features the speed is the head's.
    """
    found: dict[str, Mapping[str, str]] = {}
    for source in sources:
        settings = settings_of(source)
        on_features = ", the head alone" if settings.get("encoders") else ""
        found[f"{source.words}{on_features}"] = _cost(source, settings["network"]["dim"])
    return pd.DataFrame(found).rename_axis("gallery").reset_index()


def _cost(source: Source, dim: int) -> dict[str, str]:
    cost = {}
    for words, count in GALLERIES.items():
        speed = mean(_embedding(count), metric="images_per_second", **NEW)
        cost[f"{words}: embedding again"] = source.entry(speed, APART)[0]
        cost[f"{words}: float32 (GB)"] = f"{4 * dim * count / 1e9:,.1f}"
    return cost


def _embedding(count: int) -> Callable[[float], str]:
    """Images a second → how long so many images take."""
    return lambda speed: texts.duration(count / speed)


def findings(sources: Sequence[Source]) -> Markdown:
    """What the rows of every source say of the claim's parts."""
    fresh, shared = CROSS, pair("new", "old_shared")
    found = [
        _beside_chance("New queries on the old gallery, less a random ranking's score", CROSS),
        _beside_chance("The same for two trainings that differ in their seed alone", pair("new", "twin")),
        against("The upgrade with every image embedded again: new / new, against old / old", NEW, OLD, **PLACE),
        against("The upgrade with the gallery as it is: new / old, against old / old", CROSS, OLD, **PLACE),
        against("Old and new from the same initial weights, against two of their own", shared, fresh, **PLACE),
    ]
    return by_sources.findings(found, sources)


def _beside_chance(what: str, test: Picks) -> Finding:
    values = {name: from_chance(**test, **PLACE, metric=metric) for name, metric in (("map", "map"), ("top", "cmc@1"))}
    return Finding(what, f"{METRICS['map']} {{map}} points; {METRICS['cmc@1']} {{top}} points", values)


def _in_papers(picks: Mapping[str, Any]) -> Mapping[str, str] | None:
    query, gallery = picks["query_model"], picks["gallery_model"]
    method = IN_PAPERS.get((query, gallery))
    return method and {"method": method, "query": query, "gallery": gallery, "metric": picks["metric"]}
