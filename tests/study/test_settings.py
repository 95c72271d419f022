"""Settings of a run: a notebook's parameters over a profile's values, and everything that is refused."""

import json
import math
import re
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from pydantic import Field
from traitlets.config import Config

from compatlib.data import sources
from compatlib.study import settings as module
from compatlib.study.publishing.chapters import CHAPTERS
from compatlib.study.settings import (
    Knobs,
    TableKnobs,
    changed,
    load_profile,
    profiles,
    read_seeds,
    settings,
    tables,
    value_of,
)
from compatlib.training import Recipe


class Chapter(Knobs):
    distance: Literal["cosine", "euclidean"] = "cosine"
    margin: float = Field(0.5, gt=0)
    examples: int = 4


@pytest.fixture(autouse=True)
def data_root(tmp_path, monkeypatch):
    """A data root with folders of images for the profile `paper` and for whoever brings their own."""
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))
    for name in ("imagenet", "my-images.v2"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_nothing_given_is_the_profile_smoke():
    run = settings({})
    assert run.profile == "smoke"
    for name, value in load_profile("smoke").items():
        if name not in ("network", "small_network", "training", "knobs"):
            assert getattr(run, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", profiles())
def test_every_profile_gives_settings_and_a_recipe(name):
    run = settings({"profile": name})
    recipe = run.training.recipe()
    assert isinstance(recipe, Recipe)
    assert recipe.epochs == load_profile(name)["training"]["epochs"]
    assert recipe.learning_rate == load_profile(name)["training"]["learning_rate"]
    assert run.network.dim == load_profile(name)["network"]["dim"]
    assert json.loads(json.dumps(run.model_dump(mode="json")))["profile"] == name


def test_the_profiles_are_there_and_the_studys_has_three_seeds():
    assert profiles() == ("heads", "laptop", "large", "omniglot", "paper", "smoke", "study", "study_signed")
    assert len(settings({"profile": "study"}).seeds) >= 3
    assert settings({"profile": "study"}).dataset == "cifar100"


@pytest.mark.parametrize(
    ("name", "base", "own"),
    [
        ("study_signed", "study", {"published_seeds", "network", "small_network", "knobs"}),
        ("omniglot", "laptop", {"seeds", "sweep_seeds", "published_seeds", "knobs"}),
    ],
)
def test_a_profile_like_another_has_its_values_but_for_its_own(name, base, own):
    found, expected = load_profile(name), load_profile(base)
    assert {key for key in found | expected if found.get(key) != expected.get(key)} == {"profile", *own}
    assert "like" not in found


def test_the_signed_study_has_the_studys_networks_and_another_head():
    study, signed = (settings({"profile": name}).network.model_dump() for name in ("study", "study_signed"))
    assert (study.pop("head"), signed.pop("head")) == ("relu_pool", "linear_bn")
    assert study == signed


@pytest.mark.parametrize("empty", ["", None, [], ()])
def test_an_empty_value_means_the_profiles(empty):
    given = {"profile": empty, "dataset": empty, "seeds": empty, "margin": empty, "distance": empty}
    assert settings(given, Chapter) == settings({}, Chapter)


class OfProfile(Chapter):
    chapter = "some_chapter"


def test_a_profile_may_have_values_for_a_chapters_knobs(monkeypatch):
    """Under the chapter's name: given parameters stand before them, the chapter's own defaults behind."""
    values = {"some_chapter": {"margin": 0.75, "examples": 9}, "another": {"unknown": 1}}
    original = load_profile
    monkeypatch.setattr(module, "load_profile", lambda name: original(name) | {"knobs": values})
    assert settings({}, OfProfile).knobs == OfProfile(margin=0.75, examples=9)
    assert settings({"examples": 2}, OfProfile).knobs == OfProfile(margin=0.75, examples=2)
    assert settings({}, Chapter).knobs == Chapter()
    values["some_chapter"]["margin"] = -1
    with pytest.raises(ValueError, match=r"parameter 'margin' = -1"):
        settings({}, OfProfile)


@pytest.mark.parametrize("name", profiles())
def test_the_profiles_values_are_knobs_of_their_chapters(name):
    for chapter, values in load_profile(name).get("knobs", {}).items():
        knobs = CHAPTERS[chapter].knobs
        assert knobs.chapter == chapter
        run = settings({"profile": name}, knobs)
        for knob, value in values.items():
            found = getattr(run.knobs, knob)
            found = found.model_dump(mode="json") if hasattr(found, "model_dump") else found
            found = asdict(found) if is_dataclass(found) else found
            if isinstance(found, tuple):
                found = dict(found) if isinstance(value, dict) else list(found)
            assert found == value if not isinstance(value, dict) else value.items() <= found.items()


def test_parameters_stand_over_the_profile():
    run = settings({"profile": "smoke", "seeds": "4,5", "margin": 0.25, "distance": "euclidean"}, Chapter)
    assert run.seeds == run.sweep_seeds == (4, 5)
    assert run.classes == load_profile("smoke")["classes"]
    assert run.knobs == Chapter(margin=0.25, distance="euclidean")


def test_settings_written_out_hold_the_chapters_own_parameters():
    """What rows were made from is compared in this form: a knob that is not written out would be pooled over."""
    written = [settings({"distance": name}, Chapter).model_dump(mode="json") for name in ("cosine", "euclidean")]
    assert written[0]["knobs"] == {"distance": "cosine", "margin": 0.5, "examples": 4}
    assert written[0] != written[1]


def test_another_data_set_is_taken_whole():
    run = settings({"profile": "smoke", "dataset": "digits"})
    assert (run.classes, run.train_per_class, run.test_per_class) == (None, None, None)
    assert run.network == settings({"profile": "smoke"}).network
    same = settings({"profile": "smoke", "dataset": "glyphs"})
    assert same == settings({"profile": "smoke"})


@pytest.mark.parametrize("name", ["seed", "Seeds", "epochs", "classes", "network", "marginn"])
def test_an_unknown_parameter_is_refused_with_the_valid_ones(name):
    with pytest.raises(ValueError, match=f"'{name}'; this page has profile, dataset, seeds, distance, margin, examp"):
        settings({"profile": "smoke", name: 3}, Chapter)


def test_an_unknown_parameter_is_refused_even_if_it_is_empty():
    with pytest.raises(ValueError, match="'smoothing'"):
        settings({"smoothing": ""})


def test_an_unknown_profile_is_refused_with_the_valid_ones():
    for name in ("huge", "../smoke", 3):
        with pytest.raises(ValueError, match=r"unknown profile .*heads, laptop, large, omniglot, paper, smoke, study"):
            settings({"profile": name})


@pytest.mark.parametrize("name", ["cifar10", "cifar100_lite", "../imagenet", "..", ".", "imagenet/train", 7, "a b"])
def test_an_unknown_data_set_is_refused_with_the_valid_ones(name, data_root):
    (data_root / "a b").mkdir()
    (data_root / "imagenet" / "train").mkdir()
    with pytest.raises(
        ValueError,
        match=f"unknown data set {name!r}; choose one of {', '.join(sources.image_names())}".replace(".", r"\."),
    ):
        settings({"dataset": name})


def test_heads_stand_on_features_and_networks_on_images():
    run = settings({"profile": "heads"})
    assert (run.dataset, run.encoders.old, run.encoders.new) == ("cifar100_lite", "lite0", "lite2")
    assert settings({"profile": "heads", "dataset": "omniglot_lite"}).network.hidden == run.network.hidden
    for profile, dataset, words in (
        ("heads", "cifar100", "choose one of cifar100_lite, omniglot_lite .profile 'heads' trains heads on features"),
        ("study", "cifar100_lite", "choose one of glyphs, .*profile 'study' trains on images"),
    ):
        with pytest.raises(ValueError, match=f"unknown data set '{dataset}'; {words}"):
            settings({"profile": profile, "dataset": dataset})


@pytest.mark.parametrize(
    "changes",
    [{"network.hidden": None}, {"small_network.hidden": None}, {"encoders": None}, {"dataset": "cifar100"}],
    ids=str,
)
def test_half_a_head_is_refused(changes):
    with pytest.raises(ValueError, match="heads stand on features of images, networks on images"):
        changed(settings({"profile": "heads"}), changes)
    with pytest.raises(ValueError, match="Input should be 'lite0', 'lite1' or 'lite2'"):
        changed(settings({"profile": "heads"}), {"encoders.new": "vit"})


def test_a_folder_of_images_is_a_data_set():
    assert settings({"dataset": "my-images.v2"}).dataset == "my-images.v2"


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ("0,1,2", (0, 1, 2)),
        (" 3 , 1 ", (3, 1)),
        ("0,1,", (0, 1)),
        ("7", (7,)),
        ("[0]", (0,)),
        ("[0, 12]", (0, 12)),
        (3, (3,)),
        (0, (0,)),
        ([0, 1], (0, 1)),
        ((5, 6), (5, 6)),
    ],
)
def test_seeds_are_read_from_lists_numbers_and_text(given, seeds):
    assert read_seeds(given) == seeds
    assert settings({"seeds": given}).seeds == seeds


