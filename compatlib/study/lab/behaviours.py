"""What a result depends on: behaviours, named parts of the code that decide numbers, each with a whole number.

A renamed variable, a mended message or a faster kernel changes no behaviour. Who changes what a part computes gives it
the next number here, and pins its values again (`tests/study/lab/test_pinned.py` holds every number to the values that
the code gives). Results of the earlier number, and of all that stands on it, are then shown as of an earlier version.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Chosen = Mapping[str, Any]


@dataclass(frozen=True)
class Behaviour:
    """A named part that decides numbers.

    number: from 1; it changes with what the part computes. modules: which hold it. on: behaviours that it stands on.
    when: whether it counts for the settings of a trainable (all that was chosen, defaults included); always by default.
    """

    number: int
    modules: tuple[str, ...]
    on: tuple[str, ...] = ()
    when: Callable[[Chosen], bool] | None = None


def _chosen(name: str, *values: Any) -> Callable[[Chosen], bool]:
    return lambda settings: settings.get(name) in values


def _is_head(settings: Chosen) -> bool:
    return (settings.get("network") or {}).get("hidden") is not None


def _on_features(settings: Chosen) -> bool:
    return "noise" in settings.get("augmentation", {})


_TRAINABLES, _MEASURES = "compatlib.study.lab.trainables", "compatlib.study.lab.measures"

BEHAVIOURS = {
    # What trains.
    "loop": Behaviour(1, ("compatlib.training", "compatlib.checkpoints", "compatlib.data.images")),
    "augment": Behaviour(1, ("compatlib.data.augment",), when=lambda settings: not _on_features(settings)),
    "noise": Behaviour(1, ("compatlib.data.augment", "compatlib.study.lab.images"), when=_on_features),
    "resnet": Behaviour(1, ("compatlib.models.resnet",), when=lambda settings: not _is_head(settings)),
    "heads": Behaviour(
        1, ("compatlib.models.heads", "compatlib.study.lab.images", "compatlib.data.by_encoder"), when=_is_head
    ),
    "classifiers": Behaviour(1, ("compatlib.models.classifiers",)),
    "slimmable": Behaviour(1, ("compatlib.models.slimmable", f"{_TRAINABLES}.widths"), on=("resnet", "heads")),
    "independent": Behaviour(
        1,
        ("compatlib.methods.independent", "compatlib.study.lab.roles", f"{_TRAINABLES}.base"),
        on=("loop", "augment", "noise", "resnet", "heads", "classifiers"),
    ),
    "bct": Behaviour(
        1,
        ("compatlib.methods.bct", "compatlib.methods.common", f"{_TRAINABLES}.upgrades", f"{_TRAINABLES}.widths"),
        on=("loop", "augment", "noise", "resnet", "heads", "classifiers"),
    ),
    "synthesis": Behaviour(
        1, ("compatlib.methods.bct", f"{_TRAINABLES}.upgrades"), on=("embedding",), when=_chosen("form", "B", "C", "D")
    ),
    "alignments": Behaviour(
        1,
        ("compatlib.methods.bct_baselines", "compatlib.methods.common", f"{_TRAINABLES}.upgrades"),
        on=("loop", "augment", "noise", "resnet", "heads", "classifiers"),
    ),
    "dual-tuning": Behaviour(
        1,
        (
            "compatlib.methods.dual_tuning",
            "compatlib.methods.bct",
            "compatlib.methods.common",
            f"{_TRAINABLES}.upgrades",
        ),
        on=("loop", "augment", "noise", "resnet", "heads", "classifiers", "embedding"),
    ),
    "simclr": Behaviour(
        1,
        ("compatlib.methods.side_information", f"{_TRAINABLES}.sides"),
        on=("loop", "augment", "noise", "resnet", "heads"),
    ),
    "projection": Behaviour(
        1, ("compatlib.methods.side_information", "compatlib.models.heads", f"{_TRAINABLES}.sides")
    ),
    "autoencoder": Behaviour(
        1,
        ("compatlib.methods.side_information", f"{_TRAINABLES}.sides"),
        on=("loop", "augment", "noise", "resnet", "heads"),
    ),
    "views": Behaviour(
        1,
        ("compatlib.methods.stored_views", f"{_TRAINABLES}.transformations"),
        on=("augment", "noise", "embedding"),
        when=_chosen("source", "views"),
    ),
    "fct": Behaviour(1, ("compatlib.methods.fct", f"{_TRAINABLES}.transformations"), on=("loop", "augment", "noise")),
    "fastfill": Behaviour(
        1,
        ("compatlib.methods.fct", f"{_TRAINABLES}.transformations", f"{_MEASURES}.backfilling"),
        on=("fct",),
        when=_chosen("objective", "fastfill"),
    ),
    "supernet": Behaviour(1, ("compatlib.models.supernet",), on=("resnet", "slimmable")),
    "cmp-nas": Behaviour(
        1,
        (
            "compatlib.methods.cmp_nas",
            f"{_TRAINABLES}.upgrades",
            f"{_TRAINABLES}.supernets",
        ),
        on=("independent", "bct", "alignments"),
    ),
    "path scores": Behaviour(
        1,
        ("compatlib.methods.path_scores", "compatlib.study.lab.images", "compatlib.study.lab.spaces"),
        on=("splits", "embedding", "retrieval"),
    ),
    "evolution": Behaviour(
        1, ("compatlib.methods.architecture_search", f"{_TRAINABLES}.supernets"), on=("path scores",)
    ),
    "sfsc": Behaviour(
        1,
        ("compatlib.methods.sfsc", f"{_TRAINABLES}.widths"),
        on=("loop", "augment", "noise", "slimmable", "classifiers"),
    ),
    "evidential": Behaviour(1, ("compatlib.methods.evidential",), when=_chosen("loss", "evidential")),
    "triplet": Behaviour(1, ("compatlib.methods.bct_baselines",), when=_chosen("loss", "triplet")),
    "pcgrad": Behaviour(
        1,
        ("compatlib.methods.conflicts", "compatlib.methods.sfsc"),
        when=_chosen("projection", "all", "full", "tensor"),
    ),
    "gradients": Behaviour(1, ("compatlib.study.lab.gradient_statistics", f"{_MEASURES}.gradients")),
    # What measures.
    "splits": Behaviour(1, ("compatlib.data.splits", "compatlib.study.lab.images")),
    "embedding": Behaviour(1, ("compatlib.embedding", "compatlib.study.lab.spaces")),
    "centring": Behaviour(1, ("compatlib.study.lab.spaces",), on=("embedding",)),
    "retrieval": Behaviour(
        1,
        (
            "compatlib.evaluation.retrieval",
            "compatlib.evaluation._ranking",
            "compatlib.evaluation._counting",
            "compatlib.evaluation._scores",
            "compatlib.evaluation._measured",
            "compatlib.study.lab.seed",
            f"{_MEASURES}.scores",
        ),
    ),
    "chance": Behaviour(1, ("compatlib.evaluation.chance", f"{_MEASURES}.scores")),
    "flips": Behaviour(1, ("compatlib.evaluation.compatibility", f"{_MEASURES}.scores"), on=("retrieval",)),
    "verification": Behaviour(
        1,
        (
            "compatlib.evaluation.verification",
            "compatlib.evaluation.compatibility",
            "compatlib.evaluation._counting",
            f"{_MEASURES}.scores",
        ),
        on=("retrieval",),
    ),
    "backfilling": Behaviour(1, ("compatlib.evaluation.backfilling", f"{_MEASURES}.backfilling"), on=("retrieval",)),
    "search": Behaviour(1, ("compatlib.evaluation.search", f"{_MEASURES}.cost")),
    "gallery": Behaviour(1, ("compatlib.gallery",)),
    "collapse": Behaviour(1, (f"{_MEASURES}.vectors",)),
    "likeness": Behaviour(1, (f"{_MEASURES}.vectors", "compatlib.methods.common")),
    "old classifier": Behaviour(1, (f"{_MEASURES}.classifier",), on=("bct",)),
    "row space": Behaviour(1, (f"{_MEASURES}.widths",)),
    "training accuracy": Behaviour(1, (f"{_MEASURES}.widths",), on=("embedding",)),
    "orders": Behaviour(1, ("compatlib.study.lab.orders",)),
    "flops": Behaviour(1, (f"{_MEASURES}.cost", f"{_MEASURES}.paths", "compatlib.models.encoders")),
    "paths": Behaviour(1, (f"{_MEASURES}.paths",)),
}


def versions(names: Iterable[str], settings: Chosen | None = None) -> dict[str, int]:
    """The numbers of these behaviours and of all that they stand on, by name.

    Args:
        names: of `BEHAVIOURS`.
        settings: all that a trainable was chosen with, defaults included; those that do not count under them are left
            out. None: all count.

    Raises:
        ValueError: an unknown name.
    """
    found: dict[str, int] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in BEHAVIOURS:
            raise ValueError(f"unknown behaviour {name!r}; choose one of {tuple(BEHAVIOURS)}, or add it to the table")
        behaviour = BEHAVIOURS[name]
        if name in found or (settings is not None and behaviour.when is not None and not behaviour.when(settings)):
            continue
        found[name] = behaviour.number
        waiting += behaviour.on
    return dict(sorted(found.items()))
