"""Sets of labelled images, in memory or on disk, and the batches that training and embedding read from them."""

import hashlib
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms.v2 import functional as transforms

from compatlib.data.decoding import DEEP_SUFFIXES, check_image, is_deep, read_image
from compatlib.data.image_folders import class_folders, image_files
from compatlib.data.tensors import as_indices, as_integers, as_tensor


class Images(Protocol):
    """What every set of images offers, whether it lies in memory (`ImageSet`) or on disk (`FolderImages`).

    `labels` is int64 (N,), `class_names` has one name a class, `set[i]` is (image uint8 (C, H, W), label).
    """

    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]: ...

    def select(self, indices: Tensor) -> Self:
        """The subset at `indices`, in their order."""
        ...

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of what the set holds."""
        ...


@runtime_checkable
class InMemory(Protocol):
    """A set that gives a whole batch at once; its inputs need not be images (stored embeddings, say)."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Any, Tensor]:
        """(inputs, labels) at `indices`, int64 (b,)."""
        ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in memory: `images` uint8 (N, C, H, W), `labels` int64 (N,), one name a class.

    Labels index `class_names`; a subset keeps both, so that label 7 means the same class everywhere. Arrays and lists
    may be given too, labels of any type of integers; they are kept as tensors and int64.

    Raises:
        ValueError: a wrong type or shape, lengths that differ, or a label outside [0, len(class_names)).
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", as_tensor(self.images, "images"))
        object.__setattr__(self, "labels", as_integers(self.labels, "labels"))
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images must be uint8 (N, C, H, W), not {self.images.dtype} {tuple(self.images.shape)}; "
                "scale to 0…255 and convert before building an ImageSet"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be int64 ({len(self.images)},), one an image, "
                f"not {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        check_labels(self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 (b, C, H, W) and labels int64 (b,) at `indices`, int64 (b,)."""
        return self.images[indices], self.labels[indices]

    def select(self, indices: Tensor) -> "ImageSet":
        """The subset at `indices` (integers (n,) or bool (N,)), in their order."""
        indices = as_indices(indices, len(self))
        return ImageSet(self.images[indices], self.labels[indices], self.class_names)

    def joined(self, other: "ImageSet") -> "ImageSet":
        """The images of both, this set's first; labels mean this set's classes."""
        images, labels = torch.cat([self.images, other.images]), torch.cat([self.labels, other.labels])
        return ImageSet(images, labels, self.class_names)

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of shapes, pixels, labels and class names."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(repr((tuple(self.images.shape), self.class_names)).encode())
        total.update(self.images.contiguous().numpy().data)
        total.update(self.labels.contiguous().numpy().data)
        return total.hexdigest()


class FolderImages(Dataset):
    """Images on disk in the layout `folder/<class>/…/<image file>`, read when they are asked for.

    Every image is decoded to RGB (`decoding.read_image`: transparency and EXIF's rotation do not count, as in
    torchvision), its shorter side resized to `size` pixels and its centre cropped to size × size, uint8 (3, size,
    size). Classes are numbered in the order of their names, numbers in them as numbers; hidden and system folders are
    none. A class's files lie in it at any depth. Links count as what they lead to, folders too.

    Raises:
        ValueError: the folder holds no class, a class holds no image or one of a kind that is not read, a link leads
            nowhere, or a size below 1.
    """

    def __init__(self, folder: Path | str, size: int = 32) -> None:
        try:
            self.folder, self.size = Path(folder), index(size)
        except TypeError as error:
            raise ValueError(f"size is {size!r}; valid are whole numbers from 1") from error
        if self.size < 1:
            raise ValueError(f"images of side {size} asked for; choose a side of 1 pixel or more")
        self.folders = class_folders(self.folder)
        self.class_names = tuple(self.folders)
        if not self.class_names:
            raise ValueError(f"{self.folder} holds no class; expected {self.folder}/<class>/<image>.png")
        per_class = [image_files(each) for each in self.folders.values()]
        self.files = [file for files in per_class for file in files]
        self.labels = torch.tensor([label for label, files in enumerate(per_class) for _ in files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = transforms.resize(read_image(self.files[index]), [self.size], antialias=True)
        return transforms.center_crop(image, [self.size, self.size]), self.labels[index]

    def check(self) -> None:
        """Read the head of every file, so that one that is refused is so before anything is trained.

        Raises:
            ValueError: as `decoding.check_image`, for the first such file.
        """
        for file in self.files:
            check_image(file)

    def select(self, indices: Tensor) -> "FolderImages":
        """The subset at `indices` (integers (n,) or bool (N,)), in their order; nothing is read yet."""
        chosen = as_indices(indices, len(self))
        subset = copy(self)
        vars(subset).pop("_digest", None)
        subset.files, subset.labels = [self.files[i] for i in chosen.tolist()], self.labels[chosen]
        return subset

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the size and of every file's class, name and bytes, which are read once.

        Files are told apart by their place below the class's folder; what a link leads to is read.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(repr((self.size, self.class_names)).encode())
        folders = tuple(self.folders.values())
        for file, label in zip(self.files, self.labels.tolist(), strict=True):
            place = f"{label}/{file.relative_to(folders[label]).as_posix()}/".encode("utf-8", "surrogateescape")
            total.update(place + hashlib.sha256(file.read_bytes()).digest())
            if file.suffix.lower() in DEEP_SUFFIXES and is_deep(file):
                total.update(b"scaled to 8 bits")  # the same files were read as white before
        return total.hexdigest()


def batches(
    images: Images | InMemory, order: Tensor, batch_size: int, workers: int = 0
) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """Go through `images` in the given order.

    Args:
        images: a set in memory (`InMemory`, read a batch at a time) or any torch `Dataset` of (image, label).
        order: integers (n,), the indices to visit; the last batch may be shorter.
        batch_size: images a batch, ≥ 1.
        workers: processes that read a set on disk; unused for a set in memory.

    Yields:
        inputs (b, …), labels int64 (b,), indices int64 (b,).

    Raises:
        ValueError: `images` is a bare tensor or array.
    """
    if isinstance(images, Tensor | np.ndarray):
        raise ValueError(
            f"images is {type(images).__name__} of shape {tuple(images.shape)}; valid is a set of images with their "
            "labels: ImageSet(images, labels, class_names)"
        )
    order, batch_size, workers = as_integers(order, "order"), index(batch_size), index(workers)
    if isinstance(images, InMemory):
        for indices in order.split(batch_size):
            yield *images.batch(indices), indices
        return
    loader = DataLoader(_Indexed(images), batch_size, sampler=order.tolist(), num_workers=workers, collate_fn=_collate)
    yield from loader


class _Indexed(Dataset):
    """A data set whose items also tell their index."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image, label = self.images[index]
        return image, torch.as_tensor(label), torch.as_tensor(index)


def _collate(items: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    images, labels, indices = default_collate(items)
    return images, labels, indices


def check_labels(labels: Tensor, class_names: tuple[str, ...]) -> None:
    """Raises ValueError for a label outside [0, len(class_names))."""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, "
            f"but {len(class_names)} class names allow 0 to {len(class_names) - 1}"
        )
