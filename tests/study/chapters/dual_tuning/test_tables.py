import numpy as np
import pytest

from compatlib.study.chapters.dual_tuning import plan, tables, tuning
from compatlib.study.chapters.dual_tuning.plan import (
    DUAL,
    FEW,
    HEADLINE,
    IN_RANDOM_ORDER,
    METHODS,
    ON_OUTLIERS,
    OTHER_HEAD,
    OTHER_LOSS,
    OWN,
    PARTS,
    RELEASE,
    SHARE_OF_OUTLIERS,
)
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, SUBSETS
from compatlib.study.lab.rows import Rows
from compatlib.study.settings import settings
from tests.study.chapters.dual_tuning.made_rows import ALL, CROSS, OLD, SELF, dual
from tests.study.lab.figures import made

PLAIN = {"split": "class-incremental", "variant": OWN, "x_name": ""}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return dual()


@pytest.mark.parametrize(("split", "methods"), [("class-incremental", METHODS), ("open-set", FEW)])
def test_what_must_be_beaten_stands_above_every_method(rows, split, methods):
    lines = tables.result_table(rows, split).set_index("method")
    criteria = tables.criterion_table(rows, split).set_index("method")
    assert list(lines.index[1:]) == list(criteria.index) == list(methods)
    where = {**PLAIN, "split": split, "subset": "all"}
    assert lines["new / old: mAP (%)"].iloc[0] == made.level(rows, **where, **OLD, metric="map")
    for method in methods:
        for metric, title in RANK_1_AND_MAP.items():
            cell, own = {**where, "metric": metric}, {"method": method}
            assert lines.loc[method, f"new / old: {title} (%)"] == made.level(rows, **cell, **CROSS, **own)
            gained = made.gained(rows, {**CROSS, **own}, OLD, **cell)
            assert criteria.loc[method, f"{title}: new/old − old/old (points)"] == gained
            if method != "independent":
                paid = made.gained(rows, {**SELF, **own}, {**SELF, "method": "independent"}, **cell)
                assert criteria.loc[method, f"{title}: new/new − paragon (points)"] == paid


def test_subsets_have_a_line_each(rows):
    lines = tables.subset_table(rows).set_index(["method", "queries"])
    assert len(lines) == len(METHODS) * len(SUBSETS)
    cell = {**PLAIN, "subset": "unknown", "metric": "map"}
    expected = made.gained(rows, {**CROSS, "method": DUAL}, OLD, **cell)
    assert lines.loc[(DUAL, SUBSETS["unknown"]), "new/old − old/old, mAP (points)"] == expected


def test_other_settings_are_held_to_their_own_old_model_and_paragon(rows):
    lines = tables.setting_table(rows).set_index(["old and new", "method"])
    assert list(lines.index) == [*((OTHER_HEAD, each) for each in HEADLINE), *((OTHER_LOSS, each) for each in FEW)]
    for words, variant in ((OTHER_HEAD, OTHER_HEAD), (OTHER_LOSS, f"{OWN};{OTHER_LOSS}")):
        cell = {**PLAIN, "variant": variant, "subset": "all", "metric": "map"}
        line = lines.loc[(words, DUAL)]
        assert line["criterion (points)"] == made.gained(rows, {**CROSS, "method": DUAL}, OLD, **cell)
        paid = made.gained(rows, {**SELF, "method": DUAL}, {**SELF, "method": "independent"}, **cell)
        assert line["new/new − paragon (points)"] == paid
        assert line["old / old (%)"] == made.level(rows, **cell, **OLD)


def test_parts_stand_at_the_releases_weights_and_tuned_where_they_are_methods(rows):
    lines = tables.part_table(rows).set_index("terms")
    assert list(lines.index) == ["none", *PARTS]
    cell = {**PLAIN, "subset": "all", "metric": "map", "method": DUAL}
    for title, variant in (("the release's", RELEASE), ("tuned", OWN)):
        expected = made.level(rows, **cell | {"variant": variant}, **CROSS)
        assert lines.loc[DUAL, f"new / old, {title} weights (%)"] == expected
    assert lines.loc["old to new", "new / new, tuned weights (%)"] == ""
    assert lines.loc["old to new", "new / new, the release's weights (%)"] != ""
    apart = made.level(rows, **cell | {"method": "independent"}, **CROSS)
    assert lines.loc["none", "new / old, tuned weights (%)"] == apart
    assert lines.loc["none", "new / old, the release's weights (%)"] == ""


def test_areas_are_of_every_split_and_against_models_trained_apart(rows):
    lines = tables.area_table(rows).set_index(["split", "method"])
    assert list(lines.index) == [(split, each) for split in ("class-incremental", "open-set") for each in HEADLINE]
    cell = {"variant": IN_RANDOM_ORDER, "split": "open-set", "metric": "auc map"}
    expected = made.gained(rows, {"method": DUAL}, {"method": "independent"}, **cell)
    assert lines.loc[("open-set", DUAL), "mAP: against independent (points)"] == expected
    assert lines.loc[("open-set", "independent"), "mAP: against independent (points)"] == ""


