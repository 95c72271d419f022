from dataclasses import replace

import pandas as pd
import pytest

from compatlib.study.chapters.fct import story
from compatlib.study.chapters.fct.backfilling import curves_of
from compatlib.study.chapters.fct.plan import CHANGES, RIVAL, SIZE, WITH, WITHOUT
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.figures.texts import effect
from compatlib.study.lab.rows import Rows
from tests.study.chapters.fct.made_rows import NEW_ON_H, SIDES, balanced, fct
from tests.study.lab.figures import made

PLAIN = {"split": "class-incremental", "variant": "", "x_name": "", "subset": "all", "distance": "euclidean"}
RANK_1 = {**PLAIN, "metric": "cmc@1"}
OLD, NEW = (pair(name, name, method="independent") for name in ("old", "new"))
CLASSES = {"split": "class-incremental"}


@pytest.fixture(scope="module")
def both() -> list[Source]:
    """Heads, which have bytes, the rival, draws and the loss's balance too; and networks, which have not."""
    on_h, scores = {**CLASSES, **NEW_ON_H}, {"subset": "all", "metric": ("cmc@1", "map")}
    kept = {"distance": ("cosine", "euclidean"), "metric": "kept_bytes"}
    rival = {**CLASSES, **pair("new", "old again", method=RIVAL), "distance": "euclidean"}
    cells = [on_h | kept | {"method": WITHOUT}, rival | scores, rival | {"metric": "kept_bytes"}]
    cells += [on_h | kept | {"method": WITH, "variant": kind, "x_name": SIZE, "x": x} for kind, x in SIDES if x]
    for draw in ("draw=1", "draw=2"):
        own = {**CLASSES, **scores, "distance": "euclidean", "variant": draw}
        cells += [own | OLD, own | NEW_ON_H | {"method": WITH}]
    rows = fct()
    return [
        Source("heads", Rows(pd.concat([rows.frame, made.made(*cells).frame, balanced().frame]), {})),
        Source("study", rows),
    ]


def test_the_order_stands_beside_the_releases(both):
    found = story.level_table(both).set_index("query / gallery")
    assert list(found) == ["heads (3 seeds)", "study (3 seeds)", "FCT (2023)"]
    assert list(found["FCT (2023)"]) == ["34.2", "", "47.2", "50.2", "56.5"]
    assert found.iloc[0]["study (3 seeds)"] == made.level(both[1].rows, **RANK_1, **OLD)
    expected = made.level(both[1].rows, **RANK_1, **NEW_ON_H, method=WITH)
    assert found.iloc[3]["study (3 seeds)"] == expected
    assert story.level_table(both, "map")["FCT (2023)"].iloc[0] == "16.5"


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_links_are_differences_of_neighbours(both, distance):
    found = story.link_table(both, "map", distance).set_index("link")
    place = {**PLAIN, "metric": "map", "distance": distance}
    without, with_side = ({**NEW_ON_H, "method": method} for method in (WITHOUT, WITH))
    bct = pair("new", "old", method="BCT A")
    links = {
        "without − old/old": (without, OLD),
        "with − without": (with_side, without),
        "new/new − with": (NEW, with_side),
        "with − BCT": (with_side, bct),
    }
    assert dict(found["study (3 seeds)"]) == {
        words: made.gained(both[1].rows, *sides, **place) for words, sides in links.items()
    }


def test_what_side_information_adds_is_against_none(both):
    found = story.side_table(both).set_index(["side-information", "numbers"])
    assert sorted(found.index) == sorted((kind, f"{size:g}") for kind, size in SIDES if size)
    place = {name: value for name, value in RANK_1.items() if name not in ("variant", "x_name")}
    first = {**NEW_ON_H, "method": WITH, "variant": "SimCLR", "x": 64.0}
    none = {**NEW_ON_H, "method": WITHOUT, "variant": "none", "x": 0.0}
    expected = made.gained(both[1].rows, first, none, **place, x_name=SIZE)
    assert found.loc[("SimCLR", "64"), "study (3 seeds)"] == expected


