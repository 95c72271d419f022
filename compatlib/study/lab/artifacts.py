"""Load or train: what was trained once is kept under a key of everything that it depends on.

Key = settings that are not their default + the parents' keys + the data's digest + the numbers of the behaviours that
made it (`lab.behaviours`). Torch's version and the device are recorded beside, not keyed: a result of another processor
is still the result of the same study. An artifact tells of itself all that its key is made of.
"""

import hashlib
import json
import os
import platform
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compatlib.checkpoints import DamagedFileError, load_weights, read_tensors, write_tensors
from compatlib.data import folders
from compatlib.files import alone, naming, set_aside
from compatlib.training import Fit

REPOSITORY = Path(__file__).parents[3]
PUBLISHED_MODELS = REPOSITORY / "data" / "published" / "models"


@dataclass(frozen=True)
class Artifact:
    """Tensors by name, and what is known about them: key and what it is made of, cost, history, versions, device."""

    key: str
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def folder() -> Path:
    """Where artifacts are kept: `$COMPATLIB_ARTIFACTS`, else `data/cache/artifacts` of the repository."""
    return folders.chosen("COMPATLIB_ARTIFACTS", REPOSITORY / "data" / "cache" / "artifacts")


def key_of(content: Mapping[str, Any]) -> str:
    """The key of an artifact, 64 hexadecimal digits, from all that it is made of.

    Args:
        content: JSON-able: kind, seed, settings, data, parents, behaviours (`make.key_content`).
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_or_fit(
    name: str, content: Mapping[str, Any], modules: nn.Module, fit: Callable[[Path], Fit]
) -> tuple[Artifact, bool]:
    """The artifact of `content`'s key: published, kept from an earlier run, or trained now.

    Processes that want the same artifact at the same time wait for the one that trains it. A damaged file is reported,
    kept under another name and trained again.

    Args:
        name: for people, the first part of the file's name.
        content: all that the key is made of, kept beside the tensors.
        modules: untrained; they end with the artifact's weights, on the processor and in eval mode.
        fit: called with the path of a checkpoint to resume from, only where there is no artifact; trains `modules`.

    Returns:
        The artifact, and whether it had to be trained now.
    """
    key, is_new = key_of(content), False
    artifact = _read(key, PUBLISHED_MODELS) or _read(key, folder())
    if artifact is None:
        path = _path(name, key, folder())
        with naming(path.parent, "let COMPATLIB_ARTIFACTS name a folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f"{key[:16]}.lock"), f"trains or loads {name}"):
            artifact = _read(key, folder())
            if artifact is None:
                artifact, is_new = _made(path, name, content, modules, fit), True
    load_weights(modules, artifact.tensors, Path(file_name(name, key)))
    modules.cpu().eval()  # wherever they were trained
    return artifact, is_new


def _made(
    path: Path, name: str, content: Mapping[str, Any], modules: nn.Module, fit: Callable[[Path], Fit]
) -> Artifact:
    """Train, and keep what came of it."""
    checkpoint = path.with_suffix(".checkpoint")
    outcome = fit(checkpoint)
    # Copies: whoever trains the model on must not change the artifact.
    tensors = {each: tensor.cpu().clone() for each, tensor in modules.state_dict().items()}
    about = {"key": key_of(content), "name": name, **content, **_circumstances(), **asdict(outcome)}
    _write(path, tensors, about)
    checkpoint.unlink(missing_ok=True)
    return Artifact(about["key"], tensors, about)


def publish(artifact: Artifact) -> Path:
    """Copy an artifact to `data/published/models`, where every later run finds it first; returns the file.

    A whole file that is there already is left as it is.
    """
    found = _read(artifact.key, PUBLISHED_MODELS)
    path = _path((found or artifact).about["name"], artifact.key, PUBLISHED_MODELS)
    if found is None:
        _write(path, artifact.tensors, artifact.about)
    return path


def _write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write an artifact; what has its name and is none, or is another, is kept beside."""
    if os.path.lexists(path):
        set_aside(path)
    write_tensors(path, tensors, about)


def file_name(name: str, key: str) -> str:
    """What an artifact's file is called, wherever it lies."""
    return f"{re.sub(r'[^a-z0-9._]+', '-', name.lower()).strip('-')}-{key[:16]}.safetensors"


def _path(name: str, key: str, where: Path) -> Path:
    return where / file_name(name, key)


def _read(key: str, where: Path) -> Artifact | None:
    """The artifact of a key, whatever its file is called besides: a name is for people, and may change."""
    for path in folders.visible(where.glob(f"*-{key[:16]}.safetensors")):
        try:
            tensors, about = read_tensors(path)
        except DamagedFileError as error:
            warnings.warn(f"{error}; it is made again now", stacklevel=4)
            continue
        if about.get("key") == key:
            return Artifact(key, tensors, about)
        warnings.warn(f"{path} holds another artifact than its name says; it is made again now", stacklevel=4)
    return None


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
