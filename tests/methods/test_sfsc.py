"""SFSC's training: what is yielded, how gradients become one, and that the baselines are what they are named after."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.checkpoints import read_tensors, write_tensors
from compatlib.data.augment import unchanged
from compatlib.data.images import ImageSet
from compatlib.methods import sfsc
from compatlib.methods.bct_baselines import hardest_triplet
from compatlib.methods.sfsc import conflict_weights, evidential_loss, full_conflict_weights, uncertainty
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import Backbone, small_resnet
from compatlib.models.slimmable import Slimmable, SwitchableBatchNorm
from compatlib.training import Recipe, initialised

WIDTHS = (0.25, 0.5, 1.0)
ONE_STEP = Recipe(epochs=1, batch_size=8, learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")


def image_set(count: int = 8) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, torch.arange(count) % 4, tuple("abcd"))


def parts(batch_norm: bool = True) -> tuple[Slimmable, LinearClassifier]:
    def make():
        backbone = small_resnet(widths=(8, 8), dim=6) if batch_norm else without_norm()
        return nn.ModuleList([Slimmable(backbone, WIDTHS), LinearClassifier(6, 4)])

    network, classifier = initialised(make, 0, "switchable")
    return network, classifier


def without_norm() -> Backbone:
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6, bias=False))
    return Backbone(trunk, head, 6)


def objectives(network, classifier, batch, loss: str, **options) -> dict[str, torch.Tensor]:
    """Every width's loss by itself."""
    found, full = {}, None
    for width in reversed(WIDTHS):
        embeddings = network.switch(width)(batch.images)
        full = embeddings.detach() if full is None else full
        logits = classifier(embeddings)
        if width == 1 or loss == "cross-entropy":
            found[str(width)] = F.cross_entropy(logits, batch.labels)
        elif loss == "evidential":
            found[str(width)] = evidential_loss(options.get("logit_scale", 1.0) * logits, batch.labels)
        else:
            found[str(width)] = hardest_triplet(embeddings, full, batch.labels, 0.3)
    network.switch(1.0)
    return found


def step_by_hand(
    network, classifier, batch, loss: str, projection: str, weights=None, **options
) -> dict[str, torch.Tensor]:
    """One plain SGD step: gradients taken apart, joined over the shared tensors, summed elsewhere."""
    parameters = [*network.named_parameters(prefix="network"), *classifier.named_parameters(prefix="classifier")]
    shared = {id(each) for each in [*network.shared_parameters(), *classifier.parameters()]}
    network.train()
    taken = []
    for value in objectives(network, classifier, batch, loss).values():
        own = torch.autograd.grad(value, [each for _, each in parameters], retain_graph=True, allow_unused=True)
        taken.append([torch.zeros_like(p) if g is None else g for g, (_, p) in zip(own, parameters, strict=True)])
    is_shared = [id(parameter) in shared for _, parameter in parameters]
    rows = [[g.flatten() for g, chosen in zip(own, is_shared, strict=True) if chosen] for own in taken]
    flat = torch.stack([torch.cat(row) for row in rows])
    gram = flat @ flat.T
    if weights is None:
        weights = full_conflict_weights(gram, 0) if projection == "full" else torch.eye(len(gram))
    # One weighting for all shared tensors, or, tensor by tensor, one for each in turn.
    coefficients = iter(weights.sum(dim=-2).expand(sum(is_shared), -1))
    after = {}
    for place, (name, parameter) in enumerate(parameters):
        factors = next(coefficients) if id(parameter) in shared else torch.ones(len(taken))
        gradient = sum(factor * own[place] for factor, own in zip(factors, taken, strict=True))
        after[name] = (parameter - 0.1 * gradient).detach()
    return after


