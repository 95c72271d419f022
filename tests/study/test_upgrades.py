"""Upgrades: one description a model, its name and key, what a successor starts from, and what it is trained against."""

import copy
import itertools
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from compatlib.checkpoints import read_tensors
from compatlib.embedding import embed
from compatlib.methods import bct, bct_baselines, independent
from compatlib.models.classifiers import CosineClassifier
from compatlib.study import artifacts, models, upgrades
from compatlib.study.chapters import bct as chapter
from compatlib.study.chapters import bct_tuning
from compatlib.study.settings import Settings, settings
from compatlib.study.upgrades import METHODS, Upgrade, canonical, depth, extended, model_of, name_of
from compatlib.study.weights import WEIGHTS
from compatlib.training import Cost, Fit

CLASSES, PER_CLASS = 6, 10
AGAINST_OLD = tuple(WEIGHTS)
QUARTER = Upgrade("BCT C", "old_quarter", "old")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "kept"))
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "published")


@pytest.fixture
def run() -> Settings:
    """Six classes of ten digits, two epochs of seven steps."""
    smoke = settings({"profile": "smoke", "dataset": "digits"})
    sizes = {"classes": CLASSES, "train_per_class": PER_CLASS, "test_per_class": 4}
    training = smoke.training.model_copy(update={"epochs": 2, "batch_size": 8})
    return smoke.model_copy(update=sizes | {"training": training})


@pytest.fixture
def untrained(monkeypatch) -> list[dict]:
    """No training takes place; what it would have been called with is collected."""
    calls = []

    def fit(backbone, classifier, images, recipe, *, method, **options):
        start = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
        classifier = classifier.weight.detach().clone()
        calls.append(
            options | {"fit": method, "backbone": start, "classifier": classifier, "images": images, "recipe": recipe}
        )
        return Fit([], Cost(0.0, 0.0, "cpu", 1))

    for module in (independent, bct, bct_baselines):
        monkeypatch.setattr(module, "fit", partial(fit, method=module.__name__.rpartition(".")[2]))
    return calls


def key(run: Settings, source, seed: int = 0) -> str:
    return model_of(run, source, seed)[0].key


def state(model: models.Model) -> dict[str, torch.Tensor]:
    parts = {"backbone": model.backbone, "classifier": model.classifier}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


# Descriptions.


@pytest.mark.parametrize(
    ("source", "shortest"),
    [
        ("old", "old"),
        (Upgrade("independent"), "new"),
        (Upgrade("independent", "old_open", "new_open", 3.0), "new_open"),
        (Upgrade("independent", Upgrade("BCT C")), "new"),
        (Upgrade("BCT C"), Upgrade("BCT C")),
        (Upgrade("BCT C", weight=WEIGHTS["BCT C"]), Upgrade("BCT C")),
        (Upgrade("BCT C", weight=0.0), Upgrade("BCT C", weight=0.0)),
        (Upgrade("L2", weight=17.0), Upgrade("L2", weight=17.0)),
        (Upgrade("triplet, raw", weight=1.0), Upgrade("triplet, raw")),
        (Upgrade("BCT A", Upgrade("independent", "old_quarter", "old")), Upgrade("BCT A", "old")),
        (
            Upgrade("BCT B", Upgrade("BCT C", Upgrade("independent", "x", "old_quarter"), "old", WEIGHTS["BCT C"])),
            Upgrade("BCT B", QUARTER),
        ),
    ],
)
def test_canonical_is_the_shortest_description(source, shortest):
    assert canonical(source) == shortest
    assert canonical(canonical(source)) == shortest
    assert hash(canonical(source)) == hash(shortest)


def test_canonical_keeps_apart_what_differs():
    sources = ["old", "new", Upgrade("BCT B"), Upgrade("BCT C"), QUARTER, Upgrade("BCT C", QUARTER)]
    sources += [Upgrade("BCT C", "old_small"), Upgrade("BCT C", new="new_deep"), Upgrade("BCT C", weight=0.5)]
    assert len(set(map(canonical, sources))) == len(sources)


def test_canonical_follows_the_weights_that_the_study_has_chosen(monkeypatch):
    monkeypatch.setitem(WEIGHTS, "BCT C", 3.0)
    assert canonical(Upgrade("BCT C", weight=3.0)) == Upgrade("BCT C")
    assert canonical(Upgrade("BCT C", weight=1.0)) == Upgrade("BCT C", weight=1.0)
    assert Upgrade("BCT C").chosen_weight == 3.0
    assert Upgrade("BCT C", weight=1.0).chosen_weight == 1.0


