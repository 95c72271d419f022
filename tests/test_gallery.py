"""Upgrading a stored gallery: the transformation's own embeddings, in blocks, resumed after a kill, refused by name."""

import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from compatlib.gallery import joined, upgrade_gallery
from compatlib.methods.fct import Transformation

COUNT = 103


@pytest.fixture
def transformation() -> Transformation:
    """With statistics of BatchNorm that are not the initial ones."""
    torch.manual_seed(0)
    module = Transformation(4, 3, 5, 8)
    for _ in range(5):
        module(torch.rand(50, 4), 3 * torch.rand(50, 3))
    return module.eval()


def gallery(dtype=np.float32) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.random((COUNT, 4)).astype(dtype), random.random((COUNT, 3)).astype(dtype)


def expected(transformation, old, side) -> np.ndarray:
    """One item at a time."""
    with torch.no_grad():
        items = [torch.from_numpy(each[i : i + 1].astype(np.float32)) for i in range(len(old)) for each in (old, side)]
        return torch.cat([transformation(*items[2 * i : 2 * i + 2]) for i in range(len(old))]).numpy()


@pytest.mark.parametrize("block", [1, 10, 103, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_upgrade_is_the_transformation_of_every_item(tmp_path, transformation, block, dtype):
    old, side = gallery(np.dtype(dtype))
    path = tmp_path / "new.npy"
    found = upgrade_gallery(transformation, old, side, path, identity={"h": 1}, block=block)
    np.testing.assert_allclose(found, expected(transformation, old, side), rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32
    assert np.load(path, allow_pickle=False).shape == (COUNT, 5)


def test_without_side_information_the_old_embedding_is_fed_in_twice(tmp_path):
    torch.manual_seed(0)
    transformation = Transformation(4, 4, 5, 8).eval()
    old = gallery()[0]
    once = upgrade_gallery(transformation, old, None, tmp_path / "once.npy", identity={})
    twice = upgrade_gallery(transformation, old, old, tmp_path / "twice.npy", identity={})
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("kind", ["read-only", "mapped", "reversed", "other byte order", "every second", "float64"])
def test_a_gallery_may_be_held_in_any_way(tmp_path, transformation, kind):
    """And is not written to."""
    old, side = gallery()
    held = {
        "read-only": lambda: old.copy(),
        "mapped": lambda: (np.save(tmp_path / "old.npy", old), np.load(tmp_path / "old.npy", mmap_mode="r"))[1],
        "reversed": lambda: np.ascontiguousarray(old[::-1])[::-1],
        "other byte order": lambda: old.astype(">f4"),
        "every second": lambda: np.repeat(old, 2, axis=0)[::2],
        "float64": lambda: old.astype(np.float64),
    }[kind]()
    held.flags.writeable = False
    before = held.copy()
    found = upgrade_gallery(transformation, held, side, tmp_path / "new.npy", identity={}, block=10)
    np.testing.assert_allclose(found, expected(transformation, old, side), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(held, before)


def test_the_gallery_may_be_stored_in_half_the_bytes(tmp_path, transformation):
    old, side = gallery()
    found = upgrade_gallery(transformation, old, side, tmp_path / "new.npy", identity={}, dtype="float16")
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected(transformation, old, side), rtol=2e-3, atol=2e-3)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


class Doubled(nn.Sequential):
    """A forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Indexed(Residual):
    """Calls a layer of an `nn.Sequential` by itself too."""

    def forward(self, x):
        return self.layers[0](x) + self.layers(x)


class Sequences(nn.Module):
    """(n, 6) → (n, 2, 3), whose BatchNorm is over the second of the three dimensions, of the linear layer's size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def forward(self, x):
        return self.layers(x.view(-1, 2, 3)).flatten(1)


class Patched(nn.Linear):
    """Of another class than `nn.Linear`."""

    def forward(self, x):
        return 1 - super().forward(x)


def shared():
    linear, norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
    return nn.Sequential(linear, norm, nn.ReLU(), linear, nn.ReLU(), linear, nn.BatchNorm1d(6), norm, Residual(linear))


def hooked():
    layers = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: output + 1)
    return layers


def named():
    return nn.Sequential(
        OrderedDict(rise=nn.Linear(6, 5, bias=False), norm=nn.BatchNorm1d(5), bend=nn.ReLU(), fall=nn.Linear(5, 6))
    )


def old_weight_norm():
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 5)), nn.BatchNorm1d(5), nn.ReLU())


