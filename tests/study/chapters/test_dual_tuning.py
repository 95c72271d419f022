"""The chapter *Dual-Tuning* and its tuning on tiny runs: which cells there are, and a few numbers made by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from compatlib.evaluation.retrieval import evaluate
from compatlib.study.chapters.dual_tuning import tuning
from compatlib.study.chapters.dual_tuning.plan import (
    CHAPTER,
    DUAL,
    DUAL_DISTANCE,
    FEW,
    HALFWAY,
    HEADLINE,
    IN_RANDOM_ORDER,
    METHODS,
    OF_MUTUAL,
    OF_PROTOTYPES,
    ON_OUTLIERS,
    OTHER_HEAD,
    OTHER_LOSS,
    OUTLIERS,
    OWN,
    PARTS,
    PROTOTYPES,
    RELEASE,
    SHARE_OF_OUTLIERS,
    SMALLER_ENCODER,
    TABLES,
    TABLES_OF,
    WEIGHTS,
    Knobs,
    cases,
    settings_of,
    upgrade,
)
from compatlib.study.lab import images, sidecars
from compatlib.study.lab.changes import SAME_ENCODER
from compatlib.study.lab.experiment import measure, validation
from compatlib.study.lab.images import CLASS_INCREMENTAL, OPEN_SET
from compatlib.study.lab.make import key
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import ClassMeans, Of, of_role
from compatlib.study.lab.trainables import Base, Upgrade, upgraded
from compatlib.study.lab.trainables.upgrades import METHODS as TRAINED
from compatlib.study.settings import changed, settings, tables

pytestmark = pytest.mark.usefixtures("keeps_trained")
SUBSETS, SCORES = ("all", "known", "unknown"), ("cmc@1", "cmc@5", "map")
MAIN = {"split": CLASS_INCREMENTAL, "variant": OWN, "x_name": ""}
SIGNED = {"network.head": "linear_bn", "small_network.head": "linear_bn"}
OLD, NEW = of_role("old"), of_role("new")


@pytest.fixture(scope="module")
def run(tiny_run):
    """Seed 1 has no sweep; the profile's own head is the other one. All tables but the draws."""
    return tiny_run(Knobs, seeds=[0, 1], tables=",".join(TABLES[:-1]))


@pytest.fixture(scope="module")
def measured(run, keeps_trained):
    return measure(CHAPTER, run)


@pytest.fixture(scope="module")
def signed(run) -> Seed:
    """Seed 0 of the run whose networks end in the signed head."""
    return Seed(changed(run, SIGNED), 0)


# Which cells there are.


def test_rows_are_sound(measured, require_sound):
    require_sound(measured.rows, "dual_tuning")
    frame = measured.rows.frame
    levels = frame[~frame["metric"].str.startswith("change of")]["value"]
    assert levels.between(0, 1).all()
    assert frame["value"].between(-1, 1).all()
    assert set(frame["distance"]) == {"cosine"}


def test_the_headline_is_for_every_seed_and_all_else_for_the_sweeps(run, measured):
    both, swept = {0, 1}, {0}
    main = (CLASS_INCREMENTAL, OWN, "")
    expected = {(*main, method, ""): both if method in HEADLINE else swept for method in (*METHODS, HALFWAY)}
    expected |= {(CLASS_INCREMENTAL, OTHER_HEAD, "", method, ""): swept for method in HEADLINE}
    for words in settings_of(run):
        expected |= {(CLASS_INCREMENTAL, f"{OWN};{words}", "", method, ""): swept for method in FEW}
    expected |= {(OPEN_SET, OWN, "", method, ""): swept for method in FEW}
    expected |= {(CLASS_INCREMENTAL, RELEASE, "", part, ""): swept for part in PARTS}
    for name, weights in WEIGHTS.items():
        expected |= {(CLASS_INCREMENTAL, RELEASE, name, DUAL, weight): swept for weight in weights}
    for share, method in itertools.product((0.0, 0.4), ON_OUTLIERS):
        expected[CLASS_INCREMENTAL, OWN, SHARE_OF_OUTLIERS, method, share] = swept
    for split, method in itertools.product((CLASS_INCREMENTAL, OPEN_SET), HEADLINE):
        expected[split, IN_RANDOM_ORDER, "", method, ""] = swept  # the areas
    for split in (CLASS_INCREMENTAL, OPEN_SET):
        expected[split, "", "", "chance", ""] = both
    frame = measured.rows.frame
    frame = frame[frame["x_name"] != SHARE]
    frame = frame.assign(x=frame["x"].astype(object).where(frame["x"].notna(), ""))
    found = frame.groupby(["split", "variant", "x_name", "method", "x"])["seed"].apply(set).to_dict()
    assert found == expected


