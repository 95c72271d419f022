"""Which images the old and the new model see."""

import pytest
import torch

from compatlib.data import splits
from compatlib.data.images import ImageSet


def image_set(per_class=10, classes=20):
    labels = torch.arange(per_class * classes) % classes
    images = torch.arange(len(labels)).remainder(256).to(torch.uint8).view(-1, 1, 1, 1)
    return ImageSet(images, labels, tuple(f"class {k}" for k in range(classes)))


def test_class_incremental_takes_the_first_classes_in_numeric_order():
    old, new = splits.class_incremental(image_set())
    assert sorted(set(old.labels.tolist())) == list(range(10))
    assert len(old) == 100
    assert len(new) == 200
    quarter, _ = splits.class_incremental(image_set(), 0.25)
    assert sorted(set(quarter.labels.tolist())) == list(range(5))


def test_sample_incremental_takes_half_of_every_class_and_is_nested():
    whole = image_set()
    old, new = splits.sample_incremental(whole)
    assert torch.equal(torch.bincount(old.labels), torch.full((20,), 5))
    assert len(new) == 200
    assert set(old.images.flatten().tolist()) <= set(new.images.flatten().tolist())


def test_hold_out_is_the_fixed_last_tenth_of_every_class():
    training, validation = splits.hold_out(image_set())
    assert torch.equal(torch.bincount(validation.labels), torch.full((20,), 1))
    assert len(training) + len(validation) == 200
    assert validation.images.flatten().tolist() == list(range(180, 200))
    assert splits.hold_out(image_set())[1].digest() == validation.digest()


def test_open_set_identities_are_disjoint_and_use_training_and_test_images():
    split = splits.open_set(image_set(8), image_set(2))
    identities = [set(part.labels.tolist()) for part in (split.train, split.validation, split.test)]
    assert identities == [set(range(10)), {10, 11}, set(range(12, 20))]
    assert split.old_classes == 5
    assert len(split.train) == 100


def test_open_set_of_a_hundred_classes_is_the_protocols():
    split = splits.open_set(image_set(2, 100), image_set(1, 100))
    parts = [(int(part.labels.min()), int(part.labels.max())) for part in split[:3]]
    assert parts == [(0, 49), (50, 59), (60, 99)]
    assert split.old_classes == 25


@pytest.mark.parametrize("share", [0, -0.1, 1.1, 0.001])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match=str(share)):
        splits.class_incremental(image_set(), share)


def test_impossible_class_ranges_are_refused():
    for first, last in [(5, 5), (-1, 3), (0, 21)]:
        with pytest.raises(ValueError, match="classes 0 to 19"):
            splits.of_classes(image_set(), first, last)
    with pytest.raises(ValueError, match="at least ten classes"):
        splits.open_set(image_set(classes=5), image_set(classes=5))
    with pytest.raises(ValueError, match="not in"):
        splits.sample_incremental(image_set(), 0)
