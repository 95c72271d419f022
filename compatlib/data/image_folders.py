"""Folders of images: which of their folders are classes, in which order, and which of their files are images."""

import os
import re
from pathlib import Path

from compatlib.data.decoding import printable
from compatlib.data.folders import files_below, is_hidden

# Those of torchvision's ImageFolder, upper-case or lower-case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Images too; to leave them out without a word would lose them.
OTHER_SUFFIXES = (
    *(".avif", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jxl", ".pbm", ".pfm", ".pnm"),
    *(".psd", ".svg", ".tga", ".arw", ".cr2", ".cr3", ".dng", ".nef"),
)
# What systems and storage leave among one's own folders, beside what is hidden by a point.
SYSTEM_FOLDERS = (
    *("__macosx", "lost+found", "lost.dir", "__pycache__", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden (`.ipynb_checkpoints`, `._0.png`) or the system's own."""
    return is_hidden(name) or name.casefold() in SYSTEM_FOLDERS


def class_folders(folder: Path) -> dict[str, Path]:
    """Every class of `folder/<class>/…` with its folder, or the folder that a link leads to.

    Hidden and system folders are none. Numbers within names count as numbers: 2 comes before 10, and `c2` before `c10`.

    Raises:
        ValueError: a link that leads nowhere, as it may have been a class.
    """
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_passed_over(path.name):
            continue
        _require_target(path)
        if path.is_dir():
            found.append(path)
    return {printable(path.name): path for path in sorted(found, key=lambda path: _numeric(path.name))}


def image_files(folder: Path) -> list[Path]:
    """The image files below a folder, at any depth and through links, in alphabetical order; no hidden ones.

    Raises:
        ValueError: no image, an image of an ending that is not read, or a link that leads nowhere.
    """
    found = files_below(folder, is_passed_over)
    for path in found:
        _require_target(path)
        if path.suffix.lower() in OTHER_SUFFIXES:
            raise ValueError(
                f"{printable(path)} is an image of another kind than {', '.join(IMAGE_SUFFIXES)}; convert it to one of "
                "these, or take it away"
            )
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise ValueError(f"{printable(folder)} holds no image with one of the endings {', '.join(IMAGE_SUFFIXES)}")
    return images


def _require_target(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{printable(path)} is a link to {printable(os.readlink(path))}, which is not there; mend it")


def _numeric(name: str) -> tuple[list[str | int], str]:
    """Sorts texts as texts and the whole numbers between them as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name
