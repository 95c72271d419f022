"""Which images the old and the new model see."""

from itertools import product

import numpy as np
import pytest
import torch

from compatlib.data import splits
from compatlib.data.features import FeatureSet
from compatlib.data.images import FolderImages, ImageSet


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


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_mislabelled_images_bear_the_labels_of_all_other_classes_alike(share):
    whole = image_set(per_class=38)
    found = splits.mislabelled(whole, share)
    assert torch.equal(found.images, whole.images)
    assert (found.digest() == whole.digest()) == (share == 0)
    for label in range(20):
        own = found.labels[whole.labels == label]
        count = round(38 * share)
        assert torch.equal(own[count:], torch.full((38 - count,), label))  # the first of every class are wrong
        others = torch.bincount(own[:count], minlength=20)
        assert others[label] == 0
        others = torch.cat([others[:label], others[label + 1 :]])
        assert int(others.max() - others.min()) <= 1
    assert torch.equal(splits.mislabelled(whole, share).labels, found.labels)


def test_only_classes_that_are_there_are_mistaken_for_one_another():
    old, _ = splits.class_incremental(image_set(), 0.25)
    assert set(splits.mislabelled(old, 0.4).labels.tolist()) == set(range(5))


@pytest.mark.parametrize(
    ("images", "share", "words"),
    [
        (image_set(), 1.0, r"a share of 1.0 to mislabel, which is not in \[0, 1\); give one such as 0.2"),
        (image_set(), -0.1, "a share of -0.1"),
        (image_set(classes=1), 0.2, "images of 1 class have no other"),
        ("images", 0.2, "labels are changed in an ImageSet or a FeatureSet, not in str"),
    ],
)
def test_impossible_mislabelling_is_refused(images, share, words):
    with pytest.raises(ValueError, match=words):
        splits.mislabelled(images, share)


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


def test_open_set_of_images_on_disk_or_of_two_kinds_is_refused_with_what_is_possible(tmp_path):
    for number in range(10):
        (tmp_path / f"class {number}").mkdir()
        (tmp_path / f"class {number}" / "a.png").touch()
    folder = FolderImages(tmp_path)
    in_memory = ImageSet(torch.zeros(10, 1, 1, 1, dtype=torch.uint8), torch.arange(10), folder.class_names)
    features = FeatureSet(np.zeros((10, 1, 2), np.float16), torch.arange(10), folder.class_names, "origin")
    sets = {"FolderImages": folder, "ImageSet": in_memory, "FeatureSet": features}
    for (first, train), (second, test) in product(sets.items(), repeat=2):
        if first != second or train is folder:
            words = f"both must be an ImageSet or both a FeatureSet, not {first} and {second}; choose a named data set"
            with pytest.raises(ValueError, match=words):
                splits.open_set(train, test)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
@pytest.mark.parametrize("split", [splits.sample_incremental, splits.hold_out])
def test_a_share_of_the_images_that_is_none_is_refused_by_its_own_value(split, share):
    with pytest.raises(ValueError, match=rf"a share of {share} .*not in \(0, 1[])]; give one such as"):
        split(image_set(), share)


def test_all_images_can_be_old_but_not_held_out():
    assert len(splits.sample_incremental(image_set(), 1.0)[0]) == 200
    with pytest.raises(ValueError, match=r"a share of 1.0 to hold out, which is not in \(0, 1\)"):
        splits.hold_out(image_set(), 1.0)


def uneven(*counts: int) -> ImageSet:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    return ImageSet(images, labels, tuple(f"class {k}" for k in range(len(counts))))


