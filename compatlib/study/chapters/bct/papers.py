"""The published rows of the chapter *BCT* beside what can be quoted of BT2 and openBCT."""

import pandas as pd

from compatlib.study.chapters.bct.plan import CHAIN
from compatlib.study.chapters.bct.tables import PLAIN
from compatlib.study.lab.figures.papers import Cell, beside
from compatlib.study.lab.rows import Rows

# Words, the papers' method, ours (none: not measured), query model, gallery model.
_BT2 = (
    ("old / old", "none", "independent", "old", "old"),
    ("new / old, independent", "independent", "independent", "new", "old"),
    ("new / old, BCT (ours: form A)", "BCT", "BCT A", "new", "old"),
    ("new / old, BCT (ours: form C)", "BCT", "BCT C", "new", "old"),
    ("new / new, BCT (ours: form A)", "BCT", "BCT A", "new", "new"),
    ("new / new, BCT (ours: form C)", "BCT", "BCT C", "new", "new"),
    ("new / new, paragon", "paragon", "independent", "new", "new"),
)
# Given for CIFAR-100 alone.
_BT2_ITSELF = (
    ("new / old, BT2 itself (not run here)", "BT2", "", "new", "old"),
    ("new / new, BT2 itself (not run here)", "BT2", "", "new", "new"),
)
_OPENBCT = (
    ("old / old", "none", "independent", "old", "old"),
    ("new / old, BCT (form A)", "BCT", "BCT A", "new", "old"),
    ("new / old, BCT, normalised classifier (not run here)", "BCT normalised classifier", "", "new", "old"),
    ("new / old, L2 alone", "L2", "L2", "new", "old"),
    ("new / old, triplet", "triplet", "triplet, raw", "new", "old"),
    ("new / old, contrastive", "contrastive", "contrastive", "new", "old"),
    ("new / new, BCT (form A)", "BCT", "BCT A", "new", "new"),
    ("new / new, L2 alone", "L2", "L2", "new", "new"),
    ("new / new, triplet", "triplet", "triplet, raw", "new", "new"),
    ("new / new, contrastive", "contrastive", "contrastive", "new", "new"),
    ("new / new, paragon", "paragon", "independent", "new", "new"),
)
# What is given for Places-365.
_PLACES = tuple(line for line in _OPENBCT if line[1] in ("none", "BCT", "paragon"))
# BT2's chain, and the generation of ours that stands beside each network; there is no fourth.
_NETWORKS = dict(zip(("AlexNet", "VGG", "ResNet-50", "ViT"), (*CHAIN, ""), strict=True))
BT2, OPENBCT = (("BT2", "YifeiZhou02/BT-2 README"),), (("openBCT", "YantaoShen/openBCT README"),)
HALVES = "50 %->100 % of the data; R18->R50"


def beside_bt2(published: Rows) -> pd.DataFrame:
    """The published study beside BT2's released numbers of the same setting, CIFAR-100, 50 → 100 classes."""
    return beside(published, _cells(_BT2 + _BT2_ITSELF), BT2, dataset="CIFAR-100", setting="50->100 classes")


def beside_bt2_imagenet(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside BT2's numbers on ImageNet: orders may be compared, levels not."""
    return beside(published, _cells(_BT2), BT2, dataset="ImageNet-1k", setting="500->1000 classes")


def beside_bt2_chain(published: Rows) -> pd.DataFrame:
    """The chain of form A beside BT2's of BCT, four networks on ImageNet; rank 1, the models trained apart first."""
    names, cells = list(_NETWORKS), []
    apart = [("independent", "independent", name, name) for name in names]
    chain = [("BCT", "BCT A", query, gallery) for i, query in enumerate(names) if i for gallery in names[: i + 1]]
    for paper, ours, query, gallery in apart + chain:
        words = f"{names.index(query) + 1} / {names.index(gallery) + 1}, {'BCT' if paper == 'BCT' else 'trained apart'}"
        own = {"method": ours, "query_model": _NETWORKS[query], "gallery_model": _NETWORKS[gallery]}
        place = {"split": "three generations", "variant": "", "x_name": "", "subset": "all"}
        quoted = {"method": paper, "query": query, "gallery": gallery}
        cells.append(Cell(f"{words} ({query} / {gallery})", quoted, place | own if own["query_model"] else {}))
    where = {"dataset": "ImageNet-1k", "setting": "chain of four generations"}
    return beside(published, cells, BT2, metrics={"cmc@1": "rank 1"}, **where)


def beside_openbct(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside openBCT's numbers on ImageNet: orders may be compared, levels not."""
    return beside(published, _cells(_OPENBCT), OPENBCT, dataset="ImageNet-1k", setting=HALVES)


def beside_openbct_places(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside openBCT's numbers on Places-365: orders may be compared, levels not."""
    return beside(published, _cells(_PLACES), OPENBCT, dataset="Places-365", setting=HALVES)


def _cells(lines: tuple[tuple[str, str, str, str, str], ...]) -> list[Cell]:
    return [
        Cell(
            words,
            {"method": paper, "query": query, "gallery": gallery},
            {**PLAIN, "subset": "all", "method": ours, "query_model": query, "gallery_model": gallery} if ours else {},
        )
        for words, paper, ours, query, gallery in lines
    ]
