"""Embedding: equal to the plain forward pass, and galleries whose interrupted writing ends with the same bytes."""

import json
import logging
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from compatlib.data.images import FolderImages, ImageSet
from compatlib.embedding import embed, embed_gallery, write_blocks
from compatlib.models.resnet import small_resnet
from compatlib.training import initialised

COUNT, DIM = 23, 6
IDENTITY = {"model": "key", "gallery": ("digest", 1)}


@pytest.fixture(scope="module")
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(COUNT) % 3, ("a", "b", "c"))


@pytest.fixture
def backbone(images) -> nn.Module:
    """A small network whose BatchNorm statistics are far from those of a batch, so that its mode matters."""
    backbone = initialised(lambda: small_resnet(widths=(4, 8), dim=DIM), 0, "new")
    for _ in range(3):
        backbone(images.images)
    return backbone.eval()


def forward(backbone: nn.Module, images: torch.Tensor, batch_size: int, autocast: bool = False) -> torch.Tensor:
    """The oracle: a plain loop, wherever the backbone is."""
    device = next(backbone.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        return torch.cat([backbone(batch.to(device)).float().cpu() for batch in images.split(batch_size)])


# In memory.


@pytest.mark.parametrize("batch_size", [1, 5, 23, 500])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_embeddings_are_those_of_the_forward_pass(backbone, images, batch_size, precision):
    embeddings = embed(backbone, images, batch_size=batch_size, precision=precision)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (COUNT, DIM)
    assert torch.equal(embeddings, forward(backbone, images.images, batch_size, precision == "bfloat16"))


def test_other_batch_sizes_give_nearly_the_same(backbone, images):
    torch.testing.assert_close(embed(backbone, images, batch_size=4), embed(backbone, images), rtol=1e-5, atol=1e-5)


def test_images_on_disk_are_embedded_in_their_order(backbone, images, tmp_path):
    for number, (image, label) in enumerate(images):
        folder = tmp_path / images.class_names[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:02}.png")
    on_disk = FolderImages(tmp_path, 8)
    order = torch.argsort(images.labels, stable=True)
    expected = embed(backbone, images.select(order), batch_size=7)
    for workers in (0, 1):
        assert torch.equal(embed(backbone, on_disk, batch_size=7, workers=workers), expected)


def test_nothing_is_learned_and_the_result_can_be_trained_on(backbone, images):
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    embeddings = embed(backbone.train(), images)
    assert all(torch.equal(tensor.cpu(), before[name].cpu()) for name, tensor in backbone.state_dict().items())
    assert not embeddings.requires_grad
    assert not embeddings.is_inference()
    layer = nn.Linear(DIM, 2)
    layer(embeddings).sum().backward()
    assert layer.weight.grad is not None


def test_training_mode_makes_no_difference_and_comes_back_part_by_part(backbone, images):
    expected = embed(backbone, images)
    backbone.train()
    frozen = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)][::2]
    for part in frozen:
        part.eval()
    modes = [part.training for part in backbone.modules()]
    assert set(modes) == {True, False}
    assert torch.equal(embed(backbone, images), expected)
    assert [part.training for part in backbone.modules()] == modes

    def interrupted(share, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(backbone, images, report=interrupted)
    assert [part.training for part in backbone.modules()] == modes


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_are_numbers(backbone, images, number):
    found = embed(backbone, images, batch_size=number(5), workers=number(0))
    assert torch.equal(found, embed(backbone, images, batch_size=5))


def test_pixels_without_labels_are_refused(backbone, images):
    with pytest.raises(ValueError, match=r"images is Tensor .*valid is a set of images with their labels"):
        embed(backbone, images.images)


def test_progress_is_reported_after_every_batch(backbone, images):
    shares = []
    embed(backbone, images, batch_size=10, report=lambda share, text: shares.append(share))
    assert shares == pytest.approx([10 / 23, 20 / 23, 1.0])


def test_empty_sets_and_impossible_arguments_are_refused(backbone, images, tmp_path):
    empty = images.select(torch.arange(0))
    with pytest.raises(ValueError, match="no image to embed"):
        embed(backbone, empty)
    with pytest.raises(ValueError, match="a size of the shape is 0; valid are whole numbers from 1"):
        embed_gallery(backbone, empty, tmp_path / "gallery.npy", identity=IDENTITY)
    with pytest.raises(ValueError, match=r"'float16'; choose one of \('float32', 'bfloat16'\)"):
        embed(backbone, images, precision="float16")
    for batch_size in (0, -1, 2.0):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}; valid are whole numbers from 1"):
            embed(backbone, images, batch_size=batch_size)
    assert list(tmp_path.iterdir()) == []