@pytest.mark.parametrize("loss", sfsc.LOSSES)
@pytest.mark.parametrize("projection", sfsc.PROJECTIONS)
def test_a_step_is_the_one_made_by_hand(loss, projection):
    network, classifier = parts()
    copies, steps = copy.deepcopy((network, classifier)), []
    options = {"loss": loss, "projection": projection, "augment": unchanged, "on_step": steps.append}
    sfsc.fit(network, classifier, image_set(), ONE_STEP, seed=0, **options)
    (step,) = steps
    weights = step.weights if projection in ("all", "tensor") else None
    expected = step_by_hand(*copies, image_set(), loss, projection, weights)
    found = dict([*network.named_parameters(prefix="network"), *classifier.named_parameters(prefix="classifier")])
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.detach(), expected[name], atol=1e-5, rtol=1e-4)


def test_what_a_step_saw():
    network, classifier = parts()
    before, steps = copy.deepcopy((network, classifier)), []
    options = {"logit_scale": 3.0, "augment": unchanged, "on_step": steps.append}
    sfsc.fit(network, classifier, image_set(), ONE_STEP, seed=0, **options)
    (step,) = steps
    assert step.names == ("1.0", "0.5", "0.25")
    losses = objectives(*[part.train() for part in before], image_set(), "evidential", logit_scale=3.0)
    shared = [*before[0].shared_parameters(), *before[1].parameters()]
    rows = []
    for value in losses.values():
        own = torch.autograd.grad(value, shared, retain_graph=True)
        rows.append(torch.cat([each.flatten() for each in own]))
    rows = torch.stack(rows)
    torch.testing.assert_close(step.gram, rows @ rows.T, atol=1e-5, rtol=1e-3)
    assert set(step.uncertainty) == {"1.0", "0.5", "0.25"}
    for width, value in step.uncertainty.items():
        logits = before[1](before[0].switch(float(width))(image_set().images))
        assert value == pytest.approx(float(uncertainty(3.0 * logits.detach()).mean()), rel=1e-4)


def steps_that_conflict(projection):
    """What a training told whose gradients are made to conflict."""
    network, classifier = parts()
    steps = []
    recipe = Recipe(epochs=30, batch_size=8, learning_rate=0.3)
    options = {"loss": "triplet", "projection": projection, "on_step": steps.append}
    sfsc.fit(network, classifier, image_set(), recipe, seed=0, **options)
    return steps


def test_conflicts_are_projected_out():
    """What is left is the projection of the very Gram matrix that was seen."""
    steps = steps_that_conflict("all")
    conflicting = [step for step in steps if (step.gram < 0).any()]
    assert conflicting
    for step in steps:
        is_plain = torch.equal(step.weights, torch.eye(3))
        assert is_plain == (not (step.gram < 0).any())
    for step in conflicting:
        orders = {
            tuple(conflict_weights(step.gram, torch.Generator().manual_seed(s)).flatten().tolist()) for s in range(40)
        }
        assert tuple(step.weights.flatten().tolist()) in orders


def test_conflicts_with_the_full_model_are_projected_out():
    """Each narrower width's gradient loses its part along the full model's where the two conflict, and nothing else."""
    steps = steps_that_conflict("full")
    for step in steps:
        full = step.names.index("1.0")
        expected = torch.eye(3)
        for narrow in {0, 1, 2} - {full}:
            expected[narrow, full] = (-step.gram[narrow, full] / step.gram[full, full]).clamp(min=0)
        torch.testing.assert_close(step.weights, expected, atol=1e-6, rtol=1e-5)
    assert any((step.weights[1:, 0] > 0).any() for step in steps)
    assert any((step.gram[1:, 1:] < 0).any() for step in steps)  # conflicts of narrower widths, which are left


def test_conflicts_are_projected_out_of_every_tensor_by_itself():
    hidden = 0
    for step in steps_that_conflict("tensor"):
        assert step.weights.shape == step.grams.shape
        for weights, gram in zip(step.weights, step.grams, strict=True):
            conflicts = bool((gram < 0).any())
            assert torch.equal(weights, torch.eye(3)) == (not conflicts)
            hidden += conflicts and not (step.gram < 0).any()
    assert hidden  # conflicts that a sum over all tensors does not show


