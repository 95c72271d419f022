"""Sets of features: the protocol of a set of images without copies, and files that are missing, damaged or others'."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch

from compatlib.data import features, sources, splits
from compatlib.data.features import FeatureSet, Source
from compatlib.data.images import ImageSet, InMemory, batches

CLASSES, DIM = 12, 5
COUNTS = {"train": [6] * CLASSES, "test": [2] * (CLASSES - 1) + [3]}
TOTAL = sum(map(sum, COUNTS.values()))
TRAINING = sum(COUNTS["train"])
NAMES = tuple(f"class {k}" for k in range(CLASSES))
SOURCE = Source("letters", {"train": "a" * 64, "test": "b" * 64}, TOTAL, ("plain", "mirrored"))


def drawn(count: int = 30, views: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, views, DIM)).astype(np.float16)


def feature_set(count: int = 30, classes: int = 3, **changes) -> FeatureSet:
    given = {"stored": drawn(count), "labels": torch.arange(count) % classes, "class_names": "abcdefgh"[:classes]}
    return FeatureSet(**given | {"origin": "o"} | changes)


# The protocol.


def test_a_set_gives_items_and_batches_with_all_views():
    whole = feature_set()
    assert (len(whole), whole.class_names) == (30, ("a", "b", "c"))
    features, label = whole[7]
    assert (features.shape, features.dtype, int(label)) == ((2, DIM), torch.float16, 1)
    assert torch.equal(features, torch.from_numpy(whole.stored[7]))
    batch, labels = whole.batch(torch.tensor([9, 2, 2]))
    assert torch.equal(batch, torch.from_numpy(whole.stored[[9, 2, 2]]))
    assert labels.tolist() == [0, 2, 2]
    assert torch.equal(whole.features, torch.from_numpy(whole.stored))
    assert isinstance(whole, InMemory)
    visited = list(batches(whole, torch.tensor([4, 0, 3]), 2))
    assert [indices.tolist() for _, _, indices in visited] == [[4, 0], [3]]
    assert torch.equal(visited[0][0], torch.from_numpy(whole.stored[[4, 0]]))


@pytest.mark.parametrize("seed", range(5))
def test_a_subset_of_a_subset_names_rows_of_the_same_features(seed):
    """The oracle copies."""
    random, whole = np.random.default_rng(seed), feature_set()
    mask = torch.from_numpy(random.random(30) < 0.6)
    places = torch.from_numpy(random.integers(0, int(mask.sum()), 8))
    subset = whole.select(mask).select(places)
    assert np.shares_memory(subset.stored, whole.stored)
    assert torch.equal(subset.features, torch.from_numpy(whole.stored[mask.numpy()][places.numpy()]))
    assert torch.equal(subset.labels, whole.labels[mask][places])
    assert subset.class_names == whole.class_names
    assert torch.equal(subset[3][0], subset.features[3])
    with pytest.raises(IndexError):
        subset.select([8])


def test_what_a_batch_gives_can_be_changed_and_leaves_the_stored_features():
    whole = feature_set()
    before = whole.stored.copy()
    whole.stored.flags.writeable = False
    for found in (whole.batch(torch.arange(3))[0], whole[0][0], whole.features):
        found += 1
    assert np.array_equal(whole.stored, before)


def test_the_join_of_two_copies_nothing():
    whole = feature_set()
    first, second = whole.select(torch.arange(20, 30)), whole.select(torch.arange(5))
    joined = first.joined(second)
    assert np.shares_memory(joined.stored, whole.stored)
    assert torch.equal(joined.features, torch.cat([first.features, second.features]))
    assert joined.labels.tolist() == [*first.labels, *second.labels]
    for other in (feature_set(origin="p"), feature_set(31)):
        with pytest.raises(ValueError, match="cannot be joined: both must be of one data set by one encoder"):
            first.joined(other)


def test_the_digest_tells_origin_items_labels_and_names_apart_and_not_the_features():
    base = feature_set()
    others = [
        feature_set(origin="p"),
        base.select(torch.arange(29)),
        base.select(torch.arange(30).flip(0)),
        feature_set(labels=(torch.arange(30) + 1) % 3),
        feature_set(class_names="abx"),
        feature_set(stored=drawn(31), rows=torch.arange(1, 31)),
    ]
    assert len({base.digest(), *(other.digest() for other in others)}) == 7
    # Those of another processor differ.
    assert feature_set(stored=drawn(seed=1)).digest() == base.digest()
    # The same items, however they were come by.
    by_steps = base.select(base.labels < 2)
    assert base.select(base.labels < 1).digest() == by_steps.select(by_steps.labels < 1).digest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stored": drawn().astype(np.float32)}, r"float16 \(N, views, d\), not float32 \(30, 2, 5\)"),
        ({"stored": drawn()[:, 0]}, r"not float16 \(30, 5\)"),
        ({"labels": torch.zeros(29, dtype=torch.int64)}, r"int64 \(30,\), one a row, not torch.int64 \(29,\)"),
        ({"labels": torch.zeros(30)}, r"not torch.float32 \(30,\)"),
        ({"labels": torch.arange(30)}, "labels run from 0 to 29, but 3 class names"),
        ({"rows": torch.arange(29)}, r"int64 \(29,\)"),
        ({"rows": torch.arange(30) / 2}, "rows are torch.float32"),
        ({"rows": torch.arange(1, 31)}, "rows run from 1 to 30; stored are 0 to 29"),
        ({"rows": torch.arange(-1, 29)}, "rows run from -1 to 28"),
    ],
)
def test_impossible_sets_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        feature_set(**changes)


# Splits: the same items as of the images.


def numbered(split: str) -> ImageSet:
    """Images that tell which row of the stored features is theirs."""
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(COUNTS[split]))
    first = 0 if split == "train" else TRAINING
    return ImageSet(torch.arange(first, first + len(labels)).byte().view(-1, 1, 1, 1), labels, NAMES)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A folder of features of a data set `letters_lite`, which `read` knows; its rows tell their own numbers."""
    monkeypatch.setitem(features.SOURCES, "letters_lite", SOURCE)
    monkeypatch.setenv("COMPATLIB_FEATURES", str(tmp_path))
    write(tmp_path)
    return tmp_path


