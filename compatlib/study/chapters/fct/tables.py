"""Tables of the chapter *FCT*, from its rows."""

import itertools

import pandas as pd

from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct import tuning
from compatlib.study.chapters.fct.plan import ANEW, IN_HALVES, SIZE, WITH, WITHOUT
from compatlib.study.lab.figures.tables import METRICS, duration, in_percent, points
from compatlib.study.lab.measures.cost import NEIGHBOURS
from compatlib.study.lab.rows import Rows
from compatlib.study.settings import Settings

SUBSETS = {"all": "all classes", "known": "classes old knew", "unknown": "classes new to old"}
MAIN = {"split": "class-incremental", "variant": "", "x_name": ""}
CHAIN = {"split": "three generations"}


def cell(method: str, query: str, gallery: str) -> dict[str, str]:
    """What picks a test's rows."""
    return {"method": method, "query_model": query, "gallery_model": gallery}


OLD = cell("independent", "old", "old")
PARAGON = cell("independent", "new", "new")
TESTS = {
    "old / old: what must be beaten": OLD,
    "new / old, independent": cell("independent", "new", "old"),
    "new / old, BCT (form A)": cell("BCT A", "new", "old"),
    "new / h(old), without side-information": cell(WITHOUT, "new", "h(old)"),
    "new / h(old), with side-information": cell(WITH, "new", "h(old)"),
    "h(old) / h(old), without": cell(WITHOUT, "h(old)", "h(old)"),
    "h(old) / h(old), with": cell(WITH, "h(old)", "h(old)"),
    "new / new of BCT (form A)": cell("BCT A", "new", "new"),
    "new / new of FCT: the paragon itself, left alone": PARAGON,
    "a random ranking": {"method": "chance"},
}
# The links of the paper's order, and what they are called: second − first.
LINKS = {
    "without − old/old": (OLD, TESTS["new / h(old), without side-information"]),
    "with − without": (TESTS["new / h(old), without side-information"], TESTS["new / h(old), with side-information"]),
    "new/new − with": (TESTS["new / h(old), with side-information"], PARAGON),
    "with − BCT": (TESTS["new / old, BCT (form A)"], TESTS["new / h(old), with side-information"]),
}


def result_table(measured: Rows) -> pd.DataFrame:
    """Table F1: every test under both distances, mean over seeds and the 95 % interval's half width, in percent."""
    lines = []
    for words, picked in TESTS.items():
        line = {"query / gallery": words}
        for distance in DISTANCES:
            for metric, title in METRICS.items():
                values = measured.by_seed(**MAIN, **picked, subset="all", metric=metric, distance=distance)
                line[f"{distance}: {title} (%)"] = in_percent(values)
        lines.append(line | {"n": len(values)})
    return pd.DataFrame(lines)


def link_table(measured: Rows) -> pd.DataFrame:
    """The paper's order link by link, by subset of the queries: paired differences over seeds, in points."""
    lines = []
    for distance in DISTANCES:
        for subset, words in SUBSETS.items():
            for metric in ("cmc@1", "map"):
                where = {**MAIN, "subset": subset, "metric": metric, "distance": distance}
                line = {"distance": distance, "queries": words, "score": METRICS[metric]}
                for title, (first, second) in LINKS.items():
                    low = measured.by_seed(**where, **first)
                    high = measured.by_seed(**where, **second, seed=list(low.index))
                    line[f"{title} (points)"] = points(high, low[high.index])
                lines.append(line)
    return pd.DataFrame(lines)


def storage_table(measured: Rows) -> pd.DataFrame:
    """new / h(old) with side-information: what storing halves, or fitting on images instead of stored views, changes.

    In points against the main table's, of the same seeds.
    """
    place = {**cell(WITH, "new", "h(old)"), "split": "class-incremental", "x_name": "", "subset": "all"}
    there = set(measured.of(**place, metric="map")["variant"])
    lines = []
    for variant in [each for each in (IN_HALVES, ANEW) if each in there]:
        line = {"with side-information, but": variant}
        for distance in DISTANCES:
            for metric in ("cmc@1", "map"):
                where = {**place, "metric": metric, "distance": distance}
                own = measured.by_seed(**where, variant=variant)
                usual = measured.by_seed(**where, variant="", seed=list(own.index))
                line[f"{distance}: {METRICS[metric]} (points)"] = points(own, usual)
        lines.append(line | {"n": len(own)})
    return pd.DataFrame(lines)


