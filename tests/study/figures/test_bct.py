"""The chapter's tables and figures, from rows made by hand."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from compatlib.study import claims
from compatlib.study.chapters.bct import CHANGES, GENERATIONS, WEIGHTS
from compatlib.study.chapters.bct_tuning import WEIGHTS as TUNED
from compatlib.study.figures import bct, bct_papers, bct_tables
from compatlib.study.rows import Rows, table
from compatlib.study.upgrades import METHODS

METRICS = ("cmc@1", "cmc@5", "map")
# Rank 1 of new/old by method; old/old is 0.40, new/new 0.50 alone and 0.45 with a method.
CROSS = dict(zip(METHODS, (0.01, 0.20, 0.38, 0.39, 0.37, 0.36, 0.41, 0.42, 0.43), strict=True))
CROSS_PAIR = {"query_model": "new", "gallery_model": "old"}
RATES = {"fixed FAR": 0.001, "fixed TAR": 0.1, "transferred FAR": 0.002, "transferred TAR": 0.2}
FACTORS = {"all": 1, "known": 3, "unknown": 2}  # of the rates, by subset
BASE = {"profile": "study", "dataset": "cifar100", "chapter": "bct", "distance": "cosine"}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def scores(place: dict, method: str, cross: float, seed: int, subsets=("all", "known", "unknown")):
    """Every seed is worth a point; known classes 10 points more, unknown ones 10 less."""
    tests = {("new", "old"): cross, ("new", "new"): 0.50 if method == "independent" else 0.45}
    if method == "independent":
        tests["old", "old"] = 0.40
    for subset in subsets:
        shift = 0.01 * seed + {"all": 0.0, "known": 0.1, "unknown": -0.1}[subset]
        for (query, gallery), level in tests.items():
            pair = {"query_model": query, "gallery_model": gallery, "subset": subset, "method": method, "seed": seed}
            yield from ({**BASE, **place, **pair, "metric": metric, "value": level + shift} for metric in METRICS)
        cell = {**BASE, **place, "method": method, "query_model": "new", "gallery_model": "old", "subset": subset}
        yield {**cell, "metric": "negative_flips", "seed": seed, "value": 0.05}


def plain(seed: int):
    place = {"split": "class-incremental"}
    for method, cross in CROSS.items():
        yield from scores(place, method, cross, seed)
        cell = {**BASE, **place, "method": method, "seed": seed}
        for subset, (name, rate) in itertools.product(FACTORS, RATES.items()):
            pair = {"query_model": "new", "gallery_model": "old", "subset": subset}
            yield {**cell, **pair, "metric": name, "value": FACTORS[subset] * rate}
        for subset in ("all", "known", "unknown"):
            pair = {"query_model": "new", "gallery_model": "old", "subset": subset}
            yield {**cell, **pair, "metric": "cosine", "value": 0.9}
        for query in ("new", "old") if method == "independent" else ("new",):
            for subset in ("all", "known", "unknown"):
                pair = {"query_model": query, "gallery_model": "old means", "subset": subset}
                yield {**cell, **pair, "metric": "cmc@1", "value": cross + 0.1}
            own = {"query_model": query, "gallery_model": query, "subset": "all"}
            yield {**cell, **own, "metric": "dead_coordinates", "value": 0.5}
            yield {**cell, **own, "metric": "zero_vectors", "value": 0.25}
        yield {**cell, **CROSS_PAIR, "subset": "all", "metric": "top_share", "value": 0.125}
    for form in ("BCT A", "BCT B", "BCT C"):
        for query in ("old", "new"):
            for subset in ("known",) if form == "BCT A" else ("all", "known", "unknown"):
                cell = {**BASE, **place, "method": form, "seed": seed, "query_model": query, "subset": subset}
                for metric, value in (("classified", 0.6), ("into made rows", 1.0), ("influence loss", 14.5)):
                    yield {**cell, "gallery_model": "classifier", "metric": metric, "value": value}
    for method, made in (("BCT B", 6.0), ("BCT C", 3.0)):
        cell = {**BASE, **place, "method": method, "seed": seed}
        for first, norm in (("real rows", 3.0), ("made rows", made)):
            yield {**cell, "query_model": first, "gallery_model": first, "metric": "norm", "value": norm}
            for second in ("real rows", "made rows"):
                alike = 0.0 if first != second else {"real rows": -0.02, "made rows": 0.8}[first]
                yield {**cell, "query_model": first, "gallery_model": second, "metric": "cosine", "value": alike}
    for subset in ("all", "known", "unknown"):
        yield {**BASE, **place, "method": "chance", "subset": subset, "metric": "cmc@1", "seed": seed, "value": 0.01}
    for method in ("independent", "BCT C"):
        yield from scores({"split": "sample-incremental"}, method, CROSS[method], seed)


def chain(seed: int):
    """Alone the diagonal is 0.1, 0.2, 0.3 and all else 0; with BCT the lower triangle is 0.05 above its column's."""
    for method in ("independent", "BCT A", "BCT C"):
        for i, query in enumerate(GENERATIONS):
            for j, gallery in enumerate(GENERATIONS):
                below = 0.1 * (j + 1) + 0.05 if method != "independent" and i > j else 0.0
                pair = {"query_model": query, "gallery_model": gallery, "method": method, "subset": "all", "seed": seed}
                value = 0.1 * (i + 1) if i == j else below
                yield {**BASE, "split": "three generations", **pair, "metric": "cmc@1", "value": value}


