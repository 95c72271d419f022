"""Numbers, captions, places and files of a page's tables and figures, given where the page is published.

A cell that shows any carries the words of their caption in its metadata, under `caption`. On the page it is the place
of a link, by its id: `[this table](#bct-levels)`; what it shows has a number, counted by page, and beside the page lie
the rows behind it, as `data/<id>.csv`. Where a cell shows one of every source, each has a number and an id of its own.
"""

import base64
import re
from collections import Counter
from html import escape

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from compatlib.study.lab.figures.behind import CSV, OF

CAPTION = "caption"
FILES = "data"  # the folder beside the page
# In markdown a table is lines of bars, of which the second rules the first off.
MARKDOWN_TABLE = re.compile(r"^\|.*\|\n\|[-:| ]+\|(\n\|.*\|)+$", re.MULTILINE)


def label(notebook: NotebookNode) -> dict[str, bytes]:
    """Number and name, in place, what the cells with a caption show.

    Returns:
        The files that must lie in the folder `data` beside the page, by name.

    Raises:
        ValueError: two outputs have one id, or a text with a caption has no table.
    """
    page, cells = _Page(), []
    for cell in notebook.cells:
        caption = cell.metadata.get(CAPTION)
        if caption and cell.cell_type == "markdown":
            cell.source = page.captioned(cell, caption)
        elif caption:
            cells.append(new_markdown_cell(f"({cell.id})=", id=f"{cell.id}-place"))
            for output in cell.outputs:
                page.label(output, cell, caption)
        cells.append(cell)
    notebook.cells = cells
    return page.files


class _Page:
    """What a page has so far."""

    def __init__(self):
        self.counted: Counter[str] = Counter()
        self.names: set[str] = set()
        self.files: dict[str, bytes] = {}

    def label(self, output: NotebookNode, cell: NotebookNode, caption: str) -> None:
        """Give an output that is a table a caption and a link, and put a figure with both in place of a picture."""
        data = output.get("data", {})
        is_table = "<table" in data.get("text/html", "")
        if not is_table and "image/png" not in data:
            return
        of = output.metadata.get(OF, "")
        name, number = self._named(cell, of), self._number("Table" if is_table else "Figure")
        place = f' id="{name}"' if of else ""  # without a source it is the cell's
        words = f"<strong>{number}.</strong> {escape(f'{caption}: {of}' if of else caption)}."
        link = ""
        if CSV in data:
            self.files[f"{name}.csv"] = data.pop(CSV).encode()
            link = f'<a class="rows-behind" href="{FILES}/{name}.csv" download>{number} as CSV</a>'
        if is_table:
            html = re.sub(r"<caption>.*?</caption>\s*", "", data["text/html"], count=1)
            head = f"{place}>\n  <caption>{words}</caption>"
            html = re.sub("<table([^>]*)>", lambda found: f"<table{found[1]}{head}", html, count=1) + link
        else:
            self.files[f"{name}.png"] = base64.b64decode(data.pop("image/png"))
            alt = escape(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
            picture = f'<img src="{FILES}/{name}.png" alt="{alt}">'
            html = f'<figure{place} class="labelled">{picture}<figcaption>{words}{link}</figcaption></figure>'
        data["text/html"] = html

    def captioned(self, cell: NotebookNode, caption: str) -> str:
        """A text with its first table under a caption, and as the place of a link."""
        if not MARKDOWN_TABLE.search(cell.source):
            raise ValueError(f"cell {cell.id} has the caption {caption!r}, and no table in its text")
        head = f":::{{table}} **{self._number('Table')}.** {caption}.\n:name: {cell.id}\n\n"
        return MARKDOWN_TABLE.sub(lambda found: f"{head}{found.group()}\n:::", cell.source, count=1)

    def _named(self, cell: NotebookNode, of: str) -> str:
        name = "-".join((cell.id, *re.findall(r"[a-z0-9]+", of.lower())))
        if name in self.names:
            raise ValueError(
                f"cell {cell.id} shows two tables or figures that are both called {name}; make it two cells"
            )
        self.names.add(name)
        return name

    def _number(self, kind: str) -> str:
        self.counted[kind] += 1
        return f"{kind} {self.counted[kind]}"
