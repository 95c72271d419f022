"""Computations of what measures: splits, embeddings, scores, and the lab's measures and spaces over them."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from compatlib import embedding, gallery
from compatlib.data import splits
from compatlib.evaluation import backfilling, chance, compatibility, retrieval, search, verification
from compatlib.methods.fct import Transformation as H
from compatlib.models import resnet
from compatlib.study.lab import images, measures, orders, spaces
from compatlib.study.lab.cases import Case, Measure, case
from compatlib.study.lab.make import Made
from compatlib.study.lab.measures.backfilling import answered
from compatlib.study.lab.measures.cost import flops
from compatlib.study.lab.measures.paths import saved, tau_interval
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.trainables import (
    Architecture,
    Base,
    PathSearch,
    Side,
    SuperNetwork,
    Transformation,
    Upgrade,
    Widths,
)
from compatlib.study.lab.trainables.supernets import RANDOM
from compatlib.study.lab.trainables.upgrades import extended
from tests.study.lab.pinned.drawn import (
    CLASSES,
    LITE,
    PER_CLASS,
    image_set,
    numbers,
    on_features,
    pictures,
    put,
    run,
    untrained,
    whole,
)
from tests.study.lab.pinned.training import Flat, Found, Sums, _named, _network
from tests.study.lab.pinned.values import As, pins, single

OLD, NEW, DISTANCES = spaces.of_role("old"), spaces.of_role("new"), ("cosine", "euclidean")
H_VIEWS, FASTFILL = Transformation(Side("SimCLR", 6)), Transformation(objective="fastfill")
LABELS = np.repeat(np.arange(CLASSES), PER_CLASS["test"].numpy())


def _array(seed: int, high: int, *shape: int) -> np.ndarray:
    """Small whole numbers around 0 as float32: what is summed up of them is exact on every processor."""
    return (whole(seed, high, *shape) - high // 2).numpy().astype(np.float32)


QUERY, GALLERY = _array(1, 5, 30, 4), _array(2, 5, 40, 6)
QUERY_LABELS, GALLERY_LABELS = whole(3, 5, 30).numpy(), whole(4, 4, 40).numpy()  # a fifth class is in no gallery
QUERY[3], GALLERY[7] = 0, 0
CAMERAS = {"query_cameras": whole(5, 3, 30).numpy(), "gallery_cameras": whole(6, 3, 40).numpy()}


@pins("splits")
def shares() -> Found:
    data = image_set(2, per_class=9, classes=10, height=1, width=1)
    labels = torch.cat([data.labels[30:], data.labels[:7]])
    uneven = type(data)(data.images[: len(labels)], labels, data.class_names)
    for words, part in {
        "classes": splits.class_incremental(uneven)[0],
        "classes, 0.25": splits.class_incremental(uneven, 0.25)[0],
        "classes 3 to 6": splits.of_classes(uneven, 3, 7),
        "samples": splits.sample_incremental(uneven)[0],
        "samples, 0.3": splits.sample_incremental(uneven, 0.3)[0],
        "kept": splits.hold_out(uneven)[0],
        "held out": splits.hold_out(uneven, 0.3)[1],
        "mislabelled": splits.mislabelled(uneven, 0.4),
    }.items():
        yield f"{words}, labels", part.labels
        yield f"{words}, images", part.images.flatten(1)[:, 0]
    yield "new", len(splits.class_incremental(uneven)[1])
    parts = splits.open_set(data, uneven)
    for name in ("train", "validation", "test"):
        yield f"open set, {name}", getattr(parts, name).labels
    yield "open set, old classes", parts.old_classes


@pins("splits")
def runs() -> Found:
    for words, own in (("plain", run()), ("validation", run(validation=True))):
        yield f"{words}, trained on", images.training_images(own).labels
        for split in (images.CLASS_INCREMENTAL, images.SAMPLE_INCREMENTAL, images.OPEN_SET, images.CLOSED):
            tested = images.images_to_test(own, split)
            yield f"{words}, {split}, tested on", tested.labels
            yield f"{words}, {split}, pixels", tested.images.long().sum((1, 2, 3))
            for subset, mask in images.masks(own, split).items():
                yield f"{words}, {split}, {subset}", mask
        yield f"{words}, known classes", images.known_classes(own)
        yield f"{words}, old classes", images.open_set(own).old_classes
        yield f"{words}, digests", list(images.data_digests(own).values())
    for dataset in ("drawn", "glyphs", "digits", "cifar100", "omniglot_small"):
        values = images.augmentation(run(dataset=dataset, image_size=64))
        yield f"{dataset}, augmentation", [values["padding"], values["flip"]]


class Moody(nn.Module):
    """Embeds another way in training mode."""

    dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.norm = Sums(), nn.Dropout(0.5)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.norm(self.sums(inputs).remainder(5000))


@pins("splits")
def renumbered() -> Found:
    for draw in (1, 2):
        found = splits.renumbered(image_set(2), draw)
        yield f"draw {draw}", [*found.class_names, *map(str, found.labels.tolist())]
    drawn_run = run(draw=3)
    parts = {"training": images.training_images(drawn_run), "test": images.images_to_test(drawn_run)}
    for words, part in parts.items():
        yield words, [*part.class_names, *map(str, part.labels.tolist())]


@pins("embedding")
def embedded() -> Found:
    data = image_set(2)
    model = Moody().train()
    yield "whole", embedding.embed(model, data).long()
    yield "in batches", embedding.embed(model, data, batch_size=3).long()
    yield "mode", [model.training, model.norm.training]
    yield "type", str(embedding.embed(Flat(1), data).dtype)
    yield "network", single(embedding.embed(_network().train(), data))
    linear = nn.Sequential(Scaled(), put(nn.Linear(192, 3), 1))
    exact = linear(data.images).detach()
    for precision in ("float32", "bfloat16"):
        found = embedding.embed(linear, data, precision=precision)
        yield precision, As("rounded", found)
        yield f"{precision}, is exact", bool((found - exact).abs().max() < 1e-4)
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "float16"):
            options = {"identity": {"of": dtype}, "dtype": dtype, "block": 7}
            stored = embedding.embed_gallery(Moody(), data, Path(folder) / dtype, **options)
            yield f"stored, {dtype}", np.array(stored).astype(np.int64)


class Scaled(nn.Module):
    """Images → pixels in [0, 1], flat."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1).float() / 255


