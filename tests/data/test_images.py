"""Sets of images in memory and on disk, and the batches read from them."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from compatlib.data.images import FolderImages, ImageSet, InMemory, batches


def image_set(count=10, classes=3, seed=0):
    images = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return ImageSet(images, torch.arange(count) % classes, tuple("abcdefgh"[:classes]))


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for name, sizes in {"cat": [(40, 30), (32, 32)], "ant": [(33, 64)]}.items():
        (tmp_path / name).mkdir()
        for number, size in enumerate(sizes):
            pixels = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.numpy()).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_subset_keeps_labels_and_class_names():
    whole = image_set()
    by_mask, by_index = whole.select(whole.labels == 2), whole.select(torch.tensor([8, 2]))
    assert by_mask.labels.tolist() == [2, 2, 2]
    assert by_index.labels.tolist() == [2, 2]
    assert torch.equal(by_index.images[0], whole.images[8])
    assert by_index.class_names == whole.class_names


def test_the_digest_tells_pixels_labels_names_and_shape_apart():
    base = image_set()
    others = [
        image_set(seed=1),
        ImageSet(base.images, base.labels.flip(0), base.class_names),
        ImageSet(base.images, base.labels, ("a", "b", "x")),
        ImageSet(base.images.reshape(10, 3, 5, 6), base.labels, base.class_names),
    ]
    assert image_set().digest() == base.digest()
    assert len({base.digest(), *(other.digest() for other in others)}) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_visit_the_order_that_is_asked_for(folder, workers):
    order = torch.tensor([2, 0, 1])
    for images in (image_set(3), FolderImages(folder, 16)):
        visited = list(batches(images, order, 2, workers=workers))
        assert [indices.tolist() for _, _, indices in visited] == [[2, 0], [1]]
        assert torch.equal(torch.cat([labels for _, labels, _ in visited]), images.labels[order])
        assert torch.equal(visited[1][0][0], images[1][0])


def test_a_set_in_memory_is_recognised_and_one_on_disk_is_not(folder):
    assert isinstance(image_set(), InMemory)
    assert not isinstance(FolderImages(folder), InMemory)


def test_a_folder_gives_square_colour_images_in_the_order_of_class_names(folder):
    images = FolderImages(folder, 16)
    assert images.class_names == ("ant", "cat")
    assert images.labels.tolist() == [0, 1, 1]
    assert images[0][0].shape == (3, 16, 16)
    assert images[0][0].dtype == torch.uint8
    subset = images.select(images.labels == 1)
    assert len(subset) == 2
    assert torch.equal(subset[1][0], images[2][0])


def test_the_digest_of_a_folder_follows_its_files(folder):
    before = FolderImages(folder).digest()
    assert FolderImages(folder).digest() == before
    assert FolderImages(folder, 16).digest() != before
    Image.new("RGB", (8, 8)).save(folder / "ant" / "0.png")
    assert FolderImages(folder).digest() != before


def test_a_damaged_image_and_an_empty_class_are_named(folder, tmp_path):
    (folder / "ant" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match=r"ant/0\.png cannot be read"):
        FolderImages(folder)[0]
    (folder / "bee").mkdir()
    with pytest.raises(ValueError, match="bee holds no image"):
        FolderImages(folder)
    with pytest.raises(ValueError, match="holds no class"):
        FolderImages(tmp_path / "nowhere")


def test_links_lead_to_the_same_set_and_a_change_behind_them_is_noticed(folder, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    for name in ("ant", "cat"):
        (linked / name).symlink_to(folder / name)
    before = FolderImages(folder).digest()
    assert FolderImages(linked).digest() == before
    (linked / "cat").unlink()
    (linked / "cat").mkdir()
    for number in range(2):
        (linked / "cat" / f"{number}.png").symlink_to(folder / "cat" / f"{number}.png")
    assert FolderImages(linked).digest() == before
    Image.new("RGB", (8, 8)).save(folder / "cat" / "1.png")
    assert FolderImages(linked).digest() == FolderImages(folder).digest() != before


def test_the_digest_takes_names_that_are_no_utf_8_and_places_below_a_class(folder):
    digests = {FolderImages(folder).digest()}
    os.rename(folder / "cat" / "1.png", os.fsencode(folder / "cat") + b"/\xe9.png")
    digests.add(FolderImages(folder).digest())
    (folder / "cat" / "more").mkdir()
    os.rename(os.fsencode(folder / "cat") + b"/\xe9.png", folder / "cat" / "more" / "0.png")
    digests.add(FolderImages(folder).digest())
    (folder / "cat" / "less").mkdir()
    os.rename(folder / "cat" / "0.png", folder / "cat" / "less" / "0.png")
    digests.add(FolderImages(folder).digest())
    assert len(digests) == 4
    assert FolderImages(folder).labels.tolist() == [0, 1, 1]


def test_a_part_of_a_folder_has_a_digest_of_its_own(folder):
    images = FolderImages(folder)
    whole, part = images.digest(), images.select([0, 2])
    assert part.digest() == FolderImages(folder).select(torch.tensor([0, 2])).digest() != whole
    assert images.digest() == whole


def test_files_are_checked_by_their_heads(folder):
    images = FolderImages(folder)
    images.check()
    Image.new("F", (4, 4)).save(folder / "cat" / "2.tif")
    images.check()  # which files there are was decided before
    with pytest.raises(ValueError, match=r"cat/2\.tif cannot be read as an image: .*mode 'F'"):
        FolderImages(folder).check()


@pytest.mark.parametrize(
    "form", [np.asarray, torch.Tensor.tolist, torch.clone, lambda x: x.to(torch.uint8).numpy()[::1]]
)
def test_a_set_takes_arrays_and_lists_of_integers(form):
    whole = image_set()
    found = ImageSet(whole.images.numpy(), form(whole.labels), list(np.array(whole.class_names)))
    assert found.digest() == whole.digest()
    assert found.select(form(torch.tensor([7, 1]))).labels.tolist() == [1, 1]


@pytest.mark.parametrize("number", [int, np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_are_numbers(folder, number):
    images = FolderImages(str(folder), number(16))
    assert images.digest() == FolderImages(folder, 16).digest()
    for each in (images, image_set(3)):
        visited = list(batches(each, np.array([2, 0, 1], np.uint8), number(2), workers=number(0)))
        assert [indices.tolist() for _, _, indices in visited] == [[2, 0], [1]]


@pytest.mark.parametrize("images", [torch.zeros(4, 3, 8, 8), np.zeros((4, 3, 8, 8), np.uint8)])
def test_pixels_without_labels_are_no_set(images):
    with pytest.raises(ValueError, match=r"images is .* of shape \(4, 3, 8, 8\); valid is a set of images"):
        next(batches(images, torch.arange(4), 2))


@pytest.mark.parametrize(
    ("images", "labels", "names", "word"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), ("a",), "uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ("a",), "uint8"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2), ("a",), "int64"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ("a",), "int64"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("a",), "0 to 1"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, -1]), ("a",), "-1 to 0"),
    ],
)
def test_impossible_sets_are_refused(images, labels, names, word):
    with pytest.raises(ValueError, match=word):
        ImageSet(images, labels, names)
