"""Make: what a key holds and what it does not, and that each model is trained once, its parents before it."""

import copy
import itertools
import json
import re
from types import ModuleType

import pytest
import torch
from pydantic import create_model

from compatlib.checkpoints import load_weights, read_tensors
from compatlib.embedding import embed
from compatlib.methods import bct, bct_baselines, dual_tuning, fct, independent, sfsc, side_information
from compatlib.study.chapters.sfsc.plan import Knobs as WidthsOfSfsc
from compatlib.study.lab import artifacts, make
from compatlib.study.lab.artifacts import PUBLISHED_MODELS, key_of
from compatlib.study.lab.experiment import tasks as tasks_of_cases
from compatlib.study.lab.images import images_to_test
from compatlib.study.lab.make import behaviours_of, key, key_content, tasks, with_ancestors
from compatlib.study.lab.trainables import METHODS, Base, Narrow, Side, Trainable, Transformation, Upgrade, Widths, base
from compatlib.study.lab.trainables.base import differing
from compatlib.study.lab.trainables.transformations import TransformationKnobs
from compatlib.study.lab.trainables.widths import PROJECTED_TRIPLET
from compatlib.study.publishing.chapters import CHAPTERS
from compatlib.study.settings import Network, Settings, Training, settings

PUBLISHED = sorted(PUBLISHED_MODELS.glob("*.safetensors"))


class Knobs(TransformationKnobs, WidthsOfSfsc):
    """What all kinds of trainables ask for."""

    chapter = ""


CHAIN = Upgrade("BCT C", Upgrade("BCT A", Base("old_quarter"), "old"))
SIDE = Side("SimCLR", 8)
WHATS = [
    *map(Base, ("old", "new", "old_shared", "old_samples", "new_open", "new_cosine")),
    *map(Upgrade, METHODS),
    Upgrade("BCT A", weight=0.5),
    Upgrade("Dual-Tuning", weight=0.5),
    *(Upgrade("Dual-Tuning", terms={name: 0.0}) for name in METHODS["Dual-Tuning"].terms),
    Upgrade("BCT A", Base("twin")),
    Upgrade("BCT A", new="twin"),
    *with_ancestors([CHAIN]),
    *(Side(kind, 8) for kind in ("SimCLR", "autoencoder", "supervised")),
    Side("SimCLR", 4),
    Side("SimCLR", 8, "old_samples"),
    Transformation(),
    Transformation(SIDE),
    Transformation(objective="fastfill"),
    Transformation(source="images"),
    Transformation(old="old_samples"),
    Transformation(new="twin"),
    *(Narrow(method, width) for method in ("independent", "one-to-one BCT") for width in (0.25, 0.5)),
    *map(Widths, Widths.valid),
    Widths("SFSC", "open-set"),
    Narrow("independent", 0.5, "open-set"),
]
WHATS = list(dict.fromkeys(WHATS))


@pytest.fixture(scope="module")
def run(tiny) -> Settings:
    return tiny(Knobs)


def changed(run: Settings, **changes) -> Settings:
    return run.model_copy(update=changes)


def all_keys(run: Settings, seed: int = 0) -> dict[str, str]:
    return {what.name: key(run, what, seed) for what in WHATS}


# What a key holds.


def test_names_and_keys_tell_everything_apart(run):
    keys = [*all_keys(run).values(), *all_keys(run, 1).values()]
    assert len(set(keys)) == len(keys) == 2 * len(WHATS)
    assert len({what.name for what in WHATS}) == len(WHATS)


@pytest.mark.parametrize("what", WHATS, ids=lambda what: what.name)
def test_a_key_is_made_of_settings_data_parents_and_behaviours(run, what):
    content = key_content(run, what, 3)
    assert content == {
        "kind": what.kind,
        "seed": 3,
        "settings": differing(what.settings(run)),
        "data": what.images(run).digest(),
        "parents": [key(run, parent, 3) for parent in what.parents],
        "behaviours": behaviours_of(run, what),
    }
    assert json.loads(json.dumps(content)) == content
    assert key(run, what, 3) == key_of(content)


def test_what_a_model_depends_on_changes_its_key(run):
    before = all_keys(run)
    short = run.training.model_copy(update={"epochs": 1})
    for name, after in {
        "images": all_keys(changed(run, train_per_class=6)),
        "network": all_keys(changed(run, network=run.network.model_copy(update={"widths": (8, 24)}))),
        "seed": all_keys(run, 1),
    }.items():
        assert not set(before.values()) & set(after.values()), name
    moved = {name for name, found in all_keys(changed(run, training=short)).items() if found != before[name]}
    assert moved == {what.name for what in WHATS if what.kind != "side" or what.side == "supervised"}


