"""The teacher's desk: plans and minutes, handouts without solutions, the bundle for a stick, and the pages in docs/."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from nbclient import NotebookClient
from notebook_rules import reading_time
from numbers_in_prose import numbers

import segutils

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import bundle  # noqa: E402
import handout  # noqa: E402
import teaching  # noqa: E402

import notebooks as tool  # noqa: E402

COURSE = tool.notebooks()
GUIDE = teaching.GUIDE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (.+)\n((?:(?!^##).*\n)*)", GUIDE, re.M))

# Notebooks that are still being written, by the beginnings of their names: notes may come before them, or after.
IN_THE_WORKS: tuple[str, ...] = ()

each_notebook = pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def solutions(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if "solution" in cell.metadata.get("tags", [])]


# --- the guide ---------------------------------------------------------------------------------------------


def test_plans_and_minutes_are_current():
    assert teaching.generated(GUIDE) == GUIDE, "write them anew: .venv/bin/python tools/teaching.py"
    for route in teaching.ROUTES:
        assert f"<!-- generated: plan {route} -->" in GUIDE


@each_notebook
def test_the_parts_of_a_notebook_add_up_to_its_minutes(path):
    counted = teaching.parts(read(path))
    assert sum(counted.values()) == pytest.approx(reading_time(read(path)))
    assert sum(heading.startswith("Exercise ") for heading in counted) in (2, 3)


def test_a_route_that_takes_too_long_or_names_a_part_that_is_not_there_is_refused(monkeypatch):
    begin, end, stops = teaching.ROUTES["90 minutes"]
    monkeypatch.setitem(teaching.ROUTES, "90 minutes", (begin, "10:00", stops))
    with pytest.raises(ValueError, match="ends at 10:[0-9]+, after 10:00. Leave something out"):
        teaching.plan("90 minutes")
    monkeypatch.setitem(
        teaching.ROUTES, "90 minutes", (begin, end, [("04_filter_and_masks", "only", ["Songs"])])
    )
    with pytest.raises(ValueError, match="has 0 parts that begin with 'Songs'"):
        teaching.plan("90 minutes")


with_notes = pytest.mark.parametrize(
    "path",
    [path for path in COURSE if tool.title(path) in SECTIONS or not path.name.startswith(IN_THE_WORKS)],
    ids=lambda path: path.stem,
)


def test_notes_are_about_notebooks_of_the_course():
    names = set(re.findall(r"<!-- generated: minutes (.+?) -->", GUIDE))
    assert not {n for n in names - {path.stem for path in COURSE} if not n.startswith(IN_THE_WORKS)}


@with_notes
def test_the_guide_has_notes_on_every_notebook(path):
    notes = SECTIONS.get(tool.title(path))
    assert notes, f"docs/teaching.md has no notes under '### {tool.title(path)}'"
    assert f"<!-- generated: minutes {path.stem} -->" in notes
    assert re.findall(r"^- \*\*(\w+)", notes, re.M) == ["Idea", "Show", "Ask", "Stuck", "Late"]


@with_notes
def test_the_numbers_in_the_notes_are_in_the_notebook(path):
    """What a teacher announces is on everybody's screen: the notes don't outlive a change of the notebook."""
    notes = re.sub(r"<!-- generated.*?<!-- end -->", "", SECTIONS.get(tool.title(path), ""), flags=re.S)
    notes = re.sub(
        r"\b(exercises?|at) \d+( and \d)?\b|\b\d\d[ab]?\b(?= (?:come|has|needs))|\b0\d[ab]\b", "", notes
    )
    texts = []
    for cell in read(path).cells:
        texts.append(cell.source)
        for output in cell.get("outputs", []):
            texts += [
                output.get("text", ""),
                *(v for k, v in output.get("data", {}).items() if k[:5] == "text/"),
            ]
    there = {number for text in texts for *_, number in numbers(text)}
    said = {number for *_, number in numbers(notes)}
    missing = {number for number in said - there if float(number.strip("%")) > 12}
    assert not missing, f"{tool.title(path)}: the notes speak of {missing}"


def test_links_and_headings_in_the_pages_lead_somewhere():
    for page in (ROOT / "docs").glob("*.md"):
        text = page.read_text("utf-8")
        anchors = {
            re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)
        }
        assert len(re.findall(r"^# ", re.sub(r"```.*?```", "", text, flags=re.S), re.M)) == 1
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in anchors, (page.name, target)
            elif not target.startswith("https://"):
                assert (page.parent / target.split("#")[0]).exists(), (page.name, target)


def test_the_code_of_the_cheat_sheet_runs_and_its_calls_exist(monkeypatch):
    sheet = (ROOT / "docs" / "cheat_sheet.md").read_text("utf-8")
    names = {"torch": torch}
    coins = str(segutils.sample_images()["coins"])
    for block in re.findall(r"```python\n(.*?)```", sheet, re.S):
        exec(block.replace("photo.jpg", coins), names)
        assert names["masks"].dtype == torch.bool and len(names["masks"]) == 24
    for call in re.findall(r"`(\w+)\(", sheet.split("| To | Call |")[1]):
        assert hasattr(segutils, call), call


# --- handouts ----------------------------------------------------------------------------------------------


@each_notebook
@pytest.mark.parametrize("outputs", [True, False])
def test_a_learner_copy_has_no_solution(path, outputs):
    whole = read(path)
    copy = handout.learner_copy(whole, outputs)
    nbformat.validate(copy)
    assert whole == read(path), "the notebook that was handed in has changed"
    assert solutions(whole) and not solutions(copy)
    given = "\n".join(cell.source for cell in whole.cells if "solution" not in cell.metadata.get("tags", []))
    secret = {line for source in solutions(whole) for line in source.splitlines() if len(line.strip()) > 8}
    secret -= set(given.splitlines())
    assert secret
    text = nbformat.writes(copy)
    assert not [line for line in secret if json.dumps(line, ensure_ascii=False)[1:-1] in text]
    kept = [cell.source for cell in whole.cells if {"exercise", "check"} & set(cell.metadata.get("tags", []))]
    assert [c.source for c in copy.cells if {"exercise", "check"} & set(c.metadata.get("tags", []))] == kept
    assert outputs or not any(cell.get("outputs") for cell in copy.cells)


def test_a_learner_copy_runs_and_prints_what_it_shows(tmp_path):
    [path] = [path for path in COURSE if path.name.startswith("02")]
    given = handout.learner_copy(read(path))
    done = nbformat.from_dict(given)
    NotebookClient(
        done, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    def printed(notebook):
        return [[o.text for o in c.get("outputs", []) if o.output_type == "stream"] for c in notebook.cells]

    assert printed(done) == printed(given)


def test_the_learners_folder_is_a_course_that_can_be_set_up(tmp_path):
    handout.write_learners(tmp_path)
    for name in (
        "run.py",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "segutils/__init__.py",
        "data/README.md",
    ):
        assert (tmp_path / name).is_file()
    assert {p.name for p in (tmp_path / "notebooks").iterdir()} == {p.name for p in COURSE}
    assert not (tmp_path / "docs" / "teaching.md").exists() and not (tmp_path / "tests").exists()
    for target in re.findall(r"\]\((.+?)\)", (tmp_path / "README.md").read_text("utf-8")):
        assert (tmp_path / target).is_file()
    handout.write_teachers(tmp_path / "whole")
    for path in COURSE:
        assert (tmp_path / "whole" / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_the_whole_course_is_what_git_tracks():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {path.relative_to(ROOT).as_posix() for path in handout.course_files(handout.WHOLE)}
    there = {name for name in tracked.splitlines() if (ROOT / name).exists()}
    assert not there - files, "name what's new in tools/handout.py, WHOLE"


def test_nobody_s_own_pictures_and_caches_are_handed_out(monkeypatch, tmp_path):
    monkeypatch.setattr(handout, "ROOT", tmp_path)
    monkeypatch.setattr(handout, "PHOTOS", tmp_path / "data" / "photos")
    names = (
        "data/photos/me.jpg",
        "data/photos/README.md",
        "data/a.png",
        "segutils/__pycache__/a.pyc",
        "run.py",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = handout.course_files(["data", "segutils", "run.py"])
    assert {path.relative_to(tmp_path).as_posix() for path in found} == {names[1], names[2], names[4]}


# --- the bundle --------------------------------------------------------------------------------------------


def toy_wheel(folder: Path) -> None:
    """A package without content, as a wheel."""
    info = "toy-1.0.dist-info"
    with zipfile.ZipFile(folder / "toy-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


RUN = """
import os, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "-d", "got", "toy"]
print(subprocess.call(pip, cwd=here), *sys.argv[1:], os.environ["TORCH_HOME"], sep="|")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="start.sh is for Linux and macOS")
def test_a_bundle_starts_from_any_folder_and_finds_its_packages_and_weights(tmp_path):
    course, wheels, weights = (tmp_path / name for name in ("course", "wheels", "weights"))
    for folder in (course, wheels, weights):
        folder.mkdir()
    (course / "run.py").write_text(RUN)
    (weights / "model.pth").write_bytes(b"weights")
    toy_wheel(wheels)
    bundle.write_bundle(tmp_path / "bundle.zip", wheels, course, [weights / "model.pth"])
    disk = tmp_path / "a disk"
    zipfile.ZipFile(tmp_path / "bundle.zip").extractall(disk)
    folder = disk / bundle.FOLDER
    page = (folder / "START_HERE.txt").read_text()
    assert "sh start.sh" in page and f"Python {sys.version_info[0]}.{sys.version_info[1]}" in page
    own = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_INDEX_URL": "x:",
    }
    command = ["sh", str(folder / "start.sh"), "--no-lab"]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
    status, option, home = done.stdout.strip().split("|")
    assert (status, option) == ("0", "--no-lab"), done.stderr
    assert (folder / "course" / "got" / "toy-1.0-py3-none-any.whl").is_file()
    assert (Path(home) / "hub" / "checkpoints" / "model.pth").read_bytes() == b"weights"


