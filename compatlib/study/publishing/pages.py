"""Executing a page: one notebook with its parameters through papermill, watched, and kept for a look when it fails."""

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import yaml

from compatlib.files import replacing
from compatlib.study.lab.provenance import source_commit
from compatlib.study.publishing import processes, reporting
from compatlib.study.publishing.environment import kernel_environment
from compatlib.study.publishing.runs import ROOT, Run, page_names, page_parts

# These are texts to every notebook, whatever they look like: "0" is a list of one seed.
_TEXTS = ("profile", "dataset", "seeds")

# What a page does not show of a cell, or shows folded.
_HIDING = {"remove-cell", "remove-input", "hide-cell", "hide-input"}

# How much of a failed cell's trace is told; all of it stands in the kept notebook.
_TRACE_LINES = 15


class PageError(Exception):
    """A page could not be executed; the message names notebook, cell, error and where the executed notebook is kept."""


def execute(notebook: Path, output: Path, parameters: Mapping[str, object], log: Path | None = None) -> float:
    """Execute a notebook with these parameters and write it to `output` once every cell succeeded.

    While it runs the notebook is written to `log`, where it stays with the failing cell when one fails. The kernel
    works in the notebook's folder, with the compatlib that this process uses, wherever the call came from. It sees none
    of the user's variables but those that `environment` names.

    Args:
        notebook: the notebook; its own outputs play no part.
        output: the executed notebook, another file; carries under `metadata.compatlib` what it was made from.
        parameters: names and values for the cell that is tagged `parameters`.
        log: by default `output` with ".log.ipynb" at its end.

    Returns:
        What it took, in seconds.

    Raises:
        ValueError: there is no such notebook, or it has no such parameter; or `output` or `log` would take the place of
            a notebook that is read, or of one another, or is no file *.ipynb.
        PageError: a cell raised an error, or the kernel died.
    """
    import papermill

    notebook, output = Path(notebook).absolute(), Path(output).resolve()
    log = Path(log).resolve() if log else output.with_suffix(".log.ipynb")
    _check_parameters(notebook, parameters)
    _check_written(notebook, output, log)
    log.parent.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = processes.only_build(Path(f"{log}.lock"), f"page {notebook.stem} is being executed by another process")
    with lock, tempfile.TemporaryDirectory() as scratch:
        failure = log.with_suffix(".failed.txt")
        failure.unlink(missing_ok=True)
        output.unlink(missing_ok=True)
        stamp = _stamp(notebook, parameters)
        progress = Path(scratch) / "progress.json"
        n_cells = len(nbformat.read(notebook, as_version=4).cells)
        reporter = reporting.Reporter(notebook.stem, n_cells, progress, expected_seconds=_last_duration(log))
        with reporter, kernel_environment(Path(scratch), {reporting.VARIABLE: str(progress)}):
            try:
                executed = papermill.execute_notebook(
                    _plain(notebook),
                    _plain(log),
                    dict(parameters),
                    cwd=str(notebook.parent),
                    progress_bar=False,
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                    on_cell_start=lambda cell, cell_index: None if _is_added(cell) else reporter.cell_started(),
                )
            except Exception as error:
                told = _explain(notebook, log, error)
                failure.write_text(told, encoding="utf-8")
                raise PageError(told) from error
        for name in ("input_path", "output_path"):
            executed.metadata["papermill"].pop(name)  # they tell of the machine's folders
        seconds = round(reporter.elapsed, 1)
        _hide_as_parameters(executed)
        executed.metadata["compatlib"] = stamp | {"seconds": seconds, "finished": time.time()}
        _write(executed, output)
        reporter.say(f"100% | done in {reporting.duration_in_words(seconds)}")
        return seconds


