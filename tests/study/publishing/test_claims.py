"""Claims: the committed ones can be read and judged, each kind has its verdict, and nothing is pooled."""

import math
from collections import Counter

import numpy as np
import pytest
import yaml
from scipy import stats

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.lab import row_files, rows, sidecars
from compatlib.study.lab.class_scores import cell_name
from compatlib.study.lab.experiment import VALIDATION_SEED, unchanged
from compatlib.study.lab.rows import CLASS_CELL, Rows, groups
from compatlib.study.publishing import claims
from compatlib.study.publishing.chapters import CHAPTERS
from compatlib.study.publishing.claims import Claim, judge, load, table

CLAIM = {
    "id": "a-claim",
    "paper": "a paper",
    "whose": "the paper",
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


def measured(made="m", **values) -> Rows:
    """Rows of one cell a model name: a value by seed, or a list of values for seeds 0, 1, 2…"""
    return described(records_of(**values), made)


def records_of(**values) -> list[dict]:
    records = []
    for name, by_seed in values.items():
        by_seed = by_seed if isinstance(by_seed, dict) else dict(enumerate(by_seed))
        for seed, value in by_seed.items():
            who = {"method": "chance"} if name == "chance" else {"method": "independent", "query_model": name}
            records.append(cell(seed, value, **who))
    return records


def cell(seed: int, value: float, **changes) -> dict:
    base = {"profile": "study", "dataset": "cifar100", "chapter": "problem", "metric": "cmc@1", "subset": "all"}
    return base | {"distance": "cosine", "seed": seed, "value": value} | changes


def described(records: list[dict], made="m", numbers=lambda seed: {"loop": 1}) -> Rows:
    """With a sidecar of one case a query model; `made` of a case as a text, or a function of seed and model."""
    frame, about = rows.table(records), {}
    for group in groups(frame):
        seed = int(group.rpartition("/")[2])
        cases = []
        for name in sorted(set(frame["query_model"])):
            own = {"case": name, "cells": {"query_model": name}, "metrics": sorted(set(frame["metric"]))}
            cases.append(own | {"behaviours": ["loop"], "made": made if isinstance(made, str) else made(seed, name)})
        about[group] = {"cases": cases, "behaviours": numbers(seed)}
    return Rows(frame, about)


def outcome(the_claim: Claim, the_rows: Rows) -> str | None:
    judged = judge(the_claim, the_rows).verdict
    return judged and judged.outcome


# The claims that are committed.


def test_the_committed_claims_are_complete_and_in_the_frame_of_the_study():
    committed = load()
    assert len(committed) >= 6
    assert {each.kind for each in committed} <= set(claims.MEASUREMENTS)
    assert {each.chapter for each in committed} <= set(CHAPTERS)
    for each in committed:
        assert each.statement
        assert each.where
        # Shares, not points: a margin of 1 would be 100 points. What lies above one may be any share.
        assert each.margin is None or 0 < each.margin < (1 if each.kind == "above" else 0.2)


@pytest.fixture(scope="module")
def judged_of_published():
    return claims.judge_published()


# A control has no chain of upgrades, and each half of SFSC's method is not trained alone.
NOT_OF_A_CONTROL = {
    "bct-chain",
    *(f"sfsc-uncertainty-helps-{gallery}" for gallery in ("self", "self-map", "cross", "cross-map")),
}


# Where heads are trained there is no architecture to search.
OF_NETWORKS = ("nas-ranking", "nas-r2", "nas-r3", "nas-fold")


def test_every_committed_claim_has_a_verdict_wherever_its_chapter_has_rows(judged_of_published):
    """A mistyped cell would show as "not measured" for ever."""
    expected = Counter()
    for each in load():
        seeds = Counter(group.rpartition("/")[0] for group in row_files.read(each.chapter).sidecar)
        runs = [run for run, count in seeds.items() if count > 1]
        expected |= Counter({(each.id, *run.split("/")): 1 for run in runs or {"/"}})
    assert Counter((each.claim.id, each.profile, each.dataset) for each in judged_of_published) == expected
    for each in judged_of_published:
        is_left_out = each.profile == "omniglot" and each.claim.id in NOT_OF_A_CONTROL
        is_left_out |= each.profile != "study" and each.claim.id.startswith(OF_NETWORKS)
        assert (each.verdict is None) == (each.profile == "" or is_left_out)
    shown = table(judged_of_published)
    assert shown["verdict"].tolist() == [
        each.verdict.outcome if each.verdict else "not measured" for each in judged_of_published
    ]


def test_without_rows_no_claim_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "PUBLISHED", tmp_path)
    judged = claims.judge_published()
    assert [each.claim.id for each in judged] == [each.id for each in sorted(load(), key=chapters_order())]
    assert set(table(judged)["verdict"]) == {"not measured"}
    assert claims.pool("bct", "study", "cifar100").frame.empty


