"""What rows were made from: a case ages by what it stands on, and by nothing else; to know it no data is read."""

import dataclasses
import json
import re

import pandas as pd
import pytest
import torch

from compatlib.data import sources
from compatlib.study.lab import row_files, rows, sidecars
from compatlib.study.lab.artifacts import Artifact
from compatlib.study.lab.behaviours import BEHAVIOURS
from compatlib.study.lab.cases import Case, case, under
from compatlib.study.lab.experiment import Chapter
from compatlib.study.lab.images import CLASS_INCREMENTAL, data_digests, known_classes
from compatlib.study.lab.make import behaviours_of, with_ancestors
from compatlib.study.lab.measures import chance, collapse, scores
from compatlib.study.lab.provenance import versions
from compatlib.study.lab.rows import Rows, table
from compatlib.study.lab.sidecars import current, described, description, identity, made_from, published
from compatlib.study.lab.spaces import Labels, Of
from compatlib.study.lab.trainables import Base, Upgrade
from compatlib.study.lab.trainables.base import differing
from compatlib.study.publishing.chapters import CHAPTERS
from compatlib.study.settings import Knobs, Settings, changed, settings

PLACE = {"split": CLASS_INCREMENTAL, "distance": "cosine"}


@pytest.fixture
def no_data(monkeypatch):
    """Whoever reads data fails."""

    def refuse(*_, **__):
        raise AssertionError("data is read")

    monkeypatch.setattr(sources, "load", refuse)


@pytest.fixture
def numbered(monkeypatch):
    """Gives a behaviour its next number."""

    def bump(name: str) -> None:
        monkeypatch.setitem(BEHAVIOURS, name, dataclasses.replace(BEHAVIOURS[name], number=BEHAVIOURS[name].number + 1))

    return bump


def of(what, old=None, **columns) -> Case:
    return case(Of(what), Of(old or what), scores, **PLACE, **columns)


# What a case was made from.


def test_what_decides_the_rows_of_a_case_changes_what_they_were_made_from(tiny):
    run, new = tiny(), Upgrade("BCT A")
    own = of(new, Base("old"))
    others = [
        made_from(run.model_copy(update={"classes": 9}), own),
        made_from(run.model_copy(update={"test_per_class": 3}), own),
        made_from(run.model_copy(update={"train_per_class": 7}), own),
        made_from(run.model_copy(update={"validation": True}), own),
        made_from(changed(run, {"training.epochs": 9}), own),
        made_from(changed(run, {"network.dim": 12}), own),
        made_from(run, of(Upgrade("BCT A", weight=3.0), Base("old"))),
        made_from(run, of(Upgrade("BCT C"), Base("old"))),
        made_from(run, of(new, Base("twin"))),
        made_from(run, case(Of(new), Of(Base("old")), scores, collapse, **PLACE)),
        # A generation before the last, which the case does not meet.
        *(made_from(run, of(Upgrade("BCT A", Upgrade("BCT A", Base("twin"), "old", w)))) for w in (None, 3.0)),
        made_from(run, next(under([own], {"training.epochs": 1}))),
    ]
    found = [made_from(run, own), *others]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in found)


def test_what_does_not_decide_them_leaves_it(tiny):
    run, own = tiny(), of(Upgrade("BCT A"), Base("old"))
    others = [
        made_from(run.model_copy(update={"seeds": (4, 5), "sweep_seeds": (9,)}), own),
        made_from(run.model_copy(update={"profile": "laptop"}), own),
        made_from(changed(run, {"small_network.dim": 3}), own),
        made_from(run, next(under([own], {"training.epochs": run.training.epochs}))),
        made_from(run, of(Upgrade("BCT A"), Base("old"), method="BCT A", variant="v")),  # which names the case
    ]
    assert set(others) == {made_from(run, own)}


