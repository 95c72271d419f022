"""What the chapter *SFSC* measures: one training of several compatible sub-models, its halves and its baselines."""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLOSED, OPEN_SET
from compatlib.study.lab.measures import (
    chance,
    gradients,
    gradients_by_epoch,
    gradients_by_tensor,
    mean_scores,
    popularity,
    scores,
    size,
    training_seconds,
)
from compatlib.study.lab.spaces import Labels, Of
from compatlib.study.lab.trainables import Base, Narrow, Widths
from compatlib.study.lab.trainables.widths import (
    APART,
    BCT_S,
    INDEPENDENT,
    METHODS,
    SFSC,
    SPLITS,
    SWITCHABLE,
    WidthKnobs,
)
from compatlib.study.settings import MethodKnobs, Settings, methods, tables

# S1 is measured for every seed (of heads its headline alone), the others for the sweeps' seeds; S3 to S5 are drawn from
# what these measure.
TABLES = ("S1", "S2", "open")
TABLES_OF = {"large": ("S1",), "omniglot": ("S1", "open")}  # where the page names none
# Other readings of the projection: against the full model's gradient alone, or every tensor by itself.
READINGS = ("SFSC, against the full model", "CE + projection, tensor by tensor", "SFSC, tensor by tensor")
OF_TABLE = {
    "S1": (CLOSED, (*APART, "joint", "Asymmetric-S", BCT_S, "CE + projection", SFSC)),
    "S2": (CLOSED, ("BCT-S + uncertainty", *READINGS)),
    "open": (OPEN_SET, (INDEPENDENT, BCT_S, SFSC)),
}
HEADLINE = (BCT_S, SFSC)  # of every seed where heads are trained
WHOLE_MATRIX = (BCT_S, SFSC)  # of the others each width is tested on itself and on the full model's gallery
FULL = 1.0
OWN_GALLERIES, FULL_GALLERY, MEAN = "own", "full", "mean over widths"


class Knobs(MethodKnobs, WidthKnobs):
    """The page's own parameters: tables (such as "S1,open") and methods to measure, the distance, how is trained."""

    chapter: ClassVar[str] = "sfsc"
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF
    all_methods: ClassVar[tuple[str, ...]] = METHODS
    distance: Literal["cosine", "euclidean"] = "cosine"


def cases(run: Settings, seed: int) -> Iterator[Case]:
    """Every method of the run's tables, and chance on their splits."""
    planned = wanted(run, seed)
    for split, method in planned:
        yield from under(method_cases(run, method, split), values_of(run, split))
    for split in dict.fromkeys(split for split, _ in planned):
        yield case(Labels(), Labels(), chance, split=split, method="chance", distance=run.knobs.distance)


def method_cases(run: Settings, method: str, split: str) -> Iterator[Case]:
    """Scores and costs of a method's widths, and of one network what its gradients did."""
    yield from score_cases(run, method, split)
    yield from cost_cases(run, method, split)
    if method in SWITCHABLE:
        space = widths_of(run, method, split)[FULL]
        asked = (gradients, gradients_by_epoch, gradients_by_tensor)
        yield case(space, space, *asked, split=split, method=method)


def values_of(run: Settings, split: str) -> dict[str, float]:
    """Changes of a run on a split: the open-set one may be tuned by itself."""
    return {f"knobs.{name}": value for name, value in run.knobs.open_set if split == OPEN_SET}


def wanted(run: Settings, seed: int) -> list[tuple[str, str]]:
    """(split, method) of the tables that a seed has a part in, of the run's methods."""
    is_swept = seed in run.sweep_seeds
    own = [OF_TABLE[table] for table in tables(run) if table == TABLES[0] or is_swept]
    measured = [method for method in methods(run) if is_swept or not run.encoders or method in HEADLINE]
    found = [(split, method) for split, names in own for method in names if method in measured]
    return sorted(found, key=lambda each: (list(SPLITS).index(each[0]), METHODS.index(each[1])))


def widths_of(run: Settings, method: str, split: str) -> dict[float, Of]:
    """A method's sub-models by width; the full model of those trained apart is the base model."""
    if method not in APART:
        return {width: Of(Widths(method, split), width) for width in run.knobs.widths}
    narrow = {width: Of(Narrow(method, width, split)) for width in run.knobs.widths[:-1]}
    return {**narrow, FULL: Of(Base(SPLITS[split]))}


def score_cases(
    run: Settings, method: str, split: str, *, whole: tuple[str, ...] = WHOLE_MATRIX, **columns: object
) -> Iterator[Case]:
    """Tables S1 and S2: self-tests, cross-tests, and their means over widths; of the `whole` ones the whole matrix."""
    spaces = widths_of(run, method, split)
    place = {"split": split, "method": method, "distance": run.knobs.distance, **columns}
    for query, gallery in itertools.product(spaces, spaces):
        if method in whole or gallery in (query, FULL):
            names = {"query_model": f"{query:g}", "gallery_model": f"{gallery:g}"}
            yield case(spaces[query], spaces[gallery], scores, popularity, **names, **place)
    # The full model on itself is a self-test; whether it meets others is asked of the narrower ones.
    means = {
        OWN_GALLERIES: tuple((space, space) for space in spaces.values()),
        FULL_GALLERY: tuple((space, spaces[FULL]) for width, space in spaces.items() if width != FULL),
    }
    for gallery, pairs in means.items():
        yield Case(pairs, (mean_scores,), {"query_model": MEAN, "gallery_model": gallery, **place})


def cost_cases(run: Settings, method: str, split: str) -> Iterator[Case]:
    """Parameters and operations of every stand-alone sub-model; seconds of all trainings that the method needs."""
    spaces = widths_of(run, method, split)
    for width, space in spaces.items():
        yield case(space, space, size, split=split, method=method, query_model=f"{width:g}")
    pairs = tuple((space, space) for space in spaces.values())
    yield Case(pairs, (training_seconds,), {"split": split, "method": method})


CHAPTER = Chapter("sfsc", Knobs, cases)
