"""What the published rows of the chapter *BCT* stand beside: BT2 and openBCT."""

from collections.abc import Iterator

from compatlib.study.chapters.bct.plan import CHAIN
from compatlib.study.chapters.bct.tables import PLAIN
from compatlib.study.lab.figures import papers

_BT2: tuple[papers.Test, ...] = (
    papers.OLD,
    papers.APART,
    ("new / old, BCT (ours: form A)", "BCT", "BCT A", "new", "old"),
    ("new / old, BCT (ours: form C)", "BCT", "BCT C", "new", "old"),
    ("new / new, BCT (ours: form A)", "BCT", "BCT A", "new", "new"),
    ("new / new, BCT (ours: form C)", "BCT", "BCT C", "new", "new"),
    papers.PARAGON,
)
_OPENBCT: tuple[papers.Test, ...] = (
    papers.OLD,
    ("new / old, BCT (form A)", "BCT", "BCT A", "new", "old"),
    ("new / old, BCT, normalised classifier (not run here)", "BCT normalised classifier", "", "new", "old"),
    ("new / old, L2 alone", "L2", "L2", "new", "old"),
    ("new / old, triplet", "triplet", "triplet, raw", "new", "old"),
    ("new / old, contrastive", "contrastive", "contrastive", "new", "old"),
    ("new / new, BCT (form A)", "BCT", "BCT A", "new", "new"),
    ("new / new, L2 alone", "L2", "L2", "new", "new"),
    ("new / new, triplet", "triplet", "triplet, raw", "new", "new"),
    ("new / new, contrastive", "contrastive", "contrastive", "new", "new"),
    papers.PARAGON,
)
# What is given for Places-365.
_PLACES = tuple(test for test in _OPENBCT if test[1] in ("none", "BCT", "paragon"))
# BT2's chain, and the generation of ours that stands beside each network; there is no fourth.
_NETWORKS = dict(zip(("AlexNet", "VGG", "ResNet-50", "ViT"), (*CHAIN, ""), strict=True))


def _chain() -> Iterator[papers.Cell]:
    """The models trained apart, then what each generation finds in its own gallery and in older ones."""
    names = list(_NETWORKS)
    apart = [("independent", "independent", name, name) for name in names]
    chain = [("BCT", "BCT A", query, gallery) for i, query in enumerate(names) if i for gallery in names[: i + 1]]
    for paper, ours, query, gallery in apart + chain:
        how = "BCT" if paper == "BCT" else "trained apart"
        words = f"{names.index(query) + 1} / {names.index(gallery) + 1}, {how} ({query} / {gallery})"
        test = (words, paper, ours if _NETWORKS[query] else "", query, gallery)
        own = {"query_model": _NETWORKS[query], "gallery_model": _NETWORKS[gallery]}
        yield from papers.cells_of([test], **PLAIN | {"split": "three generations"} | own)


# The same setting as ours; of the other data sets orders may be compared, levels not.
BT2_CIFAR = papers.Comparison(papers.cells_of(_BT2 + papers.BT2_ITSELF, **PLAIN), (papers.BT2,), papers.CIFAR)
BT2_IMAGENET = papers.Comparison(papers.cells_of(_BT2, **PLAIN), (papers.BT2,), papers.IMAGENET)
BT2_CHAIN = papers.Comparison(
    list(_chain()), (papers.BT2,), {**papers.IMAGENET, "setting": "chain of four generations"}, {"cmc@1": "rank 1"}
)
_OPEN, _HALVES = ("openBCT", "YantaoShen/openBCT README"), {"setting": "50 %->100 % of the data; R18->R50"}
OPENBCT_IMAGENET = papers.Comparison(papers.cells_of(_OPENBCT, **PLAIN), (_OPEN,), {**papers.IMAGENET, **_HALVES})
OPENBCT_PLACES = papers.Comparison(papers.cells_of(_PLACES, **PLAIN), (_OPEN,), {"dataset": "Places-365", **_HALVES})
