"""Tables of the chapter *CMP-NAS*, from its rows, and the method's worked example."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from compatlib.evaluation.statistics import Measured, paired
from compatlib.methods.architecture_search import REWARDS
from compatlib.methods.path_scores import Score
from compatlib.models.supernet import SuperNet
from compatlib.study.chapters.cmp_nas import tuning
from compatlib.study.chapters.cmp_nas.plan import (
    AS_LEFT,
    BOTH,
    GALLERY,
    OBJECTIVES,
    PARAGON,
    PATH,
    PATH_LEFT,
    QUERY,
    RANDOM_PATHS,
    RESNETS,
    UNIFORM,
)
from compatlib.study.lab.figures import tables
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, pair, present
from compatlib.study.lab.figures.columns import Column, difference, level, levels, mean
from compatlib.study.lab.figures.tables import each, table
from compatlib.study.lab.figures.texts import duration, mean_as, ratio_as, seeds_above
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.measures.paths import AGAIN, ALONE, CROSS, JUDGED, LOSSES, SELF, TAU, TAU_ENDS, WITHIN
from compatlib.study.lab.rows import NoRowError, Rows
from compatlib.study.lab.trainables.supernets import RANDOM, SEARCHES
from compatlib.study.settings import Settings

OPEN = {"split": OPEN_SET, "x_name": ""}
SELF_TEST, CROSS_TEST = pair(QUERY, QUERY), pair(QUERY, GALLERY)
OF_PARAGON = pair(GALLERY, GALLERY, method=PARAGON, variant="")
HAND_MADE = (*(f"{choice} throughout" for choice in UNIFORM), *RESNETS)
# Kendall's τ: words, the two scores whose rankings are compared.
RANKINGS = {
    "M(q, q) with M(q, g), each by another super-network": (SELF, f"{CROSS}, {AGAIN}"),
    "M(q, g) by two super-networks: the ceiling": (CROSS, f"{CROSS}, {AGAIN}"),
    "M(q, q) by two super-networks": (SELF, f"{SELF}, {AGAIN}"),
    "M(q, q) with M(q, g) by one super-network, whose noise they share": (SELF, CROSS),
}
ACROSS, CEILING, *_ = RANKINGS
ALONE_RANKINGS = {
    "M(q, g), by the super-network's weights and trained alone": (CROSS, f"{CROSS}, {ALONE}"),
    "M(q, q), by the super-network's weights and trained alone": (SELF, f"{SELF}, {ALONE}"),
    "M(q, q) with M(q, g), both trained alone": (f"{SELF}, {ALONE}", f"{CROSS}, {ALONE}"),
}


def tau(value: float) -> str:
    """A rank correlation as a table shows it."""
    return f"{value:+.2f}"


def below(ceiling: Measured | pd.Series, values: Measured | pd.Series | float) -> str:
    """How far one rank correlation lies below another, paired by seed, with half of the 95 % interval."""
    link = paired(ceiling, values)
    return tau(link.mean) if np.isnan(link.high) else f"{tau(link.mean)}\u00a0±\u00a0{link.high - link.mean:.2f}"


def tau_level(values: Measured | pd.Series) -> str:
    """A rank correlation over seeds, with half of its 95 % interval."""
    return below(values, 0)


def objective_lines(measured: Rows) -> list[tables.Line]:
    """Objectives of level 1, in their order, by every encoder of queries that was measured."""
    variants = sorted(set(measured.of(**OPEN, method=BOTH)["variant"]))
    return [
        ({"objective": method, "query": in_words(variant)}, {"method": method, "variant": variant})
        for variant in variants
        for method in present(OBJECTIVES, measured, **OPEN, variant=variant)
    ]


def in_words(variant: str) -> str:
    """Whose queries they are, such as "lite1"; "" where the profile has one."""
    return variant.removeprefix("encoder=")


def objective_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """Table C1: self-test, cross-test and the rule M(q, g) > M(q, q), by objective; the paragon below."""
    rule = Column((CROSS_TEST, SELF_TEST), seeds_above)
    columns = {
        "M(q, q) (%)": level(**SELF_TEST),
        "M(q, g) (%)": level(**CROSS_TEST),
        "rule: M(q, g) − M(q, q) (points)": difference(CROSS_TEST, SELF_TEST),
        "seeds that meet it": rule,
        "M(q, g) − paragon (points)": difference(CROSS_TEST, OF_PARAGON),
    }
    place = {**OPEN, "subset": "all", "metric": metric}
    found = table(measured, objective_lines(measured), columns, **place)
    paragon = each("objective", {"M(g, g), the paragon": OF_PARAGON})
    return tables.stacked(found, table(measured, paragon, {"M(q, g) (%)": level()}, **place))


def ranking_table(measured: Rows) -> pd.DataFrame:
    """C2: how far rankings of random paths agree, by a super-network's weights: Kendall's τ, over seeds."""
    lines, ceiling = [], taus(measured, RANKINGS[CEILING])
    for words, names in RANKINGS.items():
        values = taus(measured, names)
        line = {"rankings of random paths": words, "Kendall's τ": tau_level(values)}
        line["below the ceiling by"] = below(ceiling, values) if words == ACROSS else ""
        line["seeds below it"] = seeds_above(ceiling, values) if words == ACROSS else ""
        lines.append(line | {"n": len(values)})
    return pd.DataFrame(lines)


def alone_table(measured: Rows) -> pd.DataFrame:
    """C5: the same of networks trained alone, on the search's classes and the test's, BatchNorm recalibrated or not.

    Of one seed with the interval over its paths.
    """
    columns = {}
    for split in (SEARCHED, OPEN_SET):
        for variant, words in (("", "recalibrated"), (AS_LEFT, "BatchNorm as it was left")):
            columns[f"{split}, {words}"] = {"split": split, "variant": variant}
    lines = []
    for words, names in ALONE_RANKINGS.items():
        entries = {title: _tau_alone(measured, names, place) for title, place in columns.items()}
        lines.append({"rankings": words, **{title: text for title, (text, _) in entries.items()}})
        lines[-1]["n"] = tables.seed_numbers(n for _, n in entries.values())
    return pd.DataFrame(lines)


def taus(measured: Rows, names: tuple[str, str], metric: str = TAU, **place: str) -> pd.Series:
    """Kendall's τ of two scores of random paths, by seed; on the search's classes where no split is named."""
    place = {"split": SEARCHED, "variant": "", **place}
    return measured.by_seed(**place, method=RANDOM_PATHS, metric=metric, **pair(*names))


def _tau_alone(measured: Rows, names: tuple[str, str], place: Mapping[str, str]) -> tuple[str, int | None]:
    try:
        values = taus(measured, names, **place)
    except NoRowError:
        return "", None
    if len(values) > 1:
        return tau_level(values), len(values)
    low, high = (taus(measured, names, metric, **place).item() for metric in TAU_ENDS)
    return f"{tau(values.item())} [{tau(low)}, {tau(high)}]", 1


def caps_of(measured: Rows) -> list[str]:
    """The caps that were searched under, as variants: first those of all rewards, then by size."""
    found = set(measured.of(**OPEN, method=list(SEARCHES))["variant"])
    of_all = set(present(found, measured, "variant", **OPEN, method="R1"))
    return sorted(found, key=lambda cap: (cap not in of_all, float(cap.removeprefix("cap="))))


def reward_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """Table C3: what each search found, trained from scratch, and against R1 and random search; by cap."""
    lines = []
    for cap in caps_of(measured):
        for by in present(SEARCHES, measured, **OPEN, variant=cap):
            words = {"cap (MFLOPs)": cap.removeprefix("cap="), "searched by": by}
            lines.append((words, {"method": by, "variant": cap}))
    first = caps_of(measured)[0]
    columns = {
        "operations (MFLOPs)": mean("{:.2f}", 1e-6, **CROSS_TEST, metric="flops", subset=""),
        "M(q, q) (%)": level(**SELF_TEST),
        "M(q, g) (%)": level(**CROSS_TEST),
    }
    for rival in ("R1", RANDOM):
        beside = difference(CROSS_TEST, {**CROSS_TEST, "method": rival})
        stands = partial(_is_compared, first, rival)
        columns[f"M(q, g) − that of {rival} (points)"] = beside.where(stands)
    place = {"subset": "all", "metric": metric}
    columns = {title: _placed(column, place) for title, column in columns.items()}
    return table(measured, lines, columns, **OPEN)


def _is_compared(cap: str, rival: str, picks: Mapping[str, str]) -> bool:
    return picks["variant"] == cap and picks["method"] != rival


def found_table(measured: Rows) -> pd.DataFrame:
    """The paths that the searches found, seed by seed: what is highest in its reward among all that were judged."""
    lines = []
    for by in SEARCHES:
        try:
            found = measured.of(split=SEARCHED, method=by, x_name=JUDGED)
        except NoRowError:
            continue
        for (query, seed), own in found.groupby(["query_model", "seed"]):
            scores = own.pivot_table(index=["x", "variant"], columns="metric", values="value").reset_index()
            reward = REWARDS.get(by, REWARDS["R2"])
            rewards = [reward(Score("", row.self_test, row.cross_test, 0, 0.0)) for row in scores.itertuples()]
            best = scores.loc[pd.Series(rewards).idxmax()]
            line = {"searched by": by, "cap (MFLOPs)": query.rpartition("=")[2], "seed": seed}
            line |= {"path": best["variant"].removeprefix("path="), "found at": f"{best['x']:.0f} of {len(scores)}"}
            lines.append(line | {"MFLOPs": f"{best['flops'] / 1e6:.2f}"})
    if not lines:
        raise NoRowError("no row of a search")
    return pd.DataFrame(lines)


def cost_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """Table C4: every query network by its operations: how many times fewer than the gallery's, and M(q, g)."""
    names = [{"method": method, "variant": ""} for method in present(HAND_MADE, measured, **OPEN)]
    for cap in caps_of(measured):
        names += [{"method": by, "variant": cap} for by in present(SEARCHES, measured, **OPEN, variant=cap)]
    return network_table(measured, names, metric)


