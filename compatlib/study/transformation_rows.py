"""What is measured of FCT: scores of transformed galleries, backfilling curves, and what storing and changing costs."""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compatlib.embedding import embed
from compatlib.evaluation.checks import DISTANCES
from compatlib.evaluation.compatibility import backfilling_curve, negative_flips
from compatlib.evaluation.search import IvfPq, recall, search
from compatlib.gallery import upgrade_gallery
from compatlib.study import models
from compatlib.study.scoring import Record, named, score_rows
from compatlib.study.transformation_tests import TransformationTests, applied
from compatlib.study.transformations import Side, Transformed
from compatlib.study.upgrades import Upgrade
from compatlib.training import stream

WITHOUT, WITH = "FCT no side-information", "FCT"
CLASS_INCREMENTAL, SAMPLE_INCREMENTAL, GENERATIONS = "class-incremental", "sample-incremental", "three generations"
IN_HALVES, ANEW = "stored in float16", "images embedded anew at every step"
SIZE, SHARE = "size of side-information", "share replaced"
NEIGHBOURS = 10
TIMED_VECTORS = 50_000  # of a gallery that is transformed to take its time


def scored(
    tests: TransformationTests, record: Record, query: np.ndarray, gallery: np.ndarray, masks: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """Scores and the most popular item's share, under both distances."""
    for distance in DISTANCES:
        test = tests.test(query, gallery, distance)
        yield from score_rows(partial(record, distance=distance), test, masks)
        yield record(distance=distance, subset="all", metric="top_share", value=test.collapse.top_share)


def pair_rows(
    tests: TransformationTests, method: str, pairs: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], **place: Any
) -> Iterator[dict[str, Any]]:
    """Scores of pairs of query and gallery model by name."""
    masks = tests.masks(by_class=place.get("split", CLASS_INCREMENTAL) == CLASS_INCREMENTAL)
    for (query, gallery), sides in pairs.items():
        record = partial(tests.record, method=method, query_model=query, gallery_model=gallery, **place)
        yield from scored(tests, record, *sides, masks)


def main_rows(tests: TransformationTests, side: Side) -> Iterator[dict[str, Any]]:
    """Table F1: old, new, BCT, and the gallery transformed without and with side-information."""
    place = {"split": CLASS_INCREMENTAL}
    old, new = tests.embeddings("old"), tests.embeddings("new")
    apart = {("old", "old"): (old, old), ("new", "old"): (new, old), ("new", "new"): (new, new)}
    yield from pair_rows(tests, "independent", apart, **place)
    bct = tests.embeddings(Upgrade("BCT A"))
    yield from pair_rows(tests, "BCT A", {("new", "old"): (bct, old), ("new", "new"): (bct, bct)}, **place)
    for method, what in ((WITHOUT, Transformed()), (WITH, Transformed(side))):
        changed = tests.transformed(what)
        pairs = {("new", "h(old)"): (new, changed), ("h(old)", "h(old)"): (changed, changed)}
        yield from pair_rows(tests, method, pairs, **place)
        yield from _flip_rows(tests, method, changed)
    yield from _half_precision_rows(tests, Transformed(side))


def _flip_rows(tests: TransformationTests, method: str, changed: np.ndarray) -> Iterator[dict[str, Any]]:
    old, new = tests.embeddings("old"), tests.embeddings("new")
    for distance in DISTANCES:
        before, after = tests.test(old, old, distance), tests.test(new, changed, distance)
        for subset, mask in tests.masks().items():
            cell = {"split": CLASS_INCREMENTAL, "method": method, "query_model": "new", "gallery_model": "h(old)"}
            flips = negative_flips(before.subset(mask), after.subset(mask))
            yield tests.record(**cell, distance=distance, subset=subset, metric="negative_flips", value=flips)


