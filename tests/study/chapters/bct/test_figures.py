import matplotlib.pyplot as plt
import pytest

from compatlib.study.chapters.bct import figures
from compatlib.study.chapters.bct.plan import CHAIN, METHODS, WEIGHTS
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.rows import Rows
from tests.study.chapters.bct.made_rows import CROSS, OLD, SELF, bct
from tests.study.lab.figures import made

PLAIN = {"split": "class-incremental", "variant": "", "x_name": "", "metric": "cmc@1"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return bct()


def test_the_criterion_has_a_line_at_zero_and_each_methods_difference(rows):
    figure = figures.criterion(rows)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(METHODS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rank 1", "rank 5", "mAP"]
    for axis, subset in zip(figure.axes, made.SUBSETS, strict=True):
        assert any(set(line.get_xdata()) == {0} for line in axis.lines)
        where = {**PLAIN, "subset": subset}
        for place, method in enumerate(METHODS):
            cross = made.values(rows, **where, **CROSS, method=method)
            gained = 100 * (cross - made.values(rows, **where, **OLD)).mean()
            assert axis.collections[2 * place + 1].get_offsets()[0, 0] == pytest.approx(gained)
    assert not plt.get_fignums()


def test_the_trade_off_has_old_old_the_paragon_and_a_mark_for_each_method(rows):
    (axis,) = figures.trade_off(rows).axes
    where = {**PLAIN, "subset": "all"}
    old, paragon = axis.lines
    assert old.get_ydata()[0] == pytest.approx(100 * made.values(rows, **where, **OLD).mean())
    assert paragon.get_xdata()[0] == pytest.approx(
        100 * made.values(rows, **where, **SELF, method="independent").mean()
    )
    means = {
        mark.get_label(): mark.get_offsets()[0].tolist() for mark in axis.collections if mark.get_label() in METHODS
    }
    assert list(means) == list(METHODS)
    for method, found in means.items():
        expected = [100 * made.values(rows, **where, **test, method=method).mean() for test in (SELF, CROSS)]
        assert found == pytest.approx(expected)
    looks = {
        (str(mark.get_facecolor()), str(mark.get_edgecolor()), len(mark.get_paths()[0])) for mark in axis.collections
    }
    assert len(looks) >= len(METHODS)


def test_generations_are_matrices_of_each_chain(rows):
    figure = figures.generations(rows)
    maps = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(maps) == ["trained apart", "BCT A"]
    where = {"split": "three generations", "method": "BCT A", "metric": "cmc@1"}
    expected = [f"{100 * made.values(rows, **where, **pair(q, g)).mean():.1f}" for q in CHAIN for g in CHAIN]
    assert [text.get_text() for text in maps["BCT A"].texts] == expected
    assert [text.get_text() for text in maps["BCT A"].get_xticklabels()] == ["1 (25 %)", "2 (50 %)", "3 (100 %)"]


def test_the_sweep_has_a_line_for_each_form_and_test(rows):
    figure = figures.sweep(rows)
    assert [axis.get_title() for axis in figure.axes] == list(figures.SWEEPS.values())
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    forms = [f"{test}, BCT {form}" for form in "AC" for test in ("new / old", "new / new")]
    assert list(lines) == [*forms, "new / new, λ = 0 (paragon)", "old / old: the criterion"]
    place = {"split": "class-incremental", "x_name": "weight", "subset": "all", "metric": "cmc@1"}
    expected = [100 * made.values(rows, **place, **CROSS, method="BCT C", x=weight).mean() for weight in WEIGHTS]
    assert list(lines["new / old, BCT C"].get_ydata()) == pytest.approx(expected)
    assert list(lines["new / old, BCT C"].get_xdata()) == list(WEIGHTS)
    old = 100 * made.values(rows, **place, **OLD).mean()
    assert lines["old / old: the criterion"].get_ydata()[0] == pytest.approx(old)
    assert len(figure.axes[1].lines) == 4
