"""The embedded data set: reproducible bytes, exact painting, arguments refused."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from compatlib.data import glyphs
from compatlib.data.glyph_identities import all_identities

# ---- reproducible draws ----


def test_same_arguments_same_bytes():
    one, two = (glyphs.draw(3, 4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert one[2] == two[2]


def test_shapes_types_labels_and_names():
    images, labels, names = glyphs.draw(3, 2, seed=0, first_identity=7, size=20)
    assert images.shape == (6, 3, 20, 20)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert names == tuple(identity.name for identity in all_identities()[7:10])


@pytest.mark.parametrize("size", [16, 17, 32, 33, 48])
def test_more_identities_and_samples_change_nothing_earlier(size):
    few = glyphs.draw(2, 3, seed=1, size=size)[0].reshape(2, 3, 3, size, size)
    many = glyphs.draw(4, 70, seed=1, size=size)[0].reshape(4, 70, 3, size, size)
    np.testing.assert_array_equal(many[:2, :3], few)


def test_any_image_can_be_drawn_alone():
    whole = glyphs.draw(3, 68, seed=2)[0].reshape(3, 68, 3, 32, 32)
    for identity, sample in ((0, 0), (1, 63), (2, 64), (2, 67)):
        alone = glyphs.draw(1, 1, seed=2, first_identity=identity, first_sample=sample)[0]
        np.testing.assert_array_equal(alone[0], whole[identity, sample])


def test_splits_seeds_and_identities_differ():
    train = glyphs.draw(4, 10, seed=3)[0]
    test = glyphs.draw(4, 10, seed=3, first_sample=10)[0]
    other_seed = glyphs.draw(4, 10, seed=4)[0]
    other_identities = glyphs.draw(4, 10, seed=3, first_identity=4)[0]
    images = np.concatenate([train, test, other_seed, other_identities]).reshape(160, -1)
    assert len(np.unique(images, axis=0)) == 160


def test_another_processor_draws_the_same_bytes():
    """Numba compiles for a processor without vector extensions or fused multiply-add."""
    images, _, _ = glyphs.draw(6, 20, seed=6)
    code = (
        "import hashlib; from compatlib.data import glyphs;"
        "print(hashlib.sha256(glyphs.draw(6, 20, seed=6)[0].tobytes()).hexdigest())"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OPENBLAS_CORETYPE": "Prescott", "PYTHONPATH": str(Path(glyphs.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == hashlib.sha256(images.tobytes()).hexdigest()


def test_frozen_statistics():
    """Coarse, so that another FreeType may smooth an edge otherwise; a change of draws or identities shows."""
    images, _, names = glyphs.draw(5, 40, seed=0)
    assert names[3] == "LATIN CAPITAL LETTER O WITH HORN"
    np.testing.assert_allclose(images.mean((0, 2, 3)), [122.75, 121.45, 123.52], atol=0.3)
    np.testing.assert_allclose(images.reshape(5, -1).mean(axis=1), [116.82, 124.43, 133.59, 127.03, 111.01], atol=0.3)
    assert images.std() == pytest.approx(77.485, abs=0.3)


# ---- painting ----


def test_blur_is_two_passes_of_three_taps_each_way():
    plane, share = np.random.default_rng(16).random((9, 9, 3))[:, :, 1], 0.2
    expected = plane
    for axis in (1, 1, 0, 0):
        expected = scipy.ndimage.convolve1d(expected, [share, 1 - 2 * share, share], axis=axis, mode="nearest")
    glyphs._blur(plane, share)
    np.testing.assert_allclose(plane, expected, rtol=1e-12)


def test_blur_of_a_point_has_the_variance_stated():
    plane = np.zeros((15, 15, 3))[:, :, 1]
    plane[7, 7] = 1
    glyphs._blur(plane, 0.8**2 / 4)
    offsets = np.arange(15) - 7
    assert plane.sum() == pytest.approx(1)
    assert (plane.sum(axis=0) * offsets**2).sum() == pytest.approx(0.8**2)


# ---- refusals ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identities": 0}, "identities is 0: give a whole number, 1 to"),
        ({"identities": 100_000}, "identities is 100000: .* 1 to"),
        ({"identities": 2.0}, "identities is 2.0"),
        ({"per_identity": 0}, "per_identity is 0: .* 1 or more"),
        ({"per_identity": True}, "per_identity is True"),
        ({"seed": -1}, "seed is -1: .* 0 or more"),
        ({"first_sample": -1}, "first_sample is -1: .* 0 or more"),
        ({"first_identity": -1}, "first_identity is -1: .* 0 to"),
        ({"first_identity": 100_000}, "first_identity is 100000: .* 0 to"),
        ({"size": 15}, "size is 15: .* 16 or more"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        glyphs.draw(**{"identities": 1, "per_identity": 1, "seed": 0, **arguments})


def test_the_last_identity_can_be_drawn_and_the_next_cannot():
    count = len(all_identities())
    assert glyphs.draw(1, 1, seed=0, first_identity=count - 1)[2] == (all_identities()[-1].name,)
    with pytest.raises(ValueError, match="identities is 2: give a whole number, 1 to 1"):
        glyphs.draw(2, 1, seed=0, first_identity=count - 1)
