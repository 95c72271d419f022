"""What paths of a super-network are worth with its weights: BatchNorm recalibrated, embeddings compared.

A path's score depends on the path alone, so a `Judge` keeps the scores in a file: what was judged once is found.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compatlib.data.images import Images, batches
from compatlib.embedding import embed, evaluating, placement
from compatlib.evaluation import checks
from compatlib.evaluation.retrieval import evaluate
from compatlib.files import alone, replacing
from compatlib.models import supernet
from compatlib.models.supernet import SuperNet, norms_in_use

METRICS = ("mean_average_precision", "cmc@1", "cmc@5")


@dataclass(frozen=True)
class Score:
    """What a path is worth with the super-network's weights.

    path: its choices in one text, a space between. self_test: M(a, a), of its embeddings against its own. cross_test:
    M(a, φ_g), against the gallery model's; both in [0, 1]. flops: of one image. seconds: that it took.
    """

    path: str
    self_test: float
    cross_test: float
    flops: int
    seconds: float


@dataclass(eq=False)
class Judge:
    """Scores of a super-network's paths: BatchNorm recalibrated, one set embedded, compared with itself and a gallery.

    No path is judged twice, and the gallery model embeds once. The super-network is left as it was. Searches by several
    rewards share a judge.

    network: trained; put on the device. images: the search set, of classes that neither training nor the test has
        (`data.splits.for_search`). gallery_backbone: the gallery model, images → embeddings. calibration: training
        images for `recalibrate`; None leaves the statistics as they are. gallery: images to be found; by default those
        of the search set, of which none finds itself. metric: M, one of `METRICS`. batch_size, precision: of `embed`.
        record: a file that keeps the scores, for later calls and other processes.

    Raises:
        ValueError: an unknown metric, a calibration with a class of the search set (which would be trained on), or a
            record that is damaged or was made of something else; it is left as it is.
    """

    network: SuperNet
    images: Images
    gallery_backbone: nn.Module
    calibration: Images | None
    gallery: Images | None = None
    metric: str = "mean_average_precision"
    batch_size: int = 500
    precision: str = "float32"
    record: Path | None = None
    scores: dict[str, Score] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        checks.choice(self.metric, "metric", METRICS)
        placement(self.precision).to_device(self.network)  # all at once: a path takes only its own layers along
        if self.calibration is not None:
            _check_apart(self.images, self.calibration)
        if self.record is not None:
            self.record = Path(self.record)
            self._read()

    def __call__(self, path: supernet.Path) -> Score:
        """The score of a path; errors as `SuperNet.switch`, and as `evaluate` where embeddings are not finite."""
        name = " ".join(self.network.checked(path))
        if name not in self.scores:
            self._read()  # another process may have judged it meanwhile
        if name not in self.scores:
            self._keep(self._judged(path, name))
        return self.scores[name]

    def _judged(self, path: supernet.Path, name: str) -> Score:
        gallery_vectors = self._gallery_vectors  # the first time takes longer
        begun = time.monotonic()
        with self.network.at(path) as own, _statistics_kept(own):
            if self.calibration is not None:
                recalibrate(own, self.calibration, batch_size=self.batch_size, precision=self.precision)
            vectors = self._embedded(own, self.images)
            own_gallery = vectors if self.gallery is None else self._embedded(own, self.gallery)
        tests = [self._tested(vectors, items) for items in (own_gallery, gallery_vectors)]
        return Score(name, *tests, self.network.flops(path), time.monotonic() - begun)

    def _tested(self, queries: Tensor, items: Tensor) -> float:
        """M of queries against a gallery, whose vectors may be shorter or longer: the first coordinates count."""
        common = min(queries.shape[1], items.shape[1])
        labels = self.images.labels, self._items.labels
        found = evaluate(queries[:, :common], items[:, :common], *labels, exclude_self=self.gallery is None)
        return found.metrics()[self.metric]

    @cached_property
    def _gallery_vectors(self) -> Tensor:
        return self._embedded(self.gallery_backbone, self._items)

    @property
    def _items(self) -> Images:
        return self.images if self.gallery is None else self.gallery

    def _embedded(self, backbone: nn.Module, images: Images) -> Tensor:
        return embed(backbone, images, batch_size=self.batch_size, precision=self.precision)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What the scores depend on."""
        sets = {"images": self.images, "gallery": self.gallery, "calibration": self.calibration}
        network = self.network.state_dict() if self.calibration is None else dict(self.network.named_parameters())
        models = {"network": network, "gallery model": self.gallery_backbone.state_dict()}
        return (
            {name: images.digest() if images is not None else None for name, images in sets.items()}
            | {name: _digest(tensors) for name, tensors in models.items()}
            | {"metric": self.metric, "batch_size": self.batch_size, "precision": self.precision}
        )

    def _read(self) -> None:
        """Take in the scores of the record, if there is one."""
        if self.record is None or not self.record.exists():
            return
        try:
            found = json.loads(self.record.read_text("utf-8"))
            identity, scores = found["identity"], [Score(**each) for each in found["scores"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.record} is no record of a search, or damaged ({error}); it is left as it is: give another "
                "file, or delete it"
            ) from error
        if differing := [name for name, value in self._identity.items() if identity.get(name) != value]:
            raise ValueError(
                f"{self.record} keeps the scores of another search: {', '.join(differing)} differ; it is left as it "
                "is: give another file, or delete it"
            )
        self.scores |= {score.path: score for score in scores}

    def _keep(self, score: Score) -> None:
        if self.record is None:
            self.scores[score.path] = score
            return
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.record.with_name(f".{self.record.name}.lock"), f"writes {self.record}"):
            self._read()
            self.scores.setdefault(score.path, score)
            with replacing(self.record) as temporary:
                scores = [asdict(each) for each in self.scores.values()]
                temporary.write_text(json.dumps({"identity": self._identity, "scores": scores}), "utf-8")


