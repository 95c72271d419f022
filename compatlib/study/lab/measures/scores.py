"""Retrieval scores, and what else is counted over queries."""

import numpy as np

from compatlib.evaluation import chance as levels
from compatlib.evaluation.compatibility import negative_flips, transfer_threshold
from compatlib.evaluation.retrieval import Retrieval
from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.seed import Seed

FAR = 1e-3


def named(found: Retrieval | levels.Chance) -> dict[str, float]:
    """Scores under the names that rows and the papers' values use: cmc@1, cmc@5…, map."""
    return {f"cmc@{rank}": share for rank, share in found.cmc.items()} | {"map": found.mean_average_precision}


@measure("retrieval")
def scores(seed: Seed, case: Case) -> Rows:
    """Rank 1, rank 5 and mAP on every subset of the queries."""
    test = seed.test(case.query, case.gallery, case.split, case.distance)
    for subset, mask in seed.masks(case.split).items():
        for metric, value in named(test.subset(mask)).items():
            yield {"subset": subset, "metric": metric, "value": value}


@measure("retrieval")
def mean_scores(seed: Seed, case: Case) -> Rows:
    """The scores' means over the case's pairs, on all queries."""
    found = [named(seed.test(*pair, case.split, case.distance)) for pair in case.pairs]
    for metric in found[0]:
        yield {"subset": "all", "metric": metric, "value": float(np.mean([each[metric] for each in found]))}


@measure("retrieval")
def rank_1(seed: Seed, case: Case) -> Rows:
    """Rank 1 alone, on every subset of the queries."""
    test = seed.test(case.query, case.gallery, case.split, case.distance)
    for subset, mask in seed.masks(case.split).items():
        yield {"subset": subset, "metric": "cmc@1", "value": test.subset(mask).cmc[1]}


@measure("retrieval")
def popularity(seed: Seed, case: Case) -> Rows:
    """Share of the queries whose nearest item is the most popular one."""
    test = seed.test(case.query, case.gallery, case.split, case.distance)
    yield {"subset": "all", "metric": "top_share", "value": test.collapse.top_share}


@measure("flips")
def flips(seed: Seed, case: Case) -> Rows:
    """Negative flips: queries right at rank 1 before the upgrade and wrong after it, on every subset."""
    before = case.before or case.gallery
    old = seed.test(before, before, case.split, case.distance)
    test = seed.test(case.query, case.gallery, case.split, case.distance)
    for subset, mask in seed.masks(case.split).items():
        value = negative_flips(old.subset(mask), test.subset(mask))
        yield {"subset": subset, "metric": "negative_flips", "value": value}


@measure("verification")
def threshold(seed: Seed, case: Case) -> Rows:
    """A threshold fixed under old/old on all queries, then applied to new/old; rates by subset."""
    labels = seed.labels(case.split)
    old, new = (seed.vectors(space, case.split) for space in (case.gallery, case.query))
    transfer = transfer_threshold(
        old, old, new, labels, labels, far=FAR, distance=case.distance, exclude_self=True
    )
    for subset, mask in seed.masks(case.split).items():
        selected = transfer.subset(mask)
        for name, rates in (("fixed", selected.fixed), ("transferred", selected.transferred)):
            yield {"subset": subset, "metric": f"{name} FAR", "value": rates.false_accept_rate}
            yield {"subset": subset, "metric": f"{name} TAR", "value": rates.true_accept_rate}


@measure("chance")
def chance(seed: Seed, case: Case) -> Rows:
    """What a random ranking scores on every subset, where the query set is the gallery."""
    labels = seed.labels(case.split)
    for subset, mask in seed.masks(case.split).items():
        # A query with a label of its own has no correct item, so that it is left out of the mean.
        queries = np.where(mask, labels, -1)
        for metric, value in named(levels.chance(queries, labels, exclude_self=True)).items():
            yield {"subset": subset, "metric": metric, "value": value}