def cells(measured, **where) -> set[tuple[str, str, str]]:
    """(pair of models, subset, metric)."""
    frame = measured.rows.of(**where)
    pairs = frame["query_model"] + "/" + frame["gallery_model"]
    return set(zip(pairs, frame["subset"], frame["metric"], strict=True))


def upgrade_cells(pairs: tuple[str, ...], subsets: tuple[str, ...]) -> set[tuple[str, str, str]]:
    found = {(pair, subset, metric) for pair in pairs for subset in subsets for metric in SCORES}
    found |= {(pair, "all", "top_share") for pair in pairs}
    found |= {("new/old", subset, "negative_flips") for subset in subsets}
    own = [pair for pair in pairs if pair != "new/old"]
    return found | {(pair, "all", metric) for pair in own for metric in ("dead_coordinates", "zero_vectors")}


def test_an_upgrades_cells_are_those_of_its_table(measured):
    trained, apart = ("new/old", "new/new"), ("new/old", "new/new", "old/old")
    means = {(f"{query}/old means", subset, "cmc@1") for query in ("new", "old") for subset in SUBSETS}
    assert cells(measured, **MAIN, method="independent") == upgrade_cells(apart, SUBSETS) | means
    own = {cell for cell in means if cell[0].startswith("new")}
    assert cells(measured, **MAIN, method=DUAL) == upgrade_cells(trained, SUBSETS) | own
    assert cells(measured, split=OPEN_SET, variant=OWN, method=DUAL) == upgrade_cells(trained, ("all",))
    for variant in (OTHER_HEAD, f"{OWN};{OTHER_LOSS}"):
        assert cells(measured, variant=variant, method="BCT A") == upgrade_cells(trained, SUBSETS)
    assert cells(measured, variant=RELEASE, x_name=OF_MUTUAL, x=1.0) == upgrade_cells(trained, SUBSETS)
    assert cells(measured, method=HALFWAY) == {("new/old", "all", metric) for metric in SCORES}
    place = {"x_name": SHARE_OF_OUTLIERS, "x": 0.4}
    for method in ON_OUTLIERS:
        pairs = ("old/old",) if method == "independent" else trained
        found = {(pair, subset, metric) for pair in pairs for subset in SUBSETS for metric in SCORES}
        found |= {(pair, "all", f"change of {metric}") for pair in pairs for metric in SCORES}
        assert cells(measured, method=method, **place) == found


@pytest.mark.parametrize("profile", ["laptop", "study", "large", "heads"])
def test_a_profile_measures_its_tables(profile):
    run = settings({"profile": profile}, Knobs)
    wanted = TABLES_OF.get(profile, TABLES)
    assert tables(run) == wanted
    for seed in run.seeds:
        columns, swept = [case.columns for case in cases(run, seed)], seed in run.sweep_seeds
        variants = {each.get("variant", "") for each in columns}
        plain = {
            each["method"] for each in columns if each.get("variant") == OWN and each["split"] == CLASS_INCREMENTAL
        }
        assert plain == ({*METHODS, HALFWAY} if swept else set(HEADLINE))
        assert (OTHER_HEAD in variants) == (swept and "head" in wanted)
        assert (RELEASE in variants) == (swept and "D2" in wanted)
        assert any("x" in each and each["x_name"] in WEIGHTS for each in columns) == (swept and "weights" in wanted)
        assert any(each.get("x_name") == SHARE_OF_OUTLIERS for each in columns) == (swept and "outliers" in wanted)
        assert (IN_RANDOM_ORDER in variants) == (swept and "D3" in wanted)
        assert any(each.get("gallery_model") == "old means" for each in columns) == ("D4" in wanted)
        assert any(each["split"] == OPEN_SET for each in columns) == ("open" in wanted)
        assert any("draw=" in each for each in variants) == (swept and "draws" in wanted)
        assert any(f"{OWN};{words}" in variants for words in settings_of(run)) == (swept and "settings" in wanted)


