"""BCT's baselines and one of Dual-Tuning's: alignments against explicit loops, their properties, small trainings."""

import copy
import itertools
import math
import re
from functools import cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compatlib.checkpoints import read_tensors
from compatlib.data.augment import crop_and_flip, unchanged
from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.methods import bct_baselines, independent
from compatlib.methods.bct_baselines import (
    Distillation,
    contrastive,
    hardest_triplet,
    normalised_distance,
    squared_error,
    two_way_triplet,
)
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.training import Recipe, initialised

SIZE = 4
# Embedding size, labels.
BATCHES = {
    "several classes": (SIZE, [0, 3, 2, 3, 1, 0, 4, 3]),
    "a sample": (SIZE, [2]),
    "one class": (SIZE, [1] * 5),
    "a class a sample": (SIZE, [4, 0, 2, 7]),
    "duplicated samples": (SIZE, [0, 0, 3, 3, 5, 5]),
    "targets that are reached": (SIZE, [0, 3, 3, 1]),
    "one coordinate": (1, [0, 2, 1, 0]),
    "more coordinates than samples": (16, [1, 0, 1]),
}
# Of the new embeddings and of the old ones.
SCALES = [(1e-6, 1e-6), (1e-3, 1e-3), (1.0, 1.0), (1e3, 1e3), (1e6, 1e6), (1e-3, 1e3), (1e3, 1e-3)]
# Every family as it is, and one at every scale.
CASES = [
    *((name, (1.0, 1.0)) for name in BATCHES),
    *(("several classes", scales) for scales in SCALES if scales != (1.0, 1.0)),
]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch(name: str, scales=(1.0, 1.0), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """New embeddings, old embeddings, labels."""
    dim, labels = BATCHES[name]
    old = scales[1] * normal(len(labels), dim, seed=seed + 1000)
    new = old.clone() if name == "targets that are reached" else scales[0] * normal(len(labels), dim, seed=seed)
    if name == "duplicated samples":
        new[1::2], old[1::2] = new[::2], old[::2]
    return new, old, torch.tensor(labels)


def unit(vector: list[float]) -> list[float]:
    return [value / math.hypot(*vector) for value in vector]


def inner(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def loop_squared_error(new, old, labels) -> float:
    squares = [(a - b) ** 2 for x, y in zip(new, old, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(squares) / len(squares)


def loop_normalised_distance(new, old, labels) -> float:
    return sum(math.dist(unit(x), unit(y)) ** 2 for x, y in zip(new, old, strict=True)) / len(new)


def loop_triplet(new, old, labels, margin=1.0, normalize=True) -> float:
    if normalize:
        new, old = [unit(x) for x in new], [unit(y) for y in old]
    total = 0.0
    for i, anchor in enumerate(new):
        negatives = [math.dist(anchor, old[j]) for j in range(len(old)) if labels[j] != labels[i]]
        if negatives:
            total += max(0.0, math.dist(anchor, old[i]) - min(negatives) + margin)
    return total / len(new)


def loop_two_way(new, old, labels, margin=0.3, normalize=True) -> float:
    """Every image's two embeddings are anchors once, among those of the other model."""
    if normalize:
        new, old = [unit(x) for x in new], [unit(y) for y in old]
    total = 0.0
    for i, j in itertools.product(range(len(new)), repeat=2):
        if i == j and len(set(labels)) > 1:
            positive = math.dist(new[i], old[i])
            among_old = min(math.dist(new[i], old[k]) for k in range(len(old)) if labels[k] != labels[i])
            among_new = min(math.dist(new[k], old[i]) for k in range(len(new)) if labels[k] != labels[i])
            total += max(0.0, positive - among_old + margin) + max(0.0, positive - among_new + margin)
    return total / len(new)


def loop_contrastive(new, old, labels, temperature=0.05) -> float:
    total = 0.0
    for i, anchor in enumerate(new):
        similarities = [inner(unit(anchor), unit(y)) / temperature for y in old]
        normaliser = math.log(sum(math.exp(value) for value in similarities))
        positives = [similarities[j] - normaliser for j in range(len(old)) if labels[j] == labels[i]]
        total -= sum(positives) / len(positives)
    return total / len(new)


def log_shares(embedding: list[float], rows: list[list[float]]) -> list[float]:
    logits = [inner(embedding, row) for row in rows]
    normaliser = max(logits) + math.log(sum(math.exp(value - max(logits)) for value in logits))
    return [value - normaliser for value in logits]


def loop_distillation(new, old, labels, rows) -> float:
    total = 0.0
    for x, y in zip(new, old, strict=True):
        total -= sum(math.exp(b) * a for a, b in zip(log_shares(x, rows), log_shares(y, rows), strict=True))
    return total / len(new)


def old_rows(dim: int, classes: int = 6) -> torch.Tensor:
    return normal(classes, dim, seed=77)


def loop_distillation_by_old_rows(new, old, labels) -> float:
    return loop_distillation(new, old, labels, old_rows(len(new[0])).double().tolist())


def distillation(new, old, labels):
    return Distillation(old_rows(new.shape[1]).to(new.dtype))(new, old, labels)


raw_triplet = partial(hardest_triplet, normalize=False)
ALIGNMENTS = {
    "squared error": (squared_error, loop_squared_error),
    "normalised distance": (normalised_distance, loop_normalised_distance),
    "triplet": (hardest_triplet, loop_triplet),
    "raw triplet": (raw_triplet, partial(loop_triplet, normalize=False)),
    "contrastive": (contrastive, loop_contrastive),
    "distillation": (distillation, loop_distillation_by_old_rows),
    "two-way triplet": (two_way_triplet, loop_two_way),
}
# How far float32 may be from float64, as a share of the value, and in the unit that the loss is made of.
PRECISION = {
    "squared error": (1e-5, 0.0),
    "normalised distance": (1e-5, 1e-6),
    "triplet": (1e-5, 1e-6),
    "raw triplet": (1e-5, 1e-6),
    "two-way triplet": (1e-5, 2e-6),
    "contrastive": (1e-5, 5e-5),
    "distillation": (1e-4, 1e-4),
}


def tolerance(alignment: str, scales: tuple[float, float]) -> dict[str, float]:
    relative, absolute = PRECISION[alignment]
    if alignment in ("raw triplet", "distillation"):
        absolute *= max(1.0, *scales)
    return {"rel": relative, "abs": absolute}


@pytest.mark.parametrize(("name", "scales"), CASES)
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_the_alignment_is_that_of_the_formula(alignment, name, scales):
    function, loop = ALIGNMENTS[alignment]
    for seed in range(3):
        new, old, labels = batch(name, scales, seed)
        value = function(new, old, labels)
        expected = loop(new.double().tolist(), old.double().tolist(), labels.tolist())
        assert value.shape == ()
        assert float(value) >= 0
        assert float(value) == pytest.approx(expected, **tolerance(alignment, scales))


@settings(max_examples=100, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=7), dim=st.integers(1, 4), seed=st.integers(0, 50))
@pytest.mark.parametrize("margin", [0.0, 0.3, 2.5])
def test_any_labels_give_the_triplets_of_the_loop(margin, labels, dim, seed):
    new, old = normal(len(labels), dim, seed=seed), normal(len(labels), dim, seed=seed + 1000)
    for normalize in (True, False):
        expected = loop_triplet(new.double().tolist(), old.double().tolist(), labels, margin, normalize)
        value = hardest_triplet(new, old, torch.tensor(labels), margin, normalize)
        assert float(value) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=7), dim=st.integers(1, 4), seed=st.integers(0, 50))
@pytest.mark.parametrize("temperature", [0.05, 0.5, 10.0])
def test_any_labels_give_the_contrast_of_the_loop(temperature, labels, dim, seed):
    new, old = normal(len(labels), dim, seed=seed), normal(len(labels), dim, seed=seed + 1000)
    expected = loop_contrastive(new.double().tolist(), old.double().tolist(), labels, temperature)
    value = contrastive(new, old, torch.tensor(labels), temperature)
    assert float(value) == pytest.approx(expected, rel=1e-5, abs=5e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_gradients_are_finite_everywhere(alignment):
    for name in BATCHES:
        for scales in SCALES:
            new, old, labels = batch(name, scales)
            new.requires_grad_()
            ALIGNMENTS[alignment][0](new, old, labels).backward()
            assert torch.isfinite(new.grad).all(), (name, scales)


def by_family(change, function) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """By the family's name: the loss of the changed batch, and of the batch as it is."""
    batches = {name: batch(name) for name in BATCHES}
    changed = {name: function(*change(*whole)) for name, whole in batches.items()}
    return changed, {name: function(*whole) for name, whole in batches.items()}


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_the_order_of_the_batch_does_not_matter(alignment):
    def shuffled(*parts):
        order = torch.randperm(len(parts[0]), generator=torch.Generator().manual_seed(1))
        return [part[order] for part in parts]

    torch.testing.assert_close(*by_family(shuffled, ALIGNMENTS[alignment][0]), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_batch_said_twice_changes_nothing_but_the_number_of_rivals(alignment):
    """In the contrastive loss every sum of rivals is doubled: ln 2 more."""
    twice, once = by_family(lambda *parts: [torch.cat([part, part]) for part in parts], ALIGNMENTS[alignment][0])
    expected = {name: value + (math.log(2) if alignment == "contrastive" else 0) for name, value in once.items()}
    torch.testing.assert_close(twice, expected, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("alignment", ["squared error", "normalised distance", "distillation"])
def test_labels_are_not_used_where_it_is_said_so(alignment):
    without, by_labels = by_family(
        lambda new, old, labels: (new, old, torch.zeros_like(labels)), ALIGNMENTS[alignment][0]
    )
    assert without == by_labels


@pytest.mark.parametrize("alignment", ["triplet", "raw triplet", "two-way triplet", "contrastive"])
def test_elsewhere_it_matters_only_which_labels_are_equal(alignment):
    others = torch.tensor([90, 3, 0, 41, 7, 2, 5, 11])
    renamed, expected = by_family(lambda new, old, labels: (new, old, others[labels]), ALIGNMENTS[alignment][0])
    assert renamed == expected
    merged, _ = by_family(lambda new, old, labels: (new, old, labels.clamp(max=1)), ALIGNMENTS[alignment][0])
    assert merged["several classes"] != expected["several classes"]


@pytest.mark.parametrize("alignment", [name for name in ALIGNMENTS if name != "distillation"])
def test_a_rotation_of_both_spaces_changes_nothing(alignment):
    def rotated(new, old, labels):
        rotation = torch.linalg.qr(normal(new.shape[1], new.shape[1], seed=5))[0]
        return new @ rotation, old @ rotation, labels

    torch.testing.assert_close(*by_family(rotated, ALIGNMENTS[alignment][0]), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("factors", [(2.0, 0.5), (1e-3, 1e3), (7.0, 1.0)])
@pytest.mark.parametrize("alignment", ["normalised distance", "triplet", "two-way triplet", "contrastive"])
def test_lengths_do_not_matter_where_embeddings_are_normalised(alignment, factors):
    def stretched(new, old, labels):
        lengths = normal(len(labels), 1, seed=6).exp()
        return factors[0] * lengths * new, factors[1] * old / lengths, labels

    torch.testing.assert_close(*by_family(stretched, ALIGNMENTS[alignment][0]), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 0.5, 1e3])
@pytest.mark.parametrize("name", ["several classes", "targets that are reached", "one coordinate"])
def test_what_is_not_normalised_scales_with_the_embeddings(name, factor):
    new, old, labels = batch(name)
    larger = factor * new, factor * old, labels
    torch.testing.assert_close(squared_error(*larger) / factor**2, squared_error(new, old, labels))
    raw = raw_triplet(new, old, labels)
    torch.testing.assert_close(raw_triplet(*larger, margin=factor) / factor, raw, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("function", [squared_error, normalised_distance])
def test_distances_are_symmetric_and_zero_with_gradients_of_zero_at_the_target(function):
    torch.testing.assert_close(*by_family(lambda new, old, labels: (old, new, labels), function))
    for name in BATCHES:
        _, old, labels = batch(name)
        reached = old.clone().requires_grad_()
        value = function(reached, old, labels)
        value.backward()
        assert value.item() == 0
        assert (reached.grad == 0).all()


def test_the_normalised_distance_lies_between_the_same_and_the_opposite_direction():
    new, _, labels = batch("several classes")
    assert float(normalised_distance(new, -3 * new, labels)) == pytest.approx(4)
    values = [normalised_distance(*batch("several classes", seed=seed)) for seed in range(50)]
    assert 0 <= min(values) <= max(values) <= 4


@pytest.mark.parametrize("scales", SCALES)
def test_the_gradient_of_the_squared_error_is_twice_the_difference_per_coordinate(scales):
    new, old, labels = batch("several classes", scales)
    new.requires_grad_()
    squared_error(new, old, labels).backward()
    for i in range(len(labels)):
        for j in range(SIZE):
            expected = 2 * (float(new.detach()[i, j]) - float(old[i, j])) / (len(labels) * SIZE)
            assert float(new.grad[i, j]) == pytest.approx(expected, rel=1e-5)


def test_frozen_values_of_the_distances():
    new, old = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[4.0, -2.0], [0.0, 3.0]])
    labels = torch.tensor([0, 1])
    assert squared_error(new, old, labels).item() == (9 + 16 + 0 + 1) / 4
    new, old = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[5.0, 0.0], [0.0, 9.0]])
    assert normalised_distance(new, old, labels).item() == pytest.approx((0.16 + 0.64) / 2)


@pytest.mark.parametrize(
    ("labels", "margin", "expected"),
    [
        ([0, 1, 2], 1.0, ((5 - 1 + 1) + (12 - 1 + 1) + 0) / 3),
        ([0, 1, 0], 1.0, (0 + (12 - 1 + 1) + 0) / 3),
        ([0, 1, 0], 12.0, ((5 - 12 + 12) + (12 - 1 + 12) + (1 - 12 + 12)) / 3),
        ([0, 1, 1], 0.0, ((5 - 1) + (12 - 5) + 0) / 3),
        ([0, 0, 0], 100.0, 0.0),
    ],
)
def test_frozen_triplets(labels, margin, expected):
    """From the origin the old embeddings lie 5, 12 and 1 away."""
    old = torch.tensor([[3.0, 4.0], [0.0, -12.0], [1.0, 0.0]])
    value = hardest_triplet(torch.zeros(3, 2), old, torch.tensor(labels), margin, normalize=False)
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("factor", [1.0, 20.0])
def test_the_triplet_loss_is_zero_where_classes_are_apart_by_the_margin(normalize, factor):
    """Unit axes lie √2 apart, which is more than the margin 1 and less than the margin 1.5."""
    old, labels = factor * torch.eye(5)[[0, 1, 1, 2, 4]], torch.tensor([0, 1, 1, 2, 4])
    new = old.clone().requires_grad_()
    loss = hardest_triplet(new, old, labels, normalize=normalize)
    loss.backward()
    assert loss.item() == 0
    assert (new.grad == 0).all()
    length = 1.0 if normalize else factor
    beyond = hardest_triplet(old, old, labels, 1.5 * length, normalize)
    assert float(beyond) == pytest.approx((1.5 - 2**0.5) * length, abs=1e-6 * length)


def test_small_distances_count_as_they_are():
    """From the origin the old embeddings lie 5 and 12 millionths away."""
    old = torch.tensor([[3e-6, 4e-6], [0.0, 12e-6]])
    value = hardest_triplet(torch.zeros(2, 2), old, torch.tensor([0, 1]), margin=0.0, normalize=False)
    assert value.item() == pytest.approx((12e-6 - 5e-6) / 2, rel=1e-6)


@pytest.mark.parametrize("count", [8, 60])
def test_triplets_far_from_the_origin_keep_their_distances(count):
    """Differences of multiples of 1/64 are exact at 4096, where squared norms have lost them; any size of batch."""
    new, old = ((64 * normal(count, 3, seed=seed)).round() / 64 for seed in (0, 1))
    labels = torch.arange(count) % 4
    expected = loop_triplet(new.tolist(), old.tolist(), labels.tolist(), normalize=False)
    assert float(raw_triplet(new + 4096, old + 4096, labels)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("margin", [0.5, 3.0])
def test_at_distance_zero_a_triplet_costs_its_margin_and_pulls_nowhere(margin, normalize):
    """Positive and hardest negative both lie where the anchor does."""
    old, labels = normal(1, SIZE).repeat(6, 1), torch.tensor([0, 1, 2, 2, 1, 0])
    new = old.clone().requires_grad_()
    loss = hardest_triplet(new, old, labels, margin, normalize)
    loss.backward()
    assert loss.item() == margin
    assert (new.grad == 0).all()


def test_a_reached_target_is_only_pushed_from_its_negative():
    """The gradient of −‖φ_new − φ_old(j)‖ is the unit vector from j to the anchor, negated; the positive adds none."""
    old, labels = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([0, 1])
    new = old.clone().requires_grad_()
    hardest_triplet(new, old, labels, margin=6.0, normalize=False).backward()
    torch.testing.assert_close(new.grad, torch.tensor([[0.3, 0.4], [-0.3, -0.4]]))


@pytest.mark.parametrize("margin", [-1.0, -1e-9, math.inf, math.nan])
def test_a_margin_that_is_negative_or_not_finite_is_refused(margin):
    with pytest.raises(ValueError, match=f"the margin must be finite and ≥ 0, got {margin}"):
        hardest_triplet(*batch("several classes"), margin=margin)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ["a sample", "one class"])
def test_without_a_negative_the_triplet_loss_is_zero_with_gradients_of_zero(name, normalize):
    new, old, labels = batch(name)
    new.requires_grad_()
    loss = hardest_triplet(new, old, labels, normalize=normalize)
    loss.backward()
    assert loss.item() == 0
    assert (new.grad == 0).all()


def test_normalised_triplets_are_raw_ones_of_normalised_embeddings():
    def normalised(new, old, labels):
        return F.normalize(new), F.normalize(old), labels

    raw, _ = by_family(normalised, raw_triplet)
    torch.testing.assert_close(raw, by_family(normalised, hardest_triplet)[1])


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.5])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_two_way_triplet_is_that_of_the_loop_and_alike_for_both_models(normalize, margin):
    def value(new, old, labels):
        return two_way_triplet(new, old, labels, margin, normalize)

    for name, seed in itertools.product(BATCHES, range(3)):
        new, old, labels = batch(name, seed=seed)
        expected = loop_two_way(new.double().tolist(), old.double().tolist(), labels.tolist(), margin, normalize)
        assert float(value(new, old, labels)) == pytest.approx(expected, rel=1e-5, abs=2e-6), name
    torch.testing.assert_close(*by_family(lambda new, old, labels: (old, new, labels), value))