def test_bytes_stand_beside_what_is_found_with_them(both):
    found = story.kept_table(both).set_index("kept of an item")
    assert found.index[0] == "the old embedding"
    assert found.index[-1] == "raw features, and a new head on them"
    rows = both[0].rows
    plain = {name: value for name, value in PLAIN.items() if name != "subset"}
    kept = made.values(rows, **plain, **NEW_ON_H, method=WITHOUT, metric="kept_bytes").mean()
    assert found["bytes"].iloc[0] == f"{kept:.0f}"
    assert found["study (3 seeds)"].iloc[-1] == ""
    rival = pair("new", "old again", method=RIVAL)
    assert found["heads (3 seeds)"].iloc[-1] == made.level(rows, **RANK_1, **rival)
    assert list(story.kept_table(both[1:])["bytes"]) == [""] * (len(found) - 1)


def test_changes_and_draws_have_their_own_old_model(both):
    found = story.change_table(both).set_index("what changes")
    assert list(found.index) == [
        "half of the classes, then all",
        *CHANGES,
        *(f"the first, draw {draw} of the old classes" for draw in (1, 2)),
    ]
    place = {name: value for name, value in RANK_1.items() if name != "variant"}
    sides = {**NEW_ON_H, "method": WITH}, OLD
    expected = made.gained(both[0].rows, *sides, **place, variant="draw=2")
    assert found.iloc[-1]["heads (3 seeds)"] == expected
    expected = made.gained(
        both[1].rows, *sides, **{k: v for k, v in place.items() if k != "split"}, variant=next(iter(CHANGES))
    )
    assert found.iloc[1]["study (3 seeds)"] == expected


def test_the_chain_is_against_the_first_models_own_test(both):
    found = story.chain_table(both).set_index("the first gallery")
    place = {"split": "three generations", "subset": "all", "distance": "euclidean", "metric": "cmc@1"}
    first = pair("v1", "v1", method="independent", variant="")
    for words in ("composed", "learned again"):
        last = pair("v3", "h(v1)", method=WITH, variant=words)
        assert found.loc[words, "study (3 seeds)"] == made.gained(both[1].rows, last, first, **place)


@pytest.mark.parametrize(("metric", "area"), [("map", "auc map"), ("cmc@1", "auc cmc@1")])
def test_orders_are_told_apart_from_transformations(both, metric, area):
    found = story.order_table(both, metric).set_index("areas")["study (3 seeds)"]
    place = {**CLASSES, **pair("new", "mixed"), "subset": "all", "distance": "euclidean", "metric": area}

    def curve(method, order):
        return {"method": method, "variant": f"{order} order, with side-information"}

    own, random, fct_random = curve("FastFill", "uncertainty"), curve("FastFill", "random"), curve("FCT", "random")
    links = ((own, fct_random), (own, random), (random, fct_random))
    assert list(found) == [made.gained(both[1].rows, *link, **place) for link in links]


def test_findings_are_the_rows_numbers(both):
    lines = story.findings(both).data.splitlines()
    assert sum(line.startswith("- **") for line in lines) == 7
    for source in both:
        told = []
        for metric in ("map", "cmc@1"):
            cell = {**PLAIN, "metric": metric}
            sides = (made.values(source.rows, **cell, **side) for side in ({**NEW_ON_H, "method": WITHOUT}, OLD))
            told.append(effect(*sides))
        assert lines[1 + both.index(source)] == f"  - {source.words}: mAP {told[0]}; rank 1 {told[1]}"
    (rival,) = (number for number, line in enumerate(lines) if "raw features are kept" in line)
    assert lines[rival + 1].startswith("  - heads:")
    assert lines[rival + 2].startswith("- **")
    (number,) = (number for number, line in enumerate(lines) if "Principal components" in line)
    place = {
        **CLASSES,
        **NEW_ON_H,
        "method": WITH,
        "x_name": SIZE,
        "x": 128.0,
        "distance": "euclidean",
        "subset": "all",
    }
    sides = ({**place, "variant": kind, "metric": "map"} for kind in ("principal components", "SimCLR"))
    told = effect(*(made.values(both[0].rows, **side) for side in sides))
    assert lines[number + 1].startswith(f"  - heads: mAP {told}; rank 1")
    without = [replace(both[1], rows=Rows(both[1].rows.frame.query("gallery_model != 'mixed'"), {}))]
    assert "FastFill" not in story.findings(without).data


def test_areas_by_the_losss_balance_are_no_curves_of_an_order(both):
    heads, study = (curves_of(each.rows) for each in both)
    assert heads == study != []
