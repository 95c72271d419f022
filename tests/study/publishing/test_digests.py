"""Digests of code: what a module executes when it is imported, and what counts as a change of it."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compatlib.study.publishing import digests
from compatlib.study.publishing.digests import code_digest, imported_modules, module_closure

FROZEN = "3dc5989b8ea5f2b3f913796c1af4bd4fd7ab172d477cd80ff665cdf46d42bb85"
FILES = {
    "__init__.py": '"""The package."""\n',
    "top.py": "from compatlib.inner import middle\nfrom compatlib.flat import value as other\n",
    "flat.py": "value = 1\n",
    "unused.py": "value = 2\n",
    "inner/__init__.py": "from compatlib import reexported\n",
    "inner/middle.py": "def late():\n    from . import sibling\n    from .deep.leaf import y\n    from ..up import z\n",
    "inner/sibling.py": "import compatlib.dotted as renamed\n",
    "inner/deep/__init__.py": "",
    "inner/deep/leaf.py": "y = 3\n",
    "up.py": "z = 4\n",
    "dotted.py": "import numpy\n",
    "reexported.py": (
        "from typing import TYPE_CHECKING\nimport typing\n"
        "if TYPE_CHECKING:\n    from compatlib import typed\nelse:\n    from compatlib import untyped\n"
        "if typing.TYPE_CHECKING:\n    import compatlib.typed\n"
    ),
    "typed.py": "",
    "untyped.py": "",
    "loop_a.py": "import compatlib.loop_b\n",
    "loop_b.py": "import compatlib.loop_a\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "compatlib"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_closure_follows_every_kind_of_import(package):
    assert module_closure(["compatlib.top"], package_folder=package) == (
        "compatlib",
        "compatlib.dotted",
        "compatlib.flat",
        "compatlib.inner",
        "compatlib.inner.deep",
        "compatlib.inner.deep.leaf",
        "compatlib.inner.middle",
        "compatlib.inner.sibling",
        "compatlib.reexported",
        "compatlib.top",
        "compatlib.untyped",
        "compatlib.up",
    )


def test_closure_ends_where_modules_import_each_other(package):
    assert module_closure(["compatlib.loop_a"], package_folder=package) == (
        "compatlib",
        "compatlib.loop_a",
        "compatlib.loop_b",
    )


def test_closure_is_what_python_loads(package):
    """The interpreter is the oracle, for imports at the top of modules."""
    (package / "inner" / "middle.py").write_text(
        "from . import sibling\nfrom .deep.leaf import y\nfrom ..up import z\n"
    )
    code = "import sys, compatlib.top; print(*sorted(name for name in sys.modules if name.startswith('compatlib')))"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=package.parent, env={}, capture_output=True, text=True, check=True)
    assert module_closure(["compatlib.top"], package_folder=package) == tuple(loaded.stdout.split())


DIGESTS = """
from pathlib import Path
import compatlib
from compatlib.study.publishing.digests import code_digest
def now():
    return code_digest(["compatlib.training"])
"""
EDIT = """
before = now()
with (Path(compatlib.__file__).parent / "checkpoints.py").open("a") as file:
    file.write("edited = True")
