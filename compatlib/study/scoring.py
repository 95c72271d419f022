"""From embeddings to rows: what every chapter measures, under the names that rows use."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from compatlib.evaluation.chance import Chance, chance
from compatlib.evaluation.retrieval import Retrieval
from compatlib.study import models
from compatlib.study.settings import Settings

Record = Callable[..., dict[str, Any]]


def known_classes(run: Settings) -> int:
    """Classes that the old model of the class-incremental split knew: the first half."""
    return int(models.ROLES["old"].share(run).labels.max()) + 1


def subsets(labels: Tensor, known: int) -> dict[str, np.ndarray]:
    """Masks over the queries: all, of classes that the old model knew, and of classes that it did not."""
    values = labels.numpy()
    return {"all": np.ones(len(values), bool), "known": values < known, "unknown": values >= known}


def named(scores: Retrieval | Chance) -> dict[str, float]:
    """Scores under the names that rows and the papers' values use: cmc@1, cmc@5…, map."""
    return {f"cmc@{rank}": share for rank, share in scores.cmc.items()} | {"map": scores.mean_average_precision}


def score_rows(record: Record, test: Retrieval, masks: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """One test's scores on every subset of its queries, by `record(subset=, metric=, value=)`."""
    for subset, mask in masks.items():
        for metric, value in named(test.subset(mask)).items():
            yield record(subset=subset, metric=metric, value=value)


def chance_rows(record: Record, labels: Tensor, masks: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """What a random ranking scores on every subset, where the query set is the gallery."""
    for subset, mask in masks.items():
        # A query with a label of its own has no correct item, so that it is left out of the mean.
        queries = np.where(mask, labels.numpy(), -1)
        for metric, value in named(chance(queries, labels, exclude_self=True)).items():
            yield record(method="chance", subset=subset, metric=metric, value=value)
