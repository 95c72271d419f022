"""Switchable networks: every width against a network that is sliced by hand, and what the widths share."""

import copy

import pytest
import torch
from torch import nn

from compatlib.models.resnet import parameter_count, small_resnet, torchvision_resnet
from compatlib.models.slimmable import Slimmable, SlimmableConv2d, SwitchableBatchNorm, sliced

WIDTHS = (0.25, 0.5, 0.75, 1.0)


def images(count: int = 4, size: int = 16) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def small(head: str = "relu_pool", **sizes) -> nn.Module:
    torch.manual_seed(0)
    return small_resnet(**{"widths": (8, 16), "blocks": 2, "dim": 12, "head": head, **sizes})


def trained(network: Slimmable, size: int = 16) -> Slimmable:
    """With statistics and affine parameters of each width's own."""
    random = torch.Generator().manual_seed(1)
    network.train()
    for width in network.widths:
        with network.at(width):
            for _ in range(3):
                network(images(8, size))
    for norm in [part for part in network.modules() if isinstance(part, SwitchableBatchNorm)]:
        for own in norm.norms:
            own.weight.data.add_(0.2 * torch.randn(own.weight.shape, generator=random))
            own.bias.data.add_(0.2 * torch.randn(own.bias.shape, generator=random))
    return network.eval()


def by_hand(network: Slimmable, width: float, pixels: torch.Tensor) -> torch.Tensor:
    """The small network at a width, layer by layer, with weights sliced here."""
    place, trunk, head = network.widths.index(width), network.backbone.trunk, network.backbone.head

    def conv(layer, x, keep_in=False, keep_out=False):
        size_in = layer.in_channels if keep_in else max(1, round(width * layer.in_channels))
        size_out = layer.out_channels if keep_out else max(1, round(width * layer.out_channels))
        weight = layer.weight[:size_out, :size_in]
        return nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)

    def norm(layer, x):
        own = layer.norms[place]
        shape = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
        x = (x - own.running_mean.view(shape)) / (own.running_var.view(shape) + own.eps).sqrt()
        return x * own.weight.view(shape) + own.bias.view(shape)

    x = (pixels / 255 - 0.5) / 0.25
    x = norm(trunk[1], conv(trunk[0], x, keep_in=True)).relu()
    for block in trunk[3:]:
        residual = norm(block.bn2, conv(block.conv2, norm(block.bn1, conv(block.conv1, x)).relu()))
        short = norm(block.shortcut[1], conv(block.shortcut[0], x)) if len(block.shortcut) else x
        x = (residual + short).relu()
    if isinstance(head[0], SlimmableConv2d):
        return norm(head[1], conv(head[0], x, keep_out=True)).relu().mean(dim=(2, 3))
    pooled = x.mean(dim=(2, 3))
    return norm(head[3], pooled @ head[2].weight[:, : pooled.shape[1]].T)