@pytest.mark.parametrize(
    ("source", "trainings"),
    [
        ("new", 0),
        (Upgrade("independent", QUARTER), 0),
        (Upgrade("BCT C"), 1),
        (Upgrade("BCT C", Upgrade("independent", "old_quarter", "old")), 1),
        (Upgrade("BCT C", QUARTER), 2),
        (Upgrade("L2", Upgrade("BCT C", QUARTER), "twin"), 3),
    ],
)
def test_depth_counts_the_trainings_that_come_before(source, trainings):
    assert depth(source) == trainings


def test_an_unknown_method_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown method 'BCT D'; choose one of \('independent', 'L2', 'CE \+ dist"):
        Upgrade("BCT D")


def planned(run: Settings) -> list:
    """Everything that the chapter and its tuning train for the first seed of a profile."""
    seed = run.seeds[0]
    cases = [case.upgrade for case in chapter.plan(run, seed)] + chapter.chains(run, seed)
    candidates = [Upgrade(method, weight=weight) for method, own in bct_tuning.WEIGHTS.items() for weight in own]
    return [*chapter._with_ancestors(cases), *candidates]


@pytest.mark.parametrize("profile", ["smoke", "laptop", "study"])
def test_names_are_unique_over_the_whole_plan(profile):
    run = settings({"profile": profile}, chapter.Knobs)
    sources = set(map(canonical, planned(run)))
    names = set(map(name_of, sources))
    assert len(names) == len(sources)
    assert {"old", "new", "new, BCT C against old", "new, BCT C against old_samples"} <= names
    assert ("new, BCT A against (old, BCT A against old_quarter)" in names) == ("B3" in chapter.tables(run))
    assert ("new, BCT C against (old, BCT C against old_quarter)" in names) == (run.dataset == "cifar100")
    assert ("new, BCT C × 10 against old" in names) == ("B4" in chapter.tables(run))


def test_names_tell_of_roles_weights_and_chains():
    assert name_of(Upgrade("independent", weight=3.0)) == "new"
    assert name_of(Upgrade("BCT C", weight=0.1)) == "new, BCT C × 0.1 against old"
    assert name_of(Upgrade("BCT C", "old_small", "new_deep")) == "new_deep, BCT C against old_small"
    assert name_of(Upgrade("BCT C", QUARTER)) == "new, BCT C against (old, BCT C against old_quarter)"


def test_work_is_that_of_the_new_model_and_more_where_the_old_one_runs_too(run):
    assert upgrades.work(run, "old") == models.work(run, "old")
    for method in METHODS:
        runs_old = method not in ("independent", "BCT A", "BCT B", "BCT C")
        assert upgrades.work(run, Upgrade(method)) == models.work(run, "new") * (1.3 if runs_old else 1.0)


# Keys.


def test_keys_differ_by_method_weight_old_model_and_seed(run, untrained):
    sources = ["old", "new", *map(Upgrade, AGAINST_OLD), *(Upgrade(method, weight=0.25) for method in AGAINST_OLD)]
    sources += [Upgrade("BCT C", "old_samples"), Upgrade("BCT C", QUARTER), Upgrade("BCT C", Upgrade("BCT B"))]
    sources += [Upgrade("L2", "old_samples"), Upgrade("BCT C", new="twin"), Upgrade("BCT C", "twin", "new")]
    keys = [key(run, source) for source in sources] + [key(run, Upgrade("BCT C"), seed=1)]
    assert len(set(keys)) == len(keys)


def test_keys_are_equal_for_equal_descriptions_and_nothing_is_trained_again(run, untrained):
    first = key(run, Upgrade("BCT C", QUARTER))
    assert [call["role"] for call in untrained] == ["old_quarter", "old", "new"]
    nested = Upgrade("BCT C", Upgrade("independent", "twin", "old_quarter"), "old", WEIGHTS["BCT C"])
    again, trained_now = model_of(run, Upgrade("BCT C", nested, weight=WEIGHTS["BCT C"]), 0)
    assert (again.key, trained_now) == (first, False)
    assert key(run, Upgrade("independent", new="old_quarter")) == key(run, "old_quarter")
    assert len(untrained) == 3


def test_a_key_follows_its_old_model_through_a_chain(run, untrained, monkeypatch):
    """The same description, but another weight of the generation before."""
    sources = [Upgrade("BCT C", QUARTER), Upgrade("BCT C", Upgrade("BCT C", QUARTER), "twin")]
    before, weight = [key(run, source) for source in sources], WEIGHTS["BCT C"]
    monkeypatch.setitem(WEIGHTS, "BCT C", 2 * weight)
    explicit = Upgrade("BCT C", Upgrade("BCT C", "old_quarter", "old", weight), "new", weight)
    assert key(run, explicit) == before[0]
    assert not set(before) & {key(run, source) for source in sources}


def test_the_sizes_that_the_method_does_not_depend_on_leave_the_key(run, untrained):
    other = run.model_copy(update={"profile": "laptop", "seeds": (4,), "test_per_class": 2})
    assert key(other, Upgrade("BCT C")) == key(run, Upgrade("BCT C"))


# What a method is given.


@pytest.mark.parametrize("method", METHODS)
def test_a_successor_starts_as_its_base_model_does(run, untrained, method):
    """The same initial weights, streams, images and recipe: what differs is the method."""
    model_of(run, Upgrade(method), 3)
    model_of(run, "new", 3)
    base, successor = (next(c for c in calls if c["role"] == "new") for calls in (untrained[::-1], untrained))
    assert base["fit"] == "independent"
    assert same(successor["backbone"], base["backbone"])
    assert torch.equal(successor["classifier"], base["classifier"])
    assert successor["images"].digest() == base["images"].digest() == models.training_images(run).digest()
    assert successor["augment"].keywords == base["augment"].keywords == models.augmentation(run)
    for name in ("seed", "role", "recipe", "label_smoothing"):
        assert successor[name] == base[name]


@pytest.mark.parametrize("method", ["BCT A", "BCT B", "BCT C"])
def test_without_weight_the_influence_loss_leaves_the_base_model_bit_for_bit(run, method):
    """So initial weights, order and augmentation are the base model's."""
    base, _ = model_of(run, "new", 0)
    successor, trained_now = model_of(run, Upgrade(method, weight=0.0), 0)
    assert trained_now
    assert successor.key != base.key
    assert same(state(successor), state(base))
    weighted, _ = model_of(run, Upgrade(method), 0)
    assert not same(state(weighted), state(base))


def mean_embeddings(old: models.Model, images) -> torch.Tensor:
    """(classes, d), by an explicit loop."""
    embeddings = embed(old.backbone, images)
    return torch.stack([embeddings[images.labels == label].mean(0) for label in range(int(images.labels.max()) + 1)])


def rows_given(run: Settings, method: str, calls: list[dict]) -> torch.Tensor:
    model_of(run, Upgrade(method), 0)
    assert calls[-1]["fit"] == "bct"
    return calls[-1]["old_classifier"].weight.detach()


def test_form_a_has_the_old_classifiers_own_rows_and_b_and_c_extend_it(run, untrained):
    old, _ = model_of(run, "old", 0)
    own, means = old.classifier.weight.detach(), mean_embeddings(old, models.training_images(run))
    assert len(own) == 3
    assert torch.equal(rows_given(run, "BCT A", untrained), own)
    plain, normalised = (rows_given(run, f"BCT {form}", untrained) for form in "BC")
    for rows in (plain, normalised):
        assert torch.equal(rows[:3], own)
        assert len(rows) == CLASSES
    torch.testing.assert_close(plain[3:], means[3:])
    scale = own.norm(dim=1).mean()
    torch.testing.assert_close(normalised[3:], F.normalize(means[3:]) * scale)
    torch.testing.assert_close(normalised[3:].norm(dim=1), scale.expand(3))


def test_where_no_class_is_missing_the_forms_are_one(run, untrained):
    rows = []
    for form in "ABC":
        model_of(run, Upgrade(f"BCT {form}", "old_samples"), 0)
        rows.append(untrained[-1]["old_classifier"].weight)
    assert len(rows[0]) == CLASSES
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("normalize", [False, True])
def test_an_extended_classifier_is_of_the_old_ones_type_and_leaves_it_alone(run, untrained, normalize):
    old, _ = model_of(run, "old", 0)
    old = models.Model(old.backbone, CosineClassifier(run.network.dim, 3, scale=5.0), old.artifact)
    before = old.classifier.weight.detach().clone()
    made = extended(old, models.training_images(run), normalize=normalize)
    assert type(made) is CosineClassifier
    assert made.scale == 5.0
    assert made(torch.randn(2, run.network.dim)).shape == (2, CLASSES)
    with torch.no_grad():
        made.weight.zero_()
    assert torch.equal(old.classifier.weight, before)


def alignments(old_weight: torch.Tensor):
    return {
        "L2": bct_baselines.squared_error,
        "CE + distance": bct_baselines.normalised_distance,
        "triplet": bct_baselines.hardest_triplet,
        "triplet, raw": partial(bct_baselines.hardest_triplet, normalize=False),
        "contrastive": bct_baselines.contrastive,
        "distillation": bct_baselines.Distillation(old_weight),
    }


@pytest.mark.parametrize("method", alignments(torch.zeros(1, 1)))
def test_a_baseline_is_drawn_to_the_old_models_embeddings(run, untrained, method):
    old, _ = model_of(run, "old", 0)
    model_of(run, Upgrade(method, weight=0.25), 0)
    call = untrained[-1]
    assert call["fit"] == "bct_baselines"
    assert same(dict(call["old_backbone"].state_dict()), dict(old.backbone.state_dict()))
    assert call["weight"] == 0.25
    assert call["classification"] == (method != "L2")
    generator = torch.Generator().manual_seed(0)
    new, before = torch.randn(2, 12, run.network.dim, generator=generator)
    labels = torch.arange(12) % 4
    expected = {name: loss(new, before, labels) for name, loss in alignments(old.classifier.weight).items()}
    assert torch.equal(call["alignment"](new, before, labels), expected[method])
    assert len({round(float(loss), 6) for loss in expected.values()}) == len(expected)


@pytest.mark.parametrize("method", WEIGHTS)
def test_a_method_has_the_weight_that_was_chosen_for_it_unless_told(run, untrained, monkeypatch, method):
    monkeypatch.setitem(WEIGHTS, method, 0.75)
    model_of(run, Upgrade(method), 0)
    model_of(run, Upgrade(method, weight=0.5), 0)
    assert [call["weight"] for call in untrained[1:]] == [0.75, 0.5]


# Training.


@pytest.fixture
def seen(monkeypatch) -> list[models.Model]:
    """The base models that are handed out, as objects."""
    handed, base_model = [], models.base_model

    def record(run, role, seed, **options):
        model, trained_now = base_model(run, role, seed, **options)
        handed.append(model)
        return model, trained_now

    monkeypatch.setattr(models, "base_model", record)
    return handed


@pytest.mark.parametrize("method", AGAINST_OLD)
def test_the_old_model_does_not_change(run, seen, method):
    """Neither its weights nor the running means of its BatchNorm, in memory and on disk."""
    old, _ = model_of(run, "old", 0)
    before = copy.deepcopy(state(old))
    assert any("running_mean" in name for name in before)
    (path,) = artifacts.folder().glob("*-old-0-*.safetensors")
    content = path.read_bytes()
    successor, trained_now = model_of(run, Upgrade(method), 0)
    assert trained_now
    used = seen[-1]
    assert used is not old
    assert used.key == old.key
    assert same(state(used), before)
    assert same(used.artifact.tensors, before)
    assert path.read_bytes() == content
    assert same(read_tensors(path)[0], before)
    assert not any(part.training for part in used.backbone.modules())
    assert not same(state(successor), before)


def test_a_chain_is_trained_against_its_predecessors_only(run, seen):
    shares = []
    chain = Upgrade("BCT C", QUARTER)
    last, trained_now = model_of(run, chain, 0, report=lambda share, text: shares.append(share))
    assert trained_now
    assert shares == pytest.approx([step / 14 for step in range(1, 15)])  # of the last training alone
    assert [model.artifact.about["settings"]["role"] for model in seen] == ["old_quarter"]
    middle, trained_now = model_of(run, QUARTER, 0)
    assert not trained_now
    names = sorted(path.name.rpartition("-")[0] for path in artifacts.folder().glob("*.safetensors"))
    assert names == ["digits-new-bct-c-0", "digits-old-bct-c-0", "digits-old_quarter-0"]
    assert [len(model.classifier.weight) for model in (seen[0], middle, last)] == [2, 3, CLASSES]
    again, trained_now = model_of(run, chain, 0)
    assert not trained_now
    assert same(state(again), state(last))
    assert len({model.key for model in (last, middle, seen[0])}) == 3
    kept = last.artifact.about["settings"]
    assert (kept["role"], kept["method"], kept["weight"]) == ("new", "BCT C", WEIGHTS["BCT C"])


def test_models_of_all_methods_differ(run):
    tensors = [state(model_of(run, Upgrade(method), 0)[0])["backbone.trunk.0.weight"] for method in METHODS]
    assert all(not torch.equal(first, second) for first, second in itertools.combinations(tensors, 2))
