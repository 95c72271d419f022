"""Pixels of image files: every mode that Pillow reads gives the right 8 bits or is refused by name; damage is told."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torchvision.datasets.folder import pil_loader

from compatlib.data.decoding import check_image, is_deep, read_image

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [90, 120, 150]], np.uint8)
BLOCKS = np.repeat(np.repeat(COLOURS.reshape(2, 3, 3), 8, axis=0), 8, axis=1)  # of 8 × 8 pixels, so that JPEG is right
RAMP = np.linspace(0, 65535, 48).round().astype(np.uint16).reshape(6, 8)


def written(folder, image: Image.Image, name: str, **options):
    image.save(folder / name, **options)
    return folder / name


def pixels(path) -> np.ndarray:
    """(H, W, 3), as numbers that may be subtracted."""
    found = read_image(path)
    assert found.dtype == torch.uint8
    return found.permute(1, 2, 0).numpy().astype(int)


def lab(image: Image.Image) -> Image.Image:
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    return ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))


@pytest.mark.parametrize(
    ("convert", "name", "options", "off"),
    [
        (lambda image: image, "a.png", {}, 0),
        (lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE), "a.png", {}, 0),
        (lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE), "a.bmp", {}, 0),
        (lambda image: image.convert("RGBA"), "a.webp", {"lossless": True}, 0),
        (lambda image: image.convert("CMYK"), "a.tif", {}, 0),
        (lambda image: image.convert("CMYK"), "a.jpg", {"subsampling": 0}, 6),
        (lambda image: image.convert("YCbCr"), "a.tif", {}, 3),
        (lab, "a.tiff", {}, 24),  # the strongest colours lie outside of what it holds in 8 bits
    ],
)
def test_colours_are_the_same_in_every_mode(tmp_path, convert, name, options, off):
    image = convert(Image.fromarray(BLOCKS))
    assert np.abs(pixels(written(tmp_path, image, name, **options)) - BLOCKS).max() <= off


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_grey(tmp_path, mode):
    grey = np.repeat(np.repeat([[0, 255], [255, 0]] if mode == "1" else [[0, 17], [128, 255]], 4, 0), 4, 1)
    found = pixels(written(tmp_path, Image.fromarray(grey.astype(np.uint8)).convert(mode), "a.png"))
    assert np.array_equal(found, np.repeat(grey[:, :, None], 3, 2))


def tiff(values: np.ndarray, bits: int, photometric: int = 1) -> bytes:
    """A grey TIFF of one strip, which Pillow itself does not write of 12 bits."""
    text = "".join(f"{value:0{bits}b}" for value in values.ravel())
    data = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    height, width = values.shape
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 0,
        277: 1,
        278: height,
        279: len(data),
    }
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + directory + struct.pack("<I", 0) + data


def png_of_16_bits(values: np.ndarray, colour_type: int) -> bytes:
    """(H, W, channels) of 16 bits: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


def saved(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    image = Image.frombytes("I;16B", values.shape[::-1], values.tobytes()) if values.dtype == ">u2" else None
    (image or Image.fromarray(values)).save(file, **options)
    return file.getvalue()


DEEP = {
    "PNG": (saved(RAMP, format="PNG"), RAMP / 65535),
    "TIFF": (saved(RAMP, format="TIFF"), RAMP / 65535),
    "TIFF of the other byte order": (saved(RAMP.astype(">u2"), format="TIFF"), RAMP / 65535),
    "TIFF where 0 is white": (saved(RAMP, format="TIFF", tiffinfo={262: 0}), 1 - RAMP / 65535),
    "TIFF of 12 bits": (tiff(RAMP >> 4, 12), (RAMP >> 4) / 4095),
    "PGM": (saved(RAMP, format="PPM"), RAMP / 65535),
    "PGM up to 1000": (b"P5 8 6 1000\n" + (RAMP // 66).astype(">u2").tobytes(), (RAMP // 66) / 1000),
    "PGM up to 100": (b"P5 8 6 100\n" + (RAMP // 656).astype(np.uint8).tobytes(), (RAMP // 656) / 100),
}


@pytest.mark.parametrize("kind", DEEP)
def test_grey_of_more_than_8_bits_is_scaled_to_8(tmp_path, kind):
    data, share = DEEP[kind]
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert np.abs(pixels(path) - 255 * share[:, :, None]).max() <= 0.51
    assert is_deep(path) == (kind != "PGM up to 100")


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_scaled_too(tmp_path, colour_type, channels):
    values = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], RAMP], axis=2)[:, :, :channels]
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values, colour_type))
    colours = values if channels > 2 else values[:, :, :1]
    assert np.abs(pixels(tmp_path / "a.png") - colours[:, :, :3] / 257).max() < 1


