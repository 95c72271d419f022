"""Costs: sizes and operations counted by hand; times are positive, and of what they say."""

import numpy as np
import pytest
import torch
from torch import nn

from compatlib.study.lab.cases import case
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.make import make
from compatlib.study.lab.measures import cost, image_speed, index, size, training_seconds, transformation_speed
from compatlib.study.lab.measures.cost import TIMINGS, flops
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import H, Of, of_role
from compatlib.study.lab.trainables import Base, Side, Transformation, Widths

pytestmark = pytest.mark.usefixtures("keeps_trained")
PLACE = {"split": CLASS_INCREMENTAL, "distance": "cosine"}


@pytest.fixture(scope="module")
def trained(tiny_run):
    return Seed(tiny_run(), 0)


def asked(trained, ask, query, gallery) -> list[dict]:
    return list(ask(trained, case(query, gallery, ask, **PLACE)))


class Small(nn.Module):
    """A convolution and a linear map, whose operations are counted here by hand."""

    def __init__(self):
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Linear(5, 7, bias=False)

    def forward(self, images):
        assert images.device == self.linear.weight.device
        return self.linear(self.convolution(images.float()).relu().mean(dim=(2, 3)))


@pytest.mark.parametrize("side", [4, 9])
def test_operations_are_two_a_product(side):
    images = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    assert flops(Small().eval(), images) == 2 * (side * side * 5 * 3 * 3 * 3 + 5 * 7)
    elsewhere = Small().eval().to("meta")  # as a GPU, on which embedding leaves a network
    assert flops(elsewhere, images) == flops(Small().eval(), images)


def test_sizes_are_those_of_the_stand_alone_model_of_a_width(trained):
    what = Widths("BCT-S")
    found = {}
    for width in (0.25, 0.5, 1.0):
        rows = {row["metric"]: row["value"] for row in asked(trained, size, Of(what, width), Of(what, width))}
        backbone = make(trained.run, what, 0)[0].backbone(width)
        assert rows["parameters"] == sum(parameter.numel() for parameter in backbone.parameters())
        found[width] = (rows["parameters"], rows["flops"])
    assert sorted(found.values()) == list(found.values())
    assert len(set(found.values())) == 3
    assert found[1.0] == tuple(row["value"] for row in asked(trained, size, of_role("new"), of_role("new")))


def test_the_cost_of_a_case_is_all_that_it_stands_on(trained):
    whats = (Base("old"), Base("new"), Side("SimCLR", 8), Transformation(Side("SimCLR", 8)))
    seconds = {what: make(trained.run, what, 0)[0].artifact.about["cost"]["seconds"] for what in whats}
    (row,) = asked(trained, training_seconds, of_role("new"), of_role("old"))
    assert row == {"metric": "training_seconds", "value": pytest.approx(seconds[Base("new")] + seconds[Base("old")])}
    (row,) = asked(trained, training_seconds, of_role("new"), H(whats[-1]))
    assert row["value"] == pytest.approx(sum(seconds.values()))
    (row,) = asked(trained, training_seconds, of_role("new"), of_role("new"))  # each once
    assert row["value"] == pytest.approx(seconds[Base("new")])


def test_speeds_are_positive_and_of_the_transformation_that_is_asked(trained, monkeypatch):
    h, timed = H(Transformation(Side("SimCLR", 8))), []
    upgrade = cost.upgrade_gallery

    def record(module, old, side, *others, **options):
        timed.append((module, np.array(old), np.array(side)))
        return upgrade(module, old, side, *others, **options)

    monkeypatch.setattr(cost, "upgrade_gallery", record)
    found = [*asked(trained, image_speed, of_role("new"), h), *asked(trained, transformation_speed, of_role("new"), h)]
    assert [row["metric"] for row in found] == ["images_per_second", "vectors_per_second"]
    assert all(row["value"] > 0 for row in found)
    ((module, old, side),) = timed
    assert module is trained.made(h.transformation).parts
    stored = h.inputs(trained, CLASS_INCREMENTAL)
    assert len(old) == len(side) == 50 * 40
    np.testing.assert_array_equal(old[-40:], stored[0])
    np.testing.assert_array_equal(side[:40], stored[1])


def test_an_index_is_compared_with_the_exact_search(trained):
    h = H(Transformation())
    found = {(row["variant"], row["metric"]): row for row in asked(trained, index, of_role("new"), h)}
    assert {row["distance"] for row in found.values()} == {"cosine"}
    assert found["exact", "recall@10"]["value"] == 1
    assert 0.2 < found["IVF-PQ", "recall@10"]["value"] <= 1
    assert found["exact", "bytes_per_item"]["value"] == 4 * 16 > found["IVF-PQ", "bytes_per_item"]["value"]
    for kind in ("exact", "IVF-PQ"):
        assert all(found[kind, f"{what}_seconds"]["value"] >= 0 for what in ("build", "search"))


def test_what_is_wall_clock_is_named_so(trained):
    """Such rows are never compared."""
    h = H(Transformation())
    asks = (image_speed, transformation_speed, index, size, training_seconds)
    measured = {row["metric"] for ask in asks for row in asked(trained, ask, of_role("new"), h)}
    assert set(TIMINGS) == measured - {"recall@10", "bytes_per_item", "parameters", "flops"}
