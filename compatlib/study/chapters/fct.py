"""Chapter *FCT*: galleries transformed to the new model's space, and backfilled in FastFill's order → rows."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from compatlib.study import models, rows, sidecars, transformations, upgrades
from compatlib.study.artifacts import Artifact
from compatlib.study.measured import Measured
from compatlib.study.parallel import Task, train_all
from compatlib.study.scoring import chance_rows
from compatlib.study.settings import Settings, TableKnobs, tables
from compatlib.study.transformation_rows import (
    DISTANCES,
    anew_rows,
    chain_rows,
    change_rows,
    cost_rows,
    curve_rows,
    main_rows,
    side_rows,
)
from compatlib.study.transformation_tests import TransformationTests
from compatlib.study.transformations import KINDS, Side, TransformationKnobs, Transformed, own_side
from compatlib.study.upgrades import CHANGES as UPGRADE_CHANGES
from compatlib.study.upgrades import Upgrade

CHAPTER = "fct"
# "views" is F1's transformation fitted on images embedded anew at every step, for one seed; "sizes" are lines of F2.
TABLES = ("F1", "views", "F2", "sizes", "F3", "F4", "F5", "F6")
TABLES_OF = {"study": ("F1", "views", "F2", "F5", "F6")}  # where the page names none; the others stand on `laptop`
VIEWS_SEED = 0
SIZES = (0.25, 0.5, 2.0)  # of side-information besides its own, in sizes of the new embedding
CHAIN = ("old_quarter", "old", "new")
CHANGES = {
    **{words: roles for words, roles in UPGRADE_CHANGES.items() if words != "classes only, both cosine"},
    "half of the images, then all": ("old_samples", "new"),
}
STUDY = (
    "compatlib.study.scoring",
    "compatlib.study.transformation_rows",
    "compatlib.study.transformation_tests",
    "compatlib.study.transformations",
    "compatlib.study.upgrades",
)
CODE = (
    "compatlib.data.splits",
    "compatlib.embedding",
    "compatlib.evaluation.chance",
    "compatlib.evaluation.compatibility",
    "compatlib.evaluation.search",
    "compatlib.gallery",
)
TRAINED_BY = (*transformations.SIDE_MODULES, *transformations.TRANSFORMATION_MODULES, "compatlib.methods.bct")


What = Side | Transformed | Upgrade | str


class Knobs(TableKnobs, TransformationKnobs):
    """The page's own parameters: the tables to measure, such as "F1,F5" (by default the profile's), and the recipes."""

    chapter: ClassVar[str] = CHAPTER
    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF


@dataclass(frozen=True)
class MeasuredTransformations(Measured):
    """What the chapter computed; first: the first seed's models and test embeddings, for pictures."""

    first: TransformationTests

    @property
    def to_publish(self) -> dict[str, Artifact]:
        """All that is no transformation: those are large, and fitted in minutes."""
        return {name: artifact for name, artifact in self.models.items() if not name.startswith(("fct ", "fastfill "))}


def measure(run: Settings) -> MeasuredTransformations:
    """Train or load every model of every seed, and measure the run's tables."""
    train(run)
    records, sidecar, found, first = [], {}, {}, None
    for seed in run.seeds:
        begun, tests = time.monotonic(), TransformationTests(run, seed, CHAPTER)
        records += _records(tests)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = sidecars.description(
            run, version(run), tests.artifacts, time.monotonic() - begun
        )
        found |= {f"{name}, seed {seed}": artifact for name, artifact in tests.artifacts.items()}
        first = first or tests
    return MeasuredTransformations(rows.Rows(rows.table(records), sidecar), found, sidecars.data_digests(run), first)


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, "compatlib.study.weights", *STUDY)
    return sidecars.version_of(run, modules, measured_by=CODE, trained_by=TRAINED_BY)


