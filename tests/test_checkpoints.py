"""Weights and training states on disk: exact round trips, whole files or none, damage told, no pickle loaded."""

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from compatlib.checkpoints import (
    DamagedFileError,
    State,
    load_weights,
    read_checkpoint,
    read_tensors,
    write_checkpoint,
    write_tensors,
)

ABOUT = {"key": "abc", "settings": {"widths": [16, 32], "clip_norm": None, "rate": 0.1}, "title": "λ = ½"}
IDENTITY = {"recipe": {"epochs": 3, "betas": (0.9, 0.99)}, "seed": 0, "role": "old", "images": 40}


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), 0.01)


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int, first: int = 0) -> None:
    for step in range(first, first + count):
        inputs = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Tensors and their description.


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4, 5)])
def test_tensors_come_back_bit_for_bit(tmp_path, dtype, shape):
    tensor = (100 * torch.rand(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    write_tensors(tmp_path / "file", {"a/b": tensor}, ABOUT)
    tensors, about = read_tensors(tmp_path / "file")
    assert tensors["a/b"].dtype == dtype
    assert tensors["a/b"].shape == shape
    assert torch.equal(tensors["a/b"], tensor)
    assert about == ABOUT


def test_special_numbers_come_back(tmp_path):
    numbers = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])
    write_tensors(tmp_path / "file", {"numbers": numbers}, {})
    again = read_tensors(tmp_path / "file")[0]["numbers"]
    assert again.numpy().tobytes() == numbers.numpy().tobytes()


def test_any_memory_layout_is_written_and_gradients_are_dropped(tmp_path):
    tensor = torch.arange(120.0).view(2, 3, 4, 5)
    layouts = {
        "channels_last": tensor.to(memory_format=torch.channels_last),
        "transposed": tensor.transpose(1, 3),
        "sliced": tensor[:, ::2],
        "expanded": torch.ones(1).expand(7),
        "trained": nn.Parameter(tensor.clone()),
    }
    write_tensors(tmp_path / "file", layouts, {})
    tensors, _ = read_tensors(tmp_path / "file")
    assert equal(tensors, {name: layout.detach() for name, layout in layouts.items()})
    assert not tensors["trained"].requires_grad


def test_tensors_that_share_memory_are_written_each_for_itself(tmp_path):
    whole = torch.arange(6.0)
    shared = {"whole": whole, "again": whole, "part": whole[2:4], "empty": whole[:0], "void": torch.empty(0)}
    write_tensors(tmp_path / "file", shared, {})
    assert equal(read_tensors(tmp_path / "file")[0], shared)


@pytest.mark.parametrize(
    "value", [{"a": 1}, nn.LazyLinear(3).weight, torch.ones(2, device="meta"), torch.eye(3).to_sparse()]
)
def test_what_is_no_tensor_with_values_is_named(tmp_path, value):
    with pytest.raises(ValueError, match=r"'layer\.state' cannot be written to .*file: "):
        write_tensors(tmp_path / "file", {"layer.state": value}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, full_disk):
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.ones(3)}, ABOUT)
    before = path.read_bytes()
    with (
        full_disk(10_000),
        pytest.raises(OSError, match=r"file could not be written \(File too large\); what"),
    ):
        write_tensors(path, {"a": torch.ones(5000)}, ABOUT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_made_and_nothing_but_the_file_is_left(tmp_path):
    path = tmp_path / "far" / "away" / "file"
    for number in range(2):
        write_tensors(path, {"a": torch.full((3,), number)}, {"number": number})
    assert list(path.parent.iterdir()) == [path]
    assert read_tensors(path)[1] == {"number": 1}


def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.ones(3)}, ABOUT)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_tensors(path, {"a": torch.zeros(3)}, {"path": Path("a")})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_before_the_renaming_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.ones(3)}, ABOUT)
    before, seen = path.read_bytes(), []

    def killed(source, destination):
        seen.append(read_tensors(Path(source))[0]["a"].tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.zeros(3)}, ABOUT)
    assert seen == [[0.0, 0.0, 0.0]]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_told_apart_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_tensors(tmp_path / "absent")
    assert not issubclass(DamagedFileError, FileNotFoundError)