def sweeps(seed: int):
    for change in CHANGES:
        for method in ("independent", "BCT A"):
            yield from scores({"split": "class-incremental", "variant": change}, method, CROSS[method], seed)
    for split, subsets in (("class-incremental", ("all", "known", "unknown")), ("open-set", ("all",))):
        place = {"split": split, "x_name": "weight"}
        yield from scores({**place, "x": 0.0}, "independent", 0.01, seed, subsets)
        for weight in WEIGHTS:
            for form in ("BCT A",) if split == "open-set" else ("BCT A", "BCT C"):
                yield from scores({**place, "x": weight}, form, 0.4 + 0.01 * weight, seed, subsets)


@pytest.fixture(scope="module")
def laptop():
    """Three seeds of what claims need, the sweeps for the first."""
    records = [record for seed in range(3) for record in (*plain(seed), *chain(seed))]
    return Rows(table([*records, *sweeps(0)]), {})


@pytest.fixture(scope="module")
def study():
    records = [record for seed in range(3) for record in (*plain(seed), *chain(seed))]
    group = {f"study/cifar100/{seed}": {"made_from": {}} for seed in range(3)}
    return Rows(table(records), group)


def test_the_result_table_has_what_must_be_beaten_and_every_method(laptop):
    lines = bct_tables.result_table(laptop).set_index("method")
    assert list(lines.index[1:]) == list(METHODS)
    assert lines["new / old: rank 1 (%)"].iloc[0] == "41.0\u00a0±\u00a02.5"
    assert lines.loc["L2", "new / old: rank 1 (%)"] == "21.0\u00a0±\u00a02.5"
    assert lines.loc["BCT C", "new / new: mAP (%)"] == "46.0\u00a0±\u00a02.5"
    assert lines.loc["BCT C", "negative flips (%)"] == "5.0\u00a0±\u00a00.0"
    assert lines["new / new: rank 1 (%)"].iloc[0] == ""
    assert (lines["n"] == 3).all()


def test_the_criterion_counts_seeds_and_compares_with_old_old(laptop):
    lines = bct_tables.criterion_table(laptop).set_index("method")
    assert lines.loc["BCT C", "rank 1: new/old − old/old (points)"] == "+3.0\u00a0±\u00a00.0"
    assert lines.loc["BCT C", "rank 1: seeds that meet it"] == "3 of 3"
    assert lines.loc["L2", "rank 1: seeds that meet it"] == "0 of 3"
    assert lines.loc["BCT C", "update gain at rank 1"] == "0.30"


def test_the_gain_has_its_interval_from_five_seeds():
    for seeds, shown in ((4, "0.30"), (5, "0.30 [0.30, 0.30]")):
        measured = Rows(table([record for seed in range(seeds) for record in plain(seed)]), {})
        lines = bct_tables.criterion_table(measured).set_index("method")
        assert lines.loc["BCT C", "update gain at rank 1"] == shown


