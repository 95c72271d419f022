"""FCT, forward-compatible training (Ramanujan, Vasu, Farhadi, Tuzel and Pouransari, CVPR 2022), and FastFill.

When the old model is deployed, *side-information* ψ(x) is stored beside each embedding, learned without knowing any
future model. When a new model arrives, trained as ever and left alone, a small transformation h is fitted on the new
training data:

    min_h  mean_x ‖ h(φ_old(x), ψ(x)) − φ_new(x) ‖²

and every gallery vector is replaced by h(φ_old(x), ψ(x)): no image is read again. Without side-information the old
embedding is fed in twice, so that h keeps its size.

FastFill (Jaeckle, Faghri, Farhadi, Tuzel and Pouransari, ICLR 2023) gives h a head for its own uncertainty, which tells
which items of the gallery to embed again first. Sizes, losses and schedules are those of the authors' release.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.data.tensors import as_tensor
from compatlib.methods.common import check_number, checked_batch
from compatlib.methods.side_information import nt_xent
from compatlib.methods.stored_views import StoredViews, embed_views, one_view, store_views

COORDINATES = ("mean", "sum")

__all__ = [
    "FastFill",
    "StoredViews",
    "Transformation",
    "embed_views",
    "fastfill_loss",
    "fit",
    "fit_fastfill",
    "fit_on_images",
    "nt_xent",
    "one_view",
    "store_views",
]


class Transformation(nn.Module):
    """h: an old embedding and its side-information → an embedding of the new model's kind.

        p_1: d_old → 2 d_old → 2 d_new,   p_2: d_side → 2 d_side → 2 d_new,
        h(φ, ψ) = p_3([p_1(φ), p_2(ψ)]),   p_3: 4 d_new → hidden → hidden → d_new

    Every layer but the last has no bias and is followed by BatchNorm and ReLU; the last has a bias alone. Source: FCT's
    release; 5,712,000 parameters at 128, 128, 128.

    Args:
        old_dim: d_old ≥ 1.
        side_dim: d_side ≥ 1; d_old where the old embedding stands in for side-information.
        new_dim: d_new ≥ 1.
        hidden_dim: width of the two hidden layers, 2048 in the release.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, old_dim: int, side_dim: int, new_dim: int, hidden_dim: int = 2048) -> None:
        super().__init__()
        if min(old_dim, side_dim, new_dim, hidden_dim) < 1:
            raise ValueError(
                f"old_dim, side_dim, new_dim and hidden_dim are {old_dim}, {side_dim}, {new_dim} and {hidden_dim}; "
                "valid are whole numbers from 1"
            )
        self.old_dim, self.side_dim, self.dim = old_dim, side_dim, new_dim
        self.from_old = nn.Sequential(*_layer(old_dim, 2 * old_dim), *_layer(2 * old_dim, 2 * new_dim))
        self.from_side = nn.Sequential(*_layer(side_dim, 2 * side_dim), *_layer(2 * side_dim, 2 * new_dim))
        self.mixed = nn.Sequential(
            *_layer(4 * new_dim, hidden_dim), *_layer(hidden_dim, hidden_dim), nn.Linear(hidden_dim, new_dim)
        )

    def forward(
        self, old: Float[Tensor, "batch old_dim"], side: Float[Tensor, "batch side_dim"]
    ) -> Float[Tensor, "batch new_dim"]:
        """Transformed embeddings, comparable with the new model's.

        Raises:
            ValueError: embeddings of another size or number.
        """
        shapes, valid = (tuple(old.shape), tuple(side.shape)), ((len(old), self.old_dim), (len(old), self.side_dim))
        if shapes != valid:
            raise ValueError(
                f"old and side have shapes {shapes[0]} and {shapes[1]}; valid are {valid[0]} and {valid[1]}"
            )
        return self.mixed(torch.cat([self.from_old(old), self.from_side(side)], dim=1))


