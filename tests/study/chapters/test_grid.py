"""The grid over the recipe: one choice changed at a time, in everything that a case stands on."""

import numpy as np
import pytest

from compatlib.evaluation.statistics import paired
from compatlib.study.chapters.grid import conditions
from compatlib.study.chapters.grid.figures import effects_by_condition
from compatlib.study.chapters.grid.recipe import CHAPTER, CHOICES, cases, switchable_table, upgrade_table
from compatlib.study.chapters.grid.tables import room_table
from compatlib.study.chapters.sfsc.plan import FULL_GALLERY, MEAN
from compatlib.study.lab import sidecars
from compatlib.study.lab.make import with_ancestors
from compatlib.study.lab.measures import row_space_energy, training_accuracy
from compatlib.study.lab.rows import Rows, table
from compatlib.study.lab.trainables.widths import SWITCHABLE, TRIED
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


# Conditions.


@pytest.fixture(scope="module", params=["study", "heads"])
def conditioned(request):
    return settings({"profile": request.param}, conditions.CHAPTER.knobs)


def test_every_axis_compares_two_methods_that_differ_in_one_part(conditioned):
    parts = SWITCHABLE | TRIED
    places = {}
    for each in conditions.cases(conditioned, 0):
        columns = each.columns
        place = columns["variant"], columns.get("x")
        places.setdefault(place, {}).setdefault(columns["method"], each.run(conditioned))
    assert len(places) == 8 + 8 + 3 + 1
    for (variant, _), runs in places.items():
        first, second = (parts[method] for method in runs)
        assert sum(a != b for a, b in zip(first, second, strict=True)) == 1, variant
        assert len(set(runs.values())) == 1  # both under the same values


def test_an_axis_changes_its_own_values_alone(conditioned):
    allowed = {
        "room": {"network.head", "network.dim"},
        "divergence": {"knobs.logit_scale", "knobs.kl_weight"},
        "fit": {"train_per_class", "training.epochs"},
        "conflicts": set(),
    }
    found = {}
    for each in conditions.cases(conditioned, 0):
        axis = each.columns["variant"].split(";")[0].removeprefix("axis=")
        found.setdefault(axis, set()).update(each.changes)
    assert found == allowed


def test_fewer_images_are_seen_as_often_in_all(conditioned):
    steps = set()
    for each in conditions.cases(conditioned, 0):
        if each.columns["variant"] == "axis=fit":
            own = each.run(conditioned)
            steps.add(own.train_per_class * own.training.epochs)
            assert each.columns["x"] == own.train_per_class
    assert max(steps) <= 1.01 * min(steps)


def test_explanations_are_asked_of_every_width(conditioned):
    widths = {f"{width:g}" for width in conditioned.knobs.widths}
    asked = {}
    for each in conditions.cases(conditioned, 0):
        if row_space_energy in each.ask:
            assert training_accuracy in each.ask
            place = each.columns["variant"], each.columns.get("x"), each.columns["method"]
            asked.setdefault(place, set()).add(each.columns["query_model"])
    assert len(asked) == 2 * 20
    assert all(each == widths for each in asked.values())


def conditions_rows(metric: str = "map") -> Rows:
    """Of every cell of the grid, drawn scores and training accuracies of three seeds."""
    run, generator, records = settings({"profile": "study"}, conditions.CHAPTER.knobs), np.random.default_rng(0), []
    for each in conditions.cases(run, 0):
        explained = ["training_accuracy", "row_space_energy"] if training_accuracy in each.ask else []
        for asked in [metric] if each.columns.get("query_model") == MEAN else explained:
            for seed in range(3):
                values = {"metric": asked, "subset": "all", "seed": seed, "value": generator.random()}
                records.append(
                    {"profile": "study", "dataset": "cifar100", "chapter": "conditions", **each.columns} | values
                )
    return Rows(table(records), {})


