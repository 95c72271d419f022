"""From scores to rows: every subset's scores by explicit loops, and what a random ranking would give."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from compatlib.evaluation.chance import chance
from compatlib.evaluation.retrieval import evaluate
from compatlib.study import models
from compatlib.study.scoring import chance_rows, known_classes, named, score_rows, subsets
from compatlib.study.settings import settings

LABELS = torch.tensor([3, 0, 1, 2, 0, 1, 2, 2, 3, 0, 5, 2])  # the only query of class 5 has no correct item
RECORD = partial(dict, seed=7, method="BCT C")


def masks() -> dict[str, np.ndarray]:
    return subsets(LABELS, 2)


def value_of(rows: list[dict], subset: str, metric: str) -> float:
    (value,) = [row["value"] for row in rows if (row["subset"], row["metric"]) == (subset, metric)]
    return value


def test_subsets_are_all_known_and_unknown_queries():
    found = masks()
    assert list(found) == ["all", "known", "unknown"]
    for index, label in enumerate(LABELS.tolist()):
        assert found["all"][index]
        assert found["known"][index] == (label in (0, 1))
        assert found["unknown"][index] == (label in (2, 3, 5))
    assert all(mask.dtype == bool for mask in found.values())


@pytest.mark.parametrize(("classes", "known"), [(2, 1), (6, 3), (7, 4), (10, 5)])
def test_the_old_model_knew_the_first_half_of_the_classes(classes, known):
    run = settings({"profile": "smoke", "dataset": "digits"}).model_copy(update={"classes": classes})
    assert known_classes(run) == known == len(set(models.ROLES["old"].share(run).labels.tolist()))


@pytest.mark.parametrize("seed", range(4))
def test_rows_hold_every_subsets_scores(seed):
    random = np.random.default_rng(seed)
    query, gallery = random.integers(-2, 3, (2, len(LABELS), 4)).astype(np.float32)
    test = evaluate(query, gallery, LABELS, LABELS, exclude_self=True)
    rows = list(score_rows(RECORD, test, masks()))
    assert len(rows) == 9
    assert all(row["seed"] == 7 and row["method"] == "BCT C" for row in rows)
    for subset, mask in masks().items():
        chosen = [i for i in range(len(LABELS)) if mask[i] and LABELS[i] != 5]
        ranks = [int(test.first_rank[i]) for i in chosen]
        assert value_of(rows, subset, "cmc@1") == pytest.approx(sum(rank <= 1 for rank in ranks) / len(ranks))
        assert value_of(rows, subset, "cmc@5") == pytest.approx(sum(rank <= 5 for rank in ranks) / len(ranks))
        precisions = [float(test.average_precision[i]) for i in chosen]
        assert value_of(rows, subset, "map") == pytest.approx(sum(precisions) / len(precisions))


def test_names_of_scores_are_those_of_the_papers_values():
    vectors = np.eye(len(LABELS), dtype=np.float32)
    test = evaluate(vectors, vectors, LABELS, LABELS, ranks=(1, 2, 10))
    assert named(test) == {"cmc@1": 1.0, "cmc@2": 1.0, "cmc@10": 1.0, "map": test.mean_average_precision}
    assert list(named(chance(LABELS, LABELS))) == ["cmc@1", "cmc@5", "map"]


def chance_of(n: int, correct: int) -> dict[str, float]:
    """Expected scores of one query with n items in random order, rank by rank."""
    missed = {k: math.comb(n - correct, k) / math.comb(n, k) for k in (1, 5)}
    precision = 0.0
    for rank in range(1, n + 1):
        # The item at this rank is correct, and so many of those before it are expected to be.
        before = (rank - 1) * (correct - 1) / (n - 1)
        precision += correct / n * (1 + before) / rank / correct
    return {"cmc@1": 1 - missed[1], "cmc@5": 1 - missed[5], "map": precision}


def test_chance_is_the_mean_over_the_subsets_queries_against_the_whole_gallery():
    rows = list(chance_rows(partial(dict, seed=7), LABELS, masks()))
    assert len(rows) == 9
    assert {row["method"] for row in rows} == {"chance"}
    counts = {label: LABELS.tolist().count(label) for label in set(LABELS.tolist())}
    for subset, mask in masks().items():
        chosen = [label for label, wanted in zip(LABELS.tolist(), mask, strict=True) if wanted and counts[label] > 1]
        levels = [chance_of(len(LABELS) - 1, counts[label] - 1) for label in chosen]
        for metric in ("cmc@1", "cmc@5", "map"):
            expected = sum(level[metric] for level in levels) / len(levels)
            assert value_of(rows, subset, metric) == pytest.approx(expected)


def test_chance_of_a_subset_is_what_random_rankings_score_on_average():
    random, mask = np.random.default_rng(0), masks()["known"]
    (row,) = [r for r in chance_rows(partial(dict, seed=7), LABELS, {"known": mask}) if r["metric"] == "cmc@1"]
    shares = []
    for _ in range(1000):
        vectors = random.normal(size=(2, len(LABELS), 16)).astype(np.float32)
        shares.append(evaluate(*vectors, LABELS, LABELS, exclude_self=True).subset(mask).cmc[1])
    assert row["value"] == pytest.approx(np.mean(shares), abs=5 * np.std(shares) / math.sqrt(len(shares)))
