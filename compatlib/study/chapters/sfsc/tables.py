"""Tables of the chapter *SFSC*, from its rows."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pandas as pd
import torch

from compatlib.methods.sfsc import conflict_weights, evidential_loss, uncertainty
from compatlib.study.chapters.sfsc import trials, tuning
from compatlib.study.chapters.sfsc.plan import FULL, FULL_GALLERY, MEAN, OWN_GALLERIES
from compatlib.study.lab.figures import tables
from compatlib.study.lab.figures.cells import RANK_1_AND_MAP, pair, present
from compatlib.study.lab.figures.columns import Column, difference, level, levels, mean
from compatlib.study.lab.figures.tables import by, each, table
from compatlib.study.lab.figures.texts import duration, mean_as, ratio_as
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import BCT_S, INDEPENDENT, METHODS, SFSC, SWITCHABLE
from compatlib.study.settings import Settings

CLOSED = {"split": "closed"}
PLAIN = {"variant": "", "x_name": ""}
OWN, ON_FULL = pair(MEAN, OWN_GALLERIES), pair(MEAN, FULL_GALLERY)
BOTH_MEANS = {
    "self-test, rank 1 (%)": level(**OWN, metric="cmc@1"),
    "on full, rank 1 (%)": level(**ON_FULL, metric="cmc@1"),
}
# The two halves of the method, each alone and together.
ABLATION = {
    "BCT-S: neither": BCT_S,
    "+ uncertainty": "BCT-S + uncertainty",
    "+ projection": "CE + projection",
    "both: SFSC": SFSC,
    "both, projected against the full model only": "SFSC, against the full model",
    "+ projection, tensor by tensor": "CE + projection, tensor by tensor",
    "both, projected tensor by tensor": "SFSC, tensor by tensor",
}


def methods_of(measured: Rows, split: str = "closed") -> list[str]:
    """The methods that were measured, in the order of the study's tables."""
    return present(METHODS, measured, split=split)


def widths_of(measured: Rows) -> list[float]:
    """The widths that were measured, ascending."""
    return sorted(map(float, measured.of(metric="parameters")["query_model"].unique()))


def self_test_table(measured: Rows, metric: str = "cmc@1", split: str = "closed") -> pd.DataFrame:
    """Table S1, first part: every width's queries against its own gallery."""
    columns = {f"{width:g} (%)": level(**_test(width, width)) for width in widths_of(measured)}
    return _score_table(measured, columns | {"mean (%)": level(**OWN)}, metric, split)


def cross_test_table(measured: Rows, metric: str = "cmc@1", split: str = "closed") -> pd.DataFrame:
    """Table S1, second part: narrower queries against the full model's gallery, and whether that pays.

    It pays where the cross-test is above the narrow model's own self-test, in points.
    """
    columns = {}
    for width in widths_of(measured)[:-1]:
        cross = _test(width, FULL)
        columns[f"{width:g} on full (%)"] = level(**cross)
        columns[f"{width:g}: on full − on its own (points)"] = difference(cross, _test(width, width))
    return _score_table(measured, columns | {"mean on full (%)": level(**ON_FULL)}, metric, split)


def ablation_table(measured: Rows) -> pd.DataFrame:
    """Table S2: means over widths, and what each half of the method adds to BCT-S, in points, paired by seed."""
    there, columns = methods_of(measured), {}
    for title, means in (("self-test", OWN), ("on full", ON_FULL)):
        for metric, words in RANK_1_AND_MAP.items():
            cell = {**means, "metric": metric}
            columns[f"{title}, {words} (%)"] = level(**cell)
            columns[f"{title}, {words}: against BCT-S (points)"] = difference(cell, {**cell, "method": BCT_S})
    lines = {words: {"method": method} for words, method in ABLATION.items() if method in there}
    return table(measured, each("switchable network", lines), columns, **CLOSED, **PLAIN, subset="all")


