from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from compatlib.evaluation.statistics import ClassScores
from compatlib.study.chapters.dual_tuning import figures
from compatlib.study.chapters.dual_tuning.plan import (
    HEADLINE,
    IN_RANDOM_ORDER,
    ON_OUTLIERS,
    OWN,
    RELEASE,
    SHARE_OF_OUTLIERS,
    WEIGHTS,
)
from compatlib.study.lab.class_scores import cell_name
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.rows import CLASS_CELL, NoRowError, Rows
from tests.study.chapters.dual_tuning.made_rows import CROSS, OLD, SELF, SHARES, dual
from tests.study.lab.figures import made

PLAIN = {"split": "class-incremental", "variant": OWN, "x_name": "", "metric": "map", "subset": "all"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return dual()


def test_a_mixed_gallery_begins_with_old_items_alone(rows):
    figure = figures.mixed(rows)
    assert [axis.get_title() for axis in figure.axes] == ["all classes", "unseen identities"]
    for axis, split in zip(figure.axes, ("class-incremental", "open-set"), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == [*HEADLINE, "old / old"]
        place = {"split": split, "variant": IN_RANDOM_ORDER, "x_name": SHARE, "metric": "map"}
        found = sorted(zip(*lines["L2"].get_data(), strict=True), reverse=True)
        expected = [100 * made.values(rows, **place, method="L2", x=x).mean() for x in SHARES]
        assert [x for x, _ in found] == [100, 50, 0]
        assert [y for _, y in found] == pytest.approx(expected)
        assert axis.xaxis_inverted()
        old = made.values(rows, **PLAIN | {"split": split}, **OLD).mean()
        assert lines["old / old"].get_ydata()[0] == pytest.approx(100 * old)
    assert not plt.get_fignums()


def with_classes(rows: Rows) -> Rows:
    """Six classes, of which the old model knew four; one has no query."""
    frame, by_class = rows.frame.copy(), {}
    picked = (frame["gallery_model"] == "old means") & (frame["subset"] == "all")
    for place, row in frame[picked].iterrows():
        random = np.random.default_rng(int(1e6 * row["value"]))
        counts = np.array([5, 4, 0, 5, 3, 3])
        scores = ClassScores(random.integers(0, counts + 1).astype(float), counts)
        group = f"{row['profile']}/{row['dataset']}/{row['seed']}"
        by_class.setdefault(group, {})[cell_name(row.to_dict(), CLASS_CELL)] = scores
        frame.loc[place, "value"] = scores.mean
    sidecar = {group: {"known_classes": 4} for group in by_class}
    return replace(rows, frame=frame, sidecar=sidecar, by_class=by_class)


def test_prototypes_are_judged_class_by_class_from_the_worst_to_the_best(rows):
    one = replace(rows, frame=rows.frame.reset_index(drop=True))
    own = with_classes(one)
    figure = figures.prototypes(own)
    assert [axis.get_title() for axis in figure.axes] == ["old", *(f"new, {method}" for method in HEADLINE[1:])]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(figures.KNOWN.values())
    place = {name: value for name, value in PLAIN.items() if name != "metric"}
    found = own.measured(**place, metric="cmc@1", query_model="old", gallery_model="old means")
    means = np.mean([scores.sums for (scores,) in found.by_class.values()], axis=0) / [5, 4, 1, 5, 3, 3]
    known, mean, unknown, _ = figure.axes[0].lines
    assert list(known.get_ydata()) == pytest.approx(sorted(100 * means[[0, 1, 3]]))
    assert list(unknown.get_ydata()) == pytest.approx(sorted(100 * means[[4, 5]]))
    assert mean.get_ydata()[0] == pytest.approx(100 * means[[0, 1, 3]].mean())
    with pytest.raises(NoRowError, match="no scores by class are kept"):
        figures.prototypes(rows)


def test_outliers_have_a_line_a_method_and_the_old_models_own_test(rows):
    figure = figures.outliers(rows)
    assert [axis.get_title() for axis in figure.axes] == ["new / old", "new / new"]
    place = {"variant": OWN, "x_name": SHARE_OF_OUTLIERS, "metric": "map"}
    for axis, test in zip(figure.axes, (CROSS, SELF), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == [*ON_OUTLIERS[1:], "old / old"]
        for name, cell in (("L2", {**test, "method": "L2"}), ("old / old", OLD)):
            expected = [100 * made.values(rows, **place, **cell, x=x).mean() for x in (0.0, 0.2, 0.4)]
            assert list(lines[name].get_ydata()) == pytest.approx(expected)
        assert list(lines["L2"].get_xdata()) == pytest.approx([0, 20, 40])


def test_weights_have_a_panel_each_beside_old_old_and_the_paragon(rows):
    figure = figures.weights(rows)
    assert [axis.get_xlabel() for axis in figure.axes] == list(WEIGHTS)
    for axis, (name, weights) in zip(figure.axes, WEIGHTS.items(), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == ["new / old", "new / new", "new / new, the paragon", "old / old: the criterion"]
        place = {"variant": RELEASE, "x_name": name, "metric": "map"}
        expected = [100 * made.values(rows, **place, **SELF, x=weight).mean() for weight in weights]
        assert list(lines["new / new"].get_ydata()) == pytest.approx(expected)
        paragon = made.values(rows, **PLAIN, **SELF, method="independent").mean()
        assert lines["new / new, the paragon"].get_ydata()[0] == pytest.approx(100 * paragon)
