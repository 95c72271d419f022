"""Super-networks, searches and networks of paths in the lab: what they are called, refuse, share, and go on from."""

from dataclasses import replace

import pytest
import torch

from compatlib.methods import cmp_nas
from compatlib.methods.path_scores import Judge
from compatlib.study.chapters.cmp_nas.plan import Knobs
from compatlib.study.lab import images
from compatlib.study.lab.images import OPEN_SET, SEARCHED
from compatlib.study.lab.make import key, make, with_ancestors
from compatlib.study.lab.roles import share_of
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import OfPath
from compatlib.study.lab.trainables import Architecture, Base, OnPath, PathSearch, SuperNetwork
from compatlib.study.lab.trainables.supernets import RANDOM
from compatlib.study.settings import changed, settings

GALLERY = Base("gallery_open")
NETWORK = SuperNetwork(GALLERY)
SEARCH = PathSearch(NETWORK, "R2", 0.18)


@pytest.fixture(scope="module")
def run():
    """Twenty glyphs, so that two classes judge a search; one epoch each."""
    values = {f"{name}.epochs": 1 for name in ("training", "knobs.supernet", "knobs.query")}
    return changed(settings({"profile": "smoke"}, Knobs), values | {"train_per_class": 8, "test_per_class": 4})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Artifacts that the tests of this module share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture
def judged(monkeypatch) -> list[str]:
    """The paths that are judged from here on, in order."""
    found, own = [], Judge._judged

    def noted(judge, path, name):
        found.append(name)
        return own(judge, path, name)

    monkeypatch.setattr(Judge, "_judged", noted)
    return found


def paths(made) -> list[str]:
    return [row["path"] for row in made.artifact.about["history"]]


# Descriptions.


def test_names_tell_what_is_meant():
    sample = PathSearch(SuperNetwork(GALLERY, 1), RANDOM, paths=7, is_recalibrated=False)
    assert NETWORK.name == "super-network against gallery_open"
    assert SEARCH.name == "search by R2 up to 0.18 MFLOPs in super-network against gallery_open"
    assert sample.name == "7 random paths in super-network 2 against gallery_open, not recalibrated"
    assert Architecture(search=sample, number=4).name == f"path 4 of {sample.name}"
    assert OnPath(Architecture("3@1"), GALLERY).name == "query on 3@1 throughout against gallery_open"
    found = OnPath(Architecture(search=SEARCH), GALLERY)
    assert with_ancestors([found]) == [GALLERY, NETWORK, SEARCH, found]
    assert [what.is_published for what in (found, OnPath(Architecture("3@1"), GALLERY), NETWORK)] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (
            lambda: PathSearch(NETWORK, "R4"),
            r"unknown reward 'R4'; choose one of \('R1', 'R2', 'R3', 'ran",
        ),
        (lambda: PathSearch(NETWORK, "R1", 0.0), "cap is 0.0; valid are numbers above 0, or None"),
        (lambda: PathSearch(NETWORK, RANDOM, paths=-1), "paths is -1; valid are numbers above 0"),
        (Architecture, "names a choice or a search"),
        (lambda: Architecture("3@1", SEARCH), "names a choice or a search"),
        (lambda: Architecture(search=SEARCH, number=0), "one from number 1 on"),
    ],
)
def test_what_makes_no_sense_is_refused(make_it, words):
    with pytest.raises(ValueError, match=words):
        make_it()


def test_every_choice_of_a_search_moves_its_key_and_names_none(run):
    others = [
        SEARCH,
        replace(SEARCH, by="R1"),
        replace(SEARCH, cap=0.2),
        replace(SEARCH, cap=None),
        replace(SEARCH, is_recalibrated=False),
        replace(SEARCH, by=RANDOM, paths=8),
        replace(SEARCH, network=SuperNetwork(GALLERY, 1)),
    ]
    assert len({key(run, what, 0) for what in others}) == len(others)
    for name, value in {"calibration": 50, "searched": 30, "search_precision": "bfloat16"}.items():
        assert key(changed(run, {f"knobs.{name}": value}), SEARCH, 0) != key(run, SEARCH, 0)
    # How networks of paths are trained is nothing to a search.
    assert key(changed(run, {"knobs.query.epochs": 5, "knobs.paths": 3}), SEARCH, 0) == key(run, SEARCH, 0)


def test_no_class_has_two_parts(run):
    trained = set(share_of("query_open", run).labels.tolist())
    calibration = set(images.calibration_images(run).labels.tolist())
    searched = set(images.images_to_test(run, SEARCHED).labels.tolist())
    tested = set(images.images_to_test(run, OPEN_SET).labels.tolist())
    assert calibration <= trained
    assert trained.isdisjoint(searched)
    assert trained.isdisjoint(tested)
    assert searched.isdisjoint(tested)
    assert len(searched) == 2
    assert set(share_of("gallery_open", run).labels.tolist()) == trained