def size_table(measured: Rows) -> pd.DataFrame:
    """Parameters and operations of every stand-alone sub-model, and their share of the full one's."""
    parameters, flops = ({"metric": metric} for metric in ("parameters", "flops"))
    full = {"query_model": f"{FULL:g}"}
    columns = {
        "parameters": mean("{:,.0f}", **parameters),
        "of the full model's (%)": Column((parameters, {**parameters, **full}), ratio_as("{:.0f}", 100)),
        "operations an image (MFLOPs)": mean("{:,.2f}", 1e-6, **flops),
        "of the full model's operations (%)": Column((flops, {**flops, **full}), ratio_as("{:.0f}", 100)),
    }
    lines = by("width", "query_model", [f"{width:g}" for width in widths_of(measured)])
    return table(measured, lines, columns, count=False, **CLOSED, method=SFSC)


def training_table(measured: Rows) -> pd.DataFrame:
    """Operations of one forward pass of all widths, and the seconds that the trainings of all widths took.

    Seconds are wall clock, on whatever machine trained each model, beside others; they and their ratio to separate
    trainings are no comparison.
    """
    flops = tuple({"query_model": f"{width:g}", "metric": "flops"} for width in widths_of(measured))
    seconds = {"metric": "training_seconds"}
    columns = {
        "operations an image, all widths (MFLOPs)": Column(flops, mean_as("{:,.2f}", 1e-6 * len(flops))),
        "trained in (wall clock)": Column((seconds,), mean_as(duration)),
    }
    methods = methods_of(measured)
    if INDEPENDENT in methods:
        apart = {**seconds, "method": INDEPENDENT}
        columns["times independent"] = Column((seconds, apart), ratio_as("{:.1f}"))
    return table(measured, by("method", "method", methods), columns, **CLOSED)


def conflict_table(measured: Rows) -> pd.DataFrame:
    """Conflicts of the widths' gradients over all shared tensors, and updates that hurt a width, over a training."""
    titles = {
        "conflicts": "pairs that conflict (%)",
        "hurt": "updates that hurt a given width (%)",
        "hurt any": "updates that hurt any width (%)",
    }
    methods, worst = present(SWITCHABLE, measured, **CLOSED), []
    where = {**CLOSED, **PLAIN, "query_model": ""}
    found = table(measured, by("method", "method", methods), levels("{}", titles), **where)
    for method in methods:
        epochs = measured.of(**{**where, "x_name": EPOCH}, method=method, metric="conflicts")
        by_epoch = epochs.groupby("x")["value"].mean()
        when = f" (epoch {by_epoch.idxmax():.0f})" if by_epoch.max() > 0 else ""
        worst.append(f"{100 * by_epoch.max():.1f}{when}")
    found.insert(len(found.columns) - 1, "pairs that conflict, worst epoch (%)", worst)
    return found


def tensor_table(measured: Rows) -> pd.DataFrame:
    """By method, the share of pairs of widths that conflict, tensor by tensor: what a sum over all of them hides."""
    found = measured.of(**CLOSED, metric="conflicts", x_name="tensor")
    means = 100 * found.pivot_table(index=["x", "variant"], columns="method", values="value")
    methods = [method for method in SWITCHABLE if method in means]
    shown = means[methods].map("{:.1f}".format).rename(columns="{} (%)".format).droplevel("x")
    shown.index = shown.index.str.removesuffix(".weight")
    return shown.rename_axis(index="tensor", columns=None).reset_index()


