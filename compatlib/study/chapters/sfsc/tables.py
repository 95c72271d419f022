"""Tables of the chapter *SFSC*, from its rows."""

from collections.abc import Iterator

import pandas as pd
import torch

from compatlib.methods.sfsc import conflict_weights, evidential_loss, uncertainty
from compatlib.study.chapters.sfsc import trials, tuning
from compatlib.study.chapters.sfsc.plan import FULL, FULL_GALLERY, MEAN, OWN_GALLERIES
from compatlib.study.lab.figures.tables import METRICS, duration, in_percent, points
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import BCT_S, INDEPENDENT, METHODS, SFSC, SWITCHABLE
from compatlib.study.settings import Settings

CLOSED = {"split": "closed", "subset": "all"}
PLAIN = {"variant": "", "x_name": ""}
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


def methods_of(measured: Rows, **where: str) -> list[str]:
    """The methods that were measured, in the order of the study's tables."""
    found = set(measured.of(**{"split": "closed", **where})["method"])
    return [method for method in METHODS if method in found]


def widths_of(measured: Rows) -> list[float]:
    """The widths that were measured, ascending."""
    found = measured.of(metric="parameters")["query_model"]
    return sorted(float(width) for width in found.unique())


def self_test_table(measured: Rows, metric: str = "cmc@1", split: str = "closed") -> pd.DataFrame:
    """Table S1, first part: every width's queries against its own gallery; mean and 95 % half width, in percent."""
    lines = []
    for method in methods_of(measured, split=split):
        where = {**PLAIN, "split": split, "subset": "all", "method": method, "metric": metric}
        line = {"method": method}
        for width in widths_of(measured):
            values = measured.by_seed(**where, query_model=f"{width:g}", gallery_model=f"{width:g}")
            line[f"{width:g} (%)"] = in_percent(values)
        mean = measured.by_seed(**where, query_model=MEAN, gallery_model=OWN_GALLERIES)
        lines.append(line | {"mean (%)": in_percent(mean), "n": len(mean)})
    return pd.DataFrame(lines)


def cross_test_table(measured: Rows, metric: str = "cmc@1", split: str = "closed") -> pd.DataFrame:
    """Table S1, second part: narrower queries against the full model's gallery, and whether that pays.

    It pays where the cross-test is above the narrow model's own self-test: points in brackets.
    """
    lines = []
    for method in methods_of(measured, split=split):
        where = {**PLAIN, "split": split, "subset": "all", "method": method, "metric": metric}
        line = {"method": method}
        for width in widths_of(measured)[:-1]:
            cross = measured.by_seed(**where, query_model=f"{width:g}", gallery_model=f"{FULL:g}")
            own = measured.by_seed(**where, query_model=f"{width:g}", gallery_model=f"{width:g}")
            line[f"{width:g} on full (%)"] = in_percent(cross)
            line[f"{width:g}: on full − on its own (points)"] = points(cross, own)
        mean = measured.by_seed(**where, query_model=MEAN, gallery_model=FULL_GALLERY)
        lines.append(line | {"mean on full (%)": in_percent(mean), "n": len(mean)})
    return pd.DataFrame(lines)


def ablation_table(measured: Rows) -> pd.DataFrame:
    """Table S2: means over widths, and what each half of the method adds to BCT-S, in points, paired by seed."""
    there, lines = methods_of(measured), []
    for words, method in ABLATION.items():
        if method not in there:
            continue
        line = {"switchable network": words}
        for title, gallery in (("self-test", OWN_GALLERIES), ("on full", FULL_GALLERY)):
            for metric in ("cmc@1", "map"):
                where = {**CLOSED, **PLAIN, "query_model": MEAN, "gallery_model": gallery, "metric": metric}
                values = measured.by_seed(**where, method=method)
                plain = measured.by_seed(**where, method=BCT_S, seed=list(values.index))
                line[f"{title}, {METRICS[metric]} (%)"] = in_percent(values)
                line[f"{title}, {METRICS[metric]}: against BCT-S (points)"] = (
                    "" if method == BCT_S else points(values, plain)
                )
        lines.append(line | {"n": len(values)})
    return pd.DataFrame(lines)


