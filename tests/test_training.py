"""The training loop: determinism, resuming, how objectives and their gradients combine, several processes."""

import logging
import math
import os
import resource
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.checkpoints import read_tensors, write_tensors
from compatlib.data.augment import crop_and_flip, unchanged
from compatlib.data.images import ImageSet
from compatlib.training import Recipe, fit, initialised, one_device, stream

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05, warmup_epochs=1)


def image_set(count: int = 40, classes: int = 4, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % classes, tuple("abcdefgh"[:classes]))


class Scaled(nn.Module):
    """uint8 images to flat numbers in [0, 1]."""

    def forward(self, images):
        return images.flatten(1).float() / 255


def network(seed: int = 0, batch_norm: bool = True) -> nn.Module:
    def make() -> nn.Module:
        middle = [nn.BatchNorm1d(16)] if batch_norm else []
        return nn.Sequential(Scaled(), nn.Linear(192, 16), *middle, nn.ReLU(), nn.Linear(16, 4))

    return initialised(make, seed, "new")


def classification(model: nn.Module):
    def objective(images, labels, indices):
        yield "classification", F.cross_entropy(model(images), labels)

    return objective


def train(model: nn.Module, recipe: Recipe = RECIPE, **options):
    options = {"seed": 0, "role": "new", "augment": crop_and_flip, **options}
    return fit(classification(model), model, image_set(), recipe, **options)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def test_the_same_seed_and_role_give_the_same_weights():
    first, second = network(), network()
    train(first)
    train(second)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(("seed", "role"), [(1, "new"), (0, "old")])
def test_another_seed_or_role_gives_another_order(seed, role):
    first, second = network(), network()
    train(first)
    train(second, seed=seed, role=role)
    assert not torch.equal(weights(first), weights(second))


def test_old_and_new_models_of_one_seed_share_no_initial_weight():
    old, new = (initialised(lambda: nn.Linear(50, 50), 0, role) for role in ("old", "new"))
    assert not (old.weight == new.weight).any()


def test_streams_of_different_purposes_are_uncorrelated():
    names = [(0, "old", "order", 0), (0, "new", "order", 0), (1, "old", "order", 0), (0, "old", "order", 1)]
    draws = torch.stack([torch.randn(4000, generator=stream(*name)) for name in names])
    assert (torch.corrcoef(draws) - torch.eye(4)).abs().max() < 0.08


def test_neither_initialised_nor_fit_moves_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(network())
    assert torch.equal(torch.rand(3), expected)


def test_an_objective_that_draws_random_numbers_is_repeatable():
    def dropout(model):
        def objective(images, labels, indices):
            yield "classification", F.cross_entropy(F.dropout(model(images), 0.5), labels)

        return objective

    results = []
    for offset in (0, 1):
        torch.manual_seed(offset)
        model = network()
        fit(dropout(model), model, image_set(), RECIPE, seed=0, role="new")
        results.append(weights(model))
    assert torch.equal(*results)