@pytest.mark.parametrize("projection", sfsc.PROJECTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_whose_squares_underflow_leave_a_finite_update(projection, seed):
    """As of a width whose loss has vanished, against others that have not."""
    torch.manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))]
    directions = [torch.randn_like(parameter) for parameter in parameters]
    scales = {"1.0": 1e-23, "0.5": -1.0, "0.25": -1e-22}
    gradients = {name: [scale * each for each in directions] for name, scale in scales.items()}
    steps = []
    combine = sfsc._Combination(parameters, projection, steps.append, {}, None)
    assert all(update.isfinite().all() for update in combine(parameters, gradients))
    assert steps[0].weights.isfinite().all()
    assert steps[0].products.isfinite().all()


@pytest.mark.parametrize("projection", sfsc.PROJECTIONS)
def test_products_are_those_of_the_update_that_is_made(projection):
    network, classifier = parts()
    before, steps = copy.deepcopy((network, classifier)), []
    options = {"loss": "triplet", "projection": projection, "augment": unchanged, "on_step": steps.append}
    sfsc.fit(network, classifier, image_set(), ONE_STEP, seed=0, **options)
    shared = [*before[0].shared_parameters(), *before[1].parameters()]
    moved = [*network.shared_parameters(), *classifier.parameters()]
    update = [(old - new).detach() / 0.1 for old, new in zip(shared, moved, strict=True)]
    losses = objectives(*[part.train() for part in before], image_set(), "triplet")
    for product, value in zip(steps[0].products, losses.values(), strict=True):
        own = torch.autograd.grad(value, shared, retain_graph=True, allow_unused=True)
        by_hand = sum((a * b).sum() for a, b in zip(own, update, strict=True) if a is not None)
        torch.testing.assert_close(product, by_hand, atol=1e-5, rtol=2e-3)


def test_watching_does_not_change_the_training():
    trained = []
    for on_step in (None, lambda step: None):
        network, classifier = parts()
        recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.1)
        sfsc.fit(network, classifier, image_set(24), recipe, seed=0, projection="none", on_step=on_step)
        trained.append(network.state_dict())
    for name, value in trained[0].items():
        torch.testing.assert_close(value, trained[1][name], atol=1e-6, rtol=1e-5)


def test_every_widths_statistics_move_and_the_full_width_is_left_current():
    network, classifier = parts()
    sfsc.fit(network, classifier, image_set(), ONE_STEP, seed=0)
    norms = [part for part in network.modules() if isinstance(part, SwitchableBatchNorm)]
    assert norms
    assert all(own.num_batches_tracked == 1 for norm in norms for own in norm.norms)
    assert network.width == 1
    assert not network.training


@pytest.mark.parametrize(
    "options", [{}, {"loss": "cross-entropy", "projection": "none"}, {"loss": "triplet", "projection": "none"}]
)
def test_all_widths_learn(options):
    network, classifier = parts()
    recipe = Recipe(epochs=60, batch_size=8, learning_rate=0.1, warmup_epochs=5)
    history = sfsc.fit(network, classifier, image_set(), recipe, seed=0, augment=unchanged, **options).history
    for term in ("1.0", "0.5", "0.25"):
        values = [row["value"] for row in history if row["term"] == term]
        assert len(values) == 60
        assert values[-1] < 0.9 * max(values)


class KilledError(Exception):
    pass


