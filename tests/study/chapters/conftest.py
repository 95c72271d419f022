"""What the tests of several chapters need alike."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from compatlib.data import sources
from compatlib.evaluation.retrieval import evaluate
from compatlib.methods import bct, bct_baselines, cmp_nas, dual_tuning, fct, independent, sfsc, side_information
from compatlib.study.lab import images
from compatlib.study.lab.class_scores import cell_name
from compatlib.study.lab.figures import style
from compatlib.study.lab.measures.backfilling import SHARE
from compatlib.study.lab.measures.cost import TIMINGS
from compatlib.study.lab.rows import CELL, CLASS_CELL, Rows
from compatlib.study.lab.seed import Seed
from compatlib.study.lab.spaces import Space
from compatlib.study.settings import Settings

SCORES = ("cmc@1", "cmc@5", "map")
BY_CLASS = (*SCORES, "negative_flips", *(f"{words} {name}" for words in ("auc", "change of") for name in SCORES))


@contextmanager
def _without_test_images(run: Settings) -> Iterator[None]:
    """No test image can be read here, neither from what was read before; that this is so is tried on the run."""
    load = sources.load

    def no_test_split(dataset, split, **options):
        assert split == "train", "the tuning reads test images"
        return load(dataset, split, **options)

    for kept in (images.images, images._open_set, images._search_images):
        kept.cache_clear()
    with pytest.MonkeyPatch.context() as poison:
        poison.setattr(sources, "load", no_test_split)
        with pytest.raises(AssertionError, match="the tuning reads test images"):
            images.images_to_test(run)
        yield


@pytest.fixture(scope="session")
def without_test_images() -> Callable[[Settings], AbstractContextManager[None]]:
    """A context, by the run, in which no test image can be read."""
    return _without_test_images


@pytest.fixture
def found_only(monkeypatch):
    """From here on every model is found: none can be trained."""
    for module in (bct, bct_baselines, cmp_nas, dual_tuning, fct, independent, sfsc, side_information):
        for name in [name for name in vars(module) if name == "fit" or name.startswith("fit_")]:
            monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a model is trained again"))


def _scored(seed: Seed, query: Space, gallery: Space, split: str, subset: str, metric: str, distance: str) -> float:
    vectors, labels = [seed.vectors(space, split) for space in (query, gallery)], seed.labels(split)
    test = evaluate(*vectors, labels, labels, exclude_self=True, distance=distance)
    test = test.subset({"all": labels >= 0, "known": labels < 5, "unknown": labels >= 5}[subset])
    return test.mean_average_precision if metric == "map" else test.cmc[int(metric[4:])]


@pytest.fixture(scope="session")
def scored() -> Callable[..., float]:
    """A score from a seed's vectors alone: `scored(seed, query, gallery, split, subset, metric, distance)`."""
    return _scored


def _require_sound(rows: Rows, chapter: str) -> None:
    assert rows.undescribed().empty
    assert not rows.frame.duplicated([*CELL, "seed"]).any()
    # What is right of the answers that new items give is undefined where they give none.
    assert rows.frame[~rows.frame["metric"].str.startswith("right if")]["value"].notna().all()
    assert set(rows.frame["chapter"]) == {chapter}
    _require_class_scores(rows)


def _require_class_scores(rows: Rows) -> None:
    """Class scores give back the value of every cell that has them, and of its subsets."""
    for row in rows.frame.to_dict("records"):
        group = f"{row['profile']}/{row['dataset']}/{row['seed']}"
        scores = rows.by_class[group].get(cell_name({**row, "subset": "all"}, CLASS_CELL))
        assert (scores is not None) == (
            row["metric"] in BY_CLASS and row["method"] != "chance" and row["x_name"] != SHARE
        )
        if scores is not None:
            known = rows.sidecar[group]["known_classes"]
            classes = {"all": slice(0, None), "known": slice(0, known), "unknown": slice(known, None)}[row["subset"]]
            mean = scores.sums[classes].sum() / scores.counts[classes].sum()
            assert mean == pytest.approx(row["value"])


@pytest.fixture(scope="session")
def require_sound() -> Callable[[Rows, str], None]:
    """Rows that are all described, one value a cell and seed, none undefined, each that of its class scores."""
    return _require_sound


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[~frame["metric"].isin(TIMINGS)]
    return frame.sort_values([*CELL, "seed"]).reset_index(drop=True)


@pytest.fixture(scope="session")
def comparable() -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Rows in a fixed order, without those of wall clock."""
    return _comparable


@pytest.fixture(autouse=True)
def _whatever_is_drawn_is_kept(monkeypatch) -> Iterator[None]:
    """A number that a chapter's figure marks stands in the rows that it tells of, each in a place of its own."""
    drawn, finished = [], style.finished
    monkeypatch.setattr(style, "finished", lambda figure, **look: drawn.append(figure) or finished(figure, **look))
    yield
    for figure in drawn:
        frame = figure.frame
        values = [name for name in frame if re.fullmatch(r"mean|low|high|value|seed \d+", name)]
        assert not frame.drop(columns=values).duplicated().any()
        kept = frame.select_dtypes("number").to_numpy().ravel() if len(frame) else np.array([])
        for axis in figure.axes:
            for place in _marked(axis):
                assert np.isclose(kept[:, None], place, atol=1e-9).any(), f"{place} is drawn and not kept"


def _marked(axis: Axes) -> Iterator[np.ndarray]:
    """Places of all marks in a panel, of points and of lines with markers."""
    for points in axis.collections:
        if isinstance(points, PathCollection):
            yield from points.get_offsets()
    for line in axis.lines:
        if line.get_marker() not in ("None", "", "_", "|"):
            yield from line.get_xydata()