def chapters_order():
    order = list(dict.fromkeys(each.chapter for each in load()))
    return lambda each: order.index(each.chapter)


def test_one_seed_decides_no_claim(tmp_path, monkeypatch):
    """Of a profile of which a single seed was measured so far."""
    own = row_files.read("problem").run("study", "cifar100")
    for seed in (0, 1):
        frame = own.frame[own.frame["seed"] == seed].assign(profile="large")
        about = {f"large/cifar100/{seed}": own.sidecar[f"study/cifar100/{seed}"]}
        row_files.publish("problem", rows.Rows(frame, about), tmp_path)
        monkeypatch.setattr(row_files, "PUBLISHED", tmp_path)
        judged = [each for each in claims.judge_published() if each.claim.chapter == "problem"]
        assert {each.profile for each in judged} == ({"large"} if seed else {""})
        assert len(judged) == len(load("problem"))


def test_a_pool_is_of_a_chapter_that_there_is():
    with pytest.raises(ValueError, match="unknown chapter 'nothing'; choose one of problem, bct"):
        claims.pool("nothing", "study", "cifar100")


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


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_cells_are_said_to_have_no_difference(seeds):
    """Seed by seed, so not where a difference merely is 0 in the mean, and of few seeds nothing is said."""
    equal = measured(a=[0.2, 0.3, 0.4][:seeds], b=[0.2, 0.3, 0.4][:seeds])
    expected = "no difference" if seeds == 3 else "inconclusive"
    assert outcome(claim(), equal) == expected
    assert table([judge(claim(), equal)]).loc[0, "verdict"] == expected
    assert outcome(claim(**NEAR), equal) == ("reproduced" if seeds == 3 else "inconclusive")
    if seeds == 3:
        assert outcome(claim(), measured(a=[0.2, 0.3, 0.4], b=[0.3, 0.2, 0.4])) == "inconclusive"


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
    judged = judge(claim(**CHAIN), found).verdict
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
    judged = judge(claim(**ABOVE), measured(a=value + SPREAD)).verdict
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
    line = table([judge(claim(), found)]).loc[0]
    assert line["n"] == str(seeds)
    assert line["difference (points)"].startswith("+80.0")
    assert ("[" in line["difference (points)"]) == (seeds == 2)


def test_a_claim_is_judged_over_the_seeds_that_all_its_cells_have():
    judged = judge(claim(), measured(a=[0.2, 0.3, 0.2, 0.2], b={1: 0.1, 3: 0.1, 4: 0.9})).verdict
    assert judged.links[0].differences == pytest.approx({1: 0.2, 3: 0.1})
    chance = measured(a={1: 0.01, 2: 0.01, 3: 0.01}, chance=[0.01, 0.01, 0.01])
    assert list(judge(claim(**CHANCE), chance).verdict.links[0].differences) == [1, 2]
    assert outcome(claim(), measured(a={0: 0.2}, b={1: 0.1})) is None


# Nothing is pooled.


