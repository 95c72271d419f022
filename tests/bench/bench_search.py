"""What a search adds to the bare passes of its candidates, and a super-network to the steps of its paths.

All are ratios of times taken in turn.
"""

import torch
from bench_training import BATCH, CLASSES, PRECISION, in_turns, setting
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.methods import bct, cmp_nas
from compatlib.methods.cmp_nas import Judge
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.models.supernet import Path, SuperNet
from compatlib.training import Recipe, one_device

CALIBRATION, SEARCHED, AT_A_TIME = 2_000, 3_000, 500  # images of a candidate's evaluation, as `splits.for_search`
STEPS, ROUNDS, PATHS = 5, 5, 2
RECIPE = Recipe(epochs=1, batch_size=BATCH, learning_rate=0.01, precision=PRECISION)


def _images(count: int, first: int, last: int) -> ImageSet:
    """Random images of classes first … last − 1."""
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, first + torch.arange(count) % (last - first), tuple(map(str, range(CLASSES))))


def _paths(network: SuperNet) -> list[Path]:
    random = torch.Generator().manual_seed(0)
    return [network.random_path(random) for _ in range(PATHS)]


def _evaluation() -> dict:
    network, calibration, searched = SuperNet(), _images(CALIBRATION, 0, 50), _images(SEARCHED, 50, 60)
    judge = Judge(network, searched, small_resnet(), calibration, batch_size=AT_A_TIME)
    device, paths = one_device().device, _paths(network)
    judge(network.start)  # the gallery's embeddings, which a search computes once
    alone = [network.extract(path).to(device) for path in paths]
    batches = [images.images.to(device).split(AT_A_TIME) for images in (calibration, searched)]

    def judged() -> None:
        judge.scores.clear()
        for path in paths:
            judge(path)

    def bare() -> None:
        with torch.inference_mode():
            for backbone in alone:
                for mode, pixels in zip((True, False), batches, strict=True):
                    backbone.train(mode)
                    for each in pixels:
                        backbone(each).cpu()

    ratio, seconds, bare_seconds = in_turns(judged, bare, ROUNDS)
    return {
        "name": "a candidate's evaluation against its bare forward passes",
        "measured": ratio,
        "bound": 1.3,
        "better": "lower",
        "unit": "× their time",
        "detail": f"{seconds / PATHS:.2f} against {bare_seconds / PATHS:.2f} s a path, {CALIBRATION:,} images to "
        f"recalibrate by, {SEARCHED:,} embedded and compared with both models, float32",
    }


def _step() -> dict:
    network, images = SuperNet(), _images(STEPS * BATCH, 0, CLASSES)
    own, gallery = LinearClassifier(128, CLASSES), LinearClassifier(128, CLASSES)
    paths = _paths(network)
    alone = nn.ModuleList(network.extract(path) for path in paths)

    def of_supernet() -> None:
        for path in paths:
            network.random_path = lambda generator, path=path: path
            cmp_nas.fit_supernet(network, own, images, RECIPE, seed=0, gallery_classifier=gallery)

    def of_paths() -> None:
        for backbone in alone:
            bct.fit(backbone, own, images, RECIPE, seed=0, role="supernet", old_classifier=gallery)

    ratio, seconds, alone_seconds = in_turns(of_supernet, of_paths, ROUNDS)
    steps = 1e3 / STEPS / PATHS
    return {
        "name": "a super-network's step against a step of the sampled path alone",
        "measured": ratio,
        "bound": 1.1,
        "better": "lower",
        "unit": "× its time",
        "detail": f"{steps * seconds:.3g} against {steps * alone_seconds:.3g} ms, {setting()}",
    }


def run() -> list[dict]:
    """Ratios of times taken in turn."""
    return [_evaluation(), _step()]
