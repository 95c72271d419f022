"""What the vectors themselves tell, coordinate by coordinate and image by image."""

import numpy as np
import pytest

from compatlib.study.lab.cases import case
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.measures import collapse, likeness

PLACE = {"split": CLASS_INCREMENTAL, "distance": "cosine"}


@pytest.mark.parametrize(("dead", "towards", "spread"), [(0, 1.0, 3), (2, 0.0, 1), (6, 1.0, 3)])
def test_collapse_is_counted_over_the_test_images(seed, drawn, dead, towards, spread):
    space = drawn(3, dead=dead, towards=towards, spread=spread)
    vectors = seed.vectors(space, CLASS_INCREMENTAL)
    found = {row["metric"]: row for row in collapse(seed, case(space, drawn(4), collapse, **PLACE))}
    coordinates = sum(all(row[k] == 0 for row in vectors) for k in range(6)) / 6
    images = sum(all(value == 0 for value in row) for row in vectors) / len(vectors)
    assert found["dead_coordinates"]["value"] == pytest.approx(coordinates) == pytest.approx(dead / 6)
    assert found["zero_vectors"]["value"] == pytest.approx(images)
    assert {row["subset"] for row in found.values()} == {"all"}


@pytest.mark.parametrize(("new_dim", "old_dim"), [(6, 6), (8, 5), (4, 6)])
def test_likeness_is_the_mean_cosine_of_an_images_two_embeddings(seed, masks, drawn, new_dim, old_dim):
    """In the coordinates that both have; a zero vector is like nothing."""
    new, old = drawn(1, dim=new_dim), drawn(2, dim=old_dim, towards=0.0, spread=1)
    cosines = []
    for first, second in zip(*(seed.vectors(space, CLASS_INCREMENTAL) for space in (new, old)), strict=True):
        first = np.pad(first, (0, max(0, old_dim - new_dim)))[:old_dim]
        norms = np.linalg.norm(first) * np.linalg.norm(second)
        cosines.append(float(first @ second / norms) if norms else 0.0)
    found = {row["subset"]: row["value"] for row in likeness(seed, case(new, old, likeness, **PLACE))}
    assert found.keys() == masks.keys()
    for subset, mask in masks.items():
        assert found[subset] == pytest.approx(np.mean(np.array(cosines)[mask]), abs=1e-6)


def test_the_same_vectors_are_as_like_as_can_be(seed, drawn):
    space = drawn(1)
    for row in likeness(seed, case(space, space, likeness, **PLACE)):
        assert row["value"] == pytest.approx(1)
