"""The layers hold: in the package by import-linter, in the notebooks by what they import and define."""

import ast
from pathlib import Path

import nbformat
import pytest
from importlinter.cli import lint_imports

PROJECT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))

# What a page may use: the study, the methods it is about, and what shows a table or a picture.
ALLOWED = ("compatlib.study", "compatlib.methods", "matplotlib", "pandas", "IPython.display", "myst_nb")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def violations(source: str) -> list[str]:
    """Imports and definitions in a cell that belong into the library."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DEFINITIONS):
            found.append(f"line {node.lineno} defines {getattr(node, 'name', 'a function')}")
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        outside = [name for name in names if not any(f"{name}.".startswith(f"{valid}.") for valid in ALLOWED)]
        found += [f"line {node.lineno} imports {name}" for name in outside]
    return found


@pytest.fixture(autouse=True)
def loggers_as_they_were(monkeypatch):
    """Import-linter's command disables every logger that is there; later tests of this process listen to ours."""
    monkeypatch.setattr("importlinter.cli.logging_config.dictConfig", lambda values: None)


def test_layers_of_the_package(monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert lint_imports(config_filename=str(PROJECT / ".importlinter"), no_cache=True) == 0


MODULES = (  # a package before what is in it
    "files",
    "evaluation",
    "data",
    "models",
    "checkpoints",
    "embedding",
    "gallery",
    "training",
    "methods",
    "study",
    "study.settings",
    "study.lab",
    "study.chapters",
    "study.chapters.problem",
    "study.chapters.bct",
    "study.chapters.cmp_nas",
    "study.chapters.dual_tuning",
    "study.chapters.fct",
    "study.chapters.sfsc",
    "study.chapters.grid",
    "study.publishing",
)


@pytest.mark.parametrize(
    ("module", "imported", "is_broken"),
    [
        ("methods", "models", False),
        ("data", "models", True),
        ("data", "files", False),
        ("files", "data", True),
        ("evaluation", "data", True),
        ("training", "methods", True),
        ("embedding", "checkpoints", False),
        ("methods", "study.settings", True),
        ("study.publishing", "study.lab", False),
        ("study.publishing", "study.chapters.bct", False),
        ("study.chapters", "study.publishing", True),
        ("study.chapters.bct", "study.publishing", True),
        ("study.chapters.bct", "study.lab", False),
        ("study.chapters.bct", "methods", False),
        ("study.lab", "study.chapters", True),
        ("study.lab", "study.chapters.bct", True),
        ("study.lab", "study.publishing", True),
        ("study.lab", "study.settings", False),
        ("study.settings", "study.lab", True),
        ("study.settings", "training", False),
        ("study.chapters.bct", "study.chapters.problem", True),
        ("study.chapters.problem", "study.chapters.sfsc", True),
        ("study.chapters.grid", "study.chapters.sfsc", False),
        ("study.chapters.bct", "study.chapters.grid", True),
        ("study.chapters.bct", "study.settings", False),
    ],
)
def test_a_wrong_import_is_found(tmp_path, monkeypatch, module, imported, is_broken):
    """Every contract can fail: the same ones over an empty package of the same layers, with one import."""
    make_package(tmp_path, *MODULES)
    tmp_path.joinpath("layered", *module.split("."), "__init__.py").write_text(f"import layered.{imported}\n")
    assert lint(tmp_path, monkeypatch) == int(is_broken)


@pytest.mark.parametrize("extra", ["more", "study.more", "study.chapters.more"])
def test_a_module_without_a_layer_is_found(tmp_path, monkeypatch, extra):
    make_package(tmp_path, *MODULES, extra)
    assert lint(tmp_path, monkeypatch) == 1


def make_package(folder, *modules):
    for name in ("", *modules):
        path = folder.joinpath("layered", *filter(None, name.split(".")))
        path.mkdir(parents=True)
        (path / "__init__.py").touch()


def lint(folder, monkeypatch) -> int:
    (folder / ".importlinter").write_text((PROJECT / ".importlinter").read_text().replace("compatlib", "layered"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return lint_imports(config_filename=".importlinter", no_cache=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_only_calls_the_study(path):
    cells = nbformat.read(path, as_version=4).cells
    found = [(number, violations(cell.source)) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"]
    assert [entry for entry in found if entry[1]] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_a_cell_of_parameters_and_alternative_texts(path):
    cells = nbformat.read(path, as_version=4).cells
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    for number, cell in enumerate(cells, 1):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), f"picture of cell {number} has no text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_its_outputs(path):
    """Without them nbval compares nothing; `make notebooks` writes them."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from compatlib.study.lab import rows\nfrom compatlib.methods.bct import InfluenceLoss", 0),
        ("import matplotlib.pyplot as plt", 0),
        ("from IPython.display import Markdown", 0),
        ("import torch", 1),
        ("from compatlib.training import fit", 1),
        ("from compatlib import study", 0),
        ("from compatlib import training", 1),
        ("import compatlib.studying", 1),
        ("def f(): pass", 1),
        ("class A: pass", 1),
        ("rank = lambda row: row.x\nimport numpy, scipy", 3),
    ],
)
def test_what_counts_as_a_violation(source, found):
    assert len(violations(source)) == found
