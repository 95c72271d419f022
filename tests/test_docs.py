"""The examples of the documents run and print what they say; the generated parts are up to date."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from compatlib.study.publishing import claims, overview, readme

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "book").glob("*.md"), *(PROJECT / "data").glob("*.md")])
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```(?:\s*```text\n(?P<printed>.*?)```)?", re.DOTALL)
EXAMPLES = [(path.name, match) for path in DOCUMENTS for match in EXAMPLE.finditer(path.read_text())]


@pytest.mark.parametrize(("code", "printed"), [match.group("code", "printed") for _, match in EXAMPLES])
def test_an_example_prints_what_the_document_says(code, printed):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "example", "exec"), {})
    assert out.getvalue() == (printed or "")


def test_the_readme_has_an_example():
    assert "README.md" in {name for name, _ in EXAMPLES}


def test_the_readme_tells_what_the_published_rows_give():
    text, headlines = readme.README.read_text(), [claim for claim in claims.load() if claim.is_headline]
    judged = claims.judge_published()
    assert readme.updated(text, judged) == text, "run `make notebooks`, which writes the table again"
    assert readme.claims_table(judged).count("\n") == 2 + len(headlines) - 1
    assert {claim.chapter for claim in headlines} == {claim.chapter for claim in claims.load()}
    assert Image.open(readme.PICTURE).text["Description"] == readme.digest(judged), (
        "run `make notebooks`, which draws it again"
    )
    assert overview.ALT in text


def test_a_readme_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="lacks the marks"):
        readme.updated("no marks here", [])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_of_the_documents_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        if not target.startswith("chapters/"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_of_the_table_of_contents_exists():
    contents = yaml.safe_load((PROJECT / "book" / "_toc.yml").read_text())
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    for file in files:
        notebook = PROJECT / "notebooks" / f"{Path(file).name}.ipynb"
        assert notebook.exists() if file.startswith("chapters/") else (PROJECT / "book" / f"{file}.md").exists()
    pages = {path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")}
    assert pages == {Path(file).name for file in files if file.startswith("chapters/")}
