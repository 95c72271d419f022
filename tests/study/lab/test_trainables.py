"""Trainables: what each is called, made from and told, what it starts from, and what its training leaves alone."""

import copy
import itertools
import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compatlib.data.augment import crop_and_flip
from compatlib.embedding import embed
from compatlib.methods import bct, bct_baselines, cmp_nas, dual_tuning, fct, independent, sfsc, side_information
from compatlib.models.classifiers import CosineClassifier
from compatlib.models.slimmable import Slimmable
from compatlib.study.chapters.sfsc.plan import Knobs as WidthsOfSfsc
from compatlib.study.lab import make as making
from compatlib.study.lab.images import augmentation, images_to_test, training_images
from compatlib.study.lab.make import make, with_ancestors
from compatlib.study.lab.roles import ROLES, make_backbone, share_of
from compatlib.study.lab.trainables import (
    METHODS,
    Base,
    Narrow,
    Side,
    Trainable,
    Transformation,
    Upgrade,
    Widths,
    own_side,
    transformations,
    upgraded,
)
from compatlib.study.lab.trainables.base import DEFAULTS, differing
from compatlib.study.lab.trainables.sides import KINDS
from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.lab.trainables.upgrades import extended
from compatlib.study.lab.trainables.widths import APART, ONE_TO_ONE, PROJECTED_TRIPLET, SWITCHABLE, TRIED, WidthKnobs
from compatlib.study.settings import Settings, settings
from compatlib.training import Cost, Fit, initialised


def by(method: str, **options) -> Upgrade:
    """An upgrade by a method; those that need one shape of both classifiers replace a model of all classes."""
    return Upgrade(method, Base("twin" if METHODS[method].behaviours == ("cmp-nas",) else "old"), **options)


QUARTER = Upgrade("BCT C", Base("old_quarter"), "old")
CHAIN = Upgrade("BCT C", QUARTER)
SIDE = Side("SimCLR", 8)
WIDTHS = (0.25, 0.5, 1.0)
SUBMODELS = [Narrow(method, width) for method in APART for width in WIDTHS[:-1]] + list(map(Widths, Widths.valid))
EVERY: list[Trainable] = [
    *map(Base, ROLES),
    *map(by, METHODS),
    *(by(method, weight=0.25) for method in METHODS),
    *(Upgrade("Dual-Tuning", weight=0.25, terms={name: 0.0}) for name in METHODS["Dual-Tuning"].terms),
    *with_ancestors([CHAIN]),
    Upgrade("BCT A", Base("old_small"), "new_deep"),
    *(Side(kind, 5, old) for kind in KINDS for old in ("old", "old_samples")),
    *itertools.starmap(Transformation, itertools.product((None, SIDE), ("old", "old_samples"), ("new", "twin"))),
    *(Transformation(SIDE, **options) for options in ({"objective": "fastfill"}, {"source": "images"})),
    Transformation(Side("SimCLR", 8, "old_quarter")),
    *SUBMODELS,
    *(Narrow(what.method, 0.5, "open-set") for what in SUBMODELS if isinstance(what, Narrow)),
    *(Widths(method, "open-set") for method in Widths.valid),
]
EVERY = list(dict.fromkeys(EVERY))


class Knobs(TransformationKnobs, WidthsOfSfsc):
    """What all kinds of trainables ask for."""

    chapter = ""


@pytest.fixture(scope="module")
def run(tiny) -> Settings:
    run = tiny(Knobs)
    return run.model_copy(update={"knobs": run.knobs.model_copy(update={"widths": WIDTHS})})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Artifacts that the tests of this module share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture
