import pytest

from compatlib.study.chapters.problem import figures, story
from compatlib.study.chapters.problem.tables import CASES, named
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.figures.texts import effect
from tests.study.chapters.problem.made_rows import two_sources
from tests.study.lab.figures import made

HEADS, STUDY = "heads (3 seeds)", "study (3 seeds)"
ALONE = {"method": "independent", "subset": "all"}
OLD, CROSS, NEW = pair("old", "old"), pair("new", "old"), pair("new", "new")


@pytest.fixture(scope="module")
def both() -> list[Source]:
    return two_sources()


def from_chance(source: Source, metric: str, *test: str) -> str:
    chance = {"method": "chance", "query_model": "", "gallery_model": ""}
    cross = {"method": "independent", **pair(*test)}
    return made.gained(source.rows, cross, chance, subset="all", metric=metric)


@pytest.mark.parametrize(("metric", "old", "cross"), [("cmc@1", "34.2", "0.8"), ("map", "16.5", "1.5")])
def test_both_models_stand_on_both_galleries_beside_the_papers(both, metric, old, cross):
    found = story.level_table(both, metric).set_index("query / gallery")
    assert list(found) == [HEADS, STUDY, "FCT (2023)", "BT²"]
    tests = [("old", "old"), ("old", "new"), ("new", "old"), ("new", "new")]
    assert list(found.index) == [*(" / ".join(test) for test in tests), "random"]
    for words, test in zip(found.index, tests, strict=False):
        for source, column in zip(both, (HEADS, STUDY), strict=True):
            assert found.loc[words, column] == made.level(source.rows, **ALONE, **pair(*test), metric=metric)
    chance = made.level(both[0].rows, method="chance", subset="all", metric=metric)
    assert found.loc["random", HEADS] == chance
    assert (found["FCT (2023)"] != "").tolist() == [True, False, False, True, False]
    assert (found["FCT (2023)"].iloc[0], found["BT²"].iloc[2]) == (old, cross)


def test_every_pair_of_models_is_held_against_a_random_ranking(both):
    found = story.chance_table(both, "map").set_index("what differs")
    for words, (case, *test) in zip(found.index, CASES, strict=True):
        assert words == f"{case} ({named(*test)})"
        assert found.loc[words, STUDY] == from_chance(both[1], "map", *test)
    assert found[HEADS].iloc[-1] == ""  # no models of shared weights


def test_the_upgrade_has_what_it_brings_with_and_without_the_old_gallery(both):
    again, as_it_is, gain, flips = story.upgrade_table(both)[HEADS]
    rows, place = both[0].rows, {**ALONE, "metric": "cmc@1"}
    assert again == made.gained(rows, NEW, OLD, **place)
    assert as_it_is == made.gained(rows, CROSS, OLD, **place)
    old, cross, new = (made.values(rows, **place, **test).mean() for test in (OLD, CROSS, NEW))
    assert gain in ("undefined", f"{(cross - old) / (new - old):.2f}")
    assert flips == made.level(rows, **ALONE, **CROSS, metric="negative_flips")


def test_subsets_are_of_what_the_old_model_knew(both):
    found = story.subset_table(both, "map").set_index("queries of")
    assert [words.split(", ")[1] for words in found.index] == ["old / old", "new / old", "new / new"] * 2
    for subset, words in (("known", "classes old knew"), ("unknown", "classes new to old")):
        own = made.level(both[1].rows, **{**ALONE, "subset": subset}, **CROSS, metric="map")
        assert found.loc[f"{words}, new / old", STUDY] == own


def test_backfilling_costs_time_at_the_measured_speed_and_bytes_by_size(both):
    found = story.cost_table(both).set_index("gallery")
    assert list(found) == ["heads, the head alone", "study"]
    assert list(found["study"]) == ["33.3 minutes", "0.5", "23.1 days", "512.0"]
    assert list(found["heads, the head alone"]) == ["33.3 minutes", "0.3", "23.1 days", "256.0"]


def test_findings_are_the_rows_numbers(both):
    lines = story.findings(both).data.splitlines()
    assert sum(line.startswith("- **") for line in lines) == 5
    (twins,) = (number for number, line in enumerate(lines) if "their seed alone" in line)
    for start, test in ((0, ("new", "old")), (twins, ("new", "twin"))):
        for place, source in enumerate(both, start + 1):
            ranking, first = (from_chance(source, metric, *test) for metric in ("map", "cmc@1"))
            assert lines[place] == f"  - {source.words}: mAP {ranking} points; rank 1 {first} points"
    for words, first, second in (("embedded again", NEW, OLD), ("as it is", CROSS, OLD)):
        (place,) = (number for number, line in enumerate(lines) if words in line)
        sides = (made.values(both[1].rows, **ALONE, **side, metric="cmc@1") for side in (first, second))
        assert lines[place + 2].endswith(f"; rank 1 {effect(*sides)}")
    assert lines[-1].startswith("  - study: mAP")  # the other source has no models of shared weights
    assert lines[-2].startswith("- **")


def test_the_first_picture_has_each_model_alone_and_the_two_together(both):
    axes = figures.meetings(both).axes
    assert [axis.get_title() for axis in axes] == ["heads", "study"]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == [case for case, *_ in CASES]
    for axis, source, cases in zip(axes, both, (CASES[:-1], CASES), strict=True):
        tests = [[(gallery, gallery) for _, _, gallery in cases], [(query, query) for _, query, _ in CASES]]
        tests.append([(query, gallery) for _, query, gallery in cases])
        means = [
            100 * made.values(source.rows, **ALONE, **pair(*test), metric="cmc@1").mean()
            for kind in tests
            for test in kind
        ]
        assert [points.get_offsets()[0, 0] for points in axis.collections[1::2]] == pytest.approx(means)
        chance = 100 * made.values(source.rows, method="chance", subset="all", metric="cmc@1").mean()
        assert axis.lines[-1].get_xdata() == pytest.approx([chance] * 2)


def test_how_far_apart_models_are_has_a_mark_a_score_and_a_line_at_a_random_ranking(both):
    axes = figures.apart(both).axes
    for axis, source, cases in zip(axes, both, (CASES[:-1], CASES), strict=True):
        means = []
        for metric in METRICS:
            chance = made.values(source.rows, method="chance", subset="all", metric=metric)
            for _, *test in cases:
                cross = made.values(source.rows, **ALONE, **pair(*test), metric=metric)
                means.append(100 * (cross - chance).mean())
        assert [points.get_offsets()[0, 0] for points in axis.collections[1::2]] == pytest.approx(means)
        assert set(axis.lines[-1].get_xdata()) == {0}
