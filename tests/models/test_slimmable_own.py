"""Switchable networks made of modules of a user's own: each width is the whole network without the other channels."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.models.resnet import scaled
from compatlib.models.slimmable import Slimmable, sliced

WIDTHS = (0.25, 0.5, 1.0)
BatchNorm = nn.modules.batchnorm._BatchNorm


class Own(nn.Module):
    """Lists and mappings of layers, residual paths, attention over channels, functions; `head` is computed last."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 8, 1))
            for _ in range(2)
        )
        self.attention = nn.ModuleDict({"squeeze": nn.Linear(8, 4), "excite": nn.Linear(4, 8)})
        self.drop, self.head, self.last = nn.Dropout(0.5), nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        x = F.relu_(self.norm(self.stem(scaled(x))))
        for block in self.blocks:
            x = F.relu(x + block(x))
        share = self.attention["excite"](F.relu(self.attention["squeeze"](x.mean((2, 3))))).sigmoid()
        return self.last(self.head(self.drop(x * share[:, :, None, None]).mean((2, 3))))


class Flat(Own):
    """Every pixel of every channel reaches the head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8 * 4, 6)
        del self.blocks, self.attention

    def forward(self, x):
        return self.last(self.head(F.adaptive_avg_pool2d(self.norm(self.stem(scaled(x))).relu(), 2).flatten(1)))


def tied() -> Own:
    """A weight of two layers, and a layer in two places."""
    network = Own()
    network.blocks[1][0].weight = network.blocks[0][0].weight
    network.blocks[1][3] = network.blocks[0][3]
    return network


def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def masked(backbone: nn.Module, network: Slimmable, width: float) -> nn.Module:
    """The whole network with a width's norms, in which all channels beyond the width are zeros."""
    whole = copy.deepcopy(backbone).eval()
    for name, part in whole.named_modules():
        if not isinstance(part, nn.Conv2d | nn.Linear | BatchNorm):
            continue
        size = part.num_features if isinstance(part, BatchNorm) else len(part.weight)
        used = size if name in ("head", "last") else sliced(size, width)
        if isinstance(part, BatchNorm):
            own = network.backbone.get_submodule(name).norms[network.widths.index(width)]
            for each, value in part.state_dict().items():
                if value.ndim:
                    value[:used] = own.state_dict()[each]
        mask = torch.arange(size) < used
        part.register_forward_hook(lambda _, __, out, mask=mask: out * mask.view(1, -1, *[1] * (out.ndim - 2)))
    return whole


@pytest.mark.parametrize("make", [Own, Flat, tied])
def test_a_width_is_the_whole_network_without_the_other_channels(make):
    torch.manual_seed(0)
    backbone = make()
    network = Slimmable(backbone, WIDTHS).eval()
    for part in network.modules():
        if isinstance(part, BatchNorm):
            for value in part.state_dict().values():
                value.uniform_(0.5, 2) if value.ndim else None
    for width in WIDTHS:
        with torch.no_grad():
            expected = masked(backbone, network, width)(images())
            torch.testing.assert_close(network.switch(width)(images()), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(network.extract(width)(images()), expected, rtol=1e-4, atol=1e-5)


def test_what_is_shared_stays_shared():
    backbone = tied()
    blocks = Slimmable(backbone, WIDTHS).backbone.blocks
    assert blocks[0][0].weight is blocks[1][0].weight
    assert blocks[0][0].bias is not blocks[1][0].bias
    assert blocks[0][3] is blocks[1][3]
    assert blocks[0][0].weight is not backbone.blocks[0][0].weight


def test_frozen_parts_stay_frozen_and_in_their_mode():
    backbone = Own().train()
    for part in (backbone.stem, backbone.norm):
        part.requires_grad_(False).eval()
    network = Slimmable(backbone, WIDTHS)
    for found in (network.backbone, network.extract(0.5)):
        assert {name.split(".")[0] for name, each in found.named_parameters() if not each.requires_grad} == {
            "stem",
            "norm",
        }
        assert {name.split(".")[0] for name, part in found.named_modules() if not part.training} == {"stem", "norm"}


def patched(name: str) -> Own:
    network = Own()
    part = network.get_submodule(name)
    forward = part.forward
    part.forward = lambda x: 2 * forward(x)
    return network


def with_backward_hook() -> Own:
    network = Own()
    network.stem.register_full_backward_hook(lambda *_: None)
    return network


class Lambda(Own):
    """Holds itself in a function, which a copy holds too."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda x: self.blocks[0](x)

    def forward(self, x):
        return self.head(self.function(self.stem(scaled(x))).mean((2, 3)))


class Functional(Own):
    """Takes a norm's statistics by itself."""

    def forward(self, x):
        x = F.batch_norm(self.stem(scaled(x)), self.norm.running_mean, self.norm.running_var)
        return self.head(x.mean((2, 3)))


class OneNorm(Own):
    """A norm of narrow features and of whole ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.last = nn.Conv2d(3, 6, 3), nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        return self.last(self.head(self.last(self.stem(scaled(x)).mean((2, 3)))))


class Without(nn.Module):
    """Has a norm only."""

    dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(scaled(x)).mean((2, 3))


FORWARD = "cannot be sliced: its forward is not its class's; put it into a class of its own"
REFUSED = {
    "a patched layer": (lambda: patched("stem"), rf"^stem \(Conv2d\) {FORWARD}"),
    "a patched block": (lambda: patched("blocks.1"), rf"^blocks\.1 \(Sequential\) {FORWARD}"),
    "a backward hook": (with_backward_hook, r"^stem \(Conv2d\) cannot be sliced: .* or it has hooks"),
    "a function of itself": (
        Lambda,
        r"by a function that holds the backbone itself.*, in blocks\.0\.0 or behind",
    ),
    "statistics by itself": (Functional, r"no attribute 'running_mean', in stem or behind it"),
    "one norm of two sizes": (
        OneNorm,
        r"^last \(BatchNorm1d\) .*meets 2 features in one place and 6 in another",
    ),
    "no map": (Without, "neither an nn.Conv2d nor an nn.Linear"),
    "half": (lambda: Own().half(), r"^stem \(Conv2d\) holds torch.float16 on cpu; valid are float32 weights"),
    "double": (lambda: Own().double(), r"^stem \(Conv2d\) holds torch.float64 on cpu; valid are float32 weights"),
    "meta": (lambda: Own().to("meta"), r"^stem \(Conv2d\) holds torch.float32 on meta; .* load its weights before"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_another_network_is_refused_by_name(kind):
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        Slimmable(make(), WIDTHS)
