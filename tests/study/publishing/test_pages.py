"""Executing one page: parameters, failures, progress, and what the executed notebook tells of itself."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from compatlib.study.publishing import pages
from compatlib.study.publishing.pages import PageError, execute, page_metadata, parameter_names

PARAMETERS = 'profile: str = "smoke"\nseeds: str = ""\nepochs: int = 3'


@pytest.fixture
def notebook(write_notebook):
    return functools.partial(write_notebook, parameters=PARAMETERS)


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(
        output.text for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream"
    )


def test_parameters_reach_the_cells_as_they_were_given(tmp_path, capsys, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(repr(profile), repr(seeds), repr(epochs))")
    seconds = execute(source, tmp_path / "deep" / "out.ipynb", {"seeds": "0,1", "epochs": 5})
    assert printed(tmp_path / "deep" / "out.ipynb") == "'smoke' '0,1' 5\n"
    assert page_metadata(tmp_path / "deep" / "out.ipynb")["seconds"] == seconds > 0
    assert "100% | done in" in capsys.readouterr().err


def test_single_seed_of_the_command_line_stays_a_text(tmp_path, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(repr(seeds), repr(epochs))")
    arguments = ["execute", "--notebook", str(source), "--output", str(tmp_path / "out.ipynb")]
    assert pages.main([*arguments, "-p", "seeds", "0", "-p", "epochs", "7"]) == 0
    assert printed(tmp_path / "out.ipynb") == "'0' 7\n"


def test_unknown_parameter_is_refused_with_the_valid_names(tmp_path, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(1)")
    with pytest.raises(ValueError, match=r"no parameter 'epoch', 'lr'; its parameters are profile, seeds, epochs"):
        execute(source, tmp_path / "out.ipynb", {"lr": 1, "epochs": 2, "epoch": 3})
    assert not (tmp_path / "out.ipynb").exists()


def test_notebook_without_a_cell_of_parameters_is_refused(tmp_path, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(1)", parameters=None)
    with pytest.raises(ValueError, match=r"no cell of page\.ipynb is tagged 'parameters'"):
        parameter_names(source)


def test_absent_notebook_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no notebook .*absent\.ipynb"):
        execute(tmp_path / "absent.ipynb", tmp_path / "out.ipynb", {})


def spelled(path: Path, way: str) -> Path:
    """Another way to the same file."""
    other = path.with_name("other.ipynb")
    if way == "link":
        other.symlink_to(path.name)
    elif way == "hard link":
        os.link(path, other)
    elif way == "by a linked folder":
        path.with_name("folder").symlink_to(".")
        return path.with_name("folder") / path.name
    return {"itself": path, "spelled otherwise": path.parent / "x" / ".." / path.name}.get(way, other)


@pytest.mark.parametrize("role", ["output", "log"])
@pytest.mark.parametrize("way", ["itself", "spelled otherwise", "link", "hard link", "by a linked folder"])
def test_notebook_is_never_written_over(tmp_path, notebook, way, role):
    source = notebook(tmp_path / "page.ipynb", "print(1)")
    before = source.read_bytes()
    places = {"output": tmp_path / "out.ipynb", "log": tmp_path / "log.ipynb"} | {role: spelled(source, way)}
    left = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=f"the {role} .* would take the place of a notebook"):
        execute(source, places["output"], {}, places["log"])
    assert source.read_bytes() == before
    assert sorted(tmp_path.rglob("*")) == left


def test_another_notebook_of_the_project_is_not_written_over_either(tmp_path, monkeypatch, notebook):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    source, other = (notebook(tmp_path / "notebooks" / f"{name}.ipynb", "print(1)") for name in ("page", "other"))
    before = other.read_bytes()
    for places in ((other, tmp_path / "log.ipynb"), (tmp_path / "out.ipynb", other)):
        with pytest.raises(ValueError, match=r"`make notebooks` stores outputs in the project's own"):
            execute(source, places[0], {}, places[1])
    assert other.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "log", "words"),
    [
        ("out.ipynb", "out.ipynb", "is named as the output and as the log; name two files"),
        ("out.ipynb", "x/../out.ipynb", "is named as the output and as the log; name two files"),
        ("folder.ipynb", "log.ipynb", r"the output .*folder\.ipynb is a folder; name a file \*\.ipynb"),
        ("rows.csv", "log.ipynb", r"the output .*rows\.csv is no notebook; name a file \*\.ipynb"),
        ("out.ipynb", "rows.csv", r"the log .*rows\.csv is no notebook; name a file \*\.ipynb"),
    ],
)
def test_place_that_no_page_can_be_written_to_is_refused(tmp_path, notebook, output, log, words):
    source = notebook(tmp_path / "page.ipynb", "print(1)")
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "rows.csv").write_text("rows")
    with pytest.raises(ValueError, match=words):
        execute(source, tmp_path / output, {}, tmp_path / log)
    assert (tmp_path / "rows.csv").read_text() == "rows"


def test_command_line_tells_of_a_folder_that_cannot_be_written_to(tmp_path, capsys, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(1)")
    (tmp_path / "file").touch()
    command = ["execute", "--notebook", str(source), "--output", str(tmp_path / "file" / "out.ipynb")]
    assert pages.main(command) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_page_draws_as_ever_whatever_the_shell_draws_with(tmp_path, monkeypatch, notebook):
    """And whatever file of matplotlib's settings lies beside the notebook."""
    (tmp_path / "matplotlibrc").write_text("axes.titlepad: 50\nsavefig.pad_inches: 3\n")
    monkeypatch.setenv("MPLBACKEND", "agg")
    draw = "from compatlib.study.lab.figures import style\nfigure, _ = style.panels(1, (1, 1))\nstyle.finished(figure)"
    told = "import matplotlib\nprint(matplotlib.rcParams['axes.titlepad'], matplotlib.rcParams['savefig.pad_inches'])"
    execute(notebook(tmp_path / "page.ipynb", draw, told), tmp_path / "out.ipynb", {})
    drawn = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-2]
    assert "image/png" in drawn.outputs[0].data
    assert printed(tmp_path / "out.ipynb") == "6.0 0.1\n"


