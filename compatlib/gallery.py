"""Upgrading a stored gallery: old embeddings and their side-information → embeddings that the new model can search.

No image is read. A gallery of any size goes through in blocks, from one memory-mapped file into another, and an
interrupted upgrade goes on where it stopped.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from compatlib.embedding import Report, write_blocks
from compatlib.training import one_device


def upgrade_gallery(
    transformation: nn.Module,
    old: np.ndarray,
    side: np.ndarray | None,
    path: Path,
    *,
    identity: Mapping[str, Any],
    dtype: str = "float32",
    block: int = 10_000,
    report: Report | None = None,
) -> np.memmap:
    """Transform a stored gallery into a `.npy` file, a block of vectors at a time.

    Memory: one block of vectors and of the transformation's widest layer. The transformation is left as it is; each of
    its linear layers is joined with the BatchNorm behind it in a copy, which is what costs no more than the products.
    There each ReLU of an `nn.Sequential` overwrites its input: none may come first in it, nor read what another part
    reads too.

    Args:
        transformation: (old (b, d_old), side (b, d_side)) → (b, d_new), with an attribute `dim` = d_new, such as
            `methods.fct.Transformation`.
        old: (N, d_old) float32 or float16, such as `np.load(path, mmap_mode="r")`.
        side: (N, d_side), the same items in the same order; None feeds the old embedding in twice.
        path: the file to write.
        identity: what the file holds (the transformation's key and the old gallery's, say), kept beside it.
        dtype: `float32` or `float16` on disk.
        block: vectors between two records of progress.
        report: called after every block as (share done, text).

    Returns:
        The new gallery (N, d_new), memory-mapped, read-only.

    Raises:
        ValueError: arrays that are not (N, d) floats of equal length, values that are not finite, and as
            `embedding.write_blocks`.
    """
    for name, vectors in (("old", old), ("side", side)):
        if vectors is not None and (vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(old)):
            raise ValueError(
                f"{name} is {vectors.dtype} of shape {vectors.shape}; valid is float ({len(old)}, d), one row an item"
            )
    fabric, ready = one_device(), joined(transformation)
    fabric.to_device(ready)

    def part(vectors: np.ndarray, name: str, first: int, last: int) -> torch.Tensor:
        rows = torch.from_numpy(np.array(vectors[first:last], dtype=np.float32))
        if not rows.isfinite().all():
            wrong = first + int((~rows.isfinite()).any(dim=1).nonzero()[0, 0])
            raise ValueError(f"row {wrong} of {name} holds values that are not finite; embed that image again")
        return fabric.to_device(rows)

    def compute(first: int, last: int) -> np.ndarray:
        rows = part(old, "old", first, last)
        beside = rows if side is None else part(side, "side", first, last)
        with torch.inference_mode():
            return ready(rows, beside).float().cpu().numpy()

    shape = (len(old), transformation.dim)
    return write_blocks(path, shape, compute, identity=identity, dtype=dtype, block=block, report=report)


def joined(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose linear layers have taken in the BatchNorm behind them; the module is left as it is.

    A ReLU in an `nn.Sequential` of the copy overwrites its input, which saves a block of the widest layer.
    """
    ready = copy.deepcopy(module).eval()
    for sequence in [part for part in ready.modules() if isinstance(part, nn.Sequential)]:
        layers: list[nn.Module] = []
        for layer in sequence:
            if isinstance(layer, nn.BatchNorm1d) and layers and isinstance(layers[-1], nn.Linear):
                layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
            else:
                layers.append(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer)
        for name in list(sequence._modules):
            del sequence._modules[name]
        sequence.extend(layers)
    return ready.requires_grad_(False)