def size_table(measured: Rows) -> pd.DataFrame:
    """Parameters and operations of every stand-alone sub-model, and their share of the full one's."""
    where = {"split": "closed", "method": SFSC}
    sizes = {
        width: [measured.by_seed(**where, query_model=f"{width:g}", metric=m).mean() for m in ("parameters", "flops")]
        for width in widths_of(measured)
    }
    return pd.DataFrame(
        {
            "width": f"{width:g}",
            "parameters": f"{parameters:,.0f}",
            "of the full model's (%)": f"{100 * parameters / sizes[FULL][0]:.0f}",
            "operations an image (MFLOPs)": f"{flops / 1e6:,.2f}",
            "of the full model's operations (%)": f"{100 * flops / sizes[FULL][1]:.0f}",
        }
        for width, (parameters, flops) in sizes.items()
    )


def training_table(measured: Rows) -> pd.DataFrame:
    """Operations of one forward pass of all widths, and the seconds that the trainings of all widths took.

    Seconds are wall clock, on whatever machine trained each model, beside others; they and their ratio to separate
    trainings are no comparison.
    """
    where = {"split": "closed"}
    apart = measured.by_seed(**where, method=INDEPENDENT, metric="training_seconds")
    lines = []
    for method in methods_of(measured):
        seconds = measured.by_seed(**where, method=method, metric="training_seconds")
        flops = measured.of(**where, method=method, metric="flops", seed=int(seconds.index[0]))["value"].sum()
        line = {"method": method, "operations an image, all widths (MFLOPs)": f"{flops / 1e6:,.2f}"}
        line |= {"trained in (wall clock)": duration(seconds.mean())}
        line["times independent"] = f"{seconds.mean() / apart[seconds.index].mean():.1f}"
        lines.append(line | {"n": len(seconds)})
    return pd.DataFrame(lines)


def conflict_table(measured: Rows) -> pd.DataFrame:
    """Conflicts of the widths' gradients over all shared tensors, and updates that hurt a width, over a training."""
    lines = []
    for method in _switchable(measured):
        where = {"split": "closed", "method": method, **PLAIN, "query_model": ""}
        line = {"method": method}
        for metric, title in (
            ("conflicts", "pairs that conflict (%)"),
            ("hurt", "updates that hurt a given width (%)"),
            ("hurt any", "updates that hurt any width (%)"),
        ):
            line[title] = in_percent(measured.by_seed(**where, metric=metric))
        epochs = measured.of(**{**where, "x_name": EPOCH}, metric="conflicts")
        by_epoch = epochs.groupby("x")["value"].mean()
        when = f" (epoch {by_epoch.idxmax():.0f})" if by_epoch.max() > 0 else ""
        line["pairs that conflict, worst epoch (%)"] = f"{100 * by_epoch.max():.1f}{when}"
        lines.append(line)
    return pd.DataFrame(lines)


def tensor_table(measured: Rows) -> pd.DataFrame:
    """By method, the share of pairs of widths that conflict, tensor by tensor: what a sum over all of them hides."""
    found = measured.of(split="closed", metric="conflicts", x_name="tensor")
    methods = [method for method in SWITCHABLE if method in set(found["method"])]
    means = found.pivot_table(index=["x", "variant"], columns="method", values="value")
    return pd.DataFrame(
        {"tensor": tensor.removesuffix(".weight")}
        | {f"{method} (%)": f"{100 * line[method]:.1f}" for method in methods}
        for (_, tensor), line in means.iterrows()
    )


