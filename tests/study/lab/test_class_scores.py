"""Scores by class: the same after a round trip, one file a chapter, and damage is named."""

import json
import math

import numpy as np
import pytest

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab.class_scores import cell_name, read, write
from compatlib.study.lab.rows import CLASS_CELL


def scores(seed: int, classes: int = 5) -> ClassScores:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 9, classes)
    return ClassScores(random.random(classes) * counts, counts)


def same(first: ClassScores, second: ClassScores) -> bool:
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(first.sums, second.sums)
    return first.sums.dtype == np.float64 and first.counts.dtype == np.int64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "problem.classes.npz"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_read_again(path, seed):
    """Groups of other numbers of classes, as those of two data sets are."""
    groups = {
        f"study/cifar100/{seed}": {f"cell {n}": scores(10 * seed + n) for n in (2, 0, 1)},
        "smoke/glyphs/0": {"λ = ½": scores(99, classes=3)},
    }
    write(path, groups)
    again = read(path)
    assert {group: set(cells) for group, cells in again.items()} == {group: set(c) for group, c in groups.items()}
    assert all(same(again[group][cell], own) for group, cells in groups.items() for cell, own in cells.items())


def test_cells_of_one_group_may_be_of_other_numbers_of_classes(path):
    """As of a split whose last classes are not among its queries: they have none."""
    short, long = scores(1, classes=3), scores(2)
    write(path, {"heads/cifar100_lite/100": {"closed": long, "open": short}})
    again = read(path)["heads/cifar100_lite/100"]
    assert same(again["closed"], long)
    assert same(again["open"], ClassScores(np.append(short.sums, [0.0, 0.0]), np.append(short.counts, [0, 0])))


def test_nothing_to_write_leaves_no_file(path):
    assert read(path) == {}
    write(path, {"study/cifar100/0": {}})
    assert not path.exists()
    write(path, {"study/cifar100/0": {"cell": scores(0)}, "study/cifar100/1": {}})
    assert list(read(path)) == ["study/cifar100/0"]
    write(path, {})
    assert not path.exists()


def test_the_order_does_not_matter(path):
    cells = {f"cell {n}": scores(n) for n in range(4)}
    groups = {"b/c/1": cells, "a/c/0": {"cell": scores(9)}}
    write(path, groups)
    before = path.read_bytes()
    write(path, {name: dict(reversed(own.items())) for name, own in reversed(groups.items())})
    assert path.read_bytes() == before


def test_a_kill_while_it_is_written_leaves_the_old_one(path, monkeypatch):
    write(path, {"a/b/0": {"cell": scores(0)}})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, {"a/b/0": {"cell": scores(1)}})
    assert same(read(path)["a/b/0"]["cell"], scores(0))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"?" * 99,
        lambda data: data.replace(data[150:170], b"?" * 20, 1),  # within what is compressed
    ],
)
def test_a_damaged_file_is_named(path, damage):
    write(path, {"a/b/0": {"cell": scores(0)}})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"problem\.classes\.npz is damaged .*restore it from the repository"):
        read(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("counts", None),
        ("counts", np.ones((2, 2), np.int32)),
        ("counts", np.ones((1, 3), np.int32)),
        ("sums", np.full((1, 2), np.nan)),
        ("sums", np.array([["a", "b"]])),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_named(path, part, value):
    parts = {"cells": np.array(["cell"]), "sums": np.zeros((1, 2)), "counts": np.ones((1, 2), np.int32), part: value}
    with path.open("wb") as file:
        np.savez_compressed(file, **{f"a/b/0/{name}": each for name, each in parts.items() if each is not None})
    with pytest.raises(ValueError, match=r"problem\.classes\.npz is damaged"):
        read(path)


def test_a_cell_is_named_by_its_columns():
    row = {"split": "s", "method": "BCT A", "metric": "cmc@1", "x_name": "weight", "x": 3, "seed": 5, "value": 0.5}
    name = cell_name(row, CLASS_CELL)
    own = json.loads(name)
    assert set(own) == set(CLASS_CELL)
    assert (own["split"], own["method"], own["variant"], own["x"]) == ("s", "BCT A", "", 3.0)
    # Neither by run, seed and value, nor by the order of what is told.
    assert cell_name(dict(reversed(row.items())) | {"seed": 6, "value": 0.1, "profile": "p"}, CLASS_CELL) == name
    assert cell_name(row | {"x": 3.5}, CLASS_CELL) != name != cell_name(row | {"variant": "v"}, CLASS_CELL)


def test_a_cell_without_x_has_one_name():
    """In a record the `x` is missing, in rows that were read it is NaN."""
    row = {"metric": "cmc@1"}
    names = {cell_name(row | own, CLASS_CELL) for own in ({}, {"x": ""}, {"x": math.nan}, {"x": np.float64("nan")})}
    assert len(names) == 1
    assert cell_name(row | {"x": 0}, CLASS_CELL) == cell_name(row | {"x": np.float64(0)}, CLASS_CELL) not in names
