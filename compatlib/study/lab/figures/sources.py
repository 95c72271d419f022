"""One table with a column a source, one sentence a finding: the same cells of several runs, side by side.

A source is the rows of one profile and data set, published or of this build, or what a paper gives. What a source has
not measured stays blank; a source that has nothing of a table has no column in it. Nothing about the sources is typed:
columns, findings and panels appear with their rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from compatlib.study.lab.figures.cells import Picks
from compatlib.study.lab.figures.columns import Column
from compatlib.study.lab.figures.papers import quoted_value
from compatlib.study.lab.figures.tables import Line, seed_numbers, show
from compatlib.study.lab.figures.texts import effect, seeds_in_words
from compatlib.study.lab.row_files import paper_values
from compatlib.study.lab.rows import NoRowError, Rows

HEADS = {"relu_pool": "non-negative head", "linear_bn": "signed head"}
NOT_YET, NOT_MEASURED = "*No rows of this are published yet.*", "not measured"


class Entries(Protocol):
    """What can be a column of `by_source`."""

    words: str

    def entry(self, column: Column, picks: Picks) -> tuple[str, int | None]:
        """Text and number of seeds; "" and None where there is no such number."""
        ...


@dataclass(frozen=True)
class Source:
    """Rows of one profile and data set, and what they are called in words."""

    words: str
    rows: Rows

    def entry(self, column: Column, picks: Picks) -> tuple[str, int | None]:
        """As `Column.entry`; "" and None where the cells were not measured."""
        try:
            return column.entry(self.rows, picks)
        except NoRowError:
            return "", None

    @property
    def seeds(self) -> int:
        """How many there are, of whatever was measured."""
        return int(self.rows.frame["seed"].nunique())


@dataclass(frozen=True)
class Paper:
    """What a paper gives where it may be quoted, as a column.

    paper, source, where: as in `data/paper_values.csv`. named: what picks a cell here → what picks it there; None where
    the paper has no such cell. Only a level is quoted, no difference is made of two.
    """

    words: str
    paper: str
    source: str
    where: Mapping[str, str]
    named: Callable[[Picks], Mapping[str, str] | None]

    def entry(self, column: Column, picks: Picks) -> tuple[str, int | None]:
        """The quoted level; "" where there is none."""
        wanted = self.named({**picks, **column.cells[0]}) if len(column.cells) == 1 else None
        if wanted is None:
            return "", None
        return quoted_value(paper_values(), self.paper, self.source, **{**self.where, **wanted}), None


def by_source(
    lines: Iterable[Line], column: Column | Sequence[Column], sources: Iterable[Entries], **where: Any
) -> pd.DataFrame:
    """One score: lines down, a column a source; its title tells over how many seeds, as "study (3 seeds)".

    Args:
        lines: in their order; one that no source has is left out.
        column: how an entry is made and written; one for all lines, or one for each.
        sources: in their order; one without any entry is left out.
        where: what picks the rows that all cells are among.

    Raises:
        ValueError: rows of several cells, where one cell is wanted.
    """
    lines, found = list(lines), {}
    columns = [column] * len(lines) if isinstance(column, Column) else column
    for source in sources:
        entries = [source.entry(own, {**picks, **where}) for (_, picks), own in zip(lines, columns, strict=True)]
        if any(text for text, _ in entries):
            numbers = seed_numbers(n for _, n in entries)
            title = f"{source.words} ({seeds_in_words(numbers)})" if numbers else source.words
            found[title] = [text for text, _ in entries]
    if not found:
        return pd.DataFrame(columns=list(lines[0][0]) if lines else [])
    table = pd.concat([pd.DataFrame([dict(words) for words, _ in lines]), pd.DataFrame(found)], axis=1)
    return table[(table[list(found)] != "").any(axis=1)].reset_index(drop=True)


@dataclass(frozen=True)
class Finding:
    """A sentence of every source: what is compared, a template such as "mAP {map}", and the column of each name."""

    what: str
    template: str
    values: Mapping[str, Column]

    def said(self, source: Source, **where: Any) -> str | None:
        """The template with the source's numbers; None where one of them was not measured."""
        found = {name: source.entry(column, where)[0] for name, column in self.values.items()}
        return self.template.format(**found) if all(found.values()) else None