@pins("centring")
def moved_spaces() -> Found:
    """Onto another model's mean, and onto 0."""
    seed = _seed(Base("old"), Base("new"))
    for words, onto in (("shifted", Base("old")), ("centred", None)):
        for split in (images.CLASS_INCREMENTAL, images.OPEN_SET):
            yield f"{words}, {split}", single(seed.vectors(spaces.Shifted(Base("new"), onto), split))


@pins("embedding")
def embedded_spaces() -> Found:
    """Vectors of every space, by models that were not trained."""
    seed = _seed(Base("old"), Base("new"), H_VIEWS, H_VIEWS.side, FASTFILL, Widths("BCT-S"))
    asked = {
        "of": OLD,
        "of a width": spaces.Of(Widths("BCT-S"), 0.5),
        "class means": spaces.ClassMeans(Base("old")),
        "mean": spaces.TrainingMean(Base("old")),
        "transformed": spaces.H(H_VIEWS),
        "transformed from halves": spaces.H(H_VIEWS, in_halves=True),
        "transformed, not the old": spaces.H(H_VIEWS, stored=NEW),
        "transformed with uncertainty": spaces.H(FASTFILL),
    }
    for words, space in asked.items():
        yield words, single(seed.vectors(space, images.CLASS_INCREMENTAL))
        yield f"{words}, labels", space.labels(seed, images.CLASS_INCREMENTAL)
    yield "open set", single(seed.vectors(OLD, images.OPEN_SET))
    yield "log-variances", single(spaces.H(FASTFILL).log_variances(seed, images.CLASS_INCREMENTAL))