def test_a_single_seed_has_neither_interval_nor_gain():
    lines = bct_tables.criterion_table(Rows(table(plain(0)), {})).set_index("method")
    assert lines.loc["BCT B", "rank 1: new/old − old/old (points)"] == "+2.0"
    assert lines.loc["BCT B", "update gain at rank 1"] == "undefined"


def test_subsets_are_compared_with_old_old_of_the_same_subset(laptop):
    lines = bct_tables.subset_table(laptop).set_index(["method", "queries"])
    assert len(lines) == 3 * len(METHODS)
    assert set(lines.loc["BCT A"]["new/old − old/old, rank 1 (points)"]) == {"+1.0\u00a0±\u00a00.0"}
    assert set(lines.loc["BCT A"]["new/new − paragon, rank 1 (points)"]) == {"-5.0\u00a0±\u00a00.0"}
    assert set(lines["negative flips (%)"]) == {"5.0\u00a0±\u00a00.0"}


def test_more_seeds_are_paired_by_seed_under_cosine_alone():
    # Seed by seed M(new, old) − M(old, old) is 1, 1, 1, 1, −9 points in rank 1; Euclidean rows would be others.
    records = []
    for seed in range(5):
        for method in ("independent", "BCT A"):
            for row in scores({"split": "class-incremental", "chapter": "fct"}, method, CROSS[method], seed):
                is_last = seed == 4 and row["metric"] == "cmc@1" and (row["query_model"], method) == ("new", "BCT A")
                lower = 0.1 if is_last and row["gallery_model"] == "old" else 0.0
                records += [{**row, "value": row["value"] - lower}, {**row, "distance": "euclidean", "value": 0.7}]
    lines = bct_tables.more_seeds_table(Rows(table(records), {})).set_index("queries")
    assert list(lines.index) == ["all classes", "classes old knew", "classes new to old"]
    # The mean is −1, the deviation the root of 20, and half of the interval t(0.975, 4) times it over the root of 5.
    assert set(lines["new/old − old/old, rank 1 (points)"]) == {"-1.0\u00a0±\u00a05.6"}
    assert set(lines["new/old − old/old, rank 5 (points)"]) == {"+1.0\u00a0±\u00a00.0"}
    assert set(lines["new/old − old/old, mAP (points)"]) == {"+1.0\u00a0±\u00a00.0"}
    assert set(lines["new/new − paragon, rank 1 (points)"]) == {"-5.0\u00a0±\u00a00.0"}
    assert (lines["n"] == 5).all()


def test_signs_of_collapse_stand_beside_every_method(study):
    lines = bct_tables.collapse_table(study).set_index("method")
    assert list(lines.index) == list(METHODS)
    assert set(lines["dead coordinates (%)"]) == {"50.0\u00a0±\u00a00.0"}
    assert set(lines["zero vectors (%)"]) == {"25.0\u00a0±\u00a00.0"}
    assert set(lines["new/old: queries that one item answers (%)"]) == {"12.5\u00a0±\u00a00.0"}
    assert set(lines["cosine of new and old, classes old knew"]) == {"0.90"}


def test_the_old_classifier_is_shown_form_by_form(study):
    lines = bct_tables.classifier_table(study)
    assert list(lines["rows of"]) == ["BCT A", "BCT A", "BCT B", "BCT B", "BCT C", "BCT C"]
    assert list(lines["embeddings of"]) == ["old", "new, BCT A", "old", "new, BCT B", "old", "new, BCT C"]
    assert set(lines["classes old knew: put right (%)"]) == {"60.0\u00a0±\u00a00.0"}
    assert list(lines["classes new to old: put right (%)"]) == ["", ""] + ["60.0\u00a0±\u00a00.0"] * 4
    assert list(lines["classes old knew: put into made rows (%)"]) == ["", ""] + ["100.0\u00a0±\u00a00.0"] * 4
    assert list(lines["classes new to old: influence loss"]) == ["", "", "14.5", "14.5", "14.5", "14.5"]


def test_class_means_stand_beside_the_gallery(laptop):
    lines = bct_tables.class_mean_table(laptop).set_index("queries embedded by")
    assert list(lines.index) == ["old", *METHODS]
    assert lines.loc["BCT C", "all classes: old gallery (%)"] == "44.0\u00a0±\u00a02.5"
    assert lines.loc["BCT C", "classes old knew: old class means (%)"] == "53.0\u00a0±\u00a00.0"


