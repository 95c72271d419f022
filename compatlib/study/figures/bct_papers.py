"""The published rows of the chapter *BCT* beside what can be quoted: BT2 on CIFAR-100, openBCT on ImageNet."""

import pandas as pd

from compatlib.study.figures.bct_tables import PLAIN
from compatlib.study.figures.papers import Cell, beside
from compatlib.study.rows import Rows

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


def beside_bt2(published: Rows) -> pd.DataFrame:
    """The published study beside BT2's released numbers of the same setting, CIFAR-100, 50 → 100 classes."""
    papers = (("BT2", "YifeiZhou02/BT-2 README"),)
    return beside(published, _cells(_BT2), papers, dataset="CIFAR-100", setting="50->100 classes")


def beside_openbct(published: Rows) -> pd.DataFrame:
    """The published study on CIFAR-100 beside openBCT's numbers on ImageNet: orders may be compared, levels not."""
    papers = (("openBCT", "YantaoShen/openBCT README"),)
    setting = "50 %->100 % of the data; R18->R50"
    return beside(published, _cells(_OPENBCT), papers, dataset="ImageNet-1k", setting=setting)


def _cells(lines: tuple[tuple[str, str, str, str, str], ...]) -> list[Cell]:
    return [
        Cell(
            words,
            {"method": paper, "query": query, "gallery": gallery},
            {**PLAIN, "subset": "all", "method": ours, "query_model": query, "gallery_model": gallery} if ours else {},
        )
        for words, paper, ours, query, gallery in lines
    ]
