"""Weights of torchvision's ResNets, as it publishes them, for our backbones."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from compatlib.models.resnet import Backbone

# torchvision's names of the trunk's parts, in order.
_PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_SHOWN = 3


def load_torchvision(backbone: Backbone, weights: Mapping[str, Tensor]) -> Backbone:
    """Load a ResNet's weights, under torchvision's names, into the trunk of a `torchvision_resnet`; returns it.

    The head is left as it is, the classifier of the weights (`fc`) is not used. Load first and wrap in `Slimmable`
    afterwards: the widest model then begins as the loaded one. The narrower ones are cut out of it, BatchNorm's
    statistics too, and say little before they are trained.

    torchvision's weights expect pixels in [0, 1], minus the mean (0.485, 0.456, 0.406), by the deviation
    (0.229, 0.224, 0.225) of ImageNet's channels; a backbone takes 0.5 and 0.25 for all three. For red, green and blue
    the trunk therefore sees (0.92, 0.90, 0.90) times what it is used to, minus (0.06, 0.18, 0.38). The weights are not
    changed for it: training goes on from them. For feature maps as torchvision computes them, without training, call
    `backbone.trunk` on images that its own transform has scaled.

    Args:
        backbone: of the same architecture, from `torchvision_resnet`; left in the mode that it is in.
        weights: such as `torchvision.models.resnet18(weights="DEFAULT").state_dict()`, or what
            `safetensors.torch.load_file` reads from a file of them. BatchNorm's counters of batches may be missing.

    Raises:
        ValueError: the backbone is none of `torchvision_resnet`, or weights are missing, left over or of another
            shape; nothing is loaded then.
    """
    if not isinstance(backbone, Backbone) or not _is_torchvisions(backbone.trunk):
        raise ValueError(
            f"{type(backbone).__name__} is no backbone with torchvision's trunk; make one by `torchvision_resnet`, "
            "load its weights, and wrap it in `Slimmable` afterwards"
        )
    state = backbone.trunk.state_dict()
    places = {_torchvision_name(place): place for place in state}
    own = {name: state[place] for name, place in places.items()}
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    given = counters | {name: value for name, value in weights.items() if not name.startswith("fc.")}
    problems = _problems(own, given)
    if problems:
        raise ValueError(
            f"the weights do not fit the backbone: {'; '.join(problems)}. Take those of the ResNet that was named to "
            "`torchvision_resnet`, under torchvision's names, and load them before `Slimmable` wraps the backbone"
        )
    backbone.trunk.load_state_dict({places[name]: value for name, value in given.items()})
    return backbone


def _is_torchvisions(trunk: nn.Module) -> bool:
    return isinstance(trunk, nn.Sequential) and len(trunk) == len(_PARTS) and isinstance(trunk[3], nn.MaxPool2d)


def _torchvision_name(name: str) -> str:
    place, _, rest = name.partition(".")
    return f"{_PARTS[int(place)]}.{rest}"


def _problems(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    both = [name for name in own if name in given]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in both
        if given[name].shape != own[name].shape
    ]
    found = {
        "missing are": [name for name in own if name not in given],
        "unexpected are": [name for name in given if name not in own],
        "of another shape are": shapes,
    }
    return [f"{what} {_shown(names)}" for what, names in found.items() if names]


def _shown(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
