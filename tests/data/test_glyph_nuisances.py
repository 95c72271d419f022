"""Nuisances: each does to the images what it says, within its bounds, and leaves the others' draws alone."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.stats
from PIL import Image, ImageDraw, ImageFont

from compatlib.data import glyph_nuisances, glyphs
from compatlib.data.glyph_identities import all_identities
from compatlib.data.glyph_nuisances import Nuisance

OFF = {
    "rotation": 0.0,
    "shear": 0.0,
    "stretch": 0.0,
    "scale": (0.8, 0.8),
    "shift": 0.0,
    "weight": (0.0, 0.0),
    "contrast": (0.5, 0.5),
    "tint": 0.0,
    "gradient": 0.0,
    "texture": 0.0,
    "clutter": 0,
    "occlusion": 0,
    "blur": 0.0,
    "noise": 0.0,
}


def only(**nuisances):
    return Nuisance(**{**OFF, **nuisances})


def brightness(images):
    """(N, size, size), 0 to 255."""
    return images.astype(float).mean(axis=1)


def ink_mask(images, share=0.5):
    """Where images of two flat colours, drawn with the glyph away from the corner, show the glyph."""
    grey = brightness(images)
    spread = np.abs(grey - grey[:, :1, :1])
    return spread > spread.max(axis=(1, 2), keepdims=True) * share


def boxes(masks):
    """First row, last row, first column, last column (N, 4)."""
    rows, columns = masks.any(axis=2), masks.any(axis=1)
    size = masks.shape[1] - 1
    return np.stack(
        [rows.argmax(1), size - rows[:, ::-1].argmax(1), columns.argmax(1), size - columns[:, ::-1].argmax(1)], axis=1
    )


def test_defaults_draw_no_flat_and_no_equal_images():
    images, _, _ = glyphs.draw(30, 20, seed=8)
    grey = brightness(images)
    assert grey.std(axis=(1, 2)).min() > 4
    assert (np.ptp(grey, axis=(1, 2)) > 0.2 * 255).all()
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert 110 < images.mean() < 145
    assert 40 < images.std() < 90


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.1), (0.3, 0.8), (0.5, 0.5), (1.0, 1.0)])
def test_contrast_is_within_its_bounds_and_of_both_signs(low, high):
    images, _, _ = glyphs.draw(10, 40, seed=9, nuisance=only(contrast=(low, high), weight=(0.05, 0.05)))
    grey = brightness(images)
    assert np.array_equal(images[:, 0], images[:, 1])
    assert np.array_equal(images[:, 0], images[:, 2])
    contrast = np.ptp(grey, axis=(1, 2)) / 255
    assert contrast.min() >= low - 0.005
    assert contrast.max() <= high + 0.005
    if high > low:
        assert np.ptp(contrast) > 0.9 * (high - low)
    lighter = grey.max(axis=(1, 2)) > grey[:, 0, 0]
    assert 0.35 < lighter.mean() < 0.65


def test_tint_colours_glyph_and_background_and_keeps_their_contrast():
    images, _, _ = glyphs.draw(10, 20, seed=10, nuisance=only(tint=0.1, contrast=(0.4, 0.4), weight=(0.05, 0.05)))
    inside = ((images > 0) & (images < 255)).all(axis=(1, 2, 3))
    assert inside.sum() > 50
    contrast = np.ptp(brightness(images[inside]), axis=(1, 2)) / 255
    assert np.abs(contrast - 0.4).max() < 0.01
    assert np.ptp(images[inside][:, :, 0, 0].astype(float), axis=1).mean() > 5


def test_every_face_is_drawn_as_the_font_draws_it():
    """Oracle: Pillow's own mask of the character, scaled down; each face equally often."""
    for k in (0, 5):
        images, _, _ = glyphs.draw(1, 400, seed=11, first_identity=k, nuisance=only(contrast=(1.0, 1.0)))
        grey = brightness(images)
        drawn = np.abs(grey - grey[:, :1, :1]) / 255
        expected = []
        for face in all_identities()[k].faces:
            image = Image.new("L", (1600, 1600))
            path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
            font = ImageFont.truetype(path, 500)
            ImageDraw.Draw(image).text((500, 900), all_identities()[k].character, fill=255, font=font, anchor="ls")
            left, top, right, bottom = image.getbbox()
            side = max(right - left, bottom - top) / 0.8
            x, y = (left + right - side) / 2, (top + bottom - side) / 2
            small = image.resize((32, 32), Image.Resampling.BOX, box=(x, y, x + side, y + side))
            expected.append(np.asarray(small, dtype=float) / 255)
        error = np.abs(drawn[:, None] - np.stack(expected)).mean(axis=(2, 3))
        assert error.min(axis=1).max() < 0.06
        counts = np.bincount(error.argmin(axis=1), minlength=len(expected))
        assert counts.min() > 0.4 * len(images) / len(expected)


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.9])
def test_scale_is_the_longer_side(scale):
    images, _, _ = glyphs.draw(20, 10, seed=12, size=64, nuisance=only(scale=(scale, scale)))
    top, bottom, left, right = boxes(ink_mask(images, share=0.1)).T
    longer = np.maximum(bottom - top, right - left) + 1
    assert np.abs(longer - scale * 64).max() <= 1.5 + 0.05 * scale * 64  # hinting stretches a glyph by some per cent
    assert np.abs((top + bottom + 1) / 2 - 32).max() <= 1.5
    assert np.abs((left + right + 1) / 2 - 32).max() <= 1.5


