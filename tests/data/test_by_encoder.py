"""The same items by several encoders: one order, one digest, each encoder's own features."""

import pytest
import torch

from compatlib.data import splits
from compatlib.data.by_encoder import ByEncoder
from compatlib.data.features import FeatureSet
from compatlib.data.images import InMemory, batches
from compatlib.methods import independent
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.heads import feature_head
from compatlib.training import Recipe

CLASSES, PER_CLASS = 4, 6


def one(encoder: str, size: int = 5, seed: int = 0, **changes) -> FeatureSet:
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    drawn = torch.randn(len(labels), 2, size, generator=torch.Generator().manual_seed(seed)).half().numpy()
    values = {"stored": drawn, "labels": labels, "class_names": tuple("abcd"), "origin": encoder, "encoder": encoder}
    return FeatureSet(**values | changes)


@pytest.fixture
def both() -> ByEncoder:
    return ByEncoder({"lite0": one("lite0"), "lite2": one("lite2", size=7, seed=1)})


def test_a_batch_holds_every_encoders_own_features_of_the_same_items(both):
    assert isinstance(both, InMemory)
    for inputs, labels, indices in batches(both, torch.randperm(len(both)), 5):
        assert list(inputs) == ["lite0", "lite2"]
        for name, each in inputs.items():
            assert torch.equal(each, both.sets[name].batch(indices)[0])
        assert torch.equal(labels, both.labels[indices])
    item, label = both[9]
    assert (item["lite2"].shape, int(label)) == ((2, 7), 9 // PER_CLASS)


def test_splits_cut_all_encoders_alike(both):
    for share in (0.25, 0.5, 1.0):
        old, new = splits.class_incremental(both, share)
        assert new is both
        for name, each in old.sets.items():
            assert each.digest() == splits.class_incremental(both.sets[name], share)[0].digest()
    kept, held_out = splits.hold_out(both, 0.3)
    assert len(kept) + len(held_out) == len(both) == CLASSES * PER_CLASS


def test_the_digest_tells_encoders_their_names_and_items_apart(both):
    sets = both.sets
    others = [
        both,
        both.select(torch.arange(5)),
        ByEncoder({"lite0": sets["lite0"]}),
        ByEncoder({"lite1": sets["lite0"], "lite2": sets["lite2"]}),
        ByEncoder({"lite2": sets["lite2"], "lite0": sets["lite0"]}),
        ByEncoder({"lite0": one("other weights"), "lite2": sets["lite2"]}),
    ]
    assert len({each.digest() for each in others}) == len(others)
    assert both.digest() == ByEncoder(dict(sets)).digest()


def test_a_head_takes_the_features_of_its_own_encoder(both):
    inputs, _ = both.batch(torch.arange(6))
    for name, size in (("lite0", 5), ("lite2", 7)):
        head = feature_head(torch.zeros(size), torch.ones(size), hidden=4, dim=3, encoder=name).eval()
        assert torch.equal(head(inputs), head(inputs[name]))
    with pytest.raises(
        ValueError, match=r"this head stands on 'lite1'; the features are those of \['lite0', 'lite2'\]"
    ):
        feature_head(torch.zeros(5), torch.ones(5), hidden=4, dim=3, encoder="lite1")(inputs)


def test_a_head_is_trained_on_several_as_on_its_own_alone(both):
    """Whoever else looks at a batch changes nothing."""
    found = []
    for images in (both, both.sets["lite2"]):
        torch.manual_seed(0)
        head = feature_head(torch.zeros(7), torch.ones(7), hidden=4, dim=3, encoder="lite2")
        recipe = Recipe(epochs=3, batch_size=8, learning_rate=0.1)
        independent.fit(
            head, LinearClassifier(3, CLASSES), images=images, recipe=recipe, seed=0, role="new", augment=_plain
        )
        found.append(head.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def _plain(inputs, generator):
    return inputs


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": torch.arange(CLASSES).repeat(PER_CLASS)},
        {"class_names": tuple("abce")},
    ],
)
def test_sets_of_other_items_are_refused(changes):
    with pytest.raises(ValueError, match="by lite0 and by lite2 are of different items"):
        ByEncoder({"lite0": one("lite0"), "lite2": one("lite2", **changes)})
    with pytest.raises(ValueError, match="no encoder's features are given"):
        ByEncoder({})
