import pytest

from compatlib.study.chapters.sfsc import figures, story
from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN, OWN_GALLERIES
from compatlib.study.chapters.sfsc.tables import ABLATION
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.figures.sources import Source
from compatlib.study.lab.figures.texts import effect
from compatlib.study.lab.rows import Rows
from tests.study.chapters.sfsc.made_rows import WIDTHS, sfsc
from tests.study.lab.figures import made

WHERE = {"variant": "", "x_name": "", "split": "closed"}
MAP = {"subset": "all", "metric": "map"}
GALLERIES = {"own": OWN_GALLERIES, "full": FULL_GALLERY}


@pytest.fixture(scope="module")
def both() -> list[Source]:
    """All tables, and as a single seed of the two headline methods."""
    rows = sfsc()
    frame = rows.frame
    few = frame[frame["method"].isin(["BCT-S", "SFSC"]) & (frame["seed"] == 0) & (frame["split"] == "closed")]
    return [Source("all", rows), Source("few", Rows(few, {}))]


@pytest.mark.parametrize("gallery", GALLERIES)
def test_levels_are_means_over_widths(both, gallery):
    found = story.level_table(both, gallery).set_index("method")
    assert list(found.index) == story.SHORT
    assert list(found) == ["all (1 to 3 seeds)", "few (1 seed)"]
    for source, column in zip(both, found, strict=True):
        for method in ("BCT-S", "SFSC"):
            cell = {**WHERE, **MAP, **pair(MEAN, GALLERIES[gallery]), "method": method}
            assert found.loc[method, column] == made.level(source.rows, **cell)
    assert found.loc["joint", "few (1 seed)"] == ""
    assert list(story.level_table(both, gallery, split="open-set")) == ["method", "all (1 seed)"]


def test_parts_are_against_plain_training(both):
    found = story.part_table(both).set_index("switchable network")
    assert list(found.index) == [words for words in ABLATION if ABLATION[words] != "BCT-S"]
    cell = {**WHERE, **MAP, **pair(MEAN, FULL_GALLERY)}
    for words in found.index:
        gained = made.gained(both[0].rows, {"method": ABLATION[words]}, {"method": "BCT-S"}, **cell)
        assert found.loc[words, "all (1 to 3 seeds)"] == gained


def test_what_pays_is_asked_of_every_narrower_width(both):
    found = story.pays_table(both).set_index("width of the query")
    assert list(found.index) == list(WIDTHS[:-1])
    for source, column in zip(both, found, strict=True):
        for width in WIDTHS[:-1]:
            sides = pair(width, "1"), pair(width, width)
            assert found.loc[width, column] == made.gained(source.rows, *sides, **WHERE, **MAP, method="SFSC")


def test_conflicts_are_those_over_all_tensors(both):
    found = story.conflict_table(both).set_index("switchable network")
    place = {**WHERE, "metric": "conflicts", "query_model": "", "method": "BCT-S"}
    assert found.loc["BCT-S", "all (1 to 3 seeds)"] == made.level(both[0].rows, **place)


def test_findings_are_the_rows_numbers(both):
    lines = story.findings(both).data.splitlines()
    assert sum(line.startswith("- **") for line in lines) == 5
    for source in both:
        told = []
        for metric in ("map", "cmc@1"):
            cell = {**WHERE, "subset": "all", "metric": metric, **pair(MEAN, FULL_GALLERY)}
            told.append(effect(*(made.values(source.rows, **cell, method=method) for method in ("SFSC", "BCT-S"))))
        assert lines[1 + both.index(source)] == f"  - {source.words}: mAP {told[0]}; rank 1 {told[1]}"
    # The projection alone is not among the few.
    (place,) = (number for number, line in enumerate(lines) if "Projection alone" in line)
    assert [line.split(":")[0] for line in lines[place + 1 : place + 3]] == [
        "  - all",
        "- **Pairs of widths whose gradients conflict**",
    ]


def test_the_first_picture_has_a_panel_a_source_and_lines_of_what_was_measured(both):
    axes = figures.meeting(both).axes
    assert [axis.get_title() for axis in axes] == ["all", "few"]
    marked = [
        {line.get_label(): line for line in axis.lines if line.get_marker() not in ("None", None, "")} for axis in axes
    ]
    assert list(marked[0]) == list(figures.MEETING)
    assert list(marked[1]) == list(figures.MEETING)[:2]
    for words, (method, is_own) in figures.MEETING.items():
        widths = WIDTHS if is_own or method != "independent" else WIDTHS[:-1]
        cells = [pair(width, width if is_own else "1") for width in widths]
        means = [100 * made.values(both[0].rows, **WHERE, **MAP, **cell, method=method).mean() for cell in cells]
        assert marked[0][words].get_xdata() == pytest.approx([float(width) for width in widths])
        assert marked[0][words].get_ydata() == pytest.approx(means)
        assert marked[0][words].get_linestyle() == ("--" if is_own else "-")


def test_the_effect_has_a_line_a_source_and_an_interval_where_there_are_seeds(both):
    figure = figures.effects(both)
    assert [axis.get_title() for axis in figure.axes] == ["on their own galleries", "on the full model's gallery"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["all\n(3 seeds)", "few\n(1 seed)"]
    for axis, gallery in zip(figure.axes, (OWN_GALLERIES, FULL_GALLERY), strict=True):
        cell = {**WHERE, "subset": "all", **pair(MEAN, gallery)}
        means = []
        for metric in ("cmc@1", "map"):
            for source in both:
                one, other = (made.values(source.rows, **cell, metric=metric, method=m) for m in ("SFSC", "BCT-S"))
                means.append(100 * (one - other).mean())
        shown = [points.get_offsets()[0, 0] for points in axis.collections[1::2]]
        assert shown == pytest.approx(means)
        intervals = [line for line in axis.lines if len(set(line.get_ydata())) == 1]
        assert len(intervals) == 2  # of the source of three seeds, a score each


def test_a_source_without_the_methods_has_no_line(both):
    frame = both[0].rows.frame
    without = Source("none", Rows(frame[frame["method"] != "SFSC"], {}))
    figure = figures.effects([both[0], without])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["all\n(3 seeds)"]
