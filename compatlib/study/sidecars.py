"""What a seed's rows were made from, as the sidecar of a chapter's rows tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from compatlib.study import models
from compatlib.study.artifacts import Artifact
from compatlib.study.digests import code_digest, module_digest
from compatlib.study.provenance import device, source_commit, versions
from compatlib.study.rows import Rows, read
from compatlib.study.settings import Knobs, Settings, settings


def version_of(
    run: Settings,
    modules: Sequence[str],
    *,
    measured_by: Sequence[str],
    trained_by: Sequence[str] = models.TRAINING_MODULES,
) -> dict[str, Any]:
    """Settings and code that decide a run's rows, besides seed and data.

    Args:
        run: the run's settings.
        modules: dotted names of the study's modules that decide what is measured: the chapter's, and what it uses. What
            they import is not followed, for much of it (progress, files) decides no number.
        measured_by: of the library's modules that turn models into rows, with all that they import.
        trained_by: of those that make the models, with all that they import.
    """
    return {
        "settings": run.model_dump(mode="json", exclude={"seeds", "sweep_seeds"}),
        "code": [code_digest(measured_by), *map(module_digest, modules)],
        "training_code": code_digest(trained_by),
    }


def current_versions(published: Rows, chapter: Any) -> dict[str, dict[str, Any]]:
    """For every "profile/dataset" of the published rows, what this version of the study would make them from.

    Args:
        published: the chapter's rows.
        chapter: the chapter's module, with its `Knobs` and `version`.
    """
    current = {}
    for group in published.sidecar:
        name = group.rpartition("/")[0]
        profile, dataset = name.split("/")
        run = settings({"profile": profile, "dataset": dataset}, getattr(chapter, "Knobs", Knobs))
        current[name] = chapter.version(run)
    return current


def published(chapter: Any, profile: str, dataset: str) -> Rows:
    """A chapter's published rows of one profile and data set, those of one version only: see `Rows.comparable`.

    Args:
        chapter: the chapter's module.
        profile: whose rows.
        dataset: of which data set.
    """
    own = read(chapter.CHAPTER).run(profile, dataset)
    return own.comparable(current_versions(own, chapter).get(f"{profile}/{dataset}"))


def data_digests(run: Settings) -> dict[str, str]:
    """SHA-256 of the training and the test images."""
    return {"training": models.training_images(run).digest(), "test": models.test_images(run).digest()}


def description(
    run: Settings, version: Mapping[str, Any], artifacts: Mapping[str, Artifact], seconds: float
) -> dict[str, Any]:
    """What a seed's rows were made from, and the circumstances.

    Args:
        run: the run's settings.
        version: from `version_of`.
        artifacts: the trained models by name.
        seconds: what measuring the seed took once its models were there.
    """
    commit, is_dirty = source_commit()
    abouts = {name: artifact.about for name, artifact in artifacts.items()}
    return {
        "made_from": {**version, "data": data_digests(run)},
        "artifacts": {name: artifact.key for name, artifact in artifacts.items()},
        "training_seconds": {name: round(about["cost"]["seconds"], 1) for name, about in abouts.items()},
        "trained_on": sorted({f"{about['device']}, torch {about['torch']}" for about in abouts.values()}),
        "commit": commit,
        "dirty": is_dirty,
        "versions": versions(),
        "device": device(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
    }