def sides(run: Settings) -> list[Side | None]:
    """What table F2 compares: none, the chapter's own, other kinds ("F2" itself) and other sizes ("sizes")."""
    wanted, own = tables(run), own_side(run)
    kinds = [Side(kind, own.dim) for kind in KINDS if kind != own.kind] if "F2" in wanted else []
    sizes = [Side(own.kind, max(1, round(size * own.dim))) for size in SIZES] if "sizes" in wanted else []
    return [None, own, *kinds, *sizes] if kinds or sizes else []


def changes(run: Settings) -> dict[str, tuple[str, str, Side]]:
    """What table F3 compares: old role, new role, and the side-information beside the old model."""
    return {words: (old, new, own_side(run, old)) for words, (old, new) in CHANGES.items()}


def plan(run: Settings, seed: int) -> list[What]:
    """Every model that a seed needs."""
    is_swept, wanted, side = seed in run.sweep_seeds, tables(run), own_side(run)
    needed: list[What] = ["old", "new", Upgrade("BCT A"), Transformed(), Transformed(side)]
    if "views" in wanted and seed == VIEWS_SEED:
        needed += [Transformed(side, source="images")]
    if "F5" in wanted:
        needed += [Transformed(each, objective="fastfill") for each in (None, side)]
    if is_swept:
        needed += [Transformed(each) for each in sides(run)]
    if "F3" in wanted and is_swept:
        for old, new, beside in changes(run).values():
            needed += [Transformed(None, old, new), Transformed(beside, old, new)]
    if "F4" in wanted and is_swept:
        first, second, third = CHAIN
        beside = own_side(run, first)
        needed += [Transformed(beside, *pair) for pair in ((first, second), (second, third), (first, third))]
    return needed


def train(run: Settings) -> None:
    """Train or find, side by side, every model of every seed: those of images first, transformations between them."""
    train_all([task for seed in run.seeds for task in tasks(run, seed, plan(run, seed))])


def tasks(run: Settings, seed: int, wanted: Iterable[What], words: str = "") -> list[Task]:
    """What is to be trained for these, with all that they are made from; `words` are added to the names."""
    needed = dict.fromkeys(each for what in wanted for each in _with_parents(what))
    return [
        Task(f"{_name_of(each)}, seed {seed}{words}", partial(_train, run, each, seed), _work(run, each), _stage(each))
        for each in needed
    ]


def _with_parents(what: What) -> list[What]:
    if isinstance(what, Transformed):
        return [what.old, what.new, *([what.side] if what.side else []), what]
    return [what.old, what] if isinstance(what, Upgrade) else [what]


def _stage(what: What) -> int:
    return int(isinstance(what, Transformed | Upgrade))


def _name_of(what: What) -> str:
    return transformations.name_of(what) if isinstance(what, Side | Transformed) else upgrades.name_of(what)


def _work(run: Settings, what: What) -> float:
    return transformations.work(run, what) if isinstance(what, Side | Transformed) else upgrades.work(run, what)


def _train(run: Settings, what: What, seed: int, report: models.Report) -> bool:
    if isinstance(what, Side):
        return transformations.side_model(run, what, seed, report=report)[1]
    if isinstance(what, Transformed):
        return transformations.transformation(run, what, seed, report=report)[1]
    return upgrades.model_of(run, what, seed, report=report)[1]


def _records(tests: TransformationTests) -> Iterator[dict[str, Any]]:
    run, wanted, side = tests.run, tables(tests.run), own_side(tests.run)
    is_swept = tests.seed in run.sweep_seeds
    yield from main_rows(tests, side)
    if "views" in wanted and tests.seed == VIEWS_SEED:
        yield from anew_rows(tests, side)
    if "F5" in wanted:
        for each in (None, side):
            yield from curve_rows(tests, each)
    if is_swept:
        yield from side_rows(tests, sides(run))
        if "F3" in wanted:
            yield from change_rows(tests, changes(run))
        if "F4" in wanted:
            yield from chain_rows(tests, CHAIN, own_side(run, CHAIN[0]))
        if "F6" in wanted:
            yield from cost_rows(tests, side)
    for distance in DISTANCES:
        record = partial(tests.record, split="class-incremental", distance=distance)
        yield from chance_rows(record, models.test_images(run).labels, tests.masks())
