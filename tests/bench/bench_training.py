"""What the training loop and the embedding add to the bare network: everything measured in turns, as ratios."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compatlib.data.augment import crop_and_flip, two_views
from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.methods import independent
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.training import Recipe, one_device, stream

BATCH, STEPS, ROUNDS = 128, 50, 7
BATCHES_IN_TURN = 40  # single batches, augmented and trained on in turns
EMBEDDED_AT_A_TIME = 500
CLASSES = 100


def _has_bfloat16() -> bool:
    """Whether torch says that the device computes in bfloat16 instead of imitating it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)


PRECISION = "bfloat16" if _has_bfloat16() else "float32"


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median of the rounds' ratios first / second, and both medians; a busy machine slows both sides of a round."""
    for call in (first, second):
        call()
    times = np.array([(_seconds(first), _seconds(second)) for _ in range(rounds)])
    return float(np.median(times[:, 0] / times[:, 1])), *np.median(times, axis=0).tolist()


def drawn_images() -> ImageSet:
    """A set of random images, `STEPS` batches of them."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (STEPS * BATCH, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(STEPS * BATCH) % CLASSES, tuple(map(str, range(CLASSES))))


class _Bare:
    """The study's network without our loop: batches lie ready, and nothing happens but what it computes."""

    def __init__(self, images: ImageSet) -> None:
        fabric = one_device(PRECISION)
        self.device = fabric.device
        self.backbone, self.classifier = small_resnet(), LinearClassifier(128, CLASSES)
        self.modules = fabric.to_device(nn.ModuleList([self.backbone, self.classifier]))
        self.optimizer = torch.optim.SGD(self.modules.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
        self.pixels = images.images.to(self.device)
        self.labels = images.labels.to(self.device)

    def forward_backward(self, pixels: Tensor, labels: Tensor) -> None:
        """One batch, forward and backward, no optimiser."""
        self.modules.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=PRECISION == "bfloat16"):
            loss = F.cross_entropy(self.classifier(self.backbone(pixels)), labels)
        loss.backward()

    def epoch(self) -> None:
        """All batches, forward and backward."""
        self.modules.train()
        for pixels, labels in zip(self.pixels.split(BATCH), self.labels.split(BATCH), strict=True):
            self.forward_backward(pixels, labels)

    def step(self) -> None:
        """One batch with the optimiser."""
        self.forward_backward(self.pixels[:BATCH], self.labels[:BATCH])
        self.optimizer.step()

    def embeddings(self) -> Tensor:
        """All images forward, float32, in eval mode."""
        self.modules.eval()
        with torch.inference_mode():
            return torch.cat([self.backbone(pixels).cpu() for pixels in self.pixels.split(EMBEDDED_AT_A_TIME)])


def _training(images: ImageSet, bare: _Bare) -> dict:
    backbone, classifier = small_resnet(), LinearClassifier(128, CLASSES)
    recipe = Recipe(epochs=1, batch_size=BATCH, precision=PRECISION)

    def fit() -> None:
        independent.fit(backbone, classifier, images, recipe, seed=0, role="new")

    ratio, bare_seconds, seconds = in_turns(bare.epoch, fit, ROUNDS)
    return {
        "name": "training loop against bare forward and backward",
        "measured": ratio,
        "bound": 0.9,
        "better": "higher",
        "unit": "of its images/s",
        "detail": f"{_speed(images, seconds)} against {_speed(images, bare_seconds)} images/s, {setting()}",
    }


def _augmentation(bare: _Bare, augmentation: Callable, name: str, passes: int) -> dict:
    """An augmentation against the step that it feeds, which passes its outcome through the network `passes` times."""
    pixels, steps = bare.pixels[:BATCH], iter(range(10**9))

    def augment() -> None:
        augmentation(pixels, stream(0, "new", "augment", next(steps)))

    bare.modules.train()
    ratio, seconds, step_seconds = in_turns(augment, bare.step, BATCHES_IN_TURN)
    return {
        "name": name,
        "measured": ratio / passes,
        "bound": 0.1,
        "better": "lower",
        "unit": "of its time",
        "detail": f"{1e3 * seconds:.2g} ms against {passes} × {1e3 * step_seconds:.3g} ms, {setting()}",
    }


def _embedding(images: ImageSet, bare: _Bare) -> dict:
    def embedded() -> None:
        embed(bare.backbone, images, batch_size=EMBEDDED_AT_A_TIME)

    ratio, bare_seconds, seconds = in_turns(bare.embeddings, embedded, ROUNDS)
    return {
        "name": "embedding against bare forward",
        "measured": ratio,
        "bound": 0.9,
        "better": "higher",
        "unit": "of its images/s",
        "detail": f"{_speed(images, seconds)} against {_speed(images, bare_seconds)} images/s, "
        f"float32, batches of {EMBEDDED_AT_A_TIME}",
    }


def _speed(images: ImageSet, seconds: float) -> str:
    return f"{len(images) / seconds:,.0f}"


def setting() -> str:
    """What a line of the table says of precision and batches."""
    return f"{PRECISION}, batches of {BATCH} images 3 × 32 × 32"


def run() -> list[dict]:
    """Ratios of times taken in turn."""
    images = drawn_images()
    bare = _Bare(images)
    return [
        _training(images, bare),
        _augmentation(bare, crop_and_flip, "augmentation against a training step", 1),
        _augmentation(bare, two_views, "SimCLR's two views against a training step of both", 2),
        _embedding(images, bare),
    ]
