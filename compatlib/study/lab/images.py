"""Which images a run trains on and tests on, and the subsets of queries whose scores stand apart."""

import multiprocessing
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compatlib.data import sources, splits
from compatlib.data.augment import crop_and_flip, two_noisy_views, two_views, view_with_noise
from compatlib.data.by_encoder import ByEncoder
from compatlib.data.features import SOURCES, FeatureSet
from compatlib.data.images import FolderImages, Images, ImageSet
from compatlib.study.settings import Knobs, Settings

CLASS_INCREMENTAL, SAMPLE_INCREMENTAL = "class-incremental", "sample-incremental"
CLOSED, OPEN_SET, GENERATIONS = "closed", "open-set", "three generations"
SEARCHED = "search classes"  # what an architecture search is judged by: neither trained on nor tested with
# Mirrored, a letter or a digit is another sign.
WITHOUT_FLIP = ("glyphs", "digits", "omniglot_small")
# What is held out for tuning of data sets of few images a class: of 12 drawings 3.
HELD_OUT = {"omniglot_lite": 0.25}


@lru_cache(maxsize=8)
def images(
    dataset: str,
    split: str,
    classes: int | None = None,
    per_class: int | None = None,
    size: int = 32,
    encoder: str | None = None,
    draw: int = 0,
) -> Images | FeatureSet:
    """A split of a data set, read once a process: `train`, `test`, or the parts of `train`, `kept` and `held out`.

    Of features, those by one encoder. Of a draw, its classes are numbered in another order.

    Raises:
        ValueError: as `sources.load`, and for a folder's file that cannot be read: hours before it would be.
    """
    if split in ("train", "test"):
        found = sources.load(dataset, split, classes=classes, per_class=per_class, size=size, encoder=encoder)
        if isinstance(found, FolderImages) and multiprocessing.parent_process() is None:  # whoever planned has seen it
            found.check()
        return splits.renumbered(found, draw) if draw else found
    share = {"share": HELD_OUT[dataset]} if dataset in HELD_OUT else {}
    kept, held_out = splits.hold_out(images(dataset, "train", classes, per_class, size, encoder, draw), **share)
    return {"kept": kept, "held out": held_out}[split]


def encoder_of(run: Settings, role: str) -> str | None:
    """The encoder on whose features a role's head stands; None where networks see images.

    Roles `old…` stand on the old one, and so does a query model beside the gallery's.
    """
    return run.encoders and (run.encoders.old if role.startswith(("old", "query")) else run.encoders.new)


def training_images(run: Settings, encoder: str | None = None) -> Images | FeatureSet:
    """The run's training images, all classes; a validation's are those that are not held out.

    Args:
        run: the run's settings.
        encoder: as which encoder sees them; the one of new roles by default.
    """
    return _whole(run, "kept" if run.validation else "train", encoder)


def _whole(run: Settings, split: str, encoder: str | None) -> Images | FeatureSet:
    per_class = run.test_per_class if split == "test" else run.train_per_class
    encoder = encoder or encoder_of(run, "new")
    return images(run.dataset, split, run.classes, per_class, run.image_size, encoder, run.draw)


def images_to_test(run: Settings, split: str = CLASS_INCREMENTAL, encoder: str | None = None) -> ImageSet | FeatureSet:
    """Query set and gallery in one: all classes of the run's test images, or the open-set split's own identities.

    A validation's are held-out training images, of the open-set split the identities that are kept for it: never an
    image or a class that is tested on later. `encoder` as of `training_images`.
    """
    if split == SEARCHED:
        return search_images(run)
    if split == OPEN_SET:
        return open_set(run, encoder).validation if run.validation else open_set(run, encoder).test
    return _whole(run, "held out" if run.validation else "test", encoder)


def pictures(run: Settings) -> Images:
    """What stands in the test set of the class-incremental split, to look at; of features the images that they are of.

    Raises:
        FileNotFoundError: these images are not at hand; the message says where to get them.
    """
    if not run.encoders:
        return images_to_test(run)
    source = SOURCES[run.dataset].images
    return images(source, "test", run.classes, run.test_per_class, run.image_size, None, run.draw)


