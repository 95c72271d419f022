"""Orders of a gallery's items: each holds every item once, and has the property that its name says."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from compatlib.study.lab import orders
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.make import make
from compatlib.study.lab.orders import ASCENDING, BY_CLASS, DISTANCE, IN_TURN, LOSS, ORDERS, RANDOM, UNCERTAINTY
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import H, Mixed, of_role
from compatlib.study.lab.trainables import Base, Transformation

pytestmark = pytest.mark.usefixtures("keeps_trained")
FASTFILL = H(Transformation(objective="fastfill"))


@pytest.fixture(scope="module")
def seed(tiny_run):
    return Seed(tiny_run(), 0)


@pytest.fixture(scope="module")
def found(seed, keeps_trained):
    return {order: order_of(seed, order) for order in ORDERS}


@pytest.fixture(scope="module")
def labels(seed):
    return seed.labels(CLASS_INCREMENTAL)


def order_of(seed: Seed, order: str, h: H = FASTFILL) -> np.ndarray:
    return orders.order_of(seed, Mixed(h, of_role("new"), order), CLASS_INCREMENTAL)


def test_every_order_holds_every_item_once_and_is_another(found, labels):
    for order in found.values():
        assert sorted(order) == list(range(len(labels)))
    assert len({tuple(order) for order in found.values()}) == len(ORDERS)


def test_orders_by_uncertainty_by_loss_and_by_distance_descend(seed, found):
    stated = FASTFILL.log_variances(seed, CLASS_INCREMENTAL)
    losses = orders.true_losses(seed, Mixed(FASTFILL, of_role("new"), LOSS), CLASS_INCREMENTAL)
    new, changed = (seed.vectors(space, CLASS_INCREMENTAL) for space in (of_role("new"), FASTFILL))
    missed = np.array([np.sqrt(((a - b) ** 2).sum()) for a, b in zip(new, changed, strict=True)])
    assert (np.diff(stated[found[UNCERTAINTY]]) <= 0).all()
    assert (np.diff(stated[found[ASCENDING]]) >= 0).all()
    assert (np.diff(losses[found[LOSS]]) <= 0).all()
    assert (np.diff(missed[found[DISTANCE]]) <= 1e-5).all()


def test_classes_in_turn_take_one_of_each_before_the_second_of_any(seed, found, labels):
    stated = FASTFILL.log_variances(seed, CLASS_INCREMENTAL)
    for one in found[IN_TURN].reshape(4, 10):
        assert sorted(labels[one]) == list(range(10))
    for label in range(10):
        own = [item for item in found[IN_TURN] if labels[item] == label]
        assert (np.diff(stated[own]) <= 0).all()


def test_class_by_class_ends_a_class_before_the_next_and_keeps_the_random_order_within(found, labels):
    assert len(list(itertools.groupby(labels[found[BY_CLASS]]))) == 10
    for label in range(10):
        assert [i for i in found[BY_CLASS] if labels[i] == label] == [i for i in found[RANDOM] if labels[i] == label]


def test_the_random_order_is_the_seeds_own_and_that_of_every_transformation(seed, found):
    assert order_of(seed, RANDOM).tolist() == found[RANDOM].tolist()
    assert order_of(seed, RANDOM, H(Transformation())).tolist() == found[RANDOM].tolist()
    assert order_of(Seed(seed.run, 1), RANDOM).tolist() != found[RANDOM].tolist()


def test_of_equal_values_the_first_item_is_first():
    assert orders.descending(np.array([1.0, 3.0, 1.0, 3.0, 2.0])).tolist() == [1, 3, 4, 0, 2]


@pytest.mark.parametrize("number", range(5))
def test_turns_are_taken_in_the_order_of_the_items(number):
    labels, expected = np.random.default_rng(number).integers(0, 4, 23), []
    waiting = list(range(23))
    while waiting:  # a turn: the first of every class that is left
        turn = [item for place, item in enumerate(waiting) if labels[item] not in labels[waiting[:place]]]
        expected += turn
        waiting = [item for item in waiting if item not in turn]
    assert orders.in_turn(labels).tolist() == expected


def test_items_losses_are_the_formulas():
    torch.manual_seed(0)
    new, changed, labels = torch.randn(7, 3), torch.randn(7, 3), torch.arange(7) % 4
    classifier = torch.nn.Linear(3, 4)
    losses = orders.item_losses(new.numpy(), changed.numpy(), labels.numpy(), classifier)
    for item in range(7):
        logits = classifier(changed[item]).detach().double()
        target = 0.9 * F.one_hot(labels[item], 4) + 0.1 / 4
        missed = (new[item] - changed[item]).double().square().mean() - (target * logits.log_softmax(0)).sum()
        assert losses[item] == pytest.approx(float(missed), rel=1e-5)


def test_true_losses_are_under_the_new_models_classifier(seed, labels):
    classifier = make(seed.run, Base("new"), 0)[0].parts["classifier"]
    sides = (seed.vectors(space, CLASS_INCREMENTAL) for space in (of_role("new"), FASTFILL))
    expected = orders.item_losses(*sides, labels, classifier)
    found = orders.true_losses(seed, Mixed(FASTFILL, of_role("new"), LOSS), CLASS_INCREMENTAL)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_unknown_order_and_one_by_what_is_not_stated_are_refused(seed):
    with pytest.raises(ValueError, match="unknown order 'backwards'; choose one of \\('random', 'uncertainty'"):
        order_of(seed, "backwards")
    for order in (UNCERTAINTY, ASCENDING, IN_TURN):
        with pytest.raises(ValueError, match="states no uncertainty"):
            order_of(seed, order, H(Transformation()))
