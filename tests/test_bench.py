"""The driver behind `make bench`."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parent / "bench"


@pytest.fixture(scope="module")
def driver():
    specification = importlib.util.spec_from_file_location("bench_driver", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def write(folder: Path, name: str, *rows: dict) -> None:
    whole = [
        {"name": "a", "measured": 1.0, "bound": 2.0, "better": "lower", "unit": "s", "detail": ""} | r for r in rows
    ]
    (folder / f"bench_{name}.py").write_text(f"def run():\n    return {whole!r}\n")


@pytest.mark.parametrize(
    ("better", "measured", "met"),
    [("lower", 1.9, True), ("lower", 2.0, True), ("lower", 2.1, False), ("higher", 2.1, True), ("higher", 1.9, False)],
)
def test_measure_must_lie_on_the_better_side(driver, folder, better, measured, met, capsys):
    write(folder, "x", {"better": better, "measured": measured})
    assert driver.main([], folder, folder / "out" / "bench.csv") == (0 if met else 1)
    assert ("NOT MET" in capsys.readouterr().out) != met
    assert pd.read_csv(folder / "out" / "bench.csv")["met"].tolist() == [met]


def test_undefined_measure_is_not_met(driver, folder):
    (folder / "bench_x.py").write_text(
        "def run():\n    return [dict(name='a', measured=float('nan'), bound=1, better='lower', unit='', detail='')]\n"
    )
    assert driver.main([], folder, folder / "bench.csv") == 1


def test_one_missed_bound_of_many_is_told(driver, folder, capsys):
    write(folder, "x", {}, {"name": "b", "measured": 3.0, "detail": "30 rounds"})
    write(folder, "y", {"name": "c"})
    assert driver.main([], folder, folder / "bench.csv") == 1
    told = capsys.readouterr().out
    assert "2 of 3 bounds met" in told
    assert "x: b" in told
    assert "30 rounds" in told


def test_modules_are_chosen_by_name(driver, folder, capsys):
    write(folder, "x", {})
    write(folder, "y", {"measured": 3.0})
    assert driver.main(["x"], folder, folder / "bench.csv") == 0
    assert "y: a" not in capsys.readouterr().out
    assert driver.main(["z"], folder, folder / "bench.csv") == 2
    assert "there is no bench 'z'; there are x, y" in capsys.readouterr().err


@pytest.mark.parametrize("row", [{"better": "more"}, {"extra": 1}])
def test_rows_of_another_form_are_refused(driver, folder, row, capsys):
    write(folder, "x", row)
    assert driver.main([], folder, folder / "bench.csv") == 2
    assert "bench x" in capsys.readouterr().err
    assert not (folder / "bench.csv").exists()