assert now() == before
"""


def test_an_edit_during_a_page_is_not_taken_for_the_code_that_runs(repository):
    """A page of an hour ends with the digest of what it began with; the next one has another."""

    def call(code: str) -> str:
        command = [sys.executable, "-c", f"{DIGESTS}{code}print(now())"]
        return subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout

    assert call(EDIT) != call("")


@pytest.mark.parametrize("name", ["compatlib.absent", "numpy", "compatlib.flat.value", ""])
def test_unknown_module_is_refused_by_name(package, name):
    with pytest.raises(ValueError, match=f"{name!r}, imported by the caller, is no module"):
        module_closure([name], package_folder=package)


def test_import_of_an_absent_module_names_the_importer(package):
    (package / "flat.py").write_text("import compatlib.gone\n")
    with pytest.raises(ValueError, match=r"'compatlib.gone', imported by compatlib.flat"):
        code_digest(["compatlib.top"], package_folder=package)


@pytest.mark.parametrize(
    "text",
    [
        "z = 4  # a comment\n",
        '"""What this module is for."""\n\nz = 4\n"""What z is."""\n',
        "z   =   (\n    4\n)\n",
    ],
)
def test_words_and_layout_do_not_change_the_digest(package, text):
    before = code_digest(["compatlib.top"], package_folder=package)
    (package / "up.py").write_text(text)
    assert code_digest(["compatlib.top"], package_folder=package) == before


def test_docstrings_of_functions_and_classes_do_not_change_the_digest(package):
    code = "class A:\n    {0}\n    def f(self):\n        {0}\n        return 1\n"
    (package / "up.py").write_text(code.format('"""One."""'))
    before = code_digest(["compatlib.up"], package_folder=package)
    (package / "up.py").write_text(code.format('"""Another, longer."""'))
    assert code_digest(["compatlib.up"], package_folder=package) == before


CLASS = "class A:\n    def f(self, x: int, *y) -> str:\n        return f'{x:>{self.width}} of {y}'\n"


def test_digest_is_frozen(package):
    """As Python 3.11, 3.12.1 and 3.13 have it: their trees of functions, classes and formats differ."""
    (package / "up.py").write_text(CLASS)
    assert code_digest(["compatlib.up"], package_folder=package) == FROZEN


def test_what_later_pythons_add_to_a_tree_does_not_change_the_digest(package, monkeypatch):
    """Empty lists of type parameters, and an empty text at a format's end."""
    (package / "up.py").write_text(CLASS)
    plain, parse, touched = code_digest(["compatlib.up"], package_folder=package), ast.parse, []

    def later(*arguments, **options):
        tree = parse(*arguments, **options)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                node._fields, node.type_params = (*type(node)._fields, "type_params"), []
                touched.append(node)
            elif isinstance(node, ast.JoinedStr):
                node.values.append(ast.Constant(""))
                touched.append(node)
        return tree

    digests._parse.cache_clear()
    monkeypatch.setattr(ast, "parse", later)
    try:
        assert code_digest(["compatlib.up"], package_folder=package) == plain
    finally:
        digests._parse.cache_clear()
    assert len(touched) == 4  # the class, its function, the format and the width within it


@pytest.mark.parametrize("changed", ["up.py", "inner/deep/leaf.py", "inner/__init__.py", "dotted.py", "untyped.py"])
def test_code_of_any_module_on_the_way_changes_the_digest(package, changed):
    before = code_digest(["compatlib.top"], package_folder=package)
    path = package / changed
    path.write_text(path.read_text() + "more = 5\n")
    assert code_digest(["compatlib.top"], package_folder=package) != before


@pytest.mark.parametrize("changed", ["unused.py", "typed.py"])
def test_code_that_is_not_imported_does_not_change_the_digest(package, changed):
    before = code_digest(["compatlib.top"], package_folder=package)
    (package / changed).write_text("value = 'other'\n")
    assert code_digest(["compatlib.top"], package_folder=package) == before


def test_digest_depends_on_neither_place_nor_order_nor_repetition(package, tmp_path):
    other = tmp_path / "elsewhere" / "compatlib"
    shutil.copytree(package, other)
    names = ["compatlib.top", "compatlib.unused"]
    digest = code_digest(names, package_folder=package)
    assert code_digest(names, package_folder=other) == digest
    assert code_digest([*reversed(names), "compatlib.top"], package_folder=package) == digest


def test_module_that_moves_changes_the_digest(package):
    before = code_digest(["compatlib.flat", "compatlib.up"], package_folder=package)
    first, second = (package / "flat.py").read_text(), (package / "up.py").read_text()
    (package / "flat.py").write_text(second)
    (package / "up.py").write_text(first)
    assert code_digest(["compatlib.flat", "compatlib.up"], package_folder=package) != before


def test_imports_of_a_notebooks_code(package):
    code = "import numpy as np\nfrom compatlib.inner import middle, absent\nimport compatlib.flat\n"
    assert imported_modules(code, package_folder=package) == (
        "compatlib.flat",
        "compatlib.inner",
        "compatlib.inner.middle",
    )


def test_installed_package_is_the_default():
    names = module_closure(["compatlib.study.publishing.digests"])
    own = {f"compatlib.study.publishing{name}" for name in ("", ".digests", ".environment")}
    assert set(names) == {"compatlib", "compatlib.data", "compatlib.data.folders", "compatlib.study", *own}
    assert code_digest(names) == code_digest(names, package_folder=Path(digests.__file__).parents[2])
