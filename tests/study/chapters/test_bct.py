"""The chapter *BCT* on tiny settings: every cell of its tables, and its rows against evaluations made by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate, score_matrix
from compatlib.methods import bct as method
from compatlib.methods import bct_baselines, independent
from compatlib.study import models, rows, upgrades
from compatlib.study.chapters import bct
from compatlib.study.rows import Rows
from compatlib.study.seed_tests import OPEN_SET
from compatlib.study.settings import settings
from compatlib.study.upgrade_rows import FAR
from compatlib.study.upgrades import METHODS, Upgrade, canonical, model_of
from compatlib.study.weights import WEIGHTS

PLAIN, SAMPLES, CHAIN = "class-incremental", "sample-incremental", "three generations"
KNOWN, CLASSES, PER_CLASS = 5, 10, 4
SUBSETS = ("all", "known", "unknown")
SCORES = ("cmc@1", "cmc@5", "map")
CELL = [name for name in rows.COLUMNS if name not in ("seed", "value")]


def run_with(**given):
    """Ten classes of eight digits, four more to test each, one epoch; seed 1 has no sweep."""
    chosen = settings({"profile": "smoke", "dataset": "digits", **given}, bct.Knobs)
    training = chosen.training.model_copy(update={"epochs": 1, "batch_size": 16})
    sizes = {"classes": CLASSES, "train_per_class": 8, "test_per_class": PER_CLASS}
    return chosen.model_copy(update=sizes | {"training": training, "seeds": (0, 1), "sweep_seeds": (0,)})


@pytest.fixture(scope="module")
def run():
    return run_with()


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield bct.measure(run)


@pytest.fixture
def found_only(measured, monkeypatch):
    """From here on every model is found: none can be trained."""

    def refuse(*_, **__):
        raise AssertionError("a model is trained again")

    for module in (independent, method, bct_baselines):
        monkeypatch.setattr(module, "fit", refuse)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values([*CELL, "seed"]).reset_index(drop=True)


# Which cells there are, listed by hand.


def cells_of(split: str, method: str, variant: str = "", x: float | None = None) -> list[dict]:
    """The cells of one upgrade."""
    place = {"split": split, "method": method, "variant": variant}
    place |= {"x_name": "weight", "x": x} if x is not None else {"x_name": ""}
    subsets = SUBSETS if split == PLAIN else ("all",)
    new_old = place | {"query_model": "new", "gallery_model": "old"}
    pairs = [new_old, new_old | {"gallery_model": "new"}]
    pairs += [new_old | {"query_model": "old"}] if method == "independent" else []
    found = [p | {"subset": subset, "metric": metric} for p in pairs for subset in subsets for metric in SCORES]
    found += [p | {"subset": "all", "metric": "top_share"} for p in pairs]
    found += [new_old | {"subset": subset, "metric": "negative_flips"} for subset in subsets]
    measured_models = ("new", "old") if method == "independent" else ("new",)
    for name in measured_models:
        own = place | {"query_model": name, "gallery_model": name, "subset": "all"}
        found += [own | {"metric": metric} for metric in ("dead_coordinates", "zero_vectors")]
    if x is None and not variant:
        names = ("fixed FAR", "fixed TAR", "transferred FAR", "transferred TAR")
        found += [new_old | {"subset": subset, "metric": name} for subset in subsets for name in names]
        means = [place | {"query_model": name, "gallery_model": "old means"} for name in measured_models]
        found += [mean | {"subset": subset, "metric": "cmc@1"} for mean in means for subset in subsets]
        found += [new_old | {"subset": subset, "metric": "cosine"} for subset in subsets]
        if method.startswith("BCT"):
            found += [place | row for row in classifier_rows(split, method)]
    return found


def classifier_rows(split: str, method: str) -> list[dict]:
    """Form A makes no row; an old model of half of the images has one for every class, so that none is made."""
    has_all = split == SAMPLES
    names = ("real rows",) if has_all or method == "BCT A" else ("real rows", "made rows")
    found = [{"query_model": name, "gallery_model": name, "metric": "norm", "subset": ""} for name in names]
    pairs = itertools.product(names, names)
    found += [{"query_model": a, "gallery_model": b, "metric": "cosine", "subset": ""} for a, b in pairs]
    judged = ("all",) if has_all else ("known",) if method == "BCT A" else SUBSETS
    for query, subset, metric in itertools.product(
        ("old", "new"), judged, ("classified", "into made rows", "influence loss")
    ):
        found.append({"query_model": query, "gallery_model": "classifier", "subset": subset, "metric": metric})
    return found


def expected_cells() -> list[tuple[dict, list[int]]]:
    """Every cell of all tables, and the seeds that have it."""
    both, sweep, found = [0, 1], [0], []
    for name in METHODS:
        seeds = both if name in bct.CLAIMED else sweep
        found += [(cell, seeds) for cell in cells_of(PLAIN, name)]
    for name in ("independent", "BCT C"):
        found += [(cell, both) for cell in cells_of(SAMPLES, name)]
    for name in ("independent", "BCT A"):
        for change in bct.CHANGES:
            found += [(cell, sweep) for cell in cells_of(PLAIN, name, change)]
    for split, forms in ((PLAIN, ("BCT A", "BCT C")), (OPEN_SET, ("BCT A",))):
        found += [(cell, sweep) for cell in cells_of(split, "independent", x=0.0)]
        for form, weight in itertools.product(forms, bct.WEIGHTS):
            found += [(cell, sweep) for cell in cells_of(split, form, x=weight)]
    generations = ("generation 1", "generation 2", "generation 3")
    for name, query, gallery, metric in itertools.product(("independent", "BCT A"), generations, generations, SCORES):
        place = {"split": CHAIN, "method": name, "variant": "", "x_name": "", "subset": "all", "metric": metric}
        found.append((place | {"query_model": query, "gallery_model": gallery}, sweep))
    for split, subsets in ((PLAIN, SUBSETS), (OPEN_SET, ("all",))):
        for subset, metric in itertools.product(subsets, SCORES):
            found.append(({"split": split, "method": "chance", "subset": subset, "metric": metric}, both))
    return found


def test_every_cell_of_every_table_is_there_exactly_once(measured):
    """And nothing else."""
    common = {"profile": "smoke", "dataset": "digits", "chapter": "bct", "distance": "cosine"}
    expected = {}
    for cell, seeds in expected_cells():
        whole = dict.fromkeys(CELL, "") | {"x": None} | common | cell
        expected[tuple(whole[name] for name in CELL)] = seeds
    frame = measured.rows.frame.astype({"x": object}).where(lambda each: each.notna(), None)
    found = frame.groupby(CELL, dropna=False)["seed"].apply(sorted).to_dict()
    found = {tuple(None if value != value else value for value in cell): seeds for cell, seeds in found.items()}
    assert found == expected
    assert np.isfinite(measured.rows.frame["value"]).all()


def test_a_cell_is_found_by_what_its_table_says_of_it(measured):
    cells = expected_cells()
    for cell, seeds in cells[:: len(cells) // 60]:
        assert list(measured.rows.by_seed(**cell).index) == seeds, cell


def test_all_scores_are_shares(measured):
    frame = measured.rows.frame
    assert frame[~frame["metric"].isin(["norm", "cosine", "influence loss"])]["value"].between(0, 1).all()
    assert frame[frame["metric"] == "cosine"]["value"].between(-1, 1).all()
    assert (frame[frame["metric"] == "influence loss"]["value"] > 0).all()


def test_the_rows_that_form_c_makes_are_as_long_as_the_real_ones(measured):
    cell = {"split": PLAIN, "method": "BCT C", "variant": "", "x_name": "", "metric": "norm"}
    real, made = (
        measured.rows.by_seed(**cell, query_model=name, gallery_model=name) for name in ("real rows", "made rows")
    )
    assert made.to_numpy() == pytest.approx(real.to_numpy(), rel=1e-5)


# Rows against evaluations made by hand.


def embeddings(run, source, seed=0, images=None) -> np.ndarray:
    return embed(model_of(run, source, seed)[0].backbone, images or models.test_images(run)).numpy()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("cell", "old", "new"),
    [
        ({"split": PLAIN, "variant": "", "x_name": "", "method": "independent"}, "old", "new"),
        ({"split": PLAIN, "variant": "", "x_name": "", "method": "BCT B"}, "old", Upgrade("BCT B")),
        ({"split": SAMPLES, "method": "BCT C"}, "old_samples", Upgrade("BCT C", "old_samples")),
        (
            {"variant": "a longer embedding", "method": "BCT A"},
            "old_narrow",
            Upgrade("BCT A", "old_narrow"),
        ),
        (
            {"variant": "network, embedding and loss", "method": "BCT A"},
            "old_small_narrow",
            Upgrade("BCT A", "old_small_narrow", "new_deep_arcface"),
        ),
        ({"split": PLAIN, "x": 0.3, "method": "BCT C"}, "old", Upgrade("BCT C", weight=0.3)),
        ({"split": PLAIN, "x": 0.0, "method": "independent"}, "old", "new"),
    ],
)
def test_scores_and_flips_are_those_of_evaluations_made_by_hand(run, measured, cell, old, new, seed):
    if seed == 1 and cell.get("x_name") != "" and cell.get("split") != SAMPLES:
        with pytest.raises(ValueError, match="no row has"):
            measured.rows.of(**cell, seed=1)
        return
    labels = models.test_images(run).labels.numpy()
    before, after = embeddings(run, old, seed), embeddings(run, new, seed)
    cross = evaluate(after, before, labels, labels, exclude_self=True)
    own = evaluate(after, after, labels, labels, exclude_self=True)
    deployed = evaluate(before, before, labels, labels, exclude_self=True)
    tests = {"old": cross, "new": own}
    masks = {"all": labels >= 0, "known": labels < KNOWN, "unknown": labels >= KNOWN}
    for subset, mask in list(masks.items())[: 1 if cell.get("split") == SAMPLES else 3]:
        for gallery, test in tests.items():
            wanted = cell | {"query_model": "new", "gallery_model": gallery, "subset": subset}
            assert measured.rows.by_seed(**wanted, metric="cmc@1")[seed] == np.mean(test.first_rank[mask] == 1)
            assert measured.rows.by_seed(**wanted, metric="cmc@5")[seed] == np.mean(test.first_rank[mask] <= 5)
            precision = np.mean(test.average_precision[mask])
            assert measured.rows.by_seed(**wanted, metric="map")[seed] == pytest.approx(precision)
        wrong = (deployed.first_rank[mask] == 1) & (cross.first_rank[mask] != 1)
        wanted = cell | {"query_model": "new", "gallery_model": "old", "subset": subset, "metric": "negative_flips"}
        assert measured.rows.by_seed(**wanted)[seed] == np.mean(wrong)
    if cell["method"] == "independent":
        wanted = cell | {"query_model": "old", "gallery_model": "old", "subset": "all", "metric": "cmc@1"}
        assert measured.rows.by_seed(**wanted)[seed] == np.mean(deployed.first_rank == 1)


def test_what_does_not_depend_on_the_table_is_the_same_in_each(measured):
    """Models trained apart, and λ = 1, stand in B1 and in the sweep of B4."""
    for name, x in (("independent", 0.0), ("BCT A", WEIGHTS["BCT A"]), ("BCT C", WEIGHTS["BCT C"])):
        scores = {"split": PLAIN, "method": name, "variant": "", "query_model": "new", "subset": "all", "seed": 0}
        for gallery, metric in itertools.product(("old", "new"), SCORES):
            wanted = scores | {"gallery_model": gallery, "metric": metric}
            assert measured.rows.by_seed(**wanted, x_name="")[0] == measured.rows.by_seed(**wanted, x=x)[0]


def test_chance_is_that_of_equal_classes(measured):
    chance = {"method": "chance", "metric": "cmc@1"}
    for subset in SUBSETS:
        level = measured.rows.by_seed(**chance, split=PLAIN, subset=subset)
        assert level.tolist() == pytest.approx([(PER_CLASS - 1) / (CLASSES * PER_CLASS - 1)] * 2)
    # An identity of the open-set split is tested with its training images too.
    level = measured.rows.by_seed(**chance, split=OPEN_SET, subset="all")
    assert level.tolist() == pytest.approx([11 / 47] * 2)


def rates(scores: np.ndarray, labels: np.ndarray, threshold: float, chosen: np.ndarray) -> tuple[float, float]:
    """(FAR, TAR) pair by pair of the chosen queries; nothing is compared with itself."""
    accepted, pairs = {True: 0, False: 0}, {True: 0, False: 0}
    for query, gallery in itertools.permutations(range(len(labels)), 2):
        if not chosen[query]:
            continue
        genuine = bool(labels[query] == labels[gallery])
        pairs[genuine] += 1
        accepted[genuine] += bool(scores[query, gallery] > threshold)
    return accepted[False] / pairs[False], accepted[True] / pairs[True]


def thresholds_by_hand(run, old, new, distance, chosen) -> list[float]:
    """Fixed FAR and TAR, transferred FAR and TAR of the chosen queries; the threshold is fixed on all."""
    labels = models.test_images(run).labels.numpy()
    before, after = embeddings(run, old), embeddings(run, new)
    if distance == "cosine":
        own, cross = (score_matrix(query, before, distance=distance) for query in (before, after))
    else:
        own, cross = (-cdist(query, before) for query in (before, after))
    impostors = sorted(own[labels[:, None] != labels[None, :]], reverse=True)
    allowed = int(FAR * len(impostors))
    assert allowed == 1  # of 1,440
    threshold = impostors[allowed]
    return [*rates(own, labels, threshold, chosen), *rates(cross, labels, threshold, chosen)]


NAMES = ("fixed FAR", "fixed TAR", "transferred FAR", "transferred TAR")


@pytest.mark.parametrize(
    ("split", "method", "old"),
    [(PLAIN, "independent", "old"), (PLAIN, "BCT C", "old"), (SAMPLES, "BCT C", "old_samples")],
)
def test_a_threshold_is_fixed_under_old_old_and_transferred(run, measured, split, method, old):
    labels = models.test_images(run).labels.numpy()
    masks = {"all": labels >= 0, "known": labels < KNOWN, "unknown": labels >= KNOWN}
    place = {"split": split, "method": method, "variant": "", "x_name": ""}
    for subset in SUBSETS if split == PLAIN else ("all",):
        found = [measured.rows.by_seed(**place, subset=subset, metric=name)[0] for name in NAMES]
        assert found == pytest.approx(thresholds_by_hand(run, old, Upgrade(method, old), "cosine", masks[subset]))


def test_the_fixed_threshold_knows_nothing_of_the_successor(measured):
    for split, seed in itertools.product((PLAIN, SAMPLES), (0, 1)):
        for name in ("fixed FAR", "fixed TAR"):
            for subset in SUBSETS if split == PLAIN else ("all",):
                found = measured.rows.of(split=split, metric=name, seed=seed, subset=subset)
                assert len(found) > 1
                assert len(set(found["value"])) == 1
    fixed = measured.rows.of(metric="fixed FAR", subset="all")["value"]
    assert fixed.between(0, FAR).all()


def test_class_means_are_a_gallery_of_one_item_a_class(run, measured):
    training, labels = models.training_images(run), models.test_images(run).labels.numpy()
    old = embeddings(run, "old", images=training)
    means = np.stack([old[training.labels.numpy() == label].mean(0) for label in range(CLASSES)])
    for name, source in (("old", "old"), ("new", "new")):
        nearest = [
            max(range(CLASSES), key=lambda label: query @ means[label] / np.linalg.norm(means[label]))
            for query in embeddings(run, source)
        ]
        place = {"split": PLAIN, "method": "independent", "query_model": name, "gallery_model": "old means"}
        for subset, mask in {"all": labels >= 0, "known": labels < KNOWN, "unknown": labels >= KNOWN}.items():
            found = measured.rows.by_seed(**place, subset=subset)[0]
            assert found == pytest.approx(np.mean((np.array(nearest) == labels)[mask]))


def test_a_run_of_the_other_distance_measures_with_it_throughout(found_only, measured):
    run = run_with(distance="euclidean", tables="B1").model_copy(update={"seeds": (0,)})
    other = bct.measure(run)
    frame = other.rows.frame
    assert set(frame["distance"]) == {"euclidean"}
    labels = models.test_images(run).labels
    found = [other.rows.by_seed(split=PLAIN, method="BCT C", subset="all", metric=name)[0] for name in NAMES]
    assert found == pytest.approx(thresholds_by_hand(run, "old", Upgrade("BCT C"), "euclidean", labels >= 0))
    vectors = [embeddings(run, source) for source in (Upgrade("BCT C"), "old")]
    test = evaluate(*vectors, labels, labels, exclude_self=True, distance="euclidean")
    wanted = {"split": PLAIN, "method": "BCT C", "query_model": "new", "gallery_model": "old", "subset": "all"}
    wanted |= {"variant": "", "x_name": "", "metric": "map"}
    assert other.rows.by_seed(**wanted)[0] == pytest.approx(test.mean_average_precision)
    assert other.rows.by_seed(**wanted)[0] != measured.rows.by_seed(**wanted)[0]


# The chain.


@pytest.mark.parametrize("name", ["independent", "BCT A"])
def test_a_chain_is_a_full_matrix_of_tests_made_by_hand(run, measured, name):
    middle = Upgrade(name, "old_quarter", "old")
    generations = ["old_quarter", middle, Upgrade(name, middle, "new")]
    labels = models.test_images(run).labels
    vectors = [embeddings(run, source) for source in generations]
    for i, j in itertools.product(range(3), range(3)):
        test = evaluate(vectors[i], vectors[j], labels, labels, exclude_self=True)
        pair = {"query_model": f"generation {i + 1}", "gallery_model": f"generation {j + 1}"}
        cell = {"split": CHAIN, "method": name, **pair}
        assert measured.rows.by_seed(**cell, metric="cmc@1")[0] == test.cmc[1]
        assert measured.rows.by_seed(**cell, metric="map")[0] == pytest.approx(test.mean_average_precision)


def test_generations_know_a_quarter_a_half_and_all_of_the_classes(run, measured):
    for chain in bct.chains(run, 0):
        sources = (chain.old.old, chain.old, chain)
        assert [len(model_of(run, source, 0)[0].classifier.weight) for source in sources] == [2, 5, 10]


def test_only_the_first_generation_is_common_to_both_chains(measured):
    first = {"split": CHAIN, "query_model": "generation 1", "gallery_model": "generation 1", "metric": "map"}
    last = {"split": CHAIN, "query_model": "generation 3", "gallery_model": "generation 2", "metric": "map"}
    assert len(set(measured.rows.of(**first)["value"])) == 1
    assert len(set(measured.rows.of(**last)["value"])) == 2


def test_the_chain_of_made_rows_is_measured_where_it_does_not_collapse():
    """Out of a collapsed generation's embeddings no row can be made for the next."""
    for profile, methods in (("study", ["independent", "BCT A", "BCT C"]), ("laptop", ["independent", "BCT A"])):
        run = settings({"profile": profile}, bct.Knobs)
        for seed in run.seeds:
            expected = methods if seed in run.sweep_seeds else []
            assert [chain.method for chain in bct.chains(run, seed)] == expected


