"""The projection of conflicting gradients against its definition and another implementation, and its properties."""

import itertools
import math

import pytest
import torch
from torchjd.aggregation import PCGrad

from compatlib.methods.sfsc import conflict_weights, full_conflict_weights, project_conflicts


def gradients(count: int, size: int, seed: int, common: float = 0.0) -> torch.Tensor:
    """Rows in float64, which conflict as often as not where they have nothing in common."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, size, dtype=torch.float64, generator=random)
    return rows + common * torch.randn(size, dtype=torch.float64, generator=random)


def projected_by_definition(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gradient by gradient, in the full space, in the orders that the generator draws."""
    found = []
    for i in range(len(rows)):
        own = rows[i].clone()
        for j in torch.randperm(len(rows), generator=generator).tolist():
            if j != i and (overlap := own @ rows[j]) < 0:
                own = own - overlap / (rows[j] @ rows[j]) * rows[j]
        found.append(own)
    return torch.stack(found)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_the_projection_is_its_definition(count, seed):
    rows = gradients(count, 11, seed)
    expected = projected_by_definition(rows, torch.Generator().manual_seed(seed))
    weights = conflict_weights(rows @ rows.T, torch.Generator().manual_seed(seed))
    assert torch.allclose(weights @ rows, expected, atol=1e-12)
    found = project_conflicts(rows, torch.Generator().manual_seed(seed))
    assert torch.allclose(found, expected.sum(dim=0), atol=1e-12)


def family(name: str, count: int, seed: int) -> torch.Tensor:
    """Rows of a kind, in float64."""
    rows, lengths = gradients(count, 11, seed), torch.arange(1, count + 1)[:, None]
    if name == "orthogonal":
        return lengths * torch.linalg.qr(rows.T).Q.T
    if name == "conflicting":  # with other lengths they would sum to zero, so that every one conflicts with another
        return lengths * (rows - rows.mean(dim=0))
    if name == "one of zero":
        rows[seed % count] = 0
    return rows


