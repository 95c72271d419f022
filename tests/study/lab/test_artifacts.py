"""Artifacts: keyed by all that they are made of, trained once, found again, and never trusted when damaged."""

import csv
import json
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
from compatlib.study.lab.artifacts import Artifact, file_name, key_of, load_or_fit, publish
from compatlib.training import Cost, Fit, Recipe, initialised

CONTENT = {
    "kind": "model",
    "seed": 0,
    "settings": {"stream": "old", "network": {"widths": [16, 32], "dim": 8}, "rate": 0.1},
    "data": "digest",
    "parents": ["a", "b"],
    "behaviours": {"loop": 1, "resnet": 2},
}
NAME = "cifar100 old 0"
PUBLISHED = sorted(artifacts.PUBLISHED_MODELS.glob("*.safetensors"))
# Keys were once made of source code: what each model's was, and what it is since then.
with (artifacts.PUBLISHED_MODELS.parent / "rekeyed.csv").open(newline="") as file:
    REKEYED = list(csv.DictReader(file))
REKEYED_ON = "2026-11-27"
OUTCOME = Fit([{"epoch": 1, "term": "classification", "value": 0.5, "learning_rate": 0.1}], Cost(2.5, 100.0, "cpu", 1))
KEY = key_of(CONTENT)

pytestmark = pytest.mark.usefixtures("folders")


class Trainer:
    """Fills a tensor with how often it was called."""

    def __init__(self) -> None:
        self.checkpoints: list[Path] = []

    def fit(self, modules: nn.Module, checkpoint: Path) -> Fit:
        self.checkpoints.append(checkpoint)
        modules.train()
        with torch.no_grad():
            modules.weight.fill_(float(len(self.checkpoints)))
        return OUTCOME

    def obtain(self, content: dict = CONTENT, name: str = NAME) -> tuple[nn.Module, Artifact, bool]:
        modules = nn.Linear(3, 1)
        return modules, *load_or_fit(name, content, modules, lambda checkpoint: self.fit(modules, checkpoint))


def obtain(train: Trainer, *arguments) -> Artifact:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return train.obtain(*arguments)[1]


def first(artifact: Artifact) -> float:
    return float(artifact.tensors["weight"][0, 0])


# Keys.


def test_a_key_is_64_hexadecimal_digits_and_repeatable():
    assert len(KEY) == 64
    assert set(KEY) <= set("0123456789abcdef")
    assert key_of(json.loads(json.dumps(CONTENT))) == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"kind": "side"},
        {"settings": CONTENT["settings"] | {"rate": 0.1 + 1e-12}},
        {"settings": CONTENT["settings"] | {"network": {"widths": [32, 16], "dim": 8}}},
        {"settings": CONTENT["settings"] | {"more": None}},
        {"settings": {}},
        {"data": "another"},
        {"parents": ["b", "a"]},
        {"parents": ["a"]},
        {"behaviours": {"loop": 1, "resnet": 3}},
        {"behaviours": {"loop": 1}},
    ],
)
def test_every_ingredient_changes_the_key(changes):
    assert key_of(CONTENT | changes) != KEY


def test_nothing_else_changes_the_key(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "99.0")
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", "/elsewhere")
    monkeypatch.setenv("COMPATLIB_DATA", "/elsewhere")
    network = {"dim": 8, "widths": (16, 32)}
    reordered = dict(reversed(CONTENT.items())) | {"settings": {"rate": 0.1, "network": network, "stream": "old"}}
    assert key_of(reordered) == KEY


# Trained once.


def test_what_was_trained_is_found_again_with_the_same_weights(folders):
    train = Trainer()
    one, made, is_new = train.obtain()
    other, found, is_new_again = train.obtain()
    assert (is_new, is_new_again, len(train.checkpoints)) == (True, False, 1)
    assert made.key == found.key == KEY
    assert made.about == found.about
    for modules, artifact in ((one, made), (other, found)):
        assert torch.equal(modules.weight, torch.ones(1, 3))
        assert torch.equal(modules.bias, one.bias)
        assert all(torch.equal(value, artifact.tensors[name]) for name, value in modules.state_dict().items())
        assert not modules.training
    assert (folders[0] / f"cifar100-old-0-{KEY[:16]}.safetensors").exists()


