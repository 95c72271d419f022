"""Tidy rows: merged by group, described or refused, unambiguous, and the same after a round trip."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from compatlib.study.lab import rows
from compatlib.study.lab.rows import COLUMNS, Rows, groups, publish, read, table


def record(value: float, seed: int = 0, **changes) -> dict:
    base = {"profile": "study", "dataset": "cifar100", "chapter": "problem", "metric": "cmc@1"}
    return base | {"seed": seed, "value": value} | changes


def rows_of(*records: dict, made_from: str = "this") -> Rows:
    frame = table(records)
    return Rows(frame, {group: {"made_from": made_from} for group in groups(frame)})


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


def versions(**made_from: dict) -> Rows:
    """A row for each seed, `seed_3={…}`, made from what is given."""
    seeds = {int(name.removeprefix("seed_")): about for name, about in made_from.items()}
    frame = table([record(seed / 10, seed) for seed in seeds])
    return Rows(frame, {f"study/cifar100/{seed}": {"made_from": about} for seed, about in seeds.items()})


def shown_seeds(measured: Rows, current: dict | None = None) -> list[int]:
    shown = measured.comparable(current)
    assert sorted(shown.sidecar) == sorted(set(groups(shown.frame)))
    return sorted(shown.frame["seed"])


def test_seeds_that_were_made_alike_are_comparable_and_the_largest_group_is_taken():
    a, b = {"code": "a", "data": 1}, {"code": "b", "data": 1}
    measured = versions(seed_10=b, seed_0=a, seed_3=b, seed_5=a, seed_7=a)
    assert shown_seeds(measured) == [0, 5, 7]
    assert shown_seeds(versions(seed_0={"code": "a", "data": 1}, seed_1={"data": 1, "code": "a"})) == [0, 1]
    assert shown_seeds(versions()) == []


def test_the_present_versions_seeds_are_taken_however_few():
    a, b = {"code": "a", "data": 1}, {"code": "b", "data": 1}
    measured = versions(seed_0=a, seed_1=a, seed_2=a, seed_3=b)
    assert shown_seeds(measured, {"code": "b"}) == [3]
    assert shown_seeds(measured, {"code": "c"}) == [0, 1, 2]
    assert shown_seeds(measured, {}) == [0, 1, 2]


@pytest.mark.parametrize("order", [("seed_2", "seed_11"), ("seed_11", "seed_2")])
def test_of_equally_large_groups_the_lowest_seeds_is_taken(order):
    made = {"seed_2": {"code": "a"}, "seed_11": {"code": "b"}}
    assert shown_seeds(versions(**{name: made[name] for name in order})) == [2]


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
    publish("problem", rows_of(*first, made_from="old"), tmp_path)
    publish("problem", rows_of(record(0.9), made_from="new"), tmp_path)
    again = read("problem", tmp_path)
    assert sorted(again.frame["value"]) == [0.3, 0.4, 0.9]
    assert {group: about["made_from"] for group, about in again.sidecar.items()} == {
        "laptop/cifar100/0": "old",
        "study/cifar100/0": "new",
        "study/cifar100/1": "old",
    }


@pytest.mark.parametrize("write", range(3))
def test_an_interruption_never_leaves_rows_under_a_description_of_other_rows(tmp_path, monkeypatch, write):
    publish("problem", rows_of(record(0.1), record(0.3, 1), made_from="old"), tmp_path)
    real, calls = rows._write, []

    def interrupted(path, text):
        if len(calls) == write:
            raise KeyboardInterrupt
        calls.append(path)
        real(path, text)

    monkeypatch.setattr(rows, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish("problem", rows_of(record(0.9), made_from="new"), tmp_path)
    monkeypatch.undo()
    left = read("problem", tmp_path)
    expected = {"old": 0.1, "new": 0.9}
    for row in left.run("study", "cifar100").frame.itertuples():
        made_from = left.sidecar[f"study/cifar100/{row.seed}"]["made_from"]
        assert row.value == (0.3 if row.seed == 1 else expected[made_from])
    publish("problem", rows_of(record(0.9), made_from="new"), tmp_path)
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


def test_rows_that_nothing_describes_are_neither_published_nor_read(tmp_path):
    undescribed = Rows(table([record(0.1), record(0.2, 1)]), {"study/cifar100/0": {}})
    with pytest.raises(ValueError, match=r"\['study/cifar100/1'\] cannot be published"):
        publish("problem", undescribed, tmp_path)
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


PUBLISHING = """
import sys
from pathlib import Path
from compatlib.study.lab.rows import Rows, publish, table
folder, seeds = Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3]))
for seed in seeds:
    record = {"profile": "study", "dataset": "digits", "metric": "cmc@1", "seed": seed, "value": 0.1}
    publish("problem", Rows(table([record]), {f"study/digits/{seed}": {"made_from": {}}}), folder)
"""


def test_two_processes_that_publish_at_the_same_time_lose_nothing(tmp_path):
    command = [sys.executable, "-c", PUBLISHING, str(tmp_path)]
    runs = [subprocess.Popen([*command, str(first), str(first + 25)]) for first in (0, 25)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert list(read("problem", tmp_path).frame["seed"]) == list(range(50))
