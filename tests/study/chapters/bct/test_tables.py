import numpy as np
import pytest

from compatlib.evaluation.compatibility import average_accuracy, average_compatibility
from compatlib.study.chapters.bct import papers, plan, tables, tuning
from compatlib.study.chapters.bct.plan import ALL_METHODS, CHAIN, METHODS
from compatlib.study.lab import sidecars
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.figures.cells import METRICS, SUBSETS, pair
from compatlib.study.lab.figures.papers import beside
from compatlib.study.lab.rows import Rows
from compatlib.study.settings import settings
from tests.study.chapters.bct.made_rows import CROSS, OLD, SELF, bct
from tests.study.lab.figures import made

PLAIN = {"split": "class-incremental", "variant": "", "x_name": ""}


@pytest.fixture(scope="module")
def by_hand() -> Rows:
    return bct()


@pytest.fixture(scope="module")
def published() -> Rows:
    return made.without_classes(sidecars.published(plan.CHAPTER, "study", "cifar100"))


@pytest.mark.parametrize("source", ["by_hand", "published"])
@pytest.mark.parametrize("split", ["class-incremental", "sample-incremental"])
def test_what_must_be_beaten_stands_above_every_method(source, split, request):
    rows = request.getfixturevalue(source)
    lines = tables.result_table(rows, split).set_index("method")
    criteria = tables.criterion_table(rows, split).set_index("method")
    every = METHODS if source == "by_hand" else ALL_METHODS
    methods = list(every) if split == "class-incremental" else ["independent", "BCT C"]
    assert list(lines.index[1:]) == list(criteria.index) == methods
    where = {**PLAIN, "split": split, "subset": "all"}
    assert lines["new / old: mAP (%)"].iloc[0] == made.level(rows, **where, **OLD, metric="map")
    assert lines["new / new: mAP (%)"].iloc[0] == lines["negative flips (%)"].iloc[0] == ""
    for method in methods:
        for metric, title in METRICS.items():
            cell = {**where, "metric": metric}
            own = {"method": method}
            assert lines.loc[method, f"new / old: {title} (%)"] == made.level(rows, **cell, **CROSS, **own)
            assert lines.loc[method, f"new / new: {title} (%)"] == made.level(rows, **cell, **SELF, **own)
            gained = made.gained(rows, {**CROSS, **own}, OLD, **cell)
            assert criteria.loc[method, f"{title}: new/old − old/old (points)"] == gained
            cross, old = made.values(rows, **cell, **CROSS, **own), made.values(rows, **cell, **OLD)
            assert criteria.loc[method, f"{title}: seeds that meet it"] == f"{(cross > old).sum()} of {len(cross)}"


def test_subsets_are_compared_with_the_same_subset(by_hand):
    lines = tables.subset_table(by_hand).set_index(["method", "queries"])
    assert len(lines) == 3 * len(METHODS)
    for subset, words in SUBSETS.items():
        line, where = lines.loc["BCT A", words], {**PLAIN, "subset": subset}
        own, alone = {**SELF, "method": "BCT A"}, {**SELF, "method": "independent"}
        cross = {**CROSS, "method": "BCT A"}
        gained = made.gained(by_hand, cross, OLD, **where, metric="cmc@5")
        assert line["new/old − old/old, rank 5 (points)"] == gained
        assert line["new/new − paragon, rank 1 (points)"] == made.gained(by_hand, own, alone, **where, metric="cmc@1")
        assert line["negative flips (%)"] == made.level(by_hand, **where, **cross, metric="negative_flips")
    assert lines.loc[("independent", "all classes"), "new/new − paragon, rank 1 (points)"] == ""


def test_diagnoses_are_of_the_models_that_they_name(by_hand):
    own, cross = {**PLAIN, **SELF, "method": "L2"}, {**PLAIN, **CROSS, "method": "L2"}
    line = tables.collapse_table(by_hand).set_index("method").loc["L2"]
    assert line["dead coordinates (%)"] == made.level(by_hand, **own, metric="dead_coordinates")
    assert line["new/old: queries that one item answers (%)"] == made.level(by_hand, **cross, metric="top_share")
    cosine = made.values(by_hand, **cross, subset="known", metric="cosine").mean()
    assert line["cosine of new and old, classes old knew"] == f"{cosine:.2f}"
    means = tables.class_mean_table(by_hand).set_index("queries embedded by")
    assert list(means.index) == ["old", *METHODS]
    for words, query, method in (("old", "old", "independent"), ("L2", "new", "L2")):
        cell = {**PLAIN, **pair(query, "old means"), "method": method, "subset": "unknown", "metric": "cmc@1"}
        assert means.loc[words, "classes new to old: old class means (%)"] == made.level(by_hand, **cell)
    rates = tables.threshold_table(by_hand).set_index(["method", "queries"])
    far = made.values(by_hand, **cross, subset="known", metric="transferred FAR").mean()
    assert rates.loc[("L2", "classes old knew"), "new/old: FAR (%)"] == f"{100 * far:.2f}"


