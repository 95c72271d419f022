"""BCT: the influence loss and synthesised rows against explicit loops, their properties, and small trainings."""

import copy
import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from compatlib.checkpoints import read_tensors
from compatlib.data.augment import crop_and_flip, unchanged
from compatlib.data.images import ImageSet
from compatlib.embedding import embed
from compatlib.methods import bct, independent
from compatlib.methods.bct import RIDGE_STRENGTHS, influence_loss, ridge_classifier, synthesize_classifier
from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.training import Recipe, initialised

KINDS = [LinearClassifier, CosineClassifier, ArcFaceClassifier]
SCALES = [1e-6, 1e-3, 1.0, 1e3, 1e6]
# New size, old size, rows of the old classifier, labels.
BATCHES = {
    "several classes": (5, 5, 4, [0, 3, 2, 6, 1, 0, 4, 3]),
    "a sample": (5, 5, 4, [2]),
    "an unknown sample": (5, 5, 4, [4]),
    "no sample": (5, 5, 4, []),
    "one class": (5, 5, 4, [1] * 6),
    "all known": (5, 5, 4, [0, 1, 2, 3, 2]),
    "all unknown": (5, 5, 4, [4, 9, 5]),
    "duplicated samples": (5, 5, 4, [0, 0, 3, 3, 5, 5]),
    "a new embedding that is wider": (9, 5, 4, [0, 3, 5, 1]),
    "a new embedding that is narrower": (2, 5, 4, [0, 3, 5, 1]),
    "one row": (5, 5, 1, [0, 0, 1]),
    "one coordinate": (1, 1, 3, [0, 2, 1, 4]),
    "more rows than coordinates": (2, 2, 12, [0, 11, 12, 5]),
}
# Every family as it is, and one at every scale.
CASES = [*((name, 1.0) for name in BATCHES), *(("several classes", scale) for scale in SCALES if scale != 1)]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch(name: str, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings, labels and the rows of the old classifier."""
    new_dim, old_dim, rows, labels = BATCHES[name]
    embeddings = scale * normal(len(labels), new_dim, seed=seed)
    if name == "duplicated samples":
        embeddings[1::2] = embeddings[::2]
    return embeddings, torch.tensor(labels).long(), normal(rows, old_dim, seed=seed + 1000)


def with_rows(kind: type[LinearClassifier], rows: torch.Tensor) -> nn.Module:
    classifier = kind(rows.shape[1], len(rows))
    classifier.weight = nn.Parameter(rows.clone())
    return classifier


def cosine_of(first: list[float], second: list[float]) -> float:
    lengths = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0


def loop_logits(embedding: list[float], rows: list[list[float]], kind: type) -> list[float]:
    """One row at a time; what the embedding lacks is 0, what it has too much is left out."""
    logits = []
    for row in rows:
        entering = [embedding[j] if j < len(embedding) else 0.0 for j in range(len(row))]
        inner = sum(a * b for a, b in zip(entering, row, strict=True))
        logits.append(inner if kind is LinearClassifier else 16 * cosine_of(entering, row))
    return logits


def loop_cross_entropy(logits: list[float], label: int) -> float:
    highest = max(logits)
    return highest + math.log(sum(math.exp(value - highest) for value in logits)) - logits[label]


def loop_influence(embeddings, labels, rows, kind=LinearClassifier, known=None) -> tuple[float, float]:
    """The formula in float64, and the largest logit, in whose units float32 rounds."""
    known = set(range(len(rows))) if known is None else known
    losses, largest = [], 1e-3
    for embedding, label in zip(embeddings.double().tolist(), labels.tolist(), strict=True):
        if label in known:
            logits = loop_logits(embedding, rows.double().tolist(), kind)
            losses.append(loop_cross_entropy(logits, label))
            largest = max(largest, *map(abs, logits))
    return (sum(losses) / len(losses) if losses else 0.0), largest


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_the_influence_loss_is_that_of_the_formula(name, scale):
    for seed in range(3):
        embeddings, labels, rows = batch(name, scale, seed)
        for kind, old in [(LinearClassifier, rows), *((kind, with_rows(kind, rows)) for kind in KINDS)]:
            expected, largest = loop_influence(embeddings, labels, rows, kind)
            loss = influence_loss(embeddings, labels, old)
            assert loss.dtype == torch.float32
            assert loss.shape == ()
            assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-5 * largest), kind
            assert float(loss) >= 0


@pytest.mark.parametrize(("name", "scale"), [case for case in CASES if case[1] < 1e6])
def test_its_gradient_is_softmax_less_truth_through_the_old_rows(name, scale):
    """∂L/∂φ_i = 1/|K| Σ_k (p_ik − [k = y_i]) w_k for known samples, and 0 beyond the old classifier's coordinates."""
    embeddings, labels, rows = batch(name, scale)
    embeddings.requires_grad_()
    influence_loss(embeddings, labels, rows).backward()
    carrying = sum(label < len(rows) for label in labels.tolist())
    expected = torch.zeros(embeddings.shape, dtype=torch.float64)
    for i, label in enumerate(labels.tolist()):
        if label >= len(rows):
            continue
        logits = loop_logits(embeddings[i].tolist(), rows.tolist(), LinearClassifier)
        total = sum(math.exp(value - max(logits)) for value in logits)
        for j in range(min(embeddings.shape[1], rows.shape[1])):
            for k in range(len(rows)):
                share = math.exp(logits[k] - max(logits)) / total
                expected[i, j] += (share - (k == label)) * float(rows[k, j]) / carrying
    torch.testing.assert_close(embeddings.grad.double(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "known", "expected"),
    [
        ([0], None, math.log(5)),
        ([2], None, math.log(2)),
        ([0, 2], None, math.log(10) / 2),
        ([0, 2], [2], math.log(2)),
        ([0, 1, 2], None, math.log(5 * 10 / 3 * 2) / 3),
        ([0, 1, 2, 3], 2, math.log(5 * 10 / 3) / 2),
        ([0, 1, 2, 3], 0, 0.0),
    ],
)
def test_frozen_values(labels, known, expected):
    """Under unit rows the embedding (ln 2, ln 3, ln 5) has the shares 2/10, 3/10 and 5/10."""
    embeddings = torch.tensor([[math.log(2), math.log(3), math.log(5)]] * len(labels))
    assert float(influence_loss(embeddings, torch.tensor(labels), torch.eye(3), known)) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_an_embedding_of_zeros_tells_nothing(rows):
    for classifier in (normal(rows, 3), *(with_rows(kind, normal(rows, 3)) for kind in KINDS)):
        loss = influence_loss(torch.zeros(2, 3), torch.tensor([0, rows - 1]), classifier)
        assert float(loss) == pytest.approx(math.log(rows), rel=1e-6)


@pytest.mark.parametrize("name", BATCHES)
def test_the_order_of_the_batch_does_not_matter(name):
    embeddings, labels, rows = batch(name)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    for old in (with_rows(kind, rows) for kind in KINDS):
        leaves = embeddings.clone().requires_grad_(), embeddings[order].clone().requires_grad_()
        losses = [influence_loss(x, y, old) for x, y in zip(leaves, (labels, labels[order]), strict=True)]
        torch.testing.assert_close(losses[0], losses[1])
        gradients = [torch.autograd.grad(loss, leaf)[0] for loss, leaf in zip(losses, leaves, strict=True)]
        torch.testing.assert_close(gradients[0][order], gradients[1])


def test_classes_may_be_renumbered_with_their_rows():
    renumbered, expected = {}, {}
    for name in BATCHES:
        embeddings, labels, rows = batch(name)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))
        new_label = {int(old): new for new, old in enumerate(order)}
        others = torch.tensor([new_label.get(label, label) for label in labels.tolist()]).long()
        renumbered[name] = influence_loss(embeddings, others, rows[order])
        expected[name] = influence_loss(embeddings, labels, rows)
    torch.testing.assert_close(renumbered, expected)


