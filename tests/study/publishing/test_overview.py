import re

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.statistics import verdict
from compatlib.study.publishing import claims, overview
from compatlib.study.publishing.claims import Claim, Judged

SEEDS = range(3)


def claim(name: str, chapter: str, **more) -> Claim:
    rows = ({"method": "a"}, {"method": "b"})
    values = {"paper": "BCT", "whose": "the paper", "statement": f"statement of {name}", "where": "here"}
    return Claim(id=name, chapter=chapter, kind="direction", rows=rows, shared={"metric": "cmc@1"}, **values, **more)


def judged(name: str, chapter: str, profile: str, points: float, spread: float = 0.1, **more) -> Judged:
    """A verdict on a difference of so many points in three seeds."""
    first = pd.Series([0.5 + (points + spread * seed) / 100 for seed in SEEDS], SEEDS)
    outcome = verdict("direction", first, pd.Series(0.5, SEEDS))
    return Judged(claim(name, chapter, **more), profile, "data", outcome)


@pytest.fixture
def verdicts() -> list[Judged]:
    return [
        judged("one", "problem", "heads", 4.0, short="first", is_headline=True),
        judged("one", "problem", "study", -4.0, short="first", is_headline=True),
        judged("two", "bct", "heads", 0.0, spread=3.0, short="second"),
        judged("three", "bct", "heads", 8.0, short="second"),
        Judged(claim("four", "fct", short="third"), "", "", None),
    ]


def test_the_picture_has_a_panel_a_regime_and_a_line_a_claim_under_its_papers_title(verdicts):
    figure = overview.picture(verdicts)
    assert [axis.get_title() for axis in figure.axes] == ["heads", "study"]
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["what all papers start from", "first", "BCT", "second"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal"] * 2
    heads, study = (np.concatenate([mark.get_offsets().data for mark in axis.collections]) for axis in figure.axes)
    assert heads == pytest.approx(np.array([(4.1, 1.0), (3.0, 2.9), (8.1, 3.1)]))
    assert study == pytest.approx(np.array([(-3.9, 1.0)]))
    told = {text.get_text() for text in figure.legends[0].get_texts()}
    assert told == {"reproduced", "not reproduced", "inconclusive"}


def test_a_verdict_has_a_colour_and_a_marker_of_its_own():
    looks = overview.LOOKS.values()
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == len(looks)


def test_of_a_chain_the_least_link_is_drawn():
    sides = (pd.Series([value] * 3, SEEDS) for value in (0.1, 0.4, 0.5))
    chain = claim("chain", "bct", short="chain").model_copy(update={"kind": "chain"})
    figure = overview.picture([Judged(chain, "heads", "data", verdict("chain", *sides))])
    (mark,) = figure.axes[0].collections
    assert mark.get_offsets()[0, 0] == pytest.approx(10.0)


def test_headlines_are_the_claims_that_stand_for_their_papers(verdicts):
    found = overview.headlines(verdicts)
    assert list(found) == ["claim", "paper", "heads", "study"]
    assert list(found["claim"]) == ["statement of one"]
    assert found["study"][0].startswith("not reproduced: -3.9 [")


def test_advice_tells_what_speaks_for_it_and_its_price(monkeypatch, verdicts):
    monkeypatch.setattr(overview, "ADVICE", (overview.Advice("somewhere", "this", "one", "three"),))
    (line,) = overview.advice(verdicts).to_dict("records")
    assert (line["where"], line["try first"], line["because"]) == ("somewhere", "this", "first (rank 1)")
    assert line["heads"] == claims.in_short(verdicts[0])
    assert line["its price"] == f"second (rank 1): heads {claims.differences(verdicts[3])}"
    told = overview.listed(overview.advice(verdicts)).data
    assert told.startswith("<ul><li><strong>Where somewhere: this.</strong> first (rank 1): heads reproduced: +4.1 [")
    assert "; study not reproduced: -3.9 [" in told


def test_what_is_kept_is_read_from_the_rows():
    without, beside = (int(found) for found in re.findall(r"\d+", overview.kept_bytes())[::-1])
    assert without == 512 < beside


def test_every_claim_has_a_short_line_and_advice_names_claims_that_there_are():
    stated = claims.load()
    assert all(0 < len(each.short) <= 46 for each in stated)
    assert {each.chapter for each in stated} == set(overview.TITLES)
    for each in overview.ADVICE:
        assert {each.claim, each.price} - {overview.KEPT} <= {one.id for one in stated}