def test_one_epoch_of_plain_descent_follows_the_definition():
    recipe = Recipe(epochs=1, batch_size=8, learning_rate=0.1, momentum=0.0, weight_decay=0.0, schedule="constant")
    trained, oracle, images = network(batch_norm=False), network(batch_norm=False), image_set()
    fit(classification(trained), trained, images, recipe, seed=3, role="new")
    order = torch.randperm(40, generator=stream(3, "new", "order", 0))
    for indices in order.split(8):
        loss = F.cross_entropy(oracle(images.images[indices]), images.labels[indices])
        gradients = torch.autograd.grad(loss, list(oracle.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(oracle.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    torch.testing.assert_close(weights(trained), weights(oracle), atol=1e-6, rtol=1e-5)


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.05, 0.8, weight_decay=0.02, nesterov=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.05, weight_decay=0.02),
}
CLIP_NORM = 3.0


def with_dropout(model):
    def objective(images, labels, indices):
        yield "classification", F.cross_entropy(F.dropout(model(images), 0.3), labels)

    return objective


def by_hand(model, images, optimizer, seed, role):
    """The whole training as one obvious loop over 3 epochs of 5 batches of 8; the gradients' norms before clipping."""
    norms, step = [], 0
    for epoch in range(3):
        order = torch.randperm(len(images), generator=stream(seed, role, "order", epoch))[:40]
        for indices in order.split(8):
            done = step / 5
            rate = done if done < 1 else (1 + math.cos(math.pi * (done - 1) / 2)) / 2
            optimizer.param_groups[0]["lr"] = 0.05 * rate
            inputs = crop_and_flip(images.images[indices], stream(seed, role, "augment", step, 0))
            torch.manual_seed(stream(seed, role, "objective", step, 0).initial_seed())
            loss = F.cross_entropy(F.dropout(model(inputs), 0.3), images.labels[indices])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient * min(1, CLIP_NORM / norms[-1])
            optimizer.step()
            step += 1
    return torch.stack(norms)


@pytest.mark.parametrize(("optimizer", "seed", "role"), [("sgd", 3, "new"), ("adam", 4, "old")])
def test_three_epochs_follow_the_definition(optimizer, seed, role):
    recipe = Recipe(3, 8, optimizer, 0.05, momentum=0.8, weight_decay=0.02, warmup_epochs=1, clip_norm=CLIP_NORM)
    trained, oracle, images = network(), network(), image_set(43)
    fit(with_dropout(trained), trained, images, recipe, seed=seed, role=role, augment=crop_and_flip)
    with torch.random.fork_rng():
        norms = by_hand(oracle, images, OPTIMIZERS[optimizer](oracle.parameters()), seed, role)
    assert norms.min() < CLIP_NORM < norms.max(), "the bound should act on some of the steps, not on all"
    torch.testing.assert_close(weights(trained), weights(oracle), atol=1e-4, rtol=1e-3)


def test_every_epoch_has_an_order_and_every_step_has_streams_of_its_own():
    seen, drawn = [], {"augment": [], "objective": []}

    def augment(inputs, generator):
        drawn["augment"].append(generator.initial_seed())
        return inputs

    def objective(images, labels, indices):
        seen.append(indices)
        drawn["objective"].append(torch.initial_seed())
        yield "classification", F.cross_entropy(model(images), labels)

    model = network()
    fit(objective, model, image_set(), RECIPE, seed=2, role="side", augment=augment)
    orders = torch.cat(seen).view(3, 40)
    assert torch.equal(orders.sort(1).values, torch.arange(40).expand(3, 40))
    assert len(orders.unique(dim=0)) == 3
    for purpose, seeds in drawn.items():
        assert seeds == [stream(2, "side", purpose, step, 0).initial_seed() for step in range(15)]
    assert len(set(drawn["augment"] + drawn["objective"])) == 30


def test_a_module_handed_over_in_eval_mode_is_trained_in_training_mode_and_ends_in_eval_mode():
    model, modes = network().eval(), []

    def objective(images, labels, indices):
        modes.append(model.training)
        yield "classification", F.cross_entropy(model(images), labels)

    before = model[2].running_mean.clone()
    fit(objective, model, image_set(), RECIPE, seed=0, role="new")
    assert modes == [True] * 15
    assert not torch.equal(model[2].running_mean, before)
    assert not model.training


def test_two_objectives_without_a_combination_equal_their_sum():
    def separate(model):
        def objective(images, labels, indices):
            yield "first", F.cross_entropy(model(images), labels)
            yield "second", 0.3 * model(images).square().mean()

        return objective

    def together(model):
        def objective(images, labels, indices):
            logits = model(images)
            yield "both", {"first": F.cross_entropy(logits, labels), "second": 0.3 * logits.square().mean()}

        return objective

    models = [network(batch_norm=False) for _ in range(3)]
    fits = [
        fit(separate(models[0]), models[0], image_set(), RECIPE, seed=0, role="new"),
        fit(together(models[1]), models[1], image_set(), RECIPE, seed=0, role="new"),
        fit(separate(models[2]), models[2], image_set(), RECIPE, seed=0, role="new", combine=plain_sum),
    ]
    torch.testing.assert_close(weights(models[0]), weights(models[1]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights(models[0]), weights(models[2]), atol=1e-6, rtol=1e-5)
    assert {row["term"] for row in fits[0].history} == {"first", "second"}
    assert {row["term"] for row in fits[1].history} == {"both/first", "both/second"}


def plain_sum(parameters, gradients):
    return [sum(parts) for parts in zip(*gradients.values(), strict=True)]


def test_each_loss_is_freed_before_the_next_is_computed():
    alive, references = [], []

    def objective(images, labels, indices):
        for name in ("first", "second"):
            alive.append(sum(1 for reference in references if reference() is not None))
            loss = F.cross_entropy(model(images), labels)
            references.append(weakref.ref(loss))
            yield name, loss
            del loss

    model = network()
    fit(objective, model, image_set(), Recipe(epochs=1, batch_size=40, learning_rate=0.1), seed=0, role="new")
    assert alive == [0, 0]


def test_combine_sees_every_objective_and_none_where_one_does_not_reach():
    seen = {}
    left, right = nn.Linear(192, 2), nn.Linear(192, 2)

    def objective(images, labels, indices):
        yield "left", left(images.flatten(1) / 255).square().mean()
        yield "right", right(images.flatten(1) / 255).square().mean()

    def combine(parameters, gradients):
        seen.update({name: [g is not None for g in parts] for name, parts in gradients.items()})
        return gradients["left"]

    before = right.weight.clone()
    recipe = Recipe(epochs=1, batch_size=40, learning_rate=0.1, weight_decay=0.0)
    fit(objective, nn.ModuleList([left, right]), image_set(), recipe, seed=0, role="new", combine=combine)
    assert seen == {"left": [True, True, False, False], "right": [False, False, True, True]}
    assert torch.equal(right.weight, before)


def test_frozen_modules_do_not_move_batch_norm_included():
    old, model = network(1), network()
    before = {name: tensor.clone() for name, tensor in old.state_dict().items()}

    def objective(images, labels, indices):
        yield "imitation", F.mse_loss(model(images), old(images))

    fit(objective, model, image_set(), RECIPE, seed=0, role="new", frozen=[old])
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.state_dict().items())
    assert not any(parameter.requires_grad for parameter in old.parameters())


def test_on_epoch_may_freeze_batch_norm_from_half_of_the_epochs_on():
    model, statistics = network(), []

    def on_epoch(epoch, epochs):
        statistics.append(model[2].running_mean.clone())
        if epoch >= epochs / 2:
            model[2].eval()

    train(model, Recipe(epochs=4, batch_size=8, learning_rate=0.05), on_epoch=on_epoch)
    assert not torch.equal(statistics[0], statistics[1])
    assert not torch.equal(statistics[1], statistics[2])
    assert torch.equal(statistics[2], statistics[3])
    assert torch.equal(statistics[3], model[2].running_mean)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop_at", [1, 4, 5, 7, 14])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, stop_at, optimizer):
    recipe = Recipe(epochs=3, batch_size=8, learning_rate=0.01, optimizer=optimizer, warmup_epochs=1)
    whole, interrupted, resumed = network(), network(), network()
    uninterrupted = train(whole, recipe)
    steps = []

    def report(share, text):
        steps.append(share)
        if len(steps) == stop_at:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "run.checkpoint"
    # The checkpoint of the step before the interruption is on disk: everything after it is repeated.
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, recipe, checkpoint=checkpoint, checkpoint_seconds=0, report=report)
    result = train(resumed, recipe, checkpoint=checkpoint, checkpoint_seconds=0)
    assert torch.equal(weights(whole), weights(resumed))
    assert result.history == uninterrupted.history