def test_heads_are_compared_whole_in_every_setting_and_on_unseen_identities():
    run = settings({"profile": "heads"}, Knobs)
    by_variant: dict[str, set[str]] = {}
    for case in cases(run, 0):
        place = case.columns.get("variant", ""), case.split
        by_variant.setdefault(str(place), set()).add(case.columns["method"])
    for words in (SAME_ENCODER, SMALLER_ENCODER, OTHER_LOSS, "a wider and deeper network", "a smaller network"):
        assert by_variant[str((f"{OWN};{words}", CLASS_INCREMENTAL))] == set(METHODS)
    assert by_variant[str((OWN, OPEN_SET))] == set(METHODS)
    shares = {case.columns["x"] for case in cases(run, 0) if case.columns.get("x_name") == SHARE_OF_OUTLIERS}
    assert shares == set(OUTLIERS)
    runs = {case.columns.get("variant", ""): case.run(run) for case in cases(run, 0)}
    same, smaller = (runs[f"{OWN};{words}"].encoders for words in (SAME_ENCODER, SMALLER_ENCODER))
    assert (same.old, same.new) == ("lite0", "lite0")
    assert (smaller.old, smaller.new) == ("lite2", "lite0")
    assert runs[OWN] == run
    assert runs[OTHER_HEAD].network.head == runs[OTHER_HEAD].small_network.head == "relu_pool"
    assert runs[f"{OWN};draw=3"].draw == 3


def test_every_network_of_the_chapter_is_signed_but_for_the_rows_that_say_so(run):
    for case in cases(run, 0):
        head = case.columns.get("variant", "").partition(";")[0]
        if case.columns["method"] != "chance":
            assert head == f"head={case.run(run).network.head}"
            assert head == OTHER_HEAD or case.run(run).small_network.head == "linear_bn"


@pytest.mark.parametrize(("given", "count"), [("D1", 1), ("settings", 2), ("D4,D3", 3)])
def test_a_page_names_its_tables_and_always_has_the_first(tiny_run, measured, given, count):
    run = tiny_run(Knobs, tables=given)
    assert len(tables(run)) == count
    found = {sidecars.identity(case) for case in cases(run, 0)}
    assert found < {case["case"] for case in measured.rows.sidecar["smoke/digits/0"]["cases"]}


def test_a_run_may_measure_some_methods_alone(tiny_run):
    columns = [case.columns for case in cases(tiny_run(Knobs, tables="D1", methods=["BCT A", DUAL]), 0)]
    assert {each["method"] for each in columns} == {"BCT A", DUAL, "chance"}
    with pytest.raises(ValueError, match=r"unknown method \['BCT C'\]; choose from independent; L2;.*; Dual-Tuning, d"):
        tiny_run(Knobs, methods=["BCT C"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tables": "D5"}, r"unknown table \['D5'\]; choose from D1, settings, D2"),
        ({"distance": "manhattan"}, "'distance' = 'manhattan'"),
        ({"mutual": {"L3": 0.2}}, r"weights are given for \['L3'\], which are no methods"),
        ({"open_weights": {DUAL: 0.0}}, "greater than 0"),
    ],
)
def test_wrong_parameters_are_refused(tiny_run, given, words):
    with pytest.raises(ValueError, match=words):
        tiny_run(Knobs, **given)


# Models.


def test_weights_that_a_profile_found_are_its_methods_split_by_split(tiny_run):
    given = {"weights": {DUAL: 0.3, "L2": 3.0}, "mutual": {DUAL: 0.5}, "open_weights": {DUAL: 1.0}}
    run = tiny_run(Knobs, **given, open_mutual={DUAL_DISTANCE: 2.0})

    def chosen(method, **options):
        what = upgrade(run, method, **options)
        return what.chosen_weight, set(what.chosen_terms.values())

    unseen = {"old": "old_open", "new": "new_open", "split": OPEN_SET}
    assert chosen(DUAL) == (0.3, {0.5})
    assert chosen(DUAL, **unseen) == (1.0, {0.5})
    assert chosen(DUAL_DISTANCE) == (TRAINED[DUAL_DISTANCE].weight, {0.2})
    assert chosen(DUAL_DISTANCE, **unseen) == (TRAINED[DUAL_DISTANCE].weight, {2.0})
    assert chosen("L2") == chosen("L2", **unseen) == (3.0, set())
    assert chosen("BCT A") == (1.0, set())
    assert upgrade(run, "independent", **unseen) == Base("new_open")
    assert upgrade(run, DUAL, **unseen).old == Base("old_open")
    released = {case.columns["method"]: case.query.what for case in cases(run, 0) if _is_released(case)}
    assert (released[DUAL].chosen_weight, released[DUAL].chosen_terms) == (0.1, {"old_to_new": 0.2, "new_to_old": 0.2})