@pytest.mark.parametrize(
    "junk",
    [
        "a",
        "0;1",
        "0 1",
        "-1",
        "1.5",
        "0,,1",
        "[0",
        "0]",
        "[]",
        "()",
        "[[0]]",
        1.0,
        True,
        [True],
        [0.0],
        ["0"],
        {0: 1},
        math.nan,
    ],
)
def test_junk_seeds_are_refused(junk):
    with pytest.raises(ValueError, match=re.escape(f"seeds {junk!r} cannot be read; give a list such as [0, 1, 2]")):
        settings({"seeds": junk})


@pytest.mark.parametrize("seeds", [[1, 1], "0,1,0", [-1], (0, -2), -1])
def test_doubled_and_negative_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match=r"setting 'seeds' .*different whole numbers ≥ 0"):
        settings({"seeds": seeds})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"distance": "manhattan"}, r"parameter 'distance' = 'manhattan': .*'cosine' or 'euclidean'"),
        ({"margin": -1.0}, r"parameter 'margin' = -1.0: .*greater than 0"),
        ({"margin": "wide"}, r"parameter 'margin' = 'wide': .*number"),
        ({"examples": 2.5}, r"parameter 'examples' = 2.5: .*integer"),
    ],
)
def test_impossible_values_of_a_chapters_parameters_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        settings(given, Chapter)


