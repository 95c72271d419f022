import itertools

import numpy as np
import pytest

from compatlib.study.chapters.sfsc import plan, tables, trials, tuning
from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN, OF_TABLE, OWN_GALLERIES
from compatlib.study.lab import sidecars
from compatlib.study.lab.figures.cells import pair
from compatlib.study.lab.images import CLOSED
from compatlib.study.lab.measures.gradients import EPOCH
from compatlib.study.lab.rows import Rows
from compatlib.study.lab.trainables.widths import METHODS, SWITCHABLE
from compatlib.study.settings import settings
from tests.study.chapters.sfsc.made_rows import EPOCHS, TENSORS, sfsc
from tests.study.lab.figures import made

PLAIN = {"variant": "", "x_name": ""}


@pytest.fixture(scope="module")
def by_hand() -> Rows:
    return sfsc()


@pytest.fixture(scope="module")
def published() -> Rows:
    return made.without_classes(sidecars.published(plan.CHAPTER, "study", "cifar100"))


@pytest.mark.parametrize("source", ["by_hand", "published"])
@pytest.mark.parametrize("split", ["closed", "open-set"])
def test_every_width_is_tested_on_its_own_and_on_the_full_gallery(source, split, request):
    rows = request.getfixturevalue(source)
    own, cross = (
        table(rows, split=split).set_index("method") for table in (tables.self_test_table, tables.cross_test_table)
    )
    assert list(own.index) == list(cross.index) == [m for m in METHODS if split == "closed" or m in OF_TABLE["open"][1]]
    assert "1 on full (%)" not in cross
    where = {**PLAIN, "split": split, "subset": "all", "metric": "cmc@1"}
    for method in own.index:
        cell = {**where, "method": method}
        assert own.loc[method, "mean (%)"] == made.level(rows, **cell, **pair(MEAN, OWN_GALLERIES))
        assert cross.loc[method, "mean on full (%)"] == made.level(rows, **cell, **pair(MEAN, FULL_GALLERY))
        for width in ("0.25", "0.5"):
            assert own.loc[method, f"{width} (%)"] == made.level(rows, **cell, **pair(width, width))
            gained = made.gained(rows, pair(width, "1"), pair(width, width), **cell)
            assert cross.loc[method, f"{width}: on full − on its own (points)"] == gained


@pytest.mark.parametrize("source", ["by_hand", "published"])
def test_the_ablation_is_paired_with_bct_s_over_the_seeds_that_both_have(source, request):
    rows = request.getfixturevalue(source)
    lines = tables.ablation_table(rows).set_index("switchable network")
    assert list(lines.index) == list(tables.ABLATION)
    where = {**PLAIN, "split": "closed", "subset": "all", "metric": "map", **pair(MEAN, FULL_GALLERY)}
    for words, method in tables.ABLATION.items():
        gained = made.gained(rows, {"method": method}, {"method": "BCT-S"}, **where)
        shown = lines.loc[words, "on full, mAP: against BCT-S (points)"]
        assert shown == ("" if method == "BCT-S" else gained)
        assert lines.loc[words, "n"] == len(made.values(rows, **where, method=method))


def test_sizes_and_costs(by_hand):
    frame = by_hand.frame.copy()
    for width, metric in itertools.product((0.25, 0.5, 1.0), ("parameters", "flops")):
        value = 80_000 * width if metric == "parameters" else 2e7 * width**2
        frame.loc[(frame["query_model"] == f"{width:g}") & (frame["metric"] == metric), "value"] = value
    is_joint, is_seconds = frame["method"] == "joint", frame["metric"] == "training_seconds"
    frame.loc[is_seconds, "value"] = 600.0
    frame.loc[is_seconds & is_joint, "value"] = 900.0
    sizes = tables.size_table(Rows(frame, {})).set_index("width")
    assert sizes.loc["0.5"].tolist() == ["40,000", "50", "5.00", "25"]
    assert sizes.loc["1"].tolist() == ["80,000", "100", "20.00", "100"]
    line = tables.training_table(Rows(frame, {})).set_index("method").loc["joint"]
    assert line.tolist() == [f"{20 * (1 + 1 / 4 + 1 / 16):.2f}", "15.0 minutes", "1.5", 3]
    alone = tables.training_table(Rows(frame[frame["method"] == "joint"], {})).set_index("method").loc["joint"]
    assert alone.tolist() == [*line.tolist()[:2], 3]


