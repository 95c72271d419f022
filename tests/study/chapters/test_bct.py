"""The chapter *BCT* and its tuning on tiny runs: which cells there are, and a few numbers made again by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.retrieval import evaluate
from compatlib.study.chapters.bct import tuning
from compatlib.study.chapters.bct.plan import (
    ALL_METHODS,
    CHAPTER,
    CLAIMED,
    FORMS,
    HEADLINE,
    METHODS,
    SAME_ENCODER,
    TABLES,
    TABLES_OF,
    WEIGHTS,
    Knobs,
    cases,
    is_real,
)
from compatlib.study.lab import images, sidecars
from compatlib.study.lab.changes import CHANGES
from compatlib.study.lab.experiment import measure, validation
from compatlib.study.lab.images import CLASS_INCREMENTAL, GENERATIONS, OPEN_SET, SAMPLE_INCREMENTAL
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import ClassMeans, Of, of_role
from compatlib.study.lab.trainables import Base, Upgrade, upgraded
from compatlib.study.lab.trainables.upgrades import METHODS as TRAINED
from compatlib.study.settings import settings, tables

WHOLE = TABLES_OF["smoke"]

pytestmark = pytest.mark.usefixtures("keeps_trained")
SUBSETS, SCORES = ("all", "known", "unknown"), ("cmc@1", "cmc@5", "map")
MAIN = {"split": CLASS_INCREMENTAL, "variant": "", "x_name": ""}
OLD, NEW = of_role("old"), of_role("new")


@pytest.fixture(scope="module")
def run(tiny_run):
    """Seed 1 has no sweep."""
    return tiny_run(Knobs, seeds=[0, 1])


@pytest.fixture(scope="module")
def measured(run, keeps_trained):
    return measure(CHAPTER, run)


# Which cells there are.


def test_rows_are_sound(measured, require_sound):
    require_sound(measured.rows, "bct")
    frame = measured.rows.frame
    assert frame[~frame["metric"].isin(["norm", "cosine", "influence loss"])]["value"].between(0, 1).all()
    assert set(frame["distance"]) == {"cosine"}


def test_claims_are_for_every_seed_and_sweeps_for_their_own(measured):
    both, swept = {0, 1}, {0}
    main = (CLASS_INCREMENTAL, "", "")
    expected = {(*main, method, ""): both if method in CLAIMED else swept for method in METHODS}
    expected |= {(SAMPLE_INCREMENTAL, "", "", method, ""): both for method in ("independent", "BCT C")}
    upgraded = ("independent", "BCT A")
    expected |= {(CLASS_INCREMENTAL, words, "", method, ""): swept for words in CHANGES for method in upgraded}
    expected |= {(GENERATIONS, "", "", method, ""): swept for method in upgraded}
    offsets = [f"offset={offset}" for offset in ("shifted", "centred")]
    for offset in offsets:
        expected |= {(CLASS_INCREMENTAL, offset, "", m, ""): both if m in CLAIMED else swept for m in METHODS}
        expected |= {(OPEN_SET, offset, "", method, ""): swept for method in upgraded}
    expected |= {(GENERATIONS, offsets[0], "", method, ""): swept for method in upgraded}
    for split, forms in ((CLASS_INCREMENTAL, ("BCT A", "BCT C")), (OPEN_SET, ("BCT A",))):
        expected[split, "", "weight", "independent", 0.0] = swept
        expected |= {(split, "", "weight", form, weight): swept for form in forms for weight in WEIGHTS}
        expected[split, "", "", "chance", ""] = both
    frame = measured.rows.frame
    frame = frame.assign(x=frame["x"].astype(object).where(frame["x"].notna(), ""))
    found = frame.groupby(["split", "variant", "x_name", "method", "x"])["seed"].apply(set).to_dict()
    assert found == expected


def cells(measured, **where) -> set[tuple[str, str, str]]:
    """(pair of models, subset, metric)."""
    frame = measured.rows.of(**where)
    pairs = frame["query_model"] + "/" + frame["gallery_model"]
    return set(zip(pairs, frame["subset"], frame["metric"], strict=True))


def upgrade_cells(pairs: tuple[str, ...], subsets: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Of one upgrade in any table: scores, popularity and flips; collapse where a model meets itself."""
    found = {(pair, subset, metric) for pair in pairs for subset in subsets for metric in SCORES}
    found |= {(pair, "all", "top_share") for pair in pairs}
    found |= {("new/old", subset, "negative_flips") for subset in subsets}
    own = [pair for pair in pairs if pair != "new/old"]
    return found | {(pair, "all", metric) for pair in own for metric in ("dead_coordinates", "zero_vectors")}


