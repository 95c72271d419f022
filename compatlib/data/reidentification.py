"""Person and vehicle re-identification: Market-1501, MSMT17 and VeRi-776 in the folders in which they are published.

Each has a training set, and queries and a gallery of other identities; every image has an identity and a camera.
`sources.load(name, split)` reads them. A query never retrieves its own identity from its own camera:

    evaluate(queries, items, query.labels, gallery.labels, query_cameras=query.cameras, gallery_cameras=gallery.cameras)

The layouts are as the loaders of fast-reid, torchreid and the strong baseline read them (their released code); that
MSMT17's lists of training images hold 30,248 and 2,373 is remembered, their sum is read. No set was at hand here.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import index
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from compatlib.data.decoding import check_image, printable, read_image
from compatlib.data.image_folders import image_files
from compatlib.data.images import check_labels
from compatlib.data.tensors import as_indices, as_integers

SPLITS = ("train", "validation", "query", "gallery")
SIZE = (256, 128)  # height and width in Dual-Tuning's release
JUNK, DISTRACTOR = -1, 0
_IN_NAME = re.compile(r"(-1|\d+)_c(\d+)")  # of Market-1501 and VeRi-776: 0002_c1s1_000451_03.jpg, 0001_c001_….jpg
_IN_NAME_OF_MSMT17 = re.compile(r"\d+_\d+_(\d+)_")  # 0000_000_01_0303morning_0015_0.jpg: camera 01


@dataclass(frozen=True, eq=False)
class IdentityImages:
    """Images on disk, of identities seen by cameras, read when they are asked for: a set of `data.images.Images`.

    Every image is decoded to RGB and resized to `size` by bicubic interpolation, as in fast-reid, uint8 (3, H, W).

    files: N paths. labels: int64 (N,), the identities, as places in `class_names`. cameras: int64 (N,), as the data set
        numbers them. class_names: the identities' numbers as texts of four digits. size: height and width in pixels, or
        one number for both.

    Raises:
        ValueError: lengths that differ, labels outside of the class names, no integers, or a size below 1.
    """

    files: tuple[Path, ...]
    labels: Tensor
    cameras: Tensor
    class_names: tuple[str, ...]
    size: tuple[int, int] = SIZE

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(map(Path, self.files)))
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        object.__setattr__(self, "size", checked_size(self.size))
        for name in ("labels", "cameras"):
            numbers = as_integers(getattr(self, name), name)
            if numbers.dtype != torch.int64 or numbers.shape != (len(self.files),):
                raise ValueError(
                    f"{name} must be int64 ({len(self.files)},), one an image, not {numbers.dtype} "
                    f"{tuple(numbers.shape)}"
                )
            object.__setattr__(self, name, numbers)
        check_labels(self.labels, self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = read_image(self.files[index])
        resized = transforms.resize(image, list(self.size), InterpolationMode.BICUBIC, antialias=True)
        return resized, self.labels[index]

    def check(self) -> None:
        """Read the head of every file. Raises ValueError as `decoding.check_image`, for the first that is refused."""
        for file in self.files:
            check_image(file)

    def select(self, indices: Tensor) -> "IdentityImages":
        """The subset at `indices` (integers (n,) or bool (N,)), in their order; nothing is read yet."""
        chosen = as_indices(indices, len(self))
        files = tuple(self.files[place] for place in chosen.tolist())
        return replace(self, files=files, labels=self.labels[chosen], cameras=self.cameras[chosen])

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the size, the names of the classes and every file's name, label, camera, bytes.

        The files are read once. Of a path the name alone counts.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(repr((self.size, self.class_names)).encode())
        for file, label, camera in zip(self.files, self.labels.tolist(), self.cameras.tolist(), strict=True):
            place = f"{label}/{camera}/{file.name}/".encode("utf-8", "surrogateescape")
            total.update(place + hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()


@dataclass(frozen=True)
class Layout:
    """How a data set is published.

    title, where: its name, and where its authors give it. unpacked: names of the folder that its archive holds, which
        may be there or not. folders: by split, the names that its folder may have. lists: by split, the list of its
        images. identities, cameras: the first and the last. counts: by split, the images of the whole set, without
        junk. is_listed: whether its lists count and not its folders; then test identities are numbered anew.
    """

    title: str
    where: str
    unpacked: tuple[str, ...]
    folders: Mapping[str, tuple[str, ...]]
    lists: Mapping[str, str]
    identities: tuple[int, int]
    cameras: tuple[int, int]
    counts: Mapping[str, int]
    is_listed: bool = False


LAYOUTS = {
    "market1501": Layout(
        title="Market-1501",
        where="https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
        unpacked=("Market-1501-v15.09.15",),
        folders={"train": ("bounding_box_train",), "query": ("query",), "gallery": ("bounding_box_test",)},
        lists={},
        identities=(0, 1501),
        cameras=(1, 6),
        counts={"train": 12_936, "query": 3_368, "gallery": 15_913},
    ),
    "msmt17": Layout(
        title="MSMT17",
        where="http://www.pkuvmc.com/publications/msmt17.html",
        unpacked=("MSMT17_V1", "MSMT17_V2"),
        folders={
            "train": ("train", "mask_train_v2"),
            "validation": ("train", "mask_train_v2"),
            "query": ("test", "mask_test_v2"),
            "gallery": ("test", "mask_test_v2"),
        },
        lists={
            "train": "list_train.txt",
            "validation": "list_val.txt",
            "query": "list_query.txt",
            "gallery": "list_gallery.txt",
        },
        identities=(0, 4101),
        cameras=(1, 15),
        counts={"train": 30_248, "validation": 2_373, "query": 11_659, "gallery": 82_161},
        is_listed=True,
    ),
    "veri776": Layout(
        title="VeRi-776",
        where="https://vehiclereid.github.io/VeRi",
        unpacked=("VeRi",),
        folders={"train": ("image_train",), "query": ("image_query",), "gallery": ("image_test",)},
        lists={"train": "name_train.txt", "query": "name_query.txt", "gallery": "name_test.txt"},
        identities=(1, 776),
        cameras=(1, 20),
        counts={"train": 37_778, "query": 1_678, "gallery": 11_579},
    ),
}
NAMES = tuple(LAYOUTS)


class _Seen(NamedTuple):
    """An image before it is read."""

    file: Path
    identity: int
    camera: int


def read(name: str, split: str, root: Path, size: tuple[int, int] | int = SIZE) -> IdentityImages:
    """One split of a data set under `root`/`name`, with or without the folder that its archive holds.

    - Market-1501: `bounding_box_train`, `query`, `bounding_box_test`; identity and camera from the file's name. Junk
      images (−1) are left out; distractors (0000) stay in the gallery, as one identity that no query has.
    - MSMT17: `train` and `test` (`mask_train_v2` and `mask_test_v2` in its second version) with lists of paths and
      identities; camera from the file's name. `validation` holds other images of the training identities. Test
      identities are numbered from 0 anew: 0000 is another person there.
    - VeRi-776: `image_train`, `image_query`, `image_test`; identity and camera from the file's name. As in all loaders
      the folders count and not the lists `name_….txt`, one of which is said to lack 32 training images; but a file that
      a list names must be there.

    Identities are numbered from 0 in numeric order, `train` and `validation` together, `query` and `gallery` together.
    Dual-Tuning's old models know the first 312 of Market-1501's 751 (those below 0600) and 502 of MSMT17's 1,041.

    Args:
        name: one of `NAMES`.
        split: one of `SPLITS` that the data set has.
        root: the folder of the data sets.
        size: height and width, or one number for both, in pixels.

    Raises:
        ValueError: an unknown split or size, a file's name without identity and camera or with one that the data set
            has not, an image in a folder of its own, a list that is damaged, names an image twice or one that is not
            there, an empty set, a training image or a query that is a distractor, or identities that are trained on and
            tested.
        FileNotFoundError: a folder or a list is missing; the message says where to get and put it.

    Warns:
        UserWarning: the split holds another number of images than as published.
    """
    layout, size = LAYOUTS[name], checked_size(size)
    if split not in layout.folders:
        raise ValueError(f"unknown split {split!r} of {name}; choose one of {tuple(layout.folders)}")
    base = next((root / name / each for each in layout.unpacked if (root / name / each).is_dir()), root / name)
    seen = {each: (_listed if layout.is_listed else _in_folder)(layout, base, each) for each in layout.folders}
    identities = {each: {image.identity for image in images} for each, images in seen.items()}
    if not layout.is_listed:
        _check_identities(identities, base)
    _check_count(layout, base, split, len(seen[split]))
    partners = ("train", "validation") if split in ("train", "validation") else ("query", "gallery")
    numbers = sorted(set().union(*(identities.get(each, ()) for each in partners)))
    place = {identity: label for label, identity in enumerate(numbers)}
    files, own, cameras = zip(*seen[split], strict=True)
    labels = torch.tensor([place[identity] for identity in own])
    return IdentityImages(files, labels, torch.tensor(cameras), tuple(f"{each:04d}" for each in numbers), size)


def checked_size(size: tuple[int, int] | int) -> tuple[int, int]:
    """Height and width, of one number for both. Raises ValueError for what is neither, or below 1 pixel."""
    try:
        height, width = (index(size),) * 2 if not isinstance(size, tuple | list) else map(index, size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"size is {size!r}; valid is (height, width) or one whole number, in pixels") from error
    if min(height, width) < 1:
        raise ValueError(f"size is {size!r}; choose sides of 1 pixel or more")
    return height, width


def _in_folder(layout: Layout, base: Path, split: str) -> list[_Seen]:
    """All images of a split's folder but junk, in the order of their names."""
    folder = _folder(layout, base, split)
    files, seen = image_files(folder), []
    for file in files:
        if file.parent != folder:
            raise ValueError(f"{printable(file)} lies in a folder of its own; images lie in {folder} itself: move it")
        found = _IN_NAME.match(file.name)
        if not found:
            raise ValueError(
                f"{printable(file)} names no identity and camera, such as 0002_c1…; take it away, or get "
                f"{layout.title} anew from {layout.where}"
            )
        seen.append(_Seen(file, *map(int, found.groups())))
    lacking = _named(layout, base, split) - {file.name for file in files}
    if lacking:
        raise ValueError(f"{folder} lacks {_told(lacking)}, which {layout.lists[split]} names; unpack it again")
    return _checked([image for image in seen if image.identity != JUNK], layout, folder)