def test_frozen_two_way_triplets():
    """On a line: new at 0 and 6, old at 1 and 4, of two classes; and within one class nothing is asked."""
    new, old = torch.tensor([[0.0], [6.0]]), torch.tensor([[1.0], [4.0]])
    # New anchors: 1 − 4 and 2 − 5, both apart. Old anchors: 1 − 5 and 2 − 4.
    for margin, expected in ((0.3, 0.0), (3.5, (0.5 + 0.5 + 0 + 1.5) / 2), (5.0, (2 + 2 + 1 + 3) / 2)):
        value = two_way_triplet(new, old, torch.tensor([0, 1]), margin, normalize=False)
        assert value.item() == pytest.approx(expected)
    assert two_way_triplet(new, old, torch.tensor([1, 1]), 9.0, normalize=False).item() == 0


def test_the_second_way_pulls_and_pushes_where_the_first_is_content():
    """As above, at margin 2.9: only the old anchor at 4 asks, 2 − 4: its own at 6 is pulled, the other at 0 pushed."""
    new, old = torch.tensor([[0.0], [6.0]], requires_grad=True), torch.tensor([[1.0], [4.0]])
    labels = torch.tensor([0, 1])
    assert hardest_triplet(new, old, labels, 2.9, normalize=False).item() == 0
    loss = two_way_triplet(new, old, labels, 2.9, normalize=False)
    loss.backward()
    assert loss.item() == pytest.approx(0.45)
    assert new.grad.tolist() == [[0.5], [0.5]]


