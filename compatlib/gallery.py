"""Upgrading a stored gallery: old embeddings and their side-information → embeddings that the new model can search.

No image is read. A gallery of any size goes through in blocks, from one memory-mapped file into another, and an
interrupted upgrade goes on where it stopped.
"""

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_linear_bn_weights

from compatlib.embedding import Report, evaluating, refuse_rows, write_blocks
from compatlib.evaluation import checks
from compatlib.training import check_values, one_device


def upgrade_gallery(
    transformation: nn.Module,
    old: np.ndarray | Tensor,
    side: np.ndarray | Tensor | None,
    path: Path | str,
    *,
    identity: Mapping[str, Any],
    dtype: str = "float32",
    block: int = 10_000,
    report: Report | None = None,
) -> np.memmap:
    """Transform a stored gallery into a `.npy` file, a block of vectors at a time.

    Memory: one block of vectors and of the transformation's widest layer; a part that `joined` leaves as it is holds a
    block of its input beside that of its output. Any transformation will do: it is computed by a copy in eval mode,
    with the numbers of its own eval mode to float32 accuracy, and left as it is. Where a linear layer and its BatchNorm
    follow each other in an `nn.Sequential`, both cost no more than the product.

    Args:
        transformation: (old (b, d_old), side (b, d_side)) → (b, d_new), with an attribute `dim` = d_new, such as
            `methods.fct.Transformation`.
        old: (N, d_old) float32 or float16, such as `np.load(path, mmap_mode="r")`.
        side: (N, d_side), the same items in the same order; None feeds the old embedding in twice.
        path: the file to write.
        identity: what the file holds (the transformation's key and the old gallery's, say), of texts and numbers, kept
            beside it.
        dtype: `float32` or `float16` on disk.
        block: vectors between two records of progress.
        report: called after every block as (share done, text).

    Returns:
        The new gallery (N, d_new), memory-mapped, read-only.

    Raises:
        ValueError: arrays that are not (N, d) floats of equal length, values that are not finite in float32, an old
            embedding of zeros alone, weights without values or of another type than float32 that do not take the
            vectors, and as `embedding.write_blocks`, which refuses such results too.
        OSError: as `embedding.write_blocks`.
    """
    old, side = checks.as_array(old, "old"), None if side is None else checks.as_array(side, "side")
    for name, vectors in (("old", old), ("side", side)):
        if vectors is not None and (vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(old)):
            raise ValueError(
                f"{name} is {vectors.dtype} of shape {vectors.shape}; valid is float ({len(old)}, d), one row an item"
            )
    fabric, ready = one_device(), joined(transformation)
    fabric.to_device(ready)

    def part(vectors: np.ndarray, name: str, first: int, last: int) -> torch.Tensor:
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite and is refused
            rows = np.array(vectors[first:last], dtype=np.float32, order="C")
        way_out = "embed again what they stand for, or leave them out"
        refuse_rows(~np.isfinite(rows).all(axis=1), first, name, f"values that are not finite; {way_out}")
        if name == "old":  # of side-information an item may have none
            refuse_rows(~rows.any(axis=1), first, name, f"nothing but zeros; {way_out}")
        return fabric.to_device(torch.from_numpy(rows))

    def compute(first: int, last: int) -> np.ndarray:
        rows = part(old, "old", first, last)
        beside = rows.clone() if side is None else part(side, "side", first, last)
        # Its own parts are in eval mode too: a forward that was put in place of another may call them, not the copy's.
        with torch.inference_mode(), evaluating(transformation), _telling_types(transformation):
            return ready(rows, beside).float().cpu().numpy()

    shape = (len(old), transformation.dim)
    return write_blocks(path, shape, compute, identity=identity, dtype=dtype, block=block, report=report)


@contextmanager
def _telling_types(transformation: nn.Module) -> Iterator[None]:
    """Name the weights whose type may be why vectors are not taken."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        weights = transformation.named_parameters()
        others = [f"{name} ({each.dtype})" for name, each in weights if each.dtype != torch.float32]
        if not others:
            raise
        raise ValueError(
            f"the transformation does not take float32 vectors ({error}), and {others[0]} is of another type: call "
            "its .float() before"
        ) from error


def joined(module: nn.Module) -> nn.Module:
    """A copy in eval mode that computes each linear layer together with the BatchNorm behind it.

    It does so where both follow each other in an `nn.Sequential`; a ReLU behind them overwrites their product, which
    saves a block of the widest layer. It gives what `module.eval()` gives, to float32 accuracy; anything else, such as
    a layer with hooks, of parametrised weights or of a class of its own, is called as it is. Names and weights stay.
    The module is left as it is.

    Raises:
        ValueError: weights that have no values yet, by their name.
    """
    check_values(module)
    # What was computed from weights, as by `torch.nn.utils.prune`, has a history, which cannot be copied.
    attributes = [value for part in module.modules() for value in vars(part).values()]
    values = {id(each): each.detach().clone() for each in attributes if isinstance(each, Tensor) and not each.is_leaf}
    ready = copy.deepcopy(module, values).eval()
    for parameter in ready.parameters():
        parameter.requires_grad_(False)
    for part in ready.modules():
        if type(part) is nn.Sequential:
            part.__class__ = _Joined
    return ready


class _Joined(nn.Sequential):
    """The same layers: not one is exchanged, for others may call it too. They are joined while they are computed."""

    def forward(self, input: Any) -> Any:
        """What an `nn.Sequential` of these layers gives."""
        layers = deque(self)
        while layers:
            layer = layers.popleft()
            if not layers or not _can_join(layer, layers[0], input):
                input = layer(input)
                continue
            input = _joined_product(input, layer, layers.popleft())
            if layers and _is_plain(layers[0], nn.ReLU):
                layers.popleft()
                input.relu_()  # the product is new, nobody else holds it
        return input


def _can_join(linear: nn.Module, norm: nn.Module, inputs: Any) -> bool:
    """Whether the second scales and moves every output of the first by fixed numbers: of vectors, not of sequences."""
    is_pair = _is_plain(linear, nn.Linear) and _is_plain(norm, nn.BatchNorm1d)
    has_statistics = is_pair and norm.running_mean is not None and norm.running_var is not None
    return has_statistics and not norm.training and inputs.ndim == 2


def _is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer computes what its class says; parametrised weights make a class of their own."""
    return type(layer) is kind and not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def _joined_product(inputs: Tensor, linear: nn.Linear, norm: nn.BatchNorm1d) -> Tensor:
    """One product with scaled weights; to scale them is one vector's worth of work, beside a block's."""
    mean, variance = norm.running_mean, norm.running_var
    scale = torch.ones_like(mean) if norm.weight is None else norm.weight
    shift = torch.zeros_like(mean) if norm.bias is None else norm.bias
    return F.linear(inputs, *fuse_linear_bn_weights(linear.weight, linear.bias, mean, variance, norm.eps, scale, shift))