def test_a_cases_name_is_its_columns_and_what_is_asked():
    columns = {"method": "a", "x_name": "weight", "x": 0.5}
    names = [identity(of(Base("old"), **columns)), identity(of(Base("old"), **columns | {"x": 0.25}))]
    names += [identity(case(Of(Base("old")), Of(Base("old")), scores, collapse, **PLACE, **columns))]
    assert len(set(names)) == 3
    assert identity(of(Base("new"), **dict(reversed(columns.items())))) == names[0]
    assert json.loads(names[0]) == [columns | PLACE, ["scores"]]


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)
@pytest.mark.parametrize("profile", ["smoke", "laptop", "study", "heads"])
def test_the_cases_of_a_chapter_are_told_apart(no_data, chapter, profile):
    """Else one would be aged by the other."""
    run = chapter.prepared(settings({"profile": profile}, chapter.knobs))
    names = [identity(each) for each in chapter.cases(run, run.seeds[0])]
    assert len(set(names)) == len(names) > 1


def content(run: Settings, what) -> list:
    """What decides a model, but for seed and data."""
    return [[each.kind, differing(each.settings(run)), behaviours_of(run, each)] for each in with_ancestors([what])]


@pytest.mark.parametrize("profile", ["smoke", "study", "heads"])
def test_over_all_chapters_a_name_stands_for_one_content(no_data, profile):
    """Whichever chapter asks, of those that publish models."""
    found = {}
    for chapter in CHAPTERS.values():
        run = settings({"profile": profile}, chapter.knobs)
        for each in chapter.cases(run, run.seeds[0]) if chapter.is_published else []:
            for what in with_ancestors(each.trainables):
                assert found.setdefault(what.name, content(run, what)) == content(run, what)
    assert len(found) > 40


# Ageing, of the chapters' own cases.


def ages(chapter: Chapter, run: Settings) -> dict[str, tuple[Case, str]]:
    return {identity(each): (each, made_from(run, each)) for each in chapter.cases(run, run.seeds[0])}


def columns_of(cases: list[Case], name: str) -> set[str]:
    return {each.columns.get(name, "") for each in cases}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", ["problem", "bct", "fct", "dual_tuning", "sfsc"])
def test_a_case_ages_exactly_with_the_behaviours_that_it_stands_on(no_data, numbered, name, behaviour):
    chapter = CHAPTERS[name]
    run = settings({"profile": "laptop"}, chapter.knobs)
    before = ages(chapter, run)
    numbered(behaviour)
    aged = {case for case, (_, made) in ages(chapter, run).items() if made != before[case][1]}
    assert aged == {case for case, (own, _) in before.items() if behaviour in own.behaviours(run)}


def aged_by(behaviour: str, name: str, numbered) -> tuple[list[Case], list[Case]]:
    """The cases of a chapter that a number ages, and those that it does not."""
    chapter = CHAPTERS[name]
    run = settings({"profile": "laptop"}, chapter.knobs)
    before = ages(chapter, run)
    numbered(behaviour)
    after = ages(chapter, run)
    parts = [], []
    for each, (own, made) in before.items():
        parts[made == after[each][1]].append(own)
    return parts


def asked(cases: list[Case]) -> set[str]:
    return {each.function.__name__ for case in cases for each in case.ask}


def test_the_index_is_asked_for_by_fcts_cost_alone(no_data, numbered):
    aged, _ = aged_by("search", "fct", numbered)
    assert len(aged) == 1
    assert "index" in asked(aged)
    assert not any(aged_by("search", other, numbered)[0] for other in ("problem", "bct", "sfsc"))


def test_projection_ages_the_projected_methods_alone(no_data, numbered):
    aged, others = aged_by("pcgrad", "sfsc", numbered)
    assert {"CE + projection", "SFSC"} <= columns_of(aged, "method")
    assert all("projection" in method or "SFSC" in method for method in columns_of(aged, "method"))
    assert {"BCT-S", "BCT-S + uncertainty", "joint", "independent", "chance"} <= columns_of(others, "method")
    assert not columns_of(aged, "method") & columns_of(others, "method")


