"""Tables of the chapter *BCT*, from its rows."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import torch

from compatlib.evaluation.compatibility import average_compatibility
from compatlib.evaluation.statistics import Measured, mean_of
from compatlib.methods.bct import influence_loss, synthesize_classifier
from compatlib.study.chapters.bct import tuning
from compatlib.study.chapters.bct.plan import ALL_METHODS, CHAIN, FORMS, METHODS, OFFSETS
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.figures import tables
from compatlib.study.lab.figures.cells import METRICS, RANK_1_AND_MAP, SUBSETS, Picks, pair, present
from compatlib.study.lab.figures.columns import Column, difference, differences, level, levels, mean
from compatlib.study.lab.figures.tables import BY_SUBSET, by, crossed, each, stacked, table
from compatlib.study.lab.figures.texts import gain, in_percent, seeds_above
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.upgrades import METHODS as TRAINED
from compatlib.study.settings import Settings

CROSS, SELF = pair("new", "old"), pair("new", "new")
OLD, PARAGON = pair("old", "old", method="independent"), pair("new", "new", method="independent")
MAKE_ROWS = ("BCT B", "BCT C")
# Rows of a sweep carry the weight in `x`, all others have none.
PLAIN = {"split": "class-incremental", "variant": "", "x_name": ""}
FLIPS = {"negative flips (%)": level(**CROSS, metric="negative_flips")}


def methods_of(measured: Rows, **where: str) -> list[str]:
    """The methods that were measured, in the order of the study's table."""
    return present(ALL_METHODS, measured, **{**PLAIN, **where})


def result_table(measured: Rows, split: str = "class-incremental") -> pd.DataFrame:
    """Table B1: cross-test, self-test and what flips, by method; above them what must be beaten."""
    place = {**PLAIN, "split": split, "subset": "all"}
    beaten = each("method", {"old / old, what must be beaten": OLD})
    old = table(measured, beaten, levels("new / old: {} (%)"), **place)
    columns = levels("new / old: {} (%)", **CROSS) | levels("new / new: {} (%)", **SELF) | FLIPS
    return stacked(old, table(measured, _methods(measured, split=split), columns, **place))


def criterion_table(measured: Rows, split: str = "class-incremental") -> pd.DataFrame:
    """M(new, old) − M(old, old) in points, in how many seeds it is above 0, and the update gain, by method."""
    columns = {}
    for metric, title in METRICS.items():
        cross, old, paragon = ({**cell, "metric": metric} for cell in (CROSS, OLD, PARAGON))
        columns[f"{title}: new/old − old/old (points)"] = difference(cross, old)
        columns[f"{title}: seeds that meet it"] = Column((cross, old), seeds_above)
        if metric == "cmc@1":
            columns["update gain at rank 1"] = Column((cross, old, paragon), gain)
    place = {**PLAIN, "split": split, "subset": "all"}
    return table(measured, _methods(measured, split=split), columns, **place)


def subset_table(measured: Rows) -> pd.DataFrame:
    """By subset of the queries: the criterion and what the new model pays, in points, and negative flips."""
    columns = differences("new/old − old/old, {} (points)", CROSS, OLD)
    columns |= differences("new/new − paragon, {} (points)", SELF, PARAGON, {"cmc@1": "rank 1"})
    return table(measured, crossed(_methods(measured), BY_SUBSET), columns | FLIPS, **PLAIN)


def collapse_table(measured: Rows) -> pd.DataFrame:
    """Signs of collapse of every new model, and how near its embedding of an image is to the old one's."""
    columns = {
        "dead coordinates (%)": level(**SELF, metric="dead_coordinates"),
        "zero vectors (%)": level(**SELF, metric="zero_vectors"),
        "new/old: queries that one item answers (%)": level(**CROSS, metric="top_share"),
    }
    for subset, words in SUBSETS.items():
        columns[f"cosine of new and old, {words}"] = mean("{:.2f}", **CROSS, subset=subset, metric="cosine")
    return table(measured, _methods(measured), columns, **PLAIN)


