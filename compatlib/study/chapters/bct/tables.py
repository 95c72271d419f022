"""Tables of the chapter *BCT*, from its rows."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from compatlib.evaluation.compatibility import average_accuracy, average_compatibility
from compatlib.methods.bct import influence_loss, synthesize_classifier
from compatlib.study.chapters.bct.plan import CHAIN, FORMS, METHODS
from compatlib.study.chapters.bct.tuning import WEIGHTS as TUNED_WEIGHTS
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.figures.tables import METRICS, gain, in_percent, points
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.upgrades import METHODS as TRAINED

CROSS = {"query_model": "new", "gallery_model": "old"}
SELF = {"query_model": "new", "gallery_model": "new"}
OLD = {"query_model": "old", "gallery_model": "old", "method": "independent"}
SUBSETS = {"all": "all classes", "known": "classes old knew", "unknown": "classes new to old"}
# Rows of a sweep carry the weight in `x`, all others have none.
NO_SWEEP = {"x_name": ""}
PLAIN = {"split": "class-incremental", "variant": "", **NO_SWEEP}


def methods_of(measured: Rows, **where: str) -> list[str]:
    """The methods that were measured, in the order of the study's table."""
    found = set(measured.of(**{**PLAIN, **where})["method"])
    return [method for method in METHODS if method in found]


def result_table(measured: Rows, split: str = "class-incremental") -> pd.DataFrame:
    """Table B1: cross-test, self-test and what the upgrade gains, by method; mean and 95 % half width, in percent."""
    place = {**PLAIN, "split": split}
    old = {metric: measured.by_seed(**place, **OLD, subset="all", metric=metric) for metric in METRICS}
    lines = [{"method": "old / old, what must be beaten"} | _levels(old, "new / old") | {"n": len(old["cmc@1"])}]
    for method in methods_of(measured, split=split):
        cell = {**place, "method": method, "subset": "all"}
        cross = {metric: measured.by_seed(**cell, **CROSS, metric=metric) for metric in METRICS}
        own = {metric: measured.by_seed(**cell, **SELF, metric=metric) for metric in METRICS}
        flips = measured.by_seed(**cell, **CROSS, metric="negative_flips")
        line = {"method": method} | _levels(cross, "new / old") | _levels(own, "new / new")
        line["negative flips (%)"] = in_percent(flips)
        lines.append(line | {"n": len(flips)})
    table = pd.DataFrame(lines).fillna("")
    return table[[*table.columns.drop("n"), "n"]]


def criterion_table(measured: Rows, split: str = "class-incremental") -> pd.DataFrame:
    """M(new, old) − M(old, old) in points, update gain, and in how many seeds the criterion is met, by method."""
    place, lines = {**PLAIN, "split": split}, []
    for method in methods_of(measured, split=split):
        line = {"method": method}
        for metric, title in METRICS.items():
            cell = {**place, "subset": "all", "metric": metric}
            cross = measured.by_seed(**cell, **CROSS, method=method)
            seeds = {"seed": list(cross.index)}
            old = measured.by_seed(**cell, **OLD, **seeds)
            paragon = measured.by_seed(**cell, **SELF, method="independent", **seeds)
            line[f"{title}: new/old − old/old (points)"] = points(cross, old)
            line[f"{title}: seeds that meet it"] = f"{int((cross > old).sum())} of {len(cross)}"
            if metric == "cmc@1":
                line["update gain at rank 1"] = gain(cross, old, paragon)
        lines.append(line)
    return pd.DataFrame(lines)


def subset_table(measured: Rows) -> pd.DataFrame:
    """By subset of the queries: the criterion and what the new model pays, in points, and negative flips."""
    lines = []
    for method in methods_of(measured):
        for subset, words in SUBSETS.items():
            where = {**PLAIN, "subset": subset}
            line = {"method": method, "queries": words} | _gained_and_paid(measured, method, where)
            flips = measured.by_seed(**where, **CROSS, metric="negative_flips", method=method)
            lines.append(line | {"negative flips (%)": in_percent(flips)})
    return pd.DataFrame(lines)


def more_seeds_table(transformed: Rows) -> pd.DataFrame:
    """Form A at every seed of the chapter *FCT*, by subset of the queries: the criterion and what the new model pays.

    Args:
        transformed: that chapter's rows, which hold the tests of the same models at more seeds; cosine is taken.
    """
    lines = []
    for subset, words in SUBSETS.items():
        where = {**PLAIN, "subset": subset, "distance": "cosine"}
        seeds = transformed.by_seed(**where, **CROSS, metric="cmc@1", method="BCT A")
        lines.append({"queries": words} | _gained_and_paid(transformed, "BCT A", where) | {"n": len(seeds)})
    return pd.DataFrame(lines)


