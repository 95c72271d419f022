"""Heads on features of an encoder that nobody trains: what most people train, and upgrade.

1280 numbers → hidden → BatchNorm → ReLU → embedding, which ends as the networks of :mod:`compatlib.models.resnet` do:
`relu_pool` (BatchNorm, ReLU: non-negative) or `linear_bn` (BatchNorm: signed). Not published; this study's regime. A
switchable head slices the hidden layer: `Slimmable(head, widths, image_size=(1280,))`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compatlib.models.resnet import HEADS, Backbone


class FeatureHead(Backbone):
    """Features (N, size_in), or (N, views, size_in) of which the first view counts, → embeddings float32 (N, dim).

    Features are standardised first, by the mean and the deviation that the head was made with. Of the features of
    several encoders, by name, it takes those of its own, `encoder`.
    """

    def __init__(
        self, trunk: nn.Module, head: nn.Module, dim: int, mean: Tensor, deviation: Tensor, encoder: str = ""
    ) -> None:
        super().__init__(trunk, head, dim)
        self.encoder = encoder
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("deviation", deviation.detach().float().clone())

    def forward(self, features: Tensor | Mapping[str, Tensor]) -> Tensor:
        """(N, size_in) or (N, views, size_in) of any type → (N, dim), float32 under autocast too.

        Raises:
            ValueError: features by name, none of which is its encoder's.
        """
        plain = _own_plain(features, self.encoder)
        return self.head(self.trunk((plain - self.mean) / self.deviation)).float()


class Projection(nn.Module):
    """Standardised features, or their coordinates in some directions, → float32 (N, dim); nothing to train.

    Args:
        mean: (size_in,), taken off.
        deviation: (size_in,), by which is divided; where it is 0 by nothing.
        dim: how many directions, zeros until they are set; None for the features themselves.
        encoder: as of `FeatureHead`.

    Raises:
        ValueError: as `feature_head`, or more directions than features.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, dim: int | None = None, encoder: str = "") -> None:
        super().__init__()
        _check_standardisation(mean, deviation)
        if dim is not None and not 1 <= dim <= len(mean):
            raise ValueError(f"{dim} directions asked for; valid is 1 to the features' {len(mean)}")
        self.dim, self.encoder = dim or len(mean), encoder
        self.register_buffer("mean", mean.detach().float().clone())
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1.0).detach().float().clone())
        self.register_buffer("components", None if dim is None else torch.zeros(dim, len(mean)))

    def standardised(self, features: Tensor | Mapping[str, Tensor]) -> Tensor:
        """(N, size_in), float32; of several views the first."""
        return (_own_plain(features, self.encoder) - self.mean) / self.deviation

    def forward(self, features: Tensor | Mapping[str, Tensor]) -> Tensor:
        """(N, dim); errors as `FeatureHead.forward`."""
        found = self.standardised(features)
        return found if self.components is None else found @ self.components.T


def feature_head(
    mean: Tensor,
    deviation: Tensor,
    *,
    hidden: int = 256,
    dim: int = 128,
    head: str = "relu_pool",
    encoder: str = "",
) -> FeatureHead:
    """An untrained head.

    Args:
        mean: (size_in,), of the features that it will be trained on.
        deviation: (size_in,), the same; where it is 0 the feature says nothing and is left as it is.
        hidden: size of the hidden layer.
        dim: size of the embedding.
        head: `relu_pool` (non-negative) or `linear_bn` (signed).
        encoder: whose features it takes out of those of several.

    Raises:
        ValueError: an unknown head, a size below 1, or a mean and a deviation that are not finite, not (size_in,) or
            below 0.
    """
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}; choose one of {HEADS}")
    if min(hidden, dim) < 1:
        raise ValueError(f"every size of a network must be at least 1, got hidden {hidden} and dim {dim}")
    _check_standardisation(mean, deviation)
    trunk = nn.Sequential(nn.Linear(len(mean), hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU())
    ending = [nn.Linear(hidden, dim, bias=False), nn.BatchNorm1d(dim)]
    network = FeatureHead(
        trunk,
        nn.Sequential(*ending, *([nn.ReLU()] if head == "relu_pool" else [])),
        dim,
        mean,
        torch.where(deviation > 0, deviation, 1.0),
        encoder,
    )
    for part in network.modules():
        if isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return network


def _own_plain(features: Tensor | Mapping[str, Tensor], encoder: str) -> Tensor:
    """The first view of one encoder's features, float32 (N, size_in)."""
    if isinstance(features, Mapping):
        if encoder not in features:
            raise ValueError(f"this head stands on {encoder!r}; the features are those of {list(features)}")
        features = features[encoder]
    return (features[:, 0] if features.ndim == 3 else features).float()


def _check_standardisation(mean: Tensor, deviation: Tensor) -> None:
    is_vector = mean.ndim == 1 and mean.shape == deviation.shape and len(mean) > 0
    if not is_vector or not (mean.isfinite().all() and deviation.isfinite().all()) or (deviation < 0).any():
        raise ValueError(
            f"needs a finite mean and a deviation ≥ 0 of one size, got {tuple(mean.shape)} and {tuple(deviation.shape)}"
        )