def test_one_vector_added_to_all_rows_changes_nothing():
    moved, expected = {}, {}
    for name in BATCHES:
        embeddings, labels, rows = batch(name)
        moved[name] = influence_loss(embeddings, labels, rows + normal(rows.shape[1], seed=3))
        expected[name] = influence_loss(embeddings, labels, rows)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("known", [None, 2, [3], [0, 3]])
def test_samples_of_unknown_classes_have_no_influence_and_no_gradient(known):
    classes = torch.arange(4) if known is None else torch.tensor(range(known) if isinstance(known, int) else known)
    for scale, kind in itertools.product(SCALES, KINDS):
        embeddings, labels, rows = batch("several classes", scale)
        unknown = ~torch.isin(labels, classes)
        assert unknown.any()
        others = torch.where(unknown[:, None], 100 * normal(*embeddings.shape, seed=9), embeddings)
        results = []
        for values in (embeddings, others):
            leaf = values.clone().requires_grad_()
            loss = influence_loss(leaf, labels, with_rows(kind, rows), known)
            loss.backward()
            assert (leaf.grad[unknown] == 0).all()
            assert (leaf.grad[~unknown] != 0).any()
            results.append((loss.item(), leaf.grad))
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
        torch.testing.assert_close(results[0][1], results[1][1])
        left = influence_loss(embeddings[~unknown], labels[~unknown], with_rows(kind, rows))
        assert float(left) == pytest.approx(results[0][0], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "known"), [("all unknown", None), ("several classes", 0), ("several classes", []), ("no sample", None)]
)
def test_nobody_known_gives_zero_with_gradients_of_zero(name, known):
    for scale, kind in itertools.product(SCALES, KINDS):
        embeddings, labels, rows = batch(name, scale)
        embeddings.requires_grad_()
        loss = influence_loss(embeddings, labels, with_rows(kind, rows), known)
        loss.backward()
        assert loss.item() == 0
        assert (embeddings.grad == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_old_classifier_gets_no_gradient(kind):
    embeddings, labels, rows = batch("several classes")
    module, tensor = with_rows(kind, rows), rows.clone().requires_grad_()
    for old, weight in ((module, module.weight), (tensor, tensor)):
        leaf = embeddings.clone().requires_grad_()
        loss = influence_loss(leaf, labels, old)
        assert torch.autograd.grad(loss, weight, retain_graph=True, allow_unused=True) == (None,)
        loss.backward()
        assert weight.grad is None
        assert weight.requires_grad
        assert torch.equal(weight, rows)
        assert leaf.grad.abs().max() > 0


@pytest.mark.parametrize("margin", [0.2, 1.2])
def test_no_margin_is_applied(margin):
    embeddings, labels, rows = batch("all known")
    arcface, cosine = ArcFaceClassifier(5, 4, margin=margin), CosineClassifier(5, 4)
    for classifier in (arcface, cosine):
        classifier.weight = nn.Parameter(rows)
    loss = influence_loss(embeddings, labels, arcface)
    assert loss == influence_loss(embeddings, labels, cosine)
    assert F.cross_entropy(arcface(embeddings, labels), labels) > loss + 0.1


@pytest.mark.parametrize("new_dim", [1, 3, 4, 5, 6, 12])
def test_other_sizes_are_those_cut_or_padded_by_hand(new_dim):
    embeddings, labels, rows = normal(6, new_dim), torch.arange(6) % 5, normal(4, 5, seed=1)
    by_hand = torch.zeros(6, 5)
    kept = min(new_dim, 5)
    by_hand[:, :kept] = embeddings[:, :kept]
    for old in (with_rows(kind, rows) for kind in KINDS):
        assert torch.equal(influence_loss(embeddings, labels, old), influence_loss(by_hand, labels, old))


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        set,
        iter,
        np.array,
        torch.tensor,
        lambda classes: torch.tensor(classes).to(torch.uint8),
        lambda classes: [np.int64(label) for label in classes],
        lambda classes: [torch.tensor(label) for label in classes],
    ],
)
def test_known_classes_may_be_labels_in_any_form(form):
    embeddings, labels, rows = batch("several classes")
    for classes in ([0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [3, 1]):
        expected, _ = loop_influence(embeddings, labels, rows, known=set(classes))
        for said in (classes, [*classes[::-1], classes[0]]):
            loss = influence_loss(embeddings, labels, rows, form(said))
            assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "form", [int, np.int64, np.uint8, torch.tensor, lambda number: torch.tensor(number, dtype=torch.int16)]
)
def test_known_classes_may_be_their_number_in_any_form(form):
    """A number n means the classes 0 … n − 1, also where it comes as a scalar array, and is never a label."""
    embeddings, labels, rows = batch("several classes")
    for number in range(5):
        expected, _ = loop_influence(embeddings, labels, rows, known=set(range(number)))
        loss = influence_loss(embeddings, labels, rows, form(number))
        assert float(loss) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_labels_and_known_classes_are_as_the_loop(data):
    rows = data.draw(st.integers(1, 5))
    labels = data.draw(st.lists(st.integers(0, 8), max_size=8))
    known = data.draw(st.sets(st.integers(0, rows - 1)))
    new_dim, old_dim = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    embeddings, weight = normal(len(labels), new_dim), normal(rows, old_dim, seed=1)
    expected, _ = loop_influence(embeddings, torch.tensor(labels), weight, known=known)
    loss = influence_loss(embeddings, torch.tensor(labels).long(), weight, known)
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float64, 1e-6)])
@pytest.mark.parametrize("kind", KINDS)
def test_other_float_types_of_embeddings_rows_and_modules_keep_to_the_formula(kind, dtype, tolerance):
    for name in BATCHES:
        embeddings, labels, rows = batch(name)
        embeddings, rows = embeddings.to(dtype), rows.to(dtype)
        expected, largest = loop_influence(embeddings, labels, rows, kind)
        olds = [rows, rows.float()] * (kind is LinearClassifier)
        for old in (*olds, with_rows(kind, rows), with_rows(kind, rows.float())):
            for entering in (embeddings, embeddings.float()):
                leaf = entering.clone().requires_grad_()
                loss = influence_loss(leaf, labels, old)
                loss.backward()
                assert loss.dtype == torch.float32
                assert leaf.grad.dtype == entering.dtype
                assert loss.item() == pytest.approx(expected, abs=tolerance * max(1.0, largest)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_tensor_of_rows_is_not_rounded_to_the_type_of_the_embeddings(dtype):
    embeddings, labels, rows = batch("several classes")
    expected, _ = loop_influence(embeddings.to(dtype), labels, rows)
    assert float(influence_loss(embeddings.to(dtype), labels, rows)) == pytest.approx(expected, rel=1e-6)
    assert abs(loop_influence(embeddings.to(dtype), labels, rows.to(dtype))[0] - expected) > 1e-5 * expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_integer_type_say_the_same(dtype):
    embeddings, labels, rows = batch("several classes")
    for known in (None, 2, [0, 3]):
        loss = influence_loss(embeddings, labels.to(dtype), rows, known)
        assert torch.equal(loss, influence_loss(embeddings, labels, rows, known))
    made = synthesize_classifier(embeddings, labels.to(dtype), 7, normal(6, 5))
    assert torch.equal(made, synthesize_classifier(embeddings, labels, 7, normal(6, 5)))


# Labels, classes, real rows.
CLASSIFIERS = {
    "no real row": ([0, 1, 2, 0, 1], 3, 0),
    "half of them real": ([0, 2, 3, 2, 3, 3, 1], 4, 2),
    "a sample": ([0], 1, 0),
    "an image a class": ([3, 1, 2, 0], 4, 1),
    "one class": ([2, 2, 2], 3, 2),
    "all real": ([0, 1, 0], 2, 2),
    "all real and no image": ([], 2, 2),
    "duplicated images": ([1, 1, 2, 2], 3, 1),
}
# Every family as it is, and two at other scales, among them those whose squares float32 does not hold.
ROW_CASES = [
    *((name, 1.0) for name in CLASSIFIERS),
    *(("half of them real", scale) for scale in (1e-6, 1e-30, 1e30)),
    *(("no real row", scale) for scale in (1e-30, 1e6)),
]


def old_model(name: str, scale: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """Old embeddings, labels, number of classes, real rows (possibly none)."""
    labels, classes, known = CLASSIFIERS[name]
    embeddings = scale * normal(len(labels), 5, seed=seed)
    if name == "duplicated images":
        embeddings[1::2] = embeddings[::2]
    return embeddings, torch.tensor(labels).long(), classes, normal(known, 5, seed=seed + 1000)


def loop_rows(embeddings, labels, classes: int, real, normalize: bool) -> torch.Tensor:
    images, rows = embeddings.double().tolist(), real.double().tolist()
    norms = [math.hypot(*row) for row in rows]
    wanted = sum(norms) / len(norms) if norms else 1.0
    for k in range(len(rows), classes):
        members = [image for image, label in zip(images, labels.tolist(), strict=True) if label == k]
        mean = [sum(member[j] for member in members) / len(members) for j in range(len(members[0]))]
        rows.append([value / math.hypot(*mean) * wanted for value in mean] if normalize else mean)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("name", "scale"), ROW_CASES)
def test_synthesised_rows_are_those_of_the_formula(name, scale, normalize):
    for seed in range(3):
        embeddings, labels, classes, real = old_model(name, scale, seed)
        rows = synthesize_classifier(embeddings, labels, classes, real, normalize)
        assert rows.dtype == torch.float32
        assert rows.shape == (classes, 5)
        assert torch.equal(rows[: len(real)], real)
        expected = loop_rows(embeddings, labels, classes, real, normalize)
        torch.testing.assert_close(rows.double(), expected, rtol=1e-6, atol=0)
        if not len(real):
            assert torch.equal(rows, synthesize_classifier(embeddings, labels, classes, None, normalize))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_rescaled_rows_take_the_length_of_real_rows_at_any_scale(scale, normalize):
    """The squares of the real rows' coordinates lie outside float32."""
    embeddings, labels, classes, real = old_model("half of them real")
    rows = synthesize_classifier(embeddings, labels, classes, scale * real, normalize)
    expected = loop_rows(embeddings, labels, classes, scale * real, normalize)
    torch.testing.assert_close(rows.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("normalize", [True, False])
def test_rows_of_other_float_types_are_averaged_in_double(normalize, dtype):
    """A mean of a thousand half floats that were summed as such would be off in the third digit."""
    for name in CLASSIFIERS:
        embeddings, labels, classes, real = old_model(name)
        embeddings, labels, real = embeddings.repeat(400, 1).to(dtype), labels.repeat(400), real.to(dtype)
        rows = synthesize_classifier(embeddings, labels, classes, real, normalize)
        assert rows.dtype == torch.float32
        expected = loop_rows(embeddings, labels, classes, real, normalize)
        torch.testing.assert_close(rows.double(), expected, rtol=1e-6, atol=1e-6)


def test_frozen_rows():
    embeddings = torch.tensor([[9.0, 9.0], [6.0, 0.0], [0.0, 8.0], [0.0, 2.0]])
    labels, real = torch.tensor([0, 1, 1, 2]), torch.tensor([[6.0, 8.0]])
    mean = synthesize_classifier(embeddings, labels, 3, real, normalize=False)
    assert mean.tolist() == [[6, 8], [3, 4], [0, 2]]
    assert synthesize_classifier(embeddings, labels, 3, real).tolist() == [[6, 8], [6, 8], [0, 10]]
    alone = synthesize_classifier(embeddings, labels, 3)
    torch.testing.assert_close(alone, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize("value", [-0.0, 1e-45, 3.4e38, 1 / 3])
def test_real_rows_are_copies_bit_for_bit(value):
    embeddings, labels, classes, real = old_model("half of them real")
    real[0, 0] = value
    for weight in (real, nn.Parameter(real)):
        rows = synthesize_classifier(embeddings, labels, classes, weight, normalize=False)
        assert torch.equal(rows[:2].view(torch.int32), real.view(torch.int32))
        assert not rows.requires_grad
        rows.zero_()
        assert real[0, 1] != 0


@pytest.mark.parametrize(("name", "scale"), ROW_CASES)
def test_rescaled_rows_point_as_the_means_and_are_as_long_as_the_real_ones_on_average(name, scale):
    embeddings, labels, classes, real = old_model(name, scale)
    means, rescaled = (
        synthesize_classifier(embeddings, labels, classes, real, normalize)[len(real) :].double()
        for normalize in (False, True)
    )
    length = float(real.norm(dim=1).mean()) if len(real) else 1.0
    for mean, row in zip(means, rescaled, strict=True):
        assert float(row.norm()) == pytest.approx(length, rel=1e-5)
        assert float(row @ mean) == pytest.approx(length * float(mean.norm()), rel=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_neither_the_order_of_images_nor_their_repetition_matters(name):
    embeddings, labels, classes, real = old_model(name)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).repeat(2)
    for normalize in (False, True):
        rows = synthesize_classifier(embeddings, labels, classes, real, normalize)
        again = synthesize_classifier(embeddings[order], labels[order], classes, real, normalize)
        torch.testing.assert_close(again, rows, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_means_scale_with_the_embeddings_and_rescaled_rows_do_not(name):
    embeddings, labels, classes, real = old_model(name)
    for normalize, factor in itertools.product((False, True), (2.0**-10, 4.0)):
        rows, moved = (
            synthesize_classifier(part, labels, classes, real, normalize)[len(real) :]
            for part in (embeddings, factor * embeddings)
        )
        torch.testing.assert_close(moved, rows if normalize else factor * rows)


@pytest.mark.parametrize("normalize", [True, False])
def test_rows_are_detached_from_embeddings_and_real_rows(normalize):
    embeddings, labels, classes, real = old_model("half of them real")
    expected = synthesize_classifier(embeddings, labels, classes, real, normalize)
    rows = synthesize_classifier(embeddings.requires_grad_(), labels, classes, real.requires_grad_(), normalize)
    assert not rows.requires_grad
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("normalize", [True, False])
def test_images_of_a_class_with_a_real_row_do_not_matter(normalize):
    embeddings, labels, classes, real = old_model("half of them real")
    others = torch.where((labels < 2)[:, None], 100.0, embeddings)
    rows = synthesize_classifier(embeddings, labels, classes, real, normalize)
    assert torch.equal(rows, synthesize_classifier(others, labels, classes, real, normalize))
    kept = labels >= 2
    assert torch.equal(rows, synthesize_classifier(embeddings[kept], labels[kept], classes, real, normalize))


def test_a_class_of_one_image_has_its_embedding_as_row():
    embeddings, labels, classes, real = old_model("an image a class")
    rows = synthesize_classifier(embeddings, labels, classes, real, normalize=False)
    assert torch.equal(rows[1:], embeddings[labels.argsort()][1:])


def test_with_synthesised_rows_every_sample_carries_the_loss():
    embeddings, labels, classes, real = old_model("half of them real")
    rows = synthesize_classifier(embeddings, labels, classes, real)
    new = normal(len(labels), 5, seed=5).requires_grad_()
    influence_loss(new, labels, rows).backward()
    assert (new.grad.abs().sum(dim=1) > 0).all()
    expected, _ = loop_influence(new.detach(), labels, rows)
    assert influence_loss(new, labels, rows).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("classifier", "named"),
    [
        (nn.Sequential(nn.Linear(5, 4)), "the old classifier is Sequential"),
        (nn.Conv2d(5, 4, 3), "the old classifier is Conv2d"),
        (torch.zeros(5), "the old classifier is Tensor"),
        (None, "the old classifier is NoneType"),
    ],
)
def test_what_is_no_old_classifier_is_refused(classifier, named):
    with pytest.raises(ValueError, match=re.escape(f"{named}; valid is a (classes, d) tensor, or a module whose")):
        influence_loss(normal(3, 5), torch.arange(3), classifier)


NO_KNOWN_CLASSES = {
    "more than rows": (5, "5"),
    "more than rows, of NumPy": (np.int64(5), "5"),
    "more than rows, in a tensor": (torch.tensor(5), "5"),
    "a negative number": (-1, "-1"),
    "a negative number of NumPy": (np.int64(-1), "-1"),
    "a negative number in a tensor": (torch.tensor(-1), "-1"),
    "a label without a row": ([4], "[4]"),
    "one of two without a row": ((0, 7), "[0, 7]"),
    "one without a row in an array": (np.array([0, 7]), "[0, 7]"),
    "one without a row in a tensor": (torch.tensor([0, 7]), "[0, 7]"),
    "a negative label": ([0, -1], "[0, -1]"),
    "yes": (True, "True"),
    "no": (False, "False"),
    "yes of NumPy": (np.True_, "np.True_"),
    "yes in a tensor": (torch.tensor(True), "True"),
    "yes in a list": ([True], "[True]"),
    "a mask": (torch.tensor([True, False]), "[True, False]"),
    "a float": (2.0, "2.0"),
    "a float of NumPy": (np.float32(2), "np.float32(2.0)"),
    "a float in a tensor": (torch.tensor(2.0), "2.0"),
    "floats": ([0.0, 1.0], "[0.0, 1.0]"),
    "floats in a tensor": (torch.tensor([1.0]), "[1.0]"),
    "not a number": (math.nan, "nan"),
    "a digit": ("2", "'2'"),
    "a text": ("all", "'all'"),
    "nothing in quotes": ("", "''"),
    "a complex number": (1j, "1j"),
}


@pytest.mark.parametrize(("known", "said"), NO_KNOWN_CLASSES.values(), ids=NO_KNOWN_CLASSES)
def test_what_are_no_known_classes_is_refused(known, said):
    message = f"known_classes is {said}; valid is a number from 0 to 4, or labels from 0 to 3, for which the old classi"
    with pytest.raises(ValueError, match=re.escape(message)):
        influence_loss(normal(3, 5), torch.arange(3), normal(4, 5), known)


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.zeros(3), torch.arange(3), "embeddings are torch.float32 of shape (3,); valid is float (n, d)"),
        (torch.ones(3, 5).long(), torch.arange(3), "embeddings are torch.int64 of shape (3, 5)"),
        (torch.zeros(3, 5), torch.arange(2), "labels are torch.int64 of shape (2,); valid is integer (3,)"),
        (torch.zeros(3, 5), torch.arange(3.0), "labels are torch.float32 of shape (3,); valid is integer (3,)"),
        (torch.zeros(3, 5), torch.ones(3).bool(), "labels are torch.bool of shape (3,); valid is integer (3,)"),
        (torch.zeros(3, 5), torch.arange(3) - 2, "label -2 is negative; labels count from 0"),
    ],
)
def test_a_wrong_batch_is_refused_by_loss_and_synthesis(embeddings, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        influence_loss(embeddings, labels, normal(4, 5))
    with pytest.raises(ValueError, match=re.escape(message)):
        synthesize_classifier(embeddings, labels, 3)


# One value is enough.
SPOILT = [torch.ones(4, 5).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(x)) for x in (math.nan, math.inf)]
# The two images of class 2 cancel out.
OPPOSITE = torch.tensor([[1.0] * 5, [1.0] * 5, [-1.0] * 5, [1.0] * 5])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 3}, "num_classes is 3; valid is a number ≥ 1 above the highest label, 3"),
        ({"num_classes": 0}, "num_classes is 0; valid is a number ≥ 1 above the highest label, 3"),
        ({"num_classes": -1}, "num_classes is -1; valid is a number ≥ 1"),
        (
            {"old_embeddings": normal(0, 5), "labels": torch.arange(0), "num_classes": 0, "old_weight": None},
            "num_classes is 0; valid is a number ≥ 1",
        ),
        (
            {"num_classes": 6},
            "classes [4, 5] have neither a row in the old classifier nor an image to make one of; give images of every",
        ),
        ({"labels": torch.tensor([0, 3, 3, 3])}, "classes [2] have neither a row"),
        ({"old_weight": normal(5, 5)}, "old_weight has shape (5, 5); valid is (known, 5) with known up to num_classes"),
        ({"old_weight": normal(2, 6)}, "old_weight has shape (2, 6); valid is (known, 5)"),
        ({"old_weight": normal(5)}, "old_weight has shape (5,); valid is (known, 5)"),
        ({"old_embeddings": torch.zeros(4, 5)}, "the mean old embedding of classes [2, 3] has length 0 and cannot be"),
        (
            {"old_embeddings": OPPOSITE},
            "the mean old embedding of classes [2] has length 0 and cannot be",
        ),
        ({"old_embeddings": OPPOSITE}, "whether the old model has collapsed, or take form B (normalize=False)"),
        *(({"old_embeddings": tensor}, "values that are not finite; no row can be made of them") for tensor in SPOILT),
        *(
            ({"old_embeddings": tensor, "normalize": False}, "old_embeddings hold values that are not finite")
            for tensor in SPOILT
        ),
    ],
)
def test_classifiers_that_cannot_be_synthesised_are_refused(wrong, message):
    good = {
        "old_embeddings": normal(4, 5),
        "labels": torch.tensor([0, 2, 2, 3]),
        "num_classes": 4,
        "old_weight": normal(2, 5),
    }
    with pytest.raises(ValueError, match=re.escape(message)):
        synthesize_classifier(**(good | wrong))


