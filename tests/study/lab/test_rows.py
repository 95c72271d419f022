"""Tidy rows: described or refused, unambiguous, compared by version and joined across chapters."""

import math

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab.class_scores import cell_name
from compatlib.study.lab.row_files import publish, read
from compatlib.study.lab.rows import CLASS_CELL, COLUMNS, IS_CURRENT, Rows, groups, table
from tests.study.lab.made_rows import record, rows_of


def test_a_record_gives_typed_columns_and_empty_texts():
    frame = table([record(0.5, seed=3, x_name="share", x=1)])
    assert tuple(frame.columns) == COLUMNS
    assert frame.loc[0, "variant"] == ""
    assert frame.loc[0, "x"] == 1.0
    assert math.isnan(table([record(0.5)]).loc[0, "x"])
    assert [frame[name].dtype.kind for name in ("x", "seed", "value")] == ["f", "i", "f"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"metrics": "map"}, "unknown columns \\['metrics'\\]"), ({"lambda": 1}, "unknown columns \\['lambda'\\]")],
)
def test_a_record_with_an_unknown_column_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        table([record(0.5) | wrong])


@pytest.mark.parametrize("missing", ["metric", "seed", "value"])
def test_a_record_without_metric_seed_or_value_is_refused(missing):
    incomplete = record(0.5)
    del incomplete[missing]
    with pytest.raises(ValueError, match=f"lacks \\['{missing}'\\]"):
        table([record(0.5), incomplete])


def test_no_records_give_no_rows():
    assert len(table([])) == 0
    assert tuple(table([]).columns) == COLUMNS


def test_rows_are_picked_by_their_columns():
    measured = rows_of(record(0.1), record(0.2, 1), record(0.3, metric="map"), record(0.4, 2, x_name="share", x=0.5))
    assert measured.of(metric="map")["value"].tolist() == [0.3]
    assert measured.of(metric="cmc@1", seed=[0, 2])["value"].tolist() == [0.1, 0.4]
    assert measured.of(x=0.5)["seed"].tolist() == [2]
    with pytest.raises(ValueError, match=r"no row has \{'metric': 'cmc@7'\}"):
        measured.of(metric="cmc@7")
    with pytest.raises(ValueError, match=r"unknown column \['metrics'\]"):
        measured.of(metrics="map")


def test_the_rows_of_a_run_are_those_of_its_profile_and_data_set():
    measured = rows_of(record(0.1), record(0.2, profile="laptop"), record(0.3, dataset="digits"), record(0.4, seed=12))
    own = measured.run("study", "cifar100")
    assert own.frame["value"].tolist() == [0.1, 0.4]
    assert sorted(own.sidecar) == ["study/cifar100/0", "study/cifar100/12"]
    assert measured.run("study", "glyphs").frame.empty
    assert measured.run("study", "glyphs").sidecar == {}


def test_a_cell_is_a_value_a_seed_in_the_order_of_seeds():
    measured = rows_of(record(0.3, 2), record(0.1, 0), record(0.2, 1), record(0.9, 0, metric="map"))
    cell = measured.by_seed(metric="cmc@1")
    assert cell.to_dict() == {0: 0.1, 1: 0.2, 2: 0.3}
    assert list(cell.index) == [0, 1, 2]


# Versions.


def made_by_seed(**made: dict[str, str]) -> Rows:
    """`seed_3={"A": "x"}`: in seed 3 the case of method A was made from x; its value tells seed and method."""
    frames, sidecar = [], {}
    for name, methods in made.items():
        seed = int(name.removeprefix("seed_"))
        own = [rows_of(record(seed + ord(m) / 1000, seed, method=m), made=x) for m, x in methods.items()]
        frames += [each.frame for each in own]
        cases = [case for each in own for case in each.sidecar[f"study/cifar100/{seed}"]["cases"]]
        sidecar[f"study/cifar100/{seed}"] = {"cases": cases, "behaviours": {"loop": 1}}
    return Rows(pd.concat(frames, ignore_index=True) if frames else table([]), sidecar)


def case_of(method: str) -> str:
    return rows_of(record(0, method=method)).sidecar["study/cifar100/0"]["cases"][0]["case"]


def shown(measured: Rows, current: dict | None = None) -> dict[str, list[int]]:
    """Seeds by method of what is comparable."""
    current = None if current is None else {case_of(method): made for method, made in current.items()}
    found = measured.comparable(current)
    assert sorted(found.sidecar) == sorted(set(groups(found.frame)))
    assert all(found.frame["value"] == found.frame["seed"] + found.frame["method"].map(ord) / 1000)
    return {method: sorted(own["seed"]) for method, own in found.frame.groupby("method")}


