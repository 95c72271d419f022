"""Identities: distinct outlines in every face, no twins, an order of no meaning; and the distances to the outlines."""

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.stats
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from compatlib.data import glyph_identities


def font_path(name):
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")


@pytest.fixture(scope="module")
def identities():
    return glyph_identities.all_identities()


@pytest.fixture(scope="module")
def fonts():
    return {name: TTFont(font_path(name)) for name in glyph_identities.FACES}


def drawn_outline(font, glyph_name):
    """Operators, and points (n, 2) moved to the origin and scaled to a longer side of 1, from fontTools' own pen."""
    glyph_set = font.getGlyphSet()
    pen = DecomposingRecordingPen(glyph_set)
    glyph_set[glyph_name].draw(pen)
    operators = tuple((operator, len(points)) for operator, points in pen.value)
    points = np.array([point for _, points in pen.value for point in points if point is not None], dtype=float)
    if len(points) == 0:
        return operators, points
    points -= points.min(axis=0)
    return operators, points / points.max()


def test_the_list_is_what_the_search_finds(identities):
    assert identities == glyph_identities.find_identities()


def test_there_are_hundreds_of_identities(identities):
    assert glyph_identities.identity_count() == len(identities) >= 400
    assert len({identity.character for identity in identities}) == len(identities)
    names = [identity.name for identity in identities]
    assert len(set(names)) == len(names)
    assert all(name.isascii() for name in names)


def test_no_two_identities_share_an_outline_in_any_face(identities, fonts):
    """Slow oracle: every pair of equally built outlines of any two faces, compared point by point."""
    by_structure = defaultdict(list)
    for identity in identities:
        for face in identity.faces:
            operators, points = drawn_outline(fonts[face], fonts[face].getBestCmap()[ord(identity.character)])
            by_structure[operators].append((identity.character, points))
    compared = 0
    for outlines in by_structure.values():
        for i, (character, points) in enumerate(outlines):
            for other, other_points in outlines[:i]:
                if other != character:
                    compared += 1
                    assert np.abs(points - other_points).max() > 0.002, (character, other)
    assert compared > 1000


def test_faces_really_have_their_characters(identities, fonts):
    assert not any("LastResort" in face for face in glyph_identities.FACES)
    missing = {face: drawn_outline(font, ".notdef") for face, font in fonts.items()}
    for identity in identities:
        assert set(glyph_identities.REQUIRED_FACES) <= set(identity.faces) <= set(glyph_identities.FACES)
        for face in identity.faces:
            name = fonts[face].getBestCmap()[ord(identity.character)]
            operators, points = drawn_outline(fonts[face], name)
            assert name != ".notdef"
            assert np.ptp(points, axis=0).min() > 0.02, (identity.character, face)
            other_operators, other_points = missing[face]
            assert operators != other_operators or np.abs(points - other_points).max() > 0.01


def test_no_face_with_the_character_is_left_out(identities, fonts):
    for identity in identities:
        for face in glyph_identities.FACES:
            if not face.startswith("cm"):
                assert (ord(identity.character) in fonts[face].getBestCmap()) == (face in identity.faces)
            elif face in identity.faces:
                assert identity.character.isascii()


def test_known_doubles_and_case_twins_are_one_identity(identities):
    characters = {identity.character for identity in identities}
    for doubles in (
        "AΑА",
        "oοоOΟО",
        "cсϲCС",
        "vV",
        "xхX",
        "zZ",
        "wW",
        "sѕS",
        "lIІ",
        "йѝи",
        "ëёē",
        "øØ",
        "pP",
        "ыЫ",
        "ǫǪ",
    ):
        assert len(characters & set(doubles)) <= 1, doubles
    assert set("ABDGabdegmnqr2345") <= characters


def test_half_turns_and_mirror_images_are_kept_apart_by_the_rotation_range(identities):
    """At 180 degrees d and p coincide; within the widest rotation allowed they do not."""
    assert {"b", "d", "q"} <= {identity.character for identity in identities}
    font = ImageFont.truetype(font_path("DejaVuSans"), 60)

    def mask(character):
        image = Image.new("L", (100, 100))
        ImageDraw.Draw(image).text((50, 50), character, fill=255, font=font, anchor="mm")
        return image

    def overlap(degrees):
        turned = np.asarray(mask("d").rotate(degrees)) > 127
        fixed = np.asarray(mask("p")) > 127
        shifted = [np.roll(turned, (y, x), (0, 1)) for y in range(-30, 31, 2) for x in range(-30, 31, 2)]
        return max((s & fixed).sum() / (s | fixed).sum() for s in shifted)

    assert overlap(180) > 0.85
    assert max(overlap(degrees) for degrees in (-80, -40, 0, 40, 80)) < 0.6


