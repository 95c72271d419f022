import numpy as np
import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.study.chapters.problem import figures
from compatlib.study.chapters.problem.plan import ROLES
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.rows import Rows
from tests.study.chapters.problem.made_rows import problem
from tests.study.lab.figures import made


@pytest.fixture(scope="module")
def rows() -> Rows:
    return problem()


def test_the_heat_map_has_queries_down_and_galleries_across(rows):
    axis = figures.heat_map(rows).axes[0]
    where = {"subset": "all", "metric": "cmc@1"}
    expected = [f"{100 * made.values(rows, **pair(q, g), **where).mean():.1f}" for q in ROLES for g in ROLES]
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