def write(folder, encoder="lite0", part="", rows=TOTAL, **changes):
    path = folder / "letters_lite" / f"{encoder}.npy"
    path.parent.mkdir(exist_ok=True)
    numbers = np.arange(TOTAL, dtype=np.float16)[:, None] + np.zeros(2 * DIM, np.float16)
    with path.with_name(path.name + part).open("wb") as file:
        np.save(file, numbers)
    identity = features.made_of("letters_lite", encoder) | {"counts": COUNTS, "class_names": NAMES} | changes
    path.with_name(f"{path.name}{part}.json").write_text(json.dumps({"identity": identity, "rows": rows}))
    return path


def load(split="train", **options):
    return sources.load("letters_lite", split, **{"encoder": "lite0"} | options)


def rows_of(found) -> list[int]:
    return found.features[:, 0, 0].int().tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("limits", [{}, {"classes": 10}, {"per_class": 2}, {"classes": 3, "per_class": 1}])
@pytest.mark.usefixtures("stored")
def test_a_split_and_its_limits_are_those_of_the_images(split, limits):
    found, images = (
        load(split, **limits),
        sources._first(numbered(split), **{"classes": None, "per_class": None} | limits),
    )
    assert rows_of(found) == images.images.flatten().tolist()
    assert torch.equal(found.labels, images.labels)
    assert found.class_names == images.class_names
    assert found.features.shape[1:] == (2, DIM)
    assert found.features.dtype == torch.float16


@pytest.mark.parametrize("split", ["class_incremental", "sample_incremental", "hold_out"])
@pytest.mark.usefixtures("stored")
def test_splits_choose_the_same_items_of_features_as_of_images(split):
    whole, images = load(), numbered("train")
    for found, expected in zip(getattr(splits, split)(whole), getattr(splits, split)(images), strict=True):
        assert np.shares_memory(found.stored, whole.stored)
        assert rows_of(found) == expected.images.flatten().tolist()
        assert torch.equal(found.labels, expected.labels)


@pytest.mark.usefixtures("stored")
def test_the_open_set_split_joins_features_without_a_copy():
    train = load()
    found = splits.open_set(train, load("test"))
    expected = splits.open_set(numbered("train"), numbered("test"))
    for part, images in zip(found[:3], expected[:3], strict=True):
        assert part.stored.base is train.stored.base or np.shares_memory(part.stored, train.stored)
        assert rows_of(part) == images.images.flatten().tolist()
        assert torch.equal(part.labels, images.labels)
    assert found.old_classes == expected.old_classes


@pytest.mark.usefixtures("stored")
def test_what_is_read_stays_on_disk_until_it_is_asked_for():
    base = load().stored
    while not isinstance(base, np.memmap):
        base = base.base
    assert base.mode == "r"


@pytest.mark.usefixtures("stored")
def test_the_digest_of_what_is_read_follows_what_it_was_made_of(monkeypatch, tmp_path):
    digests = {load().digest(), load("test").digest()}
    write(tmp_path, "lite1")
    digests.add(load(encoder="lite1").digest())
    for name, value in (("PIXELS", 96), ("PRECISION", "float32")):
        with monkeypatch.context() as patch:
            patch.setattr(features, name, value)
            write(tmp_path)
            digests.add(load().digest())
    with monkeypatch.context() as patch:
        patch.setitem(
            features.SOURCES, "letters_lite", Source("letters", {"train": "c", "test": "d"}, TOTAL, ("a", "b"))
        )
        write(tmp_path)
        digests.add(load().digest())
    assert len(digests) == 6