def test_twins_are_left_out(identities):
    """No two identities' thumbnails, made anew with Pillow's own scaling, are nearly the same in one face."""
    letters = np.array([identity.character.lower() for identity in identities])
    cases = (letters[:, None] == letters) & ~np.eye(len(letters), dtype=bool)
    for face in glyph_identities.REQUIRED_FACES:
        font = ImageFont.truetype(font_path(face), 100)
        flat = []
        for identity in identities:
            image = Image.new("L", (300, 300))
            ImageDraw.Draw(image).text((100, 200), identity.character, fill=255, font=font, anchor="ls")
            left, top, right, bottom = image.getbbox()
            side = max(right - left, bottom - top)
            x, y = (left + right - side) // 2, (top + bottom - side) // 2
            small = image.crop((x, y, x + side, y + side)).resize((20, 20), Image.Resampling.BOX)
            flat.append(np.asarray(small, dtype=float).ravel())
        flat = np.stack(flat)
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        similarity = flat @ flat.T - 2 * np.eye(len(flat))
        assert similarity.max() < glyph_identities.TWIN_SIMILARITY + 0.03
        assert similarity[cases].max() < glyph_identities.CASE_TWIN_SIMILARITY + 0.03
        assert (similarity > 0.85).any(axis=1).mean() > 0.2, "no confusable identities left"


def test_order_is_no_alphabet(identities):
    codes = np.array([ord(identity.character) for identity in identities])
    position = np.arange(len(codes))
    assert abs(scipy.stats.spearmanr(position, codes).statistic) < 0.15
    half = len(codes) // 2
    for script in ("LATIN", "GREEK", "CYRILLIC"):
        flags = np.array([identity.name.startswith(script) for identity in identities])
        assert 0.35 < flags[:half].sum() / flags.sum() < 0.65


def test_frozen_count_and_order(identities):
    assert glyph_identities.identity_count() == 475
    assert "".join(identity.character for identity in identities[:5]) == "ჯñἒƠῒ"


def test_distances_to_the_outline_are_those_to_the_nearest_pixel_of_the_other_side(identities):
    """Slow oracle: every pixel of the other side, one by one; the outline lies half a pixel before the nearest."""
    generator = np.random.default_rng(0)
    for identity in identities[:3]:
        distances = glyph_identities.outline_distances(identity)
        assert distances.shape == (len(identity.faces), glyph_identities.CANVAS, glyph_identities.CANVAS)
        for face in distances:
            inside = face > 0
            for row, column in generator.integers(glyph_identities.CANVAS, size=(20, 2)):
                others = np.argwhere(inside != inside[row, column])
                nearest = np.hypot(others[:, 0] - row, others[:, 1] - column).min() - 0.5
                expected = (1 if inside[row, column] else -1) * nearest / glyph_identities.EXTENT
                assert face[row, column] == pytest.approx(expected, rel=1e-5)


def test_distances_show_each_glyph_centred_with_the_longer_side_stated(identities):
    for identity in identities[:20]:
        for face in glyph_identities.outline_distances(identity):
            rows, columns = np.nonzero(face > 0)
            longer = max(np.ptp(rows), np.ptp(columns)) + 1
            assert abs(longer - glyph_identities.EXTENT) <= 4, "hinting stretches a glyph by some per cent"
            for places in (rows, columns):
                middle = (places.min() + places.max() + 1) / 2
                assert abs(middle - glyph_identities.CANVAS / 2) <= 2


# ---- refusals ----


@pytest.mark.parametrize("library", ["matplotlib", "PIL", "fontTools"])
def test_a_missing_library_names_the_extra(library, monkeypatch):
    blocked = [name for name in sys.modules if name == library or name.startswith(f"{library}.")]
    for name in blocked:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"is missing: install the extra 'study'"):
        glyph_identities._Face("DejaVuSans")


def test_a_matplotlib_without_fonts_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"DejaVuSans\.ttf is missing: this matplotlib has no fonts"):
        glyph_identities._Face("DejaVuSans")
