"""Compiled loops over rows of scores: correct and incorrect items are counted, nothing but correct scores is sorted.

No loop uses fast-math and every row is worked on alone, so no result depends on the number of threads.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numba
import numpy as np
import torch
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """numba's cache on disk, without which a loop is compiled all the same: a disk may be full, a file damaged."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle raises anything
            with suppress(Exception):
                self.flush()  # the next process finds a whole one
            return None

    def save_overload(self, sig, data):
        with suppress(Exception):
            super().save_overload(sig, data)


def compiled(function):
    """`numba.njit` that lets other threads run, cached on disk where that is possible."""
    loop = numba.njit(error_model="numpy", nogil=True)(function)
    with suppress(RuntimeError):  # numba finds no folder for its cache: the package lies where nobody can write
        loop._cache = _Cache(function)
    return loop


def compiled_parallel(function):
    """As `compiled`, on as many threads as torch uses.

    The last two arguments of the function say which of the rows are a thread's: the first, and how far apart they are.
    The threads are Python's and end with the call. numba's own would be of the OpenMP runtime that torch uses too, so
    that an evaluation changed torch's number of threads, and no process that is forked later could evaluate.
    """
    kernel = compiled(function)

    @functools.wraps(function)
    def run(*arguments):
        threads = torch.get_num_threads()
        if threads == 1:
            return kernel(*arguments, 0, 1)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda first: kernel(*arguments, first, threads), range(threads)))

    return run


CELLS = 4  # grid cells for every correct score


@compiled
def square_and_normalise(block, squares, normalise):
    """Writes the squared norm of each row (float64) and, if asked, divides the row by its norm; zero rows stay zero."""
    for i in range(block.shape[0]):
        total = 0.0
        for k in range(block.shape[1]):
            total += np.float64(block[i, k]) * np.float64(block[i, k])
        squares[i] = total
        if normalise and total > 0.0:
            norm = np.sqrt(total)
            for k in range(block.shape[1]):
                block[i, k] = np.float32(np.float64(block[i, k]) / norm)


@compiled_parallel
def rank_rows(
    scores, start, end, own, camera, order, item_camera, first_rank, average_precision, nearest, first=0, step=1
):
    """Ranks and average precision of n queries from their complete rows of scores, which are overwritten.

    scores: (n, g). order: (g,) items sorted by label; those of query i's label are order[start[i] : end[i]]. own: (n,)
    item that query i must not find, or -1. camera, item_camera: (n,) and (g,), or empty without cameras.
    first_rank, average_precision, nearest: (n,) results as in `Retrieval`; without a correct item the first two stay.
    """
    for i in range(first, scores.shape[0], step):
        row = scores[i]
        if own[i] >= 0:
            row[own[i]] = -np.inf
        levels = np.empty(end[i] - start[i], dtype=np.float32)
        n = 0
        best, best_item = np.float32(-np.inf), np.int64(-1)
        for position in range(start[i], end[i]):
            item = order[position]
            score = row[item]
            row[item] = -np.inf  # below: reaches no correct score, and is never the nearest
            if score == -np.inf or (item_camera.shape[0] > 0 and item_camera[item] == camera[i]):
                continue
            levels[n] = score
            n += 1
            if score > best or (score == best and item < best_item):
                best, best_item = score, item
        levels = levels[:n]
        levels.sort()
        counts = np.zeros(n + 1, dtype=np.int64)
        nearest[i] = _count_incorrect(row, levels, counts, best, best_item)
        if n > 0:
            first_rank[i] = 1 + counts[n]
            average_precision[i] = _average_precision(levels, counts)


@compiled
def _count_incorrect(row, levels, counts, best, best_item):
    """Adds to counts[j] the items that reach exactly j of the n ascending correct scores; returns the nearest item."""
    n = levels.shape[0]
    low = levels[0] if n > 0 else np.float32(np.inf)
    high = levels[n - 1] if n > 0 else np.float32(np.inf)
    grid = np.empty(CELLS * n + 1, dtype=np.int32)
    scale = _fill_grid(levels, grid) if n > 0 else np.float32(0)
    last_cell = CELLS * n - 1
    for item in range(row.shape[0]):
        score = row[item]
        if score >= best and (score > best or item < best_item):
            best, best_item = score, item
        reached = np.int64(0)
        if score >= high:
            reached = n
        elif score >= low:
            # Subtracting and scaling keep the order, so all correct scores of lower cells lie below this score.
            cell = min(np.int64((score - low) * scale), last_cell)
            reached = np.int64(grid[cell])
            reached += np.int64(levels[reached] <= score)
            if levels[reached] <= score:
                reached = _halve(levels, score, reached + 1, np.int64(grid[cell + 1]))
        counts[reached] += 1
    return best_item