# Files.


def test_where_nothing_is_there_the_command_is_named(stored):
    with pytest.raises(
        FileNotFoundError, match=r"letters_lite/lite2\.npy is not there; `make data NAME=letters_lite ENC"
    ):
        load(encoder="lite2")
    with pytest.raises(
        FileNotFoundError, match=r"ENCODERS=lite0` embeds the images, or set COMPATLIB_FEATURES to the f"
    ):
        load(root=stored / "elsewhere")


def test_where_only_a_part_is_there_it_says_how_much(stored):
    write(stored, "lite1", part=".part", rows=36)
    with pytest.raises(
        FileNotFoundError, match=rf"lite1\.npy is not there yet: 36 of {TOTAL} images are embedded; `make"
    ):
        load(encoder="lite1")


@pytest.mark.parametrize("part", ["", ".part"])
@pytest.mark.parametrize("other", features.made_of("cifar100_lite", "lite0"))
def test_what_was_made_from_something_else_is_refused(stored, part, other):
    path = write(stored, "lite2", part=part, **{other: "another"})
    words = rf"lite2\.npy{part} was made from other {other} than letters_lite by lite2 \({other} another instead of .*"
    with pytest.raises(ValueError, match=words + r"delete it, and `make data NAME=letters_lite ENCODERS=lite2`"):
        load(encoder="lite2")
    assert path.with_name(path.name + part).exists()


def damaged(path, damage):
    whole, described = path.read_bytes(), path.with_name(f"{path.name}.json")
    content = json.loads(described.read_text())
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickle":
        np.save(path, np.array([{}] * TOTAL, object), allow_pickle=True)
    elif damage == "rows":
        np.save(path, np.zeros((TOTAL - 1, 2 * DIM), np.float16))
    elif damage == "type":
        np.save(path, np.zeros((TOTAL, 2 * DIM), np.float32))
    elif damage == "undescribed":
        described.unlink()
    elif damage == "text":
        described.write_text("{")
    else:
        del content["identity"][damage]
        described.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "pickle", "rows", "type", "undescribed", "text", "counts", "class_names", "weights"]
)
def test_a_damaged_file_is_named(stored, damage):
    damaged(stored / "letters_lite" / "lite0.npy", damage)
    with pytest.raises(
        ValueError, match=r"lite0\.npy is damaged .*; delete it, and `make data NAME=letters_lite ENCODERS"
    ):
        load()


def test_other_counts_than_the_data_set_has_are_damage(stored):
    write(stored, counts={"train": [6] * CLASSES, "test": [1] * CLASSES})
    with pytest.raises(ValueError, match=rf"tells of 84 images instead of {TOTAL}"):
        load()


@pytest.mark.usefixtures("stored")
def test_a_set_of_features_wants_an_encoder_and_one_of_images_none():
    with pytest.raises(
        ValueError, match="letters_lite is embedded by an encoder: name its encoder, encoder='lite0' or"
    ):
        load(encoder=None)
    with pytest.raises(
        ValueError, match="'lite9' is none of its encoders; name one, encoder='lite0' or 'lite1' or 'lite2'"
    ):
        load(encoder="lite9")
    with pytest.raises(ValueError, match="'digits' holds images, which no encoder 'lite0' has seen; leave `encoder`"):
        sources.load("digits", "train", encoder="lite0")
    with pytest.raises(ValueError, match="'nothing'; choose one of cifar100_lite, omniglot_lite, letters_lite"):
        features.place("nothing", "lite0", None)


def test_the_folder_of_features_is_the_variable_or_in_the_cache(monkeypatch):
    monkeypatch.setenv("COMPATLIB_FEATURES", "~/features")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(sources.features_root()) == "/home/somebody/features"
    monkeypatch.delenv("COMPATLIB_FEATURES")
    monkeypatch.setenv("COMPATLIB_DATA", "/elsewhere")
    assert sources.features_root().parts[-3:] == ("data", "cache", "features")


@pytest.mark.parametrize("name", ["cifar100_lite", "omniglot_lite"])
def test_a_data_set_names_its_images_by_their_digests(name):
    source = features.SOURCES[name]
    assert source.images in sources.names()
    assert tuple(source.digests) == sources.SPLITS
    assert all(
        re.fullmatch("[0-9a-f]{64}", digest) for digest in (*source.digests.values(), *features.WEIGHTS.values())
    )
    assert ("mirrored" in source.views) == (source.images == "cifar100")


def test_what_published_results_stand_on_is_frozen():
    """Another value is another set of features: no key and no row of the earlier one fits it."""
    told = json.dumps(features.made_of("cifar100_lite", "lite0"), sort_keys=True)
    assert (
        hashlib.sha256(told.encode()).hexdigest() == "81ad457be009910b9bd3e7bddc2758ae43dbdf4cfc3bba88a8e52357fc5eed2d"
    )
