"""What the chapter *BCT* measures: upgrades with the influence loss and with its baselines."""

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from compatlib.study.lab.cases import Case, case
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL, GENERATIONS, OPEN_SET, SAMPLE_INCREMENTAL
from compatlib.study.lab.measures import (
    chance,
    collapse,
    flips,
    likeness,
    old_classifier,
    popularity,
    rank_1,
    scores,
    threshold,
)
from compatlib.study.lab.spaces import ClassMeans, Labels, Of
from compatlib.study.lab.trainables import Base, Trainable, upgraded
from compatlib.study.settings import MethodKnobs, Settings, methods, tables

TABLES = ("B1", "B2", "B3", "B4", "B5")  # B6 comes with B1, which is always measured
# Where the page names none; the sweeps of `study` stand on `laptop`.
TABLES_OF = {"study": ("B1", "B3"), "large": ("B1",)}
METHODS = (
    "independent",
    "L2",
    "CE + distance",
    "triplet, raw",
    "contrastive",
    "distillation",
    "BCT A",
    "BCT B",
    "BCT C",
)
FORMS = ("BCT A", "BCT B", "BCT C")
# Methods that a claim speaks of are trained for every seed, the others for the sweeps' seeds.
CLAIMED = ("independent", "L2", "triplet, raw", "contrastive", *FORMS)
ON_SAMPLES = ("independent", "BCT C")  # compared where half of the images are old, if a run measures both
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
CHAIN = {"generation 1": Base("old_quarter"), "generation 2": "old", "generation 3": "new"}
# Form C makes rows out of the predecessor's embeddings. On drawn images it collapses, and out of zeros no row can be
# made for a next generation: there the chain is measured with form A alone.
CHAINED = {"cifar100": ("independent", "BCT A", "BCT C")}


class Knobs(MethodKnobs):
    """The page's own parameters: the distance, and the tables (such as "B1,B3") and methods of B1 to measure."""

    chapter: ClassVar[str] = "bct"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF
    all_methods: ClassVar[tuple[str, ...]] = METHODS
    distance: Literal["cosine", "euclidean"] = "cosine"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Claims for every seed, sweeps for the sweeps' seeds."""
    is_swept, wanted = seed in run.sweep_seeds, tables(run)
    old = Base("old")
    for method in methods(run):
        if is_swept or method in CLAIMED:
            yield from upgrade_cases(run, method, old, upgraded(method))
            yield from diagnosis_cases(run, method, old, upgraded(method))
    for method in ON_SAMPLES if set(ON_SAMPLES) <= set(methods(run)) else ():
        samples = Base("old_samples")
        yield from upgrade_cases(run, method, samples, upgraded(method, samples), split=SAMPLE_INCREMENTAL)
        yield from diagnosis_cases(run, method, samples, upgraded(method, samples), split=SAMPLE_INCREMENTAL)
    if "B2" in wanted and is_swept:
        for (words, (old_role, new_role)), method in itertools.product(CHANGES.items(), ("independent", "BCT A")):
            new = upgraded(method, Base(old_role), new_role)
            yield from upgrade_cases(run, method, Base(old_role), new, variant=words)
    if "B3" in wanted and is_swept:
        for method in CHAINED.get(run.dataset, ("independent", "BCT A")):
            yield from chain_cases(run, method)
    if "B4" in wanted and is_swept:
        yield from sweep_cases(run, ("BCT A", "BCT C"), "old", "new", CLASS_INCREMENTAL)
    if "B5" in wanted and is_swept:
        yield from sweep_cases(run, ("BCT A",), "old_open", "new_open", OPEN_SET)
    for split in (CLASS_INCREMENTAL, OPEN_SET) if "B5" in wanted else (CLASS_INCREMENTAL,):
        yield case(Labels(), Labels(), chance, split=split, method="chance", distance=run.knobs.distance)


def upgrade_cases(
    run: Settings, method: str, old: Trainable, new: Trainable, *, split: str = CLASS_INCREMENTAL, **columns: Any
) -> Iterator[Case]:
    """Table B1: new/old, new/new, what flips and whether anything collapsed; of models trained apart old/old too."""
    place = {"split": split, "method": method, "distance": run.knobs.distance, **columns}
    cross, own = {"query_model": "new", "gallery_model": "old"}, {"query_model": "new", "gallery_model": "new"}
    yield case(Of(new), Of(old), scores, popularity, flips, **place, **cross)
    yield case(Of(new), Of(new), scores, popularity, collapse, **place, **own)
    if method == "independent":
        before = {"query_model": "old", "gallery_model": "old"}
        yield case(Of(old), Of(old), scores, popularity, collapse, **place, **before)


def diagnosis_cases(
    run: Settings, method: str, old: Trainable, new: Trainable, split: str = CLASS_INCREMENTAL
) -> Iterator[Case]:
    """A deployed threshold (table B6), the gallery without its scatter, likeness, and what the old classifier says."""
    place = {"split": split, "method": method, "distance": run.knobs.distance}
    cross = {"query_model": "new", "gallery_model": "old"}
    yield case(Of(new), Of(old), threshold, likeness, **place, **cross)
    queries = {"new": new} | ({"old": old} if method == "independent" else {})
    for name, query in queries.items():
        names = {"query_model": name, "gallery_model": "old means"}
        yield case(Of(query), ClassMeans(old), rank_1, **place, **names)
    if method in FORMS:
        yield case(Of(new), Of(old), old_classifier, **place)


def sweep_cases(run: Settings, forms: tuple[str, ...], old: str, new: str, split: str) -> Iterator[Case]:
    """Tables B4 and B5: the weight of the influence loss."""
    for method, weight in [("independent", 0.0), *itertools.product(forms, WEIGHTS)]:
        upgrade = upgraded(method, Base(old), new, weight)
        yield from upgrade_cases(run, method, Base(old), upgrade, split=split, x_name="weight", x=weight)


def chain_cases(run: Settings, method: str) -> Iterator[Case]:
    """Table B3: every generation's queries on every one's gallery, each trained against its predecessor only."""
    models: dict[str, Trainable] = {}
    for name, role in CHAIN.items():
        models[name] = role if isinstance(role, Base) else upgraded(method, list(models.values())[-1], role)
    place = {"split": GENERATIONS, "method": method, "distance": run.knobs.distance}
    for (query, q), (gallery, g) in itertools.product(models.items(), repeat=2):
        yield case(Of(q), Of(g), scores, query_model=query, gallery_model=gallery, **place)


CHAPTER = Chapter("bct", Knobs, cases)
