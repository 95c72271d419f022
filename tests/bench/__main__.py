"""`make bench`: every measure beside its bound, in one table and in build/bench.csv.

A module `bench_<name>.py` in this folder has a function `run()` which returns rows with `name`, `measured`, `bound`,
`better` ("lower" or "higher": the side of the bound on which a measure must lie), `unit` and `detail`.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parent
OUTPUT = FOLDER.parents[1] / "build" / "bench.csv"
COLUMNS = ["module", "name", "measured", "bound", "better", "unit", "detail"]


def module_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """Names of the modules, without `bench_`."""
    return tuple(sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py")))


def measure(names: Iterable[str], folder: Path = FOLDER) -> pd.DataFrame:
    """Run these modules one after the other: `COLUMNS` and `met`.

    Raises:
        ValueError: there is no such module, or a row is not of the agreed form.
    """
    rows = []
    for name in names:
        if name not in module_names(folder):
            raise ValueError(f"there is no bench {name!r}; there are {', '.join(module_names(folder)) or 'none'}")
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += [_checked(name, row) for row in _load(folder / f"bench_{name}.py").run()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    lower = table["measured"] <= table["bound"]
    higher = table["measured"] >= table["bound"]
    table["met"] = lower.where(table["better"] == "lower", higher)
    return table


def _load(path: Path):
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def _checked(module: str, row: dict) -> dict:
    if set(row) != set(COLUMNS) - {"module"}:
        raise ValueError(f"bench {module} returned a row with {sorted(row)}; it must have {sorted(COLUMNS[1:])}")
    if row["better"] not in {"lower", "higher"}:
        raise ValueError(f"bench {module}, {row['name']}: better is {row['better']!r}; it must be 'lower' or 'higher'")
    return {"module": module} | row


def _write(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    table.to_csv(temporary, index=False)
    os.replace(temporary, path)


def _shown(table: pd.DataFrame) -> str:
    sign = table["better"].map({"lower": "≤ ", "higher": "≥ "})
    columns = {
        "what": table["module"] + ": " + table["name"],
        "measured": table["measured"].map("{:.4g}".format),
        "bound": sign + table["bound"].map("{:.4g}".format),
        "unit": table["unit"],
        "": table["met"].map({True: "met", False: "NOT MET"}),
        "detail": table["detail"],
    }
    return pd.DataFrame(columns).to_string(index=False, justify="left", max_colwidth=None)


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER, output: Path = OUTPUT) -> int:
    """Measure what is named, by default all; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(module_names(folder))}")
    try:
        table = measure(parser.parse_args(arguments).names or module_names(folder), folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    _write(table, output)
    print(_shown(table))
    missed = int((~table["met"].astype(bool)).sum())
    print(f"{len(table) - missed} of {len(table)} bounds met; {output}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))
    sys.exit(main())