def test_rows_are_described_by_length_and_likeness(laptop):
    lines = bct_tables.rows_table(laptop).set_index("form")
    assert list(lines["length of made rows"]) == ["6.00", "3.00"]
    assert list(lines["cosine, made and made"]) == ["+0.80", "+0.80"]
    assert list(lines["cosine, real and real"]) == ["-0.02", "-0.02"]


def test_everything_that_an_upgrade_may_change_has_its_line(laptop):
    lines = bct_tables.changes_table(laptop).set_index("what changes")
    assert list(lines.index) == ["classes", "images of every class", *CHANGES]
    assert lines.loc["a longer embedding", "criterion (points)"] == "+1.0"
    assert lines.loc["classes", "criterion (points)"] == "+1.0\u00a0±\u00a00.0"
    assert lines.loc["images of every class", "criterion (points)"] == "+3.0\u00a0±\u00a00.0"
    assert list(lines["n"]) == [3, 3, *[1] * len(CHANGES)]


def test_a_chain_is_summed_up_by_its_lower_triangle(study):
    lines = bct_tables.chain_table(study).set_index("chain")
    assert list(lines.index) == ["independent", "BCT A", "BCT C"]
    assert lines.loc["independent", "AC (%)"] == "0.0\u00a0±\u00a00.0"
    assert lines.loc["BCT C", "AC (%)"] == "100.0\u00a0±\u00a00.0"
    # (0.1 + 0.2 + 0.3 + 0.15 + 0.15 + 0.25) / 6
    assert lines.loc["BCT C", "AA (%)"].startswith("19.2")
    assert lines.loc["BCT C", "3 / 1 (%)"].startswith("15.0")
    assert lines.loc["BCT C", "3 / 3 (%)"].startswith("30.0")


def test_thresholds_keep_two_digits(study):
    lines = bct_tables.threshold_table(study).set_index(["method", "queries"])
    cases = (
        ("all classes", "0.20", "10.00"),
        ("classes old knew", "0.60", "30.00"),
        ("classes new to old", "0.40", "20.00"),
    )
    for queries, false, true in cases:
        assert lines.loc[("BCT C", queries), "new/old: FAR (%)"] == false
        assert lines.loc[("BCT C", queries), "old/old: TAR (%)"] == true


def test_the_study_stands_beside_the_papers_own_numbers(study):
    lines = bct_papers.beside_bt2(study).set_index(["test", "metric"])
    for form, ours in (("A", "42.0\u00a0±\u00a02.5"), ("C", "44.0\u00a0±\u00a02.5")):
        line = lines.loc[(f"new / old, BCT (ours: form {form})", "rank 1 (%)")]
        assert (line["BT2"], line["this study"]) == ("25.0", ours)
    own = lines.loc[("new / old, BT2 itself (not run here)", "rank 1 (%)")]
    assert (own["BT2"], own["this study"], own["n"]) == ("38.7", "", 0)
    lines = bct_papers.beside_openbct(study).set_index(["test", "metric"])
    assert lines.loc[("new / old, L2 alone", "rank 1 (%)"), "openBCT"] == "13.0"
    assert lines.loc[("new / new, paragon", "rank 5 (%)"), "openBCT"] == "84.0"
    assert lines.loc[("old / old", "mAP (%)"), "openBCT"] == ""
    blank = lines.loc[("new / old, BCT, normalised classifier (not run here)", "rank 1 (%)")]
    assert (blank["openBCT"], blank["this study"], blank["n"]) == ("46.8", "", 0)


def test_other_data_sets_of_the_papers_stand_beside_the_same_rows(study):
    lines = bct_papers.beside_bt2_imagenet(study).set_index(["test", "metric"])
    line = lines.loc[("new / old, BCT (ours: form A)", "rank 1 (%)")]
    assert (line["BT2"], line["this study"]) == ("44.3", "42.0\u00a0±\u00a02.5")
    assert all(lines["BT2"])
    lines = bct_papers.beside_openbct_places(study).set_index(["test", "metric"])
    line = lines.loc[("new / old, BCT (form A)", "rank 5 (%)")]
    assert (line["openBCT"], line["this study"]) == ("57.8", "42.0\u00a0±\u00a02.5")
    given = lines[lines.index.get_level_values("metric") != "mAP (%)"]
    assert len(given) == 8
    assert all(given["openBCT"])