def _half_precision_rows(tests: TransformationTests, what: Transformed) -> Iterator[dict[str, Any]]:
    """The same gallery where embeddings and side-information lie in float16."""
    stored = [vectors.astype(np.float16).astype(np.float32) for vectors in tests.stored(what)]
    changed = applied(tests.module(what), *stored)[0]
    pairs = {("new", "h(old)"): (tests.embeddings("new"), changed)}
    yield from pair_rows(tests, WITH, pairs, split=CLASS_INCREMENTAL, variant=IN_HALVES)


def anew_rows(tests: TransformationTests, side: Side) -> Iterator[dict[str, Any]]:
    """The transformation fitted as in the release, on images that are embedded anew at every step."""
    pairs = {("new", "h(old)"): (tests.embeddings("new"), tests.transformed(Transformed(side, source="images")))}
    yield from pair_rows(tests, WITH, pairs, split=CLASS_INCREMENTAL, variant=ANEW)


def side_rows(tests: TransformationTests, sides: list[Side | None]) -> Iterator[dict[str, Any]]:
    """Table F2: the transformation by kind and size of side-information, and the side-information searched alone."""
    for side in sides:
        kind, size = (side.kind, side.dim) if side else ("none", 0)
        place = {"split": CLASS_INCREMENTAL, "variant": kind, "x_name": SIZE, "x": size}
        pairs = {("new", "h(old)"): (tests.embeddings("new"), tests.transformed(Transformed(side)))}
        if side is not None:
            own = tests.embeddings(side)
            pairs["side", "side"] = (own, own)
        yield from pair_rows(tests, WITHOUT if side is None else WITH, pairs, **place)


def change_rows(tests: TransformationTests, changes: dict[str, tuple[str, str, Side]]) -> Iterator[dict[str, Any]]:
    """Table F3: what else old and new model may differ in."""
    for words, (old_role, new_role, side) in changes.items():
        old, new = tests.embeddings(old_role), tests.embeddings(new_role)
        split = SAMPLE_INCREMENTAL if old_role == "old_samples" else CLASS_INCREMENTAL
        place = {"split": split, "variant": words}
        apart = {("old", "old"): (old, old), ("new", "old"): (new, old), ("new", "new"): (new, new)}
        yield from pair_rows(tests, "independent", apart, **place)
        for method, beside in ((WITHOUT, None), (WITH, side)):
            changed = tests.transformed(Transformed(beside, old_role, new_role))
            yield from pair_rows(tests, method, {("new", "h(old)"): (new, changed)}, **place)


def chain_rows(tests: TransformationTests, roles: tuple[str, str, str], side: Side) -> Iterator[dict[str, Any]]:
    """Table F4: the first generation's gallery after two updates: h composed, or learned again from what is stored.

    Side-information is stored once, beside the first generation, and never learned anew.
    """
    first, second, third = roles
    stored = tests.embeddings(side)
    once = tests.transformed(Transformed(side, first, second))
    composed = applied(tests.module(Transformed(side, second, third)), once, stored)[0]
    again = tests.transformed(Transformed(side, first, third))
    queries = dict(zip(("v1", "v2", "v3"), map(tests.embeddings, roles), strict=True))
    place = {"split": GENERATIONS}
    own = {(name, name): (each, each) for name, each in queries.items()}
    yield from pair_rows(tests, "independent", own, **place)
    yield from pair_rows(tests, WITH, {("v2", "h(v1)"): (queries["v2"], once)}, **place)
    for words, gallery in (("composed", composed), ("learned again", again)):
        yield from pair_rows(tests, WITH, {("v3", "h(v1)"): (queries["v3"], gallery)}, variant=words, **place)


