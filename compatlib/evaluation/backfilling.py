"""The backfilling curve: scores while a gallery's old embeddings are replaced by new ones, a share at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compatlib.evaluation import checks
from compatlib.evaluation._measured import ClassScores
from compatlib.evaluation.retrieval import Retrieval, checked_parts, evaluate_mixed

CUTOFFS = 22  # as in Apple's released code


@dataclass(frozen=True, eq=False)
class BackfillingCurve:
    """Scores at every cut-off, queries always by the new model.

    replaced: (cutoffs,) number of items that hold new embeddings, from 0 to g.
    shares: (cutoffs,) replaced / g.
    retrievals: the scores at every cut-off.
    """

    replaced: np.ndarray
    shares: np.ndarray
    retrievals: tuple[Retrieval, ...]

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Each score of `Retrieval.metrics` by name, (cutoffs,)."""
        points = [retrieval.metrics() for retrieval in self.retrievals]
        return {name: np.array([point[name] for point in points]) for name in points[0]}

    @property
    def area(self) -> dict[str, float]:
        """The area under each score's curve: the plain mean over the cut-offs, as in Apple's released code."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}

    def area_by_class(self, labels, num_classes: int) -> dict[str, ClassScores]:
        """Every `area` by query class: a query's own score is the plain mean of its scores over the cut-offs.

        The queries with a correct item are the same at every cut-off. Arguments and errors as `Retrieval.by_class`.
        """
        points = [retrieval.by_class(labels, num_classes) for retrieval in self.retrievals]
        return {
            name: ClassScores(np.mean([point[name].sums for point in points], axis=0), points[0][name].counts)
            for name in points[0]
        }

    def subset(self, mask) -> "BackfillingCurve":
        """The same curve over the queries that the boolean mask (q,) selects; errors as `Retrieval.subset`."""
        return BackfillingCurve(self.replaced, self.shares, tuple(each.subset(mask) for each in self.retrievals))


def backfilling_curve(
    query,
    old_gallery,
    new_gallery,
    query_labels,
    gallery_labels,
    order,
    cutoffs: int = CUTOFFS,
    *,
    distance: str = "cosine",
    exclude_self: bool = False,
    query_cameras=None,
    gallery_cameras=None,
    ranks: Sequence[int] = (1, 5),
) -> BackfillingCurve:
    """Replaces the first (i·g) // (cutoffs - 1) items of an order, i = 0 … cutoffs - 1, and scores each mixed gallery.

    Source: Apple's released FCT and FastFill code, with 22 cut-offs. Where old and new embeddings differ in size, each
    item is compared with the query in their own common first coordinates, item by item (see `evaluate_mixed`). Under
    cosine that means: a query is cut to an old item's size and normalised there, whole against a new item; padding the
    old items with zeros would be something else, as the query's norm would then differ between old and new items.

    Args:
        query: (q, d) embeddings by the new model.
        old_gallery: (g, d) embeddings of the gallery in use, by the old model or its transformation.
        new_gallery: (g, d) embeddings of the same items by the new model.
        query_labels, gallery_labels: (q,) and (g,) integers.
        order: (g,) integers, a permutation of the items: first replaced first.
        cutoffs: number of points, from 2.
        distance, exclude_self, query_cameras, gallery_cameras, ranks: as `evaluate`.

    Raises:
        ValueError: as `evaluate`, for galleries of unequal length, and for an order that is no permutation.
    """
    cutoffs = checks.whole_number(cutoffs, "cutoffs", 2)
    checks.choice(distance, "distance", checks.DISTANCES)
    parts = checked_parts([old_gallery, new_gallery], distance)
    n = len(parts[0])
    order = checks.labels(order, "order", n, "gallery")
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise ValueError(
            f"order is no permutation of the items 0 to {n - 1}; give each item once, first replaced first"
        )
    replaced = [(i * n) // (cutoffs - 1) for i in range(cutoffs)]
    scored = {}
    for count in sorted(set(replaced)):  # a small gallery has equal cut-offs
        part_of = np.zeros(n, dtype=np.int64)
        part_of[order[:count]] = 1
        scored[count] = evaluate_mixed(
            query,
            parts,
            part_of,
            query_labels,
            gallery_labels,
            distance=distance,
            exclude_self=exclude_self,
            query_cameras=query_cameras,
            gallery_cameras=gallery_cameras,
            ranks=ranks,
        )
    counts = np.array(replaced)
    return BackfillingCurve(counts, counts / n, tuple(scored[count] for count in replaced))
