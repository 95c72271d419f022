import pandas as pd
import pytest

from compatlib.study.lab.figures import papers
from compatlib.study.lab.row_files import paper_values
from compatlib.study.lab.rows import Rows, table
from tests.study.lab.figures import made

TESTS = (
    papers.OLD,
    papers.APART,
    papers.PARAGON,
    ("BT2 itself", "BT2", "", "new", "old"),
    ("ours", "", "mine", "a", "b"),
)
NAMES = ("old", "new")


@pytest.fixture(scope="module")
def study() -> Rows:
    models = {"query_model": NAMES, "gallery_model": NAMES, "method": "independent"}
    mine = {"query_model": "a", "gallery_model": "b", "method": "mine"}
    return made.made({**models, **made.SCORES}, {**mine, **made.SCORES})


def comparison(**place) -> papers.Comparison:
    return papers.Comparison(papers.cells_of(TESTS, **place), (papers.FCT_2023, papers.BT2), papers.CIFAR)


def test_the_study_stands_beside_what_the_papers_give(study):
    lines = papers.beside(study, comparison()).set_index(["test", "metric"])
    assert len(lines) == 3 * len(TESTS)
    quoted = paper_values()
    for words, method, ours, query, gallery in TESTS:
        for metric, title in (("cmc@1", "rank 1"), ("cmc@5", "rank 5"), ("map", "mAP")):
            line = lines.loc[words, f"{title} (%)"]
            own = {"query_model": query, "gallery_model": gallery, "method": ours, "subset": "all", "metric": metric}
            assert line["this study"] == (made.level(study, **own) if ours else "")
            assert line["n"] == (3 if ours else 0)
            for column, (paper, source) in (("FCT (2023)", papers.FCT_2023), ("BT2", papers.BT2)):
                wanted = {"paper": paper, "source": source, "metric": metric, "kind": "level", **papers.CIFAR}
                wanted |= {"method": method, "query": query, "gallery": gallery}
                value = [
                    row.value for row in quoted.itertuples() if all(getattr(row, k) == v for k, v in wanted.items())
                ]
                assert line[column] == (f"{value[0]:.1f}" if value else "")


def test_known_quotations(study):
    lines = papers.beside(study, comparison()).set_index(["test", "metric"])
    assert lines.loc[("old / old", "rank 1 (%)"), ["FCT (2023)", "BT2"]].tolist() == ["34.2", "33.6"]
    assert lines.loc[("new / old, independent", "rank 1 (%)"), ["FCT (2023)", "BT2"]].tolist() == ["", "0.8"]
    assert lines.loc[("BT2 itself", "rank 1 (%)"), ["FCT (2023)", "BT2"]].tolist() == ["", "38.7"]


def test_without_published_rows_our_column_is_blank():
    lines = papers.beside(Rows(table([]), {}), comparison())
    assert set(lines["this study"]) == {""}
    assert set(lines["n"]) == {0}


def test_what_picks_our_rows_must_pick_one_cell(study):
    with pytest.raises(ValueError, match="no row has"):
        papers.beside(study, comparison(distance="cosine"))


def test_several_values_of_a_paper_for_one_cell_are_refused():
    with pytest.raises(ValueError, match="several values"):
        papers._only(pd.DataFrame({"value": [1.0, 2.0]}))


def test_cases_of_an_earlier_version_are_counted_by_seed():
    about = {
        "commit": "c",
        "dirty": False,
        "trained_on": ["cpu, torch 2", "gpu"],
        "training_seconds": {"a": 90.0, "b": 30.0},
    }
    cases = [[{"case": "x", "made": made_from}, {"case": "y", "made": "1"}] for made_from in "12"]
    sidecar = {f"study/cifar100/{seed}": about | {"cases": own, "dirty": seed == 1} for seed, own in enumerate(cases)}
    found = papers.provenance_table(Rows(table([]), sidecar), {"x": "1", "y": "1"})
    assert list(found["of an earlier version"]) == ["none", "1 of 2 cases"]
    assert list(found["commit"]) == ["c", "c, with changes"]
    assert list(found["seed"]) == [0, 1]
    assert set(found["training (minutes)"]) == {"2"}
    assert set(found["trained on"]) == {"cpu, torch 2; gpu"}
    assert set(papers.provenance_table(Rows(table([]), sidecar), {})["of an earlier version"]) == {"2 of 2 cases"}
