"""Dual-Tuning: prototypes, both readings of their loss, swapped classifiers: loops, properties, small trainings."""

import copy
import itertools
import math
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.checkpoints import read_tensors
from compatlib.data.augment import unchanged, view_with_noise
from compatlib.data.by_encoder import ByEncoder
from compatlib.data.features import FeatureSet
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import bct, dual_tuning, independent
from compatlib.methods.dual_tuning import KINDS, mutual_loss, prototype_loss, prototypes
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.heads import feature_head
from compatlib.training import Recipe, initialised
from tests.methods.test_bct import KINDS as CLASSIFIERS
from tests.methods.test_bct import (
    OLD_CLASSES,
    ONE_STEP,
    RECIPE,
    images,
    loop_cross_entropy,
    loop_influence,
    loop_logits,
    models,
    normal,
    old_classifier,
    weights,
    with_rows,
)
from tests.methods.test_bct_baselines import Recorded, old_backbone

CLASSES, OLD = 7, 4
# New size, old size, labels; seven classes, of which the old model knows the first four.
BATCHES = {
    "several classes": (5, 5, [0, 3, 2, 6, 1, 0, 4, 3]),
    "a sample": (5, 5, [2]),
    "an unseen sample": (5, 5, [5]),
    "one class": (5, 5, [1] * 6),
    "all seen": (5, 5, [0, 1, 2, 3, 2]),
    "none seen": (5, 5, [4, 6, 5]),
    "duplicated samples": (5, 5, [0, 0, 3, 3, 5, 5]),
    "a longer new embedding": (9, 5, [0, 3, 5, 1]),
    "a shorter new embedding": (2, 5, [0, 3, 5, 1]),
    "one coordinate": (1, 1, [0, 2, 1, 4]),
}
SEEDS = range(3)
FAMILIES = list(itertools.product(BATCHES, SEEDS))


def batch(name: str, seed: int = 0, scale: float = 1.0):
    """New embeddings, old embeddings, labels, prototypes, new rows, old rows."""
    new_dim, old_dim, labels = BATCHES[name]
    new, old = scale * normal(len(labels), new_dim, seed=seed), scale * normal(len(labels), old_dim, seed=seed + 100)
    if name == "duplicated samples":
        new[1::2], old[1::2] = new[::2], old[::2]
    rows = normal(CLASSES, new_dim, seed=seed + 200), normal(OLD, old_dim, seed=seed + 300)
    return new, old, torch.tensor(labels), normal(CLASSES, old_dim, seed=seed + 400), *rows


# Prototypes.

SPACES = {
    "signed": lambda seed: normal(12, 3, seed=seed),
    "not negative": lambda seed: normal(12, 3, seed=seed).relu(),
    "far from the origin": lambda seed: 1000 + normal(12, 3, seed=seed),
    "one coordinate": lambda seed: normal(12, 1, seed=seed),
    "collapsed": lambda seed: torch.ones(12, 3),
    "zeros": lambda seed: torch.zeros(12, 3),
}
LABELS = torch.tensor([2, 0, 1, 1, 3, 0, 0, 2, 0, 1, 0, 2])  # class 3 has one image


def loop_prototypes(embeddings: list[list[float]], labels: list[int], classes: int) -> list[list[float]]:
    rows = []
    for label in range(classes):
        own = [each for each, its in zip(embeddings, labels, strict=True) if its == label]
        rows.append([sum(column) / len(own) for column in zip(*own, strict=True)])
    return rows


@pytest.mark.parametrize(("name", "seed"), [*itertools.product(SPACES, SEEDS)])
def test_a_prototype_is_the_mean_of_its_class_as_it_is(name, seed):
    embeddings = SPACES[name](seed)
    expected = torch.tensor(loop_prototypes(embeddings.double().tolist(), LABELS.tolist(), 4), dtype=torch.float64)
    found = prototypes(embeddings, LABELS, 4)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).repeat(2)
    torch.testing.assert_close(prototypes(embeddings[order], LABELS[order], 4), found, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(prototypes(-2 * embeddings, LABELS, 4), -2 * found)  # the sign is kept, no length is
    other = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(prototypes(embeddings, other[LABELS], 4)[other], found)
    assert torch.equal(found[3], embeddings[4])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_prototypes_of_other_types_are_averaged_in_double_and_detached(dtype):
    embeddings = SPACES["signed"](0).repeat(300, 1).to(dtype).requires_grad_()
    found = prototypes(embeddings, LABELS.repeat(300), 4)
    expected = torch.tensor(loop_prototypes(embeddings[:12].double().tolist(), LABELS.tolist(), 4))
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-7)
    assert not found.requires_grad


def test_frozen_prototypes():
    found = prototypes(np.array([[4.0, -2.0], [1.0, 1.0], [0.0, -4.0]]), [1, 0, 1], 2)
    assert found.tolist() == [[1, 1], [2, -3]]


