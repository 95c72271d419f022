"""Tidy rows: merged by group, described or refused, unambiguous, and the same after a round trip."""

import errno
import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab import rows
from compatlib.study.lab.class_scores import cell_name
from compatlib.study.lab.rows import CELL, CLASS_CELL, COLUMNS, IS_CURRENT, Rows, groups, publish, read, table


def record(value: float, seed: int = 0, **changes) -> dict:
    base = {"profile": "study", "dataset": "cifar100", "chapter": "problem", "metric": "cmc@1"}
    return base | {"seed": seed, "value": value} | changes


CASE = [name for name in CELL if name not in ("profile", "dataset", "chapter", "metric", "subset")]


def described(frame: pd.DataFrame, made: str = "this", **about) -> dict:
    """A sidecar's group: a case for every cell of these rows, whatever its metrics and subsets."""
    cases = {}
    for row in frame.to_dict("records"):
        cells = {name: "" if row[name] != row[name] else row[name] for name in CASE}
        new = {"case": json.dumps(cells), "cells": cells, "metrics": [], "made": made, "behaviours": ["loop"]}
        own = cases.setdefault(json.dumps(cells), new)
        own["metrics"] = sorted({*own["metrics"], row["metric"]})
    return {"cases": list(cases.values()), "behaviours": {"loop": 1}, **about}


def rows_of(*records: dict, made: str = "this", by_class: dict | None = None, **about) -> Rows:
    frame = table(records)
    names = np.array(groups(frame))
    sidecar = {name: described(frame[names == name], made, **about) for name in dict.fromkeys(groups(frame))}
    return Rows(frame, sidecar, by_class or {})


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True))
    return True


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


def test_what_is_published_is_read_again_to_six_decimals(tmp_path):
    generator = np.random.default_rng(0)
    values = [*generator.random(40), *generator.normal(0, 1e-3, 10), 0.0, 1.0, 1e7 / 3, -0.25, math.nan]
    measured = rows_of(*(record(value, x_name="share", x=number / 20) for number, value in enumerate(values)))
    assert publish("problem", measured, tmp_path) == tmp_path / "problem.csv"
    again = read("problem", tmp_path)
    np.testing.assert_allclose(again.frame["value"], values, rtol=0, atol=5.1e-7)
    np.testing.assert_allclose(again.frame["x"], np.arange(len(values)) / 20, rtol=0, atol=5.1e-7)
    assert same(again.frame.drop(columns=["value", "x"]), measured.frame.drop(columns=["value", "x"]))
    assert again.sidecar == measured.sidecar


@pytest.mark.parametrize("text", ["NA", "None", "nan", "1.50", 'with "quotes", commas\nand lines', "λ = ½", " x "])
def test_texts_are_read_again_as_they_are(tmp_path, text):
    publish("problem", rows_of(record(0.5, variant=text)), tmp_path)
    assert read("problem", tmp_path).frame.loc[0, "variant"] == text