@pytest.mark.parametrize("seed", range(5))
def test_the_triplet_loss_grows_with_the_margin_and_no_faster(seed):
    arguments = batch("several classes", seed=seed)
    values = [float(hardest_triplet(*arguments, margin=margin)) for margin in (0.0, 0.5, 1.0, 1.5, 4.0, 5.0)]
    assert values == sorted(values)
    assert values[2] - values[1] <= 0.5 + 1e-5
    # Normalised embeddings are at most 2 apart, so that from margin 2 on every triplet counts.
    assert values[5] - values[4] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", BATCHES)
def test_the_contrastive_loss_keeps_between_its_bounds(name):
    """At best all that is equal is equally near and nothing else is: mean ln |P(i)|. At worst ln n + 2 / τ."""
    for seed in range(10):
        new, old, labels = batch(name, seed=seed)
        lowest = sum(math.log(labels.tolist().count(label)) for label in labels.tolist()) / len(labels)
        for temperature in (0.05, 0.3, 1.0, 20.0):
            value = float(contrastive(new, old, labels, temperature))
            assert lowest - 1e-5 <= value <= math.log(len(labels)) + 2 / temperature + 1e-5


def test_the_contrastive_loss_reaches_its_lower_bound():
    labels = torch.tensor([0, 1, 1, 2, 2, 2])
    axes = torch.eye(3)[labels]
    assert float(contrastive(axes, 5 * axes, labels)) == pytest.approx(
        (2 * math.log(2) + 3 * math.log(3)) / 6, abs=1e-6
    )