def test_prototypes_stand_beside_the_items_they_are_means_of(rows):
    lines = tables.prototype_table(rows).set_index("queries embedded by")
    assert list(lines.index) == ["old", *METHODS]
    cell = {**PLAIN, "subset": "unknown", "metric": "cmc@1", "method": "independent", "query_model": "old"}
    for gallery, title in (("old means", "nearest prototype"), ("old", "nearest item")):
        expected = made.level(rows, **cell, gallery_model=gallery)
        assert lines.loc["old", f"{SUBSETS['unknown']}: {title} (%)"] == expected


@pytest.mark.parametrize("metric", ["map", "cmc@1"])
def test_what_outliers_took_stands_beside_the_levels(rows, metric):
    lines = tables.outlier_table(rows, metric).set_index(["mislabelled", "method"])
    assert list(lines.index) == [(share, each) for share in ("0%", "20%", "40%") for each in ON_OUTLIERS]
    place = {"x_name": SHARE_OF_OUTLIERS, "x": 0.4, "variant": OWN}
    line = lines.loc[("40%", "L2")]
    assert line["new / old (%)"] == made.level(rows, **place, **CROSS, method="L2", metric=metric)
    change = made.values(rows, **place, **SELF, method="L2", metric=f"change of {metric}")
    assert line["change of new / new (points)"] == made.text(change, "{:+.1f}")
    assert lines.loc[("0%", "L2"), "change of new / old (points)"] == ""
    assert lines.loc[("40%", "independent"), "new / old (%)"] == ""
    assert lines.loc[("40%", "independent"), "old / old (%)"] == lines.loc[("40%", DUAL), "old / old (%)"] != ""


def test_the_tuning_marks_what_the_study_uses():
    single = {"BCT A": tuning.SHARED["BCT A"], "prototypes": tuning.OWN_WEIGHTS["prototypes"]}
    place = {"variant": tuning.VARIANT, **ALL, "split": "class-incremental"}
    cells = [{**place, **test, "method": name, "x": each} for name, each in single.items() for test in (CROSS, SELF)]
    whole = {**place, "method": DUAL, "x": tuning.OWN_WEIGHTS[DUAL]}
    whole["variant"] = tuple(f"{tuning.VARIANT};mutual={mutual:g}" for mutual in tuning.OF_MUTUAL)
    tuned = made.made(*cells, *({**whole, **test} for test in (CROSS, SELF)), seeds=(100,), x_name="weight")
    lines = tables.tuning_table(tuned, settings({"profile": "study"}, plan.Knobs))
    assert list(dict.fromkeys(lines["method"])) == ["BCT A", "prototypes", DUAL]
    assert len(lines) == 4 + 6 + 5 * 4
    chosen = lines[lines["chosen"] == "yes"].set_index("method")
    assert list(chosen.index) == ["BCT A", "prototypes", DUAL]
    assert (chosen.loc[DUAL, "weight"], chosen.loc[DUAL, "mutual terms ×"]) == ("0.1", "0.2")
    given = {"weights": {DUAL: 0.3}, "mutual": {DUAL: 1.0}}
    other = tables.tuning_table(tuned, settings({"profile": "study", **given}, plan.Knobs))
    chosen = other[other["chosen"] == "yes"].set_index("method")
    assert (chosen.loc[DUAL, "weight"], chosen.loc[DUAL, "mutual terms ×"]) == ("0.3", "1")
    expected = made.level(tuned, **SELF, method="BCT A", x=1.0, metric="map")
    assert chosen.loc["BCT A", "new / new, mAP (%)"] == expected


def test_collapse_is_told_of_every_method(rows):
    lines = tables.collapse_table(rows).set_index("method")
    cell = {**PLAIN, "method": "L2", "metric": "dead_coordinates"}
    assert lines.loc["L2", "dead coordinates (%)"] == made.level(rows, **cell)
    assert set(METRICS) >= set(RANK_1_AND_MAP)


def test_the_worked_example_is_what_the_formulas_give():
    lines = tables.worked_example()
    assert list(lines["its prototype"]) == ["(3, 1)", "(0, 2)"]
    assert list(lines["products with both"]) == ["(7, 2)", "(4, 2)"]
    logits = np.array([[7.0, 2.0], [4.0, 2.0]])
    losses = [np.log(np.exp(own).sum()) - own[label] for label, own in enumerate(logits)]
    assert list(lines["softmax"]) == [f"{loss:.4f}" for loss in losses]
    assert list(lines["distance"]) == ["1.0000", "2.0000"]