def test_the_cost_of_a_resumed_run_counts_the_seconds_before_it_but_not_the_pause(tmp_path, monkeypatch):
    clock, model = [100.0], network()
    monkeypatch.setattr("compatlib.training.time", SimpleNamespace(monotonic=lambda: clock[0]))

    def objective(images, labels, indices):
        clock[0] += 1
        if clock[0] == 105:
            raise KeyboardInterrupt
        yield "classification", F.cross_entropy(model(images), labels)

    def run():
        options = {"checkpoint": tmp_path / "run.checkpoint", "checkpoint_seconds": 0}
        return fit(objective, model, image_set(), RECIPE, seed=0, role="new", **options)

    with pytest.raises(KeyboardInterrupt):
        run()
    clock[0] += 1000
    cost = run().cost
    assert cost.seconds == 15  # four steps before the interruption and eleven after it, a second each
    assert cost.images_per_second == 8


# The parent imports torch once and forks a child for every life; twenty imports would take a minute. A life ends by
# SIGKILL within 20 ms after a random step: while the next one is computed, or while a checkpoint is written.
KILLS = """
import importlib.util, os, random, signal, sys, threading, time
from pathlib import Path
specification = importlib.util.spec_from_file_location("tests_of_training", sys.argv[1])
tests = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tests)
path, generator = Path(sys.argv[2]), random.Random(11)
for _ in range(20):
    left, delay = generator.randint(1, 20), generator.uniform(0, 0.02)

    def kill():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    def report(share, text):
        global left
        left -= 1
        if left == 0:
            threading.Thread(target=kill).start()

    child = os.fork()
    if child == 0:
        tests.train(tests.network(), tests.LONG, checkpoint=path, checkpoint_seconds=0, report=report)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WIFSIGNALED(status), tests.read_tensors(path)[1]["step"] if path.exists() else 0, flush=True)
"""
LONG = Recipe(epochs=400, batch_size=8, learning_rate=0.01)


