"""Side-information and transformations of the study: what decides a key, what they start from, what never moves."""

import copy

import pytest
import torch

from compatlib.embedding import embed
from compatlib.methods import fct, independent, side_information
from compatlib.study import models, transformations
from compatlib.study.chapters.fct import Knobs
from compatlib.study.settings import settings
from compatlib.study.transformations import KINDS, Side, Transformed, name_of, side_model, transformation, work

SIDE = Side("SimCLR", 8)


def run_with(**knobs):
    """Six classes of eight digits, one epoch each."""
    chosen = settings({"profile": "smoke", "dataset": "digits", **knobs}, Knobs)
    training = chosen.training.model_copy(update={"epochs": 1, "batch_size": 16})
    once = {"side": chosen.knobs.side.model_copy(update={"epochs": 1, "batch_size": 16})}
    once |= {"transformation": chosen.knobs.transformation.model_copy(update={"epochs": 2, "batch_size": 16})}
    sizes = {"classes": 6, "train_per_class": 8, "test_per_class": 4, "training": training}
    return chosen.model_copy(update=sizes | {"knobs": chosen.knobs.model_copy(update=once)})


@pytest.fixture(scope="module", autouse=True)
def artifacts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture(scope="module")
def run():
    return run_with()


@pytest.fixture
def found_only(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something is trained again")

    for module in (independent, fct, side_information):
        for name in ("fit", "fit_on_images", "fit_fastfill", "fit_simclr", "fit_autoencoder"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)


def key(run, what, seed=0):
    make = side_model if isinstance(what, Side) else transformation
    return make(run, what, seed)[0].artifact.key


@pytest.mark.parametrize("kind", KINDS)
def test_side_information_is_trained_on_the_old_images_and_then_found(run, kind, monkeypatch):
    seen = []
    for module, name in (
        (independent, "fit"),
        (side_information, "fit_simclr"),
        (side_information, "fit_autoencoder"),
    ):
        original = getattr(module, name)

        def watched(*arguments, original=original, **options):
            seen.extend(each for each in arguments if hasattr(each, "labels"))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, watched)
    side = Side(kind, 5)
    made, is_new = side_model(run, side, 0)
    assert is_new
    assert not side_model(run, side, 0)[1]
    assert [each.digest() for each in seen] == [models.ROLES["old"].share(run).digest()]
    assert embed(made.module, models.test_images(run)).shape == (24, 5)
    assert not made.module.training


def test_a_second_supervised_model_is_not_the_old_one(run):
    second = side_model(run, Side("supervised", run.network.dim), 0)[0].module.state_dict()
    old = models.base_model(run, "old", 0)[0].backbone.state_dict()
    assert second.keys() == old.keys()
    weights = [name for name in old if name.endswith("weight") and old[name].ndim > 1]
    assert weights
    assert all(not torch.equal(second[name], old[name]) for name in weights)


def test_what_decides_the_key_of_side_information(run):
    keys = [
        key(run, side) for side in (SIDE, Side("SimCLR", 4), Side("autoencoder", 8), Side("SimCLR", 8, "old_samples"))
    ]
    keys += [key(run, SIDE, seed=1), key(run_with(temperature=0.1), SIDE), key(run_with(projection_dim=7), SIDE)]
    assert len(set(keys)) == len(keys)
    assert key(run_with(hidden_dim=9, views=3), SIDE) == keys[0]
    autoencoder = Side("autoencoder", 8)
    assert key(run_with(temperature=0.1), autoencoder) == key(run, autoencoder)


def test_what_decides_the_key_of_a_transformation(run):
    whats = [
        Transformed(),
        Transformed(SIDE),
        Transformed(Side("autoencoder", 8)),
        Transformed(objective="fastfill"),
        Transformed(source="images"),
        Transformed(old="old_samples"),
        Transformed(new="twin"),
    ]
    keys = [key(run, what) for what in whats]
    keys += [key(run, Transformed(), seed=1), key(run_with(hidden_dim=9), Transformed())]
    keys += [key(run_with(views=3), Transformed())]
    assert len(set(keys)) == len(keys)
    # Images embedded anew at every step have no number of views, and nothing without side-information depends on it.
    assert key(run_with(views=3), Transformed(source="images")) == keys[4]
    assert key(run_with(temperature=0.1), Transformed()) == keys[0]


def test_nothing_is_trained_twice(run, found_only):
    for what in (Transformed(), Transformed(SIDE), Transformed(objective="fastfill")):
        made, is_new = transformation(run, what, 0)
        assert not is_new
        assert not made.module.training
        assert isinstance(made.module, fct.FastFill if what.objective == "fastfill" else fct.Transformation)