def _test(found: retrieval.Retrieval) -> Found:
    yield "scores", list(found.metrics().values())
    yield "ranks", found.first_rank
    yield "nearest", found.nearest
    yield "average precision", found.average_precision
    about = found.collapse
    yield "counts", [found.n_valid, about.zero_queries, about.zero_gallery]
    yield "norms", [*about.query_norms, *about.gallery_norms, about.top_share]


@pins("retrieval")
def ranked() -> Found:
    """Whole vectors, with many ties; under cosine ties are broken by rounding, so that drawn ones are taken there."""
    labels = QUERY_LABELS, GALLERY_LABELS
    real, other = numbers(7, 30, 4).numpy(), numbers(8, 40, 6).numpy()
    real[3], other[7] = 0, 0
    asked = {
        "euclidean": ((QUERY, GALLERY), {"distance": "euclidean"}),
        "cosine": ((real, other), {}),
        "cameras": ((QUERY, GALLERY), {"distance": "euclidean", **CAMERAS}),
        "ranks": ((real, other), {"ranks": (2, 10, 50)}),
        "collapsed": ((np.ones_like(QUERY), np.ones_like(GALLERY)), {"distance": "euclidean"}),
    }
    for words, (sides, options) in asked.items():
        yield from _named(words, _test(retrieval.evaluate(*sides, *labels, **options)))
    itself = (GALLERY, GALLERY, GALLERY_LABELS, GALLERY_LABELS)
    yield from _named("itself", _test(retrieval.evaluate(*itself, distance="euclidean", exclude_self=True)))
    found = retrieval.evaluate(*itself, distance="euclidean", exclude_self=True)
    yield from _named("subset", _test(found.subset(GALLERY_LABELS < 2)))
    for name, scores in found.by_class(GALLERY_LABELS, 6).items():
        yield f"by class, {name}, sums", scores.sums
        yield f"by class, {name}, counts", scores.counts
        yield f"by class, {name}, some", scores.subset(np.arange(6) < 3).mean
    parts = [GALLERY[:, :3], GALLERY]
    for distance, query, sides in (("euclidean", QUERY, parts), ("cosine", real, [other[:, :3], other])):
        mixed = retrieval.evaluate_mixed(query, sides, np.arange(40) % 2, *labels, distance=distance)
        yield from _named(f"mixed, {distance}", _test(mixed))


@pins("retrieval")
def matrices() -> Found:
    yield "euclidean", retrieval.score_matrix(QUERY, GALLERY, "euclidean").astype(np.int64)
    yield "comparable", retrieval.score_matrix(QUERY, GALLERY, "euclidean", comparable=True).astype(np.int64)
    yield "cosine", retrieval.score_matrix(QUERY, GALLERY)
    yield "halves", retrieval.score_matrix(QUERY.astype(np.float16), GALLERY.astype(np.float64))


def _seed(*wanted: Any, **changes: Any) -> Seed:
    """A seed of a drawn run whose models were not trained."""
    own = run(**changes)
    return Seed(own, 1, "pinned", {what: untrained(own, what, 1) for what in wanted})


VECTORS = {OLD: _array(11, 7, len(LABELS), 4), NEW: _array(12, 7, len(LABELS), 6)}
H_SPACE, FASTFILL_SPACE = spaces.H(H_VIEWS), spaces.H(FASTFILL)
VECTORS |= {H_SPACE: _array(13, 7, len(LABELS), 6), FASTFILL_SPACE: _array(14, 7, len(LABELS), 6)}


def _given(*wanted: Any) -> Seed:
    """A seed whose vectors are drawn whole numbers, near the class's own."""
    seed = _seed(*wanted)
    for place, (space, vectors) in enumerate(VECTORS.items()):
        seed._vectors[space, False] = vectors + 2 * _array(place, 5, CLASSES, vectors.shape[1])[LABELS]
    return seed


