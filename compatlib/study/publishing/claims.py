"""Claims and their verdicts: what a paper states, the rows that speak of it, and what they say."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from compatlib.evaluation.statistics import NOT_REPRODUCED, REPRODUCED, Paired, Verdict, holm, verdict
from compatlib.study.lab import sidecars
from compatlib.study.lab.artifacts import REPOSITORY
from compatlib.study.lab.row_files import read
from compatlib.study.lab.rows import COLUMNS, GROUP, IS_CURRENT, NoRowError, Rows
from compatlib.study.publishing.chapters import CHAPTERS, chapter_of

CLAIMS_FILE = REPOSITORY / "book" / "claims.yml"
MEASUREMENTS = {
    "direction": (2, 2, "two cells"),
    "chain": (2, math.inf, "two cells or more"),
    "equivalence": (2, 2, "two cells"),
    "at_chance": (1, 1, "one cell with chance"),
    "above": (1, 1, "one cell with its margin"),
}
PICKED_BY = tuple(name for name in COLUMNS if name not in (*GROUP, "chapter", "value"))
# Where a claim is tested: profile and data set of published rows, in the order in which they are shown.
REGIMES = {
    "heads": "cifar100_lite",
    "study": "cifar100",
    "study_signed": "cifar100",
    "large": "cifar100",
    "omniglot": "omniglot_lite",
}
NOT_MEASURED = "not measured"
Cell = dict[str, str | float]


class Condition(BaseModel):
    """What may decide a claim, and the same measurements under it: where regimes differ, a reader sees its numbers.

    words: such as "signed head". profile: whose rows they are. chapter: the claim's where it is not named. shared,
    rows: what picks the cells, over the claim's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: str
    profile: Literal[tuple(REGIMES)]
    chapter: str | None = None
    shared: Cell = {}
    rows: tuple[Cell, ...] = ()


class Claim(BaseModel):
    """One statement of a paper (or of this study), and the cells that are compared.

    `rows` are the claim's measurements in the order of its kind: a > b (direction), a < b < c… (chain), a and b
    (equivalence), a (at_chance), a > margin (above); each picks one value a seed. `shared` holds what all of them have
    in common. `whose` the claim is: the paper's own words, our reading of it, or this study's. `when`: the conditions
    that are shown where its verdicts differ between regimes. short: its line in the picture of all claims, which scores
    of one claim share. is_headline: whether it stands for its paper on the front page.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    paper: str
    whose: Literal["the paper", "our reading", "this study"]
    statement: str
    where: str
    chapter: str
    kind: Literal["direction", "chain", "equivalence", "at_chance", "above"]
    rows: tuple[Cell, ...]
    shared: Cell = {}
    margin: float | None = None
    when: tuple[Condition, ...] = ()
    short: str = ""
    is_headline: bool = False

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "Claim":
        least, most, words = MEASUREMENTS[self.kind]
        if not least <= len(self.rows) <= most:
            raise ValueError(f"a claim of kind {self.kind} compares {words}, got {len(self.rows)}")
        if (self.margin is None) != (self.kind in ("direction", "chain")):
            raise ValueError(f"a claim of kind {self.kind} {'needs' if self.margin is None else 'has no'} margin")
        longest = max((len(condition.rows) for condition in self.when), default=0)
        if longest > len(self.rows):
            raise ValueError(f"a condition picks {longest} measurements of a claim that compares {len(self.rows)}")
        conditions = [cell for each in self.when for cell in (each.shared, *each.rows)]
        unknown = {name for cell in (self.shared, *self.rows, *conditions) for name in cell} - set(PICKED_BY)
        if unknown:
            raise ValueError(f"unknown columns {sorted(unknown)}; a cell is picked by {PICKED_BY}")
        return self

    def cells(self) -> list[dict[str, Any]]:
        """What picks each measurement's rows."""
        return [{**self.shared, **cell} for cell in self.rows]

    def under(self, condition: Condition) -> "Claim":
        """The same claim of the rows that a condition picks."""
        pairs = itertools.zip_longest(self.cells(), condition.rows, fillvalue={})
        cells = tuple({**cell, **condition.shared, **own} for cell, own in pairs)
        own = {"rows": cells, "shared": {}, "when": (), "chapter": condition.chapter or self.chapter}
        return self.model_copy(update=own)


@dataclass(frozen=True)
class Judged:
    """A claim, the profile and data set it was measured on, and the verdict; None where it was not measured.

    is_earlier: whether an earlier version of the study's settings or code made the rows.
    """

    claim: Claim
    profile: str
    dataset: str
    verdict: Verdict | None
    is_earlier: bool = False