def test_what_a_model_does_not_depend_on_leaves_its_key(run):
    before = all_keys(run)
    others = [
        changed(run, profile="laptop"),
        changed(run, seeds=(0, 7), sweep_seeds=(9,)),
        changed(run, small_network=Network(widths=(2,))),
        changed(run, knobs=run.knobs.model_copy(update={"distance": "euclidean", "tables": "S1"})),
    ]
    assert all(all_keys(other) == before for other in others)
    # Of test images an open-set split trains on those of its training classes.
    fewer = all_keys(changed(run, test_per_class=2))
    open_set = {"new_open", "SFSC, open-set", "independent 0.5, open-set"}
    assert {name for name in before if fewer[name] != before[name]} == open_set


def knob_users() -> dict[str, set[str]]:
    """Who uses a knob, by name."""
    evidential = {name for name in Widths.valid if "SFSC" in name or "uncertainty" in name}
    crossed = {"BCT-S", "CE + projection", "CE + projection, tensor by tensor"}
    fitted = {what.name for what in WHATS if isinstance(what, Transformation)}
    with_simclr = {what.name for what in WHATS if "SimCLR" in what.name}
    sides = with_simclr | {"autoencoder 8 beside old"}
    users = {
        "rate_cross_entropy": crossed,
        "rate_evidential": evidential,
        "rate_triplet": {"Asymmetric-S", PROJECTED_TRIPLET},
        "rate_joint": {"joint"},
        "logit_scale": evidential,
        "kl_weight": evidential,
        "clip_norm": set(Widths.valid),
        "hidden_dim": fitted,
        "views": fitted - {"fct from old to new on images"},
        "transformation": fitted,
        "side": sides,
        "temperature": with_simclr,
        "projection_dim": with_simclr,
    }
    # What is fitted is of the open set too.
    return {knob: own | ({"SFSC, open-set"} if "SFSC" in own else set()) for knob, own in users.items()}


@pytest.mark.parametrize("knob", knob_users())
def test_each_knob_decides_the_keys_of_those_that_use_it(run, knob):
    value = getattr(run.knobs, knob)
    other = value.model_copy(update={"epochs": 9}) if isinstance(value, Training) else value + 3
    after = all_keys(changed(run, knobs=run.knobs.model_copy(update={knob: other})))
    before = all_keys(run)
    assert {name for name in before if after[name] != before[name]} == knob_users()[knob]


def test_the_widths_decide_the_keys_of_what_trains_them_at_once(run):
    before, after = all_keys(run), all_keys(changed(run, knobs=run.knobs.model_copy(update={"widths": (0.5, 1.0)})))
    assert {name for name in before if after[name] != before[name]} == {*Widths.valid, "SFSC, open-set"}


def test_names_are_no_part_of_a_key(run, monkeypatch):
    before = key(run, Upgrade("BCT A"), 0)
    monkeypatch.setitem(METHODS, "influence loss", METHODS["BCT A"])
    assert key(run, Upgrade("influence loss"), 0) == before
    monkeypatch.setattr(Base, "name", property(lambda self: f"model {self.role}"))
    assert key(run, Upgrade("BCT A"), 0) == before


@pytest.mark.parametrize("group", ["network", "training"])
def test_a_field_that_is_added_with_a_default_moves_no_key(run, monkeypatch, group):
    before, original = all_keys(run), {"network": Network, "training": Training}[group]
    grown = create_model("Grown", __base__=original, added=(float, 0.25))
    # As `base` would hold it, had the field been there when it was imported.
    monkeypatch.setitem(base.DEFAULTS, group, base.DEFAULTS[group] | {"added": 0.25})
    run = changed(run, **{group: grown(**getattr(run, group).model_dump())})
    names = [what.name for what in WHATS if group in what.settings(run) and what.kind == "model"]
    after = all_keys(run)
    assert len(names) > 20
    assert after == before
    moved = all_keys(changed(run, **{group: getattr(run, group).model_copy(update={"added": 0.5})}))
    assert not any(moved[name] == before[name] for name in names)


def test_a_setting_that_is_added_to_a_trainable_with_a_default_moves_no_key(run, monkeypatch):
    before, own = all_keys(run), Upgrade.settings
    monkeypatch.setattr(Upgrade, "settings", lambda self, run: own(self, run) | {"margin": 0.2})
    assert all_keys(run) != before
    monkeypatch.setitem(base.DEFAULTS, "margin", 0.2)
    assert all_keys(run) == before


# Names and keys over all that the study trains.