def told(monkeypatch, folders) -> list[SimpleNamespace]:
    """No training takes place; what each would have been told is collected, the parts as they started."""
    calls = []

    def watch(module, name: str) -> None:
        def fit(*arguments, **options) -> Fit:
            known = copy.deepcopy({each: value for each, value in options.items() if each not in KEPT})
            same = {each: value for each, value in options.items() if each in KEPT}
            calls.append(SimpleNamespace(fit=f"{module.__name__.rpartition('.')[2]}.{name}", arguments=arguments))
            calls[-1].options = known | same
            return Fit([], Cost(0.0, 0.0, "cpu", 1))

        monkeypatch.setattr(module, name, fit)

    for module, names in FITS.items():
        for name in names:
            watch(module, name)
    return calls


FITS = {
    independent: ("fit",),
    bct: ("fit",),
    bct_baselines: ("fit",),
    dual_tuning: ("fit",),
    cmp_nas: ("fit_query", "fit_supernet"),
    sfsc: ("fit", "fit_joint"),
    side_information: ("fit_simclr", "fit_autoencoder"),
    fct: ("fit", "fit_fastfill", "fit_on_images"),
}
KEPT = ("images", "alignment", "augment", "on_step", "report")  # too large to copy, or functions


def told_of(calls: list[SimpleNamespace], run: Settings, what: Trainable, seed: int = 0) -> SimpleNamespace:
    """What the training of one is told."""
    make(run, what, seed)
    return calls[-1]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# What a key need not say.


def test_defaults_are_pinned():
    """A value here changes only together with a behaviour's number: else two results would stand under one key."""
    assert DEFAULTS == {
        "network": {
            "widths": [16, 32, 64],
            "blocks": 1,
            "stem_stride": 1,
            "dim": 128,
            "head": "relu_pool",
            "torchvision": None,
            "hidden": None,
        },
        "training": {
            "batch_size": 128,
            "optimizer": "sgd",
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "precision": "float32",
            "clip_norm": None,
            "label_smoothing": 0.0,
            "warmup_from_zero": True,
            "nesterov": True,
            "warmup_steps": 0,
            "milestones": [],
            "decay": 0.1,
            "logits": "autocast",
        },
        "augmentation": {"padding": 4, "flip": True},
        "classifier": "linear",
        "weights": None,
        "weight": 1.0,
        "classification": True,
        "normalize": True,
        "views": None,
        "precision": "float32",
        "cross_entropy": 1.0,
        "coordinates": "mean",
    }


def test_what_differs_from_its_default_is_said():
    defaults = {"a": 1, "group": {"b": 2, "c": [3]}, "other": {"d": None}}
    assert differing({"a": 1, "group": {"b": 2, "c": [3]}}, defaults) == {}
    assert differing({"a": 2, "group": {"b": 2, "c": [4]}, "other": {"d": 0}}, defaults) == {
        "a": 2,
        "group": {"c": [4]},
        "other": {"d": 0},
    }
    assert differing({"new": None, "group": {"new": {}}}, defaults) == {"new": None, "group": {"new": {}}}
    assert differing({"group": 5}, defaults) == {"group": 5}
    assert differing({"weight": 1.0, "classifier": "cosine"}) == {"classifier": "cosine"}


# Descriptions.


@pytest.mark.parametrize("what", EVERY, ids=lambda what: what.name)
def test_a_description_says_what_could_be_trained(run, what):
    chosen = what.settings(run)
    assert json.loads(json.dumps(chosen)) == chosen
    assert chosen["training"]["epochs"] >= 1
    assert chosen["augmentation"] == augmentation(run)
    assert what.work(run) > 0
    assert what.stage() == max((1 + parent.stage() for parent in what.parents), default=0)
    assert what.kind in ("model", "side", "transformation")
    assert what.is_published == (what.kind != "transformation")
    assert hash(copy.deepcopy(what)) == hash(what)
    assert what.images(run).digest()


def test_what_a_training_does_not_use_is_no_setting_of_it(run):
    halves = run.model_copy(update={"training": run.training.model_copy(update={"precision": "bfloat16"})})
    stored, anew = (Transformation(source=source).settings(halves) for source in ("views", "images"))
    assert (stored["views"], stored["precision"]) == (run.knobs.views, "bfloat16")
    assert (anew["views"], anew["precision"]) == (None, "float32")
    assert "temperature" not in Side("autoencoder", 8).settings(run)
    assert "kl_weight" not in Widths("BCT-S").settings(run)


