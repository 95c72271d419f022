"""Images → embeddings: in memory, or for a gallery into a memory-mapped file that an interrupted run completes."""

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compatlib.data.images import Images, InMemory, batches
from compatlib.evaluation import checks
from compatlib.files import alone, naming, replacing
from compatlib.training import PRECISIONS, one_device

Report = Callable[[float, str], None]
DTYPES = ("float32", "float16")
MOST_ROWS_TOLD = 10


# Of a precision, made once: looking for its plugins takes longer than a small batch.
placement = cache(one_device)


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
        ValueError: an empty set, no set of images, an unknown precision or a batch below 1.
    """
    if not len(images):
        raise ValueError("there is no image to embed; check the split and its classes")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose one of {tuple(PRECISIONS)}")
    batch_size, workers = checks.whole_number(batch_size, "batch_size", 1), checks.whole_number(workers, "workers", 0)
    fabric = placement(precision)
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
    path: Path | str,
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
        identity: what the file holds (the model's key and the gallery's digest, say), of texts and numbers, kept
            beside it.
        dtype: `float32` or `float16` on disk.
        block: images between two records of progress.
        report: called after every block as (share done, text).

    Returns:
        The embeddings (N, d), memory-mapped, read-only.

    Raises:
        ValueError: as `write_blocks`; `path` may hold another gallery or another model's embeddings, and a model that
            diverged or collapsed is told by the rows that cannot be stored.
    """

    def compute(first: int, last: int) -> np.ndarray:
        return embed(backbone, images.select(torch.arange(first, last))).numpy()

    return write_blocks(
        path, (len(images), backbone.dim), compute, identity=identity, dtype=dtype, block=block, report=report
    )