def classifier_table(measured: Rows) -> pd.DataFrame:
    """What the old classifier, as each form completes it, makes of old embeddings and of those trained through it."""
    lines = [
        ({"rows of": form, "embeddings of": words}, {"method": form, "query_model": query})
        for form in present(FORMS, measured, **PLAIN)
        for query, words in (("old", "old"), ("new", f"new, {form}"))
    ]
    columns = {}
    for subset in ("known", "unknown"):
        right, loss = level(subset=subset, metric="classified"), mean("{:.1f}", subset=subset, metric="influence loss")
        own = {"put right (%)": right, "influence loss": loss}
        # Form A has no row for classes that the old model never saw.
        own = own if subset == "known" else {title: column.where(_makes_rows) for title, column in own.items()}
        columns |= {f"{SUBSETS[subset]}: {title}": column for title, column in own.items()}
    into = level(subset="known", metric="into made rows").where(_makes_rows)
    columns[f"{SUBSETS['known']}: put into made rows (%)"] = into
    return table(measured, lines, columns, **PLAIN, gallery_model="classifier")


def class_mean_table(measured: Rows) -> pd.DataFrame:
    """Rank 1 against the old gallery and against the old class means: what the gallery's own scatter decides."""
    lines = [("old", {"query_model": "old", "method": "independent"})]
    lines += [(method, {"query_model": "new", "method": method}) for method in methods_of(measured)]
    columns = {
        f"{words}: {title} (%)": level(subset=subset, gallery_model=gallery)
        for subset, words in SUBSETS.items()
        for gallery, title in (("old", "old gallery"), ("old means", "old class means"))
    }
    return table(measured, each("queries embedded by", dict(lines)), columns, **PLAIN, metric="cmc@1")


def rows_table(measured: Rows) -> pd.DataFrame:
    """The old classifier's rows, real and made: mean length, and mean cosine of two different rows."""
    real, made = "real rows", "made rows"
    columns = {f"length of {name}": mean("{:.2f}", **pair(name, name), metric="norm") for name in (real, made)}
    for first, second in ((real, real), (made, made), (real, made)):
        title = f"cosine, {first.split()[0]} and {second.split()[0]}"
        columns[title] = mean("{:+.2f}", **pair(first, second), metric="cosine")
    forms = {form.removeprefix("BCT "): {"method": form} for form in present(MAKE_ROWS, measured, **PLAIN)}
    return table(measured, each("form", forms), columns, **PLAIN)


def changes_table(measured: Rows) -> pd.DataFrame:
    """Table B2: old/old, new/old and new/new of BCT A, and the paragon, for everything that an upgrade may change.

    Where the old model knew every class no row is missing and the three forms are one, which rows call form C.
    """
    lines = {
        "classes": {**PLAIN, "method": "BCT A"},
        "images of every class": {**PLAIN, "split": "sample-incremental", "method": "BCT C"},
        **{change: {**PLAIN, "variant": change, "method": "BCT A"} for change in CHANGES},
    }
    columns = {
        "old / old (%)": level(**OLD),
        "new / old, independent (%)": level(**CROSS, method="independent"),
        "new / old, BCT (%)": level(**CROSS),
        "criterion (points)": difference(CROSS, OLD),
        "new / new, BCT (%)": level(**SELF),
        "paragon (%)": level(**PARAGON),
    }
    return table(measured, each("what changes", lines), columns, subset="all", metric="cmc@1")


def chain_table(measured: Rows, metric: str = "cmc@1") -> pd.DataFrame:
    """Table B3: average compatibility and average accuracy of three generations, and the oldest gallery's tests."""
    names = list(CHAIN)
    tests = [[pair(query, gallery) for gallery in names] for query in names]
    lower = tuple(test for number, row in enumerate(tests, 1) for test in row[:number])
    columns = {
        "AC (%)": Column(tuple(itertools.chain(*tests)), _average_compatibility),
        "AA (%)": Column(lower, lambda *cells: in_percent(mean_of(*cells))),
    }
    for query, gallery in ((0, 0), (1, 0), (2, 0), (2, 2)):
        columns[f"{query + 1} / {gallery + 1} (%)"] = level(**tests[query][gallery])
    lines = by("chain", "method", chained(measured))
    return table(measured, lines, columns, split="three generations", variant="", subset="all", metric=metric)