def diagnosis_cells(names: tuple[str, ...], subsets: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Beside B1: thresholds, likeness, and rank 1 on class means."""
    rates = [f"{words} {rate}" for words in ("fixed", "transferred") for rate in ("FAR", "TAR")]
    found = {("new/old", subset, metric) for subset in subsets for metric in (*rates, "cosine")}
    return found | {(f"{name}/old means", subset, "cmc@1") for name in names for subset in subsets}


def test_an_upgrades_cells_are_those_of_its_table(measured):
    apart, trained = ("new/old", "new/new", "old/old"), ("new/old", "new/new")
    expected = upgrade_cells(apart, SUBSETS) | diagnosis_cells(("new", "old"), SUBSETS)
    assert cells(measured, **MAIN, method="independent") == expected
    expected = upgrade_cells(trained, SUBSETS) | diagnosis_cells(("new",), SUBSETS)
    assert cells(measured, **MAIN, method="L2") == expected
    judged = [(name, "classifier") for name in ("new", "old")]
    asked = ("classified", "into made rows", "influence loss")
    made = ("real rows", "made rows")
    classifier = {("/".join(pair), subset, metric) for pair in judged for subset in SUBSETS for metric in asked}
    classifier |= {(f"{name}/{name}", "", "norm") for name in made}
    classifier |= {(f"{first}/{second}", "", "cosine") for first in made for second in made}
    assert cells(measured, **MAIN, method="BCT C") == expected | classifier
    sweep = {"x_name": "weight", "method": "BCT A", "x": 0.3}
    assert cells(measured, split=CLASS_INCREMENTAL, **sweep) == upgrade_cells(trained, SUBSETS)
    assert cells(measured, split=OPEN_SET, **sweep) == upgrade_cells(trained, ("all",))
    assert cells(measured, variant="softmax to cosine", method="BCT A") == upgrade_cells(trained, SUBSETS)


@pytest.mark.parametrize("profile", ["laptop", "study", "large"])
def test_a_profile_measures_its_tables(profile):
    run = settings({"profile": profile}, Knobs)
    wanted = TABLES_OF.get(profile, TABLES)
    assert tables(run) == wanted
    for seed in run.seeds:
        planned, swept = list(cases(run, seed)), seed in run.sweep_seeds
        columns = [case.columns for case in planned]
        methods = {each["method"] for each in columns if each["split"] == CLASS_INCREMENTAL and "x" not in each}
        every, few = (ALL_METHODS if is_real(run) else METHODS, HEADLINE if run.encoders else CLAIMED)
        chosen = {*(every if swept else few)}.intersection(run.knobs.methods or every)
        assert methods == chosen | {"chance"}
        assert any(each["split"] == SAMPLE_INCREMENTAL for each in columns) == ("BCT C" in chosen)
        assert any(each.get("variant") in CHANGES for each in columns) == (swept and "B2" in wanted)
        assert any("offset" in each.get("variant", "") for each in columns) == ("offset" in wanted)
        assert any(each["split"] == GENERATIONS for each in columns) == (swept and "B3" in wanted)
        assert any("x" in each for each in columns) == (swept and "B4" in wanted)
        assert any("x" in each and each["split"] == OPEN_SET for each in columns) == (swept and "B5" in wanted)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("B1", ("B1",)), ("B2", ("B1", "B2")), ("B3,B1", ("B1", "B3")), (" B5 , B4,", ("B1", "B4", "B5")), ("", WHOLE)],
)
def test_a_page_names_its_tables_and_always_has_the_first(tiny_run, measured, given, wanted):
    run = tiny_run(Knobs, tables=given)
    assert tables(run) == wanted
    found = {sidecars.identity(case) for case in cases(run, 0)}
    whole = {case["case"] for case in measured.rows.sidecar["smoke/digits/0"]["cases"]}
    assert found <= whole
    assert (found == whole) == (wanted == WHOLE)


def test_a_run_may_measure_some_methods_alone(tiny_run):
    found = [case.columns for case in cases(tiny_run(Knobs, tables="B1", methods=["BCT A", "independent"]), 0)]
    assert {each["method"] for each in found} == {"independent", "BCT A", "chance"}
    assert {each["split"] for each in found} == {CLASS_INCREMENTAL}
    both = [case.columns for case in cases(tiny_run(Knobs, tables="B1", methods=["BCT C", "independent"]), 0)]
    assert {each["split"] for each in both} == {CLASS_INCREMENTAL, SAMPLE_INCREMENTAL}
    with pytest.raises(ValueError, match=r"unknown method \['BCT Z'\]; choose from independent; L2;.*; BCT C; BCT D"):
        tiny_run(Knobs, methods=["BCT A", "BCT Z"])


def test_the_chain_of_made_rows_is_measured_where_it_does_not_collapse():
    """Out of a collapsed generation's embeddings no row can be made for the next."""
    with_c, without = {"independent", "BCT A", "BCT C"}, {"independent", "BCT A"}
    for profile, methods in (("study", with_c), ("heads", with_c), ("laptop", with_c), ("smoke", without)):
        run = settings({"profile": profile}, Knobs)
        for seed in run.seeds:
            planned = [case.columns for case in cases(run, seed)]
            found = {each["method"] for each in planned if each["split"] == GENERATIONS}
            assert found == (methods if seed in run.sweep_seeds else set())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tables": "B6"}, r"unknown table \['B6'\]; choose from B1, B2, B3, B4, B5"),
        ({"tables": "B1 B2"}, r"unknown table \['B1 B2'\]"),
        ({"distance": "manhattan"}, "'distance' = 'manhattan'"),
    ],
)
def test_wrong_parameters_are_refused(tiny_run, given, words):
    with pytest.raises(ValueError, match=words):
        tiny_run(Knobs, **given)


