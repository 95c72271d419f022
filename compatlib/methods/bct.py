"""BCT, backward-compatible training (Shen, Xiong, Xia and Soatto, CVPR 2020).

The new model is trained with its own classifier and, at the same time, through the *frozen old classifier*, so that
its embeddings fall where the old ones did:

    L(w_c, w_φ) = L_cls(w_c, φ_new; T_new) + λ · L_cls(w_c_old, φ_new; T_BCT)

Nothing but the old classifier is needed, unless it lacks classes. Three forms differ in T_BCT and in the classifier:

- *A*: images of the classes that the old classifier knows; the others carry no influence loss.
- *B*: all images; a class that the old classifier lacks gets as its row the mean old embedding of its images.
- *C*: as B, every such row rescaled to the mean norm of the real rows (this study's).
- *D*: all images; such a row is predicted from the mean old embedding, by a ridge map fitted on the classes that have
  both (this study's).
"""

from collections.abc import Iterable, Iterator
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.data.tensors import as_integers, as_tensor
from compatlib.methods.common import check_rows, check_terms, checked_batch, resized

Classifier = nn.Module | Tensor
RIDGE_STRENGTHS = tuple(10.0**power for power in range(-3, 4))


def influence_loss(
    embeddings: Float[Tensor, "batch dim"],
    labels: Int64[Tensor, " batch"],
    old_classifier: Classifier,
    known_classes: int | Iterable[int] | Tensor | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of new embeddings under the old classifier, mean over the samples whose class it knows.

        L = 1/|K| Σ_{i ∈ K} CE(w_c_old · φ_new(x_i), y_i),   K = {i : y_i known}

    Source: BCT, the influence loss. That it is the mean over the samples that carry it, and 0 where none does, is our
    reading. The old classifier gets no gradient. Embeddings of another size than the old ones: their first coordinates
    enter the old classifier; shorter ones are padded with zeros (the authors' release).

    Args:
        embeddings: by the new model, any float type.
        labels: row k of the old classifier stands for label k.
        old_classifier: a module, embeddings → logits, whose `weight` is (classes, old dim), as that of `nn.Linear` and
            of `models.classifiers`; or such a weight alone, without a bias. A module is called without labels, so that
            a margin is not applied.
        known_classes: which classes carry the loss: their number n (classes 0 … n − 1) or their labels. By default all
            that have a row.

    Returns:
        A float32 scalar ≥ 0; 0, with zero gradients, if no sample's class is known.

    Raises:
        ValueError: arguments of other shapes, a module without a two-dimensional `weight` (an `nn.Sequential` has
            none), negative labels, or a known class without a row.
    """
    embeddings, labels = checked_batch(embeddings, labels)
    if isinstance(old_classifier, np.ndarray):
        old_classifier = as_tensor(old_classifier, "old_classifier").to(embeddings.device)
    weight = _weight(old_classifier)
    logits = _frozen_logits(old_classifier, resized(embeddings, weight.shape[1]))
    known = known_labels(known_classes, old_classifier, labels.device)
    carries = (labels[:, None] == known[None, :]).any(dim=1)
    total = F.cross_entropy(logits[carries].float(), labels[carries], reduction="sum")
    return total / carries.sum().clamp(min=1)


def known_labels(
    classes: int | Iterable[int] | Tensor | None, old_classifier: Classifier, device: torch.device
) -> Int64[Tensor, " known"]:
    """Labels of the known classes, however they are given, on a device.

    Args:
        classes: their number n (classes 0 … n − 1), their labels, or None for all that have a row.
        old_classifier: as `influence_loss` takes it.
        device: of the result.

    Raises:
        ValueError: a known class without a row, what is neither a number nor labels, or no old classifier.
    """
    rows = len(_weight(old_classifier))
    if classes is None:
        return torch.arange(rows, device=device)
    valid = f"valid is a number from 0 to {rows}, or labels from 0 to {rows - 1}, for which the old classifier has rows"
    if isinstance(classes, bool | float | str) or not isinstance(classes, Integral | Iterable):
        raise ValueError(f"known_classes is {classes!r}; {valid}")
    is_array = isinstance(classes, Integral) or hasattr(classes, "__array__")
    known = as_integers(classes if is_array else list(classes), "known_classes")
    if known.numel() and (known.is_floating_point() or known.dtype == torch.bool):
        raise ValueError(f"known_classes is {known.tolist()}; {valid}")
    is_number = known.ndim == 0
    if known.numel() and not (int(known.min()) >= 0 and int(known.max()) < rows + is_number):
        raise ValueError(f"known_classes is {known.tolist()}; {valid}")
    return torch.arange(int(known), device=device) if is_number else known.reshape(-1).long().to(device)


def synthesize_classifier(
    old_embeddings: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    num_classes: int,
    old_weight: Float[Tensor, "known dim"] | None = None,
    normalize: bool = True,
) -> Float[Tensor, "classes dim"]:
    """Weights of an old classifier for all classes: real rows where there are any, mean old embeddings elsewhere.

        w_k = (1/N_k) Σ_{i : y_i = k} φ_old(x_i)   for every class k without a row of its own

    Source: the comment of an author in openBCT's issue 1 (form B). With `normalize` (form C, our reading) each
    synthesised row is rescaled to the mean norm of the real rows, or to length 1 where there is none.

    Args:
        old_embeddings: of training images by the old model.
        labels: in [0, num_classes).
        num_classes: rows of the result.
        old_weight: real rows, of classes 0 … known − 1; none by default.
        normalize: form C instead of form B.

    Returns:
        Float32 weights on the device of the embeddings; real rows are copies, bit for bit.

    Raises:
        ValueError: arguments of other shapes, embeddings that are not finite, labels out of range, more real rows than
            classes, a class with neither a row nor an image, or a mean of length 0 which cannot be rescaled.
    """
    (old_embeddings, labels), num_classes = checked_batch(old_embeddings, labels), index(num_classes)
    real = _checked_rows(old_embeddings, labels, num_classes, old_weight)
    missing = torch.arange(len(real), num_classes, device=labels.device)
    counts = torch.bincount(labels, minlength=num_classes)[missing]
    if (counts == 0).any():
        raise ValueError(
            f"classes {missing[counts == 0].tolist()} have neither a row in the old classifier nor an image to make "
            "one of; give images of every class"
        )
    # One class at a time, summed in the images' order: `index_add_` on a GPU would not be repeatable.
    means = [old_embeddings[labels == label].detach().double().mean(dim=0) for label in missing.tolist()]
    if not means:
        return real
    rows = torch.stack(means)
    if normalize:
        norms = rows.norm(dim=1, keepdim=True)
        empty = missing[norms[:, 0] == 0].tolist()
        if empty:
            raise ValueError(
                f"the mean old embedding of classes {empty} has length 0 and cannot be rescaled; look whether the old "
                "model has collapsed, or take form B (normalize=False)"
            )
        rows = rows / norms * (real.double().norm(dim=1).mean() if len(real) else 1.0)
    return torch.cat([real, rows.float()])


def ridge_classifier(
    old_embeddings: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
    num_classes: int,
    old_weight: Float[Tensor, "known dim"],
    strengths: Iterable[float] = RIDGE_STRENGTHS,
) -> Float[Tensor, "classes dim"]:
    """Weights of an old classifier for all classes, form D: real rows, and rows predicted from mean old embeddings.

        w_k = w̄ + B (μ_k − μ̄),   B = argmin Σ_known ‖w_j − w̄ − B (μ_j − μ̄)‖² + α ‖B‖²

    μ_j is the mean old embedding of class j, bars are means over the known classes. Forms B and C take a mean for a
    row; here it is learned, where both are there, how a row follows from a mean. α is the strength with the least
    leave-one-class-out error, in multiples of the mean squared singular value of the centred means. Not published; this
    study's.

    Args:
        old_embeddings: of training images by the old model, of known and of missing classes.
        labels: in [0, num_classes).
        num_classes: rows of the result.
        old_weight: real rows, of classes 0 … known − 1, at least 3.
        strengths: that are tried, positive.

    Returns:
        Float32 weights on the device of the embeddings; real rows are copies, bit for bit.

    Raises:
        ValueError: as `synthesize_classifier`, a known class without an image, fewer than 3 known classes, known means
            that are all one, or strengths that are not positive.
    """
    strengths = tuple(map(float, strengths))
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths are {strengths}; valid are positive numbers, at least one")
    means = synthesize_classifier(old_embeddings, labels, num_classes, normalize=False).double()
    old_weight = as_tensor(old_weight, "old_weight")
    real = _checked_rows(means, torch.arange(len(means)), len(means), old_weight)
    if len(real) < 3:
        raise ValueError(f"the old classifier has {len(real)} rows; a ridge map needs 3 known classes or more")
    known, mean, row = means[: len(real)], means[: len(real)].mean(dim=0), real.double().mean(dim=0)
    left, singular, right = torch.linalg.svd(known - mean, full_matrices=False)
    if not singular.max() > 0:
        raise ValueError(
            "the mean old embeddings of all known classes are one and the same: the old model has collapsed"
        )
    coefficients = left.T @ (real.double() - row)
    shares = [singular**2 / (singular**2 + each * singular.square().mean()) for each in strengths]
    errors = [_left_out(left, share, coefficients, real.double() - row) for share in shares]
    share = shares[errors.index(min(errors))]
    chosen = right.T @ ((share / singular.clamp(min=1e-12 * float(singular.max())))[:, None] * coefficients)
    return torch.cat([real, (row + (means[len(real) :] - mean) @ chosen).float()])


def _left_out(left: Tensor, share: Tensor, coefficients: Tensor, rows: Tensor) -> float:
    """Mean squared error of a ridge map at every class that it was not fitted on, in closed form."""
    residual = rows - left @ (share[:, None] * coefficients)
    leverage = (left.square() @ share) + 1 / len(rows)  # the mean that is taken off is fitted too
    return float((residual / (1 - leverage).clamp(min=1e-9)[:, None]).square().mean())


def fit(
    backbone: nn.Module,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str,
    old_classifier: nn.Module,
    weight: float = 1.0,
    known_classes: int | Iterable[int] | Tensor | None = None,
    classification: bool = True,
    label_smoothing: float = 0.0,
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train a backbone and its classifier with the influence loss of an old classifier, which does not change.

    Form A: the old model's own classifier. Forms B, C and D: the old model's type of classifier with the rows of
    `synthesize_classifier` or `ridge_classifier`. The influence loss has no label smoothing; in the history,
    `bct/influence` is λ times it.

    Args:
        backbone: uint8 images (N, C, H, W) → embeddings (N, d).
        classifier: the new one; (embeddings, labels) → logits (N, classes). Without `classification` it stays as it is.
        images: labels must lie below the new classifier's number of classes.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study.
        old_classifier: a module as `influence_loss` takes it; frozen here.
        weight: λ ≥ 0; 1 in openBCT, 10 in BT².
        known_classes: as `influence_loss`.
        classification: whether the new classifier's own loss is part of the sum.
        label_smoothing: of that loss, in [0, 1).
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`, `workers`, `fabric`… as `training.fit`.

    Raises:
        ValueError: a weight that is negative or not finite, label smoothing out of range, a label without a row in the
            new classifier, a known class without a row in the old one, an old classifier that is no module or the new
            one itself, and as `training.fit`.
    """
    check_terms(weight, label_smoothing)
    check_rows(images, classifier)
    if not isinstance(old_classifier, nn.Module) or old_classifier is classifier:
        raise ValueError(
            "old_classifier must be a module of its own, apart from the new classifier; copy it, or wrap rows"
        )
    known = known_labels(known_classes, old_classifier, images.labels.device)

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator[tuple[str, dict[str, Tensor]]]:
        embeddings, terms = backbone(inputs), {}
        if classification:
            logits = classifier(embeddings, labels)
            terms["classification"] = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        influence = influence_loss(embeddings, labels, old_classifier, known)
        yield "bct", terms | {"influence": weight * influence}

    parts = {"backbone": backbone, "classifier": classifier} if classification else {"backbone": backbone}
    modules, frozen = nn.ModuleDict(parts), (old_classifier,)
    return training.fit(
        objective, modules, images, recipe, seed=seed, role=role, augment=augment, frozen=frozen, **placement
    )


def _frozen_logits(old_classifier: Classifier, embeddings: Tensor) -> Tensor:
    """Logits through the old classifier as it is: the gradient reaches the embeddings only."""
    if isinstance(old_classifier, Tensor):
        common = torch.promote_types(embeddings.dtype, old_classifier.dtype)
        return F.linear(embeddings.to(common), old_classifier.detach().to(common))
    frozen = {name: parameter.detach() for name, parameter in old_classifier.named_parameters()}
    return functional_call(old_classifier, frozen, (embeddings.to(_weight(old_classifier).dtype),))


def _weight(old_classifier: Classifier) -> Tensor:
    """(classes, dim) weights of a classifier."""
    weight = old_classifier if isinstance(old_classifier, Tensor) else getattr(old_classifier, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ValueError(
            f"the old classifier is {type(old_classifier).__name__}; valid is a (classes, d) tensor, or a module whose "
            "`weight` is one"
        )
    return weight


def _checked_rows(old_embeddings: Tensor, labels: Tensor, num_classes: int, old_weight: Tensor | None) -> Tensor:
    """The real rows, float32 (known, dim); none is (0, dim)."""
    highest = int(labels.max()) if len(labels) else -1
    if num_classes < 1 or highest >= num_classes:
        raise ValueError(f"num_classes is {num_classes}; valid is a number ≥ 1 above the highest label, {highest}")
    if not old_embeddings.isfinite().all():
        raise ValueError("old_embeddings hold values that are not finite; no row can be made of them")
    if old_weight is None:
        return old_embeddings.new_zeros(0, old_embeddings.shape[1], dtype=torch.float32)
    old_weight = as_tensor(old_weight, "old_weight")
    if old_weight.ndim != 2 or old_weight.shape[1] != old_embeddings.shape[1] or len(old_weight) > num_classes:
        raise ValueError(
            f"old_weight has shape {tuple(old_weight.shape)}; valid is (known, {old_embeddings.shape[1]}) with known "
            f"up to num_classes, {num_classes}"
        )
    return old_weight.detach().float().clone().to(old_embeddings.device)
