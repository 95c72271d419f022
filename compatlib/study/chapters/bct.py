"""Chapter *BCT*: upgrades with the influence loss and with its baselines, over the study's seeds → rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import field_validator
from torch.nn import functional as F

from compatlib.evaluation.compatibility import negative_flips, transfer_threshold
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models, rows, sidecars, upgrades
from compatlib.study.artifacts import Artifact
from compatlib.study.parallel import Task, train_all
from compatlib.study.progress import Work
from compatlib.study.scoring import Record, chance_rows, score_rows
from compatlib.study.seed_tests import OPEN_SET, SeedTests
from compatlib.study.settings import Knobs as BaseKnobs
from compatlib.study.settings import Settings
from compatlib.study.upgrades import METHODS, Source, Upgrade, canonical

CHAPTER = "bct"
TABLES = ("B1", "B2", "B3", "B4", "B5")  # B6 comes with B1, which is always measured
# What a profile measures where the page names no tables: the sweeps of `study` stand on `laptop`, and the chain on
# `study` alone, for on `laptop` the second generation collapses with some seeds, so that no rows can be made of it.
TABLES_OF = {"study": ("B1", "B3"), "laptop": ("B1", "B2", "B4", "B5")}
# Methods that a claim speaks of are trained for every seed, the others for the sweeps' seeds.
CLAIMED = ("independent", "L2", "triplet, raw", "contrastive", "BCT A", "BCT B", "BCT C")
# What else may differ between old and new: words for a row, old role, new role.
CHANGES = {
    "a wider and deeper network": ("old_small", "new_deep"),
    "a longer embedding": ("old_narrow", "new"),
    "a shorter embedding": ("old", "new_narrow"),
    "softmax to cosine": ("old", "new_cosine"),
    "softmax to ArcFace": ("old", "new_arcface"),
    "classes only, both cosine": ("old_cosine", "new_cosine"),
    "network, embedding and loss": ("old_small_narrow", "new_deep_arcface"),
}
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
GENERATIONS = ("generation 1", "generation 2", "generation 3")
FAR = 1e-3
STUDY = ("compatlib.study.upgrades", "compatlib.study.seed_tests", "compatlib.study.scoring")
CODE = ("compatlib.embedding", "compatlib.evaluation.compatibility", "compatlib.evaluation.chance")
TRAINED_BY = (*models.TRAINING_MODULES, "compatlib.methods.bct", "compatlib.methods.bct_baselines")


class Knobs(BaseKnobs):
    """The page's own parameters: the distance, and the tables to measure, such as "B1,B3"; by default the profile's."""

    distance: Literal["cosine", "euclidean"] = "cosine"
    tables: str = ""

    @field_validator("tables")
    @classmethod
    def _known(cls, tables: str) -> str:
        unknown = [name for name in tables.split(",") if name.strip() not in ("", *TABLES)]
        if unknown:
            raise ValueError(f"unknown table {unknown}; choose from {', '.join(TABLES)}")
        return tables


@dataclass(frozen=True)
class Case:
    """An upgrade to measure, and the columns under which its rows are found."""

    upgrade: Upgrade
    split: str = "class-incremental"
    variant: str = ""
    x: float | None = None


@dataclass(frozen=True)
class Measured:
    """What the chapter computed: rows of all seeds, the base models by "role, seed s", digests of the images."""

    rows: rows.Rows
    base_models: dict[str, Artifact]
    data: dict[str, str]


def measure(run: Settings) -> Measured:
    """Train or load every model of every seed, and test every upgrade of the run's tables."""
    plans = {seed: plan(run, seed) for seed in run.seeds}
    train(run, {seed: [case.upgrade for case in cases] + chains(run, seed) for seed, cases in plans.items()})
    records, sidecar, base_models = [], {}, {}
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
        base_models |= {
            f"{source}, seed {seed}": model.artifact
            for source, model in tests.models.items()
            if isinstance(source, str)
        }
    return Measured(rows.Rows(rows.table(records), sidecar), base_models, sidecars.data_digests(run))


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    return sidecars.version_of(run, (__name__, *STUDY), measured_by=CODE, trained_by=TRAINED_BY)


def tables(run: Settings) -> tuple[str, ...]:
    """The tables that a run measures."""
    chosen = tuple(name.strip() for name in run.knobs.tables.split(",") if name.strip())
    chosen = chosen or TABLES_OF.get(run.profile, TABLES)
    return tuple(name for name in TABLES if name == "B1" or name in chosen)


def plan(run: Settings, seed: int) -> list[Case]:
    """What is measured for a seed: claims for every one, sweeps for the sweeps' seeds."""
    is_swept, wanted, cases = seed in run.sweep_seeds, tables(run), []
    cases += [Case(Upgrade(method)) for method in METHODS if is_swept or method in CLAIMED]
    cases += [Case(Upgrade(method, "old_samples"), "sample-incremental") for method in ("independent", "BCT C")]
    if "B2" in wanted and is_swept:
        cases += [
            Case(Upgrade(method, old, new), variant=change)
            for change, (old, new) in CHANGES.items()
            for method in ("independent", "BCT C")
        ]
    for table, split, old, new in (
        ("B4", "class-incremental", "old", "new"),
        ("B5", OPEN_SET, "old_open", "new_open"),
    ):
        if table in wanted and is_swept:
            cases += [Case(Upgrade("independent", old, new), split, x=0.0)]
            cases += [Case(Upgrade("BCT C", old, new, weight), split, x=weight) for weight in WEIGHTS]
    return cases