def test_names_tell_everything_apart():
    assert len({what.name for what in EVERY}) == len(EVERY)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (Base("old_quarter"), "old_quarter"),
        (Upgrade("BCT C", weight=0.1), "new, BCT C × 0.1 against old"),
        (
            Upgrade("Dual-Tuning", weight=0.5, terms={"new_to_old": 0.0, "old_to_new": 0.1}),
            "new, Dual-Tuning × 0.5, old_to_new × 0.1, new_to_old × 0 against old",
        ),
        (Upgrade("BCT C", Base("old_small"), "new_deep"), "new_deep, BCT C against old_small"),
        (CHAIN, "new, BCT C against (old, BCT C against old_quarter)"),
        (SIDE, "SimCLR 8 beside old"),
        (Transformation(), "fct from old to new"),
        (Transformation(SIDE, objective="fastfill"), "fastfill from old and SimCLR 8 to new"),
        (Transformation(SIDE, source="images"), "fct from old and SimCLR 8 to new on images"),
        (
            Transformation(Side("SimCLR", 8, "old_quarter"), "old", "new"),
            "fct from old and SimCLR 8 beside old_quarter to new",
        ),
        (Narrow(ONE_TO_ONE, 0.25), "one-to-one BCT 0.25"),
        (Narrow("independent", 0.5, "open-set"), "independent 0.5, open-set"),
        (Widths("SFSC", "open-set"), "SFSC, open-set"),
    ],
)
def test_names_are_for_people(what, name):
    assert what.name == name


@pytest.mark.parametrize(
    ("what", "parents", "stage"),
    [
        (Base("old_shared"), [], 0),
        (Upgrade("BCT A"), ["old"], 1),
        (CHAIN, ["old, BCT C against old_quarter"], 2),
        (Upgrade("L2", CHAIN, "twin"), [CHAIN.name], 3),
        (SIDE, [], 0),
        (Transformation(), ["old", "new"], 1),
        (Transformation(SIDE, "old_samples", "twin"), ["old_samples", "twin", "SimCLR 8 beside old"], 1),
        (Narrow("independent", 0.5), [], 0),
        (Narrow(ONE_TO_ONE, 0.5, "open-set"), ["new_open"], 1),
        (Widths("joint"), [], 0),
        (Widths("SFSC"), [], 0),
    ],
)
def test_parents_are_what_it_is_made_from(what, parents, stage):
    assert [parent.name for parent in what.parents] == parents
    assert what.stage() == stage


@pytest.mark.parametrize(
    ("what", "shortest"),
    [
        (upgraded("independent"), Base("new")),
        (upgraded("independent", CHAIN, "new_open", 3.0), Base("new_open")),
        (upgraded("L2", weight=10.0), upgraded("L2")),
        (upgraded("BCT C", weight=1.0), Upgrade("BCT C")),
        (upgraded("triplet, raw", weight=1.0), Upgrade("triplet, raw", Base("old"), "new")),
        (upgraded("Dual-Tuning", weight=0.1, terms={"old_to_new": 0.2}), Upgrade("Dual-Tuning")),
        (
            upgraded("Dual-Tuning", terms={"new_to_old": 0.0, "old_to_new": 0.1}),
            Upgrade("Dual-Tuning", terms=(("old_to_new", 0.1), ("new_to_old", 0.0))),
        ),
        (upgraded("BCT C", upgraded("BCT C", Base("old_quarter"), "old", 1.0)), CHAIN),
    ],
)
def test_one_model_has_one_description(what, shortest):
    assert what == shortest
    assert what.name == shortest.name


@pytest.mark.parametrize("weight", [0.0, 17.0])
def test_another_weight_is_another_model(weight):
    assert upgraded("L2", weight=weight) != upgraded("L2")
    assert upgraded("L2", weight=weight).chosen_weight == weight


