"""The chapter *CMP-NAS* and its tuning on tiny runs: which cells there are, and a few numbers made by hand."""

from collections import Counter

import pytest

from compatlib.study.chapters.cmp_nas import tuning
from compatlib.study.chapters.cmp_nas.plan import (
    AS_LEFT,
    BOTH,
    CHAPTER,
    OBJECTIVES,
    PARAGON,
    PATH,
    PATH_AGAIN,
    PATH_LEFT,
    RANDOM_PATHS,
    TABLES,
    Knobs,
    cases,
    gallery,
    hand_made,
    query,
    random_paths,
    search,
    searched_networks,
    trained_alone,
)
from compatlib.study.lab.experiment import measure, validation
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.make import with_ancestors
from compatlib.study.lab.measures.paths import JUDGED, LOSSES, WITHIN, saved
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Of
from compatlib.study.lab.trainables import Base, OnPath, PathSearch, SuperNetwork, Upgrade
from compatlib.study.lab.trainables.supernets import SEARCHES
from compatlib.study.publishing import claims
from compatlib.study.settings import changed, settings, tables

pytestmark = pytest.mark.usefixtures("keeps_trained")
SCORES = ("cmc@1", "cmc@5", "map")
SHORT = {f"{name}.epochs": 1 for name in ("training", "knobs.supernet", "knobs.query")}
SHORT |= {"train_per_class": 8, "test_per_class": 4, "knobs.paths": 4, "knobs.alone": 2}


@pytest.fixture(scope="module")
def run():
    """Twenty glyphs, so that a search has two classes."""
    return changed(settings({"profile": "smoke"}, Knobs), SHORT)


@pytest.fixture(scope="module")
def measured(run, keeps_trained):
    return measure(CHAPTER, run)


def test_rows_are_described_and_each_stands_once(run, measured):
    frame = measured.rows.frame
    assert measured.rows.undescribed().empty
    assert not frame.duplicated([each for each in frame if each != "value"]).any()
    assert set(frame["chapter"]) == {"cmp_nas"}
    assert frame["value"].notna().all()
    levels = frame[frame["metric"].isin([*SCORES, "self_test", "cross_test"])]["value"]
    assert levels.between(0, 1).all()
    assert frame[frame["metric"] == "kendall tau"]["value"].between(-1, 1).all()
    for case in measured.rows.sidecar["smoke/glyphs/0"]["cases"]:
        assert case["behaviours"]


def test_every_query_network_has_both_tests_a_size_and_a_training(run, measured):
    found = measured.rows.of(split=OPEN_SET, query_model="query", x_name="")
    networks = {(method, "") for method in (*OBJECTIVES, *hand_made(run))}
    networks |= {(by, f"cap={cap:g}") for by, cap in searched_networks(run)}
    cells = Counter(zip(found["method"], found["variant"], strict=True))
    assert cells == dict.fromkeys(networks, 2 * len(SCORES) + 3)
    paragon = measured.rows.of(method=PARAGON)
    assert set(paragon["metric"]) == {*SCORES, "parameters", "flops"}


def test_searches_keep_their_whole_history_under_the_cap(run, measured):
    for (by, cap), found in searched_networks(run).items():
        rows = measured.rows.of(split=SEARCHED, method=by, query_model=f"{PATH}, cap={cap:g}", x_name=JUDGED)
        assert sorted(rows["x"].unique()) == list(range(1, 9))
        assert (rows[rows["metric"] == "flops"]["value"] <= 1e6 * cap).all()
        history = Seed(run, 0).made(found.search).artifact.about["history"]
        own = rows[rows["metric"] == "cross_test"].sort_values("x")
        assert list(own["value"]) == [row["cross_test"] for row in history]
        assert list(own["variant"]) == [f"path={row['path']}" for row in history]


