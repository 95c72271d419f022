"""SFSC: the evidential loss against explicit loops and its analytic gradient, the projection against its definition."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special
from torch.nn import functional as F

from compatlib.methods.sfsc import conflict_weights, evidential_loss, project_conflicts, uncertainty

# The evidential loss.


def batch(classes: int, count: int = 6, scale: float = 4.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, classes, dtype=torch.float64, generator=random)
    return logits, torch.randint(classes, (count,), generator=random)


def evidence(z: float) -> float:
    return max(z, 0) + math.log1p(math.exp(-abs(z)))


def loss_by_loop(logits, labels, kl_weight: float) -> float:
    """One image after the other, one class after the other, in plain floats."""
    losses = []
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        alpha = [1 + evidence(value) for value in z]
        total = math.fsum(alpha)
        loss = special.digamma(total) - special.digamma(alpha[y])
        others = [1.0 if k == y else alpha[k] for k in range(len(z))]
        mass = math.fsum(others)
        divergence = special.gammaln(mass) - math.fsum(map(special.gammaln, others)) - special.gammaln(len(z))
        divergence += math.fsum((a - 1) * (special.digamma(a) - special.digamma(mass)) for a in others)
        losses.append(loss + kl_weight * divergence)
    return math.fsum(losses) / len(losses)


def gradient_by_formula(logits, labels, kl_weight: float) -> np.ndarray:
    """σ(z_k) (ψ′(S) − [k = y] ψ′(α_y) + λ ((α_k − 1) ψ′(α_k) − (Σα̃ − K) ψ′(Σα̃)) [k ≠ y]), batch mean."""
    found = np.zeros(logits.shape)
    for i, (z, y) in enumerate(zip(logits.numpy(), labels.tolist(), strict=True)):
        alpha = 1 + np.logaddexp(0, z)
        others = np.where(np.arange(len(z)) == y, 1, alpha)
        mass, trigamma = others.sum(), lambda x: special.polygamma(1, x)
        slope = trigamma(alpha.sum()) + kl_weight * ((others - 1) * trigamma(others) - (mass - len(z)) * trigamma(mass))
        slope[y] = trigamma(alpha.sum()) - trigamma(alpha[y])
        found[i] = special.expit(z) * slope / len(logits)
    return found


@pytest.mark.parametrize("classes", [2, 3, 100])
@pytest.mark.parametrize("kl_weight", [0.0, 5e-4, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_its_formula(classes, kl_weight, seed):
    logits, labels = batch(classes, seed=seed)
    found = evidential_loss(logits, labels, kl_weight)
    assert found.shape == ()
    assert found.item() == pytest.approx(loss_by_loop(logits, labels, kl_weight), rel=1e-10)
    single = evidential_loss(logits.float(), labels, kl_weight)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(found.item(), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("kl_weight", [0.0, 5e-4, 0.5])
def test_the_gradient_is_the_analytic_one(classes, kl_weight):
    logits, labels = batch(classes)
    (found,) = torch.autograd.grad(evidential_loss(logits.requires_grad_(), labels, kl_weight), logits)
    assert np.allclose(found.numpy(), gradient_by_formula(logits.detach(), labels, kl_weight), rtol=1e-6, atol=1e-7)


def test_the_released_weight_is_the_default():
    logits, labels = batch(5)
    assert evidential_loss(logits, labels) == evidential_loss(logits, labels, 5e-4)


@pytest.mark.parametrize("classes", [2, 100, 10_000])
@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
def test_loss_and_gradient_are_finite_for_large_logits_and_many_classes(classes, value):
    logits = torch.full((3, classes), value, requires_grad=True)
    labels = torch.tensor([0, classes - 1, 1])
    loss = evidential_loss(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert loss.item() == pytest.approx(loss_by_loop(logits.detach(), labels, 5e-4), rel=1e-5)


def test_no_evidence_means_no_gradient_and_full_uncertainty():
    logits = torch.full((2, 4), -60.0, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3])
    (gradient,) = torch.autograd.grad(evidential_loss(logits, labels), logits)
    assert gradient.abs().max() < 1e-20
    assert uncertainty(logits.detach()).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_more_evidence_for_the_label_is_less_loss_and_less_uncertainty(seed):
    logits, labels = batch(7, seed=seed)
    more = logits + 0.5 * F.one_hot(labels, 7)
    assert evidential_loss(more, labels, 0) < evidential_loss(logits, labels, 0)
    assert (uncertainty(more) < uncertainty(logits)).all()
    assert ((uncertainty(logits) > 0) & (uncertainty(logits) <= 1)).all()


def test_the_order_of_the_classes_does_not_matter():
    logits, labels = batch(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    places = order.argsort()
    assert evidential_loss(logits[:, order], places[labels]).item() == pytest.approx(
        evidential_loss(logits, labels).item()
    )


@pytest.mark.parametrize(
    ("logits", "labels", "weight", "words"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), 0.1, r"shape \(2,\)"),
        (torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), 0.1, "two classes or more"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), 0.1, r"labels are torch.int64 of shape \(3,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), 0.1, "labels lie between 0 and 3; the logits have 3 classes"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), 0.1, "label -1 is negative"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), -0.1, "kl_weight must be finite and 0 or more, got -0.1"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), math.nan, "kl_weight must be finite and 0 or more, got nan"),
    ],
)
def test_bad_batches_are_refused(logits, labels, weight, words):
    with pytest.raises(ValueError, match=words):
        evidential_loss(logits, labels, weight)


# The projection.


def gradients(count: int, size: int, seed: int, common: float = 0.0) -> torch.Tensor:
    """Rows in float64, which conflict as often as not where they have nothing in common."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, size, dtype=torch.float64, generator=random)
    return rows + common * torch.randn(size, dtype=torch.float64, generator=random)