def test_a_mean_of_length_zero_is_a_row_of_form_b():
    rows = synthesize_classifier(torch.zeros(2, 3), torch.tensor([0, 1]), 2, normalize=False)
    assert rows.tolist() == [[0, 0, 0], [0, 0, 0]]


DIM, CLASSES, OLD_CLASSES, COUNT = 6, 4, 2, 24
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.05, warmup_epochs=1)
ONE_STEP = Recipe(epochs=1, batch_size=COUNT, learning_rate=0.1, weight_decay=0.0)


def images(noise: int = 256) -> ImageSet:
    """A class is a brightness, under noise of any strength."""
    labels = torch.arange(COUNT) % CLASSES
    pixels = torch.randint(0, noise, (COUNT, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    pixels += (labels * 60 * (noise < 256))[:, None, None, None]
    return ImageSet(pixels.clamp(0, 255).to(torch.uint8), labels, ("black", "dark", "grey", "bright"))


def models(kind=LinearClassifier, dim: int = DIM, classes: int = CLASSES, role: str = "new", seed: int = 0):
    backbone = initialised(lambda: small_resnet(widths=(8, 16), dim=dim), seed, role)
    return backbone, initialised(lambda: kind(dim, classes), seed, f"{role} classifier")


def old_classifier(kind=LinearClassifier, dim: int = DIM) -> nn.Module:
    return models(kind, dim, OLD_CLASSES, "old")[1]


def train(backbone, classifier, old=None, the_images=None, recipe=RECIPE, **options):
    options = {"seed": 0, "role": "new", "old_classifier": old_classifier() if old is None else old} | options
    return bct.fit(backbone, classifier, images() if the_images is None else the_images, recipe, **options)


def weights(*modules: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().double().cpu() for m in modules for tensor in m.state_dict().values()])


def influence_of(backbone, old, the_images) -> float:
    return float(influence_loss(embed(backbone, the_images), the_images.labels, copy.deepcopy(old).cpu()))


def values(fit, term: str) -> list[float]:
    return [row["value"] for row in fit.history if row["term"] == f"bct/{term}"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "old_dim", "weight"), [(6, 6, 1.0), (6, 3, 10.0), (3, 6, 0.5)])
