"""FCT: the transformation as released, its losses against loops, its fits, and that frozen models never move."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.methods import fct
from compatlib.methods.fct import FastFill, StoredViews, Transformation, fastfill_loss
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import parameter_count, small_resnet
from compatlib.training import Recipe

RECIPE = Recipe(epochs=4, batch_size=16, optimizer="adam", learning_rate=5e-3, weight_decay=2**-15)


def views(count: int = 48, views: int = 3, dims=(4, 3, 5), seed: int = 0) -> StoredViews:
    """New embeddings are a fixed linear function of the old ones and the side-information."""
    random = torch.Generator().manual_seed(seed)
    old, side = (torch.rand(views, count, dim, generator=random) for dim in dims[:2])
    new = torch.cat([old, side], 2) @ torch.rand(dims[0] + dims[1], dims[2], generator=random)
    return StoredViews(old, side, new, torch.arange(count) % 4)


def images(count: int = 32) -> ImageSet:
    random = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.arange(count) % 4, tuple("abcd"))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# The transformation.


def test_the_transformation_has_the_releases_number_of_parameters():
    assert parameter_count(Transformation(128, 128, 128)) == 5_712_000


@pytest.mark.parametrize("sizes", [(4, 3, 5, 7), (8, 2, 2, 16), (1, 1, 1, 1)])
def test_the_transformations_layers_are_those_of_the_release(sizes):
    """d → 2d → 2 d_new twice, joined, hidden twice, d_new; BatchNorm and ReLU behind all but the last."""
    old, side, new, hidden = sizes
    linear = [layer for layer in Transformation(*sizes).modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (old, 2 * old),
        (2 * old, 2 * new),
        (side, 2 * side),
        (2 * side, 2 * new),
        (4 * new, hidden),
        (hidden, hidden),
        (hidden, new),
    ]
    assert [layer.bias is not None for layer in linear] == [False] * 6 + [True]
    module = Transformation(*sizes)
    for part in (module.from_old, module.from_side, module.mixed):
        kinds = [type(layer).__name__ for layer in part]
        assert kinds[: 3 * (len(kinds) // 3)] == ["Linear", "BatchNorm1d", "ReLU"] * (len(kinds) // 3)
    assert type(module.mixed[-1]) is nn.Linear


def test_the_transformation_is_its_formula():
    """Layer by layer, one item at a time, in eval mode with statistics that are not the initial ones."""
    torch.manual_seed(0)
    module = Transformation(3, 2, 4, 6)
    old, side = torch.randn(20, 3), torch.randn(20, 2)
    for _ in range(3):
        module(old, side)
    module.eval()

    def through(layers: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            if isinstance(layer, nn.Linear):
                x = torch.stack([(row * x).sum() for row in layer.weight]) + (0 if layer.bias is None else layer.bias)
            elif isinstance(layer, nn.BatchNorm1d):
                x = (x - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight + layer.bias
            else:
                x = x.clamp(min=0)
        return x

    for item in range(20):
        joined = torch.cat([through(module.from_old, old[item]), through(module.from_side, side[item])])
        expected = through(module.mixed, joined)
        torch.testing.assert_close(module(old, side)[item], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "side"), [((5, 4), (5, 2)), ((5, 3), (4, 2)), ((5, 3), (5, 3)), ((3,), (2,)), ((5, 1, 3), (5, 2))]
)
def test_embeddings_of_another_size_are_refused(old, side):
    with pytest.raises(ValueError, match=r"old and side have shapes .* valid are \(\d, 3\) and \(\d, 2\)"):
        Transformation(3, 2, 4, 6)(torch.ones(old), torch.ones(side))


@pytest.mark.parametrize("place", range(4))
def test_a_size_below_one_is_refused(place):
    sizes = [2, 2, 2, 2]
    sizes[place] = 0
    with pytest.raises(ValueError, match="valid are whole numbers from 1"):
        Transformation(*sizes)


# FastFill.


def test_fastfill_gives_the_transformation_and_a_linear_function_of_it():
    torch.manual_seed(0)
    fastfill = FastFill(Transformation(3, 2, 4, 6)).eval()
    old, side = torch.randn(7, 3), torch.randn(7, 2)
    embedding, log_variance = fastfill(old, side)
    assert torch.equal(embedding, fastfill.transformation(old, side))
    weight, bias = fastfill.uncertainty.weight[0], fastfill.uncertainty.bias[0]
    for item in range(7):
        expected = sum(weight[k] * embedding[item, k] for k in range(4)) + bias
        torch.testing.assert_close(log_variance[item], expected)


def fastfill_by_loops(embedding, log_variance, new, labels, rows, smoothing) -> float:
    total = 0.0
    for i in range(len(labels)):
        missed = sum((float(new[i, k]) - float(embedding[i, k])) ** 2 for k in range(new.shape[1])) / new.shape[1]
        logits = [sum(float(row[k]) * float(embedding[i, k]) for k in range(new.shape[1])) for row in rows]
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        target = [smoothing / len(rows) + (1 - smoothing) * (c == int(labels[i])) for c in range(len(rows))]
        missed -= sum(t * (logit - log_sum) for t, logit in zip(target, logits, strict=True))
        total += 0.5 * math.exp(-float(log_variance[i])) * missed + 0.5 * float(log_variance[i])
    return total / len(labels)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_fastfills_loss_is_its_formula(seed, smoothing):
    random = torch.Generator().manual_seed(seed)
    embedding, new = (torch.randn(6, 4, generator=random, dtype=torch.float64) for _ in range(2))
    log_variance, labels = torch.randn(6, generator=random, dtype=torch.float64), torch.arange(6) % 3
    classifier = nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        found = fastfill_loss(embedding, log_variance, new, labels, classifier, smoothing)
        expected = fastfill_by_loops(embedding, log_variance, new, labels, classifier.weight, smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.01, 2.5])
@pytest.mark.parametrize("coordinates", ["mean", "sum"])
def test_the_balance_of_fastfills_loss_weighs_its_two_parts(weight, coordinates):
    random = torch.Generator().manual_seed(9)
    embedding, new = (torch.randn(6, 4, generator=random, dtype=torch.float64) for _ in range(2))
    log_variance, labels = torch.zeros(6, dtype=torch.float64), torch.arange(6) % 3
    classifier = nn.Linear(4, 3, bias=False).double()

    def loss(**balance) -> float:
        return float(fastfill_loss(embedding, log_variance, new, labels, classifier, **balance).detach())

    squares = loss(cross_entropy=0.0)
    classified = loss() - squares
    expected = (4 if coordinates == "sum" else 1) * squares + weight * classified
    assert loss(cross_entropy=weight, coordinates=coordinates) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("balance", "words"),
    [
        ({"cross_entropy": -1.0}, "cross_entropy"),
        ({"cross_entropy": math.inf}, "cross_entropy"),
        ({"coordinates": "max"}, r"coordinates is 'max'; choose one of \('mean', 'sum'\)"),
    ],
)
def test_an_impossible_balance_is_refused(balance, words):
    given = torch.ones(3, 2), torch.ones(3), torch.ones(3, 2), torch.zeros(3).long(), LinearClassifier(2, 4)
    with pytest.raises(ValueError, match=words):
        fastfill_loss(*given, **balance)


def test_the_best_log_variance_is_that_of_what_is_missed():
    """d/ds of ½ e^{−s} ℓ + ½ s is 0 at s = log ℓ: the head learns to rank items by what h misses."""
    embedding, new, labels = torch.zeros(3, 2), torch.tensor([[1.0, 0], [2, 0], [5, 0]]), torch.zeros(3).long()
    classifier = LinearClassifier(2, 4)
    missed = new.square().mean(1) + math.log(4)
    log_variance = missed.log().requires_grad_()
    fastfill_loss(embedding, log_variance, new, labels, classifier).backward()
    torch.testing.assert_close(log_variance.grad, torch.zeros(3), atol=1e-6, rtol=0)
    nearby = [fastfill_loss(embedding, log_variance + step, new, labels, classifier) for step in (-0.1, 0.0, 0.1)]
    assert nearby[1] < min(nearby[0], nearby[2])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"new": torch.ones(3, 4)}, r"have shapes \(3, 4\) and \(3,\); valid are \(3, 2\) and \(3,\)"),
        ({"log_variance": torch.ones(3, 1)}, r"and \(3, 1\); valid are"),
        ({"labels": torch.ones(3)}, "labels are torch.float32"),
        ({"embedding": torch.ones(3)}, r"valid is float \(n, d\)"),
    ],
)
def test_arguments_of_another_shape_are_refused(changes, words):
    given = {"embedding": torch.ones(3, 2), "log_variance": torch.ones(3), "new": torch.ones(3, 2)}
    given |= {"labels": torch.zeros(3).long(), "new_classifier": LinearClassifier(2, 4)}
    with pytest.raises(ValueError, match=words):
        fastfill_loss(**given | changes)


# Fits.


def missed(transformation: Transformation, stored: StoredViews) -> float:
    with torch.no_grad():
        pairs = zip(stored.old, stored.side, stored.new, strict=True)
        return float(sum((transformation(old, side) - new).square().mean() for old, side, new in pairs) / 3)


def test_a_fit_brings_the_embeddings_near_and_is_repeatable():
    stored, states = views(), []
    for _ in range(2):
        torch.manual_seed(5)
        transformation = Transformation(4, 3, 5, 32).eval()
        before = missed(transformation, stored)
        outcome = fct.fit(transformation, stored, replace(RECIPE, epochs=30), seed=0)
        assert not transformation.training
        assert missed(transformation, stored) < 0.1 * before
        states.append(state(transformation))
    assert same(*states)
    assert [row["term"] for row in outcome.history] == ["fct"] * 30


@pytest.mark.parametrize(("epochs", "learning"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_batchnorm_learns_until_half_of_the_epochs_and_weights_go_on(epochs, learning, monkeypatch):
    """Epoch e (from 0) has frozen statistics when e ≥ epochs / 2, the first never."""
    stored, transformation = views(), Transformation(4, 3, 5, 8)
    statistics, weights, real = [], [], fct._freeze_statistics

    def watched(module, epoch, total):
        statistics.append(copy.deepcopy(module.from_old[1].running_mean))
        weights.append(copy.deepcopy(module.from_old[0].weight))
        real(module, epoch, total)

    monkeypatch.setattr(fct, "_freeze_statistics", watched)
    recipe = Recipe(epochs=epochs, batch_size=16, optimizer="adam", learning_rate=1e-2, schedule="constant")
    fct.fit(transformation, stored, recipe, seed=0)
    statistics.append(transformation.from_old[1].running_mean)
    weights.append(transformation.from_old[0].weight)
    moved = [not torch.equal(a, b) for a, b in itertools.pairwise(statistics)]
    assert moved == [True] * learning + [False] * (epochs - learning)
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(weights))


def test_a_killed_fit_ends_with_the_same_weights(tmp_path):
    class Killed(BaseException):
        pass

    def kill(share: float, text: str) -> None:
        if share > 0.6:
            raise Killed

    def made() -> Transformation:
        torch.manual_seed(2)
        return Transformation(4, 3, 5, 8)

    stored, whole, parts = views(), made(), made()
    fct.fit(whole, stored, RECIPE, seed=0)
    options = {"checkpoint": tmp_path / "h.checkpoint", "checkpoint_seconds": 0.0}
    with pytest.raises(Killed):
        fct.fit(parts, stored, RECIPE, seed=0, report=kill, **options)
    again = made()
    fct.fit(again, stored, RECIPE, seed=0, **options)
    assert same(state(whole), state(again))


@pytest.mark.parametrize("with_side", [True, False])
def test_extractors_never_move_while_h_is_fitted_on_images(with_side):
    torch.manual_seed(0)
    old, side, new = (small_resnet(widths=(8, 8), dim=dim) for dim in (4, 3, 5))
    before = [state(model) for model in (old, side, new)]
    transformation = Transformation(4, 3 if with_side else 4, 5, 8)
    start = state(transformation)
    beside = side if with_side else None
    fct.fit_on_images(transformation, images(), RECIPE, old=old, side=beside, new=new, seed=0)
    assert all(same(*pair) for pair in zip(before, map(state, (old, side, new)), strict=True))
    assert not same(start, state(transformation))
    assert not old.training
    assert not new.training


def test_a_single_stored_view_without_augmentation_is_the_fit_on_images():
    torch.manual_seed(0)
    old, side, new = (small_resnet(widths=(8, 8), dim=dim).eval() for dim in (4, 3, 5))
    start, states = state(Transformation(4, 3, 5, 8)), []

    def unchanged(inputs, generator):
        return inputs

    stored = fct.store_views(old, side, new, images(), seed=0, views=1, augment=unchanged)
    for on_images in (False, True):
        transformation = Transformation(4, 3, 5, 8)
        transformation.load_state_dict(start)
        if on_images:
            extractors = {"old": old, "side": side, "new": new, "augment": unchanged}
            fct.fit_on_images(transformation, images(), RECIPE, seed=0, **extractors)
        else:
            fct.fit(transformation, stored, RECIPE, seed=0)
        states.append(state(transformation))
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-4)


def test_fastfills_fit_trains_h_and_its_head_and_leaves_the_classifier():
    torch.manual_seed(0)
    stored, classifier = views(), LinearClassifier(5, 4)
    fastfill = FastFill(Transformation(4, 3, 5, 8))
    before, rows = state(fastfill), state(classifier)
    outcome = fct.fit_fastfill(fastfill, stored, RECIPE, new_classifier=classifier, seed=0)
    assert same(rows, state(classifier))
    moved = {name for name, value in before.items() if not torch.equal(value, fastfill.state_dict()[name])}
    assert {"uncertainty.weight", "uncertainty.bias", "transformation.mixed.0.weight"} <= moved
    losses = [row["value"] for row in outcome.history]
    assert losses[-1] < losses[0]
    assert not fastfill.training
