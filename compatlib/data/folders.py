"""Folders: the one that an environment variable names, and what lies below one, however it is reached."""

import os
from collections.abc import Callable, Iterable, Iterator
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


def is_hidden(name: str) -> bool:
    """Whether a name begins with a dot, as those that systems and editors leave beside ours: `._a.yml`, `.#a.py`."""
    return name.startswith(".")


def visible(paths: Iterable[Path]) -> list[Path]:
    """Those of `paths` that are not hidden, sorted."""
    return sorted(path for path in paths if not is_hidden(path.name))


def files(folder: Path) -> list[Path]:
    """All visible files below a folder, as `files_below`, but for links that lead nowhere."""
    return [path for path in files_below(folder, is_hidden) if path.is_file()]


def files_below(folder: Path, passed_over: Callable[[str], bool] | None = None) -> list[Path]:
    """Every file below a folder, at any depth, in alphabetical order; links are followed, to folders too.

    A link that leads to a folder it lies in itself is left out, one that leads nowhere is among the files.

    Args:
        folder: it need not exist.
        passed_over: names of files and folders that are left out.
    """
    return sorted(map(Path, _files(folder, passed_over, ()))) if folder.is_dir() else []


def _files(folder: Path | str, passed_over: Callable[[str], bool] | None, above: tuple) -> Iterator[str]:
    status = os.stat(folder)
    place = (status.st_dev, status.st_ino)
    if place in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if passed_over is not None and passed_over(entry.name):
                continue
            if entry.is_dir():
                yield from _files(entry.path, passed_over, (*above, place))
            else:
                yield entry.path