def tuning_table(tuned: Rows, chosen: Settings, split: str = "closed") -> pd.DataFrame:
    """Means over widths of self-test and cross-test on held-out images, by loss, rate, logit scale and divergence."""
    tuned = replace(tuned, frame=tuned.frame[tuned.frame["split"] == split])
    judged = tuning.judged(tuned, split)
    judged = judged.loc[sorted(judged.index, key=lambda one: (one[0], *tuning.evidential_values(one[1]), one[2]))]
    titles = {"method": "method", "variant": "logit scale", "x": "learning rate"}
    is_chosen = partial(tuning.is_chosen, chosen, split=split)
    found = tables.tuning(tuned, judged, titles, BOTH_MEANS, is_chosen, judged_by="mean of both (%)")
    found["logit scale"] = found["logit scale"].str.replace(tuning.DIVERGENCE, ", divergence × ", regex=False)
    return found


def trials_table(tried: Rows, tuned: Rows) -> pd.DataFrame:
    """What was tried beside the tuning, with the best that the tuning found for the method, and the conflicts."""
    best = tuning.judged(tuned).groupby("method").max()
    lines = [
        (
            {"method": trial.method, "learning rate": f"{trial.rate:g}", "other values": trial.variant},
            {"method": trial.method, "variant": trial.variant, "x": trial.rate},
        )
        for trial in trials.TRIALS
    ]
    both = tuple({**means, "metric": "cmc@1"} for means in (OWN, ON_FULL))
    columns = {**BOTH_MEANS, "mean of both (%)": Column(both, mean_as("{:.2f}", 100))}
    watched = {"conflicts": "pairs that conflict (%)", "hurt any": "updates that hurt any (%)"}
    for title, column in levels("{}", watched, query_model="").items():
        columns[title] = column.where(lambda picks: picks["method"] in SWITCHABLE)
    found = table(tried, lines, columns, count=False)
    shown = ["" if trial.is_long else f"{100 * best[trial.method]:.2f}" for trial in trials.TRIALS]
    found.insert(list(found).index("mean of both (%)") + 1, "the tuning's best (%)", shown)
    return found


def evidence_example() -> pd.DataFrame:
    """Uncertainty, loss and gradient of one image of the first of three classes, by its logits."""
    lines = []
    for words, values in (
        ("no evidence for any class", (-20.0, -20.0, -20.0)),
        ("undecided", (0.0, 0.0, 0.0)),
        ("right and sure", (20.0, 0.0, 0.0)),
        ("wrong and sure", (0.0, 20.0, 0.0)),
    ):
        logits = torch.tensor([values], dtype=torch.float64, requires_grad=True)
        loss = evidential_loss(logits, torch.tensor([0]))
        (gradient,) = torch.autograd.grad(loss, logits)
        line = {"the model is": words, "logits": _vector(values)}
        line["uncertainty u"] = f"{uncertainty(logits.detach()).item():.3f}"
        lines.append(line | {"loss": f"{loss.item():.3f}", "norm of its gradient": f"{gradient.norm().item():.3f}"})
    return pd.DataFrame(lines)


def projection_example() -> pd.DataFrame:
    """Two conflicting gradients in the plane, g₁ = (4, 0) and g₂ = (-1, 1): their sum hurts g₂, the projected not."""
    gradients = torch.tensor([[4.0, 0.0], [-1.0, 1.0]])
    weights = conflict_weights(gradients @ gradients.T)
    lines = []
    for words, used in (("as they are", gradients), ("projected", weights @ gradients)):
        update = used.sum(dim=0)
        line = {"": words} | {f"g{place + 1}": _vector(own.tolist()) for place, own in enumerate(used)}
        line["update: their sum"] = _vector(update.tolist())
        line |= {f"update · g{place + 1}": f"{float(update @ own):g}" for place, own in enumerate(gradients)}
        lines.append(line)
    return pd.DataFrame(lines)


def _score_table(measured: Rows, columns: dict[str, Column], metric: str, split: str) -> pd.DataFrame:
    lines = by("method", "method", methods_of(measured, split))
    return table(measured, lines, columns, **PLAIN, split=split, subset="all", metric=metric)


def _test(query: float, gallery: float) -> dict[str, str]:
    return pair(f"{query:g}", f"{gallery:g}")


def _vector(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