def network_table(measured: Rows, names: list[dict[str, str]], metric: str, cost: str = "flops") -> pd.DataFrame:
    """Query networks with their operations, the fold of cost that they save, and what they lose to the paragon."""
    lines = [({"query network": " ".join(filter(None, picks.values()))}, picks) for picks in names]
    own, whole = {**CROSS_TEST, "metric": cost, "subset": ""}, {**OF_PARAGON, "metric": cost, "subset": ""}
    columns = {
        "operations (MFLOPs)": Column((own,), mean_as("{:,.2f}", 1e-6)),
        "fold saved": Column((whole, own), ratio_as("{:.1f}")),
        "M(q, q) (%)": level(**SELF_TEST),
        "M(q, g) (%)": level(**CROSS_TEST),
        "M(q, g) − paragon (points)": difference(CROSS_TEST, OF_PARAGON),
        "trained in": Column(({**CROSS_TEST, "metric": "training_seconds", "subset": ""},), mean_as(duration)),
    }
    place = {"subset": "all", "metric": metric}
    return table(measured, lines, {title: _placed(each, place) for title, each in columns.items()}, **OPEN)


def encoder_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """C4 of heads: the encoders' real operations beside what queries by the whole objective find."""
    variants = sorted(set(measured.of(**OPEN, method=BOTH, metric="flops with encoder")["variant"]))
    return network_table(
        measured, [{"method": BOTH, "variant": each} for each in variants], metric, "flops with encoder"
    )


