"""Batches of some identities with some images of each, as losses over pairs and triplets need them: P × K sampling."""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor

from compatlib.data.tensors import as_integers


@dataclass(frozen=True, eq=False)
class IdentityBatches:
    """Which images the steps of an epoch see, P identities × K images a batch: the `order` of `training.fit`.

    A pass shuffles every identity's n images and cuts them into floor(n / K) groups of K; one of fewer than K images
    makes one group of K that are drawn with repetition. Then P of the identities that have a group left are drawn, each
    as likely, and give their next one, until fewer than P have any: what is left then is not seen in this pass. Source:
    `NaiveIdentitySampler` of fast-reid, on which Dual-Tuning's release stands (batches of 64, K = 4).

    An epoch is what `fit` calls one, floor(N / batch) batches of a set of N images, as in the release. There the passes
    go on from one epoch to the next; here every epoch begins with a new pass, so that it depends on its own generator
    alone, and its last pass is cut off where the epoch ends.

    Args:
        labels: (N,) integers from 0, of the training set; a class without images is passed over.
        per_identity: K, ≥ 1.

    Raises:
        ValueError: labels that are no integers from 0 of one dimension, none at all, or K below 1.
    """

    labels: Tensor
    per_identity: int = 4

    def __post_init__(self) -> None:
        labels = as_integers(self.labels, "labels")
        if labels.dtype != torch.int64 or labels.ndim != 1 or not len(labels) or int(labels.min()) < 0:
            raise ValueError(f"labels are {labels.dtype} {tuple(labels.shape)}; valid are integers (N,) from 0, N ≥ 1")
        try:
            per_identity = index(self.per_identity)
        except TypeError as error:
            raise ValueError(f"per_identity is {self.per_identity!r}; valid are whole numbers from 1") from error
        if per_identity < 1:
            raise ValueError(f"per_identity is {per_identity}; valid are whole numbers from 1")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "per_identity", per_identity)

    def __call__(self, steps: int, batch_size: int, generator: torch.Generator) -> Tensor:
        """The images of the first `steps` batches from the generator's state on.

        Returns:
            int64 (steps, batch_size); the K images of an identity stand side by side.

        Raises:
            ValueError: a batch that is no multiple of K, or of more identities than there are.
        """
        identities, rest = divmod(batch_size, self.per_identity)
        present = len(self.labels.unique())
        if rest or not 1 <= identities <= present:
            raise ValueError(
                f"a batch of {batch_size} images asked for; valid are multiples of per_identity = {self.per_identity} "
                f"up to {self.per_identity * present}, as there are {present} identities"
            )
        batches = self._batches(identities, generator)
        return torch.stack([next(batches) for _ in range(steps)])

    def _batches(self, identities: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Batches without end, pass after pass, each int64 (identities · K,)."""
        while True:
            groups = self._groups(generator)
            while len(groups) >= identities:
                chosen = torch.randperm(len(groups), generator=generator)[:identities]
                yield torch.cat([groups[place].pop() for place in chosen.tolist()])
                groups = [left for left in groups if left]

    def _groups(self, generator: torch.Generator) -> list[list[Tensor]]:
        """Every identity's images in groups of K."""
        shuffled, size, groups = torch.randperm(len(self.labels), generator=generator), self.per_identity, []
        by_identity = shuffled[torch.argsort(self.labels[shuffled], stable=True)]
        for members in by_identity.split(torch.bincount(self.labels).tolist()):
            if 0 < len(members) < size:
                members = members[torch.randint(len(members), (size,), generator=generator)]
            if len(members):
                groups.append(list(members[: len(members) // size * size].split(size)))
        return groups
