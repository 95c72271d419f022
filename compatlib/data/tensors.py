"""Arrays, lists and Series as tensors: whatever a caller holds, torch's own kinds come out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def as_tensor(values: object, name: str) -> Tensor:
    """A tensor of what may be an array, a list, a Series or a tensor already; tensors come back as they are.

    Memory is shared where torch can; what is read-only (such as a memory-mapped file), of another byte order or of
    negative strides is copied.

    Raises:
        ValueError: masked entries, ragged lists, or a type that torch lacks.
    """
    if isinstance(values, Tensor):
        return values
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked entries, whose values mean nothing; fill them or leave them out")
    try:
        if isinstance(values, Sequence) and values and all(isinstance(each, Tensor) for each in values):
            return torch.stack(tuple(values))
        array = np.asarray(values)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        return torch.from_numpy(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no array of numbers: {error}; give a tensor or an array") from error


def as_integers(values: object, name: str) -> Tensor:
    """As `as_tensor`, and integers of every size as int64; what holds no integers comes back as it is."""
    found = as_tensor(values, name)
    if not found.numel() and not isinstance(values, Tensor):
        found = found.long()  # an empty list is of floats
    is_integer = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    return found.long() if is_integer else found


def as_indices(chosen: object, count: int) -> Tensor:
    """The places int64 (n,) that integers of any type, a boolean mask (count,) or a slice choose among `count`.

    Raises:
        IndexError: a place beyond `count`, or a mask of another length.
        ValueError: as `as_tensor`.
    """
    places = torch.arange(count)
    return places[chosen] if isinstance(chosen, slice) else places[as_integers(chosen, "indices").cpu()]
