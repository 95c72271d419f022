"""The old classifier as a form of BCT completes it: its rows, and what it makes of old and of new embeddings."""

import torch
from torch import Tensor
from torch.nn import functional as F

from compatlib.methods.bct import influence_loss
from compatlib.methods.common import resized
from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.images import training_images
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Space
from compatlib.study.lab.trainables.upgrades import METHODS, extended


@measure("old classifier", "synthesis")
def old_classifier(seed: Seed, case: Case) -> Rows:
    """Of a case new/old whose new model was trained by a form of BCT."""
    old, form = seed.made(case.gallery.what), METHODS[case.query.what.method].settings["form"]
    weight = old.parts["classifier"].weight.detach()
    known = len(weight)
    if form != "A":
        images = training_images(seed.run, case.gallery.what.encoder(seed.run))
        weight = extended(old, images, form).weight.detach()
    yield from _rows({"real rows": weight[:known], "made rows": weight[known:]})
    for name, space in (("old", case.gallery), ("new", case.query)):
        for row in _judged(seed, case, space, weight, known):
            yield {"query_model": name, "gallery_model": "classifier"} | row


def _rows(parts: dict[str, Tensor]) -> Rows:
    """How long the real and the made rows are, and how alike: mean cosine of different rows."""
    for name, part in parts.items():
        if len(part):
            cell = {"query_model": name, "gallery_model": name}
            yield cell | {"metric": "norm", "value": part.norm(dim=1).mean().item()}
        for other, second in parts.items():
            cosines = F.normalize(part) @ F.normalize(second).T
            different = cosines[~torch.eye(len(part), dtype=torch.bool)] if name == other else cosines.flatten()
            if len(different):
                cell = {"query_model": name, "gallery_model": other}
                yield cell | {"metric": "cosine", "value": different.mean().item()}


def _judged(seed: Seed, case: Case, space: Space, weight: Tensor, known: int) -> Rows:
    """Test embeddings under these rows: share put into the right class, share put into made rows, influence loss.

    A subset whose classes have no row is left out.
    """
    embeddings = resized(torch.from_numpy(seed.vectors(space, case.split)), weight.shape[1])
    labels = torch.from_numpy(seed.labels(case.split))
    chosen = (embeddings @ weight.T).argmax(dim=1)
    for subset, mask in seed.masks(case.split).items():
        if int(labels[mask].max()) >= len(weight):
            continue
        loss = influence_loss(embeddings[mask], labels[mask], weight).item()
        right, made = (chosen == labels)[mask], (chosen >= known)[mask]
        yield {"subset": subset, "metric": "classified", "value": right.double().mean().item()}
        yield {"subset": subset, "metric": "into made rows", "value": made.double().mean().item()}
        yield {"subset": subset, "metric": "influence loss", "value": loss}