def test_several_problems_are_told_at_once():
    with pytest.raises(ValueError, match=r"'distance'.*; parameter 'margin'"):
        settings({"distance": "x", "margin": 0.0}, Chapter)


def test_settings_cannot_be_changed():
    run = settings({}, Chapter)
    for frozen, name in ((run, "profile"), (run.knobs, "margin"), (run.training, "epochs")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(frozen, name, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("epochs: 3", "setting 'epochs' = 3: Extra inputs"),
        ("training: {epochs: 3}", "setting 'training.learning_rate'"),
        ("training: {epochs: 3, learning_rate: 0.1, lr: 0.1}", "setting 'training.lr' = 0.1: Extra inputs"),
        ("network: {head: relu}", r"setting 'network.head' = 'relu': .*'relu_pool' or 'linear_bn'"),
        ("seeds: []", "setting 'seeds'"),
    ],
)
def test_a_mistyped_profile_is_refused(tmp_path, monkeypatch, line, words):
    text = (module.PROFILES_FOLDER / "smoke.yml").read_text()
    name = line.partition(":")[0]
    kept = [other for other in text.splitlines() if not other.startswith(f"{name}:")]
    (tmp_path / "mine.yml").write_text("\n".join([*kept, line]))
    monkeypatch.setattr(module, "PROFILES_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=words):
        settings({"profile": "mine"})


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "name", ["learning_rate", "momentum", "weight_decay", "warmup_epochs", "clip_norm", "label_smoothing"]
)
def test_a_profile_with_a_number_that_is_not_finite_is_refused(tmp_path, monkeypatch, name, value):
    profile = load_profile("smoke")
    profile["training"] = profile["training"] | {name: float(value.replace(".", ""))}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump({key: profile[key] for key in profile if key != "profile"}))
    assert f"{name}: {value}" in (tmp_path / "mine.yml").read_text()
    monkeypatch.setattr(module, "PROFILES_FOLDER", tmp_path)
    with pytest.raises(ValueError, match=rf"setting 'training\.{name}' = -?(nan|inf): .*finite number"):
        settings({"profile": "mine"})


@pytest.mark.parametrize("name", ["json", "settings", "_seeds", "len"])
def test_a_mistyped_parameter_whose_place_an_import_took_is_refused(name):
    """papermill sets it, the notebook's first imports rebind it, and nothing is left but the cell's text."""
    cells = ["", 'profile: str = "smoke"', f'# Parameters\nprofile = "smoke"\n{name} = 5\n', "import json"]
    with pytest.raises(ValueError, match=f"unknown parameter '{name}'; this page has profile, dataset, seeds, dist"):
        settings({"In": cells, "json": json, "settings": settings, "profile": "smoke"}, Chapter)
    valid = [*cells[:2], '# Parameters\nprofile = "smoke"\nmargin = 0.2\n']
    assert settings({"In": valid, "profile": "smoke", "margin": 0.2}, Chapter).knobs.margin == 0.2


SETTINGS_CELL = "from json import dumps\nrun = settings(globals())\nwanted = tuple(run.seeds)"


def rerun(*cells: str, **names) -> dict:
    """A notebook's names when its settings cell is run for the second time, after these cells."""
    parameters = 'profile: str = "smoke"\nseeds: str = ""'
    cells = ["", parameters, SETTINGS_CELL, "dim = run.network.dim\nkeys = {}", *cells, SETTINGS_CELL]
    own = {"run": settings({}), "wanted": (0,), "dim": 128, "profile": "smoke", "seeds": ""}
    return own | names | {"In": cells}