# The open-set split.


def test_no_identity_of_the_open_set_test_was_trained_on(run, measured):
    split = models.open_set(run)
    tested = split.test
    pictures = {image.numpy().tobytes() for image in tested.images}
    for role, classes in (("old_open", 2), ("new_open", 5)):
        share = models.ROLES[role].share(run)
        assert share.labels.unique().tolist() == list(range(classes))
        assert not set(share.labels.tolist()) & set(tested.labels.tolist())
        assert not pictures & {image.numpy().tobytes() for image in share.images}
    cases = [case for case in bct.plan(run, 0) if case.split == OPEN_SET]
    assert len(cases) == 1 + len(bct.WEIGHTS)
    assert {(case.upgrade.old, case.upgrade.new) for case in cases} == {("old_open", "new_open")}
    model = model_of(run, cases[-1].upgrade, 0)[0]
    assert len(model.classifier.weight) == 5
    labels = tested.labels
    vectors = [embeddings(run, source, images=tested) for source in (cases[-1].upgrade, "old_open")]
    test = evaluate(*vectors, labels, labels, exclude_self=True)
    place = {"split": OPEN_SET, "method": "BCT A", "x": cases[-1].x, "query_model": "new", "gallery_model": "old"}
    assert measured.rows.by_seed(**place, metric="cmc@1")[0] == test.cmc[1]
    assert measured.rows.by_seed(**place, metric="map")[0] == pytest.approx(test.mean_average_precision)