def test_both_losses_are_those_of_their_formulas(weight, dim, old_dim, kind):
    """The new classifier applies its margin and the labels' smoothing, the old one neither."""
    backbone, classifier = models(kind, dim)
    old, whole = old_classifier(kind, old_dim), images()
    with torch.no_grad():
        embeddings = copy.deepcopy(backbone).train()(whole.images)
        own = F.cross_entropy(classifier(embeddings, whole.labels), whole.labels, label_smoothing=0.2)
    expected, _ = loop_influence(embeddings, whole.labels, old.weight.detach(), kind)
    options = {"recipe": ONE_STEP, "augment": unchanged, "label_smoothing": 0.2, "weight": weight}
    fit = train(backbone, classifier, old, **options)
    assert {row["term"] for row in fit.history} == {"bct/classification", "bct/influence"}
    assert values(fit, "classification") == [pytest.approx(float(own), rel=1e-4)]
    assert values(fit, "influence") == [pytest.approx(weight * expected, rel=1e-4)]


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_moves_down_the_gradient_of_the_sum(kind):
    recipe = Recipe(epochs=1, batch_size=COUNT, learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")
    pair, oracle, old, whole = models(kind), models(kind), old_classifier(kind), images()
    train(*pair, old, recipe=recipe, augment=unchanged, weight=3.0)
    embeddings, known = oracle[0](whole.images), whole.labels < OLD_CLASSES
    own = -oracle[1](embeddings, whole.labels).log_softmax(1)[torch.arange(COUNT), whole.labels].mean()
    through_old = old.cpu()(embeddings[known]).log_softmax(1)
    influence = -through_old[torch.arange(int(known.sum())), whole.labels[known]].mean()
    start = [parameter for module in oracle for parameter in module.parameters()]
    gradients = torch.autograd.grad(own + 3.0 * influence, start)
    trained = [parameter for module in pair for parameter in module.parameters()]
    for parameter, before, gradient in zip(trained, start, gradients, strict=True):
        torch.testing.assert_close(parameter.cpu(), before - 0.1 * gradient, atol=2e-5, rtol=1e-4)
        assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("nothing", "kind", "precision"),
    [
        *(({"weight": 0.0}, kind, "float32") for kind in KINDS),
        ({"weight": 0.0}, CosineClassifier, "bfloat16"),
        ({"weight": 3.0, "known_classes": 0}, ArcFaceClassifier, "float32"),
        ({"weight": 3.0, "known_classes": []}, LinearClassifier, "bfloat16"),
    ],
)
def test_without_influence_it_is_independent_training_bit_for_bit(nothing, kind, precision):
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    pair, alone = models(kind), models(kind)
    fit = train(*pair, old_classifier(kind), recipe=recipe, label_smoothing=0.1, **nothing)
    expected = independent.fit(*alone, images(), recipe, seed=0, role="new", label_smoothing=0.1)
    assert torch.equal(weights(*pair), weights(*alone))
    assert values(fit, "classification") == [row["value"] for row in expected.history]
    assert values(fit, "influence") == [0.0, 0.0]
    moved = models(kind)
    train(*moved, old_classifier(kind), recipe=recipe, label_smoothing=0.1)
    assert not torch.equal(weights(*moved), weights(*alone))


