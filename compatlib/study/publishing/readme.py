"""What the README takes from the published rows, a table and a picture."""

import sys

from compatlib.files import replacing
from compatlib.study.chapters.problem.figures import meetings
from compatlib.study.lab.artifacts import REPOSITORY
from compatlib.study.publishing import claims, sources

PICTURE = REPOSITORY / "book" / "images" / "problem.png"
README = REPOSITORY / "README.md"
BEGIN, END = "<!-- claims: written by `make notebooks` -->", "<!-- end of claims -->"


def claims_table() -> str:
    """All claims with their verdicts by regime as a Markdown table."""
    table = claims.by_regime(claims.judge_published())
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def updated(text: str) -> str:
    """`text` with the present table between its two marks.

    Raises:
        ValueError: the marks are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text lacks the marks {BEGIN!r} and {END!r} around its claims table")
    return f"{before}{BEGIN}\n{claims_table()}\n{END}{after}"


def main() -> int:
    """Write the table into README.md and the picture beside the book; returns the exit status."""
    text = README.read_text(encoding="utf-8")
    with replacing(README) as temporary:
        temporary.write_text(updated(text), encoding="utf-8")
    PICTURE.parent.mkdir(exist_ok=True)
    # Without the version of matplotlib in it, the file changes only with the picture.
    meetings(sources.published("problem")).savefig(PICTURE, dpi=110, metadata={"Software": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
