"""The page's tables with a column a source, and its findings: each is one score of the chapter's rows.

The paper's tables could not be read: of its numbers the two headlines of the abstract alone may be quoted.
"""

from collections.abc import Iterable, Sequence

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
from compatlib.study.chapters.cmp_nas.tables import CROSS_TEST, OF_PARAGON, OPEN, RANKINGS, SELF_TEST, fold, tau
from compatlib.study.lab.figures import sources as by_sources
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.columns import Column, difference, level
from compatlib.study.lab.figures.sources import Finding, Source, against
from compatlib.study.lab.figures.tables import Line, by, crossed, each
from compatlib.study.lab.figures.texts import mean_as
from compatlib.study.lab.images import SEARCHED
from compatlib.study.lab.measures.paths import LOSSES, WITHIN
from compatlib.study.lab.rows import NoRowError
from compatlib.study.lab.trainables.supernets import SEARCHES
from compatlib.study.settings import settings

PLACE = {**OPEN, "subset": "all"}
# CMP-NAS's headlines, by the loss that each is within: as the abstract has them, of DeepFashion2 and IJB-C.
HEADLINES = dict(zip(LOSSES, (80.0, 23.0), strict=True))
RANDOM = "random search"


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
    """Kendall's τ of two rankings of random paths, by the super-network's weights."""
    place = {"split": SEARCHED, "method": RANDOM_PATHS, "variant": "", "x_name": "", "metric": "kendall tau"}
    lines = each("rankings", {words: pair(*names) for words, names in RANKINGS.items()})
    return by_sources.by_source(lines, Column(({},), mean_as(tau)), sources, **place)


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
    imitated = [{**test, "method": "logit distillation"} for test in (CROSS_TEST, SELF_TEST)]
    wanted = [
        against("The rule: a small query on the large gallery, against its own", cross, own, **place),
        against("What is lost to the paragon", cross, OF_PARAGON, **place),
        against("Logit distillation on the large gallery, against its own", *imitated, **place),
        Finding(
            "Rankings of random paths, Kendall's τ",
            "M(q, q) with M(q, g) {both}; the ceiling, M(q, g) by two super-networks, {ceiling}",
            {name: _tau_of(words) for name, words in zip(("both", "ceiling"), RANKINGS, strict=False)},
        ),
        *(_reward(cap, "R2", rival) for cap in _first_caps(sources) for rival in ("R1", RANDOM)),
    ]
    return by_sources.findings(wanted, sources)


def costs(*profiles: str) -> pd.DataFrame:
    """What level 2 costs by profile: the networks and evaluations of a seed."""
    lines = []
    for profile in profiles:
        run = settings({"profile": profile}, Knobs)
        evolution, searches = run.knobs.evolution, searched_networks(run)
        lines.append(
            {
                "profile": profile,
                "super-networks × epochs": f"2 × {run.knobs.supernet.epochs}",
                "searches × paths": f"{len(searches)} × {evolution.population * evolution.generations}",
                "random paths": run.knobs.paths,
                "trained from scratch × epochs": f"{len(searches) + len(hand_made(run))} × {run.knobs.query.epochs}",
                "and once": f"{len(trained_alone(run))} random paths",
            }
        )
    return pd.DataFrame(lines)


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


def _tau_of(words: str) -> Column:
    cell = {"split": SEARCHED, "method": RANDOM_PATHS, "variant": "", "x_name": "", "metric": "kendall tau"}
    return Column(({**cell, **pair(*RANKINGS[words])},), mean_as(tau))


def _reward(cap: str, first: str, second: str) -> Finding:
    what = f"Searched by {first} against {second}, at most {cap.removeprefix('cap=')} MFLOPs, trained from scratch"
    return against(what, *({**CROSS_TEST, "method": name} for name in (first, second)), **PLACE, variant=cap)
