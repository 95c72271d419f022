"""One seed of a run: what it trained or found, its vectors and its tests, each made once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compatlib.evaluation.retrieval import Retrieval, evaluate
from compatlib.study.lab import images
from compatlib.study.lab.cases import Case
from compatlib.study.lab.make import Made, make
from compatlib.study.lab.spaces import Space
from compatlib.study.lab.trainables import Trainable
from compatlib.study.settings import Settings, changed


@dataclass
class Seed:
    """What a chapter's cases of one seed share."""

    run: Settings
    seed: int
    chapter: str = ""
    _made: dict[Trainable, Made] = field(default_factory=dict)
    _vectors: dict[tuple[Space, bool | str], np.ndarray] = field(default_factory=dict)
    _tests: dict[tuple[Space, Space, bool | str, str], Retrieval] = field(default_factory=dict)
    _varied: dict[Settings, "Seed"] = field(default_factory=dict)

    def made(self, what: Trainable) -> Made:
        """The trained parts of a trainable; trained now where they are not there."""
        if what not in self._made:
            self._made[what] = make(self.run, what, self.seed)[0]
        return self._made[what]

    def put(self, made: Made) -> None:
        """Take this one in place of what would be made or found."""
        self._made[made.what] = made

    def labels(self, split: str) -> np.ndarray:
        """(N,) of the split's test images."""
        return images.images_to_test(self.run, split).labels.numpy()

    def masks(self, split: str) -> dict[str, np.ndarray]:
        """Subsets of the split's queries."""
        return images.masks(self.run, split)

    def vectors(self, space: Space, split: str) -> np.ndarray:
        """Of the split's test images, (N, d)."""
        place = space, images.tested_images(split)
        if place not in self._vectors:
            self._vectors[place] = space.vectors(self, split)
        return self._vectors[place]

    def test(self, query: Space, gallery: Space, split: str, distance: str) -> Retrieval:
        """Queries against a gallery; no query finds itself."""
        place = query, gallery, images.tested_images(split), distance
        if place not in self._tests:
            vectors = (self.vectors(space, split) for space in (query, gallery))
            labels = (space.labels(self, split) for space in (query, gallery))
            self._tests[place] = evaluate(
                *vectors, *labels, exclude_self=gallery.is_gallery_of_queries, distance=distance
            )
        return self._tests[place]

    def under(self, changes: Mapping[str, Any]) -> "Seed":
        """This seed of the run with other values."""
        if not changes:
            return self
        run = changed(self.run, changes)
        if run not in self._varied:
            self._varied[run] = Seed(run, self.seed, self.chapter)
        return self._varied[run]

    def rows(self, cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
        """What is asked of the cases, with the columns of run, seed and case."""
        own = {"profile": self.run.profile, "dataset": self.run.dataset, "chapter": self.chapter, "seed": self.seed}
        for case in cases:
            for ask in case.ask:
                for row in ask(self.under(case.changes), case):
                    yield own | case.columns | row
