"""Upgrading a stored gallery: the transformation's own embeddings, in blocks, resumed after a kill, refused by name."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from compatlib.gallery import joined, upgrade_gallery
from compatlib.methods.fct import Transformation

COUNT = 103


@pytest.fixture
def transformation() -> Transformation:
    """With statistics of BatchNorm that are not the initial ones."""
    torch.manual_seed(0)
    module = Transformation(4, 3, 5, 8)
    for _ in range(5):
        module(torch.rand(50, 4), 3 * torch.rand(50, 3))
    return module.eval()


def gallery(dtype=np.float32) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.random((COUNT, 4)).astype(dtype), random.random((COUNT, 3)).astype(dtype)


def expected(transformation, old, side) -> np.ndarray:
    """One item at a time."""
    with torch.no_grad():
        items = [torch.from_numpy(each[i : i + 1].astype(np.float32)) for i in range(len(old)) for each in (old, side)]
        return torch.cat([transformation(*items[2 * i : 2 * i + 2]) for i in range(len(old))]).numpy()


@pytest.mark.parametrize("block", [1, 10, 103, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_upgrade_is_the_transformation_of_every_item(tmp_path, transformation, block, dtype):
    old, side = gallery(np.dtype(dtype))
    path = tmp_path / "new.npy"
    found = upgrade_gallery(transformation, old, side, path, identity={"h": 1}, block=block)
    np.testing.assert_allclose(found, expected(transformation, old, side), rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32
    assert np.load(path, allow_pickle=False).shape == (COUNT, 5)


def test_without_side_information_the_old_embedding_is_fed_in_twice(tmp_path):
    torch.manual_seed(0)
    transformation = Transformation(4, 4, 5, 8).eval()
    old = gallery()[0]
    once = upgrade_gallery(transformation, old, None, tmp_path / "once.npy", identity={})
    twice = upgrade_gallery(transformation, old, old, tmp_path / "twice.npy", identity={})
    np.testing.assert_array_equal(once, twice)


def test_the_gallery_may_be_stored_in_half_the_bytes(tmp_path, transformation):
    old, side = gallery()
    found = upgrade_gallery(transformation, old, side, tmp_path / "new.npy", identity={}, dtype="float16")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected(transformation, old, side), rtol=2e-3, atol=2e-3)


def test_joining_leaves_the_module_and_its_numbers_as_they_are(transformation):
    torch.manual_seed(1)
    transformation.train()
    before = {name: value.clone() for name, value in transformation.state_dict().items()}
    ready = joined(transformation)
    assert transformation.training
    assert all(torch.equal(value, before[name]) for name, value in transformation.state_dict().items())
    assert not any(isinstance(part, nn.BatchNorm1d) for part in ready.modules())
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    old, side = torch.rand(20, 4), torch.rand(20, 3)
    kept = old.clone(), side.clone()
    with torch.no_grad():
        torch.testing.assert_close(ready(old, side), transformation.eval()(old, side), rtol=1e-4, atol=1e-5)
    assert torch.equal(old, kept[0])
    assert torch.equal(side, kept[1])


def test_joining_keeps_what_it_cannot_join():
    layers = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3)).eval()
    assert [type(layer).__name__ for layer in joined(layers)] == ["BatchNorm1d", "Linear", "ReLU", "BatchNorm1d"]


def test_progress_and_an_interruption_between_blocks(tmp_path, transformation):
    old, side = gallery()
    told = []

    def stop(share: float, text: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise KeyboardInterrupt

    options = {"path": tmp_path / "new.npy", "identity": {"h": 1}, "block": 25}
    with pytest.raises(KeyboardInterrupt):
        upgrade_gallery(transformation, old, side, report=stop, **options)
    assert not options["path"].exists()
    old = old.copy()
    old[:50] = np.nan  # those rows are done: they are not read again
    found = upgrade_gallery(transformation, old, side, report=stop, **options)
    assert told == [f"{rows} of 103 rows" for rows in (25, 50, 75, 100, 103)]
    np.testing.assert_allclose(found, expected(transformation, *gallery()), rtol=1e-4, atol=1e-5)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np, torch
from compatlib.gallery import upgrade_gallery
from compatlib.methods.fct import Transformation
folder = Path(sys.argv[1])
torch.manual_seed(0)
transformation = Transformation(4, 3, 5, 8).eval()
old, side = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in ("old.npy", "side.npy"))
slow = lambda share, text: time.sleep(float(sys.argv[2]))
upgrade_gallery(transformation, old, side, folder / "new.npy", identity={}, block=10, report=slow)
"""


