"""Measure a chapter and publish it: `python -m compatlib.study.publishing.measure problem --seeds 0,1,2`.

Seed by seed, so that a run which is interrupted keeps what it has: the rows go to `data/published/<chapter>.csv`, what
they were made from beside it, and the models that a chapter publishes to `data/published/models`.
"""

import argparse
import sys
from collections.abc import Sequence

from compatlib.study.lab import artifacts, experiment, row_files
from compatlib.study.publishing.chapters import CHAPTERS, chapter_of
from compatlib.study.settings import settings


def measure(chapter: str, profile: str, dataset: str = "", seeds: str = "") -> None:
    """Measure the seeds of a run one after the other, and publish each when it is done.

    Of the profile's seeds those that are not swept have the cells of such seeds, asked for by number too.

    Raises:
        ValueError: an unknown chapter, profile or data set, or seeds that cannot be read.
    """
    about = chapter_of(chapter)
    run, whole = (
        settings({"profile": profile, "dataset": dataset, "seeds": each}, about.knobs) for each in (seeds, "")
    )
    swept = (*whole.sweep_seeds, *(seed for seed in run.seeds if seed not in whole.seeds))
    run = run.model_copy(update={"sweep_seeds": swept})
    for seed in run.seeds:
        outcome = experiment.measure(about, run.model_copy(update={"seeds": (seed,)}))
        for artifact in outcome.to_publish.values():
            artifacts.publish(artifact)
        path = row_files.publish(chapter, outcome.rows)
        print(f"seed {seed}: {len(outcome.rows.frame)} rows in {path}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.measure", description=__doc__)
    parser.add_argument("chapter", help=f"one of {', '.join(CHAPTERS)}")
    parser.add_argument("--profile", default="study")
    parser.add_argument("--dataset", default="", help="by default the profile's")
    parser.add_argument("--seeds", default="", help="such as 0,1,2; by default the profile's")
    try:
        measure(**vars(parser.parse_args(arguments)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