def _asked(seed: Seed, query: spaces.Space, other: spaces.Space, *ask: Measure, **columns: Any) -> Found:
    """Rows under their columns, the split's subsets apart."""
    columns = {"split": images.CLASS_INCREMENTAL, "distance": "euclidean"} | columns
    before = columns.pop("before", None)
    grouped: dict[str, list[float]] = {}
    for row in seed.rows([case(query, other, *ask, before=before, **columns)]):
        by_class = row.get("by_class")
        names = [f"{row[name]}" for name in ("variant", "query_model", "gallery_model", "metric") if name in row]
        names += [row["subset"]] if "subset" in row else []
        grouped.setdefault(" · ".join(names), []).append(float(row["value"]))
        if "x" in row:
            grouped.setdefault(" · ".join([*names, row["x_name"]]), []).append(row["x"])
        if by_class is not None:
            grouped.setdefault(" · ".join([*names, "by class"]), []).extend([*by_class.sums, *by_class.counts])
    yield from grouped.items()


def _measured(query: spaces.Space, other: spaces.Space, *ask: Measure, **columns: Any) -> Found:
    yield from _asked(_given(), query, other, *ask, **columns)


@pins("retrieval")
def measured_scores() -> Found:
    yield from _measured(NEW, OLD, measures.scores, measures.popularity)
    yield from _named("rank 1", _measured(NEW, OLD, measures.rank_1, split=images.SAMPLE_INCREMENTAL))
    yield from _named("means", _measured(NEW, OLD, measures.mean_scores))
    seed = _given(Base("old"))
    place = {"split": images.CLASS_INCREMENTAL, "distance": "euclidean"}
    moved = Case(((NEW, OLD), (OLD, OLD)), (measures.change,), place)
    for row in measures.change(seed, moved):
        yield f"change, {row['metric']}", [row["value"], *row["by_class"].sums]
    seed._vectors[spaces.ClassMeans(Base("old")), False] = _array(5, 7, CLASSES, 4)
    yield from _named("class means", _asked(seed, OLD, spaces.ClassMeans(Base("old")), measures.scores))


@pins("chance")
def by_chance() -> Found:
    labels = QUERY_LABELS, GALLERY_LABELS
    asked = {
        "plain": (labels, {}),
        "ranks": (labels, {"ranks": (3, 40, 100)}),
        "cameras": (labels, CAMERAS),
        "itself": ((GALLERY_LABELS, GALLERY_LABELS), {"exclude_self": True}),
    }
    cameras = {"query_cameras": CAMERAS["gallery_cameras"], "gallery_cameras": CAMERAS["gallery_cameras"]}
    asked["itself, cameras"] = ((GALLERY_LABELS, GALLERY_LABELS), {"exclude_self": True, **cameras})
    for words, (sides, options) in asked.items():
        found = chance.chance(*sides, **options)
        yield words, list(found.metrics().values())
        yield f"{words}, valid", found.n_valid
    yield from _measured(spaces.Labels(), spaces.Labels(), measures.chance)


@pins("flips")
def flipped() -> Found:
    old, new = np.array([1, 1, 1, 0, 2, 3, 1, 1]), np.array([2, 1, 5, 0, 1, 4, 1, 2])
    yield "share", compatibility.negative_flips(old, new)
    found = compatibility.negative_flips_by_class(old, new, np.array([0, 0, 1, 1, 2, 2, 3, 3]), 5)
    yield "sums", found.sums
    yield "counts", found.counts
    yield from _measured(NEW, OLD, measures.flips)
    yield from _named("before", _measured(NEW, H_SPACE, measures.flips, before=OLD))


def _rates(found: verification.Verification) -> Found:
    yield "rates", [found.threshold, found.true_accept_rate, found.false_accept_rate]
    yield "pairs", [found.n_genuine, found.n_impostor]
    if found.by_query is not None:
        yield "by query", np.concatenate(list(vars(found.by_query).values()))


