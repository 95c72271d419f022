"""Embedding a data set: every view of every image, resumed to the same bytes, and nothing of other images."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from compatlib.data import sources
from compatlib.data.features import PRECISION, SOURCES, WEIGHTS, Source
from compatlib.models import encoders
from compatlib.study.lab import features
from compatlib.study.lab.parallel import WORTH_A_PROCESS

PROJECT = Path(__file__).resolve().parents[3]
COUNT, SIDE = 1797, 12  # of scikit-learn's digits, and to which they are enlarged here
FILES = ("lite0.npy", "lite0.npy.json")


class Tiny(nn.Module):
    """In place of an encoder: four features, which a mirrored image has in another order."""

    dim = 4

    def __init__(self, name: str) -> None:
        super().__init__()
        self.digest, self.calls = WEIGHTS[name], 0
        self.layer = nn.Conv2d(3, 2, 3, bias=False)
        random = torch.Generator().manual_seed(len(name))
        self.layer.weight = nn.Parameter(torch.randn(self.layer.weight.shape, generator=random), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, SIDE, SIDE)
        self.calls += len(images)
        return nn.functional.adaptive_avg_pool2d(self.layer(images).relu().float(), (1, 2)).flatten(1)


@pytest.fixture(scope="module")
def digests() -> dict[str, str]:
    return {split: sources.load("digits", split).digest() for split in sources.SPLITS}


@pytest.fixture(autouse=True)
def lite(tmp_path, monkeypatch, digests):
    """A data set `digits_lite` of images that are at hand, small encoders, and an empty folder for features."""
    monkeypatch.setitem(SOURCES, "digits_lite", Source("digits", digests, COUNT, ("plain", "mirrored")))
    monkeypatch.setattr(features.features, "PIXELS", SIDE)
    monkeypatch.setattr(encoders, "encoder", Tiny)
    monkeypatch.setenv("COMPATLIB_FEATURES", str(tmp_path / "features"))
    return tmp_path / "features" / "digits_lite"


def quiet(share: float, text: str) -> None:
    """A report that goes nowhere."""


def make(report=quiet, encoder: str = "lite0") -> bool:
    return features.make("digits_lite", encoder, report=report)


@pytest.fixture
def whole(tmp_path, lite, monkeypatch) -> bytes:
    """What an uninterrupted run writes."""
    with monkeypatch.context() as patch:
        patch.setenv("COMPATLIB_FEATURES", str(tmp_path / "whole"))
        assert make()
    return (tmp_path / "whole" / "digits_lite" / "lite0.npy").read_bytes()


class Stop:
    """A report that ends the run after so many blocks."""

    def __init__(self, blocks: int, end) -> None:
        self.left, self.end = blocks + 1, end  # the first report is of no block

    def __call__(self, share: float, text: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.end()


def interrupt() -> None:
    raise KeyboardInterrupt


# What is written.


@pytest.mark.parametrize("split", sources.SPLITS)
def test_a_file_holds_every_view_of_every_image_in_its_order(split):
    assert make()
    found, images = sources.load("digits_lite", split, encoder="lite0"), sources.load("digits", split)
    network = Tiny("lite0")
    assert torch.equal(found.labels, images.labels)
    assert found.class_names == images.class_names
    assert found.features.shape == (len(images), 2, 4)
    for index in range(0, len(images), 97):
        pixels = encoders.prepared(images.images[index : index + 1], SIDE)
        with torch.autocast("cpu", getattr(torch, PRECISION)):
            expected = torch.cat([network(pixels), network(pixels.flip(3))])
        torch.testing.assert_close(found.features[index].float(), expected, atol=0.05, rtol=0.02)
        assert (expected[0] - expected[1]).abs().max() > 0.06


def test_one_view_is_stored_where_an_image_is_not_mirrored(monkeypatch, digests):
    monkeypatch.setitem(SOURCES, "digits_lite", Source("digits", digests, COUNT, ("plain",)))
    make()
    assert sources.load("digits_lite", "test", encoder="lite0").features.shape[1:] == (1, 4)


def test_what_is_there_is_found_and_not_made_again(lite, monkeypatch):
    make()
    before = {path.name: path.read_bytes() for path in lite.iterdir() if path.name in FILES}
    monkeypatch.setattr(encoders, "encoder", None)
    monkeypatch.setattr(features.sources, "load", None)
    assert not make()
    assert {name: (lite / name).read_bytes() for name in FILES} == before


def test_every_encoder_has_its_weights_and_every_view_its_way():
    assert tuple(WEIGHTS) == encoders.ENCODERS
    assert {view for source in SOURCES.values() for view in source.views} == set(features.VIEWS)
    assert features.BLOCK % features.BATCH == 0


# Interruptions.


@pytest.mark.parametrize("blocks", range(4))
def test_an_interruption_after_any_block_ends_with_the_same_bytes(lite, whole, blocks):
    with pytest.raises(KeyboardInterrupt):
        make(Stop(blocks, interrupt))
    assert not (lite / "lite0.npy").exists()
    if blocks:
        done = f"{blocks * features.BLOCK:,} of {COUNT:,} images are embedded"
        with pytest.raises(FileNotFoundError, match=done):
            sources.load("digits_lite", "train", encoder="lite0")
    reports = []
    assert make(lambda share, text: reports.append((share, text)))
    assert (lite / "lite0.npy").read_bytes() == whole
    assert {path.name for path in lite.iterdir()} == set(FILES)
    # Of what was left to do, so that the remaining time is right.
    starts = [*range(blocks * features.BLOCK, COUNT, features.BLOCK)]
    ends = [*starts[1:], COUNT]
    assert [share for share, _ in reports[1:]] == [(end - starts[0]) / (COUNT - starts[0]) for end in ends]
    assert f"{ends[0]:,} of {COUNT:,} images, " in reports[1][1]


def test_a_run_that_is_killed_is_completed_to_the_same_bytes_and_its_lock_is_free(lite, whole):
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            make(Stop(2, die))
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert json.loads((lite / "lite0.npy.part.json").read_text())["rows"] == 2 * features.BLOCK
    assert make()
    assert (lite / "lite0.npy").read_bytes() == whole


def test_who_wants_what_another_process_is_making_waits_and_finds_it(lite, whole, caplog):
    lite.mkdir(parents=True)
    outcome, told = [], []
    lock = FileLock(lite / ".lite0.lock")
    with lock:
        waiting = threading.Thread(target=lambda: outcome.append(make(lambda *report: told.append(report))))
        waiting.start()
        while not caplog.messages:
            assert outcome == []
            time.sleep(0.02)
        for name in FILES:
            (lite / name).write_bytes((lite.parents[1] / "whole" / "digits_lite" / name).read_bytes())
    waiting.join()
    assert outcome == [False]
    assert told == [(0.0, "begins")]
    assert caplog.messages[0].startswith("waiting for another process, which embeds digits_lite by lite0")


# Others' images, weights and files.


def test_images_that_are_not_the_data_sets_are_refused_before_anything_is_written(lite, monkeypatch, digests):
    other = Source("digits", digests | {"test": "0" * 64}, COUNT, ("plain",))
    monkeypatch.setitem(SOURCES, "digits_lite", other)
    with pytest.raises(
        ValueError, match=r"the test images of digits under .* are others than digits_lite is made of \(SH"
    ):
        make()
    assert not list(lite.glob("lite0*"))


def test_images_that_do_not_lie_class_by_class_are_refused(lite, monkeypatch):
    """Of labels the counts alone are kept."""
    real = sources.load

    def shuffled(name: str, split: str):
        images = real(name, split)
        return images.select(torch.arange(len(images)).roll(5))

    monkeypatch.setattr(sources, "load", shuffled)
    digests = {split: shuffled("digits", split).digest() for split in sources.SPLITS}
    monkeypatch.setitem(SOURCES, "digits_lite", Source("digits", digests, COUNT, ("plain",)))
    with pytest.raises(ValueError, match="the train images of digits do not lie class by class; sort them by label"):
        make()
    assert not list(lite.glob("lite0*"))


def test_weights_that_are_not_the_encoders_are_refused_before_anything_is_written(lite, monkeypatch):
    def other(name: str) -> Tiny:
        network = Tiny(name)
        network.digest = "0" * 64
        return network

    monkeypatch.setattr(encoders, "encoder", other)
    with pytest.raises(
        ValueError, match=r"the weights of lite0 have the SHA-256 0{64} instead of 5793.*install efficient"
    ):
        make()
    assert not list(lite.glob("lite0*"))


@pytest.mark.parametrize("blocks", [2, 4])
def test_a_file_or_a_part_that_was_made_from_others_is_refused_and_left(lite, monkeypatch, blocks):
    with pytest.raises(KeyboardInterrupt):
        make(Stop(blocks, interrupt))
    if blocks == 4:
        make()
    before = {path.name: path.read_bytes() for path in lite.iterdir()}
    monkeypatch.setattr(features.features, "PIXELS", 24)
    with pytest.raises(
        ValueError, match=r"was made from other pixels than digits_lite by lite0 \(pixels 12 instead of 24\)"
    ):
        make()
    assert {path.name: path.read_bytes() for path in lite.iterdir()} == before


def test_a_damaged_file_is_told_and_left(lite):
    make()
    (lite / "lite0.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"lite0\.npy is damaged .*; delete it, and `make data NAME=digits_lite"):
        make()
    assert (lite / "lite0.npy").read_bytes() == b""


# The command.


def test_the_command_makes_the_encoders_that_are_asked_for_and_tells_how_far_it_is(lite, capsys, monkeypatch):
    monkeypatch.setattr(features, "IMAGES_TO_TRAIN_ON", 1)  # few enough for this process, which knows the data set
    assert features.main(["digits_lite", "--encoders", "lite0, lite2,"]) == 0
    assert {path.name for path in lite.glob("*.npy")} == {"lite0.npy", "lite2.npy"}
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"digits_lite is in {lite}"
    assert said[-2].startswith("lite2          100% | done | 0 s left")
    assert features.main(["digits_lite"]) == 0
    assert {path.stem for path in lite.glob("*.npy")} == set(WEIGHTS)
    assert "lite0            0% | found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], "no images are known to be embedded as ''; choose one of cifar100_lite, omniglot_lite, digits_lite"),
        (["cifar100"], "no images are known to be embedded as 'cifar100'"),
        (["digits_lite", "--encoders", "lite0,lite5"], "'lite5' is none of its encoders; name one, encoder='lite0' or"),
    ],
)
def test_the_command_names_what_is_wrong_before_anything_is_made(lite, capsys, arguments, words):
    assert features.main(arguments) == 2
    assert words in capsys.readouterr().err
    assert not lite.exists()


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ImportError("pip install 'compatlib[encoders]'"), 2, "pip install 'compatlib[encoders]'"),
        (FileNotFoundError("get the images"), 2, "get the images"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it stopped"),
    ],
)
def test_the_command_says_how_to_go_on(monkeypatch, capsys, error, status, words):
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(encoders, "encoder", fail)
    assert features.main(["digits_lite", "--encoders", "lite0"]) == status
    assert capsys.readouterr().err.strip() == words


def test_several_encoders_are_worth_processes_of_their_own_for_a_large_set_alone(monkeypatch):
    planned = []
    monkeypatch.setattr(features, "train_all", lambda tasks, progress: planned.append(tasks))
    for name in ("cifar100_lite", "omniglot_lite"):
        features.make_all(name, ["lite0", "lite2", "lite0"])
    large, small = (sum(task.work for task in tasks) for tasks in planned)
    assert [task.name for task in planned[0]] == ["lite0", "lite2"]
    assert small < WORTH_A_PROCESS < large


def test_make_data_is_a_command_although_a_folder_has_its_name():
    command = ["make", "-n", "data", "NAME=cifar100_lite", "ENCODERS=lite0,lite2", f"RUN={sys.executable}"]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert said == f"{sys.executable} -m compatlib.study.lab.features 'cifar100_lite' --encoders 'lite0,lite2'\n"
