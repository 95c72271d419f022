"""Published rows: read again as they were, replaced group by group, and never lost."""

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
from compatlib.study.lab import row_files
from compatlib.study.lab.class_scores import cell_name
from compatlib.study.lab.row_files import publish, read
from compatlib.study.lab.rows import CELL, CLASS_CELL, Rows, groups, table
from tests.study.lab.made_rows import record, rows_of, same


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


def test_files_that_stay_are_read_once_and_others_again(tmp_path, monkeypatch):
    parsed = []
    original = pd.read_csv
    monkeypatch.setattr(
        row_files.pd, "read_csv", lambda *given, **options: parsed.append(1) or original(*given, **options)
    )
    publish("problem", rows_of(record(0.5)), tmp_path)
    first = read("problem", tmp_path)
    first.frame.loc[0, "value"] = 0.1
    first.sidecar.clear()
    again = read("problem", tmp_path)
    assert len(parsed) == 1
    assert again.frame["value"].tolist() == [0.5]
    assert again.sidecar
    publish("problem", rows_of(record(0.7)), tmp_path)
    assert read("problem", tmp_path).frame["value"].tolist() == [0.7]


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
    quoted = row_files.paper_values()
    assert len(quoted) > 100
    assert {"paper", "source", "dataset", "method", "query", "gallery", "metric", "kind", "value"} <= set(quoted)
    assert pd.to_numeric(quoted["value"]).between(-100, 100).all()
    assert (quoted[["paper", "source", "metric", "kind"]] != "").all(axis=None)
    fct = quoted[(quoted["paper"] == "FCT") & (quoted["query"] == "old") & (quoted["metric"] == "cmc@1")]
    assert 34.2 in fct["value"].tolist()


@pytest.mark.parametrize("chapter", sorted(path.stem for path in row_files.PUBLISHED.glob("*.json")))
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
from compatlib.study.lab.row_files import publish
from compatlib.study.lab.rows import Rows, table
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
