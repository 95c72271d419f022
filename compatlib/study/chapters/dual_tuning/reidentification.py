"""Dual-Tuning's released recipe for re-identification, for whoever has the data and a GPU.

    python -m compatlib.study.chapters.dual_tuning.reidentification market1501

trains an old model on the first identities of a set, and on all of them a new one by itself and one by Dual-Tuning;
then it tests queries on the gallery, each identity's images by its own camera left out. No row is made of it. Released
(configuration): what `profiles/paper.yml` holds, and heads of signed embeddings. There networks begin from ImageNet's
weights, here from drawn ones.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field
from torch import nn

from compatlib.data import reidentification, sources, splits
from compatlib.data.augment import crop_flip_and_erase
from compatlib.data.identity_batches import IdentityBatches
from compatlib.data.reidentification import IdentityImages
from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import dual_tuning, independent
from compatlib.study.lab.roles import make_backbone, make_classifier
from compatlib.study.settings import Network, Training, load_profile
from compatlib.training import initialised


class Reidentification(Training):
    """The recipe, and what it says of images, batches and networks.

    size: height and width in pixels. per_identity: images of an identity in a batch. padding, erasing: pixels around an
    image that is cropped, and the share of images with a part painted over. old_network, new_network: of torchvision's
    ResNets. dim: size of the embeddings. old_identities: by data set, how many the old model knows.
    """

    size: tuple[int, int] = reidentification.SIZE
    per_identity: int = 4
    padding: int = 10
    erasing: float = 0.5
    old_network: str = "resnet18"
    new_network: str = "resnet18"
    dim: int = 512
    old_identities: dict[str, int] = Field(default_factory=dict)

    def of_loop(self) -> Training:
        """What the training loop needs."""
        return Training(**self.model_dump(include=set(Training.model_fields)))


def released(profile: str = "paper") -> Reidentification:
    """The recipe that a profile holds.

    Raises:
        ValueError: an unknown profile, or one without this recipe.
    """
    about = load_profile(profile).get("knobs", {}).get("dual_tuning", {}).get("reidentification")
    if about is None:
        raise ValueError(f"profile {profile!r} has no recipe for re-identification; 'paper' has one")
    return Reidentification(**about)


def trained(
    recipe: Reidentification,
    images: IdentityImages,
    role: str,
    seed: int,
    old: nn.ModuleDict | None = None,
    **placement: Any,
) -> nn.ModuleDict:
    """A backbone and its classifier by the recipe; towards an old model by Dual-Tuning with the release's weights.

    Args:
        recipe: how.
        images: the training set; a batch holds some of its identities.
        role: "old" or "new": its stream and its network.
        seed: any integer ≥ 0.
        old: the old backbone and classifier; None trains by itself.
        **placement: `checkpoint`, `report`, `workers`… as `training.fit`.
    """
    loop = recipe.of_loop()
    name = recipe.old_network if role == "old" else recipe.new_network
    network = Network(torchvision=name, dim=recipe.dim, head="linear_bn")
    backbone = initialised(partial(make_backbone, network, images), seed, role)
    make = partial(make_classifier, "linear", recipe.dim, images, loop)
    parts = nn.ModuleDict({"backbone": backbone, "classifier": initialised(make, seed, f"{role} classifier")})
    common = {
        "images": images,
        "recipe": loop.recipe(),
        "seed": seed,
        "role": role,
        "label_smoothing": loop.label_smoothing,
        "augment": partial(crop_flip_and_erase, padding=recipe.padding, probability=recipe.erasing),
        "order": IdentityBatches(images.labels, recipe.per_identity),
    }
    if old is None:
        independent.fit(**parts, **common, **placement)
    else:
        frozen = {f"old_{part}": module for part, module in old.items()}
        dual_tuning.fit(**parts, **frozen, **common, **placement)
    return parts


def upgrade(name: str, recipe: Reidentification, seed: int = 0, folder: Path | None = None) -> pd.DataFrame:
    """Old and new models of one set, and what their queries find across cameras: mAP and rank 1, in percent.

    Args:
        name: one of `data.reidentification.NAMES`.
        recipe: how they are trained.
        seed: any integer ≥ 0.
        folder: for checkpoints, from which a training that was stopped goes on.

    Raises:
        ValueError: a set whose old identities the recipe does not number, and as `sources.load` and `training.fit`.
        FileNotFoundError: the set is not there; the message says where to get it and where to put it.
    """
    if name not in recipe.old_identities:
        raise ValueError(f"the recipe numbers the old identities of {tuple(recipe.old_identities)}, not of {name!r}")
    train, query, gallery = (sources.load(name, split, size=recipe.size) for split in ("train", "query", "gallery"))

    def fit(words: str, images: IdentityImages, role: str, old: nn.ModuleDict | None = None) -> nn.ModuleDict:
        print(f"{name}: {words}, {len(images):,} images", flush=True)
        checkpoint = folder and folder / f"{name}-{words}-{seed}.checkpoint"
        return trained(recipe, images, role, seed, old, checkpoint=checkpoint)

    models = {"old": fit("old", splits.of_classes(train, 0, recipe.old_identities[name]), "old")}
    models["new"] = fit("new", train, "new")
    models["Dual-Tuning"] = fit("Dual-Tuning", train, "new", models["old"])
    vectors = {
        words: {part: embed(model["backbone"], images) for part, images in (("query", query), ("gallery", gallery))}
        for words, model in models.items()
    }
    cameras = {"query_cameras": query.cameras, "gallery_cameras": gallery.cameras}
    lines = []
    for first, second in (("old", "old"), ("new", "old"), ("Dual-Tuning", "old"), ("Dual-Tuning",) * 2, ("new",) * 2):
        sides = vectors[first]["query"], vectors[second]["gallery"], query.labels, gallery.labels
        found = evaluate(*sides, **cameras)
        scores = {"mAP (%)": found.mean_average_precision, "rank 1 (%)": found.cmc[1]}
        test = {"query / gallery": f"{first} / {second}"}
        lines.append(test | {title: f"{100 * value:.1f}" for title, value in scores.items()})
    return pd.DataFrame(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    words = "python -m compatlib.study.chapters.dual_tuning.reidentification"
    parser = argparse.ArgumentParser(prog=words, description=__doc__)
    parser.add_argument("name", help=f"one of {', '.join(released().old_identities)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/reidentification"), help="for checkpoints")
    chosen = parser.parse_args(arguments)
    try:
        print(upgrade(chosen.name, released(), chosen.seed, chosen.folder).to_string(index=False))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