def test_twenty_kills_at_random_steps_end_with_the_same_weights(tmp_path):
    whole, last, path = network(), network(), tmp_path / "run.checkpoint"
    train(whole, LONG)
    command = [sys.executable, "-c", KILLS, __file__, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    lives = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200, env=environment).stdout
    killed, steps = zip(*(line.split() for line in lives.splitlines()), strict=True)
    assert killed == ("True",) * 20, "a run ended before it was killed: make it longer"
    assert len(set(steps)) >= 10, f"the kills hit too few different steps: {steps}"
    train(last, LONG, checkpoint=path)
    assert torch.equal(weights(whole), weights(last))


def test_a_kill_while_the_checkpoint_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path, model = tmp_path / "run.checkpoint", network()
    train(model, checkpoint=path)
    before = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-1]])
def test_a_damaged_checkpoint_is_reported_and_the_training_starts_anew(tmp_path, damage):
    path, whole, again = tmp_path / "run.checkpoint", network(), network()
    train(whole, checkpoint=path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"run\.checkpoint is damaged.*starts anew"):
        train(again, checkpoint=path)
    assert torch.equal(weights(whole), weights(again))


def test_a_file_that_is_no_checkpoint_is_left_as_it_is(tmp_path):
    path = tmp_path / "pretrained.pt"
    torch.save(network().state_dict(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"pretrained\.pt is no checkpoint of a training; it is left as it is"):
        train(network(), checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


PYTHONS = {
    "seed": (np.int64(3), np.uint8(3), torch.tensor(3)),
    "role": (np.str_("new"),),
    "batch_size": (np.int32(8), np.int64(8)),
    "epochs": (np.int64(3),),
    "learning_rate": (np.float64(0.5), np.float32(0.5), np.float16(0.5), Fraction(1, 2)),
    "warmup_epochs": (np.int64(1), np.float32(1)),
    "clip_norm": (np.float32(2),),
    "nesterov": (np.bool_(True),),
    "schedule": (np.str_("cosine"),),
    "decay": (np.float64(0.25),),
    "milestones": ([], np.zeros(0)),
    "warmup_steps": (np.int64(0),),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in PYTHONS.items() for value in values])
def test_numbers_and_texts_of_other_kinds_train_as_pythons_do(tmp_path, name, value):
    """And are written as such: a checkpoint of the one is that of the other."""
    own = {"seed": 3, "role": "new", "epochs": 3, "batch_size": 8, "learning_rate": 0.5, "warmup_epochs": 1}
    own |= {"clip_norm": 2.0, "nesterov": True, "schedule": "cosine"}
    own |= {"decay": 0.25, "milestones": (), "warmup_steps": 0}

    def trained(options, checkpoint=None):
        model, recipe = network(), {each: options[each] for each in options if each not in ("seed", "role")}
        train(model, Recipe(**recipe), seed=options["seed"], role=options["role"], checkpoint=checkpoint)
        return weights(model)

    expected = trained(own)
    assert torch.equal(trained(own | {name: value}, tmp_path / "run"), expected)
    assert torch.equal(trained(own, tmp_path / "run"), expected)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": Decimal("0.1")},
        {"learning_rate": "0.1"},
        {"learning_rate": torch.tensor(0.1)},
        {"learning_rate": True},
        {"learning_rate": None},
        {"momentum": np.float32("nan")},
        {"weight_decay": float("nan")},
        {"clip_norm": float("nan")},
        {"warmup_epochs": 1j},
        {"decay": "0.1"},
        {"warmup_steps": 2.5},
        {"epochs": 2.5},
        {"epochs": np.float64(2)},
        {"batch_size": True},
        {"batch_size": np.array([8])},
        {"nesterov": "no"},
        {"warmup_from_zero": 0.5},
    ],
)
def test_a_recipe_refuses_what_is_no_number_by_name(values):
    (name,) = values
    with pytest.raises(ValueError, match=rf"^{name} is .*; valid are (finite numbers|whole numbers|True and False)$"):
        Recipe(**{"epochs": 3} | values)