def test_conditions_are_drawn_as_differences_of_two_methods():
    rows = conditions_rows()
    axes = effects_by_condition(rows).axes
    frame = rows.frame[rows.frame["gallery_model"] == FULL_GALLERY]

    def mean(method, variant, x=None):
        own = frame[(frame["method"] == method) & (frame["variant"] == variant)]
        return 100 * own[own["x"] == x if x else own["x"].isna()]["value"].mean()

    def drawn(axis):
        return {each.get_label(): each.lines[0] for each in axis.containers}

    def expected(variant, xs, plain):
        return [mean(conditions.UNCERTAIN, variant, x) - plain(variant, x) for x in xs]

    room, divergence, fit, conflicts = axes
    assert list(drawn(room)) == ["non-negative head", "signed head"]
    for head, line in zip(("relu_pool", "linear_bn"), drawn(room).values(), strict=True):
        xs = [float(dim) for dim in conditions.DIMS]
        assert list(line.get_xdata()) == xs
        values = expected(f"axis=room;head={head}", xs, lambda variant, x: mean("BCT-S", variant, x))
        assert line.get_ydata() == pytest.approx(values)
    for scale, line in zip((1, 4), drawn(divergence).values(), strict=True):
        plain = mean("BCT-S", "axis=fit", 500.0)  # in which the divergence has no part
        values = expected(f"axis=divergence;logit scale={scale}", conditions.DIVERGENCES, lambda *_, p=plain: p)
        assert line.get_ydata() == pytest.approx(values)
    (line,) = drawn(fit).values()
    xs = [float(number) for number in conditions.IMAGES_A_CLASS]
    assert line.get_ydata() == pytest.approx(expected("axis=fit", xs, lambda variant, x: mean("BCT-S", variant, x)))
    fits = rows.of(metric="training_accuracy", method="BCT-S", variant="axis=fit", query_model="0.25")
    assert line.get_xdata() == pytest.approx(100 * fits.groupby("x")["value"].mean().loc[xs].to_numpy())
    assert [each.get_text() for each in fit.texts] == ["60", "150", "500"]
    plain, projected = (mean(method, "axis=conflicts") for method in conditions.CONFLICTING)
    (points,) = (each.lines[0] for each in conflicts.containers)
    assert points.get_ydata()[0] == pytest.approx(projected - plain)
    assert len(points.get_ydata()) == 2  # on the full model's gallery, and on their own


def test_an_axis_without_rows_has_an_empty_panel():
    rows = conditions_rows()
    frame = rows.frame[rows.frame["variant"] == "axis=conflicts"]
    axes = effects_by_condition(Rows(frame, {})).axes
    assert [len(axis.containers) for axis in axes] == [0, 0, 0, 1]


def test_the_conditions_intervals_are_students_over_the_seeds():
    rows = conditions_rows()
    (container,) = effects_by_condition(rows).axes[2].containers
    ends = container.lines[2][0].get_segments()
    place = {"variant": "axis=fit", "gallery_model": FULL_GALLERY, "x": 500.0, "metric": "map"}
    one, other = (rows.by_seed(method=method, **place) for method in (conditions.UNCERTAIN, "BCT-S"))
    link = paired(one, other)
    assert ends[-1][:, 1] == pytest.approx([100 * link.low, 100 * link.high])


def test_the_room_of_a_width_stands_beside_the_effect():
    rows = conditions_rows()
    found = room_table(rows)
    assert len(found) == 8
    line = found[(found["head"] == "signed head") & (found["size of the embedding"] == "64")].iloc[0]
    place = {"variant": "axis=room;head=linear_bn", "x": 64.0}
    share = rows.by_seed(**place, method="BCT-S", query_model="0.25", metric="row_space_energy")
    assert line["plain, width 0.25: in the rows' span (%)"].startswith(f"{100 * share.mean():.1f}")
    means = {"query_model": MEAN, "gallery_model": FULL_GALLERY, "metric": "map"}
    effect = rows.by_seed(**place, **means, method=conditions.UNCERTAIN) - rows.by_seed(
        **place, **means, method="BCT-S"
    )
    assert line["evidential − plain, full gallery, mAP (points)"].startswith(f"{100 * effect.mean():+.1f}")
    assert line["n"] == 3