# Galleries on disk.


def gallery(backbone: nn.Module, images: ImageSet, path: Path, **options) -> np.memmap:
    return embed_gallery(backbone, images, path, **({"identity": IDENTITY, "block": 5} | options))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("block", [1, 5, 23, 10_000])
def test_a_gallery_on_disk_holds_the_embeddings(backbone, images, tmp_path, dtype, block):
    written = gallery(backbone, images, tmp_path / "far" / "gallery.npy", dtype=dtype, block=block)
    assert isinstance(written, np.memmap)
    assert not written.flags.writeable
    assert written.dtype == dtype
    expected = forward(backbone, images.images, block).numpy().astype(dtype)
    assert np.array_equal(written, expected)
    assert np.array_equal(np.load(tmp_path / "far" / "gallery.npy", allow_pickle=False), expected)
    names = {path.name for path in (tmp_path / "far").iterdir()}
    assert names == {"gallery.npy", "gallery.npy.json"}
    assert json.loads((tmp_path / "far" / "gallery.npy.json").read_text())["identity"]["gallery"] == ["digest", 1]


def test_float16_rounds_to_the_nearest(backbone, images, tmp_path):
    exact = gallery(backbone, images, tmp_path / "a.npy")
    half = gallery(backbone, images, tmp_path / "b.npy", dtype="float16")
    assert np.abs(half - exact).max() <= np.abs(exact).max() * 2.0**-11
    assert (tmp_path / "b.npy").stat().st_size < (tmp_path / "a.npy").stat().st_size


def test_a_written_gallery_is_not_computed_again(backbone, images, tmp_path):
    first = gallery(backbone, images, tmp_path / "gallery.npy")

    def never(*_):
        raise AssertionError("computed again")

    again = write_blocks(tmp_path / "gallery.npy", (COUNT, DIM), never, identity=IDENTITY, block=2)
    assert np.array_equal(first, again)


class Blocks:
    """Rows that tell their own number; remembers what it was asked for and stops before its n-th block."""

    def __init__(self, stop_before: int | float = math.inf) -> None:
        self.asked, self.stop_before = [], stop_before

    def __call__(self, first: int, last: int) -> np.ndarray:
        if len(self.asked) == self.stop_before:
            raise KeyboardInterrupt
        self.asked.append((first, last))
        return np.arange(first, last)[:, None] + np.array([0.25, 0.5])


ALL_BLOCKS = [(0, 4), (4, 8), (8, 11)]


def write(path: Path, compute, **options) -> np.memmap:
    return write_blocks(path, (11, 2), compute, **({"identity": IDENTITY, "block": 4} | options))


@pytest.fixture
def uninterrupted(tmp_path) -> bytes:
    write(tmp_path / "whole" / "rows.npy", Blocks())
    return (tmp_path / "whole" / "rows.npy").read_bytes()


@pytest.mark.parametrize("stop_before", [0, 1, 2])
def test_an_interruption_before_any_block_ends_with_the_same_bytes(tmp_path, uninterrupted, stop_before):
    path, first, second = tmp_path / "rows.npy", Blocks(stop_before), Blocks()
    with pytest.raises(KeyboardInterrupt):
        write(path, first)
    assert not path.exists()
    write(path, second)
    assert first.asked == ALL_BLOCKS[:stop_before]
    assert second.asked == ALL_BLOCKS[stop_before:]
    assert path.read_bytes() == uninterrupted
    assert sorted(other.name for other in tmp_path.glob("rows*")) == ["rows.npy", "rows.npy.json"]