@pins("verification")
def verified() -> Found:
    scores, same = whole(1, 40, 60).numpy() / 8, whole(2, 2, 60).numpy().astype(bool)
    for far in (0.0, 0.1, 0.3, 1.0):
        yield from _named(f"explicit, {far}", _rates(verification.verification(scores, same, far)))
    yield from _named("applied", _rates(verification.apply_threshold(2.5, scores, same)))
    sides = QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS
    for far in (1e-3, 0.05, 0.4):
        found = verification.verification_of_pairs(*sides, far=far, distance="euclidean")
        yield from _named(f"pairs, {far}", _rates(found))
    real = numbers(7, 30, 4).numpy(), numbers(8, 40, 6).numpy(), QUERY_LABELS, GALLERY_LABELS
    found = verification.verification_of_pairs(*real, far=0.1)
    yield "cosine, threshold", single(found.threshold)
    yield "cosine", [found.true_accept_rate, found.false_accept_rate]
    itself = GALLERY, GALLERY, GALLERY_LABELS, GALLERY_LABELS
    found = verification.verification_of_pairs(*itself, far=0.1, distance="euclidean", exclude_self=True)
    yield from _named("itself", _rates(found))
    yield from _named("subset", _rates(found.subset(GALLERY_LABELS < 3)))
    moved = compatibility.transfer_threshold(*sides[:2], -QUERY, *sides[2:], far=0.1, distance="euclidean")
    yield from _named("fixed", _rates(moved.fixed))
    yield from _named("transferred", _rates(moved.transferred))


@pins("verification")
def measured_thresholds() -> Found:
    yield from _measured(NEW, OLD, measures.threshold)


def _mixed(order: str, transformed: spaces.H = H_SPACE) -> spaces.Mixed:
    return spaces.Mixed(transformed, NEW, order)


@pins("backfilling")
def curves() -> Found:
    order = np.random.default_rng(0).permutation(40)
    sides = QUERY, GALLERY[:, :3], GALLERY, QUERY_LABELS, GALLERY_LABELS, order
    for words, options in (("22 cut-offs", {}), ("5 cut-offs", {"cutoffs": 5})):
        found = backfilling.backfilling_curve(*sides, distance="euclidean", **options)
        yield f"{words}, replaced", found.replaced
        yield f"{words}, shares", found.shares
        for name, values in found.values.items():
            yield f"{words}, {name}", values
        yield f"{words}, area", list(found.area.values())
        yield f"{words}, subset", list(found.subset(QUERY_LABELS < 2).area.values())
        for name, scores in found.area_by_class(QUERY_LABELS, 5).items():
            yield f"{words}, {name} by class", [*scores.sums, *scores.counts]


@pins("backfilling")
def measured_curves() -> Found:
    yield from _measured(NEW, _mixed(orders.DISTANCE), measures.curve)
    yield from _named("area", _measured(NEW, _mixed(orders.RANDOM), measures.curve_area))
    stored = spaces.Mixed(OLD, NEW, orders.RANDOM)
    yield from _named("as they are stored", _measured(NEW, stored, measures.curve_area))
    yield from _named("answers", _measured(NEW, _mixed(orders.DISTANCE), measures.answers))
    found = answered(np.array([1, 1, 3, 0]), np.array([0, 0, 1, 1]), np.array([True, False, False, False]))
    yield "answered", list(found.values())