SPOILT = [torch.ones(3, 2).index_put((torch.tensor(1), torch.tensor(0)), torch.tensor(x)) for x in (math.nan, math.inf)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 5}, "classes [2, 4] have neither a row in the old classifier nor an image to make one of"),
        ({"num_classes": 3}, "num_classes is 3; valid is a number ≥ 1 above the highest label, 3"),
        ({"labels": torch.tensor([0, -1, 3])}, "label -1 is negative; labels count from 0"),
        *(({"embeddings": each}, "hold values that are not finite") for each in SPOILT),
        ({"embeddings": torch.ones(3)}, "embeddings are torch.float32 of shape (3,); valid is float (n, d)"),
        ({"labels": torch.arange(2)}, "labels are torch.int64 of shape (2,); valid is integer (3,)"),
    ],
)
def test_what_has_no_prototypes_is_refused(wrong, message):
    good = {"embeddings": torch.ones(3, 2), "labels": torch.tensor([0, 1, 3]), "num_classes": 4}
    with pytest.raises(ValueError, match=re.escape(message)):
        prototypes(**good | wrong)


# The prototype loss.


def loop_prototype_loss(new, labels, means, kind: str) -> float:
    total = 0.0
    for x, label in zip(new.double().tolist(), labels.tolist(), strict=True):
        if kind == "softmax":
            products = [sum(a * b for a, b in zip(x, p, strict=False)) for p in means.double().tolist()]
            total += loop_cross_entropy(products, label)
        else:
            total += sum((a - b) ** 2 for a, b in zip(x, means[label].double().tolist(), strict=False))
    return total / len(labels)


