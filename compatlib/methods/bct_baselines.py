"""The baselines that BCT is compared with in its authors' release (openBCT): new embeddings drawn to the old ones.

Each draws the new embedding of an image towards what the old model makes of the same image, augmented alike:

    L = L_cls(w_c, φ_new) + μ · L_alignment(φ_new, φ_old),

or, as openBCT's L2, without the first term. The old model is frozen. Embeddings of another size are compared in the old
model's coordinates, as in `compatlib.methods.bct`. One is a baseline of Dual-Tuning's (`two_way_triplet`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.data.tensors import as_tensor
from compatlib.methods.common import check_number, check_rows, check_terms, checked_batch, resized

Alignment = Callable[[Tensor, Tensor, Tensor], Tensor]


def squared_error(
    new: Float[Tensor, "batch dim"], old: Float[Tensor, "batch dim"], labels: Int64[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean of (φ_new − φ_old)² over samples and coordinates; openBCT's L2. The labels are not used.

    Raises:
        ValueError: unequal shapes or types, or no sample; so for every function here.
    """
    new, old, labels = _checked_pairs(new, old, labels)
    return F.mse_loss(new, old)


def normalised_distance(
    new: Float[Tensor, "batch dim"], old: Float[Tensor, "batch dim"], labels: Int64[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean of ‖φ_new/|φ_new| − φ_old/|φ_old|‖² over samples, in [0, 4]; this study's. The labels are not used."""
    new, old, labels = _checked_pairs(new, old, labels)
    return (F.normalize(new) - F.normalize(old)).square().sum(dim=1).mean()


def hardest_triplet(
    new: Float[Tensor, "batch dim"],
    old: Float[Tensor, "batch dim"],
    labels: Int64[Tensor, " batch"],
    margin: float = 1.0,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    """Triplet loss: anchor new, positive the same image's old embedding, negative the batch's nearest old one.

        1/n Σ_i max(0, ‖φ_new(i) − φ_old(i)‖ − min_{j : y_j ≠ y_i} ‖φ_new(i) − φ_old(j)‖ + margin)

    Source: openBCT's release, margin 1, where embeddings are raw (`normalize=False`). A batch of one class has no
    negative and carries no loss.
    """
    new, old, labels = _checked_pairs(new, old, labels)
    check_number("the margin", margin)
    if normalize:
        new, old = F.normalize(new), F.normalize(old)
    wide = torch.promote_types(new.dtype, torch.float32)
    new, old = new.to(wide), old.to(wide)
    nearest, has_negative = _nearest_of_another_class(new.detach(), old.detach(), labels)
    positive = torch.linalg.vector_norm(new - old, dim=1)
    negative = torch.linalg.vector_norm(new - old[nearest], dim=1).masked_fill(~has_negative, torch.inf)
    return F.relu(positive - negative + margin).mean()


def two_way_triplet(
    new: Float[Tensor, "batch dim"],
    old: Float[Tensor, "batch dim"],
    labels: Int64[Tensor, " batch"],
    margin: float = 0.3,
    normalize: bool = True,
) -> Float[Tensor, ""]:
    """`hardest_triplet` both ways: new anchors among old embeddings, and old anchors among new ones; their sum.

    A baseline of Dual-Tuning (arXiv 2108.02959), margin 0.3 in its release; its formula is not published. That a
    positive is the same image's other embedding, and that both ways count alike, is our reading.
    """
    both = ((new, old), (old, new))
    return sum(hardest_triplet(anchors, others, labels, margin, normalize) for anchors, others in both)


def _nearest_of_another_class(new: Tensor, old: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Index (n,) of every anchor's nearest old embedding of another class, and whether there is one.

    Over squared norms, which is five times as quick as over differences, in float64, since it loses small distances.
    """
    wide = old.double()
    distances = wide.square().sum(dim=1) - 2 * (new.double() @ wide.T)  # but for a number of the anchor's own
    same = labels[:, None] == labels[None, :]
    return distances.masked_fill_(same, torch.inf).argmin(dim=1), ~same.all(dim=1)


def contrastive(
    new: Float[Tensor, "batch dim"],
    old: Float[Tensor, "batch dim"],
    labels: Int64[Tensor, " batch"],
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """Supervised contrastive loss of new anchors against the batch's old embeddings, all normalised.

        −1/n Σ_i 1/|P(i)| Σ_{p ∈ P(i)} log( exp(z_i · o_p / τ) / Σ_j exp(z_i · o_j / τ) ),   P(i) = {p : y_p = y_i}

    Source: openBCT's release, τ = 0.05; P(i) holds i itself, as the old embedding of the same image. In the release's
    denominator stand one positive and the negatives; here stand all.
    """
    new, old, labels = _checked_pairs(new, old, labels)
    check_number("the temperature", temperature, positive=True)
    logs = F.log_softmax(F.normalize(new) @ F.normalize(old).T / temperature, dim=1)
    same = (labels[:, None] == labels[None, :]).to(logs.dtype)
    return -((logs * same).sum(dim=1) / same.sum(dim=1)).mean()


class Distillation:
    """Cross-entropy of the old classifier's logits of new embeddings under its logits of old ones.

        −1/n Σ_i Σ_k softmax(W_old φ_old(x_i))_k · log softmax(W_old φ_new(x_i))_k

    Source: openBCT's release, temperature 1. `old_weight` is (classes, dim), without a bias.
    """

    def __init__(self, old_weight: Float[Tensor, "classes dim"]) -> None:
        if isinstance(old_weight, np.ndarray):
            old_weight = as_tensor(old_weight, "old_weight")
        if not isinstance(old_weight, Tensor) or old_weight.ndim != 2:
            raise ValueError(f"old_weight is {type(old_weight).__name__}; valid is a tensor (classes, dim)")
        self.old_weight = old_weight.detach().float()

    def __call__(
        self, new: Float[Tensor, "batch dim"], old: Float[Tensor, "batch dim"], labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """A scalar ≥ 0; the labels are not used."""
        new, old, labels = _checked_pairs(new, old, labels)
        if old.shape[1] != self.old_weight.shape[1]:
            raise ValueError(f"embeddings of {old.shape[1]} dimensions meet rows of {self.old_weight.shape[1]}")
        weight = self.old_weight.to(new.device)
        return F.cross_entropy(F.linear(new.float(), weight), F.linear(old.float(), weight).softmax(dim=1))


def fit(
    backbone: nn.Module,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str,
    old_backbone: nn.Module,
    alignment: Alignment,
    weight: float = 1.0,
    classification: bool = True,
    label_smoothing: float = 0.0,
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train a backbone, and its classifier, while its embeddings are drawn to those of an old model, which stays.

    Args:
        backbone: uint8 images (N, C, H, W) → embeddings (N, d).
        classifier: the new one; (embeddings, labels) → logits (N, classes). Without `classification` it stays as it is.
        images: labels must lie below the new classifier's number of classes.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study.
        old_backbone: images → embeddings (N, old d); frozen here.
        alignment: (new, old, labels) → scalar, of this module.
        weight: μ ≥ 0; the history's `aligned/alignment` is μ times the loss.
        classification: whether the new classifier's own loss is part of the sum.
        label_smoothing: of that loss, in [0, 1).
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`, `workers`, `fabric`… as `training.fit`.

    Raises:
        ValueError: a weight that is negative or not finite, label smoothing out of range, a label without a row in the
            classifier, and as `training.fit`.
    """
    check_terms(weight, label_smoothing)
    check_rows(images, classifier)

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator[tuple[str, dict[str, Tensor]]]:
        embeddings = backbone(inputs)
        with torch.no_grad():
            old = old_backbone(inputs)
        with torch.autocast(labels.device.type, enabled=False):  # distances and similarities want float32
            drawn = alignment(resized(embeddings, old.shape[1]).float(), old.float(), labels)
        terms = {"alignment": weight * drawn}
        if classification:
            logits = classifier(embeddings, labels)
            terms["classification"] = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        yield "aligned", terms

    parts = {"backbone": backbone, "classifier": classifier} if classification else {"backbone": backbone}
    modules, frozen = nn.ModuleDict(parts), (old_backbone,)
    return training.fit(
        objective, modules, images, recipe, seed=seed, role=role, augment=augment, frozen=frozen, **placement
    )


def _checked_pairs(new: Tensor, old: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (new, labels), old = checked_batch(new, labels), as_tensor(old, "old embeddings")
    if old.shape != new.shape or old.dtype != new.dtype or not len(new):
        raise ValueError(
            f"new and old embeddings have shapes {tuple(new.shape)} and {tuple(old.shape)}, types {new.dtype} and "
            f"{old.dtype}; give equal ones, of one sample or more"
        )
    return new, old, labels