def test_a_file_cut_off_anywhere_is_damaged(tmp_path):
    path = tmp_path / "file"
    write_tensors(path, {"a": torch.arange(50.0), "b": torch.ones(3)}, ABOUT)
    data = path.read_bytes()
    for length in [*range(0, 60), *range(60, len(data), 17), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(DamagedFileError, match=r"file is damaged .*delete it to have it made again"):
            read_tensors(path)


def test_a_damaged_header_is_damage_or_tells_other_names(tmp_path):
    path, tensors = tmp_path / "file", {"a": torch.arange(5.0)}
    write_tensors(path, tensors, {"key": "abc"})
    data, told = path.read_bytes(), 0
    for position in range(len(data) - 20):
        path.write_bytes(data[:position] + b"\x00" + data[position + 1 :])
        try:
            read_tensors(path)
        except DamagedFileError:
            told += 1
    assert told > 0.9 * (len(data) - 28)


@pytest.mark.parametrize(
    "write", [lambda path: torch.save({"a": torch.ones(3)}, path), lambda path: path.write_text("")]
)
def test_a_pickle_and_an_empty_file_are_damaged(tmp_path, write):
    write(tmp_path / "file")
    with pytest.raises(DamagedFileError):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("metadata", [None, {"other": "text"}, {"about": "{no json"}])
def test_a_foreign_safetensors_file_is_damaged(tmp_path, metadata):
    save_file({"a": torch.ones(3)}, tmp_path / "file", metadata=metadata)
    with pytest.raises(DamagedFileError):
        read_tensors(tmp_path / "file")


def test_a_folder_in_the_files_place_is_damage(tmp_path):
    with pytest.raises(DamagedFileError):
        read_tensors(tmp_path)


# Weights into a module.


def test_weights_fit_the_module_they_came_from(tmp_path):
    source, target = network(1).to(memory_format=torch.channels_last), network(2)
    steps(source, sgd(source), 2)
    write_tensors(tmp_path / "file", source.state_dict(), {})
    load_weights(target, read_tensors(tmp_path / "file")[0], tmp_path / "file")
    assert equal(source.state_dict(), target.state_dict())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("4.bias"), "Missing"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "Unexpected"),
        (lambda tensors: tensors.update({"4.bias": torch.ones(3)}), "size mismatch"),
    ],
)
def test_weights_of_another_module_are_refused(change, words):
    tensors = network().state_dict()
    change(tensors)
    with pytest.raises(DamagedFileError, match=f"(?s)the-file does not fit the module: .*{words}"):
        load_weights(network(), tensors, Path("the-file"))


# The state of a training.


def test_sums_are_kept_in_double_precision():
    state = State()
    values = [torch.tensor(1e8), *[torch.tensor(0.125)] * 8]
    for value in values:
        state.add("classification", value)
    state.add("influence", torch.tensor(2.0, dtype=torch.bfloat16))
    assert state.totals["classification"].dtype == torch.float64
    assert float(state.totals["classification"]) == 1e8 + 1.0
    assert float(state.totals["influence"]) == 2.0
    assert State().totals == {}


def test_terms_keep_their_order_and_a_file_of_before_that_is_read_too(tmp_path):
    module, state = network(), State()
    for term in ("prototypes", "classification", "old_to_new"):
        state.add(term, torch.tensor(1.5))
    write_checkpoint(tmp_path / "run", IDENTITY, module, sgd(module), state)
    assert list(read_checkpoint(tmp_path / "run", IDENTITY, module, sgd(module)).totals) == list(state.totals)
    tensors, about = read_tensors(tmp_path / "run")
    del about["terms"]
    write_tensors(tmp_path / "run", tensors, about)
    assert read_checkpoint(tmp_path / "run", IDENTITY, module, sgd(module)).totals == state.totals


@pytest.mark.parametrize("make", [sgd, adam])
def test_a_checkpoint_restores_everything_that_the_next_steps_depend_on(tmp_path, make):
    whole, other = network(), network(1)
    optimizer = make(whole)
    steps(whole, optimizer, 3)
    state = State(3, 1.5, [{"epoch": 1, "term": "classification", "value": 0.5, "learning_rate": 0.1}])
    state.add("classification", torch.tensor(0.75))
    write_checkpoint(tmp_path / "run", IDENTITY, whole, optimizer, state)
    resumed_optimizer = make(other)
    resumed = read_checkpoint(tmp_path / "run", IDENTITY, other, resumed_optimizer)
    assert (resumed.step, resumed.seconds, resumed.history) == (state.step, state.seconds, state.history)
    assert equal(resumed.totals, state.totals)
    for model, its_optimizer in ((whole, optimizer), (other, resumed_optimizer)):
        steps(model, its_optimizer, 3, first=3)
    assert equal(whole.state_dict(), other.state_dict())
    for index, entries in optimizer.state_dict()["state"].items():
        assert equal(entries, resumed_optimizer.state_dict()["state"][index])


