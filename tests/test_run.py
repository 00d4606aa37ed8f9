"""run.py: its messages and decisions, without a network and without installing anything."""

import ast
import importlib.util
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).resolve().parents[1]
SOURCE = (ROOT / "run.py").read_text("utf-8")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """run.py in a folder of its own, where every command is noted down and succeeds, or not if in `fails`."""
    for name in ("pyproject.toml", "constraints.txt", "run.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fake = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location("run_copy", tmp_path / "run.py")
    )
    fake.__spec__.loader.exec_module(fake)
    fake.calls, fake.environments, fake.fails = [], [], []

    def call(command, **options):
        name = "venv" if "venv" in command else "pip" if "install" in command else " ".join(command[1:])
        fake.calls.append(name)
        fake.environments.append(options.get("env"))
        if name == "venv" and name not in fake.fails:
            fake.PYTHON.parent.mkdir(parents=True, exist_ok=True)
            fake.PYTHON.touch()
        return int(name in fake.fails)

    monkeypatch.setattr(fake.subprocess, "call", call)
    monkeypatch.setattr(fake.shutil, "disk_usage", lambda _: Usage(100e9, 0, 100e9))
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    return fake


CHECK = "segutils/setup_check.py"


def test_it_is_short_plain_and_readable_for_an_old_python():
    assert len(SOURCE.splitlines()) < 120
    tree = ast.parse(SOURCE, feature_version=(3, 7))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= sys.stdlib_module_names


def test_every_command_of_its_help_exists_and_an_unknown_one_shows_the_help():
    for command in ("--no-lab", *run.COMMANDS):
        assert f"python3 run.py {command}" in run.__doc__
    with pytest.raises(SystemExit, match=r"python3 run\.py test"):
        run.main("tset")


def test_the_first_call_sets_up_and_the_second_does_not(course, capsys):
    assert course.main("--no-lab") == 0
    assert course.calls == ["venv", "pip", CHECK]
    assert f"Setting up in {course.VENV}" in capsys.readouterr().out
    course.calls.clear()
    assert course.main("--no-lab") == 0
    assert course.calls == [CHECK]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_what_is_installed_sets_up_again_in_place(course, name):
    course.main("--no-lab")
    course.calls.clear()
    with open(course.ROOT / name, "a") as file:
        file.write("# new\n")
    course.main("--no-lab")
    assert course.calls == ["-c import pip", "pip", CHECK]


def test_a_moved_folder_sets_up_again(course, tmp_path_factory, monkeypatch):
    course.main("--no-lab")
    course.calls.clear()
    old, moved = course.ROOT, tmp_path_factory.mktemp("elsewhere") / "course"
    os.rename(old, moved)
    for name in ("ROOT", "VENV", "PYTHON", "STAMP"):
        monkeypatch.setattr(course, name, moved / getattr(course, name).relative_to(old))
    course.main("--no-lab")
    assert "pip" in course.calls


def test_a_failed_set_up_is_not_taken_for_good(course):
    course.fails.append("pip")
    for _ in range(2):
        with pytest.raises(SystemExit, match="pip could not install the packages"):
            course.main("--no-lab")
    assert course.calls == ["venv", "pip", "-c import pip", "pip"]
    course.fails.clear()
    assert course.main("--no-lab") == 0
    assert course.calls[-3:] == ["-c import pip", "pip", CHECK]


def test_a_broken_environment_is_made_anew(course):
    course.PYTHON.parent.mkdir(parents=True)
    course.PYTHON.touch()
    course.fails.append("-c import pip")
    course.main("--no-lab")
    assert course.calls == ["-c import pip", "venv", "pip", CHECK]


def test_no_network_for_pip(course):
    course.fails.append("pip")
    with pytest.raises(
        SystemExit, match=r"(?s)does not reach the network.*HTTPS_PROXY.*run the same command again"
    ):
        course.main("test")


def test_no_environment_could_be_made(course):
    course.fails.append("venv")
    with pytest.raises(SystemExit, match="could not be made. The lines above say why"):
        course.main()


def test_python_too_old(course, monkeypatch):
    monkeypatch.setattr(course.sys, "version_info", (3, 8, 10))
    monkeypatch.setattr(course.sys, "version", "3.8.10 (default)")
    with pytest.raises(
        SystemExit, match=r"needs Python 3\.10 or newer; .* is 3\.8\.10\.\n.*python3\.12 run\.py"
    ):
        course.main()
    assert course.calls == []


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_no_venv_module(course, monkeypatch, module):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        course.importlib.util, "find_spec", lambda name: None if name == module else found(name)
    )
    with pytest.raises(
        SystemExit, match="module venv or ensurepip is missing.\n.*sudo apt install python3-venv"
    ):
        course.main()
    assert course.calls == []


