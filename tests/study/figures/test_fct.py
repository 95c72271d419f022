"""The chapter's tables and figures, from rows made by hand."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.study import claims
from compatlib.study.chapters import fct_trials, fct_tuning
from compatlib.study.chapters.fct import CHANGES, Knobs
from compatlib.study.figures import fct, fct_backfilling, fct_papers, fct_tables
from compatlib.study.rows import Rows, table
from compatlib.study.settings import settings
from compatlib.study.transformation_rows import ANEW, IN_HALVES, SHARE, SIZE, WITH, WITHOUT

METRICS, DISTANCES, SUBSETS = ("cmc@1", "cmc@5", "map"), ("cosine", "euclidean"), ("all", "known", "unknown")
BASE = {"profile": "study", "dataset": "cifar100", "chapter": "fct"}
PLAIN = {"split": "class-incremental"}
# Euclidean rank 1 of seed 0; a seed more is worth a point, cosine two points more, known classes ten.
LEVELS = {
    ("independent", "old", "old"): 0.30,
    ("independent", "new", "old"): 0.01,
    ("independent", "new", "new"): 0.50,
    ("BCT A", "new", "old"): 0.28,
    ("BCT A", "new", "new"): 0.45,
    (WITHOUT, "new", "h(old)"): 0.40,
    (WITH, "new", "h(old)"): 0.43,
    (WITHOUT, "h(old)", "h(old)"): 0.38,
    (WITH, "h(old)", "h(old)"): 0.41,
}
SIDES = {
    ("none", 0): 0.40,
    ("SimCLR", 64): 0.42,
    ("SimCLR", 128): 0.43,
    ("autoencoder", 128): 0.41,
    ("supervised", 128): 0.4,
}
AREAS = {
    ("FCT", "random"): 0.44,
    ("FCT", "distance"): 0.47,
    ("FastFill", "random"): 0.45,
    ("FastFill", "uncertainty"): 0.48,
    ("FastFill", "distance"): 0.49,
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def shifted(value: float, distance: str, subset: str, seed: int) -> float:
    shift = 0.01 * seed + (0.02 if distance == "cosine" else 0)
    return value + shift + {"all": 0.0, "known": 0.1, "unknown": -0.1}[subset]


def scores(value: float, seed: int, **place):
    for distance, subset, metric in itertools.product(DISTANCES, SUBSETS, METRICS):
        cell = {**BASE, **PLAIN, **place, "distance": distance, "subset": subset, "metric": metric, "seed": seed}
        yield {**cell, "value": shifted(value, distance, subset, seed)}


def of_seed(seed: int):
    for (method, query, gallery), value in LEVELS.items():
        pair = {"method": method, "query_model": query, "gallery_model": gallery}
        yield from scores(value, seed, **pair)
        if gallery == "h(old)" and query == "new":
            for distance, subset in itertools.product(DISTANCES, SUBSETS):
                cell = {**BASE, **PLAIN, **pair, "distance": distance, "subset": subset, "seed": seed}
                yield {**cell, "metric": "negative_flips", "value": 0.05}
            yield from (
                {
                    **BASE,
                    **PLAIN,
                    **pair,
                    "distance": distance,
                    "subset": "all",
                    "seed": seed,
                    "metric": "top_share",
                    "value": 0.002,
                }
                for distance in DISTANCES
            )
    yield from ({**row, "value": 0.01} for row in scores(0, seed, method="chance"))
    pair = {"method": WITH, "query_model": "new", "gallery_model": "h(old)"}
    yield from scores(0.429, seed, **pair, variant=IN_HALVES)
    if seed == 1:
        yield from scores(0.45, seed, **pair, variant=ANEW)
    for (kind, size), value in SIDES.items():
        place = {"variant": kind, "x_name": SIZE, "x": size, "method": WITH if size else WITHOUT}
        yield from scores(value, seed, **place, query_model="new", gallery_model="h(old)")
        if size:
            yield from scores(0.2, seed, **place, query_model="side", gallery_model="side")
    for words in CHANGES:
        for (method, query, gallery), value in LEVELS.items():
            if method != "BCT A" and query != "h(old)":
                yield from scores(value, seed, method=method, query_model=query, gallery_model=gallery, variant=words)
    chain = {"split": "three generations"}
    for variant, method, query, gallery, value in (
        ("", "independent", "v1", "v1", 0.2),
        ("", "independent", "v2", "v2", 0.3),
        ("", "independent", "v3", "v3", 0.5),
        ("", WITH, "v2", "h(v1)", 0.25),
        ("composed", WITH, "v3", "h(v1)", 0.3),
        ("learned again", WITH, "v3", "h(v1)", 0.35),
    ):
        pair = {"method": method, "query_model": query, "gallery_model": gallery}
        yield from scores(value, seed, **chain, **pair, variant=variant)
    yield from curves(seed)
    pair = {"method": WITH, "query_model": "new", "gallery_model": "h(old)", "seed": seed}
    for metric, value in (("images_per_second", 2000.0), ("vectors_per_second", 100_000.0)):
        yield {**BASE, **PLAIN, **pair, "metric": metric, "value": value}
    for variant, values in (("exact", (1.0, 0.0, 0.2, 512)), ("IVF-PQ", (0.7, 1.5, 0.1, 70))):
        for metric, value in zip(
            ("recall@10", "build_seconds", "search_seconds", "bytes_per_item"), values, strict=True
        ):
            yield {**BASE, **PLAIN, **pair, "variant": variant, "distance": "cosine", "metric": metric, "value": value}


def curves(seed: int):
    for (method, order), value in AREAS.items():
        for beside, distance in itertools.product(("without", "with"), DISTANCES):
            place = {**BASE, **PLAIN, "method": method, "variant": f"{order} order, {beside} side-information"}
            place |= {"query_model": "new", "gallery_model": "mixed", "distance": distance, "seed": seed}
            for metric, subset in itertools.product(METRICS, SUBSETS):
                area = shifted(value, distance, subset, seed)
                yield {**place, "metric": f"auc {metric}", "subset": subset, "value": area}
            for metric, step in itertools.product(METRICS, range(22)):
                point = {"metric": metric, "subset": "all", "x_name": SHARE, "x": step / 21}
                yield {**place, **point, "value": value + 0.001 * step}


@pytest.fixture(scope="module")
def study() -> Rows:
    sidecar = {f"study/cifar100/{seed}": {"made_from": {}} for seed in (0, 1, 2)}
    return Rows(table(row for seed in (0, 1, 2) for row in of_seed(seed)), sidecar)


def test_the_result_table_has_both_distances_side_by_side(study):
    lines = fct_tables.result_table(study).set_index("query / gallery")
    line = lines.loc["new / h(old), with side-information"]
    # t(0.975, 2) = 4.303 times a deviation of 1 point over the root of 3.
    assert line["euclidean: rank 1 (%)"] == "44.0\u00a0±\u00a02.5"
    assert line["cosine: rank 1 (%)"] == "46.0\u00a0±\u00a02.5"
    assert line["n"] == 3
    assert lines.loc["a random ranking", "cosine: mAP (%)"] == "1.0\u00a0±\u00a00.0"
    assert len(lines) == len(fct_tables.TESTS)


def test_links_are_paired_by_seed(study):
    lines = fct_tables.link_table(study).set_index(["distance", "queries", "score"])
    assert len(lines) == 12
    line = lines.loc[("euclidean", "classes old knew", "rank 1")]
    found = [line[f"{title} (points)"] for title in fct_tables.LINKS]
    # Old/old 30, without 40, with 43, new/new 50, BCT 28; every seed has the same differences.
    assert found == [f"{points}\u00a0±\u00a00.0" for points in ("+10.0", "+3.0", "+7.0", "+15.0")]


def test_bct_of_fewer_seeds_is_compared_with_those(study):
    frame = study.frame[~((study.frame["method"] == "BCT A") & (study.frame["seed"] == 2))]
    line = fct_tables.link_table(Rows(frame, {})).iloc[0]
    assert line["with − BCT (points)"].startswith("+15.0")
    assert line["with − without (points)"].startswith("+3.0")


def test_other_ways_of_storing_are_held_against_the_usual_one_of_the_same_seeds(study):
    lines = fct_tables.storage_table(study).set_index("with side-information, but")
    assert lines.loc[IN_HALVES, "euclidean: rank 1 (points)"] == "-0.1\u00a0±\u00a00.0"
    assert lines.loc[ANEW, "cosine: mAP (points)"] == "+2.0"
    assert lines["n"].tolist() == [3, 1]
    without = Rows(study.frame[study.frame["variant"] != ANEW], study.sidecar)
    assert list(fct_tables.storage_table(without)["n"]) == [3]


def test_flips_are_shown_by_subset(study):
    lines = fct_tables.flip_table(study)
    assert len(lines) == 4
    assert set(lines["negative flips, classes old knew (%)"]) == {"5.0\u00a0±\u00a00.0"}
    assert set(lines["most popular item (%)"]) == {"0.2\u00a0±\u00a00.0"}


def test_side_information_is_held_against_none(study):
    lines = fct_tables.side_table(study)
    assert list(zip(lines["side-information"], lines["size"], strict=True)) == [
        ("none", ""),
        ("SimCLR", "64"),
        ("SimCLR", "128"),
        ("autoencoder", "128"),
        ("supervised", "128"),
    ]
    assert [text[:4] for text in lines["euclidean: gain at rank 1 (points)"]] == ["", "+2.0", "+3.0", "+1.0", "+0.0"]
    assert lines["alone, cosine: rank 1 (%)"].tolist()[0] == ""
    assert lines["alone, cosine: rank 1 (%)"].tolist()[1].startswith("23.0")


def test_the_tuning_table_marks_the_values_that_the_run_has():
    run = settings({"profile": "study"}, Knobs)
    cells = [(knob, value) for knob, values in fct_tuning.VALUES.items() for value in values]
    records = []
    for number, (knob, value) in enumerate(cells):
        place = {"x_name": knob, "x": value, "variant": "validation", "query_model": "new", "gallery_model": "h(old)"}
        records += scores(0.4 + 0.001 * number, 0, **place, method=WITHOUT)
        records += scores(0.5 + 0.001 * number, 0, **place, method=WITH)
        records += scores(0.3, 0, **place | {"query_model": "side", "gallery_model": "side"}, method=WITH)
    lines = fct_tables.tuning_table(Rows(table(records), {}), run)
    assert set(zip(lines["what"], lines["value"].astype(float), strict=True)) == set(cells)
    chosen = lines[lines["chosen"] == "yes"].set_index("what")["value"]
    assert chosen["hidden_dim"] == f"{run.knobs.hidden_dim}"
    assert chosen["side.epochs"] == f"{run.knobs.side.epochs}"
    second = lines[(lines["what"] == cells[1][0]) & (lines["value"] == f"{cells[1][1]:g}")].iloc[0]
    assert second["new / h(old), without, euclidean (%)"] == "40.1"
    assert second["new / h(old), with, cosine (%)"] == "52.1"
    assert second["side-information alone, euclidean (%)"] == "30.0"
    assert second["mean of the first four (%)"] == "46.10"


def test_changes_and_chains_have_a_line_each(study):
    lines = fct_tables.change_table(study, CHANGES).set_index(["old and new differ in", "distance"])
    assert list(lines.index) == list(itertools.product(CHANGES, DISTANCES))
    assert lines.loc[("a longer embedding", "euclidean"), "new / h(old), with (%)"].startswith("44.0")
    assert lines.loc[("a longer embedding", "cosine"), "new / h(old), with (%)"].startswith("46.0")
    chain = fct_tables.chain_table(study).set_index("query / gallery")
    assert chain.loc["v3 / h(h(v1)): composed", "euclidean: rank 1 (%)"].startswith("31.0")
    assert chain.loc["v3 / h(v1): learned again from what is stored", "euclidean: mAP (%)"].startswith("36.0")


def test_areas_are_ordered_by_transformation_and_order(study):
    lines = fct_backfilling.area_table(study)
    assert list(zip(lines["side-information"], lines["h of"], lines["order"], strict=True)) == [
        (beside, method, order)
        for beside in ("without", "with")
        for method, order in (
            ("FCT", "random"),
            ("FCT", "distance"),
            ("FastFill", "random"),
            ("FastFill", "uncertainty"),
            ("FastFill", "distance"),
        )
    ]
    assert lines["euclidean: rank 1 (%)"].tolist()[3].startswith("49.0")
    known = fct_backfilling.area_table(study, "known")
    assert known["euclidean: rank 1 (%)"].tolist()[3].startswith("59.0")


@pytest.fixture
def tried():
    """Orders a point apart in their order, a seed more half a point; only two of them with the second recipe."""
    records = []
    for (number, order), (place, recipe) in itertools.product(
        enumerate(fct_trials.ORDERS), enumerate(fct_trials.RECIPES)
    ):
        if place and order not in (fct_trials.RANDOM, fct_trials.UNCERTAINTY):
            continue
        for seed in range(3):
            cell = {**BASE, **PLAIN, "chapter": "fct_trials", "method": "FastFill", "seed": seed}
            cell |= {"variant": f"{order} order, {recipe} recipe"}
            value = 0.4 - 0.01 * number + 0.005 * seed
            records += [cell | {"metric": metric, "value": value} for metric in ("auc cmc@1", "auc map")]
            for share, (extra, metric) in itertools.product((0.25, 0.5), enumerate(fct_backfilling.ANSWERS)):
                looked_at = {"x_name": SHARE, "x": share, "metric": metric, "value": share + 0.1 * extra}
                records.append(cell | looked_at)
            if not number:
                correlation = {"variant": recipe, "metric": "rank correlation", "value": 0.5 + 0.1 * seed}
                records.append(cell | correlation)
    return Rows(table(records), {})


def test_the_trials_orders_are_paired_with_the_random_one_of_their_recipe(tried):
    lines = fct_backfilling.order_table(tried)
    assert lines["order"].tolist() == [*fct_trials.ORDERS, fct_trials.RANDOM, fct_trials.UNCERTAINTY]
    gained = lines["rank 1: against random (points)"].tolist()
    assert gained == ["", *(f"-{number}.0\u00a0±\u00a00.0" for number in range(1, 6)), "", "-1.0\u00a0±\u00a00.0"]
    assert lines["rank 1 (%)"][0].startswith("40.5")
    answers = fct_backfilling.answer_table(tried)
    assert answers["order"].tolist() == list(fct_trials.ORDERS)
    titles = [f"{title} (%)" for title in fct_backfilling.ANSWERS.values()]
    assert answers.loc[0, titles].tolist() == [f"{25 + 10 * extra}.0\u00a0±\u00a00.0" for extra in range(4)]
    correlations = fct_backfilling.correlation_table(tried)
    assert correlations["s and the true loss"].tolist() == ["0.60", "0.60"]
    assert correlations["lowest and highest seed"].tolist() == ["0.50 to 0.70", "0.50 to 0.70"]


def test_costs_are_of_a_million_items(study):
    lines = fct_tables.cost_table(study, 128, 64, 32)
    assert lines["float32 (bytes an item)"].tolist() == [768, 128, 128]
    assert lines["float16 (bytes an item)"].tolist() == [384, 64, 64]
    assert lines["time for a million"].tolist() == ["", "10 seconds", "8.3 minutes"]
    index = fct_tables.index_table(study).set_index("search")
    assert index.loc["IVF-PQ", "recall at 10 (%)"] == "70.0\u00a0±\u00a00.0"
    assert index.loc["IVF-PQ", "bytes an item"] == "70"


def test_the_study_stands_beside_the_papers_own_numbers(study):
    lines = fct_papers.beside_cifar(study).set_index(["test", "metric"])
    line = lines.loc[("new / h(old), with side-information", "rank 1 (%)")]
    assert line.tolist()[:3] == ["50.2", "50.6", "44.0\u00a0±\u00a02.5"]
    assert lines.loc[("new / h(old), without side-information", "rank 1 (%)"), "FCT (2022)"] == ""
    lines = fct_papers.beside_bt2(study).set_index(["test", "metric"])
    assert lines.loc[("new / old, BCT (ours: form A)", "rank 1 (%)")].tolist()[:2] == ["25.0", "31.0\u00a0±\u00a02.5"]
    assert lines.loc[("new / new, BCT (ours: form A)", "rank 1 (%)"), "BT2"] == "60.0"
    assert lines.loc[("new / h(old), with side-information", "rank 1 (%)")].tolist()[:2] == ["", "46.0\u00a0±\u00a02.5"]
    imagenet = fct_papers.beside_imagenet(study).set_index(["test", "metric"])
    assert imagenet.loc[("new / new", "mAP (%)"), "FCT (2023)"] == "45.6"
    assert lines.loc[("new / old, BT2 (not run here)", "mAP (%)")].tolist() == ["27.7", "", 0]
    fastfill = fct_papers.beside_fastfill(study).set_index(["test", "metric"])
    assert fastfill.loc[("FastFill, its own order", "rank 1 (%)")].tolist()[:2] == ["53.6", "49.0\u00a0±\u00a02.5"]
    assert fastfill.loc[("FCT, random order", "mAP (%)")].tolist()[:2] == ["29.1", "45.0\u00a0±\u00a02.5"]


def test_other_data_sets_of_the_papers_stand_in_tables_of_their_own(study):
    bt2 = fct_papers.beside_bt2_imagenet(study).set_index(["test", "metric"])
    assert bt2.loc[("new / old, BCT (ours: form A)", "rank 1 (%)")].tolist()[:2] == ["44.3", "31.0\u00a0±\u00a02.5"]
    assert bt2.loc[("new / new", "mAP (%)"), "BT2"] == "52.3"
    fastfill = fct_papers.beside_fastfill_imagenet(study).set_index(["test", "metric"])
    quoted = [62.8, 81.1, 40.5, 66.5, 83.6, 44.8, 64.7, 82.4, 42.6, 67.8, 84.2, 46.2]
    assert fastfill["FastFill (2023)"].astype(float).tolist() == quoted
    line = fastfill.loc[("FastFill, its own order, with", "rank 1 (%)")]
    assert line.tolist() == ["67.8", "49.0\u00a0±\u00a02.5", 3]


def test_with_and_without_side_information_are_told_apart_beside_fastfill(study):
    frame = study.frame.copy()
    frame.loc[frame["variant"] == "random order, with side-information", "value"] += 0.1
    lines = fct_papers.beside_fastfill_imagenet(Rows(frame, study.sidecar)).set_index(["test", "metric"])["this study"]
    assert lines["FCT, random order, without", "rank 1 (%)"].startswith("45.0")
    assert lines["FCT, random order, with", "rank 1 (%)"].startswith("55.0")


def test_the_abstracts_gains_stand_above_ours(study):
    lines = fct_papers.gain_table(study)
    quoted, ours = lines[lines["from"] == "FCT, abstract"], lines[lines["from"] == "this study"]
    assert dict(zip(quoted["data set"], quoted["FCT − BCT (points)"], strict=True)) == {
        "ImageNet-1k": "+18.1",
        "Places-365": "+5.4",
        "VGG-Face2": "+8.3",
    }
    assert list(ours["score"])[::3] == ["rank 1, cosine", "rank 1, euclidean"]
    # 43 − 28 in every seed.
    assert set(ours["FCT − BCT (points)"]) == {"+15.0\u00a0±\u00a00.0"}
    assert set(ours["n"]) == {"3"}
    of_two = study.frame[~((study.frame["method"] == "BCT A") & (study.frame["seed"] == 2))]
    assert fct_papers.gain_table(Rows(of_two, {}))["n"].tolist() == ["", "", "", *["2"] * 6]


def test_curves_begin_at_the_transformed_gallery(study):
    lines = fct_backfilling.start_table(study)
    names = ["side-information", "h of", "distance"]
    assert [tuple(line) for line in lines[names].to_numpy()] == list(
        itertools.product(("without", "with"), ("FCT", "FastFill"), DISTANCES)
    )
    line = lines.set_index(names).loc[("without", "FastFill", "euclidean")]
    # The curves of these rows are the same in every seed: 45 at the start; new/new is 50, 51, 52.
    assert line["rank 1 (%)"] == "45.0\u00a0±\u00a00.0"
    assert line["mAP: start − new / new (points)"] == "-6.0\u00a0±\u00a02.5"
    assert line["n"] == 3


def test_every_claim_finds_its_rows(study):
    judged = {claim.id: claims.judge(claim, study, "study", "cifar100").verdict for claim in claims.load("fct")}
    assert judged
    assert {each.outcome for each in judged.values()} == {"reproduced"}
    assert [round(100 * link.mean, 6) for link in judged["fct-chain-rank-1"].links] == [10, 3, 7]
    assert [round(100 * link.mean, 6) for link in judged["fastfill-above-fct"].links] == [4]


def test_the_worked_example_is_its_formula():
    lines = fct_backfilling.worked_example()
    # Item 2: half of (2 − 1)², and the cross-entropy of logits (0, 1) with 0.95 of the target on class 1.
    log_sum = np.log(1 + np.e)
    missed = 0.5 + 0.95 * (log_sum - 1) + 0.05 * log_sum
    assert lines["missed ℓ"][1] == f"{missed:.4f}"
    assert lines["best s = ln ℓ"][1] == f"{np.log(missed):.4f}"
    assert lines["loss"][1] == f"{0.5 + 0.5 * np.log(missed):.4f}"
    assert lines["backfilled"].tolist() == ["3", "2", "1"]


def test_levels_show_both_distances_for_each_score(study):
    figure = fct.levels(study)
    assert [axis.get_title() for axis in figure.axes] == ["rank 1", "rank 5", "mAP"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(fct.SHOWN)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(DISTANCES)
    means = {round(float(x), 6) for points in figure.axes[0].collections for x, _ in points.get_offsets()}
    assert {31.0, 44.0, 51.0, 33.0} <= means


def test_curves_have_a_panel_without_and_with_side_information(study):
    figure = fct.curves(study)
    assert [axis.get_title() for axis in figure.axes] == ["without side-information", "with side-information"]
    for axis in figure.axes:
        lines = {line.get_label(): line for line in axis.get_lines()}
        line = lines["h of FastFill, uncertainty order"]
        assert line.get_xdata()[[0, -1]].tolist() == [0, 100]
        assert line.get_ydata()[[0, -1]] == pytest.approx([48, 50.1])
        assert lines["new / new: all backfilled"].get_ydata()[0] == pytest.approx(51)
        markers = [line.get_marker() for label, line in lines.items() if label.startswith("h of")]
        assert len(set(markers)) == len(markers) == 4


def test_pictures_begin_with_the_most_doubted():
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2).clone()
    images = ImageSet(pixels, torch.zeros(10, dtype=torch.int64), ("a",))
    doubts = np.array([0, 1, 2, 3, 4, 9, 8, 7, 6, 5], float)
    figure = fct.first_and_last(images, doubts, count=3)
    shown = [int(axis.get_images()[0].get_array().flat[0]) for axis in figure.axes]
    assert shown == [5, 6, 7, 0, 1, 2]
    assert [axis.get_title() for axis in figure.axes] == ["9.0", "8.0", "7.0", "0.0", "1.0", "2.0"]
    assert len(fct.first_and_last(images, doubts, count=30).axes) == 10