@pins("search")
def searched() -> Found:
    """An index over groups that lie apart, so that it finds the same items wherever it is trained."""
    groups = 20 * _array(3, 3, 16, 8)
    items = np.repeat(groups, 24, axis=0) + _array(4, 9, 384, 8) / 4
    wanted = items[::40] + _array(5, 9, 10, 8) / 16
    for distance in DISTANCES:
        found = search.search(wanted, items, 5, distance=distance)
        yield f"exact, {distance}, scores", found.scores
        yield f"exact, {distance}, items", np.sort(found.indices[:, :1])
        yield f"exact, {distance}, size", found.bytes_per_item
        options = {"index": "ivfpq", "distance": distance, "parameters": search.IvfPq(bits=4)}
        rough = search.search(wanted, items, 24, **options)
        yield f"IVF-PQ, {distance}, size", rough.bytes_per_item
        yield f"IVF-PQ, {distance}, groups", np.sort(rough.indices // 24, axis=1)
    yield "recall", search.recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[1, 9], [5, 6]]))
    yield "cut", search.search(wanted, items[:, :5], 2, distance="euclidean").scores
    asked = [search._resolved(search.IvfPq(), n, size) for n, size in ((300, 8), (5000, 7), (100_000, 128))]
    yield "parameters", [number for each in asked for number in each]


@pins("search")
def measured_index() -> Found:
    for name, values in _measured(NEW, OLD, measures.index):
        if "seconds" not in name:
            yield name, As("rounded", values)


@pins("gallery")
def upgraded() -> Found:
    transformation = put(H(3, 2, 4, 5), 4)
    for name, part in transformation.named_buffers():
        if part.is_floating_point():
            part.copy_(0.3 * numbers(len(name), *part.shape).abs() + 0.2)
    old, side = numbers(1, 23, 3).float().numpy(), numbers(2, 23, 2).float().numpy()
    other = put(H(3, 3, 4, 5), 5)
    with tempfile.TemporaryDirectory() as folder:
        options = {"identity": {"of": "h"}, "block": 8}
        stored = gallery.upgrade_gallery(transformation, old, side, Path(folder) / "a", **options)
        yield "with side-information", single(np.array(stored))
        stored = gallery.upgrade_gallery(other, old.astype(np.float16), None, Path(folder) / "b", **options)
        yield "without side-information, from halves", single(np.array(stored))
        stored = gallery.upgrade_gallery(transformation, old, side, Path(folder) / "c", dtype="float16", **options)
        yield "in halves", As("trained", np.array(stored))
    joined = gallery.joined(transformation.double())
    yield "joined", joined(torch.from_numpy(old).double(), torch.from_numpy(side).double())


@pins("collapse")
def collapsed() -> Found:
    seed = _given()
    dead = seed._vectors[NEW, False]
    dead[:, 2], dead[3:10] = 0, 0
    yield from _asked(seed, NEW, OLD, measures.collapse)


@pins("likeness")
def alike() -> Found:
    yield from ((name, single(values)) for name, values in _measured(NEW, OLD, measures.likeness))
    yield from ((f"longer, {name}", single(values)) for name, values in _measured(OLD, NEW, measures.likeness))


@pins("old classifier")
def judged() -> Found:
    """By the rows of an old model that was not trained, completed or not; what it classifies is asked of sure ones."""
    for method in ("BCT A", "BCT B", "BCT C", "BCT D"):
        upgrade = Upgrade(method)
        seed = _seed(Base("old"), upgrade)
        rows = extended(seed.made(Base("old")), images.training_images(seed.run), "C").weight
        directions = 20 * rows.detach().numpy()[np.roll(LABELS, 5)]
        for place, space in enumerate((OLD, spaces.Of(upgrade))):
            seed._vectors[space, False] = directions + (_array(place, 5, *directions.shape) / 8).astype(np.float32)
        found = _asked(seed, spaces.Of(upgrade), OLD, measures.old_classifier)
        yield from ((f"{method}, {name}", single(values)) for name, values in found)


@pins("orders")
def orders_of_a_gallery() -> Found:
    for name in (orders.RANDOM, orders.BY_CLASS, orders.DISTANCE):
        yield name, orders.order_of(_given(), _mixed(name), images.CLASS_INCREMENTAL)
    stated = np.random.default_rng(1).permutation(len(LABELS)).astype(np.float32)
    for name in (orders.UNCERTAINTY, orders.ASCENDING, orders.IN_TURN):
        mixed = _mixed(name, Stated(FASTFILL, stated=tuple(stated)))
        yield name, orders.order_of(_given(), mixed, images.CLASS_INCREMENTAL)
    stating = Stated(FASTFILL, stated=tuple(stated))
    borrowed = spaces.Mixed(H_SPACE, NEW, orders.UNCERTAINTY, stating)
    yield "another's", orders.order_of(_given(), borrowed, images.CLASS_INCREMENTAL)
    yield "descending", orders.descending(np.array([1.0, 3.0, 3.0, 2.0]))
    yield "in turn", orders.in_turn(np.array([0, 0, 1, 0, 2, 1]))


