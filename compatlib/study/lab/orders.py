"""Orders in which a transformed gallery is embedded again. Some need labels or new embeddings, which no user has."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from compatlib.methods.fct import fastfill_loss
from compatlib.study.lab.spaces import Mixed
from compatlib.study.lab.trainables import Base
from compatlib.training import stream

if TYPE_CHECKING:
    from compatlib.study.lab.seed import Seed

RANDOM, UNCERTAINTY, DISTANCE = "random", "uncertainty", "distance"
ASCENDING, IN_TURN, BY_CLASS, LOSS = (
    "uncertainty, ascending",
    "uncertainty, classes in turn",
    "class by class",
    "true loss",
)
ORDERS = (RANDOM, UNCERTAINTY, ASCENDING, IN_TURN, BY_CLASS, LOSS, DISTANCE)


def order_of(seed: "Seed", mixed: Mixed, split: str) -> np.ndarray:
    """(N,) the gallery's items, first item first.

    Raises:
        ValueError: an unknown order, or one by an uncertainty that the transformation does not state.
    """
    labels = seed.labels(split)
    random = torch.randperm(len(labels), generator=stream(seed.seed, "gallery", "order")).numpy()
    if mixed.order == RANDOM:
        return random
    if mixed.order == DISTANCE:
        missed = seed.vectors(mixed.new, split) - seed.vectors(mixed.old, split)
        return descending(np.linalg.norm(missed, axis=1))
    if mixed.order == BY_CLASS:
        classes = torch.randperm(int(labels.max()) + 1, generator=stream(seed.seed, "gallery", "classes")).numpy()
        return random[np.argsort(classes[labels[random]], kind="stable")]
    if mixed.order == LOSS:
        return descending(true_losses(seed, mixed, split))
    uncertain = descending((mixed.stated_by or mixed.old).log_variances(seed, split))
    if mixed.order == UNCERTAINTY:
        return uncertain
    if mixed.order == ASCENDING:
        return uncertain[::-1].copy()
    if mixed.order == IN_TURN:
        return uncertain[in_turn(labels[uncertain])]
    raise ValueError(f"unknown order {mixed.order!r}; choose one of {ORDERS}")


def descending(values: np.ndarray) -> np.ndarray:
    """(N,) places of the values, the highest first, of equal ones the first first."""
    return np.argsort(-values, kind="stable")


def in_turn(labels: np.ndarray) -> np.ndarray:
    """(N,) places: the first item of every class, then the second of every one…, in the order of the items."""
    place = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return np.argsort(place, kind="stable")


def true_losses(seed: "Seed", mixed: Mixed, split: str) -> np.ndarray:
    """ℓ of every item (N,), what FastFill's s is to state the logarithm of, under the new model's classifier."""
    classifier = seed.made(Base(mixed.old.transformation.new)).parts["classifier"]
    new, changed = seed.vectors(mixed.new, split), seed.vectors(mixed.old, split)
    return item_losses(new, changed, seed.labels(split), classifier)


def item_losses(new: np.ndarray, changed: np.ndarray, labels: np.ndarray, classifier: nn.Module) -> np.ndarray:
    """ℓ of every item (N,): twice FastFill's loss at s = 0."""
    sides = (torch.from_numpy(changed), torch.from_numpy(new), torch.from_numpy(labels))
    zero = torch.zeros(1)
    with torch.inference_mode():
        found = [
            2 * float(fastfill_loss(one[None], zero, target[None], label[None], classifier))
            for one, target, label in zip(*sides, strict=True)
        ]
    return np.array(found)