def curve_rows(tests: TransformationTests, side: Side | None) -> Iterator[dict[str, Any]]:
    """Plot and table F5: scores while the gallery is embedded again, by transformation and order."""
    plain, fastfill = Transformed(side), Transformed(side, objective="fastfill")
    random = torch.randperm(len(tests.labels), generator=stream(tests.seed, "gallery", "order")).numpy()
    new, own = tests.embeddings("new"), {"FCT": tests.transformed(plain), "FastFill": tests.transformed(fastfill)}
    missed = {method: np.linalg.norm(new - changed, axis=1) for method, changed in own.items()}
    orders = {
        ("FCT", "random"): random,
        ("FCT", "distance"): _descending(missed["FCT"]),
        ("FastFill", "random"): random,
        ("FastFill", "uncertainty"): _descending(tests.log_variances(fastfill)),
        ("FastFill", "distance"): _descending(missed["FastFill"]),
    }
    beside = "with side-information" if side else "without side-information"
    for (method, order), items in orders.items():
        for distance in DISTANCES:
            place = {"split": CLASS_INCREMENTAL, "method": method, "variant": f"{order} order, {beside}"}
            models_of = {"query_model": "new", "gallery_model": "mixed"}
            record = partial(tests.record, **place, **models_of, distance=distance)
            yield from _curve_rows(tests, record, own[method], items, distance)


def _descending(values: np.ndarray) -> np.ndarray:
    return np.argsort(-values, kind="stable")


def _curve_rows(
    tests: TransformationTests, record: Record, changed: np.ndarray, order: np.ndarray, distance: str
) -> Iterator[dict[str, Any]]:
    new, labels = tests.embeddings("new"), tests.labels
    curve = backfilling_curve(new, changed, new, labels, labels, order, exclude_self=True, distance=distance)
    for share, retrieval in zip(curve.shares, curve.retrievals, strict=True):
        for metric, value in named(retrieval).items():
            yield record(subset="all", metric=metric, x_name=SHARE, x=float(share), value=value)
    for subset, mask in tests.masks().items():
        scores = [named(retrieval.subset(mask)) for retrieval in curve.retrievals]
        for metric in scores[0]:
            value = float(np.mean([each[metric] for each in scores]))
            yield record(subset=subset, metric=f"auc {metric}", value=value)


def cost_rows(tests: TransformationTests, side: Side) -> Iterator[dict[str, Any]]:
    """Table F6: images embedded and vectors transformed a second; h(old) behind an index beside the exact search."""
    what, test = Transformed(side), models.test_images(tests.run)
    backbone = tests.backbone("new")
    begun = time.monotonic()
    embed(backbone, test)
    record = partial(tests.record, split=CLASS_INCREMENTAL, method=WITH, query_model="new", gallery_model="h(old)")
    speed = len(test) / (time.monotonic() - begun)
    yield record(metric="images_per_second", value=speed)
    yield record(metric="vectors_per_second", value=_transformed_per_second(tests, what))
    query, gallery = tests.embeddings("new"), tests.transformed(what)
    k = min(NEIGHBOURS, len(gallery))
    exact = search(query, gallery, k)
    # Codes of 8 bits need 256 items to learn from, and are worth having from some thousands on.
    found = search(query, gallery, k, index="ivfpq", parameters=IvfPq(bits=8 if len(gallery) >= 1000 else 4))
    for words, each in (("exact", exact), ("IVF-PQ", found)):
        index = partial(record, variant=words, distance="cosine")
        yield index(metric=f"recall@{NEIGHBOURS}", value=recall(each.indices, exact.indices))
        yield index(metric="build_seconds", value=each.build_seconds)
        yield index(metric="search_seconds", value=each.search_seconds)
        yield index(metric="bytes_per_item", value=each.bytes_per_item)


def _transformed_per_second(tests: TransformationTests, what: Transformed) -> float:
    """As a user upgrades a stored gallery, from file to file."""
    repeats = -(-min(TIMED_VECTORS, 50 * len(tests.labels)) // len(tests.labels))
    module = tests.module(what)
    with tempfile.TemporaryDirectory() as folder:
        stored = []
        for name, vectors in zip(("old", "side"), tests.stored(what), strict=True):
            path = Path(folder) / f"{name}.npy"
            np.save(path, np.tile(vectors, (repeats, 1)), allow_pickle=False)
            stored.append(np.load(path, mmap_mode="r", allow_pickle=False))
        begun = time.monotonic()
        upgrade_gallery(module, *stored, Path(folder) / "upgraded.npy", identity={"timed": True})
        return len(stored[0]) / (time.monotonic() - begun)
