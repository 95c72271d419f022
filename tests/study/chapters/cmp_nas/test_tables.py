"""Tables of the chapter from rows made by hand: every entry from its cells, computed apart."""

import pytest

from compatlib.study.chapters.cmp_nas import tables
from compatlib.study.chapters.cmp_nas.plan import AS_LEFT, OBJECTIVES, PARAGON, PATH, PATH_LEFT, RANDOM_PATHS
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.rows import NoRowError, Rows
from compatlib.study.lab.trainables.supernets import SEARCHES
from tests.study.chapters.cmp_nas.made_rows import CAPS, CROSS, PATHS, SELF, heads, in_words, study
from tests.study.lab.figures import made

PLACE = {"split": OPEN_SET, "variant": "", "x_name": "", "subset": "all", "metric": "map"}
WHOLE = pair("gallery", "gallery", method=PARAGON)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return study()


def test_objectives_have_both_tests_the_rule_and_what_is_lost(rows):
    found = tables.objective_table(rows)
    assert list(found["objective"]) == [*OBJECTIVES, "M(g, g), the paragon"]
    for method, line in zip(OBJECTIVES, found.to_dict("records"), strict=False):
        own = {"method": method}
        assert line["M(q, q) (%)"] == made.level(rows, **PLACE, **own, **SELF)
        assert line["M(q, g) (%)"] == made.level(rows, **PLACE, **own, **CROSS)
        assert line["rule: M(q, g) − M(q, q) (points)"] == made.gained(rows, CROSS, SELF, **PLACE, **own)
        assert line["M(q, g) − paragon (points)"] == made.gained(rows, CROSS | own, WHOLE, **PLACE)
        above = made.values(rows, **PLACE, **own, **CROSS) > made.values(rows, **PLACE, **own, **SELF)
        assert line["seeds that meet it"] == f"{above.sum()} of 3"
    assert found.iloc[-1]["M(q, g) (%)"] == made.level(rows, **PLACE, **WHOLE)


def test_objectives_of_heads_stand_by_encoder_and_with_its_operations():
    rows = heads()
    found = tables.objective_table(rows, metric="cmc@1").iloc[:-1]
    assert list(found["query"]) == [""] * len(OBJECTIVES) + ["lite1"] * len(OBJECTIVES)
    place = PLACE | {"variant": "encoder=lite1", "metric": "cmc@1", "method": "both"}
    assert found.iloc[-1]["M(q, g) (%)"] == made.level(rows, **place, **CROSS)
    costs = tables.encoder_table(rows)
    assert list(costs["query network"]) == ["both", "both encoder=lite1"]
    cost = {"split": OPEN_SET, "metric": "flops with encoder"}
    whole = made.values(rows, **cost, **WHOLE).mean()
    own = made.values(rows, **cost, **CROSS, method="both", variant="encoder=lite1").mean()
    assert costs.iloc[1]["fold saved"] == f"{whole / own:.1f}"


def test_rankings_are_held_to_the_ceiling_seed_by_seed(rows):
    found = tables.ranking_table(rows).set_index("rankings of random paths")
    place = {"split": SEARCHED, "method": RANDOM_PATHS, "metric": "kendall tau", "variant": ""}
    (first, *others), names = found.index, list(tables.RANKINGS.values())
    taus = [made.values(rows, **place, **pair(*each)) for each in names]
    assert list(found["Kendall's τ"]) == [in_words(each) for each in taus]
    assert found.loc[first, "below the ceiling by"] == in_words(taus[1] - taus[0])
    assert found.loc[first, "seeds below it"] == f"{(taus[0] < taus[1]).sum()} of 3"
    assert set(found.loc[others, "below the ceiling by"]) == {""}


def test_rankings_of_networks_alone_are_on_both_sets_of_classes_recalibrated_or_not(rows):
    found = tables.alone_table(rows).set_index("rankings")
    words = found.index[0]
    place = {"method": RANDOM_PATHS, "metric": "kendall tau", **pair(*tables.ALONE_RANKINGS[words])}
    for split in (SEARCHED, OPEN_SET):
        for variant, told in (("", "recalibrated"), (AS_LEFT, "BatchNorm as it was left")):
            expected = in_words(made.values(rows, **place, split=split, variant=variant))
            assert found.loc[words, f"{split}, {told}"] == expected
    assert list(found.iloc[2][[each for each in found if "left" in each]]) == ["", ""]


