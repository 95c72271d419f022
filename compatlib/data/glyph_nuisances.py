"""The nuisances of the embedded data set: how images of one identity may differ, and random draws of how they do.

The bounds are a :class:`Nuisance`. One draw for each of n images is a :class:`Look`, which says all but the identity
and the noise of single pixels.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LATTICE = 6  # points along a side of the background's pattern
LOOK_WORDS = 192  # random words of an image before those of its noise; 168 are in use
_MOST_BARS = 6


@dataclass(frozen=True)
class Nuisance:
    """How much the images of one identity may differ. Each value bounds a uniform draw per image; 0 switches it off.

    Lengths are shares of the image's side; brightness and noise are shares of the full range. With the defaults, on 100
    identities of 60 images, the classes and the width of a small network both matter, and no score is near its ceiling.
    Raises ``ValueError`` for a value outside its range.
    """

    rotation: float = 10.0
    """Degrees either way, 0 to 40. From 45 on N and Z would meet, at 180 also 6 and 9, d and p, u and n."""
    shear: float = 0.1
    """Horizontal slant either way, 0 to 0.5."""
    stretch: float = 0.1
    """One side of the glyph is divided by up to 1 + this, 0 to 1."""
    scale: tuple[float, float] = (0.7, 0.9)
    """The glyph's longer side, 0.2 to 1.2."""
    shift: float = 0.05
    """The centre's offset along either axis, 0 to 0.5."""
    weight: tuple[float, float] = (-0.01, 0.03)
    """What edges grow by, in glyph sides, -0.05 to 0.1: below 0 strokes thin, and hairlines may break."""
    contrast: tuple[float, float] = (0.3, 0.8)
    """Brightness between glyph and background, either sign, 0.05 to 1."""
    tint: float = 0.2
    """Colour about the brightness, of background, glyph and bars, 0 to 1."""
    gradient: float = 0.15
    """Brightness across the background in a random direction, 0 to 1."""
    texture: float = 0.15
    """Brightness of a smooth random pattern on the background, 0 to 1."""
    clutter: int = 1
    """Most bars behind the glyph, 0 to 6."""
    occlusion: int = 1
    """Most bars in front of the glyph, 0 to 6."""
    blur: float = 0.5
    """Standard deviation in pixels, 0 to 1."""
    noise: float = 0.04
    """Standard deviation per pixel and channel, 0 to 0.5."""

    def __post_init__(self) -> None:
        valid = {
            "rotation": (0, 40), "shear": (0, 0.5), "stretch": (0, 1), "scale": (0.2, 1.2), "shift": (0, 0.5),
            "weight": (-0.05, 0.1), "contrast": (0.05, 1), "tint": (0, 1), "gradient": (0, 1), "texture": (0, 1),
            "clutter": (0, _MOST_BARS), "occlusion": (0, _MOST_BARS), "blur": (0, 1), "noise": (0, 0.5),
        }  # fmt: skip
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), valid[field.name]
            kind = {int: "a whole number", float: "a number"}.get(field.type, "a pair (low, high)")
            ends = (value, value) if field.type in (int, float) else value
            numbers = (int, np.integer) if field.type is int else (int, float, np.integer, np.floating)
            good = isinstance(ends, tuple) and len(ends) == 2 and all(isinstance(end, numbers) for end in ends)
            if not (good and low <= ends[0] <= ends[1] <= high):
                raise ValueError(f"Nuisance.{field.name} is {value!r}: give {kind} within {low} to {high}")


