"""What a page shows side by side: the published rows by profile, this build's, and the verdicts on each."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from compatlib.evaluation.statistics import (
    FEWEST_SEEDS,
    INCONCLUSIVE,
    NO_DIFFERENCE,
    NOT_REPRODUCED,
    REPRODUCED,
    Verdict,
)
from compatlib.study.lab.figures.papers import made_from
from compatlib.study.lab.figures.sources import NOT_YET, Source, description, shown
from compatlib.study.lab.rows import Rows
from compatlib.study.publishing import claims
from compatlib.study.publishing.chapters import chapter_of
from compatlib.study.settings import Knobs, Settings, settings

# In the order of columns and panels; a chapter shows those that it has rows of.
PUBLISHED = tuple(claims.REGIMES.items())
SAME_VERDICTS = "*Every claim that several sources measured has one verdict on all of them.*"


def published(chapter: str, runs: Iterable[tuple[str, str]] = PUBLISHED) -> list[Source]:
    """The chapter's published sources, those that have rows.

    Raises:
        ValueError: there is no such chapter.
    """
    found = [Source(profile, claims.pool(chapter, profile, dataset)) for profile, dataset in runs]
    return [source for source in found if len(source.rows.frame)]


def run_of(rows: Rows, knobs: type[Knobs]) -> Settings:
    """A chapter's settings in the profile that rows are of."""
    (profile,) = rows.frame["profile"].unique()
    return settings({"profile": profile}, knobs)


def tunings(chapter: str, function: Callable[..., pd.DataFrame], knobs: type[Knobs], **options: Any) -> None:
    """Display a tuning's table of every published profile, with the values marked that the profile's runs take.

    Args:
        chapter: the tuning.
        function: (rows, settings of the chapter that is tuned, **options) → its table.
        knobs: of the chapter that is tuned.
        **options: handed on.
    """
    shown(lambda rows: function(rows, run_of(rows, knobs), **options), published(chapter))


def this_build(run: Settings, measured: Rows) -> Source:
    """What a page has measured itself."""
    return Source(f"this build: {run.profile}", measured)


def verdicts(chapter: str, sources: Sequence[Source]) -> Markdown:
    """A line for every source: what it is, and how many of the chapter's different claims came out how.

    Claims whose differences are equal seed by seed count once. Fewer than three seeds decide no claim.
    """
    lines = []
    for source in sources:
        judged = [claims.judge(claim, source.rows) for claim in claims.load(chapter)]
        lines.append(f"- **{source.words}** ({description(source)}): {_counted(judged, source.seeds)}")
    return Markdown("\n".join(lines) or NOT_YET)


def differing(chapter: str, sources: Sequence[Source]) -> Markdown:
    """A point for every claim whose verdict is not the same on all sources that decide, with each one's differences."""
    lines = []
    for claim in claims.load(chapter):
        judged = {source.words: claims.judge(claim, source.rows) for source in sources}
        found = {words: each for words, each in judged.items() if each.verdict and _decides(each.verdict)}
        if len({each.verdict.outcome for each in found.values()}) > 1:
            told = [f"  - {words}: {claims.in_short(each)}" for words, each in found.items()]
            lines += [f"- **{claim.statement}**", *told]
    return Markdown("\n".join(lines) or SAME_VERDICTS)


def _decides(verdict: Verdict) -> bool:
    return min(link.n for link in verdict.links) >= FEWEST_SEEDS


def _counted(judged: Sequence[claims.Judged], seeds: int) -> str:
    if seeds < FEWEST_SEEDS:
        return f"fewer than {FEWEST_SEEDS} seeds decide no claim"
    different = claims.different(judged)
    deciding = [each for each in different if _decides(each)]
    outcomes, open_ones = [each.outcome for each in deciding], len(different) - len(deciding)
    counts = {outcome: outcomes.count(outcome) for outcome in (REPRODUCED, NOT_REPRODUCED, NO_DIFFERENCE, INCONCLUSIVE)}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count or outcome == REPRODUCED)
    missing = sum(each.verdict is None for each in judged)
    words = f"{len(judged) - missing} of {len(judged)} claims measured" if missing else f"{len(judged)} claims"
    told += f", {open_ones} of fewer than {FEWEST_SEEDS} seeds, which decide none" if open_ones else ""
    return f"{words}, {len(different)} of them different; {told}"


def verdicts_by_claim(chapter: str, sources: Iterable[Source]) -> pd.DataFrame:
    """Every claim with its verdict on every source of more than one seed."""
    own = [source for source in sources if source.seeds > 1]
    return claims.table([claims.judge(claim, source.rows) for claim in claims.load(chapter) for source in own])


def origins(chapter: str, runs: Iterable[tuple[str, str]] = PUBLISHED) -> pd.DataFrame:
    """What the published rows of a chapter, or of its tuning or trials, were made from, seed by seed."""
    parts = [made_from(chapter_of(chapter), profile, dataset) for profile, dataset in runs]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
