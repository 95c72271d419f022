"""What the chapter *FCT* measures: galleries transformed to the new model's space, and backfilled in some order."""

from collections.abc import Iterator
from typing import Any, ClassVar

from compatlib.data.features import SOURCES
from compatlib.evaluation.checks import DISTANCES
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.changes import CHANGES as UPGRADE_CHANGES
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import (
    CLASS_INCREMENTAL,
    GENERATIONS,
    SAMPLE_INCREMENTAL,
)
from compatlib.study.lab.measures import (
    chance,
    curve,
    curve_area,
    flips,
    image_speed,
    index,
    kept_bytes,
    popularity,
    scores,
    transformation_speed,
)
from compatlib.study.lab.orders import DISTANCE, RANDOM, UNCERTAINTY
from compatlib.study.lab.spaces import H, Labels, Mixed, Of, Space, of_role
from compatlib.study.lab.trainables import Base, Side, Transformation, Upgrade, own_side
from compatlib.study.lab.trainables.sides import COMPONENTS, KINDS, OF_FEATURES, RAW
from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.settings import Settings, TableKnobs, tables

BALANCED = (0, 1, 2)  # seeds of "balance" where whole networks are trained
# "views" is F1's transformation fitted on images embedded anew at every step, for one seed; "sizes" are lines of F2.
# "balance": how FastFill's loss is balanced; "rival": a new head on stored old features, which images have not;
# "draws": F1 with other classes as the old ones.
TABLES = ("F1", "views", "F2", "sizes", "F3", "F4", "F5", "F6", "balance", "rival", "draws")
# Where the page names none; what `study` leaves out stands on `laptop`.
ON_IMAGES = ("F1", "views", "F2", "sizes", "F3", "F4", "F5", "F6")
TABLES_OF = {
    "study": ("F1", "views", "F2", "F5", "F6", "balance"),
    "large": ("F1",),
    "laptop": (*ON_IMAGES, "balance", "rival"),
    "smoke": ON_IMAGES,
}
VIEWS_SEED = 0
DRAWS = (1, 2, 3, 4)  # of the old classes, besides the data set's own order
SIZES = (0.25, 0.5, 2.0)  # of side-information besides its own, in sizes of the new embedding
CHAIN = ("old_quarter", "old", "new")
CHANGES = {
    **{words: roles for words, roles in UPGRADE_CHANGES.items() if words != "classes only, both cosine"},
    "half of the images, then all": ("old_samples", "new"),
}
WITHOUT, WITH = "FCT no side-information", "FCT"
IN_HALVES, ANEW = "stored in float16", "images embedded anew at every step"
SIZE, BALANCE = "size of side-information", "weight of the cross-entropy"
# By transformation: the orders in which its gallery is embedded again.
CURVES = {"fct": (RANDOM, DISTANCE), "fastfill": (RANDOM, UNCERTAINTY, DISTANCE)}
NAMES = {"fct": "FCT", "fastfill": "FastFill"}
# Of FastFill's loss: weight of the cross-entropy, and whether squares are a mean or a sum over coordinates.
BALANCES = ((0.0, "mean"), (0.01, "mean"), (0.1, "mean"), (1.0, "mean"), (1.0, "sum"))
RIVAL = "new head on stored features"


class Knobs(TableKnobs, TransformationKnobs):
    """The page's own parameters: the tables to measure, such as "F1,F5" (by default the profile's), and the recipes."""

    chapter: ClassVar[str] = "fct"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """The main table for every seed, sweeps for the sweeps' seeds; of heads the orders of F5 count as such."""
    wanted, side, is_swept = tables(run), own_side(run), seed in run.sweep_seeds
    ask = (kept_bytes,) if run.encoders else ()
    yield from main_cases(side, *ask)
    halves = H(Transformation(side), in_halves=True)
    yield from pair_cases(WITH, {("new", "h(old)"): (of_role("new"), halves)}, *ask, variant=IN_HALVES)
    if "views" in wanted and seed == VIEWS_SEED:
        h = H(Transformation(side, source="images"))
        yield from pair_cases(WITH, {("new", "h(old)"): (of_role("new"), h)}, variant=ANEW)
    if "F5" in wanted and (is_swept or not run.encoders):
        for each in (None, side):
            yield from curve_cases(each)
    if is_swept:
        yield from side_cases(sides(run), *ask)
        if "F3" in wanted:
            yield from change_cases(run)
        if "F4" in wanted:
            yield from chain_cases(own_side(run, CHAIN[0]))
        if "F6" in wanted:
            yield from cost_cases(side)
        if "balance" in wanted and (run.encoders or seed in BALANCED):
            yield from balance_cases(side)
        if "rival" in wanted and run.encoders:
            yield from rival_cases()
        for draw in DRAWS if "draws" in wanted else ():
            yield from under(main_cases(side, variant=f"draw={draw}"), {"draw": draw})
    for distance in DISTANCES:
        yield case(Labels(), Labels(), chance, split=CLASS_INCREMENTAL, method="chance", distance=distance)