def flip_table(measured: Rows) -> pd.DataFrame:
    """Queries right at rank 1 under old/old and wrong under new / h(old); share of the most popular item."""
    lines = []
    for method, words in ((WITHOUT, "without side-information"), (WITH, "with side-information")):
        for distance in DISTANCES:
            where = {**MAIN, **cell(method, "new", "h(old)"), "distance": distance}
            line = {"new / h(old)": words, "distance": distance}
            for subset, name in SUBSETS.items():
                flips = measured.by_seed(**where, subset=subset, metric="negative_flips")
                line[f"negative flips, {name} (%)"] = in_percent(flips)
            line["most popular item (%)"] = in_percent(measured.by_seed(**where, subset="all", metric="top_share"))
            lines.append(line)
    return pd.DataFrame(lines)


def side_table(measured: Rows) -> pd.DataFrame:
    """Table F2: new / h(old) by kind and size of side-information, and the side-information searched alone."""
    place = {"split": "class-incremental", "subset": "all", "x_name": SIZE}
    pair, alone = (
        {"query_model": query, "gallery_model": gallery} for query, gallery in (("new", "h(old)"), ("side", "side"))
    )
    found = measured.of(**place, **pair)
    lines = []
    for kind, size in sorted(
        set(zip(found["variant"], found["x"], strict=True)), key=lambda each: (each[0] != "none", *each)
    ):
        line = {"side-information": kind, "size": f"{size:g}" if size else ""}
        for distance in DISTANCES:
            for metric in ("cmc@1", "map"):
                where = {**place, **pair, "metric": metric, "distance": distance}
                own = measured.by_seed(**where, variant=kind, x=size)
                line[f"{distance}: {METRICS[metric]} (%)"] = in_percent(own)
            without = measured.by_seed(**where | {"metric": "cmc@1"}, variant="none", seed=list(own.index))
            gained = points(measured.by_seed(**where | {"metric": "cmc@1"}, variant=kind, x=size), without)
            line[f"{distance}: gain at rank 1 (points)"] = gained if size else ""
        if size:
            own = measured.by_seed(**place, **alone, variant=kind, x=size, metric="cmc@1", distance="cosine")
        line["alone, cosine: rank 1 (%)"] = in_percent(own) if size else ""
        lines.append(line | {"n": len(own)})
    return pd.DataFrame(lines)


def change_table(measured: Rows, changes: dict) -> pd.DataFrame:
    """Table F3: what else old and new may differ in; rank 1 under both distances."""
    lines = []
    for words in changes:
        for distance in DISTANCES:
            place = {"variant": words, "subset": "all", "metric": "cmc@1", "distance": distance}
            line = {"old and new differ in": words, "distance": distance}
            for title, picked in (
                ("old / old", OLD),
                ("new / old, independent", cell("independent", "new", "old")),
                ("new / h(old), without", cell(WITHOUT, "new", "h(old)")),
                ("new / h(old), with", cell(WITH, "new", "h(old)")),
                ("new / new", PARAGON),
            ):
                values = measured.by_seed(**place, **picked)
                line[f"{title} (%)"] = in_percent(values)
            lines.append(line | {"n": len(values)})
    return pd.DataFrame(lines)