def pruned():
    layers = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
    prune.l1_unstructured(layers[0], "weight", 0.5)
    return layers


def hooked_before():
    layers = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
    layers[1].register_forward_pre_hook(lambda layer, inputs: (2 * inputs[0],))
    layers.register_forward_hook(lambda layer, inputs, output: 3 * output)
    return layers


class Functional(nn.Module):
    """Uses the layers' weights by itself, parts of the layers, a list and a mapping of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())
        self.list = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)) for _ in range(2)])
        self.mapping = nn.ModuleDict({"linear": nn.Linear(6, 6), "norm": nn.BatchNorm1d(6)})
        self.bound = self.layers.forward

    def forward(self, x):
        y = F.linear(self.layers[:2](x), self.layers[0].weight, self.layers[1].bias) + self.bound(x)
        for layer in self.list:
            y = y + layer(input=y)
        return self.mapping["norm"](self.mapping["linear"](y))


MODULES = {
    "plain": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6)),
    "without bias": lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5, eps=0.1)),
    "no norm": lambda: nn.Sequential(nn.ReLU(), nn.Linear(6, 5), nn.ReLU()),
    "norm first": lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6), nn.ReLU(), nn.BatchNorm1d(6)),
    "two norms": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5), nn.ReLU(), nn.ReLU()),
    "residual": lambda: Residual(nn.ReLU(), nn.Linear(6, 6)),
    "hidden residual": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), Residual(nn.ReLU(), nn.Linear(6, 6))),
    "nested residual": lambda: Residual(nn.Sequential(nn.ReLU()), nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))),
    "overwriting": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 6), nn.BatchNorm1d(6)),
    "overwriting its input": lambda: Residual(nn.ReLU(inplace=True), nn.Linear(6, 6), nn.BatchNorm1d(6)),
    "affine=False": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU()),
    "no statistics": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.ReLU()),
    "other norms": lambda: nn.Sequential(nn.Linear(6, 6), nn.GroupNorm(2, 6), nn.ReLU(), nn.LayerNorm(6), nn.PReLU(6)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(6, 5)), nn.BatchNorm1d(5), nn.Sequential(nn.ReLU(), nn.Sequential()), nn.Dropout()
    ),
    "named": named,
    "own forward": lambda: nn.Sequential(Doubled(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()), nn.ReLU()),
    "called by index": lambda: Indexed(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU()),
    "own linear class": lambda: nn.Sequential(Patched(6, 5), nn.BatchNorm1d(5), nn.ReLU()),
    "weight norm": lambda: nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.BatchNorm1d(5), nn.ReLU()),
    "old weight norm": old_weight_norm,
    "shared": shared,
    "hooks": hooked,
    "hooks before": hooked_before,
    "functional": Functional,
    "pruned": pruned,
    "spectral norm": lambda: nn.Sequential(spectral_norm(nn.Linear(6, 5)), nn.BatchNorm1d(5)),
    "orthogonal": lambda: nn.Sequential(orthogonal(nn.Linear(6, 6)), nn.BatchNorm1d(6)),
    "parametrised norm": lambda: nn.Sequential(nn.Linear(6, 5), weight_norm(nn.BatchNorm1d(5), dim=None)),
    "synchronised norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.SyncBatchNorm(5)),
    "instance norm": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, affine=True), nn.Flatten()),
    "cumulative norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=None), nn.ReLU6(True)),
    "sequences": Sequences,
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("training", [True, False])
def test_a_joined_module_gives_what_the_module_gives(name, seed, training):
    torch.manual_seed(seed)
    module = MODULES[name]().train(training)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            for values in (part.running_var, part.weight, part.running_mean, part.bias):
                if values is not None:
                    values.data.uniform_(0.3, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x = torch.randn(7, 6)
    given, expected_given = x.clone(), x.clone()
    with torch.no_grad():
        ready = joined(module)
        found = [ready(given), ready(x.clone())]
        assert [part.training for part in module.modules()] == [training] * len(list(module.modules()))
        expected = module.eval()(expected_given)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(*found)
    assert torch.equal(given, expected_given)
    assert torch.equal(given, x) == (name != "overwriting its input")
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(part.training for part in ready.modules())
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    assert {name: value.shape for name, value in ready.state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }


@pytest.mark.parametrize("make", [lambda: nn.LazyLinear(6), lambda: nn.Linear(6, 6, device="meta")])
def test_weights_without_values_are_refused_by_name(make):
    with pytest.raises(ValueError, match=r"^0\.1\.weight has no values yet: it is lazy or on the meta device"):
        joined(nn.Sequential(nn.Sequential(nn.ReLU(), make())))


def test_a_norm_without_variance_fails_as_its_own():
    layers = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    layers[1].running_var = None
    with pytest.raises(RuntimeError, match="running_var must be defined"):
        joined(layers)(torch.zeros(2, 6))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_another_type_are_told(tmp_path, transformation, dtype):
    words = rf"does not take float32 vectors .*, and [\w.]+ \({dtype}\) is of another type: call its \.float\(\)"
    with pytest.raises(ValueError, match=words):
        upgrade_gallery(transformation.to(dtype), *gallery(), tmp_path / "new.npy", identity={})


class Inside(nn.Module):
    """Computes in float64 of its own accord."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4).double()

    def forward(self, old, side):
        return self.linear(old.double())


