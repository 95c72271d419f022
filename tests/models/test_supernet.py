"""Super-networks: every path against one computed by hand, its operations, what paths share, what is extracted."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from compatlib.models.resnet import HEADS, parameter_count, scaled
from compatlib.models.slimmable import SwitchableBatchNorm
from compatlib.models.supernet import KINDS, SuperNet, norms_in_use

SIZES = {"widths": (8, 12), "blocks": (2, 2), "strides": (1, 2), "stem_width": 6, "dim": 5}
PATHS = [(f"{kind}@{width}",) * 4 for kind in KINDS for width in (0.5, 1)] + [("5@1", "x@0.5", "3@0.5", "7@1")]


def images(count: int = 2, size: int | tuple[int, int] = 12) -> torch.Tensor:
    height, width = size if isinstance(size, tuple) else (size, size)
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)


def network(**sizes) -> SuperNet:
    """In eval mode, with statistics and affine parameters of every BatchNorm's own, as after a training."""
    torch.manual_seed(0)
    made = SuperNet(**{**SIZES, "middles": (0.5, 1), "image_size": 12} | sizes).eval()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (part.weight.data, part.running_var):
                values.uniform_(0.7, 1.4)
            for values in (part.bias.data, part.running_mean):
                values.normal_(0, 0.2)
    return made


def by_hand(network: SuperNet, path: tuple[str, ...], pixels: torch.Tensor) -> torch.Tensor:
    """A path from the tensors of the state dict, sliced here."""
    state, before, in_width = network.state_dict(), "stem.1", 6

    def norm(name, x):
        mean, var, scale, shift = (
            state[f"{name}.{each}"].view(1, -1, *(1,) * (x.ndim - 2))
            for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = norm(before, F.conv2d(scaled(pixels), state["stem.0.weight"], padding=1)).relu()
    for block, choice in enumerate(path):
        kind, share = choice.split("@")
        out_width, stride = (8, 1) if block < 2 else (12, 2 if block == 2 else 1)
        middle, place = int(out_width * float(share)), (0.5, 1).index(float(share))
        own = f"blocks.{block}.{kind}.main"

        def point(number, x, size_in, size_out, own=own):
            return F.conv2d(x, state[f"{own}.{number}.weight"][:size_out, :size_in])

        def each(name, x, stride=1):
            weight = state[f"{name}.weight"][: x.shape[1]]
            return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1])

        def own_norm(number, x, own=own, place=place):
            return norm(f"{own}.{number}.norms.{place}", x)

        passing = in_width if stride == 2 else in_width // 2
        kept, y = (x, x) if stride == 2 else (x[:, 0::2], x[:, 1::2])
        if kind == "x":
            y = norm(f"{own}.1", each(f"{own}.0", y, stride))
            y = own_norm(3, point(2, y, passing, middle)).relu()
            y = own_norm(6, each(f"{own}.5", y))
            y = own_norm(8, point(7, y, middle, middle)).relu()
            y = own_norm(11, each(f"{own}.10", y))
            y = norm(f"{own}.13", point(12, y, middle, out_width - passing)).relu()
        else:
            y = own_norm(1, point(0, y, passing, middle)).relu()
            y = own_norm(4, each(f"{own}.3", y, stride))
            y = norm(f"{own}.6", point(5, y, middle, out_width - passing)).relu()
        if stride == 2:
            side = own.replace("main", "side")
            kept = norm(f"{side}.1", each(f"{side}.0", kept, 2))
            kept = norm(f"{side}.3", F.conv2d(kept, state[f"{side}.2.weight"])).relu()
        x, in_width = torch.cat((kept, y), dim=1), out_width
    if isinstance(network.head[0], nn.Conv2d):
        return norm("head.1", F.conv2d(x, state["head.0.weight"])).relu().mean(dim=(2, 3))
    return norm("head.3", x.mean(dim=(2, 3)) @ state["head.2.weight"].T)


@pytest.mark.parametrize("head", HEADS)
def test_every_path_is_the_one_computed_by_hand_and_extracted_it_is_the_same(head):
    made = network(head=head)
    for path in PATHS:
        expected = by_hand(made, path, images())
        with made.at(path) as own, torch.no_grad():
            torch.testing.assert_close(made(images()), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(own(images()), expected, rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(made.extract(path)(images()), expected, rtol=1e-5, atol=1e-5)
    assert made.path == made.start == ("3@1",) * 4


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"head": "linear_bn", "image_size": (9, 14), "in_channels": 3},
        {"middles": (0.3, 0.7, 1), "stem_stride": 2, "strides": (2, 2), "image_size": 33},
    ],
)
def test_operations_of_random_paths_are_those_that_torch_counts(sizes):
    made = network(**sizes)
    for seed in range(4):
        path = made.random_path(torch.Generator().manual_seed(seed))
        one = images(1, made.image_size)
        with FlopCounterMode(display=False) as counter, torch.inference_mode(), made.at(path) as own:
            own(one)
        assert made.flops(path) == counter.get_total_flops() > 0
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            made.extract(path)(one)
        assert made.flops(path) == counter.get_total_flops()


