"""What the gradients of a switchable network's widths did to one another: epoch by epoch, and tensor by tensor."""

import itertools

import numpy as np
import torch

from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.gradient_statistics import GradientStatistics
from compatlib.study.lab.seed import Seed

EPOCH, TENSOR = "epoch", "tensor"


@measure("gradients")
def gradients_by_epoch(seed: Seed, case: Case) -> Rows:
    """Norm, uncertainty and conflicts of every epoch, by width and by pair of widths."""
    statistics = _statistics(seed, case)
    names = [f"{float(name):g}" for name in statistics.names]
    pairs = list(itertools.combinations(range(len(names)), 2))
    for epoch in range(len(statistics.norm)):
        at = {"x_name": EPOCH, "x": float(epoch + 1)}
        for place, name in enumerate(names):
            for metric, values in (
                ("gradient norm", statistics.norm),
                ("uncertainty", statistics.uncertainty),
                ("hurt", statistics.hurt),
            ):
                yield at | {"query_model": name, "metric": metric, "value": float(values[epoch, place])}
        for first, second in pairs:
            pair = at | {"query_model": names[second], "gallery_model": names[first]}
            yield pair | {"metric": "cosine", "value": float(statistics.cosine[epoch, first, second])}
            yield pair | {"metric": "conflicts", "value": float(statistics.conflicts[epoch, first, second])}
        yield at | {"metric": "hurt any", "value": float(statistics.hurt_any[epoch])}
        yield at | {"metric": "conflicts", "value": _over_pairs(statistics.conflicts[epoch])}


@measure("gradients")
def gradients(seed: Seed, case: Case) -> Rows:
    """The same over the whole training, and the conflicts in every shared tensor."""
    statistics = _statistics(seed, case)
    for metric, values in (("hurt any", statistics.hurt_any), ("hurt", statistics.hurt)):
        yield {"metric": metric, "value": float(values.mean())}
    yield {"metric": "conflicts", "value": _over_pairs(statistics.conflicts.mean(dim=0))}


@measure("gradients")
def gradients_by_tensor(seed: Seed, case: Case) -> Rows:
    """The share of pairs of widths that conflict, tensor by tensor."""
    statistics = _statistics(seed, case)
    for place, tensor in enumerate(statistics.tensors):
        share = _over_pairs(statistics.tensor_conflicts[:, place].mean(dim=0))
        yield {"variant": tensor, "metric": "conflicts", "x_name": TENSOR, "x": float(place), "value": share}


def _statistics(seed: Seed, case: Case) -> GradientStatistics:
    return seed.made(case.query.what).parts["statistics"]


def _over_pairs(matrix: torch.Tensor) -> float:
    """Mean over the pairs of different objectives, (m, m) → number."""
    pairs = itertools.combinations(range(len(matrix)), 2)
    return float(np.mean([float(matrix[pair]) for pair in pairs]))
