"""Tables of the chapter *Dual-Tuning*, from its rows, and the method's worked example."""

from functools import partial

import pandas as pd
import torch

from compatlib.methods.dual_tuning import prototype_loss, prototypes
from compatlib.study.chapters.dual_tuning import tuning
from compatlib.study.chapters.dual_tuning.plan import (
    IN_RANDOM_ORDER,
    METHODS,
    ON_OUTLIERS,
    OUTLIERS,
    OWN,
    PARTS,
    RELEASE,
    SHARE_OF_OUTLIERS,
    upgrade,
)
from compatlib.study.lab.figures import tables
from compatlib.study.lab.figures.cells import RANK_1_AND_MAP, SUBSETS, pair, present
from compatlib.study.lab.figures.columns import Column, difference, differences, level, levels
from compatlib.study.lab.figures.tables import BY_SUBSET, by, crossed, each, stacked, table
from compatlib.study.lab.figures.texts import gain, points, seeds_above
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.rows import Rows
from compatlib.study.settings import Settings

CROSS, SELF = pair("new", "old"), pair("new", "new")
OLD, PARAGON = pair("old", "old", method="independent"), pair("new", "new", method="independent")
ON_PROTOTYPES = pair("new", "old means")
# Rows of a sweep carry what is swept in `x`, all others have none.
PLAIN = {"split": CLASS_INCREMENTAL, "variant": OWN, "x_name": ""}
FLIPS = {"negative flips (%)": level(**CROSS, metric="negative_flips")}


def methods_of(measured: Rows, **where: str) -> list[str]:
    """The methods that were measured, in the order of the study's table."""
    return present(METHODS, measured, **{**PLAIN, **where})


def result_table(measured: Rows, split: str = CLASS_INCREMENTAL, variant: str = OWN) -> pd.DataFrame:
    """Table D1: cross-test, self-test and what flips, by method; above them what must be beaten."""
    place = {**PLAIN, "split": split, "variant": variant, "subset": "all"}
    beaten = each("method", {"old / old, what must be beaten": OLD})
    old = table(measured, beaten, levels("new / old: {} (%)"), **place)
    columns = levels("new / old: {} (%)", **CROSS) | levels("new / new: {} (%)", **SELF) | FLIPS
    return stacked(old, table(measured, _methods(measured, **place), columns, **place))


def criterion_table(measured: Rows, split: str = CLASS_INCREMENTAL) -> pd.DataFrame:
    """M(new, old) − M(old, old) in points, in how many seeds it is above 0, the update gain, what new/new pays."""
    columns = {}
    for metric, title in RANK_1_AND_MAP.items():
        cross, old, paragon = ({**cell, "metric": metric} for cell in (CROSS, OLD, PARAGON))
        columns[f"{title}: new/old − old/old (points)"] = difference(cross, old)
        columns[f"{title}: seeds that meet it"] = Column((cross, old), seeds_above)
        columns[f"{title}: update gain"] = Column((cross, old, paragon), gain)
    columns |= differences("{}: new/new − paragon (points)", SELF, PARAGON, RANK_1_AND_MAP)
    place = {**PLAIN, "split": split, "subset": "all"}
    return table(measured, _methods(measured, **place), columns, **place)


def subset_table(measured: Rows) -> pd.DataFrame:
    """By subset of the queries: the criterion, and what the new model pays, in points."""
    columns = differences("new/old − old/old, {} (points)", CROSS, OLD, RANK_1_AND_MAP)
    columns |= differences("new/new − paragon, {} (points)", SELF, PARAGON, RANK_1_AND_MAP)
    return table(measured, crossed(_methods(measured), BY_SUBSET), columns, **PLAIN)


def setting_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """Table D1 in the other settings, and with the other head: levels, the criterion, and what the new model pays."""
    found = set(measured.of(split=CLASS_INCREMENTAL, x_name="")["variant"]) - {"", OWN, RELEASE, IN_RANDOM_ORDER}
    lines = [
        ({"old and new": in_words(variant), "method": method}, {"variant": variant, "method": method})
        for variant in sorted(found, key=in_words)
        for method in methods_of(measured, variant=variant)
    ]
    columns = {
        "old / old (%)": level(**OLD),
        "new / old (%)": level(**CROSS),
        "criterion (points)": difference(CROSS, OLD),
        "new / new (%)": level(**SELF),
        "new/new − paragon (points)": difference(SELF, PARAGON),
    }
    place = {"split": CLASS_INCREMENTAL, "x_name": "", "subset": "all", "metric": metric}
    return table(measured, lines, columns, **place)


def in_words(variant: str) -> str:
    """What a row's variant says besides the signed head, such as "softmax to ArcFace" or "head=relu_pool"."""
    return variant.removeprefix(f"{OWN};")


def part_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """Table D2: what each term gives at the release's weights, and at those that were tuned."""
    lines = each("terms", {"none": {"method": "independent", "variant": OWN}})
    lines += by("terms", "method", present(PARTS, measured, variant=RELEASE, x_name=""))
    columns = {}
    for test, cell in (("new / old", CROSS), ("new / new", SELF)):
        released = level(**cell).where(lambda picks: "variant" not in picks)
        columns[f"{test}, the release's weights (%)"] = _of_variant(released, RELEASE)
        tuned = level(**cell).where(lambda picks: picks["method"] in METHODS)
        columns[f"{test}, tuned weights (%)"] = _of_variant(tuned, OWN)
    place = {"split": CLASS_INCREMENTAL, "x_name": "", "subset": "all", "metric": metric}
    return table(measured, lines, columns, **place)


def _of_variant(column: Column, variant: str) -> Column:
    return Column(tuple({**cell, "variant": variant} for cell in column.cells), column.written, column.stands)


