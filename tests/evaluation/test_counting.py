"""The compiled loops themselves; what they compute is tested where it is used."""

import errno

import numba.core.caching
import numpy as np
import pytest

from compatlib.evaluation._counting import _fill_grid, _halve, compiled, square_and_normalise


def double(x):
    return 2 * x


def test_loops_compile_where_no_cache_can_be_written(monkeypatch):
    """As in a package installed where nobody can write, without a home folder."""
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(double)
    assert compiled(double)(3) == 6


@pytest.mark.parametrize("method", ["_save_data", "_save_index", "_load_index", "_load_data"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), PermissionError("no"), EOFError("cut off")])
def test_loops_are_computed_where_the_cache_fails(tmp_path, monkeypatch, method, error):
    """A full disk, a file that may not be read or written, a damaged one."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled(double)(3) == 6

    def fails(*_):
        raise error

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, method, fails)
    loop = compiled(double)
    assert (loop(3), loop(0.5)) == (6, 1.0)


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 99])
def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch, ending, damage):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled(double)(3) == 6
    (path,) = tmp_path.rglob(f"*.{ending}")
    path.write_bytes(damage(path.read_bytes()))
    assert compiled(double)(3) == 6
    found = compiled(double)
    assert found(3) == 6
    assert sum(found.stats.cache_hits.values()) == 1


@pytest.mark.parametrize(
    "levels",
    [
        [0.5],
        [0.5, 0.5, 0.5],
        [-1, -0.999999, 0.3, 0.3, 7],
        [-1e30, 0, 1e-30, 1],
        [1, np.nextafter(np.float32(1), np.float32(2))],
        [0, 1e-45],
        np.sort(np.random.default_rng(0).standard_normal(500)),
    ],
)
def test_grid_leads_to_the_number_of_levels_reached(levels):
    """For scores at, just below and just above each level, the cell's two bounds hold the searched number."""
    levels = np.asarray(levels, dtype=np.float32)
    grid = np.empty(4 * len(levels) + 1, dtype=np.int32)
    scale = _fill_grid(levels, grid)
    assert np.isfinite(scale)
    assert (np.diff(grid) >= 0).all()
    assert (grid[0], grid[-1]) == (0, len(levels))
    for towards in (np.float32(-np.inf), np.float32(np.inf), None):
        scores = levels if towards is None else np.nextafter(levels, towards)
        for score in scores[(scores >= levels[0]) & (scores < levels[-1])]:
            reached = int((levels <= score).sum())
            cell = min(int((score - levels[0]) * scale), 4 * len(levels) - 1)
            assert grid[cell] <= reached <= grid[cell + 1]
            assert _halve(levels, score, grid[cell], grid[cell + 1]) == reached
            assert _halve(levels, score, 0, len(levels)) == reached


def test_norms_are_summed_in_float64():
    """Values whose float32 squares overflow or vanish are normalised all the same."""
    for value in (1e-30, 1.0, 1e30):
        block, squares = np.full((2, 4), value, dtype=np.float32), np.empty(2)
        block[1] = 0
        square_and_normalise(block, squares, True)
        np.testing.assert_allclose(squares, [4 * np.float64(np.float32(value)) ** 2, 0], rtol=1e-12)
        np.testing.assert_array_equal(block, [[0.5] * 4, [0] * 4])
    block = np.array([[3, 4]], dtype=np.float32)
    square_and_normalise(block, squares[:1], False)
    assert (block.tolist(), squares[0]) == ([[3, 4]], 25)
