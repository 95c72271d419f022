"""Where a page's numbers come from: commit, parameters, versions, machine, duration, data."""

import html
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import psutil

import compatlib

# When this process, a notebook's kernel, was started, by the clock that nobody sets.
_BEGUN = time.monotonic() - (time.time() - psutil.Process().create_time())

PACKAGES = ("torch", "numpy", "faiss-cpu", "compatlib")


class Settings(Protocol):
    """Settings of a run, as pydantic's models are."""

    def model_dump(self) -> dict:
        """Names and values, nested where the settings are."""
        ...


class Provenance:
    """A table of names and values; shown as HTML in a page and as text elsewhere."""

    def __init__(self, rows: Mapping[str, str]):
        self.rows = dict(rows)

    def __repr__(self) -> str:
        width = max(map(len, self.rows), default=0)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self.rows.items())

    def _repr_html_(self) -> str:
        lines = (
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
            for name, value in self.rows.items()
        )
        return f'<table class="table provenance"><tbody>{"".join(lines)}</tbody></table>'


def provenance(
    settings: Settings, artifacts: Mapping[str, str] | None = None, *, data: Mapping[str, str] | None = None
) -> Provenance:
    """The table that stands at the end of every page.

    Args:
        settings: the run's settings; an empty value means that the profile's was taken.
        artifacts: name of a trained model → the key it is kept under.
        data: name of a data set or split → hash of its contents.
    """
    commit, is_dirty = source_commit()
    rows = {
        "commit": commit + (", with changes that were not committed" if is_dirty else ""),
        "parameters": ", ".join(f"{name} = {_words(value)}" for name, value in _flat(settings.model_dump())),
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "device": device(),
        "duration": f"{time.monotonic() - _BEGUN:.0f} s",
    }
    rows |= {f"data {name}": value for name, value in (data or {}).items()}
    rows |= {f"artifact {name}": key for name, key in (artifacts or {}).items()}
    return Provenance(rows)


def source_commit(folder: Path | None = None) -> tuple[str, bool]:
    """Commit of the repository that holds compatlib's source, and whether files in it differ from that commit.

    Published rows and models are results: those that a run has just written do not make its later ones doubtful.
    Without git, or outside of a repository, the commit is "unknown" and nothing is said to differ. What git's variables
    name, in a commit's hook for instance, is not asked for, nor is what the user's own settings have git show.
    """
    folder = folder or Path(compatlib.__file__).resolve().parents[1]
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if commit is None or not (folder / ".git").exists():
        return "unknown", False
    shown = ("--porcelain", "--untracked-files=normal", "--ignore-submodules=none")
    return commit, bool(_git(folder, "status", *shown, "--", ".", ":!data/published"))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def device() -> str:
    """The accelerator that torch sees, else the processor, its cores, and the operating system."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A repository around this one is another one.
    environment |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    options = {"capture_output": True, "check": True, "timeout": 30, "env": environment}
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], **options)
        return done.stdout.decode(errors="replace").strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _flat(values: Mapping[str, object], prefix: str = ""):
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)
