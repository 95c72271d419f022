"""The book as one file that needs no network: checked for what a page would load from elsewhere, then archived."""

import argparse
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from compatlib.files import replacing
from compatlib.study.publishing import processes
from compatlib.study.publishing.book import is_fresh
from compatlib.study.publishing.runs import ROOT, Run

# Attributes by which a page loads something when it is shown; a link that the reader must click is none.
_LOADING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
_PASSIVE_LINKS = {"canonical", "author", "license", "next", "prev", "index", "search", "help", "alternate"}
_REMOTE = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
_REMOTE_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)

# Scripts name addresses for many reasons; these ways load one.
_REMOTE_SCRIPT = re.compile(
    r"(?:fetch\(|import\(|importScripts\(|\.src\s*=|_URL\s*=)\s*[\"'`]((?:https?:)?//[^\"'`]+)", re.IGNORECASE
)

# A fixed time, the first that the format knows: equal books make equal archives.
_TIME = (1980, 1, 1, 0, 0, 0)


def remote_loads(folder: Path) -> list[str]:
    """All that pages, styles and scripts below `folder` would load from a network, as "file: address"; sorted."""
    found = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".html", ".css", ".js", ".svg"} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found |= {f"{path.relative_to(folder)}: {address}" for address in _addresses(path.suffix, text)}
    return sorted(found)


def archive(folder: Path, path: Path) -> Path:
    """Write all files of `folder` into a zip archive under one folder of its own name; equal contents, equal bytes.

    Raises:
        ValueError: something in the folder would be loaded from a network.
    """
    remote = remote_loads(folder)
    if remote:
        raise ValueError("the book would load from a network:\n    " + "\n    ".join(remote))
    compressed = {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 9}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", **compressed) as file:
        for source in sorted(folder.rglob("*")):
            if source.is_file():
                entry = zipfile.ZipInfo(f"{path.stem}/{source.relative_to(folder).as_posix()}", _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                file.writestr(entry, source.read_bytes())
    return path


def publish(run: Run) -> Path:
    """Archive the HTML of a run as build/compatlib-book-<run>.zip.

    Raises:
        ValueError: there is no book of this run, it is stale, or it would load something from a network.
    """
    with processes.only_build(run.root / "build" / "lock"):  # which would replace the book meanwhile
        if not is_fresh(run):
            raise ValueError(f"there is no fresh book of run {run.name}; `make publish` builds it first")
        return archive(run.html.parent, run.root / "build" / f"compatlib-book-{run.name}.zip")


def _addresses(suffix: str, text: str) -> Iterator[str]:
    if suffix in {".html", ".svg"}:
        reader = _Reader()
        reader.feed(text)
        yield from reader.found
    yield from _REMOTE_STYLE.findall(text if suffix != ".js" else "")
    yield from _REMOTE_SCRIPT.findall(text if suffix in {".html", ".js"} else "")


class _Reader(HTMLParser):
    """Collects the remote addresses that tags load."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and set(values.get("rel", "").lower().split()) & _PASSIVE_LINKS:
            return
        loaded = (values.get(name, "") for name in _LOADING.get(tag, ()))
        self.found += [address for address in loaded if _REMOTE.match(address)]


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m compatlib.study.publishing.publish [--profile …] [--dataset …] [--seeds …]`."""
    parser = argparse.ArgumentParser(prog="python -m compatlib.study.publishing.publish", description=__doc__)
    for name in ("profile", "dataset", "seeds"):
        parser.add_argument(f"--{name}", default="")
    try:
        path = publish(Run.from_config(vars(parser.parse_args(arguments))))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB, to be unpacked and read without a network")
    return 0


if __name__ == "__main__":
    sys.exit(main())
