"""Cost of the exact evaluation, beside the bare matrix product and scikit-learn's loop over queries."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from compatlib.evaluation.retrieval import evaluate

PROJECT = Path(__file__).resolve().parents[2]
N, SIZE, CLASSES = 10_000, 128, 100  # 100 correct items a query
ROUNDS = 7
LOOP_QUERIES = 100  # queries of the loop that are timed; its cost grows with their number

# ru_maxrss would be inherited from the parent, and the difference of a small child of a large parent be 0.
MEMORY = """
from pathlib import Path
import numpy as np
from compatlib.evaluation.retrieval import evaluate

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

random = np.random.default_rng(0)
query = random.standard_normal((1000, 128), dtype=np.float32)
evaluate(query, query, np.arange(1000), np.arange(1000))
gallery = np.empty((1_000_000, 128), dtype=np.float32)
for first in range(0, len(gallery), 10_000):
    gallery[first : first + 10_000] = random.standard_normal((10_000, 128), dtype=np.float32)
labels = np.arange(1_000_000) % 10_000
before = peak()
evaluate(query, gallery, labels[:1000], labels)
print((peak() - before) / 1e9)
"""


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _fastest(*calls: Callable[[], object]) -> list[float]:
    """The shortest time of each call; they take turns, so that a busy machine slows all of them."""
    for call in calls:
        call()
    return np.min([[_seconds(call) for call in calls] for _ in range(ROUNDS)], axis=0).tolist()


def _loop(query: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> list[tuple[float, int]]:
    """What the evaluation replaces: average precision and first rank of one query after the other."""
    scored = []
    for row, label in zip(query, labels, strict=False):
        scores, same = gallery @ row, labels == label
        scored.append((average_precision_score(same, scores), 1 + (scores[~same] >= scores[same].max()).sum()))
    return scored


def run() -> list[dict]:
    """Ratios of times taken in turn, and the memory of a large gallery above its input."""
    random = np.random.default_rng(0)
    query, gallery = (random.standard_normal((N, SIZE), dtype=np.float32) for _ in range(2))
    labels = np.arange(N) % CLASSES
    left, right, product = torch.from_numpy(query), torch.from_numpy(gallery), torch.empty(N, N)
    bare, cosine, euclidean, loop = _fastest(
        lambda: torch.mm(left, right.T, out=product),
        lambda: evaluate(query, gallery, labels, labels),
        lambda: evaluate(query, gallery, labels, labels, distance="euclidean"),
        lambda: _loop(query[:LOOP_QUERIES], gallery, labels),
    )
    loop *= N / LOOP_QUERIES
    shape = f"{N:,} × {N:,} × {SIZE}, {N // CLASSES} correct items a query"
    memory = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=600
    )
    return [
        {
            "name": f"evaluate, {distance}",
            "measured": seconds / bare,
            "bound": 5.0,
            "better": "lower",
            "unit": "× bare product",
            "detail": f"{shape}; {seconds:.3g} s against {bare:.3g} s, fastest of {ROUNDS} rounds in turn",
        }
        for distance, seconds in (("cosine", cosine), ("euclidean", euclidean))
    ] + [
        {
            "name": "evaluate against scikit-learn's loop",
            "measured": loop / cosine,
            "bound": 15.0,
            "better": "higher",
            "unit": "× faster",
            "detail": f"{shape}; loop: {loop:.3g} s, from {LOOP_QUERIES} queries scaled to {N:,}",
        },
        {
            "name": "memory of evaluate above its input",
            "measured": float(memory.stdout),
            "bound": 1.5,
            "better": "lower",
            "unit": "GB",
            "detail": f"1,000 × 1,000,000 × {SIZE}, float32; the matrix of scores alone would be 4 GB",
        },
    ]
