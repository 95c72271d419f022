"""Data sets by name: `load(name, split)` finds them, fetches them where that can be done, or says how to get them.

A data set is looked for under `$COMPATLIB_DATA`, by default `data/cache` of the repository. Its images come in a
canonical order (by class, then by a digest of the pixels), so that two copies in different files are the same set.
"""

import dataclasses
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from torchvision.datasets.utils import check_integrity, download_url

from compatlib.data import deepfashion2, features, fixtures, folders, reidentification
from compatlib.data.features import FeatureSet
from compatlib.data.image_folders import class_folders, is_passed_over
from compatlib.data.images import FolderImages, Images, ImageSet
from compatlib.files import DAMAGE

SPLITS = ("train", "test")
CIFAR100_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
CIFAR100_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
CIFAR100_COUNTS = {"train": 50_000, "test": 10_000}
CIFAR100_CLASSES = 100
OMNIGLOT_URL = "https://github.com/brendenlake/omniglot/tree/master/python"
OMNIGLOT_CHARACTERS = {1: 136, 2: 156}  # of either archive
OMNIGLOT_DISTINCT = 242  # of both together
OMNIGLOT_DRAWERS, OMNIGLOT_TRAIN_DRAWERS = 20, 12
GLYPHS_SEED = 20_200_610
GLYPHS_FIRST_TEST = 100_000  # test samples are numbered from here, beyond any training split
SIDES = {"glyphs": 32, "digits": 8, "cifar100": 32, "omniglot_small": 35}  # in pixels; a folder's are asked for
GLYPHS_CLASSES, GLYPHS_TRAIN, GLYPHS_TEST = 200, 60, 20


def data_root() -> Path:
    """The folder of the data sets: `$COMPATLIB_DATA`, else `data/cache` of the repository or working folder."""
    return folders.chosen("COMPATLIB_DATA", _data() / "cache")


def _data() -> Path:
    repository = Path(__file__).parents[2]
    root = repository if (repository / "pyproject.toml").exists() else Path.cwd()
    return root / "data"


def features_root() -> Path:
    """The folder of embedded images: `$COMPATLIB_FEATURES`, else `data/cache/features`."""
    return folders.chosen("COMPATLIB_FEATURES", _data() / "cache" / "features")


def fixtures_root() -> Path:
    """The folder of what the project carries: `data/fixtures` of the repository or working folder."""
    return _data() / "fixtures"


def image_names() -> tuple[str, ...]:
    """The data sets of images that `load` knows by name; any folder under the data root can be loaded besides."""
    return tuple(_READERS)


def names() -> tuple[str, ...]:
    """All that `load` knows by name: sets of images, of persons, vehicles and garments, of features by an encoder."""
    return (*image_names(), *_BY_IDENTITY, *features.SOURCES)


