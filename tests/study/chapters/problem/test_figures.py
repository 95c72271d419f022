import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.study.chapters.problem import figures
from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.chapters.problem.tables import CASES
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.rows import Rows
from tests.study.lab.figures import made

WHERE = {"subset": "all", "metric": "cmc@1"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    tests = {"query_model": ROLES, "gallery_model": ROLES, "method": "independent"}
    return made.made({**tests, **WHERE}, {"method": "chance", **WHERE})


def test_bars_are_means_with_every_seed_and_the_chance_level(rows):
    figure = figures.cross_tests(rows)
    assert len(figure.axes) == len(CASES) + 1  # the last one holds the legend
    chance = 100 * made.values(rows, method="chance").mean()
    for axis, (_, query, gallery) in zip(figure.axes, CASES, strict=False):
        found = [made.values(rows, **pair(*test)) for test in ((gallery,) * 2, (query,) * 2, (query, gallery))]
        assert [bar.get_height() for bar in axis.patches] == pytest.approx([100 * each.mean() for each in found])
        for points, own in zip(axis.collections, found, strict=True):
            assert points.get_offsets()[:, 1].tolist() == pytest.approx((100 * own).tolist())
        assert axis.lines[0].get_ydata() == pytest.approx([chance] * 2)
    assert not plt.get_fignums()


def test_the_heat_map_has_queries_down_and_galleries_across(rows):
    axis = figures.heat_map(rows).axes[0]
    expected = [f"{100 * made.values(rows, **pair(q, g)).mean():.1f}" for q in ROLES for g in ROLES]
    assert [text.get_text() for text in axis.texts] == expected
    assert axis.get_yticklabels()[0].get_text() == axis.get_xticklabels()[0].get_text() == figures.NAMES["old"]


def test_ranked_galleries_mark_right_and_wrong_and_never_show_the_query_itself():
    labels = torch.arange(12) % 2
    images = ImageSet(torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8), labels, ("a", "b"))
    embeddings = np.stack([labels.numpy(), 1 - labels.numpy()], 1).astype(np.float32)
    embeddings += 0.01 * np.arange(24).reshape(12, 2)
    galleries = {"same": embeddings, "swapped": embeddings[:, ::-1].copy()}
    figure = figures.ranked_galleries(images, embeddings, galleries, examples=3, distance="cosine", top=4)
    marks = [axis.get_title() for axis in figure.axes if axis.get_title() in ("✓", "✗")]
    assert marks == (["✓"] * 4 + ["✗"] * 4) * 3
    for row in np.array(figure.axes, dtype=object).reshape(3, -1):
        query, *items = [axis.get_images()[0].get_array().tobytes() for axis in row if axis.get_images()]
        assert len(items) == 8
        assert query not in items
