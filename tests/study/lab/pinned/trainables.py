"""Computations of what the lab trains: streams, initial weights, images and settings, through two short epochs each."""

from types import SimpleNamespace
from typing import Any

from compatlib.study.lab import roles
from compatlib.study.lab.images import CLOSED, OPEN_SET
from compatlib.study.lab.make import Made
from compatlib.study.lab.trainables import (
    METHODS,
    Architecture,
    Base,
    Narrow,
    OnPath,
    PathSearch,
    Side,
    SuperNetwork,
    Trainable,
    Transformation,
    Upgrade,
    Widths,
)
from compatlib.study.lab.trainables.sides import COMPONENTS, RAW
from compatlib.study.lab.trainables.supernets import RANDOM
from compatlib.study.lab.trainables.upgrades import extended
from compatlib.study.lab.trainables.widths import APART, JOINT, SWITCHABLE, TRIED
from tests.study.lab.pinned.drawn import (
    FEATURE_SIZE,
    feature_set,
    fitted,
    on_features,
    pictures,
    run,
    untrained,
    weights,
)
from tests.study.lab.pinned.training import Found
from tests.study.lab.pinned.values import pins, single, trained


def _of(what: Trainable, **changes: Any) -> Found:
    """Initial weights, and what a short training makes of them."""
    own = run(**changes)
    yield f"{what.name}, begun", single(weights(what.build(own, 1)))
    history, parts = fitted(own, what, 1)
    yield f"{what.name}, history", trained(history)
    yield f"{what.name}, weights", trained(weights(parts))


def _all(*wanted: Trainable) -> Found:
    for what in wanted:
        yield from _of(what)


@pins("independent")
def trained_roles() -> Found:
    own = run()
    for name in roles.ROLES:
        what = Base(name)
        yield f"{name}, labels", what.images(own).labels
        yield f"{name}, initial weights", single(weights(what.build(own, 1)))
        yield f"{name}, names", list(what.build(own, 1).state_dict())
    yield from _all(Base("old"), Base("new_arcface"), Side("supervised", 6))
    smoothed = run().training.model_copy(update={"label_smoothing": 0.2})
    for part, value in _of(Base("old"), training=smoothed):
        yield f"smoothed {part}", value


@pins("heads")
def trained_heads() -> Found:
    """Of everything that is trained on images, one on features of two encoders."""
    narrow, wide = (Narrow(method, 0.5) for method in APART)
    upgrades = (Upgrade("BCT A"), Upgrade("BCT C"), Upgrade("L2"))
    transformed = (Transformation(), Transformation(source="images"), Transformation(objective="fastfill"))
    whats = (Base("old"), Base("new_deep"), *upgrades, *transformed, narrow, wide, Widths("SFSC"), Widths(JOINT))
    for what in (*whats, Base("new_open"), Upgrade("BCT A", Base("old_open"), "new_open")):
        yield from _of(what, **on_features())


@pins("projection")
def kept_features() -> Found:
    own = run(**on_features())
    for side in (Side(RAW, FEATURE_SIZE), Side(COMPONENTS, 4), Side(COMPONENTS, 4, "old_quarter")):
        history, parts = fitted(own, side, 1)
        yield f"{side.name}, history", len(history)
        yield f"{side.name}, vectors", single(parts(feature_set("lite0").features))


@pins("bct")
def trained_bct() -> Found:
    yield from _all(Upgrade("BCT A"), Upgrade("BCT A", old=Base("old_narrow"), weight=3.0), Narrow(APART[1], 0.5))


@pins("synthesis")
def trained_synthesis() -> Found:
    own = run()
    old = untrained(own, Base("old"), 1)
    for normalize, form in ((False, "B"), (True, "C")):
        rows = extended(old, Base("new").images(own), form)
        yield f"rows, normalize {normalize}", single(rows.weight)
    yield "rows, form D", trained(extended(old, Base("new").images(own), "D").weight)
    yield from _all(Upgrade("BCT B"), Upgrade("BCT C"), Upgrade("BCT D"))


@pins("alignments")
def trained_alignments() -> Found:
    yield from _all(*(Upgrade(name) for name, method in METHODS.items() if method.behaviours == ("alignments",)))