def _is_released(case) -> bool:
    return case.columns.get("variant") == RELEASE and "x" not in case.columns


def test_the_parts_leave_out_the_other_terms():
    weights = {name: (part.chosen_weight, part.chosen_terms) for name, part in PARTS.items()}
    assert weights["old to new"] == (0.0, {"old_to_new": 0.2, "new_to_old": 0.0})
    assert weights["new to old"] == (0.0, {"old_to_new": 0.0, "new_to_old": 0.2})
    assert weights[PROTOTYPES] == weights["prototypes, distance"] == (0.1, {})
    assert weights["mutual"] == (0.2, {})
    assert len(set(PARTS.values())) == len(PARTS)


def test_each_of_the_two_weights_is_swept_with_the_others_as_released(run):
    found = {}
    for case in cases(run, 0):
        if case.columns.get("variant") == RELEASE and "x" in case.columns:
            what = case.query.what
            found[case.columns["x_name"], case.columns["x"]] = (what.chosen_weight, *what.chosen_terms.values())
    assert found == {
        **{(OF_PROTOTYPES, weight): (weight, 0.2, 0.2) for weight in WEIGHTS[OF_PROTOTYPES]},
        **{(OF_MUTUAL, weight): (0.1, weight, weight) for weight in WEIGHTS[OF_MUTUAL]},
    }


def test_what_other_chapters_train_is_found_where_the_profiles_own_head_is_signed():
    run = settings({"profile": "laptop"}, Knobs)
    changes = {case.columns.get("variant"): case.changes for case in cases(run, 0)}
    assert changes[OWN] == changes[RELEASE] == changes[f"{OWN};{OTHER_LOSS}"] == {}
    assert changes[OTHER_HEAD] == {"network.head": "relu_pool", "small_network.head": "relu_pool"}


# Numbers.


@pytest.mark.parametrize(
    ("cell", "query", "gallery"),
    [
        (MAIN | {"method": "independent", "query_model": "new"}, NEW, OLD),
        (MAIN | {"method": DUAL, "query_model": "new"}, Of(Upgrade(DUAL)), OLD),
        (MAIN | {"method": DUAL_DISTANCE, "query_model": "new"}, Of(Upgrade(DUAL_DISTANCE)), OLD),
        (
            {"variant": f"{OWN};{OTHER_LOSS}", "method": PROTOTYPES},
            Of(Upgrade(PROTOTYPES, new="new_arcface")),
            OLD,
        ),
        ({"variant": RELEASE, "method": "new to old"}, Of(PARTS["new to old"]), OLD),
        (
            {"variant": RELEASE, "method": DUAL, "x_name": OF_PROTOTYPES, "x": 1.0},
            Of(Upgrade(DUAL, weight=1.0)),
            OLD,
        ),
        (
            {"variant": OWN, "method": PROTOTYPES, "x_name": SHARE_OF_OUTLIERS, "x": 0.4},
            Of(Upgrade(PROTOTYPES, Base("old_mislabelled_40"))),
            of_role("old_mislabelled_40"),
        ),
        (
            {"split": OPEN_SET, "variant": OWN, "method": DUAL},
            Of(Upgrade(DUAL, Base("old_open"), "new_open")),
            of_role("old_open"),
        ),
    ],
)
def test_cross_tests_are_those_of_the_signed_models_of_the_seed(signed, measured, scored, cell, query, gallery):
    split = cell.get("split", CLASS_INCREMENTAL)
    for subset in SUBSETS if split == CLASS_INCREMENTAL else ("all",):
        for metric in ("cmc@1", "map"):
            found = measured.rows.by_seed(**cell, gallery_model="old", subset=subset, metric=metric)[0]
            assert found == pytest.approx(scored(signed, query, gallery, split, subset, metric, "cosine"))


def test_the_other_heads_rows_are_of_the_profiles_own(run, measured, scored):
    own = Seed(run, 0)
    cell = {"variant": OTHER_HEAD, "method": DUAL, "gallery_model": "old", "subset": "all", "metric": "map"}
    expected = scored(own, Of(Upgrade(DUAL)), OLD, CLASS_INCREMENTAL, "all", "map", "cosine")
    assert measured.rows.by_seed(**cell)[0] == pytest.approx(expected)
    assert key(run, Base("old"), 0) != key(changed(run, SIGNED), Base("old"), 0)