@pytest.mark.parametrize(("name", "seed"), FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_prototype_loss_is_that_of_its_formula(kind, name, seed):
    for scale in (1e-3, 1.0, 100.0):
        new, _, labels, means, *_ = batch(name, seed, scale)
        value = prototype_loss(new, labels, means, kind)
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert float(value) >= 0
        expected = loop_prototype_loss(new, labels, means, kind)
        assert float(value) == pytest.approx(expected, rel=1e-5, abs=1e-6 * max(scale, 1.0))


@pytest.mark.parametrize(("name", "seed"), FAMILIES)
def test_the_gradients_are_those_of_the_formulas(name, seed):
    """Softmax: 1/n Σ_k (s_k − [k = y]) p_k. Distance: 2/n (φ − p_y). Nothing beyond the common coordinates."""
    new, _, labels, means, *_ = (each.double() if each.is_floating_point() else each for each in batch(name, seed))
    common = min(new.shape[1], means.shape[1])
    for kind in KINDS:
        leaf, fixed = new.clone().requires_grad_(), means.clone().requires_grad_()
        prototype_loss(leaf, labels, fixed, kind).backward()
        expected = torch.zeros_like(new)
        for i, label in enumerate(labels.tolist()):
            if kind == "distance":
                expected[i, :common] = 2 * (new[i, :common] - means[label, :common]) / len(new)
                continue
            products = [float(new[i, :common] @ p[:common]) for p in means]
            total = sum(map(math.exp, products))
            for k, p in enumerate(means):
                expected[i, :common] += (math.exp(products[k]) / total - (k == label)) * p[:common] / len(new)
        torch.testing.assert_close(leaf.grad, expected)
        assert fixed.grad is None


@pytest.mark.parametrize(("name", "seed"), FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_neither_the_order_of_the_batch_nor_the_numbers_of_classes_matter(kind, name, seed):
    new, _, labels, means, *_ = batch(name, seed)
    loss, random = prototype_loss(new, labels, means, kind), torch.Generator().manual_seed(seed)
    order, names = torch.randperm(len(labels), generator=random), torch.randperm(CLASSES, generator=random)
    torch.testing.assert_close(prototype_loss(new[order], labels[order], means, kind), loss)
    torch.testing.assert_close(prototype_loss(new, names[labels], means[names.argsort()], kind), loss)


@pytest.mark.parametrize(("name", "seed"), [each for each in FAMILIES if BATCHES[each[0]][0] == 5])
def test_what_each_reading_does_not_see(name, seed):
    """Both: one rotation of both spaces. Softmax: one vector more in every prototype. Distance: one in both spaces."""
    new, _, labels, means, *_ = batch(name, seed)
    rotation, moved = torch.linalg.qr(normal(5, 5, seed=5))[0], normal(5, seed=6)
    for kind in KINDS:
        loss = prototype_loss(new, labels, means, kind)
        turned = prototype_loss(new @ rotation, labels, means @ rotation, kind)
        torch.testing.assert_close(turned, loss, rtol=1e-4, atol=1e-5)
        shifted = {"softmax": new, "distance": new + moved}[kind]
        torch.testing.assert_close(prototype_loss(shifted, labels, means + moved, kind), loss, rtol=1e-4, atol=1e-5)


def test_other_classes_prototypes_count_for_the_softmax_alone():
    new, _, labels, means, *_ = batch("all seen")
    others = torch.cat([means[:OLD], normal(CLASSES - OLD, 5, seed=9)])
    near, far = (prototype_loss(new, labels, each, "distance") for each in (means, others))
    assert torch.equal(near, far)
    assert prototype_loss(new, labels, means) != prototype_loss(new, labels, others)
    # An unseen class has a prototype too, so that its images carry the loss.
    new, _, labels, means, *_ = batch("none seen")
    for kind in KINDS:
        leaf = new.clone().requires_grad_()
        prototype_loss(leaf, labels, means, kind).backward()
        assert (leaf.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "old_dim"), [(3, 5), (5, 3), (1, 4), (4, 1)])
def test_of_unequal_sizes_the_common_first_coordinates_count(kind, dim, old_dim):
    new, means, labels = normal(6, dim), normal(4, old_dim, seed=1), torch.arange(6) % 4
    common = min(dim, old_dim)
    expected = prototype_loss(new[:, :common], labels, means[:, :common], kind)
    assert torch.equal(prototype_loss(new, labels, means, kind), expected)


def test_frozen_prototype_losses():
    """Under unit prototypes (ln 2, ln 3, ln 5) has the shares 2/10, 3/10 and 5/10."""
    new = torch.tensor([[math.log(2), math.log(3), math.log(5)]] * 2)
    for labels, expected in (([0, 0], math.log(5)), ([0, 2], math.log(10) / 2), ([1, 1], math.log(10 / 3))):
        assert float(prototype_loss(new, torch.tensor(labels), torch.eye(3))) == pytest.approx(expected, rel=1e-6)
    new, means = torch.tensor([[3.0, 4.0], [0.0, -1.0]]), torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    assert prototype_loss(new, torch.tensor([0, 1]), means, "distance").item() == (25 + 8) / 2
    assert prototype_loss(new, torch.tensor([0, 1]), means[:, :1], "distance").item() == (9 + 4) / 2


@pytest.mark.parametrize("count", [1, 2, 7])
def test_bounds_of_the_prototype_losses(count):
    means, labels = normal(count, 4), torch.arange(2 * count) % count
    assert float(prototype_loss(torch.zeros(2 * count, 4), labels, means)) == pytest.approx(math.log(count), rel=1e-6)
    reached = means[labels].requires_grad_()
    loss = prototype_loss(reached, labels, means, "distance")
    loss.backward()
    assert loss.item() == 0
    assert (reached.grad == 0).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float64, 1e-9)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_prototype_loss_of_other_types_keeps_to_the_formula(kind, dtype, tolerance):
    for name in BATCHES:
        new, _, labels, means, *_ = batch(name)
        for own, rows in itertools.product((new.to(dtype), new), (means.to(dtype), means)):
            value = prototype_loss(own, labels.to(torch.uint8), rows, kind)
            assert value.dtype == torch.promote_types(own.dtype, torch.float32)
            loose = max(tolerance, 1e-6)
            assert float(value) == pytest.approx(loop_prototype_loss(own, labels, rows, kind), rel=loose, abs=loose)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "cosine"}, "unknown kind 'cosine' of the prototype loss; choose one of ('softmax', 'distance')"),
        ({"labels": torch.tensor([0, 1, 4])}, "label 4 has no prototype; there are 4, of labels 0 to 3"),
        ({"labels": torch.tensor([0, -1, 2])}, "label -1 is negative"),
        ({"labels": torch.arange(2)}, "labels are torch.int64 of shape (2,); valid is integer (3,)"),
        ({"embeddings": torch.ones(3)}, "embeddings are torch.float32 of shape (3,); valid is float (n, d)"),
        ({"prototypes": torch.ones(4)}, "prototypes are torch.float32 of shape (4,); valid is float (k, d)"),
        ({"prototypes": torch.ones(4, 5).long()}, "prototypes are torch.int64 of shape (4, 5); valid is float (k, d)"),
        ({"embeddings": torch.ones(0, 5), "labels": torch.arange(0)}, "there is no sample in the batch"),
    ],
)
def test_a_wrong_prototype_loss_is_refused(wrong, message):
    good = {"embeddings": torch.ones(3, 5), "labels": torch.arange(3), "prototypes": torch.ones(4, 5)}
    with pytest.raises(ValueError, match=re.escape(message)):
        prototype_loss(**good | wrong)


# The mutual terms.


