"""Dual-Tuning: joint prototype transfer and structure regularization (Bai et al., IEEE TMM 2022, arXiv 2108.02959).

An old space is imperfect: it has outliers and too few classes, and its loss may be another one. So the new model is
drawn to global old *prototypes*, not to old samples, and each model's embeddings pass through the other's classifier:

    L = L_task + w_p · L_prototype + w_on · L_old→new + w_no · L_new→old

The release has the weights 0.1, 0.2 and 0.2. Its losses were never published: what is known of them from its names and
configurations, and what is our reading, stands at each function. The old model is frozen; its embeddings are taken as
it gives them, signed or not.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.data.tensors import as_tensor
from compatlib.embedding import embed
from compatlib.methods import bct
from compatlib.methods.common import check_number, check_rows, check_terms, checked_batch, resized

Kind = Literal["softmax", "distance"]
KINDS: tuple[Kind, ...] = ("softmax", "distance")


class Mutual(NamedTuple):
    """The two terms of the mutual structural regularisation, each a scalar ≥ 0."""

    old_to_new: Tensor
    new_to_old: Tensor


def prototypes(
    embeddings: Float[Tensor, "n dim"], labels: Int64[Tensor, " n"], num_classes: int
) -> Float[Tensor, "classes dim"]:
    """Mean old embedding of every class, over all images given; so also of classes that the old model never saw.

        p_k = (1/N_k) Σ_{i : y_i = k} φ_old(x_i)

    Source: Dual-Tuning's release: of all images of the new training set, not augmented, without normalisation. They are
    the rows that BCT's form B gives an old classifier which has none of its own.

    Args:
        embeddings: by the old model, any float type.
        labels: in [0, num_classes).
        num_classes: rows of the result.

    Returns:
        Float32, detached, on the device of the embeddings.

    Raises:
        ValueError: arguments of other shapes, embeddings that are not finite, labels out of range, or a class without
            an image.
    """
    return bct.synthesize_classifier(embeddings, labels, num_classes, normalize=False)


def prototype_loss(
    embeddings: Float[Tensor, "batch dim"],
    labels: Int64[Tensor, " batch"],
    prototypes: Float[Tensor, "classes old_dim"],
    kind: Kind = "softmax",
) -> Float[Tensor, ""]:
    """How far new embeddings are from the old prototypes of their classes, mean over samples; by two readings.

        softmax:  1/n Σ_i −log softmax_k(⟨φ_new(x_i), p_k⟩)[y_i]
        distance: 1/n Σ_i ‖φ_new(x_i) − p_{y_i}‖²

    Source: Dual-Tuning names the loss and gives its weight, 0.1; the formula is not published. Both are our readings,
    the first the likelier one (we give it 65 %, the other 25 %). Of embeddings and prototypes of unequal size the
    common first coordinates count. The prototypes get no gradient.

    Args:
        embeddings: by the new model, any float type.
        labels: each with a prototype.
        prototypes: row k is that of label k.
        kind: `softmax` or `distance`.

    Returns:
        A scalar ≥ 0, float32, or float64 where the embeddings are.

    Raises:
        ValueError: arguments of other shapes, no sample, a label without a prototype, or an unknown kind.
    """
    _check_kind(kind)
    embeddings, labels = checked_batch(embeddings, labels)
    prototypes = as_tensor(prototypes, "prototypes")
    if prototypes.ndim != 2 or not prototypes.is_floating_point():
        raise ValueError(f"prototypes are {prototypes.dtype} of shape {tuple(prototypes.shape)}; valid is float (k, d)")
    _check_labels(labels, len(prototypes), "prototype")
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    common = min(embeddings.shape[1], prototypes.shape[1])
    new, old = embeddings[:, :common].to(wide), prototypes.detach()[:, :common].to(embeddings.device, wide)
    if kind == "softmax":
        return F.cross_entropy(new @ old.T, labels)
    return (new - old[labels]).square().sum(dim=1).mean()


def mutual_loss(
    new: Float[Tensor, "batch dim"],
    old: Float[Tensor, "batch old_dim"],
    labels: Int64[Tensor, " batch"],
    new_classifier: nn.Module,
    old_classifier: bct.Classifier,
    known_classes: int | Iterable[int] | Tensor | None = None,
) -> Mutual:
    """Cross-entropy of each model's embeddings under the other's classifier: the mutual structural regularisation.

        old to new: 1/n Σ_i CE(w_c_new · φ_old(x_i), y_i)
        new to old: 1/|K| Σ_{i ∈ K} CE(w_c_old · φ_new(x_i), y_i),   K = {i : the old model knows y_i}

    Source: Dual-Tuning's release names both and gives the weight of the second, 0.2; the forms are our reading (80 %).
    The gradient of the first reaches the new classifier alone, that of the second the new embeddings alone, which is
    BCT's influence loss. Neither classifier applies a margin, no label is smoothed (our reading). An embedding enters
    a classifier of another size with its first coordinates, with zeros behind where it is shorter (release).

    Args:
        new: by the new model, of the same samples as `old`, any float type.
        old: by the old model.
        labels: row k of either classifier stands for label k; each has a row in the new one.
        new_classifier: a module, embeddings → logits, whose `weight` is (classes, dim).
        old_classifier: as `bct.influence_loss` takes it.
        known_classes: which classes carry the second term, as in `bct.influence_loss`; by default all that have a row
            in the old classifier.

    Returns:
        Both terms, told apart; the second is 0, with zero gradients, where no sample's class is known.

    Raises:
        ValueError: arguments of other shapes, no sample, a label without a row in the new classifier, and as
            `bct.influence_loss`.
    """
    (new, labels), (old, _) = checked_batch(new, labels), checked_batch(old, labels, "old embeddings")
    classes, dim = new_classifier.weight.shape
    _check_labels(labels, classes, "row in the new classifier")
    logits = new_classifier(resized(old.detach(), dim).to(new_classifier.weight.dtype))
    return Mutual(
        old_to_new=F.cross_entropy(logits.float(), labels),
        new_to_old=bct.influence_loss(new, labels, old_classifier, known_classes),
    )


def fit(
    backbone: nn.Module,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str,
    old_backbone: nn.Module,
    old_classifier: nn.Module | None = None,
    weight: float = 0.1,
    old_to_new: float = 0.2,
    new_to_old: float = 0.2,
    kind: Kind = "softmax",
    known_classes: int | Iterable[int] | Tensor | None = None,
    label_smoothing: float = 0.0,
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train a backbone and its classifier towards an old model's prototypes, and each through the other's classifier.

    The old model does not change. It embeds the images once as they are, for the prototypes, and then every batch as
    the new model sees it, unless both mutual weights are 0. A term of weight 0 is left out, of the history too; the
    others stand there times their weight: `dual_tuning/classification`, `prototypes`, `old_to_new`, `new_to_old`.

    Args:
        backbone: uint8 images (N, C, H, W), or what else `images` gives → embeddings (N, d).
        classifier: the new one; (embeddings, labels) → logits (N, classes).
        images: labels must lie below the new classifier's number of classes; every class up to the highest label must
            have an image where there is a prototype loss.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study.
        old_backbone: what `images` gives → embeddings (N, old d); frozen here.
        old_classifier: a module as `mutual_loss` takes it; frozen here. None where both mutual weights are 0.
        weight: of the prototype loss, ≥ 0.
        old_to_new: weight of the old embeddings' loss under the new classifier, ≥ 0.
        new_to_old: weight of the new embeddings' loss under the old classifier, ≥ 0.
        kind: of the prototype loss.
        known_classes: as `mutual_loss`.
        label_smoothing: of the new classifier's own loss, in [0, 1); 0.1 in the release.
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`, `workers`, `fabric`… as `training.fit`.

    Raises:
        ValueError: a weight that is negative or not finite, label smoothing out of range, an unknown kind, a label
            without a row in the new classifier, a class without an image, an old module that is the new one itself or
            none, and as `bct.fit` and `training.fit`.
    """
    weights = Mutual(old_to_new, new_to_old)
    for name, value in {"prototypes": weight, **weights._asdict()}.items():
        check_number(f"the weight of {name}", value)
    check_terms(weight, label_smoothing)
    _check_kind(kind)
    check_rows(images, classifier)
    _check_apart("backbone", old_backbone, backbone)
    frozen = [old_backbone]
    if any(weights):
        _check_apart("classifier", old_classifier, classifier)
        known_classes = bct.known_labels(known_classes, old_classifier, images.labels.device)
        frozen.append(old_classifier)
    means = _prototypes_of(images, old_backbone) if weight else None

    def objective(inputs: Any, labels: Tensor, indices: Tensor) -> Iterator[tuple[str, dict[str, Tensor]]]:
        embeddings = backbone(inputs)
        logits = classifier(embeddings, labels)
        terms = {"classification": F.cross_entropy(logits, labels, label_smoothing=label_smoothing)}
        if means is not None:
            with torch.autocast(labels.device.type, enabled=False):  # products and distances want float32
                terms["prototypes"] = weight * prototype_loss(embeddings.float(), labels, means, kind)
        if any(weights):
            with torch.no_grad():
                old = old_backbone(inputs)
            losses = mutual_loss(embeddings, old, labels, classifier, old_classifier, known_classes)
            shares = zip(Mutual._fields, weights, losses, strict=True)
            terms |= {name: share * loss for name, share, loss in shares if share}
        yield "dual_tuning", terms

    modules = nn.ModuleDict({"backbone": backbone, "classifier": classifier})
    return training.fit(
        objective, modules, images, recipe, seed=seed, role=role, augment=augment, frozen=frozen, **placement
    )


def _prototypes_of(images: Images, old_backbone: nn.Module) -> Tensor:
    """Of the images as they are, in the order of the labels, up to the highest."""
    return prototypes(embed(old_backbone, images), images.labels, int(images.labels.max()) + 1)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} of the prototype loss; choose one of {KINDS}")


def _check_labels(labels: Tensor, count: int, what: str) -> None:
    """Refuse a batch without a sample, or with a label that has no `what`, of which there are `count`."""
    if not len(labels):
        raise ValueError("there is no sample in the batch; give one or more")
    if int(labels.max()) >= count:
        raise ValueError(f"label {int(labels.max())} has no {what}; there are {count}, of labels 0 to {count - 1}")


def _check_apart(name: str, old: nn.Module | None, new: nn.Module) -> None:
    if not isinstance(old, nn.Module) or old is new:
        raise ValueError(f"old_{name} must be a module of its own, apart from the new {name}; copy it")
