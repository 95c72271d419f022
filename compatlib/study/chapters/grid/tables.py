"""What may explain the grid `conditions`: how much room each width has, and how well it fits what it is trained on."""

import itertools

import pandas as pd

from compatlib.models.resnet import HEADS
from compatlib.study.chapters.grid.conditions import DIM, DIMS, UNCERTAIN
from compatlib.study.chapters.sfsc.plan import FULL, FULL_GALLERY, MEAN
from compatlib.study.lab.figures.cells import METRICS, pair
from compatlib.study.lab.figures.columns import difference, level
from compatlib.study.lab.figures.sources import HEADS as HEADS_IN_WORDS
from compatlib.study.lab.figures.tables import crossed, each, table
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import BCT_S

COMPARED = {"evidential": {"method": UNCERTAIN}, "plain": {"method": BCT_S}}


def room_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """Axis *room*: by head and size, the share of embeddings that lies in the span of the classifier's rows.

    What lies outside is free: no loss sees it. Beside it the effect of the evidential loss on the full model's gallery.
    """
    heads = each("head", {HEADS_IN_WORDS[head]: {"variant": f"axis=room;head={head}"} for head in HEADS})
    sizes = each(DIM, {f"{dim}": {"x": float(dim)} for dim in DIMS})
    narrowest = min(measured.of(metric="row_space_energy")["query_model"], key=float)
    columns = {}
    for width, (words, method) in itertools.product((narrowest, f"{FULL:g}"), COMPARED.items()):
        inside = level(**method, query_model=width, metric="row_space_energy")
        columns[f"{words}, width {width}: in the rows' span (%)"] = inside
    evidential, plain = ({**pair(MEAN, FULL_GALLERY), "metric": metric, **method} for method in COMPARED.values())
    columns[f"evidential − plain, full gallery, {METRICS[metric]} (points)"] = difference(evidential, plain)
    return table(measured, crossed(heads, sizes), columns, subset="all", x_name=DIM)
