"""Whatever a caller holds comes out as a tensor of the same numbers, or is refused by name."""

import array

import numpy as np
import pandas as pd
import pytest
import torch

from compatlib.data.tensors import as_indices, as_integers, as_tensor

VALUES = np.arange(12.0, dtype=np.float32).reshape(3, 4)


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


FORMS = {
    "an array": lambda x: x,
    "a tensor": torch.tensor,
    "a tensor that learns": lambda x: torch.tensor(x, requires_grad=True),
    "a list": lambda x: x.tolist(),
    "a tuple of arrays": tuple,
    "a list of tensors": lambda x: [torch.tensor(row) for row in x],
    "read-only": read_only,
    "Fortran's order": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda x: x.astype(">f4"),
    "float64": lambda x: x.astype(float),
    "a frame": pd.DataFrame,
    "masked, nowhere": np.ma.array,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form):
    found = as_tensor(FORMS[form](VALUES), "x")
    assert torch.equal(found.detach().float(), torch.from_numpy(VALUES))


def test_memory_is_shared_where_it_may_be_written_and_never_where_not(tmp_path):
    values = VALUES.copy()
    as_tensor(values, "x")[0, 0] = 7
    assert values[0, 0] == 7
    np.save(tmp_path / "x.npy", VALUES)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    as_tensor(mapped, "x")[0, 0] = 7
    assert mapped[0, 0] == 0
    tensor = torch.ones(2)
    assert as_tensor(tensor, "x") is tensor


@pytest.mark.parametrize("dtype", [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)])
@pytest.mark.parametrize(
    "form", [np.array, torch.from_numpy, pd.Series, lambda x: array.array(x.dtype.char, x.tolist())]
)
def test_integers_of_every_size_are_int64(dtype, form):
    found = as_integers(form(np.array([3, 0, 100], dtype)), "labels")
    assert found.dtype == torch.int64
    assert found.tolist() == [3, 0, 100]


def test_what_holds_no_integers_stays_what_it_is():
    for values in ([0.5], [True, False]):
        assert as_integers(values, "labels").dtype == torch.tensor(values).to(as_tensor(values, "x").dtype).dtype
    assert as_integers([], "labels").dtype == torch.int64


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ma.array([1.0, 2.0], mask=[True, False]), "x has masked entries"),
        ([[1], [1, 2]], "x is no array of numbers"),
        (["a"], "x is no array of numbers"),
        (None, "x is no array of numbers"),
        (np.ones(2, np.longdouble), "x is no array of numbers"),
        ([torch.ones(2), torch.ones(3)], "x is no array of numbers"),
    ],
)
def test_what_is_no_array_is_refused_by_name(values, words):
    with pytest.raises(ValueError, match=words):
        as_tensor(values, "x")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64"])
@pytest.mark.parametrize("form", [np.array, torch.from_numpy, lambda x: x.tolist()])
def test_bytes_are_places_and_no_mask(dtype, form):
    """torch takes bytes for a mask."""
    assert as_indices(form(np.array([1, 0, 1], dtype)), 3).tolist() == [1, 0, 1]


def test_masks_slices_and_places_from_behind():
    for mask in (torch.tensor([True, False, True]), np.array([True, False, True]), [True, False, True]):
        assert as_indices(mask, 3).tolist() == [0, 2]
    assert as_indices(slice(1, None), 3).tolist() == [1, 2]
    assert as_indices([-1], 3).tolist() == [2]
    assert as_indices([], 3).tolist() == []
    with pytest.raises(IndexError):
        as_indices([3], 3)
    with pytest.raises(IndexError):
        as_indices([True, False], 3)
