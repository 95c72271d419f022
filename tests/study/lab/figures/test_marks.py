import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.evaluation.statistics import paired
from compatlib.study.lab.figures import marks, style

LOW, HIGH = paired({0: 0.1, 1: 0.2, 2: 0.3}, 0), paired({0: 0.5}, 0)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_dots_have_a_panel_a_marker_and_a_height_each():
    lines = {"low": LOW, "high": HIGH}
    figure = marks.dots(
        {"left": {"one": lines, "two": lines}, "right": {"one": lines, "two": lines}}, "{} (%)", height=3
    )
    assert [axis.get_title() for axis in figure.axes] == ["left", "right"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["left (%)", "right (%)"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["low", "high"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    (interval, second) = figure.axes[0].lines  # a single seed has none
    assert list(interval.get_xdata()) == pytest.approx([100 * LOW.low, 100 * LOW.high])
    heights = [points.get_offsets()[:, 1].tolist() for points in figure.axes[0].collections]
    assert heights == [
        pytest.approx(each) for each in ([-0.12] * 3, [-0.12], [0.88], [0.88], [0.12] * 3, [0.12], [1.12], [1.12])
    ]
    seeds, mean = (figure.axes[0].collections[place].get_offsets()[:, 0].tolist() for place in (0, 1))
    assert seeds == pytest.approx([10, 20, 30])
    assert mean == pytest.approx([20])
    assert second.get_color() != interval.get_color()
    assert not plt.get_fignums()  # a page shows it once


def test_differences_stand_beside_a_line_at_0():
    panels = {"left": {"one": {"low": LOW, "none": None}}, "right": {"one": {"low": HIGH, "none": None}}}
    figure = marks.differences(panels, "{} (points)", height=2)
    assert [axis.get_xlabel() for axis in figure.axes] == ["left (points)", "right (points)"]
    for axis in figure.axes:
        assert [0, 0] in [list(line.get_xdata()) for line in axis.lines]
        assert axis.get_xlim()[0] < 0 < axis.get_xlim()[1]


def test_heat_maps_share_a_scale_and_keep_queries_in_lines():
    names = ["a", "b"]
    first = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], names, names)
    figure = marks.heat_maps({"one": first, "two": 2 * first}, ("gallery", "query", "score"), size=(3, 3))
    maps = [axis for axis in figure.axes if axis.get_title()]
    assert [[text.get_text() for text in axis.texts] for axis in maps] == [
        ["1.0", "2.0", "3.0", "4.0"],
        ["2.0", "4.0", "6.0", "8.0"],
    ]
    assert {axis.collections[0].get_clim() for axis in maps} == {(0, 8)}
    assert [axis.get_ylabel() for axis in maps] == ["query", ""]
    assert len(figure.axes) == 3  # one scale beside them


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_curve_is_the_mean_and_every_seed_a_thin_line(seeds):
    rows = [{"x": x, "seed": seed, "value": 0.1 * x + 0.01 * seed} for x in (2, 1) for seed in range(seeds)]
    figure, axes = style.panels(1, (3, 3))
    marks.curve(axes[0, 0], pd.DataFrame(rows), 1, "label", 100, linestyle="--")
    thick, *thin = axes[0, 0].lines
    assert list(thick.get_xdata()) == [1, 2]
    assert list(thick.get_ydata()) == pytest.approx([10 + (seeds - 1) / 2, 20 + (seeds - 1) / 2])
    assert [line.get_ydata()[0] for line in thin] == pytest.approx([10, 11, 12] if seeds == 3 else [])
    assert {line.get_linestyle() for line in axes[0, 0].lines} == {"--"}
    style.finished(figure)


def test_a_logarithmic_axis_has_numbers_at_its_places_alone():
    figure, axes = style.panels(1, (3, 3))
    marks.logarithmic(axes[0, 0], [0.3, 10.0])
    assert axes[0, 0].get_xscale() == "log"
    assert [text.get_text() for text in axes[0, 0].get_xticklabels()] == ["0.3", "10"]
    style.finished(figure)


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 4)), (3, (4, 4, 3))])
def test_images_are_drawn_in_grey_or_colour(channels, shape):
    pixels = torch.arange(2 * channels * 16, dtype=torch.uint8).reshape(2, channels, 4, 4)
    figure, axes = style.panels(1, (3, 3))
    marks.draw_image(axes[0, 0], ImageSet(pixels, torch.zeros(2, dtype=torch.int64), ("a",)), 1)
    shown = np.asarray(axes[0, 0].get_images()[0].get_array())
    assert shown.shape == shape
    assert shown.flat[0] == 16 * channels
    style.finished(figure)


def test_no_two_looks_of_the_first_seven_are_alike():
    looks = [tuple(style.look(number).values()) for number in range(8)]
    assert len(set(looks[:7])) == 7
    assert looks[7] == looks[0]
