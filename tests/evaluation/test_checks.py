"""Over a hundred kinds of bad input, each refused by a ValueError that names the argument and what is valid."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compatlib.evaluation.compatibility import (
    average_compatibility,
    backfilling_curve,
    negative_flips,
    transfer_threshold,
    update_gain,
)
from compatlib.evaluation.retrieval import (
    IvfPq,
    apply_threshold,
    apply_threshold_to_pairs,
    chance,
    evaluate,
    evaluate_mixed,
    recall,
    score_matrix,
    search,
    verification,
    verification_of_pairs,
)
from compatlib.evaluation.statistics import ClassScores, Measured, holm, interval, paired, verdict

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


# Honest arguments, in whatever form a caller has them, give what they give as arrays and numbers of Python.


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


ARRAYS = {
    "tensors": torch.from_numpy,
    "tensors that learn": lambda x: torch.tensor(x, requires_grad=x.dtype.kind == "f"),
    "tensors of the other sign": lambda x: torch._neg_view(-torch.from_numpy(x)) if x.dtype.kind == "f" else x,
    "lists": lambda x: x.tolist(),
    "lists of tensors": lambda x: [torch.tensor(each, requires_grad=x.dtype.kind == "f") for each in x],
    "read-only": read_only,
    "Fortran's order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "pandas": lambda x: pd.DataFrame(x) if x.ndim == 2 else pd.Series(x, index=np.arange(len(x))[::-1]),
    "masked, nowhere": np.ma.array,
}
LABEL_TYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
NUMBERS = {
    "NumPy's": lambda x: np.array([x])[0],
    "NumPy's small": lambda x: {bool: np.bool_, int: np.uint16, float: np.float16}[type(x)](x),
    "without dimensions": np.array,
    "tensors": torch.tensor,
}


def scores_of(array, number) -> list:
    """What every function gives for one drawn set, whose arrays and numbers pass through `array` and `number`."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((300, 8)).astype(np.float32) for _ in range(2))
    labels, cameras, mask = np.arange(300) % 7, np.arange(300) % 4, np.arange(300) < 150
    sides, named = (array(x), array(y)), (array(labels), array(labels))
    removed = {"query_cameras": array(cameras), "gallery_cameras": array(cameras), "exclude_self": number(True)}
    first, second = (evaluate(*each, *named, **removed, ranks=[number(1), number(5)]) for each in (sides, sides[::-1]))
    mixed = evaluate_mixed(sides[0], list(sides), array(labels % 2), *named)
    curve = backfilling_curve(sides[0], *sides, *named, array(np.arange(300)[::-1].copy()), number(3))
    similarity, same = (x * y).sum(axis=1), labels % 2 == 0
    far, threshold = number(0.25), number(0.5)
    pairs = verification_of_pairs(*sides, *named, far=far)
    values = {seed: number(seed / 8) for seed in range(3)}
    found = [
        *(first.first_rank, first.average_precision, first.subset(array(mask)).n_valid, mixed.nearest),
        *(each.sums for each in first.by_class(array(labels), number(7)).values()),
        *curve.values.values(),
        *chance(*named, **removed, ranks=(number(1),)).metrics().values(),
        search(*sides, number(3)).indices,
        search(*sides, number(3), index="ivfpq", parameters=IvfPq(*map(number, (4, 2, 4, 4, 1)))).indices,
        recall(array(labels[:, None]), array(labels[:, None])),
        score_matrix(*sides, "euclidean", comparable=number(True)),
        *(pairs.threshold, pairs.subset(array(mask)).true_accept_rate),
        apply_threshold_to_pairs(threshold, *sides, *named).true_accept_rate,
        transfer_threshold(*sides, sides[1], *named, far=far).transferred.true_accept_rate,
        verification(array(similarity), array(same), far).threshold,
        apply_threshold(threshold, array(similarity), array(same)).true_accept_rate,
        negative_flips(array(first.first_rank), array(second.first_rank)),
        average_compatibility(array(x[:8])),
        update_gain(array(x[:5, 0]), array(x[:5, 1] - 9), array(x[:5, 2] + 9), resamples=number(100)).value,
        *(paired(values, number(0.5)).low, verdict("above", values, margin=number(0.25)).p_value),
        *(
            paired(Measured(values), values).mean,
            verdict("at_chance", values, margin=0, chance_level=number(0.5)).p_value,
        ),
        ClassScores(array(x[:3, 0]), array(labels[1:4])).mean,
        *(holm(array(np.abs(x[:5, 0]) / 9), number(0.5)), *interval(array(x[:5, 0]))),
    ]
    return [np.asarray(each) for each in found]


@pytest.fixture(scope="module")
def expected() -> list[np.ndarray]:
    return scores_of(lambda x: x, lambda x: x)


@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_of_any_honest_form_give_the_same(form, expected):
    for found, wanted in zip(scores_of(ARRAYS[form], lambda x: x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("form", NUMBERS)
def test_numbers_of_any_honest_form_give_the_same(form, expected):
    for found, wanted in zip(scores_of(lambda x: x, NUMBERS[form]), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", LABEL_TYPES)
@pytest.mark.parametrize("form", [np.array, torch.from_numpy, pd.Series, lambda x: pd.Series(x, dtype="Int64")])
def test_labels_of_every_type_of_integers_give_the_same(dtype, form):
    arguments = good_arguments(0)
    given = {
        name: form(value.astype(dtype)) for name, value in arguments.items() if name[-1] == "s" and name != "ranks"
    }
    assert set(given) == {"query_labels", "gallery_labels", "query_cameras", "gallery_cameras"}
    found, wanted = evaluate(**arguments | given), evaluate(**arguments)
    np.testing.assert_array_equal(found.first_rank, wanted.first_rank)


def test_masked_entries_are_refused():
    """NumPy would hand on what lies below the mask."""
    arguments = good_arguments(0)
    for name in ("query", "gallery", "query_labels", "gallery_cameras"):
        masked = np.ma.array(arguments[name], mask=np.zeros_like(arguments[name], bool))
        evaluate(**arguments | {name: masked})
        masked[3] = np.ma.masked
        assert f"{name} has masked entries" in refusal(evaluate, **arguments | {name: masked})


@pytest.mark.parametrize("scale", [1e-50, 1e-320, 1e-39])
def test_what_float32_would_make_zeros_is_refused(scale):
    """Every similarity would be 0, and every item tied."""
    arguments = good_arguments(0)
    for name in ("query", "gallery"):
        small = arguments[name].astype(np.float64)
        small[[5, 7]] *= scale
        message = refusal(evaluate, **arguments | {name: small})
        assert message.startswith(f"{name} holds only values below 1.2e-38, the range of float32, in row 5;")
        small[[5, 7]] = 0
        evaluate(**arguments | {name: small})
        message = refusal(
            evaluate, **arguments | {name: arguments[name].astype(float) * scale, "distance": "euclidean"}
        )
        assert "rescale" in message


def test_a_row_with_a_few_small_values_is_what_it_is():
    arguments = good_arguments(0)
    small = arguments["query"].astype(np.float64)
    small[:, 0] = 1e-60
    cleared = np.where(np.arange(SIZE) == 0, 0, small)
    found, wanted = (evaluate(**arguments | {"query": each}) for each in (small, cleared))
    np.testing.assert_array_equal(found.first_rank, wanted.first_rank)