@pytest.mark.parametrize(("name", "value"), [("seed", 1.0), ("seed", True), ("seed", "1"), ("role", None), ("role", 1)])
def test_a_seed_or_a_role_of_another_type_is_refused_before_the_first_step(name, value):
    model = network()
    before = weights(model)
    with pytest.raises(ValueError, match=rf"^{name} is {value!r}(; valid are| \()"):
        train(model, **{name: value})
    assert torch.equal(weights(model), before)


def test_a_part_that_is_named_twice_is_trained_and_resumed(tmp_path):
    trained = [network() for _ in range(3)]
    for model, path in zip(trained, (None, tmp_path / "run", tmp_path / "run"), strict=True):
        both = nn.ModuleDict({"net": model, "head": nn.Sequential(model[1], model[-1])})
        fit(classification(model), both, image_set(), RECIPE, seed=0, role="new", checkpoint=path and str(path))
    assert torch.equal(weights(trained[0]), weights(trained[1]))
    assert torch.equal(weights(trained[1]), weights(trained[2]))


class Stateful(nn.Module):
    """Has a state of its own kind."""

    def get_extra_state(self):
        return {"seen": 3}


UNWRITABLE = {
    "lazy": (lambda: nn.LazyLinear(3), "module.weight has no values yet"),
    "meta": (lambda: nn.Linear(3, 3, device="meta"), "module.weight has no values yet"),
    "a state of its own": (Stateful, "'modules/module._extra_state' cannot be written"),
}


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_what_cannot_be_written_is_refused_before_the_first_step(tmp_path, kind):
    make, words = UNWRITABLE[kind]
    model, steps = network(), []
    modules = nn.ModuleDict({"model": model, "module": make()})
    objective = classification(model)
    with pytest.raises(ValueError, match=words):
        fit(
            lambda *batch: steps.append(1) or objective(*batch),
            modules,
            image_set(),
            RECIPE,
            seed=0,
            role="new",
            checkpoint=tmp_path / "run",
        )
    assert steps == []
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_the_first_step_and_later_leaves_the_last_checkpoint(tmp_path, full_disk):
    path, whole, model = tmp_path / "run", network(), network()
    train(whole)
    with full_disk(1000), pytest.raises(OSError, match="run could not be written"):
        train(model, checkpoint=path, report=lambda *_: pytest.fail("a step was taken"))
    assert list(tmp_path.iterdir()) == []
    kept = []

    def fill(share, text):
        if share > 0.5 and not kept:
            kept.append(path.read_bytes())
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    with full_disk(10**9), pytest.raises(OSError, match=r"run could not be written .*; what was there is as it was"):
        train(network(), checkpoint=path, checkpoint_seconds=0, report=fill)
    assert [path.read_bytes()] == kept
    train(model, checkpoint=path)
    assert torch.equal(weights(model), weights(whole))


def test_a_training_whose_checkpoint_another_one_writes_waits_and_says_so(tmp_path, caplog):
    """And ends with the other's weights, without a step of its own."""
    path, first, second, steps = tmp_path / "run", network(), network(), []
    begun, told = threading.Event(), threading.Event()
    listener = logging.Handler()
    listener.emit = lambda record: told.set()

    def hold(*_):
        begun.set()
        assert told.wait(60)

    logging.getLogger("compatlib.files").addHandler(listener)
    thread = threading.Thread(target=lambda: train(first, checkpoint=path, report=hold))
    thread.start()
    try:
        assert begun.wait(60)
        train(second, checkpoint=path, report=lambda *each: steps.append(each))
    finally:
        thread.join()
        logging.getLogger("compatlib.files").removeHandler(listener)
    assert caplog.messages == [
        f"waiting for another process, which trains with the checkpoint {path} (it holds {tmp_path / '.run.lock'})"
    ]
    assert steps == []
    assert torch.equal(weights(first), weights(second))


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.checkpoint"
    train(network(), checkpoint=path)
    with pytest.raises(ValueError, match="another run"):
        train(network(), checkpoint=path, seed=1)


EARLIER = {
    "epochs": 3,
    "batch_size": 8,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "precision": "float32",
    "clip_norm": None,
}


def earlier_checkpoint(path: Path) -> None:
    """Of RECIPE after seven steps, as it was written before a recipe had `warmup_from_zero` and `nesterov`."""
    steps = []

    def report(share, text):
        steps.append(share)
        if len(steps) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(network(), checkpoint=path, checkpoint_seconds=0, report=report)
    tensors, about = read_tensors(path)
    assert about["step"] == 7
    about["identity"] = {"recipe": EARLIER, "seed": 0, "role": "new", "images": 40, "batch": 8}
    write_tensors(path, tensors, about)