def write_blocks(
    path: Path | str,
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
    are on record are trusted; without a readable record it is begun anew. Who wants a file that another process is
    writing waits for it, and says so in the log. Memory: one block.

    Raises:
        ValueError: an unknown dtype, nothing to write, a block below 1 or of another shape, an identity that JSON
            cannot hold, a file of another identity, which is left as it is, or rows that could not be told from nothing
            once they are stored: not finite in that type (float16 ends at 65504), all zeros, or nothing but numbers
            below the type's normal range (6.1e-5 in float16), which have few digits left.
        OSError: the file cannot be written, as on a full disk; the rows on record are kept.
    """
    path, dtype, block = Path(path), _name(dtype), checks.whole_number(block, "block", 1)
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose float32 or float16")
    shape = tuple(checks.whole_number(size, "a size of the shape", 1) for size in shape)
    about = _as_json({"identity": identity, "shape": shape, "dtype": dtype})
    described = path.with_name(path.name + ".json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock"), f"writes {path}"):
            if not path.exists():  # the other one may have ended meanwhile
                _fill(path, about, compute, block, report)
    _check_identity(path, _read_json(described), about)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _fill(
    path: Path, about: Mapping[str, Any], compute: Callable[[int, int], np.ndarray], block: int, report: Report | None
) -> None:
    """Write, or go on to write, what is not there yet, and give it its name."""
    part, progress = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    (count, size), dtype, header = about["shape"], about["dtype"], _header(about)
    found, is_ours = _read_json(progress), part.exists() and _begins_with(part, header)
    is_begun = is_ours and found.get("rows") == 0  # by a model whose first rows were refused, perhaps
    if part.exists() and not is_begun and (found or not is_ours):
        _check_identity(part, found, about)
    done = found["rows"] if is_ours and found and not is_begun else 0
    if not done:  # what is on record, if anything, tells of a part that is gone
        _write_json(progress, about | {"rows": done})
    # By file, not by memory map: where the disk is full, a map kills the process without a word.
    with open(part, "r+b" if part.exists() else "w+b", buffering=0) as file:
        file.write(header)
        row_bytes = size * np.dtype(dtype).itemsize
        done = min(done, (os.fstat(file.fileno()).st_size - len(header)) // row_bytes)
        for first in range(done, count, block):
            last = min(first + block, count)
            computed = checks.as_array(compute(first, last), "the block")
            if computed.shape != (last - first, size):
                raise ValueError(f"block {first}…{last} has shape {computed.shape} instead of {(last - first, size)}")
            rows = _storable(computed, dtype, first, path)
            with naming(part, f"its first {first:,} rows of {count:,} are kept: make room and run it again"):
                _write_at(file, len(header) + first * row_bytes, np.ascontiguousarray(rows))
                _write_json(progress, about | {"rows": last})
            if report is not None:
                report(last / count, f"{last:,} of {count:,} rows")
    _write_json(path.with_name(path.name + ".json"), about)
    os.replace(part, path)
    progress.unlink(missing_ok=True)


def _header(about: Mapping[str, Any]) -> bytes:
    """The first bytes of the `.npy` file."""
    header = io.BytesIO()
    values = {"descr": np.dtype(about["dtype"]).str, "fortran_order": False, "shape": tuple(about["shape"])}
    np.lib.format.write_array_header_1_0(header, values)
    return header.getvalue()


def _begins_with(path: Path, header: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(header)) == header


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


def refuse_rows(wrong: np.ndarray, first: int, where: str, what: str) -> None:
    """Refuse the rows of a block where `wrong` (b,) is True; `first` is the number of the block's first row.

    Raises:
        ValueError: "rows … of `where` hold `what`", with their numbers, if there is one.
    """
    numbers = (first + np.flatnonzero(wrong)).tolist()
    if numbers:
        told, more = ", ".join(map(str, numbers[:MOST_ROWS_TOLD])), len(numbers) - MOST_ROWS_TOLD
        told += f" and {more:,} more" if more > 0 else ""
        raise ValueError(f"row{'s' * (len(numbers) > 1)} {told} of {where} hold{'s' * (len(numbers) == 1)} {what}")


def _storable(vectors: np.ndarray, dtype: str, first: int, path: Path) -> np.ndarray:
    """The vectors in the type in which they are stored; errors as `write_blocks`."""
    with np.errstate(all="ignore"):
        stored, limits = vectors.astype(dtype), np.finfo(dtype)
        largest = np.maximum(stored.max(axis=1), -stored.min(axis=1))
        wrong = ~((largest >= limits.smallest_normal) & (largest <= limits.max))
    if wrong.any():
        shown = np.array2string(vectors[wrong.argmax()], precision=3, threshold=6, edgeitems=2)
        what = (
            f"what {dtype} cannot keep: values that are not finite, or a largest absolute value outside of "
            f"{float(limits.smallest_normal):.2g} to {float(limits.max):.5g}, as of zeros; the first is {shown}. Look "
            "for a model that diverged or collapsed"
        )
        refuse_rows(wrong, first, str(path), what + (", or choose dtype='float32'" if dtype == "float16" else ""))
    return stored


def _name(dtype: object) -> str:
    """`float16` for "float16", `np.float16`, `np.dtype("float16")` and `torch.float16`."""
    return getattr(dtype, "__name__", str(dtype)).removeprefix("torch.")


def _as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON gives it back; numbers of NumPy and torch, arrays and paths are written too."""

    def plain(value: Any) -> Any:
        found = os.fspath(value) if isinstance(value, os.PathLike) else checks.as_array(value, "identity").tolist()
        if found is value:
            raise TypeError(f"it holds {value!r}")
        return found

    try:
        return json.loads(json.dumps(content, default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{content} cannot be kept as JSON ({error}); give texts, finite numbers and lists") from error


def _check_identity(path: Path, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    if any(found.get(name) != value for name, value in about.items()):
        raise ValueError(
            f"{path} holds other embeddings ({found or 'undescribed'}) than {dict(about)}; give another path, or "
            "delete it"
        )


def _read_json(path: Path) -> dict[str, Any]:
    """What the file tells; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content))