def test_retrieval_ages_all_scores_and_leaves_what_is_counted_otherwise(no_data, numbered):
    for name in ("problem", "bct", "fct", "sfsc"):
        aged, others = aged_by("retrieval", name, numbered)
        assert "scores" in asked(aged)
        assert not asked(others) & {"scores", "rank_1", "mean_scores", "flips", "threshold", "curve", "popularity"}
        assert "chance" in asked(others)


# Descriptions.


def artifact(name: str, seconds: float, device: str) -> Artifact:
    about = {"name": name, "cost": {"seconds": seconds}, "device": device, "torch": "2.0", "history": [1, 2]}
    return Artifact(name[0] * 64, {"weight": torch.ones(2)}, about)


def test_a_description_tells_what_rows_were_made_from_and_the_circumstances(tiny):
    run = tiny()
    cases = [of(Upgrade("BCT A"), Base("old"), method="BCT A"), case(Labels(), Labels(), chance, **PLACE)]
    records = [
        [{**PLACE, "method": "BCT A", "metric": metric, "subset": "all"} for metric in ("map", "cmc@1")],
        [{**PLACE, "metric": "map", "subset": subset} for subset in ("all", "known")],
    ]
    artifacts = {
        "old": (Base("old"), artifact("old", 1.26, "x86_64")),
        "new": (Base("new"), artifact("new", 20.0, "arm")),
        "c": (Base("twin"), artifact("c", 3, "arm")),
    }
    about = description(run, 3, cases, records, artifacts, 12.345)
    assert json.loads(json.dumps(about)) == about
    assert about["settings"] == run.model_dump(mode="json", exclude={"seeds", "sweep_seeds"})
    assert about["data"] == data_digests(run)
    assert about["known_classes"] == known_classes(run)
    assert about["behaviours"] == cases[0].behaviours(run) | cases[1].behaviours(run)
    assert about["cases"] == [described(run, each, own) for each, own in zip(cases, records, strict=True)]
    assert about["artifacts"] == {"old": "o" * 64, "new": "n" * 64, "c": "c" * 64}
    assert about["training_seconds"] == {"old": 1.3, "new": 20.0, "c": 3}
    assert about["trained_on"] == ["arm, torch 2.0", "x86_64, torch 2.0"]
    assert about["seconds"] == 12.3
    assert about["threads"] == torch.get_num_threads()
    assert about["versions"] == versions()
    assert re.fullmatch(r"[0-9a-f]{12}|unknown", about["commit"])
    assert isinstance(about["dirty"], bool)


def test_a_described_case_picks_its_rows_by_the_columns_that_all_have_alike(tiny):
    run, own = tiny(), of(Base("old"), method="A", x_name="weight", x=0.5)
    columns = {"profile": "p", "dataset": "d", "chapter": "c", "seed": 1, "value": 0.5, **own.columns}
    records = [
        {**columns, "subset": "all", "metric": "map"},
        {**columns, "subset": "all", "metric": "cmc@1"},
        {**columns, "subset": "known", "metric": "cmc@1"},
    ]
    found = described(run, own, records)
    assert found["cells"] == {
        **PLACE,
        "method": "A",
        "x_name": "weight",
        "x": 0.5,
        **dict.fromkeys(("variant", "query_model", "gallery_model"), ""),
    }
    assert found["metrics"] == ["cmc@1", "map"]
    assert found["case"] == identity(own)
    assert found["made"] == made_from(run, own)
    assert found["behaviours"] == list(own.behaviours(run))


# What this version would make, against what is published.


def cases_of(run: Settings, seed: int):
    for method in ("A", "B"):
        yield of(Upgrade(f"BCT {method}"), Base("old"), method=f"BCT {method}")
    if seed in (0, 1):
        yield of(Base("twin"), method="twin")


CHAPTER = Chapter("dummy", Knobs, cases_of)


