"""Makes the HTML whole in itself: what would ask a network is left out, and MathJax is cut to what the pages load."""

from pathlib import Path

# Thebe runs cells on a server, which this book does not offer; its script comes from a network.
_REMOTE = ("sphinx-thebe", "THEBE_JS_URL", "thebe_selector")

# Of MathJax's combined builds the pages load tex-chtml.js, with its fonts and extensions.
_UNUSED = ("mml-*", "tex-mml-*", "tex-svg*", "tex-chtml-full*", "output/svg*", "output/svg/**/*", "input/mml/**/*")


def _drop_remote_scripts(app, page, template, context, doctree):
    scripts = context.get("script_files", [])
    context["script_files"] = [
        script
        for script in scripts
        if not any(word in f"{script.filename} {script.attributes.get('body', '')}" for word in _REMOTE)
    ]


def _cut_mathjax(app, error):
    folder = Path(app.outdir) / "_static" / "mathjax"
    for path in (path for pattern in _UNUSED for path in folder.glob(pattern)):
        if path.is_file():
            path.unlink()


def setup(app):
    """Connect to Sphinx; late, after the extensions that add scripts and copy MathJax."""
    app.connect("html-page-context", _drop_remote_scripts, priority=900)
    app.connect("build-finished", _cut_mathjax, priority=900)
    return {"parallel_read_safe": True}