class _Draws:
    """Uniform draws for a batch of images, taken column by column from their random words (n, words).

    Every image takes the same columns whatever the nuisances, so that changing one leaves the others' draws alone.
    """

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._uniform, self._used = (words >> np.uint64(11)) * 2.0**-53, 0

    def __call__(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        start, self._used = self._used, self._used + math.prod(shape)
        return low + (high - low) * self._uniform[:, start : self._used].reshape(-1, *shape)

    def direction(self, limit: float = 1.0, shape: tuple[int, ...] = ()) -> tuple[NDArray, NDArray]:
        """Cosine and sine of an angle within ±2 arctan(limit), by half angles: no library's own sine."""
        t = self(-limit, limit, shape)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def _pose(draws: _Draws, nuisance: Nuisance) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maps (n, 6) from image (x, y) to glyph (a x + b y + c, d x + e y + f), both centred, in sides; scales (n,)."""
    cos, sin = draws.direction(round(math.tan(math.radians(nuisance.rotation) / 2), 12))
    shear = draws(-nuisance.shear, nuisance.shear)
    stretch, narrow = draws(1, 1 + nuisance.stretch), draws() < 0.5
    scale = draws(*nuisance.scale)
    x, y = draws(-nuisance.shift, nuisance.shift), draws(-nuisance.shift, nuisance.shift)
    width, height = scale / np.where(narrow, stretch, 1), scale / np.where(narrow, 1, stretch)
    a, b, d, e = (cos + shear * sin) / width, (sin - shear * cos) / width, -sin / height, cos / height
    return np.stack([a, b, -(a * x + b * y), d, e, -(d * x + e * y)], axis=1), np.sqrt(width * height)


def _tinted(draws: _Draws, brightness: NDArray[np.float64], tint: float) -> NDArray[np.float64]:
    """Random colours (n, ..., 3) whose mean is the brightness (n, ...)."""
    red, green, blue = (draws(-tint, tint, brightness.shape[1:]) for _ in range(3))
    grey = brightness - (red + green + blue) / 3
    return np.stack([grey + red, grey + green, grey + blue], axis=-1)


def _bars(draws: _Draws, most: int, tint: float) -> NDArray[np.float64]:
    """Bars (n, most, 9): centre x, y; direction cos, sin; half length; half width, below 0 for none; colour."""
    shape = (_MOST_BARS,)
    present = np.arange(_MOST_BARS) < np.floor(draws(0, most + 1, (1,)))
    x, y = draws(-0.5, 0.5, shape), draws(-0.5, 0.5, shape)
    cos, sin = draws.direction(shape=shape)
    half_length, half_width = draws(0.05, 0.25, shape), np.where(present, draws(0.01, 0.05, shape), -1.0)
    colour = _tinted(draws, draws(0, 1, shape), tint)
    return np.concatenate([np.stack([x, y, cos, sin, half_length, half_width], axis=-1), colour], axis=-1)[:, :most]


class Look(NamedTuple):
    """What each of n images looks like; lengths in sides (blur in pixels), colours and brightness about 0 to 1."""

    face: NDArray[np.int64]
    """Which of the faces (n,)."""
    pose: NDArray[np.float64]
    """Maps (n, 6) from image (x, y) to glyph (a x + b y + c, d x + e y + f), both centred, in sides."""
    scale: NDArray[np.float64]
    """Side of the glyph (n,): the geometric mean of width and height."""
    weight: NDArray[np.float64]
    """What edges grow by (n,), in glyph sides."""
    blur: NDArray[np.float64]
    """Standard deviation (n,)."""
    noise: NDArray[np.float64]
    """Standard deviation (n,)."""
    paper: NDArray[np.float64]
    """Colour of the background (n, 3)."""
    ink: NDArray[np.float64]
    """Colour of the glyph (n, 3)."""
    gradient: NDArray[np.float64]
    """Brightness across the background (n, 2), along x and y."""
    texture: NDArray[np.float64]
    """Brightness of the background's pattern (n, LATTICE, LATTICE)."""
    behind: NDArray[np.float64]
    """Bars (n, bars, 9): centre x, y; direction cos, sin; half length; half width, below 0 for none; colour."""
    front: NDArray[np.float64]
    """As behind."""


def random_look(words: NDArray[np.uint64], faces: int, nuisance: Nuisance) -> Look:
    """Draw what n images look like.

    Args:
        words: the images' random words (n, LOOK_WORDS).
        faces: how many faces there are to choose from.
        nuisance: the bounds of the draws.
    """
    draws = _Draws(words)
    face = draws(0, faces).astype(np.int64)
    pose, scale = _pose(draws, nuisance)
    weight, blur, noise = draws(*nuisance.weight), draws(0, nuisance.blur), draws(0, nuisance.noise)
    contrast, lighter = draws(*nuisance.contrast), draws() < 0.5
    dark = draws() * (1 - contrast)
    paper = _tinted(draws, np.where(lighter, dark, dark + contrast), nuisance.tint)
    ink = _tinted(draws, np.where(lighter, dark + contrast, dark), nuisance.tint)
    gradient = np.stack(draws.direction(), axis=1) * draws(-nuisance.gradient, nuisance.gradient, (1,))
    texture = draws(-nuisance.texture / 2, nuisance.texture / 2, (LATTICE, LATTICE))
    behind, front = _bars(draws, nuisance.clutter, nuisance.tint), _bars(draws, nuisance.occlusion, nuisance.tint)
    return Look(face, pose, scale, weight, blur, noise, paper, ink, gradient, texture, behind, front)
