"""Runs, and what makes a page fresh."""

import os
import re

import nbformat
import pytest

from compatlib.data import sources
from compatlib.study.publishing.runs import (
    FOLDERS,
    Run,
    book_digest,
    data_files,
    data_folder,
    data_state,
    page_digest,
    page_names,
    page_parts,
    profile_dataset,
)


@pytest.fixture
def run(repository, monkeypatch):
    monkeypatch.delenv("COMPATLIB_DATA", raising=False)
    monkeypatch.delenv("COMPATLIB_FEATURES", raising=False)
    return Run("smoke", root=repository)


def changed(run, page, before) -> set[str]:
    return {name for name, digest in page_parts(page, run).items() if digest != before[name]}


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({}, "laptop"),
        ({"profile": "smoke"}, "smoke"),
        ({"profile": "smoke", "dataset": "cifar100"}, "smoke_cifar100"),
        ({"profile": "smoke", "dataset": "omniglot_small", "seeds": "0, 1,2"}, "smoke_omniglot_small_seeds-0-1-2"),
        ({"seeds": "[3]"}, "laptop_seeds-3"),
    ],
)
def test_every_run_has_a_folder_of_its_own(repository, parameters, name):
    assert Run(root=repository, **parameters).folder == repository / "build" / name


@pytest.mark.parametrize("seeds", ["a", "0;1", "-1", "0,,1", "1.5"])
def test_seeds_that_cannot_be_read_are_refused(repository, seeds):
    with pytest.raises(ValueError, match="cannot be read; give whole numbers with commas"):
        Run(seeds=seeds, root=repository)


def test_unknown_profile_is_refused_with_the_valid_ones(repository):
    with pytest.raises(ValueError, match="unknown profile 'laptob'; the profiles are laptop, smoke"):
        Run("laptob", root=repository)


def test_a_folder_of_images_is_a_data_set_by_its_plain_name(repository):
    assert Run("smoke", "my-images.v2", "0", repository).name == "smoke_my-images.v2_seeds-0"


@pytest.mark.parametrize("dataset", ["../x", "a b", "x'y", "..", ".hidden", "seeds-1", "mine_seeds-0-1"])
def test_name_that_is_no_folder_is_refused_as_data_set(repository, dataset):
    with pytest.raises(ValueError, match="is no name of a data set"):
        Run("smoke", dataset, root=repository)


def test_configuration_of_snakemake_is_read(repository):
    """Snakemake reads `seeds=0` as a number and `dataset=` as nothing."""
    run = Run.from_config({"profile": "smoke", "dataset": None, "seeds": 0}, repository)
    assert run == Run("smoke", "", "0", repository)
    assert Run.from_config({"dataset": "007", "seeds": "007,1"}, repository) == Run("laptop", "007", "7,1", repository)
    with pytest.raises(ValueError, match="unknown configuration seed; valid are"):
        Run.from_config({"seed": 1}, repository)


@pytest.mark.parametrize("value", [7, 0, 1e3, True, False, ["007"]])
def test_name_that_was_read_as_a_number_is_refused(repository, value):
    with pytest.raises(
        ValueError, match=re.escape(f"dataset was read as {value!r}, which is no name; write dataset='!!")
    ):
        Run.from_config({"dataset": value}, repository)


@pytest.mark.parametrize(("written", "read"), [("on", True), ("007", 7), ("null", None), ("1.0e+3", 1000.0)])
def test_data_set_that_a_profile_names_as_a_number_is_refused(run, written, read):
    path = run.root / "compatlib" / "study" / "profiles" / "smoke.yml"
    path.write_text(f"dataset: {written}\n")
    with pytest.raises(
        ValueError, match=rf"smoke\.yml names the data set {read!r}, which is no text; put the name in q"
    ):
        page_parts("first", run)
    path.write_text(f"dataset: '{written}'\n")
    assert profile_dataset(run) == written


