"""Images → embeddings: in memory, or for a gallery into a memory-mapped file that an interrupted run completes."""

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compatlib.data.images import Images, InMemory, batches
from compatlib.files import alone, naming, replacing
from compatlib.training import PRECISIONS, one_device, whole

Report = Callable[[float, str], None]


def embed(
    backbone: nn.Module,
    images: Images | InMemory,
    *,
    batch_size: int = 500,
    precision: str = "float32",
    workers: int = 0,
    report: Report | None = None,
) -> Tensor:
    """Embed every image, in order, without gradients and in eval mode; the backbone's mode is restored.

    Args:
        backbone: uint8 images (N, C, H, W) → embeddings (N, d).
        images: a set in memory or on disk.
        batch_size: images at a time; the same size gives the same bits on one machine.
        precision: `float32` or `bfloat16` autocast.
        workers: processes that read a set on disk.
        report: called after every batch as (share done, text).

    Returns:
        float32 (N, d) on the processor.

    Raises:
        ValueError: an empty set, an unknown precision or a batch below 1.
    """
    if not len(images):
        raise ValueError("there is no image to embed; check the split and its classes")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose one of {tuple(PRECISIONS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    fabric = one_device(precision)
    fabric.to_device(backbone)
    parts, order = [], torch.arange(len(images))
    with evaluating(backbone), torch.inference_mode(), fabric.autocast():
        for inputs, _, indices in batches(images, order, batch_size, workers):
            parts.append(backbone(fabric.to_device(inputs)).float().cpu())
            if report is not None:
                report((int(indices[-1]) + 1) / len(images), "embedding")
    return torch.cat(parts).clone()


def embed_gallery(
    backbone: nn.Module,
    images: Images,
    path: Path,
    *,
    identity: Mapping[str, Any],
    dtype: str = "float32",
    block: int = 10_000,
    report: Report | None = None,
) -> np.memmap:
    """Embed a gallery of any size into a `.npy` file, a block at a time; an interrupted run goes on where it stopped.

    Args:
        backbone: uint8 images → embeddings (N, d), with an attribute `dim` = d.
        images: the gallery.
        path: the file to write.
        identity: what the file holds (the model's key and the gallery's digest, say), kept beside it.
        dtype: `float32` or `float16` on disk.
        block: images between two records of progress.
        report: called after every block as (share done, text).

    Returns:
        The embeddings (N, d), memory-mapped, read-only.

    Raises:
        ValueError: as `write_blocks`; `path` may hold another gallery or another model's embeddings.
    """

    def compute(first: int, last: int) -> np.ndarray:
        return embed(backbone, images.select(torch.arange(first, last))).numpy()

    return write_blocks(
        path, (len(images), backbone.dim), compute, identity=identity, dtype=dtype, block=block, report=report
    )


def write_blocks(
    path: Path,
    shape: tuple[int, int],
    compute: Callable[[int, int], np.ndarray],
    *,
    identity: Mapping[str, Any],
    dtype: str = "float32",
    block: int = 10_000,
    report: Report | None = None,
) -> np.memmap:
    """Fill a `.npy` file of `shape` with `compute(first, last)` for consecutive blocks of rows, resumably.

    While it is unfinished the file is called `<path>.part`, beside a `<path>.part.json` that tells how many rows are
    on disk; both are renamed or removed at the end, so that `path` is always whole. The rows of an unfinished file that
    are on record are trusted, and values are written as they are computed. Who wants a file that another process is
    writing waits for it, and says so in the log. Memory: one block.

    Raises:
        ValueError: an unknown dtype, nothing to write, a block below 1 or of another shape, or a file of another
            identity, which is left as it is.
        OSError: the file cannot be written, as on a full disk; the rows on record are kept.
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"unknown dtype {dtype!r}; choose float32 or float16")
    shape, block = tuple(whole(size, "a size of the shape") for size in shape), whole(block, "block")
    if min(*shape, block) < 1:
        raise ValueError(f"needs a shape and a block of 1 or more, got {shape} and {block}")
    path = Path(path)
    about = json.loads(json.dumps({"identity": identity, "shape": shape, "dtype": dtype}))
    described = path.with_name(path.name + ".json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock"), f"writes {path}"):
            if not path.exists():  # the other one may have ended meanwhile
                _fill(path, about, compute, block, report)
    _check_identity(path, described, about)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _fill(
    path: Path, about: Mapping[str, Any], compute: Callable[[int, int], np.ndarray], block: int, report: Report | None
) -> None:
    """Write, or go on to write, what is not there yet, and give it its name."""
    part, progress = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    count, size = about["shape"]
    if part.exists():
        done = _check_identity(part, progress, about)["rows"]
    else:
        done = 0  # what is on record, if anything, tells of a part that is gone
        _write_json(progress, about | {"rows": done})
    # By file, not by memory map: where the disk is full, a map kills the process without a word.
    with open(part, "r+b" if part.exists() else "w+b", buffering=0) as file:
        header = {"descr": np.dtype(about["dtype"]).str, "fortran_order": False, "shape": (count, size)}
        np.lib.format.write_array_header_1_0(file, header)
        start, row_bytes = file.tell(), size * np.dtype(about["dtype"]).itemsize
        done = min(done, (os.fstat(file.fileno()).st_size - start) // row_bytes)
        for first in range(done, count, block):
            last = min(first + block, count)
            computed = compute(first, last)
            if computed.shape != (last - first, size):
                raise ValueError(f"block {first}…{last} has shape {computed.shape} instead of {(last - first, size)}")
            with naming(part, f"its first {first:,} rows of {count:,} are kept: make room and run it again"):
                _write_at(file, start + first * row_bytes, np.ascontiguousarray(computed, about["dtype"]))
                _write_json(progress, about | {"rows": last})
            if report is not None:
                report(last / count, f"{last:,} of {count:,} rows")
    _write_json(path.with_name(path.name + ".json"), about)
    os.replace(part, path)
    progress.unlink(missing_ok=True)


def _write_at(file: io.FileIO, place: int, rows: np.ndarray) -> None:
    """Bytes at a place of a file, and all the way to the disk."""
    file.seek(place)
    left = memoryview(rows).cast("B")
    while left:
        left = left[file.write(left) :]
    os.fsync(file)


@contextmanager
def evaluating(module: nn.Module):
    """Eval mode for a while; every part's own mode comes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _check_identity(path: Path, described: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(described.read_text()) if described.exists() else {}
    except ValueError:
        found = {}
    if not isinstance(found, dict) or any(found.get(name) != value for name, value in about.items()):
        raise ValueError(
            f"{path} holds other embeddings ({found or 'undescribed'}) than {dict(about)}; give another path, or "
            "delete it"
        )
    return found


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content))