def published_rows(seeds=(0, 1, 2), profile: str = "smoke", dataset: str = "digits", **others: str) -> Rows:
    """Rows as this version would make them; `seed_1="x"`: but in seed 1 all were made from x."""
    run, frames, sidecar = settings({"profile": profile, "dataset": dataset}), [], {}
    for seed in seeds:
        place, own = {"profile": profile, "dataset": dataset, "chapter": "dummy", "seed": seed}, []
        for each in cases_of(run, seed):
            records = [{**place, **each.columns, "subset": "all", "metric": "map", "value": seed / 10}]
            own.append(
                described(run, each, records) | ({"made": others[f"seed_{seed}"]} if f"seed_{seed}" in others else {})
            )
            frames += records
        about = {name: number for each in cases_of(run, seed) for name, number in each.behaviours(run).items()}
        sidecar[f"{profile}/{dataset}/{seed}"] = {"cases": own, "behaviours": about}
    return Rows(table(frames), sidecar)


@pytest.fixture
def read(monkeypatch):
    """Has these rows published."""

    def publish(measured: Rows) -> None:
        monkeypatch.setattr(sidecars, "read", lambda chapter: measured)

    return publish


def test_what_this_version_would_make_is_known_without_data(no_data):
    measured = published_rows()
    found = current(CHAPTER, measured, "smoke", "digits")
    run = settings({"profile": "smoke", "dataset": "digits"})
    assert found == {identity(each): made_from(run, each) for each in cases_of(run, 0)}
    # Of the seeds that are published: the last has no twin.
    assert len(current(CHAPTER, published_rows((2,)), "smoke", "digits")) == 2
    assert current(CHAPTER, measured, "study", "digits") == {}
    assert current(CHAPTER, Rows(table([]), {}), "smoke", "digits") == {}


def test_a_run_is_prepared_as_the_chapter_does(no_data):
    prepared = dataclasses.replace(CHAPTER, prepared=lambda run: run.model_copy(update={"validation": True}))
    own, other = (current(each, published_rows(), "smoke", "digits") for each in (CHAPTER, prepared))
    assert own.keys() == other.keys()
    assert not set(own.values()) & set(other.values())


def test_published_rows_are_marked_and_versions_never_pooled(no_data, numbered, read):
    read(published_rows())
    found = published(CHAPTER, "smoke", "digits")
    assert found.frame[rows.IS_CURRENT].all()
    assert found.by_seed(method="BCT B").to_dict() == {0: 0.0, 1: 0.1, 2: 0.2}
    numbered("synthesis")
    found = published(CHAPTER, "smoke", "digits").frame
    assert found.groupby("method")[rows.IS_CURRENT].all().to_dict() == {"BCT A": True, "BCT B": False, "twin": True}
    assert len(found) == 8  # shown, and marked


def test_seeds_of_an_earlier_version_leave_those_of_this_one(no_data, read):
    read(published_rows(seed_0="earlier", seed_1="earlier"))
    found = published(CHAPTER, "smoke", "digits")
    assert found.by_seed(method="BCT A").to_dict() == {2: 0.2}
    twin = found.of(method="twin")
    assert list(twin["seed"]) == [0, 1]
    assert not twin[rows.IS_CURRENT].any()
    assert found.of(method="BCT A")[rows.IS_CURRENT].all()


def test_only_the_rows_of_the_run_are_asked_for(no_data, read):
    own, other = published_rows(), published_rows((7,), dataset="glyphs")
    read(Rows(pd.concat([own.frame, other.frame], ignore_index=True), own.sidecar | other.sidecar))
    assert set(published(CHAPTER, "smoke", "glyphs").frame["seed"]) == {7}
    assert published(CHAPTER, "study", "glyphs").frame.empty


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_studys_published_rows_are_of_cases_that_are_still_asked_for(no_data, name):
    """By this version or an earlier one: what no case asks for would be shown as of an earlier version for good."""
    chapter, measured = CHAPTERS[name], row_files.read(name)
    for place in {group.rpartition("/")[0] for group in measured.sidecar}:
        profile, dataset = place.split("/")
        now = current(chapter, measured.run(profile, dataset), profile, dataset)
        described_cases = [each for about in measured.run(profile, dataset).sidecar.values() for each in about["cases"]]
        assert {each["case"] for each in described_cases} <= set(now)
        shown = published(chapter, profile, dataset)
        assert len(shown.frame) > 0
        assert shown.undescribed().empty