def test_shift_moves_the_centre_within_its_bound():
    images, _, _ = glyphs.draw(10, 40, seed=13, size=64, nuisance=only(scale=(0.4, 0.4), shift=0.2))
    top, bottom, left, right = boxes(ink_mask(images, share=0.1)).T
    for centre in ((top + bottom + 1) / 128 - 0.5, (left + right + 1) / 128 - 0.5):
        assert np.abs(centre).max() <= 0.2 + 1.5 / 64
        assert centre.max() > 0.17
        assert centre.min() < -0.17


def test_pose_is_composed_of_bounded_rotation_shear_stretch_scale_and_shift():
    """The inverse of each map, taken apart: rotation x shear x (width, height), then the centre."""
    nuisance = only(rotation=30.0, shear=0.3, stretch=0.5, scale=(0.4, 1.0), shift=0.2)
    words = np.random.Philox(14).random_raw(4000 * 192).reshape(4000, 192)
    pose, scale = glyph_nuisances._pose(glyph_nuisances._Draws(words), nuisance)
    forward = np.linalg.inv(pose[:, [0, 1, 3, 4]].reshape(-1, 2, 2))
    angle = np.degrees(np.arctan2(forward[:, 1, 0], forward[:, 0, 0]))
    width = np.hypot(forward[:, 0, 0], forward[:, 1, 0])
    height = np.linalg.det(forward) / width
    shear = (forward[:, :, 0] * forward[:, :, 1]).sum(axis=1) / width / height
    centre = -np.einsum("nij,nj->ni", forward, pose[:, [2, 5]])
    np.testing.assert_allclose(scale, np.sqrt(width * height))
    for values, low, high in (
        (angle, -30, 30),
        (shear, -0.3, 0.3),
        (np.maximum(width, height), 0.4, 1.0),
        (width / height, 1 / 1.5, 1.5),
        (centre, -0.2, 0.2),
    ):
        assert low - 1e-9 <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high + 1e-9


def test_weight_thickens_every_glyph():
    areas = [
        ink_mask(glyphs.draw(15, 6, seed=15, nuisance=only(weight=(w, w)))[0]).sum(axis=(1, 2))
        for w in (-0.02, 0.0, 0.03, 0.08)
    ]
    assert (areas[0] <= areas[1]).all()
    assert (areas[1] < areas[2]).all()
    assert (areas[2] < areas[3]).all()
    assert areas[0].mean() < 0.9 * areas[1].mean()


