"""The chapter *the problem*: every model on every model, on a tiny run."""

import itertools

import pytest

from compatlib.evaluation.retrieval import evaluate
from compatlib.study.chapters.problem.plan import CHAPTER, ROLES, Knobs, cases
from compatlib.study.lab.experiment import measure
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.spaces import of_role

pytestmark = pytest.mark.usefixtures("keeps_trained")
SUBSETS, SCORES = ("all", "known", "unknown"), ("cmc@1", "cmc@5", "map")


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run(Knobs, seeds=[0, 1])


@pytest.fixture(scope="module")
def measured(run, keeps_trained):
    return measure(CHAPTER, run)


def test_every_model_meets_every_model(measured, require_sound):
    require_sound(measured.rows, "problem")
    frame = measured.rows.frame
    expected = set()
    for query, gallery in itertools.product(ROLES, ROLES):
        pair = ("independent", query, gallery)
        expected |= {(*pair, subset, metric) for subset in SUBSETS for metric in SCORES}
        expected |= {(*pair, "all", "top_share")}
        expected |= {(*pair, subset, "negative_flips") for subset in SUBSETS if query != gallery}
    expected |= {("independent", role, role, "", "images_per_second") for role in ROLES}
    expected |= {("chance", "", "", subset, metric) for subset in SUBSETS for metric in SCORES}
    columns = ["method", "query_model", "gallery_model", "subset", "metric"]
    for seed in (0, 1):
        assert set(map(tuple, frame[frame["seed"] == seed][columns].to_numpy())) == expected
    for column, value in (("split", CLASS_INCREMENTAL), ("distance", "cosine"), ("variant", ""), ("x_name", "")):
        assert set(frame[column]) == {value}


@pytest.mark.parametrize(("query", "gallery"), [("new", "old"), ("twin", "new"), ("small", "small"), ("old", "new")])
def test_scores_are_those_of_the_seeds_vectors(measured, scored, query, gallery):
    for subset, metric in itertools.product(SUBSETS, SCORES):
        cell = {"query_model": query, "gallery_model": gallery, "subset": subset, "metric": metric}
        pair = (of_role(query), of_role(gallery))
        expected = scored(measured.first, *pair, CLASS_INCREMENTAL, subset, metric, "cosine")
        assert measured.rows.by_seed(**cell, method="independent")[0] == pytest.approx(expected)


def test_flips_are_against_the_gallerys_own_test(measured):
    first = measured.first
    labels = first.labels(CLASS_INCREMENTAL)
    new, old = (first.vectors(of_role(role), CLASS_INCREMENTAL) for role in ("new", "old"))
    before, after = (evaluate(query, old, labels, labels, exclude_self=True).first_rank for query in (old, new))
    flipped = [b == 1 and a != 1 for b, a in zip(before, after, strict=True)]
    cell = {"query_model": "new", "gallery_model": "old", "subset": "all", "metric": "negative_flips"}
    assert measured.rows.by_seed(**cell)[0] == pytest.approx(sum(flipped) / 40)


def test_every_score_over_queries_has_its_class_scores(measured):
    for metric, subset in itertools.product((*SCORES, "negative_flips"), SUBSETS):
        cell = {"query_model": "new", "gallery_model": "old", "subset": subset, "metric": metric}
        found = measured.rows.measured(**cell, method="independent")
        assert set(found.by_class) == {0, 1}
        (scores,) = found.by_class[0]
        assert scores.mean == pytest.approx(found.values[0])
        assert scores.counts.sum() == (40 if subset == "all" else 20)


def test_the_distance_is_the_pages(tiny_run, found_only, measured, scored):
    other = measure(CHAPTER, tiny_run(Knobs, distance="euclidean"))
    assert set(other.rows.frame["distance"]) == {"euclidean"}
    cell = {"query_model": "new", "gallery_model": "new", "subset": "all", "metric": "map"}
    expected = scored(measured.first, *[of_role("new")] * 2, CLASS_INCREMENTAL, "all", "map", "euclidean")
    assert other.rows.by_seed(**cell)[0] == pytest.approx(expected)


def test_all_base_models_are_published(run, measured):
    names = {f"{role}, seed {seed}" for role in ROLES for seed in (0, 1)}
    assert set(measured.to_publish) == set(measured.base_models) == set(measured.artifacts) == names
    assert len(list(cases(run, 0))) == len(ROLES) ** 2 + len(ROLES) + 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"distance": "manhattan"}, "'distance' = 'manhattan'"),
        ({"examples": 0}, "'examples' = 0"),
        ({"tables": "B1"}, "unknown parameter 'tables'"),
    ],
)
def test_wrong_parameters_are_refused(tiny_run, given, words):
    with pytest.raises(ValueError, match=words):
        tiny_run(Knobs, **given)
