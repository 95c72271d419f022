"""Published rows by profile, and the verdicts on them, counted."""

import pytest

from compatlib.evaluation.statistics import NOT_REPRODUCED, REPRODUCED, verdict
from compatlib.study.lab.figures.sources import NOT_YET, Source
from compatlib.study.lab.rows import Rows, table
from compatlib.study.publishing import claims, sources
from compatlib.study.settings import settings

CLAIMS = [
    claims.Claim(
        id=f"claim-{number}",
        paper="P",
        whose="the paper",
        statement=f"a is above {other}",
        where="here",
        chapter="sfsc",
        kind="direction",
        rows=({"method": "a"}, {"method": other}),
    )
    for number, other in enumerate("bcdx")
]


def source(words: str, seeds: int) -> Source:
    """a is above b, and above c by as much; it is below d."""
    records = [
        {
            "profile": words,
            "dataset": "cifar100",
            "method": method,
            "metric": "map",
            "seed": seed,
            "value": value + 0.001 * seed * (method == "a"),
        }
        for method, value in {"a": 0.5, "b": 0.4, "c": 0.4, "d": 0.6}.items()
        for seed in range(seeds)
    ]
    about = {
        "settings": {
            "dataset": "cifar100",
            "network": {"head": "linear_bn"},
            "training": {"epochs": 2},
        },
        "cases": [],
    }
    return Source(words, Rows(table(records), {f"{words}/cifar100/{seed}": about for seed in range(seeds)}))


@pytest.fixture
def two(monkeypatch) -> list[Source]:
    monkeypatch.setattr(claims, "load", lambda chapter: CLAIMS)
    return [source("study", 3), source("large", 1)]


def test_different_claims_are_counted_by_outcome(two):
    lines = sources.verdicts("sfsc", two).data.splitlines()
    assert lines[0] == (
        "- **study** (data set `cifar100`, networks from scratch, signed head, 2 epochs, 3 seeds): 3 of 4 claims "
        "measured, 2 of them different; 1 reproduced, 1 not reproduced"
    )
    assert lines[1].endswith("1 seed): fewer than 3 seeds decide no claim")
    assert sources.verdicts("sfsc", []).data == NOT_YET


def test_a_claim_of_too_few_seeds_counts_as_undecided_beside_others(two):
    study, _ = two
    frame = study.rows.frame
    partly = Source("study", Rows(frame[(frame["method"] != "d") | (frame["seed"] == 0)], study.rows.sidecar))
    (line,) = sources.verdicts("sfsc", [partly]).data.splitlines()
    assert line.endswith("2 of them different; 1 reproduced, 1 of fewer than 3 seeds, which decide none")


def test_claims_differ_where_sources_that_decide_have_other_verdicts(two):
    study, single = two
    other = source("other", 3)
    below = other.rows.frame["method"] == "b"
    other.rows.frame.loc[below, "value"] += 0.2
    assert sources.differing("sfsc", [study, single]).data == sources.SAME_VERDICTS
    lines = sources.differing("sfsc", [study, single, other]).data.splitlines()
    assert lines[0] == "- **a is above b**"
    assert lines[1].startswith(f"  - study: {REPRODUCED}: +10.1 [")
    assert lines[2].startswith(f"  - other: {NOT_REPRODUCED}: -9.9 [")
    assert len(lines) == 3


def test_every_claim_is_shown_where_more_than_one_seed_is(two):
    found = sources.verdicts_by_claim("sfsc", two)
    assert list(found["measured on"]) == ["cifar100 (study)"] * 4
    assert list(found["verdict"]) == [REPRODUCED, REPRODUCED, NOT_REPRODUCED, "not measured"]


def test_claims_of_equal_differences_count_once():
    same = verdict("direction", {0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.25})
    again = verdict("direction", {0: 0.75, 1: 0.75}, {0: 0.5, 1: 0.25})
    other = verdict("direction", {0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.5})
    judged = [claims.Judged(CLAIMS[0], "study", "cifar100", each) for each in (same, again, other, None)]
    assert claims.different(judged) == [again, other]


def test_published_sources_are_those_with_rows():
    found = sources.published("sfsc")
    assert {"study", "large"} <= {each.words for each in found}
    assert [each.words for each in found] == [name for name, _ in sources.PUBLISHED if name in {e.words for e in found}]
    for each in found:
        assert set(each.rows.frame["profile"]) == {each.words}
    origins = sources.origins("sfsc")
    assert {run.split("/")[0] for run in origins["run"]} == {each.words for each in found}
    with pytest.raises(ValueError, match="unknown chapter 'fsc'"):
        sources.published("fsc")


def test_this_build_is_a_source():
    rows = source("smoke", 1).rows
    assert sources.this_build(settings({}), rows) == Source("this build: smoke", rows)