def test_the_old_classifier_is_shown_form_by_form(by_hand):
    lines = tables.classifier_table(by_hand).set_index(["rows of", "embeddings of"])
    assert list(lines.index) == [(f"BCT {x}", each) for x in "ABC" for each in ("old", f"new, BCT {x}")]
    blank = lines.loc["BCT A", ["classes new to old: put right (%)", "classes old knew: put into made rows (%)"]]
    assert set(blank.to_numpy().flat) == {""}
    cell = {**PLAIN, "method": "BCT C", **pair("new", "classifier")}
    line = lines.loc["BCT C", "new, BCT C"]
    assert line["classes new to old: put right (%)"] == made.level(
        by_hand, **cell, subset="unknown", metric="classified"
    )
    loss = made.values(by_hand, **cell, subset="known", metric="influence loss").mean()
    assert line["classes old knew: influence loss"] == f"{loss:.1f}"
    of_rows = tables.rows_table(by_hand).set_index("form")
    assert list(of_rows.index) == ["B", "C"]
    alike = made.values(by_hand, method="BCT B", **pair("real rows", "made rows"), metric="cosine").mean()
    assert of_rows.loc["B", "cosine, real and made"] == f"{alike:+.2f}"


def test_forms_that_were_not_measured_have_no_line(by_hand):
    some = Rows(by_hand.of(method=["independent", "BCT A"]), by_hand.sidecar)
    assert set(tables.classifier_table(some)["rows of"]) == {"BCT A"}
    assert tables.rows_table(some).empty
    assert list(tables.rows_table(Rows(by_hand.of(method="BCT C"), by_hand.sidecar))["form"]) == ["C"]


def test_every_change_has_its_line(by_hand):
    lines = tables.changes_table(by_hand).set_index("what changes")
    assert list(lines.index) == ["classes", "images of every class", *CHANGES]
    assert list(lines["n"]) == [3, 3, *[1] * len(CHANGES)]
    for words, form, place in (
        ("images of every class", "BCT C", {**PLAIN, "split": "sample-incremental"}),
        ("a longer embedding", "BCT A", {**PLAIN, "variant": "a longer embedding"}),
    ):
        where = {**place, "subset": "all", "metric": "cmc@1"}
        cross = {**CROSS, "method": form}
        assert lines.loc[words, "criterion (points)"] == made.gained(by_hand, cross, OLD, **where)
        assert lines.loc[words, "new / old, BCT (%)"] == made.level(by_hand, **where, **cross)
        assert lines.loc[words, "paragon (%)"] == made.level(by_hand, **where, **SELF, method="independent")


@pytest.mark.parametrize("source", ["by_hand", "published"])
def test_a_chain_is_summed_up_by_its_lower_triangle(source, request):
    rows = request.getfixturevalue(source)
    where = {"split": "three generations", "method": "BCT A", "variant": "", "subset": "all", "metric": "cmc@1"}
    line = tables.chain_table(rows).set_index("chain").loc["BCT A"]
    tests = [[made.values(rows, **where, **pair(query, gallery)) for gallery in CHAIN] for query in CHAIN]
    matrices = np.array(tests).transpose(2, 0, 1)
    for title, score in (("AC (%)", average_compatibility), ("AA (%)", average_accuracy)):
        assert line[title] == made.text(tests[0][0] * 0 + [score(matrix) for matrix in matrices])
    assert line["3 / 1 (%)"] == made.text(tests[2][0])


def test_the_tuning_marks_what_the_study_uses():
    cells = [
        {"method": method, "x": weights, **test, "subset": "all", "metric": tuple(METRICS)}
        for method, weights in tuning.WEIGHTS.items()
        for test in (CROSS, SELF)
    ]
    tuned = made.made(*cells, seeds=(100,), x_name="weight")
    lines = tables.tuning_table(tuned, settings({"profile": "study"}, plan.Knobs))
    assert list(dict.fromkeys(lines["method"])) == list(tuning.WEIGHTS)
    assert len(lines) == sum(map(len, tuning.WEIGHTS.values()))
    chosen = lines[lines["chosen"] == "yes"].set_index("method")
    assert sorted(chosen.index) == sorted(set(tuning.WEIGHTS) - {"triplet"})
    assert chosen.loc["BCT A", "weight"] == "1"
    other = tables.tuning_table(tuned, settings({"profile": "study", "weights": {"BCT A": 0.3}}, plan.Knobs))
    assert list(other[(other["chosen"] == "yes") & (other["method"] == "BCT A")]["weight"]) == ["0.3"]
    expected = made.level(tuned, **SELF, method="BCT A", x=1.0, metric="map")
    assert chosen.loc["BCT A", "new / new, mAP (%)"] == expected


def test_the_comparisons_find_our_rows_and_the_papers(by_hand):
    assert [len(beside(by_hand, each)) for each in (papers.BT2_CIFAR, papers.BT2_IMAGENET)] == [27, 21]
    lines = beside(by_hand, papers.OPENBCT_IMAGENET).set_index(["test", "metric"])
    where = {**PLAIN, "subset": "all", "metric": "cmc@1"}
    line = lines.loc["new / old, L2 alone", "rank 1 (%)"]
    assert (line["openBCT"], line["this study"]) == ("13.0", made.level(by_hand, **where, **CROSS, method="L2"))
    places = beside(by_hand, papers.OPENBCT_PLACES)
    assert len(places[places["metric"] != "mAP (%)"]) == 8
    assert all(places[places["metric"] != "mAP (%)"]["openBCT"])
    chain = beside(by_hand, papers.BT2_CHAIN).set_index("test")
    assert len(chain) == 13
    assert all(chain["BT2"])
    assert chain.loc["4 / 3, BCT (ViT / ResNet-50)"].tolist()[1:] == ["70.3", "", 0]
    own = {"split": "three generations", "method": "BCT A", "subset": "all", "metric": "cmc@1"}
    own |= pair("generation 2", "generation 1")
    line = chain.loc["2 / 1, BCT (VGG / AlexNet)"]
    assert (line["BT2"], line["this study"]) == ("54.4", made.level(by_hand, **own))


def test_the_worked_example_is_what_the_formulas_give():
    lines = tables.worked_example().set_index("form")
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
