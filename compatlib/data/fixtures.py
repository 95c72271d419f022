"""What the project carries for a machine that has nothing else: `omniglot_small`, and `omniglot_lite` by two encoders.

The images are those of the archives, `data/fixtures/omniglot_small/images.npz`, half a megabyte. The features, by Lite0
and Lite2, are those of `make data NAME=omniglot_lite` themselves, float16, bit for bit: two of three are 0, so that
they are small without a loss once they are compressed column by column (`data/fixtures/<name>/<encoder>.npz`, 10 MB
both together). A set by a carried encoder *is* the carried file, also where the same was embedded on this machine, for
features differ between processors in their last bits: one set has one form, and a result of it one origin, which names
the images, the weights and how they were embedded, as that of any features. `make fixture` makes the files.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compatlib.data import features
from compatlib.data.features import FeatureSet
from compatlib.data.images import ImageSet
from compatlib.files import replacing

# SHA-256 of the files: of images by data set, of features by data set and encoder.
CARRIED_IMAGES = {"omniglot_small": "db0c820ffd0bb7f6f01ba7c979d0b3138898d26f7d5ac9adc589f5cb2cf7f52c"}
CARRIED = {
    "omniglot_lite": {
        "lite0": "0d900dde0a43e031296e6e8c36f6030e0473edcd776c1fe94aec8a1a57e8abf2",
        "lite2": "891871e6c2b2efb54d19c6fc3af54b1f80fe78f8ac3979ac876d5c3131a700b6",
    },
}


def is_carried(name: str, encoder: str | None) -> bool:
    """Whether the project carries a data set's features by an encoder."""
    return encoder in CARRIED.get(name, ())


def place(name: str, encoder: str, root: Path) -> Path:
    """The file of a data set's features by an encoder below the folder of fixtures: `<root>/<name>/<encoder>.npz`."""
    return root / name / f"{encoder}.npz"


def images_place(name: str, root: Path) -> Path:
    """The file of a data set's images below the folder of fixtures."""
    return root / name / "images.npz"


def images(name: str, split: str, root: Path) -> ImageSet:
    """The images of a split; called through `sources.load`.

    Args:
        name: in `CARRIED_IMAGES`.
        split: `train` or `test`.
        root: the folder of the fixtures.

    Raises:
        FileNotFoundError: the file is not there, as in an installed package; the message says what to do.
        ValueError: its SHA-256 is another one than `CARRIED_IMAGES` names.
    """
    restored = f"`git checkout -- data/fixtures` in a checkout of the repository brings back {name}"
    missing = f"{restored}; elsewhere root=<folder of the data sets> reads the archives that it is made from"
    content = _checked(images_place(name, root), CARRIED_IMAGES[name], missing, restored)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        pixels, labels = (torch.from_numpy(arrays[f"{split} {part}"]) for part in ("images", "labels"))
        names = tuple(json.loads(str(arrays["class_names"])))
    return ImageSet(pixels, labels.long(), names)


def write_images(path: Path, splits: Mapping[str, ImageSet]) -> str:
    """Write a file of images that the project carries, of one data set's splits; returns its SHA-256."""
    (names,) = {each.class_names for each in splits.values()}
    arrays = {"class_names": np.array(json.dumps(names))}
    for split, each in splits.items():
        arrays |= {f"{split} images": each.images.numpy(), f"{split} labels": each.labels.numpy().astype(np.uint8)}
    return _written(path, arrays)


def read(name: str, split: str, encoder: str, root: Path) -> FeatureSet:
    """The features of a split; called through `sources.load`. They are decoded once a process, and all sets share them.

    Args:
        name: in `CARRIED`.
        split: `train` or `test`.
        encoder: of those that are carried.
        root: the folder of the fixtures.

    Raises:
        FileNotFoundError: the file is not there, as in an installed package; the message says what to do.
        ValueError: its SHA-256 is another one than `CARRIED` names, or it was made from other images, weights, size or
            precision than `features` names.
    """
    stored, identity = _decoded(place(name, encoder, root), name, encoder, CARRIED[name][encoder])
    return features.part(stored, identity, name, split, encoder)


@cache
def _decoded(path: Path, name: str, encoder: str, checksum: str) -> tuple[np.ndarray, Mapping[str, Any]]:
    """All features of a file, float16 (M, views · d), read-only, and what they were made of."""
    restored = f"`git checkout -- data/fixtures` in a checkout of the repository brings back {name} by {encoder}"
    missing = (
        f"{restored}; elsewhere `python -m compatlib.study.lab.features {name} --encoders {encoder}` embeds the images,"
        " and root=<folder of the features> reads them"
    )
    content = _checked(path, checksum, missing, restored)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        stored, identity = np.ascontiguousarray(arrays["columns"].T), json.loads(str(arrays["identity"]))
    other = [part for part, value in features.made_of(name, encoder).items() if identity.get(part) != value]
    if other:
        raise ValueError(
            f"{path} was made from other {', '.join(other)} than {name} by {encoder}; `make data NAME={name} "
            f"ENCODERS={encoder}`, then `make fixture`, makes it anew"
        )
    stored.flags.writeable = False
    return stored, identity


def _checked(path: Path, checksum: str, missing: str, restored: str) -> bytes:
    """The content of a carried file, and what a reader is told where it is missing, or another one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        told = "it belongs to the repository, and an installed package does not carry it"
        raise FileNotFoundError(f"{path} is not there: {told}. {missing}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != checksum:
        raise ValueError(
            f"{path} is damaged, or another file: its SHA-256 is {found} instead of {checksum}; {restored}"
        )
    return content


def write(path: Path, stored: np.ndarray, identity: Mapping[str, Any]) -> str:
    """Write a file that the project carries; returns its SHA-256.

    The same features give the same bytes under the same version of zlib.

    Args:
        path: the file.
        stored: float16 (M, views, d), or (M, views · d), of all splits.
        identity: what they were made of, as the description beside a file of features tells it.
    """
    columns, described = stored.reshape(len(stored), -1).T, json.dumps(identity, sort_keys=True)
    return _written(path, {"columns": np.ascontiguousarray(columns), "identity": np.array(described)})


def _written(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays compressed; returns the file's SHA-256."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()