def test_the_checkpoint_of_an_earlier_version_is_resumed(tmp_path):
    path, whole, resumed = tmp_path / "run.checkpoint", network(), network()
    expected = train(whole).history
    earlier_checkpoint(path)
    shares = []
    history = train(resumed, checkpoint=path, report=lambda share, text: shares.append(share)).history
    assert len(shares) == 8
    assert torch.equal(weights(whole), weights(resumed))
    assert history == expected


@pytest.mark.parametrize(
    "other",
    [
        {"warmup_from_zero": False},
        {"nesterov": False},
        {"warmup_epochs": 0, "warmup_steps": 5},
        {"schedule": "steps", "milestones": (1, 2)},
        {"schedule": "steps", "milestones": (1,), "decay": 0.5},
    ],
)
def test_the_checkpoint_of_an_earlier_version_is_refused_where_it_trained_otherwise(tmp_path, other):
    path, said = tmp_path / "run.checkpoint", f"'{list(other)[-1]}': "
    earlier_checkpoint(path)
    with pytest.raises(ValueError, match=f"another run: it was .* this is .*{said}"):
        train(network(), replace(RECIPE, **other), checkpoint=path)
    whole = network()
    train(whole, replace(RECIPE, **other), checkpoint=tmp_path / "own")
    with pytest.raises(ValueError, match=f"another run: it was .*{said}"):
        train(network(), checkpoint=tmp_path / "own")
    again = network()
    train(again, replace(RECIPE, **other), checkpoint=tmp_path / "own")
    assert torch.equal(weights(whole), weights(again))


def test_a_loss_that_is_not_finite_stops_the_training_with_a_word():
    def objective(images, labels, indices):
        yield "classification", F.cross_entropy(model(images), labels) * float("inf")

    model = network()
    with pytest.raises(FloatingPointError, match=r"'classification' of 'new' is (inf|nan) in epoch 1"):
        fit(objective, model, image_set(), RECIPE, seed=0, role="new")


def test_the_history_has_a_row_an_epoch_and_the_cost_counts_images():
    seen = []
    result = train(network(), report=lambda share, text: seen.append((share, text)))
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[-1]["learning_rate"] == pytest.approx(RECIPE.rate(2.8))
    assert result.cost.device == "cpu"
    assert result.cost.images_per_second == pytest.approx(3 * 40 / result.cost.seconds)
    assert seen[-1] == (1.0, "epoch 3 of 3")
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)


def test_a_set_smaller_than_a_batch_is_one_batch_and_a_short_last_batch_is_dropped():
    sizes = []

    def objective(images, labels, indices):
        sizes.append(len(images))
        yield "classification", F.cross_entropy(model(images), labels)

    model = network()
    for count in (6, 21):
        fit(objective, model, image_set(count), Recipe(1, batch_size=8, learning_rate=0.01), seed=0, role="new")
    assert sizes == [6, 8, 8]


