"""A run: one profile, data set and choice of seeds, its folder under build/, and what makes its pages fresh.

A page is fresh as long as the digest of everything it depends on is the one it was executed with. The digest is
taken over contents and not over times, so that a new clone or a saved but unchanged file repeats nothing.
"""

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from compatlib.data import folders
from compatlib.study.publishing.digests import code_digest, imported_modules
from compatlib.study.publishing.environment import ROOT

# A page computed by another version of these is another page.
NUMERICAL_PACKAGES = ("torch", "torchvision", "numpy", "numba", "faiss-cpu", "scipy", "pandas", "matplotlib", "seaborn")

# Data sets that consist of files, and the folder of each below the data folder.
FOLDERS = {"cifar100": "cifar100"}
# Those that consist of features, in folders of their names below the folder of features.
FEATURES = ("cifar100_lite", "omniglot_lite")

# What a run's folder is called by its seeds.
_OF_SEEDS = re.compile(r"seeds-[\d-]+")

# Metadata that tools write into cells while they run or show them.
_VOLATILE = {"execution", "papermill", "scrolled", "collapsed", "ExecuteTime"}


@dataclass(frozen=True)
class Run:
    """The parameters that all pages of one build share.

    Args:
        profile: name of a file in compatlib/study/profiles.
        dataset: name of a data set; empty means the profile's.
        seeds: text such as "0,1,2"; empty means the profile's.
        root: the repository.

    Raises:
        ValueError: there is no such profile, or `dataset` or `seeds` cannot be read.
    """

    profile: str = "laptop"
    dataset: str = ""
    seeds: str = ""
    root: Path = ROOT

    def __post_init__(self):
        profiles = [path.stem for path in folders.visible(self.profile_folder.glob("*.yml"))]
        if self.profile not in profiles:
            raise ValueError(f"unknown profile {self.profile!r}; the profiles are {', '.join(profiles)}")
        is_seeds = any(map(_OF_SEEDS.fullmatch, self.dataset.split("_")))  # the run's folder would be another run's
        if is_seeds or not re.fullmatch(r"(\w[\w.-]*)?", self.dataset):
            raise ValueError(f"{self.dataset!r} is no name of a data set; give one such as cifar100, or nothing")
        seeds = re.sub(r"[\s\[\]]", "", self.seeds)
        if not re.fullmatch(r"(\d+(,\d+)*)?", seeds):
            raise ValueError(f"seeds {self.seeds!r} cannot be read; give whole numbers with commas, such as 0,1,2")
        object.__setattr__(self, "seeds", ",".join(str(int(seed)) for seed in seeds.split(",") if seed))

    @classmethod
    def from_config(cls, config: Mapping[str, object], root: Path = ROOT) -> "Run":
        """The run that Snakemake's `--config profile=… dataset=… seeds=…` names; values left out or empty are defaults.

        Raises:
            ValueError: as for `Run`, for a key which is no parameter of a run, and for a name that was read as a number
                or the like, so that its spelling is lost.
        """
        unknown = sorted(set(config) - {"profile", "dataset", "seeds"})
        if unknown:
            raise ValueError(f"unknown configuration {', '.join(unknown)}; valid are profile, dataset and seeds")
        for name in ("profile", "dataset"):
            value = config.get(name)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{name} was read as {value!r}, which is no name; write {name}='!!str …'")
        return cls(root=root, **{name: str(value) for name, value in config.items() if value not in (None, "")})

    @property
    def profile_folder(self) -> Path:
        """Where the profiles are defined."""
        return self.root / "compatlib" / "study" / "profiles"

    @property
    def parameters(self) -> dict[str, str]:
        """What is handed to every notebook; an empty text leaves the choice to the profile."""
        return {"profile": self.profile, "dataset": self.dataset, "seeds": self.seeds}

    @property
    def name(self) -> str:
        """Name of the run's folder, such as "study_cifar100_seeds-0-1-2"."""
        seeds = f"seeds-{self.seeds.replace(',', '-')}" if self.seeds else ""
        return "_".join(part for part in (self.profile, self.dataset, seeds) if part)

    @property
    def folder(self) -> Path:
        """All that the build of this run writes, apart from book/chapters."""
        return self.root / "build" / self.name

    @property
    def html(self) -> Path:
        """The book's front page."""
        return self.folder / "html" / "index.html"

    def notebook(self, page: str) -> Path:
        """The notebook of a page, without results.

        Raises:
            ValueError: there is no such notebook.
        """
        path = self.root / "notebooks" / f"{page}.ipynb"
        if not path.is_file():
            raise ValueError(f"there is no page {page!r}; the pages are {', '.join(page_names(self.root)) or 'none'}")
        return path

    def page(self, page: str) -> Path:
        """Where the executed page is kept once it succeeded."""
        return self.folder / "pages" / f"{page}.ipynb"

    def log(self, page: str) -> Path:
        """Where the page is written while it is executed, and stays when it fails; its text log lies beside it."""
        return self.folder / "logs" / f"{page}.ipynb"


def page_names(root: Path = ROOT) -> tuple[str, ...]:
    """Names of all notebooks, in alphabetical order."""
    return tuple(path.stem for path in folders.visible((root / "notebooks").glob("*.ipynb")))


