"""Rows made by hand, and what describes them."""

import json

import numpy as np
import pandas as pd

from compatlib.study.lab.rows import CELL, Rows, groups, table


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
