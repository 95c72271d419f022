"""Search for a query network in a super-network: paths judged with its weights, evolution under a cap of operations.

The scheme is that of single path one shot (Guo et al., ECCV 2020; its released code): the best paths so far are the
parents, half of a generation are crossovers, half mutations, and what is over the cap or was there before is drawn
again. CMP-NAS (Duggal et al., CVPR 2021) puts a reward that sees the gallery in the accuracy's place. How it searched
is remembered, not read.

A search draws everything from its seed, and a path's score depends on the path alone. So a `Judge` keeps the scores in
a file, and who calls `evolve` again after an interruption goes through the same generations, and finds those scores.
Of Optuna, Nevergrad, DEAP and pymoo each would spare the drawing of parents and children alone, a dozen lines; that no
path is judged twice or over the cap, that all searches judge equally many, and the same generations after an
interruption without a pickled sampler would be code around each.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compatlib import training
from compatlib.data.images import Images, batches
from compatlib.embedding import Report, embed, evaluating, placement
from compatlib.evaluation import checks
from compatlib.evaluation.retrieval import evaluate
from compatlib.files import alone, replacing
from compatlib.models import supernet
from compatlib.models.supernet import SuperNet, norms_in_use

METRICS = ("mean_average_precision", "cmc@1", "cmc@5")
REWARDS: Mapping[str, Callable[["Score"], float]] = {
    "R1": lambda score: score.self_test,
    "R2": lambda score: score.cross_test,
    "R3": lambda score: score.self_test * score.cross_test,
}
TRIALS = 1_000  # of a path that is new and within the cap


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


@dataclass(frozen=True)
class Evolution:
    """How a search goes on; the defaults are SPOS's.

    population: paths judged in a generation. parents: how many of the best so far have children. crossovers, mutations:
    children of two and of one; the rest of a generation is drawn anew, as all of the first is. mutation_rate: chance of
    a block to be drawn anew in a mutation.

    Raises:
        ValueError: a number out of range, or more children than a generation has paths.
    """

    population: int = 50
    generations: int = 20
    parents: int = 10
    crossovers: int = 25
    mutations: int = 25
    mutation_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("population", "generations", "parents"):
            checks.whole_number(getattr(self, name), name, 1)
        for name in ("crossovers", "mutations"):
            checks.whole_number(getattr(self, name), name, 0)
        if self.crossovers + self.mutations > self.population:
            raise ValueError(
                f"{self.crossovers} crossovers and {self.mutations} mutations are more than the population of "
                f"{self.population}; ask for fewer children, or for a larger population"
            )
        if not 0 < self.mutation_rate <= 1:
            raise ValueError(f"mutation_rate must lie in (0, 1], got {self.mutation_rate}")


@dataclass(frozen=True)
class Search:
    """What a search found: the path of the highest reward, and every path that was judged, in order.

    A row of the history holds `generation` and `number` (from 1), `origin` (random, crossover or mutation), the fields
    of its `Score` and `reward`.
    """

    best: supernet.Path
    history: list[dict[str, Any]]


@dataclass(eq=False)
class Judge:
    """Scores of a super-network's paths: BatchNorm recalibrated, one set embedded, compared with itself and a gallery.

    No path is judged twice, and the gallery model embeds once. The super-network is left as it was. Searches by several
    rewards share a judge.

    network: trained, on any device. images: the search set, of classes that neither training nor the test has
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
        labels = self.images.labels, (self.gallery or self.images).labels
        found = evaluate(queries[:, :common], items[:, :common], *labels, exclude_self=self.gallery is None)
        return found.metrics()[self.metric]

    @cached_property
    def _gallery_vectors(self) -> Tensor:
        return self._embedded(self.gallery_backbone, self.gallery or self.images)

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


