"""Switchable networks: every width against a network that is sliced by hand, and what the widths share."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from compatlib.models.resnet import Backbone, parameter_count, scaled, small_resnet, torchvision_resnet
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
        for own in [each for each in norm.norms if each.affine]:
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


def resnet18_by_hand(network: Slimmable, width: float, pixels: torch.Tensor) -> torch.Tensor:
    """torchvision's network under the head `relu_pool`, from the tensors of its state dict, sliced here."""
    state, place = network.backbone.state_dict(), network.widths.index(width)

    def conv(name, x, stride=1, padding=0, keep_in=False, keep_out=False):
        weight = state[f"{name}.weight"]
        size_out = len(weight) if keep_out else round(width * len(weight))
        size_in = weight.shape[1] if keep_in else round(width * weight.shape[1])
        return nn.functional.conv2d(x, weight[:size_out, :size_in], None, stride, padding)

    def norm(name, x):
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (state[f"{name}.norms.{place}.{each}"].view(1, -1, 1, 1) for each in names)
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    x = norm("trunk.1", conv("trunk.0", scaled(pixels), 2, 3, keep_in=True)).relu()
    x = nn.functional.max_pool2d(x, 3, 2, 1)
    for stage in range(4):
        for block in range(2):
            own, stride = f"trunk.{4 + stage}.{block}", 2 if stage and not block else 1
            residual = norm(f"{own}.bn1", conv(f"{own}.conv1", x, stride, 1)).relu()
            residual = norm(f"{own}.bn2", conv(f"{own}.conv2", residual, 1, 1))
            if stride == 2:
                x = norm(f"{own}.downsample.1", conv(f"{own}.downsample.0", x[:, :, ::2, ::2]))
            x = (x + residual).relu()
    return norm("head.1", conv("head.0", x, keep_out=True)).relu().mean(dim=(2, 3))


