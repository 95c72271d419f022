"""A small repository to build: two pages of a few cells, and the project's own workflow. A disk that is full."""

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

# Of the user's shell. In a commit's hook tests would commit to its repository; nbval's kernels inherit from here.
_OF_THE_SHELL = (
    "GIT_ SLURM_ RANK WORLD_SIZE LOCAL_RANK MAKEFLAGS MAKELEVEL MPLBACKEND MATPLOTLIBRC IPYTHONDIR JUPYTER_PATH "
    "JUPYTER_CONFIG PYTHONSTARTUP COLUMNS NO_COLOR FORCE_COLOR SNAKEMAKE_"
)
for name in [name for name in os.environ if name.startswith(tuple(_OF_THE_SHELL.split()))]:
    del os.environ[name]

PROJECT = Path(__file__).resolve().parents[1]
LONGEST = ("tests/test_project_book.py", "tests/test_workflow.py", "notebooks/")
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
PARAMETERS = 'profile: str = "smoke"\ndataset: str = ""\nseeds: str = ""'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin, for a file is one process's work; pytest leaves the command line's order aside."""
    items.sort(key=lambda item: [not item.nodeid.startswith(name) for name in LONGEST])


def _write_notebook(path: Path, *sources: str, parameters: str | None = PARAMETERS) -> Path:
    """A notebook with a heading, a cell of parameters (unless None) and one cell for each of `sources`."""
    cells = [new_markdown_cell(f"# Page {path.stem}", id="heading")]
    if parameters is not None:
        cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}, id="parameters"))
    cells += [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(sources)]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="session")
def write_notebook() -> Callable[..., Path]:
    """Writes notebooks: `write_notebook(path, *sources, parameters=...)`."""
    return _write_notebook


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The project's code and workflow with two pages of its own; page `first` waits as long as a file `hold` exists."""
    root = tmp_path / "repository"
    shutil.copytree(PROJECT / "compatlib", root / "compatlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "executors", root / "executors")
    shutil.copytree(PROJECT / "book" / "_ext", root / "book" / "_ext")
    for name in ("Snakefile", "Makefile", "requirements.txt", "book/_config.yml"):
        shutil.copy(PROJECT / name, root / name)
    profiles = root / "compatlib" / "study" / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    profiles.mkdir()
    for name in ("smoke", "laptop"):
        (profiles / f"{name}.yml").write_text("dataset: glyphs\n")
    (root / "compatlib" / "example.py").write_text("value = 1\n")
    (root / "book" / "references.bib").touch()
    (root / "book" / "intro.md").write_text("# A book\n\nA formula: $x^2$.\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n  - file: chapters/first\n  - file: chapters/second\n"
    )
    wait = "import time\nfrom pathlib import Path\n\nwhile Path('../hold').exists():\n    time.sleep(0.1)"
    _write_notebook(root / "notebooks" / "first.ipynb", "from compatlib.example import value\n\nprint(value)", wait)
    _write_notebook(root / "notebooks" / "second.ipynb", "print(profile, dataset, seeds)")
    return root


@contextmanager
def _full_disk(room: int) -> Iterator[None]:
    """No file grows beyond so many bytes: the system refuses it in the middle of writing, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager]:
    """A disk that fills while a file is written: `with full_disk(bytes)`."""
    return _full_disk
