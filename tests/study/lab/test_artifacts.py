"""Artifacts: keyed by everything they depend on, trained once, found again, and never trusted when damaged."""

import multiprocessing
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from compatlib.checkpoints import read_tensors, write_tensors
from compatlib.data.images import ImageSet
from compatlib.methods import independent
from compatlib.models.classifiers import LinearClassifier
from compatlib.models.resnet import small_resnet
from compatlib.study.lab import artifacts
from compatlib.study.lab.artifacts import key_of, load_or_fit, load_or_train, publish
from compatlib.training import Cost, Fit, Recipe, initialised

SETTINGS = {"role": "old", "seed": 0, "network": {"widths": [16, 32], "dim": 8}, "rate": 0.1}
MODULES = ("compatlib.models.resnet", "compatlib.training")
OUTCOME = Fit([{"epoch": 1, "term": "classification", "value": 0.5, "learning_rate": 0.1}], Cost(2.5, 100.0, "cpu", 1))
KEY = key_of(SETTINGS, data="digest", modules=MODULES)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Empty folders for what is kept and what is published."""
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "kept"))
    monkeypatch.setattr(artifacts, "PUBLISHED_MODELS", tmp_path / "published")
    return tmp_path / "kept", tmp_path / "published"


class Trainer:
    """Gives a tensor that tells how often it was called."""

    def __init__(self) -> None:
        self.checkpoints: list[Path] = []

    def __call__(self, checkpoint: Path):
        self.checkpoints.append(checkpoint)
        return {"weight": torch.full((3,), float(len(self.checkpoints)))}, OUTCOME


def obtain(train, key: str = KEY, name: str = "cifar100-old-0"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_or_train(name, key, SETTINGS, train)


# Keys.


def test_a_key_is_64_hexadecimal_digits_and_repeatable():
    assert len(KEY) == 64
    assert set(KEY) <= set("0123456789abcdef")
    assert key_of(SETTINGS, data="digest", modules=MODULES) == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": SETTINGS | {"seed": 1}},
        {"settings": SETTINGS | {"rate": 0.1 + 1e-12}},
        {"settings": SETTINGS | {"network": {"widths": [32, 16], "dim": 8}}},
        {"settings": SETTINGS | {"more": None}},
        {"settings": {name: value for name, value in SETTINGS.items() if name != "rate"}},
        {"data": "another"},
        {"parents": ("a",)},
        {"modules": MODULES[:1]},
        {"modules": (*MODULES, "compatlib.data.splits")},
    ],
)
def test_every_ingredient_changes_the_key(changes):
    given = {"settings": SETTINGS, "data": "digest", "modules": MODULES} | changes
    assert key_of(given.pop("settings"), **given) != KEY


def test_parents_count_in_their_order():
    keys = {key_of(SETTINGS, data="digest", modules=MODULES, parents=p) for p in ([], ["a"], ["a", "b"], ["b", "a"])}
    assert len(keys) == 4


def test_the_code_of_the_modules_changes_the_key(monkeypatch):
    monkeypatch.setattr(artifacts, "code_digest", lambda modules: f"changed code of {sorted(modules)}")
    assert key_of(SETTINGS, data="digest", modules=MODULES) != KEY


def test_nothing_else_changes_the_key(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "99.0")
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", "/elsewhere")
    monkeypatch.setenv("COMPATLIB_DATA", "/elsewhere")
    reordered = dict(reversed(SETTINGS.items())) | {"network": {"dim": 8, "widths": (16, 32)}}
    assert key_of(reordered, data="digest", modules=MODULES[::-1], parents=()) == KEY


def test_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match=r"compatlib\.methods\.absent"):
        key_of(SETTINGS, data="digest", modules=["compatlib.methods.absent"])


# Trained once.


def test_what_was_trained_is_found_again(folders):
    train = Trainer()
    first, second = obtain(train), obtain(train)
    assert len(train.checkpoints) == 1
    assert torch.equal(first.tensors["weight"], second.tensors["weight"])
    assert first.about == second.about
    assert first.key == second.key == KEY
    assert (folders[0] / f"cifar100-old-0-{KEY[:16]}.safetensors").exists()


def test_what_is_known_about_an_artifact_is_kept_beside_it():
    obtain(Trainer())
    about = obtain(Trainer()).about
    assert about["key"] == KEY
    assert about["name"] == "cifar100-old-0"
    assert about["settings"] == SETTINGS
    assert about["cost"] == {"seconds": 2.5, "images_per_second": 100.0, "device": "cpu", "processes": 1}
    assert about["history"] == OUTCOME.history
    assert about["torch"] == torch.__version__
    assert about["device"]
    assert about["made"].startswith("20")


def test_another_key_is_another_artifact(folders):
    train = Trainer()
    obtain(train)
    other = obtain(train, key_of(SETTINGS, data="another", modules=MODULES))
    assert len(train.checkpoints) == 2
    assert other.tensors["weight"].tolist() == [2.0, 2.0, 2.0]
    assert len(list(folders[0].glob("*.safetensors"))) == 2


def test_the_folder_is_the_variable_or_the_repositorys_cache(monkeypatch, folders):
    assert artifacts.folder() == folders[0]
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", "")
    assert artifacts.folder() == artifacts.REPOSITORY / "data" / "cache" / "artifacts"
    monkeypatch.delenv("COMPATLIB_ARTIFACTS")
    assert artifacts.folder() == artifacts.REPOSITORY / "data" / "cache" / "artifacts"
    assert (artifacts.REPOSITORY / "pyproject.toml").exists()


def test_a_training_that_fails_leaves_no_artifact(folders):
    def failing(checkpoint):
        raise FloatingPointError("diverged")

    with pytest.raises(FloatingPointError, match="diverged"):
        obtain(failing)
    assert not list(folders[0].glob("*.safetensors"))
    assert obtain(Trainer()).tensors["weight"].tolist() == [1.0, 1.0, 1.0]


# Damage.


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:100], lambda data: b"", lambda data: b"?" * 99]
)
@pytest.mark.parametrize("published", [False, True])
def test_a_damaged_file_is_reported_and_trained_again(folders, damage, published):
    train = Trainer()
    artifact = obtain(train)
    path = next(folders[0].glob("*.safetensors"))
    if published:
        path.unlink()
        path = publish(artifact)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"cifar100-old-0-\w+\.safetensors is damaged .*it is made again now"):
        again = load_or_train("cifar100-old-0", KEY, SETTINGS, train)
    assert again.tensors["weight"].tolist() == [2.0, 2.0, 2.0]
    assert len(train.checkpoints) == 2


def test_a_file_that_holds_another_key_is_not_trusted(folders):
    train = Trainer()
    obtain(train)
    path = next(folders[0].glob("*.safetensors"))
    tensors, about = read_tensors(path)
    # Alike in the first 16 digits, which the name shows, and different after them.
    write_tensors(path, tensors, about | {"key": KEY[:16] + "0" * 48})
    with pytest.warns(UserWarning, match="holds another artifact than its name says"):
        again = load_or_train("cifar100-old-0", KEY, SETTINGS, train)
    assert again.key == KEY
    assert again.tensors["weight"].tolist() == [2.0, 2.0, 2.0]
    assert obtain(train).tensors["weight"].tolist() == [2.0, 2.0, 2.0]


# Published.


def test_what_is_published_is_found_first(folders):
    train = Trainer()
    path = publish(obtain(train))
    assert path.parent == folders[1]
    kept = next(folders[0].glob("*.safetensors"))
    tensors, about = read_tensors(kept)
    write_tensors(kept, {"weight": tensors["weight"] + 10}, about)
    assert obtain(train).tensors["weight"].tolist() == [1.0, 1.0, 1.0]
    kept.unlink()
    assert obtain(train).tensors["weight"].tolist() == [1.0, 1.0, 1.0]
    assert len(train.checkpoints) == 1


def test_publishing_is_repeatable_and_mends_a_damaged_file():
    artifact = obtain(Trainer())
    path = publish(artifact)
    before = path.read_bytes()
    written = path.stat().st_mtime_ns
    assert publish(artifact) == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(before[:50])
    with pytest.warns(UserWarning, match="is damaged"):
        publish(artifact)
    assert read_tensors(path)[1] == artifact.about
    assert torch.equal(read_tensors(path)[0]["weight"], artifact.tensors["weight"])


# Several processes, and a process that is killed.


def train_slowly(number: int, log: Path, begun, others_are_coming) -> None:
    """One process: tells that it trains, and trains until the others had the time to want the same."""

    def train(checkpoint):
        with log.open("a") as file:
            file.write(f"{number}\n")
        begun.set()
        others_are_coming.wait(5)
        time.sleep(0.3)  # without a lock they would train by now
        return {"weight": torch.full((3,), float(number))}, OUTCOME

    if number:
        begun.wait(30)
        others_are_coming.set()
    artifact = load_or_train("cifar100-old-0", KEY, SETTINGS, train)
    with log.with_suffix(".got").open("a") as file:
        file.write(f"{artifact.tensors['weight'][0]:.0f}\n")


def test_processes_that_want_the_same_artifact_train_it_once(tmp_path):
    context, log = multiprocessing.get_context("fork"), tmp_path / "log"
    begun, others_are_coming = context.Event(), context.Event()
    processes = [
        context.Process(target=train_slowly, args=(number, log, begun, others_are_coming)) for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text().split() == ["0"]
    assert log.with_suffix(".got").read_text().split() == ["0", "0", "0"]


def images() -> ImageSet:
    pixels = torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(pixels, torch.arange(24) % 3, ("a", "b", "c"))


class RealTraining:
    """A training of six steps that is interrupted at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.shares = stop_at, []

    def report(self, share: float, text: str) -> None:
        self.shares.append(share)
        if len(self.shares) == self.stop_at:
            raise KeyboardInterrupt

    def __call__(self, checkpoint: Path):
        backbone = initialised(lambda: small_resnet(widths=(4,), dim=4, stem_stride=2), 0, "old")
        classifier = initialised(lambda: LinearClassifier(4, 3), 0, "old classifier")
        recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05)
        options = {"checkpoint": checkpoint, "checkpoint_seconds": 0, "report": self.report}
        outcome = independent.fit(backbone, classifier, images(), recipe, seed=0, role="old", **options)
        modules = nn.ModuleDict({"backbone": backbone, "classifier": classifier})
        return {name: tensor.cpu() for name, tensor in modules.state_dict().items()}, outcome


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_training_that_is_killed_goes_on_from_its_checkpoint(folders, stop_at):
    whole = obtain(RealTraining(), name="whole")
    with pytest.raises(KeyboardInterrupt):
        obtain(RealTraining(stop_at))
    assert not list(folders[0].glob("cifar100*.safetensors"))
    resumed = RealTraining()
    again = obtain(resumed)
    # The checkpoint of the step before the interruption is on disk.
    assert len(resumed.shares) == 6 - (stop_at - 1)
    assert again.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert again.about["history"] == whole.about["history"]
    assert not list(folders[0].glob("*.checkpoint"))


# Modules.


def test_modules_are_fitted_once_and_then_found_with_the_same_weights():
    fitted = []

    def fit(module, checkpoint):
        fitted.append(checkpoint)
        module.train()
        with torch.no_grad():
            module.weight.fill_(3.0)
        return OUTCOME

    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    artifact, is_new = load_or_fit("linear", KEY, SETTINGS, first, lambda checkpoint: fit(first, checkpoint))
    again, is_new_again = load_or_fit("linear", KEY, SETTINGS, second, lambda checkpoint: fit(second, checkpoint))
    assert (is_new, is_new_again, len(fitted)) == (True, False, 1)
    assert artifact.key == again.key == KEY
    for module in (first, second):
        assert torch.equal(module.weight, torch.full((1, 2), 3.0))
        assert torch.equal(module.bias, first.bias)
        assert not module.training


def test_a_module_that_is_trained_on_leaves_its_artifact_alone():
    module = nn.Linear(2, 1)
    artifact, _ = load_or_fit("linear", KEY, SETTINGS, module, lambda checkpoint: OUTCOME)
    before = artifact.tensors["weight"].clone()
    with torch.no_grad():
        module.weight.add_(1)
    assert torch.equal(artifact.tensors["weight"], before)
