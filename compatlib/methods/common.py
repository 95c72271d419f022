"""What several methods share: checks of a batch, labels and numbers, and embeddings of another size than the old."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib.data.images import Images
from compatlib.data.tensors import as_integers, as_tensor


def checked_batch(vectors: Tensor, labels: Tensor, name: str = "embeddings") -> tuple[Tensor, Tensor]:
    """A batch as tensors, labels of any type of integers as int64, on the device of the vectors.

    Arrays and lists may be given as well.

    Args:
        vectors: float (n, d).
        labels: integers (n,), ≥ 0.
        name: how an error calls the vectors.

    Raises:
        ValueError: other shapes or types, or a negative label.
    """
    vectors, labels = as_tensor(vectors, name), as_integers(labels, "labels")
    if vectors.ndim != 2 or not vectors.is_floating_point():
        raise ValueError(f"{name} are {vectors.dtype} of shape {tuple(vectors.shape)}; valid is float (n, d)")
    if labels.shape != vectors.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; valid is integer ({len(vectors)},)"
        )
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(f"label {int(labels.min())} is negative; labels count from 0")
    return vectors, labels.to(vectors.device)


def check_rows(images: Images, classifier: nn.Module) -> None:
    """Refuse images with a label that the classifier has no row for.

    Raises:
        ValueError: there is one.
    """
    classes = classifier.weight.shape[0]
    if len(images) and int(images.labels.max()) >= classes:
        raise ValueError(
            f"label {int(images.labels.max())} has no row in a classifier of {classes} classes; give it a row for "
            "every label up to the highest"
        )


def check_number(name: str, value: float, *, positive: bool = False) -> None:
    """Refuse a number, called `name` in the error, that is negative, not finite, or 0 where it must be positive.

    Raises:
        ValueError: it is so.
    """
    if not 0 <= value < math.inf or (positive and not value):
        raise ValueError(f"{name} must be finite and {'positive' if positive else '≥ 0'}, got {value}")


def check_terms(weight: float, label_smoothing: float) -> None:
    """Refuse a weight of a loss that is negative or not finite, and a label smoothing outside [0, 1).

    Raises:
        ValueError: for either.
    """
    check_number("the compatibility term's weight", weight)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")


def resized(embeddings: Tensor, dim: int) -> Tensor:
    """(n, d) embeddings as (n, dim): their first coordinates, with zeros behind where there are fewer.

    Source: openBCT's release, for a new embedding that enters an old classifier of another size.
    """
    return F.pad(embeddings[:, :dim], (0, max(0, dim - embeddings.shape[1])))