def test_a_mixed_gallery_begins_with_the_old_one_and_ends_with_the_new(signed, measured, scored):
    for method in HEADLINE:
        new = Of(upgraded(method))
        for share, gallery in ((0.0, OLD), (1.0, new)):
            cell = {"variant": IN_RANDOM_ORDER, "method": method, "x_name": SHARE, "x": share, "metric": "map"}
            expected = scored(signed, new, gallery, CLASS_INCREMENTAL, "all", "map", "cosine")
            assert measured.rows.by_seed(split=CLASS_INCREMENTAL, **cell)[0] == pytest.approx(expected)


def test_halfway_is_the_mean_of_the_ends(measured):
    place = {**MAIN, "query_model": "new", "gallery_model": "old", "subset": "all", "metric": "map", "seed": [0]}
    ends = [measured.rows.by_seed(**place, method=method)[0] for method in ("independent", DUAL)]
    assert measured.rows.by_seed(**place, method=HALFWAY)[0] == pytest.approx(np.mean(ends))


@pytest.mark.parametrize("pair", [("new", "old"), ("new", "new")])
def test_what_outliers_change_is_against_the_upgrade_of_the_old_model_without(measured, pair):
    query, gallery = pair
    place = {"x_name": SHARE_OF_OUTLIERS, "method": "L2", "query_model": query, "gallery_model": gallery}
    for metric in SCORES:
        after, before = (measured.rows.by_seed(**place, x=x, metric=metric, subset="all")[0] for x in (0.4, 0.0))
        found = measured.rows.by_seed(**place, x=0.4, metric=f"change of {metric}")[0]
        assert found == pytest.approx(after - before)
    main = measured.rows.by_seed(
        **MAIN, method="L2", query_model=query, gallery_model=gallery, subset="all", metric="map"
    )
    assert measured.rows.by_seed(**place, x=0.0, metric="map", subset="all")[0] == main[0]


@pytest.mark.parametrize("query", ["old", "new"])
def test_prototypes_are_those_of_all_training_images_and_answer_under_the_cosine(signed, measured, query):
    queries, means = (
        signed.vectors(space, CLASS_INCREMENTAL).astype(float) for space in (of_role(query), ClassMeans(Base("old")))
    )
    labels = signed.labels(CLASS_INCREMENTAL)
    nearest = np.array([int(np.argmax(means @ each / np.linalg.norm(means, axis=1))) for each in queries])
    place = MAIN | {"method": "independent", "query_model": query, "gallery_model": "old means"}
    for subset, mask in {"all": labels >= 0, "known": labels < 5, "unknown": labels >= 5}.items():
        found = measured.rows.by_seed(**place, subset=subset)[0]
        assert found == pytest.approx(np.mean((nearest == labels)[mask]))


def test_a_page_of_fewer_tables_trains_nothing_anew_and_has_the_same_rows(tiny_run, found_only, measured, comparable):
    part = measure(CHAPTER, tiny_run(Knobs, tables="D1", seeds=[0])).rows.frame
    whole = measured.rows.frame.query("seed == 0")
    plain = whole["variant"].isin(["", OWN]) & (whole["x_name"] == "") & (whole["split"] == CLASS_INCREMENTAL)
    whole = whole[plain & (whole["gallery_model"] != "old means")]
    pd.testing.assert_frame_equal(comparable(part), comparable(whole))


def test_models_under_other_values_than_the_profiles_are_not_published(measured):
    """They would have the name of another model: here the signed ones."""
    assert set(measured.to_publish) == {
        *("old, seed 0", "new, seed 0"),
        *(f"new, {method} against old, seed 0" for method in HEADLINE[1:]),
    }


# Tuning.

FEW_WEIGHTS = {PROTOTYPES: (0.1, 1.0), DUAL: (0.3,)}
FEW_SHARED, FEW_MUTUAL = {"BCT A": (1.0, 3.0)}, (0.2, 1.0)
CANDIDATES = {("BCT A", "", 1.0), ("BCT A", "", 3.0), (PROTOTYPES, "", 0.1), (PROTOTYPES, "", 1.0)}
CANDIDATES |= {(DUAL, f";mutual={mutual:g}", 0.3) for mutual in FEW_MUTUAL}
CANDIDATES = sorted((method, f"{OWN};validation{mutual}", weight) for method, mutual, weight in CANDIDATES)


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
        for name, few in (("SHARED", FEW_SHARED), ("OWN_WEIGHTS", FEW_WEIGHTS), ("OF_MUTUAL", FEW_MUTUAL)):
            patch.setattr(tuning, name, few)
        return measure(tuning.CHAPTER, tuned_run)


