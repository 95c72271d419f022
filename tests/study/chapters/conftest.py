"""What the tests of several chapters need alike."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from compatlib.data import sources
from compatlib.study import models
from compatlib.study.settings import Settings


@contextmanager
def _without_test_images(run: Settings) -> Iterator[None]:
    """No test image can be read here, neither from what was read before; that this is so is tried on the run."""
    images, load = models.images, sources.load
    images.cache_clear()

    def no_test_images(dataset, split, *others, **options):
        assert split != "test", "the tuning asks for test images"
        return images(dataset, split, *others, **options)

    def no_test_split(dataset, split, *others, **options):
        assert split == "train", "the tuning reads test images"
        return load(dataset, split, *others, **options)

    with pytest.MonkeyPatch.context() as poison:
        poison.setattr(sources, "load", no_test_split)
        with pytest.raises(AssertionError, match="the tuning reads test images"):
            models.test_images(run)
        poison.setattr(models, "images", no_test_images)
        with pytest.raises(AssertionError, match="the tuning asks for test images"):
            models.test_images(run)
        yield


@pytest.fixture(scope="session")
def without_test_images() -> Callable[[Settings], AbstractContextManager[None]]:
    """A context, by the run, in which no test image can be read."""
    return _without_test_images