# Numbers.


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("cell", "query", "gallery"),
    [
        (MAIN | {"method": "independent", "query_model": "new"}, NEW, OLD),
        (MAIN | {"method": "BCT B", "query_model": "new"}, Of(Upgrade("BCT B")), OLD),
        (MAIN | {"method": "independent", "query_model": "old"}, OLD, OLD),
        (
            {"split": SAMPLE_INCREMENTAL, "method": "BCT C", "query_model": "new"},
            Of(Upgrade("BCT C", Base("old_samples"))),
            of_role("old_samples"),
        ),
        (
            {"variant": "network, embedding and loss", "method": "BCT A"},
            Of(Upgrade("BCT A", Base("old_small_narrow"), "new_deep_arcface")),
            of_role("old_small_narrow"),
        ),
        ({"split": CLASS_INCREMENTAL, "x": 0.3, "method": "BCT C"}, Of(Upgrade("BCT C", weight=0.3)), OLD),
        (
            {"split": OPEN_SET, "x": 3.0, "method": "BCT A"},
            Of(Upgrade("BCT A", Base("old_open"), "new_open", weight=3.0)),
            of_role("old_open"),
        ),
    ],
)
def test_cross_tests_are_those_of_the_models_of_the_seed(run, measured, scored, cell, query, gallery, seed):
    own, split = Seed(run, seed), cell.get("split", CLASS_INCREMENTAL)
    wanted = cell | {"gallery_model": "old"}
    if seed == 1 and (cell.get("variant") or "x" in cell):
        with pytest.raises(ValueError, match="no row has"):
            measured.rows.of(**wanted, seed=1)
        return
    for subset in SUBSETS if split == CLASS_INCREMENTAL else ("all",):
        for metric in ("cmc@1", "map"):
            found = measured.rows.by_seed(**wanted, subset=subset, metric=metric)[seed]
            assert found == pytest.approx(scored(own, query, gallery, split, subset, metric, "cosine"))


def test_flips_are_against_the_old_models_own_test(measured):
    first = measured.first
    labels = first.labels(CLASS_INCREMENTAL)
    new, old = (first.vectors(space, CLASS_INCREMENTAL) for space in (Of(Upgrade("BCT A")), OLD))
    before, after = (evaluate(query, old, labels, labels, exclude_self=True).first_rank for query in (old, new))
    for subset, mask in (("all", labels >= 0), ("unknown", labels >= 5)):
        flipped = [b == 1 and a != 1 for b, a in zip(before[mask], after[mask], strict=True)]
        found = measured.rows.by_seed(**MAIN, method="BCT A", metric="negative_flips", subset=subset)
        assert found[0] == pytest.approx(sum(flipped) / len(flipped))