def test_seeds_that_were_made_alike_are_comparable_and_the_largest_group_is_taken():
    measured = made_by_seed(
        seed_10={"A": "b"}, seed_0={"A": "a"}, seed_3={"A": "b"}, seed_5={"A": "a"}, seed_7={"A": "a"}
    )
    assert shown(measured) == {"A": [0, 5, 7]}
    assert shown(made_by_seed()) == {}


def test_the_present_versions_seeds_are_taken_however_few():
    measured = made_by_seed(seed_0={"A": "a"}, seed_1={"A": "a"}, seed_2={"A": "a"}, seed_3={"A": "b"})
    assert shown(measured, {"A": "b"}) == {"A": [3]}
    assert shown(measured, {"A": "c"}) == shown(measured, {}) == {"A": [0, 1, 2]}


def test_a_case_ages_without_the_others():
    measured = made_by_seed(seed_0={"A": "a", "B": "a"}, seed_1={"A": "a", "B": "b"}, seed_2={"A": "b", "B": "b"})
    assert shown(measured) == {"A": [0, 1], "B": [1, 2]}
    assert shown(measured, {"A": "b", "B": "b"}) == {"A": [2], "B": [1, 2]}
    current = {case_of("A"): "b", case_of("B"): "c"}
    found = measured.comparable(current).frame
    assert found.groupby("method")[IS_CURRENT].agg(list).to_dict() == {"A": [True], "B": [False, False]}
    assert measured.comparable(None).frame[IS_CURRENT].all()


@pytest.mark.parametrize("order", [("seed_2", "seed_11"), ("seed_11", "seed_2")])
def test_of_equally_large_groups_the_lowest_seeds_is_taken(order):
    made = {"seed_2": {"A": "a"}, "seed_11": {"A": "b"}}
    assert shown(made_by_seed(**{name: made[name] for name in order})) == {"A": [2]}


def test_a_row_stands_on_its_cases_behaviours():
    measured = rows_of(record(0.1, method="A"), record(0.2, 1, method="A"), record(0.3, method="B", x_name="w", x=1))
    for seed in (0, 1):
        about = measured.sidecar[f"study/cifar100/{seed}"]
        about["behaviours"] = {"loop": 1, "bct": 2, "pcgrad": 5}
        about["cases"][0]["behaviours"] = ["bct", "loop"]
    assert measured.behaviours(method="A") == {"loop": 1, "bct": 2}
    assert measured.behaviours(method="B", x=1.0) == {"loop": 1}
    measured.sidecar["study/cifar100/1"]["behaviours"]["bct"] = 3
    with pytest.raises(ValueError, match="different versions of 'bct'; make them comparable"):
        measured.behaviours(method="A")
    assert measured.behaviours(method="A", seed=1) == {"loop": 1, "bct": 3}
    with pytest.raises(ValueError, match="no row has"):
        measured.behaviours(method="C")


def test_rows_that_no_case_describes_are_told():
    measured = rows_of(
        record(0.1), record(0.2, metric="map"), record(0.3, 1), record(0.4, variant="v", x_name="w", x=2)
    )
    assert measured.undescribed().empty
    # A case's cells are matched one by one, its metrics as a list, and an empty x by the empty text.
    measured.sidecar["study/cifar100/0"]["cases"][0]["metrics"] = ["map"]
    assert measured.undescribed()["value"].tolist() == [0.1]
    measured.sidecar["study/cifar100/0"]["cases"][1]["cells"]["x"] = 3.0
    assert sorted(measured.undescribed()["value"]) == [0.1, 0.4]
    measured.sidecar["study/cifar100/1"]["cases"] = []
    assert sorted(measured.undescribed()["value"]) == [0.1, 0.3, 0.4]


# Cells of several chapters.


def test_missing_seeds_are_joined_from_whichever_chapter_measured_the_cell():
    own = rows_of(record(0.1, 0), record(0.2, 1)).comparable()
    other = rows_of(
        record(0.9, 1, chapter="bct"),
        record(0.3, 2, chapter="bct"),
        record(0.4, 3, chapter="bct", metric="map"),
        record(0.5, 4, chapter="bct", x_name="w", x=1),
    ).comparable()
    joined = own.joined([other])
    # What stands here stays, and no cell is added that does not.
    assert joined.by_seed(metric="cmc@1").to_dict() == {0: 0.1, 1: 0.2, 2: 0.3}
    assert set(joined.frame["chapter"]) == {"problem"}
    assert len(joined.frame) == 3
    assert own.joined([]).frame is own.frame
    third = rows_of(record(0.7, 2, chapter="fct"), record(0.8, 5, chapter="fct")).comparable()
    assert own.joined([other, third]).by_seed(metric="cmc@1").to_dict() == {0: 0.1, 1: 0.2, 2: 0.3, 5: 0.8}