def test_bfloat16_autocast_keeps_float32_weights_and_learns():
    model = network()
    recipe = Recipe(epochs=20, batch_size=8, learning_rate=0.05, precision="bfloat16")
    history = train(model, recipe, augment=unchanged).history
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert history[-1]["value"] < 0.5 * history[0]["value"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_objective_computes_in_the_precision_of_the_recipe(precision):
    seen = set()

    def objective(images, labels, indices):
        logits = model(images)
        seen.add(logits.dtype)
        yield "classification", F.cross_entropy(logits, labels)

    model = network()
    fit(objective, model, image_set(), Recipe(1, batch_size=8, precision=precision), seed=0, role="new")
    assert seen == {getattr(torch, precision)}


def test_the_schedule_rises_then_falls_to_zero():
    recipe = Recipe(epochs=10, learning_rate=0.4, warmup_epochs=2)
    rates = [recipe.rate(epoch / 10) for epoch in range(100)]
    assert rates[0] == 0
    assert recipe.rate(1) == pytest.approx(0.2)
    assert recipe.rate(2) == pytest.approx(0.4)
    assert recipe.rate(6) == pytest.approx(0.2)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert Recipe(epochs=5, learning_rate=0.3, schedule="constant").rate(4.9) == 0.3


@pytest.mark.parametrize("steps", [1, 5, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0, 2.5])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warmup_that_counts_the_step_under_way_has_no_step_of_rate_zero(steps, warmup, schedule):
    before = Recipe(epochs=3, learning_rate=0.4, warmup_epochs=warmup, schedule=schedule)
    recipe = replace(before, warmup_from_zero=False)
    for step in range(3 * steps):
        found = recipe.rate(step / steps, 1 / steps)
        if step / steps < warmup:
            assert found == pytest.approx(0.4 * min(1, (step + 1) / steps / warmup))
        else:
            assert found == before.rate(step / steps)
        assert found > 0
        assert before.rate(step / steps, 1 / steps) == before.rate(step / steps)


def test_a_schedule_of_steps_falls_at_its_milestones():
    """As re-identification has it: 120 epochs, a tenth from 40 and a hundredth from 90 on."""
    recipe = Recipe(epochs=120, learning_rate=0.5, schedule="steps", milestones=(40, 90))
    steps = 7
    rates = [recipe.rate(step / steps, 1 / steps) for step in range(120 * steps)]
    assert rates[: 40 * steps] == [0.5] * 40 * steps
    assert rates[40 * steps : 90 * steps] == pytest.approx([0.05] * 50 * steps)
    assert rates[90 * steps :] == pytest.approx([0.005] * 30 * steps)
    halved = replace(recipe, decay=0.5, milestones=(0.5,))
    assert [halved.rate(epoch) for epoch in (0, 0.49, 0.5, 119)] == [0.5, 0.5, 0.25, 0.25]


def test_a_milestone_within_the_warmup_counts_from_its_end_on():
    recipe = Recipe(epochs=6, learning_rate=0.4, schedule="steps", milestones=(1, 4), warmup_epochs=2)
    assert [recipe.rate(epoch) for epoch in range(6)] == pytest.approx([0, 0.2, 0.04, 0.04, 0.004, 0.004])


@pytest.mark.parametrize("schedule", [{}, {"schedule": "constant"}, {"schedule": "steps", "milestones": (2,)}])
@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize(("steps", "warmup"), [(5, 3), (5, 5), (7, 16), (3, 9)])
def test_a_warmup_may_count_steps(steps, warmup, from_zero, schedule):
    """And is the same as one of as many epochs."""
    counted = Recipe(epochs=3, learning_rate=0.4, warmup_steps=warmup, warmup_from_zero=from_zero, **schedule)
    of_epochs = replace(counted, warmup_steps=0, warmup_epochs=warmup / steps)
    for step in range(3 * steps):
        found = counted.rate(step / steps, 1 / steps)
        assert found == pytest.approx(of_epochs.rate(step / steps, 1 / steps), abs=1e-12)
        if step < warmup:
            assert found == pytest.approx(0.4 * (step if from_zero else step + 1) / warmup)


def test_a_warmup_of_more_steps_than_the_training_has_is_refused():
    train(network(), replace(RECIPE, warmup_epochs=0, warmup_steps=15))
    with pytest.raises(ValueError, match="warmup_steps is 16; the training has 15 steps: 3 epochs of 5"):
        train(network(), replace(RECIPE, warmup_epochs=0, warmup_steps=16))


@pytest.mark.parametrize("warmup", [{"warmup_epochs": 2}, {"warmup_steps": 10}], ids=["epochs", "steps"])
@pytest.mark.parametrize("from_zero", [True, False])
def test_the_steps_are_taken_and_told_at_the_rates_of_the_warmup(from_zero, warmup):
    recipe = Recipe(2, 8, learning_rate=0.05, momentum=0.0, weight_decay=0.0, **warmup)
    recipe = replace(recipe, schedule="constant", warmup_from_zero=from_zero)
    trained, images, moved = network(batch_norm=False), image_set(), []
    gradients, before = [], weights(trained)

    def note(parameters, own):
        gradients.append(torch.cat([each.flatten().double() for each in own["classification"]]))
        moved.append(weights(trained))
        return own["classification"]

    history = fit(classification(trained), trained, images, recipe, seed=0, role="new", combine=note).history
    rates = [0.05 * (step if from_zero else step + 1) / 10 for step in range(10)]
    assert torch.equal(moved[0], before)
    for rate, gradient, start, end in zip(rates, gradients, moved, [*moved[1:], weights(trained)], strict=True):
        torch.testing.assert_close(end, start - rate * gradient, atol=1e-7, rtol=1e-6)
    assert torch.equal(moved[1], before) == from_zero
    assert [row["learning_rate"] for row in history] == pytest.approx([rates[4], rates[9]])


@pytest.mark.parametrize(("nesterov", "seed"), [(True, 0), (False, 0), (False, 1)])
def test_nesterov_can_be_left_out(nesterov, seed):
    recipe = Recipe(3, 8, "sgd", 0.05, 0.8, 0.02, warmup_epochs=1, clip_norm=CLIP_NORM, nesterov=nesterov)
    trained, oracle, images = network(), network(), image_set(43)
    fit(with_dropout(trained), trained, images, recipe, seed=seed, role="new", augment=crop_and_flip)
    optimizer = torch.optim.SGD(oracle.parameters(), 0.05, 0.8, weight_decay=0.02, nesterov=nesterov)
    with torch.random.fork_rng():
        by_hand(oracle, images, optimizer, seed, "new")
    torch.testing.assert_close(weights(trained), weights(oracle), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{"momentum": 0.0}, {"optimizer": "adam"}])