class Whitened(LinearClassifier):
    """A linear classifier with statistics of its own, which training mode would change."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__(dim, classes)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, embeddings, labels=None):
        return super().forward(self.norm(embeddings))


@pytest.mark.parametrize("kind", [*KINDS, Whitened])
def test_the_old_classifier_stays_bit_for_bit_and_in_eval_mode(kind):
    old = old_classifier(kind).train()
    before = copy.deepcopy(old.state_dict())
    train(*models(), old)
    assert not any(module.training for module in old.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in old.parameters())
    assert all(torch.equal(tensor.cpu(), before[name]) for name, tensor in old.state_dict().items())


@pytest.mark.parametrize("form", ["A", "B", "C"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_leaves_the_whole_old_model_as_it_was(kind, form):
    whole = images(noise=60)
    old_backbone, old = models(kind, classes=OLD_CLASSES, role="old")
    independent.fit(old_backbone, old, whole.select(whole.labels < OLD_CLASSES), RECIPE, seed=0, role="old")
    before = weights(old_backbone, old)
    extended = old
    if form != "A":
        rows = synthesize_classifier(
            embed(old_backbone, whole), whole.labels, CLASSES, old.weight, normalize=form == "C"
        )
        extended = copy.deepcopy(old)
        extended.weight = nn.Parameter(rows)
    pair = models(kind)
    fit = train(*pair, extended, whole)
    assert torch.equal(weights(old_backbone, old), before)
    assert torch.equal(extended.weight[:OLD_CLASSES].cpu(), old.weight.cpu())
    assert not any(module.training for part in (old_backbone, old, extended, *pair) for module in part.modules())
    assert all(math.isfinite(value) for value in values(fit, "influence"))


@pytest.mark.parametrize(
    ("kind", "dim", "old_dim"), [(LinearClassifier, 6, 6), (CosineClassifier, 6, 3), (ArcFaceClassifier, 3, 6)]
)
def test_influence_draws_new_embeddings_to_the_old_classifier(dim, old_dim, kind):
    recipe = Recipe(epochs=10, batch_size=8, learning_rate=0.02)
    # Every old class lies along coordinates of its own, where non-negative embeddings can go.
    easy, old, after = images(noise=40), with_rows(kind, torch.eye(OLD_CLASSES).repeat(1, old_dim)[:, :old_dim]), {}
    for weight in (0.0, 3.0):
        pair = models(kind, dim)
        fit = train(*pair, old, easy, recipe, weight=weight)
        after[weight] = influence_of(pair[0], old, easy)
    assert values(fit, "influence")[-1] < 0.9 * values(fit, "influence")[0]
    assert after[3.0] < 0.8 * after[0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_influence_is_linear_in_its_weight(kind):
    def first_step(weight):
        fit = train(*models(kind), old_classifier(kind), recipe=ONE_STEP, weight=weight)
        return values(fit, "classification")[0], values(fit, "influence")[0]

    own, influence = first_step(1.0)
    assert influence > 0
    for weight in (0.0, 0.25, 2.0, 8.0):
        assert first_step(weight) == (own, weight * influence)


def test_the_old_margin_is_not_applied_in_training():
    cosine, arcface = old_classifier(CosineClassifier), ArcFaceClassifier(DIM, OLD_CLASSES, margin=1.2)
    arcface.load_state_dict(cosine.state_dict())
    pairs = models(), models()
    fits = [train(*pair, old) for pair, old in zip(pairs, (cosine, arcface), strict=True)]
    assert fits[0].history == fits[1].history
    assert torch.equal(weights(*pairs[0]), weights(*pairs[1]))


def test_known_classes_in_any_form_train_the_same_model():
    """An iterator too, which a batch alone would use up."""
    forms = (1, np.int64(1), torch.tensor(1), {0}, iter([0]), torch.tensor([0]))
    trained = []
    for known in forms:
        pair = models()
        train(*pair, known_classes=known)
        trained.append(weights(*pair))
    assert all(torch.equal(trained[0], other) for other in trained[1:])
    by_default = models()
    train(*by_default)
    assert not torch.equal(trained[0], weights(*by_default))


def test_images_are_shifted_and_mirrored_unless_told_otherwise():
    pairs = models(), models(), models()
    train(*pairs[0])
    train(*pairs[1], augment=crop_and_flip)
    train(*pairs[2], augment=unchanged)
    assert torch.equal(weights(*pairs[0]), weights(*pairs[1]))
    assert not torch.equal(weights(*pairs[0]), weights(*pairs[2]))


@pytest.mark.parametrize(("stop_at", "precision"), [(2, "float32"), (3, "bfloat16"), (5, "float32")])
def test_an_interrupted_upgrade_ends_with_the_same_weights(tmp_path, stop_at, precision):
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05, precision=precision)
    whole, interrupted, resumed = models(), models(), models(seed=1)
    expected = train(*whole, recipe=recipe)
    taken = []

    def report(share, text):
        taken.append(share)
        if len(taken) == stop_at:
            raise KeyboardInterrupt

    options = {"recipe": recipe, "checkpoint": tmp_path / "run", "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train(*interrupted, report=report, **options)
    assert read_tensors(tmp_path / "run")[1]["step"] == stop_at - 1
    assert train(*resumed, **options).history == expected.history
    assert torch.equal(weights(*whole), weights(*resumed))


def test_a_term_out_of_range_is_refused_before_training():
    pair = models()
    before = weights(*pair)
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"compatibility term's weight must be finite and ≥ 0, got {weight}"):
            train(*pair, weight=weight)
    for smoothing in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"label_smoothing must lie in \[0, 1\), got {smoothing}"):
            train(*pair, label_smoothing=smoothing)
    assert torch.equal(weights(*pair), before)


@pytest.mark.parametrize("name", ["the new classifier", "rows", "a parameter", "a function", "nothing"])
def test_an_old_classifier_that_is_no_module_of_its_own_is_refused_before_training(name):
    """Rows alone are enough for the loss, but cannot be put on a device; the new classifier would be frozen."""
    pair, old = models(), old_classifier()
    others = {
        "the new classifier": pair[1],
        "rows": old.weight.detach(),
        "a parameter": old.weight,
        "a function": old.forward,
        "nothing": None,
    }
    before = weights(*pair)
    message = "old_classifier must be a module of its own, apart from the new classifier; copy it, or wrap rows"
    with pytest.raises(ValueError, match=message):
        train(*pair, old_classifier=others[name])
    assert torch.equal(weights(*pair), before)
    assert all(parameter.requires_grad for part in pair for parameter in part.parameters())


def test_a_copy_of_the_new_classifier_may_be_the_old_one():
    pair = models()
    old, before = copy.deepcopy(pair[1]), weights(pair[1])
    train(*pair, old)
    assert torch.equal(weights(old), before)
    assert not torch.equal(weights(pair[1]), before)


def test_labels_and_known_classes_without_a_row_are_refused_before_training():
    pair = models()
    before = weights(*pair)
    with pytest.raises(ValueError, match="label 3 has no row in a classifier of 3 classes; give it a row"):
        train(pair[0], LinearClassifier(DIM, 3))
    for known in (3, -1, 1.0, [2], "all"):
        said = re.escape(f"known_classes is {known!r}; valid is a number from 0 to 2, or labels from 0 to 1")
        with pytest.raises(ValueError, match=said):
            train(*pair, known_classes=known)
    with pytest.raises(ValueError, match="the old classifier is Sequential; valid is"):
        train(*pair, nn.Sequential(old_classifier()))
    with pytest.raises(ValueError, match="training set is empty"):
        train(*pair, the_images=images().select(torch.arange(0)))
    with pytest.raises(TypeError, match="chekpoint"):
        train(*pair, chekpoint="run")
    assert torch.equal(weights(*pair), before)


# Form D.


def drawn_old_model(seed: int, known: int = 9, classes: int = 14, dim: int = 5, noise: float = 0.3):
    """Old embeddings around a centre for every class, and rows that follow from the centres by a map and some noise."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    labels = torch.arange(12 * classes) % classes
    embeddings = drawn(len(labels), dim) + 2 * drawn(classes, dim)[labels] + 3
    means = torch.stack([embeddings[labels == label].mean(dim=0) for label in range(classes)])
    rows = (means[:known] @ drawn(dim, dim) + 1 + noise * drawn(known, dim)).float()
    return embeddings, labels, means, rows


