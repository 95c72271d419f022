"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows.

The paper's tables could not be read: of its numbers the two headlines of the abstract alone may be quoted.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown

from compatlib.study.chapters.cmp_nas import tables
from compatlib.study.chapters.cmp_nas.plan import (
    BOTH,
    OBJECTIVES,
    RANDOM_PATHS,
    Knobs,
    hand_made,
    searched_networks,
    trained_alone,
)
from compatlib.study.chapters.cmp_nas.tables import (
    ACROSS,
    CEILING,
    CROSS_TEST,
    OF_PARAGON,
    OPEN,
    RANKINGS,
    SELF_TEST,
    below,
    fold,
    tau_level,
)
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.columns import Column, difference, level
from compatlib.study.lab.figures.sources import Finding, Source, against
from compatlib.study.lab.figures.tables import Line, by, crossed, each
from compatlib.study.lab.figures.texts import duration, effect
from compatlib.study.lab.images import SEARCHED
from compatlib.study.lab.measures.paths import LOSSES, TAU, WITHIN
from compatlib.study.lab.rows import NoRowError
from compatlib.study.lab.trainables import OnPath
from compatlib.study.lab.trainables.supernets import RANDOM, SEARCHES
from compatlib.study.settings import settings

PLACE = {**OPEN, "subset": "all"}
# CMP-NAS's headlines, by the loss that each is within: as the abstract has them, of DeepFashion2 and IJB-C.
HEADLINES = dict(zip(LOSSES, (80.0, 23.0), strict=True))
# Of one core of a shared server, measured before the first run: epochs of 30,000 images, a path judged by 2,000 and
# 3,000 images, a network embedded and tested on 24,000 images, itself and the gallery model's.
# The middle network's lies between the small one's and the gallery's.
SECONDS = {"gallery": 78, "small": 22, "middle": 42, "super-network": 33, "path": 32, "judged": 1.1, "test": 33}


def objective_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """What small queries find in the large model's gallery, by objective; below it the paragon."""
    lines = [*_objectives(), ({"M(q, g)": "the gallery model on itself, the paragon"}, OF_PARAGON)]
    columns = [level(**CROSS_TEST, metric=metric)] * len(OBJECTIVES) + [level(metric=metric)]
    return by_sources.by_source(lines, columns, sources, **PLACE, variant="")


def rule_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """The rule, M(q, g) − M(q, q) in points, by objective."""
    lines = _objectives("M(q, g) − M(q, q)")
    return by_sources.by_source(lines, difference(CROSS_TEST, SELF_TEST), sources, **PLACE, variant="", metric=metric)


def ranking_table(sources: Iterable[Source]) -> pd.DataFrame:
    """Kendall's τ of two rankings of random paths, by the super-network's weights, and the one held to the ceiling."""
    place = {"split": SEARCHED, "method": RANDOM_PATHS, "variant": "", "x_name": "", "metric": TAU}
    lines = each("rankings", {words: pair(*names) for words, names in RANKINGS.items()})
    columns = [Column(({},), tau_level)] * len(lines)
    lines.append(({"rankings": "the ceiling less the first"}, {}))
    columns.append(Column((pair(*RANKINGS[CEILING]), pair(*RANKINGS[ACROSS])), below))
    return by_sources.by_source(lines, columns, sources, **place)


def reward_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """What each reward found, trained from scratch: M(q, g) under the cap of all."""
    sources = list(sources)
    caps = {f"{cap.removeprefix('cap=')} MFLOPs": {"variant": cap} for cap in _first_caps(sources)}
    lines = crossed(each("cap", caps), by("searched by", "method", SEARCHES))
    return by_sources.by_source(lines, level(**CROSS_TEST, metric=metric), sources, **PLACE)


def fold_table(sources: Iterable[Source], metric: str = "map") -> pd.DataFrame:
    """The fold of operations that query networks save within each of the paper's losses, beside its headlines."""
    lines: list[Line] = []
    columns = []
    for loss, method in ((loss, method) for loss in LOSSES for method in ("searched", "hand-made")):
        words = {"loss of at most": f"{100 * loss:g} %", "query networks": method}
        lines.append((words, {"method": method, "x": loss, "variant": ""}))
        columns.append(Column(({**CROSS_TEST, "metric": f"cost saved {metric}"},), _mean_fold))
    found = by_sources.by_source(lines, columns, sources, **{**PLACE, "x_name": WITHIN})
    quoted = {f"{100 * loss:g} %": f"{headline:.0f}" for loss, headline in HEADLINES.items()}
    if len(found):
        is_searched = found["query networks"] == "searched"
        found["the paper's abstract"] = found["loss of at most"].map(quoted).where(is_searched, "")
    return found


