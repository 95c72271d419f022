"""Switchable (slimmable) networks: sub-models of several widths that share their weights.

At width r a layer uses the first r of its filters and the first r of its inputs, out of one shared tensor; every width
has BatchNorms of its own, with affine parameters and statistics. The image's channels and the embedding's size are the
same at every width. Source: slimmable networks (Yu et al., ICLR 2019), as SFSC's re-implementation uses them.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib.models.resnet import Backbone, PointConv2d, subsampled

WIDTHS = (0.25, 0.5, 0.75, 1.0)
SIDES = (32, 64)
BatchNorm = nn.modules.batchnorm._BatchNorm
EXCHANGED = (nn.Conv2d, PointConv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


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


class SlimmableDepthwiseConv2d(SlimmableConv2d):
    """A convolution of every channel by itself, without a bias, whose first channels are used."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, padding=kernel // 2, groups=channels, bias=False)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels h w"]:
        """The convolution of as many channels as the current width has."""
        weight, _ = self.used_parameters()
        return F.conv2d(x, weight, None, self.stride, self.padding, groups=len(weight))

    def extracted(self) -> nn.Conv2d:
        """A convolution of its own at the current width."""
        size, _ = self.used(self.in_channels, self.out_channels)
        layer = nn.Conv2d(size, size, self.kernel_size, groups=size, bias=False, **_options(self))
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

    def __init__(self, norm: BatchNorm, widths: Sequence[float]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_first_features(norm, sliced(norm.num_features, width)) for width in widths)
        self.current = len(widths) - 1

    def forward(self, x: Tensor) -> Tensor:
        """The BatchNorm of the current width."""
        return self.norms[self.current](x)

    def meet(self, features: int) -> None:
        """Keep all features at the current width if so many come in, as behind the network's last map."""
        own, full = self.norms[self.current], self.norms[-1]
        if own.num_features != features == full.num_features:
            self.norms[self.current] = _first_features(full, features).train(own.training)

    def extracted(self) -> nn.Module:
        """A copy of the current width's BatchNorm."""
        return copy.deepcopy(self.norms[self.current])


