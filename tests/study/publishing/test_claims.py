"""Claims: the committed ones can be read and judged, each kind has its verdict, and nothing is pooled."""

import math

import numpy as np
import pytest
import yaml
from compatlib.study.rows import Rows, groups
from compatlib.study.sidecars import current_versions
from scipy import stats

from compatlib.study import claims, rows
from compatlib.study.publishing.claims import Claim, judge, load, table

CLAIM = {
    "id": "a-claim",
    "paper": "a paper",
    "statement": "a is above b",
    "where": "table 1",
    "chapter": "problem",
    "kind": "direction",
    "shared": {"metric": "cmc@1", "subset": "all"},
    "rows": [{"query_model": "a"}, {"query_model": "b"}],
}
ONE = {"rows": [{"query_model": "a"}]}
NEAR = {"kind": "equivalence", "margin": 0.01}
CHANCE = {"kind": "at_chance", "margin": 0.01, **ONE}
ABOVE = {"kind": "above", "margin": 0.05, **ONE}
CHAIN = {"kind": "chain", "rows": [{"query_model": name} for name in "cba"]}


def claim(**changes) -> Claim:
    return Claim(**(CLAIM | changes))


def measured(made_from=lambda group: "this code", **values) -> Rows:
    """Rows of one cell a model name: a value by seed, or a list of values for seeds 0, 1, 2…"""
    records = []
    for name, by_seed in values.items():
        by_seed = by_seed if isinstance(by_seed, dict) else dict(enumerate(by_seed))
        for seed, value in by_seed.items():
            who = {"method": "chance"} if name == "chance" else {"method": "independent", "query_model": name}
            records.append(cell(seed, value, **who))
    return described(records, made_from)


def cell(seed: int, value: float, **changes) -> dict:
    base = {"profile": "study", "dataset": "cifar100", "chapter": "problem", "metric": "cmc@1", "subset": "all"}
    return base | {"seed": seed, "value": value} | changes


def described(records: list[dict], made_from=lambda group: "this code") -> Rows:
    frame = rows.table(records)
    return Rows(frame, {group: {"made_from": made_from(group)} for group in groups(frame)})


def outcome(the_claim: Claim, the_rows: Rows) -> str | None:
    judged = judge(the_claim, the_rows, "study", "cifar100").verdict
    return judged and judged.outcome


# The claims that are committed.


def test_the_committed_claims_are_complete_and_in_the_frame_of_the_study():
    committed = load()
    assert len(committed) >= 6
    assert {each.kind for each in committed} <= set(claims.MEASUREMENTS)
    for each in committed:
        assert each.statement
        assert each.where
        assert [the_claim.id for the_claim in load(each.chapter)].count(each.id) == 1
        # Shares, not points: a margin of 1 would be 100 points.
        assert each.margin is None or 0 < each.margin < 0.2


@pytest.mark.parametrize("each", load(), ids=lambda each: each.id)
def test_a_committed_claim_has_rows_wherever_its_chapter_has(each):
    """A mistyped cell would show as "not measured" for ever."""
    published = rows.read(each.chapter)
    for run, version in current_versions(published, claims.CHAPTERS[each.chapter]).items():
        judged = judge(each, published, *run.split("/"), current=version)
        assert judged.verdict is not None
        assert table([judged]).loc[0, "verdict"] == judged.verdict.outcome
    assert judge(each, published, "no such profile", "cifar100").verdict is None


def test_every_committed_claim_stands_in_the_table_of_published_verdicts(tmp_path):
    assert {each.claim.id for each in claims.judge_published()} == {each.id for each in load()}
    without_rows = claims.judge_published(tmp_path)
    assert [each.claim.id for each in without_rows] == [each.id for each in load()]
    assert set(table(without_rows)["verdict"]) == {"not measured"}


# One verdict a kind, from hand-made rows: three seeds whose differences spread by 0.001.