def test_conflicts_over_all_tensors_and_tensor_by_tensor(by_hand):
    lines = tables.conflict_table(by_hand).set_index("method")
    assert list(lines.index) == list(SWITCHABLE)
    place = {"split": "closed", "method": "BCT-S", "query_model": "", "metric": "conflicts"}
    assert lines.loc["BCT-S", "pairs that conflict (%)"] == made.level(by_hand, **place, **PLAIN)
    epochs = [100 * made.values(by_hand, **place, x_name=EPOCH, x=epoch).mean() for epoch in EPOCHS]
    worst = f"{max(epochs):.1f} (epoch {1 + int(np.argmax(epochs))})"
    assert lines.loc["BCT-S", "pairs that conflict, worst epoch (%)"] == worst
    tensors = tables.tensor_table(by_hand)
    assert list(tensors) == ["tensor", *(f"{method} (%)" for method in SWITCHABLE)]
    assert list(tensors["tensor"]) == ["trunk.0", "classifier"]
    found = [100 * made.values(by_hand, **place, variant=tensor).mean() for tensor in TENSORS]
    assert list(tensors["BCT-S (%)"]) == [f"{each:.1f}" for each in found]


def tuned_rows() -> Rows:
    """Of the tuning, as its cases stand in rows."""
    run = settings({"profile": "study"}, tuning.Knobs)
    scales = {method: tuning.scales(run, method) for method in tuning.TUNED}
    cells = [
        {"method": method, "variant": tuple("" if scale is None else f"{scale:g}" for scale in scales[method])}
        for method in tuning.TUNED
    ]
    means = pair(MEAN, (OWN_GALLERIES, FULL_GALLERY), metric="cmc@1")
    return made.made(*cells, **means, split=CLOSED, x_name="learning rate", x=tuning.RATES, seeds=(100,))


def test_the_tuning_table_marks_the_values_that_the_run_has():
    run, tuned = settings({"profile": "study"}, plan.Knobs), tuned_rows()
    lines = tables.tuning_table(tuned, run)
    assert len(lines) == len(tuned.frame) / 2
    assert list(dict.fromkeys(lines["logit scale"][lines["logit scale"] != ""])) == ["1", "4", "16"]
    chosen = lines[lines["chosen"] == "yes"].set_index("method")
    assert sorted(chosen.index) == sorted(tuning.TUNED)
    for method, line in chosen.iterrows():
        assert line["learning rate"] == f"{run.knobs.learning_rate(method):g}"
    place = {"method": "joint", "x": 0.1}
    joint = lines[(lines["method"] == "joint") & (lines["learning rate"] == "0.1")].iloc[0]
    assert joint["on full, rank 1 (%)"] == made.level(tuned, **place, gallery_model=FULL_GALLERY)
    both = [made.values(tuned, **place, gallery_model=gallery) for gallery in (OWN_GALLERIES, FULL_GALLERY)]
    assert joint["mean of both (%)"] == f"{100 * np.mean(both):.2f}"


def test_trials_have_the_tunings_best_beside_them_and_conflicts_where_there_are_gradients():
    tuned = tuned_rows()
    cells = []
    for trial in trials.TRIALS:
        place = {"method": trial.method, "variant": trial.variant, "x": trial.rate, "x_name": "learning rate"}
        cells.append(place | pair(MEAN, (OWN_GALLERIES, FULL_GALLERY), metric="cmc@1"))
        cells += [place | {"metric": ("conflicts", "hurt any")}] * (trial.method in SWITCHABLE)
    tried = made.made(*cells, seeds=(100,))
    lines = tables.trials_table(tried, tuned)
    assert list(lines)[-4:-2] == ["mean of both (%)", "the tuning's best (%)"]
    for line, trial in zip(lines.to_dict("records"), trials.TRIALS, strict=True):
        own = {"method": trial.method, "variant": trial.variant, "x": trial.rate}
        both = [made.values(tried, **own, gallery_model=gallery) for gallery in (OWN_GALLERIES, FULL_GALLERY)]
        assert line["mean of both (%)"] == f"{100 * np.mean(both):.2f}"
        of_method = tuned.frame[tuned.frame["method"] == trial.method]
        best = of_method.groupby(["variant", "x"])["value"].mean().max()
        assert line["the tuning's best (%)"] == ("" if trial.is_long else f"{100 * best:.2f}")
        watched = made.level(tried, **own, metric="conflicts") if trial.method in SWITCHABLE else ""
        assert line["pairs that conflict (%)"] == watched


def test_the_worked_examples_are_what_the_formulas_give():
    lines = tables.evidence_example().set_index("the model is")
    # ψ(3) − ψ(1) = 1 + 1/2: without evidence the expected cross-entropy of a uniform guess over three classes.
    assert lines.loc["no evidence for any class"].tolist()[1:] == ["1.000", "1.500", "0.000"]
    losses = lines["loss"].astype(float)
    assert losses["right and sure"] < losses["undecided"] < losses["wrong and sure"]
    plain, projected = tables.projection_example().to_dict("records")
    assert (plain["update: their sum"], plain["update · g2"]) == ("(3, 1)", "-2")
    assert (projected["g1"], projected["g2"], projected["update · g2"]) == ("(2, 2)", "(0, 1)", "1")
