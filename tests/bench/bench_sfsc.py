"""What SFSC adds to its sub-models' bare passes and to their separate trainings, and its projection beside TorchJD's.

All are ratios of times taken in turn.
"""

from collections.abc import Callable

import torch
from bench_training import BATCH, CLASSES, PRECISION, drawn_images, in_turns, setting
from torch import Tensor, nn
from torch.nn import functional as F
from torchjd.aggregation import PCGrad

from compatlib.data.images import ImageSet
from compatlib.methods import independent, sfsc
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.models.slimmable import Slimmable
from compatlib.training import Recipe, one_device

STEPS, ROUNDS = 20, 7
BATCHES_IN_TURN = 40
RECIPE = Recipe(epochs=1, batch_size=BATCH, learning_rate=0.01, precision=PRECISION)
MANY_CLASSES = 10_000
OBJECTIVES, PARAMETERS = 4, 11_000_000  # of a ResNet-18


class _Networks:
    """The study's network, switchable, and its sub-models with ordinary layers; batches lie ready."""

    def __init__(self, images: ImageSet) -> None:
        fabric = one_device(PRECISION)
        self.device = fabric.device
        self.network, self.classifier = Slimmable(small_resnet()), LinearClassifier(128, CLASSES)
        self.modules = fabric.to_device(nn.ModuleList([self.network, self.classifier]))
        self.sub_models = [self.network.extract(width).train() for width in self.network.widths]
        pixels, labels = images.images.to(self.device), images.labels.to(self.device)
        self.batches = list(zip(pixels.split(BATCH), labels.split(BATCH), strict=True))

    def forward_backward(self, backbone: nn.Module, pixels: Tensor, labels: Tensor) -> None:
        """One batch by plain cross-entropy, no optimiser."""
        for module in (backbone, self.classifier):
            module.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=PRECISION == "bfloat16"):
            loss = F.cross_entropy(self.classifier(backbone(pixels)), labels)
        loss.backward()

    def bare_steps(self, steps: int) -> None:
        """Every sub-model by itself, forward and backward."""
        for pixels, labels in self.batches[:steps]:
            for backbone in self.sub_models:
                self.forward_backward(backbone, pixels, labels)

    def fit(self, images: ImageSet) -> None:
        """One training of all sub-models by SFSC."""
        sfsc.fit(self.network, self.classifier, images, RECIPE, seed=0)

    def full_step(self) -> None:
        """The full model alone."""
        self.forward_backward(self.sub_models[-1], *self.batches[0])

    def gradients(self) -> dict[str, list[Tensor | None]]:
        """By width, of the switchable network, as the loop hands them to the combination."""
        found, parameters = {}, list(self.modules.parameters())
        self.modules.train()
        for width in self.network.widths:
            with self.network.at(width):
                self.forward_backward(self.network, *self.batches[0])
            found[str(width)] = [parameter.grad for parameter in parameters]
        return found


def _whole_step(images: ImageSet, networks: _Networks) -> dict:
    ratio, seconds, bare_seconds = in_turns(lambda: networks.fit(images), lambda: networks.bare_steps(STEPS), ROUNDS)
    return {
        "name": "SFSC's step against its sub-models' bare passes",
        "measured": ratio,
        "bound": 1.1,
        "better": "lower",
        "unit": "× their time",
        "detail": f"{_milliseconds(seconds / STEPS)} against {_milliseconds(bare_seconds / STEPS)}, "
        f"widths {networks.network.widths}, {setting()}",
    }


def _separate_trainings(images: ImageSet, networks: _Networks) -> dict:
    widths = networks.network.widths
    parts = [(networks.network.extract(width), LinearClassifier(128, CLASSES)) for width in widths]

    def separate() -> None:
        for backbone, classifier in parts:
            independent.fit(backbone, classifier, images, RECIPE, seed=0, role="separate")

    ratio, seconds, separate_seconds = in_turns(lambda: networks.fit(images), separate, ROUNDS)
    return {
        "name": "SFSC's step against a step of every sub-model's separate training",
        "measured": ratio,
        "bound": 1.1,
        "better": "lower",
        "unit": "× their time",
        "detail": f"{_milliseconds(seconds / STEPS)} against {_milliseconds(separate_seconds / STEPS)} of "
        f"{len(widths)} trainings by cross-entropy, each with its own images and update, {setting()}",
    }


def _combination(networks: _Networks) -> dict:
    shared = [*networks.network.shared_parameters(), *networks.classifier.parameters()]
    combine = sfsc._Combination(shared, "all", None, {}, None)
    parameters, gradients = list(networks.modules.parameters()), networks.gradients()
    ratio, seconds, bare_seconds = in_turns(
        lambda: combine(parameters, gradients), lambda: networks.bare_steps(1), BATCHES_IN_TURN
    )
    return {
        "name": "combination of the gradients against the bare passes",
        "measured": ratio,
        "bound": 0.1,
        "better": "lower",
        "unit": "of their time",
        "detail": f"{_milliseconds(seconds)} against {_milliseconds(bare_seconds)}, {setting()}",
    }


def _projection(networks: _Networks) -> dict:
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(OBJECTIVES, PARAMETERS, generator=random).to(networks.device)
    theirs = PCGrad()
    ratio, seconds, their_seconds = in_turns(lambda: sfsc.project_conflicts(rows), lambda: theirs(rows), ROUNDS)
    return {
        "name": "projection of conflicts against TorchJD's",
        "measured": ratio,
        "bound": 1.2,
        "better": "lower",
        "unit": "× its time",
        "detail": f"{_milliseconds(seconds)} against {_milliseconds(their_seconds)}, "
        f"{OBJECTIVES} × {PARAMETERS:,}, float32",
    }


def _loss(networks: _Networks) -> dict:
    ratio, seconds, full_seconds = in_turns(_evidential(networks, CLASSES), networks.full_step, BATCHES_IN_TURN)
    many, many_seconds, _ = in_turns(_evidential(networks, MANY_CLASSES), networks.full_step, BATCHES_IN_TURN)
    return {
        "name": "evidential loss and its gradient against the full model's bare pass",
        "measured": ratio,
        "bound": 0.1,
        "better": "lower",
        "unit": "of its time",
        "detail": f"{CLASSES} classes: {_milliseconds(seconds)} against {_milliseconds(full_seconds)}; "
        f"{MANY_CLASSES:,} classes: {many:.2g} of its time, {_milliseconds(many_seconds)}; {setting()}",
    }


def _evidential(networks: _Networks, classes: int) -> Callable[[], object]:
    logits = torch.randn(BATCH, classes, generator=torch.Generator().manual_seed(0)).to(networks.device)
    labels = (torch.arange(BATCH) % classes).to(networks.device)
    logits.requires_grad_()
    return lambda: torch.autograd.grad(sfsc.evidential_loss(logits, labels), logits)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def run() -> list[dict]:
    """Ratios of times taken in turn."""
    images = drawn_images().select(torch.arange(STEPS * BATCH))
    networks = _Networks(images)
    return [
        _whole_step(images, networks),
        _separate_trainings(images, networks),
        _combination(networks),
        _projection(networks),
        _loss(networks),
    ]
