"""What decides whether sub-models meet: the room that their classifier leaves free, and how well they fit."""

import torch

from compatlib.embedding import embed
from compatlib.study.lab.cases import Case, Rows, measure
from compatlib.study.lab.seed import Seed


@measure("row space")
def row_space_energy(seed: Seed, case: Case) -> Rows:
    """Share of the squared length of the query's test embeddings that lies within the span of its classifier's rows.

    The rest is free: cross-entropy does not see it, so that each width may put anything there.
    """
    rows = seed.made(case.query.what).parts["classifier"].weight.detach().double()
    vectors = torch.from_numpy(seed.vectors(case.query, case.split)).double()
    _, singular, right = torch.linalg.svd(rows, full_matrices=False)
    spanning = right[singular > singular.max() * max(rows.shape) * torch.finfo(torch.float32).eps]
    share = (vectors @ spanning.T).square().sum() / vectors.square().sum()
    yield {"subset": "all", "metric": "row_space_energy", "value": share.item()}


@measure("training accuracy")
def training_accuracy(seed: Seed, case: Case) -> Rows:
    """Share of its training images, as they are, that the query's model and its classifier put into the right class."""
    what, width = case.query.what, case.query.width
    made, images = seed.made(what), what.images(seed.run)
    with torch.inference_mode():
        chosen = made.parts["classifier"](embed(made.backbone(width), images)).argmax(dim=1)
    yield {"subset": "all", "metric": "training_accuracy", "value": (chosen == images.labels).double().mean().item()}