def test_the_studys_side_information_is_of_the_new_embeddings_size(run):
    assert own_side(run) == Side("SimCLR", run.network.dim, "old")
    assert own_side(run, "old_quarter") == Side("SimCLR", run.network.dim, "old_quarter")


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (partial(Upgrade, "BCT E"), r"unknown method 'BCT E'; choose one of \('independent', 'L2', 'CE \+ dist"),
        (partial(upgraded, "bct a"), "unknown method 'bct a'; choose one of"),
        (
            partial(upgraded, "Dual-Tuning", terms={"old": 1.0}),
            r"unknown terms \['old'\] of Dual-Tuning; it has \('old_to_new', 'new_to_old'\)",
        ),
        (
            partial(Upgrade, "mutual", terms={"old_to_new": 0.1}),
            r"unknown terms \['old_to_new'\] of mutual; it has one weight alone",
        ),
        (partial(Base, "older"), r"unknown role 'older'; choose one of \('old', "),
        (partial(Side, "simclr", 8), "unknown side-information 'simclr'; choose one of"),
        (partial(Side, "SimCLR", 8, "older"), "unknown role 'older'"),
        (partial(Transformation, objective="fastfil"), "objective is 'fastfil' and source 'views'; valid are"),
        (partial(Transformation, source="image"), "source 'image'; valid are"),
        (partial(Transformation, objective="fastfill", source="images"), "FastFill is fitted on stored views only"),
        (partial(Transformation, old="older"), "unknown role 'older'"),
        (partial(Transformation, new="newer"), "unknown role 'newer'"),
        (partial(Upgrade, "BCT A", new="newer"), "unknown role 'newer'"),
        (partial(Widths, "SFSC 2"), "unknown method 'SFSC 2'; choose one of"),
        (partial(Widths, "SFSC", "open"), r"unknown split 'open'; choose one of \('closed', 'open-set'\)"),
        (partial(Widths, "independent"), r"unknown method 'independent'; choose one of \('joint', "),
        (partial(Narrow, "SFSC", 0.5), r"unknown method 'SFSC'; choose one of \('independent', 'one-to-one BCT'\)"),
        (partial(Narrow, "independent", 1.0), r"a width in \(0, 1\), got 1.0; the full one is the base model"),
        (partial(Narrow, "independent", 0.0), r"a width in \(0, 1\), got 0.0"),
    ],
)
def test_what_there_is_not_is_refused(make_it, words):
    with pytest.raises(ValueError, match=words):
        make_it()


@pytest.mark.parametrize(
    ("knobs", "knob", "value", "words"),
    [
        (WidthKnobs, "widths", (0.5,), "widths must be two or more ascending shares"),
        (WidthKnobs, "widths", (1.0, 0.5), "widths must be two or more ascending shares"),
        (WidthKnobs, "widths", (0.25, 0.5), "the last of them 1"),
        (WidthKnobs, "rate_triplet", 0.0, "rate_triplet"),
        (WidthKnobs, "logit_scale", -1.0, "logit_scale"),
        (TransformationKnobs, "views", 0, "views"),
        (TransformationKnobs, "temperature", 0.0, "temperature"),
    ],
)
def test_a_value_out_of_range_is_refused(knobs, knob, value, words):
    with pytest.raises(ValueError, match=words):
        settings({"profile": "smoke", knob: value}, knobs)


def test_recipes_of_a_profile_are_changed_value_by_value():
    class Fct(TransformationKnobs):
        chapter = "fct"

    own = settings({"profile": "study"}, Fct).knobs
    given = settings({"profile": "study", "transformation": {"epochs": 7}}, Fct).knobs
    assert given.transformation == own.transformation.model_copy(update={"epochs": 7}) != own.transformation
    assert given.side == own.side
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, but no label is used here"):
        settings({"side": {"label_smoothing": 0.1}}, Fct)


