"""What the methods share: which batches, labels and terms are refused, and embeddings brought to another size."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.methods.bct import influence_loss, synthesize_classifier
from compatlib.methods.bct_baselines import (
    Distillation,
    contrastive,
    hardest_triplet,
    normalised_distance,
    squared_error,
)
from compatlib.methods.common import check_number, check_rows, check_terms, checked_batch, resized
from compatlib.methods.conflicts import project_conflicts
from compatlib.methods.evidential import evidential_loss
from compatlib.methods.fct import StoredViews, fastfill_loss, nt_xent
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier

SIZES = st.integers(0, 9)


def embeddings(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def images(*labels: int) -> ImageSet:
    return ImageSet(
        torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8), torch.tensor(labels).long(), tuple("abcdefgh")
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_and_integer_label_passes(dtype):
    for label_dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        for count in (0, 1, 5):
            checked_batch(embeddings(count, 3).to(dtype), torch.arange(count).to(label_dtype))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(4), "embeddings are torch.float32 of shape (4,); valid is float (n, d)"),
        (torch.tensor(1.0), "embeddings are torch.float32 of shape (); valid is float (n, d)"),
        (torch.zeros(4, 2, 2), "embeddings are torch.float32 of shape (4, 2, 2); valid is float (n, d)"),
        (torch.zeros(4, 2, dtype=torch.int64), "embeddings are torch.int64 of shape (4, 2); valid is float (n, d)"),
        (torch.zeros(4, 2, dtype=torch.uint8), "embeddings are torch.uint8 of shape (4, 2); valid is float (n, d)"),
        (torch.zeros(4, 2, dtype=torch.bool), "embeddings are torch.bool of shape (4, 2); valid is float (n, d)"),
        (torch.zeros(4, 2, dtype=torch.complex64), "embeddings are torch.complex64 of shape (4, 2)"),
    ],
)
def test_what_are_no_embeddings_is_named_with_what_is_valid(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        checked_batch(wrong, torch.arange(4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.arange(3), "labels are torch.int64 of shape (3,); valid is integer (4,)"),
        (torch.arange(5), "labels are torch.int64 of shape (5,); valid is integer (4,)"),
        (torch.arange(4)[:, None], "labels are torch.int64 of shape (4, 1); valid is integer (4,)"),
        (torch.tensor(1), "labels are torch.int64 of shape (); valid is integer (4,)"),
        (torch.arange(4.0), "labels are torch.float32 of shape (4,); valid is integer (4,)"),
        (torch.arange(4).to(torch.complex64), "labels are torch.complex64 of shape (4,); valid is integer (4,)"),
        (torch.tensor([True, False, True, True]), "labels are torch.bool of shape (4,); valid is integer (4,)"),
        (torch.tensor([0, -1, 2, -7]), "label -7 is negative; labels count from 0"),
    ],
)
def test_what_are_no_labels_is_named_with_what_is_valid(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        checked_batch(embeddings(4, 2), wrong)


def test_other_vectors_than_embeddings_are_called_by_their_name():
    with pytest.raises(ValueError, match=re.escape("logits are torch.float32 of shape (4,); valid is float (n, d)")):
        checked_batch(torch.zeros(4), torch.arange(4), "logits")


@pytest.mark.parametrize("kind", [LinearClassifier, CosineClassifier, ArcFaceClassifier])
def test_labels_up_to_the_last_row_pass(kind):
    for labels in ((), (0,), (3, 0, 3)):
        check_rows(images(*labels), kind(2, 4))


@pytest.mark.parametrize(("labels", "highest"), [((4,), 4), ((0, 7, 4), 7)])
def test_the_highest_label_without_a_row_is_named(labels, highest):
    message = f"label {highest} has no row in a classifier of 4 classes; give it a row for every label"
    with pytest.raises(ValueError, match=message):
        check_rows(images(*labels), nn.Linear(2, 4))


@pytest.mark.parametrize("value", [5e-324, 1, 1e308])
def test_finite_positive_numbers_pass(value):
    check_number("τ", value)
    check_number("τ", value, positive=True)
    check_number("τ", value - value)


@pytest.mark.parametrize("value", [-5e-324, -1, -math.inf, math.inf, math.nan])
def test_a_number_out_of_range_is_named(value):
    for positive, words in ((False, "≥ 0"), (True, "positive")):
        with pytest.raises(ValueError, match=re.escape(f"the size must be finite and {words}, got {value}")):
            check_number("the size", value, positive=positive)


@pytest.mark.parametrize("value", [0, 0.0, -0.0])
def test_zero_is_refused_where_a_number_must_be_positive(value):
    check_number("the size", value)
    with pytest.raises(ValueError, match=f"the size must be finite and positive, got {value}"):
        check_number("the size", value, positive=True)


@pytest.mark.parametrize("weight", [0, 0.0, 1e-30, 1, 10.0, 1e30])
def test_weights_from_zero_on_and_smoothing_below_one_pass(weight):
    for label_smoothing in (0, 0.0, 0.1, math.nextafter(1, 0)):
        check_terms(weight, label_smoothing)


@pytest.mark.parametrize("weight", [-1.0, -1e-30, -math.inf, math.inf, math.nan])
def test_a_weight_that_is_negative_or_not_finite_is_named(weight):
    message = f"the compatibility term's weight must be finite and ≥ 0, got {weight}"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_terms(weight, 0.0)


@pytest.mark.parametrize("label_smoothing", [-0.1, -1e-30, 1, 1.0, 1.5, math.inf, math.nan])
def test_a_label_smoothing_outside_its_range_is_named(label_smoothing):
    with pytest.raises(ValueError, match=re.escape(f"label_smoothing must lie in [0, 1), got {label_smoothing}")):
        check_terms(1.0, label_smoothing)


@settings(max_examples=200, deadline=None)
@given(count=SIZES, dim=SIZES, wanted=SIZES, seed=st.integers(0, 99))
def test_resized_takes_the_first_coordinates_and_zeros_behind_them(count, dim, wanted, seed):
    whole = embeddings(count, dim, seed)
    result = resized(whole, wanted)
    assert result.shape == (count, wanted)
    for i in range(count):
        for j in range(wanted):
            assert float(result[i, j]) == (float(whole[i, j]) if j < dim else 0.0)


@settings(max_examples=100, deadline=None)
@given(dim=SIZES, middle=SIZES, wanted=SIZES)
def test_resized_twice_keeps_what_the_narrowest_size_keeps(dim, middle, wanted):
    whole = embeddings(3, dim)
    narrowest = resized(resized(whole, min(dim, middle, wanted)), wanted)
    assert torch.equal(resized(resized(whole, middle), wanted), narrowest)
    assert torch.equal(resized(whole, dim), whole)


@pytest.mark.parametrize("wanted", [2, 5, 8])
def test_a_longer_size_keeps_lengths_and_inner_products_and_a_shorter_one_never_adds_length(wanted):
    first, second = embeddings(6, 5, 0), embeddings(6, 5, 1)
    assert (resized(first, wanted).norm(dim=1) <= first.norm(dim=1) + 1e-6).all()
    if wanted >= 5:
        products = (resized(first, wanted) * resized(second, wanted)).sum(dim=1)
        torch.testing.assert_close(products, (first * second).sum(dim=1))


@pytest.mark.parametrize("wanted", [0, 2, 5, 8])
def test_the_gradient_reaches_the_coordinates_that_are_kept_and_no_other(wanted):
    whole = embeddings(3, 5).requires_grad_()
    (7 * resized(whole, wanted)).sum().backward()
    expected = [[7.0 if j < wanted else 0.0 for j in range(5)] for _ in range(3)]
    assert whole.grad.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wanted", [2, 5])
def test_resized_keeps_the_type(dtype, wanted):
    assert resized(embeddings(2, 3).to(dtype), wanted).dtype == dtype


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0e38, 1e-45, -0.0])
def test_resized_changes_no_value(value):
    result = resized(torch.full((2, 3), value), 4)
    torch.testing.assert_close(result[:, :3], torch.full((2, 3), value), rtol=0, atol=0, equal_nan=True)
    assert result[:, 3].tolist() == [0.0, 0.0]


# Honest batches, in whatever form a caller has them.

NEW, OLD, LABELS = embeddings(6, 4), embeddings(6, 4, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])


def losses(new, old, labels) -> dict[str, torch.Tensor]:
    rows, known = embeddings(3, 4, seed=2), torch.tensor([0, 2])
    form = type(old)
    rows, known = (rows.numpy(), known.numpy()) if form is np.ndarray else (rows, known)
    return {
        "influence": influence_loss(new, labels, rows, known),
        "rows": synthesize_classifier(old, labels, np.int64(3), rows[:1]),
        "squared error": squared_error(new, old, labels),
        "distance": normalised_distance(new, old, labels),
        "triplet": hardest_triplet(new, old, labels, np.float32(0.5)),
        "contrastive": contrastive(new, old, labels, np.float64(0.05)),
        "distillation": Distillation(rows)(new, old, labels),
        "evidential": evidential_loss(new, labels, np.float64(5e-4)),
        "fastfill": fastfill_loss(new, torch.zeros(6), old, labels, LinearClassifier(4, 4).requires_grad_(False)),
        "views": nt_xent(new, old, np.float32(0.5)),
        "gradients": project_conflicts(new, torch.Generator().manual_seed(0)),
    }


@pytest.fixture
def expected() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return losses(NEW, OLD, LABELS)


@pytest.mark.parametrize(
    "dtype", [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
@pytest.mark.parametrize("form", [torch.clone, torch.Tensor.numpy, torch.Tensor.tolist])
def test_labels_of_every_type_of_integers_give_the_same_losses(expected, dtype, form):
    torch.manual_seed(0)
    for name, found in losses(NEW, OLD, form(LABELS.to(dtype))).items():
        assert torch.equal(found, expected[name]), name


@pytest.mark.parametrize("form", [torch.Tensor.numpy, lambda x: np.asfortranarray(x.numpy()), lambda x: x.numpy()[::1]])
def test_arrays_give_the_same_losses(expected, form):
    torch.manual_seed(0)
    for name, found in losses(form(NEW), form(OLD), LABELS.numpy()).items():
        torch.testing.assert_close(found, expected[name], msg=name)


def test_stored_views_take_arrays():
    views = [each[None].numpy() for each in (NEW, OLD, NEW)]
    found = StoredViews(*views, LABELS.numpy().astype(np.uint8))
    inputs, labels = found.batch(torch.tensor([2, 0]))
    assert torch.equal(inputs[1], OLD[None, [2, 0]])
    assert labels.dtype == torch.int64
    with pytest.raises(ValueError, match=r"labels are torch\.float32 of shape \(6,\); valid is integer \(6,\)"):
        StoredViews(*views, LABELS.float())