def collapse_table(measured: Rows) -> pd.DataFrame:
    """Signs of collapse of every new model, and how near its embedding of an image is to the old one's."""
    lines = []
    for method in methods_of(measured):
        own, cross = {**PLAIN, **SELF, "method": method}, {**PLAIN, **CROSS, "method": method}
        line = {"method": method}
        line["dead coordinates (%)"] = in_percent(measured.by_seed(**own, metric="dead_coordinates"))
        line["zero vectors (%)"] = in_percent(measured.by_seed(**own, metric="zero_vectors"))
        line["new/old: queries that one item answers (%)"] = in_percent(measured.by_seed(**cross, metric="top_share"))
        for subset, words in SUBSETS.items():
            cosine = measured.by_seed(**cross, subset=subset, metric="cosine")
            line[f"cosine of new and old, {words}"] = f"{cosine.mean():.2f}"
        lines.append(line | {"n": len(cosine)})
    return pd.DataFrame(lines)


def classifier_table(measured: Rows) -> pd.DataFrame:
    """What the old classifier, as each form completes it, makes of old embeddings and of those trained through it."""
    lines = []
    for form in FORMS:
        for query in ("old", "new"):
            cell = {**PLAIN, "method": form, "query_model": query, "gallery_model": "classifier"}
            line = {"rows of": form, "embeddings of": query if query == "old" else f"new, {form}"}
            for subset, words in (("known", SUBSETS["known"]), ("unknown", SUBSETS["unknown"])):
                has_rows = subset == "known" or form != "BCT A"
                for metric, title in (("classified", "put right (%)"), ("influence loss", "influence loss")):
                    values = measured.by_seed(**cell, subset=subset, metric=metric) if has_rows else None
                    shown = "" if values is None else in_percent(values)
                    line[f"{words}: {title}"] = f"{values.mean():.1f}" if "loss" in metric and has_rows else shown
            into = measured.by_seed(**cell, subset="known", metric="into made rows")
            line[f"{SUBSETS['known']}: put into made rows (%)"] = "" if form == "BCT A" else in_percent(into)
            lines.append(line | {"n": len(into)})
    return pd.DataFrame(lines)


def class_mean_table(measured: Rows) -> pd.DataFrame:
    """Rank 1 against the old gallery and against the old class means: what the gallery's own scatter decides."""
    lines = []
    queries = [("old", "independent", "old")] + [(method, method, "new") for method in methods_of(measured)]
    for words, method, query in queries:
        line = {"queries embedded by": words}
        for subset, name in SUBSETS.items():
            cell = {**PLAIN, "method": method, "query_model": query, "subset": subset, "metric": "cmc@1"}
            for gallery, title in (("old", "old gallery"), ("old means", "old class means")):
                line[f"{name}: {title} (%)"] = in_percent(measured.by_seed(**cell, gallery_model=gallery))
        lines.append(line)
    return pd.DataFrame(lines)


def rows_table(measured: Rows) -> pd.DataFrame:
    """The old classifier's rows, real and made: mean length, and mean cosine of two different rows."""
    lines = []
    for method in ("BCT B", "BCT C"):
        line, cell = {"form": method[-1]}, {**PLAIN, "method": method}
        for name in ("real rows", "made rows"):
            norm = measured.by_seed(**cell, query_model=name, gallery_model=name, metric="norm")
            line[f"length of {name}"] = f"{norm.mean():.2f}"
        for first, second in (("real rows", "real rows"), ("made rows", "made rows"), ("real rows", "made rows")):
            cosine = measured.by_seed(**cell, query_model=first, gallery_model=second, metric="cosine")
            line[f"cosine, {first.split()[0]} and {second.split()[0]}"] = f"{cosine.mean():+.2f}"
        lines.append(line | {"n": len(norm)})
    return pd.DataFrame(lines)


def changes_table(measured: Rows) -> pd.DataFrame:
    """Table B2: old/old, new/old and new/new of BCT A, and the paragon, for everything that an upgrade may change.

    Where the old model knew every class no row is missing and the three forms are one, which rows call form C.
    """
    cases = {"classes": (PLAIN, "BCT A"), "images of every class": ({**PLAIN, "split": "sample-incremental"}, "BCT C")}
    cases |= {change: ({**PLAIN, "variant": change}, "BCT A") for change in CHANGES}
    lines = []
    for words, (place, form) in cases.items():
        line = {"what changes": words}
        cell = {**place, "subset": "all", "metric": "cmc@1"}
        cross = measured.by_seed(**cell, **CROSS, method=form)
        old = measured.by_seed(**cell, **OLD, seed=list(cross.index))
        line["old / old (%)"] = in_percent(old)
        line["new / old, independent (%)"] = in_percent(measured.by_seed(**cell, **CROSS, method="independent"))
        line["new / old, BCT (%)"] = in_percent(cross)
        line["criterion (points)"] = points(cross, old)
        line["new / new, BCT (%)"] = in_percent(measured.by_seed(**cell, **SELF, method=form))
        line["paragon (%)"] = in_percent(measured.by_seed(**cell, **SELF, method="independent"))
        lines.append(line | {"n": len(cross)})
    return pd.DataFrame(lines)