# Work.


def test_work_counts_images_epochs_and_the_size_of_the_network(run):
    images = len(training_images(run))
    assert Base("new").work(run) == 2 * images
    assert Base("old").work(run) == Base("old_samples").work(run) == images
    assert Base("small").work(run) < Base("new").work(run) < Base("new_deep").work(run)
    longer = run.model_copy(update={"training": run.training.model_copy(update={"epochs": 6})})
    assert Base("new").work(longer) == 6 * images


def test_work_is_more_where_more_is_embedded(run):
    for method in METHODS:
        runs_old = not method.startswith(("BCT", "prototypes", "initialised", "gallery"))
        assert by(method).work(run) == pytest.approx(Base("new").work(run) * (1.3 if runs_old else 1.0))
    assert SIDE.work(run) == 2 * Side("autoencoder", 8).work(run)
    recipe = run.knobs.transformation.model_copy(update={"epochs": 40})
    longer = run.model_copy(update={"knobs": run.knobs.model_copy(update={"transformation": recipe})})
    assert Transformation(source="images").work(longer) > Transformation().work(longer)
    narrow = [Narrow("independent", width).work(run) for width in (0.25, 0.5, 0.75)]
    assert narrow == sorted(narrow)
    assert narrow[-1] < Base("new").work(run) < Widths("SFSC").work(run)


# What an upgrade's training is told.


@pytest.mark.parametrize("method", METHODS)
def test_a_successor_starts_as_its_base_model_does(run, told, method):
    """The same initial weights, streams, images and recipe: what differs is the method."""
    base, successor = (told_of(told, run, what, 3).options for what in (Base("new"), by(method)))
    for part in ("backbone", "classifier"):
        assert same(state(successor[part]), state(base[part]))
    assert successor["images"] is base["images"] is training_images(run)
    assert successor["augment"].func is base["augment"].func is crop_and_flip
    assert successor["augment"].keywords == base["augment"].keywords == augmentation(run)
    assert (base["seed"], base["role"], base["recipe"]) == (3, "new", run.training.recipe())
    for name in ("seed", "role", "recipe", "label_smoothing"):
        assert successor[name] == base[name]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_the_weight_that_was_chosen_for_it_unless_told(run, told, method):
    name = "new_to_old" if method == "mutual" else "weight"
    assert told_of(told, run, by(method)).options[name] == METHODS[method].weight
    assert told_of(told, run, by(method, weight=0.5)).options[name] == 0.5


