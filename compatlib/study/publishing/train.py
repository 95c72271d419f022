"""Train models of a chapter without measuring them: `python -m compatlib.study.publishing.train sfsc --models "SFSC"`.

With all that they are made from, side by side. Each is kept as soon as it is done and found by whoever measures; a run
that is interrupted goes on from its checkpoints. On a GPU several at once pay where the networks are small, for their
kernels wait to be launched: `--processes 4`. (The eight headline models of `large`, five at once on an H100: 8 minutes,
some 14 one after the other, by the rate of each alone.)
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from compatlib.study.lab import artifacts, experiment
from compatlib.study.lab.parallel import train_all
from compatlib.study.lab.progress import Work
from compatlib.study.publishing.chapters import CHAPTERS, chapter_of
from compatlib.study.settings import settings


def train(
    chapter: str, profile: str, dataset: str = "", seeds: str = "", models: str = "", processes: int | None = None
) -> None:
    """Train or find models of a chapter, and what they are made from.

    Args:
        chapter: a name in `CHAPTERS`.
        profile: whose recipe.
        dataset: by default the profile's.
        seeds: such as "0,1"; by default the profile's.
        models: names with semicolons between them, since a name may hold a comma; by default all of the chapter's.
        processes: how many at once; by default as `parallel.train_all`.

    Raises:
        ValueError: an unknown chapter, profile, data set or model, seeds that cannot be read, or no process.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes is {processes}; valid are whole numbers from 1")
    about = chapter_of(chapter)
    run = about.prepared(settings({"profile": profile, "dataset": dataset, "seeds": seeds}, about.knobs))
    plans = {seed: list(about.cases(run, seed)) for seed in run.seeds}
    names = [name.strip() for name in models.split(";") if name.strip()]
    tasks = experiment.tasks(run, plans, names)
    train_all(tasks, Work({task.name: task.work for task in tasks}, partial(print, flush=True)), processes=processes)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.train", description=__doc__)
    parser.add_argument("chapter", help=f"one of {', '.join(CHAPTERS)}")
    parser.add_argument("--profile", default="study")
    parser.add_argument("--dataset", default="", help="by default the profile's")
    parser.add_argument("--seeds", default="", help="such as 0,1,2; by default the profile's")
    parser.add_argument("--models", default="", help="names with semicolons between them; by default all")
    parser.add_argument("--processes", type=int, help="how many at once; by default one a processor, one with a GPU")
    try:
        train(**vars(parser.parse_args(arguments)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    print(f"the models are in {artifacts.folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