def load(
    name: str,
    split: str,
    *,
    classes: int | None = None,
    per_class: int | None = None,
    size: int | tuple[int, int] | None = None,
    root: Path | str | None = None,
    encoder: str | None = None,
) -> Images | FeatureSet:
    """Load a split of a data set: `train` or `test`, of persons, vehicles and garments `train`, `query` or `gallery`.

    - `glyphs`: drawn on the spot, uint8 (N, 3, 32, 32); 200 classes, 60 training and 20 test images each.
    - `digits`: scikit-learn's 8×8 digits, (N, 1, 8, 8); the last third of every class is the test split.
    - `cifar100`: (N, 3, 32, 32), 500 training and 100 test images a class; fetched where there is a network.
    - `omniglot_small`: 242 characters, 12 training and 8 test drawings each by different hands, (N, 1, 35, 35).
    - `cifar100_lite`, `omniglot_lite`: the images of `cifar100` and `omniglot_small` as an encoder sees them, a
      `FeatureSet` (N, 2, 1280) of every image plain and mirrored, or (N, 1, 1280) where it is not mirrored. Those of
      `omniglot_lite` by `lite0` and `lite2` come with the project (`data/fixtures`), and are read there.
    - `market1501`, `msmt17`, `veri776`: persons and vehicles with their cameras, `IdentityImages` (N, 3, 256, 128) in
      the folders that `reidentification.read` describes; `msmt17` has a split `validation` too.
    - `deepfashion2`: garments of consumers (query) and shops (gallery), each cut out by its box, `CroppedImages`
      (N, 3, 224, 224) in the folders that `compatlib.data.deepfashion2` describes.
    - any other name: `<root>/<name>/<split>/<class>/<image file>`, read when needed, (N, 3, size, size), as
      `FolderImages` says: the classes in numeric order, EXIF's rotation and transparency without effect.

    Args:
        name: one of `names()` or a folder.
        split: `train` or `test`; of persons and vehicles one of `reidentification.SPLITS`, of garments one of
            `deepfashion2.SPLITS`.
        classes: keep the first so many classes (glyphs: draw so many).
        per_class: keep the first so many images of every class (glyphs: draw so many).
        size: side of the images that are read from a folder, by default 32; of the latter (height, width). The
            other named sets have their own.
        root: the folder of the data sets; by default what the project carries, else `data_root()`, for features
            `features_root()`.
        encoder: of features alone, one of `features.WEIGHTS`.

    Raises:
        ValueError: an unknown name or split, more classes or images asked for than there are, a damaged file, files
            that hold other counts than the data set has, a folder whose splits hold different classes, features of
            an unknown encoder or made from something else, and as `FolderImages`, `reidentification.read` and
            `deepfashion2.read`.
        FileNotFoundError: the files are missing and cannot be fetched; the message says where to get and put them, or
            how to embed the images.
    """
    if split not in SPLITS and name not in _BY_IDENTITY:
        raise ValueError(f"unknown split {split!r}; choose one of {SPLITS}")
    if name in features.SOURCES:
        if root is None and fixtures.is_carried(name, encoder):
            read = fixtures.read(name, split, encoder, fixtures_root())
        else:
            read = features.read(name, split, encoder, Path(root) if root else features_root())
        return _first(read, classes, per_class)
    if encoder is not None:
        raise ValueError(f"{name!r} holds images, which no encoder {encoder!r} has seen; leave `encoder` away")
    if root is None and name in fixtures.CARRIED_IMAGES:
        return _first(fixtures.images(name, split, fixtures_root()), classes, per_class)
    root = Path(root) if root else data_root()
    if name in _BY_IDENTITY:
        images = _BY_IDENTITY[name](split, root, **({} if size is None else {"size": size}))
        return _first(images, classes, per_class)
    if name == "glyphs":
        return _glyphs(split, classes, per_class)
    if name in _READERS:
        return _first(_READERS[name](root, split), classes, per_class)
    if not (root / name / split).is_dir():
        raise ValueError(
            f"unknown data set {name!r}; choose one of {names()}, or put images at "
            f"{root / name / split}/<class>/<image>.png"
        )
    images = FolderImages(root / name / split, 32 if size is None else size)
    _check_other_split(root / name, split, images.class_names)
    return _first(images, classes, per_class)


def _check_other_split(folder: Path, split: str, names: tuple[str, ...]) -> None:
    """Every split numbers its own classes: were they others in the other split, labels would mean other classes."""
    other = folder / SPLITS[1 - SPLITS.index(split)]
    others = set(class_folders(other))
    lacking = {other: sorted(set(names) - others), folder / split: sorted(others - set(names))}
    told = "; ".join(f"{path} lacks {', '.join(map(repr, lost))}" for path, lost in lacking.items() if lost)
    if other.is_dir() and told:
        raise ValueError(
            f"{told}: train and test must hold the same classes; add the missing ones or remove the others"
        )


def _first(images: Images, classes: int | None, per_class: int | None) -> Images:
    """The first `per_class` images of the first `classes` classes."""
    counts = torch.bincount(images.labels, minlength=len(images.class_names))
    if classes is not None:
        if not 1 <= classes <= len(counts):
            raise ValueError(f"{classes} classes asked for; the data set has 1 to {len(counts)}")
        images = images.select(images.labels < classes)
        if isinstance(images, FolderImages):
            images.class_names = images.class_names[:classes]
        else:
            images = dataclasses.replace(images, class_names=images.class_names[:classes])
    if per_class is not None:
        smallest = int(counts[:classes].min())
        if not 1 <= per_class <= smallest:
            raise ValueError(f"{per_class} images a class asked for; every class of the data set has 1 to {smallest}")
        order = torch.argsort(images.labels, stable=True).split(torch.bincount(images.labels).tolist())
        images = images.select(torch.cat([indices[:per_class] for indices in order]))
    return images


