"""Heads on features: the formula, signs, what is refused, training, and widths."""

import math

import pytest
import torch
from torch import nn

from compatlib import training
from compatlib.data.augment import view_with_noise
from compatlib.methods import independent
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.heads import feature_head
from compatlib.models.resnet import HEADS
from compatlib.models.slimmable import Slimmable


def made(head="relu_pool", size=10, hidden=12, dim=8, seed=0):
    torch.manual_seed(seed)
    return feature_head(torch.randn(size), torch.rand(size) + 0.5, hidden=hidden, dim=dim, head=head)


@pytest.mark.parametrize("head", HEADS)
def test_embedding_is_the_formula_written_out(head):
    network, features = made(head).eval(), torch.randn(7, 10, dtype=torch.float64)
    first, norm, _ = network.trunk
    last, last_norm = network.head[:2]

    def normed(x, part):
        return (x - part.running_mean) / torch.sqrt(part.running_var + part.eps) * part.weight + part.bias

    for row, found in zip(features, network(features), strict=True):
        standardised = (row.float() - network.mean) / network.deviation
        hidden = normed(first.weight @ standardised, norm).clamp(min=0)
        expected = normed(last.weight @ hidden, last_norm)
        torch.testing.assert_close(found, expected.clamp(min=0) if head == "relu_pool" else expected)


def test_relu_pool_is_non_negative_and_linear_bn_is_signed():
    features = torch.randn(200, 10)
    assert {head: bool((made(head)(features) < 0).any()) for head in HEADS} == {"relu_pool": False, "linear_bn": True}


def test_of_stored_views_the_first_is_embedded():
    network, features = made().eval(), torch.randn(5, 3, 10).half()
    torch.testing.assert_close(network(features), network(features[:, 0].float()))
    assert network(features).dtype == torch.float32


def test_scale_and_offset_of_features_do_not_count():
    """Where the mean and the deviation are those of the features."""
    features, scale, offset = torch.randn(50, 10), torch.rand(10) + 0.1, torch.randn(10)
    torch.manual_seed(0)
    plain = feature_head(features.mean(0), features.std(0))
    torch.manual_seed(0)
    other = feature_head((features * scale + offset).mean(0), features.std(0) * scale)
    torch.testing.assert_close(other(features * scale + offset), plain(features), rtol=1e-3, atol=1e-4)


def test_a_feature_that_never_varies_is_left_as_it_is():
    network = feature_head(torch.zeros(3), torch.tensor([1.0, 0.0, 2.0]))
    assert network.deviation.tolist() == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_learns_classes_of_noisy_features(head):
    """Ten clusters; the embeddings' nearest mean tells the class of new items, which a coin of ten sides does not."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 20, generator=generator)
    labels = torch.arange(400) % 10

    def drawn():
        return (centres[labels] + 0.7 * torch.randn(400, 20, generator=generator))[:, None]

    train = Stored(drawn(), labels)
    torch.manual_seed(0)
    network = feature_head(train.features[:, 0].mean(0), train.features[:, 0].std(0), hidden=32, dim=16, head=head)
    classifier = LinearClassifier(16, 10)
    recipe = training.Recipe(epochs=8, batch_size=50, learning_rate=0.1)
    independent.fit(network, classifier, images=train, recipe=recipe, seed=0, role="new", augment=view_with_noise)
    with torch.no_grad():
        means = torch.stack([network(train.features[labels == each]).mean(0) for each in range(10)])
        found = torch.cdist(network(drawn()), means).argmin(1)
    assert (found == labels).float().mean() > 0.8


class Stored:
    """Features in memory."""

    def __init__(self, features, labels):
        self.features, self.labels, self.class_names = features, labels, tuple("abcdefghij")

    def __len__(self):
        return len(self.labels)

    def batch(self, indices):
        return self.features[indices], self.labels[indices]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_a_switchable_head_slices_the_hidden_layer_alone(head, width):
    network = Slimmable(made(head, hidden=16), (0.25, 0.5, 1.0), image_size=(10,)).eval()
    features, used = torch.randn(6, 10), round(16 * width)
    alone = network.extract(width)
    torch.testing.assert_close(alone(features), network.switch(width)(features))
    assert [part.weight.shape for part in alone.modules() if isinstance(part, nn.Linear)] == [(used, 10), (8, used)]
    assert alone(features).shape == (6, 8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": "linear"}, "unknown head 'linear'; choose one of"),
        ({"hidden": 0}, "at least 1, got hidden 0 and dim 128"),
        ({"dim": 0}, "at least 1, got hidden 256 and dim 0"),
        ({"mean": torch.zeros(2, 3)}, r"of one size, got \(2, 3\) and \(3,\)"),
        ({"deviation": torch.ones(4)}, r"of one size, got \(3,\) and \(4,\)"),
        ({"mean": torch.tensor([0.0, math.nan, 0.0])}, "needs a finite mean"),
        ({"deviation": torch.tensor([1.0, -1.0, 1.0])}, "a deviation ≥ 0"),
        ({"mean": torch.zeros(0), "deviation": torch.zeros(0)}, r"got \(0,\) and \(0,\)"),
    ],
)
def test_impossible_arguments_are_refused(changes, words):
    arguments = {"mean": torch.zeros(3), "deviation": torch.ones(3)} | changes
    mean, deviation = arguments.pop("mean"), arguments.pop("deviation")
    with pytest.raises(ValueError, match=words):
        feature_head(mean, deviation, **arguments)