# Plans.


def kinds(run, seed: int) -> set:
    return {(case.split, case.variant, case.upgrade, case.x) for case in bct.plan(run, seed)}


def test_claims_are_for_every_seed_and_sweeps_for_their_own(run):
    swept, other = kinds(run, 0), kinds(run, 1)
    assert {upgrade.method for split, _, upgrade, _ in other if split == PLAIN} == set(bct.CLAIMED)
    assert {upgrade.method for split, variant, upgrade, x in swept if split == PLAIN} == set(METHODS)
    assert other < swept
    assert all(variant == "" and x is None for _, variant, _, x in other)
    assert {split for split, *_ in other} == {PLAIN, SAMPLES}
    assert bct.chains(run, 1) == []
    assert len(bct.plan(run, 0)) == len(swept)
    assert {variant for _, variant, _, _ in swept} == {"", *bct.CHANGES}


@pytest.mark.parametrize("profile", ["laptop", "study", "large"])
def test_a_profile_measures_its_tables(profile):
    run = settings({"profile": profile}, bct.Knobs)
    wanted = bct.TABLES_OF.get(profile, bct.TABLES)
    assert bct.tables(run) == wanted
    for seed in run.seeds:
        found = kinds(run, seed)
        swept = seed in run.sweep_seeds
        assert {upgrade.method for _, _, upgrade, _ in found} == set(METHODS if swept else bct.CLAIMED)
        is_long = swept and profile != "study"
        assert any(variant for _, variant, _, _ in found) == is_long
        assert any(x is not None for *_, x in found) == is_long
        assert any(split == OPEN_SET for split, *_ in found) == is_long
        assert bool(bct.chains(run, seed)) == (swept and "B3" in wanted)
        for *_, upgrade, _ in found:
            assert {upgrade.old, upgrade.new} <= set(models.ROLES)


