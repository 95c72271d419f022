"""Published rows measured again from the published models: `python -m compatlib.study.publishing.verify bct --seed 0`.

What can be measured without training is: the cases whose models are all published, of which a sample has one of every
kind. Seconds are left out. It prints how far the new values lie from the published ones, cell by cell.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from compatlib.study.lab import artifacts, make, row_files, rows, sidecars
from compatlib.study.lab.cases import BY_CLASS, Case
from compatlib.study.lab.measures.cost import TIMINGS
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.trainables import Trainable
from compatlib.study.publishing.chapters import CHAPTERS, chapter_of
from compatlib.study.settings import Settings, settings

# How far a share may be from the published one: processors add in another order. Of other values, relatively.
TOLERANCE = 0.003
ROUNDING = 1e-6  # of published values, which have six decimals


def verify(chapter: str, profile: str, seed: int, *, everything: bool = False) -> pd.DataFrame:
    """Every cell that was measured again: its columns, `published`, `again` and the difference between them.

    Args:
        chapter: a name in `CHAPTERS`.
        profile: whose rows.
        seed: a published one.
        everything: all cases whose models are published; by default one of every kind, those of the fewest models.

    Raises:
        ValueError: an unknown chapter, a seed without published rows, or no case whose models are published.
    """
    about, published = chapter_of(chapter), row_files.read(chapter)
    run = about.prepared(settings({"profile": profile, "seeds": [seed]}, about.knobs))
    own = published.run(run.profile, run.dataset)
    own = own.frame[own.frame["seed"] == seed]
    if own.empty:
        raise ValueError(f"no published row of {chapter!r} has profile {profile!r} and seed {seed}; `make status`")
    described = published.sidecar[f"{run.profile}/{run.dataset}/{seed}"]["cases"]
    cases = current_cases(described, run, about.cases(run, seed))
    if left_out := len(described) - len(cases):
        print(f"{left_out} of {len(described)} cases are of an earlier version and left out", flush=True)
    cases = [each for each in cases if is_measurable(run, each, seed)]
    if not cases:
        raise ValueError(f"no case of {chapter!r} stands on published models alone; `make rows` trains the others")
    again = measured_again(Seed(run, seed, chapter), cases if everything else sample(cases))
    return compared(own, again)


def current_cases(described: Iterable[Mapping[str, Any]], run: Settings, cases: Iterable[Case]) -> list[Case]:
    """Those whose published rows were made as this version would make them: rows of an earlier one are other rows.

    Args:
        described: a seed's cases, as its sidecar tells of them.
        run: the run's settings.
        cases: of the plan.
    """
    made = {each["case"]: each["made"] for each in described}
    return [each for each in cases if made.get(sidecars.identity(each)) == sidecars.made_from(run, each)]


def is_measurable(run: Settings, case: Case, seed: int) -> bool:
    """Whether all that a case stands on is published."""
    return all(is_published(case.run(run), what, seed) for what in case.trainables)


def is_published(run: Settings, what: Trainable, seed: int) -> bool:
    """Whether the artifact of a trainable lies among the published models."""
    return any(artifacts.PUBLISHED_MODELS.glob(f"*-{make.key(run, what, seed)[:16]}.safetensors"))


def sample(cases: Iterable[Case]) -> list[Case]:
    """One case of every kind of question, of those that stand on the fewest models."""
    found: dict[tuple, Case] = {}
    for case in sorted(cases, key=lambda each: len(each.trainables)):
        found.setdefault(tuple(ask.function.__name__ for ask in case.ask), case)
    return list(found.values())


def measured_again(seed: Seed, cases: Iterable[Case]) -> pd.DataFrame:
    """The cases' rows, timings left out."""
    records = [
        {name: value for name, value in row.items() if name != BY_CLASS}
        for row in seed.rows(cases)
        if row["metric"] not in TIMINGS
    ]
    return rows.table(records)


def compared(published: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Cell by cell: both values, their difference, and whether it is within the tolerance.

    What is undefined (NaN) agrees with what is undefined, and with nothing else.

    Raises:
        ValueError: a cell that is measured now was not published.
    """
    place = [*rows.CELL, "seed"]
    both = again.drop_duplicates(place).merge(
        published[[*place, "value"]], on=place, how="left", suffixes=("", "_old"), indicator=True
    )
    lost = both[both["_merge"] == "left_only"]
    if len(lost):
        raise ValueError(f"{len(lost)} cells were not published, such as {lost.iloc[0].to_dict()}")
    both = both.drop(columns="_merge").rename(columns={"value": "again", "value_old": "published"})
    both["difference"] = both["again"] - both["published"]
    both.loc[both["again"].isna() & both["published"].isna(), "difference"] = 0.0
    both["agrees"] = both["difference"].abs() <= TOLERANCE * both["published"].abs().clip(lower=1)
    both.loc[both["published"].isna(), "agrees"] = both["again"].isna()
    return both


def trained_again(chapter: str, profile: str, seed: int) -> pd.DataFrame:
    """One model of a chapter, the one of the least work that is published, trained anew and tested beside the old one.

    Raises:
        ValueError: as `verify`.
    """
    about = chapter_of(chapter)
    run = about.prepared(settings({"profile": profile, "seeds": [seed]}, about.knobs))
    cases = [each for each in about.cases(run, seed) if each.trainables and is_measurable(run, each, seed)]
    if not cases:
        raise ValueError(f"no case of {chapter!r} stands on published models alone; `make rows` trains the others")
    what = min((what for case in cases for what in case.trainables), key=lambda each: (each.stage(), each.work(run)))
    print(f"training {what.name}, seed {seed}", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict("os.environ", COMPATLIB_ARTIFACTS=folder),
        mock.patch.object(artifacts, "PUBLISHED_MODELS", Path(folder)),
    ):
        anew = make.make(run, what, seed)[0]
    seeds = {words: Seed(run, seed, chapter) for words in ("published", "again")}
    seeds["again"].put(anew)
    own = [case for case in cases if case.trainables == (what,)]
    frames = {words: measured_again(each, own) for words, each in seeds.items()}
    return compared(frames["published"], frames["again"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 where a cell lies outside of the tolerance.

    A model trained anew may lie further off on another processor: what it measures is printed, and the status is 0.
    """
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.verify", description=__doc__)
    parser.add_argument("chapter", help=f"one of {', '.join(CHAPTERS)}")
    parser.add_argument("--profile", default="study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="every case whose models are published")
    parser.add_argument("--train", action="store_true", help="train one model anew, and test it beside the old one")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.train:
            found = trained_again(chosen.chapter, chosen.profile, chosen.seed)
        else:
            found = verify(chosen.chapter, chosen.profile, chosen.seed, everything=chosen.all)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    report(found)
    return 0 if chosen.train or found["agrees"].all() else 1


def report(found: pd.DataFrame) -> None:
    """Print the cells that differ, the worst first, and the worst difference by metric."""
    differing = found[~(found["difference"].abs() <= ROUNDING)].sort_values("difference", key=lambda each: -each.abs())
    shown = ["method", "variant", "query_model", "gallery_model", "distance", "subset", "metric", "x"]
    if len(differing):
        print(differing[[*shown, "published", "again"]].head(40).to_string(index=False))
    worst = found.assign(worst=found["difference"].abs()).groupby("metric")["worst"].agg(["max", "size"])
    print(worst.rename(columns={"max": "worst difference", "size": "cells"}).to_string())
    print(f"{len(found)} cells measured again, {int((~found['agrees']).sum())} outside of {TOLERANCE:g}")


if __name__ == "__main__":
    sys.exit(main())