SPREAD = np.array([-0.001, 0.0, 0.001])
HALF_WIDTH = stats.t.ppf(0.975, 2) * 0.001 / math.sqrt(3)  # 0.0025


@pytest.mark.parametrize(
    ("changes", "a", "b", "expected"),
    [
        ({}, 0.305, 0.3, "reproduced"),
        ({}, 0.302, 0.3, "inconclusive"),
        ({}, 0.295, 0.3, "not reproduced"),
        (NEAR, 0.305, 0.3, "reproduced"),
        (NEAR, 0.295, 0.3, "reproduced"),
        (NEAR, 0.309, 0.3, "inconclusive"),
        (NEAR, 0.32, 0.3, "not reproduced"),
        (NEAR, 0.28, 0.3, "not reproduced"),
    ],
)
def test_two_cells_are_compared_over_paired_seeds(changes, a, b, expected):
    assert pytest.approx(0.00248, abs=1e-5) == HALF_WIDTH
    common = np.array([0.05, -0.02, 0.01])  # what a seed does to both cells cancels
    assert outcome(claim(**changes), measured(a=a + common + SPREAD, b=b + common)) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"c": 0.1, "b": 0.2, "a": 0.3}, "reproduced"),
        ({"c": 0.1, "b": 0.2, "a": 0.201}, "inconclusive"),
        ({"c": 0.1, "b": 0.3, "a": 0.2}, "not reproduced"),
        ({"c": 0.2, "b": 0.1, "a": 0.3}, "not reproduced"),
    ],
)
def test_every_link_of_a_chain_must_hold(values, expected):
    spread = {"c": 0.0, "b": SPREAD, "a": -SPREAD}
    found = measured(**{name: np.array([value] * 3) + spread[name] for name, value in values.items()})
    judged = judge(claim(**CHAIN), found, "study", "cifar100").verdict
    assert judged.outcome == expected
    assert len(judged.links) == 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.015, "reproduced"), (0.02, "inconclusive"), (0.05, "not reproduced"), (0.0, "inconclusive")],
)
def test_at_chance_is_measured_from_the_computed_level_and_not_from_zero(value, expected):
    chance = [0.01, 0.01, 0.01]
    assert outcome(claim(**CHANCE), measured(a=value + SPREAD, chance=chance)) == expected
    shifted = measured(a=value + SPREAD + 0.1, chance=[level + 0.1 for level in chance])
    assert outcome(claim(**CHANCE), shifted) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.06, "reproduced"), (0.051, "inconclusive"), (0.049, "inconclusive"), (0.04, "not reproduced")],
)
def test_above_is_above_the_margin_and_not_above_zero(value, expected):
    judged = judge(claim(**ABOVE), measured(a=value + SPREAD), "study", "cifar100").verdict
    assert judged.outcome == expected
    assert judged.links[0].mean == pytest.approx(value - 0.05)


def test_the_chance_level_is_that_of_the_claims_metric_and_subset():
    found = [cell(seed, 0.2, method="independent", query_model="a") for seed in range(3)]
    for changes, level in (({}, 0.2), ({"metric": "map"}, 0.5), ({"subset": "known"}, 0.7)):
        found += [cell(seed, level, method="chance", **changes) for seed in range(3)]
    assert outcome(claim(**CHANCE), described(found)) == "reproduced"
    without = described([row for row in found if row["value"] != 0.2 or row["method"] != "chance"])
    assert outcome(claim(**CHANCE), without) is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_inconclusive(seeds):
    found = measured(a=[0.9] * seeds, b=[0.1] * seeds)
    assert outcome(claim(), found) == "inconclusive"
    line = table([judge(claim(), found, "study", "cifar100")]).loc[0]
    assert line["n"] == str(seeds)
    assert line["difference (points)"].startswith("+80.0")
    assert ("[" in line["difference (points)"]) == (seeds == 2)