@pytest.mark.parametrize(
    ("tables", "wanted", "cases", "chains"),
    [
        ("B1", ("B1",), 11, 0),
        ("B2", ("B1", "B2"), 11 + 14, 0),
        ("B3,B1", ("B1", "B3"), 11, 2),
        (" B5 , B4,", ("B1", "B4", "B5"), 11 + 11 + 6, 0),
        ("", bct.TABLES, 11 + 14 + 11 + 6, 2),
    ],
)
def test_a_page_names_its_tables_and_always_has_the_first(tables, wanted, cases, chains):
    run = run_with(tables=tables)
    assert bct.tables(run) == wanted
    assert len(bct.plan(run, 0)) == cases
    assert [len(bct.chains(run, seed)) for seed in (0, 1)] == [chains, 0]
    assert len(bct.plan(run, 1)) == len(bct.CLAIMED) + 2


@pytest.mark.parametrize(("tables", "unknown"), [("B6", "B6"), ("B1,B7", "B7"), ("b1", "b1"), ("B1 B2", "B1 B2")])
def test_an_unknown_table_is_refused_with_the_valid_ones(tables, unknown):
    with pytest.raises(ValueError, match=rf"unknown table \['{unknown}'\]; choose from B1, B2, B3, B4, B5"):
        run_with(tables=tables)


