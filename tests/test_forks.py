"""What this process has computed on several threads, processes that it forks afterwards compute too."""

import multiprocessing

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate, search, verification_of_pairs
from compatlib.training import Recipe, fit, initialised

PATIENCE = 60  # seconds; without a mend a process waits for ever


def vectors(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).normal(size=(400, 64)), np.arange(400) // 10


def images() -> ImageSet:
    pixels = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(32) % 2, ("a", "b"))


class Network(nn.Module):
    """Wide enough for several threads."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(768, 512), nn.ReLU(), nn.Linear(512, 2))

    def forward(self, x):
        return self.layers(x.float() / 255)


def network() -> nn.Module:
    return initialised(Network, 0, "new")


def trained(seed: int) -> float:
    model = network()

    def objective(inputs, labels, indices):
        yield "classification", F.cross_entropy(model(inputs), labels)

    fit(objective, model, images(), Recipe(1, 16), seed=seed, role="new")
    return float(next(model.parameters()).detach().abs().sum())


WORK = {
    "evaluate": lambda seed: evaluate(*[vectors(seed)[0]] * 2, *[vectors(seed)[1]] * 2).mean_average_precision,
    "search": lambda seed: float(search(*[vectors(seed)[0]] * 2, 3).scores.sum()),
    "verification": lambda seed: (
        verification_of_pairs(*[vectors(seed)[0]] * 2, *[vectors(seed)[1]] * 2, far=0.01).true_accept_rate
    ),
    "embed": lambda seed: float(embed(network(), images()).sum()),
    "train": trained,
}


def work(name: str) -> float:
    return WORK[name](0)


def threads_of(_) -> int:
    return torch.get_num_threads()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_forked_process_computes_what_its_parent_has_computed(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = [work(name) for name in WORK]
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.map_async(work, WORK).get(PATIENCE) == pytest.approx(expected, rel=1e-4)
            assert pool.map_async(threads_of, [0]).get(PATIENCE) == [1]
        assert torch.get_num_threads() == threads
        assert work("evaluate") == expected[0]
    finally:
        torch.set_num_threads(before)