def test_what_systems_and_editors_leave_is_no_page_no_profile_and_makes_nothing_stale(run):
    before, whole = page_digest("first", run), book_digest(run)
    leave = ["notebooks/._first", "notebooks/.DS_Store", "compatlib/study/profiles/._smoke", "data/published/._a"]
    leave += ["data/fixtures/.DS_Store", "data/published/models/._a", "book/.DS_Store", "compatlib/._example"]
    for end in (".ipynb", ".yml", ".csv", ".py", ".safetensors", ""):
        for name in leave:
            (run.root / f"{name}{end}").parent.mkdir(parents=True, exist_ok=True)
            (run.root / f"{name}{end}").write_bytes(b"\0\5\x16\7")
    (run.root / "compatlib" / ".#example.py").symlink_to("user@host.1")
    (run.root / "notebooks" / "first.ipynb~").write_text("{")
    assert page_names(run.root) == ("first", "second")
    assert (page_digest("first", run), book_digest(run)) == (before, whole)
    with pytest.raises(ValueError, match=r"the profiles are laptop, smoke$"):
        Run("._smoke", root=run.root)


def test_unknown_page_is_refused_with_the_valid_ones(run):
    assert page_names(run.root) == ("first", "second")
    with pytest.raises(ValueError, match="there is no page 'third'; the pages are first, second"):
        run.notebook("third")


def test_outputs_counts_and_timings_of_a_notebook_do_not_count(run):
    before = page_digest("second", run)
    notebook = nbformat.read(run.notebook("second"), as_version=4)
    cell = notebook.cells[-1]
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="other")]
    cell.execution_count, cell.id = 17, "another"
    cell.metadata["execution"] = {"iopub.status.busy": "2020-01-01T00:00:00Z"}
    nbformat.write(notebook, run.notebook("second"))
    assert page_digest("second", run) == before


def test_sources_tags_and_kinds_of_a_notebook_count(run):
    before = page_parts("second", run)
    digests = set()
    for change in (
        lambda cell: cell.update(source="print(seeds)"),
        lambda cell: cell.metadata.update(tags=["nbval-skip"]),
        lambda cell: cell.update(cell_type="raw"),
    ):
        notebook = nbformat.read(run.notebook("second"), as_version=4)
        change(notebook.cells[-1])
        for name in ("outputs", "execution_count"):
            if notebook.cells[-1].cell_type == "raw":
                notebook.cells[-1].pop(name)
        nbformat.write(notebook, run.notebook("second"))
        assert changed(run, "second", before) == {"notebook"}
        digests.add(page_digest("second", run))
    assert len(digests) == 3


def test_only_the_page_that_uses_a_module_depends_on_it(run):
    first, second = page_parts("first", run), page_parts("second", run)
    (run.root / "compatlib" / "example.py").write_text("value = 2\n")
    assert changed(run, "first", first) == {"code"}
    assert changed(run, "second", second) == set()


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("compatlib/study/profiles/smoke.yml", "profile"),
        ("data/published/first.csv", "published rows"),
        ("data/published/first.json", "published rows"),
        ("data/published/second.csv", "published rows"),
        ("data/published/first.classes.npz", "published rows"),
        ("data/published/models/old.safetensors", "published models"),
        ("data/fixtures/small.csv", "fixtures"),
        ("data/paper_values.csv", "papers' values"),
        ("book/claims.yml", "claims"),
    ],
)
def test_files_that_a_page_depends_on(run, path, part):
    before = page_parts("first", run)
    file = run.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("dataset: glyphs\nepochs: 1\n")
    assert changed(run, "first", before) == {part}


@pytest.mark.parametrize(
    "path",
    [
        "data/published/README.md",
        "data/cache/cifar100/train-0.npz",
        "data/cache/artifacts/old.safetensors",
        "compatlib/study/profiles/laptop.yml",
        "README.md",
    ],
)
def test_files_that_a_page_does_not_depend_on(run, path):
    before = page_digest("first", run)
    file = run.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    assert page_digest("first", run) == before


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("cifar100", "cifar100/train-0.npz"),
        ("cifar100_lite", "features/cifar100_lite/lite0.npy"),
        ("faces", "faces/train/a/1.png"),
    ],
)
def test_page_depends_on_the_files_of_the_data_set_it_is_run_on(run, dataset, name):
    other = Run("smoke", dataset, root=run.root)
    before = page_parts("first", other)
    file = data_folder(run.root) / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    os.utime(file, (0, 0))
    assert changed(other, "first", before) == {"data"}
    before = page_parts("first", other)
    os.utime(file, (1, 1))
    assert changed(other, "first", before) == {"data"}


