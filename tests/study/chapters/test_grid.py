"""The grid over the recipe: one choice changed at a time, in everything that a case stands on."""

import pytest

from compatlib.study.chapters.grid.recipe import CHAPTER, CHOICES, cases
from compatlib.study.lab import sidecars
from compatlib.study.lab.make import with_ancestors
from compatlib.study.settings import changed, settings, value_of


@pytest.fixture(scope="module")
def run():
    return settings({"profile": "study"}, CHAPTER.knobs)


def test_every_choice_is_another_training_and_asks_the_same(run):
    found = {words: [case for case in cases(run, 0) if case.columns["variant"] == words] for words in CHOICES}
    asked = {words: [(dict(case.columns) | {"variant": ""}, case.ask) for case in own] for words, own in found.items()}
    assert all(own == asked["as published"] for own in asked.values())
    assert {case.columns["method"] for case in found["as published"]} == {"BCT A", "SFSC"}
    made = [[sidecars.made_from(run, case) for case in own] for own in found.values()]
    assert all(len(set(across)) == len(CHOICES) for across in zip(*made, strict=True))


def test_a_choice_reaches_every_model_of_its_cases_and_changes_nothing_else(run):
    for case in cases(run, 0):
        own = case.run(run)
        for what in with_ancestors(case.trainables):
            training, usual = what.settings(own)["training"], what.settings(run)["training"]
            differing = {f"training.{name}": value for name, value in training.items() if value != usual[name]}
            assert differing == case.changes


def test_a_runs_own_choice_is_not_trained_twice(run):
    for words, changes in CHOICES.items():
        other = changed(run, changes)
        variants = {case.columns["variant"] for case in cases(other, 0)}
        assert variants == set(CHOICES) - ({words} if changes else set())
        assert all(value_of(other, name) == value for name, value in changes.items())