def test_frozen_contrast():
    axes = torch.eye(2)
    assert float(contrastive(axes, axes, torch.tensor([0, 1]), 1.0)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(contrastive(axes, axes.flip(0), torch.tensor([0, 1]), 1.0)) == pytest.approx(math.log(1 + math.e))
    # Both are positives of both: ½ (ln(1 + e) − 1) + ½ ln(1 + e).
    expected = math.log(1 + math.e) - 0.5
    assert float(contrastive(axes, axes, torch.tensor([3, 3]), 1.0)) == pytest.approx(expected)
    assert float(contrastive(axes[:1], axes[1:], torch.tensor([0]))) == 0


def test_at_a_high_temperature_contrast_is_a_choice_among_all():
    for name in BATCHES:
        new, old, labels = batch(name)
        assert float(contrastive(new, old, labels, 1e6)) == pytest.approx(math.log(len(labels)), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -0.05, math.inf, math.nan])
def test_a_temperature_that_is_not_positive_and_finite_is_refused(temperature):
    with pytest.raises(ValueError, match=f"the temperature must be finite and positive, got {temperature}"):
        contrastive(*batch("several classes"), temperature=temperature)


def entropy(old: torch.Tensor, rows: torch.Tensor) -> float:
    shares = [log_shares(y, rows.double().tolist()) for y in old.double().tolist()]
    return -sum(math.exp(share) * share for row in shares for share in row) / len(old)


