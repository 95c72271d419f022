"""The embedded data set: characters drawn from the fonts that matplotlib ships, so that no network is needed.

An identity is one character whose outline differs from every other identity's (module ``glyph_identities``); an image
is that character in a random face, pose, weight and colour, on a random background, with occlusion, blur and noise
(module ``glyph_nuisances``). It stands in for a real data set on a fresh machine. The set and its difficulty are this
study's own; nothing here is published.

The same arguments and library versions give the same bytes. The random words come from Philox (a stream that NumPy
promises to keep), the masks from FreeType's integer arithmetic, and every float64 step is +, -, x, / or sqrt, which
IEEE 754 rounds alike on every processor. Other fonts, or another FreeType (in Pillow), may give other bytes.

Many characters are mirror images or half turns of one another (b d p q, u n, 6 9): train without flips, and see
``Nuisance.rotation``.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from compatlib.data.glyph_identities import CANVAS, EXTENT, all_identities, identity_count, outline_distances
from compatlib.data.glyph_nuisances import LATTICE, LOOK_WORDS, Nuisance, random_look

MINIMUM_SIZE = 16
_BATCH = 64  # images painted at a time, so that their random words stay small
_FOUR_BYTES_DEVIATION = 2 * 73.9  # of the sum of four uniform bytes: 2 sqrt((256² - 1) / 12)
_DEFAULTS = Nuisance()


@numba.njit
def _value(grid, x, y):
    """Bilinear value of a square grid at (x, y) in cells, constant beyond its border."""
    last = grid.shape[0] - 1
    x, y = min(max(x, 0.0), last - 1e-6), min(max(y, 0.0), last - 1e-6)
    row, column = int(y), int(x)
    s, t = y - row, x - column
    above = grid[row, column] * (1 - t) + grid[row, column + 1] * t
    below = grid[row + 1, column] * (1 - t) + grid[row + 1, column + 1] * t
    return above * (1 - s) + below * s


@numba.njit
def _cover(colour, layer, pixels_inside):
    """Lay a colour over another, by the share of the pixel that an edge so far away leaves."""
    share = min(max(pixels_inside + 0.5, 0.0), 1.0)
    for channel in range(3):
        colour[channel] += (layer[channel] - colour[channel]) * share


@numba.njit
def _cover_bars(colour, bars, x, y, size):
    for bar in bars:
        if bar[5] > 0:
            along = abs((x - bar[0]) * bar[2] + (y - bar[1]) * bar[3])
            across = abs((y - bar[1]) * bar[2] - (x - bar[0]) * bar[3])
            _cover(colour, bar[6:], min(bar[4] - along, bar[5] - across) * size)


@numba.njit
def _blur(plane, share):
    """Two passes of the weights (share, 1 - 2 share, share) along rows, and two along columns: variance 4 share."""
    last = plane.shape[0] - 1
    for lines in (plane, plane.T):
        for line in lines:
            for _ in range(2):
                before = line[0]
                for i in range(last + 1):
                    here = line[i]
                    line[i] = here + share * (before + line[min(i + 1, last)] - 2 * here)
                    before = here


@numba.njit
def _paint(distances, look, random):
    """Images (n, 3, size, size) uint8: background, bars, glyph, bars; then blur; then noise from 4 bytes a value."""
    size = random.shape[2]
    images = np.empty(random.shape[:4], dtype=np.uint8)
    scene = np.empty((size, size, 3))
    for n in range(len(images)):
        a, b, c, d, e, f = look.pose[n]
        for row in range(size):
            for column in range(size):
                x, y, colour = (column + 0.5) / size - 0.5, (row + 0.5) / size - 0.5, scene[row, column]
                light = _value(look.texture[n], (x + 0.5) * (LATTICE - 1), (y + 0.5) * (LATTICE - 1))
                light += look.gradient[n, 0] * x + look.gradient[n, 1] * y
                for channel in range(3):
                    colour[channel] = look.paper[n, channel] + light
                _cover_bars(colour, look.behind[n], x, y, size)
                u, v = (a * x + b * y + c) * EXTENT, (d * x + e * y + f) * EXTENT
                distance = _value(distances[look.face[n]], u + (CANVAS - 1) / 2, v + (CANVAS - 1) / 2)
                _cover(colour, look.ink[n], (distance + look.weight[n]) * look.scale[n] * size)
                _cover_bars(colour, look.front[n], x, y, size)
        for channel in range(3):
            _blur(scene[:, :, channel], look.blur[n] * look.blur[n] / 4)
            for row in range(size):
                for column in range(size):
                    one, two, three, four = random[n, channel, row, column]
                    deviate = (int(one) + int(two) + int(three) + int(four) - 510) / _FOUR_BYTES_DEVIATION
                    value = scene[row, column, channel] + look.noise[n] * deviate
                    images[n, channel, row, column] = int(min(max(value, 0.0), 1.0) * 255 + 0.5)
    return images


def _words(seed: int, identity: int, samples: range, size: int) -> NDArray[np.uint64]:
    """Each image's random words: those of its look, then those of its noise (12 bytes a pixel)."""
    streams = (np.random.Philox(np.random.SeedSequence(seed, spawn_key=(identity, sample))) for sample in samples)
    return np.stack([stream.random_raw(LOOK_WORDS + (3 * size**2 + 1) // 2) for stream in streams])


def _check(name: str, value: int, low: int, high: int | None = None) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {value!r}: give a whole number, {low} " + (f"to {high}" if high else "or more"))


def draw(
    identities: int,
    per_identity: int,
    *,
    seed: int,
    first_identity: int = 0,
    first_sample: int = 0,
    size: int = 32,
    nuisance: Nuisance = _DEFAULTS,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Draw samples of identities.

    Image j of identity k depends on (seed, k, j, size, nuisance) alone: more identities or samples never change earlier
    ones, and disjoint ranges of samples are independent splits.

    Args:
        identities: how many, at least 1, at most ``glyph_identities.identity_count()`` less ``first_identity``.
        per_identity: images of each, at least 1.
        seed: at least 0.
        first_identity: k of the first, at least 0.
        first_sample: j of the first, at least 0.
        size: side in pixels, at least 16; far above 100 outlines, kept at 80 pixels, look soft.
        nuisance: how hard.

    Returns:
        images (N, 3, size, size) uint8, identity by identity; labels (N,) int64, 0 for the first identity drawn; the
        names of the identities by label.

    Raises:
        ValueError: an argument is outside its range.
        ImportError: matplotlib, fontTools or Pillow (the ``study`` extra) is missing.
    """
    for name, value, low in (("seed", seed, 0), ("first_sample", first_sample, 0), ("per_identity", per_identity, 1)):
        _check(name, value, low)
    _check("size", size, MINIMUM_SIZE)
    _check("first_identity", first_identity, 0, identity_count() - 1)
    _check("identities", identities, 1, identity_count() - first_identity)
    images = np.empty((identities, per_identity, 3, size, size), dtype=np.uint8)
    found = all_identities()[first_identity : first_identity + identities]
    for label, identity in enumerate(found):
        distances = outline_distances(identity)
        for start in range(0, per_identity, _BATCH):
            here = range(start, min(start + _BATCH, per_identity))
            samples = range(first_sample + here.start, first_sample + here.stop)
            words = _words(seed, first_identity + label, samples, size)
            look = random_look(words[:, :LOOK_WORDS], len(distances), nuisance)
            random = words[:, LOOK_WORDS:].astype("<u8").view(np.uint8)[:, : 12 * size**2]
            images[label, here.start : here.stop] = _paint(distances, look, random.reshape(-1, 3, size, size, 4))
    labels = np.repeat(np.arange(identities, dtype=np.int64), per_identity)
    return images.reshape(-1, 3, size, size), labels, tuple(identity.name for identity in found)
