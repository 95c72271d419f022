"""Cases: what is asked of which pair, under which values, and what that stands on."""

import pytest

from compatlib.study.lab import measures
from compatlib.study.lab.behaviours import BEHAVIOURS
from compatlib.study.lab.cases import Case, case, measure, under
from compatlib.study.lab.measures import __all__ as names
from compatlib.study.lab.measures import collapse, curve, flips, scores
from compatlib.study.lab.orders import RANDOM
from compatlib.study.lab.spaces import ClassMeans, H, Labels, Mixed, Of, of_role
from compatlib.study.lab.trainables import Base, Side, Transformation, Upgrade, Widths
from compatlib.study.settings import value_of

OLD, NEW = of_role("old"), of_role("new")
PLACE = {"split": "class-incremental", "distance": "cosine"}


def test_a_case_is_of_its_first_pair():
    own = case(NEW, OLD, scores, flips, method="independent", **PLACE)
    assert (own.query, own.gallery, own.before) == (NEW, OLD, None)
    assert own.ask == (scores, flips)
    assert own.columns == {"method": "independent", **PLACE}
    assert (own.split, own.distance) == ("class-incremental", "cosine")
    assert own.changes == {}
    several = Case(((OLD, OLD), (NEW, OLD)), (scores,), PLACE)
    assert (several.query, several.gallery) == (OLD, OLD)
    assert several.spaces == (OLD, OLD, NEW, OLD)


def test_a_case_stands_on_what_its_spaces_stand_on_each_once():
    h = H(Transformation())
    own = case(NEW, h, scores, before=OLD, **PLACE)
    assert own.spaces == (NEW, h, OLD)
    assert own.trainables == (Base("new"), h.transformation, Base("old"))
    assert case(Labels(), Labels(), scores, **PLACE).trainables == ()


@pytest.mark.parametrize("changes", [{}, {"knobs.views": 3}, {"training.epochs": 7, "knobs.hidden_dim": 9}])
def test_under_changes_what_it_names_and_nothing_else(tiny_run, changes):
    run, own = tiny_run(), case(NEW, OLD, scores, before=OLD, **PLACE)
    (other,) = under([own], changes)
    assert other.changes == changes
    same = ("pairs", "ask", "columns", "before")
    assert [getattr(other, name) for name in same] == [getattr(own, name) for name in same]
    again = other.run(run)
    for name, value in changes.items():
        assert value_of(again, name) == value
        again = next(under([own], {name: value_of(run, name)})).run(again)
    assert again == run


def test_the_later_of_two_changes_counts():
    (own,) = under(
        under([case(NEW, OLD, scores, **PLACE)], {"knobs.views": 3, "knobs.hidden_dim": 9}), {"knobs.views": 4}
    )
    assert own.changes == {"knobs.views": 4, "knobs.hidden_dim": 9}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"knobs.vieuws": 3}, "a run has no 'knobs.vieuws'"),
        ({"epochs": 3}, "a run has no 'epochs': Settings has no"),
        ({"training.rate": 3}, "a run has no 'training.rate': Training has no 'rate'"),
        ({"seeds.first": 3}, "a run has no 'seeds.first': tuple has no 'first'"),
        ({"knobs.views": 0}, "'views' = 0"),
        ({"knobs.views": "many"}, "'views' = 'many'"),
    ],
)
def test_wrong_changes_are_refused(tiny_run, changes, words):
    (own,) = under([case(NEW, OLD, scores, **PLACE)], changes)
    with pytest.raises(ValueError, match=words):
        own.run(tiny_run())


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (case(Labels(), Labels(), measures.chance, **PLACE), {"splits", "chance"}),
        (
            case(NEW, OLD, scores, **PLACE),
            {"splits", "retrieval", "embedding", "independent", "loop", "augment", "resnet", "classifiers"},
        ),
        (
            case(Of(Upgrade("BCT B")), OLD, collapse, **PLACE),
            {"splits", "collapse", "embedding", "bct", "synthesis", "independent"}
            | {"loop", "augment", "resnet", "classifiers"},
        ),
        (
            case(Of(Upgrade("BCT A")), ClassMeans(Base("old")), collapse, **PLACE),
            {"splits", "collapse", "embedding", "bct", "independent", "loop", "augment", "resnet", "classifiers"},
        ),
        (
            case(NEW, Mixed(H(Transformation(Side("SimCLR", 4))), NEW, RANDOM), curve, **PLACE),
            {"splits", "backfilling", "retrieval", "embedding", "orders", "fct", "views", "simclr", "independent"}
            | {"loop", "augment", "resnet", "classifiers"},
        ),
        (
            case(Of(Widths("BCT-S")), Of(Widths("BCT-S")), scores, **PLACE),
            {"splits", "retrieval", "embedding", "sfsc", "slimmable", "gradients"}
            | {"loop", "augment", "resnet", "classifiers"},
        ),
    ],
)
def test_a_case_stands_on_the_behaviours_of_its_measures_its_spaces_and_its_models(tiny_run, own, expected):
    found = own.behaviours(tiny_run())
    assert set(found) == expected
    assert found == {name: BEHAVIOURS[name].number for name in found}
    assert list(found) == sorted(found)


def test_a_measure_may_stand_only_on_behaviours_that_there_are():
    with pytest.raises(ValueError, match="unknown behaviour 'recall'; choose one of"):
        measure("recall")


@pytest.mark.parametrize("name", names)
def test_every_measure_names_behaviours_that_there_are(name):
    asked = getattr(measures, name)
    assert set(asked.behaviours) <= set(BEHAVIOURS)
    assert asked.function.__name__ == name  # by which a sidecar tells it


def test_only_what_takes_time_or_room_stands_on_no_behaviour():
    without = {name for name in names if not getattr(measures, name).behaviours}
    assert without == {"image_speed", "kept_bytes", "transformation_speed", "training_seconds"}