def chains(run: Settings, seed: int) -> list[Upgrade]:
    """The last generations of table B3, of models trained apart and of each against its predecessor only."""
    if "B3" not in tables(run):
        return []
    return [Upgrade(method, Upgrade(method, "old_quarter", "old"), "new") for method in ("independent", "BCT C")]


def train(run: Settings, wanted: dict[int, list[Upgrade]]) -> None:
    """Train or find, side by side, every model that these upgrades of these seeds need."""
    tasks = {}
    for seed, sources in wanted.items():
        for source in _with_ancestors(sources):
            name = f"{upgrades.name_of(source)}, seed {seed}"
            call = partial(_train, run, source, seed)
            tasks[name] = Task(name, call, upgrades.work(run, source), upgrades.depth(source))
    train_all(list(tasks.values()), Work({name: task.work for name, task in tasks.items()}))


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


def case_rows(tests: SeedTests, case: Case) -> Iterator[dict[str, Any]]:
    """New/old, new/new, what flips, and a deployed threshold; of models trained apart old/old too."""
    upgrade, split = case.upgrade, case.split
    place = {"split": split, "variant": case.variant, "method": upgrade.method}
    place |= {} if case.x is None else {"x_name": "weight", "x": case.x}
    record: Record = partial(tests.record, **place)
    old, masks = upgrade.old, tests.masks(split)
    pairs = {"new/old": tests.test(upgrade, old, split), "new/new": tests.test(upgrade, upgrade, split)}
    own = tests.test(old, old, split)
    if upgrade.method == "independent":
        pairs["old/old"] = own
    for pair, test in pairs.items():
        query, gallery = pair.split("/")
        models_of = {"query_model": query, "gallery_model": gallery}
        yield from score_rows(partial(record, **models_of), test, masks)
        yield record(**models_of, subset="all", metric="top_share", value=test.collapse.top_share)
    for subset, mask in masks.items():
        flips = negative_flips(own.subset(mask), pairs["new/old"].subset(mask))
        cross = {"query_model": "new", "gallery_model": "old", "subset": subset}
        yield record(**cross, metric="negative_flips", value=flips)
    if case.x is None and not case.variant:
        yield from _threshold_rows(tests, case, record)
        yield from _class_mean_rows(tests, case, record)
        if upgrade.method in ("BCT B", "BCT C"):
            yield from _classifier_rows(tests, case, record)


def _threshold_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """Table B6: a threshold fixed under old/old, then applied to new/old."""
    labels = tests.images(case.split).labels
    old, new = (tests.embeddings(source, case.split) for source in (case.upgrade.old, case.upgrade))
    distance = tests.run.knobs.distance
    transfer = transfer_threshold(old, old, new, labels, labels, far=FAR, distance=distance, exclude_self=True)
    cross = {"query_model": "new", "gallery_model": "old", "subset": "all"}
    for name, rates in (("fixed", transfer.fixed), ("transferred", transfer.transferred)):
        yield record(**cross, metric=f"{name} FAR", value=rates.false_accept_rate)
        yield record(**cross, metric=f"{name} TAR", value=rates.true_accept_rate)


def _class_mean_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """Old and new queries against the mean old training embedding of every class: a gallery without its scatter."""
    means, labels = tests.class_means(case.upgrade.old), tests.images(case.split).labels
    queries = {"new": case.upgrade} | ({"old": case.upgrade.old} if case.upgrade.method == "independent" else {})
    for name, source in queries.items():
        query, classes = tests.embeddings(source, case.split), np.arange(len(means))
        test = evaluate(query, means, labels, classes, distance=tests.run.knobs.distance)
        models_of = {"query_model": name, "gallery_model": "old means"}
        for subset, mask in tests.masks(case.split).items():
            yield record(**models_of, subset=subset, metric="cmc@1", value=test.subset(mask).cmc[1])


def _classifier_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """How long the old classifier's real and made rows are, and how alike: mean cosine of different rows."""
    old, training = tests.model(case.upgrade.old), models.training_images(tests.run)
    weight = upgrades.extended(old, training, normalize=case.upgrade.method == "BCT C").weight.detach()
    known = len(old.classifier.weight)
    parts = {"real rows": weight[:known], "made rows": weight[known:]}
    for name, part in parts.items():
        if len(part):
            yield record(query_model=name, gallery_model=name, metric="norm", value=part.norm(dim=1).mean().item())
        for other, second in parts.items():
            cosines = F.normalize(part) @ F.normalize(second).T
            different = cosines[~torch.eye(len(part), dtype=torch.bool)] if name == other else cosines.flatten()
            if len(different):
                yield record(query_model=name, gallery_model=other, metric="cosine", value=different.mean().item())


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