def tuning_table(tuned: Rows, chosen: Settings) -> pd.DataFrame:
    """Mean over widths of self-test and cross-test on the held-out training images, by loss, rate and logit scale."""
    return pd.DataFrame(_tuning_lines(tuned, chosen))


def _tuning_lines(tuned: Rows, chosen: Settings) -> Iterator[dict[str, str]]:
    judged = tuning.judged(tuned)
    for method, scale, rate in sorted(judged.index, key=lambda one: (one[0], float(one[1] or 0), one[2])):
        where = {"method": method, "variant": scale, "x": rate, "query_model": MEAN, "metric": "cmc@1"}
        line = {"method": method, "logit scale": scale, "learning rate": f"{rate:g}"}
        for title, gallery in (("self-test", OWN_GALLERIES), ("on full", FULL_GALLERY)):
            line[f"{title}, rank 1 (%)"] = in_percent(tuned.by_seed(**where, gallery_model=gallery))
        line["mean of both (%)"] = f"{100 * judged[method, scale, rate]:.2f}"
        is_chosen = tuning.is_chosen(chosen, method, scale, rate)
        yield line | {"chosen": "yes" if is_chosen else ""}


def trials_table(tried: Rows, tuned: Rows) -> pd.DataFrame:
    """What was tried beside the tuning, with the best that the tuning found for the method, and the conflicts."""
    best = tuning.judged(tuned).groupby("method").max()
    lines = []
    for trial in trials.TRIALS:
        where = {"method": trial.method, "variant": trial.variant, "x": trial.rate}
        both = [
            tried.by_seed(**where, query_model=MEAN, gallery_model=gallery, metric="cmc@1")
            for gallery in (OWN_GALLERIES, FULL_GALLERY)
        ]
        line = {"method": trial.method, "learning rate": f"{trial.rate:g}", "other values": trial.variant}
        line |= {"self-test, rank 1 (%)": in_percent(both[0]), "on full, rank 1 (%)": in_percent(both[1])}
        line["mean of both (%)"] = f"{100 * (both[0].mean() + both[1].mean()) / 2:.2f}"
        line["the tuning's best (%)"] = "" if trial.is_long else f"{100 * best[trial.method]:.2f}"
        for metric, title in (("conflicts", "pairs that conflict (%)"), ("hurt any", "updates that hurt any (%)")):
            is_watched = trial.method in SWITCHABLE
            line[title] = in_percent(tried.by_seed(**where, query_model="", metric=metric)) if is_watched else ""
        lines.append(line)
    return pd.DataFrame(lines)


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
        line = {"the model is": words, "logits": f"({', '.join(f'{value:g}' for value in values)})"}
        line["uncertainty u"] = f"{uncertainty(logits.detach()).item():.3f}"
        lines.append(line | {"loss": f"{loss.item():.3f}", "norm of its gradient": f"{gradient.norm().item():.3f}"})
    return pd.DataFrame(lines)


def projection_example() -> pd.DataFrame:
    """Two conflicting gradients in the plane, g₁ = (4, 0) and g₂ = (-1, 1): their sum hurts g₂, the projected not."""
    gradients = torch.tensor([[4.0, 0.0], [-1.0, 1.0]])
    weights = conflict_weights(gradients @ gradients.T)
    lines = []
    for words, each in (("as they are", gradients), ("projected", weights @ gradients)):
        update = each.sum(dim=0)
        line = {"": words} | {f"g{place + 1}": _vector(own) for place, own in enumerate(each)}
        line["update: their sum"] = _vector(update)
        line |= {f"update · g{place + 1}": f"{float(update @ own):g}" for place, own in enumerate(gradients)}
        lines.append(line)
    return pd.DataFrame(lines)


def _vector(values: torch.Tensor) -> str:
    return f"({', '.join(f'{value:g}' for value in values.tolist())})"


def _switchable(measured: Rows) -> list[str]:
    return [method for method in methods_of(measured) if method in SWITCHABLE]
