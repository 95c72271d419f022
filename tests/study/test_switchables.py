"""Sub-models of the study: what they start from, what decides a key, and that each is the method it is named after."""

import itertools

import pytest
import torch
from torch import nn

from compatlib.embedding import embed
from compatlib.methods import bct, independent, sfsc
from compatlib.models.slimmable import Slimmable
from compatlib.study import models, switchable_models, switchables
from compatlib.study.chapters.sfsc import Knobs
from compatlib.study.settings import settings
from compatlib.study.switchable_models import made
from compatlib.study.switchables import APART, METHODS, SWITCHABLE, Trained, name_of, trainings, work
from compatlib.training import initialised

WIDTHS = (0.25, 0.5, 1.0)


def run_with(**knobs):
    """Six classes of eight digits, two epochs."""
    chosen = settings({"profile": "smoke", "dataset": "digits", **knobs}, Knobs)
    training = chosen.training.model_copy(update={"epochs": 2, "batch_size": 16})
    sizes = {"classes": 6, "train_per_class": 8, "test_per_class": 4, "training": training}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update={"widths": WIDTHS})})


@pytest.fixture(scope="module", autouse=True)
def artifacts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture(scope="module")
def run():
    return run_with()


class StoppedError(Exception):
    """Before anything is trained."""


EVERY = [what for method in METHODS for what in trainings(run_with(), method)]


@pytest.mark.parametrize("what", EVERY, ids=name_of)
def test_it_is_trained_once_and_then_found(run, what, monkeypatch):
    first, _ = made(run, what, 0)
    for module in (bct, independent, sfsc):
        for name in ("fit", "fit_joint"):
            monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it is trained again"), raising=False)
    again, trained_now = made(run, what, 0)
    assert not trained_now
    assert again.artifact.key == first.artifact.key
    assert set(first.backbones) == set(WIDTHS if what.width is None else [what.width])
    test = models.test_images(run)
    for width, backbone in first.backbones.items():
        assert not backbone.training
        assert not any(isinstance(part, Slimmable) for part in backbone.modules())
        torch.testing.assert_close(embed(backbone, test), embed(again.backbones[width], test))


def test_every_method_gives_every_width():
    run = run_with()
    for method in METHODS:
        found = [what.width for what in trainings(run, method)]
        assert found == ([0.25, 0.5] if method in APART else [None])


def test_all_start_from_the_base_models_weights_and_see_its_batches(run, monkeypatch):
    """Whatever the method, a narrow network starts as that part of the full one, and the stream is the role's."""
    full = initialised(lambda: models.make_backbone(run.network, 1), 5, "new")
    seen = {}

    def watch(module, name):
        def fit(*positional, **options):
            seen.update(options)
            raise StoppedError

        monkeypatch.setattr(module, name, fit)

    models.base_model(run, "new", 5)
    for module, name in ((independent, "fit"), (bct, "fit"), (sfsc, "fit"), (sfsc, "fit_joint")):
        watch(module, name)
    for what in EVERY:
        seen.clear()
        with pytest.raises(StoppedError):
            made(run, what, 5)
        assert (seen["seed"], seen["role"]) == (5, "new")
        assert len(seen["images"]) == len(models.training_images(run))
        parts = {"network": seen.get("network"), "backbone": seen.get("backbone"), "backbones": seen.get("backbones")}
        started = next(part for part in parts.values() if part is not None)
        expected = Slimmable(full, WIDTHS)
        if what.width is not None:
            expected = expected.extract(what.width)
        elif "backbones" in seen:
            expected = nn.ModuleList([expected.extract(width) for width in WIDTHS])
        pairs = zip(started.state_dict().values(), expected.state_dict().values(), strict=True)
        assert all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("method", SWITCHABLE)
def test_a_switchable_network_is_trained_as_its_name_says(run, method, monkeypatch):
    options = {}

    def fit(**given):
        options.update(given)
        raise StoppedError

    monkeypatch.setattr(sfsc, "fit", fit)
    with pytest.raises(StoppedError):
        made(run, Trained(method), 6)
    assert (options["loss"], options["projection"]) == SWITCHABLE[method]
    assert ("logit_scale" in options) == (options["loss"] == "evidential")
    assert options["recipe"].clip_norm == run.knobs.clip_norm