@pytest.mark.parametrize("name", ["old", "new"])
def test_class_means_answer_under_the_cosine(measured, name):
    first = measured.first
    queries, means = (
        first.vectors(space, CLASS_INCREMENTAL).astype(float) for space in (of_role(name), ClassMeans(Base("old")))
    )
    labels = first.labels(CLASS_INCREMENTAL)
    nearest = [int(np.argmax(means @ query / np.linalg.norm(means, axis=1))) for query in queries]
    place = MAIN | {"method": "independent", "query_model": name, "gallery_model": "old means"}
    for subset, mask in {"all": labels >= 0, "known": labels < 5, "unknown": labels >= 5}.items():
        found = measured.rows.by_seed(**place, subset=subset)[0]
        assert found == pytest.approx(np.mean((np.array(nearest) == labels)[mask]))


@pytest.mark.parametrize("method", ["independent", "BCT A"])
def test_a_chain_is_a_full_matrix_of_its_generations(measured, scored, method):
    """Each trained against its predecessor only; the first is common to both chains."""
    first = Base("old_quarter")
    second = upgraded(method, first, "old")
    third = upgraded(method, second, "new")
    generations = dict(zip(("generation 1", "generation 2", "generation 3"), (first, second, third), strict=True))
    for (query, q), (gallery, g) in itertools.product(generations.items(), repeat=2):
        cell = {"split": GENERATIONS, "method": method, "query_model": query, "gallery_model": gallery}
        cell["variant"] = ""
        expected = scored(measured.first, Of(q), Of(g), GENERATIONS, "all", "map", "cosine")
        assert measured.rows.by_seed(**cell, metric="map")[0] == pytest.approx(expected)


def test_what_does_not_depend_on_the_table_is_the_same_in_each(measured):
    """Models trained apart, and λ = 1, stand in B1 and in the sweep of B4."""
    for method, x in (("independent", 0.0), ("BCT A", 1.0), ("BCT C", 1.0)):
        for gallery, metric in itertools.product(("old", "new"), SCORES):
            wanted = {"split": CLASS_INCREMENTAL, "method": method, "variant": "", "subset": "all", "seed": 0}
            wanted |= {"query_model": "new", "gallery_model": gallery, "metric": metric}
            assert measured.rows.by_seed(**wanted, x_name="")[0] == measured.rows.by_seed(**wanted, x=x)[0]


def test_chance_is_that_of_equal_classes(measured):
    level = measured.rows.by_seed(method="chance", metric="cmc@1", split=CLASS_INCREMENTAL, subset="unknown")
    assert level.tolist() == pytest.approx([3 / 39] * 2)
    # An identity of the open-set split is tested with its training images too.
    level = measured.rows.by_seed(method="chance", metric="cmc@1", split=OPEN_SET, subset="all")
    assert level.tolist() == pytest.approx([11 / 47] * 2)


def test_a_run_of_the_other_distance_measures_with_it_throughout(tiny_run, found_only, measured, scored):
    other = measure(CHAPTER, tiny_run(Knobs, distance="euclidean", tables="B1"))
    assert set(other.rows.frame["distance"]) == {"euclidean"}
    cell = MAIN | {"method": "BCT C", "query_model": "new", "gallery_model": "old", "subset": "all", "metric": "map"}
    pair = (Of(Upgrade("BCT C")), OLD)
    expected = scored(measured.first, *pair, CLASS_INCREMENTAL, "all", "map", "euclidean")
    assert other.rows.by_seed(**cell)[0] == pytest.approx(expected)


def test_a_page_of_fewer_tables_trains_nothing_anew_and_has_the_same_rows(tiny_run, found_only, measured, comparable):
    part = measure(CHAPTER, tiny_run(Knobs, tables="B3", seeds=[1])).rows.frame
    whole = measured.rows.frame.query("seed == 1")
    whole = whole[(whole["split"] != OPEN_SET) & (whole["variant"] == "")]
    pd.testing.assert_frame_equal(comparable(part), comparable(whole))