def test_weights_of_another_type_that_take_the_vectors_are_used(tmp_path):
    transformation, old = Inside(), gallery()[0]
    found = upgrade_gallery(transformation, old, None, tmp_path / "new.npy", identity={})
    np.testing.assert_allclose(found, expected(transformation, old, old), rtol=1e-6)


def test_a_forward_in_place_of_another_is_computed_in_eval_mode(tmp_path, transformation):
    """It calls the parts of the module itself, not those of a copy."""
    plain = expected(transformation, *gallery())
    forward = transformation.forward
    transformation.forward = lambda old, side: 2 * forward(old, side)
    before = {name: value.clone() for name, value in transformation.train().state_dict().items()}
    found = upgrade_gallery(transformation, *gallery(), tmp_path / "new.npy", identity={}, block=10)
    np.testing.assert_allclose(found, 2 * plain, rtol=1e-4, atol=1e-5)
    assert transformation.training
    assert all(torch.equal(value, before[name]) for name, value in transformation.state_dict().items())


def test_the_transformations_norms_are_all_joined(transformation, monkeypatch):
    old, side = torch.rand(20, 4), torch.rand(20, 3)
    with torch.no_grad():
        expected = transformation(old, side)
        monkeypatch.setattr(nn.BatchNorm1d, "forward", lambda *_: pytest.fail("a BatchNorm is computed by itself"))
        monkeypatch.setattr(nn.ReLU, "forward", lambda *_: pytest.fail("a ReLU takes a block of its own"))
        torch.testing.assert_close(joined(transformation)(old, side), expected, rtol=1e-4, atol=1e-5)