@pins("dual-tuning")
def trained_dual() -> Found:
    yield from _all(*(Upgrade(name) for name, method in METHODS.items() if method.behaviours == ("dual-tuning",)))
    weighted = Upgrade("Dual-Tuning", Base("old_narrow"), weight=0.5, terms={"new_to_old": 0.1, "old_to_new": 0.0})
    yield from _all(weighted, Upgrade("mutual", weight=0.4))
    for part, value in _of(Upgrade("Dual-Tuning"), **on_features()):
        yield f"on features, {part}", value


GALLERY = Base("gallery_open")
SUPERNET = SuperNetwork(GALLERY)


@pins("cmp-nas")
def trained_queries() -> Found:
    for name, method in METHODS.items():
        if method.behaviours == ("cmp-nas",):
            yield from _of(Upgrade(name, GALLERY, "query_open"))
            for part, value in _of(Upgrade(name, Base("new_open"), "query_open"), **on_features()):
                yield f"on features, {part}", value
    yield from _all(OnPath(Architecture("x@0.5"), GALLERY), OnPath(Architecture("3@1"), GALLERY))
    yield from _all(SUPERNET, SuperNetwork(GALLERY, 1))


@pins("evolution")
def searched_supernets() -> Found:
    """Of one class, so that all paths score alike and the earlier one is the best, on every processor."""
    own = run()
    searches = [PathSearch(SUPERNET, by) for by in ("R1", RANDOM)]
    searches += [PathSearch(SUPERNET, "R3", cap=0.06), PathSearch(SUPERNET, RANDOM, paths=7, is_recalibrated=False)]
    for search in searches:
        parents = [untrained(own, parent, 1) for parent in search.parents]
        parts = search.build(own, 1)
        found = search.fit(own, 1, parts, parents)
        yield f"{search.name}, paths", [row["path"] for row in found.history]
        yield f"{search.name}, best", parts.choices
        made = Made(search, parts, SimpleNamespace(about={"history": found.history}))
        network = parents[1].parts["network"]
        numbers = (None, 1, 3)
        paths = [Architecture(search=search, number=number).path(network, made) for number in numbers]
        yield f"{search.name}, architectures", [" ".join(path) for path in paths]


@pins("simclr")
def trained_simclr() -> Found:
    yield from _all(Side("SimCLR", 6))
    for part, value in _of(Side("SimCLR", 6), **on_features()):
        yield f"on features, {part}", value


@pins("autoencoder")
def trained_autoencoder() -> Found:
    yield from _all(Side("autoencoder", 6))


@pins("views")
def trained_on_views() -> Found:
    yield from _all(Transformation(), Transformation(Side("SimCLR", 6)))


@pins("fct")
def trained_fct() -> Found:
    yield from _all(Transformation(source="images"), Transformation(Side("SimCLR", 6), source="images"))


@pins("fastfill")
def trained_fastfill() -> Found:
    balances = ({"cross_entropy": 0.1}, {"coordinates": "sum"})
    yield from _all(*(Transformation(objective="fastfill", **each) for each in ({}, *balances)))


@pins("slimmable")
def trained_narrow() -> Found:
    yield from _all(Narrow(APART[0], 0.5), Narrow(APART[0], 0.75, OPEN_SET))


def _widths(*names: str, split: str = CLOSED) -> Found:
    own = run()
    for name in names:
        what = Widths(name, split)
        yield from _of(what)
        made = untrained(own, what, 1)
        yield f"{what.name}, sub-model", single(made.backbone(0.5)(pictures(1, 2)))


@pins("sfsc")
def trained_widths() -> Found:
    yield from _widths(JOINT, "BCT-S", "Asymmetric-S", "BCT-S + uncertainty")
    yield from _widths("BCT-S", split=OPEN_SET)
    knobs = run().knobs
    yield "rates", [knobs.learning_rate(name) for name in (JOINT, *SWITCHABLE)]


@pins("pcgrad")
def trained_projections() -> Found:
    yield from _widths(*(name for name, (_, projection) in (SWITCHABLE | TRIED).items() if projection != "none"))


@pins("gradients")
def trained_statistics() -> Found:
    _, parts = fitted(run(), Widths("SFSC"), 1)
    yield "tensors", list(parts["statistics"].tensors)
    yield "norm", trained(parts["statistics"].norm)
