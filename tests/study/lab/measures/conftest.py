"""Spaces of drawn vectors, so that a measure is asked without any training."""

from dataclasses import dataclass

import numpy as np
import pytest

from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Space


@dataclass(frozen=True)
class _Drawn(Space):
    """Small whole numbers by `number`, up to `spread` from the items' classes; the first `dead` coordinates 0."""

    number: int
    dim: int = 6
    towards: float = 1.0
    spread: int = 3
    dead: int = 0

    def vectors(self, seed, split):
        labels = seed.labels(split)
        random = np.random.default_rng(self.number)
        centres = np.random.default_rng(1000).integers(-4, 5, (10, 32))[labels, : self.dim]
        found = random.integers(-self.spread, self.spread + 1, (len(labels), self.dim)) + self.towards * centres
        found[:, : self.dead] = 0
        return found.astype(np.float32)


@pytest.fixture(scope="session")
def drawn() -> type[Space]:
    """The class of such spaces: `drawn(1, dim=4)`."""
    return _Drawn


@pytest.fixture(scope="module")
def seed(tiny_run) -> Seed:
    """Forty test images of ten classes, of which the old model knew five."""
    return Seed(tiny_run(), 0)


@pytest.fixture(scope="module")
def labels(seed) -> np.ndarray:
    """Of the test images."""
    return seed.labels(CLASS_INCREMENTAL)


@pytest.fixture(scope="module")
def masks(labels) -> dict[str, np.ndarray]:
    """Subsets of the queries, made here again."""
    return {"all": labels >= 0, "known": labels < 5, "unknown": labels >= 5}
