"""Images embedded once by an encoder that nobody trains: a set of features behind the protocol of a set of images.

`sources.load("cifar100_lite", "train", encoder="lite0")` reads them; nothing here embeds,
`make data NAME=cifar100_lite` does, and some the project carries (:mod:`compatlib.data.fixtures`). One file holds the
training and the test images of an encoder, with a description beside it (`<file>.json`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compatlib.data.images import check_labels
from compatlib.data.tensors import as_indices, as_integers
from compatlib.files import DAMAGE

PIXELS, PRECISION = 160, "bfloat16"
# SHA-256 of the encoders' files of weights.
WEIGHTS = {
    "lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


@dataclass(frozen=True)
class Source:
    """The images that are embedded.

    images: their data set. digests: `ImageSet.digest` of each split. count: of all splits together. views: of every
    image, in the order in which they are stored. size: numbers of a view.
    """

    images: str
    digests: Mapping[str, str]
    count: int
    views: tuple[str, ...]
    size: int = 1280


SOURCES = {
    "cifar100_lite": Source(
        "cifar100",
        {
            "train": "b974e847172009c831eb65dacc165c5b6311ef531de2324a3741edb262cb5093",
            "test": "3a0894fd92ddac93479d7334ccaf6ada1251b28b0347789c9c7bc217a67fcf0f",
        },
        60_000,
        ("plain", "mirrored"),
    ),
    "omniglot_lite": Source(  # a mirrored character is another sign
        "omniglot_small",
        {
            "train": "5f394a14b0886d3957e3725fcf5540c4bafd6d4b3fd1867498e4ebd3b79e2735",
            "test": "8df1bceb39d0154f8925f02a775470c1b4af2a8e9bc41711e173a5501c2e6fa0",
        },
        4_840,
        ("plain",),
    ),
}


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Images as an encoder sees them, with the protocol of `ImageSet`.

    Nothing is copied until a batch is asked for: a subset, and the join of two, name rows of the same stored features.

    stored: float16 (M, views, d), such as a memory-mapped file. labels: integers (N,), of the set's items.
    class_names: one a class. origin: what the features were made of, a digest of the images, the encoder's weights, the
    size in pixels and the precision. rows: integers (N,), where the items lie in `stored`; all of them by default.
    encoder: its name, for heads that are told features of several.

    Raises:
        ValueError: a wrong type or shape, lengths that differ, a row that is not stored, or a label outside
            [0, len(class_names)).
    """

    stored: np.ndarray
    labels: Tensor
    class_names: tuple[str, ...]
    origin: str
    rows: Tensor = field(default=None)
    encoder: str = ""

    def __post_init__(self) -> None:
        stored = np.asarray(self.stored)
        if stored.dtype != np.float16 or stored.ndim != 3:
            raise ValueError(f"features must be float16 (N, views, d), not {stored.dtype} {stored.shape}")
        rows = torch.arange(len(stored)) if self.rows is None else as_integers(self.rows, "rows")
        labels = as_integers(self.labels, "labels")
        if labels.dtype != torch.int64 or rows.dtype != torch.int64 or labels.shape != (len(rows),):
            raise ValueError(
                f"labels must be int64 ({len(rows)},), one a row, not {labels.dtype} {tuple(labels.shape)}; "
                f"rows are {rows.dtype}"
            )
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(stored):
            raise ValueError(f"rows run from {int(rows.min())} to {int(rows.max())}; stored are 0 to {len(stored) - 1}")
        names = tuple(map(str, self.class_names))
        check_labels(labels, names)
        for name, value in (("stored", stored), ("labels", labels), ("class_names", names), ("rows", rows)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.array(self.stored[int(self.rows[index])])), self.labels[index]

    @property
    def features(self) -> Tensor:
        """All, float16 (N, views, d): a copy in memory."""
        return self.batch(torch.arange(len(self)))[0]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Features float16 (b, views, d) and labels int64 (b,) at `indices`, int64 (b,)."""
        return torch.from_numpy(self.stored[self.rows[indices].numpy()]), self.labels[indices]

    def select(self, indices: Tensor) -> "FeatureSet":
        """The subset at `indices` (integers (n,) or bool (N,)), in their order."""
        indices = as_indices(indices, len(self))
        return replace(self, labels=self.labels[indices], rows=self.rows[indices])

    def joined(self, other: "FeatureSet") -> "FeatureSet":
        """The items of both, this set's first.

        Raises:
            ValueError: they are features of other images, or by other encoders.
        """
        if (self.origin, self.stored.shape) != (other.origin, other.stored.shape):
            raise ValueError(
                f"features of {self.origin[:16]}… and of {other.origin[:16]}… cannot be joined: both must be of one "
                "data set by one encoder"
            )
        labels, rows = torch.cat([self.labels, other.labels]), torch.cat([self.rows, other.rows])
        return replace(self, labels=labels, rows=rows)

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the origin, of which of its items these are, and of labels and class names.

        The features themselves, which differ between processors, do not count.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(repr((self.origin, self.class_names)).encode())
        total.update(self.rows.contiguous().numpy().data)
        total.update(self.labels.contiguous().numpy().data)
        return total.hexdigest()


def read(name: str, split: str, encoder: str | None, root: Path) -> FeatureSet:
    """The features of a split; called through `sources.load`.

    Args:
        name: in `SOURCES`.
        split: `train` or `test`.
        encoder: in `WEIGHTS`.
        root: the folder of the features.

    Raises:
        FileNotFoundError: they are not there, or not yet all; the message says how to make them.
        ValueError: an unknown encoder, a damaged file, or one that was made from other images or weights.
    """
    path = place(name, encoder, root)
    if not path.exists():
        made = described(path.with_name(f"{path.name}.part.json"), name, encoder)
        done = f" yet: {made['rows']:,} of {SOURCES[name].count:,} images are embedded" if made else ""
        raise FileNotFoundError(
            f"{path} is not there{done}; {_how_to_make(name, encoder)}, or set COMPATLIB_FEATURES to the folder that "
            "has it"
        )
    made = described(path.with_name(f"{path.name}.json"), name, encoder)
    try:
        if made is None:
            raise ValueError("the description beside it is missing or cannot be read")
        return part(np.load(path, mmap_mode="r", allow_pickle=False), made["identity"], name, split, encoder)
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, and {_how_to_make(name, encoder)}") from error


def place(name: str, encoder: str | None, root: Path) -> Path:
    """The file of a data set's features by an encoder: `<root>/<name>/<encoder>.npy`.

    Raises:
        ValueError: an unknown name or encoder; the valid ones are named.
    """
    if name not in SOURCES:
        raise ValueError(f"no images are known to be embedded as {name!r}; choose one of {', '.join(SOURCES)}")
    if encoder not in WEIGHTS:
        told = "name its encoder" if encoder is None else f"{encoder!r} is none of its encoders; name one"
        raise ValueError(f"{name} is embedded by an encoder: {told}, encoder={' or '.join(map(repr, WEIGHTS))}")
    return root / name / f"{encoder}.npy"


def made_of(name: str, encoder: str) -> dict[str, Any]:
    """All that decides the features: digests of the images and of the weights, and how images are given to them."""
    source = SOURCES[name]
    return {
        "images": dict(source.digests),
        "weights": WEIGHTS[encoder],
        "pixels": PIXELS,
        "resampling": "bicubic",
        "precision": PRECISION,
        "views": list(source.views),
    }


def described(file: Path, name: str, encoder: str) -> dict[str, Any] | None:
    """What the description beside a file of features tells; None where there is none, or none that can be read.

    Raises:
        ValueError: it tells of other images, weights, size or precision.
    """
    try:
        found = json.loads(file.read_text())
        made = {part: found["identity"][part] for part in made_of(name, encoder)}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    other = [part for part, value in made_of(name, encoder).items() if made[part] != value]
    if other:
        told = "; ".join(f"{part} {made[part]} instead of {made_of(name, encoder)[part]}" for part in other)
        raise ValueError(
            f"{str(file).removesuffix('.json')} was made from other {', '.join(other)} than {name} by {encoder} "
            f"({told}); delete it, and {_how_to_make(name, encoder)}"
        )
    return found


def part(stored: np.ndarray, identity: Mapping[str, Any], name: str, split: str, encoder: str) -> FeatureSet:
    """A split of stored features: one lies behind the other, and within each the images class by class.

    Args:
        stored: float16 (M, views · d), of all splits.
        identity: what they were made of, with `counts` (by split, images a class) and `class_names`.
        name: in `SOURCES`.
        split: `train` or `test`.
        encoder: in `WEIGHTS`.

    Raises:
        ValueError: counts of another number of images than the data set has, or features of another shape.
    """
    source, splits = SOURCES[name], list(SOURCES[name].digests)
    counts = torch.tensor([identity["counts"][each] for each in splits])
    labels = torch.arange(counts.shape[1]).repeat(len(splits)).repeat_interleave(counts.flatten())
    if len(labels) != source.count:
        raise ValueError(f"its description tells of {len(labels):,} images instead of {source.count:,}")
    origin = hashlib.sha256(json.dumps(made_of(name, encoder), sort_keys=True).encode()).hexdigest()
    features, names = stored.reshape(len(stored), len(source.views), -1), identity["class_names"]
    whole = FeatureSet(features, labels, names, origin, encoder=encoder)
    return whole.select(torch.arange(len(labels)).split(counts.sum(dim=1).tolist())[splits.index(split)])


def _how_to_make(name: str, encoder: str) -> str:
    return f"`make data NAME={name} ENCODERS={encoder}` embeds the images"
