"""Side-information: SimCLR's loss against a loop and its properties, and both unsupervised trainings."""

import math

import pytest
import torch

from compatlib.data.images import ImageSet
from compatlib.methods import side_information
from compatlib.methods.side_information import nt_xent
from compatlib.models.resnet import small_resnet
from compatlib.training import Recipe

FAMILIES = [(n, d, scale, seed) for n, d in ((2, 1), (3, 4), (8, 5)) for scale in (1e-3, 1.0, 1e3) for seed in range(3)]


def pair(n: int, d: int, scale: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    first, second = (scale * torch.randn(n, d, generator=random, dtype=torch.float64) for _ in range(2))
    return first, second


def by_loops(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    views = [row / row.norm() for row in (*first, *second)]
    total, n = 0.0, len(first)
    for i, own in enumerate(views):
        scores = [math.exp(float(own @ other) / temperature) for other in views]
        total -= math.log(scores[(i + n) % (2 * n)] / sum(score for k, score in enumerate(scores) if k != i))
    return total / len(views)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_its_formula(family, temperature):
    views = pair(*family)
    assert float(nt_xent(*views, temperature)) == pytest.approx(by_loops(*views, temperature), rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_nt_xent_does_not_know_lengths_nor_which_view_is_first_nor_the_order(family):
    first, second = pair(*family)
    loss = float(nt_xent(first, second, 0.5))
    assert float(nt_xent(second, first, 0.5)) == pytest.approx(loss, rel=1e-9)
    assert float(nt_xent(7 * first, second / 3, 0.5)) == pytest.approx(loss, rel=1e-9)
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(9))
    assert float(nt_xent(first[order], second[order], 0.5)) == pytest.approx(loss, rel=1e-9)


def test_nt_xent_of_views_that_are_all_alike_is_that_of_a_guess():
    alike = torch.ones(5, 3)
    assert float(nt_xent(alike, alike, 0.5)) == pytest.approx(math.log(9), rel=1e-6)


def test_nt_xent_falls_as_the_views_of_an_image_meet():
    axes = torch.eye(4)
    apart = axes.roll(1, 0)
    losses = [float(nt_xent(axes, torch.lerp(apart, axes, share), 0.2)) for share in (0.0, 0.5, 1.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1 < 5 < losses[0]


@pytest.mark.parametrize(
    ("first", "second", "temperature", "words"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), 0.5, r"shapes \(3, 2\) and \(4, 2\)"),
        (torch.ones(1, 2), torch.ones(1, 2), 0.5, "of two images or more"),
        (torch.ones(3), torch.ones(3), 0.5, "of two images or more"),
        (torch.ones(3, 2), torch.ones(3, 2).double(), 0.5, "types torch.float32 and torch.float64"),
        (torch.ones(3, 2), torch.ones(3, 2), 0.0, "the temperature must be finite and positive, got 0.0"),
        (torch.ones(3, 2), torch.ones(3, 2), math.inf, "got inf"),
        (torch.ones(3, 2), torch.ones(3, 2), math.nan, "got nan"),
    ],
)
def test_nt_xent_refuses_what_it_cannot_take(first, second, temperature, words):
    with pytest.raises(ValueError, match=words):
        nt_xent(first, second, temperature)


def images(count: int = 32, side: int = 8, channels: int = 3) -> ImageSet:
    """Flat images of random colours, which a view keeps for the most part."""
    random = torch.Generator().manual_seed(1)
    colours = torch.randint(0, 256, (count, channels, 1, 1), dtype=torch.uint8, generator=random)
    return ImageSet(colours.expand(-1, -1, side, side).clone(), torch.zeros(count).long(), ("a",))


RECIPE = Recipe(epochs=6, batch_size=16, optimizer="adam", learning_rate=1e-2, weight_decay=0.0)


@pytest.mark.parametrize("kind", ["simclr", "autoencoder"])
def test_both_kinds_learn_without_labels_and_repeatably(kind):
    fit, states = getattr(side_information, f"fit_{kind}"), []
    for labels in (torch.zeros(32), torch.arange(32) % 2):
        torch.manual_seed(0)
        backbone = small_resnet(widths=(8, 8), dim=6)
        before = backbone.state_dict()["head.0.weight"].clone()
        given = images()
        outcome = fit(backbone, ImageSet(given.images, labels.long(), ("a", "b")), RECIPE, seed=3)
        losses = [row["value"] for row in outcome.history]
        assert {row["term"] for row in outcome.history} == {kind}
        assert losses[-1] < losses[0]
        assert not torch.equal(before, backbone.state_dict()["head.0.weight"])
        assert not backbone.training
        states.append({name: value.clone() for name, value in backbone.state_dict().items()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_an_autoencoder_draws_images_of_their_shape():
    decoder = side_information._decoder(6, (1, 12, 8))
    assert decoder(torch.rand(2, 6)).shape == (2, 1, 12, 8)
    with pytest.raises(ValueError, match="images are 10 × 8 pixels; an autoencoder takes multiples of 4"):
        side_information._decoder(6, (3, 10, 8))