class TwoResiduals(nn.Module):
    """Reads both its inputs several times."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (Residual(nn.ReLU(inplace=True), nn.Linear(4, 4)) for _ in range(2))

    def forward(self, old, side):
        return self.first(old) + self.second(side) - side


def test_a_transformation_that_overwrites_what_it_is_given_leaves_the_gallery(tmp_path):
    """And finds the old embedding whole where it stands in for side-information."""
    torch.manual_seed(0)
    transformation, old = TwoResiduals(), gallery()[0] - 0.5
    kept = old.copy()
    found = upgrade_gallery(transformation, old, None, tmp_path / "new.npy", identity={}, block=10)
    np.testing.assert_array_equal(old, kept)
    np.testing.assert_allclose(found, expected(transformation, old, old.copy()), rtol=1e-5, atol=1e-6)


def test_progress_and_an_interruption_between_blocks(tmp_path, transformation):
    old, side = gallery()
    told = []

    def stop(share: float, text: str) -> None:
        told.append(text)
        if len(told) == 2:
            raise KeyboardInterrupt

    options = {"path": tmp_path / "new.npy", "identity": {"h": 1}, "block": 25}
    with pytest.raises(KeyboardInterrupt):
        upgrade_gallery(transformation, old, side, report=stop, **options)
    assert not options["path"].exists()
    old = old.copy()
    old[:50] = np.nan  # those rows are done: they are not read again
    found = upgrade_gallery(transformation, old, side, report=stop, **options)
    assert told == [f"{rows} of 103 rows" for rows in (25, 50, 75, 100, 103)]
    np.testing.assert_allclose(found, expected(transformation, *gallery()), rtol=1e-4, atol=1e-5)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np, torch
from compatlib.gallery import upgrade_gallery
from compatlib.methods.fct import Transformation
folder = Path(sys.argv[1])
torch.manual_seed(0)
transformation = Transformation(4, 3, 5, 8).eval()
old, side = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in ("old.npy", "side.npy"))
slow = lambda share, text: time.sleep(float(sys.argv[2]))
upgrade_gallery(transformation, old, side, folder / "new.npy", identity={}, block=10, report=slow)
"""


def test_a_killed_upgrade_goes_on_and_ends_with_the_same_bytes(tmp_path):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        for part, array in zip(("old", "side"), gallery(), strict=True):
            np.save(tmp_path / name / f"{part}.npy", array)
    command = [sys.executable, "-c", KILLED]
    process = subprocess.Popen([*command, str(tmp_path / "killed"), "0.2"])
    progress = tmp_path / "killed" / "new.npy.part.json"
    deadline = time.monotonic() + 100
    while not progress.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "new.npy").exists()
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name), "0"], check=True, timeout=200)
    whole = (tmp_path / "whole" / "new.npy").read_bytes()
    assert (tmp_path / "killed" / "new.npy").read_bytes() == whole


MEASURED = """
import sys, tracemalloc
from pathlib import Path
import numpy as np, torch
from compatlib.gallery import upgrade_gallery
from compatlib.methods.fct import Transformation

def anonymous():
    # What the process itself holds, in bytes, torch's arrays too. Pages of mapped files are the system's to take back.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)

torch.manual_seed(0)
transformation = Transformation(32, 32, 32, 8).eval()
for count in map(int, sys.argv[2:]):
    folder = Path(sys.argv[1]) / str(count)
    folder.mkdir()
    for name in ("old", "side"):
        filled = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (count, 32))
        filled[:] = 1
        filled.flush()
    old, side = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("old", "side"))
    before, held = anonymous(), []
    tracemalloc.start()  # NumPy's arrays, with their peak; on every system
    upgrade_gallery(transformation, old, side, folder / "new.npy", identity={}, block=2000,
                    report=lambda share, text: held.append(anonymous()))
    print(tracemalloc.get_traced_memory()[1], max(held) - before)
    tracemalloc.stop()
"""


