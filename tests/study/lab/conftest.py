"""Runs so small that a training takes a tenth of a second, and folders of their own for what is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compatlib.data import sources
from compatlib.data.features import SOURCES, FeatureSet
from compatlib.data.images import Images, ImageSet
from compatlib.study.lab import artifacts, images, roles
from compatlib.study.settings import Knobs, Settings, settings


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Empty folders for what is kept and what is published."""
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "kept"))
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "published")
    return tmp_path / "kept", tmp_path / "published"


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Settings]:
    """Makes runs on ten classes of eight digits, two epochs each: `tiny(knobs, hidden_dim=9)`."""

    def make(knobs: type[Knobs] = Knobs, **given) -> Settings:
        run = settings({"profile": "smoke", "dataset": "digits", **given}, knobs)
        short = {"epochs": 2, "batch_size": 16, "warmup_epochs": 1}
        own = {name: getattr(run.knobs, name, None) for name in ("side", "transformation")}
        recipes = {name: recipe.model_copy(update=short) for name, recipe in own.items() if recipe is not None}
        changes = {"classes": 10, "train_per_class": 8, "test_per_class": 4}
        changes |= {"training": run.training.model_copy(update=short)}
        return run.model_copy(update=changes | {"knobs": run.knobs.model_copy(update=recipes)})

    return make


@pytest.fixture(scope="module")
def drawn_cifar100():
    """In place of CIFAR-100 and its features, which tests do not have: as many classes of noise, to plan a run with."""

    def load(dataset: str, split: str, own=sources.load, encoder: str | None = None, **options) -> Images | FeatureSet:
        if dataset not in ("cifar100", "cifar100_lite"):
            return own(dataset, split, encoder=encoder, **options)
        per_class = {"train": 10, "test": 2}[split]
        random = torch.Generator().manual_seed(per_class)
        if encoder is not None:
            drawn = torch.randn(100 * per_class, 2, SOURCES[dataset].size, generator=random).half().numpy()
            labels = torch.arange(100).repeat_interleave(per_class)
            return FeatureSet(drawn, labels, tuple(map(str, range(100))), encoder, encoder=encoder)
        pixels = torch.randint(0, 256, (100 * per_class, 3, 32, 32), dtype=torch.uint8, generator=random)
        return ImageSet(pixels, torch.arange(100).repeat_interleave(per_class), tuple(map(str, range(100))))

    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load", load)
        yield
    forget()


def forget() -> None:
    """Images and shares that a process keeps."""
    for kept in (images.images, images._open_set, images._search_images, images.standardisation, roles._share_of):
        kept.cache_clear()
