"""Search for a query network in a super-network: paths judged with its weights, evolution under a cap of operations.

The scheme is that of single path one shot (Guo et al., ECCV 2020; its released code): the best paths so far are the
parents, half of a generation are crossovers, half mutations, and what is over the cap or was there before is drawn
again. CMP-NAS (Duggal et al., CVPR 2021) puts a reward that sees the gallery in the accuracy's place. How it searched
is remembered, not read.

A search draws everything from its seed, and a path's score depends on the path alone. So a `Judge` keeps the scores in
a file, and who calls `evolve` again after an interruption goes through the same generations, and finds those scores.
Of Optuna, Nevergrad, DEAP and pymoo each would spare the drawing of parents and children alone, a dozen lines; that no
path is judged twice or over the cap, that all searches judge equally many, and the same generations after an
interruption without a pickled sampler would be code around each.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from compatlib import training
from compatlib.embedding import Report
from compatlib.evaluation import checks
from compatlib.methods.path_scores import Judge, Score
from compatlib.models import supernet
from compatlib.models.supernet import SuperNet

REWARDS: Mapping[str, Callable[[Score], float]] = {
    "R1": lambda score: score.self_test,
    "R2": lambda score: score.cross_test,
    "R3": lambda score: score.self_test * score.cross_test,
}
TRIALS = 1_000  # of a path that is new and within the cap


@dataclass(frozen=True)
class Evolution:
    """How a search goes on; the defaults are SPOS's.

    population: paths judged in a generation. parents: how many of the best so far have children. crossovers, mutations:
    children of two and of one; the rest of a generation is drawn anew, as all of the first is. mutation_rate: chance of
    a block to be drawn anew in a mutation.

    Raises:
        ValueError: a number out of range, or more children than a generation has paths.
    """

    population: int = 50
    generations: int = 20
    parents: int = 10
    crossovers: int = 25
    mutations: int = 25
    mutation_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("population", "generations", "parents"):
            checks.whole_number(getattr(self, name), name, 1)
        for name in ("crossovers", "mutations"):
            checks.whole_number(getattr(self, name), name, 0)
        if self.crossovers + self.mutations > self.population:
            raise ValueError(
                f"{self.crossovers} crossovers and {self.mutations} mutations are more than the population of "
                f"{self.population}; ask for fewer children, or for a larger population"
            )
        if not 0 < self.mutation_rate <= 1:
            raise ValueError(f"mutation_rate must lie in (0, 1], got {self.mutation_rate}")


@dataclass(frozen=True)
class Search:
    """What a search found: the path of the highest reward, and every path that was judged, in order.

    A row of the history holds `generation` and `number` (from 1), `origin` (random, crossover or mutation), the fields
    of its `Score` and `reward`.
    """

    best: supernet.Path
    history: list[dict[str, Any]]


def evolve(
    judge: Judge,
    max_flops: float,
    *,
    seed: int,
    reward: str = "R2",
    evolution: Evolution = Evolution(),
    report: Report | None = None,
) -> Search:
    """Search the path of the highest reward under a cap of operations.

    Rewards: R1 = M(a, a), ordinary search; R2 = M(a, φ_g); R3 = R1 · R2 (remembered, not read: our reading). The first
    generation is the same for all rewards of a seed.

    Args:
        judge: scores paths; with a `record` an interrupted search goes on to the same result.
        max_flops: most operations of one image, as `SuperNet.flops` counts.
        seed: any integer.
        reward: one of `REWARDS`.
        evolution: sizes; `population` × `generations` different paths are judged.
        report: called after every path as (share done, text).

    Raises:
        ValueError: an unknown reward, a cap below the cheapest path, or too few paths under the cap.
    """
    checks.choice(reward, "reward", tuple(REWARDS))
    network = judge.network
    least = network.flops(network.cheapest())
    if not max_flops >= least:
        raise ValueError(f"max_flops is {max_flops}; the cheapest path has {least:,}: raise the cap")
    rows: list[dict[str, Any]] = []
    found: dict[supernet.Path, float] = {}
    total = evolution.generations * evolution.population
    for generation in range(evolution.generations):
        random = training.stream(seed, "search", generation)
        children = _children(network, found, evolution, max_flops, random)
        for number, (path, origin) in enumerate(children.items(), 1):
            score = judge(path)
            found[path] = REWARDS[reward](score)
            row = {"generation": generation + 1, "number": number, "origin": origin}
            rows.append(row | asdict(score) | {"reward": found[path]})
            if report is not None:
                told = f"generation {generation + 1} of {evolution.generations}, path {number} of {len(children)}"
                report(len(rows) / total, f"{told}, best {reward} {max(found.values()):.3f}")
    return Search(_best(found, 1)[0], rows)


def random_search(
    judge: Judge,
    max_flops: float,
    *,
    seed: int,
    reward: str = "R2",
    evolution: Evolution = Evolution(),
    report: Report | None = None,
) -> Search:
    """As many different paths as `evolve` judges, all drawn uniformly among those under the cap; as `evolve`."""
    childless = replace(evolution, crossovers=0, mutations=0)
    return evolve(judge, max_flops, seed=seed, reward=reward, evolution=childless, report=report)


def _best(found: Mapping[supernet.Path, float], count: int) -> list[supernet.Path]:
    """The paths of the highest rewards, of equal ones the earlier."""
    return sorted(found, key=found.get, reverse=True)[:count]


def _children(
    network: SuperNet,
    found: Mapping[supernet.Path, float],
    evolution: Evolution,
    max_flops: float,
    random: torch.Generator,
) -> dict[supernet.Path, str]:
    """A generation: new paths under the cap and where they come from."""
    parents, children = _best(found, evolution.parents), {}

    def parent() -> supernet.Path:
        return parents[int(torch.randint(len(parents), (), generator=random))]

    def mixed(first: supernet.Path, second: supernet.Path, rate: float) -> supernet.Path:
        """The first, with a block of the second wherever the chance falls."""
        taken = torch.rand(len(first), generator=random) < rate
        return tuple(b if other else a for a, b, other in zip(first, second, taken.tolist(), strict=True))

    def mutated() -> supernet.Path:
        return mixed(parent(), network.random_path(random), evolution.mutation_rate)

    draws = {
        "crossover": (evolution.crossovers if parents else 0, lambda: mixed(parent(), parent(), 0.5)),
        "mutation": (evolution.mutations if parents else 0, mutated),
        "random": (evolution.population, lambda: network.random_path(random)),
    }
    for origin, (count, draw) in draws.items():
        wanted, trials = min(len(children) + count, evolution.population), TRIALS * count
        while len(children) < wanted and trials:
            path, trials = draw(), trials - 1
            if path not in found and network.flops(path) <= max_flops:
                children.setdefault(path, origin)
    if len(children) < evolution.population:
        raise ValueError(
            f"only {len(children)} of {evolution.population} new paths were found within max_flops={max_flops:,}, with "
            f"{len(found)} judged before; raise the cap, or judge fewer paths"
        )
    return children