def test_an_artifact_tells_of_itself_all_that_its_key_is_made_of():
    train = Trainer()
    obtain(train)
    about = obtain(train).about
    assert {name: about[name] for name in CONTENT} == CONTENT
    assert key_of({name: about[name] for name in CONTENT}) == about["key"] == KEY
    assert about["name"] == NAME
    assert about["cost"] == {"seconds": 2.5, "images_per_second": 100.0, "device": "cpu", "processes": 1}
    assert about["history"] == OUTCOME.history
    assert about["torch"] == torch.__version__
    assert about["threads"] == torch.get_num_threads()
    assert about["device"]
    assert about["made"].startswith("20")


def test_another_key_is_another_artifact(folders):
    train = Trainer()
    obtain(train)
    assert first(obtain(train, CONTENT | {"data": "another"})) == 2.0
    assert len(list(folders[0].glob("*.safetensors"))) == 2


def test_an_artifact_is_found_whatever_it_was_called(folders):
    """Else a model that is called otherwise now, or by two descriptions, would be trained again."""
    train = Trainer()
    made = obtain(train, CONTENT, "cifar100 another name")
    assert obtain(train).about == made.about
    path = publish(made)
    (kept,) = folders[0].glob("*.safetensors")
    kept.unlink()
    renamed = obtain(train)
    assert first(renamed) == 1.0
    assert publish(Artifact(KEY, renamed.tensors, renamed.about | {"name": NAME})) == path
    assert [each.name for each in folders[1].iterdir()] == [f"cifar100-another-name-{KEY[:16]}.safetensors"]


def test_a_module_that_is_trained_on_leaves_its_artifact_alone():
    train = Trainer()
    for _ in range(2):  # made, then found
        modules, artifact, _ = train.obtain()
        with torch.no_grad():
            modules.weight.add_(1)
        assert first(artifact) == 1.0
    publish(artifact)
    assert first(obtain(train)) == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar100 old_samples 0", "cifar100-old_samples-0"),
        ("digits new, BCT C × 0.1 against (old, L2 against old_quarter) 12", None),
        ("my-images.v2 SFSC, open-set 1", "my-images.v2-sfsc-open-set-1"),
        ("../old 0", "..-old-0"),
    ],
)
def test_a_files_name_is_plain_whatever_it_is_called(name, expected):
    expected = expected or "digits-new-bct-c-0.1-against-old-l2-against-old_quarter-12"
    assert file_name(name, KEY) == f"{expected}-{KEY[:16]}.safetensors"


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
        load_or_fit(NAME, CONTENT, nn.Linear(3, 1), failing)
    assert not list(folders[0].glob("*.safetensors"))
    assert first(obtain(Trainer())) == 1.0


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
        modules, again, is_new = train.obtain()
    assert first(again) == float(modules.weight.detach()[0, 0]) == 2.0
    assert is_new
    assert len(train.checkpoints) == 2


def test_a_file_that_holds_another_key_is_not_trusted(folders):
    train = Trainer()
    obtain(train)
    path = next(folders[0].glob("*.safetensors"))
    tensors, about = read_tensors(path)
    # Alike in the first 16 digits, which the name shows, and different after them.
    write_tensors(path, tensors, about | {"key": KEY[:16] + "0" * 48})
    with pytest.warns(UserWarning, match="holds another artifact than its name says"):
        again = train.obtain()[1]
    assert again.key == KEY
    assert first(again) == first(obtain(train)) == 2.0
    assert read_tensors(path.with_name(f"{path.name}.damaged"))[1]["key"] == KEY[:16] + "0" * 48


def test_a_folder_in_the_files_place_is_kept_beside(folders):
    """It would refuse the file when the training has ended."""
    path = folders[0] / file_name(NAME, KEY)
    (path / "mine").mkdir(parents=True)
    with pytest.warns(UserWarning, match="is damaged"):
        Trainer().obtain()
    assert first(obtain(Trainer())) == 1.0
    assert [each.name for each in path.with_name(f"{path.name}.damaged").iterdir()] == ["mine"]


def test_a_file_in_the_place_of_the_folder_is_told_before_the_training(folders, monkeypatch, tmp_path):
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setenv("COMPATLIB_ARTIFACTS", str(tmp_path / "mine"))
    train = Trainer()
    with pytest.raises(ValueError, match=r"COMPATLIB_ARTIFACTS is '.*mine', which is no folder; name a folder"):
        train.obtain()
    assert train.checkpoints == []


