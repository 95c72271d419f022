"""The chapter's tables and figures, from rows made by hand."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.study.chapters.problem import ROLES
from compatlib.study.figures import papers, problem, tables
from compatlib.study.rows import Rows, table

FLIPS = {"all": 0.38, "known": 0.5, "unknown": 0.26}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def rows(seeds=(0, 1, 2)):
    """Self-tests score 0.4 and more with the seed, cross-tests 0.01; chance is 0.01."""
    base = {"profile": "study", "dataset": "cifar100", "chapter": "problem", "distance": "cosine"}
    records = []
    for seed in seeds:
        for metric in ("cmc@1", "cmc@5", "map"):
            for subset in ("all", "known", "unknown"):
                shared = {**base, "seed": seed, "subset": subset, "metric": metric}
                records.append({**shared, "method": "chance", "value": 0.01})
                for query in ROLES:
                    for gallery in ROLES:
                        value = 0.4 + 0.01 * seed if query == gallery else 0.01
                        cell = {"query_model": query, "gallery_model": gallery, "method": "independent"}
                        records.append({**shared, **cell, "value": value})
        for query, gallery in itertools.permutations(ROLES, 2):
            for subset, value in FLIPS.items():
                cell = {"query_model": query, "gallery_model": gallery, "method": "independent", "subset": subset}
                records.append({**base, **cell, "seed": seed, "metric": "negative_flips", "value": value})
        speed = {"query_model": "new", "gallery_model": "new", "metric": "images_per_second", "value": 500.0}
        records.append({**base, **speed, "seed": seed, "method": "independent"})
    return Rows(table(records), {})


def test_the_result_table_shows_mean_and_interval_over_seeds():
    lines = problem.result_table(rows())
    # t(0.975, 2) = 4.303 times a deviation of 1 point over the root of 3.
    assert lines["rank 1 (%)"][0] == "41.0\u00a0±\u00a02.5"
    assert lines["rank 1 (%)"][2] == "1.0\u00a0±\u00a00.0"
    assert list(lines["test"][:3]) == ["self", "self", "cross"]
    assert lines["test"].iloc[-1] == "chance"
    assert (lines["n"] == 3).all()


def test_the_criterion_table_applies_the_measures_to_every_case():
    lines = problem.criterion_table(rows()).set_index("case")
    assert list(lines.index) == [case for case, *_ in problem.CASES]
    # Old self-tests 40, 41, 42 points and cross-tests 1: half of the interval is t(0.975, 2) / root of 3.
    assert set(lines["M(new, old) − M(old, old) (points)"]) == {"-40.0\u00a0±\u00a02.5"}
    assert set(lines["seeds that meet the criterion"]) == {"0 of 3"}
    assert set(lines["update gain"]) == {"undefined"}  # both self-tests are equal, so that nothing can be gained
    assert set(lines["negative flips (%)"]) == {"38.0\u00a0±\u00a00.0"}


def test_the_criterion_table_counts_seeds_and_gives_the_gain():
    measured = rows()
    frame = measured.frame.copy()
    is_self, is_cross = frame["query_model"] == frame["gallery_model"], frame["query_model"] != frame["gallery_model"]
    scores = (frame["metric"] == "cmc@1") & (frame["method"] == "independent")
    frame.loc[scores & is_self & (frame["query_model"] == "new"), "value"] += 0.2
    frame.loc[scores & is_cross & (frame["seed"] > 0), "value"] = 0.5
    line = problem.criterion_table(Rows(frame, {})).set_index("case").loc["half of the classes, then all"]
    assert line["seeds that meet the criterion"] == "2 of 3"
    differences = [0.01 - 0.40, 0.50 - 0.41, 0.50 - 0.42]
    assert line["update gain"] == f"{np.mean(differences) / 0.2:.2f}"
    flat = {metric: problem.criterion_table(rows(), metric).shape for metric in ("cmc@5", "map")}
    assert set(flat.values()) == {(len(problem.CASES), 6)}


def test_the_subset_table_shows_flips_beside_the_cross_test_alone():
    lines = problem.subset_table(rows()).set_index(["queries", "query / gallery"])["negative flips (%)"]
    for words, share in (("all classes", "38.0"), ("classes old knew", "50.0"), ("classes new to old", "26.0")):
        assert lines[words, "new / old"] == f"{share}\u00a0±\u00a00.0"
        assert lines[words, "old / old"] == lines[words, "new / new"] == ""


def test_a_single_seed_has_no_interval():
    assert problem.result_table(rows(seeds=(0,)))["mAP (%)"][0] == "40.0"


def test_the_published_study_stands_beside_the_papers_own_numbers():
    lines = problem.beside_papers(rows()).set_index(["test", "metric"])
    assert lines.loc[("old / old", "rank 1 (%)"), "FCT (2023)"] == "34.2"
    assert lines.loc[("old / old", "rank 1 (%)"), "BT2"] == "33.6"
    assert lines.loc[("new / old, independent", "rank 1 (%)"), "BT2"] == "0.8"
    assert lines.loc[("new / old, independent", "rank 1 (%)"), "FCT (2023)"] == ""
    assert lines.loc[("new / new (paragon)", "mAP (%)"), "this study"] == "41.0\u00a0±\u00a02.5"


def test_without_published_rows_our_column_is_blank():
    lines = problem.beside_papers(Rows(table([]), {}))
    assert (lines["this study"] == "").all()
    assert (lines["n"] == 0).all()


def test_rows_of_another_version_are_said_to_be():
    about = {"made_from": {"code": "a", "data": "x"}, "commit": "c", "dirty": False, "trained_on": ["cpu"]}
    published = Rows(table([]), {"study/cifar100/0": about | {"training_seconds": {"new": 120.0}}})
    current = papers.provenance_table(published, {"study/cifar100": {"code": "a"}})
    assert list(current["made by"]) == ["this version"]
    assert list(current["training (minutes)"]) == ["2"]
    other = papers.provenance_table(published, {"study/cifar100": {"code": "b", "training_code": "x"}})
    assert list(other["made by"]) == ["an earlier version (code, training code)"]
    assert list(papers.provenance_table(published, {})["made by"]) == ["an earlier version (unknown)"]


def test_the_table_tells_which_seeds_are_shown():
    about = {"commit": "c", "dirty": False, "trained_on": ["cpu"], "training_seconds": {"new": 120.0}}
    made = {seed: about | {"made_from": {"code": code}} for seed, code in enumerate("aab")}
    frame = table([{"profile": "study", "dataset": "cifar100", "metric": "m", "seed": s, "value": 1.0} for s in made])
    published = Rows(frame, {f"study/cifar100/{seed}": each for seed, each in made.items()})
    for code, shown in (("a", ["yes", "yes", "no"]), ("b", ["no", "no", "yes"]), ("c", ["yes", "yes", "no"])):
        assert list(papers.provenance_table(published, {"study/cifar100": {"code": code}})["shown"]) == shown


def test_the_bar_chart_shows_every_seed_and_the_chance_level():
    figure = problem.cross_tests(rows())
    assert len(figure.axes) == len(problem.CASES) + 1  # the last one holds the legend
    for axis in figure.axes[:-1]:
        assert [len(points.get_offsets()) for points in axis.collections] == [3, 3, 3]
        assert any(np.allclose(line.get_ydata(), 1.0) for line in axis.lines)
        assert [round(bar.get_height(), 6) for bar in axis.patches] == [41.0, 41.0, 1.0]


def test_the_heat_map_has_the_self_tests_on_its_diagonal():
    axis = problem.heat_map(rows()).axes[0]
    shown = np.array([float(text.get_text()) for text in axis.texts]).reshape(len(ROLES), len(ROLES))
    assert (np.diag(shown) == 41.0).all()
    assert shown.sum() == pytest.approx(41.0 * 6 + 1.0 * 30)


def test_ranked_galleries_mark_right_and_wrong_and_never_show_the_query_itself():
    labels = torch.arange(12) % 2
    images = ImageSet(torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8), labels, ("a", "b"))
    embeddings = np.stack([labels.numpy(), 1 - labels.numpy()], 1).astype(np.float32) + 0.01 * np.arange(24).reshape(
        12, 2
    )
    galleries = {"same": embeddings, "swapped": embeddings[:, ::-1].copy()}
    figure = problem.ranked_galleries(images, embeddings, galleries, examples=3, distance="cosine", top=4)
    marks = [axis.get_title() for axis in figure.axes if axis.get_title() in ("✓", "✗")]
    assert marks == (["✓"] * 4 + ["✗"] * 4) * 3


def test_backfilling_costs_time_at_the_measured_speed_and_bytes_by_size():
    lines = problem.backfilling_cost(rows(), dim=128)
    assert list(lines["embedding again"]) == ["33.3 minutes", "23.1 days"]
    assert list(lines["float32 (GB)"]) == ["0.5", "512.0"]


@pytest.mark.parametrize(("seconds", "words"), [(59, "59 seconds"), (150, "2.5 minutes"), (9000, "2.5 hours")])
def test_durations_are_in_their_largest_fitting_unit(seconds, words):
    assert tables.duration(seconds) == words


def test_the_worked_example_has_its_frozen_numbers():
    lines = problem.worked_example()
    assert list(lines["rank 1"]) == [1.0, 1.0, 0.0]
    assert list(lines["mAP"]) == [1.0, 1.0, 0.3333]


def test_several_values_of_a_paper_for_one_cell_are_refused():
    with pytest.raises(ValueError, match="several values"):
        papers._only(pd.DataFrame({"value": [1.0, 2.0]}))