def test_a_claim_is_judged_over_the_seeds_that_all_its_cells_have():
    judged = judge(claim(), measured(a=[0.2, 0.3, 0.2, 0.2], b={1: 0.1, 3: 0.1, 4: 0.9}), "study", "cifar100").verdict
    assert judged.links[0].differences == pytest.approx({1: 0.2, 3: 0.1})
    chance = measured(a={1: 0.01, 2: 0.01, 3: 0.01}, chance=[0.01, 0.01, 0.01])
    assert list(judge(claim(**CHANCE), chance, "study", "cifar100").verdict.links[0].differences) == [1, 2]
    assert outcome(claim(), measured(a={0: 0.2}, b={1: 0.1})) is None


# Nothing is pooled.


@pytest.mark.parametrize("column", ["profile", "dataset"])
def test_rows_of_another_profile_or_data_set_are_not_pooled(column):
    own = [cell(seed, value, query_model=name) for name, value in (("a", 0.2), ("b", 0.1)) for seed in (0, 1)]
    other = [row | {column: "another", "seed": row["seed"] + 2} for row in own]
    judged = judge(claim(), described(own + other), "study", "cifar100")
    assert judged.verdict.outcome == "inconclusive"
    assert list(judged.verdict.links[0].differences) == [0, 1]
    third = own + [row | {"seed": 2} for row in own if row["seed"] == 0]
    assert outcome(claim(), described(third)) == "reproduced"


def test_rows_that_were_made_otherwise_are_not_paired():
    found = measured(a=[0.2, 0.2, 0.2, 0.9, 0.9], b=[0.1] * 5)
    newer = {f"study/cifar100/{seed}": {"made_from": {"code": "newer" if seed > 2 else "older"}} for seed in range(5)}
    judged = judge(claim(), Rows(found.frame, newer), "study", "cifar100").verdict
    assert list(judged.links[0].differences) == [0, 1, 2]
    assert judged.links[0].mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("current", "seeds", "words"),
    [("newer", [3, 4], ""), ("older", [0, 1, 2], ""), ("newest", [0, 1, 2], ", by an earlier version")],
)
def test_the_present_versions_rows_come_first_and_earlier_ones_are_said_to_be(current, seeds, words):
    found = measured(a=[0.2, 0.2, 0.2, 0.9, 0.9], b=[0.1] * 5)
    made = {f"study/cifar100/{seed}": {"made_from": {"code": "newer" if seed > 2 else "older"}} for seed in range(5)}
    judged = judge(claim(), Rows(found.frame, made), "study", "cifar100", {"code": current})
    assert list(judged.verdict.links[0].differences) == seeds
    assert table([judged]).loc[0, "measured on"] == f"cifar100 (study){words}"


def test_published_verdicts_tell_of_an_earlier_version(tmp_path):
    """The committed rows, as if other code had made them."""
    for chapter, module in claims.CHAPTERS.items():
        published = rows.read(chapter)
        if published.frame.empty:
            continue  # its claims are "not measured"
        earlier = {g: a | {"made_from": a["made_from"] | {"code": ["other"]}} for g, a in published.sidecar.items()}
        rows.publish(chapter, Rows(published.frame, earlier), tmp_path)
        assert chapter == module.CHAPTER
    judged = [each for each in claims.judge_published(tmp_path) if each.profile]
    assert judged
    assert all(each.is_earlier for each in judged)
    assert table(judged)["measured on"].str.endswith(", by an earlier version").all()


def test_every_chapter_that_has_claims_has_its_module():
    assert {each.chapter for each in load()} <= set(claims.CHAPTERS)


# What is not measured, and what is an error.


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_claim_whose_rows_are_missing_is_not_measured(missing):
    found = measured(**{name: [0.1] * 3 for name in "abc" if name != missing})
    judged = judge(claim(), found, "study", "cifar100")
    assert judged.verdict is None
    assert table([judged]).loc[0, "verdict"] == "not measured"
    assert table([judged]).loc[0, "n"] == "0"


