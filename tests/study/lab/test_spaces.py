"""Spaces: each against what its models give when they are asked by hand."""

import numpy as np
import pytest
import torch

from compatlib.embedding import embed
from compatlib.study.lab import images
from compatlib.study.lab.images import CLASS_INCREMENTAL, OPEN_SET, SAMPLE_INCREMENTAL
from compatlib.study.lab.make import make
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import ClassMeans, H, Labels, Mixed, Of, Shifted, of_role
from compatlib.study.lab.trainables import Base, Side, Transformation, Upgrade, Widths

pytestmark = pytest.mark.usefixtures("keeps_trained")
SIDE = Side("SimCLR", 8)


@pytest.fixture(scope="module")
def seed(tiny_run):
    return Seed(tiny_run(), 0)


def embedded(seed, what, split=CLASS_INCREMENTAL, width=1.0) -> np.ndarray:
    backbone = make(seed.run, what, seed.seed)[0].backbone(width)
    return embed(backbone, images.images_to_test(seed.run, split)).numpy()


def transformed(seed, transformation, old: np.ndarray, side: np.ndarray | None = None) -> np.ndarray:
    """By the module's own forward pass, in the whole; of FastFill's what it transforms with."""
    module = make(seed.run, transformation, seed.seed)[0].parts
    module = module.transformation if transformation.objective == "fastfill" else module
    with torch.no_grad():
        return module(*map(torch.from_numpy, (old, old if side is None else side))).numpy()


@pytest.mark.parametrize("split", [CLASS_INCREMENTAL, SAMPLE_INCREMENTAL, OPEN_SET])
@pytest.mark.parametrize("what", [Base("old"), Upgrade("BCT A"), SIDE], ids=lambda what: what.name)
def test_a_models_space_is_what_it_makes_of_the_splits_images(seed, what, split):
    found = seed.vectors(Of(what), split)
    assert found.dtype == np.float32
    assert found.shape == (48 if split == OPEN_SET else 40, 8 if what == SIDE else 16)
    np.testing.assert_allclose(found, embedded(seed, what, split), atol=1e-6)
    assert len(Of(what).labels(seed, split)) == len(found)


def test_every_width_is_a_space_of_its_own(seed):
    what = Widths("BCT-S")
    found = {width: seed.vectors(Of(what, width), CLASS_INCREMENTAL) for width in (0.25, 0.5, 1.0)}
    for width, vectors in found.items():
        sub_model = make(seed.run, what, 0)[0].parts["network"].extract(width).eval()
        expected = embed(sub_model, images.images_to_test(seed.run)).numpy()
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert not np.allclose(found[0.25], found[0.5])
    assert not np.allclose(found[0.5], found[1.0])


@pytest.mark.parametrize("objective", ["fct", "fastfill"])
@pytest.mark.parametrize("side", [None, SIDE], ids=["without side", "with side"])
def test_a_transformed_space_is_h_of_what_is_stored(seed, side, objective):
    transformation = Transformation(side, objective=objective)
    old, new = embedded(seed, Base("old")), embedded(seed, Base("new"))
    expected = transformed(seed, transformation, old, None if side is None else embedded(seed, side))
    found = seed.vectors(H(transformation), CLASS_INCREMENTAL)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == new.shape
    assert not np.allclose(found, old)


def test_h_of_h_is_composed_and_its_side_information_is_the_first_models(seed):
    side = Side("SimCLR", 8, "old_quarter")
    first, second = Transformation(side, "old_quarter", "old"), Transformation(side, "old", "new")
    composed = H(second, stored=H(first))
    beside = embedded(seed, side)
    once = transformed(seed, first, embedded(seed, Base("old_quarter")), beside)
    expected = transformed(seed, second, once, beside)
    np.testing.assert_allclose(seed.vectors(composed, CLASS_INCREMENTAL), expected, atol=1e-4)
    assert set(composed.trainables) == {second, first, Base("old_quarter"), side}
    assert not np.allclose(seed.vectors(H(second), CLASS_INCREMENTAL), expected)


def test_in_halves_is_of_what_is_stored_in_float16(seed):
    transformation = Transformation(SIDE)
    halves = H(transformation, in_halves=True)
    stored = [embedded(seed, what) for what in (Base("old"), SIDE)]
    rounded = [each.astype(np.float16).astype(np.float32) for each in stored]
    assert not np.array_equal(rounded[0], stored[0])
    for found, expected in zip(halves.inputs(seed, CLASS_INCREMENTAL), rounded, strict=True):
        np.testing.assert_array_equal(found, expected)
    found = seed.vectors(halves, CLASS_INCREMENTAL)
    np.testing.assert_allclose(found, transformed(seed, transformation, *rounded), atol=1e-5)
    assert found.dtype == np.float32