def sides(run: Settings) -> list[Side | None]:
    """What table F2 compares: none, the chapter's own, other kinds ("F2" itself) and other sizes ("sizes")."""
    wanted, own = tables(run), own_side(run)
    of_dim = [kind for kind in (OF_FEATURES if run.encoders else KINDS) if kind not in (own.side, RAW)]
    kinds = [Side(kind, own.dim) for kind in of_dim] if "F2" in wanted else []
    sized = [max(1, round(size * own.dim)) for size in SIZES] if "sizes" in wanted else []
    sizes = [Side(own.side, size) for size in sized]
    if run.encoders:
        size = SOURCES[run.dataset].size
        kinds += [Side(RAW, size)] if "F2" in wanted else []
        sizes += [Side(COMPONENTS, each) for each in sized if each <= size]
    return [None, own, *kinds, *sizes] if kinds or sizes else []


def pair_cases(
    method: str,
    pairs: dict[tuple[str, str], tuple[Space, Space]],
    *ask: Any,
    split: str = CLASS_INCREMENTAL,
    before: Space | None = None,
    **columns: Any,
) -> Iterator[Case]:
    """Scores of pairs of query and gallery by name, under both distances."""
    for (query, gallery), (q, g) in pairs.items():
        for distance in DISTANCES:
            names = {"method": method, "query_model": query, "gallery_model": gallery, "distance": distance}
            yield case(q, g, scores, popularity, *ask, before=before, split=split, **names, **columns)


def apart(old: Space, new: Space) -> dict[tuple[str, str], tuple[Space, Space]]:
    """Self-tests and cross-test of two models trained apart."""
    return {("old", "old"): (old, old), ("new", "old"): (new, old), ("new", "new"): (new, new)}


def main_cases(side: Side, *ask: Any, **columns: Any) -> Iterator[Case]:
    """Table F1: old, new, BCT, and the gallery transformed without and with side-information; of it is asked more."""
    old, new, bct = of_role("old"), of_role("new"), Of(Upgrade("BCT A"))
    yield from pair_cases("independent", apart(old, new), **columns)
    yield from pair_cases("BCT A", {("new", "old"): (bct, old), ("new", "new"): (bct, bct)}, **columns)
    for method, beside in ((WITHOUT, None), (WITH, side)):
        h = H(Transformation(beside))
        yield from pair_cases(method, {("new", "h(old)"): (new, h)}, flips, *ask, before=old, **columns)
        yield from pair_cases(method, {("h(old)", "h(old)"): (h, h)}, **columns)


def side_cases(compared: list[Side | None], *ask: Any) -> Iterator[Case]:
    """Table F2: the transformation by kind and size of side-information, and the side-information searched alone."""
    for side in compared:
        kind, size = (side.side, side.dim) if side else ("none", 0)
        method, columns = WITH if side else WITHOUT, {"variant": kind, "x_name": SIZE, "x": float(size)}
        h = H(Transformation(side))
        yield from pair_cases(method, {("new", "h(old)"): (of_role("new"), h)}, *ask, **columns)
        if side:
            yield from pair_cases(method, {("side", "side"): (Of(side), Of(side))}, **columns)


def change_cases(run: Settings) -> Iterator[Case]:
    """Table F3: what else old and new model may differ in."""
    for words, (old, new) in CHANGES.items():
        split = SAMPLE_INCREMENTAL if old == "old_samples" else CLASS_INCREMENTAL
        place = {"split": split, "variant": words}
        yield from pair_cases("independent", apart(of_role(old), of_role(new)), **place)
        for method, beside in ((WITHOUT, None), (WITH, own_side(run, old))):
            pairs = {("new", "h(old)"): (of_role(new), H(Transformation(beside, old, new)))}
            yield from pair_cases(method, pairs, **place)


