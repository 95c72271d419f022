"""Chapter *BCT*: upgrades with the influence loss and with its baselines, over the study's seeds → rows."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from compatlib.study import models, rows, sidecars, upgrades
from compatlib.study.measured import Measured
from compatlib.study.parallel import Task, train_all
from compatlib.study.scoring import chance_rows, score_rows
from compatlib.study.seed_tests import OPEN_SET, SeedTests
from compatlib.study.settings import Settings, TableKnobs, tables
from compatlib.study.upgrade_rows import Case, case_rows
from compatlib.study.upgrades import CHANGES, METHODS, Source, Upgrade, canonical

CHAPTER = "bct"
TABLES = ("B1", "B2", "B3", "B4", "B5")  # B6 comes with B1, which is always measured
TABLES_OF = {"study": ("B1", "B3")}  # where the page names none; the sweeps of `study` stand on `laptop`
# Methods that a claim speaks of are trained for every seed, the others for the sweeps' seeds.
CLAIMED = ("independent", "L2", "triplet, raw", "contrastive", "BCT A", "BCT B", "BCT C")
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
GENERATIONS = ("generation 1", "generation 2", "generation 3")
# Form C makes rows out of the predecessor's embeddings. On drawn images it collapses, and out of zeros no row can be
# made for a next generation: there the chain is measured with form A alone.
CHAINED = {"cifar100": ("independent", "BCT A", "BCT C")}
STUDY = (
    "compatlib.study.scoring",
    "compatlib.study.seed_tests",
    "compatlib.study.upgrade_rows",
    "compatlib.study.upgrades",
)
CODE = (
    "compatlib.data.splits",
    "compatlib.embedding",
    "compatlib.evaluation.chance",
    "compatlib.evaluation.compatibility",
)
TRAINED_BY = (*models.TRAINING_MODULES, "compatlib.methods.bct", "compatlib.methods.bct_baselines")


class Knobs(TableKnobs):
    """The page's own parameters: the distance, and the tables to measure, such as "B1,B3"; by default the profile's."""

    all_tables: ClassVar[tuple[str, ...]] = TABLES
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = TABLES_OF
    distance: Literal["cosine", "euclidean"] = "cosine"


def measure(run: Settings) -> Measured:
    """Train or load every model of every seed, and test every upgrade of the run's tables."""
    plans = {seed: plan(run, seed) for seed in run.seeds}
    train(run, {seed: [case.upgrade for case in cases] + chains(run, seed) for seed, cases in plans.items()})
    records, sidecar, found = [], {}, {}
    for seed, cases in plans.items():
        begun, tests = time.monotonic(), SeedTests(run, seed, CHAPTER)
        for case in cases:
            records += case_rows(tests, case)
        for chain in chains(run, seed):
            records += chain_rows(tests, chain)
        records += _chance(tests)
        made = {upgrades.name_of(source): model.artifact for source, model in tests.models.items()}
        group = f"{run.profile}/{run.dataset}/{seed}"
        sidecar[group] = sidecars.description(run, version(run), made, time.monotonic() - begun)
        found |= {f"{name}, seed {seed}": artifact for name, artifact in made.items()}
    return Measured(rows.Rows(rows.table(records), sidecar), found, sidecars.data_digests(run))


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    modules = (__name__, "compatlib.study.weights", *STUDY)
    return sidecars.version_of(run, modules, measured_by=CODE, trained_by=TRAINED_BY)


def plan(run: Settings, seed: int) -> list[Case]:
    """What is measured for a seed: claims for every one, sweeps for the sweeps' seeds."""
    is_swept, wanted, cases = seed in run.sweep_seeds, tables(run), []
    cases += [Case(Upgrade(method)) for method in METHODS if is_swept or method in CLAIMED]
    cases += [Case(Upgrade(method, "old_samples"), "sample-incremental") for method in ("independent", "BCT C")]
    if "B2" in wanted and is_swept:
        cases += [
            Case(Upgrade(method, old, new), variant=change)
            for change, (old, new) in CHANGES.items()
            for method in ("independent", "BCT A")
        ]
    for table, split, old, new, forms in (
        ("B4", "class-incremental", "old", "new", ("BCT A", "BCT C")),
        ("B5", OPEN_SET, "old_open", "new_open", ("BCT A",)),
    ):
        if table in wanted and is_swept:
            cases += [Case(Upgrade("independent", old, new), split, x=0.0)]
            cases += [Case(Upgrade(form, old, new, weight), split, x=weight) for form in forms for weight in WEIGHTS]
    return cases


def chains(run: Settings, seed: int) -> list[Upgrade]:
    """The last generations of table B3, of models trained apart and of each against its predecessor only."""
    if "B3" not in tables(run) or seed not in run.sweep_seeds:
        return []
    methods = CHAINED.get(run.dataset, ("independent", "BCT A"))
    return [Upgrade(method, Upgrade(method, "old_quarter", "old"), "new") for method in methods]


def train(run: Settings, wanted: dict[int, list[Upgrade]]) -> None:
    """Train or find, side by side, every model that these upgrades of these seeds need."""
    tasks = {}
    for seed, sources in wanted.items():
        for source in _with_ancestors(sources):
            name = f"{upgrades.name_of(source)}, seed {seed}"
            call = partial(_train, run, source, seed)
            tasks[name] = Task(name, call, upgrades.work(run, source), upgrades.depth(source))
    train_all(list(tasks.values()))


def _with_ancestors(sources: list[Source]) -> set[Source]:
    found, waiting = set(), list(sources)
    while waiting:
        source = waiting.pop()
        found.add(canonical(source))
        if isinstance(source, Upgrade):
            waiting.append(source.old)
    return found


def _train(run: Settings, source: Source, seed: int, report: models.Report) -> bool:
    return upgrades.model_of(run, source, seed, report=report)[1]


def chain_rows(tests: SeedTests, last: Upgrade) -> Iterator[dict[str, Any]]:
    """Every generation's queries against every generation's gallery."""
    generations = dict(zip(GENERATIONS, (last.old.old, last.old, last), strict=True))
    for query, query_source in generations.items():
        for gallery, gallery_source in generations.items():
            test = tests.test(query_source, gallery_source, "three generations")
            models_of = {"query_model": query, "gallery_model": gallery, "method": last.method}
            record = partial(tests.record, split="three generations", **models_of)
            yield from score_rows(record, test, {"all": np.ones(len(test.first_rank), bool)})


def _chance(tests: SeedTests) -> Iterator[dict[str, Any]]:
    for split in ("class-incremental", OPEN_SET) if "B5" in tables(tests.run) else ("class-incremental",):
        labels = tests.images(split).labels
        yield from chance_rows(partial(tests.record, split=split), labels, tests.masks(split))
