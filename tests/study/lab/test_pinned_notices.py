"""The pinned values notice: each formula is changed a little, in process, and its behaviour is no longer as pinned."""

import importlib
import types
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from compatlib.study.lab.behaviours import BEHAVIOURS
from tests.study.lab.pinned import evaluation, trainables, training, values
from tests.study.lab.pinned.mutations import MUTATIONS, Mutation, functions, mutated

PINNED = values.read()
REGISTERED = (evaluation, trainables, training)  # imported for the computations that they register


def _first_difference(name: str) -> str | None:
    # Loops that are not compiled divide by zero aloud.
    with np.errstate(all="ignore"), closing(values.differences(name, PINNED[name]["values"])) as found:
        return next(found, None)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.behaviour}: {each.text[:40]!r}")
def test_changed_formula_is_noticed(mutation: Mutation):
    with mutated(*mutation[1:]):
        assert _first_difference(mutation.behaviour) is not None


def test_every_behaviour_and_module_is_mutated():
    """What the table says holds a behaviour does: a formula that stands there decides pinned values."""
    expected = {(name, module) for name, behaviour in BEHAVIOURS.items() for module in behaviour.modules}
    assert {(each.behaviour, each.module) for each in MUTATIONS} == expected
    assert min(Counter(each.behaviour for each in MUTATIONS).values()) >= 2


@pytest.mark.parametrize(
    ("behaviour", "module"),
    [
        ("loop", "compatlib.training"),
        ("slimmable", "compatlib.study.lab.trainables.widths"),
        ("flips", "compatlib.study.lab.measures.scores"),
        ("retrieval", "compatlib.evaluation._counting"),  # compiled, and not
    ],
)
def test_exchange_alone_changes_nothing(behaviour, module):
    text = next(each.text for each in MUTATIONS if each.module == module)
    with mutated(module, text, text):
        assert _first_difference(behaviour) is None


@pytest.mark.parametrize("module", sorted({each.module for each in MUTATIONS}))
def test_everything_is_restored(module):
    live = importlib.import_module(module)
    before, mutation = _state(live), next(each for each in MUTATIONS if each.module == module)
    with mutated(*mutation[1:]):
        assert _state(live) != before
    assert _state(live) == before


def _state(owner: types.ModuleType | type) -> dict[str, object]:
    """The names of a module or class, with the code of its functions and what its own classes hold."""
    found = {}
    for name, value in vars(owner).items():
        if isinstance(value, type) and value.__module__ == getattr(owner, "__module__", owner.__name__):
            value = _state(value)
        elif functions(value):
            value = [(each.__code__, each.__defaults__, each.__kwdefaults__) for each in functions(value)]
        elif isinstance(value, dict):
            value = dict(value)
        found[name] = value
    return found


def test_text_must_stand_once():
    with (
        pytest.raises(ValueError, match="holds 'no such text' 0 times"),
        mutated("compatlib.training", "no such text", ""),
    ):
        pass