@pytest.mark.parametrize("stop_before", range(6))
def test_an_interruption_at_any_renaming_ends_with_the_same_bytes(tmp_path, uninterrupted, monkeypatch, stop_before):
    """Six files are put in place: the progress at first and after each of three blocks, the description, the rows."""
    path, real, renamed = tmp_path / "rows.npy", os.replace, []

    def replace(source, destination):
        if len(renamed) == stop_before:
            raise KeyboardInterrupt
        renamed.append(destination)
        real(source, destination)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write(path, Blocks())
    monkeypatch.undo()
    assert not path.exists()
    second = Blocks()
    write(path, second)
    assert second.asked == ALL_BLOCKS[min(max(stop_before - 1, 0), 3) :]
    assert path.read_bytes() == uninterrupted


def test_an_interruption_after_every_block_in_turn(backbone, images, tmp_path):
    whole = gallery(backbone, images, tmp_path / "whole.npy")
    shares = []

    def interrupted(share, text):
        shares.append(share)
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            gallery(backbone, images, tmp_path / "gallery.npy", report=interrupted)
        assert not (tmp_path / "gallery.npy").exists()
    gallery(backbone, images, tmp_path / "gallery.npy", report=interrupted)
    assert shares == pytest.approx([5 / 23, 10 / 23, 15 / 23, 20 / 23, 1.0])
    assert (tmp_path / "gallery.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert np.array_equal(np.load(tmp_path / "gallery.npy"), whole)


def test_blocks_that_a_run_of_another_block_size_has_written_are_kept(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "rows.npy", Blocks(1))
    second = Blocks()
    write(tmp_path / "rows.npy", second, block=3)
    assert second.asked == [(4, 7), (7, 10), (10, 11)]
    assert (tmp_path / "rows.npy").read_bytes() == uninterrupted


def test_progress_without_its_rows_is_not_believed(tmp_path, uninterrupted):
    path = tmp_path / "rows.npy"
    with pytest.raises(KeyboardInterrupt):
        write(path, Blocks(2))
    (tmp_path / "rows.npy.part").unlink()
    with pytest.raises(KeyboardInterrupt):
        write(path, Blocks(0))
    third = Blocks()
    write(path, third)
    assert third.asked == ALL_BLOCKS
    assert path.read_bytes() == uninterrupted


@pytest.mark.parametrize("record", ["", "{", "[]", "\0\0\0\0", "null"])
def test_a_record_of_progress_that_cannot_be_read_is_as_good_as_none(tmp_path, uninterrupted, record):
    """What a machine that lost its power may leave: the rows are computed again."""
    path, second = tmp_path / "rows.npy", Blocks()
    with pytest.raises(KeyboardInterrupt):
        write(path, Blocks(2))
    (tmp_path / "rows.npy.part.json").write_text(record)
    write(path, second)
    assert second.asked == ALL_BLOCKS
    assert path.read_bytes() == uninterrupted


@pytest.mark.parametrize("record", ["", "{", "[]"])
def test_a_finished_file_with_a_damaged_description_is_refused(tmp_path, record):
    write(tmp_path / "rows.npy", Blocks())
    (tmp_path / "rows.npy.json").write_text(record)
    with pytest.raises(ValueError, match=r"rows\.npy holds other embeddings \(undescribed\)"):
        write(tmp_path / "rows.npy", Blocks())


def stored(rows: np.ndarray, path: Path, dtype: str, block: int = 100) -> np.memmap:
    return write_blocks(path, rows.shape, lambda *of: rows[slice(*of)], identity={}, dtype=dtype, block=block)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e39, -1e39, 1e-39])
def test_rows_that_are_nothing_once_stored_are_refused_with_their_numbers(tmp_path, dtype, value):
    rows = np.ones((40, 3))
    rows[[7, 21, 22]] = value
    with pytest.raises(ValueError, match=rf"^rows 7, 21, 22 of .*rows\.npy hold what {dtype} cannot keep: .* of zeros"):
        stored(rows, tmp_path / "rows.npy", dtype)
    assert not (tmp_path / "rows.npy").exists()
    rows[[7, 22]] = 1
    with pytest.raises(ValueError, match=r"^row 21 of .*rows\.npy holds what"):
        stored(rows, tmp_path / "other.rows.npy", dtype, block=20)
    rows[21] = 1
    np.testing.assert_array_equal(stored(rows, tmp_path / "other.rows.npy", dtype, block=20), rows)


