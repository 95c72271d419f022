"""Upgrading a stored gallery with FCT's transformation: its time beside the bare products, and its memory."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compatlib.gallery import upgrade_gallery
from compatlib.methods.fct import Transformation

SIZE, N, BLOCK, ROUNDS = 128, 50_000, 10_000, 3
PROJECT = Path(__file__).resolve().parents[2]

MEMORY = f"""
import sys, tempfile
from pathlib import Path
import numpy as np, torch
from compatlib.gallery import upgrade_gallery
from compatlib.methods.fct import Transformation

def anonymous():
    # Pages of the mapped files are the system's to take back; what this process holds itself is what counts.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1e6

with tempfile.TemporaryDirectory() as scratch:
    shape, paths = (1_000_000, {SIZE}), (Path(scratch) / "old.npy", Path(scratch) / "side.npy")
    old, side = (np.lib.format.open_memmap(path, "w+", np.float32, shape) for path in paths)
    transformation = Transformation({SIZE}, {SIZE}, {SIZE}, hidden_dim=256).eval()
    before, most = anonymous(), []
    upgrade_gallery(transformation, old, side, Path(scratch) / "new.npy", identity={{}},
                    report=lambda share, text: most.append(anonymous()))
    print(max(most) - before)
"""


def _products(transformation: Transformation) -> Callable[[int], None]:
    """The products of every linear layer for so many vectors, block by block; their inputs lie in memory."""
    layers = [layer for layer in transformation.modules() if isinstance(layer, nn.Linear)]
    inputs = [torch.rand(BLOCK, layer.in_features) for layer in layers]
    outputs = [torch.empty(BLOCK, layer.out_features) for layer in layers]

    def run(count: int) -> None:
        for _ in range(0, count, BLOCK):
            for layer, given, into in zip(layers, inputs, outputs, strict=True):
                torch.mm(given, layer.weight.detach().T, out=into)

    return run


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _mapped(path: Path, random: np.random.Generator) -> np.ndarray:
    """Random vectors, written to a `.npy` file and mapped from it."""
    np.save(path, random.random((N, SIZE), dtype=np.float32))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def run() -> list[dict]:
    """The ratio of an upgrade's time to the bare products', and the memory of an upgrade of a million vectors."""
    random = np.random.default_rng(0)
    transformation = Transformation(SIZE, SIZE, SIZE).eval()
    bare = _products(transformation)
    times = []
    with tempfile.TemporaryDirectory() as scratch:
        old, side = (_mapped(Path(scratch) / f"{name}.npy", random) for name in ("old", "side"))
        # A block of either warms up.
        upgrade_gallery(transformation, old[:BLOCK], side[:BLOCK], Path(scratch) / "first.npy", identity={})
        bare(BLOCK)
        for turn in range(ROUNDS):
            path = Path(scratch) / f"{turn}.npy"
            upgraded = _seconds(lambda path=path: upgrade_gallery(transformation, old, side, path, identity={}))
            times.append((upgraded, _seconds(lambda: bare(N))))
    ratios = [upgraded / products for upgraded, products in times]
    upgraded, products = np.median(times, axis=0)
    memory = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=600
    )
    return [
        {
            "name": "upgrade of a stored gallery",
            "measured": float(np.median(ratios)),
            "bound": 1.5,
            "better": "lower",
            "unit": "× bare products",
            "detail": f"{N:,} × {SIZE} from and to mapped files, hidden 2048; "
            f"{upgraded:.3g} s against {products:.3g} s: {1e6 * upgraded / N / 60:.3g} minutes a million vectors",
        },
        {
            "name": "memory of an upgrade above its start",
            "measured": float(memory.stdout),
            "bound": 0.5,
            "better": "lower",
            "unit": "GB",
            "detail": f"1,000,000 × {SIZE} from and to mapped files, hidden 256",
        },
    ]