@pytest.mark.parametrize("column", ["profile", "dataset"])
def test_rows_of_another_profile_or_data_set_are_refused(column):
    own = records_of(a=[0.2, 0.2], b=[0.1, 0.1])
    other = [row | {column: "another", "seed": row["seed"] + 2} for row in own]
    with pytest.raises(ValueError, match=r"rows of several profiles or data sets are never pooled: .*another"):
        judge(claim(), described(own + other))
    alone = judge(claim(), described(own + other).run("study", "cifar100"))
    assert list(alone.verdict.links[0].differences) == [0, 1]
    assert (alone.profile, alone.dataset) == ("study", "cifar100")


@pytest.mark.parametrize(
    ("current", "seeds", "words"),
    [("newer", [3, 4], ""), ("older", [0, 1, 2], ""), ("newest", [0, 1, 2], ", by an earlier version")],
)
def test_the_present_versions_rows_come_first_and_earlier_ones_are_said_to_be(current, seeds, words):
    found = measured(
        lambda seed, _: "newer" if seed > 2 else "older", a=[0.2, 0.2, 0.2, 0.9, 0.9], b=[0.1] * 5
    ).comparable({"a": current, "b": current})
    judged = judge(claim(), found)
    assert list(judged.verdict.links[0].differences) == seeds
    assert table([judged]).loc[0, "measured on"] == f"cifar100 (study){words}"


def test_published_verdicts_tell_of_an_earlier_version(monkeypatch):
    """The committed rows, as if another version had made them."""
    monkeypatch.setattr(sidecars, "current", lambda *_: {"no case": "of this version"})
    monkeypatch.setattr(claims, "load", lambda chapter="problem": load("problem"))
    judged = [each for each in claims.judge_published() if each.profile]
    assert judged
    assert all(each.is_earlier for each in judged)
    assert table(judged)["measured on"].str.endswith(", by an earlier version").all()


