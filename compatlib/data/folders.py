"""Folders: the one that an environment variable names, and what lies below one, however it is reached."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def chosen(variable: str, default: Path) -> Path:
    """The folder that an environment variable names, absolute; `default` where it is not set or empty.

    A `~` stands for a home even where no shell has replaced it; a relative folder is one of the working folder.

    Raises:
        ValueError: the value begins or ends with a space, or names a file, or the home of nobody.
    """
    value = os.environ.get(variable, "")
    if not value:
        return default
    if value != value.strip():
        raise ValueError(f"{variable} is {value!r}, with a space at its beginning or end; set it without")
    try:
        path = Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{variable} is {value!r}, and there is no such home; name the whole path") from error
    if path.exists() and not path.is_dir():
        raise ValueError(f"{variable} is {value!r}, which is no folder; name a folder, or leave it unset for {default}")
    return path


def visible(paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` whose names do not begin with a dot, sorted.

    Systems and editors leave the others beside files of ours: `._a.yml`, `.DS_Store`, `.#a.py`.
    """
    return sorted(path for path in paths if not path.name.startswith("."))


def files(folder: Path) -> list[Path]:
    """All visible files below a folder, sorted; links to files and folders are followed, and a loop of them ends.

    None where there is no such folder. A file that is reached by two names is there twice.
    """
    return sorted(_files(folder, frozenset()))


def _files(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    own = folder.resolve()
    if own in above or not folder.is_dir():
        return
    for path in visible(folder.iterdir()):
        if path.is_dir():
            yield from _files(path, above | {own})
        elif path.is_file():
            yield path
