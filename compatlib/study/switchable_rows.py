"""What is measured of sub-models: scores of every pair of widths, what they cost, and what their gradients did."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import Retrieval, evaluate
from compatlib.study import models, switchable_models, switchables
from compatlib.study.artifacts import Artifact
from compatlib.study.scoring import named, score_rows
from compatlib.study.settings import Settings
from compatlib.study.switchable_models import Made
from compatlib.study.switchables import APART, BCT_S, SFSC, SPLITS, SWITCHABLE

WHOLE_MATRIX = (BCT_S, SFSC)  # of the others each width is tested on itself and on the full model's gallery
FULL = 1.0
OWN_GALLERIES, FULL_GALLERY, MEAN = "own", "full", "mean over widths"
EPOCH = "epoch"


@dataclass
class SwitchableTests:
    """One seed's sub-models, their embeddings of the test images, and tests of any two widths of a method."""

    run: Settings
    seed: int
    chapter: str
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    _made: dict[tuple[str, str], list[Made]] = field(default_factory=dict)
    _embeddings: dict[tuple[str, str, float], np.ndarray] = field(default_factory=dict)

    def images(self, split: str) -> ImageSet:
        """Queries and gallery in one; of the open-set split identities of its own."""
        return models.test_images(self.run) if split == "closed" else models.open_set(self.run).test

    def made(self, method: str, split: str) -> list[Made]:
        """A method's sub-models, training by training; the base model of full width first where it is another's."""
        if (method, split) not in self._made:
            found = []
            if method in APART:
                role = SPLITS[split]
                full = models.base_model(self.run, role, self.seed)[0]
                self.artifacts[role] = full.artifact
                found.append(Made({FULL: full.backbone}, full.artifact))
            for what in switchables.trainings(self.run, method, split):
                made = switchable_models.made(self.run, what, self.seed)[0]
                self.artifacts[switchables.name_of(what)] = made.artifact
                found.append(made)
            self._made[method, split] = found
        return self._made[method, split]

    def backbones(self, method: str, split: str) -> dict[float, torch.nn.Module]:
        """Stand-alone sub-models by width."""
        return {width: each for made in self.made(method, split) for width, each in made.backbones.items()}

    def embeddings(self, method: str, split: str, width: float) -> np.ndarray:
        """Test embeddings (N, d)."""
        # The full model of the methods with networks of their own is one and the same.
        place = (APART[0] if method in APART and width == FULL else method, split, width)
        if place not in self._embeddings:
            self._embeddings[place] = embed(self.backbones(method, split)[width], self.images(split)).numpy()
        return self._embeddings[place]

    def test(self, method: str, split: str, query: float, gallery: float) -> Retrieval:
        """Queries of one width against the gallery of another, or its own; no query finds itself."""
        labels = self.images(split).labels
        pair = (self.embeddings(method, split, width) for width in (query, gallery))
        return evaluate(*pair, labels, labels, exclude_self=True, distance=self.run.knobs.distance)

    def record(self, **columns: Any) -> dict[str, Any]:
        """A row's columns, with those that the run and the seed fill."""
        own = {"profile": self.run.profile, "dataset": self.run.dataset, "chapter": self.chapter, "seed": self.seed}
        return own | {"distance": self.run.knobs.distance} | columns


def method_rows(tests: SwitchableTests, method: str, split: str) -> Iterator[dict[str, Any]]:
    """Tables S1 and S2: self-tests, cross-tests, and their means over widths; of some the whole matrix."""
    widths, scores = tests.run.knobs.widths, {}
    everyone = {"all": np.ones(len(tests.images(split)), bool)}
    for query, gallery in itertools.product(widths, widths):
        if method in WHOLE_MATRIX or gallery in (query, FULL):
            test = tests.test(method, split, query, gallery)
            scores[query, gallery] = named(test)
            models_of = {"query_model": f"{query:g}", "gallery_model": f"{gallery:g}"}
            record = partial(tests.record, split=split, method=method, **models_of)
            yield from score_rows(record, test, everyone)
            yield record(subset="all", metric="top_share", value=test.collapse.top_share)
    # The full model on itself is a self-test; whether it meets others is asked of the narrower ones.
    means = {
        OWN_GALLERIES: [scores[width, width] for width in widths],
        FULL_GALLERY: [scores[width, FULL] for width in widths[:-1]],
    }
    for gallery, each in means.items():
        record = partial(tests.record, split=split, method=method, query_model=MEAN, gallery_model=gallery)
        for metric in each[0]:
            yield record(subset="all", metric=metric, value=float(np.mean([score[metric] for score in each])))


def cost_rows(tests: SwitchableTests, method: str, split: str) -> Iterator[dict[str, Any]]:
    """Parameters and operations of every stand-alone sub-model; seconds of all trainings that the method needs."""
    record = partial(tests.record, split=split, method=method, distance="")
    one = torch.as_tensor(tests.images(split)[0][0])[None]
    for width, backbone in tests.backbones(method, split).items():
        own = partial(record, query_model=f"{width:g}")
        yield own(metric="parameters", value=float(sum(each.numel() for each in backbone.parameters())))
        yield own(metric="flops", value=float(switchable_models.flops(backbone, one)))
    seconds = sum(made.artifact.about["cost"]["seconds"] for made in tests.made(method, split))
    yield record(metric="training_seconds", value=seconds)


def gradient_rows(tests: SwitchableTests, method: str, split: str) -> Iterator[dict[str, Any]]:
    """Plots S3 and S4: what the gradients of a switchable network's widths did, epoch by epoch and tensor by tensor."""
    if method not in SWITCHABLE:
        return
    (made,) = tests.made(method, split)
    statistics = made.statistics
    names = [f"{float(name):g}" for name in statistics.names]
    pairs = list(itertools.combinations(range(len(names)), 2))
    record = partial(tests.record, split=split, method=method, distance="")
    for epoch in range(len(statistics.norm)):
        at = partial(record, x_name=EPOCH, x=float(epoch + 1))
        for place, name in enumerate(names):
            for metric, values in (
                ("gradient norm", statistics.norm),
                ("uncertainty", statistics.uncertainty),
                ("hurt", statistics.hurt),
            ):
                yield at(query_model=name, metric=metric, value=float(values[epoch, place]))
        for first, second in pairs:
            pair = {"query_model": names[second], "gallery_model": names[first]}
            yield at(**pair, metric="cosine", value=float(statistics.cosine[epoch, first, second]))
            yield at(**pair, metric="conflicts", value=float(statistics.conflicts[epoch, first, second]))
        yield at(metric="hurt any", value=float(statistics.hurt_any[epoch]))
        yield at(metric="conflicts", value=_over_pairs(statistics.conflicts[epoch], pairs))
    for metric, values in (("hurt any", statistics.hurt_any), ("hurt", statistics.hurt)):
        yield record(metric=metric, value=float(values.mean()))
    yield record(metric="conflicts", value=_over_pairs(statistics.conflicts.mean(dim=0), pairs))
    for place, tensor in enumerate(statistics.tensors):
        share = _over_pairs(statistics.tensor_conflicts[:, place].mean(dim=0), pairs)
        yield record(variant=tensor, metric="conflicts", x_name="tensor", x=float(place), value=share)


def _over_pairs(matrix: torch.Tensor, pairs: list[tuple[int, int]]) -> float:
    return float(np.mean([float(matrix[pair]) for pair in pairs]))
