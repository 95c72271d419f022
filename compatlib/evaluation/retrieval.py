"""Retrieval scores of embeddings: ranks, CMC and mean average precision, with the collapse check.

Beside them stand what belongs to the same question: `chance` (what a random ranking would score), `search` (top-k
through faiss), `verification` (true accept rate at a false accept rate) and `score_matrix` (the scores themselves).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compatlib.evaluation import checks
from compatlib.evaluation._measured import ClassScores
from compatlib.evaluation._ranking import Ranking, rank_items
from compatlib.evaluation._scores import Scorer, score_matrix
from compatlib.evaluation.chance import Chance, chance
from compatlib.evaluation.search import IvfPq, Neighbours, recall, search
from compatlib.evaluation.verification import (
    Verification,
    apply_threshold,
    apply_threshold_to_pairs,
    verification,
    verification_of_pairs,
)

__all__ = [
    "Chance",
    "Collapse",
    "IvfPq",
    "Neighbours",
    "Retrieval",
    "Verification",
    "apply_threshold",
    "apply_threshold_to_pairs",
    "chance",
    "evaluate",
    "evaluate_mixed",
    "recall",
    "score_matrix",
    "search",
    "verification",
    "verification_of_pairs",
]


@dataclass(frozen=True)
class Collapse:
    """Signs that an embedding has collapsed. Norms are those of the compared coordinates, before normalisation.

    zero_queries, zero_gallery: number of zero vectors; under cosine their similarity to everything is 0.
    query_norms, gallery_norms: (smallest, largest).
    top_share: share of queries, in [0, 1], whose nearest item is the most popular gallery item. Of equally near items
        the first in the gallery is the nearest.
    """

    zero_queries: int
    zero_gallery: int
    query_norms: tuple[float, float]
    gallery_norms: tuple[float, float]
    top_share: float


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Scores of q queries against a gallery.

    cmc: rank k → share of the valid queries, in [0, 1], with a correct item within rank k.
    mean_average_precision: mean of the valid queries' average precision, in [0, 1].
    average_precision: (q,), NaN for a query without a correct item.
    first_rank: (q,) int64, rank of the first correct item from 1 on; 0 for a query without one.
    nearest: (q,) int64, gallery item at rank 1, removed items left out; -1 where all are removed.
    query_norms: (q,) norms of the compared coordinates.
    n_valid: number of queries with a correct item; the others count in neither score.
    collapse: signs of a collapsed embedding, over all queries.
    """

    cmc: dict[int, float]
    mean_average_precision: float
    average_precision: np.ndarray
    first_rank: np.ndarray
    nearest: np.ndarray
    query_norms: np.ndarray
    n_valid: int
    collapse: Collapse

    def subset(self, mask) -> "Retrieval":
        """The same scores over the queries that the boolean mask (q,) selects; the gallery stays whole.

        Raises:
            ValueError: for a mask of another type or shape, and where it selects no valid query.
        """
        mask = checks.mask(mask, "mask", len(self.first_rank))
        return _summary(
            self.first_rank[mask],
            self.average_precision[mask],
            self.nearest[mask],
            self.query_norms[mask],
            tuple(self.cmc),
            (self.collapse.zero_gallery, self.collapse.gallery_norms),
        )

    def metrics(self) -> dict[str, float]:
        """Every score by name: cmc@k for each rank, and mean_average_precision."""
        named = {f"cmc@{rank}": share for rank, share in self.cmc.items()}
        return named | {"mean_average_precision": self.mean_average_precision}

    def by_class(self, labels, num_classes: int) -> dict[str, ClassScores]:
        """Every score of `metrics` by query class: sums and numbers of the valid queries.

        Args:
            labels: (q,) integers from 0 to num_classes - 1, the queries' classes; of a subset its own queries'.
            num_classes: number of classes of the whole test.

        Raises:
            ValueError: for labels of another length, type or range.
        """
        valid = self.first_rank > 0
        scores = {f"cmc@{rank}": self.first_rank <= rank for rank in self.cmc}
        scores["mean_average_precision"] = self.average_precision
        return {name: ClassScores.of_queries(each, valid, labels, num_classes) for name, each in scores.items()}


def _summary(first_rank, average_precision, nearest, query_norms, ranks, gallery) -> Retrieval:
    valid = first_rank > 0
    n_valid = int(valid.sum())
    if n_valid == 0:
        raise ValueError(
            f"none of the {len(first_rank)} queries has a correct item in the gallery, so there is nothing to score; "
            "look whether both sides use the same labels, and which items exclude_self and the cameras remove"
        )
    answered = nearest[nearest >= 0]
    popular = np.unique(answered, return_counts=True)[1].max()
    return Retrieval(
        cmc={rank: float(np.mean(first_rank[valid] <= rank)) for rank in ranks},
        mean_average_precision=float(np.mean(average_precision[valid])),
        average_precision=average_precision,
        first_rank=first_rank,
        nearest=nearest,
        query_norms=query_norms,
        n_valid=n_valid,
        collapse=Collapse(
            zero_queries=int((query_norms == 0).sum()),
            zero_gallery=gallery[0],
            query_norms=(float(query_norms.min()), float(query_norms.max())),
            gallery_norms=gallery[1],
            top_share=float(popular / len(first_rank)),
        ),
    )