def loop_old_to_new(old, labels, rows, kind) -> float:
    losses = [
        loop_cross_entropy(loop_logits(each, rows.double().tolist(), kind), label)
        for each, label in zip(old.double().tolist(), labels.tolist(), strict=True)
    ]
    return sum(losses) / len(losses)


def swapped(name: str, seed: int = 0, kind=LinearClassifier, old_kind=LinearClassifier):
    """New and old embeddings, labels, new and old classifier."""
    new, old, labels, _, rows, old_rows = batch(name, seed)
    return new, old, labels, with_rows(kind, rows), with_rows(old_kind, old_rows)


@pytest.mark.parametrize(("name", "seed"), FAMILIES)
@pytest.mark.parametrize(("kind", "old_kind"), [*itertools.pairwise([*CLASSIFIERS, LinearClassifier])])
def test_each_mutual_term_is_that_of_its_formula(kind, old_kind, name, seed):
    new, old, labels, own, before = swapped(name, seed, kind, old_kind)
    for known, seen in ((None, set(range(OLD))), ([3, 0], {0, 3}), (0, set())):
        both = mutual_loss(new, old, labels, own, before, known)
        assert both._fields == ("old_to_new", "new_to_old")
        assert all(each.shape == () and each.dtype == torch.float32 for each in both)
        expected = loop_old_to_new(old, labels, own.weight.detach(), kind)
        assert both.old_to_new.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        expected, _ = loop_influence(new, labels, before.weight.detach(), old_kind, seen)
        assert both.new_to_old.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    with torch.no_grad():
        influence = bct.influence_loss(new, labels, before)
    assert torch.equal(mutual_loss(new, old, labels, own, before).new_to_old, influence)


@pytest.mark.parametrize(("name", "seed"), FAMILIES)
def test_each_gradient_reaches_one_part_alone(name, seed):
    """Old to new: the new classifier. New to old: the new embeddings, of seen classes, in the old coordinates."""
    new, old, labels, own, before = swapped(name, seed, CosineClassifier, LinearClassifier)
    new.requires_grad_(), old.requires_grad_()
    parts = new, old, own.weight, before.weight
    both = mutual_loss(new, old, labels, own, before)
    gradients = {
        term: torch.autograd.grad(loss, parts, retain_graph=True, allow_unused=True)
        for term, loss in both._asdict().items()
    }
    assert [each is not None for each in gradients["old_to_new"]] == [False, False, True, False]
    assert gradients["old_to_new"][2].abs().max() > 0 or new.shape[1] == 1  # a cosine of one coordinate is ±1
    assert all(each is None for each in gradients["new_to_old"][1:])
    seen = labels < OLD
    reached = gradients["new_to_old"][0]
    assert (reached[~seen] == 0).all()
    assert (reached[seen].abs().sum(dim=1) > 0).all()
    assert (reached[:, old.shape[1] :] == 0).all()
    assert before.weight.requires_grad


def test_classes_that_the_old_model_never_saw_carry_the_term_from_old_to_new_alone():
    new, old, labels, own, before = swapped("several classes")
    unseen = labels >= OLD
    both = mutual_loss(new, old, labels, own, before)
    moved = mutual_loss(new + 9.0 * unseen[:, None], old, labels, own, before)
    assert torch.equal(moved.new_to_old, both.new_to_old)
    moved = mutual_loss(new, old + 9.0 * unseen[:, None], labels, own, before)
    assert moved.old_to_new != both.old_to_new
    nobody = mutual_loss(*swapped("none seen"))
    assert nobody.new_to_old.item() == 0
    assert nobody.old_to_new.item() > 0


@pytest.mark.parametrize(("name", "seed"), FAMILIES)
def test_the_mutual_terms_are_the_same_in_any_order_of_the_batch(name, seed):
    new, old, labels, *classifiers = swapped(name, seed)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    both = mutual_loss(new, old, labels, *classifiers)
    again = mutual_loss(new[order], old[order], labels[order], *classifiers)
    torch.testing.assert_close(torch.stack(again), torch.stack(both))


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize("name", BATCHES)
def test_with_old_and_new_exchanged_the_terms_are_too(name, kind):
    """Where both classifiers have all classes; in value, not in whom the gradient reaches."""
    new, old, labels, _, rows, _ = batch(name)
    own, before = with_rows(kind, rows), with_rows(kind, normal(CLASSES, old.shape[1], seed=7))
    both, other = mutual_loss(new, old, labels, own, before), mutual_loss(old, new, labels, before, own)
    torch.testing.assert_close(both.old_to_new, other.new_to_old)
    torch.testing.assert_close(both.new_to_old, other.old_to_new)