def test_a_checkpoint_before_the_first_step_can_be_read(tmp_path):
    model = network()
    write_checkpoint(tmp_path / "run", IDENTITY, model, sgd(model), State())
    assert read_checkpoint(tmp_path / "run", IDENTITY, network(1), sgd(model)) == State()


def test_without_a_file_the_state_is_fresh_and_the_module_untouched(tmp_path):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_checkpoint(tmp_path / "absent", IDENTITY, model, sgd(model)) == State()
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_damaged_checkpoint_is_reported_kept_and_changes_nothing(tmp_path, kept):
    model, path = network(), tmp_path / "run"
    write_checkpoint(path, IDENTITY, network(1), sgd(model), State(7))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name in ("run.damaged", "run.damaged1"):
        with pytest.warns(UserWarning, match=rf"run is damaged .*is kept as {name}, and the training starts anew"):
            assert read_checkpoint(path, IDENTITY, model, sgd(model)) == State()
        assert not path.exists()
        assert path.with_name(name).read_bytes() == data[: int(kept * len(data))]
        path.write_bytes(data[: int(kept * len(data))])
    assert equal(model.state_dict(), before)


FOREIGN = {
    "torch's": lambda path: torch.save({"weight": torch.ones(3)}, path),
    "text": lambda path: path.write_text("remarks\n"),
    "empty": lambda path: path.write_text(""),
    "weights": lambda path: save_file({"weight": torch.ones(3)}, path),
    "weights with words": lambda path: save_file({"weight": torch.ones(3)}, path, metadata={"about": "[1]"}),
    "half of the weights": lambda path: path.write_bytes(save({"weight": torch.ones(3)})[:-5]),
    "an artifact": lambda path: write_tensors(path, {"weight": torch.ones(3)}, ABOUT),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_checkpoint_is_refused_and_left_as_it_is(tmp_path, kind):
    path, model = tmp_path / "mine", network()
    FOREIGN[kind](path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"mine is no checkpoint of a training; it is left as it is: give another"):
        read_checkpoint(path, IDENTITY, model, sgd(model))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_checkpoint(tmp_path, make):
    """A pipe that nobody writes to would be waited for."""
    make(tmp_path / "mine")
    with pytest.raises(ValueError, match="mine is no checkpoint of a training"):
        read_checkpoint(tmp_path / "mine", IDENTITY, network(), sgd(network()))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_checkpoint_that_trained_other_parts_is_refused(tmp_path):
    """Their momenta would go to parameters of other shapes."""
    model = network()
    first, last = (torch.optim.SGD(model[place].parameters(), 0.1, momentum=0.9) for place in (0, 4))
    steps(model, first, 1)
    write_checkpoint(tmp_path / "run", IDENTITY, model, first, State(1))
    with pytest.raises(ValueError, match="it trained other parts of the network"):
        read_checkpoint(tmp_path / "run", IDENTITY, model, last)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"role": "new"}, {"images": 41}, {"recipe": {"epochs": 4}}, {"more": 1}]
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other):
    model = network()
    write_checkpoint(tmp_path / "run", IDENTITY, model, sgd(model), State(7))
    with pytest.raises(ValueError, match=r"run is the checkpoint of another run: it was .*'old'.*delete it"):
        read_checkpoint(tmp_path / "run", IDENTITY | other, model, sgd(model))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    model, other = network(), nn.Linear(3, 2)
    write_checkpoint(tmp_path / "run", IDENTITY, model, sgd(model), State(7))
    with pytest.raises(ValueError, match=r"it trained another network; it is left as it is: give another file, or"):
        read_checkpoint(tmp_path / "run", IDENTITY, other, sgd(other))
    assert (tmp_path / "run").exists()


def test_a_checkpoint_is_json_and_tensors(tmp_path):
    model = network()
    optimizer = sgd(model)
    steps(model, optimizer, 1)
    write_checkpoint(tmp_path / "run", IDENTITY, model, optimizer, State(1))
    data = (tmp_path / "run").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header.pop("__metadata__")["about"])
    assert about["identity"] == json.loads(json.dumps(IDENTITY))
    assert {name.partition("/")[0] for name in header} == {"modules", "optimizer"}
