"""For maintainers: build the notebooks, and write what is generated in them.

python3 run.py build [NOTEBOOK ...]   execute notebooks in place and strip what changes from run to run
python3 run.py colab OWNER/REPO       say where the course lives on GitHub; badges and first cells follow

Generated, and kept in agreement by tests/test_notebooks.py: the Colab badge, the links to the previous and
the next notebook (in the first and the last cell), the first code cell, and the addresses in README.md.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
README = ROOT / "README.md"
PYPROJECT = ROOT / "pyproject.toml"

COLAB = "https://colab.research.google.com"
NBSTRIPOUT = [sys.executable, "-m", "nbstripout", "--keep-output", "--keep-count", "--keep-id"]
NBSTRIPOUT += ["--extra-keys", "metadata.language_info.version cell.metadata.execution"]

FIRST_CODE_CELL = """\
import sys

if "google.colab" in sys.modules:  # Colab only: fetch the course. Elsewhere this cell does nothing.
    !test -d segutils-course || git clone -q --depth 1 https://github.com/{repository} segutils-course
    sys.path.insert(0, "segutils-course")"""


def notebooks() -> list[Path]:
    """The notebooks of the course, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def repository() -> str:
    """The "OWNER/REPO" that pyproject.toml names: the only place that knows it."""
    return re.search(r'^Repository = "https://github.com/([^"]+)"', PYPROJECT.read_text("utf-8"), re.M)[1]


def set_repository(name: str) -> None:
    """Write "OWNER/REPO" into pyproject.toml."""
    if not re.fullmatch(r"[\w-]+/[\w.-]+", name):
        sys.exit(f"Give the address as OWNER/REPO, for example jane/segutils, not {name!r}.")
    text = PYPROJECT.read_text("utf-8")
    _write(
        PYPROJECT,
        text.replace(
            f'Repository = "https://github.com/{repository()}"', f'Repository = "https://github.com/{name}"'
        ),
    )


def title(path: Path) -> str:
    """The title of a notebook: its first line without the "# "."""
    return _read(path).cells[0].source.split("\n")[0].removeprefix("# ")


def navigation(path: Path) -> str:
    """The links to the neighbours of a notebook, in one line of Markdown."""
    course = notebooks()
    here = course.index(path)
    links = []
    if here > 0:
        links.append(f"Previous: [{title(course[here - 1])}]({course[here - 1].name})")
    if here + 1 < len(course):
        links.append(f"Next: [{title(course[here + 1])}]({course[here + 1].name})")
    return " | ".join(links)


def generate(notebook: NotebookNode, path: Path) -> None:
    """Write badge, links and the first code cell into a notebook, in place."""
    first, last = notebook.cells[0], notebook.cells[-1]
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
    badge += f"({COLAB}/github/{repository()}/blob/main/notebooks/{path.name})"
    heading, *body = [line for line in first.source.split("\n") if not _is_generated(line)]
    body = "\n".join(body).strip("\n")
    first.source = "\n\n".join(filter(None, [heading, badge, navigation(path), body]))
    body = "\n".join(line for line in last.source.split("\n") if not _is_generated(line)).strip("\n")
    last.source = "\n\n".join(filter(None, [body, navigation(path)]))

    if "google.colab" not in notebook.cells[1].source:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(id="colab"))
    notebook.cells[1].source = FIRST_CODE_CELL.format(repository=repository())


def generated_readme(text: str) -> str:
    """README.md with the addresses of this repository (git, Colab, Binder) as pyproject.toml has it."""
    prefixes = rf"(git clone https://github\.com|{re.escape(COLAB)}/github|https://mybinder\.org/v2/gh)"
    return re.sub(prefixes + r"/[\w-]+/[\w.-]+", rf"\1/{repository()}", text)


def build(paths: list[Path]) -> None:
    """Execute notebooks. One that fails is left as it was, and ends the build."""
    for path in paths:
        print(f"{path.name} ...", flush=True)
        notebook = _read(path)
        generate(notebook, path)
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
        try:
            client.execute()
        except CellExecutionError as error:
            sys.exit(f"{error}\n{path.name} was left as it was: the cell above failed.")
        drop_widgets(notebook)
        _write(path, nbformat.writes(notebook) + "\n")
        subprocess.run([*NBSTRIPOUT, str(path)], check=True)


def drop_widgets(notebook: NotebookNode) -> None:
    """Leave out what refers to widgets of a kernel that has stopped. What else the output holds is shown instead."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def verify(paths: list[Path]) -> None:
    """Exit with a message when a notebook holds something that changes from run to run."""
    if paths and subprocess.call([*NBSTRIPOUT, "--verify", *map(str, paths)]) != 0:
        sys.exit("Notebooks hold metadata that changes from run to run. Clean them: python3 run.py build")


def main(command: str = "", *arguments: str) -> None:
    if command == "build":
        build([Path(name).resolve() for name in arguments] or notebooks())
    elif command == "verify":
        verify(notebooks())
    elif command == "colab" and len(arguments) == 1:
        set_repository(arguments[0])
        _write(README, generated_readme(README.read_text("utf-8")))
        for path in notebooks():
            notebook = _read(path)
            generate(notebook, path)
            _write(path, nbformat.writes(notebook) + "\n")
    else:
        sys.exit(__doc__)


def _is_generated(line: str) -> bool:
    return line.startswith(("[![Open in Colab]", "Previous: [", "Next: ["))


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, so that it is never left half-written."""
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(text.encode("utf-8"))
    os.replace(draft, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