def test_uncertainties_are_those_of_fastfills_head(seed):
    h = H(Transformation(SIDE, objective="fastfill"))
    head = make(seed.run, h.transformation, 0)[0].parts.uncertainty
    weight, bias = (each.detach().numpy() for each in (head.weight[0], head.bias))
    expected = [float(vector @ weight + bias[0]) for vector in seed.vectors(h, CLASS_INCREMENTAL)]
    np.testing.assert_allclose(h.log_variances(seed, CLASS_INCREMENTAL), expected, atol=1e-5)


def test_without_fastfill_no_uncertainty_is_stated(seed):
    with pytest.raises(ValueError, match="fct from old to new states no uncertainty; its objective must be"):
        H(Transformation()).log_variances(seed, CLASS_INCREMENTAL)


@pytest.mark.parametrize("what", [Base("old"), Base("old_samples"), Upgrade("BCT C")], ids=lambda what: what.name)
def test_class_means_are_those_of_all_training_images(seed, what):
    """Also of the classes that the model was not trained on."""
    training = images.training_images(seed.run)
    embeddings = embed(make(seed.run, what, 0)[0].backbone(), training).numpy()
    found = seed.vectors(ClassMeans(what), CLASS_INCREMENTAL)
    assert found.dtype == np.float32
    for label in range(10):
        own = [embeddings[item] for item in range(len(training)) if training.labels[item] == label]
        assert len(own) == 8
        np.testing.assert_allclose(found[label], sum(own) / 8, atol=1e-5)
    assert ClassMeans(what).labels(seed, CLASS_INCREMENTAL).tolist() == list(range(10))


def test_only_class_means_are_no_gallery_of_the_queries():
    h = H(Transformation())
    for space in (of_role("old"), h, Labels(), Mixed(h, of_role("new"), "random")):
        assert space.is_gallery_of_queries
    assert not ClassMeans(Base("old")).is_gallery_of_queries


def test_a_space_says_what_it_stands_on():
    transformation, bct = Transformation(SIDE), Upgrade("BCT A")
    assert Labels().trainables == ()
    assert of_role("old").trainables == (Base("old"),)
    assert Of(bct, 0.5).trainables == ClassMeans(bct).trainables == (bct,)
    assert H(transformation).trainables == (transformation, Base("old"), SIDE)
    mixed = Mixed(H(transformation), of_role("new"), "random")
    assert mixed.trainables == (transformation, Base("old"), SIDE, Base("new"))
    assert "orders" in mixed.behaviours
    assert Labels().behaviours == ()


@pytest.mark.parametrize("space", [Labels(), Mixed(H(Transformation()), of_role("new"), "random")])
def test_what_has_no_vectors_says_so(seed, space):
    with pytest.raises(ValueError, match="no vectors by itself"):
        seed.vectors(space, CLASS_INCREMENTAL)
    assert len(space.labels(seed, CLASS_INCREMENTAL)) == 40


@pytest.mark.parametrize("split", [CLASS_INCREMENTAL, OPEN_SET])
@pytest.mark.parametrize("onto", [Base("old"), None], ids=["shifted", "centred"])
def test_a_shifted_space_differs_from_the_models_by_one_vector_known_from_training_images(seed, split, onto):
    what = Base("new")
    found = seed.vectors(Shifted(what, onto), split)
    moved = found - embedded(seed, what, split)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-5)
    training = images.open_set(seed.run).train if split == OPEN_SET else images.training_images(seed.run)
    means = {
        each: embed(make(seed.run, each, 0)[0].backbone(), training).mean(dim=0).numpy()
        for each in (what, onto)
        if each
    }
    np.testing.assert_allclose(moved[0], means.get(onto, 0.0) - means[what], atol=1e-5)
    assert set(Shifted(what, onto).trainables) == {what, onto} - {None}


def test_a_space_of_another_size_cannot_be_shifted_onto_a_mean(seed):
    with pytest.raises(ValueError, match="new_narrow has 8 coordinates and old 16: a mean can only be moved onto one"):
        seed.vectors(Shifted(Base("new_narrow"), Base("old")), CLASS_INCREMENTAL)