@pytest.mark.parametrize("kind", CLASSIFIERS)
@pytest.mark.parametrize(("dim", "old_dim"), [(3, 6), (6, 3), (1, 4), (4, 1)])
def test_of_another_size_first_coordinates_enter_and_zeros_behind(dim, old_dim, kind):
    new, old, labels = normal(6, dim), normal(6, old_dim, seed=1), torch.arange(6)
    own, before = with_rows(kind, normal(6, dim, seed=2)), with_rows(kind, normal(6, old_dim, seed=3))

    def by_hand(vectors, size):
        result = torch.zeros(6, size)
        for j in range(min(size, vectors.shape[1])):
            result[:, j] = vectors[:, j]
        return result

    both = mutual_loss(new, old, labels, own, before)
    assert torch.equal(both.old_to_new, F.cross_entropy(own(by_hand(old, dim)), labels))
    assert torch.equal(both.new_to_old, F.cross_entropy(before(by_hand(new, old_dim)), labels))


def test_no_margin_is_applied_in_either_term():
    arcface, cosine = (swapped("all seen", kind=kind, old_kind=kind) for kind in (ArcFaceClassifier, CosineClassifier))
    assert mutual_loss(*arcface) == mutual_loss(*cosine)


def test_frozen_mutual_terms():
    """Under unit rows (ln 2, ln 3, ln 5) has the shares 2/10, 3/10 and 5/10, and zeros tell nothing."""
    told, nothing, labels = (
        torch.tensor([[math.log(2), math.log(3), math.log(5)]]),
        torch.zeros(1, 3),
        torch.tensor([1]),
    )
    three, two = with_rows(LinearClassifier, torch.eye(3)), torch.eye(3)[:2]
    both = mutual_loss(nothing, told, labels, three, two)
    assert [each.item() for each in both] == pytest.approx([math.log(10 / 3), math.log(2)])
    both = mutual_loss(told, nothing, labels, three, two)
    assert [each.item() for each in both] == pytest.approx([math.log(3), math.log((2 + 3 + 0) / 3)])
    assert mutual_loss(told, nothing, torch.tensor([2]), three, two).new_to_old.item() == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.float64, 1e-5)])
def test_mutual_terms_of_other_types_keep_to_the_formula(dtype, tolerance):
    new, old, labels, own, before = swapped("several classes")
    expected = mutual_loss(new, old, labels, own, before)
    for parts in ((new.to(dtype), old.to(dtype), labels.to(torch.int16)), (new, old.to(dtype), labels)):
        found = mutual_loss(*parts, own, before)
        torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"labels": torch.tensor([0, 1, 7])},
            "label 7 has no row in the new classifier; there are 7, of labels 0 to 6",
        ),
        ({"labels": torch.tensor([0, -1, 7])}, "label -1 is negative"),
        ({"new": torch.ones(2, 5)}, "labels are torch.int64 of shape (3,); valid is integer (2,)"),
        ({"old": torch.ones(2, 5)}, "labels are torch.int64 of shape (3,); valid is integer (2,)"),
        ({"old": torch.ones(3, 5).long()}, "old embeddings are torch.int64 of shape (3, 5); valid is float (n, d)"),
        ({"old_classifier": nn.Sequential()}, "the old classifier is Sequential; valid is a (classes, d) tensor"),
        ({"known_classes": 5}, "known_classes is 5; valid is a number from 0 to 4, or labels from 0 to 3"),
        ({"new": torch.ones(0, 5), "old": torch.ones(0, 5), "labels": torch.arange(0)}, "there is no sample"),
    ],
)
def test_wrong_mutual_terms_are_refused(wrong, message):
    good = {"new": torch.ones(3, 5), "old": torch.ones(3, 5), "labels": torch.arange(3)}
    good |= {"new_classifier": LinearClassifier(5, CLASSES), "old_classifier": LinearClassifier(5, OLD)}
    with pytest.raises(ValueError, match=re.escape(message)):
        mutual_loss(**good | wrong)


# Trainings.

MUTUAL = ("old_to_new", "new_to_old")
TERMS = ("weight", *MUTUAL)
NONE = dict.fromkeys(TERMS, 0.0)
# Each alone, and all with a weight of its own.
HALVES = [*({**NONE, name: 3.0} for name in TERMS), {"weight": 0.5, "old_to_new": 0.7, "new_to_old": 3.0}]
SIZES = [(LinearClassifier, 6, 6), (CosineClassifier, 6, 3), (ArcFaceClassifier, 3, 6)]


def old_model(kind=LinearClassifier, dim: int = 6) -> tuple[nn.Module, nn.Module]:
    return old_backbone(dim), old_classifier(kind, dim)


def train(backbone, classifier, old=None, the_images=None, recipe=RECIPE, **options):
    old = old_model() if old is None else old
    options = {"seed": 0, "role": "new", "old_backbone": old[0], "old_classifier": old[1]} | options
    return dual_tuning.fit(backbone, classifier, images() if the_images is None else the_images, recipe, **options)


