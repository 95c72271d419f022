"""Published rows: one CSV a chapter, its sidecar in JSON and its scores by class, each whole or as it was."""

import io
import json
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pandas as pd

from compatlib.files import alone, replacing
from compatlib.study.lab import class_scores
from compatlib.study.lab.artifacts import REPOSITORY
from compatlib.study.lab.rows import CELL, COLUMNS, Rows, groups, table, typed

PUBLISHED = REPOSITORY / "data" / "published"
PAPER_VALUES = REPOSITORY / "data" / "paper_values.csv"


def read(chapter: str, folder: Path | None = None) -> Rows:
    """The published rows of a chapter; no row where none was published yet. Files that stay are read once a process.

    Raises:
        ValueError: a damaged file, other columns than `COLUMNS`, or rows that the sidecar does not describe.
    """
    path = (folder or PUBLISHED) / f"{chapter}.csv"
    if not path.exists():
        return Rows(table([]), {})
    found = _read(path, tuple(map(_state, (path, path.with_suffix(".json"), path.with_suffix(".classes.npz")))))
    return Rows(found.frame.copy(), dict(found.sidecar), found.by_class)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written again; None where there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


@lru_cache(maxsize=16)
def _read(path: Path, state: tuple) -> Rows:
    """The files in the `state` that they are in."""
    try:
        text = path.read_text(encoding="utf-8")
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        if tuple(frame.columns) != COLUMNS:
            raise ValueError(f"its columns are {tuple(frame.columns)} instead of {COLUMNS}")
        frame = typed(frame)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} or its sidecar is damaged ({error}); restore both from the repository") from error
    undescribed = set(groups(frame)) - set(sidecar)
    if undescribed:
        raise ValueError(f"{path} has rows of {sorted(undescribed)}, which its sidecar does not describe")
    return Rows(frame, sidecar, class_scores.read(path.with_suffix(".classes.npz")))


def publish(chapter: str, new: Rows, folder: Path | None = None) -> Path:
    """Merge rows into the published ones: a group (profile, data set, seed) that is there already is replaced.

    Each file is written under a temporary name first; returns the CSV's path.

    Raises:
        ValueError: no row, rows that their sidecar does not describe, or damaged files in place.
        OSError: a file cannot be written, as on a full disk.
    """
    if undescribed := set(groups(new.frame)) - set(new.sidecar):
        raise ValueError(f"rows of {sorted(undescribed)} cannot be published: their sidecar does not describe them")
    if new.frame.empty:
        raise ValueError(f"there is no row of chapter {chapter!r} to publish")
    if len(lost := new.undescribed()):
        raise ValueError(f"no case of the sidecar describes {len(lost)} rows, such as {lost.iloc[0].to_dict()}")
    folder = folder or PUBLISHED
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{chapter}.csv"
    # Two runs may publish seeds of their own at the same time.
    with alone(folder / f".{chapter}.lock", f"publishes rows of {path}"):
        _merge(path, new)
    return path


def _merge(path: Path, new: Rows) -> None:
    old = read(path.stem, path.parent)
    replaced = set(groups(new.frame))
    kept = old.frame[~pd.Series(groups(old.frame), index=old.frame.index, dtype=str).isin(replaced)]
    frame = pd.concat([part for part in (kept, new.frame) if len(part)], ignore_index=True)
    sidecar = {group: old.sidecar[group] for group in groups(kept)} | new.sidecar
    by_class = {group: old.by_class.get(group, {}) for group in groups(kept)} | dict(new.by_class)
    scores = path.with_suffix(".classes.npz")
    # All is written before anything takes its place, the last first: a full disk leaves everything as it was.
    with ExitStack() as written:
        written.enter_context(replacing(path)).write_text(_text(frame), encoding="utf-8")
        if any(by_class.values()):
            class_scores.write(written.enter_context(replacing(scores)), by_class)
        described = json.dumps(dict(sorted(sidecar.items())), indent=1, sort_keys=True) + "\n"
        written.enter_context(replacing(path.with_suffix(".json"))).write_text(described, encoding="utf-8")
        # Rows to be replaced leave first, so that no description ever stands over rows of another making.
        if len(kept) < len(old.frame):
            with replacing(path) as temporary:
                temporary.write_text(_text(kept), encoding="utf-8")
    if not any(by_class.values()):
        scores.unlink(missing_ok=True)


def paper_values() -> pd.DataFrame:
    """The papers' numbers that may be quoted, in percent, with their sources."""
    return pd.read_csv(PAPER_VALUES, keep_default_na=False)


def _text(frame: pd.DataFrame) -> str:
    """CSV in the order of the columns. An undefined value is written out as nan, so that an empty one means damage."""
    frame = frame[list(COLUMNS)].sort_values([*CELL, "seed"], kind="stable", na_position="first")
    return frame.assign(value=frame["value"].map("{:.6f}".format)).to_csv(index=False, float_format="%.6f")
