"""Sub-models of several widths, trained or found: parts of one switchable network, or networks of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compatlib.data.augment import crop_and_flip
from compatlib.methods import bct, independent, sfsc
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.slimmable import Slimmable
from compatlib.study import artifacts, models
from compatlib.study.artifacts import Artifact
from compatlib.study.gradient_statistics import GradientStatistics
from compatlib.study.models import Report
from compatlib.study.settings import Settings
from compatlib.study.switchables import APART, INDEPENDENT, JOINT, SWITCHABLE, Trained, name_of, recipe_of
from compatlib.training import Fit, initialised

APART_MODULES = ("compatlib.models.slimmable", *models.TRAINING_MODULES)
SWITCHABLE_MODULES = ("compatlib.methods.sfsc", *models.NETWORK_MODULES)


@dataclass(frozen=True)
class Made:
    """Stand-alone sub-models in eval mode by width, and where they came from; statistics of switchable ones."""

    backbones: dict[float, nn.Module]
    artifact: Artifact
    statistics: GradientStatistics | None = None


def made(run: Settings, what: Trained, seed: int, *, report: Report | None = None) -> tuple[Made, bool]:
    """The sub-models of a training, and whether it had to be done now; a full model that it needs is made first."""
    if what.method in APART:
        return _apart(run, what, seed, report)
    if what.method == JOINT:
        return _joint(run, what, seed, report)
    return _switchable(run, what, seed, report)


def _settings(run: Settings, what: Trained, seed: int) -> dict[str, Any]:
    """What every training's key has."""
    network = models.role_of(what.role).network(run)
    return {
        "method": what.method,
        "role": what.role,
        "seed": seed,
        "network": network.model_dump(mode="json"),
        "training": recipe_of(run, what).model_dump(mode="json"),
        "augmentation": models.augmentation(run),
        "widths": list(run.knobs.widths) if what.width is None else what.width,
    }


def _network(run: Settings, what: Trained, seed: int, widths: tuple[float, ...]) -> Slimmable:
    """A switchable network with the initial weights of the role's base model."""
    role = models.role_of(what.role)
    make = partial(models.make_backbone, role.network(run), role.share(run)[0][0].shape[0])
    return Slimmable(initialised(make, seed, what.role), widths)


def _classifier(run: Settings, what: Trained, seed: int) -> nn.Module:
    role = models.role_of(what.role)
    make = partial(LinearClassifier, role.network(run).dim, int(role.share(run).labels.max()) + 1)
    return initialised(make, seed, f"{what.role} classifier")


def _placement(run: Settings, what: Trained, seed: int, report: Report | None) -> dict[str, Any]:
    """What every `fit` is told besides its parts: the role's own streams, so that all methods see the same batches."""
    return {
        "seed": seed,
        "role": what.role,
        "augment": partial(crop_and_flip, **models.augmentation(run)),
        "label_smoothing": run.training.label_smoothing,
        "report": report,
    }


def _kept(
    run: Settings,
    what: Trained,
    seed: int,
    parts: nn.ModuleDict,
    fit: Callable[..., Fit],
    settings: dict[str, Any],
    **key: Any,
) -> tuple[Artifact, bool]:
    share = models.role_of(what.role).share(run)
    own = artifacts.key_of(settings, data=share.digest(), **key)
    name = f"{run.dataset}-{name_of(what).lower().replace(' ', '-').replace(',', '')}-{seed}"

    def train(checkpoint: Path) -> Fit:
        return fit(images=share, recipe=recipe_of(run, what).recipe(), checkpoint=checkpoint)

    found = artifacts.load_or_fit(name, own, settings, parts, train)
    parts.to(memory_format=torch.channels_last)
    return found


def _apart(run: Settings, what: Trained, seed: int, report: Report | None) -> tuple[Made, bool]:
    """A narrow network of its own, with the initial weights of that part of the full one."""
    settings = _settings(run, what, seed)
    backbone = _network(run, what, seed, (what.width, 1.0)).extract(what.width)
    classifier = _classifier(run, what, seed)
    parts = nn.ModuleDict({"backbone": backbone, "classifier": classifier})
    bound = {"backbone": backbone, "classifier": classifier} | _placement(run, what, seed, report)
    if what.method == INDEPENDENT:
        key: dict[str, Any] = {"modules": APART_MODULES}
        fit = partial(independent.fit, **bound)
    else:
        full = models.base_model(run, what.role, seed)[0]
        key = {"modules": (*APART_MODULES, "compatlib.methods.bct"), "parents": [full.key]}
        fit = partial(bct.fit, **bound, old_classifier=full.classifier)
    artifact, is_new = _kept(run, what, seed, parts, fit, settings, **key)
    return Made({what.width: backbone}, artifact), is_new


def _joint(run: Settings, what: Trained, seed: int, report: Report | None) -> tuple[Made, bool]:
    widths = run.knobs.widths
    network = _network(run, what, seed, widths)
    backbones = {width: network.extract(width) for width in widths}
    named = nn.ModuleDict({_word(width): backbone for width, backbone in backbones.items()})
    classifier = _classifier(run, what, seed)
    parts = nn.ModuleDict({"backbones": named, "classifier": classifier})
    fit = partial(sfsc.fit_joint, backbones=named, classifier=classifier, **_placement(run, what, seed, report))
    artifact, is_new = _kept(run, what, seed, parts, fit, _settings(run, what, seed), modules=SWITCHABLE_MODULES)
    return Made(backbones, artifact), is_new


def _switchable(run: Settings, what: Trained, seed: int, report: Report | None) -> tuple[Made, bool]:
    knobs, (loss, projection) = run.knobs, SWITCHABLE[what.method]
    options = {"loss": loss, "projection": projection}
    if loss == "evidential":
        options |= {"kl_weight": knobs.kl_weight, "logit_scale": knobs.logit_scale}
    network, classifier = _network(run, what, seed, knobs.widths), _classifier(run, what, seed)
    recipe, images = recipe_of(run, what).recipe(), len(models.role_of(what.role).share(run))
    statistics = GradientStatistics(
        tuple(str(width) for width in reversed(knobs.widths)),
        _shared_names(network, classifier),
        recipe.epochs,
        images // min(recipe.batch_size, images),
    )
    parts = nn.ModuleDict({"network": network, "classifier": classifier, "statistics": statistics})
    placement = _placement(run, what, seed, report)
    fit = partial(sfsc.fit, network=network, classifier=classifier, on_step=statistics, **options, **placement)
    modules = (*SWITCHABLE_MODULES, "compatlib.study.gradient_statistics")
    artifact, is_new = _kept(run, what, seed, parts, fit, _settings(run, what, seed) | options, modules=modules)
    return Made({width: network.extract(width).eval() for width in knobs.widths}, artifact, statistics), is_new


def _shared_names(network: Slimmable, classifier: nn.Module) -> tuple[str, ...]:
    """Of the tensors whose gradients are watched, in the order in which `sfsc.fit` has them."""
    names = {id(parameter): name for name, parameter in network.backbone.named_parameters()}
    own = [names[id(parameter)] for parameter in network.shared_parameters()]
    return (*own, *(f"classifier.{name}" for name, _ in classifier.named_parameters()))


def _word(width: float) -> str:
    """A width as a module's name, which may hold no dot."""
    return f"width_{round(1000 * width)}"


def flops(backbone: nn.Module, images: torch.Tensor) -> int:
    """Floating-point operations of one image's convolutions and linear maps, a product and its sum counted as two.

    Args:
        backbone: in eval mode.
        images: (1, channels, height, width) uint8.
    """
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        backbone(images)
    return counter.get_total_flops()