def history(fit) -> dict[str, list[float]]:
    found = {}
    for row in fit.history:
        found.setdefault(row["term"].removeprefix("dual_tuning/"), []).append(row["value"])
    return found


@pytest.mark.parametrize("prototype_kind", KINDS)
@pytest.mark.parametrize(("kind", "dim", "old_dim"), SIZES)
def test_every_loss_is_that_of_its_formula(kind, dim, old_dim, prototype_kind):
    """The new classifier's own loss has its margin and smoothed labels, the swapped ones neither."""
    (backbone, classifier), old, whole = models(kind, dim), old_model(kind, old_dim), images()
    with torch.no_grad():
        new, before = copy.deepcopy(backbone).train()(whole.images), old[0](whole.images)
        own = F.cross_entropy(classifier(new, whole.labels), whole.labels, label_smoothing=0.2)
    means = torch.tensor(loop_prototypes(before.double().tolist(), whole.labels.tolist(), 4))
    rows = [part.weight.detach().clone() for part in (classifier, old[1])]
    expected = {
        "classification": float(own),
        "prototypes": 0.3 * loop_prototype_loss(new, whole.labels, means, prototype_kind),
        "old_to_new": 0.5 * loop_old_to_new(before, whole.labels, rows[0], kind),
        "new_to_old": 0.7 * loop_influence(new, whole.labels, rows[1], kind)[0],
    }
    options = {"weight": 0.3, "old_to_new": 0.5, "new_to_old": 0.7, "kind": prototype_kind, "label_smoothing": 0.2}
    fit = train(backbone, classifier, [part.train() for part in old], recipe=ONE_STEP, augment=unchanged, **options)
    assert history(fit) == {name: [pytest.approx(value, rel=1e-4)] for name, value in expected.items()}


@pytest.mark.parametrize("options", HALVES, ids=str)
def test_one_step_moves_down_the_gradient_of_the_sum(options):
    recipe = Recipe(epochs=1, batch_size=24, learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")
    pair, oracle, old, whole = models(), models(), old_model(), images()
    train(*pair, old, recipe=recipe, augment=unchanged, **options)
    new, before, labels = oracle[0](whole.images), old[0].cpu()(whole.images), whole.labels
    means = torch.stack([before[labels == label].mean(dim=0) for label in range(4)])
    known = labels < OLD_CLASSES
    losses = (
        F.cross_entropy(new @ means.T, labels),
        F.cross_entropy(before @ oracle[1].weight.T, labels),
        F.cross_entropy(new[known] @ old[1].weight.detach().cpu().T, labels[known]),
    )
    own = F.cross_entropy(oracle[1](new), labels)
    start = [parameter for module in oracle for parameter in module.parameters()]
    total = own + sum(options[name] * loss for name, loss in zip(TERMS, losses, strict=True))
    gradients = torch.autograd.grad(total, start)
    trained = [parameter for module in pair for parameter in module.parameters()]
    for parameter, first, gradient in zip(trained, start, gradients, strict=True):
        torch.testing.assert_close(parameter.cpu(), first - 0.1 * gradient, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_without_weights_it_is_independent_training_bit_for_bit_and_the_old_model_is_not_asked(kind, precision):
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    pair, alone, old = models(kind), models(kind), Recorded(old_backbone(), torch.float32)
    fit = train(*pair, (old, None), recipe=recipe, label_smoothing=0.1, **NONE)
    expected = independent.fit(*alone, images(), recipe, seed=0, role="new", label_smoothing=0.1)
    assert torch.equal(weights(*pair), weights(*alone))
    assert history(fit) == {"classification": [row["value"] for row in expected.history]}
    assert old.seen == []


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, ["prototypes", *MUTUAL]),
        ({"old_to_new": 0.0, "new_to_old": 0.0}, ["prototypes"]),
        ({"weight": 0.0}, list(MUTUAL)),
        ({"weight": 0.0, "old_to_new": 0.0}, ["new_to_old"]),
        ({"new_to_old": 0.0}, ["prototypes", "old_to_new"]),
    ],
)
def test_the_history_tells_the_terms_that_have_a_weight_apart(options, terms):
    found = history(train(*models(), **options))
    assert list(found) == ["classification", *terms]
    assert all(len(values) == 2 and min(values) > 0 for values in found.values())


def test_the_releases_weights_are_the_default():
    first, ones = (history(train(*models(), recipe=ONE_STEP, **o)) for o in ({}, dict.fromkeys(TERMS, 1.0)))
    shares = {name: first[name][0] / ones[name][0] for name in ones}
    expected = {"classification": 1.0, "prototypes": 0.1, "old_to_new": 0.2, "new_to_old": 0.2}
    assert shares == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("options", [{}, *HALVES[:3]], ids=str)
