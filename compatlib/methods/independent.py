"""Independent training, the baseline of every paper: cross-entropy over one's own classifier, nothing else.

    L(w_c, w_φ) = CE(w_c · φ(x), y)

Trained so, an old and a new model cannot be compared with each other; the new one is also the *paragon*, the most that
a compatible model could reach.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip
from compatlib.data.images import Images
from compatlib.methods.common import check_rows


def fit(
    backbone: nn.Module,
    classifier: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str,
    label_smoothing: float = 0.0,
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train a backbone and its classifier by cross-entropy.

    Args:
        backbone: uint8 images (N, C, H, W) → embeddings (N, d).
        classifier: (embeddings, labels) → logits (N, classes); a margin is applied by the classifier itself.
        images: labels must lie below the classifier's number of classes.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study; old and new never share one.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`, `workers`, `fabric`… as `training.fit`.

    Raises:
        ValueError: a label that the classifier has no row for, and as `training.fit`.
    """
    check_rows(images, classifier)

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator[tuple[str, Tensor]]:
        logits = classifier(backbone(inputs), labels)
        yield "classification", F.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    modules = nn.ModuleDict({"backbone": backbone, "classifier": classifier})
    return training.fit(objective, modules, images, recipe, seed=seed, role=role, augment=augment, **placement)
