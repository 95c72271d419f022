"""What `make book` and `make page` do: prepare a run, let Snakemake work, say what came of it."""

import argparse
import glob
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from compatlib.study.publishing import processes
from compatlib.study.publishing.book import BookError, changed_parts, check_contents, is_fresh
from compatlib.study.publishing.reporting import duration_in_words
from compatlib.study.publishing.runs import (
    FEATURES,
    FOLDERS,
    Run,
    data_files,
    page_names,
    profile_dataset,
    profile_encoders,
)


def build(run: Run, target: Path, pages: Sequence[str], *, cores: int | None = None, executor: str = "") -> int:
    """Let Snakemake make `target`, after taking away those of `pages`, and the HTML, that are stale.

    One build works in the folder at a time; a second one waits. Whatever way the last one ended, this one goes on from
    there.

    Args:
        run: what the pages are executed for.
        target: a file of the run.
        pages: the pages that the target is made from.
        cores: how many processors are used at most; all by default.
        executor: folder of an executor profile for a cluster; by default this machine does the work.

    Returns:
        Snakemake's exit status; 130 after an interrupt.
    """
    failures = [run.log(page).with_suffix(".failed.txt") for page in pages]
    with processes.only_build(run.root / "build" / "lock") as lock:
        withdraw_stale(run, pages)
        for failure in failures:
            failure.unlink(missing_ok=True)
        environment = os.environ | {processes.VARIABLE: processes.build_mark()}
        command = _snakemake_command(run, target, cores, executor)
        status = processes.run_group(command, folder=run.root, environment=environment, lock=lock)
    for failure in failures:
        if failure.is_file():
            print(f"\n{failure.read_text(encoding='utf-8')}", file=sys.stderr)
    return status


def fetch_data(run: Run) -> None:
    """Fetch the run's data set before any page is planned: its files are part of what makes a page fresh.

    Raises:
        FileNotFoundError: it cannot be fetched; the message says where to get it and where to put it, or how to embed
            the images.
    """
    dataset = run.dataset or profile_dataset(run)
    if dataset in FEATURES:
        from compatlib.data import sources

        for encoder in profile_encoders(run):
            sources.load(dataset, "train", encoder=encoder)
    if dataset in FOLDERS and not data_files(run):
        from compatlib.data import sources

        print(f"fetching data set {dataset}", flush=True)
        sources.load(dataset, "train")


def withdraw_stale(run: Run, pages: Sequence[str]) -> None:
    """Remove executed pages that are stale, and the HTML if it shows anything that is.

    So that nobody takes an earlier book for this one while, or after, the build of this one fails.
    """
    for page in pages:
        if changed_parts(page, run) != ():  # None: no page there, or one that cannot be read
            run.page(page).unlink(missing_ok=True)
    if run.html.parent.is_dir() and not is_fresh(run):
        shutil.rmtree(run.html.parent)


def _snakemake_command(run: Run, target: Path, cores: int | None, executor: str) -> list[str]:
    command = [sys.executable, "-m", "snakemake", str(target.relative_to(run.root))]
    command += ["--snakefile", str(run.root / "Snakefile"), "--directory", str(run.root)]
    command += ["--workflow-profile", "executors/common", "--cores", str(cores or "all")]
    command += ["--profile", _profile_folder(executor, run)] if executor else []
    # Snakemake would take a name such as 007 or 1e3 for a number, and strips quotes.
    return [*command, "--config", *(f"{name}=!!str {value}" for name, value in run.parameters.items() if value)]


def _profile_folder(executor: str, run: Run) -> str:
    """Where an executor profile is, seen from the repository: Snakemake takes a bracket in its path for a pattern.

    Raises:
        ValueError: there is none, or it can be reached by such a path alone, or the repository by one that Snakemake's
            plug-in for queues cannot quote.
    """
    folder = Path(executor).resolve()
    path = os.path.relpath(folder, run.root)
    if not folder.is_dir():
        raise ValueError(f"there is no executor profile {executor!r}; name its folder, such as executors/slurm")
    if glob.escape(path) != path:
        raise ValueError(f"the path of the executor profile, {path}, holds one of *?[; put the folder elsewhere")
    if set(str(run.root)) & set('"$`\\'):
        raise ValueError(f'the path {run.root} holds one of "$`\\, which no job of a queue bears; move the checkout')
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m compatlib.study.publishing.workflow book | page`, with the run's parameters as options."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.workflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("book", "execute all pages and build the HTML"), ("page", "execute one page")):
        command = commands.add_parser(name, help=words)
        for parameter in ("profile", "dataset", "seeds"):
            command.add_argument(f"--{parameter}", default="")
        command.add_argument("--cores", type=int, help="processors to use; all by default")
        command.add_argument("--executor", default="", help="folder of an executor profile for a cluster")
        if name == "page":
            command.add_argument("name", help="name of a notebook")
    chosen = vars(parser.parse_args(arguments))
    try:
        return _obey(chosen)
    except (ValueError, OSError, BookError) as error:  # OSError: such as a checkout that cannot be written to
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _obey(chosen: dict) -> int:
    run = Run.from_config({name: chosen[name] for name in ("profile", "dataset", "seeds")})
    pages = page_names() if chosen["command"] == "book" else (chosen["name"],)
    for page in pages:
        run.notebook(page)
    if chosen["command"] == "book":
        check_contents(run.root)
    target = run.html if chosen["command"] == "book" else run.page(chosen["name"])
    fetch_data(run)
    start = time.monotonic()
    status = build(run, target, pages, cores=chosen["cores"], executor=chosen["executor"])
    if status == 130:
        print(f"\ninterrupted; the next `make {chosen['command']}` goes on from here", file=sys.stderr)
    elif status == 0:
        print(f"\n{chosen['command']} of run {run.name}, after {duration_in_words(time.monotonic() - start)}: {target}")
    return status


if __name__ == "__main__":
    sys.exit(main())
