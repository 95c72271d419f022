"""A chapter is its cases: what is trained for them, the rows they give, and what these were made from."""

import math

import pytest

from compatlib.embedding import embed
from compatlib.evaluation.retrieval import evaluate
from compatlib.study.lab import experiment, row_files, rows
from compatlib.study.lab.cases import case, under
from compatlib.study.lab.experiment import Chapter, changes_in_words, measure, tasks, unchanged, validation
from compatlib.study.lab.images import CLASS_INCREMENTAL, data_digests, images_to_test
from compatlib.study.lab.make import key, make
from compatlib.study.lab.measures import chance, popularity, scores
from compatlib.study.lab.spaces import H, Labels, Of
from compatlib.study.lab.trainables import Base, Transformation, Upgrade
from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.settings import Settings

SUBSETS, METRICS = ("all", "known", "unknown"), ("cmc@1", "cmc@5", "map")
PLACE = {"split": CLASS_INCREMENTAL, "distance": "cosine"}
OLD, NEW = Base("old"), Upgrade("BCT A")
H_OF_VIEWS = Of(Base("new")), H(Transformation())


def cases(run: Settings, seed: int):
    yield case(Of(NEW), Of(OLD), scores, popularity, method="BCT A", query_model="new", gallery_model="old", **PLACE)
    yield case(Labels(), Labels(), chance, method="chance", **PLACE)


def changed_cases(run: Settings, seed: int):
    """A grid of two values, one of which is the run's own."""
    yield case(*H_OF_VIEWS, scores, method="FCT", variant="the run's", **PLACE)
    for views in (1, 2):
        own = case(*H_OF_VIEWS, scores, method="FCT", x_name="views", x=float(views), **PLACE)
        yield from under([own], {"knobs.views": views})


CHAPTER = Chapter("dummy", TransformationKnobs, cases)
GRID = Chapter("grid", TransformationKnobs, changed_cases, is_published=False)


