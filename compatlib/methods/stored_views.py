"""Stored embeddings of augmented training images, which FCT's transformation is fitted on.

The release computes them anew at every step, from one augmented image for all three models. Most of a step's time goes
there: this study extracts a fixed number of views once and fits every transformation on them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images, batches
from compatlib.data.tensors import as_integers, as_tensor
from compatlib.embedding import embed
from compatlib.training import stream


@dataclass(frozen=True, eq=False)
class StoredViews:
    """Embeddings of several augmented views of a training set, extracted once (this study's choice, for time).

    old, side, new: float (views, N, dim of each). labels: int64 (N,). Arrays and lists may be given too, labels of any
    type of integers; they are kept as tensors and int64.

    Raises:
        ValueError: other shapes, or no view.
    """

    old: Tensor
    side: Tensor
    new: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        for name in ("old", "side", "new"):
            object.__setattr__(self, name, as_tensor(getattr(self, name), name))
        object.__setattr__(self, "labels", as_integers(self.labels, "labels"))
        shapes = {name: tuple(getattr(self, name).shape) for name in ("old", "side", "new")}
        counts = {shape[:2] for shape in shapes.values()}
        if any(len(shape) != 3 for shape in shapes.values()) or len(counts) != 1 or self.old.shape[0] < 1:
            raise ValueError(f"embeddings have shapes {shapes}; valid is (views, N, d) with equal views ≥ 1 and N")
        if self.labels.shape != self.old.shape[1:2] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; valid is integer "
                f"({self.old.shape[1]},)"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """((old, side, new), each (views, b, d), and labels (b,)) at `indices`, int64 (b,)."""
        old, side, new = (each.index_select(1, indices) for each in (self.old, self.side, self.new))
        return (old, side, new), self.labels[indices]


def embed_views(
    model: nn.Module,
    images: Images,
    *,
    seed: int,
    views: int = 8,
    augment: Any = crop_and_flip,
    batch_size: int = 1000,
    precision: str = "float32",
    report: Any = None,
) -> Tensor:
    """Embed `views` augmented views of every image by one model, which stays as it is.

    The augmentation is decided by seed, view and batch: every model sees the same augmented images.

    Args:
        model: images → (N, d).
        images: the new model's training set.
        seed: any integer.
        views: ≥ 1.
        augment: as `training.fit`.
        batch_size: images at a time, ≥ 1.
        precision: `float32` or `bfloat16` autocast.
        report: called after every batch as (share done, text).

    Returns:
        float32 (views, N, d).

    Raises:
        ValueError: no view, and as `embedding.embed`.
    """
    if views < 1:
        raise ValueError(f"views must be 1 or more, got {views}")
    stored, starts = [], range(0, len(images), batch_size)
    for view in range(views):
        parts = []
        for number, (inputs, labels, _) in enumerate(batches(images, torch.arange(len(images)), batch_size)):
            generator = stream(seed, "transformation", "view", view, number)
            augmented = _Batch(augment(inputs, generator), labels)
            parts.append(embed(model, augmented, batch_size=batch_size, precision=precision))
            if report is not None:
                report((view * len(starts) + number + 1) / (views * len(starts)), f"view {view + 1} of {views}")
        stored.append(torch.cat(parts))
    return torch.stack(stored)


@dataclass(frozen=True)
class _Batch:
    """A batch as a set of its own, which is asked for whole."""

    inputs: Any
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Any, Tensor]:
        return self.inputs, self.labels


def store_views(
    old: nn.Module,
    side: nn.Module | None,
    new: nn.Module,
    images: Images,
    *,
    seed: int,
    report: Any = None,
    **options: Any,
) -> StoredViews:
    """Embed augmented views of every image by the old, the side and the new model, which stay as they are.

    Args:
        old: images → (N, d_old).
        side: images → (N, d_side); None feeds the old embedding in twice.
        new: images → (N, d_new).
        images: the new model's training set.
        seed: any integer.
        report: called after every batch as (share done, text).
        **options: `views`, `augment`, `batch_size`… as `embed_views`.

    Raises:
        ValueError: as `embed_views`.
    """
    models = (old, new) if side is None else (old, side, new)
    stored = []
    for place, model in enumerate(models):
        own = None if report is None else partial(_part_of, report, place, len(models))
        stored.append(embed_views(model, images, seed=seed, report=own, **options))
    return StoredViews(stored[0], stored[0] if side is None else stored[1], stored[-1], images.labels)


def _part_of(report: Any, place: int, count: int, share: float, text: str) -> None:
    report((place + share) / count, f"model {place + 1} of {count}, {text}")


def one_view(inputs: tuple[Tensor, Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Of every image one of its stored views, drawn at random, the same one of all three models."""
    views, count = inputs[0].shape[:2]
    chosen = torch.randint(views, (count,), generator=generator).to(inputs[0].device)
    places = torch.arange(count, device=chosen.device)
    old, side, new = (embeddings[chosen, places] for embeddings in inputs)
    return old, side, new
