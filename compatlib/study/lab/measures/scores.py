"""Retrieval scores, and what else is counted over queries."""

import numpy as np

from compatlib.evaluation import chance as levels
from compatlib.evaluation.compatibility import negative_flips, negative_flips_by_class, transfer_threshold
from compatlib.evaluation.retrieval import Retrieval
from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab.cases import BY_CLASS, Case, Rows, measure
from compatlib.study.lab.seed import Seed

FAR = 1e-3


def named(found: Retrieval | levels.Chance) -> dict[str, float]:
    """Scores under the names that rows and the papers' values use: cmc@1, cmc@5…, map."""
    return {f"cmc@{rank}": share for rank, share in found.cmc.items()} | {"map": found.mean_average_precision}


def by_class(seed: Seed, case: Case, test: Retrieval) -> dict[str, ClassScores]:
    """A test's scores by query class, under the names of rows."""
    labels = seed.labels(case.split)
    found = test.by_class(labels, int(labels.max()) + 1)
    return {"map" if name == "mean_average_precision" else name: each for name, each in found.items()}


@measure("retrieval")
def scores(seed: Seed, case: Case) -> Rows:
    """Rank 1, rank 5 and mAP on every subset of the queries; of all of them by class too."""
    test = seed.test(case.query, case.gallery, case.split, case.distance)
    classes = by_class(seed, case, test)
    for subset, mask in seed.masks(case.split).items():
        for metric, value in named(test.subset(mask)).items():
            own = {BY_CLASS: classes[metric]} if subset == "all" else {}
            yield {"subset": subset, "metric": metric, "value": value, **own}


@measure("retrieval")
def mean_scores(seed: Seed, case: Case) -> Rows:
    """The scores' means over the case's pairs, on all queries."""
    tests = [seed.test(*pair, case.split, case.distance) for pair in case.pairs]
    found, classes = [named(test) for test in tests], [by_class(seed, case, test) for test in tests]
    for metric in found[0]:
        sums = np.mean([each[metric].sums for each in classes], axis=0)
        mean = ClassScores(sums, classes[0][metric].counts)
        value = float(np.mean([each[metric] for each in found]))
        yield {"subset": "all", "metric": metric, "value": value, BY_CLASS: mean}


@measure("retrieval")
def change(seed: Seed, case: Case) -> Rows:
    """How far the first pair's scores are above the second's, on all queries: what something does to a method."""
    first, second = (seed.test(*pair, case.split, case.distance) for pair in case.pairs)
    before, classes = named(second), [by_class(seed, case, test) for test in (first, second)]
    for metric, value in named(first).items():
        one, other = (each[metric] for each in classes)
        own = ClassScores(one.sums - other.sums, one.counts)
        yield {"subset": "all", "metric": f"change of {metric}", "value": value - before[metric], BY_CLASS: own}


@measure("retrieval")
def rank_1(seed: Seed, case: Case) -> Rows:
    """Rank 1 alone, on every subset of the queries."""
    test = seed.test(case.query, case.gallery, case.split, case.distance)
    classes = by_class(seed, case, test)["cmc@1"]
    for subset, mask in seed.masks(case.split).items():
        own = {BY_CLASS: classes} if subset == "all" else {}
        yield {"subset": subset, "metric": "cmc@1", "value": test.subset(mask).cmc[1], **own}


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
    labels = seed.labels(case.split)
    classes = negative_flips_by_class(old, test, labels, int(labels.max()) + 1)
    for subset, mask in seed.masks(case.split).items():
        value = negative_flips(old.subset(mask), test.subset(mask))
        own = {BY_CLASS: classes} if subset == "all" else {}
        yield {"subset": subset, "metric": "negative_flips", "value": value, **own}


@measure("verification")
def threshold(seed: Seed, case: Case) -> Rows:
    """A threshold fixed under old/old on all queries, then applied to new/old; rates by subset."""
    labels = seed.labels(case.split)
    old, new = (seed.vectors(space, case.split) for space in (case.gallery, case.query))
    transfer = transfer_threshold(old, old, new, labels, labels, far=FAR, distance=case.distance, exclude_self=True)
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