def test_random_paths_are_the_same_for_every_super_network_and_some_are_trained_alone(measured):
    of = {query: measured.rows.of(method=RANDOM_PATHS, query_model=query) for query in (PATH, PATH_AGAIN, PATH_LEFT)}
    assert len({tuple(sorted(found["variant"])) for found in of.values()}) == 1
    alone = measured.rows.of(split=OPEN_SET, method=RANDOM_PATHS, query_model=["1", "2"])
    assert set(alone["gallery_model"]) == {"1", "2", "gallery"}
    taus = measured.rows.of(metric="kendall tau")
    assert Counter(zip(taus["split"], taus["variant"], strict=True)) == {
        (SEARCHED, ""): 4 + 3,
        (SEARCHED, AS_LEFT): 2,
        (OPEN_SET, ""): 3,
        (OPEN_SET, AS_LEFT): 2,
    }


def test_saved_cost_is_of_what_each_network_scored(run, measured):
    seed, model = Seed(run, 0), Of(gallery(run))
    whats = [gallery(run), *hand_made(run).values()]
    scores = [seed.test(Of(what), model, OPEN_SET, "cosine").mean_average_precision for what in whats]
    costs = measured.rows.of(metric="flops", split=OPEN_SET).set_index("method")["value"]
    own = [costs[PARAGON], *(costs[name] for name in hand_made(run))]
    for loss in LOSSES:
        found = measured.rows.of(method="hand-made", metric="cost saved map", x_name=WITHIN, x=loss)["value"]
        assert found.item() == pytest.approx(saved(own, scores, loss))


def test_nothing_is_trained_again(run, measured, found_only):
    again = measure(CHAPTER, run)
    is_timing = again.rows.frame["metric"] == "training_seconds"
    assert again.rows.frame[~is_timing].equals(measured.rows.frame[~is_timing])


# Plans.


def planned(profile: str, seed: int = 0, **given) -> list:
    run = settings({"profile": profile, **given}, Knobs)
    return list(cases(run, seed))


@pytest.mark.parametrize(
    ("profile", "wanted"),
    [("smoke", TABLES), ("study", TABLES), ("heads", ("C1",)), ("laptop", ("C1",)), ("omniglot", ("C1",))],
)
def test_a_profile_measures_its_tables(profile, wanted):
    run = settings({"profile": profile}, Knobs)
    assert tables(run) == wanted
    methods = {case.columns["method"] for case in cases(run, 0)}
    assert methods >= {*OBJECTIVES, PARAGON, "chance"}
    assert (set(SEARCHES) <= methods) == (len(wanted) > 1)


def test_the_study_is_of_the_size_that_was_promised():
    """Three seeds for the rewards, a hundred random paths, twenty alone, 240 paths a search, five networks by hand."""
    run = settings({"profile": "study"}, Knobs)
    assert len(run.seeds) == 3
    assert run.knobs.evolution.population * run.knobs.evolution.generations == 240
    assert run.knobs.paths == 100
    assert len(trained_alone(run)) == 20
    assert len(hand_made(run)) >= 5
    assert 6 <= sum(run.knobs.blocks.blocks) <= 8
    assert run.knobs.calibration == 2_000
    whats = {what for case in cases(run, 0) for what in with_ancestors(case.trainables)}
    kinds = Counter(type(what) for what in whats)
    assert kinds[SuperNetwork] == 2
    assert kinds[PathSearch] == len(SEARCHES) + 1 + 3
    assert kinds[OnPath] == 20 + 5 + 4
    later = {what for case in cases(run, 1) for what in with_ancestors(case.trainables)}
    alone = {what for what in whats if isinstance(what, OnPath) and what.architecture.number}
    assert len(alone) == 20
    assert whats - later == alone | {random_paths(run, is_recalibrated=False)}


@pytest.mark.parametrize("claim", claims.load("cmp_nas"), ids=lambda claim: claim.id)
def test_the_cells_of_a_claim_are_measured_in_the_study(claim):
    """A mistyped one would show as "not measured" for ever."""
    planned = settings({"profile": "study"}, Knobs)
    columns = [case.columns for case in cases(planned, 0)]
    for cell in claim.cells():
        wanted = {name: cell[name] for name in ("split", "method", "variant", "query_model") if name in cell}
        if cell["metric"] == "kendall tau":
            del wanted["query_model"]  # the measure's own words
        assert any(all(each.get(name, "") == value for name, value in wanted.items()) for each in columns), cell