@pytest.mark.parametrize("profile", ["smoke", "study"])
def test_over_all_chapters_a_name_has_one_key_and_a_key_one_name(profile, drawn_cifar100):
    of_name, of_key = {}, {}
    for chapter in CHAPTERS.values():
        run = settings({"profile": profile, "dataset": "cifar100"}, chapter.knobs)
        plan = chapter.cases(run, 0) if chapter.is_published else []
        for what in with_ancestors(what for case in plan for what in case.trainables):
            own = key(run, what, 0)
            assert of_name.setdefault(what.name, own) == own
            of_key.setdefault(own, set()).add(what.name)
    # Side-information has its own size and no classifier, so that beside these roles it is the very same.
    several = [{name.rpartition(" ")[2] for name in names} for names in of_key.values() if len(names) > 1]
    same = [{"old", "old_narrow"}, {"old_small", "old_small_narrow"}]
    assert all(roles in same for roles in several)
    assert all("SimCLR" in name for names in of_key.values() if len(names) > 1 for name in names)
    assert {"old", "new", "new, BCT C against (old, BCT C against old_quarter)", "SFSC"} <= set(of_name)


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)
@pytest.mark.parametrize("profile", ["smoke", "study"])
def test_what_is_to_be_trained_is_told_apart(profile, chapter, drawn_cifar100):
    run = chapter.prepared(settings({"profile": profile, "dataset": "cifar100", "seeds": [0, 1]}, chapter.knobs))
    found = tasks_of_cases(run, {seed: list(chapter.cases(run, seed)) for seed in run.seeds})
    assert len({task.name for task in found}) == len(found) > 2
    assert all(task.work > 0 for task in found)


# Trained once, parents first.


@pytest.fixture
def fitted(monkeypatch) -> list[str]:
    """What is trained, by the name of its stream, in order."""
    order = []

    def watch(module: ModuleType, name: str) -> None:
        own, word = getattr(module, name), f"{module.__name__.rpartition('.')[2]}.{name}"

        def watched(*arguments, **options):
            order.append(f"{word} {options['role']}")
            return own(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    for module, name in itertools.product(
        (independent, bct, bct_baselines, dual_tuning, fct, side_information, sfsc),
        ("fit", "fit_joint", "fit_simclr", "fit_autoencoder", "fit_on_images", "fit_fastfill"),
    ):
        if hasattr(module, name):
            watch(module, name)
    return order


def made(run: Settings, what: Trainable, seed: int = 0, **options) -> tuple[make.Made, bool]:
    return make.make(run, what, seed, **options)


def state(found: make.Made) -> dict[str, torch.Tensor]:
    return copy.deepcopy(found.parts.state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_model_is_trained_once_and_found_as_it_was(run, folders, fitted):
    shares = []
    first, is_new = made(run, Base("new"), report=lambda share, text: shares.append(share))
    second, is_new_again = made(run, Base("new"))
    assert (is_new, is_new_again, fitted) == (True, False, ["independent.fit new"])
    assert shares == pytest.approx([step / 10 for step in range(1, 11)])
    assert first.what == second.what == Base("new")
    assert first.key == second.key == key(run, Base("new"), 0)
    assert same(state(first), state(second))
    test = images_to_test(run)
    assert torch.equal(embed(first.backbone(), test), embed(second.backbone(), test))
    assert not any(part.training for found in (first, second) for part in found.parts.modules())
    assert second.artifact.about["name"] == "digits new 0"


def test_parents_are_trained_before_and_only_where_a_training_needs_them(run, folders, fitted):
    first, is_new = made(run, CHAIN)
    assert is_new
    assert fitted == ["independent.fit old_quarter", "bct.fit old", "bct.fit new"]
    assert first.artifact.about["parents"] == [key(run, CHAIN.old, 0)]
    # What was found asks for no parent, be it there or not.
    for path in folders[0].glob("digits-old*.safetensors"):
        path.unlink()
    again, is_new = made(run, CHAIN)
    assert not is_new
    assert same(state(again), state(first))
    assert len(fitted) == 3
    assert len(list(folders[0].glob("*.safetensors"))) == 1


def test_a_damaged_parent_is_reported_and_trained_again(run, folders, fitted):
    made(run, Base("old"))
    (path,) = folders[0].glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"digits-old-0-\w+\.safetensors is damaged"):
        made(run, Upgrade("BCT A"))
    assert fitted == ["independent.fit old", "independent.fit old", "bct.fit new"]


@pytest.mark.parametrize("what", [Base("twin"), Widths("BCT-S")], ids=lambda what: what.name)
def test_a_training_that_was_killed_resumes_to_the_same_weights(run, folders, monkeypatch, what):
    for module in (independent, sfsc):
        own = module.fit
        monkeypatch.setattr(module, "fit", lambda *a, own=own, **o: own(*a, **o, checkpoint_seconds=0))
    whole = state(made(run, what)[0])
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(folders[0] / "another"))
    shares = []

    def report(share, text):
        shares.append(share)
        if len(shares) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(run, what, report=report)
    resumed, is_new = made(run, what, report=report)
    assert is_new
    assert shares == pytest.approx([step / 10 for step in (1, 2, 3, 4, 5, *range(5, 11))])
    assert same(state(resumed), whole)


