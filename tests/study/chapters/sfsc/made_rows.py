"""The chapter's rows made by hand: the first table for three seeds, the others for the first."""

import pandas as pd

from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN, OF_TABLE, OWN_GALLERIES, WHOLE_MATRIX
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import SWITCHABLE
from tests.study.lab.figures.made import METRICS, made

WIDTHS, EPOCHS, TENSORS = ("0.25", "0.5", "1"), (1.0, 2.0, 3.0), ("trunk.0.weight", "classifier.weight")
SCORES = {"subset": "all", "metric": METRICS, "distance": "cosine"}


def of_methods(split: str, methods: tuple[str, ...]) -> list[dict]:
    """Scores, costs and gradients."""
    place, found = {"split": split}, [{"split": split, "method": "chance", **SCORES}]
    for method in methods:
        galleries = {width: WIDTHS if method in WHOLE_MATRIX else tuple({width, "1"}) for width in WIDTHS}
        cells = [pair(query, gallery) | SCORES for query, gallery in galleries.items()]
        cells.append(pair(MEAN, (OWN_GALLERIES, FULL_GALLERY)) | SCORES)
        cells.append({"query_model": WIDTHS, "metric": ("parameters", "flops")})
        cells.append({"metric": "training_seconds"})
        found += [place | {"method": method} | cell for cell in cells + (gradients() if method in SWITCHABLE else [])]
    return found


def gradients() -> list[dict]:
    """Over the training, by epoch, width and pair of widths, and by tensor."""
    by_epoch = {"x_name": EPOCH, "x": EPOCHS}
    pairs = pair("0.25", ("0.5", "1")), pair("0.5", "1")
    return [
        {"metric": ("conflicts", "hurt", "hurt any")},
        by_epoch | {"metric": ("conflicts", "hurt any")},
        by_epoch | {"query_model": WIDTHS, "metric": ("gradient norm", "uncertainty", "hurt")},
        *(by_epoch | each | {"metric": ("cosine", "conflicts")} for each in pairs),
        *(
            {"metric": "conflicts", "x_name": "tensor", "x": float(number), "variant": tensor}
            for number, tensor in enumerate(TENSORS)
        ),
    ]


def sfsc() -> Rows:
    """All tables."""
    first, swept = of_methods(*OF_TABLE["S1"]), of_methods(*OF_TABLE["S2"]) + of_methods(*OF_TABLE["open"])
    swept = [cell for cell in swept if (cell["split"], cell["method"]) != ("closed", "chance")]
    return Rows(pd.concat([made(*first).frame, made(*swept, seeds=(0,)).frame]), {})