def test_the_models_that_it_goes_between_do_not_move(run, monkeypatch):
    """Compared are the very modules that the fits are given, BatchNorm's statistics included."""
    held, before = {}, {}

    def remembering(original):
        def call(run, what, seed, **options):
            if what not in held:
                held[what] = original(run, what, seed, **options)
                made = held[what][0]
                modules = [made.module] if isinstance(what, Side) else [made.backbone, made.classifier]
                before[what] = [(module, copy.deepcopy(module.state_dict())) for module in modules]
            return held[what]

        return call

    monkeypatch.setattr(models, "base_model", remembering(models.base_model))
    monkeypatch.setattr(transformations, "side_model", remembering(side_model))
    transformations._kept.clear()
    for options in ({}, {"objective": "fastfill"}, {"source": "images"}):
        assert transformation(run, Transformed(SIDE, **options), 3)[1], "it was to be trained now"
    assert set(before) == {"old", "new", SIDE}
    for pairs in before.values():
        for module, state in pairs:
            assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_both_objectives_start_from_the_same_transformation():
    plain = transformations.initialised(lambda: transformations._untrained("fct", 4, 4, 4, 6), 0, "transformation")
    fastfill = transformations.initialised(
        lambda: transformations._untrained("fastfill", 4, 4, 4, 6), 0, "transformation"
    )
    first, second = plain.state_dict(), fastfill.transformation.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_stored_views_are_of_the_same_augmented_images_whoever_asks(run):
    transformations._kept.clear()
    first = transformations._stored(run, Transformed(), 0, None)
    second = transformations._stored(run, Transformed(SIDE), 0, None)
    assert torch.equal(first.old, second.old)
    assert torch.equal(first.new, second.new)
    assert torch.equal(first.side, first.old)
    assert second.side.shape == (2, 48, 8)
    old, new = (models.base_model(run, role, 0)[0].backbone for role in ("old", "new"))
    side = side_model(run, SIDE, 0)[0].module
    crop = transformations.partial(transformations.crop_and_flip, **models.augmentation(run))
    together = fct.store_views(old, side, new, models.training_images(run), seed=0, views=2, augment=crop)
    assert torch.equal(second.old, together.old)
    assert torch.equal(second.side, together.side)
    assert torch.equal(second.new, together.new)
    assert torch.equal(second.labels, models.training_images(run).labels)


def test_a_step_of_a_chain_is_fitted_on_the_images_of_its_own_new_model(run):
    step = transformations._stored(run, Transformed(None, "old_quarter", "old"), 0, None)
    assert len(step) == len(models.ROLES["old"].share(run)) < len(models.training_images(run))


def test_names_tell_everything_apart():
    whats = [SIDE, Side("SimCLR", 4), Transformed(), Transformed(SIDE), Transformed(SIDE, objective="fastfill")]
    whats += [Transformed(SIDE, source="images"), Transformed(SIDE, "old_samples"), Transformed(SIDE, new="twin")]
    whats += [Transformed(Side("SimCLR", 8, "old_quarter"))]
    assert len({name_of(what) for what in whats}) == len(whats)
    assert name_of(Transformed(SIDE)) == "fct from old and SimCLR 8 to new"


def test_two_views_and_images_embedded_anew_are_more_work(run):
    assert work(run, SIDE) == 2 * work(run, Side("autoencoder", 8)) > 0
    recipe = run.knobs.transformation.model_copy(update={"epochs": 40})
    longer = run.model_copy(update={"knobs": run.knobs.model_copy(update={"transformation": recipe})})
    assert work(longer, Transformed(source="images")) > work(longer, Transformed()) > 0


def test_unknown_side_information_is_refused():
    with pytest.raises(ValueError, match="unknown side-information 'simclr'; choose one of"):
        Side("simclr", 8)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"objective": "fastfil"}, "objective is 'fastfil' and source 'views'; valid are"),
        ({"source": "image"}, "source 'image'; valid are"),
        ({"objective": "fastfill", "source": "images"}, "FastFill is fitted on stored views only"),
    ],
)
def test_an_unknown_transformation_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Transformed(**values)


def test_recipes_of_a_profile_are_changed_value_by_value():
    own = settings({"profile": "study"}, Knobs).knobs
    given = settings({"profile": "study", "transformation": {"epochs": 7}}, Knobs).knobs
    assert given.transformation == own.transformation.model_copy(update={"epochs": 7})
    assert given.side == own.side
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, but no label is used here"):
        settings({"side": {"label_smoothing": 0.1}}, Knobs)