@pins("orders")
def true_losses() -> Found:
    seed, mixed = _given(Base("new")), _mixed(orders.LOSS, FASTFILL_SPACE)
    vectors = seed._vectors
    vectors[NEW, False], vectors[FASTFILL_SPACE, False] = (
        numbers(each, len(LABELS), 8).float().numpy() for each in (1, 2)
    )
    losses = orders.true_losses(seed, mixed, images.CLASS_INCREMENTAL)
    yield "losses", single(losses)
    yield orders.LOSS, orders.order_of(seed, mixed, images.CLASS_INCREMENTAL)[:5]


@pins("row space")
def room_of_a_classifier() -> Found:
    """5 rows in 8 directions, and such of which one depends on the others."""
    for words, space in (("base", NEW), ("width", spaces.Of(Widths("BCT-S"), 0.5))):
        seed = _seed(space.what)
        weight = numbers(7, 5, 8).float()
        for name, rows in (("5 rows", weight), ("4 directions", torch.cat([weight[:4], weight[:2].sum(0)[None]]))):
            seed.made(space.what).parts["classifier"].weight.data = rows
            yield f"{words}, {name}", single([value for _, v in _asked_alone(seed, space) for value in v])


def _asked_alone(seed: Seed, space: spaces.Space) -> Found:
    return _asked(seed, space, space, measures.row_space_energy)


@pins("training accuracy")
def fitted_images() -> Found:
    """Of rows that lie near the training images' own embeddings, so that no answer is close."""
    for words, space in (("base", NEW), ("width", spaces.Of(Widths("BCT-S"), 0.5))):
        seed = _seed(space.what)
        made = seed.made(space.what)
        data = space.what.images(seed.run)
        embeddings = embedding.embed(made.backbone(space.width), data)
        made.parts["classifier"].weight.data = F.normalize(embeddings - embeddings.mean(dim=0))[::8][:CLASSES]
        for name, values in _asked(seed, space, space, measures.training_accuracy):
            yield f"{words}, {name}", As("rounded", values)


@pins("fastfill")
def correlated() -> Found:
    seed = _seed(Base("old"), Base("new"), FASTFILL)
    found = _asked(seed, NEW, _mixed(orders.UNCERTAINTY, FASTFILL_SPACE), measures.correlation)
    yield from ((name, As("rounded", values)) for name, values in found)


class Stated(spaces.H):
    """A transformation whose log-variances are given."""

    def __init__(self, transformation: Transformation, stated: tuple[float, ...]) -> None:
        super().__init__(transformation)
        object.__setattr__(self, "stated", stated)

    def log_variances(self, seed: Seed, split: str) -> np.ndarray:
        return np.array(self.stated)


@pins("flops")
def operations() -> Found:
    yield "standard", flops(resnet.small_resnet().eval(), pictures(1, 1, 3, 32, 32))
    yield "head", flops(resnet.small_resnet(head="linear_bn", widths=(8, 16)).eval(), pictures(1, 1))
    seed = _seed(Base("new"), Widths("BCT-S"))
    for space in (NEW, spaces.Of(Widths("BCT-S"), 0.5)):
        yield from _named(f"{space.width}", _asked(seed, space, OLD, measures.size))


@pins("flops")
def operations_with_an_encoder() -> Found:
    for encoder in LITE:
        own = on_features() | {"encoders": {"old": encoder, "new": "lite2"}}
        seed = _seed(Base("query_open"), **own)
        space = spaces.of_role("query_open")
        yield encoder, next(values for _, values in _asked(seed, space, space, measures.whole_cost))


