"""Behaviours: the table is whole, and a number moves exactly the keys and cases that stand on it."""

import dataclasses
import importlib.util
import itertools
import pkgutil

import pytest

import compatlib.methods
import compatlib.models
from compatlib.study.lab import behaviours
from compatlib.study.lab.behaviours import BEHAVIOURS, versions
from compatlib.study.lab.make import key, with_ancestors
from compatlib.study.lab.trainables import Trainable
from compatlib.study.publishing.chapters import CHAPTERS
from compatlib.study.settings import Settings, settings

PUBLISHED = [chapter for chapter in CHAPTERS.values() if chapter.is_published]


@pytest.fixture
def numbered(monkeypatch):
    """Gives a behaviour its next number."""

    def bump(name: str) -> None:
        monkeypatch.setitem(BEHAVIOURS, name, dataclasses.replace(BEHAVIOURS[name], number=BEHAVIOURS[name].number + 1))

    return bump


def below(name: str) -> set[str]:
    """A behaviour and all that it stands on, by recursion."""
    return {name}.union(*map(below, BEHAVIOURS[name].on))


# The table.


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_behaviour_has_a_number_and_modules_that_exist(name):
    behaviour = BEHAVIOURS[name]
    assert behaviour.number >= 1
    assert behaviour.modules
    assert all(importlib.util.find_spec(module) for module in behaviour.modules)
    assert name not in set().union(*map(below, behaviour.on))


@pytest.mark.parametrize("package", [compatlib.methods, compatlib.models], ids=lambda package: package.__name__)
def test_every_method_and_network_that_the_study_uses_belongs_to_a_behaviour(package):
    held = {module for behaviour in BEHAVIOURS.values() for module in behaviour.modules}
    unused = {"compatlib.models.pretrained"}  # no profile has such networks yet
    own = {f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)}
    assert own - unused <= held


def test_every_behaviour_is_stood_on_by_some_case():
    found = set()
    for chapter, profile in itertools.product(CHAPTERS.values(), ("smoke", "laptop")):
        run = chapter.prepared(settings({"profile": profile}, chapter.knobs))
        for case in chapter.cases(run, run.seeds[0]):
            found |= set(case.behaviours(run))
    of_no_row = {"gallery"}  # what a user runs, of which only seconds are measured
    assert found - of_no_row == set(BEHAVIOURS) - of_no_row


# Versions.


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_versions_are_the_numbers_of_all_that_is_stood_on(name, numbered):
    numbered("loop")
    assert versions([name]) == {each: BEHAVIOURS[each].number for each in below(name)}
    assert list(versions([name])) == sorted(versions([name]))


def test_versions_of_several_are_those_of_each():
    names = list(BEHAVIOURS)
    assert versions(names) == {name: behaviour.number for name, behaviour in sorted(BEHAVIOURS.items())}
    assert versions([]) == {}
    assert versions(["bct", "bct", "loop"]) == versions(["bct"])


@pytest.mark.parametrize(
    ("name", "counts", "counts_not"),
    [
        ("synthesis", [{"form": "B"}, {"form": "C"}], [{"form": "A"}, {}]),
        ("evidential", [{"loss": "evidential"}], [{"loss": "triplet"}, {"loss": "joint"}, {}]),
        ("heads", [{"network": {"hidden": 8}}], [{"network": {"hidden": None}}, {}]),
        ("resnet", [{"network": {"hidden": None}}, {}], [{"network": {"hidden": 8}}]),
        ("noise", [{"augmentation": {"noise": 0.0}}], [{"augmentation": {"flip": True}}, {}]),
        ("augment", [{"augmentation": {"flip": True}}, {}], [{"augmentation": {"noise": 0.0}}]),
        ("triplet", [{"loss": "triplet"}], [{"loss": "evidential"}, {"loss": "cross-entropy"}]),
        ("pcgrad", [{"projection": each} for each in ("all", "full", "tensor")], [{"projection": "none"}, {}]),
        ("views", [{"source": "views"}], [{"source": "images"}]),
        ("fastfill", [{"objective": "fastfill"}], [{"objective": "fct"}]),
    ],
)
def test_a_behaviour_counts_where_it_is_chosen(name, counts, counts_not):
    of_features = {"noise", "heads"} - {name}
    assert all(set(versions([name], chosen)) == below(name) - of_features for chosen in counts)
    # What only it stands on is left out with it.
    assert all(versions([name], chosen) == {} for chosen in counts_not)
    assert set(versions([name])) == below(name)


