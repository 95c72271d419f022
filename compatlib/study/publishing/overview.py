"""What the front page and the README tell of all claims: one picture, the headlines, and which method when."""

import base64
import io
from collections.abc import Iterable
from html import escape
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compatlib.evaluation.statistics import INCONCLUSIVE, NO_DIFFERENCE, NOT_REPRODUCED, REPRODUCED
from compatlib.study.chapters.fct.plan import WITH, WITHOUT
from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.cells import METRICS
from compatlib.study.publishing.claims import (
    NOT_MEASURED,
    REGIMES,
    Claim,
    Judged,
    by_regime,
    differences,
    in_short,
    pool,
)

TITLES = {
    "problem": "what all papers start from",
    "bct": "BCT",
    "fct": "FCT and FastFill",
    "dual_tuning": "Dual-Tuning",
    "cmp_nas": "CMP-NAS",
    "sfsc": "SFSC",
}
# Every verdict has a marker beside its colour.
LOOKS: dict[str, dict[str, Any]] = {
    REPRODUCED: style.look(0),
    NOT_REPRODUCED: {"color": style.COLOURS[1], "marker": "X"},
    INCONCLUSIVE: {"color": "0.6", "marker": "D"},
    NO_DIFFERENCE: {"color": style.COLOURS[2], "marker": "^"},
}
ALT = (
    "Dot plot with intervals: a line for every claim, grouped by paper, and a panel for every regime; marks tell "
    "whether the claim was reproduced, not reproduced, left open, or showed no difference, and how large that is"
)
LINEAR, TICKS = 2.0, (-20, -5, -1, 0, 1, 5, 20)  # in points; a scale that is linear up to `LINEAR`, then logarithmic
LINE_HEIGHT = 0.2  # in inches
KEPT = "bytes that are kept of an item"


class Advice(NamedTuple):
    """What to try first in a situation, the claim that speaks for it or against it, and that which tells its price."""

    situation: str
    first: str
    claim: str
    price: str


ADVICE = (
    Advice("the gallery may be transformed where it lies", "FCT", "fct-above-bct-map", KEPT),
    Advice("the gallery stays; the new model is yours to train", "BCT (form A)", "bct-criterion-map", "bct-cost"),
    Advice("items are embedded again little by little", "FastFill", "fastfill-above-fct-map", "fastfill-above-fct"),
    Advice("devices of several sizes ask one gallery", "SFSC", "sfsc-above-bct-s-cross-map", "sfsc-above-bct-s-self"),
)


