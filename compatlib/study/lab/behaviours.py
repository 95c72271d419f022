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


BEHAVIOURS = {
    # What trains.
    "loop": Behaviour(1, ("compatlib.training", "compatlib.checkpoints", "compatlib.data.images")),
    "augment": Behaviour(1, ("compatlib.data.augment",)),
    "resnet": Behaviour(1, ("compatlib.models.resnet",)),
    "classifiers": Behaviour(1, ("compatlib.models.classifiers",)),
    "slimmable": Behaviour(1, ("compatlib.models.slimmable",), on=("resnet",)),
    "independent": Behaviour(1, ("compatlib.methods.independent",), on=("loop", "augment", "resnet", "classifiers")),
    "bct": Behaviour(
        1, ("compatlib.methods.bct", "compatlib.methods.common"), on=("loop", "augment", "resnet", "classifiers")
    ),
    "synthesis": Behaviour(1, ("compatlib.methods.bct",), on=("embedding",), when=_chosen("form", "B", "C")),
    "alignments": Behaviour(
        1,
        ("compatlib.methods.bct_baselines", "compatlib.methods.common"),
        on=("loop", "augment", "resnet", "classifiers"),
    ),
    "simclr": Behaviour(1, ("compatlib.methods.side_information",), on=("loop", "augment", "resnet")),
    "autoencoder": Behaviour(1, ("compatlib.methods.side_information",), on=("loop", "augment", "resnet")),
    "views": Behaviour(
        1, ("compatlib.methods.stored_views",), on=("augment", "embedding"), when=_chosen("source", "views")
    ),
    "fct": Behaviour(1, ("compatlib.methods.fct",), on=("loop", "augment")),
    "fastfill": Behaviour(1, ("compatlib.methods.fct",), on=("fct",), when=_chosen("objective", "fastfill")),
    "sfsc": Behaviour(1, ("compatlib.methods.sfsc",), on=("loop", "augment", "slimmable", "classifiers")),
    "evidential": Behaviour(1, ("compatlib.methods.evidential",), when=_chosen("loss", "evidential")),
    "triplet": Behaviour(1, ("compatlib.methods.bct_baselines",), when=_chosen("loss", "triplet")),
    "pcgrad": Behaviour(1, ("compatlib.methods.conflicts",), when=_chosen("projection", "all", "full", "tensor")),
    "gradients": Behaviour(1, ("compatlib.study.lab.gradient_statistics",)),
    # What measures.
    "splits": Behaviour(1, ("compatlib.data.splits", "compatlib.study.lab.images")),
    "embedding": Behaviour(1, ("compatlib.embedding",)),
    "retrieval": Behaviour(
        1,
        (
            "compatlib.evaluation.retrieval",
            "compatlib.evaluation._ranking",
            "compatlib.evaluation._counting",
            "compatlib.evaluation._scores",
        ),
    ),
    "chance": Behaviour(1, ("compatlib.evaluation.chance",)),
    "flips": Behaviour(1, ("compatlib.evaluation.compatibility",), on=("retrieval",)),
    "verification": Behaviour(
        1, ("compatlib.evaluation.verification", "compatlib.evaluation.compatibility"), on=("retrieval",)
    ),
    "backfilling": Behaviour(1, ("compatlib.evaluation.backfilling",), on=("retrieval",)),
    "search": Behaviour(1, ("compatlib.evaluation.search",)),
    "gallery": Behaviour(1, ("compatlib.gallery",)),
    "collapse": Behaviour(1, ("compatlib.study.lab.measures.vectors",)),
    "likeness": Behaviour(1, ("compatlib.study.lab.measures.vectors", "compatlib.methods.common")),
    "old classifier": Behaviour(1, ("compatlib.study.lab.measures.classifier",), on=("bct",)),
    "orders": Behaviour(1, ("compatlib.study.lab.spaces",)),
    "flops": Behaviour(1, ("compatlib.study.lab.measures.cost",)),
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