class Slimmable(nn.Module):
    """Sub-models of a backbone by width. Called on images it embeds at the current width, the widest at first.

    Of what is concatenated a layer uses the weights of the first inputs, for as many as come in.

    At construction black images are embedded at every width, which shows how many features reach each BatchNorm and
    what cannot be sliced. It changes no weight, statistic or random stream.

    Args:
        backbone: a `Backbone` (`small_resnet`, `torchvision_resnet`); its weights become the widest model's, copied.
        widths: shares of the channels in (0, 1], ascending, the last 1.
        image_size: (channels, height, width) of the images that are tried. By default those of the first convolution's
            channels and 32 × 32 pixels, or 64 × 64 where the backbone does not take those.

    Raises:
        ValueError: widths that are not so, images that the backbone does not take, or a layer that cannot be sliced:
            a convolution with groups or of another kind, another norm of narrow features than a BatchNorm, a PReLU of
            many weights, a fixed number of features in a reshaping, parametrised weights, weights of another type than
            float32 or hooks on what is sliced, a forward that was put in place of another.
    """

    def __init__(
        self,
        backbone: Backbone,
        widths: Sequence[float] = WIDTHS,
        image_size: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        widths = tuple(float(width) for width in widths)
        if not widths or list(widths) != sorted(set(widths)) or widths[0] <= 0 or widths[-1] != 1:
            raise ValueError(f"widths are {widths}; valid are ascending shares in (0, 1], of which the last is 1")
        maps = [name for name, part in backbone.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]

        def switchable(name: str, part: nn.Module) -> nn.Module | None:
            if isinstance(part, nn.Conv2d | nn.Linear):
                return _sliceable(part, name == maps[0], name == maps[-1])
            return SwitchableBatchNorm(part, widths) if isinstance(part, BatchNorm) else None

        _check_layers(backbone)
        self.widths, self.dim = widths, backbone.dim
        self.backbone = copy.deepcopy(backbone)
        _exchange(self.backbone, switchable)
        self.to(next(backbone.parameters()).device).eval()
        _try_widths(self, backbone, [image_size] if image_size else _image_sizes(backbone))
        self.train(backbone.training)
        for name, part in backbone.named_modules():  # a part may be in another mode than the whole
            self.backbone.get_submodule(name).train(part.training)

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
        switch(self.backbone, width, self.widths)
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
            return ordinary(self.backbone)


def switch(network: nn.Module, width: float, widths: Sequence[float]) -> None:
    """Make a width, one of `widths`, the current one of every layer below that has some."""
    for part in network.modules():
        if isinstance(part, _Sliced):
            part.width = float(width)
        elif isinstance(part, SwitchableBatchNorm):
            part.current = widths.index(width)


def ordinary(network: nn.Module) -> nn.Module:
    """A copy of a network at its current width: ordinary layers, and no weight that these do not use."""
    made, own = copy.deepcopy(network), SlimmableConv2d | SlimmableLinear | SwitchableBatchNorm
    _exchange(made, lambda name, part: part.extracted() if isinstance(part, own) else None)
    return made


def sliced(size: int, width: float) -> int:
    """How many of `size` channels a width uses: the nearest whole number, at least 1."""
    return max(1, round(size * width))


def is_strided_point(layer: nn.Conv2d) -> bool:
    """Whether a convolution looks at single points and skips some.

    Such a one is computed as `resnet.PointConv2d` is, since narrow widths have few channels.
    """
    return layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.padding == (0, 0)


def _options(layer: nn.Conv2d) -> dict:
    return {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")}


def _sliceable(layer: nn.Module, is_first: bool, is_last: bool) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
        made: nn.Module = SlimmableConv2d(*sizes, bias=layer.bias is not None, **_options(layer))
    else:
        made = SlimmableLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    for name, parameter in layer.named_parameters(recurse=False):
        parameter.data = parameter.data.contiguous()
        setattr(made, name, parameter)  # itself: it may be another layer's too, or frozen
    made.whole_in, made.whole_out = is_first, is_last
    return made


def _with_parameters(layer: nn.Module, shared: SlimmableConv2d | SlimmableLinear) -> nn.Module:
    weight, bias = shared.used_parameters()
    order = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=order), shared.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), shared.bias.requires_grad)
    return layer.train(shared.training)


def _first_features(norm: BatchNorm, size: int) -> BatchNorm:
    """A BatchNorm of its own of the first features."""
    names = ("eps", "momentum", "affine", "track_running_stats")
    made = type(norm)(size, **{name: getattr(norm, name) for name in names})
    made.load_state_dict({name: each[:size] if each.ndim else each for name, each in norm.state_dict().items()})
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(getattr(norm, name).requires_grad)
    return made


def _check_layers(backbone: nn.Module) -> None:
    """Refuse layers in whose place sliced ones would compute something else."""
    if not any(isinstance(part, nn.Conv2d | nn.Linear) for part in backbone.modules()):
        raise ValueError("the backbone has neither an nn.Conv2d nor an nn.Linear: nothing of it can be sliced")
    for name, part in backbone.named_modules():
        kind = f"{name} ({type(part).__name__})"
        if "forward" in vars(part):
            raise ValueError(f"{kind} cannot be sliced: its forward is not its class's; put it into a class of its own")
        if not isinstance(part, nn.Conv2d | nn.Linear | BatchNorm):
            continue
        if getattr(part, "groups", 1) != 1:
            raise ValueError(
                f"{kind}: a convolution of {part.groups} groups cannot be sliced; take a network without groups"
            )
        hooks = part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        if type(part) not in EXCHANGED or hooks:
            raise ValueError(
                f"{kind} cannot be sliced: it is of a class of its own, its weights are "
                f"parametrised or it has hooks; valid are {[kind.__name__ for kind in EXCHANGED]} as they are: put one "
                "in its place, or take its hooks and its parametrisation off"
            )
        wrong = [each for each in part.parameters() if each.dtype != torch.float32 or each.is_meta]
        if wrong:
            raise ValueError(
                f"{kind} holds {wrong[0].dtype} on {wrong[0].device}; valid are float32 weights that have values: call "
                "the backbone's .float(), or load its weights before"
            )