def projected_by_definition(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gradient by gradient, in the full space, in the orders that the generator draws."""
    found = []
    for i in range(len(rows)):
        own = rows[i].clone()
        for j in torch.randperm(len(rows), generator=generator).tolist():
            if j != i and (overlap := own @ rows[j]) < 0:
                own = own - overlap / (rows[j] @ rows[j]) * rows[j]
        found.append(own)
    return torch.stack(found)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_the_projection_is_its_definition(count, seed):
    rows = gradients(count, 11, seed)
    expected = projected_by_definition(rows, torch.Generator().manual_seed(seed))
    weights = conflict_weights(rows @ rows.T, torch.Generator().manual_seed(seed))
    assert torch.allclose(weights @ rows, expected, atol=1e-12)
    found = project_conflicts(rows, torch.Generator().manual_seed(seed))
    assert torch.allclose(found, expected.sum(dim=0), atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_two_objectives_have_no_conflict_left(seed):
    rows = gradients(2, 5, seed)
    projected = conflict_weights(rows @ rows.T) @ rows
    for own, other in itertools.permutations(range(2)):
        assert projected[own] @ rows[other] >= -1e-12
    assert (rows @ project_conflicts(rows) >= -1e-12).all()


@pytest.mark.parametrize("seed", range(10))
def test_where_nothing_conflicts_it_is_the_plain_sum(seed):
    rows = gradients(4, 30, seed).abs()
    assert torch.equal(conflict_weights(rows @ rows.T), torch.eye(4, dtype=torch.float64))
    assert torch.allclose(project_conflicts(rows), rows.sum(dim=0))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_a_common_scale_passes_through(seed, scale):
    rows = gradients(3, 8, seed)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    found, scaled = (project_conflicts(s * rows, g) for s, g in zip((1, scale), generators, strict=True))
    assert torch.allclose(scaled, scale * found, rtol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_others_lengths_do_not_matter_to_a_projected_gradient(seed):
    """g_i loses its part along g_j, however long g_j is."""
    rows = gradients(2, 8, seed)
    longer = rows * torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    first, second = (conflict_weights(each @ each.T)[0] @ each for each in (rows, longer))
    assert torch.allclose(first, second)


def test_opposite_gradients_leave_nothing():
    rows = torch.tensor([[1.0, 2.0], [-2.0, -4.0]])
    assert project_conflicts(rows).tolist() == [0, 0]


def test_a_gradient_of_zero_neither_conflicts_nor_divides():
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    weights = conflict_weights(rows @ rows.T)
    assert weights[1].tolist() == [0, 1, 0]
    assert weights.isfinite().all()


def test_orders_come_from_the_generator_alone():
    rows = gradients(5, 6, 3)
    state = torch.random.get_rng_state()
    first, again = (project_conflicts(rows, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, again)
    different = {tuple(project_conflicts(rows, torch.Generator().manual_seed(seed)).tolist()) for seed in range(8)}
    assert len(different) > 1


def test_a_gradients_own_place_in_the_order_is_passed_over():
    """Its coefficients after several projections may be larger elsewhere; it is still objective i that is projected."""
    rows = torch.tensor([[0.1, 1.0], [-5.0, 0.0], [4.0, -0.1]], dtype=torch.float64)
    for seed in range(10):
        expected = projected_by_definition(rows, torch.Generator().manual_seed(seed))
        weights = conflict_weights(rows @ rows.T, torch.Generator().manual_seed(seed))
        assert torch.allclose(weights @ rows, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: conflict_weights(torch.zeros(2, 3)), r"gram has shape \(2, 3\)"),
        (lambda: conflict_weights(torch.zeros(0, 0)), r"gram has shape \(0, 0\)"),
        (lambda: conflict_weights(torch.tensor([[math.inf]])), "a gradient has overflowed"),
        (lambda: project_conflicts(torch.zeros(3)), r"torch.float32 of shape \(3,\)"),
        (lambda: project_conflicts(torch.zeros(2, 3, dtype=torch.int64)), "torch.int64"),
        (lambda: project_conflicts(torch.tensor([[math.nan, 1.0]])), "not finite"),
    ],
)
def test_bad_gradients_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