def test_one_to_one_bct_is_held_against_the_full_model_that_does_not_move(run, monkeypatch):
    seen, fit = {}, bct.fit

    def watched(**options):
        seen["before"] = options["old_classifier"].weight.detach().clone()
        seen["classifier"] = options["old_classifier"]
        return fit(**options)

    monkeypatch.setattr(bct, "fit", watched)
    changed = run.model_copy(update={"training": run.training.model_copy(update={"learning_rate": 0.03})})
    full = models.base_model(changed, "new", 0)[0]
    made(changed, Trained("one-to-one BCT", width=0.5), 0)
    assert torch.equal(seen["before"], seen["classifier"].weight)
    assert torch.equal(seen["before"], full.classifier.weight)


def test_each_value_decides_the_keys_of_those_that_use_it(run):
    changes = {
        "rate_cross_entropy": {m for m, (loss, _) in SWITCHABLE.items() if loss == "cross-entropy"},
        "rate_evidential": {m for m, (loss, _) in SWITCHABLE.items() if loss == "evidential"},
        "rate_triplet": {"Asymmetric-S"},
        "rate_joint": {"joint"},
        "logit_scale": {m for m, (loss, _) in SWITCHABLE.items() if loss == "evidential"},
        "kl_weight": {m for m, (loss, _) in SWITCHABLE.items() if loss == "evidential"},
        "clip_norm": {"joint", *SWITCHABLE},
    }
    for knob, expected in changes.items():
        other = run.model_copy(update={"knobs": run.knobs.model_copy(update={knob: 0.123})})
        differing = {what.method for what in EVERY if key(run, what) != key(other, what)}
        assert differing == expected, knob


def key(run, what) -> str:
    """The key under which it would be kept; nothing is trained but the full model."""
    full, found = models.base_model(run, what.role, 0), []

    def stop(name, own, *others):
        found.append(own)
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "base_model", lambda *_, **__: full)
        patch.setattr(switchable_models.artifacts, "load_or_fit", stop)
        with pytest.raises(StoppedError):
            made(run, what, 0)
    return found[0]


def test_methods_and_splits_are_kept_apart():
    ten = run_with().model_copy(update={"classes": 10})  # an open set needs as many
    every = [Trained(what.method, split, what.width) for what, split in itertools.product(EVERY, switchables.SPLITS)]
    assert len({name_of(what) for what in every}) == len(every)
    assert len({key(ten, what) for what in every}) == len(every)
    assert all(work(ten, what) > 0 for what in every)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "SFSC 2"}, "unknown method 'SFSC 2'; choose one of"),
        ({"method": "SFSC", "split": "open"}, "unknown split 'open'; choose one of"),
        ({"method": "independent"}, "independent trains one width at a time"),
        ({"method": "SFSC", "width": 0.5}, "SFSC trains all widths at a time"),
    ],
)
def test_what_there_is_not_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Trained(**options)


@pytest.mark.parametrize(
    ("knob", "value", "words"),
    [
        ("widths", (0.5,), "widths must be two or more ascending shares"),
        ("widths", (1.0, 0.5), "widths must be two or more ascending shares"),
        ("widths", (0.25, 0.5), "the last of them 1"),
        ("rate_triplet", 0.0, "rate_triplet"),
        ("logit_scale", -1.0, "logit_scale"),
    ],
)
def test_a_value_out_of_range_is_refused(knob, value, words):
    with pytest.raises(ValueError, match=words):
        settings({"profile": "smoke", knob: value}, Knobs)


def test_operations_are_those_of_the_layers():
    """A convolution's and a linear map's products and sums, counted by hand."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 6 * 6, 5, bias=False))
    images = torch.zeros(1, 3, 8, 8)
    assert switchable_models.flops(network, images) == 2 * (4 * 3 * 9 * 36) + 2 * (144 * 5)