def load(chapter: str | None = None, path: Path = CLAIMS_FILE) -> list[Claim]:
    """All claims, or one chapter's.

    Raises:
        ValueError: an incomplete claim, or two of one id; the message names it.
    """
    try:
        contents = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)  # ten times as fast
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(contents, list) or not all(isinstance(content, dict) for content in contents):
        raise ValueError(f"{path.name} must be a list of claims, each with {', '.join(Claim.model_fields)}")
    claims = []
    for number, content in enumerate(contents, 1):
        try:
            claims.append(Claim(**content))
        except (ValidationError, TypeError) as error:
            raise ValueError(f"{path.name}, claim {number} ({content.get('id', 'no id')}): {error}") from None
    ids = [claim.id for claim in claims]
    doubled = sorted({name for name in ids if ids.count(name) > 1})
    if doubled:
        raise ValueError(f"{path.name} has several claims of id {doubled}")
    return [claim for claim in claims if chapter in (None, claim.chapter)]


def judge(claim: Claim, measured: Rows) -> Judged:
    """The verdict on a claim from rows of one profile and data set, made comparable (`Rows.comparable`).

    A claim whose rows are missing is not measured; one of whose cells some have more seeds is judged over the seeds
    that all have. Cells of different versions are paired only where the behaviours that both stand on have equal
    numbers.
    """
    runs = sorted(measured.frame[["profile", "dataset"]].drop_duplicates().itertuples(index=False, name=None))
    if len(runs) > 1:
        raise ValueError(f"rows of several profiles or data sets are never pooled: {runs}")
    profile, dataset = runs[0] if runs else ("", "")
    try:
        picked = [measured.of(**cell) for cell in claim.cells()]
        is_earlier = not all(each[IS_CURRENT].all() for each in picked if IS_CURRENT in each)
        if is_earlier:
            _require_pairable(claim, measured)
        level = [_chance_cell(claim)] if claim.kind == "at_chance" else []
        cells = measured.together(*claim.cells(), *level)
        chance = {"chance_level": cells.pop()} if level else {}
        outcome = verdict(claim.kind, *cells, margin=claim.margin, **chance)
    except NoRowError:
        return Judged(claim, profile, dataset, None)
    except ValueError as error:
        raise ValueError(f"claim {claim.id}: {error}") from error
    return Judged(claim, profile, dataset, outcome, is_earlier)


def pool(chapter: str, profile: str, dataset: str) -> Rows:
    """A chapter's published rows of one profile and data set, with other chapters' seeds of the same cells.

    Raises:
        ValueError: there is no such chapter.
    """
    chapter_of(chapter)
    return _pooled(chapter, _published(profile, dataset, chapter))


def judge_published() -> list[Judged]:
    """Verdicts on all claims from the published rows, one for every profile and data set that a chapter has rows of.

    A single seed decides no claim: a run of one is left out.
    """
    judged, published = [], {}
    for chapter in dict.fromkeys(claim.chapter for claim in load()):
        pools = []
        seeds = Counter(group.rpartition("/")[0] for group in read(chapter).sidecar)
        for run in sorted(run for run, count in seeds.items() if count > 1):
            published[run] = published.get(run) or _published(*run.split("/"))
            pools.append(_pooled(chapter, published[run]))
        for claim in load(chapter):
            judged += [judge(claim, each) for each in pools] or [Judged(claim, "", "", None)]
    return judged


def _published(profile: str, dataset: str, own: str = "") -> dict[str, Rows]:
    """By chapter, the published rows of one profile and data set; of tunings, trials and grids only one's own.

    Their cells are others than a chapter's: of held-out images, or under other values.
    """
    wanted = {name: each for name, each in CHAPTERS.items() if each.is_published or name == own}
    return {name: sidecars.published(each, profile, dataset) for name, each in wanted.items()}


def _pooled(chapter: str, published: Mapping[str, Rows]) -> Rows:
    others = [each for name, each in published.items() if name != chapter and len(each.frame)]
    return published[chapter].joined(others)


def _require_pairable(claim: Claim, measured: Rows) -> None:
    """Refuse cells whose common behaviours have different numbers."""
    found: dict[str, int] = {}
    for cell in claim.cells():
        for name, number in measured.behaviours(**cell).items():
            if found.setdefault(name, number) != number:
                raise NoRowError(f"no row has a partner of its own version: {name!r} differs between the cells")


def table(judged: list[Judged]) -> pd.DataFrame:
    """A table to read: claim, whose it is, what it was measured on, n, differences in points, verdict."""
    return pd.DataFrame([_line(each) for each in judged])