@pytest.mark.parametrize("seed", range(2))
def test_every_width_of_torchvisions_network_is_the_one_sliced_by_hand(seed):
    torch.manual_seed(seed)
    network = trained(Slimmable(torchvision_resnet("resnet18", dim=16), WIDTHS), 64)
    for width in WIDTHS:
        with torch.no_grad():
            expected = resnet18_by_hand(network, width, images(2, 64))
            assert expected.abs().max() > 0.1
            torch.testing.assert_close(network.switch(width)(images(2, 64)), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(network.extract(width)(images(2, 64)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["relu_pool", "linear_bn", "resnet18", "resnet50"])
def test_weights_keep_their_names_and_shapes(name):
    """Published models are loaded by them."""
    backbone, expected = networks()[name][0](), {}
    for part_name, part in backbone.named_modules():
        is_norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
        for place, width in enumerate(WIDTHS if is_norm else [1.0]):
            for key, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
                own = f"{part_name}.norms.{place}.{key}" if is_norm else f"{part_name}.{key}"
                is_whole = part_name == {"linear_bn": "head.3", "resnet50": "head.3"}.get(name, "head.1")
                size = [round(width * each) if is_norm and not is_whole else each for each in value.shape]
                expected[f"backbone.{own}"] = tuple(size)
    found = {key: tuple(value.shape) for key, value in Slimmable(backbone, WIDTHS).state_dict().items()}
    assert list(found.items()) == list(expected.items())


def trunk(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), *layers)


def pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


class Twice(nn.Module):
    """One convolution under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu())


SLICEABLE = {
    "a norm before the last map": (trunk, lambda: pooled(nn.BatchNorm1d(8), nn.Linear(8, 6), nn.BatchNorm1d(6))),
    "norms around a head of 8 numbers": (trunk, lambda: pooled(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.BatchNorm1d(8))),
    "a nested norm behind the last map": (
        trunk,
        lambda: pooled(nn.Linear(8, 6), nn.Sequential(nn.Sequential(nn.BatchNorm1d(6)), nn.ReLU())),
    ),
    "no affine parameters": (trunk, lambda: pooled(nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False))),
    "no statistics": (trunk, lambda: pooled(nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 6))),
    "one slope": (lambda: trunk(nn.Conv2d(8, 8, 3), nn.PReLU()), lambda: pooled(nn.Linear(8, 6))),
    "another norm behind the last map": (trunk, lambda: pooled(nn.Linear(8, 6), nn.LayerNorm(6), nn.PReLU(6))),
    "a layer in two places": (lambda: trunk(Twice()), lambda: pooled(nn.Linear(8, 6))),
}


def through(part: nn.Module, x: torch.Tensor, network: Slimmable, width: float) -> torch.Tensor:
    """A part of a switchable network at a width, with weights sliced here."""
    if isinstance(part, nn.Sequential):
        for each in part:
            x = through(each, x, network, width)
        return x
    if isinstance(part, Twice):
        return through(part.first, through(part.first, x, network, width).relu(), network, width)
    if isinstance(part, nn.Conv2d | nn.Linear):
        size_out = len(part.weight) if is_last(part, network) else round(width * len(part.weight))
        weight = part.weight[:size_out, : x.shape[1]]
        bias = part.bias[: len(weight)]
        if isinstance(part, nn.Linear):
            return x @ weight.T + bias
        return nn.functional.conv2d(x, weight, bias, part.stride, part.padding)
    if isinstance(part, SwitchableBatchNorm):
        return part.norms[network.widths.index(width)](x)
    return part(x)


def is_last(part: nn.Module, network: Slimmable) -> bool:
    return part is [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)][-1]


@pytest.mark.parametrize("name", SLICEABLE)
@pytest.mark.parametrize("seed", range(2))
def test_norms_may_stand_anywhere(name, seed):
    torch.manual_seed(seed)
    make_trunk, make_head = SLICEABLE[name]
    dim = 8 if "8 numbers" in name else 6
    backbone = Backbone(make_trunk(), make_head(), dim)
    network = Slimmable(backbone, WIDTHS).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(images()), backbone.eval()(images()), rtol=1e-5, atol=1e-5)
    network = trained(network)
    for width in WIDTHS:
        with torch.no_grad():
            x = through(network.backbone.trunk, scaled(images()), network, width)
            assert x.shape[1] == round(8 * width)
            expected = through(network.backbone.head, x, network, width)
            torch.testing.assert_close(network.switch(width)(images()), expected, rtol=1e-5, atol=1e-5)
            alone = network.extract(width)
            torch.testing.assert_close(alone(images()), expected, rtol=1e-5, atol=1e-5)
        assert not any(type(part).__module__ == Slimmable.__module__ for part in alone.modules())
        assert len(list(alone.parameters())) == len(list(backbone.parameters()))


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
    words = (
        r"^trunk\.4\.0\.conv2 \(Conv2d\): a convolution of 32 groups cannot be sliced; take a network without groups"
    )
    with pytest.raises(ValueError, match=words):
        Slimmable(torchvision_resnet("resnext50_32x4d", dim=8))


class Own(nn.Conv2d):
    """Computes what it likes."""


def hooked() -> nn.Module:
    layer = nn.Conv2d(8, 8, 3)
    layer.register_forward_hook(lambda *_: None)
    return layer


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Conv2d(8, 8, 3))


class Reshaped(nn.Module):
    """Knows its number of channels."""

    def forward(self, x):
        return x.view(len(x), 8, -1)[:, :, None]


CLASS_OF_ITS_OWN = (
    "cannot be sliced: it is of a class of its own, its weights are parametrised or it has hooks; valid are"
)
FAILS = "cannot be sliced: at width 0.25 the network fails in it or behind it"


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: nn.GroupNorm(2, 8), "GroupNorm", FAILS),
        (lambda: nn.GroupNorm(8, 8, affine=False), "GroupNorm", FAILS),
        (lambda: nn.LayerNorm([8, 12, 12]), "LayerNorm", FAILS),
        (lambda: nn.InstanceNorm2d(8, affine=True), "InstanceNorm2d", FAILS),
        (lambda: nn.PReLU(8), "PReLU", FAILS),
        (lambda: nn.ConvTranspose2d(8, 8, 3), "ConvTranspose2d", FAILS),
        (lambda: nn.Conv1d(8, 8, 3), "Conv1d", FAILS),
        (lambda: nn.PixelShuffle(2), "PixelShuffle", FAILS),
        (Reshaped, "Reshaped", FAILS),
        (lambda: weight_norm(nn.Conv2d(8, 8, 3)), "ParametrizedConv2d", CLASS_OF_ITS_OWN),
        (old_weight_norm, "Conv2d", CLASS_OF_ITS_OWN),
        (lambda: Own(8, 8, 3), "Own", CLASS_OF_ITS_OWN),
        (hooked, "Conv2d", CLASS_OF_ITS_OWN),
        (lambda: nn.BatchNorm3d(8), "BatchNorm3d", CLASS_OF_ITS_OWN),
        (lambda: nn.Conv2d(8, 8, 3, groups=2), "Conv2d", ": a convolution of 2 groups cannot be sliced"),
    ],
)
def test_what_cannot_be_sliced_is_refused_by_name_at_construction(make, kind, words):
    layers = [nn.Flatten(2), make(), nn.Unflatten(2, (1, -1))] if kind == "Conv1d" else [make()]
    last = nn.Conv2d(2 if kind == "PixelShuffle" else 8, 8, 1)
    backbone = Backbone(nn.Sequential(nn.Conv2d(3, 8, 3), *layers, last), pooled(nn.Linear(8, 6)), 6)
    place = 2 if kind == "Conv1d" else 1
    with pytest.raises(ValueError, match=rf"^trunk\.{place} \({kind}\) ?{words}"):
        Slimmable(backbone, WIDTHS, image_size=(3, 14, 14))


def test_a_width_that_the_last_map_by_name_does_not_end_is_refused():
    class Backwards(Backbone):
        def __init__(self):
            super().__init__(nn.Identity(), nn.Identity(), 6)
            self.ends, self.begins = nn.Conv2d(8, 6, 1), nn.Conv2d(3, 8, 1)

        def forward(self, images):
            return self.ends(self.begins(scaled(images)).relu()).mean(dim=(2, 3))

    with pytest.raises(ValueError, match=r"begins \(Conv2d\) .* defined in the order in which they are computed"):
        Slimmable(Backwards(), WIDTHS, image_size=(3, 8, 8))


def test_a_width_whose_embeddings_are_narrower_is_refused():
    class Unused(Backbone):
        def forward(self, images):
            return self.trunk(scaled(images)).mean(dim=(2, 3))

    with pytest.raises(ValueError, match=r"at width 0.25 embeddings have shape \(2, 2\) instead of \(2, 8\)"):
        Slimmable(Unused(trunk(), nn.Linear(8, 6), 8), WIDTHS)


@pytest.mark.parametrize("make", [small, lambda: small("linear_bn"), lambda: torchvision_resnet("resnet18", dim=8)])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_tried_at_construction_leaves_no_trace(make, training):
    class Drawing(nn.Module):
        """Draws in eval mode too."""

        def forward(self, x):
            return x + 0 * torch.rand(())

    backbone = make()
    backbone.trunk.append(Drawing())
    backbone.train(training)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    torch.manual_seed(0)
    network = Slimmable(backbone, (1.0,))
    state = torch.random.get_rng_state()  # the initial weights, which are overwritten, are drawn as ever
    torch.manual_seed(0)
    network = Slimmable(backbone, WIDTHS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {part.training for part in [*network.modules(), *backbone.modules()]} == {training}
    assert network.width == 1
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    for name, value in network.state_dict().items():
        kind, initial = name.rpartition(".")[2], {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
        if kind in initial:
            assert (value == initial[kind]).all()
    assert not any(part._forward_pre_hooks for part in [*network.modules(), *backbone.modules()])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def flat(side: int, channels: int = 3) -> Backbone:
    """For images of one size only."""
    trunk = nn.Sequential(nn.Conv2d(channels, 8, 1), nn.ReLU())
    return Backbone(trunk, nn.Sequential(nn.Flatten(), nn.Linear(8 * side * side, 6)), 6)


@pytest.mark.parametrize(("side", "options"), [(32, {}), (64, {}), (9, {"image_size": (3, 9, 9)})])
def test_images_of_another_size_can_be_tried(side, options):
    network = Slimmable(flat(side), WIDTHS, **options)
    for width in WIDTHS:
        assert network.switch(width)(images(2, side)).shape == (2, 6)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: flat(28, 1), {}, r"takes no images of 1 × 32 × 32 or 1 × 64 × 64 \(.*\); give image_size"),
        (lambda: flat(28), {"image_size": (3, 27, 28)}, r"takes no images of 3 × 27 × 28 \(.*\); give image_size"),
        (
            lambda: Backbone(nn.Flatten(), nn.Linear(48, 6), 6),
            {},
            "no convolution tells the channels .* give image_size",
        ),
    ],
)
def test_images_that_the_backbone_does_not_take_are_told(make, options, words):
    with pytest.raises(ValueError, match=words):
        Slimmable(make(), WIDTHS, **options)


def test_a_backbone_without_convolutions_is_sliced():
    backbone = Backbone(nn.Flatten(), nn.Sequential(nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, 6)), 6)
    network = Slimmable(backbone, WIDTHS, image_size=(3, 4, 4)).eval()
    for width in WIDTHS:
        assert network.extract(width)(images(2, 4)).shape == (2, 6)
        assert network.extract(width).head[0].weight.shape == (round(8 * width), 48)
