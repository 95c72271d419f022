"""A super-network: choice blocks one behind the other, of which every path is a network; all share their weights.

A block is a ShuffleNetV2 unit (Ma et al., ECCV 2018) in one of four kinds and of several widths; a path names one
choice a block. Source: single path one shot (Guo et al., ECCV 2020), as its released code builds units of kernel 3, 5
and 7 and one like Xception; that a choice's width is that of the unit's middle is theirs too, that every width has
BatchNorms of its own is ours.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import product
from operator import index

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from compatlib.models.resnet import Backbone, he_initialised, make_head, scaled
from compatlib.models.slimmable import (
    WIDTHS,
    BatchNorm,
    SlimmableConv2d,
    SlimmableDepthwiseConv2d,
    SwitchableBatchNorm,
    ordinary,
    switch,
)

KINDS = ("3", "5", "7", "x")
Path = tuple[str, ...]


class Unit(nn.Module):
    """A ShuffleNetV2 unit of one kind, whose middle has several widths.

    With stride 1 half of the channels, every other one, pass as they are; with stride 2 all of them take a second,
    shorter way. The others go through 1×1, k×k of every channel by itself, 1×1; like Xception (`x`) through three 3×3
    of every channel by itself, each before a 1×1.

    Args:
        kind: one of `KINDS`, a kernel's side or `x`.
        in_width: channels that come in, even.
        out_width: channels that come out, more than those that pass.
        stride: 1 or 2.
        widths: shares of the middle's `out_width` channels, ascending, the last 1.
    """

    def __init__(self, kind: str, in_width: int, out_width: int, stride: int, widths: Sequence[float]) -> None:
        super().__init__()
        passing = in_width if stride == 2 else in_width // 2
        kernel = 3 if kind == "x" else int(kind)

        def norm() -> SwitchableBatchNorm:
            return SwitchableBatchNorm(nn.BatchNorm2d(out_width), widths)

        main = [_point(passing, out_width, whole_in=True), norm(), nn.ReLU()]
        if kind == "x":
            main = [*_alone(passing, 3, stride), *main, SlimmableDepthwiseConv2d(out_width, 3), norm()]
            main += [_point(out_width, out_width), norm(), nn.ReLU(), SlimmableDepthwiseConv2d(out_width, 3), norm()]
        else:
            main += [SlimmableDepthwiseConv2d(out_width, kernel, stride), norm()]
        main += [_point(out_width, out_width - passing, whole_out=True), *_normed(out_width - passing)]
        self.main = nn.Sequential(*main)
        shorter = [*_alone(passing, kernel, 2), nn.Conv2d(passing, passing, 1, bias=False), *_normed(passing)]
        self.side = nn.Sequential(*shorter) if stride == 2 else None

    def forward(self, x: Float[Tensor, "batch in_width height width"]) -> Float[Tensor, "batch out_width h w"]:
        """What passes, and behind it what the main way makes of the rest."""
        if self.side is None:  # every other channel: so the two halves are shuffled
            return torch.cat((x[:, ::2], self.main(x[:, 1::2])), dim=1)
        return torch.cat((self.side(x), self.main(x)), dim=1)


class SuperNet(nn.Module):
    """Networks of choice blocks by path. Called on images it embeds by the current path.

    A path has one choice a block, a text of kind and width such as `5@0.5`: a unit of kernel 5 whose middle has half
    of the block's channels. With the widths 0.25 to 1 these are SPOS's factors 0.5 to 2 of half a block's channels.
    At first it is kernel 3 at the widest, everywhere.

    Args:
        widths: channels of every stage.
        blocks: choice blocks of every stage.
        strides: of every stage's first block, 1 or 2.
        middles: widths of a unit's middle, shares of its block's channels, ascending, the last 1.
        kinds: of units, some of `KINDS`.
        stem_width: channels of the first, ordinary 3×3 convolution.
        stem_stride: its stride; 2 for images of 64 pixels up.
        dim: size of the embedding.
        head: `relu_pool` (non-negative) or `linear_bn` (signed), as `resnet.make_head`.
        in_channels: 3 for colour, 1 for grey.
        image_size: side, or height and width, in pixels of the images whose operations `flops` counts.

    Raises:
        ValueError: an unknown head or kind, a size below 1, an odd number of channels, a stride that is neither 1 nor
            2, or stages whose widths, blocks and strides are not equally many.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (2, 3, 3),
        strides: Sequence[int] = (2, 2, 2),
        middles: Sequence[float] = WIDTHS,
        kinds: Sequence[str] = KINDS,
        stem_width: int = 16,
        stem_stride: int = 1,
        dim: int = 128,
        head: str = "relu_pool",
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 32,
    ) -> None:
        super().__init__()
        self.middles, self.dim = tuple(map(float, middles)), dim
        self.image_size = image_size if isinstance(image_size, tuple) else (index(image_size),) * 2
        _check_choices(tuple(kinds), self.middles)
        _check_stages(widths, blocks, strides, stem_width)
        _check_sizes(
            blocks=min(blocks),
            stem_stride=stem_stride,
            dim=dim,
            in_channels=in_channels,
            image_size=min(self.image_size),
        )
        self.choices = tuple(f"{kind}@{width:g}" for kind, width in product(kinds, self.middles))
        self._chosen = dict(zip(self.choices, product(kinds, self.middles), strict=True))
        first = nn.Conv2d(in_channels, stem_width, 3, stem_stride, padding=1, bias=False)
        self.stem = nn.Sequential(first, *_normed(stem_width))
        self.blocks = nn.ModuleList()
        before = stem_width
        for width, count, stride in zip(widths, blocks, strides, strict=True):
            for number in range(count):
                place = (before, width, 1 if number else stride)
                self.blocks.append(nn.ModuleDict({kind: Unit(kind, *place, self.middles) for kind in kinds}))
                before = width
        self.head = make_head(head, before, dim)
        he_initialised(self)
        self.start: Path = (f"{next(iter(kinds))}@1",) * len(self.blocks)
        self.switch(self.start)

    def switch(self, path: Sequence[str]) -> "SuperNet":
        """Make a path the current one; returns the network.

        Raises:
            ValueError: it has not one of `choices` a block.
        """
        self.path = self.checked(path)
        for unit, choice in zip(self._units(), self.path, strict=True):
            switch(unit, self._chosen[choice][1], self.middles)
        return self

    @contextmanager
    def at(self, path: Sequence[str]) -> Iterator[Backbone]:
        """The network of a path for a while: the super-network's own layers and weights; errors as `switch`."""
        before = self.path
        try:
            self.switch(path)
            network = Backbone(nn.Sequential(self.stem, *self._units()), self.head, self.dim)
            network.training = network.trunk.training = self.training
            yield network
        finally:
            self.switch(before)

    def forward(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim"]:
        """Embed a batch of uint8 images by the current path; float32, not normalised."""
        x = self.stem(scaled(images))
        for unit in self._units():
            x = unit(x)
        return self.head(x).float()

    def extract(self, path: Sequence[str]) -> Backbone:
        """The network of a path by itself: ordinary layers, and no weight that it does not use; errors as `switch`.

        Its BatchNorms' statistics are those that the super-network has now.
        """
        with self.at(path) as network:
            return ordinary(network)

    def flops(self, path: Sequence[str]) -> int:
        """Floating-point operations of one image by a path: convolutions and linear maps, a product and its sum as two.

        So torch's `FlopCounterMode` counts them. Errors as `switch`.
        """
        fixed, costs = self._costs
        return fixed + sum(own[choice] for own, choice in zip(costs, self.checked(path), strict=True))

    def cheapest(self) -> Path:
        """The path of the fewest operations."""
        return tuple(min(own, key=own.get) for own in self._costs[1])

    def random_path(self, generator: torch.Generator | None = None) -> Path:
        """A path drawn uniformly; by default from torch's global generator."""
        drawn = torch.randint(len(self.choices), (len(self.blocks),), generator=generator)
        return tuple(self.choices[place] for place in drawn.tolist())

    def checked(self, path: Sequence[str]) -> Path:
        """The path as a tuple; errors as `switch`."""
        path = tuple(path)
        if len(path) != len(self.blocks):
            raise ValueError(f"the path {path} has {len(path)} choices; this network has {len(self.blocks)} blocks")
        for place, choice in enumerate(path):
            if choice not in self._chosen:
                raise ValueError(f"block {place} is to be {choice!r}; choose one of {self.choices}")
        return path

    def _units(self) -> list[Unit]:
        """Of the current path."""
        return [block[self._chosen[choice][0]] for block, choice in zip(self.blocks, self.path, strict=True)]

    @cached_property
    def _costs(self) -> tuple[int, list[dict[str, int]]]:
        """Operations of stem and head together, and of every block by choice; blocks do not change one another's."""
        before, costs = self.path, []
        fixed, size = _flops(self.stem, self.image_size)
        for place in range(len(self.blocks)):
            found = {}
            for choice in self.choices:
                self.switch((choice,) * len(self.blocks))
                unit = self._units()[place]
                main, after = _flops(unit.main, size)
                found[choice] = main + (_flops(unit.side, size)[0] if unit.side is not None else 0)
            size = after
            costs.append(found)
        self.switch(before)
        return fixed + _flops(self.head, size)[0], costs


def norms_in_use(network: nn.Module) -> list[BatchNorm]:
    """The BatchNorms that a network computes with: of those that have several widths the current one alone."""
    switchable = [part for part in network.modules() if isinstance(part, SwitchableBatchNorm)]
    idle = {norm for part in switchable for norm in part.norms} - {part.norms[part.current] for part in switchable}
    return [part for part in network.modules() if isinstance(part, BatchNorm) and part not in idle]


def _point(in_width: int, out_width: int, *, whole_in: bool = False, whole_out: bool = False) -> SlimmableConv2d:
    made = SlimmableConv2d(in_width, out_width, 1, bias=False)
    made.whole_in, made.whole_out = whole_in, whole_out
    return made


def _alone(width: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution of every channel by itself, of all channels at every width."""
    conv = nn.Conv2d(width, width, kernel, stride, padding=kernel // 2, groups=width, bias=False)
    return [conv, nn.BatchNorm2d(width)]


def _normed(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width), nn.ReLU()]


def _flops(network: nn.Sequential, size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Operations of one image's layers at the current width, and the height and width of what comes out."""
    total = 0
    for part in network:
        if isinstance(part, nn.Conv2d):
            weight = part.used_parameters()[0] if isinstance(part, SlimmableConv2d) else part.weight
            size = tuple(-(-side // stride) for side, stride in zip(size, part.stride, strict=True))
            total += 2 * weight.numel() * size[0] * size[1]
        elif isinstance(part, nn.Linear):
            total += 2 * part.weight.numel()
    return total, size


def _check_choices(kinds: tuple[str, ...], middles: tuple[float, ...]) -> None:
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds are {kinds}; choose some of {KINDS}, each once")
    if not middles or list(middles) != sorted(set(middles)) or middles[0] <= 0 or middles[-1] != 1:
        raise ValueError(f"middles are {middles}; valid are ascending shares in (0, 1], of which the last is 1")


def _check_stages(widths: Sequence[int], blocks: Sequence[int], strides: Sequence[int], stem_width: int) -> None:
    if not len(widths) == len(blocks) == len(strides) > 0:
        raise ValueError(
            f"widths {tuple(widths)}, blocks {tuple(blocks)} and strides {tuple(strides)} must be equally many, one a "
            "stage"
        )
    if not set(strides) <= {1, 2}:
        raise ValueError(f"strides are {tuple(strides)}; valid are 1 and 2")
    before = stem_width
    for width, stride in zip(widths, strides, strict=True):
        passing = before if stride == 2 else before // 2
        if before < 2 or before % 2 or width % 2 or width <= passing:
            raise ValueError(
                f"a stage of {width} channels cannot stand behind {before} with stride {stride}; both must be even, "
                f"and {width} more than the {passing} that pass"
            )
        before = width


def _check_sizes(**sizes: int) -> None:
    if min(sizes.values()) < 1:
        raise ValueError(f"every size of a network must be at least 1, got {sizes}")