@pytest.mark.parametrize("head", ["relu_pool", "linear_bn"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_is_the_network_sliced_by_hand(head, width):
    network = trained(Slimmable(small(head), WIDTHS))
    with torch.no_grad():
        found = network.switch(width)(images())
        assert found.shape == (4, 12)
        assert torch.allclose(found, by_hand(network, width, images()), atol=1e-5)


def networks():
    return {
        "relu_pool": (lambda: small(), 16),
        "linear_bn": (lambda: small("linear_bn"), 16),
        "odd sizes": (lambda: small(widths=(5, 11), stem_stride=2, dim=7), 16),
        "resnet18": (lambda: torchvision_resnet("resnet18", dim=16), 64),
        "resnet50": (lambda: torchvision_resnet("resnet50", dim=16, head="linear_bn"), 64),
    }


@pytest.mark.parametrize("name", networks())
def test_an_extracted_network_gives_the_same_embeddings_and_has_no_spare_weight(name):
    make, size = networks()[name]
    torch.manual_seed(0)
    network = trained(Slimmable(make(), (0.25, 0.5, 1.0)), size)
    before = copy.deepcopy(network.state_dict())
    counts = []
    for width in network.widths:
        alone = network.extract(width)
        with torch.no_grad(), network.at(width):
            assert torch.allclose(alone(images(2, size)), network(images(2, size)), atol=1e-5)
        kinds = {type(part).__name__ for part in alone.modules()}
        assert not any(kind.startswith(("Slimmable", "Switchable")) for kind in kinds)
        counts.append(parameter_count(alone))
        assert counts[-1] == expected_parameters(make(), width)
        assert not {p.data_ptr() for p in alone.parameters()} & {p.data_ptr() for p in network.parameters()}
    assert counts == sorted(counts)
    assert network.width == 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def expected_parameters(backbone: nn.Module, width: float) -> int:
    """Layer by layer: all but the image's channels and the embedding's size is narrower."""
    layers = [
        part for part in backbone.modules() if isinstance(part, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm)
    ]
    weights = [part for part in layers if isinstance(part, nn.Conv2d | nn.Linear)]
    total = 0
    for part in layers:
        if part in weights:
            size_out, size_in, *kernel = part.weight.shape
            size_in = size_in if part is weights[0] else max(1, round(width * size_in))
            size_out = size_out if part is weights[-1] else max(1, round(width * size_out))
            total += size_out * size_in * int(torch.tensor(kernel).prod())
        else:
            whole = part is layers[-1]  # behind the last map
            total += 2 * (part.num_features if whole else max(1, round(width * part.num_features)))
    return total


def test_the_widest_model_begins_as_the_backbone():
    backbone = small()
    network = Slimmable(backbone.eval(), WIDTHS)
    assert not any(part.training for part in network.modules())
    with torch.no_grad():
        assert torch.allclose(network(images()), backbone(images()), atol=1e-6)
    assert network.dim == backbone.dim
    first = next(network.backbone.parameters())
    first.data.zero_()
    assert next(backbone.parameters()).abs().sum() > 0, "the backbone is copied, not taken"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_width_learns_with_its_own_slice_and_leaves_the_rest(width):
    network = Slimmable(small(), WIDTHS).train()
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    with network.at(width):
        network(images()).sum().backward()
    place = WIDTHS.index(width)
    for part in network.backbone.modules():
        if isinstance(part, SlimmableConv2d):
            with network.at(width):
                weight, _ = part.used_parameters()
            outside = torch.ones_like(part.weight, dtype=torch.bool)
            outside[: weight.shape[0], : weight.shape[1]] = False
            assert (part.weight.grad[outside] == 0).all()
            assert part.weight.grad[~outside].abs().sum() > 0
        if isinstance(part, SwitchableBatchNorm):
            assert [own.weight.grad is not None for own in part.norms] == [i == place for i in range(len(WIDTHS))]
    for name, value in network.named_buffers():
        own = f"norms.{place}." in name
        assert torch.equal(value, statistics[name]) != own


def test_shared_parameters_are_the_maps_and_no_norm():
    network = Slimmable(small(), WIDTHS)
    shared = {id(each) for each in network.shared_parameters()}
    norms = {
        id(each) for part in network.modules() if isinstance(part, SwitchableBatchNorm) for each in part.parameters()
    }
    assert shared
    assert not shared & norms
    assert shared | norms == {id(each) for each in network.parameters()}


def test_the_width_comes_back_after_an_error():
    network = Slimmable(small(), WIDTHS)
    widths = []

    def stop():
        with network.at(0.5):
            widths.append(network.width)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert [*widths, network.width] == [0.5, 1]


def test_a_narrow_network_keeps_a_channel():
    assert [sliced(3, width) for width in (0.1, 0.5, 1)] == [1, 2, 3]
    network = Slimmable(small(widths=(2, 3)), (0.1, 1.0)).eval()
    with torch.no_grad():
        assert network.switch(0.1)(images()).isfinite().all()


@pytest.mark.parametrize("widths", [(), (0.5,), (0.0, 1.0), (1.0, 0.5), (0.5, 0.5, 1.0), (0.5, 1.5)])
def test_bad_widths_are_refused(widths):
    with pytest.raises(ValueError, match="valid are ascending shares"):
        Slimmable(small(), widths)


def test_an_unknown_width_is_refused():
    network = Slimmable(small(), WIDTHS)
    for call in (network.switch, network.extract, lambda width: network.at(width).__enter__()):
        with pytest.raises(ValueError, match=r"width is 0.3; this network has \(0.25, 0.5, 0.75, 1.0\)"):
            call(0.3)


def test_groups_are_refused():
    with pytest.raises(ValueError, match="a convolution of 32 groups cannot be sliced"):
        Slimmable(torchvision_resnet("resnext50_32x4d", dim=8))
