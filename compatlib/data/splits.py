"""Which images an old and a new model see: class-incremental, sample-incremental and open-set splits.

All splits are fixed: they depend on the set alone and not on a seed, so that every model of a study shares them.
"""

import dataclasses
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from compatlib.data.features import FeatureSet
from compatlib.data.images import Images, ImageSet

Set = TypeVar("Set", bound=Images)
Joinable = TypeVar("Joinable", ImageSet, FeatureSet)


class OpenSetSplit(NamedTuple):
    """Identities of training, validation and test are disjoint; `old_classes` of the training classes are old."""

    train: ImageSet | FeatureSet
    validation: ImageSet | FeatureSet
    test: ImageSet | FeatureSet
    old_classes: int


class SearchSplit(NamedTuple):
    """Identities of training, search and test are disjoint; the images to recalibrate by are training images."""

    train: ImageSet | FeatureSet
    calibration: ImageSet | FeatureSet
    search: ImageSet | FeatureSet
    test: ImageSet | FeatureSet


def of_classes(images: Set, first: int, last: int) -> Set:
    """The images of classes first … last − 1; labels and class names stay as they are.

    Raises:
        ValueError: no class lies in the range, or the range leaves [0, number of classes].
    """
    count = len(images.class_names)
    if not 0 <= first < last <= count:
        raise ValueError(f"classes {first} to {last - 1} asked for, but the set has classes 0 to {count - 1}")
    return images.select((images.labels >= first) & (images.labels < last))


def renumbered(images: Joinable, draw: int) -> Joinable:
    """The same images, their classes numbered in an order that `draw` decides: others are the first half.

    Raises:
        ValueError: the images are neither an `ImageSet` nor a `FeatureSet`.
    """
    if not isinstance(images, ImageSet | FeatureSet):
        raise ValueError(
            f"classes are renumbered in an ImageSet or a FeatureSet, not in {type(images).__name__}; choose draw 0, or "
            "read the images into an ImageSet"
        )
    order = torch.randperm(len(images.class_names), generator=torch.Generator().manual_seed(draw))
    names = tuple(images.class_names[place] for place in order.tolist())
    return dataclasses.replace(images, labels=torch.argsort(order)[images.labels], class_names=names)


def class_incremental(images: Set, share: float = 0.5) -> tuple[Set, Set]:
    """(old, new): the old model sees the first `share` of the classes, the new one all.

    The order of classes is numeric. Apple's release sorts its folders as strings, so that its "first 50" of CIFAR-100
    are {0–5, 10–49, 50–53}; ours are 0–49.

    Raises:
        ValueError: `share` leaves no class, or is not in (0, 1]; or the old classes have no image.
    """
    count = _part(len(images.class_names), share, "classes")
    old = of_classes(images, 0, count)
    if not len(old):
        raise ValueError(f"a share of {share} of the classes, 0 to {count - 1}, has no image; choose a larger share")
    return old, images


def sample_incremental(images: Set, share: float = 0.5) -> tuple[Set, Set]:
    """(old, new): the old model sees the first `share` of every class's images, the new one all.

    Raises:
        ValueError: `share` is not in (0, 1], or leaves no image of a class.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} of the images asked for, which is not in (0, 1]; give one such as 0.5")
    return _select(images, _rank_in_class(images.labels) < _per_class(images.labels, share), share, "old"), images


def hold_out(images: Set, share: float = 0.1) -> tuple[Set, Set]:
    """(training, validation): the last `share` of every class's training images is kept for tuning.

    Raises:
        ValueError: `share` is not in (0, 1), or leaves no training or no validation image of a class.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share} to hold out, which is not in (0, 1); give one such as 0.1")
    kept = _rank_in_class(images.labels) < _per_class(images.labels, 1 - share)
    return _select(images, kept, share, "training"), _select(images, ~kept, share, "validation")


