"""The outputs that notebooks are committed with: executed on profile smoke, and free of all that differs by the run."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from compatlib.files import replacing
from compatlib.study.publishing.environment import kernel_environment
from compatlib.study.publishing.runs import ROOT, page_names

# Outputs of cells with this tag are about one execution (time, commit), and are not stored.
UNSTORED_TAG = "provenance"


def refresh(path: Path) -> None:
    """Execute a notebook in place with its own parameters; twice on one machine gives the same bytes.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the notebook is left as it was.
        ValueError: the notebook was changed while it was executed; it is left as it is.
    """
    path = path.resolve()  # a link stays one
    before = path.read_bytes()
    notebook = nbformat.reads(before.decode("utf-8"), as_version=4)
    with tempfile.TemporaryDirectory() as scratch, kernel_environment(Path(scratch), {}):
        NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            record_timing=False,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
    clean(notebook)
    if path.read_bytes() != before:
        raise ValueError(f"{path} was changed while it was executed, and is left as it is; execute it again")
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def clean(notebook: nbformat.NotebookNode) -> None:
    """Take out of a notebook what differs from one execution, or one machine, to the next."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        for name in ("execution", "papermill", "scrolled", "collapsed", "ExecuteTime"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code" and UNSTORED_TAG in cell.metadata.get("tags", []):
            cell.outputs = []


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m compatlib.study.publishing.stored [name]…`: refresh the named notebooks, by default all."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.stored", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="name of a notebook; all by default")
    names = parser.parse_args(arguments).names or page_names()
    for name in names:
        if name not in page_names():
            print(f"there is no notebook {name!r}; there are {', '.join(page_names())}", file=sys.stderr)
            return 2
        print(f"notebooks/{name}.ipynb", flush=True)
        try:
            refresh(ROOT / "notebooks" / f"{name}.ipynb")
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
