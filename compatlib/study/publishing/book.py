"""From executed pages to the book's HTML: only fresh pages of one run, and no warning, pass."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
import yaml

from compatlib.study.lab.provenance import source_commit
from compatlib.study.publishing.labels import FILES, label
from compatlib.study.publishing.pages import page_metadata
from compatlib.study.publishing.reporting import duration_in_words
from compatlib.study.publishing.runs import Run, book_digest, files_digest, page_names, page_parts


class BookError(Exception):
    """The book cannot be built as it stands; the message says why."""


def changed_parts(page: str, run: Run) -> tuple[str, ...] | None:
    """What a page depends on and what is no longer as it was when it was executed.

    Returns:
        Names of parts, none if the page is fresh; None if the page was not executed for this run.
    """
    metadata = page_metadata(run.page(page))
    if metadata is None:
        return None
    now, then = page_parts(page, run), metadata["parts"]
    return tuple(sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name)))


def html_metadata(run: Run) -> dict | None:
    """What the HTML of a run was built from (`digest`, `pages`, `commit`) and when; None if there is none."""
    try:
        return json.loads((run.html.parent / "build.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def is_fresh(run: Run) -> bool:
    """Whether the HTML of a run is made from what its sources and its executed pages hold now; times play no part."""
    about = html_metadata(run)
    return about is not None and all(about.get(name) == value for name, value in _made_from(run).items())


def _made_from(run: Run) -> dict[str, str]:
    pages = [run.page(page) for page in page_names(run.root)]
    return {"digest": book_digest(run), "pages": files_digest(pages, run.root)}


def build_html(run: Run) -> Path:
    """Build the book of a run from its executed pages; the earlier HTML is replaced only by a whole new one.

    Returns:
        The front page.

    Raises:
        BookError: a page is missing or stale, two tables have one id, the contents name other pages than there are, or
            Sphinx warned.
        ValueError: see `labels.label`.
    """
    start = time.monotonic()
    pages = page_names(run.root)
    check_contents(run.root)
    for page in pages:
        _check_fresh(page, run)
    made_from = _made_from(run)
    files = _fill_chapters(run, pages)
    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.folder, prefix="html-") as scratch:
        # Built from nothing each time: Sphinx repeats no warning about a page that it keeps.
        built = Path(scratch) / "html"
        _run_sphinx(run.root / "book", built)
        _write(files, built / "chapters" / FILES)
        commit, is_dirty = source_commit(run.root)
        about = made_from | {"commit": commit, "dirty": is_dirty, "finished": time.time()}
        (built / "build.json").write_text(json.dumps(about | {"seconds": round(time.monotonic() - start, 1)}))
        shutil.rmtree(run.html.parent, ignore_errors=True)
        os.replace(built, run.html.parent)
    return run.html


def _check_fresh(page: str, run: Run) -> None:
    changed = changed_parts(page, run)
    if changed is None:
        raise BookError(f"page {page} has not been executed for run {run.name}; `make book` does it")
    if changed:
        raise BookError(f"page {page} is stale, for its {', '.join(changed)} changed; run `make book` again")


def check_contents(root: Path) -> None:
    """The table of contents must name every notebook, and no page that no notebook makes.

    Raises:
        BookError: it does not.
    """
    pages = page_names(root)
    contents = _files(yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8")))
    listed = {name.removeprefix("chapters/") for name in contents if name.startswith("chapters/")}
    for names, words in ((set(pages) - listed, "lacks"), (listed - set(pages), "names, without a notebook,")):
        if names:
            raise BookError(f"book/_toc.yml {words} {', '.join(f'chapters/{name}' for name in sorted(names))}")


def _files(node: object) -> list[str]:
    if isinstance(node, list):
        return [name for child in node for name in _files(child)]
    if isinstance(node, dict):
        own = [str(node[key]) for key in ("root", "file") if key in node]
        return own + [name for child in node.values() for name in _files(child)]
    return []


def _fill_chapters(run: Run, pages: Sequence[str]) -> dict[str, bytes]:
    """Put the pages there with their tables and figures labelled; what lies beside them, by name."""
    chapters = run.root / "book" / "chapters"
    shutil.rmtree(chapters, ignore_errors=True)
    chapters.mkdir()
    files: dict[str, bytes] = {}
    for page in pages:
        notebook = nbformat.read(run.page(page), as_version=4)
        own = label(notebook)
        twice = sorted(files.keys() & own.keys())
        if twice:
            raise BookError(f"page {page} has a table or figure of another page's id: {', '.join(twice)}")
        files |= own
        nbformat.write(notebook, chapters / f"{page}.ipynb")
        os.utime(run.page(page), (0, 0))  # for Snakemake, which refuses a book that a clock set back makes older
    return files


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _run_sphinx(book: Path, output: Path) -> None:
    """Sphinx by way of Jupyter Book, which makes its configuration from _config.yml."""
    from jupyter_book.sphinx import build_sphinx
    from sphinx.util.console import nocolor

    nocolor()
    status = build_sphinx(
        book,
        output,
        noconfig=True,
        path_config=book / "_config.yml",
        confoverrides={"external_toc_path": str(book / "_toc.yml"), "latex_individualpages": False},
        warningiserror=True,
        keep_going=True,
    )
    if isinstance(status, Exception) or status:
        raise BookError("Sphinx warned, see above, and a warning is an error here; the book was not replaced")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m compatlib.study.publishing.book [--profile …] [--dataset …] [--seeds …]`."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.book", description=__doc__)
    for name in ("profile", "dataset", "seeds"):
        parser.add_argument(f"--{name}", default="")
    try:
        run = Run.from_config(vars(parser.parse_args(arguments)))
        last = html_metadata(run)
        print(
            "book           building the HTML", f"({duration_in_words(last['seconds'])} the last time)" if last else ""
        )
        build_html(run)
    except (ValueError, OSError, BookError) as error:
        print(f"\n{error}\n", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
