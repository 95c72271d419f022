"""The grid over the recipe: one choice changed at a time, in everything that a case stands on."""

import numpy as np
import pytest

from compatlib.study.chapters.grid.recipe import CHAPTER, CHOICES, cases, switchable_table, upgrade_table
from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN
from compatlib.study.lab import sidecars
from compatlib.study.lab.make import with_ancestors
from compatlib.study.lab.rows import Rows, table
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


def test_tables_show_every_choice_and_the_criterions_difference(run):
    """Drawn scores for every cell that the plan has; the differences are computed here by hand."""
    generator, records = np.random.default_rng(0), []
    for each in cases(run, 0):
        for metric in ("cmc@1", "map"):
            values = {"metric": metric, "subset": "all", "seed": 0, "value": generator.random()}
            records.append({"profile": "study", "dataset": "cifar100", "chapter": "recipe", **each.columns} | values)
    measured = Rows(table(records), {})
    names = ("method", "variant", "query_model", "gallery_model", "metric")
    value = {tuple(row[name] for name in names): row["value"] for row in records}
    upgrade, switchable = upgrade_table(measured), switchable_table(measured)
    assert list(upgrade["recipe"]) == list(switchable["recipe"]) == list(CHOICES)
    for (_, line), words in zip(upgrade.iterrows(), CHOICES, strict=True):
        new, old = (value["BCT A", words, query, "old", "map"] for query in ("new", "old"))
        assert line["new / old, mAP (%)"] == f"{100 * new:.1f}"
        assert line["new / old − old / old, mAP (points)"] == f"{100 * (new - old):+.1f}"
    for (_, line), words in zip(switchable.iterrows(), CHOICES, strict=True):
        assert line["on full, rank 1 (%)"] == f"{100 * value['SFSC', words, MEAN, FULL_GALLERY, 'cmc@1']:.1f}"