def test_rows_of_an_earlier_version_are_not_joined():
    own = rows_of(record(0.1, 0)).comparable()
    earlier = rows_of(record(0.3, 2, chapter="bct")).comparable({"another": "made"})
    assert not earlier.frame[IS_CURRENT].any()
    assert own.joined([earlier]).by_seed(metric="cmc@1").to_dict() == {0: 0.1}


def scores(seed: int) -> ClassScores:
    """Of ten classes, four of which the old model knew."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 9, 10)
    return ClassScores(random.random(10) * counts, counts)


def share(own: ClassScores, mask=slice(None)) -> float:
    return own.sums[mask].sum() / own.counts[mask].sum()


KNOWN = np.arange(10) < 4


def with_class_scores(seeds: tuple[int, ...], split: str = "class-incremental", **columns) -> Rows:
    """Rank 1 on all, known and unknown queries, and the class scores behind them."""
    records, by_class = [], {}
    for seed in seeds:
        own = scores(seed)
        for subset, mask in {"all": KNOWN | ~KNOWN, "known": KNOWN, "unknown": ~KNOWN}.items():
            records.append(record(share(own, mask), seed, split=split, subset=subset, **columns))
        name = cell_name({"split": split, "subset": "all", "metric": "cmc@1", **columns}, CLASS_CELL)
        by_class[f"study/cifar100/{seed}"] = {name: own}
    return rows_of(*records, by_class=by_class, known_classes=4)


@pytest.mark.parametrize("columns", [{}, {"method": "BCT A", "variant": "v", "x_name": "weight", "x": 1 / 3}])
def test_a_measured_cell_has_its_class_scores_after_a_round_trip(tmp_path, columns):
    publish("problem", with_class_scores((0, 1, 2), **columns), tmp_path)
    again = read("problem", tmp_path)
    for subset, mask in (("all", KNOWN | ~KNOWN), ("known", KNOWN), ("unknown", ~KNOWN)):
        found = again.measured(subset=subset)
        assert found.values == again.by_seed(subset=subset).to_dict()
        assert np.array_equal(found.strata, KNOWN)
        for seed in range(3):
            (own,) = found.by_class[seed]
            assert np.array_equal(own.counts, np.where(mask, scores(seed).counts, 0))
            assert np.array_equal(own.sums, np.where(mask, scores(seed).sums, 0))


def test_a_split_whose_classes_were_all_known_has_no_strata():
    measured = with_class_scores((0, 1), split="open-set").measured(subset="all")
    assert measured.by_class is not None
    assert len(set(measured.strata)) == 1


def test_a_cell_without_the_class_scores_of_a_seed_has_none():
    measured = with_class_scores((0, 1))
    del measured.by_class["study/cifar100/1"]
    assert measured.measured(subset="known").by_class is None
    assert measured.measured(subset="all", seed=0).by_class is not None
    with pytest.raises(ValueError, match="several cells"):
        measured.measured(metric="cmc@1")


def test_class_scores_are_joined_with_their_rows():
    own, other = with_class_scores((0,)).comparable(), with_class_scores((0, 1), chapter="bct").comparable()
    other = Rows(other.frame, other.sidecar, with_class_scores((0, 1)).by_class)
    joined = own.joined([other]).measured(subset="all")
    assert set(joined.values) == set(joined.by_class) == {0, 1}


def test_class_scores_are_replaced_with_their_rows(tmp_path):
    publish("problem", with_class_scores((0, 1)), tmp_path)
    assert set(read("problem", tmp_path).by_class) == {"study/cifar100/0", "study/cifar100/1"}
    publish("problem", rows_of(record(0.5, 1)), tmp_path)
    assert set(read("problem", tmp_path).by_class) == {"study/cifar100/0"}
    publish("problem", rows_of(record(0.5, 0)), tmp_path)
    assert not (tmp_path / "problem.classes.npz").exists()


# Ambiguity.


@pytest.mark.parametrize("column", [name for name in COLUMNS if name not in ("seed", "value", "metric")])
@pytest.mark.parametrize("other_seed", [0, 1])
def test_a_choice_that_leaves_a_column_open_is_refused_with_its_name(column, other_seed):
    """Also where every seed has one row only: rows of two profiles or variants are never pooled."""
    measured = rows_of(record(0.1), record(0.2, other_seed, **{column: 0.5 if column == "x" else "other"}))
    with pytest.raises(ValueError, match=rf"several cells, which differ in \['{column}'\]"):
        measured.by_seed(metric="cmc@1")


def test_a_row_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="several cells"):
        rows_of(record(0.1), record(0.1)).by_seed(metric="cmc@1")