def test_of_one_seed_the_interval_is_that_over_its_paths(rows):
    frame = rows.frame[rows.frame["seed"] == 1]
    found = tables.alone_table(Rows(frame, {})).set_index("rankings")
    words = found.index[0]
    place = {"method": RANDOM_PATHS, "split": SEARCHED, "variant": "", **pair(*tables.ALONE_RANKINGS[words])}
    value, low, high = (made.values(rows, **place, metric=f"kendall tau{end}")[1] for end in ("", " low", " high"))
    assert found.loc[words, f"{SEARCHED}, recalibrated"] == f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def test_rewards_are_compared_under_the_first_cap_alone(rows):
    found = tables.reward_table(rows)
    assert list(zip(found["searched by"], found["cap (MFLOPs)"], strict=True)) == [
        *((by, "6") for by in SEARCHES),
        ("R2", "8"),
    ]
    place, second = PLACE | {"variant": CAPS[0]}, found.iloc[1]
    for rival in ("R1", "random search"):
        expected = made.gained(rows, {"method": "R2"}, {"method": rival}, **place, **CROSS)
        assert second[f"M(q, g) − that of {rival} (points)"] == expected
    assert found.iloc[0]["M(q, g) − that of R1 (points)"] == found.iloc[4]["M(q, g) − that of R1 (points)"] == ""


def test_what_a_search_found_is_the_best_by_its_own_reward(rows):
    found = tables.found_table(rows)
    assert len(found) == 3 * (len(SEARCHES) + 1)
    for by, fields in (("R1", ["self_test"]), ("R2", ["cross_test"]), ("R3", ["self_test", "cross_test"])):
        place = {"split": SEARCHED, "method": by, "query_model": f"{PATH}, {CAPS[0]}", "seed": 1}
        frame = rows.frame[(rows.frame[list(place)] == list(place.values())).all(axis=1)]
        scores = frame.pivot_table(index="x", columns="metric", values="value")
        best = scores[fields].prod(axis=1).idxmax()
        line = found[(found["searched by"] == by) & (found["seed"] == 1) & (found["cap (MFLOPs)"] == "6")].iloc[0]
        assert line["path"] == f"3@1 x@{best:.0f}"
        assert line["found at"] == f"{best:.0f} of {PATHS}"


def test_costs_and_folds(rows):
    found = tables.cost_table(rows).set_index("query network")
    assert list(found.index[:6]) == list(tables.HAND_MADE)
    own = {"split": OPEN_SET, "method": "R2", "variant": CAPS[1], **CROSS}
    costs = made.values(rows, **own, metric="flops").mean(), made.values(rows, **WHOLE, metric="flops").mean()
    assert found.loc[f"R2 {CAPS[1]}", "fold saved"] == f"{costs[1] / costs[0]:.1f}"
    assert tables.fold(0.0) == 1
    assert tables.fold(0.95) == pytest.approx(20)
    folds = tables.fold_table(rows)
    shares = made.values(rows, split=OPEN_SET, method="searched", metric="cost saved map", x=0.016)
    line = folds[(folds["networks"] == "searched") & (folds["score"] == "mAP")].iloc[1]
    assert line["fold, by seed"] == ", ".join(f"{1 / (1 - share):.1f}" for share in shares)


def test_inherited_scores_stand_beside_those_of_training(rows):
    found = tables.inherited_table(rows).set_index("path")
    place = PLACE | {"method": "R3", "variant": CAPS[0]}
    assert found.loc[f"R3 {CAPS[0]}", "inherited, recalibrated (%)"] == made.level(
        rows, **place, **pair(PATH, "gallery")
    )
    left = made.level(rows, **place, **pair(PATH_LEFT, "gallery"))
    assert found.loc[f"R3 {CAPS[0]}", "inherited, as it was left (%)"] == left
    expected = made.gained(rows, CROSS, pair(PATH, "gallery"), **place)
    assert found.loc[f"R3 {CAPS[0]}", "alone − inherited (points)"] == expected


def test_what_was_not_measured_is_told():
    for table in (tables.ranking_table, tables.reward_table, tables.found_table, tables.fold_table):
        with pytest.raises(NoRowError):
            table(heads())


def test_the_worked_example_prefers_another_path_by_every_reward():
    found = tables.worked_example()
    assert list(found["operations"]) == ["50,432", "100,096", "90,880"]
    for reward, best in (("R1", 0), ("R2", 1), ("R3", 2)):
        assert found[reward].astype(float).idxmax() == best
