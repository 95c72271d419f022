"""What the chapter *BCT* measures: upgrades with the influence loss and with its baselines."""

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from compatlib.models.resnet import HEADS
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.changes import CHANGES, SAME_ENCODER
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL, GENERATIONS, OPEN_SET, SAMPLE_INCREMENTAL
from compatlib.study.lab.measures import (
    chance,
    flips,
    likeness,
    old_classifier,
    popularity,
    rank_1,
    scores,
    threshold,
)
from compatlib.study.lab.spaces import ClassMeans, Labels, Of, Shifted
from compatlib.study.lab.trainables import Base, Trainable, upgraded
from compatlib.study.lab.trainables.upgrades import ByMethod
from compatlib.study.lab.upgrade_cases import upgrade_cases
from compatlib.study.settings import MethodKnobs, Settings, methods, tables

# B6 comes with B1, which is always measured. "offset": B1, the chain and the open set without the common offset;
# "head": B1 with the other head; "draws": the headline with other classes as the old ones.
TABLES = ("B1", "B2", "B3", "B4", "B5", "offset", "head", "draws")
# Where the page names none. The sweeps of `study` stand on `laptop`, the other axes on `heads`; the open set has a
# control in `omniglot`.
TABLES_OF = {
    "study": ("B1", "B3", "offset"),
    "large": ("B1", "offset"),
    "omniglot": ("B1", "B5", "offset"),
    "laptop": ("B1", "B2", "B3", "B4", "B5", "offset"),
    "smoke": ("B1", "B2", "B3", "B4", "B5", "offset"),
}
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
ALL_METHODS = (*METHODS, "BCT D")  # form D is tried on real images alone
FORMS = ("BCT A", "BCT B", "BCT C")
HEADLINE = ("independent", "BCT A")  # of every seed where heads are trained, and of every draw of the old classes
DRAWS = (1, 2, 3, 4)  # besides the data set's own order
OFFSETS = ("shifted", "centred")
# Methods that a claim speaks of are trained for every seed, the others for the sweeps' seeds.
CLAIMED = ("independent", "L2", "triplet, raw", "contrastive", *FORMS)
ON_SAMPLES = ("independent", "BCT C")  # compared where half of the images are old, if a run measures both
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
CHAIN = {"generation 1": Base("old_quarter"), "generation 2": "old", "generation 3": "new"}
# Form C makes rows out of the predecessor's embeddings. On drawn images whole networks collapse by it, and out of zeros
# no row can be made for a next generation: there the chain is measured with form A alone.
CHAINED = ("independent", "BCT A", "BCT C")


class Knobs(MethodKnobs):
    """The page's own parameters: the distance, and the tables (such as "B1,B3") and methods of B1 to measure.

    weights: by method, of the compatibility term, where the profile's tuning found others than `upgrades.METHODS` has.
    """

    chapter: ClassVar[str] = "bct"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF
    all_methods: ClassVar[tuple[str, ...]] = ALL_METHODS
    distance: Literal["cosine", "euclidean"] = "cosine"
    weights: ByMethod = ()


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Claims for every seed, sweeps for the sweeps' seeds."""
    is_swept, wanted = seed in run.sweep_seeds, tables(run)
    old = Base("old")
    for method in of_seed(run, seed):
        yield from upgrade_cases(run, method, old, upgrade(run, method))
        yield from diagnosis_cases(run, method, old, upgrade(run, method))
    if "offset" in wanted:
        for method in of_seed(run, seed):
            yield from offset_cases(run, method, old, upgrade(run, method))
    if "draws" in wanted and is_swept:
        for draw, method in itertools.product(DRAWS, HEADLINE):
            drawn = upgrade_cases(run, method, old, upgrade(run, method), variant=f"draw={draw}")
            yield from under(drawn, {"draw": draw})
    if "head" in wanted and is_swept:
        yield from head_cases(run, seed)
    both = set(ON_SAMPLES) <= set(methods(run)) and (is_swept or not run.encoders)
    for method in ON_SAMPLES if both else ():
        samples = Base("old_samples")
        yield from upgrade_cases(run, method, samples, upgraded(method, samples), split=SAMPLE_INCREMENTAL)
        yield from diagnosis_cases(run, method, samples, upgraded(method, samples), split=SAMPLE_INCREMENTAL)
    if "B2" in wanted and is_swept:
        for (words, (old_role, new_role)), method in itertools.product(CHANGES.items(), ("independent", "BCT A")):
            new = upgraded(method, Base(old_role), new_role)
            yield from upgrade_cases(run, method, Base(old_role), new, variant=words)
        if run.encoders:
            for method in HEADLINE:
                same = upgrade_cases(run, method, old, upgraded(method), variant=SAME_ENCODER)
                yield from under(same, {"encoders.new": run.encoders.old})
    if "B3" in wanted and is_swept:
        for method in CHAINED if is_real(run) else HEADLINE:
            yield from chain_cases(run, method)
    if "B4" in wanted and is_swept:
        yield from sweep_cases(run, ("BCT A", "BCT C"), "old", "new", CLASS_INCREMENTAL)
    if "B5" in wanted and is_swept:
        yield from sweep_cases(run, ("BCT A",), "old_open", "new_open", OPEN_SET)
    for split in (CLASS_INCREMENTAL, OPEN_SET) if "B5" in wanted else (CLASS_INCREMENTAL,):
        yield case(Labels(), Labels(), chance, split=split, method="chance", distance=run.knobs.distance)


