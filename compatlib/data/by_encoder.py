"""The same items as several encoders see them: what two models on two encoders are trained on together."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from compatlib.data.features import FeatureSet


@dataclass(frozen=True, eq=False)
class ByEncoder:
    """Features of the same items by several encoders, with the protocol of `ImageSet`; a batch's inputs are a mapping.

    sets: by the encoder's name, at least one.

    Raises:
        ValueError: no set, or sets of other items: of other classes or with labels in another order.
    """

    sets: Mapping[str, FeatureSet]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sets", dict(self.sets))
        if not self.sets:
            raise ValueError("no encoder's features are given; give at least one set by its encoder's name")
        first, *others = self.sets.items()
        for name, other in others:
            if not torch.equal(first[1].labels, other.labels) or first[1].class_names != other.class_names:
                raise ValueError(
                    f"the features by {first[0]} and by {name} are of different items ({len(first[1])} and "
                    f"{len(other)}, or in another order); give those of one split of one data set"
                )

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""
        return next(iter(self.sets.values())).labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """One a class."""
        return next(iter(self.sets.values())).class_names

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {name: each[index][0] for name, each in self.sets.items()}, self.labels[index]

    def batch(self, indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """By encoder float16 (b, views, d), and labels int64 (b,), at `indices`, int64 (b,)."""
        return {name: each.batch(indices)[0] for name, each in self.sets.items()}, self.labels[indices]

    def select(self, indices: Tensor) -> "ByEncoder":
        """The subset at `indices` (integers (n,) or bool (N,)), in their order."""
        return ByEncoder({name: each.select(indices) for name, each in self.sets.items()})

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the encoders' names and of the digest of each set."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        content = [(name, each.digest()) for name, each in self.sets.items()]
        return hashlib.sha256(repr(content).encode()).hexdigest()