IN_WORDS = {"map": "mAP", "cmc@1": "rank 1"}


def against(what: str, first: Picks, second: Picks, **place: Any) -> Finding:
    """A finding of one cell against another, paired by seed, in mAP and at rank 1."""
    values = {}
    for metric in IN_WORDS:
        cells = tuple({**place, **side, "metric": metric} for side in (first, second))
        values[metric.replace("@", "_")] = Column(cells, effect)
    template = "; ".join(f"{words} {{{metric.replace('@', '_')}}}" for metric, words in IN_WORDS.items())
    return Finding(what, template, values)


def findings(wanted: Iterable[Finding], sources: Sequence[Source], **where: Any) -> Markdown:
    """A point for every finding that a source has rows of, with each source's numbers below it."""
    lines = []
    for finding in wanted:
        said = {source.words: finding.said(source, **where) for source in sources}
        told = [f"  - {words}: {text}" for words, text in said.items() if text]
        lines += [f"- **{finding.what}**", *told] if told else []
    return Markdown("\n".join(lines) or NOT_YET)


def settings_of(source: Source) -> Mapping[str, Any]:
    """What its rows were measured with, as their sidecar tells it."""
    return next(iter(source.rows.sidecar.values()))["settings"]


def own_head(source: Source) -> str:
    """How the networks of its rows end, where no variant says otherwise."""
    return settings_of(source)["network"]["head"]


def _head(source: Source) -> str:
    """The head of most rows, where every variant of what was trained names one; else the networks' own."""
    frame = source.rows.frame
    named = frame.loc[frame["method"] != "chance", "variant"].str.extract(r"^head=(\w+)")[0]
    return own_head(source) if named.isna().any() or named.empty else named.mode()[0]


def description(source: Source) -> str:
    """Data, what is trained, head, size of the full model, epochs and seeds, all from the source's rows."""
    settings = settings_of(source)
    encoders = settings.get("encoders")
    trained = f"heads on {encoders['new']}, which nothing trains" if encoders else "networks from scratch"
    words = [f"data set `{settings['dataset']}`", trained, HEADS[_head(source)]]
    sizes = source.rows.frame.loc[source.rows.frame["metric"] == "parameters", "value"]
    words += [f"{sizes.max():,.0f} parameters"] if len(sizes) else []
    return ", ".join([*words, f"{settings['training']['epochs']} epochs", seeds_in_words(source.seeds)])


def shown(function: Callable[..., pd.DataFrame], sources: Iterable[Source], **options: Any) -> None:
    """Display a long table for every source, each under the source's name; in words where it has no such rows."""
    _each(lambda source: show(function(source.rows, **options), source.words), sources)


def side_by_side(function: Callable[[Sequence[Source]], Figure], sources: Sequence[Source]) -> None:
    """Display one picture of all sources, a panel each; in words where there is none."""
    display(function(sources) if sources else Markdown(NOT_YET))


def drawn(function: Callable[..., Figure], sources: Iterable[Source], **options: Any) -> None:
    """Display a picture for every source, each under the source's name; in words where it has no such rows."""

    def titled(source: Source) -> Figure:
        figure = function(source.rows, **options)
        figure.suptitle(source.words, x=0.01, horizontalalignment="left")
        return figure

    _each(titled, sources)


def _each(made: Callable[[Source], HTML | Figure], sources: Iterable[Source]) -> None:
    sources = list(sources)
    if not sources:
        display(Markdown(NOT_YET))
    for source in sources:
        try:
            display(made(source))
        except NoRowError:
            display(Markdown(f"**{source.words}**: {NOT_MEASURED}"))
