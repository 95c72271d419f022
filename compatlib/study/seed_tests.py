"""One seed's models and their test embeddings, each made once, and tests of any pair of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import Retrieval, evaluate
from compatlib.study import models
from compatlib.study.models import Model
from compatlib.study.scoring import known_classes, subsets
from compatlib.study.settings import Settings
from compatlib.study.upgrades import Source, canonical, model_of

OPEN_SET = "open-set"
CLASS_INCREMENTAL = "class-incremental"


@dataclass
class SeedTests:
    """What a chapter measures of one seed; the run's knobs have a `distance`.

    The split `OPEN_SET` is tested on identities of its own, every other one on the run's test images.
    """

    run: Settings
    seed: int
    chapter: str
    models: dict[Source, Model] = field(default_factory=dict)
    _embeddings: dict[tuple[Source, bool], np.ndarray] = field(default_factory=dict)
    _means: dict[Source, np.ndarray] = field(default_factory=dict)
    _tests: dict[tuple[Source, Source, bool], Retrieval] = field(default_factory=dict)

    def model(self, source: Source) -> Model:
        """The model of a role or an upgrade."""
        source = canonical(source)
        if source not in self.models:
            self.models[source] = model_of(self.run, source, self.seed)[0]
        return self.models[source]

    def images(self, split: str) -> ImageSet:
        """Queries and gallery in one."""
        return models.open_set(self.run).test if split == OPEN_SET else models.test_images(self.run)

    def embeddings(self, source: Source, split: str) -> np.ndarray:
        """Test embeddings (N, d)."""
        place = canonical(source), split == OPEN_SET
        if place not in self._embeddings:
            self._embeddings[place] = embed(self.model(source).backbone, self.images(split)).numpy()
        return self._embeddings[place]

    def class_means(self, source: Source) -> np.ndarray:
        """(classes, d) mean embedding of every class's training images, of the run's classes in their order."""
        source = canonical(source)
        if source not in self._means:
            training = models.training_images(self.run)
            embeddings = embed(self.model(source).backbone, training).double()
            sums = torch.zeros(len(training.class_names), embeddings.shape[1], dtype=torch.float64)
            sums.index_add_(0, training.labels, embeddings)
            counts = torch.bincount(training.labels, minlength=len(sums))
            self._means[source] = (sums / counts[:, None]).float().numpy()
        return self._means[source]

    def test(self, query: Source, gallery: Source, split: str) -> Retrieval:
        """Queries of one model against the gallery of another, or its own; no query finds itself."""
        place = canonical(query), canonical(gallery), split == OPEN_SET
        if place not in self._tests:
            labels = self.images(split).labels
            pair = self.embeddings(query, split), self.embeddings(gallery, split)
            self._tests[place] = evaluate(*pair, labels, labels, exclude_self=True, distance=self.run.knobs.distance)
        return self._tests[place]

    def masks(self, split: str) -> dict[str, np.ndarray]:
        """Subsets of the queries: all, and where the old model knew some classes and not others, either."""
        labels = self.images(split).labels
        if split == CLASS_INCREMENTAL:
            return subsets(labels, known_classes(self.run))
        return {"all": np.ones(len(labels), bool)}

    def record(self, **columns: Any) -> dict[str, Any]:
        """A row's columns, with those that the run and the seed fill."""
        own = {"profile": self.run.profile, "dataset": self.run.dataset, "chapter": self.chapter, "seed": self.seed}
        return own | {"distance": self.run.knobs.distance} | columns
