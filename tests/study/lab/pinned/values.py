"""Values that hold the table of behaviours to the code: how they are computed, summed up, compared and stored.

A computation is a generator of (name, value) on drawn data, under `pins(behaviour)`. Of a value a few numbers are
stored, with a kind that says how near a later value must come.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compatlib.study.lab.behaviours import BEHAVIOURS
from tests.study.lab.pinned.drawn import drawn_data

FILE = Path(__file__).with_name("values.json")
# How far a value may lie from the pinned one, relative to the largest number of its summary. Processors differ in the
# last bits of a sum, here by a tenth of each bound at most. `trained`: a float32 training carries such bits on, and a
# pixel or a half may be rounded otherwise. `rounded`: autocast to bfloat16.
TOLERANCES = {"float64": 1e-9, "float32": 2e-5, "trained": 1e-3, "rounded": 2e-2}
FEW, FIRST = 8, 4

Entry = list[Any]
Values = dict[str, Entry]
Computation = Callable[[], Iterator[tuple[str, Any]]]
COMPUTATIONS: dict[str, list[Computation]] = defaultdict(list)


def pins(behaviour: str) -> Callable[[Computation], Computation]:
    """Decorator: a generator of (name, value) that belongs to a behaviour."""

    def register(computation: Computation) -> Computation:
        COMPUTATIONS[behaviour].append(computation)
        return computation

    return register


@dataclass(frozen=True)
class As:
    """A value of another kind than its type says."""

    kind: str
    value: Any


def single(value: Any) -> As:
    """Computed in float32, whatever type it has now."""
    return As("float32", value)


def trained(value: Any) -> As:
    """Of a training in float32 through BatchNorm."""
    return As("trained", value)


def summary(value: Any) -> Entry:
    """[kind, numbers…]: whole numbers and words all, or their digest; of many floats a weighted mean, rms and three."""
    kind, value = (value.kind, value.value) if isinstance(value, As) else (None, value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "biuU" and kind is None:
        whole = array.ravel().tolist()
        if len(whole) <= 4 * FEW:
            return ["exact", *whole]
        return ["exact", *whole[:FIRST], hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]]
    kind, digits = kind or array.dtype.name, 12 if array.dtype == np.float64 and kind is None else 8
    if kind not in TOLERANCES:
        raise ValueError(f"a value of {array.dtype} cannot be pinned: choose a kind of {tuple(TOLERANCES)}")
    flat = array.astype(np.float64).ravel()
    if len(flat) > FEW:
        weighted = np.mean(flat * np.cos(np.arange(len(flat))))
        flat = np.array([weighted, np.sqrt(np.mean(flat**2)), flat[0], flat[len(flat) // 2], flat[-1]])
    return [kind, *(float(f"{number:.{digits}g}") for number in flat)]


def computed(behaviour: str) -> Iterator[tuple[str, Entry]]:
    """The entries of a behaviour as the code gives them now, one after the other; each name once."""
    names = set()
    for computation in COMPUTATIONS[behaviour]:
        with drawn_data():
            for part, value in computation():
                name = f"{computation.__name__}: {part}"
                if name in names:
                    raise ValueError(f"{behaviour} has two values under the name {name!r}")
                names.add(name)
                yield name, summary(value)


def is_near(entry: Entry, pinned: Entry) -> bool:
    """Whether a value is what was pinned, within the tolerance of its kind."""
    if entry[0] != pinned[0] or len(entry) != len(pinned):
        return False
    if entry[0] == "exact":
        return entry == pinned
    bound = TOLERANCES[entry[0]] * max((abs(number) for number in pinned[1:] if math.isfinite(number)), default=0.0)
    return all(_is_equal(a, b) or abs(a - b) <= bound for a, b in zip(entry[1:], pinned[1:], strict=True))


def _is_equal(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def differences(behaviour: str, pinned: Values) -> Iterator[str]:
    """What is no longer as it was pinned, told one by one."""
    missing = dict(pinned)
    for name, entry in computed(behaviour):
        before = missing.pop(name, None)
        if before is None:
            yield f"{name} was never pinned: make pin NAME={behaviour!r} adds it"
        elif not is_near(entry, before):
            yield f"{name} is {entry}, pinned was {before}"
    yield from (f"{name} is pinned and no longer computed: take it out of {FILE.name}" for name in missing)


def read(path: Path = FILE) -> dict[str, dict[str, Any]]:
    """Behaviour → its `number` and its `values`."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(stored: dict[str, dict[str, Any]], path: Path = FILE) -> None:
    """A line an entry, so that a change shows what it changes."""
    blocks = []
    for name, about in sorted(stored.items()):
        lines = [f"   {json.dumps(each)}: {json.dumps(entry)}" for each, entry in about["values"].items()]
        values = ",\n".join(lines)
        blocks.append(f' {json.dumps(name)}: {{\n  "number": {about["number"]},\n  "values": {{\n{values}\n  }}\n }}')
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def pin(behaviour: str, path: Path = FILE) -> str:
    """Pin a behaviour's values, which its number in the table must allow; says what was done.

    Values that were never pinned are added at any time. One that the table no longer has is taken out.

    Raises:
        ValueError: the behaviour is unknown, or values have changed and its number has not gone up.
    """
    stored, behaviours = read(path), BEHAVIOURS
    if behaviour not in behaviours:
        if behaviour not in stored:
            raise ValueError(f"unknown behaviour {behaviour!r}; choose one of {tuple(behaviours)}")
        del stored[behaviour]
        write(stored, path)
        return f"{behaviour} is taken out"
    number, before = behaviours[behaviour].number, stored.get(behaviour)
    values = dict(computed(behaviour))
    if before is not None and number < before["number"]:
        raise ValueError(f"{behaviour} is {number} in the table, pinned is {before['number']}; a number only goes up")
    if before is not None and number == before["number"]:
        changed = [name for name, entry in before["values"].items() if not is_near(values.get(name, [""]), entry)]
        if changed:
            raise ValueError(
                f"the behaviour of `{behaviour}` has changed ({'; '.join(changed)}) and its number has not: bring it "
                f"back, or give it number {number + 1} in the table"
            )
        added = {name: entry for name, entry in values.items() if name not in before["values"]}
        stored[behaviour] = {"number": number, "values": before["values"] | added}
        write(stored, path)
        return f"{behaviour} {number}: {len(added)} values added"
    stored[behaviour] = {"number": number, "values": values}
    write(stored, path)
    return f"{behaviour} {number}: {len(values)} values pinned"