def picture(judged: Iterable[Judged]) -> Figure:
    """All claims: a line for what is claimed, a mark for each score of it, a panel a regime, grouped by paper.

    Differences in points with 95 % intervals, of a chain its least link. What lies right of the line speaks for the
    claim, but where two things are claimed to be equal.
    """
    judged = [each for each in judged if each.verdict is not None]
    regimes = [name for name in REGIMES if any(each.profile == name for each in judged)]
    lines = _lines(judged)
    size = (4.2 + 2.3 * len(regimes), 1.2 + LINE_HEIGHT * len(lines))
    figure, axes = style.panels(len(regimes), size, sharey=True)
    for axis, regime in zip(axes[0], regimes, strict=True):
        for place, (_, own) in enumerate(lines):
            _draw(axis, [each for each in own if each.profile == regime], place)
        axis.axvline(0, color=style.COLOURS[-1], linewidth=1.0)
        axis.set_xscale("symlog", linthresh=LINEAR)
        axis.set(title=regime, xlabel="points", xlim=(2 * TICKS[0], 2 * TICKS[-1]))
        axis.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS], fontsize=8)
        axis.minorticks_off()
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(lines)), [words for words, _ in lines], fontsize=9)
    for label, (_, own) in zip(axes[0, 0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("normal" if own else "bold")
    axes[0, 0].set_ylim(len(lines) - 0.4, -0.6)
    return style.finished(figure, legend=len(LOOKS))


def _lines(judged: Iterable[Judged]) -> list[tuple[str, list[Judged]]]:
    """Words of every line, with the verdicts that stand on it; of a paper's title none."""
    found: dict[str, dict[str, list[Judged]]] = {chapter: {} for chapter in TITLES}
    for each in judged:
        found[each.claim.chapter].setdefault(each.claim.short or each.claim.statement, []).append(each)
    return [line for chapter, own in found.items() if own for line in ((TITLES[chapter], []), *own.items())]


def _draw(axis: Axes, judged: list[Judged], place: int) -> None:
    """A line's verdicts of one regime, one below the other."""
    for number, each in enumerate(judged):
        link = min(each.verdict.links, key=lambda link: link.mean)
        height = place + 0.2 * (number - (len(judged) - 1) / 2)
        look = LOOKS[each.verdict.outcome]
        axis.plot([100 * link.low, 100 * link.high], [height, height], color=look["color"], linewidth=1.0)
        axis.scatter([100 * link.mean], [height], s=18, **look, label=each.verdict.outcome, zorder=3)


def headlines(judged: Iterable[Judged]) -> pd.DataFrame:
    """A line for each claim that stands for its paper: whose it is, and by regime the verdict with its numbers."""
    return by_regime(each for each in judged if each.claim.is_headline).drop(columns="where they differ")


def advice(judged: Iterable[Judged]) -> pd.DataFrame:
    """Which method when: what to try first in a situation, what every regime's rows say of it, and its price."""
    judged = list(judged)
    claims = {each.claim.id: each.claim for each in judged}
    found = {(each.claim.id, each.profile): each for each in judged}
    regimes = [name for name in REGIMES if any(each.profile == name for each in judged)]
    lines = []
    for each in ADVICE:
        line = {"where": each.situation, "try first": each.first, "because": _with_score(claims[each.claim])}
        line |= {name: in_short(found.get((each.claim, name))) for name in regimes}
        line["its price"] = kept_bytes() if each.price == KEPT else _with_score(claims[each.price])
        if each.price != KEPT:
            told = {name: found[each.price, name] for name in regimes if (each.price, name) in found}
            line["its price"] += ": " + "; ".join(f"{name} {differences(one)}" for name, one in told.items())
        lines.append(line)
    return pd.DataFrame(lines)


def listed(found: pd.DataFrame) -> HTML:
    """Advice as a list, a point a situation, which a phone shows as well as a desk."""
    points = []
    for line in found.to_dict("records"):
        told = {name: escape(text) for name, text in line.items()}
        regimes = "; ".join(f"{name} {told[name]}" for name in REGIMES if told.get(name, NOT_MEASURED) != NOT_MEASURED)
        points.append(
            f"<li><strong>Where {told['where']}: {told['try first']}.</strong> {told['because']}: {regimes}. "
            f"Its price: {told['its price']}.</li>"
        )
    return HTML(f"<ul>{''.join(points)}</ul>")


def _with_score(claim: Claim) -> str:
    metric = str(claim.shared["metric"]).removeprefix("auc ")
    return f"{claim.short} ({METRICS[metric]})"


def kept_bytes() -> str:
    """What FCT keeps of an item in `heads`, without and with side-information."""
    rows = pool("fct", "heads", REGIMES["heads"])
    place = {"query_model": "new", "gallery_model": "h(old)", "variant": "", "split": "class-incremental"}
    without, beside = (
        rows.of(method=method, metric="kept_bytes", **place)["value"].mean() for method in (WITHOUT, WITH)
    )
    return f"{KEPT}: {beside:.0f} with side-information, {without:.0f} without (heads)"


def glued(judged: list[Judged]) -> None:
    """Hand the picture and what to try first to the front page, which takes them from the page that calls this."""
    from myst_nb import glue  # the book's tool: only a page needs it

    drawn = io.BytesIO()
    picture(judged).savefig(drawn, dpi=110)
    # As HTML, since a picture that another page glues has no alternative text.
    source = base64.b64encode(drawn.getvalue()).decode()
    image = f'<img src="data:image/png;base64,{source}" alt="{escape(ALT)}" style="max-width: 100%">'
    glue("claims-picture", HTML(image), display=False)
    glue("claims-advice", listed(advice(judged)), display=False)
