"""What embedding, transforming, storing and searching cost; seconds are wall clock and never compared."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from compatlib.embedding import embed
from compatlib.evaluation.search import IvfPq, recall, search
from compatlib.gallery import upgrade_gallery
from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.images import images_to_test
from compatlib.study.lab.seed import Seed

NEIGHBOURS = 10
TIMED_VECTORS = 50_000  # of a gallery that is transformed to take its time
TIMINGS = ("images_per_second", "vectors_per_second", "build_seconds", "search_seconds", "training_seconds")


@measure()
def image_speed(seed: Seed, case: Case) -> Rows:
    """Images that the query's model embeds in a second."""
    images = images_to_test(seed.run, case.split, case.query.what.encoder(seed.run))
    backbone = seed.made(case.query.what).backbone()
    begun = time.monotonic()
    embed(backbone, images)
    yield {"metric": "images_per_second", "value": len(images) / (time.monotonic() - begun)}


@measure()
def transformation_speed(seed: Seed, case: Case) -> Rows:
    """Vectors that the gallery's transformation changes in a second, as a user does: from file to file."""
    inputs = case.gallery.inputs(seed, case.split)
    some = inputs[0].any(axis=1)  # an old embedding of zeros is no gallery's
    inputs = [vectors[some] for vectors in inputs]
    count = len(inputs[0])
    repeats = -(-min(TIMED_VECTORS, 50 * count) // count)
    module = seed.made(case.gallery.transformation).parts
    with tempfile.TemporaryDirectory() as folder:
        stored = []
        for name, vectors in zip(("old", "side"), inputs, strict=True):
            path = Path(folder) / f"{name}.npy"
            np.save(path, np.tile(vectors, (repeats, 1)), allow_pickle=False)
            stored.append(np.load(path, mmap_mode="r", allow_pickle=False))
        begun = time.monotonic()
        upgrade_gallery(module, *stored, Path(folder) / "upgraded.npy", identity={"timed": True})
        yield {"metric": "vectors_per_second", "value": len(stored[0]) / (time.monotonic() - begun)}


@measure("search")
def index(seed: Seed, case: Case) -> Rows:
    """The gallery behind an index beside the exact search."""
    query, gallery = (seed.vectors(space, case.split) for space in (case.query, case.gallery))
    k = min(NEIGHBOURS, len(gallery))
    exact = search(query, gallery, k)
    # Codes of 8 bits need 256 items to learn from, and are worth having from some thousands on.
    found = search(query, gallery, k, index="ivfpq", parameters=IvfPq(bits=8 if len(gallery) >= 1000 else 4))
    for words, each in (("exact", exact), ("IVF-PQ", found)):
        place = {"variant": words, "distance": "cosine"}
        shared = recall(each.indices, exact.indices)
        yield place | {"metric": f"recall@{NEIGHBOURS}", "value": shared}
        yield place | {"metric": "build_seconds", "value": each.build_seconds}
        yield place | {"metric": "search_seconds", "value": each.search_seconds}
        yield place | {"metric": "bytes_per_item", "value": each.bytes_per_item}


@measure()
def kept_bytes(seed: Seed, case: Case) -> Rows:
    """Bytes that must be kept of an item for the gallery to be had without an image."""
    yield {"metric": "kept_bytes", "value": float(case.gallery.kept_bytes(seed, case.split))}


@measure("flops")
def size(seed: Seed, case: Case) -> Rows:
    """Parameters of the query's model, and operations of one image."""
    space = case.query
    backbone = seed.made(space.what).backbone(space.width)
    one = torch.as_tensor(images_to_test(seed.run, case.split, space.what.encoder(seed.run))[0][0])[None]
    yield {"metric": "parameters", "value": float(sum(each.numel() for each in backbone.parameters()))}
    yield {"metric": "flops", "value": float(flops(backbone, one))}


def flops(backbone: torch.nn.Module, images: torch.Tensor) -> int:
    """Floating-point operations of one image's convolutions and linear maps, a product and its sum counted as two.

    Args:
        backbone: in eval mode, on any device: embedding may have left it on a GPU.
        images: (1, channels, height, width) uint8.
    """
    images = images.to(next(backbone.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone(images)
    return counter.get_total_flops()


@measure()
def training_seconds(seed: Seed, case: Case) -> Rows:
    """Of all trainings that the case stands on, without those that these are made from."""
    seconds = sum(seed.made(what).artifact.about["cost"]["seconds"] for what in case.trainables)
    yield {"metric": "training_seconds", "value": seconds}