def _layer(size_in: int, size_out: int) -> tuple[nn.Module, ...]:
    return nn.Linear(size_in, size_out, bias=False), nn.BatchNorm1d(size_out), nn.ReLU()


class FastFill(nn.Module):
    """h with its uncertainty: s(x) = w · h(φ_old(x), ψ(x)) + b, the log-variance of what h misses.

    Source: FastFill's release.

    Args:
        transformation: h; trained together with the head.
    """

    def __init__(self, transformation: Transformation) -> None:
        super().__init__()
        self.transformation = transformation
        self.uncertainty = nn.Linear(transformation.dim, 1)

    def forward(
        self, old: Float[Tensor, "batch old_dim"], side: Float[Tensor, "batch side_dim"]
    ) -> tuple[Float[Tensor, "batch new_dim"], Float[Tensor, " batch"]]:
        """(transformed embeddings, log-variances); items of a high log-variance are to be embedded again first."""
        embedding = self.transformation(old, side)
        return embedding, self.uncertainty(embedding)[:, 0]


def fastfill_loss(
    embedding: Float[Tensor, "batch dim"],
    log_variance: Float[Tensor, " batch"],
    new: Float[Tensor, "batch dim"],
    labels: Int64[Tensor, " batch"],
    new_classifier: nn.Module,
    label_smoothing: float = 0.1,
    cross_entropy: float = 1.0,
    coordinates: str = "mean",
) -> Float[Tensor, ""]:
    """What h misses, weighed by the uncertainty that it states.

        ℓ(x) = 1/d ‖φ_new(x) − h(x)‖² + CE(W_new · h(x), y),   L = mean_x ( ½ e^{−s(x)} ℓ(x) + ½ s(x) )

    Source: FastFill's release, label smoothing 0.1. The new classifier, embeddings → logits, gets no gradient where its
    parameters are frozen. How the two parts of ℓ balance decides what h learns, and depends on the embedding's size and
    scale; this study's axes are the weight of the cross-entropy and whether the squares are a mean or a sum over d.

    Args:
        embedding: h(x).
        log_variance: s(x).
        new: φ_new(x).
        labels: y.
        new_classifier: W_new.
        label_smoothing: of the cross-entropy.
        cross_entropy: its weight, ≥ 0; 1 in the release.
        coordinates: `mean`, as in the release, or `sum`.

    Raises:
        ValueError: arguments of other shapes, a weight that is negative or not finite, or neither a mean nor a sum.
    """
    check_number("cross_entropy", cross_entropy)
    if coordinates not in COORDINATES:
        raise ValueError(f"coordinates is {coordinates!r}; choose one of {COORDINATES}")
    embedding, labels = checked_batch(embedding, labels)
    new, log_variance = as_tensor(new, "new"), as_tensor(log_variance, "log_variance")
    if new.shape != embedding.shape or log_variance.shape != labels.shape:
        raise ValueError(
            f"new and log_variance have shapes {tuple(new.shape)} and {tuple(log_variance.shape)}; valid are "
            f"{tuple(embedding.shape)} and {tuple(labels.shape)}"
        )
    squares = (new - embedding).square()
    missed = squares.sum(dim=1) if coordinates == "sum" else squares.mean(dim=1)
    if cross_entropy:
        logits = new_classifier(embedding)
        classified = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        missed = missed + cross_entropy * classified
    return (0.5 * torch.exp(-log_variance) * missed + 0.5 * log_variance).mean()


