"""Small trees in the published layouts of re-identification sets, what is refused of them, and a whole experiment."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from compatlib.data import reidentification, sources
from compatlib.data.augment import crop_flip_and_erase
from compatlib.data.identity_batches import IdentityBatches
from compatlib.data.images import batches
from compatlib.data.reidentification import LAYOUTS, IdentityImages
from compatlib.data.splits import class_incremental
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import independent
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.training import Recipe, initialised

MARKET = {
    "bounding_box_train": ("0002_c1s1_000451_03", "0002_c2s1_000301_01", "0010_c6s4_010053_05", "0007_c3s3_077419_03"),
    "query": ("0001_c1s1_001051_00", "0003_c2s1_000151_00"),
    "bounding_box_test": (
        *("-1_c1s1_000401_03", "0000_c1s1_000151_01", "0000_c4s6_100000_01", "0001_c1s1_001051_03"),
        *("0001_c2s1_001976_01", "0003_c5s1_000151_01", "0003_c2s1_000151_01"),
    ),
}
VERI = {
    "image_train": ("0001_c001_00016450_0", "0001_c002_00016460_0", "0776_c020_00085185_0"),
    "image_query": ("0002_c002_00030600_0",),
    "image_test": ("0002_c003_00030670_0", "0005_c003_00077625_1", "0002_c002_00030600_1"),
}
VERI_LISTS = {"name_train.txt": "image_train", "name_query.txt": "image_query", "name_test.txt": "image_test"}
MSMT17 = {
    "list_train.txt": ("train", ("0000/0000_000_01_0303morning_0008_0 0", "0003/0003_000_15_0302noon_0008_1_ex 3")),
    "list_val.txt": ("train", ("0001/0001_002_04_0303morning_0031_0 1", "0000/0000_003_05_0303noon_0001_0 0")),
    "list_query.txt": ("test", ("0000/0000_000_01_0303morning_0015_0 0", "0002/0002_000_07_0303morning_0001_0 2")),
    "list_gallery.txt": ("test", ("0002/0002_001_08_0113noon_0002_0 2", "0000/0000_001_14_0114noon_0003_0 0")),
}


def draw(path, size=(13, 7)):
    """A small image whose pixels are its name's own."""
    pixels = np.random.default_rng(list(path.name.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def market(root):
    for folder, names in MARKET.items():
        for name in names:
            draw(root / "market1501" / "Market-1501-v15.09.15" / folder / f"{name}.jpg")
    (root / "market1501" / "Market-1501-v15.09.15" / "bounding_box_test" / "Thumbs.db").touch()
    return root / "market1501" / "Market-1501-v15.09.15"


def veri(root):
    for folder, names in VERI.items():
        for name in names:
            draw(root / "veri776" / "VeRi" / folder / f"{name}.jpg")
    for file, folder in VERI_LISTS.items():
        (root / "veri776" / "VeRi" / file).write_text("".join(f"{name}.jpg\n" for name in VERI[folder]))
    return root / "veri776" / "VeRi"


def msmt17(root, unpacked="MSMT17_V1", folders=("train", "test")):
    base = root / "msmt17" / unpacked
    for file, (folder, lines) in MSMT17.items():
        pairs = [line.split() for line in lines]
        for path, _ in pairs:
            draw(base / folders[folder == "test"] / f"{path}.jpg")
        (base / file).write_text("".join(f"{path}.jpg {identity}\n" for path, identity in pairs))
    return base


TREES = {"market1501": market, "veri776": veri, "msmt17": msmt17}


@pytest.fixture(autouse=True)
def _any_count(monkeypatch, request):
    """The trees are smaller than published, of which `read` would warn."""
    if "published" not in request.node.name:
        monkeypatch.setattr(reidentification, "_check_count", lambda *given: None)


def told(images):
    names = [images.class_names[label] for label in images.labels.tolist()]
    return list(zip(names, images.cameras.tolist(), strict=True))


def test_market_1501_has_its_identities_cameras_and_distractors_and_no_junk(tmp_path):
    market(tmp_path)
    train, query, gallery = (
        sources.load("market1501", split, root=tmp_path) for split in ("train", "query", "gallery")
    )
    assert told(train) == [("0002", 1), ("0002", 2), ("0007", 3), ("0010", 6)]
    assert train.class_names == ("0002", "0007", "0010")
    assert told(query) == [("0001", 1), ("0003", 2)]
    expected = [("0000", 1), ("0000", 4), ("0001", 1), ("0001", 2), ("0003", 2), ("0003", 5)]
    assert told(gallery) == expected
    assert query.class_names == gallery.class_names == ("0000", "0001", "0003")
    assert not set(query.labels.tolist()) & {gallery.class_names.index("0000")}
    assert {images.labels.dtype for images in (train, query, gallery)} == {torch.int64}
    assert {images.cameras.dtype for images in (train, query, gallery)} == {torch.int64}
    assert [file.name for file in train.files] == sorted(f"{name}.jpg" for name in MARKET["bounding_box_train"])


def test_veri_776_is_read_by_its_folders(tmp_path):
    base = veri(tmp_path)
    draw(base / "image_train" / "0004_c005_00000001_0.jpg")  # as published, a list may lack an image
    train, query, gallery = (sources.load("veri776", split, root=tmp_path) for split in ("train", "query", "gallery"))
    assert told(train) == [("0001", 1), ("0001", 2), ("0004", 5), ("0776", 20)]
    assert told(query) == [("0002", 2)]
    assert told(gallery) == [("0002", 2), ("0002", 3), ("0005", 3)]
    for file in VERI_LISTS:
        (base / file).unlink()
    assert sources.load("veri776", "train", root=tmp_path).digest() == train.digest()


@pytest.mark.parametrize(
    "version", [("MSMT17_V1", ("train", "test")), ("MSMT17_V2", ("mask_train_v2", "mask_test_v2"))]
)
def test_msmt17_is_read_by_its_lists_in_both_versions(tmp_path, version):
    msmt17(tmp_path, *version)
    load = partial(sources.load, "msmt17", root=tmp_path)
    train, validation, query, gallery = map(load, ("train", "validation", "query", "gallery"))
    assert told(train) == [("0000", 1), ("0003", 15)]
    assert told(validation) == [("0001", 4), ("0000", 5)]
    assert train.class_names == validation.class_names == ("0000", "0001", "0003")
    assert told(query) == [("0000", 1), ("0002", 7)]
    assert told(gallery) == [("0002", 8), ("0000", 14)]
    assert query.class_names == gallery.class_names == ("0000", "0002")


@pytest.mark.parametrize("name", TREES)
def test_the_folder_of_the_archive_may_be_left_out(tmp_path, name):
    base = TREES[name](tmp_path)
    before = sources.load(name, "gallery", root=tmp_path).digest()
    for path in list(base.iterdir()):
        shutil.move(path, base.parent)
    base.rmdir()
    assert sources.load(name, "gallery", root=tmp_path).digest() == before


@pytest.mark.parametrize("name", TREES)
def test_images_are_read_in_height_and_width_when_they_are_asked_for(tmp_path, name):
    base = TREES[name](tmp_path)
    assert sources.load(name, "query", root=tmp_path)[0][0].shape == (3, 256, 128)
    images = sources.load(name, "query", size=(12, 5), root=tmp_path)
    for workers in (0, 2):
        ((inputs, labels, _),) = batches(images, torch.arange(len(images)), 10, workers)
        assert inputs.dtype == torch.uint8
        assert inputs.shape == (len(images), 3, 12, 5)
        assert torch.equal(labels, images.labels)
    whole = sources.load(name, "query", size=(13, 7), root=tmp_path)
    with Image.open(whole.files[0]) as image:
        assert np.array_equal(whole[0][0].permute(1, 2, 0), np.asarray(image))
    assert sources.load(name, "query", size=9, root=tmp_path)[0][0].shape == (3, 9, 9)
    shutil.rmtree(base)
    with pytest.raises(ValueError, match=r"\.jpg cannot be read"):
        images[0]


def test_images_are_resized_as_pillow_resizes_them_bicubically(tmp_path):
    path = tmp_path / "0001_c1.png"
    draw(path, (40, 30))
    found = IdentityImages((path,), [0], [1], ("0001",), (16, 8))[0][0]
    with Image.open(path) as image:
        expected = np.asarray(image.resize((8, 16), Image.Resampling.BICUBIC), np.int16)
    assert np.abs(found.permute(1, 2, 0).numpy().astype(np.int16) - expected).max() <= 2


def test_a_subset_keeps_cameras_and_the_digest_follows_what_is_there(tmp_path):
    base = market(tmp_path)
    gallery = sources.load("market1501", "gallery", root=tmp_path)
    part = gallery.select(gallery.cameras == 2)
    assert told(part) == [("0001", 2), ("0003", 2)]
    assert part.class_names == gallery.class_names
    others = [part, sources.load("market1501", "gallery", size=(8, 8), root=tmp_path)]
    others += [IdentityImages(gallery.files, gallery.labels, gallery.cameras.flip(0), gallery.class_names)]
    others += [IdentityImages(gallery.files, gallery.labels.flip(0), gallery.cameras, gallery.class_names)]
    digests = {images.digest() for images in (gallery, *others)}
    draw(base / "bounding_box_test" / "0001_c1s1_001051_03.jpg", (9, 9))
    digests.add(sources.load("market1501", "gallery", root=tmp_path).digest())
    assert len(digests) == 6
    assert gallery.digest() in digests, "it is taken once"


def test_the_old_models_identities_are_the_first_in_numeric_order(tmp_path):
    market(tmp_path)
    train = sources.load("market1501", "train", root=tmp_path)
    old, new = class_incremental(train, 2 / 3)
    assert told(old) == [("0002", 1), ("0002", 2), ("0007", 3)]
    assert new is train
    first = sources.load("market1501", "train", classes=2, per_class=1, root=tmp_path)
    assert told(first) == [("0002", 1), ("0007", 3)]
    assert first.class_names == ("0002", "0007")


@pytest.mark.parametrize(("name", "split"), [(name, split) for name in TREES for split in LAYOUTS[name].folders])
def test_a_set_that_is_not_whole_is_told_against_the_published_count(tmp_path, name, split):
    TREES[name](tmp_path)
    with pytest.warns(UserWarning, match=rf"{split} of .* holds {LAYOUTS[name].counts[split]:,}$") as caught:
        sources.load(name, split, root=tmp_path)
    assert len(caught) == 1


def test_the_whole_sets_have_as_many_images_as_published_papers_say():
    """Of Market-1501 19,732 test images less 3,819 junk ones; MSMT17's 32,621 training images in two lists."""
    assert LAYOUTS["market1501"].counts["gallery"] == 19_732 - 3_819
    assert sum(LAYOUTS["msmt17"].counts.values()) == 32_621 + 11_659 + 82_161 == 126_441
    assert sum(LAYOUTS["veri776"].counts.values()) == 37_778 + 1_678 + 11_579


# What is refused.


@pytest.mark.parametrize(("name", "split"), [(name, split) for name in TREES for split in LAYOUTS[name].folders])
def test_a_missing_folder_is_named_with_where_to_get_the_set(tmp_path, name, split):
    base = TREES[name](tmp_path)
    folder = LAYOUTS[name].folders[split][0]
    shutil.rmtree(base / folder)
    with pytest.raises(FileNotFoundError, match=rf"{base / folder} is missing; get {LAYOUTS[name].title} from http"):
        sources.load(name, "query", root=tmp_path)


@pytest.mark.parametrize("name", TREES)
def test_where_nothing_is_the_message_says_where_to_put_it(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path / name}/\w+ is missing; .* COMPATLIB_DATA"):
        sources.load(name, "train", root=tmp_path)


def _add(path, *names):
    for name in names:
        draw(path / name)


def _write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


LINE = "0000/0000_000_01_0303morning_0015_0.jpg 0\n"
DAMAGE = {
    "no identity in a name": ("market1501", lambda at: _add(at / "query", "bus.jpg"), "bus.jpg names no identity"),
    "no camera in a name": ("veri776", lambda at: _add(at / "image_test", "0003_00030670.jpg"), "no identity and cam"),
    "a folder in the folder": (
        "market1501",
        lambda at: _add(at / "query" / "query", "0001_c1s1_001051_00.jpg"),
        "in a folder of its own",
    ),
    "a camera too many": ("market1501", lambda at: _add(at / "query", "0001_c7s1_1.jpg"), "camera 7; .* has 1 to 6"),
    "an identity too many": ("veri776", lambda at: _add(at / "image_test", "0777_c001_1.jpg"), "777; .* has 1 to 776"),
    "a trained identity in the queries": (
        "market1501",
        lambda at: _add(at / "query", "0002_c1s1_1_00.jpg"),
        "trains and tests identities 0002;",
    ),
    "trained identities in the gallery": (
        "veri776",
        lambda at: _add(at / "image_test", "0001_c001_1_0.jpg", "0776_c001_1_0.jpg"),
        "trains and tests identities 0001, 0776;",
    ),
    "a distractor that asks": ("market1501", lambda at: _add(at / "query", "0000_c1s1_1.jpg"), "query .* 0000, which"),
    "a distractor in training": (
        "market1501",
        lambda at: _add(at / "bounding_box_train", "0000_c1s1_1.jpg"),
        "train .* 0000, which is nobody",
    ),
    "no image": (
        "veri776",
        lambda at: (shutil.rmtree(at / "image_query"), (at / "image_query").mkdir()),
        "image_query holds no image",
    ),
    "junk alone": (
        "market1501",
        lambda at: (shutil.rmtree(at / "query"), _add(at / "query", "-1_c1s1_1.jpg")),
        "query holds no image of an identity",
    ),
    "an image of the list is not there": (
        "veri776",
        lambda at: (at / "image_train" / "0001_c002_00016460_0.jpg").unlink(),
        "image_train lacks 0001_c002_00016460_0.jpg, which name_train.txt names",
    ),
    "images of the list are not there": (
        "msmt17",
        lambda at: shutil.rmtree(at / "test" / "0002"),
        "test lacks 0002/0002_000_07_0303morning_0001_0.jpg, which list_query.txt names",
    ),
    "many are not there": (
        "msmt17",
        lambda at: _write(at / "list_val.txt", "".join(f"0/0_0_0{camera}_a.jpg 0\n" for camera in range(1, 6))),
        "lacks 0/0_0_01_a.jpg, 0/0_0_02_a.jpg, 0/0_0_03_a.jpg and 2 more",
    ),
    "a list without identities": (
        "msmt17",
        lambda at: _write(at / "list_query.txt", LINE + "0002/0002_000_07_0303morning_0001_0.jpg\n"),
        "line 2 of .*list_query.txt is '0002",
    ),
    "a list without cameras": ("msmt17", lambda at: _write(at / "list_query.txt", "0000/a.jpg 0"), "line 1 .* camera"),
    "an image twice in a list": ("msmt17", lambda at: _write(at / "list_query.txt", LINE * 2), "names an image twice"),
    "an empty list": ("msmt17", lambda at: _write(at / "list_gallery.txt", "\n"), "list_gallery.txt holds no image"),
    "a list that is no text": ("msmt17", lambda at: _write(at / "list_gallery.txt", b"\xff\xfe0"), "is no text"),
    "a camera too many in a list": (
        "msmt17",
        lambda at: (
            _add(at / "test" / "0000", "0000_000_16_a.jpg"),
            _write(at / "list_query.txt", "0000/0000_000_16_a.jpg 0"),
        ),
        "camera 16; MSMT17 has 1 to 15",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_tree_is_refused_whichever_split_is_asked_for(tmp_path, damage):
    name, do, word = DAMAGE[damage]
    do(TREES[name](tmp_path))
    for split in LAYOUTS[name].folders:
        with pytest.raises(ValueError, match=word):
            sources.load(name, split, root=tmp_path)


def test_a_missing_list_is_named(tmp_path):
    (msmt17(tmp_path) / "list_gallery.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"list_gallery\.txt is missing; get MSMT17"):
        sources.load("msmt17", "train", root=tmp_path)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    damaged = market(tmp_path) / "query" / "0001_c1s1_001051_00.jpg"
    _write(damaged, b"no image")
    query = sources.load("market1501", "query", root=tmp_path)
    for ask in (query.check, lambda: query[0]):
        with pytest.raises(ValueError, match=f"{damaged} cannot be read as an image"):
            ask()
    query.select(query.labels == query.labels[1]).check()


@pytest.mark.parametrize(("name", "split"), [("market1501", "test"), ("veri776", "validation"), ("msmt17", "val")])
def test_an_unknown_split_is_refused(tmp_path, name, split):
    TREES[name](tmp_path)
    with pytest.raises(ValueError, match=f"unknown split '{split}' of {name}; choose one of .*'gallery'"):
        sources.load(name, split, root=tmp_path)


@pytest.mark.parametrize("size", [0, (0, 5), (5,), (5, 6, 7), "large", 2.5, (8, 4.5)])
def test_impossible_sizes_are_refused(tmp_path, size):
    market(tmp_path)
    with pytest.raises(ValueError, match="size is"):
        sources.load("market1501", "train", size=size, root=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"labels": [0, 1]}, r"labels must be int64 \(3,\)"),
        ({"cameras": [0.5, 1.0, 1.0]}, "cameras must be int64"),
        ({"labels": [0, 1, 2]}, "2 class names"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(wrong, word):
    right = {"files": ("a", "b", "c"), "labels": [0, 1, 1], "cameras": [1, 1, 2], "class_names": ("0001", "0002")}
    assert len(IdentityImages(**right)) == 3
    with pytest.raises(ValueError, match=word):
        IdentityImages(**(right | wrong))


# The whole way.


def persons(root):
    """Persons in colours of their own, before the background of the camera that sees them."""
    generator = np.random.default_rng(0)
    base = root / "market1501"
    for folder, identities in (("bounding_box_train", range(100, 112)), ("bounding_box_test", range(200, 208))):
        for identity in identities:
            colours = np.random.default_rng(identity).integers(0, 256, (2, 1, 1, 3))
            for camera in range(1, 5):
                pixels = np.full((16, 8, 3), 60 * camera - 30)
                pixels[2:8, 2:6], pixels[8:14, 2:6] = colours
                pixels = np.clip(pixels + generator.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
                is_query = folder == "bounding_box_test" and camera == 1
                names = (folder, "query") if is_query else (folder,)
                for name in names:
                    path = base / name / f"{identity:04d}_c{camera}s1_000001_00.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)


def test_a_small_network_trained_on_identities_finds_others_across_cameras(tmp_path):
    persons(tmp_path)
    train, query, gallery = (
        sources.load("market1501", split, size=(16, 8), root=tmp_path) for split in ("train", "query", "gallery")
    )
    backbone = initialised(lambda: small_resnet(widths=(8, 16), dim=32, head="linear_bn"), 0, "new")
    recipe = Recipe(epochs=25, batch_size=16, optimizer="adam", learning_rate=3e-3)
    augment = partial(crop_flip_and_erase, padding=1)
    classifier = LinearClassifier(32, len(train.class_names))
    order = IdentityBatches(train.labels, 4)
    independent.fit(backbone, classifier, train, recipe, seed=0, role="new", augment=augment, order=order)

    def found(**cameras):
        return evaluate(embed(backbone, query), embed(backbone, gallery), query.labels, gallery.labels, **cameras)

    with_own, across = found(), found(query_cameras=query.cameras, gallery_cameras=gallery.cameras)
    nearest = gallery.select(torch.as_tensor(across.nearest))
    assert with_own.cmc[1] == 1, "a query's own image stands in the gallery"
    assert not ((nearest.labels == query.labels) & (nearest.cameras == query.cameras)).any(), "which does not count"
    assert across.mean_average_precision > 0.4, "without training it is about 0.2"
