"""Projections of features: themselves standardised, or their principal components."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from compatlib.data.features import FeatureSet
from compatlib.methods.side_information import fit_components
from compatlib.models.heads import Projection
from compatlib.study.lab.images import standardisation


def drawn(count: int = 60, size: int = 7, seed: int = 0) -> FeatureSet:
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, 2, size, generator=random) @ torch.randn(size, size, generator=random) + 3
    return FeatureSet(mixed.half().numpy(), torch.arange(count) % 3, tuple("abc"), "drawn", encoder="lite0")


def test_raw_features_are_standardised_and_otherwise_as_they_are():
    features = drawn()
    projection = Projection(*standardisation(features), encoder="lite0")
    assert projection.dim == 7
    assert not list(projection.parameters())
    found = projection(features.features)
    plain = features.features[:, 0].double()
    expected = (plain - plain.mean(dim=0)) / plain.std(dim=0, correction=0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(projection({"lite0": features.features, "lite2": features.features + 1}), found)


@pytest.mark.parametrize("dim", [1, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_components_are_those_of_scikit_learn(dim, seed):
    features = drawn(seed=seed)
    projection = Projection(*standardisation(features), dim)
    outcome = fit_components(projection, features)
    assert (outcome.history, outcome.cost.processes) == ([], 1)
    standardised = projection.standardised(features.features).double().numpy()
    expected = PCA(dim, svd_solver="covariance_eigh").fit(standardised)
    components = projection.components.double().numpy()
    np.testing.assert_allclose(np.abs(components), np.abs(expected.components_), atol=1e-5)
    assert (np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1) > 0).all()
    found = projection(features.features)
    assert found.shape == (60, dim)
    np.testing.assert_allclose(np.abs(found.numpy()), np.abs(expected.transform(standardised)), atol=1e-3)


def test_a_projections_state_is_all_that_it_is():
    features = drawn()
    first, second = (Projection(*standardisation(drawn(seed=each)), 3) for each in (0, 1))
    fit_components(first, features)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(features.features), second(features.features))


def test_impossible_projections_are_refused():
    mean, deviation = torch.zeros(4), torch.ones(4)
    for dim in (0, 5):
        with pytest.raises(ValueError, match=f"{dim} directions asked for; valid is 1 to the features' 4"):
            Projection(mean, deviation, dim)
    with pytest.raises(ValueError, match="needs a finite mean and a deviation ≥ 0"):
        Projection(mean, -deviation)
    with pytest.raises(ValueError, match="this head stands on 'lite1'"):
        Projection(mean, deviation, encoder="lite1")({"lite0": torch.zeros(2, 4)})
    features = drawn(count=4)
    projection = Projection(*standardisation(features), 5)
    with pytest.raises(ValueError, match="5 components of 4 items asked for"):
        fit_components(projection, features)
