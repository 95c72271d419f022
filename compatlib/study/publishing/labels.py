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
    counted: Counter[str] = Counter()
    files: dict[str, bytes] = {}
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        caption = cell.metadata.get(CAPTION)
        if caption and cell.cell_type == "markdown":
            cell.source = _captioned(cell, caption, _numbered("Table", counted))
        elif caption:
            cells.append(new_markdown_cell(f"({cell.id})=", id=f"{cell.id}-place"))
            for output in cell.outputs:
                _label_output(output, cell, caption, counted, files)
        cells.append(cell)
    notebook.cells = cells
    return files


def _label_output(
    output: NotebookNode, cell: NotebookNode, caption: str, counted: Counter[str], files: dict[str, bytes]
) -> None:
    """One output: the table, or in place of the bare picture a figure with a caption."""
    data = output.get("data", {})
    is_table = "<table" in data.get("text/html", "")
    if not is_table and "image/png" not in data:
        return
    of = output.metadata.get(OF, "")
    number, words = _numbered("Table" if is_table else "Figure", counted), escape(f"{caption}: {of}" if of else caption)
    name = "-".join((cell.id, *re.findall(r"[a-z0-9]+", of.lower())))
    place = f' id="{name}"' if of else ""  # without a source it is the cell's
    if any(file.partition(".")[0] == name for file in files):
        raise ValueError(f"cell {cell.id} shows two tables or figures that are both called {name}; make it two cells")
    link, told = "", f"<strong>{number}.</strong> {words}."
    if CSV in data:
        files[f"{name}.csv"] = data.pop(CSV).encode()
        link = f'<a href="{FILES}/{name}.csv" download>{number} as CSV</a>'
    if is_table:
        html = re.sub(r"<caption>.*?</caption>\s*", "", data["text/html"], count=1)
        head = f"{place}>\n  <caption>{told}</caption>"
        html = re.sub("<table([^>]*)>", lambda found: f"<table{found[1]}{head}", html, count=1)
        html += f'\n<p class="rows-behind">{link}</p>' if link else ""
    else:
        files[f"{name}.png"] = base64.b64decode(data.pop("image/png"))
        alt = escape(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", ""))
        picture = f'<img src="{FILES}/{name}.png" alt="{alt}">'
        below = f'\n<span class="rows-behind">{link}</span>' if link else ""
        html = f'<figure{place} class="labelled">{picture}\n<figcaption>{told}{below}</figcaption></figure>'
    data["text/html"] = html


def _captioned(cell: NotebookNode, caption: str, number: str) -> str:
    """A text with its first table under a caption, and as the place of a link."""
    if not MARKDOWN_TABLE.search(cell.source):
        raise ValueError(f"cell {cell.id} has the caption {caption!r}, and no table in its text")

    def under(found: re.Match[str]) -> str:
        return f":::{{table}} **{number}.** {caption}.\n:name: {cell.id}\n\n{found.group()}\n:::"

    return MARKDOWN_TABLE.sub(under, cell.source, count=1)


def _numbered(kind: str, counted: Counter[str]) -> str:
    counted[kind] += 1
    return f"{kind} {counted[kind]}"