@pytest.mark.parametrize("linked", ["mine", "mine/train", "mine/train/cat", "mine/train/cat/0.png"])
def test_data_behind_links_count(repository, tmp_path, monkeypatch, linked):
    """Another place with files of the same names, sizes and times, and another size behind the same link."""
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path / "data"))
    link, places = tmp_path / "data" / linked, [tmp_path / "store" / name for name in "ab"]
    for place in places:
        file = place / "mine/train/cat/0.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"1")
        os.utime(file, (0, 0))
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(places[0] / linked)
    run = Run("smoke", dataset="mine", root=repository)
    states = [data_state(run)]
    assert data_files(run) == [tmp_path / "data" / "mine/train/cat/0.png"]
    assert data_state(run) == states[0]
    link.unlink()
    link.symlink_to(places[1] / linked)
    states.append(data_state(run))
    data_files(run)[0].write_bytes(b"12")
    states.append(data_state(run))
    assert len(set(states)) == 3


def test_change_of_data_is_noticed_however_they_are_reached(run, tmp_path):
    """By a link to a file or a folder, and where a copy brings along size and time of the file before it."""
    store = tmp_path / "store" / "cat"
    store.mkdir(parents=True)
    (store / "0.png").write_bytes(b"0")
    other, root = Run("smoke", "faces", root=run.root), data_folder(run.root) / "faces"
    (root / "train").mkdir(parents=True)
    (root / "train" / "cat").symlink_to(store)
    (root / "labels.csv").symlink_to(tmp_path / "store" / "labels.csv")
    states = [data_state(other)]
    (tmp_path / "store" / "labels.csv").write_text("a")
    states.append(data_state(other))
    (store / "1.png").write_bytes(b"1")
    states.append(data_state(other))
    (tmp_path / "copy.png").write_bytes(b"2")
    time = (store / "1.png").stat().st_mtime_ns
    os.utime(tmp_path / "copy.png", ns=(time, time))
    os.replace(tmp_path / "copy.png", store / "1.png")
    states.append(data_state(other))
    assert (store / "1.png").stat().st_mtime_ns == time
    assert len(set(states)) == len(states)
    assert data_state(other) == states[-1]


def test_data_are_looked_for_where_the_variable_says(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPATLIB_DATA", str(tmp_path))
    assert data_folder(run.root) == tmp_path
    monkeypatch.setenv("COMPATLIB_DATA", "")
    assert data_folder(run.root) == run.root / "data" / "cache"


@pytest.mark.parametrize("dataset", list(FOLDERS))
def test_loader_looks_where_the_digest_does(run, dataset, monkeypatch):
    """Files of a data set that the loader would read from elsewhere would not be seen to change."""
    monkeypatch.setattr(sources, "download_url", unreachable)
    monkeypatch.setenv("COMPATLIB_DATA", str(data_folder(run.root)))
    with pytest.raises(FileNotFoundError, match=f"{data_folder(run.root) / FOLDERS[dataset]}"):
        sources.load(dataset, "train")


def unreachable(*_, **__):
    raise OSError("no network here")


def test_parameters_are_part_of_the_digest(run):
    before = page_parts("first", run)
    assert changed(Run("smoke", seeds="0", root=run.root), "first", before) == {"parameters"}
    handed = page_parts("first", run, run.parameters | {"epochs": 2})
    assert {name for name in before if handed[name] != before[name]} == {"parameters"}


@pytest.mark.parametrize("path", ["book/intro.md", "book/_config.yml", "compatlib/example.py", "notebooks/first.ipynb"])
def test_book_depends_on_its_sources_the_code_it_documents_and_its_pages(run, path):
    before = book_digest(run)
    file = run.root / path
    file.write_text(file.read_text().replace("value", "values").replace("A book", "B").replace("title: C", "title: D"))
    assert book_digest(run) != before


@pytest.mark.parametrize("name", ["_build", "chapters", "__pycache__", ".hidden", "build", "a[b]"])
def test_folders_above_the_repository_mean_nothing(run, tmp_path, name):
    """The same files below a folder of such a name are the same book."""
    moved = tmp_path / name / "repository"
    moved.parent.mkdir()
    before = book_digest(run)
    run.root.rename(moved)
    assert book_digest(Run("smoke", root=moved)) == before
    (moved / "book" / "intro.md").write_text("# Another\n")
    assert book_digest(Run("smoke", root=moved)) != before


def test_book_does_not_depend_on_what_builds_write(run):
    before = book_digest(run)
    for path in ("book/chapters/first.ipynb", "book/_build/x.html", "build/smoke/pages/first.ipynb"):
        (run.root / path).parent.mkdir(parents=True, exist_ok=True)
        (run.root / path).write_text("x")
    assert book_digest(run) == before