def test_noise_has_the_deviation_stated_and_leaves_all_else_alone():
    clean = glyphs.draw(10, 60, seed=17, nuisance=only(contrast=(0.1, 0.1)))[0].astype(float)
    noisy = glyphs.draw(10, 60, seed=17, nuisance=only(contrast=(0.1, 0.1), noise=0.1))[0].astype(float)
    unclipped = ((clean > 90) & (clean < 165)).all(axis=(1, 2, 3))
    difference = (noisy - clean)[unclipped].reshape(unclipped.sum(), -1) / 255
    assert unclipped.sum() > 40
    assert np.abs(difference.mean(axis=1)).max() < 0.01
    deviation = difference.std(axis=1)
    assert deviation.max() < 0.105
    assert deviation.min() < 0.01
    assert deviation.mean() == pytest.approx(0.05, abs=0.01)
    assert abs(scipy.stats.kurtosis(difference[deviation.argmax()])) < 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": 20.0},
        {"shear": 0.3},
        {"stretch": 0.4},
        {"scale": (0.4, 0.8)},
        {"shift": 0.2},
        {"weight": (0.0, 0.05)},
        {"contrast": (0.2, 0.5)},
        {"tint": 0.3},
        {"gradient": 0.3},
        {"texture": 0.3},
        {"clutter": 3},
        {"occlusion": 3},
        {"blur": 0.9},
        {"noise": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_nuisance_changes_images_and_the_corner_only_if_it_may(change):
    plain = glyphs.draw(4, 25, seed=18, nuisance=only())[0].astype(int)
    changed = glyphs.draw(4, 25, seed=18, nuisance=only(**change))[0].astype(int)
    assert (np.abs(plain - changed).max(axis=(1, 2, 3)) > 3).mean() > 0.5
    if set(change) <= {"rotation", "shear", "stretch", "scale", "weight", "blur"}:  # glyph only, not the background
        np.testing.assert_array_equal(plain[:, :, 0, 0], changed[:, :, 0, 0])


def test_bars_in_front_cover_the_glyph_and_bars_behind_do_not():
    plain, behind, front = (
        glyphs.draw(6, 40, seed=19, nuisance=only(weight=(0.05, 0.05), **bars))[0].astype(int)
        for bars in ({}, {"clutter": 6}, {"occlusion": 6})
    )
    paper = plain[:, :, :1, :1]
    spread = np.abs(plain - paper).max(axis=1)
    solid = spread == spread.max(axis=(1, 2), keepdims=True)
    assert (np.abs(behind - plain).max(axis=1)[solid] <= 1).all()
    assert (np.abs(front - plain).max(axis=1)[solid] > 20).mean() > 0.05
    for bars in (behind, front):
        assert (np.abs(bars - plain).max(axis=1)[~solid] > 20).mean() > 0.03


# ---- refusals ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotation", -1.0),
        ("rotation", 45.0),
        ("rotation", float("nan")),
        ("rotation", "10"),
        ("shear", 0.6),
        ("stretch", -0.1),
        ("scale", (0.9, 0.5)),
        ("scale", 0.5),
        ("scale", (0.5, 0.6, 0.7)),
        ("scale", (0.1, 0.5)),
        ("shift", 0.6),
        ("weight", (-0.1, 0.0)),
        ("contrast", (0.0, 0.5)),
        ("contrast", (0.5, 1.1)),
        ("tint", 2.0),
        ("gradient", -0.5),
        ("texture", 1.5),
        ("clutter", 7),
        ("clutter", 1.5),
        ("occlusion", -1),
        ("blur", 1.1),
        ("noise", 0.6),
    ],
)
def test_wrong_nuisances_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"Nuisance\.{name} is .*: give .* within .* to "):
        Nuisance(**{name: value})
