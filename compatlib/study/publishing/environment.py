"""The environment of pages: what the user's shell has set changes none of them.

Every command of this package (`python -m compatlib.study.publishing.…`) begins in an environment that is made here,
and so does every notebook's kernel. Of the user's variables stay those that say where things are, how to reach a
network, and which processors and how many of them may be used: `KEPT` and `THREADS`. All others go, whatever they are:
a plotting backend, a start-up file, a locale, another repository's GIT_DIR, the task of a queue. A new variable on
which a page may depend is named here or nowhere.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import compatlib
from compatlib.data import folders

ROOT = Path(compatlib.__file__).resolve().parents[1]
HOME = ROOT / "build" / "home"  # for who has none

_KEPT = (
    "PATH HOME USER LOGNAME SHELL TMPDIR LD_LIBRARY_PATH LD_PRELOAD VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH "
    "PYTHONNOUSERSITE MPLCONFIGDIR NUMBA_CACHE_DIR "
    "http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE "
    "CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_HOME CUDA_PATH NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES "
    "HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES "
    "COMPATLIB_DATA COMPATLIB_FEATURES COMPATLIB_ARTIFACTS COMPATLIB_BUILD COMPATLIB_PROGRESS"
)
KEPT = frozenset(_KEPT.split())
# Kept where they are whole numbers: of others the libraries complain, in the middle of a page.
THREADS = frozenset({"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"})
# Set for every page. An empty file of settings for matplotlib stands before the user's own. Threads that wait for each
# other sleep: where other work has the processor too, they would take most of it (measured: 330 seconds for 80).
FIXED = {
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",
    "LC_CTYPE": "C.UTF-8",
    "TZ": "UTC",
    "MATPLOTLIBRC": os.devnull,
    "JUPYTER_PREFER_ENV_PATH": "1",
    "OMP_WAIT_POLICY": "passive",
}
_CACHE = ROOT / "data" / "cache"
_FOLDERS = {
    "COMPATLIB_DATA": _CACHE,
    "COMPATLIB_FEATURES": _CACHE / "features",
    "COMPATLIB_ARTIFACTS": _CACHE / "artifacts",
}
# What goes from the environment of the workflow, which hands the rest to a queue's commands.
_OF_THE_WORKFLOW = ("PYTHON", "SNAKEMAKE_", "BASH_ENV")
_ENTERED = "compatlib_entered"  # an option of Python's, which no child inherits as it would a variable


def of_page(spare_home: Path = HOME) -> dict[str, str]:
    """The variables of a page or of a command that makes one, from those of this process.

    Args:
        spare_home: stands for a home that is not there or cannot be written to; made if it is needed.

    Raises:
        ValueError: one of the variables of `_FOLDERS` names no folder, or the checkout's path cannot be used.
    """
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    threads = {name: value for name, value in os.environ.items() if name in THREADS}
    kept |= {name: value for name, value in threads.items() if value.isdecimal() and int(value)}
    return _placed(kept, spare_home) | FIXED


def of_workflow(spare_home: Path = HOME) -> dict[str, str]:
    """The variables of the process that hands out pages: a queue's commands, such as `sbatch`, want the user's own.

    Raises:
        ValueError: as `of_page`.
    """
    own = {name for name in os.environ if name in KEPT or not name.startswith(_OF_THE_WORKFLOW)}
    kept = {name: value for name, value in os.environ.items() if name in own}
    return _placed(kept, spare_home) | {"PYTHONUTF8": "1"}


@contextlib.contextmanager
def kernel_environment(scratch: Path, values: Mapping[str, str]) -> Iterator[None]:
    """Set a page's variables, and these `values`, for a while: a kernel that is started meanwhile inherits them.

    It imports the very compatlib whose digest the page carries, looks for data and models where this process does, and
    no start-up file or history of the user's IPython has a part in it; `scratch` stands for their folder.
    """
    before = dict(os.environ)
    own = of_page(scratch / "home") | {"IPYTHONDIR": str(scratch / "ipython")}
    os.environ.clear()
    os.environ.update(own | dict(values))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def enter() -> None:
    """Begin the command that this process was started for anew, in its own environment, unless it is there already.

    Some variables work only while Python starts. What a terminal cannot write is escaped there, so that no error hides
    behind its own message.
    """
    words = (word.removeprefix("-m") for word in sys.orig_argv[1:])
    command = next((word for word in words if word.startswith(f"{__package__}.")), None)
    if command is None or _ENTERED in sys._xoptions:
        return
    make = of_workflow if command == f"{__package__}.workflow" else of_page
    try:
        wanted = make()
    except ValueError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    wanted["PYTHONIOENCODING"] = f"{getattr(sys.stdout, 'encoding', None) or 'utf-8'}:backslashreplace"
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, "-X", _ENTERED, *sys.orig_argv[1:]], wanted)


def check_path(root: Path) -> None:
    """Refuse a checkout whose path cannot be handed on to Python, to a shell or to a file.

    Raises:
        ValueError: it holds a colon, which separates paths, a line break, or bytes that are no UTF-8.
    """
    path = str(root)
    if any(sign in path for sign in ":\n\r") or path.encode(errors="replace").decode() != path:
        raise ValueError(
            f"the checkout's path is {path!r}: it must hold no colon, no line break and only UTF-8; move or rename it"
        )


def _placed(kept: Mapping[str, str], spare_home: Path) -> dict[str, str]:
    """With paths that mean the same wherever a process works, and a home."""
    check_path(ROOT)
    placed = dict(kept)
    for name, default in _FOLDERS.items():
        placed[name] = str(folders.chosen(name, default))
    paths = [os.path.abspath(path) for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    placed["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(ROOT), *paths)))
    if not os.access(kept.get("HOME", ""), os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            spare_home.mkdir(parents=True, exist_ok=True)
            placed["HOME"] = str(spare_home)
    return placed