def test_counting_leaves_the_path_and_the_cheapest_is_the_least_of_all():
    made = network(blocks=(1, 1), kinds=("3", "x")).switch(("x@0.5", "3@1"))
    every = {(a, b): made.flops((a, b)) for a in made.choices for b in made.choices}
    assert made.path == ("x@0.5", "3@1")
    assert every[made.cheapest()] == min(every.values()) < max(every.values())


def test_a_path_has_the_networks_own_weights_and_only_these_get_gradients():
    made = network().train()
    with made.at(("5@0.5", "x@1", "3@0.5", "3@1")) as own:
        shared = {id(parameter) for parameter in made.parameters()}
        assert {id(parameter) for parameter in own.parameters()} <= shared
        assert own.training
        own(images()).sum().backward()
        reached = {name for name, parameter in made.named_parameters() if parameter.grad is not None}
    kinds = {name.split(".")[2] for name in reached if name.startswith("blocks.0.")}
    assert kinds == {"5"}
    used = made.blocks[0]["5"].main[0].weight.grad  # (middle, in, 1, 1): half of the filters
    assert used[:4].abs().sum() > 0 == used[4:].abs().sum()
    assert "blocks.0.5.main.1.norms.0.weight" in reached
    assert "blocks.0.5.main.1.norms.1.weight" not in reached


def test_the_extracted_network_is_its_own_and_has_no_spare_weight():
    made = network(head="linear_bn")
    path = ("5@0.5", "x@0.5", "3@1", "7@0.5")
    own = made.extract(path)
    kinds = {type(part) for part in own.modules()}
    assert not any("Slimmable" in kind.__name__ or kind is SwitchableBatchNorm for kind in kinds)
    # 1×1, k×k and norms of each unit by hand: passing channels 3, 4, 8, 6; middles 4, 4, 12, 6; the rest comes out.
    blocks = [
        3 * 4 + 8 + 25 * 4 + 8 + 4 * 5 + 10,
        9 * 4 + 8 + 4 * 4 + 8 + 9 * 4 + 8 + 4 * 4 + 8 + 9 * 4 + 8 + 4 * 4 + 8,
        8 * 12 + 24 + 9 * 12 + 24 + 12 * 4 + 8 + (9 * 8 + 16 + 8 * 8 + 16),
        6 * 6 + 12 + 49 * 6 + 12 + 6 * 6 + 12,
    ]
    assert parameter_count(own) == 27 * 6 + 12 + sum(blocks) + 12 * 5 + 10
    before = own(images())
    for parameter in made.parameters():
        parameter.data.zero_()
    assert torch.equal(own(images()), before)


def test_norms_in_use_are_the_paths_own():
    made = network()
    with made.at(("3@0.5",) * 4) as own:
        used = norms_in_use(own)
    idle = [norm for part in own.modules() if isinstance(part, SwitchableBatchNorm) for norm in part.norms[1:]]
    assert len(used) == 1 + 4 * 3 + 2 + 1  # stem, three a unit, the shorter way of stride 2, head
    assert not {id(norm) for norm in used} & {id(norm) for norm in idle}
    middles = {part.norms[0].num_features for part in own.modules() if isinstance(part, SwitchableBatchNorm)}
    assert middles == {4, 6} <= {norm.num_features for norm in used}


def test_random_paths_are_uniform_and_the_generators():
    made = network(blocks=(1, 1))
    random = torch.Generator().manual_seed(0)
    drawn = [made.random_path(random) for _ in range(1_600)]
    counts = [drawn.count(path) for path in set(drawn)]
    assert len(counts) == 64
    assert max(counts) < 50  # 25 in the mean, deviation 5
    assert made.random_path(torch.Generator().manual_seed(3)) == made.random_path(torch.Generator().manual_seed(3))


def test_an_error_within_leaves_the_path_as_it_was():
    made = network()
    with pytest.raises(KeyError), made.at(("7@1",) * 4):
        raise KeyError
    with (
        pytest.raises(ValueError, match=r"block 3 is to be '9@1'; choose one of \('3@0.5', '3@1', '5@0.5'"),
        made.at(("3@1", "3@1", "3@1", "9@1")),
    ):
        pass
    with pytest.raises(ValueError, match="has 2 choices; this network has 4 blocks"):
        made.flops(("3@1", "3@1"))
    assert made.path == made.start


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"kinds": ("3", "9")}, r"kinds are \('3', '9'\); choose some of"),
        ({"middles": (0.5, 0.9)}, r"middles are \(0.5, 0.9\); valid are ascending"),
        ({"blocks": (2,)}, r"blocks \(2,\) and strides \(1, 2\) must be equally many"),
        ({"strides": (1, 3)}, r"strides are \(1, 3\); valid are 1 and 2"),
        ({"widths": (8, 11)}, "a stage of 11 channels cannot stand behind 8 with stride 2; both must be even"),
        (
            {"widths": (8, 8)},
            "behind 8 with stride 2.*and 8 more than the 8 that pass",
        ),
        ({"stem_width": 5}, "behind 5 with stride 1"),
        ({"head": "mean"}, "unknown head 'mean'"),
        ({"dim": 0}, "every size of a network must be at least 1.*'dim': 0"),
        ({"blocks": (2, 0)}, "every size of a network must be at least 1.*'blocks': 0"),
        ({"image_size": (0, 4)}, "every size of a network must be at least 1.*'image_size': 0"),
    ],
)
def test_wrong_sizes_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        SuperNet(**SIZES | sizes)