@pytest.mark.parametrize(
    ("value", "kept"), [(65504, True), (65600, False), (6.2e-5, True), (6e-5, False), (1e-9, False)]
)
def test_half_precision_has_its_range_and_the_way_out_is_told(tmp_path, value, kept):
    rows = np.full((2, 3), value, np.float32)
    np.testing.assert_array_equal(stored(rows, tmp_path / "single.npy", "float32"), rows)
    if kept:
        np.testing.assert_allclose(stored(rows, tmp_path / "half.npy", "float16"), rows, rtol=1e-3)
        return
    with pytest.raises(ValueError, match=r"rows 0, 1 of .*or choose dtype='float32'"):
        stored(rows, tmp_path / "half.npy", "float16")


def test_single_zeros_and_single_small_values_of_a_row_are_stored(tmp_path):
    rows = np.array([[0, 1, -1], [1e-9, 1, 0], [0, -2, 0]])
    np.testing.assert_allclose(stored(rows, tmp_path / "rows.npy", "float16"), rows, atol=1e-7)


def test_a_refused_beginning_is_in_nobodys_way(tmp_path):
    """Nothing of the broken model is stored; the mended one, which is another, writes in its place."""
    path, rows = tmp_path / "rows.npy", np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="rows 0, 1, 2, 3"):
        write_blocks(path, rows.shape, lambda first, last: 0 * rows[first:last], identity={"model": "broken"})
    found = write_blocks(path, rows.shape, lambda first, last: rows[first:last], identity={"model": "mended"})
    np.testing.assert_array_equal(found, rows)


def test_of_many_refused_rows_ten_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"^rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,190 more of"):
        stored(np.zeros((1200, 2)), tmp_path / "rows.npy", "float32", block=2000)


@pytest.mark.parametrize("form", [np.float16, np.dtype("float16"), torch.float16, "float16"])
def test_text_for_paths_and_numbers_of_numpy_will_do(tmp_path, form):
    identity = {
        "seed": np.int64(3),
        "rate": np.float32(0.5),
        "on": np.bool_(True),
        "dims": np.arange(2),
        "at": tmp_path,
    }
    shape, options = (np.int64(11), np.int32(2)), {"identity": identity, "dtype": form, "block": np.uint8(4)}
    found = write_blocks(str(tmp_path / "rows.npy"), shape, lambda *of: torch.tensor(Blocks()(*of)), **options)
    assert found.dtype == np.float16
    plain = {"seed": 3, "rate": 0.5, "on": True, "dims": [0, 1], "at": str(tmp_path)}
    assert json.loads((tmp_path / "rows.npy.json").read_text())["identity"] == plain
    again = write_blocks(tmp_path / "rows.npy", (11, 2), Blocks(0), identity=plain, dtype="float16")
    assert np.array_equal(found, again)


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), {1, 2}, nn.Linear(1, 1)])
def test_an_identity_that_cannot_be_compared_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="cannot be kept as JSON"):
        write(tmp_path / "rows.npy", Blocks(), identity={"model": value})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_the_rows_on_record_are_kept(tmp_path, uninterrupted, full_disk):
    path, first, second = tmp_path / "rows.npy", Blocks(), Blocks()
    words = r"rows\.npy\.part could not be written \(.*\); its first 4 rows of 11 are kept: make room and run it again"
    with full_disk(len(uninterrupted) - 27), pytest.raises(OSError, match=words):
        write(path, first)  # the second block ends 24 bytes before the end
    assert not path.exists()
    write(path, second)
    assert second.asked == ALL_BLOCKS[1:]
    assert path.read_bytes() == uninterrupted


def test_an_error_of_what_is_computed_is_told_as_it_is(tmp_path):
    def unreadable(first, last):
        raise FileNotFoundError("image 3 is gone")

    with pytest.raises(FileNotFoundError, match=r"^image 3 is gone$"):
        write(tmp_path / "rows.npy", unreadable)


