"""Copies of the notebooks to hand out: for learners without the solutions, for teachers whole.

python3 run.py handout                  into output/handout/, as folders and as zip files
python3 run.py handout --no-outputs     the learners' notebooks without any output

The learners' folder is a course that runs: what it takes to set up and to read, with their copies of the notebooks. The
teachers' folder has the notebooks as they are, and docs/teaching.md with the answers.
"""

import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbstripout import strip_output

from notebooks import ROOT, notebooks, title

OUTPUT = ROOT / "output" / "handout"
PHOTOS = ROOT / "data" / "photos"  # the reader's own
# What a learner needs beside the notebooks. The rest serves maintainers, or gives answers away.
LEARNERS = [
    "run.py",
    "pyproject.toml",
    "constraints.txt",
    "environment.yml",
    "LICENSE",
    "segutils",
    "data",
    "docs",
]
ANSWERS = ["docs/teaching.md"]
WHOLE = [
    *LEARNERS,
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "conftest.py",
    "notebooks",
    "tests",
]
WHOLE += ["tools", ".ci", ".github", ".gitattributes", ".gitignore"]
PLACE = "**Solution**: your teacher has it."
README = """\
# {name}

You need Python 3.10 or newer. Open a terminal in this folder and type

```
python3 run.py            # Windows: py run.py
```

The first time, this sets up everything in a folder `.venv`, which takes some minutes. Then the course opens in
JupyterLab.

{notebooks}

The cell after an exercise tells you whether you're right. The solutions are with your teacher.
"""


def learner_copy(notebook: NotebookNode, outputs: bool = True) -> NotebookNode:
    """A copy of a notebook without its solutions and what they print, and without any output if you say so.

    An exercise stays as it's given, and so does its check, with "Not yet". Where a solution was, a line says so.
    """
    copy = nbformat.from_dict(notebook)
    cells = []
    for cell in copy.cells:
        if "solution" in cell.metadata.get("tags", []):
            cells[-1] = new_markdown_cell(PLACE, id=cells[-1].id)  # in place of what announces it
        else:
            cells.append(cell)
    copy.cells = cells
    if not outputs:
        strip_output(copy, keep_output=False, keep_count=False, keep_id=True)
    count = 0
    for cell in copy.cells:
        if cell.cell_type == "code" and cell.execution_count:
            count += 1
            cell.execution_count = count
    return copy


def course_files(names: list[str]) -> list[Path]:
    """The files of the course under these names, without caches and without the photographs of whoever works here."""
    found = [
        path
        for name in names
        for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
    ]
    kept = []
    for path in sorted(found):
        hidden = {"__pycache__", ".ipynb_checkpoints", ".DS_Store"} & set(path.parts)
        if path.is_file() and not hidden and (path.parent != PHOTOS or path.name == "README.md"):
            kept.append(path)
    return kept


def write_learners(folder: Path, outputs: bool = True) -> None:
    """Write a course without solutions into a folder."""
    for path in course_files(LEARNERS):
        if path.relative_to(ROOT).as_posix() not in ANSWERS:
            copy_to(folder, path)
    (folder / "notebooks").mkdir(parents=True)
    for path in notebooks():
        copy = learner_copy(nbformat.read(path, as_version=4), outputs)
        (folder / "notebooks" / path.name).write_text(nbformat.writes(copy) + "\n", "utf-8", newline="\n")
    links = "\n".join(f"- [{title(path)}](notebooks/{path.name})" for path in notebooks())
    text = README.format(name=(ROOT / "README.md").read_text("utf-8").split("\n")[0][2:], notebooks=links)
    (folder / "README.md").write_text(text, "utf-8", newline="\n")


def write_teachers(folder: Path) -> None:
    """Write the whole notebooks and the teacher's guide into a folder."""
    for path in [*notebooks(), *(ROOT / name for name in ANSWERS)]:
        copy_to(folder, path)


def copy_to(folder: Path, path: Path) -> None:
    """Copy a file of the course to its place in another folder."""
    target = folder / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def main(*options: str) -> None:
    if set(options) - {"--no-outputs"}:
        sys.exit(__doc__)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    write_learners(OUTPUT / "learners", outputs="--no-outputs" not in options)
    write_teachers(OUTPUT / "teachers")
    for who in ("learners", "teachers"):
        file = Path(shutil.make_archive(str(OUTPUT / who), "zip", OUTPUT, who))
        print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1e6:.0f} MB, and the folder of that name")


if __name__ == "__main__":
    main(*sys.argv[1:])