@pytest.mark.parametrize(
    ("split", "share", "counts", "words"),
    [
        (splits.hold_out, 0.1, (4, 4), "0.1 leaves no validation image of class 'class 0' .it has 4., 'class 1' .it"),
        (splits.hold_out, 0.1, (20, 4, 20), "0.1 leaves no validation image of class 'class 1' .it has 4.; give more"),
        (splits.hold_out, 0.9, (20, 4, 20), "0.9 leaves no training image of class 'class 1' .it has 4.; give more"),
        (splits.sample_incremental, 0.5, (8, 1), "0.5 leaves no old image of class 'class 1' .it has 1.; give more"),
        (splits.hold_out, 0.1, (0, 0), "0.1 leaves no training image of an empty set; give more"),
        (splits.sample_incremental, 0.5, (0, 0), "0.5 leaves no old image of an empty set; give more"),
        (splits.class_incremental, 0.5, (0, 0, 3, 3), "0.5 of the classes, 0 to 1, has no image; choose a larger"),
    ],
)
def test_a_share_that_loses_a_class_or_leaves_a_part_empty_is_refused(split, share, counts, words):
    with pytest.raises(ValueError, match=f"a share of {words}"):
        split(uneven(*counts), share)


def test_classes_that_the_set_has_no_image_of_are_no_loss():
    half = splits.of_classes(image_set(), 10, 20)
    training, validation = splits.hold_out(half)
    assert torch.bincount(validation.labels).tolist() == [0] * 10 + [1] * 10
    assert len(training) == 90
    assert len(splits.sample_incremental(half)[0]) == 50


def test_five_images_a_class_are_the_fewest_of_which_a_tenth_can_be_held_out():
    training, validation = splits.hold_out(uneven(5, 5))
    assert (training.labels.tolist(), validation.labels.tolist()) == ([0] * 4 + [1] * 4, [0, 1])


@pytest.mark.parametrize("draw", [1, 2, 7])
def test_a_draw_numbers_the_classes_in_another_order_and_moves_no_image(draw):
    before, after = image_set(), splits.renumbered(image_set(), draw)
    assert torch.equal(after.images, before.images)
    assert sorted(after.class_names) == sorted(before.class_names)
    names = [[each.class_names[label] for label in each.labels.tolist()] for each in (before, after)]
    assert names[0] == names[1]
    old = [set(splits.class_incremental(each)[0].labels.tolist()) for each in (before, after)]
    assert old[0] == old[1] == set(range(10))
    known = {after.class_names[label] for label in range(10)}
    assert known != set(before.class_names[:10])
    assert splits.renumbered(image_set(), draw).digest() == after.digest() != before.digest()


def test_draws_differ():
    assert len({splits.renumbered(image_set(), draw).class_names for draw in range(1, 9)}) == 8


def test_what_cannot_be_renumbered_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").touch()
    with pytest.raises(
        ValueError, match="renumbered in an ImageSet or a FeatureSet, not in FolderImages; choose draw 0"
    ):
        splits.renumbered(FolderImages(tmp_path), 1)


def test_what_a_search_chooses_by_is_neither_trained_on_nor_tested_with():
    train, test = image_set(8), image_set(2)
    split, whole = splits.for_search(train, test, calibration=15), splits.open_set(train, test)
    classes = [set(part.labels.tolist()) for part in (split.train, split.search, split.test)]
    assert sum(map(len, classes)) == len(set.union(*classes)) == 20
    assert [each.digest() for each in (split.train, split.search, split.test)] == [each.digest() for each in whole[:3]]
    assert len(split.calibration) == 15
    assert set(split.calibration.labels.tolist()) <= classes[0]
    assert len(set(split.calibration.labels.tolist())) > 5  # drawn, not the first ones


def test_the_images_of_a_search_are_the_same_every_time_and_no_more_than_there_are():
    train, test = image_set(8), image_set(2)
    first, again = (splits.for_search(train, test, 30, 12) for _ in range(2))
    assert [each.digest() for each in first[:4]] == [each.digest() for each in again[:4]]
    assert len(first.search) == 12
    assert set(first.search.labels.tolist()) == {10, 11}
    assert len(splits.for_search(train, test).calibration) == 100
    for numbers in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="0 images asked for; choose 1 or more"):
            splits.for_search(train, test, *numbers)