@pytest.mark.parametrize(
    ("name", "scale"), [*((name, 1.0) for name in BATCHES), *(("several classes", scale) for scale in (1e-6, 1e-3, 10))]
)
def test_distillation_is_least_at_the_old_embedding_where_it_is_the_teachers_entropy(name, scale):
    _, old, labels = batch(name, (scale, scale))
    rows = old_rows(old.shape[1])
    loss, least = Distillation(rows), entropy(old, rows)
    reached = old.clone().requires_grad_()
    value = loss(reached, old, labels)
    value.backward()
    assert value.item() == pytest.approx(least, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(reached.grad, torch.zeros_like(old), rtol=0, atol=1e-5)
    for seed in range(10):
        for step in (0.01, 1.0, 100.0):
            elsewhere = old + step * scale * normal(*old.shape, seed=seed + 50)
            assert float(loss(elsewhere, old, labels)) >= least - 1e-5 * max(1.0, least)


def test_frozen_distillation():
    """Under unit rows (ln 2, ln 3, ln 5) has the shares 2/10, 3/10 and 5/10, and zeros tell nothing."""
    loss, labels = Distillation(torch.eye(3)), torch.tensor([0])
    old = torch.tensor([[math.log(2), math.log(3), math.log(5)]])
    assert float(loss(torch.zeros(1, 3), old, labels)) == pytest.approx(math.log(3))
    assert float(loss(old, torch.zeros(1, 3), labels)) == pytest.approx(math.log(10) - math.log(30) / 3)
    expected = math.log(10) - 0.2 * math.log(2) - 0.3 * math.log(3) - 0.5 * math.log(5)
    assert float(loss(old, old, labels)) == pytest.approx(expected)


def test_distillation_sees_only_what_moves_the_old_logits():
    """Two rows in four dimensions: what is orthogonal to their difference is free."""
    new, old, labels = batch("several classes")
    rows = normal(2, SIZE, seed=8)
    difference = rows[0] - rows[1]
    free = normal(len(new), SIZE, seed=9)
    free -= (free @ difference / difference.square().sum())[:, None] * difference
    loss = Distillation(rows)
    torch.testing.assert_close(loss(new + free, old, labels), loss(new, old, labels), atol=1e-5, rtol=1e-4)
    assert abs(float(loss(new + difference, old, labels) - loss(new, old, labels))) > 0.1


def test_distillation_turns_with_the_old_rows():
    new, old, labels = batch("several classes")
    rows, rotation = old_rows(SIZE), torch.linalg.qr(normal(SIZE, SIZE, seed=5))[0]
    turned = Distillation(rows @ rotation)(new @ rotation, old @ rotation, labels)
    torch.testing.assert_close(turned, Distillation(rows)(new, old, labels), atol=1e-5, rtol=1e-4)


def test_the_old_rows_get_no_gradient_from_distillation():
    new, old, labels = batch("several classes")
    rows = nn.Parameter(old_rows(SIZE))
    new.requires_grad_()
    Distillation(rows)(new, old, labels).backward()
    assert rows.grad is None
    assert rows.requires_grad
    assert torch.equal(rows, old_rows(SIZE))
    assert (new.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(("dtype", "loose"), [(torch.float16, 1.0), (torch.bfloat16, 8.0), (torch.float64, 1e-3)])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_other_float_types_keep_to_the_formula(alignment, dtype, loose):
    function, loop = ALIGNMENTS[alignment]
    absolute = 0.05 if alignment == "contrastive" else 0.01  # a similarity over the temperature reaches 20
    for name in BATCHES:
        new, old, labels = (part.to(dtype) if part.is_floating_point() else part for part in batch(name))
        value = function(new, old, labels)
        expected = loop(new.double().tolist(), old.double().tolist(), labels.tolist())
        assert float(value) == pytest.approx(expected, rel=0.01 * loose, abs=absolute * loose), name


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_say_the_same(dtype):
    new, old, labels = batch("several classes")
    for function, _ in ALIGNMENTS.values():
        assert torch.equal(function(new, old, labels.to(dtype)), function(new, old, labels))


def pairs_message(shapes: str, new: str = "float32", old: str = "float32") -> str:
    types = f"torch.{new} and torch.{old}"
    return f"new and old embeddings have shapes {shapes}, types {types}; give equal ones, of one sample or more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old": torch.zeros(3, 5)}, pairs_message("(3, 4) and (3, 5)")),
        ({"old": torch.zeros(2, 4)}, pairs_message("(3, 4) and (2, 4)")),
        ({"old": torch.zeros(1, 4)}, pairs_message("(3, 4) and (1, 4)")),
        ({"old": torch.zeros(4)}, pairs_message("(3, 4) and (4,)")),
        ({"old": torch.zeros(3, 4).double()}, pairs_message("(3, 4) and (3, 4)", old="float64")),
        ({"new": torch.zeros(3, 4).half()}, pairs_message("(3, 4) and (3, 4)", new="float16")),
        ({"old": torch.zeros(3, 4).long()}, pairs_message("(3, 4) and (3, 4)", old="int64")),
        (
            {"new": torch.zeros(0, 4), "old": torch.zeros(0, 4), "labels": torch.arange(0)},
            pairs_message("(0, 4) and (0, 4)"),
        ),
        ({"new": torch.zeros(4)}, "embeddings are torch.float32 of shape (4,); valid is float (n, d)"),
        ({"new": torch.zeros(3, 4).long()}, "embeddings are torch.int64 of shape (3, 4); valid is float (n, d)"),
        ({"labels": torch.arange(2)}, "labels are torch.int64 of shape (2,); valid is integer (3,)"),
        ({"labels": torch.arange(3.0)}, "labels are torch.float32 of shape (3,); valid is integer (3,)"),
        ({"labels": torch.ones(3).bool()}, "labels are torch.bool of shape (3,); valid is integer (3,)"),
        ({"labels": torch.arange(3) - 1}, "label -1 is negative; labels count from 0"),
    ],
)
def test_a_wrong_batch_is_refused_by_all(change, message):
    good = {"new": torch.zeros(3, 4), "old": torch.zeros(3, 4), "labels": torch.arange(3)}
    triplets = hardest_triplet, two_way_triplet
    for function in (squared_error, normalised_distance, *triplets, contrastive, Distillation(old_rows(4))):
        with pytest.raises(ValueError, match=re.escape(message)):
            function(**(good | change))