def findings(sources: Sequence[Source]) -> Markdown:
    """What the rows of every source say of the claim's parts."""
    place = {**PLACE, "variant": ""}
    cross, own = ({**test, "method": BOTH} for test in (CROSS_TEST, SELF_TEST))
    wanted = [
        against("The rule: a small query on the large gallery, against its own", cross, own, **place),
        against("What is lost to the paragon", cross, OF_PARAGON, **place),
        Finding(
            "Rankings of random paths, Kendall's τ",
            "M(q, q) with M(q, g), each by another super-network, {across}; the ceiling, M(q, g) by both, {ceiling}; "
            "below it by {below}",
            {
                "across": _tau_of(tau_level, ACROSS),
                "ceiling": _tau_of(tau_level, CEILING),
                "below": _tau_of(below, CEILING, ACROSS),
            },
        ),
        *map(_reward, _first_caps(sources)),
        Finding(
            f"Operations saved within {100 * LOSSES[-1]:g} points of the paragon's mAP",
            "{searched}-fold by searched networks, {made}-fold by hand-made ones",
            {"searched": _fold_of("searched"), "made": _fold_of("hand-made")},
        ),
    ]
    return by_sources.findings(wanted, sources)


def costs(profile: str = "study") -> pd.DataFrame:
    """What a profile's rows of level 2 cost before they are measured: how many of what, and hours of one core."""
    run = settings({"profile": profile}, Knobs)
    seeds, knobs, searches = len(run.seeds), run.knobs, searched_networks(run)
    alone_seeds = len(set(run.seeds) & set(knobs.alone_seeds))
    alone = len(trained_alone(run)) * alone_seeds
    judged = seeds * len(searches) * knobs.evolution.population * knobs.evolution.generations
    judged += (2 * seeds + alone_seeds) * knobs.paths
    on_paths = len(searches) + sum(isinstance(what, OnPath) for what in hand_made(run).values())
    parts = [  # words, how many, seconds each
        ("gallery model", seeds, SECONDS["gallery"] * run.training.epochs),
        ("a hand-made network of the middle size", seeds, SECONDS["middle"] * run.training.epochs),
        ("level 1's small networks", seeds * len(OBJECTIVES), SECONDS["small"] * run.training.epochs),
        ("super-networks", 2 * seeds, SECONDS["super-network"] * knobs.supernet.epochs),
        ("paths judged (fewer: none twice)", judged, SECONDS["judged"]),
        ("searched and hand-made paths from scratch", seeds * on_paths, SECONDS["path"] * knobs.query.epochs),
        ("random paths from scratch", alone, SECONDS["path"] * knobs.query.epochs),
        ("tests of a network on both galleries", seeds * (len(OBJECTIVES) + 1 + 3 * on_paths) + alone, SECONDS["test"]),
    ]
    lines = [
        {"what": words, "how many": count, "each": duration(each), "core-hours": count * each / 3600}
        for words, count, each in parts
    ]
    lines.append({"what": "all", "how many": "", "each": "", "core-hours": sum(line["core-hours"] for line in lines)})
    found = pd.DataFrame(lines)
    return found.assign(**{"core-hours": found["core-hours"].map("{:.1f}".format)})


def _objectives(title: str = "M(q, g)") -> list[Line]:
    return by(title, "method", OBJECTIVES)


def _first_caps(sources: Iterable[Source]) -> list[str]:
    """The caps under which a source has compared all rewards, as variants."""
    found: dict[str, None] = {}
    for source in sources:
        try:
            found[tables.caps_of(source.rows)[0]] = None
        except NoRowError:
            continue
    return list(found)


def _mean_fold(values) -> str:
    """Of the mean share that is saved: one seed that saves nothing must not vanish in a mean of folds."""
    return f"{fold(float(np.mean(list(values.values.values())))):.1f}"


def _tau_of(written: Callable[..., str], *rankings: str) -> Column:
    cell = {"split": SEARCHED, "method": RANDOM_PATHS, "variant": "", "x_name": "", "metric": TAU}
    return Column(tuple({**cell, **pair(*RANKINGS[words])} for words in rankings), written)


def _fold_of(networks: str) -> Column:
    score = {"method": networks, "variant": "", "metric": "cost saved map", "x_name": WITHIN, "x": LOSSES[-1]}
    return Column(({**PLACE, **CROSS_TEST, **score},), _mean_fold)


def _reward(cap: str) -> Finding:
    """What R2 found, under a cap, against what its rivals did."""
    place = {**PLACE, **CROSS_TEST, "variant": cap, "metric": "map"}
    rivals = {
        words: Column(({**place, "method": "R2"}, {**place, "method": rival}), effect)
        for words, rival in (("ordinary", "R1"), ("random", RANDOM))
    }
    what = f"Searched by R2, at most {cap.removeprefix('cap=')} MFLOPs, trained from scratch, in mAP"
    return Finding(what, "against R1 {ordinary}; against random search {random}", rivals)