def open_set(train: Joinable, test: Joinable) -> OpenSetSplit:
    """Split by identity: half of the classes to train on, a tenth to validate, the rest to test.

    The training *and* test images of a class go together. Of CIFAR-100: train 0–49 (old 0–24), validation 50–59,
    test 60–99. Source: this study's protocol.

    Raises:
        ValueError: fewer than ten classes, the two sets name different classes, or they are not both an `ImageSet`
            or both a `FeatureSet` (as of images on disk).
    """
    kinds = type(train), type(test)
    if kinds[0] is not kinds[1] or kinds[0] not in (ImageSet, FeatureSet):
        raise ValueError(
            f"an open-set split joins the training and test images, for which both must be an ImageSet or both a "
            f"FeatureSet, not {kinds[0].__name__} and {kinds[1].__name__}; choose a named data set such as cifar100, "
            "or read the images into an ImageSet"
        )
    count = len(train.class_names)
    if count < 10 or train.class_names != test.class_names:
        raise ValueError(f"an open-set split needs at least ten classes, the same in both sets; got {count}")
    everything = train.joined(test)
    half, validation = count // 2, count // 10
    return OpenSetSplit(
        of_classes(everything, 0, half),
        of_classes(everything, half, half + validation),
        of_classes(everything, half + validation, count),
        half // 2,
    )


def for_search(train: Joinable, test: Joinable, calibration: int = 2_000, search: int = 3_000) -> SearchSplit:
    """`open_set` for an architecture search: what chooses a network is neither trained on nor tested with.

    Training and test classes are those of `open_set`, the search has its validation classes: of CIFAR-100 50–59.

    Args:
        train: all classes' training images.
        test: the same classes' test images.
        calibration: so many of the training images, drawn once for all; all where there are fewer.
        search: so many of the validation images, alike; to rank them costs as the square of their number.

    Raises:
        ValueError: as `open_set`, or a number below 1.
    """
    split = open_set(train, test)
    return SearchSplit(split.train, _some(split.train, calibration), _some(split.validation, search), split.test)


def _some(images: Joinable, count: int) -> Joinable:
    """So many images, drawn once for all, in their order."""
    if count < 1:
        raise ValueError(f"{count} images asked for; choose 1 or more")
    drawn = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]
    return images.select(drawn.sort().values)


def mislabelled(images: Joinable, share: float) -> Joinable:
    """The same images, of which the first `share` of every class bear labels of the others, each in turn.

    Of a class's wrong images every other class that is there gets as many, but for one. Source: this study's.

    Raises:
        ValueError: `share` is not in [0, 1), there are fewer than two classes with images, or the images are neither an
            `ImageSet` nor a `FeatureSet`.
    """
    if not isinstance(images, ImageSet | FeatureSet):
        raise ValueError(
            f"labels are changed in an ImageSet or a FeatureSet, not in {type(images).__name__}; choose a named data "
            "set such as cifar100, or read the images into an ImageSet"
        )
    if not 0 <= share < 1:
        raise ValueError(f"a share of {share} to mislabel, which is not in [0, 1); give one such as 0.2")
    there, place = images.labels.unique(return_inverse=True)
    if len(there) < 2:
        raise ValueError(f"images of {len(there)} class have no other to be mislabelled as; give two classes or more")
    rank = _rank_in_class(images.labels)
    others = (place + 1 + rank % (len(there) - 1)) % len(there)
    wrong = rank < _per_class(images.labels, share)
    return dataclasses.replace(images, labels=torch.where(wrong, there[others], images.labels))


def _rank_in_class(labels: Tensor) -> Tensor:
    """For every image the number of earlier images of its class, int64 (N,)."""
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels)) - starts
    return ranks


def _per_class(labels: Tensor, share: float) -> Tensor:
    """For every image, how many images of its class belong to the share, rounded to the nearest."""
    return (torch.bincount(labels) * share).round()[labels]


def _select(images: Set, chosen: Tensor, share: float, part: str) -> Set:
    """The chosen images; every class that the set has images of must keep one."""
    selected, count = images.select(chosen), len(images.class_names)
    before, after = (torch.bincount(labels, minlength=count) for labels in (images.labels, selected.labels))
    lost = ((before > 0) & (after == 0)).nonzero().flatten().tolist()
    if lost or not len(images):
        told = ", ".join(f"{images.class_names[label]!r} (it has {int(before[label])})" for label in lost)
        raise ValueError(
            f"a share of {share} leaves no {part} image of {f'class {told}' if lost else 'an empty set'}; "
            "give more images of every class, or choose another share"
        )
    return selected


def _part(count: int, share: float, what: str) -> int:
    if not 0 < share <= 1 or round(count * share) < 1:
        raise ValueError(f"a share of {share} of {count} {what} leaves none; give a share in (0, 1] that leaves one")
    return round(count * share)