def test_cells_of_different_numbers_of_a_shared_behaviour_are_not_paired():
    """Seeds 0 to 2 stand on another number of the loop than seeds 3 to 5; a is of these, b of those."""
    found = described(
        records_of(a=[0.9] * 6, b=[0.1] * 6),
        lambda seed, _: f"loop {1 + seed // 3}",
        lambda seed: {"loop": 1 + seed // 3},
    )
    apart = found.comparable({"a": "loop 2", "b": "loop 1"})
    assert outcome(claim(), apart) is None
    with pytest.raises(ValueError, match="no row has a partner of its own version: 'loop' differs between the cells"):
        claims._require_pairable(claim(), apart)
    for number in (1, 2):
        both = found.comparable({name: f"loop {number}" for name in "ab"})
        claims._require_pairable(claim(), both)
        assert list(judge(claim(), both).verdict.links[0].differences) == [
            3 * number - 3,
            3 * number - 2,
            3 * number - 1,
        ]


# Other chapters' seeds.


def joined(own: list[dict], others: list[dict], **changes) -> Rows:
    """The problem's rows with those of another chapter."""
    other = described([row | {"chapter": "bct"} | changes for row in others])
    return described(own).comparable().joined([other.comparable()])


def test_another_chapters_seeds_of_the_same_cells_are_added():
    own, others = records_of(a=[0.3, 0.3], b=[0.1, 0.1]), records_of(a=[0.9, 0.2, 0.2], b=[0.9, 0.1, 0.1], c=[0.5] * 3)
    found = joined(own, others)
    links = judge(claim(), found).verdict.links
    # A seed that the chapter has itself stays its own.
    assert links[0].differences == pytest.approx({0: 0.2, 1: 0.2, 2: 0.1})
    assert set(found.frame["chapter"]) == {"problem"}
    assert set(found.frame["query_model"]) == {"a", "b"}  # and no cell that the chapter has not


@pytest.mark.parametrize(
    "changes", [{"distance": "euclidean"}, {"variant": "other"}, {"split": "open-set"}, {"x_name": "weight", "x": 1.0}]
)
def test_another_chapters_seeds_of_other_cells_are_not_added(changes):
    own, others = records_of(a=[0.3, 0.3], b=[0.1, 0.1]), records_of(a=[0.2] * 5, b=[0.1] * 5)
    found = joined(own, others, **changes)
    assert list(judge(claim(), found).verdict.links[0].differences) == [0, 1]


@pytest.mark.parametrize(("own", "other", "seeds"), [("m", "m", 5), ("m", "older", 2), ("older", "m", 2)])
def test_seeds_of_an_earlier_version_are_neither_added_nor_added_to(own, other, seeds):
    current = {"a": "m", "b": "m"}
    mine = described(records_of(a=[0.3, 0.3], b=[0.1, 0.1]), own).comparable(current)
    theirs = described(records_of(a=[0.2] * 5, b=[0.1] * 5), other).comparable(current)
    judged = judge(claim(), mine.joined([theirs]))
    assert len(judged.verdict.links[0].differences) == seeds
    assert judged.is_earlier == (own == "older")


def with_classes(records: list[dict], made="m") -> Rows:
    plain = described(records, made)
    by_class = {group: {} for group in plain.sidecar}
    for row in plain.frame.to_dict("records"):
        scores = ClassScores(np.array([2 * row["value"], 2 * row["value"]]), np.array([2, 2]))
        by_class[f"study/cifar100/{row['seed']}"][cell_name(row, CLASS_CELL)] = scores
    return Rows(plain.frame, plain.sidecar, by_class)


def test_class_scores_are_those_of_the_rows_that_were_added():
    """Of the seed that stands here already the other's are of another measurement."""
    others = with_classes(records_of(a=[0.4, 0.5, 0.6], b=[0.1] * 3)).comparable()
    for own in (described(records_of(a=[0.3], b=[0.1])), with_classes(records_of(a=[0.3], b=[0.1]))):
        a = own.comparable().joined([others]).measured(query_model="a")
        assert a.values == {0: 0.3, 1: 0.5, 2: 0.6}
        assert (a.by_class is None) == (own.by_class == {})
        assert own.by_class.keys() <= {"study/cifar100/0"}  # what was given stays as it was


@pytest.mark.parametrize("has_classes", [True, False])
def test_class_scores_of_a_seed_that_was_left_out_are_not_those_of_the_seed_that_is_added(has_classes):
    """Seed 1 is of an earlier version here, and of this one in the other chapter."""
    current, records = {"a": "m"}, records_of(a=[0.4, 0.5])
    own = with_classes(records_of(a=[0.3, 0.9]), lambda seed, _: "older" if seed else "m").comparable(current)
    other = (with_classes(records) if has_classes else described(records)).comparable(current)
    a = own.joined([other]).measured(query_model="a")
    assert a.values == {0: 0.3, 1: 0.5}
    assert (a.by_class is not None) == has_classes


def test_the_tunings_seeds_are_never_a_chapters():
    """Nor are a tuning's cells another chapter's: its seeds would be added to them."""
    for chapter in ("problem", "bct", "fct", "dual_tuning", "sfsc", "cmp_nas"):
        own = row_files.read(chapter)
        assert (own.frame["seed"] < VALIDATION_SEED).all()
        for tuning in (name for name, each in CHAPTERS.items() if each.prepared is not unchanged):
            columns = [name for name in rows.CELL if name != "chapter"]
            tuned = row_files.read(tuning).frame
            assert (tuned["seed"] >= VALIDATION_SEED).all()
            assert tuned.merge(own.frame, on=columns).empty


# What is not measured, and what is an error.


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_claim_whose_rows_are_missing_is_not_measured(missing):
    found = measured(**{name: [0.1] * 3 for name in "abc" if name != missing})
    judged = judge(claim(), found)
    assert judged.verdict is None
    assert table([judged]).loc[0, "verdict"] == "not measured"
    assert table([judged]).loc[0, "n"] == "0"


@pytest.mark.parametrize(
    ("the_claim", "changes", "words"),
    [
        (claim(shared={"metric": "cmc@1"}), [{"subset": "x"}, {"subset": "y"}], r"\['subset'\]"),
        (claim(), [{"value": math.nan}], "nan"),
    ],
)
def test_rows_that_cannot_be_compared_are_an_error_which_names_the_claim(the_claim, changes, words):
    the_rows = [cell(0, 0.1, query_model=name) | change for name in "ab" for change in changes]
    with pytest.raises(ValueError, match=f"(?s)claim a-claim: .*{words}"):
        judge(the_claim, described(the_rows))


def test_a_table_shows_differences_in_points():
    found = measured(a=0.3 + SPREAD, b=[0.2] * 3, c=[0.1] * 3)
    judged = [judge(each, found) for each in (claim(), claim(**CHAIN))]
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
    with pytest.raises(ValueError, match=r"claims\.yml must be a list of claims, each with id, paper, whose"):
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


# Claims by regime.


def of_profile(profile: str, dataset: str, **values) -> Rows:
    return described([each | {"profile": profile, "dataset": dataset} for each in records_of(**values)])


@pytest.fixture
def regimes(monkeypatch) -> list[claims.Judged]:
    """A claim that holds on heads and not on small networks, and one that was measured on small networks alone."""
    near, far = np.array([0.3, 0.31, 0.32]), np.array([0.2, 0.211, 0.22])
    rows_of = {
        "heads": of_profile("heads", "cifar100_lite", a=near, b=far, signed=near, other=near + 0.1 + SPREAD),
        "study": of_profile("study", "cifar100", a=far, b=near, c=far, d=near),
    }
    monkeypatch.setattr(claims, "pool", lambda chapter, profile, dataset: rows_of[profile])
    when = [
        {"words": "signed", "profile": "heads", "rows": [{"query_model": "signed"}]},
        {"words": "other", "profile": "heads", "rows": [{"query_model": "b"}, {"query_model": "other"}]},
        {"words": "never measured", "profile": "study", "chapter": "bct", "rows": [{"query_model": "z"}]},
    ]
    both = claim(when=when)
    alone = claim(id="alone", statement="c is above d", whose="our reading", rows=[{"query_model": n} for n in "cd"])
    return [judge(both, rows_of["study"]), judge(both, rows_of["heads"]), judge(alone, rows_of["study"])]


def test_a_claim_is_a_line_with_a_column_a_regime_and_what_decides_where_they_differ(regimes):
    shown = claims.by_regime(regimes)
    assert list(shown) == ["claim", "paper", "heads", "study", "where they differ"]
    first, second = shown.to_dict("records")
    assert first["claim"] == "a is above b"
    assert first["heads"].startswith("reproduced: +10.0 [")
    assert first["study"].startswith("not reproduced: -10.0 [")
    assert first["study"].endswith("], n = 3")
    signed, other = first["where they differ"].split("], ")
    assert signed.startswith("signed +10.0 [")
    assert other.startswith("other -20.0 [")
    assert (second["paper"], second["heads"]) == ("a paper (our reading)", "not measured")
    assert second["where they differ"] == ""


def test_where_regimes_agree_no_condition_is_shown(regimes):
    on_study, _, _ = regimes
    twice = [on_study, claims.Judged(on_study.claim, "heads", "cifar100_lite", on_study.verdict)]
    assert claims.by_regime(twice)["where they differ"].tolist() == [""]


def test_claims_of_other_chapters_are_left_out(regimes):
    assert len(claims.by_regime(regimes, "problem")) == 2
    assert claims.by_regime(regimes, "sfsc").empty


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ([{"words": "w", "profile": "laptop"}], "profile"),
        ([{"words": "w", "profile": "heads", "shared": {"head": "x"}}], r"unknown columns \['head'\]"),
        (
            [{"words": "w", "profile": "heads", "rows": [{}, {}, {}]}],
            "a condition picks 3 measurements of a claim that",
        ),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused(when, words):
    with pytest.raises(ValueError, match=words):
        claim(when=when)