@pytest.mark.parametrize("rows", [None, [[1.0, 2.0]], torch.zeros(4), torch.zeros(2, 3, 4), nn.Linear(4, 2)])
def test_what_are_no_rows_is_refused_by_distillation(rows):
    message = f"old_weight is {type(rows).__name__}; valid is a tensor (classes, dim)"
    with pytest.raises(ValueError, match=re.escape(message)):
        Distillation(rows)


@pytest.mark.parametrize("dim", [3, 5])
def test_distillation_refuses_embeddings_of_another_size_than_its_rows(dim):
    with pytest.raises(ValueError, match=f"embeddings of 4 dimensions meet rows of {dim}"):
        Distillation(old_rows(dim))(torch.zeros(3, 4), torch.zeros(3, 4), torch.arange(3))


DIM, CLASSES, COUNT = 6, 4, 24
KINDS = [LinearClassifier, CosineClassifier, ArcFaceClassifier]
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.05, warmup_epochs=1)
ONE_STEP = Recipe(epochs=1, batch_size=COUNT, learning_rate=0.1, weight_decay=0.0)


def images(noise: int = 256) -> ImageSet:
    """A class is a brightness, under noise of any strength."""
    labels = torch.arange(COUNT) % CLASSES
    pixels = torch.randint(0, noise, (COUNT, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    pixels += (labels * 60 * (noise < 256))[:, None, None, None]
    return ImageSet(pixels.clamp(0, 255).to(torch.uint8), labels, ("black", "dark", "grey", "bright"))


def models(kind=LinearClassifier, dim: int = DIM, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    backbone = initialised(lambda: small_resnet(widths=(8, 16), dim=dim), seed, "new")
    return backbone, initialised(lambda: kind(dim, CLASSES), seed, "new classifier")


@cache
def seasoned(dim: int) -> nn.Module:
    """An old model whose BatchNorm has seen images."""
    backbone = initialised(lambda: small_resnet(widths=(8, 16), dim=dim), 0, "old")
    with torch.no_grad():
        for _ in range(20):
            backbone.train()(images(noise=60).images)
    return backbone.eval()


def old_backbone(dim: int = DIM) -> nn.Module:
    return copy.deepcopy(seasoned(dim))


def train(backbone, classifier, old=None, the_images=None, recipe=RECIPE, **options):
    options = {"seed": 0, "role": "new", "alignment": squared_error} | options
    options["old_backbone"] = old_backbone() if old is None else old
    return bct_baselines.fit(backbone, classifier, images() if the_images is None else the_images, recipe, **options)


def weights(*modules: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().double().cpu() for m in modules for tensor in m.state_dict().values()])


def values(fit, term: str) -> list[float]:
    return [row["value"] for row in fit.history if row["term"] == f"aligned/{term}"]


def sized(embeddings: torch.Tensor, dim: int) -> torch.Tensor:
    """The first coordinates, zeros behind."""
    result = torch.zeros(len(embeddings), dim)
    for j in range(min(dim, embeddings.shape[1])):
        result[:, j] = embeddings[:, j]
    return result


# Kind of classifier, new and old size; every alignment meets one of each, so that all three are met twice or more.
SIZES = [(LinearClassifier, 6, 6), (CosineClassifier, 6, 3), (ArcFaceClassifier, 3, 6)]
PAIRED = [(alignment, *size) for alignment, size in zip(ALIGNMENTS, itertools.cycle(SIZES), strict=False)]


@pytest.mark.parametrize(("alignment", "kind", "dim", "old_dim"), PAIRED)
def test_both_losses_are_those_of_their_formulas(alignment, dim, old_dim, kind):
    """The new classifier applies its margin and the labels' smoothing; the old model is in eval mode."""
    (backbone, classifier), old, whole = models(kind, dim), old_backbone(old_dim), images()
    function, loop = ALIGNMENTS[alignment]
    with torch.no_grad():
        embeddings, target = copy.deepcopy(backbone).train()(whole.images), old(whole.images)
        own = F.cross_entropy(classifier(embeddings, whole.labels), whole.labels, label_smoothing=0.2)
    expected = loop(sized(embeddings, old_dim).tolist(), target.tolist(), whole.labels.tolist())
    options = {"recipe": ONE_STEP, "augment": unchanged, "label_smoothing": 0.2, "weight": 3.0}
    fit = train(backbone, classifier, old.train(), alignment=function, **options)
    assert {row["term"] for row in fit.history} == {"aligned/alignment", "aligned/classification"}
    assert values(fit, "classification") == [pytest.approx(float(own), rel=1e-4)]
    assert values(fit, "alignment") == [pytest.approx(3 * expected, rel=1e-4, abs=1e-4)]


@pytest.mark.parametrize(("alignment", "kind"), [pair[:2] for pair in PAIRED])
def test_one_step_moves_down_the_gradient_of_the_sum(alignment, kind):
    recipe = Recipe(epochs=1, batch_size=COUNT, learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")
    pair, oracle, old, whole = models(kind), models(kind), old_backbone(), images()
    function = ALIGNMENTS[alignment][0]
    train(*pair, old, recipe=recipe, augment=unchanged, alignment=function, weight=0.5)
    embeddings, target = oracle[0](whole.images), old.cpu()(whole.images)
    own = -oracle[1](embeddings, whole.labels).log_softmax(1)[torch.arange(COUNT), whole.labels].mean()
    start = [parameter for module in oracle for parameter in module.parameters()]
    gradients = torch.autograd.grad(own + 0.5 * function(embeddings, target, whole.labels), start)
    trained = [parameter for module in pair for parameter in module.parameters()]
    for parameter, before, gradient in zip(trained, start, gradients, strict=True):
        torch.testing.assert_close(parameter.cpu(), before - 0.1 * gradient, atol=5e-5, rtol=1e-4)
        assert gradient.abs().max() > 0


class Recorded(nn.Module):
    """A backbone that notes what it was given and whether it was in training mode; it emits the type it is told."""

    def __init__(self, backbone: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone, self.dtype, self.seen = backbone, dtype, []

    def forward(self, inputs):
        self.seen.append((inputs.cpu(), self.training))
        return self.backbone(inputs).to(self.dtype)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("dim", "old_dim"), [(6, 3), (3, 6)])
def test_old_and_new_model_see_the_same_augmented_images(dim, old_dim, precision):
    pairs = []

    def alignment(new, old, labels):
        pairs.append((new.detach(), old, labels))
        return squared_error(new, old, labels)

    (backbone, classifier), whole = models(dim=dim), images()
    dtype = getattr(torch, precision)
    new, old = Recorded(backbone, dtype), Recorded(old_backbone(old_dim), dtype).train()
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    train(new, classifier, old, recipe=recipe, alignment=alignment)
    assert len(new.seen) == len(old.seen) == len(pairs) == 6
    assert {training for _, training in new.seen} == {True}
    assert {training for _, training in old.seen} == {False}
    for (given_new, _), (given_old, _), (moved, target, labels) in zip(new.seen, old.seen, pairs, strict=True):
        assert torch.equal(given_new, given_old)
        assert not any(torch.equal(image, known) for image in given_old[:2] for known in whole.images)
        assert moved.dtype == target.dtype == torch.float32
        assert moved.shape == target.shape == (8, old_dim)
        assert (moved[:, min(dim, old_dim) :] == 0).all()
        assert not target.requires_grad
        assert labels.shape == (8,)


@pytest.mark.parametrize(
    ("alignment", "classification"), [*((alignment, True) for alignment in ALIGNMENTS), ("distillation", False)]
)
def test_the_old_model_stays_bit_for_bit_and_in_eval_mode(alignment, classification):
    """Its BatchNorm statistics would move in training mode."""
    old = old_backbone().train()
    before, rows = copy.deepcopy(old.state_dict()), nn.Parameter(old_rows(DIM))
    function = Distillation(rows) if alignment == "distillation" else ALIGNMENTS[alignment][0]
    pair = models()
    start = weights(*pair)
    train(*pair, old, alignment=function, classification=classification)
    assert not torch.equal(weights(*pair), start)
    assert not any(module.training for module in old.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in old.parameters())
    assert all(torch.equal(tensor.cpu(), before[name]) for name, tensor in old.state_dict().items())
    assert torch.equal(rows, old_rows(DIM))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("alignment", "kind"), [pair[:2] for pair in PAIRED[2:5]])
def test_at_weight_zero_it_is_independent_training_bit_for_bit(alignment, kind, precision):
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    pair, alone = models(kind), models(kind)
    options = {"recipe": recipe, "label_smoothing": 0.1}
    fit = train(*pair, alignment=ALIGNMENTS[alignment][0], weight=0.0, **options)
    expected = independent.fit(*alone, images(), recipe, seed=0, role="new", label_smoothing=0.1)
    assert torch.equal(weights(*pair), weights(*alone))
    assert values(fit, "classification") == [row["value"] for row in expected.history]
    assert values(fit, "alignment") == [0.0, 0.0]


@pytest.mark.parametrize("dim", [3, DIM, 9])
def test_without_classification_the_classifier_and_the_labels_are_left_alone(dim):
    whole = images()
    shuffled = ImageSet(whole.images, whole.labels.flip(0), whole.class_names)
    (backbone, classifier), (again, other) = models(dim=dim), models(ArcFaceClassifier, dim)
    before = weights(classifier)
    fit = train(backbone, classifier.train(), classification=False)
    assert {row["term"] for row in fit.history} == {"aligned/alignment"}
    assert torch.equal(weights(classifier), before)
    assert classifier.training
    assert classifier.weight.requires_grad
    assert classifier.weight.grad is None
    assert not backbone.training
    assert train(again, other, the_images=shuffled, classification=False).history == fit.history
    assert torch.equal(weights(backbone), weights(again))


def drawn(weight: float, classification: bool, alignment=squared_error):
    """New embeddings, and the history's alignment, after a training at this weight."""
    options = {"recipe": Recipe(epochs=10, batch_size=8, learning_rate=0.02), "augment": unchanged}
    (backbone, classifier), easy = models(), images(noise=40)
    options |= {"alignment": alignment, "classification": classification, "weight": weight}
    fit = train(backbone, classifier, old_backbone(), easy, **options)
    return embed(backbone, easy), values(fit, "alignment")


@pytest.fixture(scope="module")
def apart() -> dict[bool, torch.Tensor]:
    """New embeddings that nothing draws, with classification and without."""
    return {classification: drawn(0.0, classification)[0] for classification in (True, False)}


@pytest.mark.parametrize(
    ("alignment", "classification"),
    [*((alignment, False) for alignment in ALIGNMENTS), ("triplet", True), ("contrastive", True)],
)
def test_new_embeddings_are_drawn_to_the_old_ones(alignment, classification, apart):
    easy, function = images(noise=40), ALIGNMENTS[alignment][0]
    target = embed(old_backbone(), easy)
    embeddings, history = drawn(1.0, classification, function)
    undrawn = function(apart[classification], target, easy.labels)
    assert function(embeddings, target, easy.labels) < 0.9 * undrawn
    if not classification:
        assert history[-1] < 0.95 * history[0]


@pytest.mark.parametrize(("alignment", "kind", "dim", "old_dim"), [PAIRED[1], PAIRED[2], PAIRED[4]])
def test_sizes_that_differ_train(alignment, dim, old_dim, kind):
    pair = models(kind, dim)
    before = [weights(module) for module in pair]
    fit = train(*pair, old_backbone(old_dim), alignment=ALIGNMENTS[alignment][0])
    assert all(math.isfinite(row["value"]) for row in fit.history)
    assert not any(torch.equal(weights(module), start) for module, start in zip(pair, before, strict=True))
    assert not any(module.training for part in pair for module in part.modules())


def test_the_alignment_is_linear_in_its_weight():
    def first_step(weight):
        fit = train(*models(), recipe=ONE_STEP, weight=weight)
        return values(fit, "classification")[0], values(fit, "alignment")[0]

    own, alignment = first_step(1.0)
    assert alignment > 0
    for weight in (0.0, 0.25, 2.0, 8.0):
        assert first_step(weight) == (own, weight * alignment)


def test_images_are_shifted_and_mirrored_unless_told_otherwise():
    pairs = models(), models(), models()
    train(*pairs[0])
    train(*pairs[1], augment=crop_and_flip)
    train(*pairs[2], augment=unchanged)
    assert torch.equal(weights(*pairs[0]), weights(*pairs[1]))
    assert not torch.equal(weights(*pairs[0]), weights(*pairs[2]))


@pytest.mark.parametrize(
    ("stop_at", "classification", "precision"),
    [(2, True, "float32"), (3, False, "bfloat16"), (5, True, "bfloat16"), (5, False, "float32")],
)
def test_an_interrupted_upgrade_ends_with_the_same_weights(tmp_path, stop_at, classification, precision):
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    whole, interrupted, resumed = models(), models(), models(seed=1)
    options = {"recipe": recipe, "classification": classification}
    expected = train(*whole, **options)
    taken = []

    def report(share, text):
        taken.append(share)
        if len(taken) == stop_at:
            raise KeyboardInterrupt

    options |= {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train(*interrupted, report=report, **options)
    assert read_tensors(tmp_path / "run")[1]["step"] == stop_at - 1
    assert train(*resumed, **options).history == expected.history
    trained = 2 if classification else 1
    assert torch.equal(weights(*whole[:trained]), weights(*resumed[:trained]))


@pytest.mark.parametrize("classification", [True, False])
def test_what_cannot_be_trained_is_refused_before_training(classification):
    pair = models()
    before = weights(*pair)
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"compatibility term's weight must be finite and ≥ 0, got {weight}"):
            train(*pair, weight=weight, classification=classification)
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"label_smoothing must lie in \[0, 1\), got {smoothing}"):
            train(*pair, label_smoothing=smoothing, classification=classification)
    with pytest.raises(ValueError, match="label 3 has no row in a classifier of 3 classes; give it a row"):
        train(pair[0], LinearClassifier(DIM, 3), classification=classification)
    with pytest.raises(ValueError, match="training set is empty"):
        train(*pair, the_images=images().select(torch.arange(0)), classification=classification)
    with pytest.raises(TypeError, match="chekpoint"):
        train(*pair, chekpoint="run", classification=classification)
    assert torch.equal(weights(*pair), before)