def by_regime(judged: Iterable[Judged], *chapters: str) -> pd.DataFrame:
    """A line a claim: statement, whose it is, by regime the verdict with differences in points and n; what decides.

    Args:
        judged: verdicts, of one regime or more.
        chapters: whose claims; all by default.
    """
    own = [each for each in judged if not chapters or each.claim.chapter in chapters]
    there = [name for name in REGIMES if any(each.profile == name for each in own)]
    pooled = cache(pool)
    lines = {each.claim.id: {"claim": each.claim.statement, "paper": _whose(each.claim)} for each in own}
    for name, line in lines.items():
        found = {each.profile: each for each in own if each.claim.id == name}
        line |= {regime: in_short(found.get(regime)) for regime in there}
        outcomes = {each.verdict.outcome for each in found.values() if each.verdict}
        claim = next(iter(found.values())).claim
        line["where they differ"] = _conditions(claim, pooled) if len(outcomes) > 1 else ""
    return pd.DataFrame(lines.values())


def in_short(judged: Judged | None) -> str:
    """Such as "reproduced: +1.2 [+0.8, +1.6], n = 5"."""
    if judged is None or judged.verdict is None:
        return NOT_MEASURED
    told = f"{judged.verdict.outcome}: {differences(judged)}, n = {min(link.n for link in judged.verdict.links)}"
    return told + (", by an earlier version" if judged.is_earlier else "")


def differences(judged: Judged) -> str:
    """Such as "+1.2 [+0.8, +1.6]", of every link; "not measured" where there is no verdict."""
    return NOT_MEASURED if judged.verdict is None else "; ".join(map(_difference, judged.verdict.links))


def _conditions(claim: Claim, pooled: Callable[[str, str, str], Rows]) -> str:
    """The differences under what may decide the claim, in one clause; `pooled` as `pool`."""
    found = []
    for condition in claim.when:
        rows = pooled(condition.chapter or claim.chapter, condition.profile, REGIMES[condition.profile])
        judged = judge(claim.under(condition), rows)
        if judged.verdict is not None:
            found.append(f"{condition.words} {differences(judged)}")
    return ", ".join(found)


def _whose(claim: Claim) -> str:
    return claim.paper if claim.whose != "our reading" else f"{claim.paper} (our reading)"


def _line(each: Judged) -> dict[str, str]:
    measured_on = f"{each.dataset} ({each.profile})" if each.profile else ""
    measured_on += ", by an earlier version" if each.is_earlier else ""
    line = {"claim": each.claim.statement, "paper": _whose(each.claim), "measured on": measured_on}
    if each.verdict is None:
        return line | {"n": "0", "difference (points)": "", "chance of": "", "verdict": NOT_MEASURED}
    links = each.verdict.links
    return line | {
        "n": str(min(link.n for link in links)),
        "difference (points)": differences(each),
        "chance of": " and ".join(min((link.sources for link in links), key=len)),
        "verdict": each.verdict.outcome,
    }


def counted(judged: list[Judged]) -> pd.DataFrame:
    """Verdicts by chapter: how many different claims were measured and decided, and what chance alone would do.

    Claims whose differences are equal seed by seed count once. `by chance`: so many at most would be reproduced if none
    were true. `after Holm`: decided claims that stand after Holm's correction over the chapter's.
    """
    lines = []
    for chapter in dict.fromkeys(each.claim.chapter for each in judged):
        own = different([each for each in judged if each.claim.chapter == chapter])
        decided = [each.outcome in (REPRODUCED, NOT_REPRODUCED) for each in own]
        stands = holm([each.p_value for each in own]) if own else np.zeros(0, bool)
        lines.append(
            {
                "chapter": chapter,
                "claims": sum(each.claim.chapter == chapter for each in judged),
                "different claims measured": len(own),
                "decided": sum(decided),
                "reproduced": sum(each.outcome == REPRODUCED for each in own),
                "by chance, at most": f"{0.025 * len(own):.1f}",
                "after Holm": int((stands & np.array(decided, bool)).sum()),
            }
        )
    return pd.DataFrame(lines)


def different(judged: Iterable[Judged]) -> list[Verdict]:
    """The verdicts on what was measured, one of those whose differences are equal seed by seed."""
    return list({_links(each.verdict): each.verdict for each in judged if each.verdict}.values())


def _links(verdict: Verdict) -> tuple:
    """What makes a claim's numbers its own: its kind and margin, and the differences of every link by seed."""
    return verdict.kind, verdict.margin, tuple(tuple(link.differences.items()) for link in verdict.links)


def _difference(link: Paired) -> str:
    """Mean and 95 % interval, as in "+8.9 [+8.1, +9.7]"; the mean alone for a single seed."""
    mean = f"{100 * link.mean:+.1f}"
    return mean if math.isnan(link.low) else f"{mean} [{100 * link.low:+.1f}, {100 * link.high:+.1f}]"


def _chance_cell(claim: Claim) -> dict[str, Any]:
    """What picks the computed chance level of the claim's metric and subset."""
    (cell,) = claim.cells()
    wanted = {name: cell[name] for name in ("split", "subset", "metric", "distance") if name in cell}
    return {"method": "chance", **wanted}