def test_memory_is_a_blocks_and_not_the_gallerys(tmp_path):
    """Eight times the gallery, no more memory: NumPy's peak, and with /proc all that is held after a block."""
    small, large = 30_000, 240_000
    command = [sys.executable, "-c", MEASURED, str(tmp_path), "2000", str(small), str(large)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout
    _, first, second = ([int(value) for value in line.split()] for line in told.splitlines())  # the first warms up
    # One of the three galleries kept in memory would be all of these more bytes.
    more = (large - small) * 32 * 4
    assert second[0] - first[0] < more / 4
    assert second[1] - first[1] < more / 2


@pytest.mark.parametrize(
    ("old", "side", "words"),
    [
        (np.ones((9, 4), np.int64), None, r"old is int64 of shape \(9, 4\); valid is float \(9, d\)"),
        (np.ones(9, np.float32), None, r"old is float32 of shape \(9,\)"),
        (
            np.ones((9, 4), np.float32),
            np.ones((8, 3), np.float32),
            r"side is float32 of shape \(8, 3\); valid is float \(9",
        ),
        (np.ones((9, 4), np.float32), np.ones((9, 2), np.float32), r"old and side have shapes \(9, 4\) and \(9, 2\)"),
        (np.ones((0, 4), np.float32), None, "a size of the shape is 0; valid are whole numbers from 1"),
    ],
)
def test_galleries_that_do_not_fit_are_refused(tmp_path, transformation, old, side, words):
    with pytest.raises(ValueError, match=words):
        upgrade_gallery(transformation, old, side, tmp_path / "new.npy", identity={})
    assert not (tmp_path / "new.npy").exists()


@pytest.mark.parametrize("name", ["old", "side"])
@pytest.mark.parametrize("value", [np.inf, np.nan, 1e39])
def test_damaged_rows_are_named(tmp_path, transformation, name, value):
    vectors = {part: array.astype(float) for part, array in zip(("old", "side"), gallery(), strict=True)}
    vectors[name][[42, 44, 97], 1] = value
    with pytest.raises(ValueError, match=f"^rows 42, 44 of {name} hold values that are not finite; embed again"):
        upgrade_gallery(transformation, **vectors, path=tmp_path / "new.npy", identity={}, block=10)


def test_an_old_embedding_of_zeros_is_named_and_missing_side_information_is_none(tmp_path, transformation):
    """What is made of zeros alone looks like any other item."""
    old, side = gallery()
    side[42] = 0
    upgrade_gallery(transformation, old, side, tmp_path / "new.npy", identity={})
    for value in (0, 1e-50):
        old = old.astype(float)
        old[42] = value
        with pytest.raises(ValueError, match=r"^row 42 of old holds nothing but zeros"):
            upgrade_gallery(transformation, old, side, tmp_path / "other.npy", identity={})


class Scale(nn.Module):
    """Multiplies the fourth item."""

    dim = 4

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, old, side):
        return torch.where(torch.arange(len(old), device=old.device)[:, None] == 3, self.by, 1.0) * old


@pytest.mark.parametrize(
    ("by", "dtype"), [(1e5, "float16"), (1e-9, "float16"), (0.0, "float32"), (np.nan, "float32"), (np.inf, "float16")]
)
def test_results_that_are_nothing_once_stored_are_refused(tmp_path, by, dtype):
    with pytest.raises(ValueError, match=rf"^row 3 of .*new\.npy holds what {dtype} cannot keep"):
        upgrade_gallery(Scale(by), np.ones((9, 4)), None, tmp_path / "new.npy", identity={}, dtype=dtype)
    assert not (tmp_path / "new.npy").exists()


FORMS = {
    "tensors": torch.from_numpy,
    "tensors that learn": lambda x: torch.tensor(x, requires_grad=True),
    "lists": lambda x: x.tolist(),
    "float64": lambda x: x.astype(float),
    "big-endian": lambda x: x.astype(">f4"),
    "Fortran's order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "frames": pd.DataFrame,
}


@pytest.mark.parametrize("form", FORMS)
def test_galleries_of_any_honest_form_give_the_same(tmp_path, transformation, form):
    old, side = gallery()
    expected = upgrade_gallery(transformation, old, side, tmp_path / "new.npy", identity={"seed": 3})
    options = {"identity": {"seed": np.int64(3)}, "block": np.int64(10_000), "dtype": np.float32}
    given = (FORMS[form](old), FORMS[form](side))
    found = upgrade_gallery(transformation, *given, str(tmp_path / "other.npy"), **options)
    np.testing.assert_array_equal(found, expected)


def test_masked_vectors_are_refused(tmp_path, transformation):
    old, side = gallery()
    with pytest.raises(ValueError, match="old has masked entries"):
        upgrade_gallery(transformation, np.ma.array(old, mask=old > 0.9), side, tmp_path / "new.npy", identity={})


def test_another_galleries_file_is_not_taken_for_this_one(tmp_path, transformation):
    upgrade_gallery(transformation, *gallery(), tmp_path / "new.npy", identity={"h": 1})
    with pytest.raises(ValueError, match="holds other embeddings"):
        upgrade_gallery(transformation, *gallery(), tmp_path / "new.npy", identity={"h": 2})
