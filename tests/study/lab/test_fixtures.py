"""Making the features that the project carries: the same bytes of the same features, and nothing of others."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compatlib.data import features, sources
from compatlib.data import fixtures as carried
from compatlib.data.features import Source
from compatlib.study.lab import features as embedded
from compatlib.study.lab import fixtures

PROJECT = Path(__file__).resolve().parents[3]
COUNTS = {"train": [2, 2, 2], "test": [1, 1, 1]}
FEATURES = np.arange(9 * 4).reshape(9, 4).astype(np.float16) / 7


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> Path:
    """Features of a data set `letters_lite` by two encoders; the folder of what is carried, still empty."""
    source = Source("letters", {"train": "a" * 64, "test": "b" * 64}, len(FEATURES), ("plain",))
    monkeypatch.setitem(features.SOURCES, "letters_lite", source)
    monkeypatch.setattr(carried, "CARRIED", {"letters_lite": {"lite0": "", "lite2": ""}})
    monkeypatch.setattr(carried, "CARRIED_IMAGES", {})
    monkeypatch.setattr(sources, "fixtures_root", lambda: tmp_path / "fixtures")
    monkeypatch.setenv("COMPATLIB_FEATURES", str(tmp_path / "features"))
    for encoder in ("lite0", "lite2"):
        embed(encoder)
    return tmp_path / "fixtures" / "letters_lite"


def embed(encoder: str, values: np.ndarray = FEATURES, **changes) -> None:
    path = features.place("letters_lite", encoder, sources.features_root())
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    names = ["a", "b", "c"]
    identity = features.made_of("letters_lite", encoder) | {"counts": COUNTS, "class_names": names} | changes
    path.with_name(f"{path.name}.json").write_text(json.dumps({"identity": identity, "shape": [9, 4]}))


def test_images_are_made_out_of_the_data_at_hand_and_read_before_them(files, capsys, monkeypatch):
    monkeypatch.setattr(carried, "CARRIED_IMAGES", {"digits": ""})
    monkeypatch.setattr(carried, "CARRIED", {})
    before = {split: sources.load("digits", split, root=files) for split in sources.SPLITS}
    assert fixtures.main() == 0
    path = files.parent / "digits" / "images.npz"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert capsys.readouterr().out.startswith(
        f"{path}: {path.stat().st_size:,} bytes, SHA-256 {found}, before none: name"
    )
    monkeypatch.setattr(carried, "CARRIED_IMAGES", {"digits": found})
    monkeypatch.setitem(sources._READERS, "digits", None)
    assert {split: sources.load("digits", split).digest() for split in before} == {
        split: each.digest() for split, each in before.items()
    }


def test_the_command_makes_every_file_to_the_same_bytes_and_tells_what_to_name(files, capsys, monkeypatch):
    assert fixtures.main() == 0
    content = {encoder: (files / f"{encoder}.npz").read_bytes() for encoder in ("lite0", "lite2")}
    found = {encoder: hashlib.sha256(each).hexdigest() for encoder, each in content.items()}
    for encoder, line in zip(found, capsys.readouterr().out.splitlines(), strict=True):
        size = f"{len(content[encoder]):,} bytes"
        told = f"{files / encoder}.npz: {size}, SHA-256 {found[encoder]}, before none: name the new one in"
        assert line.startswith(told)
    monkeypatch.setattr(carried, "CARRIED", {"letters_lite": found})
    assert fixtures.main() == 0
    assert capsys.readouterr().out.count(", as before\n") == 2
    assert {encoder: (files / f"{encoder}.npz").read_bytes() for encoder in content} == content
    test = sources.load("letters_lite", "test", encoder="lite2")
    assert np.array_equal(test.features[:, 0], FEATURES[6:])


def test_features_of_another_processor_give_a_file_that_is_told_from_the_known_one(capsys, monkeypatch):
    monkeypatch.setattr(carried, "CARRIED", {"letters_lite": {"lite0": "f" * 64}})
    embed("lite0", np.nextafter(FEATURES, np.float16(9)))
    assert fixtures.main() == 0
    assert f"before {'f' * 64}: name the new one in compatlib/data/fixtures.py" in capsys.readouterr().out
    with pytest.raises(ValueError, match="is damaged, or another file"):
        sources.load("letters_lite", "test", encoder="lite0")


def test_it_has_the_form_of_what_is_carried(files):
    fixtures.main()

    def form(path: Path) -> dict[str, tuple]:
        with np.load(path, allow_pickle=False) as arrays:
            parts = {name: (arrays[name].dtype.kind, arrays[name].ndim) for name in arrays.files}
            return parts | {"identity keys": sorted(json.loads(str(arrays["identity"])))}

    committed = PROJECT / "data" / "fixtures" / "omniglot_lite" / "lite0.npz"
    assert form(files / "lite0.npz") == form(committed)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), r"lite2.npy is not there; `make data NAME=letters_lite ENCODERS=lite2`"),
        (lambda path: path.write_bytes(b""), "lite2.npy is damaged"),
        (lambda path: embed("lite2", weights="another"), "was made from other weights than letters_lite by lite2"),
    ],
)
def test_features_that_are_missing_damaged_or_of_something_else_make_no_file(files, capsys, spoil, told):
    spoil(features.place("letters_lite", "lite2", sources.features_root()))
    assert fixtures.main() == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in files.iterdir()] == ["lite0.npz"]


def test_who_embeds_what_is_carried_is_told_that_the_carried_one_is_read(capsys, monkeypatch):
    monkeypatch.setattr(embedded, "make_all", lambda *chosen, tell: None)
    assert embedded.main(["letters_lite"]) == 0
    assert "what the project carries of it (lite0, lite2) is still read from there" in capsys.readouterr().out
    assert embedded.main(["cifar100_lite"]) == 0
    assert "carries" not in capsys.readouterr().out


def test_make_fixture_is_a_command():
    command = ["make", "-n", "fixture", f"RUN={sys.executable}"]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert said == f"{sys.executable} -m compatlib.study.lab.fixtures\n"
