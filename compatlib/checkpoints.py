"""Weights and the state of a training on disk: safetensors with JSON in its header, never pickles.

One file holds everything and is renamed into place, so that a run killed at any moment leaves the old file or the new
one, never a mixture.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from compatlib.files import replacing, set_aside

# How a file of `write_checkpoint` begins, behind the eight bytes of the header's length.
_BEGINNING = b'{"__metadata__":{"about":"{\\"identity\\":'


class DamagedFileError(ValueError):
    """A file is not what it should be: cut off, of another kind, or without the tensors it should hold."""


@dataclass
class State:
    """How far a training is: steps taken, seconds spent, history rows, and the sums of the epoch under way."""

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float | int | str]] = field(default_factory=list)
    totals: dict[str, Tensor] = field(default_factory=dict)

    def add(self, term: str, value: Tensor) -> None:
        """Add a step's loss (a scalar) to the sum of its term, in float64 where the device has it."""
        value = value.double() if value.device.type != "mps" else value.float()
        self.totals[term] = self.totals[term] + value if term in self.totals else value


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able description to one safetensors file, atomically; the folder is made.

    Tensors that share memory, as those of a module that is registered twice, are written each for itself.

    Raises:
        OSError: the file cannot be written, as on a full disk; what was at `path` is as it was.
        ValueError: what is no dense tensor with values, by its name.
    """
    dense: dict[str, Tensor] = {}
    places = set()
    for name, tensor in tensors.items():
        try:
            tensor = tensor.detach().cpu().contiguous()
            place = tensor.untyped_storage().data_ptr()
        except (AttributeError, RuntimeError, ValueError) as error:  # of a lazy module, of a state of its own kind
            raise ValueError(f"{name!r} cannot be written to {path}: {error}") from error
        dense[name] = tensor.clone() if place in places else tensor
        places.add(place)
    with replacing(path) as temporary:
        try:
            save_file(dense, temporary, metadata={"about": json.dumps(about)})
            with temporary.open("rb") as file:  # on the disk before it takes the other's place
                os.fsync(file)
        except SafetensorError as error:
            if told := re.search(r"os error (\d+)", str(error)):  # what the system said
                raise OSError(int(told[1]), os.strerror(int(told[1]))) from error
            raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description that `write_tensors` wrote.

    Raises:
        FileNotFoundError: no such file.
        DamagedFileError: the file cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        if not path.is_file():
            raise ValueError("it is a folder, or no file that can be read again")
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            if not isinstance(about, dict):
                raise ValueError(f"its description is {about!r}")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DamagedFileError(f"{path} is damaged ({error}); delete it to have it made again") from error


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Put `tensors` into `module`, every one of them and nothing missing.

    Raises:
        DamagedFileError: names or shapes differ.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise DamagedFileError(f"{source} does not fit the module: {error}") from error


def write_checkpoint(
    path: Path, identity: Mapping[str, Any], modules: nn.Module, optimizer: torch.optim.Optimizer, state: State
) -> None:
    """Write everything that `read_checkpoint` needs to go on after the last step."""
    tensors = {f"modules/{name}": tensor for name, tensor in modules.state_dict().items()}
    tensors |= {f"totals/{term}": total for term, total in state.totals.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in entries.items() if value is not None}
    about = {"identity": identity, "step": state.step, "seconds": state.seconds, "history": state.history}
    about |= {"terms": list(state.totals)}  # the file sorts its tensors
    write_tensors(path, tensors, about)


def read_checkpoint(
    path: Path, identity: Mapping[str, Any], modules: nn.Module, optimizer: torch.optim.Optimizer
) -> State:
    """Restore modules and optimiser from `path` and return the state; a fresh state where there is no file.

    A damaged checkpoint is reported as a warning and kept under another name, and the training starts anew.

    Raises:
        ValueError: the file is no checkpoint, or belongs to a run of another recipe, seed, role, number of images or
            network; it is left as it is.
    """
    try:
        tensors, about = read_tensors(path)
    except FileNotFoundError:
        return State()
    except DamagedFileError as error:
        if not _begins_as_checkpoint(path):
            raise _refused(path, "is no checkpoint of a training") from error
        kept = set_aside(path)
        why = f"{path} is damaged ({error.__cause__})"
        warnings.warn(f"{why}; it is kept as {kept.name}, and the training starts anew", stacklevel=3)
        return State()
    if "identity" not in about:
        raise _refused(path, "is no checkpoint of a training")
    if about["identity"] != json.loads(json.dumps(identity)):
        raise _refused(path, f"is the checkpoint of another run: it was {about['identity']}, this is {dict(identity)}")
    try:
        load_weights(modules, _below(tensors, "modules"), path)
    except DamagedFileError as error:
        raise _refused(path, "is the checkpoint of another run: it trained another network") from error
    device = next(modules.parameters()).device
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "optimizer").items():
        index, _, key = name.partition("/")
        entries.setdefault(int(index), {})[key] = tensor
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    for index, own in entries.items():
        if any(value.ndim and value.shape != dict(enumerate(shapes)).get(index) for value in own.values()):
            raise _refused(path, "is the checkpoint of another run: it trained other parts of the network")
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    totals = _below(tensors, "totals")
    totals = {term: totals[term].to(device) for term in about.get("terms", totals)}  # earlier files tell no order
    return State(about["step"], about["seconds"], about["history"], totals)


def _begins_as_checkpoint(path: Path) -> bool:
    """Whether a file that cannot be read was a checkpoint once."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8 + len(_BEGINNING))[8:] == _BEGINNING


def _refused(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} {reason}; it is left as it is: give another file, or delete it")


def _below(tensors: Mapping[str, Tensor], folder: str) -> dict[str, Tensor]:
    prefix = f"{folder}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