def _named(layout: Layout, base: Path, split: str) -> set[str]:
    """What a split's list names, if the data set has lists and they are there."""
    path = base / layout.lists[split] if layout.lists else None
    return {Path(line.split()[0]).name for line in _lines(path)} if path and path.exists() else set()


def _listed(layout: Layout, base: Path, split: str) -> list[_Seen]:
    """All images of a split's list, in its order."""
    folder, path = _folder(layout, base, split), base / layout.lists[split]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; get {layout.title} from {layout.where}, and put it there")
    seen, lines = [], _lines(path)
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"(\S+)\s+(\d+)", line)
        camera = found and _IN_NAME_OF_MSMT17.match(Path(found[1]).name)
        if not camera:
            raise ValueError(
                f"line {number} of {path} is {line!r}; valid is a path with a camera and an identity, such as "
                "0000/0000_000_01_0303morning_0015_0.jpg 0"
            )
        seen.append(_Seen(folder / found[1], int(found[2]), int(camera[1])))
    if len({image.file for image in seen}) < len(seen):
        raise ValueError(f"{path} names an image twice; unpack it again")
    lacking = [str(image.file.relative_to(folder)) for image in seen if not image.file.is_file()]
    if lacking:
        raise ValueError(f"{folder} lacks {_told(lacking)}, which {path.name} names; unpack it again")
    return _checked(seen, layout, path)


