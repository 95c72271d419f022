"""The search: whom evolution lets have children, equal searches after a kill, what is never judged twice."""

import itertools
import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from compatlib.embedding import embed
from compatlib.methods import path_scores
from compatlib.methods.architecture_search import REWARDS, Evolution, evolve, random_search
from compatlib.methods.path_scores import Score
from compatlib.models.supernet import SuperNet
from tests.methods.test_path_scores import SMALL, judge

SHORT = Evolution(population=6, generations=4, parents=3, crossovers=2, mutations=2, mutation_rate=0.5)


class Counting:
    """A judge without a model: the share of blocks that are as in `best`, with noise of the path's own."""

    def __init__(self, blocks: int = 6) -> None:
        sizes = {"blocks": (blocks,), "widths": (8,), "strides": (1,), "middles": (0.25, 0.5, 0.75, 1)}
        self.network, self.judged = SuperNet(**SMALL | sizes), []
        self.best = self.network.random_path(torch.Generator().manual_seed(99))

    def __call__(self, path) -> Score:
        self.judged.append(path)
        share = sum(a == b for a, b in zip(path, self.best, strict=True)) / len(path)
        return Score(" ".join(path), 1 - share / 2, share, self.network.flops(path), 0.0)


def paths(search) -> list[tuple[str, ...]]:
    return [tuple(row["path"].split()) for row in search.history]


