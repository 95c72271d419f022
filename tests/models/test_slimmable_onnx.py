"""Widths and paths exported to ONNX and run elsewhere: the same embeddings, not a weight more than they need."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from compatlib.models.resnet import small_resnet, torchvision_resnet
from compatlib.models.slimmable import WIDTHS, Slimmable
from compatlib.models.supernet import SuperNet


def images(count: int, size: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def switchable(name: str) -> Slimmable:
    """In eval mode, with statistics and affine parameters of every width's own, as after a training."""
    torch.manual_seed(0)
    backbones = {
        "small": lambda: small_resnet(widths=(16, 32), dim=12),
        "resnet18": lambda: torchvision_resnet("resnet18", dim=16),
    }
    return as_trained(Slimmable(backbones[name](), WIDTHS).eval())


def as_trained(network: nn.Module) -> nn.Module:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight.data, part.running_var):
                values.uniform_(0.7, 1.4)
            for values in (part.bias.data, part.running_mean):
                values.normal_(0, 0.2)
    return network


@pytest.fixture(scope="module", params=[("small", 16), ("resnet18", 64)], ids=lambda param: param[0])
def case(request) -> tuple[Slimmable, int]:
    """A switchable network and the size of its images."""
    name, size = request.param
    return switchable(name), size


def exported(backbone: nn.Module, size: int) -> torch.onnx.ONNXProgram:
    """With batches of any size, and every layer as it stands."""
    shapes = ({0: torch.export.Dim("batch")},)
    return torch.onnx.export(
        backbone, (images(2, size),), dynamic_shapes=shapes, dynamo=True, optimize=False, verbose=False
    )


def embedded(model: onnx.ModelProto, pixels: torch.Tensor) -> np.ndarray:
    """By onnxruntime on one thread of the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    (found,) = session.run(None, {entry.name: pixels.numpy()})
    return found


def sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Elements of every tensor that the file holds."""
    return {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}


def used(backbone: nn.Module) -> dict[str, int]:
    """Elements of every parameter and of the statistics; how often these were updated says nothing to an embedding."""
    return {
        name: each.numel() for name, each in backbone.state_dict().items() if not name.endswith("num_batches_tracked")
    }


def assert_same_embeddings(model: onnx.ModelProto, network: nn.Module, size: int) -> None:
    onnx.checker.check_model(model, full_check=True)
    for count in (1, 5):
        with torch.no_grad():
            expected = network(images(count, size)).numpy()
        found = embedded(model, images(count, size))
        assert found.shape == expected.shape
        assert 0 < np.abs(expected).max() < np.inf
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("width", WIDTHS)
def test_an_exported_width_gives_the_same_embeddings_and_holds_no_spare_weight(case, width):
    network, size = case
    backbone = network.extract(width)
    program = exported(backbone, size)
    with network.at(width):
        assert_same_embeddings(program.model_proto, network, size)
        assert sizes(program.model_proto) == used(backbone)
        # The first map, the last one and the norms shrink by the width alone, all others by its square.
        share = sum(used(backbone).values()) / sum(used(network.extract(1.0)).values())
        assert width**2 <= share <= 1.25 * width**2
        program.optimize()  # as by default: norms go into the convolutions before them
        assert_same_embeddings(program.model_proto, network, size)
        assert sum(sizes(program.model_proto).values()) < sum(used(backbone).values())


def test_an_exported_path_gives_the_same_embeddings_and_holds_no_spare_weight():
    torch.manual_seed(0)
    network = as_trained(SuperNet(widths=(16, 32), blocks=(1, 1), strides=(1, 2), dim=12).eval())
    path = ("x@0.5", "5@0.25")
    backbone = network.extract(path)
    model = exported(backbone, 16).model_proto
    with network.at(path) as own:
        assert_same_embeddings(model, own, 16)
    assert sizes(model) == used(backbone)
