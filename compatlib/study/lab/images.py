"""Which images a run trains on and tests on, and the subsets of queries whose scores stand apart."""

import multiprocessing
from functools import lru_cache
from typing import Any

import numpy as np

from compatlib.data import sources, splits
from compatlib.data.images import FolderImages, Images, ImageSet
from compatlib.study.settings import Settings

CLASS_INCREMENTAL, SAMPLE_INCREMENTAL = "class-incremental", "sample-incremental"
CLOSED, OPEN_SET, GENERATIONS = "closed", "open-set", "three generations"
# Mirrored, a letter or a digit is another sign.
WITHOUT_FLIP = ("glyphs", "digits", "omniglot_small")


@lru_cache(maxsize=4)
def images(
    dataset: str, split: str, classes: int | None = None, per_class: int | None = None, size: int = 32
) -> Images:
    """A split of a data set, read once a process: `train`, `test`, or the parts of `train`, `kept` and `held out`.

    Raises:
        ValueError: as `sources.load`, and for a folder's file that cannot be read: hours before it would be.
    """
    if split in ("train", "test"):
        found = sources.load(dataset, split, classes=classes, per_class=per_class, size=size)
        if isinstance(found, FolderImages) and multiprocessing.parent_process() is None:  # whoever planned has seen it
            found.check()
        return found
    kept, held_out = splits.hold_out(images(dataset, "train", classes, per_class, size))
    return {"kept": kept, "held out": held_out}[split]


def training_images(run: Settings) -> Images:
    """The run's training images, all classes; a validation's are those that are not held out."""
    return _whole(run, "kept" if run.validation else "train")


def _whole(run: Settings, split: str) -> Images:
    per_class = run.test_per_class if split == "test" else run.train_per_class
    return images(run.dataset, split, run.classes, per_class, run.image_size)


def images_to_test(run: Settings, split: str = CLASS_INCREMENTAL) -> ImageSet:
    """Query set and gallery in one: all classes of the run's test images, or the open-set split's own identities.

    A validation's are held-out training images, of the open-set split the identities that are kept for it: never an
    image or a class that is tested on later.
    """
    if split == OPEN_SET:
        return open_set(run).validation if run.validation else open_set(run).test
    return _whole(run, "held out" if run.validation else "test")


@lru_cache(maxsize=1)
def open_set(run: Settings) -> splits.OpenSetSplit:
    """The run's open-set split: identities to train on, to validate with, and to test on."""
    return splits.open_set(*(_whole(run, split) for split in ("train", "test")))


def known_classes(run: Settings) -> int:
    """Classes that the old model of the class-incremental split knew: the first half."""
    return int(splits.class_incremental(training_images(run))[0].labels.max()) + 1


def masks(run: Settings, split: str) -> dict[str, np.ndarray]:
    """Subsets of the queries: all, and where the old model knew some classes and not others, either; (N,) bool."""
    labels = images_to_test(run, split).labels.numpy()
    found = {"all": np.ones(len(labels), bool)}
    if split == CLASS_INCREMENTAL:
        known = known_classes(run)
        found |= {"known": labels < known, "unknown": labels >= known}
    return found


def augmentation(run: Settings) -> dict[str, Any]:
    """Arguments of `crop_and_flip`: 4 pixels of shift at a side of 32, and no flip where it makes another sign."""
    side = sources.SIDES.get(run.dataset, run.image_size)
    return {"padding": max(1, side // 8), "flip": run.dataset not in WITHOUT_FLIP}


def data_digests(run: Settings) -> dict[str, str]:
    """SHA-256 of the training and the test images."""
    return {"training": training_images(run).digest(), "test": images_to_test(run).digest()}