@pytest.fixture(scope="module")
def run(tiny) -> Settings:
    return tiny(TransformationKnobs, seeds="0,1", hidden_dim=16, views=2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture(scope="module")
def measured(run, kept) -> experiment.Measured:
    return measure(CHAPTER, run)


# Rows.


def test_every_case_of_every_seed_gives_its_rows(measured):
    frame = measured.rows.frame
    assert set(frame["seed"]) == {0, 1}
    assert set(frame["chapter"]) == {"dummy"}
    assert set(frame["profile"] + "/" + frame["dataset"]) == {"smoke/digits"}
    for seed, own in frame.groupby("seed"):
        asked = own[own["method"] == "BCT A"]
        expected = [(subset, metric) for subset in SUBSETS for metric in METRICS] + [("all", "top_share")]
        assert sorted(zip(asked["subset"], asked["metric"], strict=True)) == sorted(expected), seed
        assert (asked["query_model"] + "/" + asked["gallery_model"] == "new/old").all()
        assert len(own) == len(asked) + len(SUBSETS) * len(METRICS)


def test_the_rows_are_the_scores_of_the_trained_models(run, measured):
    test, labels = images_to_test(run), images_to_test(run).labels.numpy()
    for seed in (0, 1):
        new, old = (embed(make(run, what, seed)[0].backbone(), test).numpy() for what in (NEW, OLD))
        expected = evaluate(new, old, labels, labels, exclude_self=True)
        found = measured.rows.of(method="BCT A", seed=seed, subset="all").set_index("metric")["value"]
        assert found["cmc@1"] == pytest.approx(expected.cmc[1])
        assert found["map"] == pytest.approx(expected.mean_average_precision)


def test_a_mean_over_all_queries_has_its_class_scores_and_rows_hold_none(measured):
    assert set(measured.rows.frame.columns) == set(rows.COLUMNS)
    for seed in (0, 1):
        cells = measured.rows.by_class[f"smoke/digits/{seed}"]
        assert len(cells) == len(METRICS)  # neither chance nor a share over galleries is a mean over queries
    for metric in METRICS:
        for subset in SUBSETS:
            found = measured.rows.measured(method="BCT A", metric=metric, subset=subset)
            for seed, value in found.values.items():
                (own,) = found.by_class[seed]
                assert own.sums.sum() / own.counts.sum() == pytest.approx(value, abs=1e-9)
                assert len(own.sums) == 10


def test_the_outcome_can_be_published_and_read_again(measured, tmp_path):
    row_files.publish("dummy", measured.rows, tmp_path)
    again = row_files.read("dummy", tmp_path)
    assert len(again.frame) == len(measured.rows.frame)
    assert again.undescribed().empty
    assert again.sidecar == measured.rows.sidecar
    assert len(again.measured(method="BCT A", metric="map", subset="known").by_class) == 2


# What the rows stand on.


def test_artifacts_are_those_of_the_cases_and_their_keys_stand_in_the_sidecar(run, measured):
    names = ["new, BCT A against old", "old"]
    assert sorted(measured.artifacts) == [f"{name}, seed {seed}" for name in names for seed in (0, 1)]
    for seed in (0, 1):
        about = measured.rows.sidecar[f"smoke/digits/{seed}"]
        assert about["artifacts"] == {what.name: key(run, what, seed) for what in (NEW, OLD)}
        for name, found in about["artifacts"].items():
            assert measured.artifacts[f"{name}, seed {seed}"].key == found
        assert [each["metrics"] for each in about["cases"]] == [[*METRICS, "top_share"], list(METRICS)]
    assert measured.data == data_digests(run)
    assert (measured.first.seed, measured.first.chapter) == (0, "dummy")


def test_what_a_reader_gets_are_models_and_no_transformations_and_nothing_of_a_tuning(run, kept, measured):
    assert measured.to_publish == measured.artifacts
    assert set(measured.base_models) == {"old, seed 0", "old, seed 1"}
    both = Chapter("both", TransformationKnobs, lambda run, seed: [next(changed_cases(run, seed))])
    one = run.model_copy(update={"seeds": (0,)})
    outcome = measure(both, one)
    assert set(outcome.artifacts) == {"fct from old to new, seed 0", "new, seed 0", "old, seed 0"}
    assert set(outcome.to_publish) == {"new, seed 0", "old, seed 0"}
    assert measure(GRID, one).to_publish == {}


@pytest.mark.parametrize(("seeds", "given"), [((), set()), ((1, 7), {1}), (None, {0, 1})])
def test_a_reader_gets_the_models_of_the_published_seeds(run, kept, measured, seeds, given):
    found = measure(CHAPTER, run.model_copy(update={"published_seeds": seeds}))
    assert found.artifacts.keys() == measured.artifacts.keys()
    assert set(found.to_publish) == {name for name in found.artifacts if int(name[-1]) in given}


def test_a_reader_gets_the_models_that_the_profile_names(run, kept, measured):
    found = measure(CHAPTER, run.model_copy(update={"published_models": ("old", "never trained")}))
    assert set(found.to_publish) == {"old, seed 0", "old, seed 1"}


def test_some_of_the_models_are_trained_with_what_they_are_made_from(run):
    plans = {0: [*cases(run, 0), *changed_cases(run, 0)], 1: list(cases(run, 1))}

    def names(*models: str) -> list[str]:
        return [task.name for task in tasks(run, plans, models)]

    assert len(names()) == 7
    assert names("new", "old") == ["old, seed 0", "new, seed 0", "old, seed 1"]
    assert names("new, BCT A against old") == [
        f"{name}, seed {seed}" for seed in (0, 1) for name in ("old", "new, BCT A against old")
    ]
    assert names("fct from old to new, views 1") == [
        *("old, seed 0", "new, seed 0", "fct from old to new, seed 0, views 1"),
    ]
    with pytest.raises(ValueError, match=r"unknown model \['fct', 'news'\]; choose from old; new, BCT A against old;"):
        names("old", "news", "fct")


def test_nothing_is_trained_again(run, kept, measured, monkeypatch):
    again = measure(CHAPTER, run)
    assert {name: each.key for name, each in again.artifacts.items()} == {
        name: each.key for name, each in measured.artifacts.items()
    }
    assert [task.train(report=None) for task in tasks(run, {0: list(cases(run, 0))})] == [False, False]


# Runs with other values.


def test_what_a_changed_run_shares_is_trained_once(run):
    found = tasks(run, {seed: list(changed_cases(run, seed)) for seed in (0, 1)})
    fitted = ["fct from old to new", "fct from old to new, seed 0, views 1"]
    names = ["new, seed 0", "old, seed 0", f"{fitted[0]}, seed 0", fitted[1]]
    assert [task.name for task in found] == names + [name.replace("seed 0", "seed 1") for name in names]
    assert [task.stage for task in found] == [0, 0, 1, 1] * 2
    assert len({task.name for task in found}) == len(found)


def test_what_two_changed_runs_share_is_trained_once(run):
    """The transformation uses no side-information, so that its recipe does not matter."""
    own = case(*H_OF_VIEWS, scores, **PLACE)
    changes = [{"knobs.views": 1}, {"knobs.views": 1, "knobs.side.learning_rate": 0.3}]
    found = tasks(run, {0: [next(under([own], each)) for each in changes]})
    assert [task.name for task in found] == ["new, seed 0", "old, seed 0", "fct from old to new, seed 0, views 1"]


def test_a_cases_changes_reach_the_model_and_the_rows(run, kept):
    outcome = measure(GRID, run.model_copy(update={"seeds": (0,)}))
    one = run.model_copy(update={"knobs": run.knobs.model_copy(update={"views": 1})})
    about = outcome.rows.sidecar["smoke/digits/0"]
    h = Transformation()
    keys = {name: found for name, found in about["artifacts"].items() if name.startswith(h.name)}
    assert keys == {
        h.name: key(run, h, 0),
        f"{h.name}, views 1": key(one, h, 0),
        f"{h.name}, views 2": key(run, h, 0),
    }
    asked = ({"variant": "the run's"}, {"x": 1.0}, {"x": 2.0})
    own, of_one, of_two = (outcome.rows.of(metric="map", subset="all", **each)["value"].item() for each in asked)
    assert math.isclose(of_two, own)
    assert not math.isclose(of_one, own)
    made = [each["made"] for each in about["cases"]]
    assert made[0] == made[2] != made[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"knobs.views": 2}, ", views 2"),
        (
            {"knobs.transformation.learning_rate": 5e-4, "training.epochs": 12},
            ", transformation.learning_rate 0.0005, training.epochs 12",
        ),
    ],
)
def test_changes_are_told_in_names(changes, words):
    assert changes_in_words(changes) == words