@pytest.mark.parametrize(
    ("the_claim", "the_rows", "words"),
    [
        (claim(shared={"metric": "cmc@1"}), [cell(0, 0.1, query_model="a", subset=s) for s in "xy"], r"\['subset'\]"),
        (claim(), [cell(0, math.nan, query_model=name) for name in "ab"], "nan"),
    ],
)
def test_rows_that_cannot_be_compared_are_an_error_which_names_the_claim(the_claim, the_rows, words):
    with pytest.raises(ValueError, match=f"(?s)claim a-claim: .*{words}"):
        judge(the_claim, described(the_rows), "study", "cifar100")


def test_a_table_shows_differences_in_points():
    found = measured(a=0.3 + SPREAD, b=[0.2] * 3, c=[0.1] * 3)
    judged = [judge(each, found, "study", "cifar100") for each in (claim(), claim(**CHAIN))]
    lines = table(judged)
    assert lines["difference (points)"].tolist() == ["+10.0 [+9.8, +10.2]", "+10.0 [+10.0, +10.0]; +10.0 [+9.8, +10.2]"]
    assert lines["measured on"].tolist() == ["cifar100 (study)"] * 2
    assert lines["n"].tolist() == ["3", "3"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "order"}, "'direction', 'chain', 'equivalence', 'at_chance' or 'above'"),
        (ONE, "direction compares two cells, got 1"),
        ({"rows": [{"query_model": name} for name in "abc"]}, "direction compares two cells, got 3"),
        ({"kind": "chain", **ONE}, "chain compares two cells or more, got 1"),
        ({"kind": "chain", "rows": []}, "chain compares two cells or more, got 0"),
        ({"kind": "at_chance", "margin": 0.01}, "at_chance compares one cell with chance, got 2"),
        ({"kind": "equivalence"}, "equivalence needs margin"),
        ({"kind": "above", **ONE}, "above needs margin"),
        ({"kind": "above", "margin": 0.01}, "above compares one cell with its margin, got 2"),
        ({"kind": "at_chance", **ONE}, "at_chance needs margin"),
        ({"margin": 0.01}, "direction has no margin"),
        ({"kind": "chain", "margin": 0.01}, "chain has no margin"),
        ({"shared": {"metrics": "map"}}, r"unknown columns \['metrics'\]"),
        ({"shared": {"seed": "0"}}, r"unknown columns \['seed'\]"),
        ({"rows": [{"profile": "study"}, {"chapter": "bct"}]}, r"unknown columns \['chapter', 'profile'\]"),
        ({"source": "a paper"}, "source"),
        ({"where": None}, "where"),
    ],
)
def test_an_incomplete_claim_is_named(tmp_path, changes, words):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([CLAIM, CLAIM | {"id": "second"} | changes]))
    with pytest.raises(ValueError, match=rf"(?s)claims\.yml, claim 2 \(second\): .*{words}"):
        load(path=path)


def test_two_claims_of_one_id_are_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text(yaml.safe_dump([CLAIM, CLAIM | {"id": "other"}, CLAIM]))
    with pytest.raises(ValueError, match=r"several claims of id \['a-claim'\]"):
        load(path=path)


@pytest.mark.parametrize("text", ["", "a text", "id: a-claim", "- a text", "- [1, 2]"])
def test_a_file_that_is_no_list_of_claims_is_refused(tmp_path, text):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"claims\.yml must be a list of claims, each with id, paper, statement"):
        load(path=path)


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text("- {id: a")
    with pytest.raises(ValueError, match=r"claims\.yml cannot be read"):
        load(path=path)


def test_numbers_pick_rows_too(tmp_path):
    path = tmp_path / "claims.yml"
    content = CLAIM | {"shared": {"metric": "map", "x_name": "share"}, "rows": [{"x": 0.5}, {"x": 1}]}
    path.write_text(yaml.safe_dump([content]))
    records = [cell(seed, x, metric="map", x_name="share", x=x) for x in (0, 0.5, 1) for seed in range(3)]
    assert outcome(load(path=path)[0], described(records)) == "not reproduced"