@pytest.mark.parametrize("noise", [0.0, 0.3, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_rows_of_form_d_are_those_of_the_ridge_that_leaves_one_class_out_best(seed, noise):
    """An oracle that fits every ridge anew for every class left out; α in the whole fit's singular values."""
    embeddings, labels, means, rows = drawn_old_model(seed, noise=noise)
    x, y = means[: len(rows)].numpy(), rows.double().numpy()
    scale = np.mean(np.linalg.svd(x - x.mean(axis=0))[1] ** 2)
    errors = []
    for strength in RIDGE_STRENGTHS:
        others = [(np.delete(x, i, axis=0), np.delete(y, i, axis=0)) for i in range(len(x))]
        fits = [Ridge(alpha=strength * scale).fit(*each) for each in others]
        errors.append(np.mean([(fit.predict(x[i : i + 1]) - y[i]) ** 2 for i, fit in enumerate(fits)]))
    best = Ridge(alpha=RIDGE_STRENGTHS[int(np.argmin(errors))] * scale).fit(x, y)
    found = ridge_classifier(embeddings, labels, len(means), rows)
    assert torch.equal(found[: len(rows)], rows)
    np.testing.assert_allclose(
        found[len(rows) :].numpy(), best.predict(means[len(rows) :].numpy()), rtol=1e-4, atol=1e-4
    )


def test_where_rows_follow_from_means_form_d_finds_them_and_forms_b_and_c_do_not():
    embeddings, labels, means, _ = drawn_old_model(0)
    matrix = torch.linalg.qr(means[:5])[0]
    rows = (means @ matrix - 2).float()
    found = ridge_classifier(embeddings, labels, len(means), rows[:9], strengths=(1e-9,))
    torch.testing.assert_close(found, rows, rtol=1e-4, atol=1e-3)
    for normalize in (False, True):
        other = synthesize_classifier(embeddings, labels, len(means), rows[:9], normalize)
        assert (other[9:] - rows[9:]).norm() > 10 * (found[9:] - rows[9:]).norm()


def test_form_d_without_a_missing_class_is_the_old_classifier():
    embeddings, labels, means, _ = drawn_old_model(1)
    rows = torch.randn(len(means), 5)
    assert torch.equal(ridge_classifier(embeddings, labels, len(means), rows), rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"old_weight": torch.ones(2, 5)}, "has 2 rows; a ridge map needs 3 known classes or more"),
        ({"old_weight": torch.ones(9, 4)}, r"old_weight has shape \(9, 4\)"),
        ({"strengths": ()}, r"strengths are \(\)"),
        ({"strengths": (1.0, 0.0)}, r"strengths are \(1.0, 0.0\); valid are positive numbers"),
        ({"num_classes": 15}, r"classes \[14\] have neither a row in the old classifier nor an image"),
        ({"old_embeddings": torch.ones(168, 5)}, "of all known classes are one and the same: the old model has coll"),
    ],
)
def test_what_no_ridge_map_can_be_fitted_to_is_refused(changes, message):
    embeddings, labels, means, rows = drawn_old_model(0)
    given = {"old_embeddings": embeddings, "labels": labels, "num_classes": len(means), "old_weight": rows}
    with pytest.raises(ValueError, match=message):
        ridge_classifier(**given | changes)
