"""Statistics of gradients: means over an epoch's steps, against plain loops over the steps that were seen."""

import itertools

import pytest
import torch
from torch import nn

from compatlib.data.images import ImageSet
from compatlib.methods import sfsc
from compatlib.methods.conflicts import conflict_weights
from compatlib.methods.sfsc import Step
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.models.slimmable import Slimmable
from compatlib.study.lab.gradient_statistics import GradientStatistics
from compatlib.training import Recipe, initialised

NAMES, TENSORS, EPOCHS, STEPS = ("1.0", "0.5", "0.25"), ("a", "b"), 3, 4


def steps(seed: int, is_projected: bool) -> list[tuple[list[torch.Tensor], Step]]:
    """Steps of drawn gradients, half of them pushed apart: (one matrix a tensor, what the method tells of them)."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(EPOCHS * STEPS):
        gradients = [torch.randn(len(NAMES), size, generator=random) for size in (5, 7)]
        grams = torch.stack([each @ each.T for each in gradients])
        weights = conflict_weights(grams.sum(dim=0), random) if is_projected else torch.eye(len(NAMES))
        uncertainty = dict(zip(NAMES, torch.rand(len(NAMES), generator=random).tolist(), strict=True))
        found.append((gradients, Step(NAMES, grams, weights, uncertainty)))
    return found


def filled(seen) -> GradientStatistics:
    statistics = GradientStatistics(NAMES, TENSORS, EPOCHS, STEPS)
    for _, step in seen:
        statistics(step)
    return statistics


@pytest.mark.parametrize("is_projected", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_what_a_loop_over_the_whole_gradients_counts(seed, is_projected):
    seen = steps(seed, is_projected)
    statistics = filled(seen)
    for epoch in range(EPOCHS):
        own = seen[epoch * STEPS : (epoch + 1) * STEPS]
        whole = [torch.cat(gradients, dim=1) for gradients, _ in own]
        updates = [step.weights.sum(dim=0) @ each for each, (_, step) in zip(whole, own, strict=True)]
        hurts = [[bool(update @ each[i] < 0) for i in range(3)] for update, each in zip(updates, whole, strict=True)]
        for i in range(3):
            close(statistics.norm[epoch, i], [each[i].norm() for each in whole])
            close(statistics.uncertainty[epoch, i], [step.uncertainty[NAMES[i]] for _, step in own])
            close(statistics.hurt[epoch, i], [float(each[i]) for each in hurts])
        close(statistics.hurt_any[epoch], [float(any(each)) for each in hurts])
        for i, j in itertools.combinations(range(3), 2):
            close(statistics.cosine[epoch, i, j], [torch.cosine_similarity(each[i], each[j], dim=0) for each in whole])
            close(statistics.conflicts[epoch, i, j], [float(each[i] @ each[j] < 0) for each in whole])
            for tensor in range(2):
                shares = [float(gradients[tensor][i] @ gradients[tensor][j] < 0) for gradients, _ in own]
                close(statistics.tensor_conflicts[epoch, tensor, i, j], shares)


def close(found: torch.Tensor, values: list) -> None:
    torch.testing.assert_close(found, torch.tensor([float(each) for each in values]).mean(), atol=1e-5, rtol=1e-4)


def test_an_epoch_under_way_is_the_mean_of_its_steps_and_one_not_begun_is_undefined():
    seen = steps(0, is_projected=False)
    statistics = filled(seen[: STEPS + 1])
    torch.testing.assert_close(statistics.norm[1], seen[STEPS][1].gram.diagonal().sqrt())
    assert statistics.norm[2].isnan().all()


def test_a_gradient_of_nothing_has_no_direction():
    gram = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    statistics = GradientStatistics(NAMES[:2], ("a",), 1, 1)
    statistics(Step(NAMES[:2], gram[None], torch.eye(2), dict.fromkeys(NAMES[:2], 0.5)))
    assert statistics.cosine[0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert not statistics.conflicts.any()
    assert not statistics.hurt.any()


def test_other_objectives_are_refused():
    statistics = GradientStatistics(NAMES[:2], TENSORS, EPOCHS, STEPS)
    with pytest.raises(ValueError, match=r"objectives are .*, announced were"):
        statistics(steps(0, is_projected=False)[0][1])


class KilledError(Exception):
    pass


def test_a_training_that_was_killed_goes_on_with_what_it_had_counted(tmp_path):
    recipe = Recipe(epochs=EPOCHS, batch_size=8, learning_rate=0.1)
    pixels = torch.randint(0, 256, (8 * STEPS, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(8 * STEPS) % 4, tuple("abcd"))

    def trained(checkpoint=None, stop_at=None) -> GradientStatistics:
        def make():
            return nn.ModuleList(
                [Slimmable(small_resnet(widths=(8, 8), dim=6), (0.25, 0.5, 1.0)), LinearClassifier(6, 4)]
            )

        network, classifier = initialised(make, 0, "switchable")
        shared = [str(place) for place in range(len(network.shared_parameters()) + 1)]
        statistics = GradientStatistics(NAMES, tuple(shared), EPOCHS, STEPS)

        def report(share, text):
            if stop_at is not None and share >= stop_at:
                raise KilledError

        options = {"loss": "triplet", "checkpoint": checkpoint, "checkpoint_seconds": 0.0, "report": report}
        sfsc.fit(network, classifier, images, recipe, seed=0, on_step=statistics, **options)
        return statistics

    expected = trained().state_dict()
    assert expected["_conflicts"].any()
    with pytest.raises(KilledError):
        trained(tmp_path / "checkpoint", 0.5)
    found = trained(tmp_path / "checkpoint").state_dict()
    assert int(found["_taken"]) == EPOCHS * STEPS
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
