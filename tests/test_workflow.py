"""The whole workflow, as a reader calls it: from notebooks to HTML, again, interrupted, failing, and on a queue."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.building import PATIENCE, build, executed, start, wait_for

# Patience is for a busy machine; on two cores that are free all of it takes three minutes.
pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1_200)]


@pytest.fixture
def hold(repository):
    """As long as this file is there, page `first` does not end."""
    path = repository / "hold"
    path.touch()
    return path


def test_only_what_changed_is_executed_again(repository):
    assert sorted(executed(build(repository, "book"))) == ["first", "second"]
    second = repository / "build" / "smoke" / "pages" / "second.ipynb"
    made = second.stat().st_mtime_ns
    (repository / "compatlib" / "example.py").write_text("value = 2\n")
    assert executed(build(repository, "book")) == ["first"]
    assert second.stat().st_mtime_ns == made
    assert (repository / "build" / "smoke" / "html" / "chapters" / "first.html").read_text().count(">2\n") == 1
    future = time.time() + 1e7  # or the clock was set back meanwhile
    for path in (*repository.glob("notebooks/*"), *second.parent.glob("*"), repository / "compatlib" / "example.py"):
        os.utime(path, (future, future))
    assert "Nothing to be done" in build(repository, "book")
    (repository / "compatlib" / "example.py").write_text('"""Words."""\n\nvalue = 2  # two\n')
    told = build(repository, "book")  # the HTML documents the code
    assert executed(told) == []
    assert "building the HTML" in told


def test_lost_records_of_snakemake_leave_no_stale_page(repository):
    build(repository, "page", "first")
    shutil.rmtree(repository / ".snakemake")
    (repository / "compatlib" / "example.py").write_text("value = 2\n")
    assert executed(build(repository, "page", "first")) == ["first"]


def test_damaged_page_is_executed_again(repository):
    build(repository, "page", "first")
    page = repository / "build" / "smoke" / "pages" / "first.ipynb"
    page.write_text("{")
    assert executed(build(repository, "page", "first")) == ["first"]
    assert json.loads(page.read_text())["cells"]


def test_failing_page_stops_the_build_is_kept_and_takes_the_book_away(repository, write_notebook):
    build(repository, "book")
    folder = repository / "build" / "smoke"
    write_notebook(repository / "notebooks" / "second.ipynb", "rows = []", "rows[3]")
    told = build(repository, "book", status=1)
    assert "page second failed: notebooks/second.ipynb, cell 4 of 4, which begins\n    rows[3]" in told
    assert "IndexError: list index out of range" in told
    assert "kept for a look: build/smoke/logs/second.ipynb" in told
    kept = json.loads((folder / "logs" / "second.ipynb").read_text())
    assert "IndexError" in [output.get("ename") for cell in kept["cells"] for output in cell.get("outputs", [])]
    assert not (folder / "pages" / "second.ipynb").exists()
    assert not (folder / "html").exists()
    write_notebook(repository / "notebooks" / "second.ipynb", "rows = []")
    assert executed(build(repository, "book")) == ["second"]
    assert (folder / "html" / "index.html").exists()


def test_warning_of_sphinx_is_an_error(repository):
    (repository / "book" / "intro.md").write_text("# A book\n\nSee {doc}`chapters/absent`.\n")
    told = build(repository, "book", status=1)
    assert "unknown document" in told
    assert "a warning is an error here" in told
    assert not (repository / "build" / "smoke" / "html").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_build_goes_on_with_the_next_call(repository, hold, number):
    """A page that was finished stays, the one that was at work is executed again, and nothing must be unlocked."""
    build(repository, "page", "second")
    process = start(repository, "book")
    wait_for(repository / "build" / "smoke" / "logs" / "first.ipynb", process)
    os.killpg(process.pid, number)
    told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode in {130, -signal.SIGKILL}, told
    hold.unlink()
    assert executed(build(repository, "book")) == ["first"]
    assert (repository / "build" / "smoke" / "html" / "index.html").exists()


def test_one_page_alone_with_its_own_seeds(repository):
    told = build(repository, "page", "second", "--seeds", "0,1", "--dataset", "digits")
    assert executed(told) == ["second"]
    page = repository / "build" / "smoke_digits_seeds-0-1" / "pages" / "second.ipynb"
    assert "smoke digits 0,1" in page.read_text()
    assert str(page) in told
    assert not (page.parent / "first.ipynb").exists()


QUEUE = """#!/bin/sh
# Stands for a queue: the job begins by itself, its number is its process, its exit status is remembered.
for script; do :; done
( sh "$script" > "$script.out" 2>&1; echo $? > "{folder}/$$" ) &
echo $$
echo "$*" >> "{folder}/submitted"
"""
STATE = """#!/bin/sh
for job; do :; done
job=${{job#--jobs=}}
[ -e "{folder}/$job" ] || {{ echo RUNNING; exit; }}
case "$(cat "{folder}/$job")" in 0) echo COMPLETED ;; *) echo FAILED ;; esac
"""


@pytest.fixture
def queue(tmp_path, repository):
    """A folder with commands that behave as Slurm's do, and the record of what was submitted."""
    folder = tmp_path / "queue"
    folder.mkdir()
    with (repository / "executors" / "slurm" / "config.yaml").open("a") as file:
        file.write("seconds-between-status-checks: 1\n")
    for name, text in (("sbatch", QUEUE), ("sacct", STATE), ("scancel", "#!/bin/sh\n")):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    return folder


