"""Files that are whole or as they were, and that one process at a time writes."""

import logging
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

# What the readers of NPY, NPZ, zip and PNG raise at a file that is cut off, altered or of another kind.
DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, EOFError, RuntimeError, SyntaxError),
    *(tokenize.TokenError, zlib.error, zipfile.BadZipFile),
)
_LOG = logging.getLogger(__name__)
_NUMBERS = count()
_UNTOLD = 1.0  # seconds of a wait that are not worth a word


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to: at the end it takes the place of `path`, after an error it is removed.

    The folder is made.

    Raises:
        OSError: the file cannot be written, as on a full disk; what was at `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_NUMBERS)}")
    with naming(path, "what was there is as it was"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, left: str) -> Iterator[None]:
    """Errors of the system that tell which file could not be written, and what is `left`: a full disk names none."""
    try:
        yield
    except OSError as error:
        if isinstance(error.__cause__, OSError):  # it tells already
            raise
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{path} could not be written ({reason}); {left}") from error


@contextmanager
def alone(lock: Path, doing: str) -> Iterator[None]:
    """Hold a lock, a file that is there for so long. Who has to wait is told for what, by a warning of the log.

    Args:
        lock: the file, in a folder that is there.
        doing: what another process holds it for, such as "writes gallery.npy".
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=_UNTOLD)
    except Timeout:
        _LOG.warning("waiting for another process, which %s (it holds %s)", doing, lock)
        held.acquire()
    try:
        yield
    finally:
        try:
            with suppress(OSError):  # Windows removes no file that is open
                lock.unlink()  # before the release: a lock that has no name is not taken for one
        finally:
            held.release()


def set_aside(path: Path) -> Path:
    """Give what is at `path` the first free name with `.damaged` behind; returns it."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
    kept = next(name for name in names if not os.path.lexists(name))
    os.replace(path, kept)
    return kept