NETWORK = SuperNetwork(Base("gallery_open"))


def _searches() -> tuple[Seed, list[spaces.Searched]]:
    """Two searches of six paths whose scores are drawn."""
    searches = [PathSearch(NETWORK, RANDOM, paths=6), PathSearch(SuperNetwork(NETWORK.gallery, 1), RANDOM, paths=6)]
    seed = _seed(NETWORK.gallery)
    for place, each in enumerate(searches):
        drawn = whole(place, 100, 2, 6).double() / 100
        history = [
            {"path": f"3@1 x@{number}", "self_test": float(a), "cross_test": float(b), "flops": 10 + number}
            for number, (a, b) in enumerate(drawn.T)
        ]
        seed.put(Made(each, nn.Module(), SimpleNamespace(about={"history": history})))
    return seed, [spaces.Searched(each) for each in searches]


@pins("paths")
def asked_of_searches() -> Found:
    seed, (own, again) = _searches()
    yield from _asked(seed, own, again, measures.history, measures.mean_history, measures.agreement, variant="a=1")


@pins("paths")
def asked_of_networks() -> Found:
    seed, (own, _) = _searches()
    queries = [spaces.Of(Base(role)) for role in ("new_open", "small_open", "query_open")]
    model = spaces.Of(NETWORK.gallery)
    for space in queries:
        seed.put(untrained(seed.run, space.what, 1))
    for place, space in enumerate((*queries, model)):
        count = len(seed.labels(images.OPEN_SET))
        seed._vectors[space, True] = _array(place, 7, count, 5)
    pairs = [(space, model) for space in queries]
    columns = {"split": images.OPEN_SET, "distance": "euclidean"}
    for words, first, ask in (
        ("alone", (own, own), measures.agreement_alone),
        ("cost", (model, model), measures.cost_saved),
    ):
        for row in seed.rows([Case((first, *pairs), (ask,), columns)]):
            names = [str(row.get(name, "")) for name in ("query_model", "gallery_model", "metric", "x")]
            yield f"{words} · {' · '.join(names)}", [float(row["value"])]
    for loss in (0.0, 0.1, 0.3):
        yield f"saved within {loss}", [saved((8, 4, 2, 1), (0.5, 0.5, 0.45, 0.25), loss)]
    first, added = whole(11, 12, 2, 15).numpy()
    yield "interval of a rank correlation", list(tau_interval(first, first + added))


@pins("path scores")
def embedded_paths() -> Found:
    seed = _seed(NETWORK.gallery, NETWORK)
    for is_recalibrated in (True, False):
        space = spaces.OfPath(NETWORK, Architecture("x@0.5"), is_recalibrated)
        yield f"recalibrated {is_recalibrated}", As("trained", seed.vectors(space, images.OPEN_SET))
    seed.vectors(spaces.Of(NETWORK.gallery), images.CLASS_INCREMENTAL)  # others, of the same space
    yield "search classes", single(seed.vectors(spaces.Of(NETWORK.gallery), images.SEARCHED))
    yield "search images", images.search_images(seed.run).labels
    yield "calibration", images.calibration_images(seed.run).labels


@pins("gradients")
def measured_gradients() -> Found:
    what = Widths("BCT-S", images.CLOSED)
    seed = _seed(what, knobs=run().knobs.model_copy(update={"widths": (0.25, 0.5, 1.0)}))
    statistics = seed.made(what).parts["statistics"]
    for place, (name, part) in enumerate(statistics.named_buffers()):
        is_count = name == "_taken"
        part.copy_(torch.tensor(4) if is_count else whole(place, 9, *part.shape))
    asked = measures.gradients, measures.gradients_by_epoch, measures.gradients_by_tensor
    for ask in asked:
        yield from _named(ask.function.__name__, _asked(seed, spaces.Of(what), spaces.Of(what), ask))