@pytest.mark.parametrize("name", ["random", "orthogonal", "conflicting", "one of zero"])
@pytest.mark.parametrize("count", range(2, 7))
@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_torchjds_in_the_same_orders(name, count, seed):
    """Both draw an order for every gradient in turn; TorchJD does so from the global generator."""
    rows = family(name, count, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = PCGrad()(rows)
    found = project_conflicts(rows, torch.Generator().manual_seed(seed))
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    has_conflict = bool((rows @ rows.T < -1e-9).any())
    assert torch.allclose(expected, rows.sum(dim=0)) != has_conflict
    if name in ("orthogonal", "conflicting"):
        assert has_conflict == (name == "conflicting")


@pytest.mark.parametrize("seed", range(20))
def test_two_objectives_have_no_conflict_left(seed):
    rows = gradients(2, 5, seed)
    projected = conflict_weights(rows @ rows.T) @ rows
    for own, other in itertools.permutations(range(2)):
        assert projected[own] @ rows[other] >= -1e-12
    assert (rows @ project_conflicts(rows) >= -1e-12).all()


@pytest.mark.parametrize("seed", range(10))
def test_where_nothing_conflicts_it_is_the_plain_sum(seed):
    rows = gradients(4, 30, seed).abs()
    assert torch.equal(conflict_weights(rows @ rows.T), torch.eye(4, dtype=torch.float64))
    assert torch.allclose(project_conflicts(rows), rows.sum(dim=0))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scale", [1e-3, 7.0])
def test_a_common_scale_passes_through(seed, scale):
    rows = gradients(3, 8, seed)
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    found, scaled = (project_conflicts(s * rows, g) for s, g in zip((1, scale), generators, strict=True))
    assert torch.allclose(scaled, scale * found, rtol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_others_lengths_do_not_matter_to_a_projected_gradient(seed):
    """g_i loses its part along g_j, however long g_j is."""
    rows = gradients(2, 8, seed)
    longer = rows * torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    first, second = (conflict_weights(each @ each.T)[0] @ each for each in (rows, longer))
    assert torch.allclose(first, second)


def test_opposite_gradients_leave_nothing():
    rows = torch.tensor([[1.0, 2.0], [-2.0, -4.0]])
    assert project_conflicts(rows).tolist() == [0, 0]


def test_a_gradient_of_zero_neither_conflicts_nor_divides():
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
    weights = conflict_weights(rows @ rows.T)
    assert weights[1].tolist() == [0, 1, 0]
    assert weights.isfinite().all()


SHORT = [[[1e-23, 0], [-1, 1]], [[-1, 1], [1e-23, 0]], [[1e-22, 0], [-1e18, 1e18]], [[1e-30, 0, 0], [-1, 1e-30, 2]]]


@pytest.mark.parametrize("rows", SHORT)
@pytest.mark.parametrize("seed", range(4))
def test_short_gradients_leave_finite_weights_and_their_projection(rows, seed):
    """In float32 the first one's squared norm is 0 or next to it, the inner product is not."""
    rows = torch.tensor(rows)
    gram = rows @ rows.T
    assert gram[0, 1] < 0
    for weights in (
        conflict_weights(gram, torch.Generator().manual_seed(seed)),
        full_conflict_weights(gram, 0),
        full_conflict_weights(gram, 1),
    ):
        assert weights.isfinite().all()
        assert weights.sum(dim=0).isfinite().all()
        assert (weights.sum(dim=0) @ rows).isfinite().all()
    expected = projected_by_definition(rows.double(), torch.Generator().manual_seed(seed)).sum(dim=0)
    found = project_conflicts(rows, torch.Generator().manual_seed(seed))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-12 * float(rows.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_lengths_the_outcome_is_finite(dtype, seed):
    """Rows from the shortest of a type up to the longest whose square fits it."""
    random, limits = torch.Generator().manual_seed(seed), torch.finfo(dtype)
    lowest, highest = math.log10(limits.smallest_normal), math.log10(limits.max) / 2 - 1
    exponents = lowest + (highest - lowest) * torch.rand(5, 1, dtype=torch.float64, generator=random)
    exponents[0], exponents[1] = lowest, highest
    rows = (torch.sign(gradients(5, 3, seed)) * 10**exponents).to(dtype)
    assert conflict_weights(rows @ rows.T, random).sum(dim=0).isfinite().all()
    assert project_conflicts(rows, random).isfinite().all()


def test_the_longest_gradients_of_float32_are_projected():
    rows = torch.tensor([[3e38, 0.0], [-1e38, 1e38]])
    torch.testing.assert_close(project_conflicts(rows), torch.tensor([1.5e38, 2.5e38]), rtol=1e-6, atol=0)


def weights_without_bounds(gram, generator):
    """What `conflict_weights` does where every squared norm is positive."""
    inner, weights = gram.double(), torch.eye(len(gram), dtype=torch.float64)
    for at, own in enumerate(weights):
        for other in torch.randperm(len(inner), generator=generator).tolist():
            overlap = own @ inner[:, other]
            if other != at and overlap < 0:
                own[other] -= overlap / inner[other, other]
    return weights.to(gram.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("seed", range(10))
def test_no_bit_changes_where_every_squared_norm_is_positive(dtype, scale, seed):
    rows = scale * gradients(4, 5, seed)
    rows[0] = -rows[1:].sum(dim=0)  # which conflicts with one of them
    rows = rows.to(dtype)
    gram = rows @ rows.T
    assert (gram < 0).any()
    found = conflict_weights(gram, torch.Generator().manual_seed(seed))
    assert torch.equal(found, weights_without_bounds(gram, torch.Generator().manual_seed(seed)))
    full = torch.eye(4, dtype=torch.float64)
    full[1:, 0] = (-gram.double()[1:, 0] / gram.double()[0, 0]).clamp(min=0)
    assert torch.equal(full_conflict_weights(gram, 0), full.to(dtype))


def test_orders_come_from_the_generator_alone():
    rows = gradients(5, 6, 3)
    state = torch.random.get_rng_state()
    first, again = (project_conflicts(rows, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, again)
    different = {tuple(project_conflicts(rows, torch.Generator().manual_seed(seed)).tolist()) for seed in range(8)}
    assert len(different) > 1


def test_a_gradients_own_place_in_the_order_is_passed_over():
    """Its coefficients after several projections may be larger elsewhere; it is still objective i that is projected."""
    rows = torch.tensor([[0.1, 1.0], [-5.0, 0.0], [4.0, -0.1]], dtype=torch.float64)
    for seed in range(10):
        expected = projected_by_definition(rows, torch.Generator().manual_seed(seed))
        weights = conflict_weights(rows @ rows.T, torch.Generator().manual_seed(seed))
        assert torch.allclose(weights @ rows, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: conflict_weights(torch.zeros(2, 3)), r"gram has shape \(2, 3\)"),
        (lambda: conflict_weights(torch.zeros(0, 0)), r"gram has shape \(0, 0\)"),
        (lambda: conflict_weights(torch.tensor([[math.inf]])), "a gradient has overflowed"),
        (lambda: project_conflicts(torch.zeros(3)), r"torch.float32 of shape \(3,\)"),
        (lambda: project_conflicts(torch.zeros(2, 3, dtype=torch.int64)), "torch.int64"),
        (lambda: project_conflicts(torch.tensor([[math.nan, 1.0]])), "not finite"),
    ],
)
def test_bad_gradients_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("full", [0, 2])
def test_against_the_full_model_alone_no_conflict_with_it_is_left(seed, full):
    rows = gradients(4, 6, seed)
    projected = full_conflict_weights(rows @ rows.T, full) @ rows
    assert torch.equal(projected[full], rows[full])
    for own, before in zip(projected, rows, strict=True):
        overlap = before @ rows[full]
        if overlap < 0:
            assert torch.allclose(own, before - overlap / (rows[full] @ rows[full]) * rows[full])
            assert abs(own @ rows[full]) < 1e-9
        else:
            assert torch.equal(own, before)


@pytest.mark.parametrize("full", [-1, 2])
def test_a_full_model_that_there_is_not_is_refused(full):
    with pytest.raises(ValueError, match=f"full is {full}; there are 2 objectives"):
        full_conflict_weights(torch.eye(2), full)