def without_seconds(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


# With a model.


def test_no_path_is_judged_twice_and_the_gallery_model_embeds_once(monkeypatch):
    embedded = []

    def noted(backbone, *given, **options):
        embedded.append(backbone)
        return embed(backbone, *given, **options)

    monkeypatch.setattr(path_scores, "embed", noted)
    judged = judge()
    searches = [evolve(judged, 1e9, seed=0, reward=reward, evolution=SHORT) for reward in REWARDS]
    searches.append(random_search(judged, 1e9, seed=0, evolution=SHORT))
    different = {path for search in searches for path in paths(search)}
    assert sum(backbone is judged.gallery_backbone for backbone in embedded) == 1
    assert len(embedded) == 1 + len(different) < 1 + sum(len(search.history) for search in searches)


def search(record, kill_after: int = 0):
    """A search; after so many paths the process ends by SIGKILL."""
    told = []

    def report(share, text):
        told.append((share, text))
        if len(told) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    return evolve(judge(record=record), 80_000, seed=3, reward="R3", evolution=SHORT, report=report), told


def scores_after(record, kill_after: int = 0) -> list[dict]:
    """What the record holds after a process of its own has searched, or was killed."""
    process = multiprocessing.get_context("fork").Process(target=search, args=(record, kill_after))
    process.start()
    process.join(100)
    assert process.exitcode == (-signal.SIGKILL if kill_after else 0)
    return json.loads(record.read_text())["scores"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_searches_that_were_killed_go_on_to_the_same_populations(tmp_path, monkeypatch):
    whole, cut, before = tmp_path / "whole.json", tmp_path / "cut.json", []
    for lived in (4, 13, 20, 0):  # within the first generation, later, and to the end
        scores = scores_after(cut, lived)
        assert len(scores) == (lived or 24)
        assert scores[: len(before)] == before  # nothing is judged again
        before = scores
    scores_after(whole)
    monkeypatch.setattr(path_scores, "embed", None)  # all is there
    (expected, told), (found, again) = search(whole), search(cut)
    assert without_seconds(found.history) == without_seconds(expected.history)
    assert found.best == expected.best
    assert again == told
    assert told[8][0] == 9 / 24
    assert told[8][1].startswith("generation 2 of 4, path 3 of 6, best R3 0.")


# Evolution.


def test_every_path_is_new_and_under_the_cap_and_counted():
    judged = Counting()
    cap = judged.network.flops(judged.network.start)
    evolution = Evolution(population=10, generations=5, parents=4, crossovers=4, mutations=3)
    found = evolve(judged, cap, seed=1, evolution=evolution)
    assert len(judged.judged) == len(set(judged.judged)) == 50
    assert max(row["flops"] for row in found.history) <= cap
    assert [row["generation"] for row in found.history] == sorted([1, 2, 3, 4, 5] * 10)
    assert [row["number"] for row in found.history] == [*range(1, 11)] * 5
    origins = [row["origin"] for row in found.history]
    assert origins[:20] == ["random"] * 10 + ["crossover"] * 4 + ["mutation"] * 3 + ["random"] * 3
    assert list(found.history[0]) == [
        *("generation", "number", "origin", "path", "self_test", "cross_test", "flops", "seconds", "reward")
    ]
    assert " ".join(found.best) == max(found.history, key=lambda row: row["reward"])["path"]


def test_children_are_those_of_the_best_so_far():
    evolution = Evolution(population=20, generations=4, parents=3, crossovers=10, mutations=10, mutation_rate=0.2)
    found = evolve(Counting(), 1e9, seed=2, evolution=evolution)
    moved = []
    for generation in (2, 3, 4):
        before = [row for row in found.history if row["generation"] < generation]
        best = sorted(before, key=lambda row: -row["reward"])[:3]
        parents = [tuple(row["path"].split()) for row in best]
        for row in (row for row in found.history if row["generation"] == generation):
            path = tuple(row["path"].split())
            if row["origin"] == "crossover":
                pairs = [zip(path, a, b, strict=True) for a in parents for b in parents]
                assert any(all(own in (one, other) for own, one, other in pair) for pair in pairs)
            elif row["origin"] == "mutation":
                differing = [sum(a != b for a, b in zip(path, parent, strict=True)) for parent in parents]
                moved.append(min(differing))
    assert min(moved) >= 1
    assert 1.2 < sum(moved) / len(moved) < 2  # a fifth of six blocks, and never none


def test_evolution_finds_more_than_chance_at_as_many_paths():
    evolution = Evolution(population=20, generations=6, parents=5, crossovers=10, mutations=10)
    best = dict.fromkeys((evolve, random_search), 0.0)
    for search, seed in itertools.product(best, (0, 1)):
        found = search(Counting(), 1e9, seed=seed, evolution=evolution)
        best[search] += max(row["reward"] for row in found.history) / 2
    assert best[evolve] >= best[random_search] + 0.2


def test_rewards_are_those_of_the_text_and_begin_alike():
    judged = Counting()
    searches = {reward: evolve(judged, 1e9, seed=0, reward=reward, evolution=SHORT) for reward in REWARDS}
    for reward, found in searches.items():
        for row in found.history:
            own, cross = row["self_test"], row["cross_test"]
            assert row["reward"] == {"R1": own, "R2": cross, "R3": own * cross}[reward]
    firsts = [paths(found)[:6] for found in (*searches.values(), random_search(judged, 1e9, seed=0, evolution=SHORT))]
    assert firsts == [firsts[0]] * 4
    assert paths(searches["R1"]) != paths(searches["R2"])


def test_a_seed_decides():
    first, same, other = (evolve(Counting(), 1e9, seed=seed, evolution=SHORT).history for seed in (5, 5, 6))
    assert first == same != other


def test_random_search_draws_all_anew():
    found = random_search(Counting(), 1e9, seed=0, evolution=SHORT)
    assert {row["origin"] for row in found.history} == {"random"}
    assert len(set(paths(found))) == 24


def test_a_space_is_searched_to_its_last_path_and_no_further():
    judged = Counting(blocks=1)  # 16 paths
    everything = Evolution(population=4, generations=4, parents=2, crossovers=1, mutations=1)
    found = evolve(judged, 1e9, seed=0, evolution=everything)
    assert set(paths(found)) == {(choice,) for choice in judged.network.choices}
    assert found.best == judged.best
    with pytest.raises(ValueError, match=r"only 0 of 4 new paths were found .* with 16 judged before; raise the cap"):
        evolve(judged, 1e9, seed=0, evolution=replace(everything, generations=5))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_flops": 10}, r"max_flops is 10; the cheapest path has [\d,]+: raise the cap"),
        ({"max_flops": float("nan")}, "max_flops is nan"),
        ({"reward": "R4"}, "R4.*R1"),
    ],
)
def test_wrong_arguments_of_a_search(given, words):
    with pytest.raises(ValueError, match=words):
        evolve(Counting(), **{"max_flops": 1e9, "seed": 0} | given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"population": 0}, "population"),
        ({"parents": 2.5}, "parents"),
        ({"mutations": -1}, "mutations"),
        ({"crossovers": 30}, "30 crossovers and 25 mutations are more than the population of 50; ask for fewer"),
        ({"mutation_rate": 0.0}, r"mutation_rate must lie in \(0, 1\], got 0.0"),
    ],
)
def test_wrong_sizes_of_an_evolution(given, words):
    with pytest.raises(ValueError, match=words):
        Evolution(**given)
