"""Backbones: shapes, signs, sizes, and the second implementation they must agree with."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from compatlib.models import resnet
from compatlib.models.resnet import PointConv2d, small_resnet, torchvision_resnet


def images(count=4, channels=3, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def test_the_studys_network_has_its_frozen_number_of_parameters():
    assert resnet.parameter_count(small_resnet()) == 85_840


@pytest.mark.parametrize("head", resnet.HEADS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 32, 35])
def test_any_size_gives_one_embedding_an_image(head, channels, side):
    backbone = small_resnet(widths=(4, 8), dim=16, head=head, in_channels=channels)
    embeddings = backbone(images(channels=channels, side=side))
    assert embeddings.shape == (4, 16)
    assert embeddings.dtype == torch.float32


def test_relu_pool_is_non_negative_and_linear_bn_is_signed():
    negative = {head: bool((small_resnet(head=head)(images(16)) < 0).any()) for head in resnet.HEADS}
    assert negative == {"relu_pool": False, "linear_bn": True}


def test_eval_mode_embeds_every_image_by_itself():
    backbone = small_resnet(widths=(4, 8), dim=8).eval()
    together = backbone(images(6))
    alone = torch.cat([backbone(image[None]) for image in images(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_basic_block_agrees_with_torchvisions():
    from torchvision.models.resnet import BasicBlock

    shortcut = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
    ours, theirs = resnet.BasicBlock(4, 8, 2), BasicBlock(4, 8, 2, shortcut)
    theirs.load_state_dict({k.replace("shortcut", "downsample"): v for k, v in ours.state_dict().items()})
    x = torch.randn(3, 4, 10, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x))


def test_torchvisions_resnet_runs_without_its_classifier():
    backbone = torchvision_resnet("resnet18", dim=32)
    assert backbone(images(2, side=64)).shape == (2, 32)
    assert not any("fc" in name for name in backbone.state_dict())


def test_scaling_matches_the_formula():
    pixels = images()
    torch.testing.assert_close(resnet.scaled(pixels), (pixels.double() / 255 - 0.5).div(0.25).float())


@pytest.mark.parametrize("head", resnet.HEADS)
def test_weights_and_pixels_are_channels_last(head):
    convolutions = [part for part in small_resnet(head=head).modules() if isinstance(part, nn.Conv2d)]
    assert all(part.weight.is_contiguous(memory_format=torch.channels_last) for part in convolutions)
    assert resnet.scaled(images()).is_contiguous(memory_format=torch.channels_last)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="'max_pool'; choose one of"):
        small_resnet(head="max_pool")
    with pytest.raises(ValueError, match="at least 1"):
        small_resnet(widths=(16, 0))
    with pytest.raises(ValueError, match="at least 1"):
        small_resnet(widths=())
    with pytest.raises(ValueError, match="'resnet1234'; it has"):
        torchvision_resnet("resnet1234")
    with pytest.raises(ValueError, match="uint8"):
        small_resnet()(images().float())


@pytest.mark.parametrize(("stride", "bias"), [(1, False), (2, False), ((3, 2), True)])
def test_a_convolution_of_points_is_the_strided_one(stride, bias):
    """Values and gradients, against torch's own layer of the same weights."""
    torch.manual_seed(0)
    own, usual = PointConv2d(5, 7, stride, bias=bias).double(), nn.Conv2d(5, 7, 1, stride, bias=bias).double()
    usual.load_state_dict(own.state_dict())
    x = torch.randn(3, 5, 9, 8, dtype=torch.float64)
    found, expected = own(x), usual(x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    for layer, result in ((own, found), (usual, expected)):
        (result * weights).sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())
    for name, parameter in own.named_parameters():
        torch.testing.assert_close(parameter.grad, usual.get_parameter(name).grad)


def test_few_channels_are_trained_by_several_threads():
    """In a process of its own: where memory is corrupted, it dies."""
    code = """
import torch
from compatlib.models.resnet import small_resnet

torch.set_num_threads(3)
torch.manual_seed(0)
network = small_resnet(widths=(4, 8), dim=16, stem_stride=2)
images = torch.randint(0, 255, (64, 3, 32, 32), dtype=torch.uint8)
for _ in range(40):
    network.zero_grad()
    network(images).square().mean().backward()
print("trained")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (told.returncode, told.stdout) == (0, "trained\n"), told.stderr
