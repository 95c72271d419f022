"""What is measured of one upgrade: scores, flips, collapse, a deployed threshold, and what the old classifier says."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from compatlib.evaluation.compatibility import negative_flips, transfer_threshold
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods.bct import influence_loss
from compatlib.methods.common import resized
from compatlib.study import models, upgrades
from compatlib.study.scoring import Record, score_rows
from compatlib.study.seed_tests import SeedTests
from compatlib.study.upgrades import Upgrade

FAR = 1e-3
FORMS = ("BCT A", "BCT B", "BCT C")
CROSS = {"query_model": "new", "gallery_model": "old"}


@dataclass(frozen=True)
class Case:
    """An upgrade to measure, and the columns under which its rows are found."""

    upgrade: Upgrade
    split: str = "class-incremental"
    variant: str = ""
    x: float | None = None


def case_rows(tests: SeedTests, case: Case) -> Iterator[dict[str, Any]]:
    """New/old, new/new, what flips and whether anything collapsed; of models trained apart old/old too.

    A case of the main table, one without a variant and without a weight of its own, has the diagnosis too.
    """
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
        yield record(**CROSS, subset=subset, metric="negative_flips", value=flips)
    yield from _collapse_rows(tests, case, record)
    if case.x is None and not case.variant:
        yield from _threshold_rows(tests, case, record)
        yield from _class_mean_rows(tests, case, record)
        yield from _likeness_rows(tests, case, record)
        if upgrade.method in FORMS:
            yield from _classifier_rows(tests, case, record)


def _named_models(case: Case) -> dict[str, Any]:
    """The upgrade as `new`; beside one trained apart the old model too, which is the same for all methods."""
    return {"new": case.upgrade} | ({"old": case.upgrade.old} if case.upgrade.method == "independent" else {})


def _collapse_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """Shares of coordinates that are 0 for every test image, and of test images whose embedding is 0."""
    for name, source in _named_models(case).items():
        is_zero = tests.embeddings(source, case.split) == 0
        cell = {"query_model": name, "gallery_model": name, "subset": "all"}
        yield record(**cell, metric="dead_coordinates", value=is_zero.all(axis=0).mean())
        yield record(**cell, metric="zero_vectors", value=is_zero.all(axis=1).mean())


def _threshold_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """Table B6: a threshold fixed under old/old on all queries, then applied to new/old; rates by subset."""
    labels = tests.images(case.split).labels
    old, new = (tests.embeddings(source, case.split) for source in (case.upgrade.old, case.upgrade))
    distance = tests.run.knobs.distance
    transfer = transfer_threshold(old, old, new, labels, labels, far=FAR, distance=distance, exclude_self=True)
    for subset, mask in tests.masks(case.split).items():
        selected = transfer.subset(mask)
        for name, rates in (("fixed", selected.fixed), ("transferred", selected.transferred)):
            yield record(**CROSS, subset=subset, metric=f"{name} FAR", value=rates.false_accept_rate)
            yield record(**CROSS, subset=subset, metric=f"{name} TAR", value=rates.true_accept_rate)


def _class_mean_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """Queries against the mean old training embedding of every class: a gallery without its scatter."""
    means, labels = tests.class_means(case.upgrade.old), tests.images(case.split).labels
    for name, source in _named_models(case).items():
        query, classes = tests.embeddings(source, case.split), np.arange(len(means))
        test = evaluate(query, means, labels, classes, distance=tests.run.knobs.distance)
        models_of = {"query_model": name, "gallery_model": "old means"}
        for subset, mask in tests.masks(case.split).items():
            yield record(**models_of, subset=subset, metric="cmc@1", value=test.subset(mask).cmc[1])


def _likeness_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """Mean cosine of the new and the old embedding of the same image."""
    sources = (case.upgrade, case.upgrade.old)
    new, old = (torch.from_numpy(tests.embeddings(source, case.split)) for source in sources)
    cosines = F.cosine_similarity(resized(new, old.shape[1]), old).numpy()
    for subset, mask in tests.masks(case.split).items():
        yield record(**CROSS, subset=subset, metric="cosine", value=cosines[mask].mean())


def _classifier_rows(tests: SeedTests, case: Case, record: Record) -> Iterator[dict[str, Any]]:
    """The old classifier as this form completes it: its rows, and what it makes of old and of new embeddings."""
    old = tests.model(case.upgrade.old)
    known, weight = len(old.classifier.weight), old.classifier.weight.detach()
    if case.upgrade.method != "BCT A":
        images = models.training_images(tests.run)
        weight = upgrades.extended(old, images, normalize=case.upgrade.method == "BCT C").weight.detach()
    yield from _row_rows({"real rows": weight[:known], "made rows": weight[known:]}, record)
    for name, source in (("old", case.upgrade.old), ("new", case.upgrade)):
        yield from _judged_rows(tests, case, source, weight, known, partial(record, query_model=name))


def _row_rows(parts: dict[str, Tensor], record: Record) -> Iterator[dict[str, Any]]:
    """How long the real and the made rows are, and how alike: mean cosine of different rows."""
    for name, part in parts.items():
        if len(part):
            yield record(query_model=name, gallery_model=name, metric="norm", value=part.norm(dim=1).mean().item())
        for other, second in parts.items():
            cosines = F.normalize(part) @ F.normalize(second).T
            different = cosines[~torch.eye(len(part), dtype=torch.bool)] if name == other else cosines.flatten()
            if len(different):
                yield record(query_model=name, gallery_model=other, metric="cosine", value=different.mean().item())


def _judged_rows(
    tests: SeedTests, case: Case, source: Any, weight: Tensor, known: int, record: Record
) -> Iterator[dict[str, Any]]:
    """Test embeddings under these rows: share put into the right class, share put into made rows, influence loss.

    A subset whose classes have no row is left out.
    """
    embeddings = resized(torch.from_numpy(tests.embeddings(source, case.split)), weight.shape[1])
    labels = tests.images(case.split).labels
    chosen = (embeddings @ weight.T).argmax(dim=1)
    for subset, mask in tests.masks(case.split).items():
        if int(labels[mask].max()) >= len(weight):
            continue
        cell = {"gallery_model": "classifier", "subset": subset}
        yield record(**cell, metric="classified", value=(chosen == labels)[mask].double().mean().item())
        yield record(**cell, metric="into made rows", value=(chosen >= known)[mask].double().mean().item())
        loss = influence_loss(embeddings[mask], labels[mask], weight).item()
        yield record(**cell, metric="influence loss", value=loss)
