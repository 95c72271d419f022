"""What is built: every executed page and book under build/, what it was made from, and whether that still stands."""

import re
import sys
import time
from pathlib import Path

import pandas as pd

from compatlib.data import folders
from compatlib.study.publishing.book import changed_parts, html_metadata, is_fresh
from compatlib.study.publishing.pages import page_metadata
from compatlib.study.publishing.reporting import duration_in_words
from compatlib.study.publishing.runs import (
    ROOT,
    Run,
    artifacts_folder,
    data_folder,
    page_names,
    profile_dataset,
)

COLUMNS = ("run", "what", "profile", "dataset", "seeds", "commit", "age", "state")


def status(root: Path = ROOT) -> pd.DataFrame:
    """One row for each executed page, failed page and book: `COLUMNS`, all in words.

    `state` is "fresh", "stale: " with what changed, "failed", or "damaged": executed, but it cannot be read.
    """
    rows = []
    for folder in sorted((root / "build").glob("*/")):
        run = _run(folder, root)
        if run is not None:
            rows += [_page_row(run, page) for page in _pages(run)] + _book_rows(run)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if it does not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _run(folder: Path, root: Path) -> Run | None:
    """The run whose folder this is, read from the folder's name; None for other folders."""
    profile, *others = folder.name.split("_")
    seeds = [part for part in others if re.fullmatch(r"seeds-[\d-]+", part)]
    dataset = "_".join(part for part in others if part not in seeds)
    try:
        return Run(profile, dataset, ",".join(seeds).removeprefix("seeds-").replace("-", ","), root)
    except ValueError:
        return None


def _pages(run: Run) -> list[str]:
    paths = [*(run.folder / "pages").glob("*.ipynb"), *(run.folder / "logs").glob("*.failed.txt")]
    return sorted({path.name.split(".")[0] for path in folders.visible(paths)})


def _page_row(run: Run, page: str) -> dict[str, str]:
    metadata = page_metadata(run.page(page))
    if metadata is None:
        failure = run.log(page).with_suffix(".failed.txt")
        path, state = (failure, "failed") if failure.exists() else (run.page(page), "damaged")
        return _row(run, page, "", _age(path.stat().st_mtime), state)
    changed = changed_parts(page, run) if page in page_names(run.root) else ("notebook",)
    state = f"stale: {', '.join(changed)} changed" if changed else "fresh"
    return _row(run, page, _commit(metadata), _age(metadata["finished"]), state)


def _book_rows(run: Run) -> list[dict[str, str]]:
    about = html_metadata(run)
    if about is None:
        return []
    state = "fresh" if is_fresh(run) else "stale"
    return [_row(run, "the book", _commit(about), _age(about["finished"]), state)]


def _row(run: Run, what: str, commit: str, age: str, state: str) -> dict[str, str]:
    seeds = run.seeds or "the profile's"
    values = {"profile": run.profile, "dataset": run.dataset or profile_dataset(run), "seeds": seeds}
    return {"run": run.name, "what": what, **values, "commit": commit, "age": age, "state": state}


def _commit(metadata: dict) -> str:
    return metadata["commit"] + ("+" if metadata["dirty"] else "")


def _age(moment: float) -> str:
    return duration_in_words(time.time() - moment)


def main() -> int:
    """`python -m compatlib.study.publishing.status`."""
    try:
        report()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def report() -> None:
    """Print the table and the sizes of the caches."""
    table = status()
    print(table.to_string(index=False, justify="left") if len(table) else "nothing is built; `make book` does it")
    if table["commit"].str.endswith("+").any():
        print("+ with changes that were not committed")
    models, data = artifacts_folder(), data_folder()
    sizes = {models: folder_size(models), data: folder_size(data)}
    if models.is_relative_to(data):
        sizes[data] -= sizes[models]
    for words, folder in (("data", data), ("trained models", models)):
        shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
        print(f"cache of {words}: {sizes[folder] / 1e6:.1f} MB in {shown}")


if __name__ == "__main__":
    sys.exit(main())