def recalibrate(backbone: nn.Module, images: Images, *, batch_size: int = 500, precision: str = "float32") -> nn.Module:
    """Take BatchNorm's statistics anew from images as they are: means over batches. Returns the backbone.

    The images go in an order of their own, always the same, for neighbours in a set may be of one class; what fills no
    whole batch is left out. Of a super-network: of the current path alone (`with network.at(path) as own`). Source:
    SPOS.

    Args:
        backbone: uint8 images (N, C, H, W) → embeddings.
        images: of the training set; 2,000 are plenty.
        batch_size: images at a time.
        precision: as `embed`.

    Raises:
        ValueError: no image.
    """
    if not len(images):
        raise ValueError("there is no image to recalibrate by; give some of the training set")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    whole = len(images) // batch_size * batch_size or len(images)
    norms, fabric = norms_in_use(backbone), placement(precision)
    fabric.to_device(backbone)
    shares = [norm.momentum for norm in norms]
    try:
        with evaluating(backbone), torch.no_grad(), fabric.autocast():
            for norm in norms:
                norm.train().reset_running_stats()
                norm.momentum = None  # the mean over all batches
            for inputs, _, _ in batches(images, order[:whole], batch_size):
                backbone(fabric.to_device(inputs))
    finally:
        for norm, share in zip(norms, shares, strict=True):
            norm.momentum = share
    return backbone


@contextmanager
def _statistics_kept(backbone: nn.Module) -> Iterator[None]:
    """BatchNorm's statistics come back as they were."""
    kept = [(buffer, buffer.clone()) for norm in norms_in_use(backbone) for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of tensors and their names."""
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        total.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _check_apart(images: Images, calibration: Images) -> None:
    """Refuse a class of the search set among the training images; sets that name other classes cannot be compared."""
    shared = set(images.labels.tolist()) & set(calibration.labels.tolist())
    if images.class_names == calibration.class_names and shared:
        told = ", ".join(images.class_names[label] for label in sorted(shared)[:3])
        raise ValueError(
            f"the search set has classes of the training images ({told}): a search needs classes of its own, such as "
            "data.splits.for_search gives"
        )
