import numpy as np
import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.evaluation.checks import DISTANCES
from compatlib.study.chapters.fct import figures
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import Rows
from tests.study.chapters.fct.made_rows import SHARES, balanced, fct
from tests.study.lab.figures import made

MAIN = {"split": "class-incremental", "variant": "", "x_name": "", "subset": "all"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return fct()


def test_levels_show_both_distances_for_each_score(rows):
    figure = figures.levels(rows)
    assert [axis.get_title() for axis in figure.axes] == ["rank 1", "rank 5", "mAP"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(figures.SHOWN)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(DISTANCES)
    for axis, metric in zip(figure.axes, made.METRICS, strict=True):
        marks = axis.collections[1::2]
        found = [
            100 * made.values(rows, **MAIN, **cell, metric=metric, distance=distance).mean()
            for distance in DISTANCES
            for cell in figures.SHOWN.values()
        ]
        assert [mark.get_offsets()[0, 0] for mark in marks] == pytest.approx(found)


def test_curves_have_a_panel_without_and_with_side_information(rows):
    figure = figures.curves(rows, distance="cosine")
    assert [axis.get_title() for axis in figure.axes] == ["without side-information", "with side-information"]
    where = {"subset": "all", "metric": "cmc@1", "distance": "cosine"}
    for axis in figure.axes:
        lines = {line.get_label(): line for line in axis.get_lines()}
        line = lines["h of FastFill, uncertainty order"]
        assert line.get_xdata() == pytest.approx(100 * np.array(SHARES))
        place = {"method": "FastFill", "variant": f"uncertainty order, {axis.get_title()}", "x_name": SHARE}
        found = [100 * made.values(rows, **where, **place, x=share).mean() for share in SHARES]
        assert line.get_ydata() == pytest.approx(found)
        new = 100 * made.values(rows, **{**MAIN, **where}, **pair("new", "new", method="independent")).mean()
        assert lines["new / new: all backfilled"].get_ydata()[0] == pytest.approx(new)
        markers = [line.get_marker() for label, line in lines.items() if label.startswith("h of")]
        assert len(set(markers)) == len(markers) == 4


def test_an_order_is_set_against_a_random_one_of_the_same_balance():
    rows = balanced()
    figure = figures.balance(rows)
    assert [axis.get_title() for axis in figure.axes] == ["rank 1", "mAP"]
    words = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert words[:2] == ["× 0, mean of squares", "× 0.01, mean of squares"]
    own, random = ({"variant": f"balance=mean over coordinates;order={order}"} for order in ("uncertainty", "random"))
    for axis, metric in zip(figure.axes, ("auc cmc@1", "auc map"), strict=True):
        marks = [mark.get_offsets()[0, 0] for mark in axis.collections[1::2]]
        sides = [made.values(rows, **side, x=0.01, metric=metric) for side in (own, random)]
        assert marks[1] == pytest.approx(100 * (sides[0] - sides[1]).mean())


def test_pictures_begin_with_the_most_doubted():
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2).clone()
    images = ImageSet(pixels, torch.zeros(10, dtype=torch.int64), ("a",))
    doubts = np.array([0, 1, 2, 3, 4, 9, 8, 7, 6, 5], float)
    figure = figures.first_and_last(images, doubts, count=3)
    assert [int(axis.get_images()[0].get_array().flat[0]) for axis in figure.axes] == [5, 6, 7, 0, 1, 2]
    assert [axis.get_title() for axis in figure.axes] == ["9.0", "8.0", "7.0", "0.0", "1.0", "2.0"]
    assert len(figures.first_and_last(images, doubts, count=30).axes) == 10