@pytest.mark.skipif(sys.platform == "win32", reason="start.sh is for Linux and macOS")
def test_a_bundle_for_another_python_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle.platform, "machine", lambda: "abacus")
    (tmp_path / "start.sh").write_text(bundle.start_script()[1])
    done = subprocess.run(["sh", "start.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(
        r"These packages are for Python 3\.\d+ on \w+ \(abacus\), which was not found here", done.stderr
    )


def test_what_another_patch_of_the_same_python_needs_goes_along():
    lines = [
        "# a comment",
        "old==1.0 ; python_full_version < '3.11.5'",
        "old==2.0 ; python_full_version >= '3.11.5'",
        "new==3.0 ; python_full_version >= '3.12'",
        "plain==4.0",
    ]
    here = {"python_version": "3.11", "python_full_version": "3.11.7"}
    assert bundle.for_other_patches("\n".join(lines), here) == ["old==1.0"]


def test_the_size_of_a_bundle_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    monkeypatch.setattr(bundle, "FAT", 1000)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "torch-2.whl").write_bytes(bytes(10))
    (tmp_path / "bundle.zip").write_bytes(bytes(900))
    assert len(bundle.remarks(tmp_path / "bundle.zip", tmp_path / "wheels")) == 1
    (tmp_path / "wheels" / "nvidia_cudnn-1.whl").write_bytes(bytes(10))
    (tmp_path / "bundle.zip").write_bytes(bytes(1001))
    size, gpu, fat = bundle.remarks(tmp_path / "bundle.zip", tmp_path / "wheels")
    assert "2 packages" in size and "PIP_EXTRA_INDEX_URL" in gpu and "exFAT" in fat


# --- what else a project has -------------------------------------------------------------------------------


def test_citation_and_changelog_name_the_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"], citation["type"]) == (version, "MIT", "software")
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem
)
def test_issue_forms_are_what_github_takes(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields and {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