def test_what_is_published_is_all_that_is_trained(measured):
    both = {"old", "new", "old_samples"}
    swept = {role for pair in CHANGES.values() for role in pair} | {"old_open", "new_open", "old_quarter"}
    names = {f"{role}, seed 0" for role in both | swept} | {f"{role}, seed 1" for role in both}
    assert set(measured.base_models) == names
    assert set(measured.to_publish) == set(measured.artifacts)
    upgraded = {"new, BCT A against old, seed 1", "new, BCT A against (old, BCT A against old_quarter), seed 0"}
    assert upgraded <= set(measured.to_publish)


# Tuning.

FEW = {"triplet, raw": (0.1, 1.0), "BCT A": (1.0, 3.0), "BCT C": (0.3,)}
CANDIDATES = [(method, weight) for method, weights in FEW.items() for weight in weights]


@pytest.fixture(scope="module")
def tuned_run(tiny_run):
    """Four classes of twenty digits, of which two are held out; three epochs, of which one is left."""
    run = tiny_run(tuning.Knobs, seeds=[2])
    training = run.training.model_copy(update={"epochs": 3})
    return run.model_copy(update={"classes": 4, "train_per_class": 20, "test_per_class": 3, "training": training})


@pytest.fixture(scope="module")
def tuned(tuned_run, keeps_trained, without_test_images):
    """Measured where no test image can be read."""
    with pytest.MonkeyPatch.context() as patch, without_test_images(tuned_run):
        patch.setattr(tuning, "WEIGHTS", FEW)
        return measure(tuning.CHAPTER, tuned_run)


def test_the_tuning_tests_every_method_with_every_weight_and_the_untuned_to_compare(tuned, require_sound):
    require_sound(tuned.rows, "bct_tuning")
    frame = tuned.rows.frame
    pairs = set(zip(frame["method"], frame["x"], frame["query_model"], frame["gallery_model"], strict=True))
    swept = {(*each, "new", gallery) for each in CANDIDATES for gallery in ("old", "new")}
    assert {pair for pair in pairs if pair[1] == pair[1]} == swept
    apart = {("independent", *pair) for pair in (("new", "old"), ("new", "new"), ("old", "old"))}
    assert {(pair[0], *pair[2:]) for pair in pairs if pair[1] != pair[1]} == apart
    assert set(frame["variant"]) == {"validation"}  # so that a chapter's rows are never pooled with these
    assert tuned.to_publish == {}


def test_methods_are_tuned_alike():
    for weights in tuning.WEIGHTS.values():
        assert len(weights) >= 3
        assert list(weights) == sorted(set(weights))
        assert min(weights) > 0
    assert set(METHODS) - {"independent"} <= set(tuning.WEIGHTS) <= set(TRAINED)


def test_seeds_and_images_of_a_tuning_are_apart_from_the_studys(tuned_run, tuned):
    assert list(tuned.rows.sidecar) == ["smoke/digits/102"]
    (about,) = tuned.rows.sidecar.values()
    own = validation(tuned_run, shortened=3)
    kept, held_out = images.training_images(own), images.images_to_test(own)
    assert (len(kept), len(held_out)) == (4 * 18, 4 * 2)
    assert about["data"] == {"training": kept.digest(), "test": held_out.digest()}
    assert about["settings"]["validation"] is True
    assert about["settings"]["training"]["epochs"] == 1


@pytest.mark.parametrize(("method", "weight"), [("BCT A", 3.0), ("triplet, raw", 0.1)])
def test_a_tunings_rows_are_the_scores_on_held_out_images(tuned_run, tuned, found_only, method, weight):
    own = Seed(validation(tuned_run, shortened=3), 102)
    labels = own.labels(CLASS_INCREMENTAL)
    vectors = [own.vectors(space, CLASS_INCREMENTAL) for space in (Of(Upgrade(method, weight=weight)), OLD)]
    test = evaluate(*vectors, labels, labels, exclude_self=True)
    for subset, mask in {"all": labels >= 0, "known": labels < 2}.items():
        cell = {"method": method, "x": weight, "query_model": "new", "gallery_model": "old", "subset": subset}
        found = tuned.rows.by_seed(**cell, metric="cmc@1")[102]
        assert found == pytest.approx(np.mean(test.first_rank[mask] == 1))