def _retrieval(ranking: Ranking, ranks: tuple[int, ...]) -> Retrieval:
    norms = ranking.gallery_norms
    gallery = (int((norms == 0).sum()), (float(norms.min()), float(norms.max())))
    return _summary(ranking.first_rank, ranking.average_precision, ranking.nearest, ranking.query_norms, ranks, gallery)


def evaluate(
    query,
    gallery,
    query_labels,
    gallery_labels,
    *,
    distance: str = "cosine",
    exclude_self: bool = False,
    query_cameras=None,
    gallery_cameras=None,
    ranks: Sequence[int] = (1, 5),
) -> Retrieval:
    """Scores the complete ranking of a gallery for every query, exactly given float32 scores (see `score_matrix`).

    Embeddings with a common offset far larger than their spread lose digits in float32: centre both sides before.

    A correct item counts only after every incorrect item of equal score: its rank is 1 + the number of incorrect items
    with score ≥ the best correct score, so a collapsed model scores nothing. In average precision, computed step-wise
    as scikit-learn's `average_precision_score`, items of equal score form one step. No query × gallery matrix is held.
    Source: this study's protocol; ties and zero vectors are its own choice.

    Every label is an identity, negative ones too. The junk images of re-identification sets, which such sets label -1,
    must be dropped before: `gallery[gallery_labels >= 0]`, and the same of labels and cameras. Distractors, often
    labelled 0, stay.

    Args:
        query: (q, d) float16, float32 or float64 array or tensor; computed in float32.
        gallery: (g, d), the same types. Of unequal sizes only the common first coordinates count, and these are
            normalised (not published; our reading).
        query_labels: (q,) integers.
        gallery_labels: (g,) integers.
        distance: `cosine` (L2-normalised; a zero vector has similarity 0 to everything) or `euclidean` (raw features).
        exclude_self: query i never retrieves gallery item i, by index, whatever the labels; needs q = g.
        query_cameras: (q,) integers; with `gallery_cameras`, items of the query's label and camera are removed.
        gallery_cameras: (g,) integers.
        ranks: the ranks k of CMC@k, from 1; they may exceed g.

    Raises:
        ValueError: for wrong shapes, types, lengths or options, values not finite in float32, an empty side, and where
            no query has a correct item.
    """
    return evaluate_mixed(
        query,
        [gallery],
        None,
        query_labels,
        gallery_labels,
        distance=distance,
        exclude_self=exclude_self,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        ranks=ranks,
    )


def evaluate_mixed(
    query,
    galleries: Sequence,
    part_of,
    query_labels,
    gallery_labels,
    *,
    distance: str = "cosine",
    exclude_self: bool = False,
    query_cameras=None,
    gallery_cameras=None,
    ranks: Sequence[int] = (1, 5),
) -> Retrieval:
    """As `evaluate`, for a gallery whose items come from several models, as while it is being backfilled.

    Each item is compared with the query in the common first coordinates of the two, item by item: under cosine both are
    cut to these and normalised there; under the Euclidean distance the distance over these is taken (not published; our
    reading).

    Args:
        query: (q, d).
        galleries: embeddings of the same g items by each model, (g, d of that model).
        part_of: (g,) integers: which of `galleries` holds item j; None for a single one.
        query_labels, gallery_labels, distance, exclude_self, query_cameras, gallery_cameras, ranks: as `evaluate`.

    Raises:
        ValueError: as `evaluate`, and for galleries of unequal length or parts that do not exist.
    """
    checks.choice(distance, "distance", checks.DISTANCES)
    exclude_self, ranks = checks.flag(exclude_self, "exclude_self"), checks.ranks(ranks)
    query = checks.embeddings(query, "query", distance=distance)
    parts = checked_parts(galleries, distance)
    n_query, n_gallery = len(query), len(parts[0])
    if part_of is not None:
        part_of = checks.labels(part_of, "part_of", n_gallery, "gallery")
        if part_of.min() < 0 or part_of.max() >= len(parts):
            raise ValueError(f"part_of holds {part_of.min()} to {part_of.max()}; valid are 0 to {len(parts) - 1}")
    elif len(parts) > 1:
        raise ValueError(f"part_of is None with {len(parts)} galleries; say for every item which of them holds it")
    query_labels = checks.labels(query_labels, "query_labels", n_query, "query")
    gallery_labels = checks.labels(gallery_labels, "gallery_labels", n_gallery, "gallery")
    cameras = checks.cameras(query_cameras, gallery_cameras, n_query, n_gallery)
    if exclude_self:
        checks.equal_lengths(n_query, n_gallery)
    scorer = Scorer(query, parts, part_of, distance=distance)
    return _retrieval(rank_items(scorer, query_labels, gallery_labels, exclude_self, cameras), ranks)


def checked_parts(galleries: Sequence, distance: str) -> list[np.ndarray]:
    """Checked embeddings of the same items by each of several models.

    Raises:
        ValueError: for no list of one or more, unequal lengths, and as `checks.embeddings`.
    """
    if not isinstance(galleries, list | tuple) or not galleries:
        raise ValueError(f"galleries is {type(galleries).__name__}; valid is a list of embeddings, one or more")
    names = ["gallery"] if len(galleries) == 1 else [f"gallery {i}" for i in range(len(galleries))]
    parts = [checks.embeddings(part, name, distance=distance) for part, name in zip(galleries, names, strict=True)]
    if len({len(part) for part in parts}) != 1:
        raise ValueError(
            f"galleries hold {[len(part) for part in parts]} items; each must hold every item, whichever part it is of"
        )
    return parts