@pytest.mark.parametrize(
    "platform, index, needed",
    [("linux", None, 7), ("linux", "cpu", 3), ("darwin", None, 3), ("win32", None, 3)],
)
def test_too_little_room_on_the_disk(course, monkeypatch, platform, index, needed):
    monkeypatch.setattr(course.sys, "platform", platform)
    if index:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index)
    monkeypatch.setattr(course.shutil, "disk_usage", lambda _: Usage(100e9, 97.5e9, 2.5e9))
    with pytest.raises(SystemExit, match=rf"needs {needed} GB in .*, and 2\.5 GB are free\.\nMake room"):
        course.main()
    assert course.calls == []
    monkeypatch.setattr(course.shutil, "disk_usage", lambda _: Usage(100e9, 0, needed * 1e9))
    assert course.main("--no-lab") == 0


def test_a_disk_that_fills_up_on_the_way(course, monkeypatch):
    course.fails.append("pip")
    room = iter([Usage(100e9, 0, 50e9), Usage(100e9, 100e9, 1e6)])
    monkeypatch.setattr(course.shutil, "disk_usage", lambda _: next(room))
    with pytest.raises(SystemExit, match="The disk is full. Make room, then run the same command again."):
        course.main()


def test_an_incomplete_set_up_opens_no_jupyterlab(course):
    course.fails.append(CHECK)
    assert course.main() == 1
    assert course.calls == ["venv", "pip", CHECK]


@pytest.mark.parametrize("platform, variable, opens", [
    ("linux", None, False), ("linux", "DISPLAY", True), ("linux", "WAYLAND_DISPLAY", True),
    ("linux", "BROWSER", True), ("darwin", None, True), ("win32", None, True),
])  # fmt: skip
def test_jupyterlab_opens_a_browser_where_there_is_one(
    course, monkeypatch, capsys, platform, variable, opens
):
    monkeypatch.setattr(course.sys, "platform", platform)
    monkeypatch.setattr(course.signal, "signal", lambda *_: None)
    if variable:
        monkeypatch.setenv(variable, ":0")
    assert course.main() == 0
    assert course.calls[-1].startswith(f"-m jupyterlab --ServerApp.root_dir={course.ROOT}")
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in course.calls[-1]
    assert ("--no-browser" in course.calls[-1]) == (not opens)
    assert ("open the address below" in capsys.readouterr().out) == (not opens)


@pytest.mark.parametrize("user, allowed", [(0, True), (1000, False)])
def test_jupyterlab_also_starts_in_a_container(course, monkeypatch, user, allowed):
    monkeypatch.setattr(course.os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(course.signal, "signal", lambda *_: None)
    course.main()
    assert ("--allow-root" in course.calls[-1]) == allowed


def test_commands_get_their_arguments_and_a_fixed_environment(course, monkeypatch):
    monkeypatch.setenv("SEGUTILS_MODEL", "coco")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("KEPT", "yes")
    course.main("test", "-x", "tests/test_run.py")
    course.main("build", "notebooks/05_draw.ipynb")
    course.main("colab", "jane/segutils")
    expected = [
        "-m pytest -n auto --maxprocesses=4 --dist=loadfile -x tests/test_run.py",
        "tools/notebooks.py build notebooks/05_draw.ipynb",
    ]
    assert course.calls[2:] == [*expected, "tools/notebooks.py colab jane/segutils"]
    for environment in course.environments[2:]:
        assert environment["OMP_NUM_THREADS"] == "1"
        assert environment["KEPT"] == "yes"
        assert not {"SEGUTILS_MODEL", "MPLBACKEND"} & set(environment)


def test_another_model_is_fetched_and_then_used_by_all_notebooks(course, monkeypatch):
    monkeypatch.setattr(course.signal, "signal", lambda *_: None)
    monkeypatch.setenv("SEGUTILS_MODEL", "tabletop")
    assert course.main("--model", "coco", "--no-lab") == 0
    fetch = "-m segutils.models fetch coco"
    assert course.calls == ["venv", "pip", CHECK, fetch]
    assert course.main("--model", "coco_v2") == 0
    assert course.calls[-2] == "-m segutils.models fetch coco_v2" and "jupyterlab" in course.calls[-1]
    assert os.environ["SEGUTILS_MODEL"] == "coco_v2"
    course.fails.append(fetch)
    assert course.main("--model", "coco") == 1  # what went wrong was said; JupyterLab does not open
    assert course.calls[-1] == fetch


@pytest.mark.parametrize("words", [["--model"], ["--model", "coco", "test"]])
def test_a_model_is_for_the_lab_alone(course, words):
    with pytest.raises(SystemExit, match=r"python3 run\.py --model coco"):
        course.main(*words)
    assert course.calls == []


def test_the_exit_status_of_a_command_is_handed_on(course):
    course.fails.append("-m pytest -n auto --maxprocesses=4 --dist=loadfile")
    assert course.main("test") == 1


def test_it_starts_from_any_working_directory(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "python3 run.py --no-lab" in done.stderr