def offset_table(measured: Rows, metric: str = "cmc@1", variant: str = "", **where: str) -> pd.DataFrame:
    """What the common offset of a model's embeddings costs, by method: as they are, the query shifted, both centred.

    Shifted, the query's mean over training images is moved onto the old model's: the gallery stays as it is, and the
    criterion's own old/old too. Centred, both lose their mean: then old/old has to be centred as well.
    """
    shifted, centred = (f"{variant};offset={each}".lstrip(";") for each in OFFSETS)
    raw, moved, middle = ({"variant": each} for each in (variant, shifted, centred))
    columns = {
        "old / old (%)": level(**OLD, **raw),
        "old / old, centred (%)": level(**OLD, **middle),
        "new / old (%)": level(**CROSS, **raw),
        "shifted (%)": level(**CROSS, **moved),
        "centred (%)": level(**CROSS, **middle),
        "criterion (points)": difference(CROSS | raw, OLD | raw),
        "criterion, shifted (points)": difference(CROSS | moved, OLD | raw),
        "criterion, centred (points)": difference(CROSS | middle, OLD | middle),
    }
    place = {**PLAIN, "subset": "all", "metric": metric, **where}
    del place["variant"]
    lines = by("method", "method", present(ALL_METHODS, measured, **{**place, "variant": moved["variant"]}))
    return table(measured, lines, columns, **place)


def chained(measured: Rows) -> list[str]:
    """The methods whose chain was measured, in the order of the study's table."""
    return present(METHODS, measured, split="three generations", variant="")


def threshold_table(measured: Rows) -> pd.DataFrame:
    """Table B6: a verification threshold fixed under old/old at FAR 0.1 %, and the rates it has under new/old.

    Means over seeds, by subset of the queries; the threshold is one for all.
    """
    # Rates far below one percent need more digits than a level has.
    columns = {
        f"{test}: {rate} (%)": mean("{:.2f}", 100, **CROSS, metric=f"{name} {rate}")
        for test, name in (("old/old", "fixed"), ("new/old", "transferred"))
        for rate in ("TAR", "FAR")
    }
    return table(measured, crossed(_methods(measured), BY_SUBSET), columns, **PLAIN)


def tuning_table(tuned: Rows, chosen: Settings) -> pd.DataFrame:
    """Every method's candidates on the held-out training images; the chapter's run has the chosen weights."""
    judged = tuning.judged(tuned)
    judged = judged.reindex([method for method in tuning.ORDER if method in judged], level="method")
    columns = {}
    for title, test in (("new / old", CROSS), ("new / new", SELF)):
        columns |= levels(f"{title}, {{}} (%)", RANK_1_AND_MAP, **test, subset="all")
    return tables.tuning(tuned, judged, {"method": "method", "x": "weight"}, columns, partial(_is_chosen, chosen))


def worked_example() -> pd.DataFrame:
    """The influence loss of two new embeddings under an old classifier of two classes, and rows made for a third.

    Small integers, so that the numbers are the same on every processor.
    """
    old_weight = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    old_embeddings = torch.tensor([[3.0, 3.0], [3.0, 5.0]])
    third = torch.tensor([2, 2])
    new = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    labels = torch.tensor([0, 2])
    classifiers = {"A": old_weight}
    for form, normalize in (("B", False), ("C", True)):
        classifiers[form] = synthesize_classifier(old_embeddings, third, 3, old_weight, normalize)
    lines = []
    for form, weight in classifiers.items():
        row = f"({weight[2, 0]:.4f}, {weight[2, 1]:.4f})" if len(weight) > 2 else "none"
        losses = [influence_loss(new[i : i + 1], labels[i : i + 1], weight).item() for i in range(2)]
        line = {"form": form, "row of the third class": row}
        line |= {"loss of an image of class 0": f"{losses[0]:.4f}", "of class 2": f"{losses[1]:.4f}"}
        lines.append(line | {"influence loss of the batch": f"{influence_loss(new, labels, weight).item():.4f}"})
    return pd.DataFrame(lines)


def _methods(measured: Rows, **where: str) -> list[tables.Line]:
    return by("method", "method", methods_of(measured, **where))


def _makes_rows(picks: Picks) -> bool:
    return picks["method"] != "BCT A"


def _is_chosen(chosen: Settings, method: str, weight: float) -> bool:
    own = dict(chosen.knobs.weights).get(method, TRAINED[method].weight)
    return method in ALL_METHODS and own == weight


def _average_compatibility(*tests: Measured) -> str:
    """Of all tests, query by query, oldest first."""
    matrices = {seed: np.reshape([test.values[seed] for test in tests], (len(CHAIN), -1)) for seed in tests[0].values}
    return in_percent({seed: average_compatibility(matrix) for seed, matrix in matrices.items()})