def evolve(
    judge: Judge,
    max_flops: float,
    *,
    seed: int,
    reward: str = "R2",
    evolution: Evolution = Evolution(),
    report: Report | None = None,
) -> Search:
    """Search the path of the highest reward under a cap of operations.

    Rewards: R1 = M(a, a), ordinary search; R2 = M(a, φ_g); R3 = R1 · R2 (remembered, not read: our reading). The first
    generation is the same for all rewards of a seed.

    Args:
        judge: scores paths; with a `record` an interrupted search goes on to the same result.
        max_flops: most operations of one image, as `SuperNet.flops` counts.
        seed: any integer.
        reward: one of `REWARDS`.
        evolution: sizes; `population` × `generations` different paths are judged.
        report: called after every path as (share done, text).

    Raises:
        ValueError: an unknown reward, a cap below the cheapest path, or too few paths under the cap.
    """
    checks.choice(reward, "reward", tuple(REWARDS))
    network = judge.network
    least = network.flops(network.cheapest())
    if not max_flops >= least:
        raise ValueError(f"max_flops is {max_flops}; the cheapest path has {least:,}: raise the cap")
    rows: list[dict[str, Any]] = []
    found: dict[supernet.Path, float] = {}
    total = evolution.generations * evolution.population
    for generation in range(evolution.generations):
        random = training.stream(seed, "search", generation)
        children = _children(network, found, evolution, max_flops, random)
        for number, (path, origin) in enumerate(children.items(), 1):
            score = judge(path)
            found[path] = REWARDS[reward](score)
            row = {"generation": generation + 1, "number": number, "origin": origin}
            rows.append(row | asdict(score) | {"reward": found[path]})
            if report is not None:
                told = f"generation {generation + 1} of {evolution.generations}, path {number} of {len(children)}"
                report(len(rows) / total, f"{told}, best {reward} {max(found.values()):.3f}")
    return Search(_best(found, 1)[0], rows)


def random_search(
    judge: Judge,
    max_flops: float,
    *,
    seed: int,
    reward: str = "R2",
    evolution: Evolution = Evolution(),
    report: Report | None = None,
) -> Search:
    """As many different paths as `evolve` judges, all drawn uniformly among those under the cap; as `evolve`."""
    childless = replace(evolution, crossovers=0, mutations=0)
    return evolve(judge, max_flops, seed=seed, reward=reward, evolution=childless, report=report)


def _best(found: Mapping[supernet.Path, float], count: int) -> list[supernet.Path]:
    """The paths of the highest rewards, of equal ones the earlier."""
    return sorted(found, key=found.get, reverse=True)[:count]


def _children(
    network: SuperNet,
    found: Mapping[supernet.Path, float],
    evolution: Evolution,
    max_flops: float,
    random: torch.Generator,
) -> dict[supernet.Path, str]:
    """A generation: new paths under the cap and where they come from."""
    parents, children = _best(found, evolution.parents), {}

    def parent() -> supernet.Path:
        return parents[int(torch.randint(len(parents), (), generator=random))]

    def mixed(first: supernet.Path, second: supernet.Path, rate: float) -> supernet.Path:
        """The first, with a block of the second wherever the chance falls."""
        taken = torch.rand(len(first), generator=random) < rate
        return tuple(b if other else a for a, b, other in zip(first, second, taken.tolist(), strict=True))

    def mutated() -> supernet.Path:
        return mixed(parent(), network.random_path(random), evolution.mutation_rate)

    draws = {
        "crossover": (evolution.crossovers if parents else 0, lambda: mixed(parent(), parent(), 0.5)),
        "mutation": (evolution.mutations if parents else 0, mutated),
        "random": (evolution.population, lambda: network.random_path(random)),
    }
    for origin, (count, draw) in draws.items():
        wanted, trials = min(len(children) + count, evolution.population), TRIALS * count
        while len(children) < wanted and trials:
            path, trials = draw(), trials - 1
            if path not in found and network.flops(path) <= max_flops:
                children.setdefault(path, origin)
    if len(children) < evolution.population:
        raise ValueError(
            f"only {len(children)} of {evolution.population} new paths were found within max_flops={max_flops:,}, with "
            f"{len(found)} judged before; raise the cap, or judge fewer paths"
        )
    return children


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
        total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
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