# Validation.


@pytest.mark.parametrize(("shortened", "epochs"), [(1, 7), (3, 2), (7, 1), (100, 1)])
def test_a_validation_has_seeds_of_its_own_and_fewer_epochs(run, shortened, epochs):
    long = run.model_copy(update={"training": run.training.model_copy(update={"epochs": 7})})
    found = validation(long, shortened=shortened)
    assert found.validation
    assert found.training.epochs == epochs
    assert found.seeds == (100, 101)
    assert not set(found.seeds) & set(run.seeds)
    unmoved = found.model_copy(update={"validation": False, "training": long.training, "seeds": run.seeds})
    assert unmoved == long
    assert unchanged(long) is long


def test_a_chapter_is_measured_as_it_prepares_its_run(run, kept):
    prepared = Chapter("tuning", TransformationKnobs, cases, validation, is_published=False)
    one = run.model_copy(update={"seeds": (0,), "train_per_class": 20})
    outcome = measure(prepared, one)
    assert set(outcome.rows.frame["seed"]) == {100}
    assert list(outcome.rows.sidecar) == ["smoke/digits/100"]
    assert outcome.rows.sidecar["smoke/digits/100"]["settings"]["validation"] is True
    assert len(outcome.first.labels(CLASS_INCREMENTAL)) == 20  # two held-out images a class
    assert outcome.data == data_digests(validation(one))