def open_set(run: Settings, encoder: str | None = None) -> splits.OpenSetSplit:
    """The run's open-set split: identities to train on, to validate with, and to test on; `encoder` as above."""
    return _open_set(run, encoder or encoder_of(run, "new"))


def calibration_images(run: Settings) -> ImageSet:
    """Images of the open-set split's training classes, by which the BatchNorm of a path is recalibrated."""
    return _search_images(_plain(run), run.knobs.calibration, run.knobs.searched)[0]


def search_images(run: Settings) -> ImageSet:
    """What a search judges paths by: images of the open-set split's validation identities."""
    return _search_images(_plain(run), run.knobs.calibration, run.knobs.searched)[1]


def _plain(run: Settings) -> Settings:
    """What decides a run's images, and nothing else."""
    return run.model_copy(update={"knobs": Knobs(), "seeds": (0,), "sweep_seeds": (0,)})


@lru_cache(maxsize=2)
def _search_images(run: Settings, calibration: int, searched: int) -> tuple[ImageSet, ImageSet]:
    split = splits.for_search(*(_whole(run, split, None) for split in ("train", "test")), calibration, searched)
    return split.calibration, split.search


def tested_images(split: str) -> bool | str:
    """What tells a split's test images from others': True of the open set's, of a search's its name, else False."""
    return split if split == SEARCHED else split == OPEN_SET


@lru_cache(maxsize=2)
def _open_set(run: Settings, encoder: str | None) -> splits.OpenSetSplit:
    return splits.open_set(*(_whole(run, split, encoder) for split in ("train", "test")))


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
    """Arguments of `view_with_noise` for features, else of `crop_and_flip`.

    The latter shifts by 4 pixels at a side of 32, and does not mirror where that makes another sign.
    """
    if run.encoders:
        return {"noise": run.noise}
    side = sources.SIDES.get(run.dataset, run.image_size)
    return {"padding": max(1, side // 8), "flip": run.dataset not in WITHOUT_FLIP}


def augment(run: Settings, trained_on: Images | FeatureSet | ByEncoder) -> Callable[[Any, torch.Generator], Any]:
    """How a batch of a training set is augmented; features by noise in their own deviations over this set."""
    if isinstance(trained_on, ByEncoder):
        deviation = {name: standardisation(each)[1] for name, each in trained_on.sets.items()}
        return partial(view_with_noise, deviation=deviation, **augmentation(run))
    if isinstance(trained_on, FeatureSet):
        own = {"deviation": standardisation(trained_on)[1], "encoder": trained_on.encoder}
        return partial(view_with_noise, **own, **augmentation(run))
    return partial(crop_and_flip, **augmentation(run))


def two_views_of(run: Settings, trained_on: Images | FeatureSet) -> Callable[[Any, torch.Generator], Any]:
    """How SimCLR sees a batch of a training set twice."""
    if isinstance(trained_on, FeatureSet):
        mean, deviation = standardisation(trained_on)
        own = {"mean": mean, "deviation": deviation, "encoder": trained_on.encoder, "dropped": run.knobs.dropped}
        return partial(two_noisy_views, **own, **augmentation(run))
    return partial(two_views, flip=augmentation(run)["flip"])


@lru_cache(maxsize=16)
def standardisation(features: FeatureSet) -> tuple[Tensor, Tensor]:
    """Mean and deviation (d,) of the features as they are, of the first view, over a set; computed in float64."""
    total = torch.zeros(2, features.stored.shape[-1], dtype=torch.float64)
    for indices in torch.arange(len(features)).split(5000):
        plain = features.batch(indices)[0][:, 0].double()
        total += torch.stack([plain.sum(dim=0), plain.square().sum(dim=0)])
    mean, square = total / len(features)
    return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float()


def data_digests(run: Settings) -> dict[str, str]:
    """SHA-256 of the training and the test images; of features, as old and as new roles see them."""
    found = {}
    for name, part in (("training", training_images), ("test", partial(images_to_test, split=CLASS_INCREMENTAL))):
        encoders = dict.fromkeys(encoder_of(run, role) for role in ("old", "new"))
        sets = {encoder: part(run, encoder=encoder) for encoder in encoders}
        found[name] = (ByEncoder(sets) if run.encoders else sets[None]).digest()
    return found
