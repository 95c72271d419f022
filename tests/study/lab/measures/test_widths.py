"""What a classifier leaves free, and how well a sub-model fits, by hand."""

import numpy as np
import pytest
import torch

from compatlib.study.lab.cases import case
from compatlib.study.lab.images import CLASS_INCREMENTAL, training_images
from compatlib.study.lab.measures import row_space_energy, training_accuracy
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Base, Narrow, Widths

pytestmark = pytest.mark.usefixtures("keeps_trained")
SPACES = [Of(Base("old")), Of(Widths("SFSC"), 0.5), Of(Widths("SFSC")), Of(Narrow("independent", 0.25))]


@pytest.fixture(scope="module")
def trained(tiny_run):
    return Seed(tiny_run(), 0)


def asked(seed, space, ask) -> float:
    (row,) = ask(seed, case(space, space, ask, split=CLASS_INCREMENTAL, distance="cosine"))
    assert row["subset"] == "all"
    return row["value"]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.what.name} {space.width}")
def test_the_room_of_a_classifier_is_what_its_rows_can_make_of_a_vector(trained, space):
    """By least squares: the part of every embedding that some mixture of the rows gives."""
    rows = trained.made(space.what).parts["classifier"].weight.detach().double().numpy()
    within = whole = 0.0
    for vector in trained.vectors(space, CLASS_INCREMENTAL).astype(np.float64):
        mixture = np.linalg.lstsq(rows.T, vector, rcond=None)[0]
        within += float(np.square(rows.T @ mixture).sum())
        whole += float(np.square(vector).sum())
    assert asked(trained, space, row_space_energy) == pytest.approx(within / whole, abs=1e-5)


def test_rows_of_all_directions_leave_no_room_and_one_row_leaves_most(trained):
    space = SPACES[0]
    classifier = trained.made(space.what).parts["classifier"]
    before = classifier.weight.detach().clone()
    try:
        classifier.weight.data = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
        assert asked(trained, space, row_space_energy) == pytest.approx(1.0)
        vectors = trained.vectors(space, CLASS_INCREMENTAL)
        classifier.weight.data = torch.zeros(3, 16).index_fill(1, torch.tensor([2]), 1.0)
        expected = np.square(vectors[:, 2]).sum() / np.square(vectors).sum()
        assert asked(trained, space, row_space_energy) == pytest.approx(expected, abs=1e-6)
    finally:
        classifier.weight.data = before


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.what.name} {space.width}")
def test_training_accuracy_is_of_the_models_own_images_one_by_one(trained, space):
    made, own = trained.made(space.what), space.what.images(trained.run)
    right = []
    with torch.no_grad():
        for image, label in zip(own.images, own.labels, strict=True):
            logits = made.parts["classifier"](made.backbone(space.width)(image[None]))[0]
            right.append(int(logits.argmax()) == int(label))
    assert asked(trained, space, training_accuracy) == pytest.approx(np.mean(right))
    assert len(own) == len(training_images(trained.run)) // (2 if space == SPACES[0] else 1)
