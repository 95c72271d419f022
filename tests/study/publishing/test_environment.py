"""What of the user's shell reaches a page: where things are and which processors there are, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compatlib.study.publishing import environment
from compatlib.study.publishing.environment import (
    FIXED,
    ROOT,
    check_path,
    enter,
    kernel_environment,
    of_page,
    of_workflow,
)

FOREIGN = {
    "MPLBACKEND": "agg",
    "MATPLOTLIBRC": "/somewhere",
    "PYTHONSTARTUP": "/somewhere/start.py",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "17",
    "PYTHONUTF8": "0",
    "IPYTHONDIR": "/somewhere",
    "JUPYTER_PATH": "/somewhere",
    "JUPYTER_PREFER_ENV_PATH": "0",
    "NUMBA_DISABLE_JIT": "1",
    "OMP_SCHEDULE": "static",
    "NVIDIA_TF32_OVERRIDE": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "TZ": "Pacific/Auckland",
    "LC_ALL": "en_US.ISO-8859-1",
    "LC_CTYPE": "en_US.ISO-8859-1",
    "LANG": "de_DE.UTF-8",
    "COLUMNS": "40",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
    "GIT_DIR": "/somewhere/.git",
    "SOURCE_DATE_EPOCH": "0",
    "DOCUTILSCONFIG": "/somewhere",
    "SLURM_NTASKS": "4",
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MAKEFLAGS": "n",
    "SNAKEMAKE_PROFILE": "mine",
    "BASH_ENV": "/somewhere",
    "NAMED_BY_NOBODY": "1",
}
WANTED = {
    "PATH": os.environ["PATH"],
    "HTTPS_PROXY": "http://proxy:1",
    "CUDA_VISIBLE_DEVICES": "1",
    "OMP_NUM_THREADS": "1",
    "MPLCONFIGDIR": "/somewhere",
}


FOLDERS = {
    "PYTHONPATH": str(ROOT),
    "COMPATLIB_DATA": str(ROOT / "data" / "cache"),
    "COMPATLIB_ARTIFACTS": str(ROOT / "data" / "cache" / "artifacts"),
    "COMPATLIB_FEATURES": str(ROOT / "data" / "cache" / "features"),
}


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """A user's shell that has set much, and whose home can be written to."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in (FOREIGN | WANTED | {"HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_page_sees_what_is_kept_and_what_is_fixed_and_nothing_else(shell, tmp_path):
    assert of_page() == WANTED | FIXED | FOLDERS | {"HOME": str(tmp_path)}
    assert {name: value for name, value in of_page().items() if FOREIGN.get(name) == value} == {}


def test_a_kernel_sees_them_too_and_the_process_has_its_own_again(shell, tmp_path):
    before = dict(os.environ)
    with kernel_environment(tmp_path, {"COMPATLIB_PROGRESS": "file"}):
        own = {"IPYTHONDIR": str(tmp_path / "ipython"), "COMPATLIB_PROGRESS": "file"}
        assert dict(os.environ) == WANTED | FIXED | FOLDERS | own | {"HOME": str(tmp_path)}
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "RANK", "GIT_DIR", "LANG", "NAMED_BY_NOBODY", "PATH", "MPLBACKEND"])
def test_the_workflow_hands_a_queue_what_the_shell_has_set(shell, name):
    assert of_workflow()[name] == (FOREIGN | WANTED)[name]


