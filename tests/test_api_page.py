"""The page of the library: complete, readable, and its examples run."""

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "compatlib"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


def test_every_public_module_of_the_library_is_documented():
    files = [path for path in PACKAGE.rglob("*.py") if "study" not in path.relative_to(PACKAGE).parts]
    public = {module_name(path) for path in files if not path.name.startswith("_")}
    documented = re.findall(r"automodule:: (\S+)", (PROJECT / "book" / "api.md").read_text())
    assert sorted(documented) == sorted(public)


def test_examples_of_docstrings():
    """Of all modules that have one, each module's examples in a namespace of their own."""
    for path in PACKAGE.rglob("*.py"):
        if re.search(r"^\s*>>> ", path.read_text(), flags=re.MULTILINE):
            outcome = doctest.testmod(importlib.import_module(module_name(path)))
            assert (outcome.failed, outcome.attempted > 0) == (0, True), path


@pytest.fixture(scope="module")
def docstrings():
    path = PROJECT / "book" / "_ext" / "docstrings.py"
    specification = importlib.util.spec_from_file_location("docstrings", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("what", "before", "after"),
    [
        ("function", ["The norm |x| of `a|b`, a*b and x_."], ["The norm \\|x\\| of `a|b`, a\\*b and x\\_.", ""]),
        ("function", ["Share: a first line.", ""], ["Share: a first line.", ""]),
        (
            "class",
            ["Scores.", "", "cmc: by rank,", "    in [0, 1].", "first, last: two", ""],
            ["Scores.", "", "- `cmc`: by rank,", "  in [0, 1].", "- `first, last`: two", ""],
        ),
        ("function", ["A.", "", "Args:", "    x: a"], ["A.", "", "Args:", "    x: a", ""]),
        ("property", ["The area: a mean."], ["The area – a mean.", ""]),
        ("module", [], []),
    ],
)
def test_docstrings_are_read_as_plain_text(docstrings, what, before, after):
    lines = list(before)
    docstrings._process(None, what, "name", None, None, lines)
    assert lines == after
