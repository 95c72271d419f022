"""Make the files that the project carries, `data/fixtures`: `make fixture`.

Or `python -m compatlib.study.lab.fixtures`. Images are made out of the archives at hand, features out of those that
`make data NAME=omniglot_lite ENCODERS=lite0,lite2` has embedded: the same bytes of the same images and features.
Features differ between processors in their last bits, so that those of another one give a file with another SHA-256,
which is then to be named in `compatlib/data/fixtures.py`; a file with another SHA-256 than is named there is not read.
"""

import sys
from pathlib import Path

import numpy as np

from compatlib.data import features, fixtures, sources


def make(name: str, encoder: str) -> str:
    """Make one of the files out of the features in `sources.features_root()`; returns a line that tells of it.

    Args:
        name: in `fixtures.CARRIED`.
        encoder: of those that are carried.

    Raises:
        FileNotFoundError: the features are not there; the message says how to make them.
        ValueError: they are damaged, or were made from something else.
    """
    source = features.place(name, encoder, sources.features_root())
    features.read(name, "train", encoder, sources.features_root())
    identity = features.described(source.with_name(f"{source.name}.json"), name, encoder)["identity"]
    path = fixtures.place(name, encoder, sources.fixtures_root())
    return _told(
        path, fixtures.write(path, np.load(source, allow_pickle=False), identity), fixtures.CARRIED[name][encoder]
    )


def make_images(name: str) -> str:
    """Make the file of a data set in `fixtures.CARRIED_IMAGES` out of `sources.data_root()`; returns a line that tells.

    Raises:
        FileNotFoundError, ValueError: as `sources.load`.
    """
    path = fixtures.images_place(name, sources.fixtures_root())
    splits = {split: sources.load(name, split, root=sources.data_root()) for split in sources.SPLITS}
    return _told(path, fixtures.write_images(path, splits), fixtures.CARRIED_IMAGES[name])


def _told(path: Path, found: str, known: str) -> str:
    told = f"before {known or 'none'}: name the new one in compatlib/data/fixtures.py"
    return f"{path}: {path.stat().st_size:,} bytes, SHA-256 {found}, {'as before' if found == known else told}"


def main() -> int:
    """The command line; returns the exit status."""
    try:
        for name in fixtures.CARRIED_IMAGES:
            print(make_images(name), flush=True)
        for name, encoders in fixtures.CARRIED.items():
            for encoder in encoders:
                print(make(name, encoder), flush=True)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