def test_an_unknown_distance_is_refused():
    with pytest.raises(ValueError, match="'distance' = 'manhattan'"):
        run_with(distance="manhattan")


@pytest.mark.parametrize("processes", [1, 2])
def test_what_is_trained_is_what_is_measured_each_once_and_old_before_new(run, monkeypatch, processes):
    handed = []
    monkeypatch.setattr(bct, "train_all", lambda tasks: handed.append(tasks))
    plans = {seed: [case.upgrade for case in bct.plan(run, seed)] + bct.chains(run, seed) for seed in run.seeds}
    bct.train(run, plans)
    ((*tasks,),) = handed
    assert len({task.name for task in tasks}) == len(tasks)
    stages = {(canonical(task.train.args[1]), task.train.args[2]): task.stage for task in tasks}
    assert len(stages) == len(tasks)
    needed = {(canonical(source), seed) for seed, sources in plans.items() for source in sources}
    needed |= {(canonical(source.old), seed) for source, seed in needed if isinstance(source, Upgrade)}
    needed |= {(canonical(source.old), seed) for source, seed in needed if isinstance(source, Upgrade)}
    needed |= {(role, seed) for seed in run.seeds for role in ("old", "old_samples", "new")}
    needed |= {(old, 0) for old, _ in bct.CHANGES.values()} | {("old_open", 0), ("old_quarter", 0)}
    assert set(stages) == needed
    for (source, seed), stage in stages.items():
        if isinstance(source, Upgrade):
            assert stages[source.old, seed] < stage


