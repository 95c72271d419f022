"""The identities of the embedded data set: characters whose outlines differ, in the faces that matplotlib ships.

A face is one font file. Of every identity there is, in each face that has it, the distance to its outline
(:func:`outline_distances`), from which images are painted.
"""

import hashlib
import io
import logging
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from compatlib.data.glyph_characters import CHARACTERS

# DejaVu's sans and mono obliques are slanted copies of the uprights, which Nuisance.shear gives anyway.
FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10", "cmmi10"),
)
# A character must exist in all of these, so that every identity comes in many styles.
REQUIRED_FACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
# From this cosine on, of their thumbnails in one face, two characters are twins; the cases of a letter (o O) are
# sooner, because they differ in size and weight, which an image does not tell.
TWIN_SIMILARITY, CASE_TWIN_SIMILARITY = 0.94, 0.85
EXTENT, _MARGIN = 80, 20  # pixels: the longer side of a glyph's mask, and the border around it
CANVAS = EXTENT + 2 * _MARGIN
_THUMBNAIL = 20


@dataclass(frozen=True)
class Identity:
    """A character, and those of :data:`FACES` that have it."""

    character: str
    faces: tuple[str, ...]

    @property
    def name(self) -> str:
        """Unicode's name of the character: plain ASCII, and unique."""
        return unicodedata.name(self.character)


class _Face:
    """One font file: its characters, their outlines and their masks."""

    def __init__(self, name: str) -> None:
        try:
            import matplotlib
            import PIL  # noqa: F401
            from fontTools.ttLib import TTFont
        except ImportError as error:
            raise ImportError(
                f"glyphs are drawn with matplotlib, fontTools and Pillow, and {error.name} is missing: "
                "install the extra 'study' (pip install 'compatlib[study]')",
                name=error.name,
            ) from error
        path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: this matplotlib has no fonts of its own; reinstall it with pip"
            )
        # Computer Modern's files carry dates which fontTools reports, harmlessly, at every start.
        logging.getLogger("fontTools.ttLib.tables._h_e_a_d").setLevel(logging.ERROR)
        self._bytes = path.read_bytes()
        self._font = TTFont(io.BytesIO(self._bytes), lazy=True)
        self._outlines = self._font["glyf"]
        self._glyphs = {chr(point): glyph for point, glyph in self._font.getBestCmap().items()}
        if name.startswith("cm"):  # TeX's own encodings agree with Unicode on letters, and (not cmmi10) on digits
            plain = str.isalpha if name == "cmmi10" else str.isalnum
            self._glyphs = {c: g for c, g in self._glyphs.items() if c.isascii() and plain(c)}

    def __contains__(self, character: str) -> bool:
        """Whether the face draws it, and not as a blank."""
        return character in self._glyphs and self._outlines[self._glyphs[character]].numberOfContours != 0

    def characters(self) -> set[str]:
        """All that it draws."""
        return {character for character in self._glyphs if character in self}

    def outline(self, character: str) -> bytes:
        """The glyph's points, free of position and size."""
        points, ends, flags = self._outlines[self._glyphs[character]].getCoordinates(self._outlines)
        points = np.array(points, dtype=np.float64)
        points -= points.min(axis=0)
        points = np.rint(points * (1000 / points.max())).astype(np.int16)
        return points.tobytes() + np.array(ends, dtype=np.int16).tobytes() + bytes(flags)

    def mask(self, character: str) -> NDArray[np.uint8]:
        """Coverage (CANVAS, CANVAS), 0 to 255: the glyph centred, its longer side EXTENT pixels."""
        from PIL import Image, ImageDraw, ImageFont

        glyph = self._outlines[self._glyphs[character]]
        pixels = EXTENT / max(glyph.xMax - glyph.xMin, glyph.yMax - glyph.yMin)
        x, y = pixels * (glyph.xMin + glyph.xMax) / 2, pixels * (glyph.yMin + glyph.yMax) / 2
        size = pixels * self._font["head"].unitsPerEm
        font = ImageFont.truetype(io.BytesIO(self._bytes), size, layout_engine=ImageFont.Layout.BASIC)
        image = Image.new("L", (CANVAS, CANVAS))
        ImageDraw.Draw(image).text((CANVAS / 2 - x, CANVAS / 2 + y), character, fill=255, font=font, anchor="ls")
        return np.asarray(image)

    def distances(self, character: str) -> NDArray[np.float32]:
        """Distance to the outline (CANVAS, CANVAS), in glyph sides, above 0 inside."""
        inside = self.mask(character) > 127
        pixels = distance_transform_edt(inside) - distance_transform_edt(~inside)
        return ((pixels - np.where(inside, 0.5, -0.5)) / EXTENT).astype(np.float32)


