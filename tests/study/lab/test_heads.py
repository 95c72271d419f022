"""Heads on features through the whole lab: every role on its encoder, every method on what it needs, and no more."""

import dataclasses

import numpy as np
import pytest
import torch

from compatlib.data.by_encoder import ByEncoder
from compatlib.data.features import FeatureSet
from compatlib.embedding import embed
from compatlib.models.heads import FeatureHead
from compatlib.models.slimmable import sliced
from compatlib.study.lab import images
from compatlib.study.lab.images import CLASS_INCREMENTAL, OPEN_SET, encoder_of, images_to_test, standardisation
from compatlib.study.lab.make import behaviours_of, key, make
from compatlib.study.lab.roles import ROLES, share_of
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import ClassMeans, H, Of, Shifted
from compatlib.study.lab.trainables import Base, Narrow, Side, Transformation, Upgrade, Widths
from compatlib.study.lab.trainables.widths import APART
from compatlib.study.settings import changed
from tests.study.lab.pinned.drawn import CLASSES, FEATURE_SIZE, drawn_data, feature_set, on_features, run

OLD, NEW = Base("old"), Base("new")
H_VIEWS = Transformation()


@pytest.fixture(scope="module", autouse=True)
def drawn():
    with drawn_data():
        yield


@pytest.fixture(scope="module")
def own():
    return run(**on_features())


