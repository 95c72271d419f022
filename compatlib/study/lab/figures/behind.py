"""What stands behind a table or a picture: its rows, which its output carries as CSV beside what is seen."""

import itertools
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CSV = "text/csv"
OF = "of"  # in an output's metadata: the source that it is of
# Columns of a table whose lines a phone stacks: six it shows side by side, and a story has eight at most.
STACKED = (7, 8)
LONGEST = 24  # lines of such a table; stacked, a longer one would never end


class Table(HTML):
    """A frame as a page shows it, without the numbers of its lines.

    Where it has as many columns as `STACKED` says every entry carries its heading, for a phone stacks a line's entries
    there. Wider ones, and longer ones than `LONGEST` lines, all of pages of details, scroll sideways.

    Args:
        frame: the table.
        of: the source that it is of, as a page tells it where a cell has a table a source.
    """

    def __init__(self, frame: pd.DataFrame, of: str = ""):
        self.frame, self.of = frame, of
        super().__init__(_written(frame, of))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, str]]:
        return {"text/html": self.data, CSV: as_csv(self.frame)}, {OF: self.of} if self.of else {}


class Picture(Figure):
    """A figure that keeps what is drawn in it, row by row."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._noted: list[tuple[Axes, bool, dict[str, Any]]] = []

    def note(self, axis: Axes, row: Mapping[str, Any], *, across: bool = False) -> None:
        """Keep one row of what is drawn in a panel; a value named `x` takes the name of the axis below.

        across: whether the values are read off the axis below, and not off the one at the side.
        """
        self._noted.append((axis, across, dict(row)))

    @property
    def frame(self) -> pd.DataFrame:
        """The rows in the order in which they were drawn, under the words that the finished picture has.

        `panel` is the panel's title, of several panels without one the words below; `measure` what its values are;
        `series` a name in the legend. Each of these is left out where it says nothing.
        """
        lines = []
        several = len({axis for axis, _, _ in self._noted}) > 1
        for axis, is_across, row in self._noted:
            panel = axis.get_title() or (axis.get_xlabel() if several else "")
            at_the_side = axis.get_ylabel() or self.axes[0].get_ylabel()  # of panels with one scale the first names it
            line = {"panel": panel, "measure": axis.get_xlabel() if is_across else at_the_side, **row}
            named = {axis.get_xlabel() if name == "x" else name: value for name, value in line.items()}
            lines.append({_in_one_line(name): _in_one_line(value) for name, value in named.items()})
        frame = pd.DataFrame(lines)
        silent = [name for name in ("panel", "measure", "series") if name in frame and not frame[name].any()]
        return frame.drop(columns=silent)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, str]]:
        words = self.get_suptitle()
        return {CSV: as_csv(self.frame)} if self._noted else {}, {OF: words} if words else {}


def as_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV, without the numbers of its lines; numbers have six digits, and every space is a plain one."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n").replace("\u00a0", " ")


def _written(frame: pd.DataFrame, of: str) -> str:
    is_stacked = frame.shape[1] in STACKED and len(frame) <= LONGEST
    html = frame.to_html(index=False, classes="cards" if is_stacked else None)
    if is_stacked:
        labels = itertools.cycle(escape(str(name)) for name in frame)
        html = re.sub("<td>", lambda _: f'<td data-label="{next(labels)}">', html)  # no entry's text holds a tag
    return html.replace("<thead>", f"<caption>{escape(of)}</caption>\n  <thead>", 1) if of else html


def _in_one_line(value: Any) -> Any:
    return value.replace("\n", " ") if isinstance(value, str) else value
