"""The evidential loss against explicit loops and its analytic gradient."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch.nn import functional as F

from compatlib.methods.sfsc import evidential_loss, uncertainty


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
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), 0.1, r"^logits are torch.float32 of shape \(2,\)"),
        (torch.zeros(2, 3).long(), torch.zeros(2, dtype=torch.int64), 0.1, "^logits are torch.int64 of shape"),
        (
            torch.zeros(2, 1),
            torch.zeros(2, dtype=torch.int64),
            0.1,
            r"logits have shape \(2, 1\).* two classes or more",
        ),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 0.1, r"logits have shape \(0, 3\).* of an image"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), 0.1, r"labels are torch.int64 of shape \(3,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), 0.1, "labels lie between 0 and 3; the logits have 3 classes"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), 0.1, "label -1 is negative"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), -0.1, "kl_weight must be finite and ≥ 0, got -0.1"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), math.nan, "kl_weight must be finite and ≥ 0, got nan"),
    ],
)
def test_bad_batches_are_refused(logits, labels, weight, words):
    with pytest.raises(ValueError, match=words):
        evidential_loss(logits, labels, weight)
