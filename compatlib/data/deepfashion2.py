"""DeepFashion2: garments on photographs by consumers and by shops, in the folders in which it is published.

    train/image/000001.jpg        train/annos/000001.json
    validation/image/000001.jpg   validation/annos/000001.json

An annotation tells its photograph's `source` (`user` or `shop`), its `pair_id`, and of each garment (`item1`, `item2`…)
a `style` and a `bounding_box`. Garments of one pair_id and of one style above 0 are the same; those of style 0 belong
to no pair. Queries are the validation set's garments by consumers, the gallery those by shops. `sources.load` reads
them.

Source: the authors' description (Ge et al., CVPR 2019); that 32,153 photographs are released to validate with is
remembered. The set was not at hand here. The test set's annotations are not published.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from compatlib.data.decoding import printable, read_image
from compatlib.data.folders import visible
from compatlib.data.reidentification import IdentityImages, checked_size
from compatlib.data.tensors import as_indices, as_integers

NAME = "deepfashion2"
WHERE = "https://github.com/switchablenorms/DeepFashion2"
SPLITS = {
    "train": ("train", ("user", "shop")),
    "query": ("validation", ("user",)),
    "gallery": ("validation", ("shop",)),
}
SOURCES = ("user", "shop")
COUNTS = {"train": 191_961, "validation": 32_153}  # photographs
SIZE = (224, 224)
NO_PAIR = (0, 0)


@dataclass(frozen=True, eq=False)
class CroppedImages(IdentityImages):
    """Parts of images on disk: as `IdentityImages`, but that of each image a box alone is read and resized.

    boxes: int64 (N, 4), left, top, right and bottom in pixels; what lies beyond the image is left out. cameras: the
        places of `SOURCES`, 0 for consumers and 1 for shops.

    Raises:
        ValueError: as `IdentityImages`, or boxes of another shape or without a pixel.
    """

    boxes: Tensor = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        boxes = as_integers(self.boxes, "boxes")
        if boxes.dtype != torch.int64 or boxes.shape != (len(self.files), 4):
            raise ValueError(
                f"boxes must be int64 ({len(self.files)}, 4), one an image, not {boxes.dtype} {tuple(boxes.shape)}"
            )
        if len(boxes) and not ((boxes[:, :2] >= 0) & (boxes[:, 2:] > boxes[:, :2])).all():
            raise ValueError("a box has no pixel; valid are left < right and top < bottom, from 0")
        object.__setattr__(self, "boxes", boxes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, (left, top, right, bottom) = read_image(self.files[index]), self.boxes[index].tolist()
        part = image[:, top:bottom, left:right]
        if not part.numel():
            raise ValueError(
                f"the box {self.boxes[index].tolist()} lies beyond {printable(self.files[index])}, which has "
                f"{image.shape[2]} × {image.shape[1]} pixels: look whether image and annotation belong together"
            )
        return transforms.resize(part, list(self.size), InterpolationMode.BICUBIC, antialias=True), self.labels[index]

    def select(self, indices: Tensor) -> "CroppedImages":
        """The subset at `indices` (integers (n,) or bool (N,)), in their order; nothing is read yet."""
        chosen = as_indices(indices, len(self))
        files = tuple(self.files[place] for place in chosen.tolist())
        others = {name: getattr(self, name)[chosen] for name in ("labels", "cameras", "boxes")}
        return replace(self, files=files, **others)

    @cached_property
    def _digest(self) -> str:
        whole = IdentityImages._digest.func(self)
        return hashlib.sha256(whole.encode() + self.boxes.contiguous().numpy().tobytes()).hexdigest()


class _Garment(NamedTuple):
    """One that is annotated: its photograph, its identity (pair_id, style), its source, its box."""

    file: Path
    identity: tuple[int, int]
    source: str
    box: list[int]


def read(split: str, root: Path, size: tuple[int, int] | int = SIZE) -> CroppedImages:
    """One split under `root`/deepfashion2.

    - `train`: the training set's garments of consumers and shops that belong to a pair.
    - `query`: the validation set's garments by consumers that belong to a pair.
    - `gallery`: all of its garments by shops; those that belong to no pair are one identity that no query has (our
      reading, as of Market-1501's distractors).

    Identities are numbered from 0 in numeric order of pair and style, `query` and `gallery` together, and named
    `000017/2`. A query whose garment no shop shows has nothing to find, and counts in no score.

    Args:
        split: one of `SPLITS`.
        root: the folder of the data sets.
        size: height and width, or one number for both, in pixels; by default 224 × 224, ours.

    Raises:
        ValueError: an unknown split or size, an annotation that cannot be read, lacks something or has a box without a
            pixel, images that annotations lack, or no garment.
        FileNotFoundError: a folder is missing; the message says where to get and put it.

    Warns:
        UserWarning: another number of photographs is annotated than as published.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of {NAME}; choose one of {tuple(SPLITS)}")
    size, (folder, sources) = checked_size(size), SPLITS[split]
    garments = _garments(root / NAME / folder)
    is_searched = split == "gallery"
    own = [each for each in garments if each.source in sources and (each.identity != NO_PAIR or is_searched)]
    if not own:
        raise ValueError(f"{root / NAME / folder} holds no garment for {split!r}; get DeepFashion2 anew from {WHERE}")
    numbers = sorted({each.identity for each in garments if each.identity != NO_PAIR or folder == "validation"})
    place = {identity: label for label, identity in enumerate(numbers)}
    return CroppedImages(
        tuple(each.file for each in own),
        torch.tensor([place[each.identity] for each in own]),
        torch.tensor([SOURCES.index(each.source) for each in own]),
        tuple(f"{pair:06d}/{style}" for pair, style in numbers),
        size,
        boxes=torch.tensor([each.box for each in own]),
    )


def _garments(base: Path) -> list[_Garment]:
    """All that are annotated, in the order of their photographs."""
    for folder in (base / "image", base / "annos"):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is missing; get DeepFashion2 from {WHERE} and put its folders there, or set COMPATLIB_DATA "
                "to the folder above"
            )
    annotations = visible((base / "annos").glob("*.json"))
    if len(annotations) != COUNTS[base.name]:
        found = f"{base / 'annos'} holds {len(annotations):,} annotations"
        warnings.warn(f"{found}; DeepFashion2 as published holds {COUNTS[base.name]:,}", stacklevel=4)
    there = {path.stem: path for path in visible((base / "image").glob("*.jpg"))}
    lacking = [path.stem for path in annotations if path.stem not in there]
    if lacking:
        more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
        told = ", ".join(f"{name}.jpg" for name in lacking[:3])
        raise ValueError(f"{base / 'image'} lacks {told}{more}, which annos names; unpack it again")
    return [garment for path in annotations for garment in _annotated(path, there[path.stem])]


def _annotated(path: Path, image: Path) -> Iterator[_Garment]:
    """The garments of an annotation."""
    try:
        found = json.loads(path.read_text("utf-8"))
        source, pair = found["source"], _number(found["pair_id"], "pair_id")
        if source not in SOURCES:
            raise ValueError(f"source is {source!r}; valid are {SOURCES}")
        for number in count(1):
            if f"item{number}" not in found:
                return
            item = found[f"item{number}"]
            style, box = _number(item["style"], "style"), _box(item["bounding_box"])
            yield _Garment(image, (pair, style) if style else NO_PAIR, source, box)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{printable(path)} is no annotation of DeepFashion2 ({reason}); get it anew from {WHERE}"
        ) from error


def _number(value: Any, name: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}; valid are whole numbers from 0")
    return value


def _box(value: Any) -> list[int]:
    left, top, right, bottom = (_number(each, "bounding_box") for each in value)
    if left >= right or top >= bottom:
        raise ValueError(f"bounding_box is {value}; valid is [left, top, right, bottom] with a pixel between")
    return [left, top, right, bottom]