def test_rows_on_record_that_are_not_in_the_file_are_computed_again(tmp_path, uninterrupted):
    """As after a machine went down before the file's bytes were on the disk."""
    path, second = tmp_path / "rows.npy", Blocks()
    with pytest.raises(KeyboardInterrupt):
        write(path, Blocks(2))
    part = tmp_path / "rows.npy.part"
    part.write_bytes(part.read_bytes()[:-25])
    write(path, second)
    assert second.asked == [(4, 8), (8, 11)]
    assert path.read_bytes() == uninterrupted


@pytest.mark.parametrize("name", ["rows.npy", "rows.npy.part"])
@pytest.mark.parametrize("beside", [None, "no json", "[1]", "{}"])
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(tmp_path, name, beside):
    (tmp_path / name).write_text("mine")
    if beside is not None:
        (tmp_path / f"{name}.json").write_text(beside)
    with pytest.raises(ValueError, match=rf"{name} holds other embeddings .*; give another path, or delete it"):
        write(tmp_path / "rows.npy", Blocks())
    assert (tmp_path / name).read_text() == "mine"


def test_sizes_may_be_numpys(tmp_path, uninterrupted):
    shape = tuple(np.array([11, 2]))
    write_blocks(tmp_path / "rows.npy", shape, Blocks(), identity=IDENTITY, block=np.int64(4))
    assert (tmp_path / "rows.npy").read_bytes() == uninterrupted


def test_who_wants_what_another_process_writes_waits_for_it_and_says_so(tmp_path, caplog, uninterrupted):
    path, second, begun, told = tmp_path / "rows.npy", Blocks(), threading.Event(), threading.Event()
    listener = logging.Handler()
    listener.emit = lambda record: told.set()

    def hold(share, text):
        begun.set()
        assert told.wait(60)

    logging.getLogger("compatlib.files").addHandler(listener)
    thread = threading.Thread(target=lambda: write(path, Blocks(), report=hold))
    thread.start()
    try:
        assert begun.wait(60)
        found = write(str(path), second)
    finally:
        thread.join()
        logging.getLogger("compatlib.files").removeHandler(listener)
    words = f"waiting for another process, which writes {path} (it holds {tmp_path / '.rows.npy.lock'})"
    assert caplog.messages == [words]
    assert second.asked == []
    assert path.read_bytes() == uninterrupted
    assert np.array_equal(found, np.load(path))
    assert {file.name for file in tmp_path.iterdir()} == {"rows.npy", "rows.npy.json", "whole"}


@pytest.mark.parametrize("unfinished", [True, False])
@pytest.mark.parametrize(
    "other", [{"identity": {"model": "another"}}, {"identity": {}}, {"dtype": "float16"}, {"shape": (12, 2)}]
)
def test_a_file_of_another_identity_is_refused_and_left_alone(tmp_path, unfinished, other):
    path = tmp_path / "rows.npy"
    if unfinished:
        with pytest.raises(KeyboardInterrupt):
            write(path, Blocks(2))
    else:
        write(path, Blocks())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    options = {"identity": IDENTITY, "shape": (11, 2), "block": 4} | other
    with pytest.raises(ValueError, match=r"rows\.npy(\.part)? holds other embeddings .*delete it"):
        write_blocks(path, compute=Blocks(), **options)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_file_that_nothing_describes_is_refused(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((11, 2), np.float32))
    with pytest.raises(ValueError, match="undescribed"):
        write(tmp_path / "rows.npy", Blocks())


def test_a_finished_file_that_is_a_pickle_is_refused(tmp_path):
    write(tmp_path / "rows.npy", Blocks())
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"(?i)object"):
        write(tmp_path / "rows.npy", Blocks())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float64"}, "'float64'; choose float32 or float16"),
        ({"block": 0}, "block is 0; valid are whole numbers from 1"),
        ({"block": -4}, "block is -4; valid are whole numbers from 1"),
    ],
)
def test_impossible_blocks_are_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        write(tmp_path / "rows.npy", Blocks(), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_block_of_another_shape_is_refused_and_not_recorded(tmp_path, uninterrupted):
    def wrong(first, last):
        return np.ones((last - first, 3 if first else 2))

    with pytest.raises(ValueError, match=r"block 4…8 has shape \(4, 3\) instead of \(4, 2\)"):
        write(tmp_path / "rows.npy", wrong)
    assert json.loads((tmp_path / "rows.npy.part.json").read_text())["rows"] == 4