@pytest.mark.parametrize("name", ["SNAKEMAKE_PROFILE", "BASH_ENV", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS"])
def test_the_workflow_itself_does_not_see_what_would_change_python_or_snakemake(shell, name):
    assert name not in of_workflow()


@pytest.mark.parametrize("value", ["", "0", "-1", "4,2", "many"])
def test_a_number_of_threads_that_is_none_is_left_out(shell, value):
    shell.setenv("OMP_NUM_THREADS", value)
    assert "OMP_NUM_THREADS" not in of_page()


@pytest.mark.parametrize("make", [of_page, of_workflow])
def test_paths_mean_the_same_wherever_a_process_works(shell, tmp_path, make):
    shell.chdir(tmp_path)
    given = {
        "COMPATLIB_DATA": "~/data",
        "COMPATLIB_ARTIFACTS": "models",
        "COMPATLIB_FEATURES": "f",
        "PYTHONPATH": f":a:{ROOT}",
    }
    for name, value in given.items():
        shell.setenv(name, value)
    made = make()
    assert made["COMPATLIB_DATA"] == str(tmp_path / "data")
    assert made["COMPATLIB_ARTIFACTS"] == str(tmp_path / "models")
    assert made["COMPATLIB_FEATURES"] == str(tmp_path / "f")
    assert made["PYTHONPATH"] == f"{ROOT}:{tmp_path / 'a'}"


@pytest.mark.parametrize("home", [None, "", "/nonexistent"])
def test_without_a_home_there_is_a_spare_one(shell, tmp_path, home):
    shell.delenv("HOME") if home is None else shell.setenv("HOME", home)
    spare = tmp_path / "spare" / "home"
    assert of_page(spare)["HOME"] == str(spare)
    assert spare.is_dir()


@pytest.mark.parametrize("name", ["my project", "a[b]", "it's", 'a"b', "$HOME", "#1", "100%", "{a}", "größe", "a\\b"])
def test_a_checkout_may_lie_almost_anywhere(name):
    check_path(Path("/home") / name)


@pytest.mark.parametrize("name", ["a:b", "a\nb", "caf\udce9"])
def test_a_path_that_cannot_be_handed_on_is_refused(name):
    with pytest.raises(ValueError, match=r"the checkout's path is .*; move or rename it"):
        check_path(Path("/home") / name)


@pytest.fixture
def begun(shell):
    """`begun(command)`: the arguments and variables with which a command begins anew, None where it does not."""

    def begin(command: str, *options: str) -> tuple[list[str], dict[str, str]] | None:
        calls: list = []
        words = [f"compatlib.study.publishing.{command}", "page", "-m"]
        shell.setattr(sys, "orig_argv", ["python", *options, "-m", *words])
        shell.setattr(os, "execve", lambda path, arguments, variables: calls.append((arguments, variables)))
        enter()
        return calls[0] if calls else None

    return begin


def test_a_command_begins_anew_in_the_environment_of_pages(shell, begun):
    arguments, variables = begun("pages")
    assert arguments[1:3] == ["-X", "compatlib_entered"]
    assert arguments[3:] == ["-m", "compatlib.study.publishing.pages", "page", "-m"]
    assert variables == of_page() | {"PYTHONIOENCODING": variables["PYTHONIOENCODING"]}
    assert variables["PYTHONIOENCODING"].endswith(":backslashreplace")
    assert begun("workflow")[1]["SLURM_NTASKS"] == "4"


def test_a_command_that_is_there_goes_on(shell, begun):
    own = begun("pages")[1]
    for name in os.environ.keys() - own.keys():
        shell.delenv(name)
    for name, value in own.items():
        shell.setenv(name, value)
    assert begun("pages") is None
    shell.setenv("RANK", "1")
    assert begun("pages") is not None
    shell.setattr(sys, "_xoptions", {"compatlib_entered": True})
    assert begun("pages") is None


def test_what_is_no_command_of_the_package_is_left_alone(shell):
    shell.setattr(os, "execve", None)
    for words in (["-m", "pytest", "compatlib/study/publishing"], ["-c", "import compatlib.study.publishing"], []):
        shell.setattr(sys, "orig_argv", ["python", *words])
        enter()


def test_a_variable_that_names_no_folder_is_told_at_once(shell, begun, capsys):
    shell.setenv("COMPATLIB_ARTIFACTS", "/models ")
    with pytest.raises(SystemExit, match="2"):
        begun("pages")
    assert "COMPATLIB_ARTIFACTS is '/models ', with a space" in capsys.readouterr().err


def test_an_error_is_told_and_kept_where_the_locale_has_not_its_letters(tmp_path, write_notebook):
    source = write_notebook(
        tmp_path / "page.ipynb", "import os\n\nraise ValueError('epochs ≥ 1', os.environ.get('RANK'))"
    )
    command = [sys.executable, "-m", "compatlib.study.publishing.pages", "execute", "--notebook", str(source)]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    variables = os.environ | locale | {"RANK": "1", "COMPATLIB_BUILD": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out.ipynb")], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert r"ValueError: ('epochs \u2265 1', None)" in done.stderr
    assert "ValueError: ('epochs ≥ 1', None)" in (tmp_path / "out.log.failed.txt").read_text(encoding="utf-8")


def test_the_list_of_what_is_kept_names_nothing_that_is_fixed():
    assert environment.KEPT.isdisjoint(FIXED)
    assert environment.THREADS.isdisjoint(FIXED | dict.fromkeys(environment.KEPT))