def test_a_full_disk_leaves_no_half_an_artifact_and_keeps_the_checkpoint(folders, full_disk):
    def fit(modules, checkpoint):
        checkpoint.touch()
        return OUTCOME

    modules = nn.Linear(2000, 1)
    with full_disk(1000), pytest.raises(OSError, match=r"could not be written"):
        load_or_fit(NAME, CONTENT, modules, lambda checkpoint: fit(modules, checkpoint))
    assert [path.suffix for path in folders[0].iterdir()] == [".checkpoint"]


# Published.


def test_what_is_published_is_found_first(folders):
    train = Trainer()
    path = publish(obtain(train))
    assert path.parent == folders[1]
    kept = next(folders[0].glob("*.safetensors"))
    tensors, about = read_tensors(kept)
    write_tensors(kept, tensors | {"weight": tensors["weight"] + 10}, about)
    assert first(obtain(train)) == 1.0
    kept.unlink()
    assert first(obtain(train)) == 1.0
    assert len(train.checkpoints) == 1


def test_publishing_is_repeatable_and_mends_a_damaged_file():
    artifact = obtain(Trainer())
    path = publish(artifact)
    before, written = path.read_bytes(), path.stat().st_mtime_ns
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
    modules = nn.Linear(3, 1)

    def fit(checkpoint):
        with log.open("a") as file:
            file.write(f"{number}\n")
        begun.set()
        others_are_coming.wait(5)
        time.sleep(0.3)  # without a lock they would train by now
        nn.init.constant_(modules.weight, float(number))
        return OUTCOME

    if number:
        begun.wait(30)
        others_are_coming.set()
    load_or_fit(NAME, CONTENT, modules, fit)
    with log.with_suffix(".got").open("a") as file:
        file.write(f"{modules.weight.detach()[0, 0]:.0f}\n")


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

    def obtain(self, name: str = NAME, **changes: str) -> Artifact:
        parts = {
            "backbone": initialised(lambda: small_resnet(widths=(4,), dim=4, stem_stride=2), 0, "old"),
            "classifier": initialised(lambda: LinearClassifier(4, 3), 0, "old classifier"),
        }
        recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.05)

        def fit(checkpoint):
            options = {"checkpoint": checkpoint, "checkpoint_seconds": 0, "report": self.report}
            return independent.fit(**parts, images=images(), recipe=recipe, seed=0, role="old", **options)

        return load_or_fit(name, CONTENT | changes, nn.ModuleDict(parts), fit)[0]


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_training_that_is_killed_goes_on_from_its_checkpoint(folders, stop_at):
    whole = RealTraining().obtain("whole", data="the same, in one go")
    with pytest.raises(KeyboardInterrupt):
        RealTraining(stop_at).obtain()
    assert not list(folders[0].glob("cifar100*.safetensors"))
    resumed = RealTraining()
    again = resumed.obtain()
    # The checkpoint of the step before the interruption is on disk.
    assert len(resumed.shares) == 6 - (stop_at - 1)
    assert again.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert again.about["history"] == whole.about["history"]
    assert not list(folders[0].glob("*.checkpoint"))


# The models that are published with the study.


@pytest.fixture(scope="module")
def published() -> dict[str, tuple[dict[str, torch.Tensor], dict]]:
    """Tensors and what is told of them, by the file's name."""
    return {path.name: read_tensors(path) for path in PUBLISHED}


@pytest.mark.parametrize("name", [path.name for path in PUBLISHED])
def test_a_published_models_key_is_made_of_what_it_tells_of_itself(published, name):
    tensors, about = published[name]
    assert key_of({each: about[each] for each in CONTENT}) == about["key"]
    assert file_name(about["name"], about["key"]) == name
    known = {own["key"] for _, own in published.values()} | {row["new_key"] for row in REKEYED}
    assert set(about["parents"]) <= known
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    losses = dict.fromkeys(range(1, about["settings"]["training"]["epochs"] + 1), 0.0)
    for row in about["history"]:
        losses[row["epoch"]] += row["value"]
    assert 0 < losses[max(losses)] < losses[1]
    assert about["cost"]["seconds"] > 0


def test_every_old_key_has_one_new_key_and_every_model_of_then_is_listed(published):
    keys = [row[column] for row in REKEYED for column in ("old_key", "new_key")]
    assert len(set(keys)) == len(keys) == 2 * len(REKEYED)
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)
    listed = {row["new_key"]: row["name"] for row in REKEYED if row["published"] == "yes"}
    of_then = {about["key"]: about["name"] for _, about in published.values() if about["made"] < REKEYED_ON}
    assert of_then
    assert of_then.items() <= listed.items()