def area_table(measured: Rows) -> pd.DataFrame:
    """The mean over D3's curve, by split and method, and against models trained apart."""
    lines = [
        ({"split": split, "method": method}, {"split": split, "method": method})
        for split in present(("class-incremental", "open-set"), measured, "split", variant=IN_RANDOM_ORDER)
        for method in present(METHODS, measured, variant=IN_RANDOM_ORDER, split=split)
    ]
    columns = {}
    for metric, title in RANK_1_AND_MAP.items():
        own = {"metric": f"auc {metric}"}
        columns[f"{title} (%)"] = level(**own)
        columns[f"{title}: against independent (points)"] = difference(own, {**own, "method": "independent"})
    return table(measured, lines, columns, variant=IN_RANDOM_ORDER, x_name="", subset="all")


def prototype_table(measured: Rows) -> pd.DataFrame:
    """D4: queries whose nearest old prototype is that of their class, and those whose nearest old item is."""
    lines = [("old", {"query_model": "old", "method": "independent"})]
    lines += [(method, {"query_model": "new", "method": method}) for method in methods_of(measured)]
    columns = {
        f"{words}: {title} (%)": level(subset=subset, gallery_model=gallery)
        for subset, words in SUBSETS.items()
        for gallery, title in (("old means", "nearest prototype"), ("old", "nearest item"))
    }
    return table(measured, each("queries embedded by", dict(lines)), columns, **PLAIN, metric="cmc@1")


def outlier_table(measured: Rows, metric: str = "map") -> pd.DataFrame:
    """D4: upgrades of old models that were trained with wrong labels, and what each lost by them."""
    swept = {"split": CLASS_INCREMENTAL, "variant": OWN, "x_name": SHARE_OF_OUTLIERS}
    there = present(ON_OUTLIERS, measured, **swept)
    lines = [
        ({"mislabelled": f"{share:.0%}", "method": method}, {"x": share, "method": method})
        for share in OUTLIERS
        for method in there
    ]
    lost = {"metric": f"change of {metric}"}
    changes, own = (lambda picks: picks["x"] > 0), (lambda picks: picks["method"] != "independent")
    columns = {
        "old / old (%)": level(**OLD, metric=metric),
        "new / old (%)": level(**CROSS, metric=metric).where(own),
        "change of new / old (points)": _moved(CROSS, lost).where(lambda picks: changes(picks) and own(picks)),
        "new / new (%)": level(**SELF, metric=metric).where(own),
        "change of new / new (points)": _moved(SELF, lost).where(lambda picks: changes(picks) and own(picks)),
    }
    return table(measured, lines, columns, **swept, subset="all")


def _moved(test: dict[str, str], lost: dict[str, str]) -> Column:
    """A change of a score, in points."""
    return Column(({**test, **lost},), lambda values: points(values, 0))


def collapse_table(measured: Rows) -> pd.DataFrame:
    """Signs of collapse of every new model."""
    columns = {
        "dead coordinates (%)": level(**SELF, metric="dead_coordinates"),
        "zero vectors (%)": level(**SELF, metric="zero_vectors"),
        "new/old: queries that one item answers (%)": level(**CROSS, metric="top_share"),
        "new/new: queries that one item answers (%)": level(**SELF, metric="top_share"),
    }
    return table(measured, _methods(measured), columns, **PLAIN, subset="all")


def tuning_table(tuned: Rows, chosen: Settings, split: str = CLASS_INCREMENTAL) -> pd.DataFrame:
    """Every method's candidates on held-out training images; the chapter's run has the chosen weights.

    Args:
        tuned: the tuning's rows.
        chosen: the chapter's run.
        split: which of the two that are tuned.
    """
    judged = tuning.judged(tuned, split)
    judged = judged.reindex([method for method in tuning.ORDER if method in judged], level="method")
    columns = {}
    for title, test in (("new / old", CROSS), ("new / new", SELF)):
        columns |= levels(f"{title}, {{}} (%)", RANK_1_AND_MAP, **test, split=split, subset="all")
    titles = {"method": "method", "variant": "terms", "x": "weight"}
    found = tables.tuning(tuned, judged, titles, columns, partial(_is_chosen, chosen, split))
    mutual = ["" if each is None else f"{each:g}" for each in map(tuning.mutual_of, found.pop("terms"))]
    found.insert(2, "mutual terms ×", mutual)
    return found


def worked_example() -> pd.DataFrame:
    """Prototypes of two classes, and both readings of the loss of two new embeddings.

    Small integers, so that the numbers are the same on every processor.
    """
    old, labels = torch.tensor([[2.0, 0.0], [4.0, 2.0], [0.0, 2.0]]), torch.tensor([0, 0, 1])
    means = prototypes(old, labels, 2)
    lines = []
    for embedding, label in zip(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 1]), strict=True):
        one = embedding[None], label[None], means
        line = {"φ_new": _vector(embedding), "class": str(int(label)), "its prototype": _vector(means[label])}
        line["products with both"] = _vector(means @ embedding)
        line |= {kind: f"{prototype_loss(*one, kind).item():.4f}" for kind in ("softmax", "distance")}
        lines.append(line)
    return pd.DataFrame(lines)


def _vector(values: torch.Tensor) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values.tolist()) + ")"


def _methods(measured: Rows, **where: str) -> list[tables.Line]:
    return by("method", "method", methods_of(measured, **where))


def _is_chosen(chosen: Settings, split: str, method: str, variant: str, weight: float) -> bool:
    own, mutual = upgrade(chosen, method, split=split), tuning.mutual_of(variant)
    return own.chosen_weight == weight and (mutual is None or set(own.chosen_terms.values()) == {mutual})