def test_the_old_model_stays_bit_for_bit_and_in_eval_mode(options):
    """Its BatchNorm statistics would move in training mode."""
    old = [part.train() for part in old_model()]
    before, pair = [copy.deepcopy(part.state_dict()) for part in old], models()
    assert any("running_mean" in name for name in before[0])
    start = weights(*pair)
    train(*pair, old, **options)
    assert not torch.equal(weights(*pair), start)
    for part, values in zip(old, before, strict=True):
        assert all(torch.equal(tensor.cpu(), values[name]) for name, tensor in part.state_dict().items())
        assert not any(parameter.grad is not None for parameter in part.parameters())
    assert not any(module.training for module in old[0].modules())
    assert not any(parameter.requires_grad for parameter in old[0].parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_old_model_sees_the_images_once_as_they_are_and_then_every_batch_as_the_new_one(precision):
    (backbone, classifier), whole = models(), images()
    new, old = Recorded(backbone, torch.float32), Recorded(old_backbone(), torch.float32).train()
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    train(new, classifier, (old, old_classifier()), recipe=recipe)
    (plain, training), *batches = old.seen
    assert torch.equal(plain, whole.images)
    assert not training
    assert len(batches) == len(new.seen) == 6
    for (given_old, in_training), (given_new, _) in zip(batches, new.seen, strict=True):
        assert not in_training
        assert torch.equal(given_old, given_new)
        assert not any(torch.equal(image, known) for image in given_old[:2] for known in whole.images)
    alone = Recorded(old_backbone(), torch.float32)
    train(*models(), (alone, None), recipe=recipe, old_to_new=0.0, new_to_old=0.0)
    assert len(alone.seen) == 1


def test_unseen_classes_in_any_form_train_the_same_model():
    trained = []
    for known in (1, np.int64(1), {0}, iter([0])):
        pair = models()
        train(*pair, known_classes=known)
        trained.append(weights(*pair))
    assert all(torch.equal(trained[0], other) for other in trained[1:])
    pair = models()
    train(*pair)
    assert not torch.equal(trained[0], weights(*pair))


@pytest.mark.parametrize(("stop_at", "precision", "kind"), [(2, "float32", "softmax"), (5, "bfloat16", "distance")])
def test_an_interrupted_upgrade_ends_with_the_same_weights(tmp_path, stop_at, precision, kind):
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    whole, interrupted, resumed = models(), models(), models(seed=1)
    options = {"recipe": recipe, "kind": kind}
    expected = train(*whole, **options)
    taken = []

    def report(share, text):
        taken.append(share)
        if len(taken) == stop_at:
            raise KeyboardInterrupt

    options |= {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train(*interrupted, report=report, **options)
    assert read_tensors(tmp_path / "run")[1]["step"] == stop_at - 1
    assert train(*resumed, **options).history == expected.history
    assert torch.equal(weights(*whole), weights(*resumed))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": -1.0}, "the weight of prototypes must be finite and ≥ 0, got -1.0"),
        ({"old_to_new": math.nan}, "the weight of old_to_new must be finite and ≥ 0, got nan"),
        ({"new_to_old": math.inf}, "the weight of new_to_old must be finite and ≥ 0, got inf"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie in [0, 1), got 1.0"),
        ({"kind": "l2", "weight": 0.0}, "unknown kind 'l2' of the prototype loss"),
        ({"classifier": LinearClassifier(6, 3)}, "label 3 has no row in a classifier of 3 classes; give it a row"),
        (
            {"old_classifier": None},
            "old_classifier must be a module of its own, apart from the new classifier; copy it",
        ),
        ({"old_classifier": torch.ones(2, 6)}, "old_classifier must be a module of its own"),
        ({"old_classifier": nn.Sequential(nn.Linear(6, 2))}, "the old classifier is Sequential; valid is"),
        ({"old_backbone": None}, "old_backbone must be a module of its own, apart from the new backbone; copy it"),
        ({"known_classes": 3}, "known_classes is 3; valid is a number from 0 to 2"),
        ({"images": images().select(images().labels != 1)}, "classes [1] have neither a row"),
        ({"images": images().select(torch.arange(0))}, "check the split"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(wrong, message):
    backbone, classifier = models()
    before = weights(backbone, classifier)
    old = dict(zip(("old_backbone", "old_classifier"), old_model(), strict=True))
    good = {"backbone": backbone, "classifier": classifier, "images": images(), "recipe": RECIPE, "seed": 0}
    with pytest.raises(ValueError, match=re.escape(message)):
        dual_tuning.fit(**{**good, "role": "new", **old, **wrong})
    assert torch.equal(weights(backbone, classifier), before)


def test_the_new_model_itself_is_no_old_one_but_its_copy_may_be():
    pair = models()
    with pytest.raises(ValueError, match="old_backbone must be a module of its own"):
        train(*pair, (pair[0], old_classifier()))
    with pytest.raises(ValueError, match="old_classifier must be a module of its own"):
        train(*pair, (old_backbone(), pair[1]))
    assert all(parameter.requires_grad for part in pair for parameter in part.parameters())
    train(*pair, [copy.deepcopy(part) for part in pair])


def test_a_class_without_an_image_matters_for_prototypes_alone():
    few = images().select(images().labels != 1)
    fit = train(*models(), the_images=few, weight=0.0)
    assert set(history(fit)) == {"classification", *MUTUAL}


# On features of two encoders, at a size where compatibility shows.

SEEN, ALL, SIZE = 6, 10, 12


def features(encoder: str, per_class: int, seed: int) -> FeatureSet:
    """Classes around centres of their own, another space for every encoder."""
    place, labels = int(encoder[-1]), torch.arange(ALL).repeat_interleave(per_class)
    drawn = normal(ALL, SIZE, seed=place)[labels] + 0.6 * normal(len(labels), SIZE, seed=1000 * seed + place)
    names = tuple(map(str, range(ALL)))
    return FeatureSet(drawn[:, None].half().numpy(), labels, names, f"{encoder} {seed}", encoder=encoder)


def both_encoders(per_class: int = 12, seed: int = 1) -> ByEncoder:
    return ByEncoder({encoder: features(encoder, per_class, seed) for encoder in ("lite0", "lite2")})


def head_on(encoder: str, classes: int, seed: int, dim: int = 8) -> tuple[nn.Module, nn.Module]:
    own = both_encoders().sets[encoder].features[:, 0].float()
    make = partial(feature_head, own.mean(0), own.std(0), hidden=32, dim=dim, head="linear_bn", encoder=encoder)
    role = "old" if encoder == "lite0" else "new"
    return initialised(make, seed, role), initialised(lambda: LinearClassifier(dim, classes), seed, f"{role} rows")


@pytest.mark.parametrize("old_dim", [5, 8, 11])
def test_old_and_new_model_may_stand_on_different_encoders(old_dim):
    both, old, pair = both_encoders(), head_on("lite0", SEEN, 0, old_dim), head_on("lite2", ALL, 0)
    start, before = weights(*pair), weights(*old)
    augment = partial(view_with_noise, deviation=dict.fromkeys(both.sets, 1.0), noise=0.1)
    fit = train(*pair, old, both, Recipe(epochs=2, batch_size=30, learning_rate=0.05), augment=augment)
    assert set(history(fit)) == {"classification", "prototypes", *MUTUAL}
    assert torch.equal(weights(*old), before)
    assert not torch.equal(weights(*pair), start)
    means = prototypes(embed(old[0], both), both.labels, ALL)
    alone = prototypes(embed(old[0], both.sets["lite0"]), both.labels, ALL)
    assert torch.equal(means, alone)
    assert means.shape == (ALL, old_dim)
    assert (means < 0).any()


@pytest.fixture(scope="module")
def upgraded():
    """Rank 1 by method, mean of two seeds: new queries in the old gallery, and in the new one, the query excluded."""
    both, tested = both_encoders(), both_encoders(seed=2)
    recipe = Recipe(epochs=12, batch_size=40, learning_rate=0.2)
    augment = partial(view_with_noise, deviation=dict.fromkeys(both.sets, 1.0), noise=0.1)
    ways = {
        "independent": NONE,
        "all": {},
        "prototypes": {**NONE, "weight": 0.1},
        "distance": {**NONE, "weight": 0.1, "kind": "distance"},
        "mutual": {**NONE, "old_to_new": 0.2, "new_to_old": 0.2},
    }
    scores = {way: [] for way in ways}
    for seed in range(2):
        old, share = head_on("lite0", SEEN, seed), both.sets["lite0"].select(both.labels < SEEN)
        single = partial(view_with_noise, noise=0.1, encoder="lite0")
        independent.fit(*old, share, recipe, seed=seed, role="old", augment=single)
        gallery = embed(old[0], tested)
        for way, options in ways.items():
            pair = head_on("lite2", ALL, seed)
            train(*pair, old, both, recipe, seed=seed, augment=augment, **options)
            query = embed(pair[0], tested)
            scores[way].append(
                [evaluate(query, g, tested.labels, tested.labels, exclude_self=True).cmc[1] for g in (gallery, query)]
            )
    return {way: torch.tensor(found).mean(dim=0).tolist() for way, found in scores.items()}


@pytest.mark.parametrize("way", ["all", "prototypes", "distance", "mutual"])
def test_the_cross_test_rises_above_independents(upgraded, way):
    (cross, own), (apart, alone) = upgraded[way], upgraded["independent"]
    assert apart < 0.3
    assert cross > apart + 0.15
    assert own > alone - 0.1