def fit(
    transformation: Transformation,
    views: StoredViews,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "transformation",
    **placement: Any,
) -> training.Fit:
    """Fit h to stored views by the mean squared error of raw features.

    From half of the epochs on h is in eval mode, with its BatchNorm statistics frozen, and still optimised. Source:
    FCT's release: Adam 5e-4, weight decay 2⁻¹⁵, 80 epochs, 5 of warm-up, cosine, batches of 1024.

    Args:
        transformation: h; left in eval mode.
        views: of the new model's training set.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what h is in the study.
        **placement: `checkpoint`, `report`, `fabric`… as `training.fit`.

    Raises:
        ValueError: as `training.fit`, and for embeddings of another size than h takes.
    """

    def objective(inputs: tuple[Tensor, Tensor, Tensor], labels: Tensor, indices: Tensor) -> Iterator:
        old, side, new = inputs
        yield "fct", F.mse_loss(transformation(old, side), new)

    freeze = partial(_freeze_statistics, transformation)
    options = {"seed": seed, "role": role, "augment": one_view, "on_epoch": freeze}
    return training.fit(objective, transformation, views, recipe, **options, **placement)


def fit_on_images(
    transformation: Transformation,
    images: Images,
    recipe: training.Recipe,
    *,
    old: nn.Module,
    side: nn.Module | None,
    new: nn.Module,
    seed: int,
    role: str = "transformation",
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """As `fit`, with the embeddings computed anew at every step from augmented images, as in the release.

    Args:
        transformation: h; left in eval mode.
        images: the new model's training set.
        recipe: epochs, optimiser, schedule, precision.
        old: images → (N, d_old); frozen here, BatchNorm included, as are the two others.
        side: images → (N, d_side); None feeds the old embedding in twice.
        new: images → (N, d_new).
        seed: any integer.
        role: what h is in the study.
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`, `fabric`… as `training.fit`.

    Raises:
        ValueError: as `training.fit`, and for embeddings of another size than h takes.
    """

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        with torch.no_grad():
            old_embedding, target = old(inputs), new(inputs)
            stored = old_embedding if side is None else side(inputs)
        yield "fct", F.mse_loss(transformation(old_embedding, stored), target)

    frozen = tuple(model for model in (old, side, new) if model is not None)
    options = {"seed": seed, "role": role, "augment": augment, "frozen": frozen}
    freeze = partial(_freeze_statistics, transformation)
    return training.fit(objective, transformation, images, recipe, on_epoch=freeze, **options, **placement)


def fit_fastfill(
    fastfill: FastFill,
    views: StoredViews,
    recipe: training.Recipe,
    *,
    new_classifier: nn.Module,
    seed: int,
    role: str = "fastfill",
    cross_entropy: float = 1.0,
    coordinates: str = "mean",
    **placement: Any,
) -> training.Fit:
    """Fit h together with its uncertainty, by `fastfill_loss`, on FCT's schedule.

    Args:
        fastfill: h and its head; left in eval mode.
        views: of the new model's training set.
        recipe: epochs, optimiser, schedule, precision.
        new_classifier: of the new model, embeddings → logits; frozen here.
        seed: any integer.
        role: what h is in the study.
        cross_entropy: as `fastfill_loss`.
        coordinates: as `fastfill_loss`.
        **placement: `checkpoint`, `report`, `fabric`… as `training.fit`.

    Raises:
        ValueError: as `fit` and `fastfill_loss`.
    """
    balance = {"cross_entropy": cross_entropy, "coordinates": coordinates}

    def objective(inputs: tuple[Tensor, Tensor, Tensor], labels: Tensor, indices: Tensor) -> Iterator:
        old, side, new = inputs
        embedding, log_variance = fastfill(old, side)
        with torch.autocast(new.device.type, enabled=False):  # an exponential and squares want float32
            loss = fastfill_loss(embedding.float(), log_variance.float(), new, labels, new_classifier, **balance)
        yield "fastfill", loss

    freeze = partial(_freeze_statistics, fastfill.transformation)
    options = {"seed": seed, "role": role, "augment": one_view, "on_epoch": freeze, "frozen": (new_classifier,)}
    return training.fit(objective, fastfill, views, recipe, **options, **placement)


def _freeze_statistics(transformation: Transformation, epoch: int, epochs: int) -> None:
    """From half of the epochs on: eval mode, which keeps BatchNorm's statistics and still lets weights learn."""
    if 2 * epoch >= epochs:
        transformation.eval()
