"""The evidential loss: cross-entropy expected under a Dirichlet distribution, whose evidence tells how sure a model is.

Source: Sensoy, Kaplan and Kandemir (NeurIPS 2018), in the form that SFSC's re-implementation uses.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from compatlib.methods.common import check_number, checked_batch


def evidential_loss(
    logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], kl_weight: float = 5e-4
) -> Float[Tensor, ""]:
    """The expected cross-entropy under the Dirichlet distribution that the logits are evidence for; batch mean.

        α = 1 + softplus(z),   S = Σ_k α_k,   α̃ = y + (1 − y) ⊙ α
        L = ψ(S) − ψ(α_y) + λ · KL( Dir(α̃) ‖ Dir(1) ),   ψ the digamma function

    Its gradient, ∂L/∂z_k = σ(z_k) (ψ′(S) − [k = y] ψ′(α_y) + λ ∂KL/∂α_k), vanishes where there is no evidence. Computed
    in float64, for the terms of the divergence grow as K ln K and cancel. Its cost grows with K: with 100 classes it is
    small beside a network's pass, with 10,000 of the order of a small network's own (`make bench NAME=sfsc`).

    Args:
        logits: z, of an image or more and K ≥ 2 classes.
        labels: y.
        kl_weight: λ ≥ 0; 5e-4 in the re-implementation.

    Raises:
        ValueError: other shapes, labels outside of the classes, or a negative weight.
    """
    logits, labels = checked_batch(logits, labels, "logits")
    if not len(logits) or logits.shape[1] < 2:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}; valid is (batch, classes), of an image and two classes or more"
        )
    check_number("kl_weight", kl_weight)
    if int(labels.max()) >= logits.shape[1]:
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