def test_what_is_done_to_a_model_does_not_change_its_artifact(run, folders):
    found, _ = made(run, Base("old"))
    before = state(found)
    with torch.no_grad():
        for parameter in found.parts.parameters():
            parameter.zero_()
    artifacts.publish(found.artifact)
    again, is_new = made(run, Base("old"))
    assert not is_new
    assert same(state(again), before)


# What is planned.


def test_ancestors_come_before_and_each_once():
    found = with_ancestors([Transformation(SIDE), CHAIN, Base("new"), Transformation(SIDE, "old_quarter", "old")])
    assert len(found) == len(set(found))
    for what in found:
        assert all(found.index(parent) < found.index(what) for parent in what.parents)
    assert [what.name for what in found[:4]] == ["old", "new", "SimCLR 8 beside old", Transformation(SIDE).name]
    assert with_ancestors([]) == []


def test_tasks_have_names_work_and_stages_and_train(run, folders, fitted):
    found = tasks(run, 3, [CHAIN], ", shorter")
    assert [(task.name, task.stage) for task in found] == [
        ("old_quarter, seed 3, shorter", 0),
        ("old, BCT A against old_quarter, seed 3, shorter", 1),
        ("new, BCT C against (old, BCT A against old_quarter), seed 3, shorter", 2),
    ]
    assert [task.work for task in found] == [what.work(run) for what in with_ancestors([CHAIN])]
    shares = []

    def report(share: float, text: str) -> None:
        shares.append(share)

    assert [task.train(report=report) for task in (*found, found[-1])] == [True, True, True, False]
    assert fitted == ["independent.fit old_quarter", "bct.fit old", "bct.fit new"]
    assert shares.count(1.0) == 3


# The models that are published with the study, held to what this version would make.


@pytest.fixture(scope="module")
def planned() -> dict[tuple[str, str], tuple[Settings, Trainable]]:
    """Whatever a chapter publishes in profiles study and heads, by data set and name, and the run that makes it."""
    found = {}
    for chapter, profile in itertools.product(CHAPTERS.values(), ("study", "heads")):
        run = settings({"profile": profile}, chapter.knobs)
        plan = chapter.cases(run, 0) if chapter.is_published else ()
        for what in with_ancestors(what for case in plan for what in case.trainables):
            found[run.dataset, what.name] = run, what
    return found


@pytest.fixture(scope="module")
def built() -> dict[tuple[str, str], torch.nn.Module]:
    """Untrained parts by data set and name, which the weights of every seed are put in."""
    return {}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_model_is_what_this_version_would_make(planned, built, drawn_cifar100, path):
    """All of its key but the data's digest, for which CIFAR-100 would have to be there."""
    tensors, about = read_tensors(path)
    dataset, name, seed = re.fullmatch(r"(\S+) (.*) (\d+)", about["name"]).groups()
    run, what = planned[dataset, name]
    assert what.is_published
    assert run.published_models is None or name in run.published_models
    assert run.published_seeds is None or int(seed) in run.published_seeds
    assert (dataset, int(seed), what.kind) == (run.dataset, about["seed"], about["kind"])
    now = behaviours_of(run, what)
    assert about["behaviours"].keys() == now.keys()
    if about["behaviours"] != now:
        assert all(number <= now[each] for each, number in about["behaviours"].items())
        return  # of an earlier version, and shown as such
    assert about["settings"] == differing(what.settings(run))
    if (dataset, name) not in built:
        built[dataset, name] = what.build(run, int(seed)).eval()
    load_weights(built[dataset, name], tensors, path)
    inputs, _ = images_to_test(run, encoder=what.encoder(run)).batch(torch.arange(4))
    for width in run.knobs.widths if isinstance(what, Widths) else (1.0,):
        embeddings = what.backbone(built[dataset, name], width)(inputs).detach()
        assert embeddings.isfinite().all()
        assert isinstance(what, Upgrade) or (embeddings.norm(dim=1) > 0).all()  # one may have collapsed: its rows tell
