"""Rows of what gradients did: read from statistics that were drawn."""

import itertools
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from compatlib.study.lab.cases import case
from compatlib.study.lab.gradient_statistics import GradientStatistics
from compatlib.study.lab.images import CLOSED
from compatlib.study.lab.make import make
from compatlib.study.lab.measures import gradients, gradients_by_epoch, gradients_by_tensor
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Widths

EPOCHS, STEPS, TENSORS = 3, 4, ("a", "b", "c.weight")
NAMES = ("1", "0.5", "0.25")  # as rows have them


@dataclass
class Trained:
    """A seed whose training has kept these statistics."""

    statistics: GradientStatistics

    def made(self, what):
        return SimpleNamespace(parts={"statistics": self.statistics})


@pytest.fixture(scope="module", params=[0, 1])
def statistics(request):
    found = GradientStatistics(("1.0", "0.5", "0.25"), TENSORS, EPOCHS, STEPS)
    random = torch.Generator().manual_seed(request.param)
    for name, buffer in found.named_buffers():
        drawn = torch.randint(0, STEPS + 1, buffer.shape, generator=random).to(buffer.dtype)
        buffer.copy_(torch.tensor(EPOCHS * STEPS) if name == "_taken" else drawn)
    return found


def asked(statistics, ask) -> list[dict]:
    space = Of(Widths("SFSC"))
    return list(ask(Trained(statistics), case(space, space, ask, split=CLOSED, method="SFSC")))


def value_of(rows: list[dict], **cell) -> float:
    """Of the one row that has these columns, and no other."""
    found = [row for row in rows if {name: each for name, each in row.items() if name != "value"} == cell]
    assert len(found) == 1, cell
    return found[0]["value"]


def test_epochs_are_told_by_width_and_by_pair(statistics):
    rows = asked(statistics, gradients_by_epoch)
    for epoch in range(EPOCHS):
        at = {"x_name": "epoch", "x": float(epoch + 1)}
        for place, name in enumerate(NAMES):
            own = at | {"query_model": name}
            assert value_of(rows, metric="gradient norm", **own) == float(statistics.norm[epoch, place])
            assert value_of(rows, metric="uncertainty", **own) == float(statistics.uncertainty[epoch, place])
            assert value_of(rows, metric="hurt", **own) == float(statistics.hurt[epoch, place])
        conflicts = []
        for i, j in itertools.combinations(range(3), 2):
            pair = at | {"query_model": NAMES[j], "gallery_model": NAMES[i]}
            assert value_of(rows, metric="cosine", **pair) == float(statistics.cosine[epoch, i, j])
            assert value_of(rows, metric="conflicts", **pair) == float(statistics.conflicts[epoch, i, j])
            conflicts.append(float(statistics.conflicts[epoch, i, j]))
        assert value_of(rows, metric="hurt any", **at) == float(statistics.hurt_any[epoch])
        assert value_of(rows, metric="conflicts", **at) == pytest.approx(sum(conflicts) / 3)
    assert len(rows) == EPOCHS * (3 * 3 + 3 * 2 + 2)


def test_a_training_is_the_mean_over_its_epochs(statistics):
    rows = asked(statistics, gradients)
    pairs = list(itertools.combinations(range(3), 2))
    conflicts = [float(statistics.conflicts[epoch, i, j]) for epoch in range(EPOCHS) for i, j in pairs]
    assert value_of(rows, metric="conflicts") == pytest.approx(np.mean(conflicts), abs=1e-6)
    assert value_of(rows, metric="hurt") == pytest.approx(np.mean(statistics.hurt.numpy()), abs=1e-6)
    assert value_of(rows, metric="hurt any") == pytest.approx(np.mean(statistics.hurt_any.numpy()), abs=1e-6)
    assert len(rows) == 3


def test_tensors_are_told_in_their_order(statistics):
    rows = asked(statistics, gradients_by_tensor)
    places = [(row["variant"], row["x_name"], row["x"]) for row in rows]
    assert places == [(name, "tensor", place) for place, name in enumerate(TENSORS)]
    pairs = list(itertools.combinations(range(3), 2))
    for place, row in enumerate(rows):
        own = [float(statistics.tensor_conflicts[epoch, place, i, j]) for epoch in range(EPOCHS) for i, j in pairs]
        assert row["value"] == pytest.approx(np.mean(own), abs=1e-6)


def test_a_training_keeps_them(keeps_trained, tiny_run):
    trained, space = Seed(tiny_run(), 0), Of(Widths("BCT-S"))
    kept = make(trained.run, space.what, 0)[0].parts["statistics"]
    own = case(space, space, gradients_by_epoch, gradients_by_tensor, split=CLOSED)
    rows = list(gradients_by_epoch(trained, own))
    cell = {"metric": "gradient norm", "query_model": "0.25", "x_name": "epoch", "x": 1.0}
    assert value_of(rows, **cell) == float(kept.norm[0, 2]) > 0
    tensors = [row["variant"] for row in gradients_by_tensor(trained, own)]
    network = make(trained.run, space.what, 0)[0].parts["network"]
    by_name = dict(network.backbone.named_parameters())
    for name, parameter in zip(tensors, network.shared_parameters(), strict=False):
        assert by_name[name] is parameter
    assert tensors[-1] == "classifier.weight"