def test_publishing_what_was_read_changes_no_byte(tmp_path):
    publish("problem", rows_of(*(record(0.1234567 * seed, seed, x=1 / 3) for seed in range(12))), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    publish("problem", read("problem", tmp_path), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_order_of_publishing_does_not_matter(tmp_path):
    parts = [rows_of(record(0.1 * seed, seed), record(0.2, seed, metric="map")) for seed in range(3)]
    results = set()
    for number, order in enumerate([parts, parts[::-1], [parts[1], parts[0], parts[2]]]):
        for part in order:
            publish("problem", part, tmp_path / str(number))
        folder = tmp_path / str(number)
        results.add((folder / "problem.csv").read_text() + (folder / "problem.json").read_text())
    assert len(results) == 1


def test_a_group_that_is_there_is_replaced_and_the_others_stay(tmp_path):
    first = [record(0.1), record(0.2, metric="map"), record(0.3, 1), record(0.4, profile="laptop")]
    publish("problem", rows_of(*first, made="old"), tmp_path)
    publish("problem", rows_of(record(0.9), made="new"), tmp_path)
    again = read("problem", tmp_path)
    assert sorted(again.frame["value"]) == [0.3, 0.4, 0.9]
    assert {group: about["cases"][0]["made"] for group, about in again.sidecar.items()} == {
        "laptop/cifar100/0": "old",
        "study/cifar100/0": "new",
        "study/cifar100/1": "old",
    }


@pytest.mark.parametrize("renaming", range(3))
def test_an_interruption_never_leaves_rows_under_a_description_of_other_rows(tmp_path, monkeypatch, renaming):
    """Three files are put in place: the rows that stay, the description, the rows."""
    publish("problem", rows_of(record(0.1), record(0.3, 1), made="old"), tmp_path)
    real, renamed = os.replace, []

    def replace(source, destination):
        if len(renamed) == renaming:
            raise KeyboardInterrupt
        renamed.append(destination)
        real(source, destination)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        publish("problem", rows_of(record(0.9), made="new"), tmp_path)
    monkeypatch.undo()
    left = read("problem", tmp_path)
    expected = {"old": 0.1, "new": 0.9}
    for row in left.run("study", "cifar100").frame.itertuples():
        made = left.sidecar[f"study/cifar100/{row.seed}"]["cases"][0]["made"]
        assert row.value == (0.3 if row.seed == 1 else expected[made])
    publish("problem", rows_of(record(0.9), made="new"), tmp_path)
    assert sorted(read("problem", tmp_path).frame["value"]) == [0.3, 0.9]


def test_a_kill_while_a_file_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    publish("problem", rows_of(record(0.1)), tmp_path)
    before = read("problem", tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        publish("problem", rows_of(record(0.2, 1)), tmp_path)
    assert same(read("problem", tmp_path).frame, before.frame)


@pytest.mark.parametrize("file", range(4))
def test_a_full_disk_leaves_all_files_as_they_were(tmp_path, monkeypatch, file):
    """Four are written: rows, scores by class, the description, the rows that stay."""
    cell = cell_name(table([record(0.1)]).iloc[0].to_dict(), CLASS_CELL)
    by_class = {"study/cifar100/0": {cell: ClassScores(np.ones(2), np.ones(2, np.int64))}}
    publish("problem", rows_of(record(0.1), record(0.3, 1), made="old", by_class=by_class), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, opened = io.open, []

    def opens(path, mode="r", *options, **others):
        if "w" in mode:
            opened.append(path)
            if len(opened) == file + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, mode, *options, **others)

    monkeypatch.setattr("io.open", opens)
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\); what was there is as it was"):
        publish("problem", rows_of(record(0.9), made="new", by_class=by_class), tmp_path)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(opened) == file + 1


def test_rows_that_nothing_describes_are_neither_published_nor_read(tmp_path):
    undescribed = Rows(table([record(0.1), record(0.2, 1)]), {"study/cifar100/0": {"cases": []}})
    with pytest.raises(ValueError, match=r"\['study/cifar100/1'\] cannot be published"):
        publish("problem", undescribed, tmp_path)
    lost = rows_of(record(0.1), record(0.2, metric="map"))
    lost.sidecar["study/cifar100/0"]["cases"][0]["metrics"] = ["map"]
    with pytest.raises(ValueError, match=r"no case of the sidecar describes 1 rows, such as .*'metric': 'cmc@1'"):
        publish("problem", lost, tmp_path)
    assert list(tmp_path.iterdir()) == []
    publish("problem", rows_of(record(0.1), record(0.2, 1)), tmp_path)
    (tmp_path / "problem.json").write_text(json.dumps({"study/cifar100/0": {}}))
    with pytest.raises(ValueError, match=r"problem\.csv has rows of \['study/cifar100/1'\], which its sidecar"):
        read("problem", tmp_path)


def test_publishing_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no row of chapter 'problem'"):
        publish("problem", Rows(table([]), {}), tmp_path)


def test_a_chapter_without_published_rows_has_none(tmp_path):
    assert read("absent", tmp_path).frame.empty
    assert read("absent", tmp_path).sidecar == {}


@pytest.mark.parametrize("kept", [0, 3, -4, -8, -9, -15])
@pytest.mark.parametrize("name", ["problem.csv", "problem.json"])
def test_a_cut_off_file_is_named(tmp_path, name, kept):
    """The CSV's last line ends in `,,,0,0.500000`: it is cut within the value, before it, and before the seed."""
    publish("problem", rows_of(record(0.5, metric="a"), record(0.5)), tmp_path)
    path = tmp_path / name
    path.write_text(path.read_text().rstrip("\n")[:kept])
    with pytest.raises(ValueError, match=r"problem\.(csv|json)"):
        read("problem", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("metric,x_name", "metrics,x_name"),
        lambda text: text.replace("profile,dataset", "dataset,profile"),
        lambda text: text.replace("0.500000", "half"),
        lambda text: text.replace("0.500000", ""),
        lambda text: text.replace(",0,0.5", ",0.5,0.5"),
        lambda text: text.replace("0.500000", "0.500000,more"),
        lambda text: "not a table",
    ],
)
def test_a_damaged_table_is_named(tmp_path, change):
    publish("problem", rows_of(record(0.5)), tmp_path)
    path = tmp_path / "problem.csv"
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(ValueError, match=r"problem\.csv or its sidecar is damaged .*restore both"):
        read("problem", tmp_path)


def test_a_missing_sidecar_is_reported(tmp_path):
    publish("problem", rows_of(record(0.5)), tmp_path)
    (tmp_path / "problem.json").unlink()
    with pytest.raises(ValueError, match=r"problem\.csv or its sidecar is damaged"):
        read("problem", tmp_path)


def test_the_papers_values_are_percentages_with_their_sources():
    quoted = rows.paper_values()
    assert len(quoted) > 100
    assert {"paper", "source", "dataset", "method", "query", "gallery", "metric", "kind", "value"} <= set(quoted)
    assert pd.to_numeric(quoted["value"]).between(-100, 100).all()
    assert (quoted[["paper", "source", "metric", "kind"]] != "").all(axis=None)
    fct = quoted[(quoted["paper"] == "FCT") & (quoted["query"] == "old") & (quoted["metric"] == "cmc@1")]
    assert 34.2 in fct["value"].tolist()


@pytest.mark.parametrize("chapter", sorted(path.stem for path in rows.PUBLISHED.glob("*.json")))
def test_what_the_study_has_published_is_whole_and_described(chapter):
    published = read(chapter)
    assert set(published.frame["chapter"]) == {chapter}
    assert set(groups(published.frame)) == set(published.sidecar)
    assert published.undescribed().empty
    named = [name for name in CELL if name != "x"]
    # A cell that stands twice in a seed could not be picked.
    assert not published.frame.fillna({"x": -1e9})[[*named, "x", "seed"]].duplicated().any()


PUBLISHING = """
import sys
from pathlib import Path
from compatlib.study.lab.rows import Rows, publish, table
folder, seeds = Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3]))
for seed in seeds:
    record = {"profile": "study", "dataset": "digits", "metric": "cmc@1", "seed": seed, "value": 0.1}
    case = {"case": "a", "cells": {}, "metrics": ["cmc@1"], "made": "a", "behaviours": []}
    publish("problem", Rows(table([record]), {f"study/digits/{seed}": {"cases": [case]}}), folder)
"""


def test_two_processes_that_publish_at_the_same_time_lose_nothing(tmp_path):
    command = [sys.executable, "-c", PUBLISHING, str(tmp_path)]
    runs = [subprocess.Popen([*command, str(first), str(first + 10)]) for first in (0, 10)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert list(read("problem", tmp_path).frame["seed"]) == list(range(20))