def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    recipe = Recipe(epochs=4, batch_size=8, learning_rate=0.2)

    def trained(checkpoint=None, stop_at=None):
        network, classifier = parts()

        def report(share, text):
            if stop_at is not None and share >= stop_at:
                raise KilledError

        options = {"seed": 0, "loss": "triplet", "checkpoint": checkpoint, "checkpoint_seconds": 0.0, "report": report}
        sfsc.fit(network, classifier, image_set(24), recipe, **options)
        return network.state_dict()

    expected = trained()
    for stop_at in (0.2, 0.6):
        with pytest.raises(KilledError):
            trained(tmp_path / f"{stop_at}", stop_at)
        found = trained(tmp_path / f"{stop_at}")
        assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_joint_networks_share_the_classifier_alone():
    def make():
        return nn.ModuleDict({"small": small_resnet(widths=(8,), dim=6), "large": small_resnet(widths=(8, 16), dim=6)})

    backbones, classifier = initialised(make, 0, "joint"), LinearClassifier(6, 4)
    before = copy.deepcopy((backbones, classifier))
    history = sfsc.fit_joint(backbones, classifier, image_set(), ONE_STEP, seed=0, augment=unchanged).history
    assert [row["term"] for row in history] == ["small", "large"]
    losses = [
        F.cross_entropy(before[1](each.train()(image_set().images)), image_set().labels) for each in before[0].values()
    ]
    (gradient,) = torch.autograd.grad(sum(losses), [before[1].weight])
    torch.testing.assert_close(
        classifier.weight.detach(), (before[1].weight - 0.1 * gradient).detach(), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "hinge"}, "loss is 'hinge' and projection 'all'; valid are"),
        ({"projection": "some"}, "projection 'some'; valid are"),
        ({"logit_scale": 0.0}, "logit_scale must be finite and positive, got 0.0"),
        ({"kl_weight": -1.0}, "kl_weight must be finite and ≥ 0, got -1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie in"),
        ({"loss": "triplet", "margin": -1.0}, "the margin must be finite and ≥ 0, got -1.0"),
    ],
)
def test_bad_arguments_are_refused(options, words):
    network, classifier = parts()
    with pytest.raises(ValueError, match=words):
        sfsc.fit(network, classifier, image_set(), ONE_STEP, seed=0, **options)


def test_a_label_without_a_row_is_refused():
    network, _ = parts()
    with pytest.raises(ValueError, match="label 3 has no row in a classifier of 3 classes"):
        sfsc.fit(network, LinearClassifier(6, 3), image_set(), ONE_STEP, seed=0)


# Several processes.

PROCESSES = """
import importlib.util, sys
from lightning_fabric import Fabric
specification = importlib.util.spec_from_file_location("tests_of_sfsc", sys.argv[1])
tests = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tests)
tests.torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
fabric.launch(tests.one_of_two, sys.argv[2])
"""
LONGER = Recipe(epochs=6, batch_size=8, learning_rate=0.1)
# No order is drawn, and gradients conflict by far more than rounding; with the default weights none would.
CONFLICTING = {"loss": "evidential", "logit_scale": 3.0, "kl_weight": 5.0}
CERTAIN = {"seed": 0, "projection": "full", "augment": unchanged, **CONFLICTING}
DRAWN = {"seed": 0, "loss": "triplet", "projection": "all", "augment": unchanged}


def one_of_two(fabric, path, options=CERTAIN):
    network, classifier = parts(batch_norm=False)
    sfsc.fit(network, classifier, image_set(24), LONGER, fabric=fabric, **options)
    write_tensors(Path(f"{path}-{fabric.global_rank}"), network.state_dict(), {})


def drawn_by_two(fabric, path):
    one_of_two(fabric, path, DRAWN)


@pytest.mark.parametrize("call", ["one_of_two", "drawn_by_two"])
def test_several_processes_stay_one_network(tmp_path, call):
    """Gradients are averaged before they are projected; what is drawn is drawn once for all."""
    code = PROCESSES.replace("one_of_two", call)
    command = [sys.executable, "-W", "ignore", "-c", code, __file__, str(tmp_path / "weights")]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    first, second = (read_tensors(tmp_path / f"weights-{rank}")[0] for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    if call == "one_of_two":
        network, classifier = parts(batch_norm=False)
        steps = []
        sfsc.fit(network, classifier, image_set(24), LONGER, on_step=steps.append, **CERTAIN)
        assert sum(bool(step.weights[1:, 0].max() > 0.1) for step in steps) >= 2
        for name, value in network.state_dict().items():
            torch.testing.assert_close(first[name], value, atol=1e-6, rtol=1e-5)
