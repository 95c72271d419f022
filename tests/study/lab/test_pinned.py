"""The table of behaviours holds the code to pinned values; who changes what a part computes gives it a new number."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from compatlib.study.lab.behaviours import BEHAVIOURS, Behaviour
from tests.study.lab.pinned import evaluation, trainables, training, values

PROJECT = Path(__file__).resolve().parents[3]
PINNED = values.read()
REGISTERED = (evaluation, trainables, training)  # imported for the computations that they register

# What numbers pass through, and what no behaviour needs to hold.
LAB = "compatlib.study.lab"
ROOTS = (f"{LAB}.experiment", f"{LAB}.measures", f"{LAB}.trainables")
WITHOUT_NUMBERS = {
    "images that are read: their digest stands in every key": (
        "compatlib.data.sources",
        "compatlib.data.folders",
        "compatlib.data.image_folders",
        "compatlib.data.decoding",
        "compatlib.data.features",
        "compatlib.data.fixtures",
        "compatlib.data.reidentification",
        "compatlib.data.deepfashion2",
        "compatlib.data.glyphs",
        "compatlib.data.glyph_characters",
        "compatlib.data.glyph_identities",
        "compatlib.data.glyph_nuisances",
    ),
    "arguments that are refused, or taken as what they are": ("compatlib.evaluation.checks", "compatlib.data.tensors"),
    "intervals over rows, of which no row is made": (
        "compatlib.evaluation.statistics",
        "compatlib.evaluation._resampling",
    ),
    "what is chosen: it stands in every key": ("compatlib.study.settings",),
    "what is made, found, kept and told, whatever its numbers": tuple(
        f"{LAB}.{name}"
        for name in ("artifacts", "behaviours", "cases", "class_scores", "experiment", "make", "parallel", "progress")
    )
    + tuple(f"{LAB}.{name}" for name in ("provenance", "row_files", "rows", "sidecars")),
    "how files are written": ("compatlib.files",),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_behaviour_is_as_pinned(name):
    """Outside of the tolerance: the behaviour comes back, or it gets a new number and is pinned again."""
    pin = f"make pin NAME={name!r}"
    assert name in values.COMPUTATIONS, f"no computation pins `{name}`: write one under @pins({name!r})"
    assert name in PINNED, f"`{name}` was never pinned: {pin}"
    number = BEHAVIOURS[name].number
    assert PINNED[name]["number"] == number, f"`{name}` has number {number} in the table: pin it again, {pin}"
    found = list(values.differences(name, PINNED[name]["values"]))
    assert not found, "\n".join(
        [
            f"the behaviour of `{name}` has changed: bring it back, or give it a new number and pin it again ({pin})",
            *found,
        ]
    )


def test_nothing_is_pinned_that_the_table_has_not():
    assert set(PINNED) <= set(BEHAVIOURS), "take them out: make pin NAME=…"
    assert set(values.COMPUTATIONS) <= set(BEHAVIOURS)


def _file(module: str) -> Path | None:
    path = PROJECT / Path(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()), None)


def _imported(module: str) -> Iterator[str]:
    """The project's own modules that a module names in an import, wherever it does."""
    for node in ast.walk(ast.parse(_file(module).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.startswith("compatlib.") and _file(name))


def _reached() -> set[str]:
    """The modules that a trainable, a measure or a chapter's run uses, however far away; packages left out."""
    found, waiting = set(), list(ROOTS)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imported(module)
    return {module for module in found if _file(module).name != "__init__.py"}


def test_every_module_that_decides_numbers_is_held():
    held = {module for behaviour in BEHAVIOURS.values() for module in behaviour.modules}
    exempt = {module for modules in WITHOUT_NUMBERS.values() for module in modules}
    reached = _reached()
    assert reached - held - exempt == set(), "name them in the `modules` of a behaviour, and pin what they compute"
    assert held <= reached, "no trainable and no measure uses them: they hold no behaviour"
    assert exempt <= reached - held


def test_what_a_behaviour_stands_on_is_in_the_table():
    assert {on for behaviour in BEHAVIOURS.values() for on in behaviour.on} <= set(BEHAVIOURS)


class TestSummary:
    def test_whole_numbers_and_words_are_exact(self):
        assert values.summary(torch.tensor([[1, 2], [3, 4]])) == ["exact", 1, 2, 3, 4]
        assert values.summary(["a", "b"]) == ["exact", "a", "b"]
        assert values.summary(True) == ["exact", True]

    def test_many_whole_numbers_are_a_digest(self):
        first, second = torch.arange(100), torch.arange(100)
        second[57] = 0
        assert values.summary(first) == values.summary(first.clone())
        assert not values.is_near(values.summary(second), values.summary(first))

    @pytest.mark.parametrize(("dtype", "within", "beyond"), [(torch.float64, 1e-11, 1e-7), (torch.float32, 1e-6, 1e-3)])
    @pytest.mark.parametrize("count", [3, 500])
    @pytest.mark.parametrize("place", [0, 1, 2, -1])
    def test_floats_are_near_or_not(self, dtype, within, beyond, count, place):
        drawn = torch.randn(count, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        near, far = drawn.clone(), drawn.clone()
        near[place] += within
        far[place] += beyond * count
        pinned = values.summary(drawn.to(dtype))
        assert values.is_near(values.summary(near.to(dtype)), pinned)
        assert not values.is_near(values.summary(far.to(dtype)), pinned)

    def test_another_order_kind_or_number_is_noticed(self):
        drawn = torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        pinned, swapped = values.summary(drawn), drawn.clone()
        swapped[[7, 8]] = drawn[[8, 7]]
        assert not values.is_near(values.summary(swapped), pinned)
        assert not values.is_near(values.summary(drawn.float()), pinned)
        assert not values.is_near(values.summary(drawn[:3]), pinned)

    def test_not_a_number_is_near_itself_alone(self):
        pinned = values.summary([1.0, float("nan"), float("-inf")])
        assert values.is_near(values.summary([1.0, float("nan"), float("-inf")]), pinned)
        assert not values.is_near(values.summary([1.0, 2.0, float("-inf")]), pinned)
        assert not values.is_near(values.summary([1.0, float("nan"), 2.0]), pinned)

    def test_unknown_kind_is_refused(self):
        with pytest.raises(ValueError, match="float16 cannot be pinned: choose a kind of"):
            values.summary(torch.zeros(2, dtype=torch.float16))


class TestPin:
    """`make pin`, on a table of one behaviour."""

    @pytest.fixture
    def path(self, tmp_path, monkeypatch):
        self.table, self.found = {"bct": Behaviour(1, ())}, {"loss": 1.0}

        def computation() -> Iterator:
            yield from self.found.items()

        monkeypatch.setattr(values, "BEHAVIOURS", self.table)
        monkeypatch.setattr(values, "COMPUTATIONS", {"bct": [computation]})
        return tmp_path / "values.json"

    def test_first(self, path):
        assert values.pin("bct", path) == "bct 1: 1 values pinned"
        assert json.loads(path.read_text()) == {"bct": {"number": 1, "values": {"computation: loss": ["float64", 1.0]}}}
        assert list(values.differences("bct", values.read(path)["bct"]["values"])) == []

    def test_change_needs_a_new_number(self, path):
        values.pin("bct", path)
        before = path.read_text()
        self.found["loss"] = 1.1
        with pytest.raises(ValueError, match=r"`bct` has changed \(computation: loss\).*or give it number 2 in the"):
            values.pin("bct", path)
        assert path.read_text() == before
        self.table["bct"] = Behaviour(2, ())
        assert values.pin("bct", path) == "bct 2: 1 values pinned"
        assert values.read(path)["bct"]["values"] == {"computation: loss": ["float64", 1.1]}

    def test_number_never_goes_down(self, path):
        self.table["bct"] = Behaviour(2, ())
        values.pin("bct", path)
        self.table["bct"] = Behaviour(1, ())
        with pytest.raises(ValueError, match="bct is 1 in the table, pinned is 2"):
            values.pin("bct", path)

    def test_new_values_are_added_at_any_time(self, path):
        values.pin("bct", path)
        self.found |= {"loss": 1.0 + 1e-12, "gradient": 2.0}
        assert "gradient was never pinned" in next(values.differences("bct", values.read(path)["bct"]["values"]))
        assert values.pin("bct", path) == "bct 1: 1 values added"
        assert list(values.read(path)["bct"]["values"].values()) == [["float64", 1.0], ["float64", 2.0]]

    def test_value_that_is_gone_is_told(self, path):
        self.found["gradient"] = 2.0
        values.pin("bct", path)
        del self.found["gradient"]
        (told,) = values.differences("bct", values.read(path)["bct"]["values"])
        assert told == "computation: gradient is pinned and no longer computed: take it out of values.json"
        with pytest.raises(ValueError, match="computation: gradient"):
            values.pin("bct", path)

    def test_what_the_table_has_not(self, path):
        values.pin("bct", path)
        del self.table["bct"]
        assert values.pin("bct", path) == "bct is taken out"
        assert values.read(path) == {}
        with pytest.raises(ValueError, match="unknown behaviour 'bct'; choose one of"):
            values.pin("bct", path)

    def test_name_twice(self, path, monkeypatch):
        def twice() -> Iterator:
            yield "loss", 1.0
            yield "loss", 2.0

        monkeypatch.setattr(values, "COMPUTATIONS", {"bct": [twice]})
        with pytest.raises(ValueError, match="two values under the name 'twice: loss'"):
            values.pin("bct", path)
