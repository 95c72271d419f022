import numpy as np
import pytest

from compatlib.study.chapters.problem import tables
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.rows import Rows
from tests.study.chapters.problem.made_rows import problem
from tests.study.lab.figures import made


@pytest.fixture(scope="module")
def rows() -> Rows:
    return problem()


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
            popular = made.level(rows, **pair(*test), subset="all", metric="top_share")
            assert line["queries that one item answers (%)"] == popular
    assert lines["queries that one item answers (%)"].iloc[-1] == ""
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


def test_the_worked_example_has_its_frozen_numbers():
    lines = tables.worked_example()
    assert list(lines["rank 1"]) == [1.0, 1.0, 0.0]
    assert np.allclose(lines["mAP"], [1.0, 1.0, 0.3333])