def test_pages_are_executed_by_a_queue(repository, queue):
    """Snakemake's plug-in for queues submits each page; the book is built here."""
    path = f"{queue}{os.pathsep}{os.environ['PATH']}"
    told = build(repository, "book", "--executor", "executors/slurm", PATH=path)
    submitted = (queue / "submitted").read_text().splitlines()
    assert len(submitted) == 2
    assert all("--job-name=execute --cpus-per-task=2" in line for line in submitted)
    for page in ("first", "second"):
        assert executed((repository / "build" / "smoke" / "logs" / f"{page}.log").read_text()) == [page]
    assert (repository / "build" / "smoke" / "html" / "index.html").exists()
    assert "building the HTML" in told


def test_page_that_fails_on_a_queue_is_told_here(repository, queue, write_notebook):
    write_notebook(repository / "notebooks" / "second.ipynb", "1 / 0")
    path = f"{queue}{os.pathsep}{os.environ['PATH']}"
    told = build(repository, "page", "second", "--executor", "executors/slurm", status=1, PATH=path)
    assert "page second failed: notebooks/second.ipynb, cell 3 of 3" in told
    assert "ZeroDivisionError: division by zero" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["page", "third"], "there is no page 'third'; the pages are first, second"),
        (["book", "--seeds", "x"], "seeds 'x' cannot be read"),
        (["book", "--dataset", "cifar100_lite"], "lite0.npy is not there; `make data NAME=cifar100_lite"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(repository, words, told):
    profile = repository / "compatlib" / "study" / "profiles" / "smoke.yml"
    profile.write_text("dataset: omniglot_lite\nencoders: {old: lite0, new: lite2}\n")
    assert told in build(repository, *words, status=2, COMPATLIB_FEATURES=str(repository / "no data"))
    assert not (repository / "build").exists()


@pytest.fixture
def other_python(tmp_path):
    path = tmp_path / "python3"
    path.write_text("#!/bin/sh\necho 3.10.4\n")
    path.chmod(0o755)
    return path


def test_make_refuses_another_python(repository, other_python):
    words = ["make", "book", f"PYTHON={other_python}"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"compatlib needs Python 3.11, 3.12 or 3.13, and there is none here: {other_python} is 3.10.4" in done.stderr
    assert "make book PYTHON=/path/to/python3.11" in done.stderr
    assert not (repository / ".venv").exists()


@pytest.mark.parametrize(("words", "profile"), [([], "study"), (["PROFILE=laptop"], "laptop")])
def test_rows_are_those_of_the_study_unless_told_otherwise(repository, words, profile):
    command = ["make", "--dry-run", "rows", "RUN=python", "NAME=problem", *words]
    told = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    assert f"compatlib.study.publishing.measure 'problem' --profile '{profile}'" in told


def test_some_models_of_a_chapter_are_trained_side_by_side(repository):
    values = ["NAME=sfsc", "PROFILE=large", "SEEDS=0", "MODELS=new, BCT A against old;SFSC", "PROCESSES=4"]
    command = ["make", "--dry-run", "models", "RUN=python", *values]
    told = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    words = shlex.split(told)
    assert words[words.index("compatlib.study.publishing.train") + 1] == "sfsc"
    options = {"--profile": "large", "--seeds": "0", "--models": "new, BCT A against old;SFSC", "--processes": "4"}
    assert {name: words[words.index(name) + 1] for name in options} == options


def test_make_takes_its_values_from_the_command_line_alone(repository):
    """A shell may use the same names for something else."""
    shell = {"PROFILE": "mine", "DATASET": "mine", "SEEDS": "9", "SEED": "9", "ALL": "1", "TRAIN": "1", "CORES": "99"}
    for target in ("verify", "page"):
        command = ["make", "--dry-run", target, "RUN=python", "NAME=problem"]
        options = {"cwd": repository, "check": True, "capture_output": True, "text": True}
        told = subprocess.run(command, env=os.environ | shell, **options).stdout
        assert told == subprocess.run(command, **options).stdout
        assert "mine" not in told


@pytest.mark.parametrize("name", ["my project", "it's", 'a"b', "$HOME", "a [b] #1 100% {c} größe"])
def test_make_finds_its_environment_wherever_the_checkout_lies(repository, name):
    moved = repository.rename(repository.with_name(name))
    (moved / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(moved / "requirements.txt", moved / ".venv" / "installed.txt")
    python = moved / ".venv" / "bin" / "python"  # that is ready if it is asked of this very package
    python.write_text('#!/bin/sh\ntest -f "$4" && echo "$4" > "$TOLD"\n')
    python.chmod(0o755)
    variables = os.environ | {"TOLD": str(moved / "told")}
    done = subprocess.run(["make", "env", "PYTHON=false"], cwd=moved, env=variables, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (moved / "told").read_text() == f"{moved / 'compatlib' / '__init__.py'}\n"


def test_a_second_make_waits_for_the_environment_that_the_first_makes(repository):
    """The first is played here: it holds the lock, and ends with an environment that is ready."""
    lock, told = repository / "build" / "environment.lock", repository / "told"
    lock.parent.mkdir()
    with lock.open("a") as held, told.open("w") as file:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = ["make", "env", f"PYTHON={sys.executable}"]
        second = subprocess.Popen(command, cwd=repository, stdout=file, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + PATIENCE
        while "the environment is being made by another make; waiting for its end" not in told.read_text():
            assert second.poll() is None, told.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        python = repository / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\n")
        python.chmod(0o755)
        shutil.copy(repository / "requirements.txt", repository / ".venv" / "installed.txt")
    assert second.wait(PATIENCE) == 0, told.read_text()
    assert {path.name for path in (repository / ".venv").iterdir()} == {"bin", "installed.txt"}


def test_make_refuses_a_path_that_no_environment_bears(repository):
    for name in ("a:b", "a\nb"):
        moved = repository.rename(repository.with_name(name))
        done = subprocess.run(["make", "env"], cwd=moved, capture_output=True, text=True, check=False)
        assert (
            "the path of this checkout has a colon or a line break, which no environment bears; move it" in done.stderr
        )
        assert done.returncode != 0
        repository = moved


def test_make_keeps_what_is_costly_when_it_cleans(repository):
    kept = ["data/cache/artifacts/key.safetensors", "data/cache/cifar100/train-0.npz", "data/published/first.csv"]
    gone = ["build/smoke/pages/first.ipynb", "build/bench.csv", "book/chapters/first.ipynb", ".snakemake/log/x"]
    for name in (*kept, *gone):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).touch()
    subprocess.run(["make", "clean"], cwd=repository, check=True, capture_output=True)
    assert [name for name in (*kept, *gone) if (repository / name).exists()] == kept
