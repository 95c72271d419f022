"""Folders of images: what is a class, in which order; what is an image, however it is reached; nothing is lost."""

import os
from pathlib import Path

import pytest
from PIL import Image

from compatlib.data.folders import files_below
from compatlib.data.image_folders import SYSTEM_FOLDERS, class_folders, image_files


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, "PNG")
    return root


def below(root: Path, paths) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", "$RECYCLE.BIN", "__MACOSX", *SYSTEM_FOLDERS])
def test_hidden_and_system_folders_are_no_classes_and_no_part_of_one(tmp_path, name):
    made(tmp_path, "cat/0.png", "dog/0.png", f"{name}/0.png", f"cat/{name}/0.png")
    assert list(class_folders(tmp_path)) == ["cat", "dog"]
    assert below(tmp_path, image_files(tmp_path / "cat")) == ["cat/0.png"]


def test_files_beside_the_classes_and_signs_as_names_do_not_matter(tmp_path):
    made(tmp_path, "@/0.png", "$/0.png", "#/0.png", "_/0.png", "0.png")
    assert list(class_folders(tmp_path)) == ["#", "$", "@", "_"]
    assert class_folders(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "ordered",
    [
        [str(number) for number in range(12)],
        [f"c{number}" for number in range(12)],
        [f"{number:02}" for number in range(12)],
        ["class 2 of 9", "class 2 of 10", "class 10"],
        ["007", "7", "07x", "8"],
        ["Ant", "Bee", "ant", "bee", "été"],
        ["n01440764", "n02102040", "n10000000"],
        ["1" * 200, "2" * 200],
    ],
)
def test_classes_come_in_the_order_of_their_numbers(tmp_path, ordered):
    made(tmp_path, *(f"{name}/0.png" for name in reversed(ordered)))
    assert list(class_folders(tmp_path)) == ordered


def test_images_of_every_ending_at_any_depth(tmp_path):
    kept = ["x/B.PNG", "x/a.jpg", "x/b/c/d.tiff", "x/b/e.TIF", "x/c.Jpeg", "x/d.webp", "x/e.bmp", "x/f.ppm", "x/g.pgm"]
    hidden = ["x/._a.jpg", "x/.DS_Store", "x/Thumbs.db", "x/desktop.ini", "x/notes.txt", "x/.cache/0.png"]
    made(tmp_path, *kept, *hidden)
    (tmp_path / "x" / "empty.png").mkdir()
    assert below(tmp_path, image_files(tmp_path / "x")) == kept


@pytest.mark.parametrize("name", ["0.heic", "0.GIF", "deeper/0.jp2", "0.avif", "0.svg", "0.NEF"])
def test_an_image_of_an_ending_that_is_not_read_is_no_silent_loss(tmp_path, name):
    made(tmp_path, "x/0.png", f"x/{name}")
    with pytest.raises(ValueError, match=rf"x/{name} is an image of another kind than \.jpg.*convert it"):
        image_files(tmp_path / "x")


def test_links_count_as_what_they_lead_to(tmp_path):
    made(tmp_path, "store/cat/0.png", "store/cat/deep/1.png", "store/dog.png", "data/ant/0.png")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store" / "cat")
    (tmp_path / "data" / "dog").mkdir()
    (tmp_path / "data" / "dog" / "0.png").symlink_to("../../store/dog.png")
    (tmp_path / "data" / "dog" / "more").symlink_to("../../store/cat/deep")
    assert list(class_folders(tmp_path / "data")) == ["ant", "cat", "dog"]
    seen = ["ant/0.png", "cat/0.png", "cat/deep/1.png", "dog/0.png", "dog/more/1.png"]
    assert below(tmp_path / "data", files_below(tmp_path / "data")) == seen
    assert below(tmp_path / "data", image_files(tmp_path / "data" / "dog")) == seen[3:]


def test_a_link_to_a_folder_that_it_lies_in_ends(tmp_path):
    made(tmp_path, "data/cat/0.png")
    for place, target in (("cat/again", "."), ("cat/above", ".."), ("round", "cat")):
        (tmp_path / "data" / place).symlink_to(target)
    assert below(tmp_path / "data", files_below(tmp_path / "data")) == ["cat/0.png", "round/0.png"]
    assert below(tmp_path / "data", image_files(tmp_path / "data" / "cat")) == ["cat/0.png"]


def test_a_link_that_leads_nowhere_is_no_silent_loss(tmp_path):
    made(tmp_path, "cat/0.png")
    (tmp_path / "dog").symlink_to("gone")
    with pytest.raises(ValueError, match=r"dog is a link to gone, which is not there"):
        class_folders(tmp_path)
    (tmp_path / "cat" / "1.png").symlink_to(tmp_path / "unmounted" / "1.png")
    with pytest.raises(ValueError, match=r"cat/1\.png is a link to .*unmounted/1\.png, which is not there"):
        image_files(tmp_path / "cat")


def test_names_in_latin_1_can_be_written_anywhere(tmp_path):
    made(tmp_path, "dog/0.png")
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    os.rename(tmp_path / "dog" / "0.png", os.fsencode(tmp_path) + b"/caf\xe9/\xe9t\xe9.png")
    made(tmp_path, "dog/0.png")
    classes = class_folders(tmp_path)
    assert list(classes) == ["caf\\xe9", "dog"]
    assert [os.fsencode(path.name) for path in image_files(classes["caf\\xe9"])] == [b"\xe9t\xe9.png"]