def test_failing_cell_is_named_and_kept_and_no_page_is_left(tmp_path, notebook):
    source = notebook(tmp_path / "page.ipynb", "print('so far')", "rows = {}\nrows['mAP']", "print('never')")
    output, log = tmp_path / "out.ipynb", tmp_path / "logs" / "page.ipynb"
    output.write_text("an earlier page")
    with pytest.raises(PageError) as caught:
        execute(source, output, {"epochs": 4}, log)
    told = str(caught.value)
    assert "page page failed" in told
    assert "cell 4 of 5, which begins\n    rows = {}" in told  # papermill's own cells are not counted
    assert "KeyError: 'mAP'" in told
    assert str(log) in told
    assert not output.exists()
    assert log.with_suffix(".failed.txt").read_text() == told
    kept = nbformat.read(log, as_version=4)
    assert "KeyError" in [
        output.ename for cell in kept.cells for output in cell.get("outputs", []) if "ename" in output
    ]
    assert printed(log) == "so far\n"


def test_page_that_is_being_executed_is_waited_for_and_this_is_told(tmp_path, capsys, monkeypatch, notebook):
    waits = []
    monkeypatch.setattr(pages.processes.fcntl, "flock", lambda file, how: waits.append(how) or refuse(len(waits)))
    execute(notebook(tmp_path / "page.ipynb"), tmp_path / "out.ipynb", {})
    told = capsys.readouterr().err
    assert told.startswith("page page is being executed by another process; waiting for its end\n")
    assert len(waits) == 2


def refuse(attempt: int) -> None:
    if attempt == 1:
        raise BlockingIOError


def test_success_takes_the_earlier_failure_away(tmp_path, notebook):
    log = tmp_path / "page.log.ipynb"
    with pytest.raises(PageError):
        execute(notebook(tmp_path / "page.ipynb", "1 / 0"), tmp_path / "out.ipynb", {}, log)
    execute(notebook(tmp_path / "page.ipynb", "1 / 1"), tmp_path / "out.ipynb", {}, log)
    assert not log.with_suffix(".failed.txt").exists()
    assert (tmp_path / "out.ipynb").exists()


