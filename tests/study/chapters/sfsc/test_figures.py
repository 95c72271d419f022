import pytest

from compatlib.study.chapters.sfsc import figures
from compatlib.study.chapters.sfsc.plan import WHOLE_MATRIX
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import Rows
from tests.study.chapters.sfsc.made_rows import EPOCHS, WIDTHS, sfsc
from tests.study.lab.figures import made

CLOSED, PLAIN = {"split": "closed"}, {"variant": "", "x_name": ""}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return sfsc()


def marked(axis) -> dict:
    """Lines with a marker, by label; thin ones of seeds have none."""
    return {line.get_label(): line for line in axis.lines if line.get_marker() not in ("None", None, "")}


def test_heat_maps_have_a_cell_for_every_pair_of_widths(rows):
    figure = figures.matrices(rows)
    maps = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(maps) == list(WHOLE_MATRIX)
    for method, axis in maps.items():
        where = {**CLOSED, **PLAIN, "method": method, "metric": "cmc@1"}
        expected = [f"{100 * made.values(rows, **where, **pair(q, g)).mean():.1f}" for q in WIDTHS for g in WIDTHS]
        assert [text.get_text() for text in axis.texts] == expected


def test_operations_have_a_line_for_every_method_of_the_first_table(rows):
    own, full = figures.against_operations(rows).axes
    for axis, galleries in ((own, WIDTHS), (full, ("1",) * 3)):
        lines = marked(axis)
        assert list(lines) == list(figures.SHOWN)
        assert len({(line.get_color(), line.get_marker()) for line in lines.values()}) == len(lines)
        for method, line in lines.items():
            where = {**CLOSED, **PLAIN, "method": method}
            points = sorted(
                (
                    made.values(rows, **where, query_model=width, metric="flops").mean() / 1e6,
                    100 * made.values(rows, **where, **pair(width, gallery), metric="cmc@1").mean(),
                )
                for width, gallery in zip(WIDTHS, galleries, strict=True)
            )
            assert line.get_xdata() == pytest.approx([x for x, _ in points])
            assert line.get_ydata() == pytest.approx([y for _, y in points])


def test_conflicts_are_drawn_by_epoch(rows):
    axes = figures.conflicts(rows).axes
    for axis in axes:
        lines = marked(axis)
        assert list(lines) == list(figures.GRADIENTS_SHOWN)
        sizes = [line.get_markersize() for line in lines.values()]
        assert sizes == sorted(set(sizes), reverse=True)  # of two lines that coincide both are seen
    place = {**CLOSED, "method": "SFSC", "x_name": EPOCH}
    found = [100 * made.values(rows, **place, query_model="", metric="conflicts", x=epoch).mean() for epoch in EPOCHS]
    line = marked(axes[1])["SFSC"]
    assert list(line.get_xdata()) == list(EPOCHS)
    assert line.get_ydata() == pytest.approx(found)
    frame = rows.of(**place, metric="cosine")
    assert marked(axes[0])["SFSC"].get_ydata() == pytest.approx(frame.groupby("x")["value"].mean().to_numpy())


def test_priorities_have_a_line_for_every_width(rows):
    axes = figures.priorities(rows).axes
    assert len(axes) == 6
    place = {**CLOSED, "method": "BCT-S", "x_name": EPOCH, "query_model": "0.5"}
    norms, doubts = (
        [made.values(rows, **place, metric=metric, x=epoch).mean() for epoch in EPOCHS]
        for metric in ("gradient norm", "uncertainty")
    )
    assert list(marked(axes[0])) == [f"width {width}" for width in WIDTHS]
    assert marked(axes[0])["width 0.5"].get_ydata() == pytest.approx(norms)
    assert marked(axes[1])["width 0.5"].get_ydata() == pytest.approx(doubts)
    line = axes[2].lines[1]
    assert line.get_xdata() == pytest.approx(doubts)
    assert line.get_ydata() == pytest.approx(norms)
