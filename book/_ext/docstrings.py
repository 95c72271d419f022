"""Reads the library's docstrings, which are plain text with Google's sections, as reStructuredText would have them."""

import re

_FIELD = re.compile(r"[A-Za-z_]\w*(, \w+)*: \S")
_CODE = re.compile(r"(`+[^`]*`+)")


def _escape(line: str) -> str:
    """Bars, asterisks and final underscores mean themselves, outside of `code`."""
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"([|*]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _is_field_list(block: list[str]) -> bool:
    """Whether every line of a paragraph says `name: what it is`, or is indented below such a line."""
    return all(line.startswith(" ") or _FIELD.match(line) for line in block) and not block[0].startswith(" ")


def _as_list(block: list[str]) -> list[str]:
    return [f"  {line.strip()}" if line.startswith(" ") else f"- `{line.replace(':', '`:', 1)}" for line in block]


def _process(app, what, name, obj, options, lines):
    blocks, block = [], []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            blocks.append(block)
            block = []
    paragraphs = [_as_list(block) if number and _is_field_list(block) else block for number, block in enumerate(blocks)]
    if what in {"attribute", "data", "property"} and paragraphs:
        # napoleon would take what stands before a colon for the type.
        paragraphs[0][0] = paragraphs[0][0].replace(": ", " – ")
    lines[:] = [line for block in paragraphs for line in [*map(_escape, block), ""]]


def setup(app):
    """Connect before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