def test_heads_ask_the_large_encoders_gallery_by_both_smaller_ones():
    run = settings({"profile": "heads"}, Knobs)
    found = [case for case in cases(run, 9) if case.columns["method"] == BOTH]
    encoders = {case.columns.get("variant", ""): case.run(run).encoders for case in found}
    assert {variant: (each.old, each.new) for variant, each in encoders.items()} == {
        "": ("lite0", "lite2"),
        "encoder=lite1": ("lite1", "lite2"),
    }
    asked = {ask.function.__name__ for case in found for ask in case.ask}
    assert asked == {"scores", "size", "whole_cost", "training_seconds"}
    what = query(run, BOTH)
    assert what == Upgrade("BCT A", Base("new_open"), "query_open")
    assert what.encoder(run) == "lite0"
    assert what.old.encoder(run) == "lite2"


def test_a_page_may_ask_for_some_tables_alone():
    methods = {case.columns["method"] for case in planned("smoke", tables="C1,C2")}
    assert methods == {*OBJECTIVES, PARAGON, RANDOM_PATHS, "chance"}
    models = {case.query for case in planned("smoke", tables="C3")}
    assert not any(RANDOM_PATHS in str(model) for model in models)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tables": "C6"}, r"unknown table \['C6'\]; choose from C1, C2"),
        ({"weights": {"L3": 0.2}}, r"weights are given for \['L3'\], which are no methods"),
        ({"caps": [0.0]}, "greater than 0"),
        ({"evolution": {"population": 4, "crossovers": 3, "mutations": 3}}, "more than the population of 4"),
    ],
)
def test_wrong_parameters_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        settings({"profile": "smoke", **given}, Knobs)


def test_weights_that_a_profile_found_are_its_objectives_but_for_the_papers_own():
    run = settings({"profile": "laptop", "weights": {"L2": 100.0, "BCT A": 3.0, "gallery term": 0.3}}, Knobs)
    assert query(run, "regression").chosen_weight == 100
    assert query(run, "gallery classifier").chosen_weight == 0.3
    assert query(run, BOTH).chosen_weight == 1
    assert query(run, "own classifier") == Base("query_open")


# Tuning.


def test_the_tuning_of_heads_tries_weights_on_identities_kept_for_it():
    run = settings({"profile": "heads", "seeds": [0]}, tuning.Knobs)
    prepared = tuning.prepared(run)
    assert prepared.validation
    assert prepared.seeds == (100,)
    assert prepared.training == run.training
    tried = {(case.columns["method"], case.columns["x"]) for case in tuning.cases(prepared, 100) if "x" in case.columns}
    assert tried == {(name, weight) for name, weights in tuning.WEIGHTS.items() for weight in weights}
    assert {case.split for case in tuning.cases(prepared, 100)} == {OPEN_SET}


def test_the_tuning_of_networks_tries_rates_for_a_third_of_the_epochs(keeps_trained):
    run = changed(settings({"profile": "smoke", "rates": [0.1, 0.3]}, tuning.Knobs), SHORT)
    prepared = tuning.prepared(changed(run, {"knobs.supernet.epochs": 9, "knobs.query.epochs": 3}))
    assert (prepared.knobs.supernet.epochs, prepared.knobs.query.epochs) == (3, 1)
    assert prepared.knobs.paths == 4
    found = measure(tuning.CHAPTER, run)
    judged = tuning.judged(found.rows)
    assert list(judged.index) == [(what, rate) for what in (tuning.SUPERNET, tuning.ALONE) for rate in (0.1, 0.3)]
    assert found.rows.undescribed().empty
    seed = Seed(validation(changed(run, {"knobs.query.learning_rate": 0.3}), shortened=3), 100)
    (case,) = [
        case
        for case in tuning.cases(seed.run, 100)
        if case.columns.get("x") == 0.3 and case.columns["method"] == tuning.ALONE and case.gallery != case.query
    ]
    test = seed.test(case.query, case.gallery, OPEN_SET, "cosine")
    assert judged[tuning.ALONE, 0.3] == pytest.approx(test.cmc[1])


def test_a_search_is_of_the_runs_own_super_network(run):
    assert search(run, "R1", 0.2) == PathSearch(SuperNetwork(Base("gallery_open")), "R1", 0.2)
