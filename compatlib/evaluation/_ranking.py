"""Ranks every gallery item for every query, exactly, strip by strip."""

from typing import NamedTuple

import numpy as np

from compatlib.evaluation import _counting
from compatlib.evaluation._scores import Scorer


class Ranking(NamedTuple):
    """Per query: first_rank (0 without a match), average_precision (NaN), nearest item (-1), norm. Gallery: norms."""

    first_rank: np.ndarray
    average_precision: np.ndarray
    nearest: np.ndarray
    query_norms: np.ndarray
    gallery_norms: np.ndarray


def rank_items(
    scorer: Scorer,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    exclude_self: bool,
    cameras: tuple[np.ndarray, np.ndarray] | None,
) -> Ranking:
    """Ranks the scorer's gallery for its queries; all arguments are checked already.

    Args:
        scorer: scores of q queries against g items.
        query_labels, gallery_labels: (q,) and (g,) int64.
        exclude_self: query i never retrieves item i.
        cameras: (q,) and (g,) int64; items of equal label and camera are removed.
    """
    n_query = len(query_labels)
    order = np.argsort(gallery_labels, kind="stable")
    sorted_labels = gallery_labels[order]
    start = np.searchsorted(sorted_labels, query_labels, side="left")
    end = np.searchsorted(sorted_labels, query_labels, side="right")
    own = np.arange(n_query) if exclude_self else np.full(n_query, -1)
    query_cameras, item_cameras = cameras or (query_labels, np.empty(0, dtype=np.int64))
    first_rank, nearest = np.zeros(n_query, dtype=np.int64), np.full(n_query, -1, dtype=np.int64)
    average_precision = np.full(n_query, np.nan)
    for rows, scores in scorer.strips():
        _counting.rank_rows(
            scores,
            start[rows],
            end[rows],
            own[rows],
            query_cameras[rows],
            order,
            item_cameras,
            first_rank[rows],
            average_precision[rows],
            nearest[rows],
        )
    return Ranking(first_rank, average_precision, nearest, scorer.query_norms, scorer.gallery_norms)