def fold_table(measured: Rows) -> pd.DataFrame:
    """C4: the largest fold of query-side operations saved within each loss, by who made the networks."""
    lines = [
        ({"networks": method, "score": words, "loss of at most": f"{100 * loss:g} points"}, (method, metric, loss))
        for method in present(("hand-made", "searched"), measured, x_name=WITHIN)
        for metric, words in METRICS.items()
        for loss in LOSSES
    ]
    found = []
    for words, (method, metric, loss) in lines:
        values = measured.by_seed(**{**OPEN, "x_name": WITHIN}, method=method, metric=f"cost saved {metric}", x=loss)
        folds = [fold(each) for each in values]
        found.append(words | {"fold, by seed": ", ".join(f"{each:.1f}" for each in folds), "n": len(folds)})
    return pd.DataFrame(found)


def fold(share: float) -> float:
    """How many times fewer operations a saved share of them makes: 0.95 is 20-fold."""
    return 1 / (1 - share)


def inherited_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """C5: M(q, g) with the super-network's weights, BatchNorm recalibrated or left, beside training from scratch."""
    own = measured.of(**OPEN, query_model=[PATH, PATH_LEFT])[["method", "variant"]].drop_duplicates()
    order = (*SEARCHES, *HAND_MADE)
    names = sorted(own.to_dict("records"), key=lambda each: (order.index(each["method"]), each["variant"]))
    lines = [({"path": " ".join(filter(None, picks.values()))}, picks) for picks in names]
    columns = {
        "inherited, recalibrated (%)": level(**pair(PATH, GALLERY)),
        "inherited, as it was left (%)": level(**pair(PATH_LEFT, GALLERY)),
        "trained alone (%)": level(**CROSS_TEST),
        "alone − inherited (points)": difference(CROSS_TEST, pair(PATH, GALLERY)),
    }
    return table(measured, lines, columns, **OPEN, subset="all", metric=metric)


