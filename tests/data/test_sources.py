"""Data sets by name: where they are looked for, that other files give the same set, damage, and what is refused."""

import hashlib
import io
import tarfile
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compatlib.data import sources
from compatlib.data.images import FolderImages
from compatlib.data.splits import class_incremental

COUNTS = {"train": 24, "test": 9}
CLASSES = ("apple", "bee", "cat")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever is on this machine, nothing is found outside of a test's own folder, and nothing is fetched."""
    monkeypatch.setattr(sources, "download_url", offline)
    monkeypatch.setenv("COMPATLIB_DATA", "/nowhere")


def offline(*_, **__):
    raise urllib.error.URLError("no route to host")


def unchanged_bytes(data: bytes) -> bytes:
    return data


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def emptied(data: bytes) -> bytes:
    return b""


def replaced(data: bytes) -> bytes:
    return b"<html>404</html>" * 20


def altered_in_the_middle(data: bytes) -> bytes:
    middle = len(data) // 3
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 40]) + data[middle + 40 :]


DAMAGES = [cut_in_half, emptied, replaced, altered_in_the_middle]


# CIFAR-100, small: its counts are those above.


def cifar_arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(len(split))
    images = generator.integers(0, 256, (COUNTS[split], 32, 32, 3), dtype=np.uint8)
    images[1] = images[0]  # two equal pictures, of one class
    return images, (np.arange(COUNTS[split]) * 3 // COUNTS[split]).astype(np.uint8)


def write_parts(folder: Path, split: str, order: np.ndarray, cuts: list[int], **changes) -> None:
    folder.mkdir(exist_ok=True)
    images, labels = cifar_arrays(split)
    for number, indices in enumerate(np.split(order, cuts)):
        arrays = {"images": images[indices], "labels": labels[indices], "classes": np.array(CLASSES)} | changes
        np.savez_compressed(folder / f"{split}-{number}.npz", **arrays)


def write_archive(folder: Path, order: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "cifar-100-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "fine_label_names.txt", "\n".join([*CLASSES, ""]).encode())
        for split in COUNTS:
            images, labels = cifar_arrays(split)
            chosen = order[order < COUNTS[split]]
            coarse = np.full((len(chosen), 1), 7, np.uint8)
            pixels = images[chosen].transpose(0, 3, 1, 2).reshape(len(chosen), -1)
            add(tar, f"{split}.bin", np.hstack([coarse, labels[chosen, None], pixels]).tobytes())
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"cifar-100-binary/{name}")
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A data root with an empty folder `cifar100`, where a small archive passes for the real one."""
    monkeypatch.setattr(sources, "CIFAR100_COUNTS", COUNTS)
    monkeypatch.setattr(sources, "CIFAR100_CLASSES", len(CLASSES))
    (tmp_path / "cifar100").mkdir()
    return tmp_path


def accept(archive: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "CIFAR100_MD5", hashlib.md5(archive.read_bytes()).hexdigest())


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar_is_the_same_set_from_parts_in_any_order_and_from_the_archive(cifar, monkeypatch, split):
    generator, loaded = np.random.default_rng(0), []
    for number in range(3):
        root = cifar / str(number)
        root.mkdir()
        order = generator.permutation(COUNTS[split]) if number else np.arange(COUNTS[split])
        write_parts(root / "cifar100", split, order, [[8], [], [3, 5, 6]][number])
        loaded.append(sources.load("cifar100", split, root=root))
    accept(write_archive(cifar / "cifar100", generator.permutation(COUNTS["train"])), monkeypatch)
    loaded.append(sources.load("cifar100", split, root=cifar))
    assert len({images.digest() for images in loaded}) == 1
    assert loaded[0].class_names == CLASSES
    assert loaded[0].labels.tolist() == sorted(loaded[0].labels.tolist())
    # The slow oracle: every picture is there once, under its own label.
    pictures, labels = cifar_arrays(split)
    expected = sorted((labels[i], pictures[i].transpose(2, 0, 1).tobytes()) for i in range(COUNTS[split]))
    found = sorted((int(label), image.numpy().tobytes()) for image, label in loaded[0])
    assert found == expected


def test_the_file_names_of_ten_parts_and_more_do_not_matter(cifar):
    write_parts(cifar / "cifar100", "train", np.arange(24), list(range(2, 24, 2)))
    many = sources.load("cifar100", "train", root=cifar)
    other = cifar / "other"
    other.mkdir()
    write_parts(other / "cifar100", "train", np.arange(24), [])
    assert many.digest() == sources.load("cifar100", "train", root=other).digest()


def test_a_missing_part_and_one_too_many_are_told(cifar):
    write_parts(cifar / "cifar100", "train", np.arange(24), [8, 16])
    (cifar / "cifar100" / "train-1.npz").rename(cifar / "kept")
    with pytest.raises(ValueError, match=r"'train-0.npz', 'train-2.npz'\] hold 16 images instead of 24"):
        sources.load("cifar100", "train", root=cifar)
    for name in ("train-1.npz", "train-copy.npz"):
        (cifar / "cifar100" / name).write_bytes((cifar / "kept").read_bytes())
    with pytest.raises(ValueError, match="hold 32 images instead of 24"):
        sources.load("cifar100", "train", root=cifar)


def test_a_part_that_stands_there_twice_in_the_place_of_another_is_told(cifar):
    by_class = np.arange(24).reshape(3, 8).T.flatten()  # every part of six images is balanced
    write_parts(cifar / "cifar100", "train", by_class, [6, 12, 18])
    folder = cifar / "cifar100"
    assert len(sources.load("cifar100", "train", root=cifar)) == 24
    (folder / "train-2.npz").write_bytes((folder / "train-0.npz").read_bytes())
    with pytest.raises(ValueError, match=r"^\['train-0.npz', 'train-2.npz'\] hold the same images; fetch them again"):
        sources.load("cifar100", "train", root=cifar)


def test_parts_with_too_many_images_of_a_class_are_told(cifar):
    labels = np.repeat(np.arange(3), [7, 8, 9]).astype(np.uint8)
    write_parts(cifar / "cifar100", "train", np.arange(24), [], labels=labels)
    with pytest.raises(ValueError, match=r"'train-0.npz'\] hold 7 to 9 images a class instead of 8; fetch"):
        sources.load("cifar100", "train", root=cifar)


def test_parts_that_name_more_classes_than_there_are_are_told(cifar):
    write_parts(cifar / "cifar100", "train", np.arange(24), [], classes=np.array([*CLASSES, "dog"]))
    with pytest.raises(ValueError, match="hold 0 to 8 images a class instead of 8"):
        sources.load("cifar100", "train", root=cifar)


def test_the_real_counts_are_those_of_the_published_sets():
    per_class = {split: count / sources.CIFAR100_CLASSES for split, count in sources.CIFAR100_COUNTS.items()}
    assert per_class == {"train": 500, "test": 100}
    assert sources.OMNIGLOT_CHARACTERS == {1: 136, 2: 156}
    assert (sources.OMNIGLOT_DISTINCT, sources.OMNIGLOT_DRAWERS) == (242, 20)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named(cifar, damage):
    write_parts(cifar / "cifar100", "train", np.arange(24), [8])
    path = cifar / "cifar100" / "train-1.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"train-1\.npz is damaged .*fetch it again"):
        sources.load("cifar100", "train", root=cifar)


def test_an_altered_byte_anywhere_in_a_part_is_noticed_or_harmless(cifar):
    write_parts(cifar / "cifar100", "test", np.arange(9), [])
    expected = sources.load("cifar100", "test", root=cifar).digest()
    path = cifar / "cifar100" / "test-0.npz"
    data, noticed = path.read_bytes(), 0
    positions = [
        *range(60),
        *np.random.default_rng(0).integers(60, len(data) - 400, 40),
        *range(len(data) - 400, len(data)),
    ]
    for position in positions:
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            assert sources.load("cifar100", "test", root=cifar).digest() == expected
        except ValueError as error:
            noticed += "test-0.npz" in str(error)
    assert noticed > len(positions) / 3


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((24, 3, 32, 32), np.uint8)},
        {"images": np.zeros((24, 32, 32, 3), np.float32)},
        {"labels": np.zeros(23, np.uint8)},
    ],
)
def test_a_part_of_another_form_is_named(cifar, changes):
    write_parts(cifar / "cifar100", "train", np.arange(24), [], **changes)
    with pytest.raises(ValueError, match=r"train-0\.npz is damaged \(images are"):
        sources.load("cifar100", "train", root=cifar)


def test_a_part_without_labels_and_a_plain_array_are_named(cifar):
    path = cifar / "cifar100" / "test-0.npz"
    np.savez(path, images=cifar_arrays("test")[0], classes=np.array(CLASSES))
    with pytest.raises(ValueError, match=r"test-0\.npz is damaged .*labels"):
        sources.load("cifar100", "test", root=cifar)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"test-0\.npz is damaged"):
        sources.load("cifar100", "test", root=cifar)


@pytest.mark.parametrize("name", ["images", "labels", "classes"])
def test_a_pickle_in_a_part_is_refused(cifar, name):
    marker = cifar / "executed"
    write_parts(cifar / "cifar100", "test", np.arange(9), [], **{name: np.array([Touch(marker)], object)})
    marker.unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"test-0\.npz is damaged .*allow_pickle"):
        sources.load("cifar100", "test", root=cifar)
    assert not marker.exists()


class Touch:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_the_object_of_the_pickle_test_would_leave_its_mark(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([Touch(tmp_path / "executed")], object))
    with np.load(tmp_path / "a.npz", allow_pickle=True) as arrays:
        assert len(arrays["images"]) == 1
    assert (tmp_path / "executed").exists()


def test_parts_that_name_other_classes_are_refused(cifar):
    write_parts(cifar / "cifar100", "train", np.arange(24), [8])
    images, labels = cifar_arrays("train")
    np.savez(cifar / "cifar100" / "train-1.npz", images=images[8:], labels=labels[8:], classes=np.array(CLASSES[::-1]))
    with pytest.raises(ValueError, match="name different classes"):
        sources.load("cifar100", "train", root=cifar)


def test_a_label_beyond_the_class_names_is_refused(cifar):
    write_parts(cifar / "cifar100", "test", np.arange(9), [], labels=np.full(9, 3, np.uint8))
    with pytest.raises(ValueError, match="3 class names allow 0 to 2"):
        sources.load("cifar100", "test", root=cifar)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_named(cifar, monkeypatch, damage):
    path = write_archive(cifar / "cifar100", np.arange(24))
    accept(path, monkeypatch)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"cifar-100-binary\.tar\.gz is damaged .*delete it"):
        sources.load("cifar100", "train", root=cifar)


def test_without_files_and_network_the_error_says_what_to_get_and_where_to_put_it(cifar):
    with pytest.raises(FileNotFoundError) as error:
        sources.load("cifar100", "train", root=cifar)
    for words in (sources.CIFAR100_URL, sources.CIFAR100_MD5, str(cifar / "cifar100"), "COMPATLIB_DATA", "no route"):
        assert words in str(error.value)
    assert list((cifar / "cifar100").iterdir()) == []


def test_the_archive_is_fetched_under_another_name_and_once(cifar, monkeypatch, tmp_path_factory):
    source, calls = write_archive(tmp_path_factory.mktemp("server"), np.arange(24)), []
    accept(source, monkeypatch)

    def fetched(url, folder, filename, md5):
        calls.append((url, md5))
        assert filename != source.name
        (Path(folder) / filename).write_bytes(source.read_bytes())

    monkeypatch.setattr(sources, "download_url", fetched)
    assert len(sources.load("cifar100", "train", root=cifar)) == 24
    assert len(sources.load("cifar100", "test", root=cifar)) == 9
    assert calls == [(sources.CIFAR100_URL, sources.CIFAR100_MD5)]
    assert [path.name for path in (cifar / "cifar100").iterdir()] == [source.name]


def test_an_interrupted_download_leaves_nothing_that_passes_for_the_archive(cifar, monkeypatch):
    def interrupted(url, folder, filename, md5):
        (Path(folder) / filename).write_bytes(b"the first half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "download_url", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sources.load("cifar100", "train", root=cifar)
    assert not (cifar / "cifar100" / "cifar-100-binary.tar.gz").exists()


# Omniglot, small: two archives which share the character Greek/character01.


def omniglot_png(character: str, drawer: int) -> bytes:
    """A drawing of its own for every character and drawer, black on white, one bit a pixel."""
    seed = int.from_bytes(hashlib.sha256(f"{character}{drawer}".encode()).digest()[:4], "big")
    pixels = np.random.default_rng(seed).random((105, 105)) < 0.9
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


OMNIGLOT = {1: ("Greek/character01", "Greek/character02"), 2: ("Greek/character01", "Latin/character01")}


@pytest.fixture
def omniglot(tmp_path, monkeypatch):
    """A data root where two small archives pass for the real ones."""
    monkeypatch.setattr(sources, "OMNIGLOT_CHARACTERS", {number: len(names) for number, names in OMNIGLOT.items()})
    monkeypatch.setattr(sources, "OMNIGLOT_DISTINCT", 3)
    return tmp_path


def write_omniglot(root: Path, **changes: bytes) -> Path:
    """Both archives; `changes` replaces the bytes of a drawer's file in the second one."""
    folder = root / "omniglot"
    folder.mkdir()
    for number, characters in OMNIGLOT.items():
        with zipfile.ZipFile(folder / f"images_background_small{number}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"images_background_small{number}/readme.txt", "no drawing")
            for character in characters:
                for drawer in range(1, 21):
                    data = omniglot_png(character, drawer)
                    if number == 2:
                        data = changes.get(f"drawer{drawer}", data)
                    name = f"images_background_small{number}/{character}/{drawer + 700:04}_{drawer:02}.png"
                    archive.writestr(name, data)
    return root


def test_omniglot_takes_a_character_of_both_archives_once(omniglot):
    write_omniglot(omniglot)
    train, test = (sources.load("omniglot_small", split, root=omniglot) for split in sources.SPLITS)
    assert train.class_names == test.class_names == ("Greek/character01", "Greek/character02", "Latin/character01")
    assert torch.bincount(train.labels).tolist() == [12, 12, 12]
    assert torch.bincount(test.labels).tolist() == [8, 8, 8]
    assert train.images.shape == (36, 1, 35, 35)
    # Oracle: drawers 1 to 12 train, 13 to 20 test; every 3 × 3 block is averaged.
    for images, drawers in ((train, range(1, 13)), (test, range(13, 21))):
        for label, character in enumerate(images.class_names):
            expected = {blocks(omniglot_png(character, drawer)) for drawer in drawers}
            assert {image.numpy().tobytes() for image in images.images[images.labels == label]} == expected


def blocks(png: bytes) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"), int)
    means = [[pixels[3 * y : 3 * y + 3, 3 * x : 3 * x + 3].sum() / 9 for x in range(35)] for y in range(35)]
    return np.rint(means).astype(np.uint8).tobytes()


def test_what_macos_adds_to_an_archive_is_no_drawing(omniglot):
    path = write_omniglot(omniglot) / "omniglot" / "images_background_small2.zip"
    before = sources.load("omniglot_small", "test", root=omniglot).digest()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/images_background_small2/Latin/character01/._0701_01.png", b"no drawing")
        archive.writestr("images_background_small2/Latin/character01/._0701_01.png", b"no drawing")
    assert sources.load("omniglot_small", "test", root=omniglot).digest() == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_archive_of_omniglot_is_named_with_its_source(omniglot, number):
    path = write_omniglot(omniglot) / "omniglot" / f"images_background_small{number}.zip"
    path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        sources.load("omniglot_small", "test", root=omniglot)
    assert str(path) in str(error.value)
    assert sources.OMNIGLOT_URL in str(error.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_of_omniglot_is_named(omniglot, damage):
    path = write_omniglot(omniglot) / "omniglot" / "images_background_small2.zip"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"images_background_small2\.zip is damaged"):
        [sources.load("omniglot_small", split, root=omniglot) for split in sources.SPLITS]


@pytest.mark.parametrize("data", [b"no picture", omniglot_png("a", 1)[:60]])
def test_a_damaged_drawing_of_omniglot_is_reported_with_its_archive(omniglot, data):
    write_omniglot(omniglot, drawer3=data)
    with pytest.raises(ValueError, match=r"images_background_small2\.zip is damaged"):
        sources.load("omniglot_small", "train", root=omniglot)


def write_altered_omniglot(root: Path, part: str, by: str | None) -> None:
    """Both archives; in the second one's names `part` is replaced, or the files of such names are left out."""
    path = write_omniglot(root) / "omniglot" / "images_background_small2.zip"
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            if part not in name or by is not None:
                archive.writestr(name.replace(part, by or ""), content)


@pytest.mark.parametrize("split", sources.SPLITS)
@pytest.mark.parametrize(
    ("part", "by", "words"),
    [
        ("Latin/character01/0707_07", None, "39 drawings of 2 characters"),
        ("Latin/character01/0720_20", None, "39 drawings of 2 characters"),
        ("Latin/character01", None, "20 drawings of 1 characters"),
        ("Latin/character01/0720_20", "Latin/character02/0720_20", "40 drawings of 3 characters"),
        ("Latin/character01/0720_20", "Latin/character01/0720_21", "40 drawings of 2 characters"),
    ],
)
def test_an_archive_of_omniglot_with_other_counts_is_named_whichever_split_is_asked_for(
    omniglot, split, part, by, words
):
    write_altered_omniglot(omniglot, part, by)
    instead = r"instead of one by each of drawers 1 to 20 of 2\); fetch it again"
    with pytest.raises(ValueError, match=rf"small2\.zip is damaged \(it holds {words} {instead}"):
        sources.load("omniglot_small", split, root=omniglot)


def test_omniglot_archives_that_share_other_characters_are_refused(omniglot):
    write_altered_omniglot(omniglot, "Greek/character01", "Greek/character03")
    with pytest.raises(ValueError, match=r"omniglot hold 4 different characters instead of 3; get both from https"):
        sources.load("omniglot_small", "train", root=omniglot)


def test_omniglot_archives_without_drawings_are_refused(omniglot):
    (omniglot / "omniglot").mkdir()
    for number in (1, 2):
        with zipfile.ZipFile(omniglot / "omniglot" / f"images_background_small{number}.zip", "w") as archive:
            archive.writestr("readme.txt", "empty")
    with pytest.raises(ValueError, match=r"small1\.zip is damaged \(it holds 0 drawings of 0 characters instead"):
        sources.load("omniglot_small", "train", root=omniglot)


# Digits and glyphs need no files.


def test_digits_are_split_by_thirds_of_every_class():
    from sklearn.datasets import load_digits

    train, test = (sources.load("digits", split) for split in sources.SPLITS)
    bunch = load_digits()
    assert train.images.shape[1:] == (1, 8, 8)
    assert int(train.images.max()) == 255
    both = torch.bincount(train.labels) + torch.bincount(test.labels)
    assert both.tolist() == np.bincount(bunch.target).tolist()
    assert torch.bincount(train.labels).tolist() == [-(-2 * int(count) // 3) for count in both]
    pictures = sorted(np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in bunch.images)
    assert sorted(image.numpy().tobytes() for images in (train, test) for image in images.images) == pictures


def test_the_digits_are_the_frozen_set():
    assert [sources.load("digits", split).digest()[:16] for split in sources.SPLITS] == [
        "b3f63b0dcc11ca87",
        "d7f52d85783a1763",
    ]


def test_glyphs_are_disjoint_between_the_splits_and_nested_within_one():
    small = sources.load("glyphs", "train", classes=3, per_class=2)
    large = sources.load("glyphs", "train", classes=4, per_class=5)
    test = sources.load("glyphs", "test", classes=4, per_class=5)
    assert small.images.shape == (6, 3, 32, 32)
    assert test.class_names == large.class_names
    assert large.class_names[:3] == small.class_names
    nested = torch.cat([large.images[large.labels == label][:2] for label in range(3)])
    assert torch.equal(small.images, nested)
    pictures = {image.numpy().tobytes() for image in large.images}
    assert len(pictures) == 20
    assert not pictures & {image.numpy().tobytes() for image in test.images}


def test_glyphs_have_their_own_number_of_images(monkeypatch):
    drawn = []

    def draw(classes, per_class, *, seed, first_sample):
        drawn.append((classes, per_class, seed, first_sample))
        return np.zeros((1, 3, 4, 4), np.uint8), np.zeros(1, np.int64), ("a",)

    monkeypatch.setattr("compatlib.data.glyphs.draw", draw)
    for split in sources.SPLITS:
        sources.load("glyphs", split)
    assert drawn == [(200, 60, sources.GLYPHS_SEED, 0), (200, 20, sources.GLYPHS_SEED, 100_000)]


# Subsets, folders, and what is refused.


def test_the_first_images_of_the_first_classes_are_kept():
    whole = sources.load("digits", "test")
    part = sources.load("digits", "test", classes=4, per_class=7)
    assert part.class_names == whole.class_names[:4]
    assert torch.bincount(part.labels).tolist() == [7] * 4
    expected = torch.cat([whole.images[whole.labels == label][:7] for label in range(4)])
    assert torch.equal(part.images, expected)


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee", "cat"):
            (tmp_path / "insects" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "insects" / split / name / f"{number}.png")
    return tmp_path


def test_any_folder_of_images_is_a_data_set(folder):
    train = sources.load("insects", "train", size=8, root=folder)
    assert isinstance(train, FolderImages)
    assert train[0][0].shape == (3, 8, 8)
    assert len(sources.load("insects", "test", root=folder)) == 6
    part = sources.load("insects", "train", classes=2, per_class=2, size=8, root=folder)
    assert part.class_names == ("ant", "bee")
    assert part.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(part[2][0], train[3][0])


@pytest.mark.parametrize("split", sources.SPLITS)
def test_splits_of_a_folder_that_hold_different_classes_are_refused(folder, split):
    """Their labels would be shifted against each other: `cat` is 2 in train and would be 1 in a test without `bee`."""
    insects = folder / "insects"
    (insects / "test" / "bee").rename(insects / "test" / "wasp")
    (insects / "test" / "ant").rename(folder / "kept")
    told = {
        "test": f"{insects / 'test'} lacks 'ant', 'bee'",
        "train": f"{insects / 'train'} lacks 'wasp'",
        "way out": "must hold the same classes; add the missing ones or remove the others",
    }
    with pytest.raises(ValueError, match="lacks") as error:
        sources.load("insects", split, classes=1, root=folder)
    assert all(words in str(error.value) for words in told.values())
    (folder / "kept").rename(insects / "test" / "ant")
    (insects / "test" / "wasp").rename(insects / "test" / "bee")
    assert sources.load("insects", split, root=folder).class_names == ("ant", "bee", "cat")


def test_what_a_system_leaves_in_one_split_is_no_class_of_it(folder):
    for name in ("train/.ipynb_checkpoints", "test/@eaDir", "test/ant/.ipynb_checkpoints"):
        (folder / "insects" / name).mkdir()
    for split in sources.SPLITS:
        assert sources.load("insects", split, root=folder).class_names == ("ant", "bee", "cat")


def test_the_first_half_of_numbered_classes_is_the_lower_half(tmp_path):
    for number in range(12):
        (tmp_path / "numbered" / "train" / str(number)).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "numbered" / "train" / str(number) / "0.png")
    old, new = class_incremental(sources.load("numbered", "train", root=tmp_path))
    assert [old.class_names[label] for label in old.labels] == ["0", "1", "2", "3", "4", "5"]
    assert new.class_names == tuple(map(str, range(12)))


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.int32])
def test_text_for_the_root_and_numbers_of_numpy_will_do(folder, number):
    given = {"classes": number(2), "per_class": number(2)}
    part = sources.load("insects", "train", size=number(8), root=str(folder), **given)
    expected = sources.load("insects", "train", size=8, root=folder, classes=2, per_class=2)
    assert part.digest() == expected.digest()
    assert (
        sources.load("digits", "test", **given).digest()
        == sources.load("digits", "test", classes=2, per_class=2).digest()
    )


def test_a_folder_with_one_split_alone_is_a_data_set(folder):
    (folder / "insects" / "test").rename(folder / "elsewhere")
    assert len(sources.load("insects", "train", root=folder)) == 9


def test_the_data_root_is_the_variable_or_the_repositorys_cache(folder, monkeypatch):
    monkeypatch.setenv("COMPATLIB_DATA", str(folder))
    assert sources.data_root() == folder
    assert len(sources.load("insects", "train")) == 9
    monkeypatch.setenv("COMPATLIB_DATA", "~/images")
    monkeypatch.setenv("HOME", str(folder))
    assert sources.data_root() == folder / "images"
    monkeypatch.setenv("COMPATLIB_DATA", "")
    assert sources.data_root() == Path(sources.__file__).parents[2] / "data" / "cache"
    monkeypatch.delenv("COMPATLIB_DATA")
    assert sources.data_root() == Path(sources.__file__).parents[2] / "data" / "cache"


def test_installed_without_its_repository_the_cache_is_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("COMPATLIB_DATA")
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "site-packages" / "compatlib" / "data" / "sources.py"))
    monkeypatch.chdir(tmp_path)
    assert sources.data_root() == tmp_path / "data" / "cache"


def test_unknown_names_and_splits_are_refused_with_the_valid_ones(folder):
    with pytest.raises(ValueError, match=r"'cifar10'; choose one of .*'cifar100'.*cifar10/train/<class>"):
        sources.load("cifar10", "train", root=folder)
    with pytest.raises(ValueError, match=r"'validation'; choose one of \('train', 'test'\)"):
        sources.load("digits", "validation")
    assert sources.image_names() == ("glyphs", "digits", "cifar100", "omniglot_small")
    others = ("market1501", "msmt17", "veri776", "deepfashion2", "cifar100_lite", "omniglot_lite")
    assert sources.names() == (*sources.image_names(), *others)


@pytest.mark.parametrize("name", ["digits", "glyphs"])
@pytest.mark.parametrize("wrong", [{"classes": 0}, {"classes": 100_000}, {"per_class": 0}, {"per_class": 200_000}])
def test_impossible_sizes_are_refused(name, wrong):
    given = {"classes": 2, "per_class": 1} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong.values()))}"):
        sources.load(name, "train", **given)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": -8}, {"classes": 4}, {"per_class": 4}])
def test_impossible_sizes_of_a_folder_are_refused(folder, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong.values()))}"):
        sources.load("insects", "train", root=folder, **wrong)
