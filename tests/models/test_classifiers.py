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


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="classes ≥ 1, got 6 and 0"):
        LinearClassifier(6, 0)
    with pytest.raises(ValueError, match="scale"):
        CosineClassifier(6, 5, scale=0)
    with pytest.raises(ValueError, match="margin"):
        ArcFaceClassifier(6, 5, margin=2)
