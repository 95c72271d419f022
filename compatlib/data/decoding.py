"""Image files → pixels of 8 bits, read as torchvision reads them, except where that would be wrong without a word."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

# Pillow's modes of 8 bits a channel or fewer; what a file holds in 16 bits a colour channel comes in these too.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
DEEP_SUFFIXES = (".png", ".ppm", ".pgm", ".tif", ".tiff")  # of files that may hold grey of more than 8 bits
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF


def read_image(path: Path) -> Tensor:
    """The pixels of an image file, RGB, uint8 (3, H, W).

    A grey image of more than 8 bits is scaled to 8, its whole range to 0…255. As in torchvision transparency is left
    away, so that the colours behind it show, the rotation that EXIF data ask for is not made, and of a camera's MPO
    file the first picture is read.

    Raises:
        ValueError: a file that cannot be read, one of several pictures (an animation, a TIFF of several pages), one of
            more pixels than Pillow reads, and modes without a known range (32-bit integers and floating point).
    """
    with _opened(path) as image:
        peak = _peak(image)
        if peak is not None:
            return _scaled(np.asarray(image), peak, _is_inverted(image)).repeat(3, 1, 1)
        image.info.pop("transparency", None)  # Pillow would warn that it is lost
        return transforms.pil_to_tensor(image.convert("RGB"))


def check_image(path: Path) -> None:
    """Read the head of an image file alone. Raises ValueError as `read_image`, but for damage further behind."""
    with _opened(path):
        pass


def is_deep(path: Path) -> bool:
    """Whether a file is a grey image of more than 8 bits; False where it cannot be read."""
    try:
        with _opened(path) as image:
            return _peak(image) is not None
    except ValueError:
        return False


def printable(name: str | os.PathLike) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8, as Latin-1's, as backslash codes."""
    return os.fspath(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    way_out = "save it anew as an 8-bit PNG or JPEG, or take it away"
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ValueError(f"it holds {frames} pictures, of which one would have to be chosen")
            if image.mode not in MODES and _peak(image) is None:
                raise ValueError(f"its pixels are of Pillow's mode {image.mode!r}, whose range is not known")
            yield image
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{printable(path)} is not read: {error} Shrink it, or set PIL.Image.MAX_IMAGE_PIXELS to more"
        ) from error
    except OSError as error:
        reason = f"{error}; {way_out}" if error.errno is None else error.strerror  # the system's: the file may be whole
        raise ValueError(f"{printable(path)} cannot be read as an image: {reason}") from error
    except Exception as error:  # what the readers of Pillow raise at a damaged file is of many types
        raise ValueError(f"{printable(path)} cannot be read as an image: {error}; {way_out}") from error


def _peak(image: Image.Image) -> int | None:
    """The largest value of a grey image of more than 8 bits; None for other images."""
    if image.mode.startswith("I;16"):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0] if image.format == "TIFF" else 16
        return 2**bits - 1
    # Some versions of Pillow read 16 bits into 32; of PGM every maximum is scaled to 65535.
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white, which Pillow does not undo for more than 8 bits."""
    return image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _scaled(grey: np.ndarray, peak: int, inverted: bool) -> Tensor:
    """0…peak → 0…255, to the nearest; (H, W) → uint8 (1, H, W)."""
    values = grey.astype(np.int64)
    values = peak - values if inverted else values
    return torch.from_numpy(((255 * values + peak // 2) // peak).astype(np.uint8))[None]