# Searches.


@pytest.mark.usefixtures("kept")
def test_a_search_that_was_interrupted_goes_on_to_the_same_result(run, judged, tmp_path, monkeypatch):
    whole = make(run, SEARCH, 3)[0]
    assert len(paths(whole)) == len(set(paths(whole))) == len(judged) == 8
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path))
    for parent in SEARCH.parents:
        make(run, parent, 3)
    judged.clear()

    def stop(share, text):
        if len(judged) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(run, SEARCH, 3, report=stop)
    assert judged == paths(whole)[:3]
    again = make(run, SEARCH, 3)[0]
    assert judged == paths(whole)
    assert paths(again) == paths(whole)
    assert torch.equal(again.parts.choices, whole.parts.choices)


@pytest.mark.usefixtures("kept")
def test_searches_of_one_super_network_share_what_was_judged(run, judged):
    searches = [replace(SEARCH, by=by) for by in ("R1", "R2", "R3", RANDOM)]
    found = {path for search in searches for path in paths(make(run, search, 4)[0])}
    assert sorted(judged) == sorted(found)
    judged.clear()
    make(run, replace(SEARCH, is_recalibrated=False), 4)
    assert len(judged) == 8  # other scores


@pytest.mark.usefixtures("kept")
def test_what_a_search_found_is_its_path(run):
    made = make(run, SEARCH, 3)[0]
    history = made.artifact.about["history"]
    best = max(history, key=lambda row: row["reward"])["path"]
    whole = run.knobs.blocks.network(run)
    for number, expected in ((None, best), (2, history[1]["path"])):
        architecture = Architecture(search=SEARCH, number=number)
        assert " ".join(architecture.path(whole, made)) == expected
        found = make(run, OnPath(architecture, GALLERY), 3)[0]
        cut = whole.extract(tuple(expected.split()))
        assert [each.shape for each in found.backbone().state_dict().values()] == [
            each.shape for each in cut.state_dict().values()
        ]
    with pytest.raises(ValueError, match="has 8 paths, not 9; ask for one of these"):
        Architecture(search=SEARCH, number=9).path(whole, made)
    with pytest.raises(ValueError, match=r"is what a search finds; `lab.make` builds it"):
        OnPath(Architecture(search=SEARCH), GALLERY).build(run, 0)


# Networks.


def test_networks_of_paths_begin_alike_where_they_agree_and_super_networks_do_not(run):
    one, other = (OnPath(Architecture(choice), GALLERY).build(run, 0)["backbone"] for choice in ("3@1", "3@0.5"))
    assert torch.equal(one.trunk[0][0].weight, other.trunk[0][0].weight)
    stems = [SuperNetwork(GALLERY, draw).build(run, 0)["network"].stem[0].weight for draw in (0, 1)]
    assert not torch.isclose(stems[0], stems[1]).any()
    assert not torch.isclose(stems[0], one.trunk[0][0].weight).any()


def test_a_query_is_trained_with_both_classifiers_by_its_own_recipe(run, monkeypatch):
    told = {}
    monkeypatch.setattr(cmp_nas, "fit_query", lambda **options: told.update(options))
    what = OnPath(Architecture("x@1"), GALLERY)
    parts = what.build(run, 0)
    parent = type("Parent", (), {"parts": {"classifier": parts["classifier"]}})
    what.fit(run, 0, parts, [parent])
    assert told["objective"] == "both"
    assert told["recipe"] == run.knobs.query.recipe()
    assert told["role"] == "query_open"
    assert told["gallery_classifier"] is parts["classifier"]


@pytest.mark.usefixtures("kept")
def test_a_path_embeds_with_inherited_weights_and_leaves_the_super_network_as_it_was(run):
    seed = Seed(run, 3)
    network = seed.made(NETWORK).parts["network"]
    before = {name: each.clone() for name, each in network.state_dict().items()}
    spaces = [OfPath(NETWORK, Architecture("3@0.5"), is_recalibrated) for is_recalibrated in (True, False)]
    recalibrated, left = (torch.from_numpy(seed.vectors(space, OPEN_SET)) for space in spaces)
    pixels = images.images_to_test(run, OPEN_SET).batch(torch.arange(5))[0]
    with torch.inference_mode():
        expected = network.extract(("3@0.5",) * 3).eval()(pixels)
    torch.testing.assert_close(left[:5], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(recalibrated, left)
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    assert seed.vectors(spaces[0], SEARCHED).shape[0] == 24