def page_parts(page: str, run: Run, parameters: Mapping[str, object] | None = None) -> dict[str, str]:
    """Digest of each thing that a page depends on, by the words in which `make status` names what changed.

    Args:
        page: name of a notebook.
        run: what it is executed for.
        parameters: all that was handed to the notebook, where that is other than the run's parameters.

    Raises:
        ValueError: there is no such page, or it imports what does not exist.
    """
    notebook = nbformat.read(run.notebook(page), as_version=4)
    root, package = run.root, run.root / "compatlib"
    published = root / "data" / "published"
    rows = [path for end in ("csv", "json", "npz") for path in folders.visible(published.glob(f"*.{end}"))]
    return {
        "notebook": notebook_digest(notebook),
        "parameters": _digest(run.parameters if parameters is None else dict(parameters)),
        "code": code_digest(notebook_imports(notebook, package), package_folder=package),
        "profile": files_digest([run.profile_folder / f"{run.profile}.yml"], root),
        # All chapters' rows, for a page may set its own beside another's.
        "published rows": files_digest(rows, root),
        "published models": files_digest(folders.files(published / "models"), root),
        "fixtures": files_digest(folders.files(root / "data" / "fixtures"), root),
        "papers' values": files_digest([root / "data" / "paper_values.csv"], root),
        "claims": files_digest([root / "book" / "claims.yml"], root),
        "data": data_state(run),
        "versions": _digest({name: importlib.metadata.version(name) for name in NUMERICAL_PACKAGES}),
    }


def page_digest(page: str, run: Run) -> str:
    """SHA-256 over `page_parts`: a page that was executed with another digest is stale."""
    return parts_digest(page_parts(page, run))


def parts_digest(parts: Mapping[str, str]) -> str:
    """One digest for a mapping of digests, whatever its order."""
    return _digest(dict(parts))


def book_digest(run: Run) -> str:
    """SHA-256 over what the HTML shows: its pages' digests, the book's sources, and the documented code."""
    book = folders.files(run.root / "book")
    book = [path for path in book if path.relative_to(run.root / "book").parts[0] not in ("chapters", "_build")]
    published = folders.visible((run.root / "data" / "published").glob("*.*"))
    code = [path for path in folders.files(run.root / "compatlib") if path.suffix == ".py"]
    pages = {page: page_digest(page, run) for page in page_names(run.root)}
    return _digest({"pages": pages, "files": files_digest([*book, *published, *code], run.root)})


def notebook_digest(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 over the sources, kinds and metadata (tags) of all cells; outputs, counts and ids do not count."""
    cells = [
        (cell.cell_type, cell.source, {key: cell.metadata[key] for key in cell.metadata if key not in _VOLATILE})
        for cell in notebook.cells
    ]
    return _digest(cells)


def notebook_imports(notebook: nbformat.NotebookNode, package_folder: Path | None = None) -> tuple[str, ...]:
    """Names of the compatlib modules that the code cells import; lines of IPython's own (% and !) are passed over."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line for source in code for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return imported_modules("\n".join(lines), package_folder=package_folder)


def data_folder(root: Path = ROOT) -> Path:
    """Where data sets are looked for: $COMPATLIB_DATA, by default data/cache."""
    return folders.chosen("COMPATLIB_DATA", root / "data" / "cache")


def artifacts_folder(root: Path = ROOT) -> Path:
    """Where trained models are kept: $COMPATLIB_ARTIFACTS, by default data/cache/artifacts."""
    return folders.chosen("COMPATLIB_ARTIFACTS", root / "data" / "cache" / "artifacts")


def features_folder(root: Path = ROOT) -> Path:
    """Where features are: $COMPATLIB_FEATURES, by default data/cache/features."""
    return folders.chosen("COMPATLIB_FEATURES", root / "data" / "cache" / "features")


def data_place(run: Run) -> Path:
    """The folder of the run's data set."""
    dataset = run.dataset or profile_dataset(run)
    if dataset in FEATURES:
        return features_folder(run.root) / dataset
    return data_folder(run.root) / FOLDERS.get(dataset, dataset)


def data_files(run: Run) -> list[Path]:
    """The files of the run's data set, in alphabetical order; none where it is embedded or was not fetched yet."""
    return folders.files(data_place(run))


def data_state(run: Run) -> str:
    """Digest of names, sizes and times of the files of the run's data set, and of where links lead.

    Their contents are not read: the larger sets take minutes, and this is asked before every build. A file that was
    only touched costs one execution too many, never a stale page: beside the time that a copy may bring along counts
    the one that the system sets whenever a file becomes another. Embedded data have no files; their code is digested.
    """
    folder, files = data_place(run).parent, []
    real = os.path.realpath(folder)
    for path in data_files(run):
        target, about = os.path.relpath(os.path.realpath(path), real), path.stat()
        name = path.relative_to(folder).as_posix()
        files.append((name, target, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return _digest([run.dataset or profile_dataset(run), files])


def profile_encoders(run: Run) -> tuple[str, ...]:
    """The encoders on whose features the profile's heads stand; none where networks see images."""
    path = run.profile_folder / f"{run.profile}.yml"
    return tuple(dict.fromkeys(yaml.safe_load(path.read_text(encoding="utf-8")).get("encoders", {}).values()))


def profile_dataset(run: Run) -> str:
    """The data set that the profile names.

    Raises:
        ValueError: it is no text: YAML reads some names as numbers, unless they are quoted.
    """
    path = run.profile_folder / f"{run.profile}.yml"
    dataset = yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"]
    if not isinstance(dataset, str):
        raise ValueError(f"{path.name} names the data set {dataset!r}, which is no text; put the name in quotes")
    return dataset


def files_digest(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over names and contents of those of `paths` that are files."""
    files = sorted({path for path in paths if path.is_file() and "__pycache__" not in path.relative_to(root).parts})
    contents = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return _digest(contents)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
