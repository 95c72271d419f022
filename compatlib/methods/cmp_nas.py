"""CMP-NAS, heterogeneous visual search (Duggal, Zhou, Yang, Xiong, Xia, Tu and Soatto, CVPR 2021, arXiv 2105.06047).

A large gallery model φ_g embeds the gallery, offline; a small query model φ_q embeds the query, on the device. The rule
is M(φ_q, φ_g) > M(φ_q, φ_q), on classes unseen in training; the paragon is φ_g on both sides, the cost is φ_q's
operations. φ_g is fixed. Two levels make φ_q compatible:

- *weights*: `fit_query`, CE(own classifier) + CE(frozen gallery classifier), 1 : 1, beside the objectives that the
  paper compares;
- *architecture*: a super-network trained so (`fit_supernet`), searched (`evolve`) by a reward that sees the gallery,
  the best path trained anew by `fit_query`.

The paper's tables could not be read; of the second level the outline is remembered, and filled with the defaults of
single path one shot.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.methods import bct, bct_baselines, independent
from compatlib.methods.architecture_search import REWARDS, Evolution, Search, evolve, random_search
from compatlib.methods.path_scores import Judge, Score, recalibrate
from compatlib.models.supernet import SuperNet

Objective = Literal["own", "initialised", "distillation", "regression", "gallery", "both"]
NEEDS: dict[str, tuple[str, ...]] = {
    "own": (),
    "initialised": ("gallery_classifier",),
    "distillation": ("gallery_backbone", "gallery_classifier"),
    "regression": ("gallery_backbone",),
    "gallery": ("gallery_classifier",),
    "both": ("gallery_classifier",),
}

__all__ = [
    "NEEDS",
    "REWARDS",
    "Evolution",
    "Judge",
    "Score",
    "Search",
    "evolve",
    "fit_query",
    "fit_supernet",
    "random_search",
    "recalibrate",
]


def fit_query(
    backbone: nn.Module,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "query",
    objective: Objective = "both",
    gallery_backbone: nn.Module | None = None,
    gallery_classifier: nn.Module | None = None,
    weight: float = 1.0,
    label_smoothing: float = 0.0,
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train a query model against a gallery model, which does not change, by one of six objectives (level 1).

    - `own`: the own classifier alone, which is independent training.
    - `initialised`: as `own`, but the own classifier begins with the gallery classifier's rows.
    - `distillation`: own classifier, and λ times the cross-entropy of its logits under the gallery model's,
      softmax(W_g φ_g(x)) against softmax(W_q φ_q(x)): nothing ties φ_q to φ_g's coordinates.
    - `regression`: λ times the mean of (φ_q − φ_g)² alone.
    - `gallery`: λ times BCT's influence loss of the gallery classifier alone.
    - `both`: own classifier, and λ times that; the method.

    That regression stands alone, distillation beside the own classifier at temperature 1, and that the copied rows are
    trained on, is our reading.

    Args:
        backbone: uint8 images (N, C, H, W), or what else `images` gives → embeddings (N, d).
        classifier: the query model's; (embeddings, labels) → logits (N, classes). `regression` and `gallery` leave it.
        images: labels must lie below the classifier's number of classes.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study.
        objective: one of `NEEDS`, which says what of the gallery model it takes.
        gallery_backbone: images → embeddings (N, gallery d); frozen here.
        gallery_classifier: embeddings → logits, with a `weight` (classes, gallery d); frozen here.
        weight: λ ≥ 0.
        label_smoothing: of the own classifier's loss, in [0, 1).
        augment: as `training.fit`; both models see the same image.
        **placement: `checkpoint`, `report`, `workers`, `fabric`… as `training.fit`.

    Raises:
        ValueError: an unknown objective, a gallery module that it lacks, classifiers of other shapes where one is
            copied or imitated, and as `independent.fit`, `bct.fit` and `bct_baselines.fit`.
    """
    if objective not in NEEDS:
        raise ValueError(f"unknown objective {objective!r}; choose one of {tuple(NEEDS)}")
    given = {"gallery_backbone": gallery_backbone, "gallery_classifier": gallery_classifier}
    if lacking := [name for name in NEEDS[objective] if not isinstance(given[name], nn.Module)]:
        raise ValueError(
            f"objective {objective!r} needs {' and '.join(lacking)}, a module of the gallery model; give it"
        )
    if objective in ("initialised", "distillation") and classifier.weight.shape != gallery_classifier.weight.shape:
        raise ValueError(
            f"objective {objective!r} needs classifiers of one shape, not {tuple(classifier.weight.shape)} and the "
            f"gallery's {tuple(gallery_classifier.weight.shape)}; choose the gallery's, or another objective"
        )
    common = {"seed": seed, "role": role, "label_smoothing": label_smoothing, "augment": augment, **placement}
    parts = (backbone, classifier, images, recipe)
    if objective in ("own", "initialised"):
        if objective == "initialised":
            classifier.load_state_dict(gallery_classifier.state_dict())
        return independent.fit(*parts, **common)
    common["weight"] = weight
    if objective in ("gallery", "both"):
        own = objective == "both"
        return bct.fit(*parts, old_classifier=gallery_classifier, classification=own, **common)
    if objective == "regression":
        aligned = {"alignment": bct_baselines.squared_error, "classification": False}
        return bct_baselines.fit(*parts, old_backbone=gallery_backbone, **aligned, **common)
    gallery = _GalleryModel(gallery_backbone, gallery_classifier)
    return bct_baselines.fit(*parts, old_backbone=gallery, alignment=_imitation(classifier, gallery), **common)


