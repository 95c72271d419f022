"""One seed's models of FCT, their test embeddings and transformations, each made once, and tests of any two of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import Retrieval, evaluate
from compatlib.study import models, transformations, upgrades
from compatlib.study.artifacts import Artifact
from compatlib.study.scoring import known_classes, subsets
from compatlib.study.settings import Settings
from compatlib.study.transformations import Side, Transformed
from compatlib.study.upgrades import Upgrade

Model = str | Upgrade | Side


@dataclass
class TransformationTests:
    """One seed's models, their embeddings of the test images, and tests of any two sets of these."""

    run: Settings
    seed: int
    chapter: str
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    _embeddings: dict[Model, np.ndarray] = field(default_factory=dict)
    _transformed: dict[Transformed, tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """(N,) of the test images."""
        return models.test_images(self.run).labels.numpy()

    def masks(self, *, by_class: bool = True) -> dict[str, np.ndarray]:
        """Subsets of the queries: all, and of classes that the old model knew or did not."""
        if by_class:
            return subsets(torch.from_numpy(self.labels), known_classes(self.run))
        return {"all": np.ones(len(self.labels), bool)}

    def backbone(self, model: Model) -> torch.nn.Module:
        """images → (N, d), of a role, an upgrade or side-information."""
        if isinstance(model, Side):
            made = transformations.side_model(self.run, model, self.seed)[0]
            self.artifacts[transformations.name_of(model)] = made.artifact
            return made.module
        trained = upgrades.model_of(self.run, model, self.seed)[0]
        self.artifacts[upgrades.name_of(model)] = trained.artifact
        return trained.backbone

    def embeddings(self, model: Model) -> np.ndarray:
        """Test embeddings (N, d)."""
        if model not in self._embeddings:
            self._embeddings[model] = embed(self.backbone(model), models.test_images(self.run)).numpy()
        return self._embeddings[model]

    def module(self, what: Transformed) -> torch.nn.Module:
        """The transformation, a `FastFill` where that is the objective."""
        made = transformations.transformation(self.run, what, self.seed)[0]
        self.artifacts[transformations.name_of(what)] = made.artifact
        return made.module

    def stored(self, what: Transformed) -> tuple[np.ndarray, np.ndarray]:
        """What lies beside the gallery: old embeddings (N, d_old) and side-information (N, d_side)."""
        old = self.embeddings(what.old)
        return old, old if what.side is None else self.embeddings(what.side)

    def transformed(self, what: Transformed) -> np.ndarray:
        """h of the test images (N, d_new)."""
        return self._outcome(what)[0]

    def log_variances(self, what: Transformed) -> np.ndarray:
        """FastFill's log-variances of the test images (N,)."""
        log_variances = self._outcome(what)[1]
        if log_variances is None:
            raise ValueError(f"{transformations.name_of(what)} states no uncertainty; its objective must be 'fastfill'")
        return log_variances

    def _outcome(self, what: Transformed) -> tuple[np.ndarray, np.ndarray | None]:
        if what not in self._transformed:
            self._transformed[what] = applied(self.module(what), *self.stored(what))
        return self._transformed[what]

    def test(self, query: np.ndarray, gallery: np.ndarray, distance: str) -> Retrieval:
        """Queries against a gallery of the same images; no query finds itself."""
        return evaluate(query, gallery, self.labels, self.labels, exclude_self=True, distance=distance)

    def record(self, **columns: Any) -> dict[str, Any]:
        """A row's columns, with those that the run and the seed fill."""
        own = {"profile": self.run.profile, "dataset": self.run.dataset, "chapter": self.chapter, "seed": self.seed}
        return own | columns


def applied(module: torch.nn.Module, old: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A transformation's embeddings (N, d_new), and a FastFill's log-variances (N,)."""
    with torch.inference_mode():
        outcome = module(torch.from_numpy(old), torch.from_numpy(side))
    return (outcome[0].numpy(), outcome[1].numpy()) if isinstance(outcome, tuple) else (outcome.numpy(), None)