@pytest.mark.parametrize(
    ("what", "weights", "kind"),
    [
        (Upgrade("Dual-Tuning"), (0.1, 0.2, 0.2), "softmax"),
        (Upgrade("Dual-Tuning", weight=0.3, terms={"old_to_new": 0.0}), (0.3, 0.0, 0.2), "softmax"),
        (Upgrade("Dual-Tuning", weight=0.0, terms={"new_to_old": 0.7}), (0.0, 0.2, 0.7), "softmax"),
        (Upgrade("Dual-Tuning, distance", terms={"old_to_new": 0.5}), (0.1, 0.5, 0.2), "distance"),
        (Upgrade("prototypes"), (0.1, 0.0, 0.0), "softmax"),
        (Upgrade("prototypes, distance", weight=0.4), (0.4, 0.0, 0.0), "distance"),
        (Upgrade("mutual"), (0.0, 0.2, 0.2), None),
        (Upgrade("mutual", weight=0.4), (0.0, 0.4, 0.4), None),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_dual_tuning_and_each_half_of_it_have_the_weights_of_their_terms(run, told, what, weights, kind):
    old, _ = make(run, Base("old"), 0)
    call = told_of(told, run, what)
    assert call.fit == "dual_tuning.fit"
    assert tuple(call.options[name] for name in ("weight", "old_to_new", "new_to_old")) == weights
    assert call.options.get("kind") == kind
    for part in ("backbone", "classifier"):
        assert same(state(call.options[f"old_{part}"]), state(old.parts[part]))


def rows_given(calls: list[SimpleNamespace], run: Settings, what: Trainable) -> torch.Tensor:
    call = told_of(calls, run, what)
    assert call.fit == "bct.fit"
    return call.options["old_classifier"].weight.detach()


def test_form_a_has_the_old_classifiers_own_rows_and_b_and_c_extend_it(run, told):
    old, _ = make(run, Base("old"), 0)
    own, images = old.parts["classifier"].weight.detach(), training_images(run)
    assert torch.equal(rows_given(told, run, Upgrade("BCT A")), own)
    plain, normalised = (rows_given(told, run, Upgrade(f"BCT {form}")) for form in "BC")
    embeddings = embed(old.backbone(), images)
    means = torch.stack([embeddings[images.labels == label].mean(0) for label in range(10)])
    for rows in (plain, normalised):
        assert torch.equal(rows[:5], own)
        assert len(rows) == 10
    torch.testing.assert_close(plain[5:], means[5:])
    torch.testing.assert_close(normalised[5:], F.normalize(means[5:]) * own.norm(dim=1).mean())


def test_where_no_class_is_missing_the_forms_are_one(run, told):
    rows = [rows_given(told, run, Upgrade(f"BCT {form}", Base("old_samples"))) for form in "ABC"]
    assert len(rows[0]) == 10
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("form", ["B", "C", "D"])
def test_an_extended_classifier_is_of_the_old_ones_type_and_leaves_it_alone(run, told, form):
    old, _ = make(run, Base("old"), 0)
    old.parts["classifier"] = CosineClassifier(run.network.dim, 3, scale=5.0)
    before = old.parts["classifier"].weight.detach().clone()
    found = extended(old, training_images(run), form)
    assert type(found) is CosineClassifier
    assert found.scale == 5.0
    assert found(torch.randn(2, run.network.dim)).shape == (2, 10)
    with torch.no_grad():
        found.weight.zero_()
    assert torch.equal(old.parts["classifier"].weight, before)


def alignments(old_weight: torch.Tensor):
    return {
        "L2": bct_baselines.squared_error,
        "CE + distance": bct_baselines.normalised_distance,
        "triplet": bct_baselines.hardest_triplet,
        "triplet, raw": partial(bct_baselines.hardest_triplet, normalize=False),
        "two-way triplet": bct_baselines.two_way_triplet,
        "contrastive": bct_baselines.contrastive,
        "distillation": bct_baselines.Distillation(old_weight),
    }


@pytest.mark.parametrize("method", alignments(torch.zeros(1, 1)))
def test_a_baseline_is_drawn_to_the_old_models_embeddings(run, told, method):
    old, _ = make(run, Base("old"), 0)
    call = told_of(told, run, Upgrade(method, weight=0.25))
    assert call.fit == "bct_baselines.fit"
    assert same(state(call.options["old_backbone"]), state(old.backbone()))
    assert call.options["classification"] == (method != "L2")
    new, before = torch.randn(2, 12, run.network.dim, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 4
    losses = alignments(old.parts["classifier"].weight)
    expected = {name: loss(new, before, labels) for name, loss in losses.items()}
    assert torch.equal(call.options["alignment"](new, before, labels), expected[method])
    assert len({round(float(loss), 6) for loss in expected.values()}) == len(expected)


# What the trainings of several widths are told.


@pytest.mark.parametrize("what", SUBMODELS, ids=lambda what: what.name)
def test_widths_start_from_the_base_models_weights_unless_they_are_trained_apart(run, told, what):
    """A narrow network starts as that part of the full one, in the role's stream; but not an independent one.

    Nor does its classifier: of heads on one encoder that begin with the same rows one query in nine meets the other's
    gallery at rank 1.
    """
    options = told_of(told, run, what, 5).options
    stream = f"new width {what.width:g}" if getattr(what, "method", "") == "independent" else "new"
    assert (options["seed"], options["role"]) == (5, stream)
    assert options["images"] is training_images(run)
    full = Slimmable(initialised(partial(make_backbone, run.network, options["images"]), 5, "new"), WIDTHS)
    started = options.get("network") or options.get("backbone") or options["backbones"]
    if isinstance(what, Narrow):
        full = full.extract(what.width)
    elif "backbones" in options:
        full = nn.ModuleList([full.extract(width) for width in WIDTHS])
    pairs = zip(started.state_dict().values(), full.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs) == (stream == "new")
    same = torch.equal(options["classifier"].weight, told_of(told, run, Base("new"), 5).options["classifier"].weight)
    assert same == (stream == "new")


@pytest.mark.parametrize("method", Widths.valid)
def test_a_training_of_all_widths_is_what_its_name_says(run, told, method):
    knobs = {"rate_cross_entropy": 0.11, "rate_evidential": 0.12, "rate_triplet": 0.13, "rate_joint": 0.14}
    knobs |= {"logit_scale": 4.0, "kl_weight": 0.01, "clip_norm": 7.0}
    call = told_of(told, run.model_copy(update={"knobs": run.knobs.model_copy(update=knobs)}), Widths(method))
    rates = {"joint": 0.14, "Asymmetric-S": 0.13, PROJECTED_TRIPLET: 0.13}
    rate = rates.get(method, 0.12 if "SFSC" in method or "uncertainty" in method else 0.11)
    assert call.options["recipe"] == run.training.model_copy(update={"learning_rate": rate, "clip_norm": 7.0}).recipe()
    assert call.fit == ("sfsc.fit_joint" if method == "joint" else "sfsc.fit")
    if method != "joint":
        assert (call.options["loss"], call.options["projection"]) == (SWITCHABLE | TRIED)[method]
        evidential = {name: call.options[name] for name in ("logit_scale", "kl_weight") if name in call.options}
        assert evidential == ({"logit_scale": 4.0, "kl_weight": 0.01} if rate == 0.12 else {})


def test_clip_norm_0_is_none(run, told):
    unclipped = run.model_copy(update={"knobs": run.knobs.model_copy(update={"clip_norm": 0.0})})
    assert told_of(told, unclipped, Widths("SFSC")).options["recipe"].clip_norm is None


def test_one_to_one_bct_is_held_against_the_full_models_classifier(run, told):
    full, _ = make(run, Base("new"), 0)
    call = told_of(told, run, Narrow(ONE_TO_ONE, 0.5))
    assert call.fit == "bct.fit"
    assert same(state(call.options["old_classifier"]), state(full.parts["classifier"]))


@pytest.mark.parametrize("what", SUBMODELS, ids=lambda what: what.name)
def test_every_width_stands_alone(run, told, what):
    """A plain network of fewer channels: it holds nothing of the others."""
    found, _ = make(run, what, 0)
    test = images_to_test(run)
    for width in WIDTHS if isinstance(what, Widths) else (1.0,):
        backbone = found.backbone(width)
        assert not backbone.training
        assert not any(isinstance(part, Slimmable) for part in backbone.modules())
        assert embed(backbone, test).shape == (len(test), run.network.dim)
    sizes = [sum(p.numel() for p in found.backbone(width).parameters()) for width in WIDTHS]
    assert isinstance(what, Narrow) or sizes == sorted(set(sizes))


# What side-information and transformations are told.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old", ["old", "old_quarter"])
def test_side_information_is_trained_on_the_old_images(run, told, kind, old):
    call = told_of(told, run, Side(kind, 5, old))
    assert call.options["images"] is share_of(old, run)
    assert call.options["role"] == f"side {kind}"
    assert call.options["recipe"] == (run.training if kind == "supervised" else run.knobs.side).recipe()
    found, _ = make(run, Side(kind, 5, old), 0)
    test = images_to_test(run)
    assert embed(found.backbone(), test).shape == (len(test), 5)


def test_a_second_supervised_model_is_not_the_old_one(run):
    second = state(Side("supervised", run.network.dim).build(run, 0))
    old = state(Base("old").build(run, 0)["backbone"])
    assert second.keys() == old.keys()
    weights = [name for name in old if name.endswith("weight") and old[name].ndim > 1]
    assert weights
    assert not any((second[name] == old[name]).any() for name in weights)


def test_both_objectives_start_from_the_same_transformation(run):
    plain, fastfill = (Transformation(SIDE, objective=each).build(run, 0) for each in ("fct", "fastfill"))
    assert same(state(plain), state(fastfill.transformation))


@pytest.mark.usefixtures("kept")
def test_stored_views_are_of_the_same_augmented_images_whoever_asks(run, monkeypatch):
    given = []
    monkeypatch.setattr(fct, "fit", lambda parts, views, **_: given.append(views) or Fit([], Cost(0, 0, "cpu", 1)))
    transformations._kept.clear()
    for side in (None, SIDE):
        make(run, Transformation(side), 11)
    first, second = given
    assert first.old is second.old
    assert first.new is second.new
    assert first.side is first.old
    models = [make(run, what, 11)[0].backbone() for what in (Base("old"), SIDE, Base("new"))]
    crop = partial(crop_and_flip, **augmentation(run))
    together = fct.store_views(*models, training_images(run), seed=11, views=run.knobs.views, augment=crop)
    for name in ("old", "side", "new", "labels"):
        assert torch.equal(getattr(second, name), getattr(together, name))


@pytest.mark.usefixtures("kept")
def test_no_more_views_are_kept_than_a_chapter_needs_and_other_values_are_other_views(run, monkeypatch):
    given = []
    monkeypatch.setattr(fct, "fit", lambda parts, views, **_: given.append(views) or Fit([], Cost(0, 0, "cpu", 1)))
    transformations._kept.clear()
    for views in (1, 2, 3):
        other = run.model_copy(update={"knobs": run.knobs.model_copy(update={"views": views})})
        make(other, Transformation(), 12)
    assert [len(each.old) for each in given] == [1, 2, 3]
    assert len(transformations._kept) == transformations.KEPT
    make(run, Transformation(None, "old_quarter", "old"), 12)
    assert given[-1].old.shape[1] == len(share_of("old", run)) < len(training_images(run))


# What a training leaves alone.


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("method", ["BCT A", "BCT B", "BCT C"])
def test_without_weight_the_influence_loss_leaves_the_base_model_bit_for_bit(run, method):
    """So initial weights, order and augmentation are the base model's."""
    base, successor, weighted = (
        make(run, what, 0)[0] for what in (Base("new"), Upgrade(method, weight=0.0), Upgrade(method))
    )
    assert successor.key != base.key
    assert same(state(successor.parts), state(base.parts))
    assert not same(state(weighted.parts), state(base.parts))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "what",
    [
        *map(by, METHODS),
        Narrow(ONE_TO_ONE, 0.5),
        Transformation(SIDE),
        Transformation(SIDE, objective="fastfill"),
        Transformation(SIDE, source="images"),
    ],
    ids=lambda what: what.name,
)
def test_what_it_is_made_from_does_not_move(run, what, monkeypatch):
    """Compared are the very modules that the training is given, BatchNorm's statistics included."""
    seen, seed = [], 7

    def watched(run, parent, seed, **options):
        found = make(run, parent, seed, **options)
        seen.append((found[0].parts, copy.deepcopy(found[0].parts.state_dict())))
        return found

    for parent in what.parents:
        make(run, parent, seed)
    transformations._kept.clear()
    monkeypatch.setattr(making, "make", watched)
    found, is_new = make(run, what, seed)
    assert is_new
    assert len(seen) == len(what.parents) > 0
    for parts, before in seen:
        assert same(parts.state_dict(), before)
        assert not any(part.training for part in parts.modules())
    assert not same(state(found.parts), state(what.build(run, seed)))