_face = cache(_Face)


def _faces_with(character: str) -> tuple[str, ...]:
    return tuple(name for name in FACES if character in _face(name))


def _thumbnails(face: _Face, characters: list[str]) -> NDArray[np.float32]:
    """Whole numbers 0 to 15 (n, _THUMBNAIL²), so that products are exact in float32 on every processor."""
    inner, step = slice(_MARGIN, _MARGIN + EXTENT), EXTENT // _THUMBNAIL
    masks = np.stack([face.mask(character)[inner, inner] for character in characters]).astype(np.int64)
    sums = masks.reshape(-1, _THUMBNAIL, step, _THUMBNAIL, step).sum(axis=(2, 4))
    return (sums // (16 * step**2)).reshape(len(characters), -1).astype(np.float32)


def _twins(characters: list[str]) -> NDArray[np.bool_]:
    """Which pairs look alike in at least one face (n, n)."""
    twins = np.zeros((len(characters), len(characters)), dtype=bool)
    letters = np.array([character.lower() for character in characters])
    limit = np.where(letters[:, None] == letters, CASE_TWIN_SIMILARITY, TWIN_SIMILARITY)
    for face in map(_face, FACES):
        here = [i for i, character in enumerate(characters) if character in face]
        flat = _thumbnails(face, [characters[i] for i in here])
        product = (flat @ flat.T).astype(np.float64)
        norm, pairs = np.diag(product), np.ix_(here, here)
        twins[pairs] |= product**2 >= limit[pairs] ** 2 * norm[:, None] * norm
    return twins


@cache
def all_identities() -> tuple[Identity, ...]:
    """All identities, in a fixed order that is neither alphabetical nor drawn from a seed.

    They are those that :func:`find_identities` finds.
    """
    return tuple(Identity(character, _faces_with(character)) for character in CHARACTERS)


def find_identities() -> tuple[Identity, ...]:
    """Choose the identities among all characters of the faces (some seconds).

    Candidates are the letters and decimal digits that all of ``REQUIRED_FACES`` have and that Unicode does not define
    by other characters. One is left out if an outline of it, in any face, is an outline of a candidate of lower code
    point in any face (A, Alpha), or if it is the twin of one in some face; whether that one was left out or not.
    """
    characters = sorted(
        character
        for character in set.intersection(*(_face(name).characters() for name in REQUIRED_FACES))
        if unicodedata.category(character) in ("Lu", "Ll", "Lo", "Nd")
        and unicodedata.normalize("NFKC", character) == character
    )
    twins, seen, kept = _twins(characters), set(), []
    for i, character in enumerate(characters):
        outlines = {_face(name).outline(character) for name in _faces_with(character)}
        if not outlines & seen and not twins[i, :i].any():
            kept.append(character)
        seen |= outlines
    shuffled = sorted(kept, key=lambda character: hashlib.sha256(character.encode()).digest())
    return tuple(Identity(character, _faces_with(character)) for character in shuffled)


def identity_count() -> int:
    """How many identities there are."""
    return len(all_identities())


def outline_distances(identity: Identity) -> NDArray[np.float32]:
    """How far every pixel is from the outline, in glyph sides, above 0 inside (faces, CANVAS, CANVAS).

    The faces are those of the identity, in its order. The glyph is centred, its longer side ``EXTENT`` pixels.

    Raises:
        FileNotFoundError: matplotlib comes without its fonts.
        ImportError: matplotlib, fontTools or Pillow (the ``study`` extra) is missing.
    """
    return np.stack([_face(name).distances(identity.character) for name in identity.faces])
