"""Classifiers against explicit loops."""

import math

import pytest
import torch
from torch.nn import functional as F

from compatlib.models.classifiers import ArcFaceClassifier, CosineClassifier, LinearClassifier


def embeddings(count=12, dim=6, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


LABELS = torch.arange(12) % 5


def test_linear_is_the_inner_product_with_every_row():
    classifier = LinearClassifier(6, 5)
    logits = classifier(embeddings(), LABELS).detach()
    for i, embedding in enumerate(embeddings()):
        for k in range(5):
            assert float(logits[i, k]) == pytest.approx(float(embedding @ classifier.weight[k].detach()), abs=1e-5)
    assert not hasattr(classifier, "bias")


def test_cosine_does_not_depend_on_lengths_and_stays_within_its_scale():
    classifier = CosineClassifier(6, 5, scale=10)
    logits = classifier(embeddings())
    torch.testing.assert_close(logits, classifier(embeddings() * 7))
    assert logits.abs().max() <= 10


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.2])
def test_arcface_follows_its_definition(seed, margin):
    classifier = ArcFaceClassifier(6, 5, scale=8, margin=margin)
    logits = classifier(embeddings(seed=seed), LABELS).detach()
    for i, embedding in enumerate(embeddings(seed=seed)):
        for k in range(5):
            cosine = float(F.cosine_similarity(embedding, classifier.weight[k].detach(), dim=0))
            angle = math.acos(cosine)
            if k == int(LABELS[i]):
                beyond = angle + margin > math.pi
                cosine = cosine - margin * math.sin(math.pi - margin) if beyond else math.cos(angle + margin)
            assert float(logits[i, k]) == pytest.approx(8 * cosine, abs=1e-3)


def test_arcface_without_labels_or_margin_is_cosine():
    classifier = ArcFaceClassifier(6, 5, margin=0.3)
    plain = CosineClassifier(6, 5)
    plain.load_state_dict(classifier.state_dict())
    torch.testing.assert_close(classifier(embeddings()), plain(embeddings()))
    classifier.margin = 0.0
    torch.testing.assert_close(classifier(embeddings(), LABELS), plain(embeddings()), atol=1e-5, rtol=1e-5)


def test_arcface_has_finite_gradients_where_an_embedding_lies_on_its_row():
    classifier = ArcFaceClassifier(6, 5)
    aligned = classifier.weight[LABELS].detach().clone().requires_grad_()
    F.cross_entropy(classifier(aligned, LABELS), LABELS).backward()
    assert torch.isfinite(aligned.grad).all()
    assert torch.isfinite(classifier.weight.grad).all()


KINDS = (LinearClassifier, CosineClassifier, ArcFaceClassifier)


def twins(kind, seed):
    """The same rows, with logits as autocast has them and in full precision."""
    torch.manual_seed(seed)
    usual, full = kind(40, 5), kind(40, 5, full_precision=True)
    full.load_state_dict(usual.state_dict())
    return usual, full


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("labels", [None, LABELS])
def test_in_full_precision_autocast_changes_no_logit_and_no_gradient(kind, seed, labels):
    usual, full = twins(kind, seed)
    inputs = embeddings(dim=40, seed=seed)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, exact = usual(inputs, labels), full(inputs, labels)
    expected = usual(inputs, labels)
    assert {each.dtype for each in (rounded, exact, expected)} == {torch.float32}
    assert torch.equal(exact, expected)
    assert torch.equal(full(inputs, labels), expected)
    assert not torch.equal(rounded, expected)
    torch.testing.assert_close(rounded, expected, rtol=0.05, atol=0.2)
    (found,), (wanted,) = (
        torch.autograd.grad(each.square().sum(), own.weight) for each, own in ((exact, full), (expected, usual))
    )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_full_precision_an_embedding_is_taken_as_it_comes(kind, dtype):
    usual, full = twins(kind, 0)
    inputs = embeddings(dim=40).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = full(inputs, LABELS)
    assert torch.equal(found, usual(inputs.float(), LABELS))


@pytest.mark.parametrize("kind", KINDS)
def test_without_full_precision_the_product_is_autocasts(kind):
    """As every model before was trained."""
    usual, _ = twins(kind, 0)
    inputs = embeddings(dim=40)
    with torch.autocast("cpu", torch.bfloat16):
        found = usual(inputs)
        if kind is LinearClassifier:
            expected = F.linear(inputs, usual.weight).float()
        else:
            expected = 16 * F.linear(F.normalize(inputs), F.normalize(usual.weight)).float().clamp(-1, 1)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_precision_is_no_part_of_the_weights(kind):
    usual, full = twins(kind, 0)
    assert list(full.state_dict()) == list(usual.state_dict()) == ["weight"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_a_margin_takes_labels_of_every_type_of_integers(dtype):
    torch.manual_seed(0)
    classifier, inputs = ArcFaceClassifier(6, 5), embeddings()
    assert torch.equal(classifier(inputs, LABELS.to(dtype)), classifier(inputs, LABELS))


@pytest.mark.parametrize("scale", [0, -1, math.inf, math.nan])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match=f"scale of the logits must be finite and positive, got {scale}"):
        CosineClassifier(6, 5, scale=scale)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="classes ≥ 1, got 6 and 0"):
        LinearClassifier(6, 0)
    with pytest.raises(ValueError, match="margin"):
        ArcFaceClassifier(6, 5, margin=2)