@pytest.mark.parametrize("case", ["rotated", "RGBA", "LA", "palette", "16 bits for transparent"])
def test_rotation_and_transparency_do_not_count_as_in_torchvision(tmp_path, case):
    image, options = Image.fromarray(BLOCKS), {}
    if case == "rotated":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    elif case == "palette":
        image, options["transparency"] = image.convert("P"), bytes(range(256))
    elif case != "16 bits for transparent":
        image = image.convert(case)
        image.putalpha(Image.fromarray(BLOCKS[:, :, 0]))
    else:
        options["transparency"] = (255, 0, 0)
    path = written(tmp_path, image, "a.jpg" if case == "rotated" else "a.png", **options)
    assert read_image(path).shape == (3, 16, 24)
    if case != "palette":  # of which Pillow warns
        assert np.array_equal(pixels(path), np.asarray(pil_loader(path)))
    else:
        assert np.array_equal(pixels(path), np.asarray(image.convert("RGB")))


def of_several(name: str, **options):
    first, second = Image.fromarray(BLOCKS), Image.fromarray(BLOCKS[::-1].copy())
    return lambda path: first.save(path / name, save_all=True, append_images=[second], **options)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: Image.new("F", (4, 4)).save(path / "a.tif"), r"Pillow's mode 'F', whose range is not known"),
        (lambda path: Image.new("I", (4, 4)).save(path / "a.tif"), r"Pillow's mode 'I', whose range is not known"),
        (of_several("a.png"), "it holds 2 pictures"),
        (of_several("a.webp"), "it holds 2 pictures"),
        (of_several("a.tif"), "it holds 2 pictures"),
        (lambda path: (path / "a.png").write_bytes(b""), "cannot be read as an image"),
        (lambda path: (path / "a.jpg").write_text("no picture"), "cannot be read as an image"),
        (lambda path: (path / "a.png").mkdir(), "cannot be read as an image"),
        (lambda path: Image.new("1", (200, 100)).save(path / "a.png"), "is not read.*20000 pixels.*MAX_IMAGE_PIXELS"),
    ],
)
def test_what_cannot_be_read_right_is_refused_by_its_head(tmp_path, monkeypatch, write, words):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_999)
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    for read in (check_image, read_image):
        with pytest.raises(ValueError, match=f"{path.name} {words}|{path.name} cannot be .*{words}"):
            read(path)
    assert not is_deep(path)


def test_of_a_cameras_two_pictures_the_first_is_read(tmp_path):
    of_several("a.jpg", format="MPO", quality=95, subsampling=0)(tmp_path)
    assert np.abs(pixels(tmp_path / "a.jpg") - BLOCKS).max() <= 10


TRUNCATED = [
    *[("RGB", name, {}) for name in ("a.png", "a.jpg", "a.bmp", "a.ppm", "a.webp", "a.tif")],
    ("RGB", "a.jpg", {"progressive": True}),
    ("RGB", "a.tif", {"compression": "tiff_lzw"}),
    ("P", "a.png", {}),
    ("I;16", "a.png", {}),
    ("I;16", "a.tif", {}),
]


@pytest.mark.parametrize(("mode", "name", "options"), TRUNCATED)
def test_a_file_that_is_cut_off_anywhere_is_named_or_whole(tmp_path, mode, name, options):
    noise = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(RAMP) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    path = written(tmp_path, image, name, **options)
    data, expected = path.read_bytes(), read_image(path)
    refused, places = 0, range(0, len(data), 5)
    for place in places:
        path.write_bytes(data[:place])
        try:
            assert torch.equal(read_image(path), expected)
        except ValueError as error:
            refused += name in str(error)
    assert refused > 0.7 * len(places)