def test_the_settings_cell_may_be_run_again():
    """By then the notebook has names of its own: none is a parameter, whatever it holds."""
    assert settings(rerun()).seeds == settings({}).seeds
    assert settings(rerun('seeds: str = "3"', seeds="3")).seeds == (3,)
    assert settings(rerun("for epoch in range(3):\n    pass", epoch=2), Chapter) == settings({}, Chapter)
    assert settings(rerun("not Python (", "shown = [seed for seed in run.seeds]", shown=[0])) == settings({})
    assert settings({"seeds": "1", "run": settings({"seeds": "0"})}).seeds == (1,)


@pytest.mark.parametrize(
    "cell",
    [
        'sead = "3"',
        'sead: str = "3"',
        'profile = "smoke"\nsead = str(3)',
        "# Parameters\nsead = 3\n",
        "# Parameters\nsead = float('nan')\n",
    ],
)
def test_a_parameter_that_is_mistyped_before_the_second_run_is_refused(cell):
    words = "unknown parameter 'sead'; this page has profile, dataset, seeds, distance.*or be deleted"
    for cells in ([cell], [cell, "shown = [sead for sead in run.seeds]"]):
        with pytest.raises(ValueError, match=words):
            settings(rerun(*cells, sead="3"), Chapter)


def test_a_parameter_that_is_computed_before_the_first_run_is_refused_if_it_is_mistyped():
    with pytest.raises(ValueError, match="unknown parameter 'sead'"):
        settings({"In": ["", "sead = str(3)", SETTINGS_CELL], "sead": "3"})


def test_modules_functions_classes_and_private_names_are_no_parameters():
    namespace = {
        "json": json,
        "Path": Path,
        "settings": settings,
        "len": len,
        "method": Path("a").exists,
        "_private": 1,
        "__name__": "__main__",
        "In": [""],
        "Out": {1: 2},
        "exit": object(),
        "quit": object(),
        "profile": "laptop",
    }
    assert settings(namespace).profile == "laptop"


def test_a_real_shells_own_names_are_no_parameters(monkeypatch):
    for name in ("displayhook", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    assert {"In", "Out", "get_ipython", "exit", "open"} <= set(shell.user_ns)
    assert settings(shell.user_ns | {"seeds": "3"}).seeds == (3,)


# Other values of a run.


def test_a_run_with_other_values_has_these_and_no_others():
    run = settings({"profile": "laptop", "margin": 0.25}, Chapter)
    other = changed(run, {"knobs.margin": 0.75, "training.epochs": 99, "classes": 3})
    assert (other.knobs.margin, other.training.epochs, other.classes) == (0.75, 99, 3)
    back = {"knobs.margin": 0.25, "training.epochs": run.training.epochs, "classes": run.classes}
    assert changed(other, back) == run
    assert changed(run, {}) is run
    assert isinstance(other.knobs, Chapter)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("epochs", "a run has no 'epochs': Settings has no 'epochs'"),
        ("knobs.margn", "Chapter has no 'margn'"),
        ("training.epochs.more", "int has no 'more'"),
        ("training.recipe", "Training has no 'recipe'"),
    ],
)
def test_a_value_that_a_run_has_not_is_refused(name, words):
    run = settings({}, Chapter)
    with pytest.raises(ValueError, match=words):
        value_of(run, name)
    with pytest.raises(ValueError, match=words.rpartition(": ")[2]):
        changed(run, {name: 1})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"knobs.margin": -1.0}, "'margin' = -1.0: .*greater than 0"),
        ({"training.learning_rate": math.nan}, "'learning_rate' = nan: .*finite number"),
        ({"seeds": ()}, "'seeds' .*at least one"),
    ],
)
def test_an_impossible_other_value_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        changed(settings({}, Chapter), changes)


@pytest.mark.parametrize("name", ["profile", "training.epochs", "knobs.distance"])
def test_a_value_is_found_by_its_dotted_name(name):
    run = settings({}, Chapter)
    assert value_of(run, name) == {"profile": "smoke", "training.epochs": 3, "knobs.distance": "cosine"}[name]


# Tables.


class Tables(TableKnobs):
    all_tables = ("T1", "T2", "T3")
    tables_of = {"laptop": ("T3", "T1")}  # noqa: RUF012


@pytest.mark.parametrize(
    ("profile", "given", "measured"),
    [
        ("smoke", "", ("T1", "T2", "T3")),
        ("laptop", "", ("T1", "T3")),
        ("laptop", "T2", ("T1", "T2")),
        ("smoke", "T3 , T2", ("T1", "T2", "T3")),
        ("smoke", "T3,", ("T1", "T3")),
    ],
)
def test_the_first_table_is_always_measured_and_all_in_their_order(profile, given, measured):
    assert tables(settings({"profile": profile, "tables": given}, Tables)) == measured


def test_an_unknown_table_is_refused_with_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown table \['T4'\]; choose from T1, T2, T3"):
        settings({"tables": "T1,T4"}, Tables)