def chain_table(measured: Rows, metric: str = "cmc@1") -> pd.DataFrame:
    """Table B3: average compatibility and average accuracy of three generations, and the oldest gallery's tests."""
    lines = []
    for method in chained(measured):
        found = measured.of(split="three generations", method=method, subset="all", metric=metric)
        matrices = {seed: generation_matrix(rows) for seed, rows in found.groupby("seed")}
        line = {"chain": method, "AC (%)": in_percent(_by_seed(matrices, average_compatibility))}
        line["AA (%)"] = in_percent(_by_seed(matrices, average_accuracy))
        for query, gallery in ((0, 0), (1, 0), (2, 0), (2, 2)):
            values = _by_seed(matrices, lambda matrix, q=query, g=gallery: matrix[q, g])
            line[f"{query + 1} / {gallery + 1} (%)"] = in_percent(values)
        lines.append(line | {"n": len(matrices)})
    return pd.DataFrame(lines)


def chained(measured: Rows) -> list[str]:
    """The methods whose chain was measured, in the order of the study's table."""
    found = set(measured.of(split="three generations")["method"])
    return [method for method in METHODS if method in found]


def generation_matrix(rows: pd.DataFrame) -> np.ndarray:
    """(3, 3) values M(i, j) of one seed's rows, oldest generation first."""
    matrix = rows.pivot_table(index="query_model", columns="gallery_model", values="value")
    return matrix.loc[list(CHAIN), list(CHAIN)].to_numpy()


def threshold_table(measured: Rows) -> pd.DataFrame:
    """Table B6: a verification threshold fixed under old/old at FAR 0.1 %, and the rates it has under new/old.

    Means over seeds, by subset of the queries; the threshold is one for all.
    """
    names = ("fixed TAR", "fixed FAR", "transferred TAR", "transferred FAR")
    titles = ("old/old: TAR (%)", "old/old: FAR (%)", "new/old: TAR (%)", "new/old: FAR (%)")
    lines = []
    for method in methods_of(measured):
        for subset, words in SUBSETS.items():
            cell = {**PLAIN, **CROSS, "method": method, "subset": subset}
            values = {name: measured.by_seed(**cell, metric=name) for name in names}
            line = {"method": method, "queries": words}
            line |= {title: _small(values[name]) for title, name in zip(titles, names, strict=True)}
            lines.append(line | {"n": len(values["fixed TAR"])})
    return pd.DataFrame(lines)


def tuning_table(tuned: Rows) -> pd.DataFrame:
    """Every method's candidates on the held-out training images: the chosen weight is the best at new/old, rank 1."""
    lines, tried = [], tuned.of(x_name="weight")
    for method in [method for method in TUNED_WEIGHTS if method in set(tried["method"])]:
        for weight in sorted(set(tried[tried["method"] == method]["x"])):
            cell = {"method": method, "x": weight, "subset": "all"}
            line = {"method": method, "weight": f"{weight:g}"}
            for title, pair in (("new / old", CROSS), ("new / new", SELF)):
                for metric in ("cmc@1", "map"):
                    line[f"{title}, {METRICS[metric]} (%)"] = in_percent(tuned.by_seed(**cell, **pair, metric=metric))
            line["chosen"] = "yes" if method in METHODS and TRAINED[method].weight == weight else ""
            lines.append(line)
    return pd.DataFrame(lines)


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


def _gained_and_paid(measured: Rows, method: str, where: Mapping[str, str]) -> dict[str, str]:
    """M(new, old) − M(old, old) by score, and rank 1 of new/new less the paragon's: paired by seed, in points."""
    line = {}
    for metric, title in METRICS.items():
        cross = measured.by_seed(**where, **CROSS, metric=metric, method=method)
        old = measured.by_seed(**where, **OLD, metric=metric, seed=list(cross.index))
        line[f"new/old − old/old, {title} (points)"] = points(cross, old)
    own = measured.by_seed(**where, **SELF, metric="cmc@1", method=method)
    paragon = measured.by_seed(**where, **SELF, metric="cmc@1", method="independent", seed=list(own.index))
    return line | {"new/new − paragon, rank 1 (points)": points(own, paragon)}


def _levels(values: Mapping[str, pd.Series], test: str) -> dict[str, str]:
    return {f"{test}: {METRICS[metric]} (%)": in_percent(each) for metric, each in values.items()}


def _by_seed(matrices: Mapping[int, np.ndarray], score) -> pd.Series:
    return pd.Series({seed: float(score(matrix)) for seed, matrix in matrices.items()})


def _small(values: pd.Series) -> str:
    """Rates far below one percent need more digits than `in_percent` gives."""
    return f"{100 * values.mean():.2f}"