def _glyphs(split: str, classes: int | None, per_class: int | None) -> ImageSet:
    from compatlib.data import glyphs  # needs the fonts of the `study` extra

    first = 0 if split == "train" else GLYPHS_FIRST_TEST
    classes = GLYPHS_CLASSES if classes is None else classes
    if per_class is None:
        per_class = GLYPHS_TRAIN if split == "train" else GLYPHS_TEST
    if first == 0 and per_class > GLYPHS_FIRST_TEST:
        raise ValueError(f"{per_class} training images a class asked for; glyphs has up to {GLYPHS_FIRST_TEST}")
    images, labels, class_names = glyphs.draw(classes, per_class, seed=GLYPHS_SEED, first_sample=first)
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), class_names)


def _digits(root: Path, split: str) -> ImageSet:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'compatlib[study]'") from error
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    whole = _canonical(images, bunch.target, [str(name) for name in bunch.target_names])
    rank = torch.cat([torch.arange(count) / count for count in torch.bincount(whole.labels)])
    return whole.select((rank < 2 / 3) if split == "train" else (rank >= 2 / 3))


def _cifar100(root: Path, split: str) -> ImageSet:
    folder = root / "cifar100"
    parts = sorted(folder.glob(f"{split}-*.npz"))
    if parts:
        return _from_parts(parts, CIFAR100_COUNTS[split])
    archive = folder / "cifar-100-binary.tar.gz"
    if not archive.exists():
        _fetch_cifar100(archive)
    return _from_cifar_archive(archive, split)


def _fetch_cifar100(archive: Path) -> None:
    """The binary edition, because the other one consists of pickles."""
    part = archive.with_name(f"{archive.name}.{os.getpid()}")
    try:
        download_url(CIFAR100_URL, str(archive.parent), filename=part.name, md5=CIFAR100_MD5)
        os.replace(part, archive)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"CIFAR-100 is not in {archive.parent} and could not be fetched ({error}). Get {CIFAR100_URL} "
            f"(MD5 {CIFAR100_MD5}) and put it there, or put parts train-*.npz and test-*.npz there (arrays `images` "
            "NHWC uint8, `labels` uint8, `classes`), or set COMPATLIB_DATA to the folder above"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _from_parts(parts: list[Path], expected: int) -> ImageSet:
    images, labels, names = zip(*map(_read_part, parts), strict=True)
    count, files = sum(map(len, labels)), [part.name for part in parts]
    if count != expected:
        raise ValueError(f"{files} hold {count} images instead of {expected}: a part is missing, or one too many")
    if len(set(names)) > 1:
        raise ValueError(f"{files} name different classes; fetch them again")
    contents = [hashlib.sha256(part.tobytes()).digest() for part in images]
    doubled = [file for file, content in zip(files, contents, strict=True) if contents.count(content) > 1]
    if doubled:
        raise ValueError(f"{doubled} hold the same images; fetch them again")
    whole = _canonical(np.concatenate(images).transpose(0, 3, 1, 2), np.concatenate(labels), names[0])
    per_class, balanced = torch.bincount(whole.labels, minlength=len(names[0])), expected // CIFAR100_CLASSES
    if (per_class != balanced).any():
        told = f"{per_class.min()} to {per_class.max()} images a class instead of {balanced}"
        raise ValueError(f"{files} hold {told}; fetch them again")
    return whole