def of_seed(run: Settings, seed: int) -> tuple[str, ...]:
    """The methods that a seed measures: all where it is swept, else those that claims need most seeds of."""
    chosen = [method for method in methods(run) if method in METHODS or is_real(run)]
    few = HEADLINE if run.encoders else CLAIMED
    return tuple(method for method in chosen if seed in run.sweep_seeds or method in few)


def is_real(run: Settings) -> bool:
    """Whether models see real images, or real encoders' features; not drawn ones."""
    return bool(run.encoders) or run.dataset == "cifar100"


def upgrade(run: Settings, method: str, **options: Any) -> Trainable:
    """The successor by a method, with the weight that the profile's tuning found."""
    return upgraded(method, weight=None if method == "independent" else dict(run.knobs.weights).get(method), **options)


def offset_cases(
    run: Settings, method: str, old: Trainable, new: Trainable, *, split: str = CLASS_INCREMENTAL, variant: str = ""
) -> Iterator[Case]:
    """B1 without the common offset: the query shifted onto the gallery's mean, and both centred; also self-tests."""
    place = {"split": split, "method": method, "distance": run.knobs.distance}
    cross, own = {"query_model": "new", "gallery_model": "old"}, {"query_model": "new", "gallery_model": "new"}
    shifted, centred = (f"{variant};offset={each}".lstrip(";") for each in OFFSETS)
    yield case(Shifted(new, onto=old), Of(old), scores, popularity, flips, variant=shifted, **place, **cross)
    centre, old_centre = Shifted(new), Shifted(old)
    yield case(centre, old_centre, scores, popularity, flips, variant=centred, **place, **cross)
    yield case(centre, centre, scores, popularity, variant=centred, **place, **own)
    if method == "independent":
        before = {"query_model": "old", "gallery_model": "old"}
        yield case(old_centre, old_centre, scores, popularity, variant=centred, **place, **before)


def head_cases(run: Settings, seed: int) -> Iterator[Case]:
    """B1 and its rows without the offset, with the other head on both sides."""
    (other,) = set(HEADS) - {run.network.head}
    old, variant = Base("old"), f"head={other}"
    changes = {"network.head": other, "small_network.head": other}
    for method in of_seed(run, seed):
        new = upgrade(run, method)
        yield from under(upgrade_cases(run, method, old, new, variant=variant), changes)
        yield from under(offset_cases(run, method, old, new, variant=variant), changes)


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
        successor = upgraded(method, Base(old), new, weight)
        yield from upgrade_cases(run, method, Base(old), successor, split=split, x_name="weight", x=weight)
    if split == OPEN_SET and "offset" in tables(run):
        for method in HEADLINE:
            yield from offset_cases(run, method, Base(old), upgraded(method, Base(old), new), split=split)


def chain_cases(run: Settings, method: str) -> Iterator[Case]:
    """Table B3: every generation's queries on every one's gallery, each trained against its predecessor only."""
    models: dict[str, Trainable] = {}
    for name, role in CHAIN.items():
        models[name] = role if isinstance(role, Base) else upgraded(method, list(models.values())[-1], role)
    place = {"split": GENERATIONS, "method": method, "distance": run.knobs.distance}
    for (query, q), (gallery, g) in itertools.product(models.items(), repeat=2):
        names = {"query_model": query, "gallery_model": gallery}
        yield case(Of(q), Of(g), scores, **names, **place)
        if "offset" in tables(run) and q != g:
            yield case(Shifted(q, onto=g), Of(g), scores, variant="offset=shifted", **names, **place)


CHAPTER = Chapter("bct", Knobs, cases)
