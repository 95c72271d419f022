import itertools

import numpy as np
import pytest

from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct import backfilling, papers, plan, tables, trials, tuning
from compatlib.study.chapters.fct.plan import ANEW, CHANGES, IN_HALVES, WITH, WITHOUT
from compatlib.study.lab import sidecars
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, SUBSETS, pair
from compatlib.study.lab.figures.papers import beside
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows
from compatlib.study.settings import settings
from tests.study.chapters.fct.made_rows import NEW_ON_H, SIDES, balanced, fct
from tests.study.lab.figures import made

MAIN = {"split": "class-incremental", "variant": "", "x_name": ""}
OLD, NEW = pair("old", "old", method="independent"), pair("new", "new", method="independent")
H, H_WITH = NEW_ON_H | {"method": WITHOUT}, NEW_ON_H | {"method": WITH}


@pytest.fixture(scope="module")
def by_hand() -> Rows:
    return fct()


@pytest.fixture(scope="module")
def published() -> Rows:
    return made.without_classes(sidecars.published(plan.CHAPTER, "study", "cifar100"))


@pytest.mark.parametrize("source", ["by_hand", "published"])
def test_tests_and_links_stand_under_both_distances(source, request):
    rows = request.getfixturevalue(source)
    lines = tables.result_table(rows).set_index("query / gallery")
    links = tables.link_table(rows).set_index(["distance", "queries", "score"])
    assert len(lines) == 10
    assert len(links) == 12
    bct = pair("new", "old", method="BCT A")
    order = {"without − old/old": (H, OLD), "with − without": (H_WITH, H), "new/new − with": (NEW, H_WITH)}
    for distance, (metric, title) in itertools.product(DISTANCES, RANK_1_AND_MAP.items()):
        where = {**MAIN, "distance": distance, "metric": metric}
        for words, cell in (("new / h(old), with side-information", H_WITH), ("new / old, BCT (form A)", bct)):
            shown = lines.loc[words, f"{distance}: {title} (%)"]
            assert shown == made.level(rows, **where, **cell, subset="all")
        for link, (first, second) in (order | {"with − BCT": (H_WITH, bct)}).items():
            shown = links.loc[(distance, "classes old knew", title), f"{link} (points)"]
            assert shown == made.gained(rows, first, second, **where, subset="known")


def test_other_ways_of_storing_are_held_against_the_usual_one_of_the_same_seeds(by_hand):
    lines = tables.storage_table(by_hand).set_index("with side-information, but")
    assert list(lines["n"]) == [3, 1]
    where = {**H_WITH, "split": "class-incremental", "subset": "all", "distance": "cosine", "metric": "map"}
    for variant in (IN_HALVES, ANEW):
        expected = made.gained(by_hand, {"variant": variant}, {"variant": ""}, x_name="", **where)
        assert lines.loc[variant, "cosine: mAP (points)"] == expected
    without = Rows(by_hand.frame[by_hand.frame["variant"] != ANEW], {})
    assert list(tables.storage_table(without)["n"]) == [3]


def test_flips_are_shown_by_subset(by_hand):
    lines = tables.flip_table(by_hand).set_index(["new / h(old)", "distance"])
    assert len(lines) == 4
    line, where = lines.loc["with side-information", "euclidean"], {**MAIN, **H_WITH, "distance": "euclidean"}
    for subset, words in SUBSETS.items():
        expected = made.level(by_hand, **where, subset=subset, metric="negative_flips")
        assert line[f"negative flips, {words} (%)"] == expected
    assert line["most popular item (%)"] == made.level(by_hand, **where, metric="top_share")


def test_side_information_is_held_against_none(by_hand):
    lines = tables.side_table(by_hand)
    sides = list(zip(lines["side-information"], lines["size"], strict=True))
    assert sides == [(kind, f"{size:g}" if size else "") for kind, size in SIDES]
    where = {"subset": "all", "metric": "cmc@1", "distance": "cosine"}
    for place, (kind, size) in enumerate(SIDES):
        cell = {**NEW_ON_H, "variant": kind, "x": size}
        gained = made.gained(by_hand, cell, {**cell, "variant": "none", "x": 0.0}, **where)
        assert lines["cosine: gain at rank 1 (points)"][place] == (gained if size else "")
        alone = made.level(by_hand, **cell | pair("side", "side"), **where) if size else ""
        assert lines["alone, cosine: rank 1 (%)"][place] == alone


def test_changes_and_chains_have_a_line_each(by_hand):
    lines = tables.change_table(by_hand, CHANGES).set_index(["old and new differ in", "distance"])
    assert list(lines.index) == list(itertools.product(CHANGES, DISTANCES))
    where = {"subset": "all", "metric": "cmc@1", "distance": "euclidean"}
    expected = made.level(by_hand, **H_WITH, **where, variant="a longer embedding")
    assert lines.loc[("a longer embedding", "euclidean"), "new / h(old), with (%)"] == expected
    chain = tables.chain_table(by_hand).set_index("query / gallery")
    expected = made.level(by_hand, **pair("v3", "h(v1)"), **where, variant="composed")
    assert chain.loc["v3 / h(h(v1)): composed", "euclidean: rank 1 (%)"] == expected
    assert len(chain) == 6


