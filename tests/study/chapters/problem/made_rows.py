"""Rows of the chapter *the problem*, made by hand."""

from dataclasses import replace

import pandas as pd

from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.rows import Rows
from tests.study.lab.figures import made

TESTS = {"query_model": ROLES, "gallery_model": ROLES, "method": "independent"}
IMAGES_PER_SECOND = 500.0


def problem(seeds=range(3)) -> Rows:
    found = made.made(
        {**TESTS, **made.SCORES},
        {**TESTS, "subset": made.SUBSETS, "metric": "negative_flips"},
        {**TESTS, "subset": "all", "metric": "top_share"},
        {"method": "chance", **made.SCORES},
        {**pair("new", "new"), "method": "independent", "metric": "images_per_second"},
        seeds=seeds,
    )
    found.frame.loc[found.frame["metric"] == "images_per_second", "value"] = IMAGES_PER_SECOND
    return found


def two_sources() -> list[Source]:
    """Heads on an encoder, without the models of shared initial weights; and networks with all."""
    rows, found = problem(), []
    shared = (rows.frame[["query_model", "gallery_model"]] == "old_shared").any(axis=1)
    for words, encoders, dim, frame in (
        ("heads", {"old": "lite0", "new": "lite2"}, 64, rows.frame[~shared]),
        ("study", None, 128, pd.DataFrame(rows.frame)),
    ):
        about = {"settings": {"encoders": encoders, "network": {"dim": dim}}}
        found.append(Source(words, replace(rows, frame=frame, sidecar={"a/b/0": about})))
    return found
