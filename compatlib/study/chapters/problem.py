"""Chapter *the problem*: models trained apart, each against each, over the study's seeds → rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from compatlib.embedding import embed
from compatlib.evaluation.compatibility import cross_test_matrix, negative_flips
from compatlib.study import models, rows, sidecars
from compatlib.study.artifacts import Artifact
from compatlib.study.parallel import Task, train_all
from compatlib.study.progress import Work
from compatlib.study.scoring import chance_rows, known_classes, score_rows, subsets
from compatlib.study.settings import Knobs as BaseKnobs
from compatlib.study.settings import Settings

CHAPTER = "problem"
ROLES = ("old", "old_samples", "old_shared", "small", "twin", "new")
_CODE = (
    "compatlib.data.splits",
    "compatlib.embedding",
    "compatlib.evaluation.chance",
    "compatlib.evaluation.compatibility",
)


class Knobs(BaseKnobs):
    """The page's own parameters: the distance, and how many queries are shown with their galleries."""

    distance: Literal["cosine", "euclidean"] = "cosine"
    examples: int = Field(4, ge=1, le=20)


@dataclass(frozen=True)
class Problem:
    """What the chapter computed.

    rows: of all seeds. embeddings: the first seed's test embeddings (N, d) by role, for pictures. base_models: by
    "role, seed s". data: digests of the images.
    """

    rows: rows.Rows
    embeddings: dict[str, np.ndarray]
    base_models: dict[str, Artifact]
    data: dict[str, str]

    @property
    def to_publish(self) -> dict[str, Artifact]:
        """The base models, from which every chapter and every reader starts."""
        return self.base_models


def measure(run: Settings) -> Problem:
    """Train or load every base model of every seed, embed the test images, and test each model against each."""
    tasks = [
        Task(f"{role}, seed {seed}", partial(_train, run, role, seed), models.work(run, role))
        for seed in run.seeds
        for role in ROLES
    ]
    train_all(tasks, Work({task.name: task.work for task in tasks}))
    records, sidecar, first, base_models = [], {}, {}, {}
    for seed in run.seeds:
        begun = time.monotonic()
        trained = {role: models.base_model(run, role, seed)[0] for role in ROLES}
        embeddings, speed = _embedded(run, trained)
        records += _records(run, seed, embeddings, speed)
        made = {role: model.artifact for role, model in trained.items()}
        about = sidecars.description(run, version(run), made, time.monotonic() - begun)
        sidecar[f"{run.profile}/{run.dataset}/{seed}"] = about
        base_models |= {f"{role}, seed {seed}": artifact for role, artifact in made.items()}
        first = first or embeddings
    return Problem(rows.Rows(rows.table(records), sidecar), first, base_models, sidecars.data_digests(run))


def version(run: Settings) -> dict[str, Any]:
    """Settings and code that decide this run's rows, besides seed and data."""
    return sidecars.version_of(run, (__name__, "compatlib.study.scoring"), measured_by=_CODE)


def _train(run: Settings, role: str, seed: int, report: models.Report) -> bool:
    return models.base_model(run, role, seed, report=report)[1]


def _embedded(run: Settings, trained: dict[str, models.Model]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Test embeddings (N, d) by role, and how many images a second each model embedded."""
    test, embeddings, speed = models.test_images(run), {}, {}
    for role, model in trained.items():
        begun = time.monotonic()
        embeddings[role] = embed(model.backbone, test).numpy()
        speed[role] = len(test) / (time.monotonic() - begun)
    return embeddings, speed


def _records(
    run: Settings, seed: int, embeddings: dict[str, np.ndarray], speed: dict[str, float]
) -> Iterator[dict[str, Any]]:
    labels = models.test_images(run).labels
    base = {"profile": run.profile, "dataset": run.dataset, "split": "class-incremental", "chapter": CHAPTER}
    record = partial(dict, base, seed=seed, distance=run.knobs.distance, method="independent")
    masks = subsets(labels, known_classes(run))
    pairs = {role: (each, each) for role, each in embeddings.items()}
    tests = cross_test_matrix(pairs, labels, labels, exclude_self=True, distance=run.knobs.distance).retrievals
    for (query, gallery), test in tests.items():
        pair = {"query_model": query, "gallery_model": gallery}
        yield from score_rows(partial(record, **pair), test, masks)
        yield record(**pair, subset="all", metric="top_share", value=test.collapse.top_share)
        if query != gallery:
            for subset, mask in masks.items():
                flips = negative_flips(tests[gallery, gallery].subset(mask), test.subset(mask))
                yield record(**pair, subset=subset, metric="negative_flips", value=flips)
    yield from chance_rows(record, labels, masks)
    for role, images_per_second in speed.items():
        yield record(query_model=role, gallery_model=role, metric="images_per_second", value=images_per_second)