def test_the_chain_stands_beside_the_papers_generation_by_generation(study):
    lines = bct_papers.beside_bt2_chain(study).set_index("test")
    assert len(lines) == 13
    assert all(lines["BT2"])
    for words, quoted, ours in (
        ("1 / 1, trained apart (AlexNet / AlexNet)", "46.6", "10.0\u00a0±\u00a00.0"),
        ("4 / 4, trained apart (ViT / ViT)", "78.0", ""),
        ("2 / 1, BCT (VGG / AlexNet)", "54.4", "15.0\u00a0±\u00a00.0"),
        ("3 / 1, BCT (ResNet-50 / AlexNet)", "46.0", "15.0\u00a0±\u00a00.0"),
        ("3 / 2, BCT (ResNet-50 / VGG)", "48.9", "25.0\u00a0±\u00a00.0"),
        ("4 / 3, BCT (ViT / ResNet-50)", "70.3", ""),
    ):
        assert (lines.loc[words, "BT2"], lines.loc[words, "this study"]) == (quoted, ours)


def test_the_tuning_table_marks_what_the_study_uses():
    records = [
        {**BASE, "chapter": "bct_tuning", "method": method, "x_name": "weight", "x": weight, "seed": 100}
        | {"query_model": "new", "gallery_model": gallery, "subset": "all", "metric": metric, "value": 0.1 * weight}
        for method, weights in TUNED.items()
        for weight in weights
        for gallery in ("old", "new")
        for metric in ("cmc@1", "map")
    ]
    lines = bct_tables.tuning_table(Rows(table(records), {}))
    assert len(lines) == sum(map(len, TUNED.values()))
    chosen = lines[lines["chosen"] == "yes"]
    assert sorted(chosen["method"]) == sorted(set(TUNED) - {"triplet"})


def test_the_worked_example_is_what_the_formulas_give():
    lines = bct_tables.worked_example().set_index("form")
    assert list(lines["row of the third class"]) == ["none", "(3.0000, 4.0000)", "(1.2000, 1.6000)"]
    rows = {"A": [[2, 0], [0, 2]], "B": [[2, 0], [0, 2], [3, 4]], "C": [[2, 0], [0, 2], [1.2, 1.6]]}
    for form, weight in rows.items():
        losses = [0.0, 0.0]
        for place, (embedding, label) in enumerate((([1, 0], 0), ([1, 1], 2))):
            logits = np.array(weight) @ embedding
            if label < len(logits):
                losses[place] = np.log(np.exp(logits).sum()) - logits[label]
        assert lines.loc[form, "loss of an image of class 0"] == f"{losses[0]:.4f}"
        assert lines.loc[form, "of class 2"] == f"{losses[1]:.4f}"
        mean = losses[0] if form == "A" else sum(losses) / 2
        assert lines.loc[form, "influence loss of the batch"] == f"{mean:.4f}"


@pytest.mark.parametrize("figure", [bct.criterion, bct.trade_off, bct.generations, bct.sweep])
def test_a_figure_is_drawn_once_and_names_its_axes(laptop, figure):
    drawn = figure(laptop)
    drawn.canvas.draw()
    assert not plt.get_fignums()
    panels = [axis for axis in drawn.axes if axis.get_label() != "<colorbar>"]
    assert all(axis.get_xlabel() for axis in panels)
    assert any(axis.get_ylabel() or axis.get_yticklabels() for axis in panels)


def test_the_criterion_figure_has_a_marker_for_every_metric_and_a_line_at_zero(study):
    drawn = bct.criterion(study)
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels == ["rank 1", "rank 5", "mAP"]
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == list(METHODS)
    for axis in drawn.axes:
        assert any(np.all(np.asarray(line.get_xdata()) == 0) for line in axis.lines)


def test_every_claim_of_the_chapter_finds_its_rows(study):
    judged = [claims.judge(claim, study, "study", "cifar100") for claim in claims.load("bct")]
    assert len(judged) >= 10
    assert all(each.verdict is not None for each in judged)
    outcomes = {each.claim.id: each.verdict.outcome for each in judged}
    assert outcomes["bct-criterion-rank-1"] == "reproduced"
    assert outcomes["bct-misses-rank-1"] == "not reproduced"
