"""Load or train: what was trained once is kept under a key of everything that it depends on.

Key = settings + the parents' keys + the data's digest + the syntax trees (no docstrings, no comments) of the modules
whose code made it. Torch's version and the device are recorded beside, not keyed: a result of another processor is
still the result of the same study.
"""

import hashlib
import json
import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from compatlib.checkpoints import DamagedFileError, load_weights, read_tensors, write_tensors
from compatlib.study.digests import code_digest
from compatlib.training import Fit

REPOSITORY = Path(__file__).parents[2]
PUBLISHED_MODELS = REPOSITORY / "data" / "published" / "models"


@dataclass(frozen=True)
class Artifact:
    """Tensors by name, and what is known about them: key, settings, cost, history, versions, device, commit time."""

    key: str
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def folder() -> Path:
    """Where artifacts are kept: `$COMPATLIB_ARTIFACTS`, else `data/cache/artifacts` of the repository."""
    return Path(os.environ.get("COMPATLIB_ARTIFACTS") or REPOSITORY / "data" / "cache" / "artifacts")


def key_of(settings: Mapping[str, Any], *, data: str, modules: Sequence[str], parents: Sequence[str] = ()) -> str:
    """The key of an artifact, 64 hexadecimal digits.

    Args:
        settings: all that was chosen: network, recipe, seed, role… (JSON-able).
        data: digest of the images.
        modules: dotted names of the compatlib modules that make it; what they import is followed.
        parents: keys of the artifacts it is made from, such as an old model's.
    """
    content = {"settings": settings, "data": data, "code": code_digest(modules), "parents": list(parents)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_or_train(
    name: str, key: str, settings: Mapping[str, Any], train: Callable[[Path], tuple[Mapping[str, Tensor], Fit]]
) -> Artifact:
    """The artifact of `key`: published, or kept from an earlier run, or trained now.

    Processes that want the same artifact at the same time wait for the one that trains it. A damaged file is reported
    and trained again.

    Args:
        name: a readable name, the first part of the file's.
        key: from `key_of`.
        settings: kept beside the tensors for a reader.
        train: called with the path of a checkpoint to resume from; returns the tensors and the training's outcome.
    """
    found = _read(name, key, PUBLISHED_MODELS) or _read(name, key, folder())
    if found:
        return found
    path = _path(name, key, folder())
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        found = _read(name, key, folder())
        if found:
            return found
        checkpoint = path.with_suffix(".checkpoint")
        tensors, outcome = train(checkpoint)
        about = {"key": key, "name": name, "settings": dict(settings), **_circumstances(), **asdict(outcome)}
        write_tensors(path, tensors, about)
        checkpoint.unlink(missing_ok=True)
        return Artifact(key, dict(tensors), about)


def load_or_fit(
    name: str, key: str, settings: Mapping[str, Any], modules: nn.Module, fit: Callable[[Path], Fit]
) -> tuple[Artifact, bool]:
    """As `load_or_train` for modules, which end with the artifact's weights, on the processor and in eval mode.

    Args:
        name, key, settings: as `load_or_train`.
        modules: untrained; `fit` trains them in place.
        fit: called with the path of a checkpoint to resume from, only where there is no artifact.

    Returns:
        The artifact, and whether it had to be trained now.
    """
    is_new = False

    def train(checkpoint: Path) -> tuple[dict[str, Tensor], Fit]:
        nonlocal is_new
        is_new = True
        outcome = fit(checkpoint)
        # Copies: whoever trains the model on must not change the artifact.
        return {name: tensor.cpu().clone() for name, tensor in modules.state_dict().items()}, outcome

    artifact = load_or_train(name, key, settings, train)
    load_weights(modules, artifact.tensors, Path(file_name(name, key)))
    modules.cpu().eval()  # wherever they were trained
    return artifact, is_new


def publish(artifact: Artifact) -> Path:
    """Copy an artifact to `data/published/models`, where every later run finds it first; returns the file.

    A whole file that is there already is left as it is.
    """
    path = _path(artifact.about["name"], artifact.key, PUBLISHED_MODELS)
    if _read(artifact.about["name"], artifact.key, PUBLISHED_MODELS) is None:
        write_tensors(path, artifact.tensors, artifact.about)
    return path


def file_name(name: str, key: str) -> str:
    """What an artifact's file is called, wherever it lies."""
    return f"{name}-{key[:16]}.safetensors"


def _path(name: str, key: str, where: Path) -> Path:
    return where / file_name(name, key)


def _read(name: str, key: str, where: Path) -> Artifact | None:
    path = _path(name, key, where)
    try:
        tensors, about = read_tensors(path)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        warnings.warn(f"{error}; it is made again now", stacklevel=4)
        return None
    if about.get("key") != key:
        warnings.warn(f"{path} holds another artifact than its name says; it is made again now", stacklevel=4)
        return None
    return Artifact(key, tensors, about)


def _circumstances() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "torch": torch.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    """The processor's type and torch's instruction set: what decides a float32 result's last bits."""
    return f"{platform.machine()} processor, {torch.backends.cpu.get_cpu_capability()}"