def page_metadata(path: Path) -> dict | None:
    """What an executed notebook says of itself: parts, parameters, commit, seconds…; None if it is no executed page."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["metadata"]["compatlib"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _check_parameters(notebook: Path, parameters: Mapping[str, object]) -> None:
    if not notebook.is_file():
        raise ValueError(f"there is no notebook {notebook}; the pages are {', '.join(page_names()) or 'none'}")
    valid = parameter_names(notebook)
    unknown = sorted(set(parameters) - set(valid))
    if unknown:
        raise ValueError(
            f"{notebook.name} has no parameter {', '.join(map(repr, unknown))}; its parameters are {', '.join(valid)}"
        )


def _check_written(notebook: Path, output: Path, log: Path) -> None:
    """Refuse to write over what is read: the notebook itself, by whatever name, and the project's other notebooks."""
    if _is_same(output, log):
        raise ValueError(f"{output} is named as the output and as the log; name two files")
    for what, path in (("output", output), ("log", log)):
        if path.suffix != ".ipynb" or path.is_dir():
            found = "a folder" if path.is_dir() else "no notebook"
            raise ValueError(f"the {what} {path} is {found}; name a file *.ipynb")
        if _is_same(path, notebook) or _is_same(path.parent, ROOT / "notebooks"):
            raise ValueError(
                f"the {what} {path} would take the place of a notebook that is no output; name another file "
                "(`make notebooks` stores outputs in the project's own)"
            )


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, also by a link or another spelling."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def parameter_names(notebook: Path) -> tuple[str, ...]:
    """Names of a notebook's parameters, in the order of its cell tagged `parameters`.

    Raises:
        ValueError: no cell carries that tag, so that papermill would run the notebook with its defaults.
    """
    import papermill

    cells = nbformat.read(notebook, as_version=4).cells
    if not any("parameters" in cell.metadata.get("tags", []) for cell in cells):
        raise ValueError(f"no cell of {notebook.name} is tagged 'parameters'; tag the one which sets the defaults")
    return tuple(papermill.inspect_notebook(_plain(notebook)))


def _stamp(notebook: Path, parameters: Mapping[str, object]) -> dict:
    """What the executed page is made from; the parts of a notebook from elsewhere are not known."""
    commit, is_dirty = source_commit()
    stamp = {"parameters": dict(parameters), "commit": commit, "dirty": is_dirty, "parts": {}}
    if _is_same(notebook, ROOT / "notebooks" / notebook.name) and "profile" in parameters:
        run = Run(**{name: str(parameters.get(name, "")) for name in _TEXTS})
        stamp["parts"] = page_parts(notebook.stem, run, parameters)
    return stamp


def _explain(notebook: Path, log: Path, error: Exception) -> str:
    lines = [f"page {notebook.stem} failed: {_shown(notebook)}"]
    executed = nbformat.read(log, as_version=4).cells if log.is_file() else []
    cells = [cell for cell in executed if not _is_added(cell)]
    failed = next((number for number, cell in enumerate(cells, 1) if _has_error(cell)), None)
    if failed is not None:
        lines[0] += f", cell {failed} of {len(cells)}, which begins"
        lines.append(f"    {cells[failed - 1].source.strip().splitlines()[0]}")
    trace = getattr(error, "traceback", None)
    lines += re.sub(r"\x1b\[[0-9;]*m", "", "".join(trace)).splitlines()[-_TRACE_LINES:] if trace else []
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    lines.append(f"{name}: {value}")
    if log.is_file():
        lines.append(f"the notebook, executed up to there, is kept for a look: {_shown(log)}")
    return "\n".join(lines)


def _is_added(cell: nbformat.NotebookNode) -> bool:
    """Whether papermill added this cell: the parameters it was given, and marks around an error."""
    return bool({"injected-parameters", "papermill-error-cell-tag"} & set(cell.metadata.get("tags", [])))


def _hide_as_parameters(executed: nbformat.NotebookNode) -> None:
    """What papermill added is shown on the page as the cell of parameters is: folded, removed, or as it stands."""
    tags = [set(cell.metadata.get("tags", [])) for cell in executed.cells]
    hidden = next((own & _HIDING for own in tags if "parameters" in own), set())
    for cell, own in zip(executed.cells, tags, strict=True):
        if "injected-parameters" in own:
            cell.metadata["tags"] = sorted(own | hidden)


def _has_error(cell: nbformat.NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _plain(path: Path) -> str:
    """A path for papermill, which takes braces for format fields."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_duration(log: Path) -> float | None:
    """Seconds that the page took the last time it succeeded, None if that is not known."""
    try:
        metadata = json.loads(log.read_text(encoding="utf-8"))["metadata"]["papermill"]
        return None if metadata["exception"] else float(metadata["duration"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(notebook: nbformat.NotebookNode, path: Path) -> None:
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def _interrupt(*_):
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m compatlib.study.publishing.pages execute --notebook … --output … [-p name value]…`."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.pages", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("execute", help="execute one notebook")
    command.add_argument("--notebook", type=Path, required=True)
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--log", type=Path, help="where the notebook is written while it runs")
    command.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters")
    chosen = parser.parse_args(arguments)
    parameters = {name: value if name in _TEXTS else yaml.safe_load(value) for name, value in chosen.parameters}
    signal.signal(signal.SIGTERM, _interrupt)
    processes.stop_with_build()
    try:
        execute(chosen.notebook, chosen.output, parameters, chosen.log)
    except (ValueError, OSError, PageError) as error:
        print(f"\n{error}\n", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