def test_the_tuning_tests_every_method_with_every_weight_and_the_untuned_to_compare(tuned, require_sound):
    require_sound(tuned.rows, "dual_tuning_weights")
    frame = tuned.rows.frame
    assert set(frame["split"]) == {CLASS_INCREMENTAL}  # the open-set split's is of heads
    swept = frame[frame["x"].notna()]
    pairs = swept.groupby(["method", "variant", "x"])["gallery_model"].apply(set).to_dict()
    assert pairs == {candidate: {"old", "new"} for candidate in CANDIDATES}
    apart = frame[frame["x"].isna()]
    assert set(zip(apart["query_model"], apart["gallery_model"], strict=True)) == {
        *(("new", "old"), ("new", "new"), ("old", "old"))
    }
    assert set(apart["method"]) == {"independent"}
    assert all("validation" in each for each in frame["variant"])  # never pooled with a chapter's rows
    assert tuned.to_publish == {}


def test_seeds_and_images_of_a_tuning_are_apart_from_the_studys(tuned_run, tuned):
    assert list(tuned.rows.sidecar) == ["smoke/digits/102"]
    (about,) = tuned.rows.sidecar.values()
    own = validation(tuned_run, shortened=3)
    kept, held_out = images.training_images(own), images.images_to_test(own)
    assert (len(kept), len(held_out)) == (4 * 18, 4 * 2)
    assert about["data"] == {"training": kept.digest(), "test": held_out.digest()}
    assert about["settings"]["training"]["epochs"] == 1


@pytest.mark.parametrize(("method", "weight", "mutual"), [("BCT A", 3.0, None), (DUAL, 0.3, 1.0)])
def test_a_tunings_rows_are_the_scores_of_signed_models_on_held_out_images(
    tuned_run, tuned, found_only, method, weight, mutual
):
    own = Seed(changed(validation(tuned_run, shortened=3), SIGNED), 102)
    terms = {} if mutual is None else {"old_to_new": mutual, "new_to_old": mutual}
    variant = f"{OWN};validation" + ("" if mutual is None else f";mutual={mutual:g}")
    labels, new = own.labels(CLASS_INCREMENTAL), Of(upgraded(method, weight=weight, terms=terms))
    vectors = [own.vectors(space, CLASS_INCREMENTAL) for space in (new, OLD)]
    test = evaluate(*vectors, labels, labels, exclude_self=True)
    cell = {"method": method, "variant": variant, "x": weight, "query_model": "new", "gallery_model": "old"}
    found = tuned.rows.by_seed(**cell, subset="all", metric="cmc@1")[102]
    assert found == pytest.approx(np.mean(test.first_rank == 1))
    assert tuning.judged(tuned.rows)[method, variant, weight] == found
    assert tuning.mutual_of(variant) == mutual


def test_methods_are_tuned_alike():
    grids = tuning.SHARED | tuning.OWN_WEIGHTS
    assert set(grids) == set(METHODS) - {"independent"} == set(tuning.ORDER)
    for weights in (*grids.values(), tuning.OF_MUTUAL):
        assert len(weights) >= 3
        assert list(weights) == sorted(set(weights))
        assert min(weights) > 0
    for method in grids:  # the release's weights are among those that are tried
        if TRAINED[method].behaviours == ("dual-tuning",):
            assert TRAINED[method].weight in grids[method]
            assert set(TRAINED[method].terms.values()) <= set(tuning.OF_MUTUAL)


def test_what_bct_has_tuned_with_this_head_is_not_tuned_again_but_for_unseen_identities():
    def methods_of(profile, split):
        run = tuning.CHAPTER.prepared(settings({"profile": profile}, tuning.Knobs))
        return {case.columns["method"] for case in tuning.cases(run, run.seeds[0]) if case.split == split}

    every = {"independent", *tuning.ORDER}
    assert methods_of("heads", CLASS_INCREMENTAL) == every - set(tuning.SHARED)
    assert methods_of("heads", OPEN_SET) == every
    assert methods_of("study", CLASS_INCREMENTAL) == every
    assert methods_of("study", OPEN_SET) == set()


def test_shared_weights_of_heads_are_bcts():
    weights = {
        name: dict(settings({"profile": "heads", "seeds": [0]}, Knobs).knobs.weights)[name] for name in tuning.SHARED
    }
    assert weights == {"L2": 300.0, "CE + distance": 1.0, "distillation": 30.0, "BCT A": 1.0}
