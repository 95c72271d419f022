"""Digests of source code: which modules a page depends on, and whether they changed.

A digest is taken over syntax trees without docstrings and comments, so that words may be improved without executing a
page again. Imports are read from the source and never executed; a module that is imported by a name computed at
run time (`importlib.import_module`) is not seen, and must be named by the caller.

A digest is the same under every Python that can run the code.

Of the package that is running, the sources are read once, when this module is imported: a file that is edited while a
page is executed must not be taken for the code that made its results.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import compatlib
from compatlib.data import folders

PACKAGE = "compatlib"
# Python 3.13 leaves empty lists out of a dump unless it is told not to.
_COMPLETE = {"show_empty": True} if sys.version_info >= (3, 13) else {}
_SOURCES = [path for path in folders.files(Path(compatlib.__file__).parent) if path.suffix == ".py"]
_RUNNING = {path: path.read_bytes() for path in _SOURCES}


def module_closure(names: Iterable[str], *, package_folder: Path | None = None) -> tuple[str, ...]:
    """Names of the compatlib modules that importing `names` executes, sorted.

    Followed are `import compatlib.x`, `from compatlib.x import y` (y may be a module) and relative imports, at any
    depth of the code; the `__init__` of every package on the way is included. Imports under `if TYPE_CHECKING` are
    left out, because they never run.

    Args:
        names: dotted names of modules inside compatlib, such as "compatlib.methods.bct".
        package_folder: the folder of the package `compatlib`; by default the one which is imported.

    Raises:
        ValueError: a name is no module of compatlib, or one of its modules imports a module which does not exist.
    """
    folder = package_folder or Path(compatlib.__file__).parent
    found: set[str] = set()
    waiting = [(name, "the caller") for name in names]
    while waiting:
        name, importer = waiting.pop()
        if name in found:
            continue
        path = _source(name, folder)
        if path is None:
            raise ValueError(
                f"{name!r}, imported by {importer}, is no module of {PACKAGE} in {folder}; "
                f"name one such as '{PACKAGE}.evaluation'"
            )
        found.add(name)
        waiting += [(parent, name) for parent in _parents(name)]
        waiting += [(imported, name) for imported in _imported(name, path, folder)]
    return tuple(sorted(found))


def code_digest(names: Iterable[str], *, package_folder: Path | None = None) -> str:
    """SHA-256, in hexadecimal, of the syntax trees of `module_closure(names)` without docstrings and comments.

    It changes when the code of any of these modules changes or a module joins or leaves them, and not when only words
    or the layout of the code do.

    Raises:
        ValueError: as `module_closure`.
    """
    folder = package_folder or Path(compatlib.__file__).parent
    total = hashlib.sha256()
    for name in module_closure(names, package_folder=folder):
        path = _source(name, folder)
        total.update(f"{name}={_read(path)[0]}\n".encode())
    return total.hexdigest()


def imported_modules(source: str, *, package_folder: Path | None = None) -> tuple[str, ...]:
    """Names of the compatlib modules that a piece of code (not inside compatlib) imports itself, sorted.

    `from compatlib.x import y` counts as `compatlib.x.y` where that is a module, else as `compatlib.x`.

    Raises:
        SyntaxError: `source` is no Python.
    """
    folder = package_folder or Path(compatlib.__file__).parent
    statements = _import_statements(ast.parse(source))
    return tuple(sorted(set(_resolve(statements, package="", folder=folder))))


def _source(name: str, folder: Path) -> Path | None:
    """The file that holds module `name`, None where there is none."""
    first, *rest = name.split(".")
    if first != PACKAGE:
        return None
    stem = folder.joinpath(*rest)
    candidates = (stem / "__init__.py", stem.with_suffix(".py")) if rest else (stem / "__init__.py",)
    return next((path for path in candidates if path.is_file()), None)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _imported(name: str, path: Path, folder: Path) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _resolve(_read(path)[1], package=package, folder=folder)


def _resolve(statements: Iterable[tuple[int, str, str | None]], *, package: str, folder: Path) -> Iterator[str]:
    """Turn import statements (level, module, imported name or None) into names of compatlib modules."""
    for level, module, imported in statements:
        base = module
        if level:
            ancestors = package.split(".")[: len(package.split(".")) - (level - 1)]
            base = ".".join([*ancestors, module] if module else ancestors)
        if base.split(".")[0] != PACKAGE:
            continue
        is_module = imported is not None and _source(f"{base}.{imported}", folder) is not None
        yield f"{base}.{imported}" if is_module else base


def _read(path: Path) -> tuple[str, tuple[tuple[int, str, str | None], ...]]:
    """Digest of a file's syntax tree, and its import statements."""
    running = _RUNNING.get(path)
    return _parse(path.read_bytes() if running is None else running, str(path))


@cache
def _parse(source: bytes, name: str) -> tuple[str, tuple[tuple[int, str, str | None], ...]]:
    tree = ast.parse(source, filename=name)
    statements = tuple(_import_statements(tree))
    dump = ast.dump(_Canonical().visit(tree), **_COMPLETE)
    return hashlib.sha256(dump.encode()).hexdigest(), statements


class _Canonical(ast.NodeTransformer):
    """Drops what is no code.

    Those are bare strings (docstrings, and notes below an attribute), the empty lists of type parameters that functions
    and classes have from Python 3.12 on, and the empty text that its first releases find at a format's end.
    """

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if getattr(node, "type_params", None) == []:
            del node.type_params
        return super().generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _import_statements(node: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """(level, module, imported name or None) of every import below `node` that can run."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield 0, alias.name, None
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield node.level, node.module or "", alias.name
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        for child in node.orelse:
            yield from _import_statements(child)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _import_statements(child)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"
