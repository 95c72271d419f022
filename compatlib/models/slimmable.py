"""Switchable (slimmable) networks: sub-models of several widths that share their weights.

At width r a layer uses the first r of its filters and the first r of its inputs, out of one shared tensor; every width
has BatchNorms of its own, with affine parameters and statistics. The image's channels and the embedding's size are the
same at every width. Source: slimmable networks (Yu et al., ICLR 2019), as SFSC's re-implementation uses them.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib.models.resnet import Backbone

WIDTHS = (0.25, 0.5, 0.75, 1.0)


class _Sliced:
    """How many of a layer's inputs and outputs are in use; those at the network's two ends stay whole."""

    whole_in = False
    whole_out = False
    width = 1.0

    def used(self, size_in: int, size_out: int) -> tuple[int, int]:
        return (
            size_in if self.whole_in else sliced(size_in, self.width),
            size_out if self.whole_out else sliced(size_out, self.width),
        )


class Subsample(nn.Module):
    """Every stride-th row and column."""

    def __init__(self, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels h w"]:
        """The rows and columns that are kept."""
        return subsampled(x, self.stride)


class SlimmableConv2d(_Sliced, nn.Conv2d):
    """A convolution without groups whose first filters and inputs are used."""

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch filters h w"]:
        """The convolution at the current width."""
        weight, bias = self.used_parameters()
        if is_strided_point(self):
            return F.conv2d(subsampled(x, self.stride), weight, bias)
        return self._conv_forward(x, weight, bias)

    def used_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias at the current width, views of the shared ones."""
        size_in, size_out = self.used(self.in_channels, self.out_channels)
        return self.weight[:size_out, :size_in], None if self.bias is None else self.bias[:size_out]

    def extracted(self) -> nn.Module:
        """A convolution of its own at the current width."""
        sizes = self.used(self.in_channels, self.out_channels)
        if is_strided_point(self):
            layer = nn.Conv2d(*sizes, 1, bias=self.bias is not None)
            return nn.Sequential(Subsample(self.stride), _with_parameters(layer, self))
        layer = nn.Conv2d(*sizes, self.kernel_size, bias=self.bias is not None, **_options(self))
        return _with_parameters(layer, self)