@compiled
def _fill_grid(levels, grid):
    """Lays even cells over ascending scores: grid[c] is the number of them below cell c. Returns the cells per unit."""
    n = levels.shape[0]
    n_cells = CELLS * n
    scale = np.float32(n_cells - 1) / (levels[n - 1] - levels[0])
    if not np.isfinite(scale):  # equal scores, or all but equal ones: a single cell, searched by halving
        scale = np.float32(0)
    cell = 0
    for j in range(n):
        own_cell = min(np.int64((levels[j] - levels[0]) * scale), n_cells - 1)
        while cell <= own_cell:
            grid[cell] = j
            cell += 1
    grid[cell:] = n
    return scale


@compiled
def _halve(levels, score, below, above):
    """Number of the ascending levels that are at most the score; it lies in [below, above]."""
    while below < above:
        middle = (below + above) >> 1
        if levels[middle] <= score:
            below = middle + 1
        else:
            above = middle
    return below


@compiled
def _average_precision(levels, counts):
    """Step-wise average precision; items of equal score form one step."""
    n = levels.shape[0]
    incorrect = np.int64(0)
    total = 0.0
    j = n - 1
    while j >= 0:
        incorrect += counts[j + 1]
        top = j
        while j >= 0 and levels[j] == levels[top]:
            j -= 1
        correct = n - 1 - j
        total += (top - j) * (correct / (correct + incorrect))
    return total / n


@compiled_parallel
def count_impostor_bits(bits, row_labels, item_labels, own, prefix, counts, first=0, step=1):
    """Histogram of half of the bits of the scores of impostor pairs.

    bits: (n, g) float32 scores seen as uint32. row_labels: (n,), item_labels: (g,). own: (n,) item of no pair, or -1.
    counts: (parts, 65536); rows are shared out over the parts, so that no two threads write to one counter. prefix:
    -1 counts by the upper 16 bits; otherwise only scores with these upper bits count, by their lower 16 bits. The bits
    are changed so that they order as the numbers do.
    """
    parts = counts.shape[0]
    for part in range(first, parts, step):
        for r in range(part, row_labels.shape[0], parts):
            for c in range(item_labels.shape[0]):
                if c == own[r] or row_labels[r] == item_labels[c]:
                    continue
                value = bits[r, c]
                if value == np.uint32(0x80000000):
                    value = np.uint32(0)  # minus zero equals zero
                key = ~value if value & np.uint32(0x80000000) else value | np.uint32(0x80000000)
                upper = np.int64(key >> np.uint32(16))
                if prefix < 0:
                    counts[part, upper] += 1
                elif upper == prefix:
                    counts[part, np.int64(key & np.uint32(0xFFFF))] += 1


@compiled_parallel
def count_accepted(
    scores, row_labels, item_labels, own, threshold, genuine, accepted_genuine, accepted_impostor, first=0, step=1
):
    """Per query: genuine pairs, and the genuine and impostor pairs whose score is strictly above the threshold.

    scores: (n, g) float32. row_labels: (n,), item_labels: (g,). own: (n,) item of no pair, or -1. threshold: float64,
    so that it is not rounded to the scores' type. genuine, accepted_genuine, accepted_impostor: (n,) results.
    """
    for r in range(first, scores.shape[0], step):
        pairs, above_genuine, above_impostor = 0, 0, 0
        for c in range(scores.shape[1]):
            if c == own[r]:
                continue
            above = np.float64(scores[r, c]) > threshold
            if row_labels[r] == item_labels[c]:
                pairs += 1
                above_genuine += above
            else:
                above_impostor += above
        genuine[r], accepted_genuine[r], accepted_impostor[r] = pairs, above_genuine, above_impostor