def test_kernel_that_dies_is_told(tmp_path, notebook):
    source = notebook(tmp_path / "page.ipynb", "import os\n\nos._exit(1)")
    with pytest.raises(PageError, match="page page failed") as caught:
        execute(source, tmp_path / "out.ipynb", {})
    assert "DeadKernelError" in str(caught.value)


def test_kernel_works_in_the_notebooks_folder_with_this_compatlib(tmp_path, monkeypatch, notebook):
    folder = tmp_path / "with {braces} and space"
    folder.mkdir()
    source = notebook(folder / "page.ipynb", "import os\n\nimport compatlib\n\nprint(os.getcwd(), compatlib.__file__)")
    monkeypatch.chdir("/")
    execute(source, folder / "out.ipynb", {})
    assert printed(folder / "out.ipynb").split(" /")[0] == str(folder)
    assert printed(folder / "out.ipynb").strip().endswith(str(pages.ROOT / "compatlib" / "__init__.py"))


def test_kernels_progress_is_told(tmp_path, notebook):
    """Line by line while the page is at work: it ends only when its line was read."""
    hold = tmp_path / "hold"
    hold.touch()
    report = json.dumps({"task": "training old", "done": 0.25, "seconds_left": 90, "detail": "seed 1"})
    cell = f"import os, time\nfrom pathlib import Path\n\nPath(os.environ['COMPATLIB_PROGRESS']).write_text({report!r})"
    wait = f"while Path({str(hold)!r}).exists():\n    time.sleep(0.05)"
    source = notebook(tmp_path / "page.ipynb", cell, wait)
    command = [sys.executable, "-m", "compatlib.study.publishing.pages", "execute", "--notebook", str(source)]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / "out.ipynb")],
        cwd=pages.ROOT,
        env=os.environ | {"COMPATLIB_BUILD": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    line = next(line for line in process.stdout if "25%" in line)
    hold.unlink()
    rest, _ = process.communicate()
    assert re.match(r"page +25% \| cell [34] of 4 \| training old, seed 1 \| 1 min 30 s left$", line)
    assert "100% | done in" in rest
    assert process.returncode == 0


def test_page_of_the_project_carries_what_it_was_made_from(tmp_path, monkeypatch, repository):
    monkeypatch.setattr(pages, "ROOT", repository)
    run = pages.Run("smoke", root=repository)
    monkeypatch.setattr(pages, "Run", lambda **parameters: run)
    execute(run.notebook("second"), run.page("second"), run.parameters, run.log("second"))
    metadata = page_metadata(run.page("second"))
    assert metadata["parts"] == pages.page_parts("second", run)
    assert metadata["parameters"] == run.parameters
    assert str(tmp_path) not in run.page("second").read_text()


def test_command_line_says_what_is_wrong(tmp_path, capsys, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(1)")
    command = ["execute", "--notebook", str(source), "--output", str(tmp_path / "out.ipynb"), "-p", "sead", "0"]
    assert pages.main(command) == 1
    assert "no parameter 'sead'; its parameters are profile, seeds, epochs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}']
)
def test_damaged_or_foreign_file_is_no_page(tmp_path, content):
    (tmp_path / "page.ipynb").write_text(content)
    assert page_metadata(tmp_path / "page.ipynb") is None


def test_added_parameters_are_hidden_as_those_of_the_notebook_are(tmp_path, notebook):
    source = notebook(tmp_path / "page.ipynb", "print(epochs)")
    read = nbformat.read(source, as_version=4)
    next(cell for cell in read.cells if cell.cell_type == "code").metadata["tags"] = ["parameters", "remove-cell"]
    nbformat.write(read, source)
    execute(source, tmp_path / "out.ipynb", {"epochs": 5})
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    tags = [cell.metadata.get("tags", []) for cell in executed.cells if cell.cell_type == "code"]
    assert tags == [["parameters", "remove-cell"], ["injected-parameters", "remove-cell"], []]


def test_added_parameters_are_shown_where_those_of_the_notebook_are():
    cells = [new_code_cell("a = 1", metadata={"tags": [name]}) for name in ("injected-parameters", "parameters")]
    pages._hide_as_parameters(executed := new_notebook(cells=cells))
    assert [cell.metadata["tags"] for cell in executed.cells] == [["injected-parameters"], ["parameters"]]
