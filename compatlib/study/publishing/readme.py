"""What the README takes from the published rows: the picture of all claims, and a line for those of its headlines."""

import hashlib
import sys
from collections.abc import Iterable

from compatlib.files import replacing
from compatlib.study.lab.artifacts import REPOSITORY
from compatlib.study.publishing import claims, overview
from compatlib.study.publishing.claims import Judged

PICTURE = REPOSITORY / "book" / "images" / "claims.png"
README = REPOSITORY / "README.md"
BEGIN, END = "<!-- claims: written by `make notebooks` -->", "<!-- end of claims -->"


def claims_table(judged: Iterable[Judged]) -> str:
    """The claims that stand for their papers, with their verdicts by regime, as a Markdown table."""
    table = overview.headlines(judged)
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def digest(judged: list[Judged]) -> str:
    """Of all that the picture shows, numbers and words; it stands in the file."""
    shown = claims.table(judged).assign(line=[each.claim.short for each in judged])
    return hashlib.sha256(shown.to_csv().encode()).hexdigest()


def updated(text: str, judged: Iterable[Judged]) -> str:
    """`text` with the present table between its two marks.

    Raises:
        ValueError: the marks are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text lacks the marks {BEGIN!r} and {END!r} around its claims table")
    return f"{before}{BEGIN}\n{claims_table(judged)}\n{END}{after}"


def main() -> int:
    """Write the table into README.md and the picture beside the book; returns the exit status."""
    text, judged = README.read_text(encoding="utf-8"), claims.judge_published()
    with replacing(README) as temporary:
        temporary.write_text(updated(text, judged), encoding="utf-8")
    PICTURE.parent.mkdir(exist_ok=True)
    # Without the version of matplotlib in it, the file changes only with the picture.
    about = {"Software": None, "Description": digest(judged)}
    overview.picture(judged).savefig(PICTURE, dpi=110, metadata=about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