def test_costs_are_of_a_million_items(by_hand):
    frame = by_hand.frame.copy()
    for metric, value in (("images_per_second", 2_000.0), ("vectors_per_second", 1e5), ("bytes_per_item", 70.0)):
        frame.loc[frame["metric"] == metric, "value"] = value
    lines = tables.cost_table(Rows(frame, {}), 128, 64, 32)
    assert lines["float32 (bytes an item)"].tolist() == [768, 128, 128]
    assert lines["float16 (bytes an item)"].tolist() == [384, 64, 64]
    assert lines["time for a million"].tolist() == ["", "10 seconds", "8.3 minutes"]
    index = tables.index_table(Rows(frame, {})).set_index("search")
    assert list(index["bytes an item"]) == ["70", "70"]
    assert index.loc["IVF-PQ", "recall at 10 (%)"] == made.level(by_hand, variant="IVF-PQ", metric="recall@10")


def test_the_tuning_table_marks_the_values_that_the_run_has():
    run = settings({"profile": "study"}, plan.Knobs)
    tests = ((WITHOUT, NEW_ON_H), (WITH, NEW_ON_H), (WITH, pair("side", "side")))
    cells = [
        {"x_name": knob, "x": tuple(map(float, values)), "method": method, **test}
        for knob, values in tuning.VALUES.items()
        for method, test in tests
    ]
    tuned = made.made(*cells, seeds=(100,), subset="all", metric="cmc@1", distance=DISTANCES)
    lines = tables.tuning_table(tuned, run).set_index(["what", "value"])
    assert set(lines.index) == {(knob, f"{value:g}") for knob, values in tuning.VALUES.items() for value in values}
    chosen = dict(lines[lines["chosen"] == "yes"].index)
    assert chosen["hidden_dim"] == f"{run.knobs.hidden_dim}"
    assert chosen["side.epochs"] == f"{run.knobs.side.epochs}"
    line, own = lines.loc["views", "4"], {"x_name": "views", "x": 4.0}
    expected = made.level(tuned, **own, method=WITH, **NEW_ON_H, distance="cosine")
    assert line["new / h(old), with, cosine (%)"] == expected
    judged = [made.values(tuned, **own, method=m, **NEW_ON_H, distance=d) for m in (WITHOUT, WITH) for d in DISTANCES]
    assert line["mean of the first four (%)"] == f"{100 * np.mean(judged):.2f}"


@pytest.mark.parametrize("source", ["by_hand", "published"])
def test_areas_and_starts_are_ordered_by_transformation_and_order(source, request):
    rows = request.getfixturevalue(source)
    curves = [("FCT", "random"), ("FCT", "distance")]
    curves += [("FastFill", order) for order in ("random", "uncertainty", "distance")]
    names = ["side-information", "h of", "order"]
    lines = backfilling.area_table(rows, "known")
    assert [tuple(line) for line in lines[names].to_numpy()] == [
        (side, *curve) for side in ("without", "with") for curve in curves
    ]
    place = {"gallery_model": "mixed", "method": "FastFill", "distance": "euclidean"}
    cell = {**place, "variant": "uncertainty order, with side-information", "subset": "known", "metric": "auc map"}
    line = lines.set_index(names).loc["with", "FastFill", "uncertainty"]
    assert line["euclidean: mAP (%)"] == made.level(rows, **cell)
    starts = backfilling.start_table(rows).set_index(["side-information", "h of", "distance"])
    assert len(starts) == 8
    line = starts.loc["without", "FastFill", "euclidean"]
    where = {"subset": "all", "metric": "map"}
    start = {**place, "variant": "random order, without side-information", "x_name": SHARE, "x": 0.0}
    assert line["mAP (%)"] == made.level(rows, **where, **start)
    assert line["mAP: start − new / new (points)"] == made.gained(
        rows, start, {**MAIN, **NEW, "distance": "euclidean"}, **where
    )


def test_the_balance_is_read_at_equal_galleries():
    rows = balanced()
    lines = backfilling.balance_table(rows).set_index("cross-entropy")
    assert list(lines.index)[2:] == ["× 0.1, mean of squares", "× 1, mean of squares", "× 1, sum of squares"]
    for words, weight, coordinates in (("× 0.1, mean of squares", 0.1, "mean"), ("× 1, sum of squares", 1.0, "sum")):
        own, random = (
            {"variant": f"balance={coordinates} over coordinates;order={order}", "x": weight}
            for order in ("uncertainty", "random")
        )
        line = lines.loc[words]
        assert line["rank 1, random order (%)"] == made.level(rows, **random, metric="auc cmc@1")
        assert line["mAP: its own − random (points)"] == made.gained(rows, own, random, metric="auc map")


