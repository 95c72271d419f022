"""SFSC, switchable representation learning with self-compatibility (Wu, Bai, Lou, Linghu, He and Duan, CVPR 2023).

One training yields sub-models φ_1 … φ_m of a switchable network (`models.slimmable`), which share their weights and one
classifier and are compatible with one another. Trained together their gradients conflict, in magnitude and in
direction. Two means against it: an evidential loss, by which a sub-model that is uncertain weighs less, and a
projection, which takes out of each sub-model's gradient what would hurt another.

The paper's tables and schedule could not be read; the forms here are those of a third party's published
re-implementation, the departures are said to be ours.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from compatlib.methods.common import check_batch

__all__ = ["conflict_weights", "evidential_loss", "project_conflicts", "uncertainty"]


def evidential_loss(
    logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], kl_weight: float = 5e-4
) -> Float[Tensor, ""]:
    """The expected cross-entropy under the Dirichlet distribution that the logits are evidence for; batch mean.

        α = 1 + softplus(z),   S = Σ_k α_k,   α̃ = y + (1 − y) ⊙ α
        L = ψ(S) − ψ(α_y) + λ · KL( Dir(α̃) ‖ Dir(1) ),   ψ the digamma function

    Its gradient, ∂L/∂z_k = σ(z_k) (ψ′(S) − [k = y] ψ′(α_y) + λ ∂KL/∂α_k), vanishes where there is no evidence. Computed
    in float64, for the terms of the divergence grow as K ln K and cancel.

    Args:
        logits: z, of K ≥ 2 classes.
        labels: y.
        kl_weight: λ ≥ 0; 5e-4 in the re-implementation.

    Raises:
        ValueError: other shapes, labels outside of the classes, or a negative weight.
    """
    check_batch(logits, labels)
    if logits.shape[1] < 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; valid is (batch, classes) of two classes or more")
    if not 0 <= kl_weight < float("inf"):
        raise ValueError(f"kl_weight must be finite and 0 or more, got {kl_weight}")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"labels lie between {int(labels.min())} and {int(labels.max())}; the logits have {logits.shape[1]} classes"
        )
    alpha = 1 + F.softplus(logits.double())
    total, own = alpha.sum(dim=1), alpha.gather(1, labels[:, None])[:, 0]
    loss = torch.digamma(total) - torch.digamma(own)
    if kl_weight:
        loss = loss + kl_weight * _divergence(alpha.scatter(1, labels[:, None], 1.0))
    return loss.mean().to(logits.dtype)


def uncertainty(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """u = K / S in (0, 1]: 1 where there is no evidence for any class."""
    return logits.shape[1] / (1 + F.softplus(logits.double())).sum(dim=1).to(logits.dtype)


def _divergence(alpha: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """KL( Dir(α) ‖ Dir(1) ) = lnΓ(A) − Σ lnΓ(α_k) − lnΓ(K) + Σ (α_k − 1)(ψ(α_k) − ψ(A)),   A = Σ α_k."""
    total = alpha.sum(dim=1)
    classes = torch.tensor(float(alpha.shape[1]), dtype=alpha.dtype, device=alpha.device)
    normaliser = torch.lgamma(total) - torch.lgamma(alpha).sum(dim=1) - torch.lgamma(classes)
    return normaliser + ((alpha - 1) * (torch.digamma(alpha) - torch.digamma(total)[:, None])).sum(dim=1)


def conflict_weights(
    gram: Float[Tensor, "objectives objectives"], generator: torch.Generator | None = None
) -> Float[Tensor, "objectives objectives"]:
    """Row i holds the coefficients, in the original gradients, of the projected gradient of objective i.

    For every g_i, through the other *original* gradients g_j in random order: where ⟨g_i, g_j⟩ < 0,
    g_i ← g_i − (⟨g_i, g_j⟩ / ‖g_j‖²) g_j. All of it can be decided in the Gram matrix. Source: PCGrad (Yu et al. 2020),
    algorithm 1, as SFSC uses it.

    Args:
        gram: ⟨g_i, g_j⟩.
        generator: draws the orders, on the processor; by default torch's global one.

    Raises:
        ValueError: no square matrix, or values that are not finite.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
        raise ValueError(f"gram has shape {tuple(gram.shape)}; valid is (objectives, objectives), at least one")
    if not gram.isfinite().all():
        raise ValueError("gram holds values that are not finite: a gradient has overflowed; lower the learning rate")
    inner = gram.double().cpu()
    weights = torch.eye(len(inner), dtype=torch.float64)
    for at, own in enumerate(weights):
        for other in torch.randperm(len(inner), generator=generator).tolist():
            overlap = own @ inner[:, other]
            if other != at and overlap < 0:
                own[other] -= overlap / inner[other, other]
    return weights.to(gram.dtype).to(gram.device)


def project_conflicts(
    gradients: Float[Tensor, "objectives parameters"], generator: torch.Generator | None = None
) -> Float[Tensor, " parameters"]:
    """The sum of the projected gradients, in two passes over them: see `conflict_weights`.

    Args:
        gradients: a row for every objective.
        generator: as `conflict_weights`.

    Raises:
        ValueError: no matrix, and as `conflict_weights`.
    """
    if gradients.ndim != 2 or not gradients.is_floating_point():
        raise ValueError(f"gradients are {gradients.dtype} of shape {tuple(gradients.shape)}; valid are floats (m, p)")
    return conflict_weights(gradients @ gradients.T, generator).sum(dim=0) @ gradients