def tuning_table(tuned: Rows, chosen: Settings) -> pd.DataFrame:
    """Every candidate of the tuning, the chapter's run having the chosen values."""
    judged = tuning.judged(tuned)
    columns = levels("M(q, g), {} (%)", RANK_1_AND_MAP, **CROSS_TEST, subset="all")
    columns |= levels("M(q, q), {} (%)", RANK_1_AND_MAP, **SELF_TEST, subset="all")
    columns = {title: each.where(lambda picks: picks["method"] != tuning.SUPERNET) for title, each in columns.items()}
    titles = {"method": "what", "x": "weight, or rate"}
    return tables.tuning(tuned, judged, titles, columns, partial(_is_chosen, chosen), judged_by="judged by (%)")


def _is_chosen(chosen: Settings, what: str, value: float) -> bool:
    rates = {tuning.SUPERNET: chosen.knobs.supernet, tuning.ALONE: chosen.knobs.query}
    if what in rates:
        return rates[what].learning_rate == value
    return tuning.weight_of(chosen, what) == value


def worked_example() -> pd.DataFrame:
    """Three paths of a small super-network with made-up scores: operations counted, and whom each reward prefers.

    Whole numbers and short decimals, so that they are the same on every processor.
    """
    network = SuperNet(
        widths=(8, 16), blocks=(1, 1), strides=(1, 2), middles=(0.5, 1), stem_width=6, dim=8, image_size=8
    )
    scores = {("3@0.5", "3@0.5"): (0.5, 0.4), ("7@1", "3@0.5"): (0.3, 0.6), ("5@1", "x@1"): (0.45, 0.5)}
    lines = []
    for path, (own, cross) in scores.items():
        score = Score(" ".join(path), own, cross, network.flops(path), 0.0)
        line = {"path": score.path, "operations": f"{score.flops:,}", "M(a, a)": f"{own:g}", "M(a, φ_g)": f"{cross:g}"}
        lines.append(line | {name: f"{reward(score):.3g}" for name, reward in REWARDS.items()})
    return pd.DataFrame(lines)


def _placed(column: Column, place: dict[str, str]) -> Column:
    """The column's cells over a place of their own, which goes before what they say."""
    return Column(tuple({**place, **cell} for cell in column.cells), column.written, column.stands)