def test_the_trials_orders_are_paired_with_the_random_one_of_their_recipe():
    recipes, orders = list(trials.RECIPES), {0: trials.ORDERS, 1: (trials.RANDOM, trials.UNCERTAINTY)}
    cells = [{"variant": tuple(recipes), "metric": "rank correlation"}]
    for place, recipe in enumerate(recipes):
        variants = tuple(f"{order} order, {recipe} recipe" for order in orders[place])
        cells.append({"variant": variants, "metric": ("auc cmc@1", "auc map")})
        cells.append({"variant": variants, "metric": tuple(backfilling.ANSWERS), "x_name": SHARE, "x": (0.25, 0.5)})
    tried = made.made(*cells, method="FastFill")
    lines = backfilling.order_table(tried)
    assert lines["order"].tolist() == [*orders[0], *orders[1]]
    for line in lines.to_dict("records"):
        own, random = (
            {"variant": f"{order} order, {line['recipe of h']} recipe"} for order in (line["order"], trials.RANDOM)
        )
        gained = made.gained(tried, own, random, metric="auc cmc@1")
        assert line["rank 1: against random (points)"] == ("" if own == random else gained)
        assert line["mAP (%)"] == made.level(tried, **own, metric="auc map")
    answers = backfilling.answer_table(tried)
    for metric, title in backfilling.ANSWERS.items():
        variant = f"{trials.ORDERS[1]} order, {recipes[0]} recipe"
        assert answers[f"{title} (%)"][1] == made.level(tried, variant=variant, metric=metric, x=0.25)
    correlations = backfilling.correlation_table(tried)
    found = made.values(tried, variant=recipes[1], metric="rank correlation")
    assert correlations["s and the true loss"][1] == f"{found.mean():.2f}"
    assert correlations["lowest and highest seed"][1] == f"{found.min():.2f} to {found.max():.2f}"


def test_the_comparisons_find_our_rows_and_the_papers(by_hand):
    where = {**MAIN, "subset": "all", "metric": "cmc@1"}
    euclidean = made.level(by_hand, **where, **H_WITH, distance="euclidean")
    cosine = made.level(by_hand, **where, **H_WITH, distance="cosine")
    words = ("new / h(old), with side-information", "rank 1 (%)")
    lines = beside(by_hand, papers.FCT_CIFAR).set_index(["test", "metric"])
    assert lines.loc[words].tolist() == ["50.2", "50.6", euclidean, 3]
    lines = beside(by_hand, papers.BT2_CIFAR).set_index(["test", "metric"])
    assert lines.loc[words].tolist() == ["", cosine, 3]
    assert lines.loc[("new / old, BT2 itself (not run here)", "mAP (%)")].tolist() == ["27.7", "", 0]
    lines = beside(by_hand, papers.FCT_IMAGENET).set_index(["test", "metric"])
    assert lines.loc[("new / new, paragon", "mAP (%)"), "FCT (2023)"] == "45.6"
    lines = beside(by_hand, papers.BT2_IMAGENET).set_index(["test", "metric"])
    assert lines.loc[("new / old, BCT (ours: form A)", "rank 1 (%)"), "BT2"] == "44.3"
    lines = beside(by_hand, papers.FASTFILL_CIFAR).set_index(["test", "metric"])
    assert lines.loc[("FastFill, its own order", "rank 1 (%)"), "FastFill (2023)"] == "53.6"
    lines = beside(by_hand, papers.FASTFILL_IMAGENET)
    quoted = [62.8, 81.1, 40.5, 66.5, 83.6, 44.8, 64.7, 82.4, 42.6, 67.8, 84.2, 46.2]
    assert lines["FastFill (2023)"].astype(float).tolist() == quoted
    area = {"variant": "random order, with side-information", "method": "FCT", "metric": "auc cmc@1", "subset": "all"}
    assert lines["this study"][6] == made.level(by_hand, **area, distance="euclidean")


def test_the_abstracts_gains_stand_above_ours(by_hand):
    lines = papers.gain_table(by_hand)
    assert lines["FCT − BCT (points)"].tolist()[:3] == ["+18.1", "+5.4", "+8.3"]
    assert list(lines["score"])[3:] == [f"{title}, {distance}" for distance in DISTANCES for title in METRICS.values()]
    where = {**MAIN, "subset": "all", "metric": "map", "distance": "euclidean"}
    gained = made.gained(by_hand, H_WITH, pair("new", "old", method="BCT A"), **where)
    assert lines["FCT − BCT (points)"].tolist()[-1] == gained
    assert lines["n"].tolist() == ["", "", "", *[3] * 6]


def test_the_worked_example_is_its_formula():
    lines = backfilling.worked_example()
    # Item 2: half of (2 − 1)², and the cross-entropy of logits (0, 1) with 0.95 of the target on class 1.
    log_sum = np.log(1 + np.e)
    missed = 0.5 + 0.95 * (log_sum - 1) + 0.05 * log_sum
    assert lines["missed ℓ"][1] == f"{missed:.4f}"
    assert lines["best s = ln ℓ"][1] == f"{np.log(missed):.4f}"
    assert lines["loss"][1] == f"{0.5 + 0.5 * np.log(missed):.4f}"
    assert lines["backfilled"].tolist() == ["3", "2", "1"]