def chain_cases(side: Side) -> Iterator[Case]:
    """Table F4: the first generation's gallery after two updates: h composed, or learned again from what is stored.

    Side-information is stored once, beside the first generation, and never learned anew.
    """
    first, second, third = CHAIN
    once, again = H(Transformation(side, first, second)), H(Transformation(side, first, third))
    composed = H(Transformation(side, second, third), stored=once)
    queries = dict(zip(("v1", "v2", "v3"), map(of_role, CHAIN), strict=True))
    own = {(name, name): (each, each) for name, each in queries.items()}
    yield from pair_cases("independent", own, split=GENERATIONS)
    yield from pair_cases(WITH, {("v2", "h(v1)"): (queries["v2"], once)}, split=GENERATIONS)
    for words, gallery in (("composed", composed), ("learned again", again)):
        pairs = {("v3", "h(v1)"): (queries["v3"], gallery)}
        yield from pair_cases(WITH, pairs, split=GENERATIONS, variant=words)


def curve_cases(side: Side | None) -> Iterator[Case]:
    """Plot and table F5: scores while the gallery is embedded again, by transformation and order."""
    beside = "with side-information" if side else "without side-information"
    for objective, orders in CURVES.items():
        for order in orders:
            mixed = Mixed(H(Transformation(side, objective=objective)), of_role("new"), order)
            columns = {"method": NAMES[objective], "variant": f"{order} order, {beside}"}
            columns |= {"split": CLASS_INCREMENTAL, "query_model": "new", "gallery_model": "mixed"}
            for distance in DISTANCES:
                yield case(of_role("new"), mixed, curve, distance=distance, **columns)


def balance_cases(side: Side) -> Iterator[Case]:
    """FastFill's transformation and order by the balance of its loss, and FCT's transformation in FastFill's order.

    What an order gains is read against the same gallery in a random one.
    """
    own = H(Transformation(side, objective="fastfill"))
    for weight, coordinates in BALANCES:
        balance = {"cross_entropy": weight, "coordinates": coordinates}
        h = H(Transformation(side, objective="fastfill", **balance))
        yield from _balanced(NAMES["fastfill"], f"{coordinates} over coordinates", weight, h, RANDOM, UNCERTAINTY)
    yield from _balanced(NAMES["fct"], "in FastFill's order", None, H(Transformation(side)), UNCERTAINTY, stated_by=own)


def _balanced(
    method: str, words: str, weight: float | None, h: H, *orders: str, stated_by: H | None = None
) -> Iterator[Case]:
    x = {} if weight is None else {"x_name": BALANCE, "x": weight}
    place = {"split": CLASS_INCREMENTAL, "method": method, "distance": "cosine", **x}
    names = {"query_model": "new", "gallery_model": "h(old)", "variant": f"balance={words}"}
    yield case(of_role("new"), h, scores, popularity, **names, **place)
    for order in orders:
        mixed = Mixed(h, of_role("new"), order, stated_by)
        variant = f"balance={words};order={order}"
        yield case(
            of_role("new"), mixed, curve_area, gallery_model="mixed", query_model="new", variant=variant, **place
        )


def rival_cases() -> Iterator[Case]:
    """Where raw features are stored: a new head on them, trained through the new model's classifier.

    It needs no image either, and is what a transformation has to beat. One trained apart is shown too.
    """
    new, apart_from = of_role("new"), of_role("old_again")
    rival = Of(Upgrade("BCT A", Base("new"), "old_again"))
    yield from pair_cases(RIVAL, {("new", "old again"): (new, rival)}, kept_bytes)
    yield from pair_cases(RIVAL, {("old again", "old again"): (rival, rival)})
    pairs = {("new", "old again"): (new, apart_from), ("old again", "old again"): (apart_from, apart_from)}
    yield from pair_cases("independent", pairs)


def cost_cases(side: Side) -> Iterator[Case]:
    """Table F6: images embedded and vectors transformed a second; h(old) behind an index beside the exact search."""
    names = {"method": WITH, "query_model": "new", "gallery_model": "h(old)", "split": CLASS_INCREMENTAL}
    yield case(of_role("new"), H(Transformation(side)), image_speed, transformation_speed, index, **names)


CHAPTER = Chapter("fct", Knobs, cases)