# Once more.


def test_seed_by_seed_every_model_is_found_and_the_rows_are_the_same(run, found_only, measured):
    """As they are published."""
    parts = [bct.measure(run.model_copy(update={"seeds": (seed,)})) for seed in (1, 0)]
    frame = pd.concat([part.rows.frame for part in parts])
    assert in_order(frame).equals(in_order(measured.rows.frame))
    again = {name: artifact.key for part in parts for name, artifact in part.base_models.items()}
    assert again == {name: artifact.key for name, artifact in measured.base_models.items()}


def test_a_page_of_fewer_tables_has_the_same_rows_of_these(found_only, measured):
    part = bct.measure(run_with(tables="B3").model_copy(update={"seeds": (0,)})).rows
    whole = Rows(measured.rows.frame[measured.rows.frame["variant"] == ""], {})
    for split in (PLAIN, SAMPLES, CHAIN):
        own = whole.of(split=split, seed=0, x_name="")
        assert in_order(part.of(split=split)).equals(in_order(own))
    assert set(part.frame["split"]) == {PLAIN, SAMPLES, CHAIN}


def test_the_sidecar_tells_what_the_rows_were_made_from(run, measured):
    assert list(measured.rows.sidecar) == ["smoke/digits/0", "smoke/digits/1"]
    for seed, (group, about) in enumerate(measured.rows.sidecar.items()):
        assert about["made_from"] == bct.version(run) | {"data": measured.data}
        sources = [case.upgrade for case in bct.plan(run, seed)] + bct.chains(run, seed)
        sources = {canonical(source) for source in bct._with_ancestors(sources)}
        assert set(about["artifacts"]) == set(map(upgrades.name_of, sources)), group
        for source in sources:
            assert about["artifacts"][upgrades.name_of(source)] == model_of(run, source, seed)[0].key
    assert set(rows.groups(measured.rows.frame)) == set(measured.rows.sidecar)


