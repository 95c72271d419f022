"""Which images a run trains on and tests on: no image has two parts, and no identity that is new was seen before."""

import numpy as np
import pytest
import torch
from PIL import Image

from compatlib.data import sources
from compatlib.study.lab import images
from compatlib.study.lab.images import (
    CLASS_INCREMENTAL,
    OPEN_SET,
    SAMPLE_INCREMENTAL,
    augmentation,
    data_digests,
    images_to_test,
    known_classes,
    masks,
    open_set,
    training_images,
)
from compatlib.study.lab.roles import share_of

CLASSES, TRAINED_ON, TESTED_ON = 10, 8, 4


def pixels(part) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.images}


def test_training_and_test_images_are_read_once_and_differ(tiny):
    run = tiny()
    assert training_images(run) is training_images(run)
    assert torch.bincount(training_images(run).labels).tolist() == [TRAINED_ON] * CLASSES
    assert torch.bincount(images_to_test(run).labels).tolist() == [TESTED_ON] * CLASSES
    assert not pixels(training_images(run)) & pixels(images_to_test(run))


def test_a_validation_keeps_to_the_training_images(tiny):
    run = tiny().model_copy(update={"train_per_class": 10})
    validation = run.model_copy(update={"validation": True})
    kept, held_out = training_images(validation), images_to_test(validation)
    assert torch.bincount(kept.labels).tolist() == [9] * CLASSES
    assert torch.bincount(held_out.labels).tolist() == [1] * CLASSES
    assert pixels(kept) | pixels(held_out) == pixels(training_images(run))
    assert not pixels(kept) & pixels(held_out)


def test_an_open_set_validation_sees_nothing_that_is_tested_on_later(tiny):
    """It trains on the training classes, whole, and tests on classes that are kept for it."""
    run = tiny()
    validation = run.model_copy(update={"validation": True})
    validated, tested = images_to_test(validation, OPEN_SET), images_to_test(run, OPEN_SET)
    assert share_of("new_open", validation).digest() == share_of("new_open", run).digest()
    assert validated.labels.unique().tolist() == [5]
    assert torch.bincount(validated.labels)[5] == TRAINED_ON + TESTED_ON
    for images_trained_on in (share_of("new_open", validation), share_of("old_open", validation)):
        assert not set(images_trained_on.labels.tolist()) & {*validated.labels.tolist(), *tested.labels.tolist()}
    assert not pixels(validated) & pixels(tested)


def test_no_open_set_identity_is_trained_on_and_tested(tiny):
    run = tiny()
    tested = images_to_test(run, OPEN_SET)
    assert tested is open_set(run).test
    assert open_set(run).train.labels.unique().tolist() == [0, 1, 2, 3, 4]
    assert tested.labels.unique().tolist() == [6, 7, 8, 9]
    # The test images of an identity are trained on too.
    assert len(open_set(run).train) == 5 * (TRAINED_ON + TESTED_ON)


def test_queries_stand_apart_where_the_old_model_knew_some_classes_and_not_others(tiny):
    run = tiny()
    assert known_classes(run) == CLASSES // 2
    found, labels = masks(run, CLASS_INCREMENTAL), images_to_test(run).labels.numpy()
    assert set(found) == {"all", "known", "unknown"}
    assert found["all"].all()
    assert set(labels[found["known"]]) == set(range(5))
    assert (found["known"] ^ found["unknown"]).all()
    for split in (SAMPLE_INCREMENTAL, OPEN_SET):
        own = masks(run, split)
        assert set(own) == {"all"}
        assert np.array_equal(own["all"], np.ones(len(images_to_test(run, split)), bool))


@pytest.mark.parametrize(
    ("dataset", "flip"), [("glyphs", False), ("digits", False), ("omniglot_small", False), ("cifar100", True)]
)
@pytest.mark.parametrize(("side", "padding"), [(32, 4), (8, 1), (4, 1), (35, 4), (224, 28)])
def test_signs_are_not_mirrored_and_shifts_follow_the_size(tiny, monkeypatch, dataset, flip, side, padding):
    monkeypatch.setitem(sources.SIDES, dataset, side)
    assert augmentation(tiny().model_copy(update={"dataset": dataset})) == {"padding": padding, "flip": flip}


def test_digests_are_those_of_the_runs_images(tiny):
    run = tiny()
    digests = data_digests(run)
    assert digests == {"training": training_images(run).digest(), "test": images_to_test(run).digest()}
    fewer = data_digests(run.model_copy(update={"test_per_class": 2}))
    assert fewer["training"] == digests["training"]
    assert fewer["test"] != digests["test"]
    validation = data_digests(run.model_copy(update={"validation": True}))
    assert not set(validation.values()) & set(digests.values())


def test_a_file_that_cannot_be_read_is_told_before_anything_is_trained(tmp_path, monkeypatch, tiny):
    """A test image is looked at hours after the training began."""
    for split in sources.SPLITS:
        (tmp_path / "mine" / split / "cat").mkdir(parents=True)
        Image.new("F" if split == "test" else "L", (4, 4)).save(tmp_path / "mine" / split / "cat" / "0.tif")
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))
    images.images.cache_clear()
    run = tiny().model_copy(
        update={"dataset": "mine", "classes": None, "train_per_class": None, "test_per_class": None}
    )
    with pytest.raises(ValueError, match=r"test/cat/0\.tif cannot be read as an image: .*mode 'F'"):
        data_digests(run)
    images.images.cache_clear()


def test_a_data_set_is_read_once_for_all_parts(monkeypatch):
    read = []

    def load(*place, **options):
        read.append((place, options["per_class"]))
        return sources.load(*place, **options)

    images.images.cache_clear()
    monkeypatch.setattr(images, "sources", type("Watched", (), {"load": staticmethod(load), "SIDES": sources.SIDES}))
    parts = [images.images("digits", split, 3, 20, 32, None, 0) for split in ("kept", "held out", "train", "kept")]
    assert parts[0] is parts[3]
    assert read == [(("digits", "train"), 20)]
    images.images.cache_clear()
