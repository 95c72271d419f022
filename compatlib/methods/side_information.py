"""Side-information: what is stored beside an old embedding, learned on the old data without knowing a future model.

FCT learns it by SimCLR; its release holds no code for that, and what it compares with is not published in detail. A
third kind, a second supervised model, is `compatlib.methods.independent` under another role.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib import training
from compatlib.data.augment import crop_and_flip, two_views
from compatlib.data.images import Images, InMemory, batches
from compatlib.data.tensors import as_tensor
from compatlib.methods.common import check_number
from compatlib.models.heads import Projection
from compatlib.models.resnet import scaled


def nt_xent(
    first: Float[Tensor, "batch dim"], second: Float[Tensor, "batch dim"], temperature: float
) -> Float[Tensor, ""]:
    """SimCLR's loss of two views, normalised here: each is to find the other among all other views of the batch.

        −1/2n Σ_i log( exp(z_i · z_i′ / τ) / Σ_{k ≠ i} exp(z_i · z_k / τ) ),   i over both views, i′ the other view of i

    Source: SimCLR (Chen et al. 2020), equation 1, as FCT's side-information uses it.

    Raises:
        ValueError: unequal shapes or types, fewer than two images, or a temperature that is not finite and positive.
    """
    first, second = as_tensor(first, "the first view"), as_tensor(second, "the second view")
    if first.ndim != 2 or first.shape != second.shape or first.dtype != second.dtype or len(first) < 2:
        raise ValueError(
            f"the views have shapes {tuple(first.shape)} and {tuple(second.shape)}, types {first.dtype} and "
            f"{second.dtype}; give equal ones (n, d) of two images or more"
        )
    check_number("the temperature", temperature, positive=True)
    views = F.normalize(torch.cat([first, second]))
    similarities = views @ views.T / temperature
    similarities = similarities.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -torch.inf)
    other = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(similarities, other)


def fit_simclr(
    backbone: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "side",
    temperature: float = 0.5,
    projection_dim: int = 64,
    flip: bool = True,
    views: Callable[[Any, torch.Generator], tuple[Tensor, Tensor]] | None = None,
    **placement: Any,
) -> training.Fit:
    """Train a backbone for side-information by SimCLR: no label is used, two views of an image must find each other.

    The loss is taken behind a projection head (dim → dim → `projection_dim`, ReLU between), which is thrown away. FCT's
    release does not hold this training: head, temperature and views are SimCLR's for small images (not published for
    FCT; our reading).

    Args:
        backbone: uint8 images (N, C, H, W) → embeddings (N, d), with an attribute `dim` = d.
        images: the *old* training set; a new model is not known yet.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study.
        temperature: τ > 0.
        projection_dim: size of the projected views.
        flip: whether a view may be mirrored.
        views: (inputs, generator) → two views; by default SimCLR's of images, `augment.two_views`.
        **placement: `checkpoint`, `report`, `fabric`… as `training.fit`.

    Raises:
        ValueError: a temperature that is not finite and positive, and as `training.fit`.
    """
    make = partial(_projection, backbone.dim, projection_dim)
    projection = training.initialised(make, seed, f"{role} projection")

    def objective(inputs: tuple[Tensor, Tensor], labels: Tensor, indices: Tensor) -> Iterator:
        projected = projection(backbone(torch.cat(inputs)))
        with torch.autocast(projected.device.type, enabled=False):  # similarities want float32
            loss = nt_xent(*projected.float().chunk(2), temperature)
        yield "simclr", loss

    modules = nn.ModuleDict({"backbone": backbone, "projection": projection})
    views = views or partial(two_views, flip=flip)
    return training.fit(objective, modules, images, recipe, seed=seed, role=role, augment=views, **placement)


def fit_components(projection: Projection, images: InMemory, **_: Any) -> training.Fit:
    """Find the principal components of features: the directions of most variance, of standardised features as they are.

    Not learned by gradients: an eigendecomposition in float64. Each direction's largest coordinate is positive, so that
    equal features give equal components.

    Args:
        projection: its components are set.
        images: the *old* set, `batch` of which gives features (b, views, d).

    Raises:
        ValueError: fewer items than components.
    """
    begun, components = time.monotonic(), projection.components
    if len(images) < len(components):
        raise ValueError(f"{len(components)} components of {len(images)} items asked for; give as many items or more")
    total = torch.zeros(components.shape[1], components.shape[1], dtype=torch.float64)
    for features, _, _ in batches(images, torch.arange(len(images)), 5000):
        standardised = projection.standardised(features).double()
        total += standardised.T @ standardised
    directions = torch.linalg.eigh(total).eigenvectors.flip(1)[:, : len(components)].T
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    projection.components.copy_(directions * largest.sign())
    seconds = time.monotonic() - begun
    return training.Fit([], training.Cost(seconds, len(images) / max(seconds, 1e-9), "cpu", 1))


def fit_autoencoder(
    backbone: nn.Module,
    images: Images,
    recipe: training.Recipe,
    *,
    seed: int,
    role: str = "side",
    augment: Any = crop_and_flip,
    **placement: Any,
) -> training.Fit:
    """Train a backbone for side-information as an autoencoder: a decoder must draw the image from the embedding.

    The loss is the mean squared error of the scaled pixels; the decoder is thrown away. FCT compares with an
    autoencoder whose training is not published; the decoder is our reading.

    Args:
        backbone: uint8 images (N, C, H, W), H and W multiples of 4 → embeddings (N, d), with an attribute `dim` = d.
        images: the *old* training set.
        recipe: epochs, optimiser, schedule, precision.
        seed: any integer.
        role: what the model is in the study.
        augment: as `training.fit`.
        **placement: `checkpoint`, `report`, `fabric`… as `training.fit`.

    Raises:
        ValueError: images whose sides are no multiples of 4, and as `training.fit`.
    """
    shape = tuple(images[0][0].shape)
    decoder = training.initialised(partial(_decoder, backbone.dim, shape), seed, f"{role} decoder")

    def objective(inputs: Tensor, labels: Tensor, indices: Tensor) -> Iterator:
        yield "autoencoder", F.mse_loss(decoder(backbone(inputs)).float(), scaled(inputs))

    modules = nn.ModuleDict({"backbone": backbone, "decoder": decoder})
    return training.fit(objective, modules, images, recipe, seed=seed, role=role, augment=augment, **placement)


def _projection(dim: int, projection_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, projection_dim))


def _decoder(dim: int, shape: tuple[int, int, int], width: int = 32) -> nn.Sequential:
    """Embedding → a quarter of the image's sides, doubled twice."""
    channels, height, wide = shape
    if height % 4 or wide % 4:
        raise ValueError(f"images are {height} × {wide} pixels; an autoencoder takes multiples of 4")
    small = (height // 4, wide // 4)
    layers: list[nn.Module] = [nn.Linear(dim, width * small[0] * small[1]), nn.ReLU(), nn.Unflatten(1, (width, *small))]
    for _ in range(2):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))