def test_a_killed_upgrade_goes_on_and_ends_with_the_same_bytes(tmp_path):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        for part, array in zip(("old", "side"), gallery(), strict=True):
            np.save(tmp_path / name / f"{part}.npy", array)
    command = [sys.executable, "-c", KILLED]
    process = subprocess.Popen([*command, str(tmp_path / "killed"), "0.2"])
    progress = tmp_path / "killed" / "new.npy.part.json"
    deadline = time.monotonic() + 100
    while not progress.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "new.npy").exists()
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name), "0"], check=True, timeout=200)
    whole = (tmp_path / "whole" / "new.npy").read_bytes()
    assert (tmp_path / "killed" / "new.npy").read_bytes() == whole


MEASURED = """
import sys, tracemalloc
from pathlib import Path
import numpy as np, torch
from compatlib.gallery import upgrade_gallery
from compatlib.methods.fct import Transformation

def anonymous():
    # What the process itself holds, in bytes, torch's arrays too. Pages of mapped files are the system's to take back.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)

torch.manual_seed(0)
transformation = Transformation(32, 32, 32, 8).eval()
for count in map(int, sys.argv[2:]):
    folder = Path(sys.argv[1]) / str(count)
    folder.mkdir()
    for name in ("old", "side"):
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (count, 32)).flush()
    old, side = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("old", "side"))
    before, held = anonymous(), []
    tracemalloc.start()  # NumPy's arrays, with their peak; on every system
    upgrade_gallery(transformation, old, side, folder / "new.npy", identity={}, block=2000,
                    report=lambda share, text: held.append(anonymous()))
    print(tracemalloc.get_traced_memory()[1], max(held) - before)
    tracemalloc.stop()
"""


def test_memory_is_a_blocks_and_not_the_gallerys(tmp_path):
    """Eight times the gallery, no more memory: NumPy's peak, and with /proc all that is held after a block."""
    small, large = 30_000, 240_000
    command = [sys.executable, "-c", MEASURED, str(tmp_path), "2000", str(small), str(large)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout
    _, first, second = ([int(value) for value in line.split()] for line in told.splitlines())  # the first warms up
    # One of the three galleries kept in memory would be all of these more bytes.
    more = (large - small) * 32 * 4
    assert second[0] - first[0] < more / 4
    assert second[1] - first[1] < more / 2


@pytest.mark.parametrize(
    ("old", "side", "words"),
    [
        (np.ones((9, 4), np.int64), None, r"old is int64 of shape \(9, 4\); valid is float \(9, d\)"),
        (np.ones(9, np.float32), None, r"old is float32 of shape \(9,\)"),
        (
            np.ones((9, 4), np.float32),
            np.ones((8, 3), np.float32),
            r"side is float32 of shape \(8, 3\); valid is float \(9",
        ),
        (np.ones((9, 4), np.float32), np.ones((9, 2), np.float32), r"old and side have shapes \(9, 4\) and \(9, 2\)"),
        (np.ones((0, 4), np.float32), None, "needs a shape and a block of 1 or more"),
    ],
)
def test_galleries_that_do_not_fit_are_refused(tmp_path, transformation, old, side, words):
    with pytest.raises(ValueError, match=words):
        upgrade_gallery(transformation, old, side, tmp_path / "new.npy", identity={})
    assert not (tmp_path / "new.npy").exists()


@pytest.mark.parametrize("name", ["old", "side"])
def test_a_damaged_row_is_named(tmp_path, transformation, name):
    vectors = dict(zip(("old", "side"), gallery(), strict=True))
    vectors[name][42, 1] = np.inf
    with pytest.raises(ValueError, match=f"row 42 of {name} holds values that are not finite"):
        upgrade_gallery(transformation, **vectors, path=tmp_path / "new.npy", identity={}, block=10)


def test_another_galleries_file_is_not_taken_for_this_one(tmp_path, transformation):
    upgrade_gallery(transformation, *gallery(), tmp_path / "new.npy", identity={"h": 1})
    with pytest.raises(ValueError, match="holds other embeddings"):
        upgrade_gallery(transformation, *gallery(), tmp_path / "new.npy", identity={"h": 2})