def _image_sizes(backbone: Backbone) -> list[tuple[int, int, int]]:
    for part in backbone.modules():
        if isinstance(part, nn.Conv2d):
            return [(part.in_channels, side, side) for side in SIDES]
    raise ValueError("no convolution tells the channels of the backbone's images; give image_size, (channels, h, w)")


def _try_widths(network: Slimmable, backbone: Backbone, sizes: Sequence[tuple[int, int, int]]) -> None:
    """Embed black images at every width: each BatchNorm meets its features, and what cannot be sliced is named."""
    device = next(backbone.parameters()).device
    seeded = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with _watched(network.backbone, backbone) as entered, torch.no_grad(), seeded:
        batches = [torch.zeros(2, *size, dtype=torch.uint8, device=device) for size in sizes]
        images, shape = _accepted(network, batches, entered)
        for width in network.widths[:-1]:
            try:
                with network.at(width):
                    found = network(images).shape
            except Exception as error:
                name = entered[-1]
                raise ValueError(
                    f"{name} ({type(backbone.get_submodule(name)).__name__}) cannot be sliced: at width {width} the "
                    f"network fails in it or behind it ({error}). Take nn.Conv2d without groups, nn.Linear, BatchNorms "
                    "and layers without sizes of their own, defined in the order in which they are computed"
                ) from error
            if found != shape:
                raise ValueError(
                    f"at width {width} embeddings have shape {tuple(found)} instead of {tuple(shape)}: the convolution "
                    "or linear map that is computed last is not the one that is defined last; define it last"
                )


@contextmanager
def _watched(switchable: nn.Module, backbone: nn.Module) -> Iterator[list[str]]:
    """The names of the backbone's innermost layers as they are entered; each BatchNorm meets its features then."""
    entered, met = [""], {}

    def enter(name: str, part: nn.Module, inputs: tuple) -> None:
        entered.append(name)
        if isinstance(part, SwitchableBatchNorm):
            features = inputs[0].shape[1]
            if met.setdefault((name, part.current), features) != features:
                raise ValueError(f"it meets {met[name, part.current]} features in one place and {features} in another")
            part.meet(features)

    def bypass(name: str, part: nn.Module, inputs: tuple) -> None:
        entered.append(name)
        raise ValueError("it is called by a function that holds the backbone itself; call it as an attribute of self")

    names = [name for name, part in backbone.named_modules() if not list(part.children())]
    hooks = [switchable.get_submodule(name).register_forward_pre_hook(partial(enter, name)) for name in names]
    hooks += [backbone.get_submodule(name).register_forward_pre_hook(partial(bypass, name)) for name in names]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


def _accepted(network: Slimmable, batches: Sequence[Tensor], entered: Sequence[str]) -> tuple[Tensor, torch.Size]:
    """The first batch of images that the full width takes, and its embeddings' shape."""
    for images in batches:
        try:
            return images, network(images).shape
        except Exception as error:
            reason = f"{error}, in {entered[-1]} or behind it" if entered[-1] else str(error)
            cause = error
    raise ValueError(
        f"the backbone takes no images of {' or '.join(' × '.join(map(str, each.shape[1:])) for each in batches)} "
        f"({reason}); give image_size, (channels, height, width) of images that it takes"
    ) from cause


def _exchange(network: nn.Module, make: Callable[[str, nn.Module], nn.Module | None]) -> None:
    """Put what is made of a layer in its place, of one in several places the same; None leaves it."""
    made: dict[nn.Module, nn.Module | None] = {}
    for name, part in list(network.named_modules(remove_duplicate=False)):
        if part not in made:
            made[part] = make(name, part)
        if made[part] is not None:
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, made[part])
