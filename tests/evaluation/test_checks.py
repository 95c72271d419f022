"""Over a hundred kinds of bad input, each refused by a ValueError that names the argument and what is valid."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compatlib.evaluation.retrieval import (
    apply_threshold_to_pairs,
    evaluate,
    score_matrix,
    search,
    verification_of_pairs,
)

N, SIZE = 12, 4


def good_arguments(seed: int) -> dict:
    """Arguments that `evaluate` takes, with as many queries as items."""
    random = np.random.default_rng(seed)
    return {
        "query": random.standard_normal((N, SIZE)).astype(np.float32),
        "gallery": random.standard_normal((N, SIZE)).astype(np.float32),
        "query_labels": np.arange(N) % 3,
        "gallery_labels": np.arange(N) % 3,
        "distance": "cosine",
        "exclude_self": True,
        "query_cameras": np.arange(N),
        "gallery_cameras": np.arange(N),
        "ranks": (1, 5),
    }


def with_value(array: np.ndarray, value: float, random: np.random.Generator) -> np.ndarray:
    changed = array.copy()
    changed[random.integers(len(array)), random.integers(array.shape[1])] = value
    return changed


# Each takes the good value and a generator, so that the place of the damage varies.
EMBEDDINGS = {
    "a vector": lambda x, r: x[0],
    "one number": lambda x, r: np.float32(1),
    "three dimensions": lambda x, r: x[None],
    "four dimensions": lambda x, r: x[None, None],
    "no items": lambda x, r: x[:0],
    "no coordinates": lambda x, r: x[:, :0],
    "NaN": lambda x, r: with_value(x, np.nan, r),
    "infinity": lambda x, r: with_value(x, np.inf, r),
    "minus infinity": lambda x, r: with_value(x, -np.inf, r),
    "NaN as float16": lambda x, r: with_value(x.astype(np.float16), np.nan, r),
    "NaN as float64": lambda x, r: with_value(x.astype(np.float64), np.nan, r),
    "beyond float32": lambda x, r: with_value(x.astype(np.float64), 1e39, r),
    "all NaN": lambda x, r: np.full_like(x, np.nan),
    "NaN in a tensor": lambda x, r: torch.from_numpy(with_value(x, np.nan, r)),
    "whole numbers": lambda x, r: x.astype(np.int64),
    "bytes": lambda x, r: x.astype(np.uint8),
    "booleans": lambda x, r: x > 0,
    "complex numbers": lambda x, r: x.astype(np.complex64),
    "long double": lambda x, r: x.astype(np.longdouble),
    "texts": lambda x, r: x.astype(str),
    "objects": lambda x, r: x.astype(object),
    "dates": lambda x, r: x.astype("timedelta64[s]"),
    "ragged rows": lambda x, r: [[1.0], [1.0, 2.0]],
    "nothing": lambda x, r: None,
    "a text": lambda x, r: "embeddings.npy",
    "a mapping": lambda x, r: {"embeddings": x},
    "bfloat16": lambda x, r: torch.from_numpy(x).bfloat16(),
    "a sparse tensor": lambda x, r: torch.from_numpy(x).to_sparse(),
    "an integer tensor": lambda x, r: torch.from_numpy(x).long(),
    "one tensor row": lambda x, r: torch.from_numpy(x)[0],
}
LABELS = {
    "floats": lambda x, r: x.astype(np.float32),
    "float64": lambda x, r: x.astype(np.float64),
    "booleans": lambda x, r: x > 0,
    "texts": lambda x, r: x.astype(str),
    "objects": lambda x, r: x.astype(object),
    "complex numbers": lambda x, r: x.astype(complex),
    "one short": lambda x, r: np.delete(x, r.integers(N)),
    "one long": lambda x, r: np.insert(x, r.integers(N), 0),
    "none": lambda x, r: x[:0],
    "a column": lambda x, r: x[:, None],
    "a row": lambda x, r: x[None],
    "one number": lambda x, r: np.int64(3),
    "one-hot": lambda x, r: np.eye(3, dtype=np.int64)[x % 3],
    "beyond int64": lambda x, r: x.astype(np.uint64) + np.uint64(2**63),
    "ragged": lambda x, r: [[1], [1, 2]],
    "a float tensor": lambda x, r: torch.from_numpy(x).float(),
    "a bool tensor": lambda x, r: torch.from_numpy(x) > 0,
    "a text": lambda x, r: "labels",
}
MISSING = {"nothing": lambda x, r: None}
DISTANCES = {
    repr(value): lambda x, r, value=value: value
    for value in (
        "cos",
        "Cosine",
        "l2",
        "manhattan",
        "",
        "cosine ",
        None,
        1,
        True,
        ("cosine",),
        ["euclidean"],
        {},
        np.nan,
    )
}
FLAGS = {repr(value): lambda x, r, value=value: value for value in (None, 1, 0, "yes", "True", [True], 1.0, np.nan)}
RANKS = {
    repr(value): lambda x, r, value=value: value
    for value in (
        (),
        1,
        "15",
        None,
        (0,),
        (-1,),
        (1, 0),
        (1.0,),
        (1, 2.5),
        ("1",),
        (True,),
        (None,),
        ((1,),),
        (np.nan,),
        [[1, 5]],
    )
}
CASES = {
    f"{argument}: {kind}": (argument, damage)
    for argument, kinds in {
        "query": EMBEDDINGS,
        "gallery": EMBEDDINGS,
        "query_labels": LABELS | MISSING,
        "gallery_labels": LABELS | MISSING,
        "query_cameras": LABELS | MISSING,
        "gallery_cameras": LABELS | MISSING,
        "distance": DISTANCES,
        "exclude_self": FLAGS,
        "ranks": RANKS,
    }.items()
    for kind, damage in kinds.items()
}


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is looked at below
        call(*arguments, **options)
    assert type(caught.value) is ValueError
    return str(caught.value)


def test_there_are_a_hundred_kinds():
    assert len(CASES) >= 100


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case):
    argument, damage = CASES[case]
    arguments = good_arguments(0)
    evaluate(**arguments)
    message = refusal(evaluate, **arguments | {argument: damage(arguments[argument], np.random.default_rng(0))})
    assert argument.removesuffix("s") in message
    assert any(word in message for word in ("valid", "give"))
    assert len(message) < 400


@given(case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_damage_anywhere_is_refused(case, seed):
    argument, damage = CASES[case]
    arguments = good_arguments(seed)
    message = refusal(evaluate, **arguments | {argument: damage(arguments[argument], np.random.default_rng(seed))})
    assert argument.removesuffix("s") in message


@given(
    cases=st.tuples(st.sampled_from(sorted(CASES)), st.sampled_from(sorted(CASES))),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_two_kinds_at_once_are_refused(cases, seed):
    arguments = good_arguments(seed)
    broken = dict(arguments)
    for case in cases:
        argument, damage = CASES[case]
        broken[argument] = damage(arguments[argument], np.random.default_rng(seed))
    if {case.split(": ")[1] for case in cases} == {"nothing"} and cases[0] != cases[1]:
        broken["query"] = None  # no cameras on both sides are none
    refusal(evaluate, **broken)


@pytest.mark.parametrize(("damage", "argument"), list(itertools.product(EMBEDDINGS, ["query", "gallery"])))
def test_other_functions_refuse_the_same_embeddings(damage, argument):
    arguments = {name: good_arguments(0)[name] for name in ("query", "gallery", "query_labels", "gallery_labels")}
    arguments[argument] = EMBEDDINGS[damage](arguments[argument], np.random.default_rng(0))
    sides = arguments["query"], arguments["gallery"]
    for message in (
        refusal(score_matrix, *sides),
        refusal(search, *sides, 1),
        refusal(verification_of_pairs, **arguments),
        refusal(apply_threshold_to_pairs, 0.5, **arguments),
    ):
        assert argument in message


def test_exclude_self_needs_equal_lengths():
    arguments = good_arguments(0) | {"query_cameras": None, "gallery_cameras": None}
    shorter = {"gallery": arguments["gallery"][:-1], "gallery_labels": arguments["gallery_labels"][:-1]}
    assert "12 queries and 11 gallery items" in refusal(evaluate, **arguments | shorter)


@pytest.mark.parametrize("scale", [1e16, 1e-16, 1e30, 1e-40])
def test_euclidean_distance_refuses_what_overflows(scale):
    """Squares that float32 cannot hold would tie everything silently."""
    arguments = good_arguments(0)
    for argument in ("query", "gallery"):
        scaled = arguments | {argument: arguments[argument] * np.float32(scale)}
        evaluate(**scaled)
        message = refusal(evaluate, **scaled | {"distance": "euclidean"})
        assert argument in message
        assert "rescale" in message


def test_first_bad_row_is_named():
    gallery = np.zeros((20_000, 3), dtype=np.float32)
    gallery[[15_001, 17_000], 1] = np.nan
    assert "first in row 15001" in refusal(evaluate, gallery[:1], gallery, [0], np.zeros(20_000, int))