def test_base_models_are_those_of_roles_alone_and_all_models_are_published(run, measured):
    both = {"old", "new", "old_samples"}
    swept = {role for pair in bct.CHANGES.values() for role in pair} | {"old_open", "new_open", "old_quarter"}
    names = {f"{role}, seed 0" for role in both | swept} | {f"{role}, seed 1" for role in both}
    assert set(measured.base_models) == names
    upgraded = {
        f"{name}, seed {seed}" for seed in (0, 1) for name in measured.rows.sidecar[f"smoke/digits/{seed}"]["artifacts"]
    }
    assert set(measured.to_publish) == upgraded
    assert {"new, BCT A against old, seed 1", "new, BCT A against (old, BCT A against old_quarter), seed 0"} <= upgraded
    artifact = measured.base_models["old_samples, seed 1"]
    expected = models.base_model(run, "old_samples", 1)[0].artifact
    assert artifact.key == expected.key
    assert all(torch.equal(artifact.tensors[name], tensor) for name, tensor in expected.tensors.items())


# The diagnosis, made by hand.


def test_collapse_is_counted_over_the_test_images(run, measured):
    for name, source in (("new", Upgrade("BCT C")), ("old", "old")):
        vectors = embeddings(run, source)
        cell = {"split": PLAIN, "variant": "", "x_name": "", "query_model": name, "gallery_model": name}
        cell |= {"method": "independent" if name == "old" else "BCT C"}
        dead = sum(all(row[k] == 0 for row in vectors) for k in range(vectors.shape[1])) / vectors.shape[1]
        zero = sum(all(value == 0 for value in row) for row in vectors) / len(vectors)
        assert measured.rows.by_seed(**cell, metric="dead_coordinates")[0] == pytest.approx(dead)
        assert measured.rows.by_seed(**cell, metric="zero_vectors")[0] == pytest.approx(zero)


