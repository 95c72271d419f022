"""Conflicting gradients: two of a negative inner product, and what is taken out of each so that it hurts no other.

Source: PCGrad (Yu, Kumar, Gupta, Levine, Hausman and Finn, NeurIPS 2020), as SFSC uses it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from compatlib.data.tensors import as_tensor


def conflict_weights(
    gram: Float[Tensor, "objectives objectives"], generator: torch.Generator | None = None
) -> Float[Tensor, "objectives objectives"]:
    """Row i holds the coefficients, in the original gradients, of the projected gradient of objective i.

    For every g_i, through the other *original* gradients g_j in random order: where ⟨g_i, g_j⟩ < 0,
    g_i ← g_i − (⟨g_i, g_j⟩ / ‖g_j‖²) g_j. All of it can be decided in the Gram matrix. Source: PCGrad (Yu et al. 2020),
    algorithm 1, as SFSC uses it. Nothing is projected out along a g_j so short beside g_i that the coefficient does not
    fit the Gram matrix's type, as where ‖g_j‖² is 0 in it (a norm below 1e-22 in float32); every coefficient is finite,
    and so is their sum over the objectives.

    Args:
        gram: ⟨g_i, g_j⟩.
        generator: draws the orders, on the processor; by default torch's global one.

    Raises:
        ValueError: no square matrix, or values that are not finite.
    """
    gram = _checked_gram(gram)
    inner = gram.double().cpu()
    weights = torch.eye(len(inner), dtype=torch.float64)
    for at, own in enumerate(weights):
        for other in torch.randperm(len(inner), generator=generator).tolist():
            if other != at:
                own[other] -= _taken_out(own @ inner[:, other], inner[other, other], gram)
    return weights.to(gram.dtype).to(gram.device)


def full_conflict_weights(
    gram: Float[Tensor, "objectives objectives"], full: int
) -> Float[Tensor, "objectives objectives"]:
    """As `conflict_weights`, each gradient projected against the full model's alone; that one stays as it is.

    Args:
        gram: ⟨g_i, g_j⟩.
        full: the full model's place.

    Raises:
        ValueError: as `conflict_weights`, and for a place that there is not.
    """
    gram = _checked_gram(gram)
    if not 0 <= full < len(gram):
        raise ValueError(f"full is {full}; there are {len(gram)} objectives, counted from 0")
    weights = torch.eye(len(gram), dtype=torch.float64)
    inner = gram.double().cpu()
    for i in range(len(gram)):
        if i != full:
            weights[i, full] -= _taken_out(inner[i, full], inner[full, full], gram)
    return weights.to(gram.dtype).to(gram.device)


def project_conflicts(
    gradients: Float[Tensor, "objectives parameters"], generator: torch.Generator | None = None
) -> Float[Tensor, " parameters"]:
    """The sum of the projected gradients, in two passes over them, computed in float64: see `conflict_weights`.

    Args:
        gradients: a row for every objective, of any float type, which is the sum's too.
        generator: as `conflict_weights`.

    Raises:
        ValueError: no matrix, and as `conflict_weights`.
    """
    gradients = as_tensor(gradients, "gradients")
    if gradients.ndim != 2 or not gradients.is_floating_point():
        raise ValueError(f"gradients are {gradients.dtype} of shape {tuple(gradients.shape)}; valid are floats (m, p)")
    rows = gradients.double()
    return (conflict_weights(rows @ rows.T, generator).sum(dim=0) @ rows).to(gradients.dtype)


def _taken_out(overlap: Tensor, squared_norm: Tensor, gram: Tensor) -> Tensor | float:
    """How much of g_j is taken out of g_i, a number ≤ 0: ⟨g_i, g_j⟩ / ‖g_j‖² where they conflict and it can be held."""
    share = overlap / squared_norm
    return share if overlap < 0 and -share <= torch.finfo(gram.dtype).max / len(gram) else 0.0


def _checked_gram(gram: Tensor) -> Tensor:
    gram = as_tensor(gram, "gram")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
        raise ValueError(f"gram has shape {tuple(gram.shape)}; valid is (objectives, objectives), at least one")
    if not gram.isfinite().all():
        raise ValueError("gram holds values that are not finite: a gradient has overflowed; lower the learning rate")
    return gram