def _read_part(part: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images (n, 32, 32, 3), labels (n,) and the names of all classes."""
    try:
        with part.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels, names = arrays["images"], arrays["labels"], tuple(arrays["classes"].tolist())
        if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
            raise ValueError(f"images are {images.dtype} {images.shape} for {len(labels)} labels")
    except DAMAGE as error:
        raise ValueError(f"{part} is damaged ({error}); fetch it again") from error
    return images, labels, names


def _from_cifar_archive(archive: Path, split: str) -> ImageSet:
    """The binary edition: a record is the coarse label, the fine label and 3 × 32 × 32 pixels."""
    if not check_integrity(str(archive), CIFAR100_MD5):
        raise ValueError(f"{archive} is damaged (its MD5 is not {CIFAR100_MD5}); delete it to have it fetched again")
    with tarfile.open(archive) as tar:
        records = np.frombuffer(tar.extractfile(f"cifar-100-binary/{split}.bin").read(), np.uint8)
        names = tar.extractfile("cifar-100-binary/fine_label_names.txt").read().decode().split()
    records = records.reshape(-1, 2 + 3 * 32 * 32)
    return _canonical(records[:, 2:].reshape(-1, 3, 32, 32), records[:, 1], names)


def _omniglot_small(root: Path, split: str) -> ImageSet:
    """Both small background sets; a character that stands in both (by alphabet and number) is taken once."""
    drawings: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for number, characters in OMNIGLOT_CHARACTERS.items():
        path = root / "omniglot" / f"images_background_small{number}.zip"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; get it from {OMNIGLOT_URL} or set COMPATLIB_DATA")
        try:
            with ZipFile(path) as archive:
                for (alphabet, character, drawer), name in _omniglot_files(archive, characters).items():
                    if (drawer <= OMNIGLOT_TRAIN_DRAWERS) == (split == "train"):
                        image = _omniglot_image(archive.read(name))
                        drawings.setdefault((alphabet, character), {})[drawer] = image
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged ({error}); fetch it again") from error
    if len(drawings) != OMNIGLOT_DISTINCT:
        told = f"hold {len(drawings)} different characters instead of {OMNIGLOT_DISTINCT}"
        raise ValueError(f"the archives in {root / 'omniglot'} {told}; get both from {OMNIGLOT_URL}")
    images = [image for _, drawn in sorted(drawings.items()) for _, image in sorted(drawn.items())]
    labels = np.repeat(np.arange(len(drawings)), len(images) // len(drawings))
    return _canonical(np.stack(images), labels, ["/".join(character) for character in sorted(drawings)])


def _omniglot_files(archive: ZipFile, characters: int) -> dict[tuple[str, str, int], str]:
    """The files of an archive by alphabet, character and drawer; every drawer has drawn every character."""
    files = {}
    for name in archive.namelist():
        if name.endswith(".png") and not any(map(is_passed_over, name.split("/"))):
            _, alphabet, character, file = name.split("/")
            files[alphabet, character, int(file.removesuffix(".png").split("_")[1])] = name
    found = {key[:2] for key in files}
    complete = {(*key, drawer) for key in found for drawer in range(1, OMNIGLOT_DRAWERS + 1)}
    if len(found) != characters or set(files) != complete:
        told = f"one by each of drawers 1 to {OMNIGLOT_DRAWERS} of {characters}"
        raise ValueError(f"it holds {len(files)} drawings of {len(found)} characters instead of {told}")
    return files


def _omniglot_image(data: bytes) -> np.ndarray:
    """105×105 black on white → the mean of every 3×3 pixels, (1, 35, 35)."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"), np.float64)
    return np.rint(pixels.reshape(35, 3, 35, 3).mean((1, 3))).astype(np.uint8)[None]


def _canonical(images: np.ndarray, labels: np.ndarray, names: list[str]) -> ImageSet:
    """Order by class, then by the SHA-256 of the pixels."""
    images = np.ascontiguousarray(images)
    digests = [hashlib.sha256(image.data).digest() for image in images]
    order = np.array(sorted(range(len(labels)), key=lambda i: (int(labels[i]), digests[i])))
    labels = torch.from_numpy(labels[order].astype(np.int64))
    return ImageSet(torch.from_numpy(images[order]), labels, tuple(names))


_READERS: dict[str, Callable[[Path, str], Images] | None] = {
    "glyphs": None,
    "digits": _digits,
    "cifar100": _cifar100,
    "omniglot_small": _omniglot_small,
}
_BY_IDENTITY: dict[str, Callable[..., Images]] = {
    **{name: partial(reidentification.read, name) for name in reidentification.NAMES},
    deepfashion2.NAME: deepfashion2.read,
}