def _folder(layout: Layout, base: Path, split: str) -> Path:
    folders = [base / each for each in layout.folders[split]]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise FileNotFoundError(
            f"{folders[0]} is missing; get {layout.title} from {layout.where} and put its folders there, or set "
            "COMPATLIB_DATA to the folder above"
        )
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}; unpack it again") from error


def _checked(seen: list[_Seen], layout: Layout, where: Path) -> list[_Seen]:
    """The images of a split, if the data set can have them."""
    if not seen:
        raise ValueError(f"{where} holds no image of an identity; get {layout.title} anew from {layout.where}")
    for what in ("identity", "camera"):
        low, high = layout.identities if what == "identity" else layout.cameras
        wrong = next((image for image in seen if not low <= getattr(image, what) <= high), None)
        if wrong:
            raise ValueError(
                f"{printable(wrong.file)} is of {what} {getattr(wrong, what)}; {layout.title} has {low} to {high}: "
                "look whether it is another data set"
            )
    return seen


def _check_count(layout: Layout, base: Path, split: str, count: int) -> None:
    if count != layout.counts[split]:
        found = f"{split} of {base} holds {count:,} images"
        warnings.warn(f"{found}; {layout.title} as published holds {layout.counts[split]:,}", stacklevel=4)


def _check_identities(identities: Mapping[str, set[int]], base: Path) -> None:
    for split in ("train", "query"):
        if DISTRACTOR in identities[split]:
            raise ValueError(
                f"images of {split} in {base} are of identity 0000, which is nobody: distractors belong to the gallery "
                "alone"
            )
    both = identities["train"] & (identities["query"] | identities["gallery"])
    if both:
        told = _told(f"{each:04d}" for each in both)
        raise ValueError(f"{base} trains and tests identities {told}; they must differ: unpack it again")


def _told(names: Iterable[str]) -> str:
    """The first names of some, and how many more there are."""
    names = sorted(map(printable, names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