class _GalleryModel(nn.Module):
    """A gallery model whose classifier goes where it goes, and is frozen with it."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.backbone, self.classifier = backbone, classifier

    def forward(self, images: Any) -> Tensor:
        return self.backbone(images)


def _imitation(classifier: nn.Module, gallery: _GalleryModel) -> bct_baselines.Alignment:
    """Cross-entropy of the own classifier's logits under the gallery model's; no margin in either."""

    def loss(embeddings: Tensor, gallery_embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(classifier(embeddings), gallery.classifier(gallery_embeddings).detach().softmax(dim=1))

    return loss


def fit_supernet(
    network: SuperNet,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "supernet",
    gallery_classifier: nn.Module,
    weight: float = 1.0,
    fabric: Any = None,
    **options: Any,
) -> training.Fit:
    """Train a super-network: every step one path, drawn uniformly, with the frozen gallery classifier (level 2).

        CE(own classifier) + λ · CE(gallery classifier), of the drawn path's embeddings

    What the path does not use gets no gradient, and is not moved. Source: SPOS, its uniform sampling; the loss is
    remembered. `recalibrate` a path before it is used.

    Args:
        network: left at its `start` path.
        classifier: the own one, of all paths.
        images: the training set.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer; of the paths too.
        role: what the network is in the study.
        gallery_classifier: as `fit_query`.
        weight: λ ≥ 0.
        fabric: as `training.fit`; several processes draw one path a step.
        **options: `classification`, `label_smoothing`, `augment`, `checkpoint`, `report`… as `bct.fit`.

    Raises:
        ValueError: as `bct.fit`.
    """
    placed = {"seed": seed, "role": role, "fabric": fabric, "weight": weight}
    sampled = _Sampled(network, fabric)
    fitted = bct.fit(sampled, classifier, images, recipe, old_classifier=gallery_classifier, **placed, **options)
    network.switch(network.start)
    return fitted


class _Sampled(nn.Module):
    """A super-network that embeds every batch by a path of its own, drawn from torch's global generator."""

    def __init__(self, network: SuperNet, fabric: Any) -> None:
        super().__init__()
        self.network, self.fabric = network, fabric

    def forward(self, images: Tensor) -> Tensor:
        drawn = int(torch.randint(2**62, ()))
        if self.fabric is not None and self.fabric.world_size > 1:
            drawn = self.fabric.broadcast(drawn)
        self.network.switch(self.network.random_path(torch.Generator().manual_seed(drawn)))
        return self.network(images)
