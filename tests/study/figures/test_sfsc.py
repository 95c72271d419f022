"""The chapter's tables and figures, from rows made by hand."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from compatlib.study import claims
from compatlib.study.chapters import sfsc_trials, sfsc_tuning
from compatlib.study.chapters.sfsc import OF_TABLE, Knobs
from compatlib.study.figures import sfsc, sfsc_tables
from compatlib.study.rows import Rows, table
from compatlib.study.settings import settings
from compatlib.study.switchable_rows import EPOCH, FULL_GALLERY, MEAN, OWN_GALLERIES, WHOLE_MATRIX
from compatlib.study.switchables import METHODS, SWITCHABLE

# Metrics by how much they are above rank 1.
METRICS, WIDTHS = {"cmc@1": 0.0, "cmc@5": 0.2, "map": -0.1}, (0.25, 0.5, 1.0)
NAMES = [f"{width:g}" for width in WIDTHS]
BASE = {"profile": "study", "dataset": "cifar100", "chapter": "sfsc"}
TENSORS = ("trunk.0.weight", "classifier.weight")
EPOCHS = 3
OPEN = ("independent", "BCT-S", "SFSC")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def self_test(method: str, width: float) -> float:
    """Rank 1: a point more with every method of the list, ten times the width."""
    return 0.2 + 0.01 * METHODS.index(method) + 0.1 * width


def of_seed(seed: int, swept: bool = True):
    """All methods and both splits, or of a seed that is not swept those of the first table."""
    for split, methods in (("closed", METHODS if swept else OF_TABLE["S1"][1]), ("open-set", OPEN if swept else ())):
        for method in methods:
            yield from scores(seed, split, method)
            yield from costs(seed, split, method)
            if method in SWITCHABLE:
                yield from gradients(seed, split, method)
        for metric in METRICS:
            yield {**BASE, "split": split, "method": "chance", "metric": metric, "subset": "all", "seed": seed} | {
                "value": 0.01,
                "distance": "cosine",
            }


def scores(seed: int, split: str, method: str):
    place = {**BASE, "split": split, "method": method, "subset": "all", "seed": seed, "distance": "cosine"}
    pairs = {}
    for query, gallery in itertools.product(WIDTHS, WIDTHS):
        if method in WHOLE_MATRIX or gallery in (query, 1.0):
            # A narrow query gains two points on the full gallery.
            gained = 0.02 if gallery == 1 and query != 1 else 0.0
            pairs[query, gallery] = self_test(method, query) + gained + 0.001 * seed * (1 + METHODS.index(method))
    for (query, gallery), value in pairs.items():
        for metric, shift in METRICS.items():
            own = {"query_model": f"{query:g}", "gallery_model": f"{gallery:g}", "metric": metric}
            yield place | own | {"value": value + shift}
    own = np.mean([pairs[width, width] for width in WIDTHS])
    full = np.mean([pairs[width, 1.0] for width in WIDTHS[:-1]])
    for gallery, value in ((OWN_GALLERIES, own), (FULL_GALLERY, full)):
        for metric, shift in METRICS.items():
            yield place | {"query_model": MEAN, "gallery_model": gallery, "metric": metric, "value": value + shift}


def costs(seed: int, split: str, method: str):
    place = {**BASE, "split": split, "method": method, "seed": seed}
    for width in WIDTHS:
        for metric, value in (("parameters", 80_000 * width), ("flops", 2e7 * width**2)):
            yield place | {"query_model": f"{width:g}", "metric": metric, "value": value}
    yield place | {"metric": "training_seconds", "value": 600.0 + 60 * (seed + METHODS.index(method))}


def gradients(seed: int, split: str, method: str):
    place = {**BASE, "split": split, "method": method, "seed": seed}
    level = 0.1 if SWITCHABLE[method][1] == "none" else 0.02
    for epoch in range(1, EPOCHS + 1):
        at = place | {"x_name": EPOCH, "x": epoch}
        for width in WIDTHS:
            for metric in ("gradient norm", "uncertainty", "hurt"):
                yield at | {"query_model": f"{width:g}", "metric": metric, "value": level * epoch * width}
        for first, second in itertools.combinations(NAMES, 2):
            for metric, value in (("cosine", 0.5 - level * epoch), ("conflicts", 1.5 * level * epoch)):
                yield at | {"query_model": first, "gallery_model": second, "metric": metric, "value": value}
        yield at | {"metric": "hurt any", "value": 0.5 * level * epoch}
        yield at | {"metric": "conflicts", "value": level * epoch}
    for metric, value in (("hurt any", level), ("hurt", 0.4 * level), ("conflicts", 2 * level)):
        yield place | {"metric": metric, "value": value}
    for number, tensor in enumerate(TENSORS):
        own = {"metric": "conflicts", "x_name": "tensor", "x": number, "variant": tensor, "value": 0.3 + 0.1 * number}
        yield place | own


@pytest.fixture(scope="module")
def study() -> Rows:
    sidecar = {f"study/cifar100/{seed}": {"made_from": {}} for seed in range(3)}
    return Rows(table([row for seed in range(3) for row in of_seed(seed)]), sidecar)


@pytest.fixture(scope="module")
def laptop() -> Rows:
    """Three seeds, of which one is swept."""
    sidecar = {f"study/cifar100/{seed}": {"made_from": {}} for seed in range(3)}
    return Rows(table([row for seed in range(3) for row in of_seed(seed, swept=seed == 0)]), sidecar)


def test_self_tests_by_width_and_their_mean(study):
    lines = sfsc_tables.self_test_table(study).set_index("method")
    assert list(lines.index) == list(METHODS)
    for method in METHODS:
        shift = 0.001 * (1 + METHODS.index(method))  # the second of three seeds is the mean
        for width in WIDTHS:
            assert lines.loc[method, f"{width:g} (%)"].startswith(f"{100 * (self_test(method, width) + shift):.1f}")
        mean = np.mean([self_test(method, width) for width in WIDTHS]) + shift
        assert lines.loc[method, "mean (%)"].startswith(f"{100 * mean:.1f}")
    assert set(lines["n"]) == {3}
    assert list(sfsc_tables.self_test_table(study, split="open-set")["method"]) == list(OPEN)


def test_cross_tests_say_whether_the_full_gallery_pays(study):
    lines = sfsc_tables.cross_test_table(study).set_index("method")
    for method in METHODS:
        assert lines.loc[method, "0.25: on full − on its own (points)"].startswith("+2.0")
        shift = 0.001 * (1 + METHODS.index(method))
        expected = 100 * (self_test(method, 0.5) + 0.02 + shift)
        assert lines.loc[method, "0.5 on full (%)"].startswith(f"{expected:.1f}")
    assert "1 on full (%)" not in lines


def test_the_ablation_is_paired_with_bct_s(study):
    lines = sfsc_tables.ablation_table(study).set_index("switchable network")
    assert list(lines.index) == list(sfsc_tables.ABLATION)
    gained = {words: METHODS.index(m) - METHODS.index("BCT-S") for words, m in sfsc_tables.ABLATION.items()}
    for words, steps in gained.items():
        shown = lines.loc[words, "self-test, rank 1: against BCT-S (points)"]
        # A step in the list is a point, and a tenth more in the mean over seeds, by which alone the pairs differ.
        half = 4.303 * 0.1 * abs(steps) / np.sqrt(3)
        assert shown == (f"{1.1 * steps:+.1f}\u00a0±\u00a0{half:.1f}" if steps else "")


def test_a_sweep_of_fewer_seeds_is_paired_with_those(laptop):
    lines = sfsc_tables.ablation_table(laptop).set_index("switchable network")
    steps = METHODS.index("BCT-S + uncertainty") - METHODS.index("BCT-S")
    assert lines.loc["+ uncertainty", "self-test, rank 1: against BCT-S (points)"] == f"{steps:+.1f}"
    assert (lines.loc["+ uncertainty", "n"], lines.loc["both: SFSC", "n"]) == (1, 3)


def test_sizes_and_costs(study):
    sizes = sfsc_tables.size_table(study).set_index("width")
    assert sizes.loc["0.25", "parameters"] == "20,000"
    assert sizes.loc["0.5", "of the full model's (%)"] == "50"
    assert sizes.loc["1", "operations an image (MFLOPs)"] == "20.00"
    assert sizes.loc["0.5", "of the full model's operations (%)"] == "25"
    training = sfsc_tables.training_table(study).set_index("method")
    assert training.loc["joint", "operations an image, all widths (MFLOPs)"] == f"{20 * (1 + 1 / 4 + 1 / 16):.2f}"
    assert training.loc["independent", "trained in (wall clock)"] == "11.0 minutes"
    of_joint = (660 + 60 * METHODS.index("joint")) / (660 + 60 * METHODS.index("independent"))
    assert training.loc["joint", "times independent"] == f"{of_joint:.1f}"


def test_conflicts_over_all_tensors_and_tensor_by_tensor(study):
    lines = sfsc_tables.conflict_table(study).set_index("method")
    assert list(lines.index) == list(SWITCHABLE)
    assert lines.loc["BCT-S", "pairs that conflict (%)"].startswith("20.0")
    assert lines.loc["SFSC", "updates that hurt any width (%)"].startswith("2.0")
    assert lines.loc["SFSC", "updates that hurt a given width (%)"].startswith("0.8")
    assert lines.loc["BCT-S", "pairs that conflict, worst epoch (%)"] == "30.0 (epoch 3)"
    tensors = sfsc_tables.tensor_table(study)
    assert list(tensors["tensor"]) == ["trunk.0", "classifier"]
    assert list(tensors["SFSC (%)"]) == ["30.0", "40.0"]


def test_the_tuning_table_marks_the_values_that_the_run_has():
    run = settings({"profile": "study"}, Knobs)
    records = []
    for number, candidate in enumerate(sfsc_tuning.candidates()):
        variant = "" if candidate.scale is None else f"{candidate.scale:g}"
        place = {**BASE, "chapter": "sfsc_tuning", "method": candidate.method, "variant": variant, "seed": 100}
        place |= {"x_name": "learning rate", "x": candidate.rate, "query_model": MEAN, "metric": "cmc@1"}
        for gallery, value in ((OWN_GALLERIES, 0.3), (FULL_GALLERY, 0.2)):
            records.append(place | {"gallery_model": gallery, "value": value + 0.001 * number})
    lines = sfsc_tables.tuning_table(Rows(table(records), {}), run)
    assert len(lines) == len(sfsc_tuning.candidates())
    assert list(dict.fromkeys(lines["logit scale"][lines["logit scale"] != ""])) == ["1", "4", "16"]
    chosen = lines[lines["chosen"] == "yes"].set_index("method")
    assert sorted(chosen.index) == sorted(sfsc_tuning.TUNED)
    for method, line in chosen.iterrows():
        assert line["learning rate"] == f"{run.knobs.learning_rate(method):g}"
    place = sfsc_tuning.candidates().index(sfsc_tuning.Candidate("joint", 0.1))
    joint = lines[(lines["method"] == "joint") & (lines["learning rate"] == "0.1")].iloc[0]
    assert joint["mean of both (%)"] == f"{25 + 0.1 * place:.2f}"


def test_the_trials_table_has_the_tunings_best_beside_each_and_conflicts_where_there_are_gradients():
    tuned, tried = [], []
    for method, scales in (("joint", [""]), ("Asymmetric-S", [""]), ("BCT-S", [""]), ("BCT-S + uncertainty", "14")):
        for scale, gallery in itertools.product(scales, (OWN_GALLERIES, FULL_GALLERY)):
            place = {**BASE, "chapter": "sfsc_tuning", "method": method, "variant": scale, "seed": 100, "x": 0.2}
            place |= {"query_model": MEAN, "gallery_model": gallery, "metric": "cmc@1"}
            tuned.append(place | {"value": 0.35 if scale == "4" else 0.25})
    for trial in sfsc_trials.TRIALS:
        place = {**BASE, "chapter": "sfsc_trials", "method": trial.method, "variant": trial.variant, "seed": 100}
        place |= {"x_name": "learning rate", "x": trial.rate}
        for gallery, value in ((OWN_GALLERIES, 0.3), (FULL_GALLERY, 0.2)):
            tried.append(place | {"query_model": MEAN, "gallery_model": gallery, "metric": "cmc@1", "value": value})
        if trial.method in SWITCHABLE:
            tried += [place | {"metric": "conflicts", "value": 0.02}, place | {"metric": "hurt any", "value": 0.01}]
    lines = sfsc_tables.trials_table(Rows(table(tried), {}), Rows(table(tuned), {}))
    assert list(lines["method"]) == [trial.method for trial in sfsc_trials.TRIALS]
    assert set(lines["mean of both (%)"]) == {"25.00"}
    assert list(lines["the tuning's best (%)"] == "") == [trial.is_long for trial in sfsc_trials.TRIALS]
    lines = lines.groupby("method").first()
    assert lines.loc["BCT-S + uncertainty", "the tuning's best (%)"] == "35.00"
    assert lines.loc["BCT-S", "the tuning's best (%)"] == "25.00"
    assert tuple(lines.loc["BCT-S"].iloc[-2:]) == ("2.0", "1.0")
    assert tuple(lines.loc["joint"].iloc[-2:]) == ("", "")


def test_the_worked_examples_are_what_the_formulas_give():
    lines = sfsc_tables.evidence_example().set_index("the model is")
    # ψ(3) − ψ(1) = 1 + 1/2: without evidence the expected cross-entropy of a uniform guess over three classes.
    assert lines.loc["no evidence for any class"].tolist()[1:] == ["1.000", "1.500", "0.000"]
    losses = lines["loss"].astype(float)
    assert losses["right and sure"] < losses["undecided"] < losses["wrong and sure"]
    plain, projected = sfsc_tables.projection_example().to_dict("records")
    assert (plain["update: their sum"], plain["update · g2"]) == ("(3, 1)", "-2")
    assert (projected["g1"], projected["g2"], projected["update · g2"]) == ("(2, 2)", "(0, 1)", "1")


def test_heat_maps_have_a_cell_for_every_pair_of_widths(study):
    figure = sfsc.matrices(study)
    heat = [axis for axis in figure.axes if axis.get_title() in WHOLE_MATRIX]
    assert [axis.get_title() for axis in heat] == ["BCT-S", "SFSC"]
    for axis in heat:
        shown = [float(text.get_text()) for text in axis.texts]
        assert len(shown) == len(WIDTHS) ** 2
        method, shift = axis.get_title(), 0.001 * (1 + METHODS.index(axis.get_title()))
        assert shown[0] == pytest.approx(100 * (self_test(method, 0.25) + shift), abs=0.051)
        assert shown[2] == pytest.approx(100 * (self_test(method, 0.25) + 0.02 + shift), abs=0.051)


def test_operations_have_a_line_for_every_method_of_the_first_table(study):
    own, full = sfsc.against_operations(study).axes
    for axis, gained in ((own, 0.0), (full, 0.02)):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == list(sfsc.SHOWN)
        assert list(lines["SFSC"].get_xdata()) == [1.25, 5.0, 20.0]
        expected = 100 * (self_test("SFSC", 0.25) + gained + 0.001 * (1 + METHODS.index("SFSC")))
        assert lines["SFSC"].get_ydata()[0] == pytest.approx(expected)
    looks = {(line.get_color(), line.get_marker()) for line in own.lines}
    assert len(looks) == len(own.lines)


def test_conflicts_are_drawn_by_epoch(study):
    cosine, conflicts, hurt = sfsc.conflicts(study).axes
    for axis, last in ((cosine, 0.2), (conflicts, 30.0), (hurt, 15.0)):
        line = next(line for line in axis.lines if line.get_label() == "BCT-S")
        assert list(line.get_xdata()) == [1, 2, 3]
        assert line.get_ydata()[-1] == pytest.approx(last)
        marked = [line for line in axis.lines if line.get_marker() not in ("None", None, "")]
        assert [line.get_label() for line in marked] == list(sfsc.GRADIENTS_SHOWN)
        sizes = [line.get_markersize() for line in marked]
        assert sizes == sorted(set(sizes), reverse=True)  # of two lines that coincide both are seen


def test_priorities_have_a_line_for_every_width(study):
    axes = sfsc.priorities(study).axes
    assert len(axes) == 6
    for axis in axes:
        marked = [line for line in axis.lines if line.get_marker() not in ("None", None, "")]
        assert len(marked) == len(WIDTHS)
    full = next(line for line in axes[0].lines if line.get_label() == "width 1")
    assert list(full.get_ydata()) == pytest.approx([0.1, 0.2, 0.3])  # of BCT-S: a tenth an epoch, times the width


def test_every_claim_of_the_chapter_finds_its_rows(study, laptop):
    for claim in claims.load("sfsc"):
        judged = [claims.judge(claim, each, "study", "cifar100") for each in (study, laptop)]
        assert all(each.verdict is not None for each in judged), claim.id
        assert [each.verdict.links[0].n for each in judged] == [3, 1 if "uncertainty-helps" in claim.id else 3]


def test_tables_and_figures_do_where_a_seed_is_not_swept(laptop):
    for make in (
        sfsc_tables.self_test_table,
        sfsc_tables.cross_test_table,
        sfsc_tables.size_table,
        sfsc_tables.training_table,
        sfsc_tables.conflict_table,
        sfsc_tables.tensor_table,
    ):
        assert len(make(laptop))
    for draw in (sfsc.matrices, sfsc.against_operations, sfsc.conflicts, sfsc.priorities):
        assert draw(laptop).axes
