import numpy as np
import pytest

from compatlib.study.chapters.problem import tables
from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.rows import Rows
from tests.study.lab.figures import made

TESTS = {"query_model": ROLES, "gallery_model": ROLES, "method": "independent"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    speed = {**pair("new", "new"), "metric": "images_per_second"}
    found = made.made(
        {**TESTS, **made.SCORES},
        {**TESTS, "subset": made.SUBSETS, "metric": "negative_flips"},
        {"method": "chance", **made.SCORES},
        speed,
    )
    found.frame.loc[found.frame["metric"] == "images_per_second", "value"] = 500.0
    return found


def test_every_case_has_both_self_tests_and_the_cross_test(rows):
    lines = tables.result_table(rows)
    assert list(lines["test"]) == ["self", "self", "cross"] * len(tables.CASES) + ["chance"]
    assert (lines["n"] == 3).all()
    for place, (case, query, gallery) in enumerate(tables.CASES):
        for offset, test in enumerate(((gallery, gallery), (query, query), (query, gallery))):
            line = lines.iloc[3 * place + offset]
            assert (line["case"], line["query / gallery"]) == (case, tables.named(*test))
            for metric, title in METRICS.items():
                assert line[f"{title} (%)"] == made.level(rows, **pair(*test), subset="all", metric=metric)
    assert lines["mAP (%)"].iloc[-1] == made.level(rows, method="chance", subset="all", metric="map")


def test_the_measures_of_an_upgrade_are_of_each_cases_own_models(rows):
    lines = tables.criterion_table(rows, "map").set_index("case")
    for case, query, gallery in tables.CASES:
        where = {"subset": "all", "metric": "map"}
        old, cross, new = (
            made.values(rows, **pair(*test), **where) for test in ((gallery,) * 2, (query, gallery), (query,) * 2)
        )
        line = lines.loc[case]
        assert line["M(new, old) − M(old, old) (points)"] == made.text(cross - old, "{:+.1f}")
        assert line["seeds that meet the criterion"] == f"{int((cross > old).sum())} of 3"
        flips = made.level(rows, **pair(query, gallery), subset="all", metric="negative_flips")
        assert line["negative flips (%)"] == flips
        if line["update gain"] != "undefined":
            assert line["update gain"] == f"{(cross - old).mean() / (new - old).mean():.2f}"
    assert set(lines["update gain"]) != {"undefined"}


def test_flips_stand_beside_the_cross_test_alone(rows):
    lines = tables.subset_table(rows).set_index(["queries", "query / gallery"])
    assert len(lines) == 9
    for subset, words in zip(made.SUBSETS, ("all classes", "classes old knew", "classes new to old"), strict=True):
        where = {**pair("new", "old"), "subset": subset}
        line = lines.loc[words, "new / old"]
        assert line["negative flips (%)"] == made.level(rows, **where, metric="negative_flips")
        assert line["rank 1 (%)"] == made.level(rows, **where, metric="cmc@1")
        assert lines.loc[(words, "old / old"), "negative flips (%)"] == ""


def test_backfilling_costs_time_at_the_measured_speed_and_bytes_by_size(rows):
    lines = tables.backfilling_cost(rows, dim=128)
    assert list(lines["embedding again"]) == ["33.3 minutes", "23.1 days"]
    assert list(lines["float32 (GB)"]) == ["0.5", "512.0"]


def test_the_worked_example_has_its_frozen_numbers():
    lines = tables.worked_example()
    assert list(lines["rank 1"]) == [1.0, 1.0, 0.0]
    assert np.allclose(lines["mAP"], [1.0, 1.0, 0.3333])