def test_the_best_weight_of_a_method_is_the_best_at_new_against_old(tuned):
    judged = tuning.judged(tuned.rows)
    assert sorted(judged.index) == sorted(CANDIDATES)
    for method, weight in CANDIDATES:
        cell = {"method": method, "x": weight, "query_model": "new", "gallery_model": "old"}
        assert judged[method, weight] == tuned.rows.by_seed(**cell, subset="all", metric="cmc@1")[102]


def test_the_studys_weights_are_the_best_that_were_tried():
    """BCT's is openBCT's, whatever the tuning says; of form A it is the best too, as the page says."""
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "study", "cifar100"))
    best = {method: judged[method].idxmax() for method in tuning.WEIGHTS if method not in FORMS}
    assert best == {method: TRAINED[method].weight for method in best}
    assert {TRAINED[form].weight for form in FORMS} == {1.0}
    assert judged["BCT A"].idxmax() == 1.0
    for method, weights in tuning.WEIGHTS.items():
        assert judged[method].idxmax() in weights[1:-1]  # a best at the grid's end would ask for more


def test_the_weights_of_heads_are_the_best_that_were_tried():
    """BCT's forms too; a best at the end of what was tried is L2's, which is flat there, and distillation's."""
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "heads", "cifar100_lite"))
    weights = dict(settings({"profile": "heads"}, Knobs).knobs.weights)
    assert {method: judged[method].idxmax() for method in tuning.ORDER} == weights
    last = {method for method in tuning.ORDER if weights[method] in (judged[method].index[0], judged[method].index[-1])}
    assert last == {"L2", "distillation"}
    for method in last:
        assert judged[method].iloc[-1] - judged[method].iloc[-2] < 0.005


def test_the_weights_of_omniglot_are_the_best_that_were_tried():
    judged = tuning.judged(sidecars.published(tuning.CHAPTER, "omniglot", "omniglot_lite"))
    weights = dict(settings({"profile": "omniglot"}, Knobs).knobs.weights)
    assert {method: judged[method].idxmax() for method in tuning.ORDER} == weights


def test_heads_are_compared_on_more_axes_and_their_headline_on_all_seeds():
    """Every method where a seed is swept; with either head, without the offset, and of other old classes."""
    run = settings({"profile": "heads"}, Knobs)
    assert tables(run) == TABLES
    for seed in run.seeds:
        planned, swept = list(cases(run, seed)), seed in run.sweep_seeds
        columns = [case.columns for case in planned]
        variants = {each.get("variant", "") for each in columns}
        methods = {each["method"] for each in columns if not each.get("variant") and "x" not in each}
        assert methods == {*((*METHODS, "BCT D") if swept else ("independent", "BCT A")), "chance"}
        offsets = {"offset=shifted", "offset=centred"}
        others = {"head=relu_pool", *(f"head=relu_pool;{offset}" for offset in offsets), SAME_ENCODER, *CHANGES}
        assert variants == {"", *offsets} | ((others | {f"draw={draw}" for draw in (1, 2, 3, 4)}) if swept else set())
    by_variant = {case.columns.get("variant", ""): case.run(run) for case in cases(run, 0)}
    assert by_variant["draw=3"].draw == 3
    assert by_variant[SAME_ENCODER].encoders.new == run.encoders.old
    assert by_variant["head=relu_pool"].network.head == by_variant["head=relu_pool"].small_network.head == "relu_pool"


def test_weights_that_a_profile_found_are_its_methods():
    run = settings({"profile": "heads", "weights": {"L2": 3.0, "BCT D": 0.3}}, Knobs)
    weights = {case.query.what.method: case.query.what.chosen_weight for case in cases(run, 0) if _is_main(case)}
    assert (weights["L2"], weights["BCT D"]) == (3.0, 0.3)
    assert weights["contrastive"] == TRAINED["contrastive"].weight
    with pytest.raises(ValueError, match=r"weights are given for \['L3'\], which are no methods; choose from"):
        settings({"profile": "heads", "weights": {"L3": 3.0}}, Knobs)


def _is_main(case) -> bool:
    plain = not case.columns.get("variant") and "x" not in case.columns and case.split == CLASS_INCREMENTAL
    return plain and isinstance(getattr(case.query, "what", None), Upgrade)