@pytest.mark.parametrize("form", ["BCT A", "BCT B", "BCT C"])
@pytest.mark.parametrize("name", ["old", "new"])
def test_the_old_classifier_is_asked_about_old_and_new_embeddings(run, measured, form, name):
    old = model_of(run, "old", 0)[0]
    weight = old.classifier.weight.detach()
    if form != "BCT A":
        weight = upgrades.extended(old, models.training_images(run), normalize=form == "BCT C").weight.detach()
    vectors = torch.from_numpy(embeddings(run, "old" if name == "old" else Upgrade(form))).double()
    labels = models.test_images(run).labels
    masks = {"known": labels < KNOWN} if form == "BCT A" else {"known": labels < KNOWN, "unknown": labels >= KNOWN}
    for subset, mask in masks.items():
        right, made, loss = [], [], []
        for vector, label in zip(vectors[mask], labels[mask].tolist(), strict=True):
            logits = [float(row.double() @ vector) for row in weight]
            best = max(range(len(logits)), key=logits.__getitem__)
            right.append(best == label)
            made.append(best >= KNOWN)
            loss.append(np.log(np.exp(np.array(logits) - max(logits)).sum()) + max(logits) - logits[label])
        cell = {"split": PLAIN, "method": form, "query_model": name, "gallery_model": "classifier", "subset": subset}
        found = {
            m: measured.rows.by_seed(**cell, metric=m)[0] for m in ("classified", "into made rows", "influence loss")
        }
        assert found["classified"] == pytest.approx(np.mean(right))
        assert found["into made rows"] == pytest.approx(np.mean(made))
        assert found["influence loss"] == pytest.approx(np.mean(loss), rel=1e-4)


def test_likeness_is_the_mean_cosine_of_an_images_two_embeddings(run, measured):
    old, new = embeddings(run, "old"), embeddings(run, Upgrade("BCT A"))
    labels = models.test_images(run).labels.numpy()
    norms = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    cosines = np.divide((old * new).sum(1), norms, out=np.zeros_like(norms), where=norms > 0)
    cell = {
        "split": PLAIN,
        "method": "BCT A",
        "variant": "",
        "x_name": "",
        "query_model": "new",
        "gallery_model": "old",
    }
    for subset, mask in {"all": labels >= 0, "known": labels < KNOWN, "unknown": labels >= KNOWN}.items():
        found = measured.rows.by_seed(**cell, subset=subset, metric="cosine")[0]
        assert found == pytest.approx(cosines[mask].mean(), abs=1e-5)