def test_nesterov_has_no_effect_without_momentum_and_for_adam(options):
    models = network(), network()
    for model, nesterov in zip(models, (True, False), strict=True):
        train(model, replace(RECIPE, nesterov=nesterov, **options))
    assert torch.equal(*map(weights, models))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"warmup_epochs": 4},
        {"optimizer": "lion"},
        {"schedule": "step"},
        {"precision": "float16"},
        {"clip_norm": 0.0},
        *({name: value} for name in ("learning_rate", "weight_decay", "clip_norm") for value in (math.nan, math.inf)),
        {"momentum": math.nan},
        {"warmup_epochs": math.nan},
        {"warmup_steps": -1},
        {"decay": 0.0},
        {"decay": math.inf},
    ],
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        Recipe(**({"epochs": 3} | wrong))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"warmup_steps": 5, "warmup_epochs": 1}, "warmup_steps is 5 beside warmup_epochs 1; valid are steps"),
        ({"schedule": "steps"}, r"milestones are \(\) under schedule 'steps' of 10 epochs; valid are rising"),
        ({"milestones": (4,)}, r"milestones are \(4,\) under schedule 'cosine'"),
        *(
            ({"schedule": "steps", "milestones": each}, "valid are rising epochs within the training")
            for each in ((4, 4), (4, 2), (0, 4), (4, 10), (-1,))
        ),
        ({"schedule": "steps", "milestones": 4}, r"milestones are 4; valid are epochs such as \(40, 90\)"),
        ({"schedule": "steps", "milestones": ("4",)}, "a milestone is '4'"),
        ({"schedule": "steps", "milestones": (math.nan,)}, "a milestone is nan"),
    ],
)
def test_an_impossible_schedule_of_steps_is_told(wrong, words):
    with pytest.raises(ValueError, match=words):
        Recipe(epochs=10, **wrong)


def test_nothing_to_train_and_an_empty_set_are_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        train(network().requires_grad_(False))
    with pytest.raises(ValueError, match="training set is empty"):
        fit(classification(network()), network(), image_set(0), RECIPE, seed=0, role="new")


PROCESSES = """
import importlib.util, sys
from lightning_fabric import Fabric
specification = importlib.util.spec_from_file_location("tests_of_training", sys.argv[1])
tests = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tests)
tests.torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_fork")
fabric.launch(tests.one_of_two, sys.argv[2])
"""


def one_of_two(fabric, path):
    model = network(batch_norm=False)
    options = {"combine": plain_sum} if path.endswith("combined") else {}
    fit(two_objectives(model), model, image_set(), RECIPE, seed=0, role="new", fabric=fabric, **options)
    if fabric.is_global_zero:
        write_tensors(Path(path), model.state_dict(), {})


def two_objectives(model):
    def objective(images, labels, indices):
        yield "classification", F.cross_entropy(model(images), labels)
        yield "size", model(images).square().mean()

    return objective


@pytest.mark.parametrize("name", ["summed", "combined"])
def test_two_processes_equal_one_on_the_joined_batch(tmp_path, name):
    alone = network(batch_norm=False)
    fit(two_objectives(alone), alone, image_set(), RECIPE, seed=0, role="new")
    command = [sys.executable, "-W", "ignore", "-c", PROCESSES, __file__, str(tmp_path / name)]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    shared, _ = read_tensors(tmp_path / name)
    for key, tensor in alone.state_dict().items():
        torch.testing.assert_close(shared[key], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "5"},
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "1"},
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "TORCHELASTIC_RUN_ID": "3"},
    ],
    ids=["srun", "a task of a node", "torchrun"],
)
def test_the_tasks_of_a_scheduler_do_not_count(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fabric = one_device()
    assert (fabric.world_size, fabric.global_rank, fabric.is_global_zero) == (1, 0, True)
