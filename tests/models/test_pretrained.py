"""torchvision's weights: the features must be those of its own network, and what does not fit must be said."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from compatlib.models.pretrained import load_torchvision
from compatlib.models.resnet import small_resnet, torchvision_resnet
from compatlib.models.slimmable import Slimmable


def images(count: int = 2, size: int = 64) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels / 255 - 0.5) / 0.25


def theirs(name: str = "resnet18") -> nn.Module:
    """A network of torchvision's, with statistics of its own."""
    torch.manual_seed(1)
    network = torchvision.models.get_model(name, weights=None).train()
    with torch.no_grad():
        for _ in range(3):
            network(scaled(images(8)))
    return network.eval()


def ours(name: str = "resnet18"):
    torch.manual_seed(0)
    return torchvision_resnet(name, dim=16, head="linear_bn").eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_are_those_of_torchvisions_network(name):
    network, backbone = theirs(name), ours(name)
    head = {key: value.clone() for key, value in backbone.head.state_dict().items()}
    assert load_torchvision(backbone, network.state_dict()) is backbone
    assert all(torch.equal(value, head[key]) for key, value in backbone.head.state_dict().items())
    network.fc = nn.Identity()
    with torch.no_grad():
        features = network(scaled(images()))
        torch.testing.assert_close(backbone.trunk(scaled(images())).mean(dim=(2, 3)), features, atol=1e-4, rtol=1e-4)
        expected = backbone.head[2:](features)  # behind the pool
        assert expected.abs().max() > 0.1
        switchable = Slimmable(backbone, (0.5, 1.0))
        torch.testing.assert_close(switchable(images()), expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(switchable.switch(0.5)(images()), expected, atol=0.01)


def test_weights_from_a_file_without_counters(tmp_path):
    network, backbone = theirs(), ours()
    path = tmp_path / "resnet18.safetensors"
    weights = {name: value for name, value in network.state_dict().items() if "num_batches_tracked" not in name}
    save_file(weights, path)
    load_torchvision(backbone, load_file(path))
    assert torch.equal(backbone.trunk[7][1].bn2.running_var, network.layer4[1].bn2.running_var)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("resnet50", r"unexpected are layer1\.0\.conv3\.weight, .* and \d+ more; of another shape are"),
        ("resnet50", r"layer1\.0\.conv1\.weight \(64, 64, 1, 1\) instead of \(64, 64, 3, 3\)"),
        ("resnet34", r"fit the backbone: unexpected are layer1\.2\.conv1\.weight, .* that was named to"),
    ],
)
def test_weights_of_another_network_are_refused(other, words):
    backbone = ours()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        load_torchvision(backbone, torchvision.models.get_model(other, weights=None).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_missing_weights_are_named():
    weights = theirs().state_dict()
    del weights["layer2.0.downsample.0.weight"]
    with pytest.raises(ValueError, match=r"missing are layer2\.0\.downsample\.0\.weight\. Take those"):
        load_torchvision(ours(), weights)
    renamed = {f"module.{name}": value for name, value in weights.items()}
    with pytest.raises(ValueError, match=r"missing are conv1\.weight, .*; unexpected are module\.conv1\.weight"):
        load_torchvision(ours(), renamed)


@pytest.mark.parametrize("make", [small_resnet, lambda: Slimmable(ours())])
def test_another_backbone_is_refused(make):
    with pytest.raises(ValueError, match="make one by `torchvision_resnet`, load its weights, and wrap it"):
        load_torchvision(make(), theirs().state_dict())
