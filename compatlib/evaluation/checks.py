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
        ValueError: for a tensor that NumPy cannot hold (bfloat16, sparse), and for ragged lists.
    """
    if isinstance(values, torch.Tensor):
        try:
            return values.detach().cpu().numpy()
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
            values in float32, and under the Euclidean distance values whose squares float32 can hold.
    """
    array = as_array(values, name)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; valid is (items, coordinates): reshape it to two dimensions")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} has type {array.dtype}; valid are float16, float32 and float64: convert it first")
    if 0 in array.shape:
        raise ValueError(f"{name} is empty, its shape is {array.shape}; give at least one item and one coordinate")
    largest = max(_largest(array, name, first) for first in range(0, len(array), CHECK_BLOCK))
    low, high = EUCLIDEAN_RANGE
    if distance == "euclidean" and largest > 0 and not low <= largest <= high:
        raise ValueError(
            f"{name} has a largest absolute value of {largest:g}; its squares leave the range of float32: "
            f"rescale query and gallery by one factor, so that it lies between {low:g} and {high:g}"
        )
    return array


def _largest(array: np.ndarray, name: str, first: int) -> float:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
        block = array[first : first + CHECK_BLOCK].astype(np.float32)
    largest = float(max(block.max(), -block.min()))
    if not np.isfinite(largest):
        row = first + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
        raise ValueError(
            f"{name} holds values that are not finite in float32 (NaN, infinity or beyond 3.4e38), first in row {row}; "
            "valid are finite numbers: look for a diverged model, or drop these items"
        )
    return largest


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


def choice(value: object, name: str, valid: tuple[str, ...]) -> str:
    """`value` if it is one of the valid words. Raises ValueError otherwise."""
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{name} is {value!r}; valid are {', '.join(map(repr, valid))}")
    return value


def flag(value: object, name: str) -> bool:
    """`value` if it is True or False. Raises ValueError otherwise."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {value!r}; valid are True and False")
    return bool(value)


def whole_number(value: object, name: str, low: int, high: int | None = None) -> int:
    """`value` as int if it is a whole number in [low, high]. Raises ValueError otherwise."""
    inside = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if not inside or value < low or (high is not None and value > high):
        span = f"from {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; valid are whole numbers {span}")
    return int(value)


def number(value: object, name: str, low: float, high: float) -> float:
    """`value` as float if it is a finite number in [low, high]. Raises ValueError otherwise."""
    inside = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not inside or not np.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; valid are finite numbers from {low:g} to {high:g}")
    return float(value)


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