def test_an_unknown_behaviour_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown behaviour 'bctt'; choose one of \('loop', .*, or add it to the tab"):
        versions(["loop", "bctt"])


def test_a_behaviour_that_stands_on_an_unknown_one_is_refused(monkeypatch):
    monkeypatch.setitem(BEHAVIOURS, "new", behaviours.Behaviour(1, ("compatlib.training",), on=("lop",)))
    with pytest.raises(ValueError, match="unknown behaviour 'lop'"):
        versions(["new"])


# Keys.


@pytest.fixture(scope="module")
def plan() -> dict[str, tuple[Settings, Trainable]]:
    """Everything that the chapters which publish models make, by name."""
    found = {}
    for chapter in PUBLISHED:
        run = settings({"profile": "smoke", "dataset": "digits"}, chapter.knobs)
        for case in chapter.cases(run, run.seeds[0]):
            found |= {what.name: (run, what) for what in with_ancestors(case.trainables)}
    return found


def keys_of(plan: dict[str, tuple[Settings, Trainable]]) -> dict[str, str]:
    return {name: key(run, what, 0) for name, (run, what) in plan.items()}


@pytest.fixture(scope="module")
def keys(plan) -> dict[str, str]:
    return keys_of(plan)


ALIGNED = ("L2", "CE + distance", "triplet", "contrastive", "distillation", "two-way triplet")
DUAL = ("Dual-Tuning", "prototypes", "mutual")
EXTENDED = ("BCT B", "BCT C")
SEVERAL_WIDTHS = ("joint", "Asymmetric-S", "BCT-S", "CE + projection", "SFSC")
FITTED = ("fct from", "fastfill from")
LEVEL_1 = (", initialised", ", logit distillation", ", gallery term")


def of_paths(name: str) -> bool:
    """A super-network, a search of it, or a network of a path."""
    return "super-network" in name or name.startswith("query on")


def of_search(name: str) -> bool:
    """A search, or what it found."""
    return " in super-network" in name


def of_queries(name: str) -> bool:
    return of_paths(name) or any(word in name for word in LEVEL_1)


# By behaviour, what the names of all that stands on it tell; an upgrade's name has those of its ancestors.
MOVED = {
    "loop": lambda name: True,
    "resnet": lambda name: True,
    "classifiers": lambda name: not name.startswith(("SimCLR", "autoencoder")),
    "independent": lambda name: not name.startswith(("SimCLR", "autoencoder", *SEVERAL_WIDTHS)),
    "bct": lambda name: any(word in name for word in ("BCT A", *EXTENDED, "one-to-one BCT")) or of_queries(name),
    "synthesis": lambda name: any(word in name for word in EXTENDED),
    "alignments": lambda name: any(f", {word}" in name for word in ALIGNED) or of_queries(name),
    "dual-tuning": lambda name: any(f", {word}" in name for word in DUAL),
    "simclr": lambda name: "SimCLR" in name,
    "autoencoder": lambda name: "autoencoder" in name,
    "slimmable": lambda name: name.startswith((*SEVERAL_WIDTHS, "independent", "one-to-one BCT")) or of_paths(name),
    "sfsc": lambda name: name.startswith(SEVERAL_WIDTHS),
    "gradients": lambda name: name.startswith(SEVERAL_WIDTHS[1:]),
    "evidential": lambda name: "SFSC" in name or "uncertainty" in name,
    "triplet": lambda name: name.startswith("Asymmetric-S"),
    "pcgrad": lambda name: "SFSC" in name or "projection" in name,
    "fct": lambda name: name.startswith(FITTED),
    "fastfill": lambda name: name.startswith("fastfill"),
    "views": lambda name: name.startswith(FITTED) and not name.endswith("on images"),
    "embedding": lambda name: (
        any(word in name for word in EXTENDED)
        or any(f", {word}" in name for word in DUAL)
        or (name.startswith(FITTED) and not name.endswith("on images"))
        or of_search(name)
    ),
    "supernet": of_paths,
    "cmp-nas": of_queries,
    **dict.fromkeys(("path scores", "evolution", "splits", "retrieval"), of_search),
    "augment": lambda name: True,
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_a_number_moves_exactly_the_keys_of_what_stands_on_it(plan, keys, numbered, behaviour):
    numbered(behaviour)
    moved = {name for name, found in keys_of(plan).items() if found != keys[name]}
    stands_on_it = MOVED.get(behaviour, lambda name: False)  # what measures trains nothing
    assert moved == set(filter(stands_on_it, plan))
    assert bool(moved) == (behaviour in MOVED)
