"""A small tree in DeepFashion2's published layout, what is refused of it, and retrieval from consumers to shops."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from compatlib.data import deepfashion2, sources
from compatlib.data.deepfashion2 import CroppedImages
from compatlib.data.images import batches
from compatlib.data.splits import class_incremental
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.models.resnet import small_resnet

# By folder and photograph: source, pair_id, and of every garment its style and its box.
TREE = {
    "train": {
        "000001": ("user", 7, [(1, [0, 0, 8, 10]), (0, [2, 2, 5, 5])]),
        "000002": ("shop", 7, [(1, [1, 0, 9, 9]), (2, [4, 3, 16, 12])]),
        "000003": ("shop", 12, [(1, [0, 2, 6, 8])]),
    },
    "validation": {
        "000001": ("user", 3, [(2, [0, 0, 10, 10]), (1, [1, 1, 7, 12])]),
        "000002": ("shop", 3, [(1, [2, 1, 8, 12]), (0, [0, 0, 4, 4])]),
        "000003": ("shop", 20, [(2, [0, 0, 16, 12])]),
        "000004": ("shop", 3, [(2, [0, 1, 20, 30])]),
    },
}


@pytest.fixture(autouse=True)
def _any_count(monkeypatch, request):
    """The tree is smaller than published, of which `read` would warn."""
    if "published" not in request.node.name:
        monkeypatch.setattr(deepfashion2, "COUNTS", {name: len(tree) for name, tree in TREE.items()})


@pytest.fixture
def root(tmp_path):
    for folder, photographs in TREE.items():
        base = tmp_path / "deepfashion2" / folder
        (base / "image").mkdir(parents=True)
        (base / "annos").mkdir()
        for name, (source, pair, garments) in photographs.items():
            pixels = np.random.default_rng(int(name)).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(base / "image" / f"{name}.jpg")
            items = {
                f"item{number}": {"style": style, "bounding_box": box, "category_id": 1, "landmarks": [1, 2, 2]}
                for number, (style, box) in enumerate(garments, 1)
            }
            (base / "annos" / f"{name}.json").write_text(json.dumps({"source": source, "pair_id": pair} | items))
    return tmp_path


def told(images: CroppedImages) -> list[tuple[str, str, int, list[int]]]:
    """Photograph, identity, source and box of every garment."""
    names = [images.class_names[label] for label in images.labels.tolist()]
    return list(
        zip((file.stem for file in images.files), names, images.cameras.tolist(), images.boxes.tolist(), strict=True)
    )


def test_training_garments_are_those_of_a_pair_by_consumers_and_shops(root):
    train = sources.load("deepfashion2", "train", root=root)
    assert told(train) == [
        ("000001", "000007/1", 0, [0, 0, 8, 10]),
        ("000002", "000007/1", 1, [1, 0, 9, 9]),
        ("000002", "000007/2", 1, [4, 3, 16, 12]),
        ("000003", "000012/1", 1, [0, 2, 6, 8]),
    ]
    assert train.class_names == ("000007/1", "000007/2", "000012/1")
    assert train.labels.dtype == train.cameras.dtype == train.boxes.dtype == torch.int64


def test_consumers_ask_and_shops_answer_with_what_belongs_to_no_pair_besides(root):
    query, gallery = (sources.load("deepfashion2", split, root=root) for split in ("query", "gallery"))
    assert told(query) == [("000001", "000003/2", 0, [0, 0, 10, 10]), ("000001", "000003/1", 0, [1, 1, 7, 12])]
    assert [(file, name) for file, name, *_ in told(gallery)] == [
        ("000002", "000003/1"),
        ("000002", "000000/0"),
        ("000003", "000020/2"),
        ("000004", "000003/2"),
    ]
    assert query.class_names == gallery.class_names == ("000000/0", "000003/1", "000003/2", "000020/2")
    network = small_resnet(widths=(8,), dim=6)
    vectors = [embed(network, sources.load("deepfashion2", split, root=root, size=8)) for split in ("query", "gallery")]
    found = evaluate(*vectors, query.labels, gallery.labels)
    assert found.n_valid == 2
    assert found.first_rank.max() <= 4


def test_a_garment_is_cut_out_and_resized_when_it_is_asked_for(root):
    train = sources.load("deepfashion2", "train", root=root)
    assert train[0][0].shape == (3, 224, 224)
    whole = sources.load("deepfashion2", "train", root=root, size=(9, 12))
    with Image.open(whole.files[2]) as image:
        pixels = np.asarray(image)
    assert np.array_equal(whole[2][0].permute(1, 2, 0), pixels[3:12, 4:16])  # as large as its box: not resized
    assert whole[2][1] == 1
    ((inputs, labels, _),) = batches(whole, torch.arange(4), 10)
    assert inputs.shape == (4, 3, 9, 12)
    assert torch.equal(labels, whole.labels)
    gallery = sources.load("deepfashion2", "gallery", root=root, size=(11, 16))
    with Image.open(gallery.files[3]) as image:
        assert np.array_equal(gallery[3][0].permute(1, 2, 0), np.asarray(image)[1:12])  # the box goes beyond


def test_a_subset_keeps_its_boxes_and_the_digest_follows_them(root):
    train = sources.load("deepfashion2", "train", root=root)
    part = train.select(train.cameras == 1)
    assert told(part) == told(train)[1:]
    assert told(class_incremental(train, 1 / 3)[0]) == told(train)[:2]
    assert told(sources.load("deepfashion2", "train", root=root, classes=2, per_class=1)) == [
        told(train)[0],
        told(train)[2],
    ]
    given = (train.files, train.labels, train.cameras, train.class_names, train.size)
    other = CroppedImages(*given, boxes=train.boxes + torch.tensor([0, 0, 0, 1]))
    assert CroppedImages(*given, boxes=train.boxes.tolist()).digest() == train.digest()
    assert len({images.digest() for images in (train, part, other)}) == 3


def test_a_tree_that_is_not_whole_is_told_against_the_published_count(root):
    with pytest.warns(UserWarning, match=r"train/annos holds 3 annotations; .* as published holds 191,961$") as caught:
        sources.load("deepfashion2", "train", root=root)
    assert len(caught) == 1
    assert caught[0].filename == __file__


# What is refused.


def test_what_is_missing_is_named_with_where_to_get_and_put_it(root, tmp_path):
    for folder in ("train/image", "validation/annos"):
        shutil.rmtree(root / "deepfashion2" / folder)
        split = "train" if folder.startswith("train") else "query"
        words = rf"deepfashion2/{folder} is missing; get DeepFashion2 from https://\S+ and put .* COMPATLIB_DATA"
        with pytest.raises(FileNotFoundError, match=words):
            sources.load("deepfashion2", split, root=root)
    with pytest.raises(ValueError, match=r"unknown split 'test' of deepfashion2; choose one of \('train', 'query'"):
        sources.load("deepfashion2", "test", root=root)
    with pytest.raises(ValueError, match="size is 0; choose sides of 1 pixel or more"):
        sources.load("deepfashion2", "train", root=root, size=0)


ITEM = {"style": 1, "bounding_box": [0, 0, 4, 4]}
WHOLE = {"source": "user", "pair_id": 1, "item1": ITEM}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", r"\(Expecting property name"),
        ("[]", "no annotation of DeepFashion2"),
        ({"pair_id": 1}, r"\(it lacks 'source'\)"),
        ({"source": "user"}, r"\(it lacks 'pair_id'\)"),
        (WHOLE | {"source": "web"}, r"source is 'web'; valid are \('user', 'shop'\)"),
        (WHOLE | {"pair_id": "7"}, "pair_id is '7'; valid are whole numbers"),
        (WHOLE | {"item2": {"style": 1}}, r"\(it lacks 'bounding_box'\)"),
        (WHOLE | {"item1": ITEM | {"style": -1}}, "style is -1"),
        (WHOLE | {"item1": ITEM | {"bounding_box": [1, 2, 3]}}, "not enough values"),
        (WHOLE | {"item1": ITEM | {"bounding_box": [1, 2, 1, 4]}}, r"bounding_box is \[1, 2, 1, 4\]; valid is \[left"),
        (WHOLE | {"item1": ITEM | {"bounding_box": [1, -2, 3, 4]}}, "bounding_box is -2"),
    ],
)
def test_a_damaged_annotation_is_named(root, content, words):
    path = root / "deepfashion2" / "train" / "annos" / "000002.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=rf"000002.json is no annotation of DeepFashion2.*{words}|{words}.*") as caught:
        sources.load("deepfashion2", "train", root=root)
    assert f"{path} is no annotation of DeepFashion2 (" in str(caught.value)


def test_a_photograph_that_is_annotated_must_be_there(root):
    (root / "deepfashion2" / "train" / "image" / "000002.jpg").unlink()
    with pytest.raises(ValueError, match=r"train/image lacks 000002.jpg, which annos names; unpack it again"):
        sources.load("deepfashion2", "train", root=root)


def test_a_split_without_garments_is_refused(root):
    (root / "deepfashion2" / "validation" / "annos" / "000001.json").write_text(json.dumps(WHOLE | {"source": "shop"}))
    with pytest.raises(ValueError, match="validation holds no garment for 'query'; get DeepFashion2 anew"):
        sources.load("deepfashion2", "query", root=root)


def test_boxes_that_cannot_be_are_refused(root):
    train = sources.load("deepfashion2", "train", root=root)
    given = (train.files, train.labels, train.cameras, train.class_names)
    with pytest.raises(ValueError, match=r"boxes must be int64 \(4, 4\), one an image, not torch.int64 \(3, 4\)"):
        CroppedImages(*given, boxes=train.boxes[:3])
    with pytest.raises(ValueError, match="a box has no pixel; valid are left < right and top < bottom, from 0"):
        CroppedImages(*given, boxes=train.boxes.flip(1))
    beyond = CroppedImages(*given, boxes=train.boxes + 16)
    with pytest.raises(ValueError, match=r"the box \[16, 16, 24, 26\] lies beyond .*000001.jpg, which has 16 × 12 pix"):
        beyond[0]
