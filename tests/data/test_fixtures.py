"""Features that the project carries: what is in the files, and files that are missing, damaged or others'."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compatlib.data import features, fixtures, sources, splits
from compatlib.data.features import Source
from compatlib.data.images import ImageSet

CARRIED = [(name, encoder) for name, encoders in fixtures.CARRIED.items() for encoder in encoders]
DRAWINGS = {"train": 12, "test": 8}  # of drawers 1–12 and 13–20
# Another value is another set of features, or other items of it: no key and no row of the earlier one fits it.
DIGESTS = {
    ("lite0", "train"): "921997ae0e620e2b23bbab1ba79f5e3f4f84dbb75987a02ada356aca1f53cb7a",
    ("lite0", "test"): "6baea67cc35e5087dde5e1d99f01233b5d41c812aba152afd80311542b0be719",
    ("lite2", "train"): "b1b70f38a08e4060c5586b1e3490f8ed2e52c77c733e6ea5317665706c788d65",
    ("lite2", "test"): "8608387a5e7717abce22671f4028e96abb3945abc58eca6caf5c71b09ac00c2b",
}
OMNIGLOT_NAMES = (
    "0e9c6e4165124ff5803d7c9b20162f2eddd129d9985a2b8624b4da216697fc13"  # SHA-256 of those of omniglot_small
)


# What is carried.


@pytest.mark.parametrize(("encoder", "split"), DIGESTS)
def test_the_carried_omniglot_is_every_drawing_as_an_encoder_sees_it(monkeypatch, tmp_path, encoder, split):
    monkeypatch.setenv("COMPATLIB_FEATURES", str(tmp_path))  # no other features are at hand
    found = sources.load("omniglot_lite", split, encoder=encoder)
    assert found.labels.tolist() == [k for k in range(sources.OMNIGLOT_DISTINCT) for _ in range(DRAWINGS[split])]
    assert hashlib.sha256(json.dumps(found.class_names).encode()).hexdigest() == OMNIGLOT_NAMES
    assert (found.class_names[0], found.class_names[-1]) == ("Balinese/character01", "Tagalog/character17")
    assert found.digest() == DIGESTS[encoder, split]
    values = found.features
    assert (values.shape, values.dtype) == ((len(found), 1, 1280), torch.float16)
    assert 0 <= values.min() < values.max() <= 6  # means of what ReLU6 gives
    assert values.flatten(1).unique(dim=0).shape == (len(found), 1280)  # no drawing twice


@pytest.mark.parametrize("encoder", fixtures.CARRIED["omniglot_lite"])
def test_the_carried_features_tell_characters_apart(encoder):
    """The nearest drawing by another hand is of the same character for a third and more; by chance for 1 of 276."""
    found = sources.load("omniglot_lite", "test", encoder=encoder)
    vectors = torch.nn.functional.normalize(found.features[:, 0].float(), dim=1)
    nearest = (vectors @ vectors.T).fill_diagonal_(-1).argmax(dim=1)
    assert 0.35 < (found.labels[nearest] == found.labels).float().mean() < 0.5


def test_what_is_carried_is_small_and_described_with_its_checksum():
    root, described = sources.fixtures_root(), (sources.fixtures_root().parent / "README.md").read_text()
    files = {fixtures.place(name, encoder, root): (name, encoder) for name, encoder in CARRIED}
    pictures = {fixtures.images_place(name, root): checksum for name, checksum in fixtures.CARRIED_IMAGES.items()}
    assert {path for path in root.rglob("*.npz")} == {*files, *pictures}
    assert sum(path.stat().st_size for path in (*files, *pictures)) < 12e6
    assert all(checksum in described for checksum in pictures.values())
    for path, (name, encoder) in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == fixtures.CARRIED[name][encoder]
        assert f"`{fixtures.CARRIED[name][encoder]}` ({encoder})" in described


@pytest.mark.parametrize("split", DRAWINGS)
def test_the_carried_drawings_are_those_that_the_encoders_saw_in_their_order(monkeypatch, tmp_path, split):
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))  # no archive is at hand
    found, seen = sources.load("omniglot_small", split), sources.load("omniglot_lite", split, encoder="lite0")
    assert found.digest() == features.SOURCES["omniglot_lite"].digests[split]
    assert torch.equal(found.labels, seen.labels)
    assert found.class_names == seen.class_names
    assert found.images.shape == (len(seen), 1, 35, 35)
    few = sources.load("omniglot_small", split, classes=3, per_class=2)
    assert few.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.fixture
def drawings(tmp_path, monkeypatch) -> dict[str, ImageSet]:
    """The only images that are carried: of a data set `letters`."""
    labels, names = torch.arange(12) % 3, ("a", "b", "c")
    pixels = torch.randint(256, (2, 12, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = {split: ImageSet(each, labels, names) for split, each in zip(("train", "test"), pixels, strict=True)}
    monkeypatch.setattr(sources, "fixtures_root", lambda: tmp_path)
    checksum = fixtures.write_images(fixtures.images_place("letters", tmp_path), found)
    monkeypatch.setattr(fixtures, "CARRIED_IMAGES", {"letters": checksum})
    return found


@pytest.mark.parametrize("split", DRAWINGS)
def test_images_that_are_written_are_read_as_they_were(drawings, split):
    found = sources.load("letters", split)
    assert found.digest() == drawings[split].digest()
    assert torch.equal(found.images, drawings[split].images)


def test_images_that_are_missing_or_damaged_are_told_of(drawings, tmp_path):
    path = fixtures.images_place("letters", tmp_path)
    assert fixtures.write_images(path, drawings) == fixtures.CARRIED_IMAGES["letters"]  # the same bytes
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"images\.npz is damaged, or another file: its SHA-256 is .*; `git checkout -- da"
    ):
        sources.load("letters", "train")
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"images\.npz is not there: it belongs to the repository.*back letters"
    ):
        sources.load("letters", "train")


# A small set in the same form.

CLASSES, DIM = 12, 5
COUNTS = {"train": [6] * CLASSES, "test": [2] * CLASSES}
TOTAL = sum(map(sum, COUNTS.values()))
SPECIAL = np.array([0, 2**-24, 6.1e-5, 1 / 3, -0.0], np.float16)  # what must come back bit for bit


@pytest.fixture
def carried(tmp_path, monkeypatch) -> Path:
    """The only file that is carried: of a data set `letters_lite` by `lite0`."""
    source = Source("letters", {"train": "a" * 64, "test": "b" * 64}, TOTAL, ("plain", "mirrored"))
    monkeypatch.setitem(features.SOURCES, "letters_lite", source)
    monkeypatch.setattr(sources, "fixtures_root", lambda: tmp_path / "fixtures")
    monkeypatch.setenv("COMPATLIB_FEATURES", str(tmp_path / "features"))
    path = fixtures.place("letters_lite", "lite0", tmp_path / "fixtures")
    monkeypatch.setattr(fixtures, "CARRIED", {"letters_lite": {"lite0": write(path)}})
    return path


def drawn() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(TOTAL, 2, DIM)).astype(np.float16)
    values[5, 1] = SPECIAL
    return values


def identity(**changes) -> dict:
    names = [f"class {k}" for k in range(CLASSES)]
    return features.made_of("letters_lite", "lite0") | {"counts": COUNTS, "class_names": names} | changes


def write(path: Path, **changes) -> str:
    return fixtures.write(path, drawn(), identity(**changes))


def load(split="train", **options):
    return sources.load("letters_lite", split, **{"encoder": "lite0"} | options)


def bits(values) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint16)


@pytest.mark.usefixtures("carried")
def test_what_is_written_is_read_bit_for_bit():
    train, test = load(), load("test")
    both = np.concatenate([train.features.numpy(), test.features.numpy()])
    assert np.array_equal(bits(both), bits(drawn()))
    assert train.labels.tolist() == sorted([*range(CLASSES)] * 6)
    assert test.labels.tolist() == sorted([*range(CLASSES)] * 2)
    assert train.class_names == test.class_names == tuple(f"class {k}" for k in range(CLASSES))
    limited = load(classes=3, per_class=2)
    assert np.array_equal(bits(limited.features), bits(drawn()[[0, 1, 6, 7, 12, 13]]))


@pytest.mark.usefixtures("carried")
def test_a_file_is_decoded_once_and_nothing_can_write_to_it(monkeypatch):
    train = load()
    monkeypatch.setattr(fixtures.np, "load", None)
    assert np.shares_memory(load("test").stored, train.stored)
    assert np.shares_memory(splits.open_set(load(), load("test")).train.stored, train.stored)
    with pytest.raises(ValueError, match="read-only"):
        train.stored[0] = 0


def test_the_same_features_give_the_same_bytes(carried):
    before = carried.read_bytes()
    assert write(carried) == hashlib.sha256(before).hexdigest()
    assert carried.read_bytes() == before
    assert [path.name for path in carried.parent.iterdir()] == ["lite0.npz"]
    fixtures.write(carried, drawn().reshape(TOTAL, -1), dict(reversed(identity().items())))
    assert carried.read_bytes() == before


def test_it_is_of_the_same_origin_as_the_features_that_it_holds_and_stands_before_them(carried, tmp_path):
    """Which of the two is read depends on no machine; those of the machine are read where their folder is named."""
    path = features.place("letters_lite", "lite0", tmp_path / "features")
    path.parent.mkdir(parents=True)
    np.save(path, drawn().reshape(TOTAL, -1) + np.float16(1))
    path.with_name("lite0.npy.json").write_text(json.dumps({"identity": identity()}))
    assert np.array_equal(bits(load().features), bits(drawn()[: len(load())]))
    own = load(root=tmp_path / "features")
    assert np.array_equal(bits(own.features), bits(drawn()[: len(own)] + np.float16(1)))
    assert own.digest() == load().digest()


def test_what_is_not_carried_is_looked_for_among_the_features(carried):
    with pytest.raises(FileNotFoundError, match=r"features/letters_lite/lite1\.npy is not there; `make data NAME=lett"):
        load(encoder="lite1")
    with pytest.raises(ValueError, match="name its encoder, encoder='lite0' or"):
        load(encoder=None)
    assert not fixtures.is_carried("cifar100_lite", "lite0")


def test_the_folder_is_that_of_the_repository_or_below_the_working_folder(monkeypatch, tmp_path):
    assert sources.fixtures_root() == Path(__file__).resolve().parents[2] / "data" / "fixtures"
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "site-packages" / "compatlib" / "data" / "sources.py"))
    monkeypatch.chdir(tmp_path)
    assert sources.fixtures_root() == tmp_path / "data" / "fixtures"


# Files that are missing, damaged or others'.


def test_an_installed_package_says_that_it_does_not_carry_the_file(carried):
    carried.unlink()
    told = (
        r"lite0\.npz is not there: it belongs to the repository, and an installed package does not .* `git checkout -- "
    )
    with pytest.raises(FileNotFoundError, match=told):
        load()
    with pytest.raises(
        FileNotFoundError, match=r"lab\.features letters_lite --encoders lite0` embeds the images, and root"
    ):
        load()


@pytest.mark.parametrize("damage", ["cut", "empty", "a bit", "longer", "another file", "text"])
def test_a_file_that_is_not_the_carried_one_to_the_last_bit_is_refused(carried, damage):
    whole = carried.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    other = {"cut": whole[:-100], "empty": b"", "a bit": bytes(changed), "longer": whole + b"\0", "text": b"version 1"}
    if damage == "another file":
        write(carried, counts={"train": [6] * CLASSES, "test": [1, 3] * (CLASSES // 2)})
    else:
        carried.write_bytes(other[damage])
    known, found = fixtures.CARRIED["letters_lite"]["lite0"], hashlib.sha256(carried.read_bytes()).hexdigest()
    told = (
        rf"lite0\.npz is damaged, or another file: its SHA-256 is {found} instead of {known}; `git checkout -- data/fix"
    )
    with pytest.raises(ValueError, match=told):
        load()


@pytest.mark.parametrize("part", features.made_of("cifar100_lite", "lite0"))
def test_a_file_that_was_made_from_something_else_is_refused(carried, monkeypatch, part):
    monkeypatch.setitem(fixtures.CARRIED["letters_lite"], "lite0", write(carried, **{part: "another"}))
    told = (
        rf"lite0\.npz was made from other {part} than letters_lite by lite0; `make data NAME=letters_lite ENCODERS=lite"
    )
    with pytest.raises(ValueError, match=told):
        load()


def test_nothing_is_unpickled(carried, monkeypatch):
    with carried.open("wb") as file:
        np.savez(file, columns=np.array([{}], object), identity=np.array("{}"))
    monkeypatch.setitem(fixtures.CARRIED["letters_lite"], "lite0", hashlib.sha256(carried.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load()
