"""Input checks of the evaluation layer: every refusal names the argument, what it holds, what is valid, the way out."""

from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
import torch

DISTANCES = ("cosine", "euclidean")
CHECK_BLOCK = 8192  # rows looked at together, so that a check never copies a whole gallery
# Squares of numbers outside of this range, summed over coordinates, leave the normal range of float32.
EUCLIDEAN_RANGE = (1e-15, 1e15)


def as_array(values: object, name: str) -> np.ndarray:
    """A NumPy array over the same memory where possible; a tensor is detached and brought to the host.

    Raises:
        ValueError: for a tensor that NumPy cannot hold (bfloat16, sparse), for ragged lists, and masked entries.
    """
    if isinstance(values, list | tuple) and any(isinstance(each, torch.Tensor) for each in values):
        values = [as_array(each, name) for each in values]
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked entries, whose values mean nothing; give it without them, or fill them")
    if isinstance(values, torch.Tensor):
        try:
            return values.numpy(force=True)
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"{name} is a tensor of {values.dtype} and layout {values.layout}; valid are dense tensors "
                "of a type that NumPy has: call .float() or .to_dense() first"
            ) from error
    if values is None:
        raise ValueError(f"{name} is None; give an array or a tensor")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}; give an array or a tensor") from error


def embeddings(values: object, name: str, *, distance: str = "cosine") -> np.ndarray:
    """Checked embeddings (n, d), float16, float32 or float64, in their own type.

    Raises:
        ValueError: unless they have two dimensions, at least one row and one column, one of the three types, finite
            values in float32, under cosine no float64 row that lies below float32's range, and under the Euclidean
            distance values whose squares float32 can hold.
    """
    array = as_array(values, name)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; valid is (items, coordinates): reshape it to two dimensions")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} has type {array.dtype}; valid are float16, float32 and float64: convert it first")
    if 0 in array.shape:
        raise ValueError(f"{name} is empty, its shape is {array.shape}; give at least one item and one coordinate")
    largest = max(_largest(array, name, first, distance) for first in range(0, len(array), CHECK_BLOCK))
    low, high = EUCLIDEAN_RANGE
    if distance == "euclidean" and largest > 0 and not low <= largest <= high:
        raise ValueError(
            f"{name} has a largest absolute value of {largest:g}; its squares leave the range of float32: "
            f"rescale query and gallery by one factor, so that it lies between {low:g} and {high:g}"
        )
    return array


def _largest(array: np.ndarray, name: str, first: int, distance: str) -> float:
    exact = array[first : first + CHECK_BLOCK]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
        block = exact.astype(np.float32)
    if not np.isfinite(max(block.max(), -block.min())):
        row = first + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
        raise ValueError(
            f"{name} holds values that are not finite in float32 (NaN, infinity or beyond 3.4e38), first in row {row}; "
            "valid are finite numbers: look for a diverged model, or drop these items"
        )
    if exact.dtype.itemsize <= 4:
        exact = block  # NumPy has no fast maximum of float16
    elif distance == "cosine":
        _require_kept(exact, block, name, first)
    return float(max(exact.max(), -exact.min()))


def _require_kept(exact: np.ndarray, block: np.ndarray, name: str, first: int) -> None:
    """Refuses a float64 row that lies below float32's normal range as a whole, where its direction is lost."""
    lost = exact.any(axis=1) & (np.abs(block).max(axis=1) < np.finfo(np.float32).smallest_normal)
    if lost.any():
        raise ValueError(
            f"{name} holds only values below 1.2e-38, the range of float32, in row {first + int(lost.argmax())}; it "
            "would count as zeros: rescale query and gallery by one factor; valid are zeros, and larger values"
        )


def labels(values: object, name: str, length: int, partner: str) -> np.ndarray:
    """Checked integer labels (length,) as int64; `partner` names the array whose items they label.

    Raises:
        ValueError: unless they are integers within int64, of one dimension and of that length.
    """
    array = as_array(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; valid is one dimension of length {length}: flatten it")
    if len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, {partner} has {length} items; give one entry an item")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} has type {array.dtype}; valid are integers: encode the labels as whole numbers")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(
            f"{name} holds {int(array.max())}, beyond int64; valid are labels within it: number them anew from 0 on"
        )
    return array.astype(np.int64)


def cameras(query: object, gallery: object, n_query: int, n_gallery: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Both sides' camera numbers, or None where neither side has any.

    Raises:
        ValueError: for cameras on one side only, and as `labels`.
    """
    if query is None and gallery is None:
        return None
    if query is None or gallery is None:
        missing = "query_cameras" if query is None else "gallery_cameras"
        raise ValueError(f"{missing} is None but the other side has cameras; give both sides' cameras or neither")
    return labels(query, "query_cameras", n_query, "query"), labels(gallery, "gallery_cameras", n_gallery, "gallery")


def mask(values: object, name: str, length: int) -> np.ndarray:
    """A checked boolean mask (length,). Raises ValueError for any other type or shape."""
    array = as_array(values, name)
    if array.dtype != np.bool_ or array.shape != (length,):
        raise ValueError(
            f"{name} has type {array.dtype} and shape {array.shape}; valid is bool of shape ({length},): "
            "compare labels, for example np.isin(query_labels, known_classes)"
        )
    return array


def _plain(value: object) -> object:
    """The number that a tensor or array without dimensions holds."""
    return value.item() if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0 else value


def is_number(value: object) -> bool:
    """Whether `value` is a number of Python, NumPy or torch, and not True or False."""
    value = _plain(value)
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def choice(value: object, name: str, valid: tuple[str, ...]) -> str:
    """`value` if it is one of the valid words. Raises ValueError otherwise."""
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{name} is {value!r}; valid are {', '.join(map(repr, valid))}")
    return value


def flag(value: object, name: str) -> bool:
    """`value` if it is True or False. Raises ValueError otherwise."""
    value = _plain(value)
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}; valid are True and False")
    return bool(value)


def whole_number(value: object, name: str, low: int | None = None, high: int | None = None) -> int:
    """`value` as int if it is a whole number in [low, high], None for no bound. Raises ValueError otherwise."""
    value = _plain(value)
    inside = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if not inside or (low is not None and value < low) or (high is not None and value > high):
        span = "".join(f" {word} {end}" for word, end in (("from", low), ("to", high)) if end is not None)
        raise ValueError(f"{name} is {value!r}; valid are whole numbers{span}")
    return int(value)


def number(value: object, name: str, low: float, high: float) -> float:
    """`value` as float if it is a finite number in [low, high]. Raises ValueError otherwise."""
    plain = float(_plain(value)) if is_number(value) else np.nan
    if not np.isfinite(plain) or not low <= plain <= high:
        raise ValueError(f"{name} is {value!r}; valid are finite numbers from {low:g} to {high:g}")
    return plain


def ranks(values: object) -> tuple[int, ...]:
    """Checked ranks. Raises ValueError unless they are one or more whole numbers from 1."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"ranks is {values!r}; valid is a sequence of whole numbers from 1, such as (1, 5)")
    checked = tuple(whole_number(value, "a rank", 1) for value in values)
    if not checked:
        raise ValueError("ranks is empty; give one or more whole numbers from 1, such as (1, 5)")
    return checked


def equal_lengths(n_query: int, n_gallery: int) -> None:
    """Raises ValueError where `exclude_self` has no meaning: query i is gallery item i only in sets of equal length."""
    if n_query != n_gallery:
        raise ValueError(
            f"exclude_self is True with {n_query} queries and {n_gallery} gallery items; it means that query i is "
            "gallery item i, so the lengths must be equal: give the same set twice, or exclude_self=False"
        )
