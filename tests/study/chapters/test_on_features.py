"""The chapters where heads are trained: all their cases on drawn features, and what only heads have."""

import numpy as np
import pytest

from compatlib.study.chapters.bct import plan as bct
from compatlib.study.chapters.cmp_nas import plan as cmp_nas
from compatlib.study.chapters.dual_tuning import plan as dual_tuning
from compatlib.study.chapters.fct import plan as fct
from compatlib.study.chapters.problem import plan as problem
from compatlib.study.chapters.sfsc import plan as sfsc
from compatlib.study.lab.experiment import measure
from compatlib.study.lab.images import CLASS_INCREMENTAL
from compatlib.study.lab.make import make
from compatlib.study.lab.orders import order_of
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import H, Mixed, Of, of_role
from compatlib.study.lab.trainables import Base, Side, Transformation
from compatlib.study.lab.trainables.sides import COMPONENTS, OF_FEATURES, RAW
from compatlib.study.settings import settings
from tests.study.lab.pinned.drawn import FEATURE_SIZE, AllKnobs, drawn_data, on_features, run

TINY = run().knobs.model_dump()


@pytest.fixture(scope="module", autouse=True)
def drawn(tmp_path_factory):
    with drawn_data(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


def of(chapter, **changes):
    known = {name: TINY[name] for name in chapter.Knobs.model_fields if name in AllKnobs.model_fields}
    return run(**on_features() | {"knobs": chapter.Knobs(**known)} | changes)


@pytest.mark.parametrize(
    "chapter", [problem, bct, fct, dual_tuning, sfsc, cmp_nas], ids=lambda chapter: chapter.CHAPTER.name
)
def test_a_chapter_is_measured_whole_on_features(chapter):
    found = measure(chapter.CHAPTER, of(chapter))
    frame = found.rows.frame
    assert len(frame) > 60
    planned = {case.columns["method"] for case in chapter.cases(of(chapter), 0)}
    assert set(frame["method"]) == planned
    assert np.isfinite(frame["value"]).mean() > 0.9
    assert set(frame["profile"]) == {"drawn"}


def test_what_is_compared_beside_old_embeddings_is_of_features():
    sides = fct.sides(of(fct))
    assert {side.side for side in sides if side} == set(OF_FEATURES)
    assert Side(RAW, FEATURE_SIZE) in sides
    assert {side.dim for side in sides if side and side.side == COMPONENTS} == {2, 4, 8}


@pytest.mark.parametrize("kind", OF_FEATURES)
def test_side_information_of_features_has_its_size(kind):
    own = of(fct)
    side = Side(kind, FEATURE_SIZE if kind == RAW else 5)
    seed = Seed(own, 0)
    vectors = seed.vectors(Of(side), CLASS_INCREMENTAL)
    assert vectors.shape[1] == side.dim
    assert np.isfinite(vectors).all()
    again = make(own, side, 0)
    assert not again[1]
    np.testing.assert_array_equal(Seed(own, 0).vectors(Of(side), CLASS_INCREMENTAL), vectors)


def test_a_kind_that_is_not_of_the_runs_data_is_refused():
    with pytest.raises(ValueError, match="'autoencoder' is no side-information of a run of cifar100_lite; choose one"):
        Side("autoencoder", 5).build(of(fct), 0)
    with pytest.raises(ValueError, match="'raw features' is no side-information of a run of drawn; choose one of"):
        Side(RAW, FEATURE_SIZE).build(run(), 0)
    with pytest.raises(ValueError, match=f"the raw features have {FEATURE_SIZE} numbers, not 7"):
        Side(RAW, 7).build(of(fct), 0)


def test_the_rival_is_a_head_on_the_old_encoder_that_meets_the_new_model():
    own = of(fct)
    rivals = {case.gallery.what for case in fct.rival_cases() if case.columns["method"] == fct.RIVAL}
    (rival,) = rivals
    assert rival.encoder(own) == "lite0"
    assert rival.old == Base("new")
    assert set(rival.images(own).sets) == {"lite0", "lite2"}
    assert rival.images(own).labels.unique().tolist() == Base("new").images(own).labels.unique().tolist()


def test_what_must_be_kept_of_an_item_stands_beside_every_row_that_needs_it():
    found = measure(fct.CHAPTER, of(fct)).rows
    dim, raw = of(fct).network.dim, 2 * FEATURE_SIZE
    plain = {"split": CLASS_INCREMENTAL, "distance": "cosine", "query_model": "new", "metric": "kept_bytes"}

    def kept(method, gallery="h(old)", **cell):
        return found.of(**plain, method=method, gallery_model=gallery, **{"variant": "", "x_name": ""} | cell)[
            "value"
        ].item()

    assert kept(fct.WITHOUT) == 4 * dim
    assert kept(fct.WITH) == 8 * dim
    assert kept(fct.WITH, variant=fct.IN_HALVES) == 4 * dim
    assert kept(fct.WITH, variant=RAW, x_name=fct.SIZE) == 4 * dim + raw
    assert kept(fct.WITH, variant=COMPONENTS, x_name=fct.SIZE, x=4.0) == 4 * dim + 4 * 4
    assert kept(fct.RIVAL, "old again") == raw
    with pytest.raises(ValueError, match="Mixed is not made item by item"):
        Mixed(H(Transformation()), of_role("new"), "random").kept_bytes(Seed(of(fct), 0), CLASS_INCREMENTAL)


@pytest.mark.parametrize(
    ("chapter", "headline", "draws"),
    [
        (bct, {"independent", "BCT A"}, True),
        (fct, {"independent", "BCT A", fct.WITHOUT, fct.WITH}, True),
        (dual_tuning, {"independent", "L2", "BCT A", "Dual-Tuning"}, True),
        (sfsc, {"BCT-S", "SFSC"}, False),  # every sub-model knows all classes
    ],
    ids=lambda value: getattr(getattr(value, "CHAPTER", None), "name", ""),
)
def test_seeds_that_are_not_swept_have_the_headline_alone(chapter, headline, draws):
    own = settings({"profile": "heads"}, chapter.Knobs)
    assert set(own.sweep_seeds) < set(own.seeds)
    for seed in own.seeds:
        columns = [case.columns for case in chapter.cases(own, seed)]
        methods = {each["method"] for each in columns}
        variants = {each.get("variant", "") for each in columns}
        is_swept = seed in own.sweep_seeds
        assert methods > headline | {"chance"} if is_swept else methods == headline | {"chance"}
        drawn_anew = {each.rpartition(";")[2] for each in variants}
        assert ({f"draw={draw}" for draw in (1, 2, 3, 4)} <= drawn_anew) == (draws and is_swept)


def test_a_gallery_may_be_embedded_again_in_another_transformations_order():
    seed = Seed(of(fct), 0)
    plain, stating = H(Transformation()), H(Transformation(objective="fastfill"))
    own, borrowed = (Mixed(old, of_role("new"), "uncertainty", by) for old, by in ((stating, None), (plain, stating)))
    np.testing.assert_array_equal(order_of(seed, own, CLASS_INCREMENTAL), order_of(seed, borrowed, CLASS_INCREMENTAL))
    assert set(borrowed.trainables) >= {plain.transformation, stating.transformation}


def test_every_balance_is_another_transformation():
    side = fct.own_side(of(fct))
    found = {
        case.gallery.old.transformation
        for case in fct.balance_cases(side)
        if isinstance(case.gallery, Mixed) and case.columns["method"] == "FastFill"
    }
    assert {(each.cross_entropy, each.coordinates) for each in found} == set(fct.BALANCES)
    with pytest.raises(ValueError, match="is FastFill's; choose objective 'fastfill', or leave it away"):
        Transformation(cross_entropy=0.1)