def tuning_table(tuned: Rows, chosen: Settings) -> pd.DataFrame:
    """Rank 1 on the held-out training images by value of each knob, one changed at a time.

    Args:
        tuned: the tuning's rows.
        chosen: the chapter's run, whose values are marked.
    """
    lines, judged = [], tuning.judged(tuned)
    alone = {"method": WITH, "query_model": "side", "gallery_model": "side"}
    tests = {
        "new / h(old), without": cell(WITHOUT, "new", "h(old)"),
        "new / h(old), with": cell(WITH, "new", "h(old)"),
        "side-information alone": alone,
    }
    for knob, value in judged.index:
        line = {"what": knob, "value": f"{value:g}"}
        for (title, picked), distance in itertools.product(tests.items(), DISTANCES):
            where = {**picked, "x_name": knob, "x": value, "subset": "all", "metric": "cmc@1", "distance": distance}
            line[f"{title}, {distance} (%)"] = in_percent(tuned.by_seed(**where))
        line["mean of the first four (%)"] = f"{100 * judged[knob, value]:.2f}"
        lines.append(line | {"chosen": "yes" if tuning.value_of(chosen, knob) == value else ""})
    return pd.DataFrame(lines)


def chain_table(measured: Rows) -> pd.DataFrame:
    """Table F4: the first generation's gallery, two updates later."""
    lines = []
    for words, picked in (
        ("v1 / v1", cell("independent", "v1", "v1") | {"variant": ""}),
        ("v2 / h(v1)", cell(WITH, "v2", "h(v1)") | {"variant": ""}),
        ("v2 / v2", cell("independent", "v2", "v2") | {"variant": ""}),
        ("v3 / h(h(v1)): composed", cell(WITH, "v3", "h(v1)") | {"variant": "composed"}),
        ("v3 / h(v1): learned again from what is stored", cell(WITH, "v3", "h(v1)") | {"variant": "learned again"}),
        ("v3 / v3", cell("independent", "v3", "v3") | {"variant": ""}),
    ):
        line = {"query / gallery": words}
        for distance in DISTANCES:
            for metric in ("cmc@1", "map"):
                values = measured.by_seed(**CHAIN, **picked, subset="all", metric=metric, distance=distance)
                line[f"{distance}: {METRICS[metric]} (%)"] = in_percent(values)
        lines.append(line | {"n": len(values)})
    return pd.DataFrame(lines)


def cost_table(measured: Rows, old_dim: int, side_dim: int, new_dim: int) -> pd.DataFrame:
    """Table F6: bytes an item, and the time for a million items at the measured speed of this machine."""
    where = {**MAIN, **cell(WITH, "new", "h(old)")}
    images = measured.by_seed(**where, metric="images_per_second").mean()
    vectors = measured.by_seed(**where, metric="vectors_per_second").mean()
    lines = [
        (
            "stored beside an item: embedding and side-information",
            4 * (old_dim + side_dim),
            2 * (old_dim + side_dim),
            "",
        ),
        ("a million transformed from file to file", 4 * new_dim, 2 * new_dim, duration(1e6 / vectors)),
        (
            "a million images embedded again (reading them not counted)",
            4 * new_dim,
            2 * new_dim,
            duration(1e6 / images),
        ),
    ]
    names = ("what", "float32 (bytes an item)", "float16 (bytes an item)", "time for a million")
    return pd.DataFrame([dict(zip(names, line, strict=True)) for line in lines])


def index_table(measured: Rows) -> pd.DataFrame:
    """Table F6, second part: the transformed gallery behind an index; it is built anew after each upgrade."""
    lines = []
    for words in ("exact", "IVF-PQ"):
        where = {"variant": words, "method": WITH, "gallery_model": "h(old)", "distance": "cosine"}
        values = {
            name: measured.by_seed(**where, metric=name)
            for name in (f"recall@{NEIGHBOURS}", "bytes_per_item", "build_seconds", "search_seconds")
        }
        lines.append(
            {
                "search": words,
                f"recall at {NEIGHBOURS} (%)": in_percent(values[f"recall@{NEIGHBOURS}"]),
                "bytes an item": f"{values['bytes_per_item'].mean():.0f}",
                "build (seconds)": f"{values['build_seconds'].mean():.2f}",
                "search, all queries (seconds)": f"{values['search_seconds'].mean():.2f}",
                "n": len(values["bytes_per_item"]),
            }
        )
    return pd.DataFrame(lines)
