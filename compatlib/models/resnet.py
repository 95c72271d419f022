"""ResNets that turn images into embeddings: our own for small images, torchvision's for large ones.

Every backbone takes uint8 images (N, C, H, W), scales them itself, and emits float32 embeddings (N, dim), not
normalised. Two heads:

- `relu_pool`: 1×1 convolution to `dim` channels, BatchNorm, ReLU, average pool: **non-negative**. It is the head of
  FCT's released recipe, whose last bottleneck emits as many channels as the embedding has numbers.
- `linear_bn`: average pool, linear map without bias, BatchNorm: **signed**, as Dual-Tuning's.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models as torchvision_models

HEADS = ("relu_pool", "linear_bn")
PIXEL_MEAN, PIXEL_DEVIATION = 0.5, 0.25


class Backbone(nn.Module):
    """Images → embeddings: scaling, a convolutional trunk, a head. `dim` is the size of the embedding."""

    def __init__(self, trunk: nn.Module, head: nn.Module, dim: int) -> None:
        super().__init__()
        self.trunk, self.head, self.dim = trunk, head, dim

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim"]:
        """Embed a batch of uint8 images; the embedding is float32 under autocast too."""
        return self.head(self.trunk(scaled(images))).float()


class PointConv2d(nn.Conv2d):
    """A 1×1 convolution that skips points, computed as one of stride 1 on the points that are left.

    It is the same map. oneDNN's kernel for the strided one corrupts memory where channels are few: below 8 of them, and
    with several threads below 16.
    """

    def __init__(self, in_width: int, width: int, stride: int | tuple[int, int], *, bias: bool = False) -> None:
        super().__init__(in_width, width, 1, stride, bias=bias)

    def forward(self, x: Float[Tensor, "batch in_width height width"]) -> Float[Tensor, "batch width h w"]:
        """Every stride-th row and column, then the map."""
        return F.conv2d(subsampled(x, self.stride), self.weight, self.bias)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm and a residual path (He et al. 2016, figure 5 left)."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(PointConv2d(in_width, width, stride), nn.BatchNorm2d(width))

    def forward(self, x: Float[Tensor, "batch in_width height width"]) -> Float[Tensor, "batch width h w"]:
        """Residual block: ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x))))))."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


def small_resnet(
    *,
    widths: Sequence[int] = (16, 32, 64),
    blocks: int = 1,
    stem_stride: int = 1,
    dim: int = 128,
    head: str = "relu_pool",
    in_channels: int = 3,
) -> Backbone:
    """A ResNet for small images (8 to 64 pixels): a 3×3 stem, then one stage of `blocks` basic blocks for every width.

    After the CIFAR networks of He et al. 2016, section 4.2; the width doubles where the resolution halves.

    Args:
        widths: channels of every stage; every stage but the first halves the resolution.
        blocks: basic blocks a stage.
        stem_stride: 2 halves the resolution at once, for a quarter of the cost.
        dim: size of the embedding.
        head: `relu_pool` (non-negative) or `linear_bn` (signed).
        in_channels: 3 for colour, 1 for grey.

    Raises:
        ValueError: an unknown head, or a size below 1.
    """
    sizes = {"blocks": blocks, "stem_stride": stem_stride, "dim": dim, "in_channels": in_channels}
    if not widths or min(*widths, *sizes.values()) < 1:
        raise ValueError(f"every size of a network must be at least 1, got widths {tuple(widths)} and {sizes}")
    stages: list[nn.Module] = [_conv(in_channels, widths[0], 3, stem_stride), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    width_before = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stages.append(BasicBlock(width_before, width, 2 if stage and not block else 1))
            width_before = width
    return he_initialised(Backbone(nn.Sequential(*stages), make_head(head, width_before, dim), dim))


def torchvision_resnet(name: str = "resnet18", *, dim: int = 128, head: str = "relu_pool") -> Backbone:
    """torchvision's ResNet-18, -34, -50… without its classifier, under one of our heads, for images of 64 pixels up.

    Raises:
        ValueError: no ResNet of torchvision has this name, or an unknown head.
    """
    valid = [model for model in torchvision_models.list_models(torchvision_models) if "resne" in model]
    if name not in valid:
        raise ValueError(f"torchvision has no ResNet {name!r}; it has {valid}")
    network = torchvision_models.get_model(name, weights=None)
    width = network.fc.in_features
    trunk = nn.Sequential(*list(network.children())[:-2])
    return Backbone(trunk, he_initialised(make_head(head, width, dim)), dim)


def make_head(head: str, width: int, dim: int) -> nn.Sequential:
    """The head `relu_pool` or `linear_bn`: feature maps (N, width, H, W) → embeddings (N, dim).

    Raises:
        ValueError: an unknown head.
    """
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if head == "relu_pool":
        return nn.Sequential(_conv(width, dim, 1), nn.BatchNorm2d(dim), nn.ReLU(), *pool)
    if head == "linear_bn":
        return nn.Sequential(*pool, nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim))
    raise ValueError(f"unknown head {head!r}; choose one of {HEADS}")


def scaled(images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
    """uint8 pixels to about zero mean and unit deviation, channels-last (measured: a third faster to train).

    Raises:
        ValueError: the images are not uint8.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"a backbone takes uint8 images 0…255, not {images.dtype}: it scales them itself")
    pixels = images.to(torch.float32, memory_format=torch.channels_last)
    return pixels.mul_(1 / (255 * PIXEL_DEVIATION)).sub_(PIXEL_MEAN / PIXEL_DEVIATION)


def subsampled(
    x: Float[Tensor, "batch channels height width"], stride: tuple[int, int]
) -> Float[Tensor, "batch channels h w"]:
    """Every stride-th row and column of feature maps."""
    return x[:, :, :: stride[0], :: stride[1]]


def parameter_count(module: nn.Module) -> int:
    """Number of trainable and frozen parameters; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def _conv(in_width: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_width, width, kernel, stride, padding=kernel // 2, bias=False)


def he_initialised(module: nn.Module) -> nn.Module:
    """He initialisation of the convolutions (fan out, as torchvision's ResNets), in channels-last."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return module.to(memory_format=torch.channels_last)