@pytest.fixture(scope="module")
def seed(own, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield Seed(own, 0)


@pytest.mark.parametrize("role", ROLES)
def test_old_and_query_roles_stand_on_the_old_encoder_and_all_others_on_the_new_one(own, role):
    expected = "lite0" if role.startswith(("old", "query")) else "lite2"
    assert encoder_of(own, role) == Base(role).encoder(own) == share_of(role, own).encoder == expected
    backbone = Base(role).build(own, 0)["backbone"]
    assert isinstance(backbone, FeatureHead)
    assert backbone.encoder == expected
    network = own.small_network if "small" in role else own.network
    assert len(backbone.trunk[0].weight) == network.hidden * (2 if {"deep", "gallery"} & set(role.split("_")) else 1)
    assert backbone.dim == network.dim // (2 if "narrow" in role else 1)


def test_images_have_no_encoder():
    plain = run()
    assert encoder_of(plain, "old") is encoder_of(plain, "new") is OLD.encoder(plain) is None


def test_features_are_standardised_as_the_roles_own_training_images_are(own):
    for role in ("old", "new", "old_open"):
        plain = share_of(role, own).features[:, 0].double()
        backbone = Base(role).build(own, 0)["backbone"]
        torch.testing.assert_close(backbone.mean.double(), plain.mean(dim=0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(backbone.deviation.double(), plain.std(dim=0, correction=0), rtol=1e-5, atol=1e-6)


def test_what_looks_at_two_models_is_trained_on_both_encoders_and_nothing_else_is(own):
    both = [Upgrade("BCT A"), Upgrade("L2"), H_VIEWS, Transformation(Side("supervised", 6))]
    assert all(isinstance(what.images(own), ByEncoder) for what in both)
    assert all(list(what.images(own).sets) == ["lite2", "lite0"] for what in both)
    one = [OLD, NEW, Widths("SFSC"), *(Narrow(method, 0.5) for method in APART), Side("supervised", 6)]
    assert all(isinstance(what.images(own), FeatureSet) for what in one)
    same = changed(own, {"encoders.new": "lite0"})
    assert all(isinstance(what.images(same), FeatureSet) for what in [*both, *one])


def test_a_key_moves_with_the_encoders_that_a_model_stands_on_and_with_no_other(own):
    other = changed(own, {"encoders.old": "lite1"})
    whats = [OLD, NEW, Upgrade("BCT A"), H_VIEWS, Widths("SFSC"), Narrow(APART[1], 0.5)]
    moved = [what for what in whats if key(own, what, 0) != key(other, what, 0)]
    assert moved == [OLD, Upgrade("BCT A"), H_VIEWS]


def test_a_key_moves_with_the_noise_and_the_hidden_layer(own):
    for changes in ({"noise": 0.1}, {"network.hidden": 17}, {"draw": 1}):
        assert key(own, NEW, 0) != key(changed(own, changes), NEW, 0)
    assert {"heads", "noise"} <= set(behaviours_of(own, NEW))
    assert not {"resnet", "augment"} & set(behaviours_of(own, NEW))


@pytest.mark.parametrize("split", [CLASS_INCREMENTAL, OPEN_SET])
def test_test_images_are_seen_as_each_models_own_encoder_sees_them(seed, split):
    for what, encoder in ((OLD, "lite0"), (NEW, "lite2"), (Upgrade("BCT A"), "lite2")):
        tested = images_to_test(seed.run, split, encoder)
        assert torch.equal(tested.labels, images_to_test(seed.run, split).labels)
        expected = embed(make(seed.run, what, 0)[0].backbone(), tested).numpy()
        np.testing.assert_array_equal(seed.vectors(Of(what), split), expected)


def test_every_kind_of_space_has_vectors(seed):
    """Class means, means, transformations and widths: of the encoder that they stand on."""
    spaces = [ClassMeans(OLD), Shifted(NEW, OLD), H(H_VIEWS), Of(Widths("SFSC"), 0.5), Of(Narrow(APART[0], 0.5))]
    for space in spaces:
        found = seed.vectors(space, CLASS_INCREMENTAL)
        assert found.shape[1] == seed.run.network.dim
        assert np.isfinite(found).all()
        assert found.std(axis=0).min() > 0


def test_a_narrow_width_has_its_share_of_the_hidden_layer(seed):
    hidden = sliced(seed.run.network.hidden, 0.5)
    for backbone in (
        seed.made(Widths("SFSC")).backbone(0.5),
        *(seed.made(Narrow(method, 0.5)).backbone() for method in APART),
    ):
        shapes = [tuple(each.shape) for each in backbone.parameters() if each.ndim == 2]
        assert shapes == [(hidden, FEATURE_SIZE), (8, hidden)]


def test_heads_learn_the_drawn_classes_and_models_trained_apart_do_not_meet(own, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path))
    longer = changed(own, {"training.epochs": 20, "training.learning_rate": 0.2})
    seed = Seed(longer, 0)
    tested = {
        words: seed.test(Of(q), Of(g), CLASS_INCREMENTAL, "cosine").metrics()["cmc@1"]
        for words, (q, g) in {"own": (NEW, NEW), "apart": (NEW, OLD), "BCT": (Upgrade("BCT A"), OLD)}.items()
    }
    assert tested["own"] > 0.6
    assert tested["apart"] < 0.3
    assert tested["BCT"] > tested["apart"] + 0.2


def test_a_stored_view_is_the_same_draw_for_both_encoders(own):
    """h is fitted on pairs of old and new embeddings of one view, each with its own noise."""
    without = changed(own, {"noise": 0.0})
    both = H_VIEWS.images(without)
    found = _augmented(without, both)
    views = {name: (found[name][:, None] == each.features[:40].float()).all(dim=2) for name, each in both.sets.items()}
    assert torch.equal(views["lite0"], views["lite2"])
    assert set(views["lite0"].float().argmax(dim=1).tolist()) == {0, 1}


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_an_encoders_views_are_the_same_alone_as_among_others(own, noise):
    """So each model is shown its own encoder's features alone when its views are stored."""
    noisy = changed(own, {"noise": noise})
    both = H_VIEWS.images(noisy)
    among = _augmented(noisy, both)
    assert set(among) == {"lite0", "lite2"}
    for name, features in both.sets.items():
        assert torch.equal(among[name], _augmented(noisy, features))


def _augmented(own, features):
    return images.augment(own, features)(features.batch(torch.arange(40))[0], torch.Generator().manual_seed(3))


def test_a_draw_makes_other_classes_old(own):
    known = {}
    for draw in range(3):
        drawn = changed(own, {"draw": draw})
        share = share_of("old", drawn)
        known[draw] = {share.class_names[label] for label in share.labels.unique().tolist()}
        masks = images.masks(drawn, CLASS_INCREMENTAL)
        labels = images_to_test(drawn).labels[torch.from_numpy(masks["known"])]
        assert {share.class_names[label] for label in labels.unique().tolist()} == known[draw]
    assert len({tuple(sorted(each)) for each in known.values()}) == 3
    assert all(len(each) == CLASSES // 2 for each in known.values())


def test_standardisation_is_of_the_first_view_of_the_items_themselves():
    whole = feature_set("lite0")
    part = whole.select(torch.arange(7))
    mean, deviation = standardisation(part)
    plain = part.features[:, 0].double()
    torch.testing.assert_close(mean.double(), plain.mean(dim=0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(deviation.double(), plain.std(dim=0, correction=0), rtol=1e-5, atol=1e-6)
    assert not torch.equal(mean, standardisation(whole)[0])
    constant = dataclasses.replace(part, stored=np.ones_like(whole.stored))
    assert standardisation(constant)[1].tolist() == [0.0] * FEATURE_SIZE
