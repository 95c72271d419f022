"""What the vectors themselves tell: collapse, and how near a new embedding lies to the old one."""

import torch
from torch.nn import functional as F

from compatlib.methods.common import resized
from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.seed import Seed


@measure("collapse")
def collapse(seed: Seed, case: Case) -> Rows:
    """Shares of coordinates that are 0 for every test image, and of test images whose embedding is 0."""
    is_zero = seed.vectors(case.query, case.split) == 0
    yield {"subset": "all", "metric": "dead_coordinates", "value": is_zero.all(axis=0).mean()}
    yield {"subset": "all", "metric": "zero_vectors", "value": is_zero.all(axis=1).mean()}


@measure("likeness")
def likeness(seed: Seed, case: Case) -> Rows:
    """Mean cosine of the query's and the gallery's embedding of the same image, on every subset."""
    new, old = (torch.from_numpy(seed.vectors(space, case.split)) for space in (case.query, case.gallery))
    cosines = F.cosine_similarity(resized(new, old.shape[1]), old).numpy()
    for subset, mask in seed.masks(case.split).items():
        yield {"subset": subset, "metric": "cosine", "value": cosines[mask].mean()}
