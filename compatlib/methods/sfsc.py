"""SFSC, switchable representation learning with self-compatibility (Wu, Bai, Lou, Linghu, He and Duan, CVPR 2023).

One training yields sub-models φ_1 … φ_m of a switchable network (`models.slimmable`), which share their weights and one
classifier and are compatible with one another. Trained together their gradients conflict, in magnitude and in
direction. Two means against it: an evidential loss, by which a sub-model that is uncertain weighs less, and a
projection, which takes out of each sub-model's gradient, one after the other, what would hurt another.

The paper's tables and schedule could not be read; the forms here are those of a third party's published
re-implementation, the departures are said to be ours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.methods.bct_baselines import hardest_triplet
from compatlib.methods.common import check_number, check_rows, check_terms
from compatlib.methods.conflicts import conflict_weights, full_conflict_weights, project_conflicts
from compatlib.methods.evidential import evidential_loss, uncertainty
from compatlib.models.slimmable import Slimmable

LOSSES = ("evidential", "cross-entropy", "triplet")
PROJECTIONS = ("all", "full", "tensor", "none")

__all__ = [
    "Step",
    "conflict_weights",
    "evidential_loss",
    "fit",
    "fit_joint",
    "full_conflict_weights",
    "project_conflicts",
    "uncertainty",
]


@dataclass(frozen=True)
class Step:
    """What one step of a training saw.

    names: the m objectives, by width. grams: (tensors, m, m) of ⟨g_i, g_j⟩ for each tensor that all widths use, the
    network's in the order of `shared_parameters`, then the classifier's. weights: (m, m), row i the
    coefficients of the projected g_i, the unit matrix without a projection; (tensors, m, m) where each is projected by
    itself. uncertainty: by width, mean of K / S over the batch.
    """

    names: tuple[str, ...]
    grams: Tensor
    weights: Tensor
    uncertainty: dict[str, float]

    @property
    def gram(self) -> Tensor:
        """(m, m) of ⟨g_i, g_j⟩ over all these tensors."""
        return self.grams.sum(dim=0)

    @property
    def products(self) -> Tensor:
        """(m,) of the final update's inner product with each objective's gradient; below 0 the update hurts it."""
        coefficients = self.weights.sum(dim=-2).unsqueeze(-1)
        return (self.grams @ coefficients).sum(dim=0).squeeze(-1)


def fit(
    network: Slimmable,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "switchable",
    loss: str = "evidential",
    projection: str = "all",
    kl_weight: float = 5e-4,
    logit_scale: float = 1.0,
    label_smoothing: float = 0.0,
    margin: float = 0.3,
    augment: Any = crop_and_flip,
    on_step: Callable[[Step], None] | None = None,
    fabric: Any = None,
    **placement: Any,
) -> training.Fit:
    """Train all sub-models of a switchable network at once, through one classifier.

        L_m = CE(W φ_m(x), y),   L_i = L_evidential(W φ_i(x), y) for i < m

    The full model has plain cross-entropy. Each objective's gradient is taken by itself (and averaged over processes);
    conflicts are projected out over the tensors that every width uses, the maps and the classifier. BatchNorms, which
    are each width's own, keep their gradients (ours: with zeros in the other widths' places they would leak into their
    objectives).

    SFSC is `evidential` with `all`. The baselines that train one switchable network: BCT-S (`cross-entropy`, `none`),
    CE + projection (`cross-entropy`, `all`), Asymmetric-S (`triplet`, `none`: each sub-model's embedding as anchor
    against the full model's, normalised).

    Args:
        network: its widths are the sub-models; left at the full width.
        classifier: (embeddings, labels) → logits, shared, with a `weight` (classes, dim).
        images: the training set.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the network is in the study.
        loss: of the narrower widths: `evidential`, `cross-entropy` or `triplet`.
        projection: `all` (against every other objective), `full` (against the full model's only), `tensor` (as `all`,
            but each tensor by itself; ours, for conflicts that a sum over the network hides), or `none`.
        kl_weight: λ of the evidential loss.
        logit_scale: factor of the logits within the evidential loss (ours: its evidence has to grow with the classes).
        label_smoothing: of the cross-entropies, in [0, 1).
        margin: of the triplet loss; 0.3 in the re-implementation.
        augment: as `training.fit`.
        on_step: is told of every step's gradients; costs the Gram matrix where nothing is projected. Where it is a
            module, its buffers are kept in the checkpoint beside the network.
        fabric: as `training.fit`.
        **placement: `checkpoint`, `report`… as `training.fit`.

    Raises:
        ValueError: an unknown loss or projection, a weight, scale or smoothing out of range, a label that the
            classifier has no row for, and as `training.fit`.
    """
    if loss not in LOSSES or projection not in PROJECTIONS:
        raise ValueError(f"loss is {loss!r} and projection {projection!r}; valid are {LOSSES} and {PROJECTIONS}")
    check_number("logit_scale", logit_scale, positive=True)
    check_number("kl_weight", kl_weight)
    check_terms(0.0, label_smoothing)
    check_rows(images, classifier)
    seen: dict[str, float] = {}

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator[tuple[str, Tensor]]:
        full = None
        for width in reversed(network.widths):
            embeddings = network.switch(width)(inputs)
            logits = classifier(embeddings, labels)
            full = embeddings.detach() if full is None else full
            if on_step is not None:
                seen[str(width)] = float(uncertainty(logit_scale * logits.detach().float()).mean())
            with torch.autocast(labels.device.type, enabled=False):  # logarithms and distances want float32
                if width == 1 or loss == "cross-entropy":
                    value = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)
                elif loss == "triplet":
                    value = hardest_triplet(embeddings.float(), full.float(), labels, margin)
                else:
                    value = evidential_loss(logit_scale * logits.float(), labels, kl_weight)
            del embeddings, logits  # what is left of the graph belongs to the loss alone
            yield str(width), value
        network.switch(1.0)

    combine = None
    if projection != "none" or on_step is not None:
        shared = [*network.shared_parameters(), *classifier.parameters()]
        combine = _Combination(shared, projection, on_step, seen, fabric)
    modules = nn.ModuleDict({"network": network, "classifier": classifier})
    if isinstance(on_step, nn.Module):
        modules["on_step"] = on_step
    options = {"seed": seed, "role": role, "augment": augment, "combine": combine, "fabric": fabric}
    return training.fit(objective, modules, images, recipe, **options, **placement)


class _Combination:
    """The objectives' gradients → one: conflicts are projected out where all share a tensor, the rest is summed."""

    def __init__(
        self,
        shared: Sequence[nn.Parameter],
        projection: str,
        on_step: Callable[[Step], None] | None,
        seen: dict[str, float],
        fabric: Any,
    ) -> None:
        self.shared, self.projection = {id(parameter) for parameter in shared}, projection
        self.on_step, self.seen, self.fabric = on_step, seen, fabric

    def __call__(self, parameters: list[nn.Parameter], gradients: dict[str, training.Gradients]) -> training.Gradients:
        names, own = tuple(gradients), list(gradients.values())
        places = [place for place, parameter in enumerate(parameters) if id(parameter) in self.shared]
        stacks = {place: _stacked([each[place] for each in own], parameters[place]) for place in places}
        grams = torch.stack([stack @ stack.T for stack in stacks.values()])
        weights = self._weights(grams, names)
        if self.on_step is not None:
            self.on_step(Step(names, grams, weights, dict(self.seen)))
        coefficients = dict(zip(places, weights.sum(dim=-2).expand(len(places), -1), strict=True))
        return [
            (coefficients[place] @ stacks[place]).view_as(parameter) if place in stacks else _sum(own, place)
            for place, parameter in enumerate(parameters)
        ]

    def _weights(self, grams: Tensor, names: tuple[str, ...]) -> Tensor:
        gram = grams.sum(dim=0)
        if self.projection == "none":
            return torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        if self.projection == "full":
            return full_conflict_weights(gram, names.index("1.0"))
        # Drawn from the step's own stream, and one draw for all processes, whose weights must stay the same.
        drawn = int(torch.randint(2**62, ()))
        if self.fabric is not None and self.fabric.world_size > 1:
            drawn = self.fabric.broadcast(drawn)
        generator = torch.Generator().manual_seed(drawn)
        if self.projection == "tensor":
            return torch.stack([conflict_weights(own, generator) for own in grams])
        return conflict_weights(gram, generator)


def _stacked(gradients: Sequence[Tensor | None], parameter: nn.Parameter) -> Tensor:
    """(objectives, size) of one tensor; zeros where an objective does not reach it, as the triplet the classifier."""
    return torch.stack([torch.zeros_like(parameter) if each is None else each for each in gradients]).flatten(1)


def _sum(gradients: Sequence[training.Gradients], place: int) -> Tensor | None:
    found = [own[place] for own in gradients if own[place] is not None]
    return sum(found[1:], start=found[0]) if found else None


def fit_joint(
    backbones: nn.ModuleDict,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "joint",
    label_smoothing: float = 0.0,
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train separate networks side by side through one classifier, each by cross-entropy: they share nothing else.

    Args:
        backbones: name → images → embeddings of one size.
        classifier: (embeddings, labels) → logits, shared, with a `weight` (classes, dim).
        images: the training set; every network sees the same augmented batch.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the networks are in the study.
        label_smoothing: in [0, 1).
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`… as `training.fit`.

    Raises:
        ValueError: a smoothing out of range, a label that the classifier has no row for, and as `training.fit`.
    """
    check_terms(0.0, label_smoothing)
    check_rows(images, classifier)

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, backbone in backbones.items():
            logits = classifier(backbone(inputs), labels)
            yield name, F.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    modules = nn.ModuleDict({"backbones": backbones, "classifier": classifier})
    return training.fit(objective, modules, images, recipe, seed=seed, role=role, augment=augment, **placement)
