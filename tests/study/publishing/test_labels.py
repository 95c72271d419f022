"""Tables and figures of a published page: numbered, captioned, found by a link, with the rows behind them beside it."""

import base64
import io
import re

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from compatlib.study.lab.figures import style
from compatlib.study.lab.figures.tables import show
from compatlib.study.publishing.labels import label
from tests.study.lab.figures import made

FRAME = pd.DataFrame({"method": ["a", "b"], "mAP": ["1.0\u00a0±\u00a00.2", "<2>"]})
SYMBOLS = "Words before.\n\n| here | what |\n|---|---|\n| `a` | $a$ |\n| `b` | $b$ |\n\nWords after."


def table(of: str = "") -> NotebookNode:
    """An output as the kernel writes it."""
    data, about = show(FRAME, of)._repr_mimebundle_()
    return new_output("display_data", data, metadata=about)


def picture(of: str = "", *, is_noted: bool = True) -> NotebookNode:
    figure, axes = style.panels(1, (1, 1))
    if is_noted:
        figure.note(axes[0, 0], {"series": "a", "mean": 1})
    figure.suptitle(of)
    data, about = style.finished(figure)._repr_mimebundle_()
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return new_output("display_data", {"image/png": base64.b64encode(file.getvalue()).decode(), **data}, metadata=about)


def cell(name: str, *outputs: NotebookNode, caption: str | None = "Words & more", **about) -> NotebookNode:
    own = {"caption": caption} if caption else {}
    return new_code_cell("show()", id=name, outputs=list(outputs), metadata={**own, **about})


def labelled(*cells: NotebookNode) -> tuple[list[NotebookNode], dict[str, bytes]]:
    notebook = new_notebook(cells=list(cells))
    files = label(notebook)
    return notebook.cells, files


def html(cells: list[NotebookNode]) -> str:
    return "\n".join(output.data["text/html"] for cell in cells for output in cell.get("outputs", []))


def test_tables_and_figures_are_numbered_each_by_itself():
    cells, _ = labelled(cell("a", table()), cell("b", picture()), cell("c", table()), cell("d", picture()))
    numbers = re.findall(r"<strong>(.*?)\.</strong> Words &amp; more\.", html(cells))
    assert numbers == ["Table 1", "Figure 1", "Table 2", "Figure 2"]
    again, _ = labelled(cell("e", table()))  # another page
    assert "<strong>Table 1.</strong>" in html(again)


def test_a_place_stays_when_another_table_is_added_before_it():
    (place, shown), files = labelled(cell("page-levels", table()))
    assert (place.cell_type, place.source) == ("markdown", "(page-levels)=")
    after, more = labelled(cell("page-new", table()), cell("page-levels", table()))
    assert after[2].source == place.source
    assert 'href="data/page-levels.csv" download>Table 2 as CSV</a>' in html(after)
    assert 'href="data/page-levels.csv" download>Table 1 as CSV</a>' in html([shown])
    assert set(more) == {*files, "page-new.csv"}
    assert len({cell.id for cell in after}) == len(after)


def test_the_csv_beside_the_page_is_what_the_table_shows():
    cells, files = labelled(cell("a", table()))
    assert pd.read_csv(io.BytesIO(files["a.csv"]), dtype=str).equals(made.seen(html(cells)))
    assert "text/csv" not in cells[1].outputs[0].data


def test_a_picture_lies_beside_the_page_with_its_alternative_text():
    output = picture()
    pixels = base64.b64decode(output.data["image/png"])
    cells, files = labelled(cell("a", output, mystnb={"image": {"alt": 'Lines, "two"'}}))
    assert '<img src="data/a.png" alt="Lines, &quot;two&quot;">' in html(cells)
    assert "<figcaption>" in html(cells)
    assert files == {"a.png": pixels, "a.csv": b"series,mean\na,1\n"}
    assert set(cells[1].outputs[0].data) == {"text/html"}


def test_a_picture_without_rows_has_a_number_and_no_link():
    cells, files = labelled(cell("a", picture(is_noted=False)))
    assert "Figure 1." in html(cells)
    assert "<a " not in html(cells)
    assert set(files) == {"a.png"}


@pytest.mark.parametrize("make", [table, picture])
def test_one_of_every_source_has_a_number_and_an_id_each(make):
    cells, files = labelled(cell("a", make("heads"), make("this build: smoke")))
    assert re.findall(r' id="(.*?)"', html(cells)) == ["a-heads", "a-this-build-smoke"]
    assert re.findall(r"(\d)\.</strong> Words &amp; more: (.*?)\.", html(cells)) == [
        ("1", "heads"),
        ("2", "this build: smoke"),
    ]
    assert html(cells).count("caption>") == 4  # the table's own words are within it, and not said twice
    assert {name.partition(".")[0] for name in files} == {"a-heads", "a-this-build-smoke"}


def test_two_that_are_called_alike_are_refused():
    bare = new_output("display_data", {"text/html": "<table></table>"})
    for outputs in ((table(), table()), (table("heads"), table("Heads")), (picture(), picture()), (bare, bare.copy())):
        with pytest.raises(ValueError, match="cell a shows two tables or figures that are both called a"):
            labelled(cell("a", *outputs))


def test_a_table_of_symbols_has_a_caption_too():
    text = new_markdown_cell(SYMBOLS, id="symbols", metadata={"caption": "The symbols"})
    (found, _, after), files = labelled(text, cell("a", table()))
    rows = "| here | what |\n|---|---|\n| `a` | $a$ |\n| `b` | $b$ |"
    assert found.source == (
        f"Words before.\n\n:::{{table}} **Table 1.** The symbols.\n:name: symbols\n\n{rows}\n:::\n\nWords after."
    )
    assert "Table 2." in html([after])
    assert set(files) == {"a.csv"}
    with pytest.raises(ValueError, match="cell none has the caption 'No table', and no table in its text"):
        labelled(new_markdown_cell("Words.", id="none", metadata={"caption": "No table"}))


def test_what_is_no_table_and_what_has_no_caption_stay_as_they_are():
    words = new_output("display_data", {"text/markdown": "*No rows*"})
    stream = new_output("stream", name="stdout", text="said")
    cells = [cell("a", table(), caption=None), cell("b", words, stream), new_markdown_cell(SYMBOLS, id="c")]
    before = [each.copy() for each in cells]
    after, files = labelled(*cells)
    assert [each for each in after if each.id != "b-place"] == before
    assert files == {}