class SlimmableLinear(_Sliced, nn.Linear):
    """A linear map whose first rows and columns are used."""

    def forward(self, x: Float[Tensor, "batch size_in"]) -> Float[Tensor, "batch size_out"]:
        """The map at the current width."""
        return F.linear(x, *self.used_parameters())

    def used_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias at the current width, views of the shared ones."""
        size_in, size_out = self.used(self.in_features, self.out_features)
        return self.weight[:size_out, :size_in], None if self.bias is None else self.bias[:size_out]

    def extracted(self) -> nn.Linear:
        """A linear map of its own at the current width."""
        layer = nn.Linear(*self.used(self.in_features, self.out_features), bias=self.bias is not None)
        return _with_parameters(layer, self)


class SwitchableBatchNorm(nn.Module):
    """A BatchNorm for every width; `current` is the place of the one in use."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm, widths: Sequence[float], is_whole: bool) -> None:
        super().__init__()
        sizes = [norm.num_features if is_whole else sliced(norm.num_features, width) for width in widths]
        options = {"eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine}
        self.norms = nn.ModuleList(type(norm)(size, **options) for size in sizes)
        for own in self.norms:
            size = own.num_features
            values = {name: each[:size] if each.ndim else each for name, each in norm.state_dict().items()}
            own.load_state_dict(values)
        self.current = len(widths) - 1

    def forward(self, x: Tensor) -> Tensor:
        """The BatchNorm of the current width."""
        return self.norms[self.current](x)

    def extracted(self) -> nn.Module:
        """A copy of the current width's BatchNorm."""
        return copy.deepcopy(self.norms[self.current])


class Slimmable(nn.Module):
    """Sub-models of a backbone by width. Called on images it embeds at the current width, the widest at first.

    Args:
        backbone: a `Backbone` (`small_resnet`, `torchvision_resnet`); its weights become the widest model's, copied.
        widths: shares of the channels in (0, 1], ascending, the last 1.

    Raises:
        ValueError: widths that are not so, or a convolution with groups. Other parts with weights than convolutions,
            linear maps and BatchNorms are not looked for; they fail when a narrower width is called.
    """

    def __init__(self, backbone: Backbone, widths: Sequence[float] = WIDTHS) -> None:
        super().__init__()
        widths = tuple(float(width) for width in widths)
        if not widths or list(widths) != sorted(set(widths)) or widths[0] <= 0 or widths[-1] != 1:
            raise ValueError(f"widths are {widths}; valid are ascending shares in (0, 1], of which the last is 1")
        self.widths, self.dim = widths, backbone.dim
        self.backbone = copy.deepcopy(backbone)
        layers = [name for name, part in self.backbone.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        first, last = layers[0], layers[-1]
        norms = [n for n, part in self.backbone.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        for name in layers:
            _replace(self.backbone, name, _sliceable(self.backbone.get_submodule(name), name == first, name == last))
        for name in norms:
            # The norm behind the last layer has the embedding's size at every width.
            whole = name == norms[-1] and layers[-1].rpartition(".")[0] == name.rpartition(".")[0]
            _replace(self.backbone, name, SwitchableBatchNorm(self.backbone.get_submodule(name), widths, whole))
        self.train(backbone.training)

    @property
    def width(self) -> float:
        """The current width."""
        return next(part.width for part in self.backbone.modules() if isinstance(part, _Sliced))

    def switch(self, width: float) -> "Slimmable":
        """Make a width the current one; returns the network.

        Raises:
            ValueError: a width that it does not have.
        """
        if width not in self.widths:
            raise ValueError(f"width is {width!r}; this network has {self.widths}")
        for part in self.backbone.modules():
            if isinstance(part, _Sliced):
                part.width = float(width)
            elif isinstance(part, SwitchableBatchNorm):
                part.current = self.widths.index(width)
        return self

    @contextmanager
    def at(self, width: float) -> Iterator["Slimmable"]:
        """The network at a width for a while; errors as `switch`."""
        before = self.width
        try:
            yield self.switch(width)
        finally:
            self.switch(before)

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim"]:
        """Embed a batch of uint8 images at the current width."""
        return self.backbone(images)

    def shared_parameters(self) -> list[nn.Parameter]:
        """The tensors that every width uses a part of: convolutions and linear maps."""
        return [each for part in self.backbone.modules() if isinstance(part, _Sliced) for each in part.parameters()]

    def extract(self, width: float) -> Backbone:
        """The sub-model of a width as a network of its own: ordinary layers, and no weight that it does not use.

        Raises:
            ValueError: as `switch`.
        """
        with self.at(width):
            backbone = copy.deepcopy(self.backbone)
        for name, part in list(backbone.named_modules()):
            if isinstance(part, SlimmableConv2d | SlimmableLinear | SwitchableBatchNorm):
                _replace(backbone, name, part.extracted())
        return backbone


def sliced(size: int, width: float) -> int:
    """How many of `size` channels a width uses: the nearest whole number, at least 1."""
    return max(1, round(size * width))


def subsampled(x: Tensor, stride: tuple[int, int]) -> Tensor:
    """Every stride-th row and column of feature maps (batch, channels, height, width)."""
    return x[:, :, :: stride[0], :: stride[1]]


def is_strided_point(layer: nn.Conv2d) -> bool:
    """Whether a convolution looks at single points and skips some.

    Such a one is computed as a convolution of stride 1 on the points that are left: oneDNN's AVX2 kernel for the
    strided one corrupts memory below 8 channels, and narrow widths have so few.
    """
    return layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.padding == (0, 0)


def _options(layer: nn.Conv2d) -> dict:
    return {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")}


def _sliceable(layer: nn.Module, is_first: bool, is_last: bool) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1:
            raise ValueError(f"a convolution of {layer.groups} groups cannot be sliced; take a network without groups")
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
        made: nn.Module = SlimmableConv2d(*sizes, bias=layer.bias is not None, **_options(layer))
    else:
        made = SlimmableLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    made.load_state_dict(layer.state_dict())
    made.whole_in, made.whole_out = is_first, is_last
    return made


def _with_parameters(layer: nn.Module, shared: SlimmableConv2d | SlimmableLinear) -> nn.Module:
    weight, bias = shared.used_parameters()
    order = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=order))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer.train(shared.training)


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)
