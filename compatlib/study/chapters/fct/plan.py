"""What the chapter *FCT* measures: galleries transformed to the new model's space, and backfilled in some order."""

from collections.abc import Iterator
from typing import Any, ClassVar

from compatlib.evaluation.checks import DISTANCES
from compatlib.study.lab.cases import Case, case
from compatlib.study.lab.changes import CHANGES as UPGRADE_CHANGES
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL, GENERATIONS, SAMPLE_INCREMENTAL
from compatlib.study.lab.measures import (
    chance,
    curve,
    flips,
    image_speed,
    index,
    popularity,
    scores,
    transformation_speed,
)
from compatlib.study.lab.orders import DISTANCE, RANDOM, UNCERTAINTY
from compatlib.study.lab.spaces import H, Labels, Mixed, Of, Space, of_role
from compatlib.study.lab.trainables import Side, Transformation, Upgrade, own_side
from compatlib.study.lab.trainables.sides import KINDS
from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.settings import Settings, TableKnobs, tables

# "views" is F1's transformation fitted on images embedded anew at every step, for one seed; "sizes" are lines of F2.
TABLES = ("F1", "views", "F2", "sizes", "F3", "F4", "F5", "F6")
# Where the page names none; what `study` leaves out stands on `laptop`.
TABLES_OF = {"study": ("F1", "views", "F2", "F5", "F6"), "large": ("F1",)}
VIEWS_SEED = 0
SIZES = (0.25, 0.5, 2.0)  # of side-information besides its own, in sizes of the new embedding
CHAIN = ("old_quarter", "old", "new")
CHANGES = {
    **{words: roles for words, roles in UPGRADE_CHANGES.items() if words != "classes only, both cosine"},
    "half of the images, then all": ("old_samples", "new"),
}
WITHOUT, WITH = "FCT no side-information", "FCT"
IN_HALVES, ANEW = "stored in float16", "images embedded anew at every step"
SIZE = "size of side-information"
# By transformation: the orders in which its gallery is embedded again.
CURVES = {"fct": (RANDOM, DISTANCE), "fastfill": (RANDOM, UNCERTAINTY, DISTANCE)}
NAMES = {"fct": "FCT", "fastfill": "FastFill"}


class Knobs(TableKnobs, TransformationKnobs):
    """The page's own parameters: the tables to measure, such as "F1,F5" (by default the profile's), and the recipes."""

    chapter: ClassVar[str] = "fct"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """The main table for every seed, sweeps for the sweeps' seeds."""
    wanted, side = tables(run), own_side(run)
    yield from main_cases(side)
    if "views" in wanted and seed == VIEWS_SEED:
        h = H(Transformation(side, source="images"))
        yield from pair_cases(WITH, {("new", "h(old)"): (of_role("new"), h)}, variant=ANEW)
    if "F5" in wanted:
        for each in (None, side):
            yield from curve_cases(each)
    if seed in run.sweep_seeds:
        yield from side_cases(sides(run))
        if "F3" in wanted:
            yield from change_cases(run)
        if "F4" in wanted:
            yield from chain_cases(own_side(run, CHAIN[0]))
        if "F6" in wanted:
            yield from cost_cases(side)
    for distance in DISTANCES:
        yield case(Labels(), Labels(), chance, split=CLASS_INCREMENTAL, method="chance", distance=distance)


def sides(run: Settings) -> list[Side | None]:
    """What table F2 compares: none, the chapter's own, other kinds ("F2" itself) and other sizes ("sizes")."""
    wanted, own = tables(run), own_side(run)
    kinds = [Side(kind, own.dim) for kind in KINDS if kind != own.side] if "F2" in wanted else []
    sizes = [Side(own.side, max(1, round(size * own.dim))) for size in SIZES] if "sizes" in wanted else []
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


def main_cases(side: Side) -> Iterator[Case]:
    """Table F1: old, new, BCT, and the gallery transformed without and with side-information."""
    old, new, bct = of_role("old"), of_role("new"), Of(Upgrade("BCT A"))
    yield from pair_cases("independent", apart(old, new))
    yield from pair_cases("BCT A", {("new", "old"): (bct, old), ("new", "new"): (bct, bct)})
    for method, beside in ((WITHOUT, None), (WITH, side)):
        h = H(Transformation(beside))
        yield from pair_cases(method, {("new", "h(old)"): (new, h)}, flips, before=old)
        yield from pair_cases(method, {("h(old)", "h(old)"): (h, h)})
    halves = H(Transformation(side), in_halves=True)
    yield from pair_cases(WITH, {("new", "h(old)"): (new, halves)}, variant=IN_HALVES)


def side_cases(compared: list[Side | None]) -> Iterator[Case]:
    """Table F2: the transformation by kind and size of side-information, and the side-information searched alone."""
    for side in compared:
        kind, size = (side.side, side.dim) if side else ("none", 0)
        pairs = {("new", "h(old)"): (of_role("new"), H(Transformation(side)))}
        pairs |= {("side", "side"): (Of(side), Of(side))} if side else {}
        yield from pair_cases(WITH if side else WITHOUT, pairs, variant=kind, x_name=SIZE, x=float(size))


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


def cost_cases(side: Side) -> Iterator[Case]:
    """Table F6: images embedded and vectors transformed a second; h(old) behind an index beside the exact search."""
    names = {"method": WITH, "query_model": "new", "gallery_model": "h(old)", "split": CLASS_INCREMENTAL}
    yield case(of_role("new"), H(Transformation(side)), image_speed, transformation_speed, index, **names)


CHAPTER = Chapter("fct", Knobs, cases)
