"""For maintainers: build the notebooks, and write what is generated in them.

python3 run.py build [NOTEBOOK ...]   execute notebooks in place and strip what changes from run to run
python3 run.py colab OWNER/REPO       say where the course lives on GitHub; badges, links and first cells follow

Generated, and kept in agreement by tests/test_notebooks.py: the links to the previous and the next notebook (in the
first and the last cell), those to docs/terms.md (tools/terms.py), the first code cell, the minutes in README.md and,
once the address is known, the Colab badges and the links to Colab, Binder and Pages in README.md. The plans in
docs/teaching.md follow (tools/teaching.py).
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import teaching
from folding import fold_solutions
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from terms import link_terms

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
README = ROOT / "README.md"
PYPROJECT = ROOT / "pyproject.toml"

COLAB = "https://colab.research.google.com"
BINDER = "https://mybinder.org/v2/gh"
PAGES = "https://{}.github.io/{}/notebooks/06_explore_thresholds.html"
NBSTRIPOUT = [sys.executable, "-m", "nbstripout", "--keep-output", "--keep-count", "--keep-id"]
NBSTRIPOUT += ["--extra-keys", "metadata.language_info.version cell.metadata.execution"]
NBSTRIPOUT += ["--keep-metadata-keys", "cell.metadata.collapsed"]  # for solutions that are folded

FETCH = """\
if "google.colab" in sys.modules:  # in Colab, fetch the course
    !test -d segutils-course || git clone -q --depth 1 https://github.com/{repository} segutils-course
    sys.path.insert(0, "segutils-course")"""
CANNOT_FETCH = """\
if "google.colab" in sys.modules:  # Colab could fetch the course, if this copy knew where it is on GitHub
    raise RuntimeError("Put the course on GitHub, then run there: python3 run.py colab OWNER/REPO")"""
ANOTHER_MODEL = """\
if (model := os.environ.get("SEGUTILS_MODEL") or "tabletop") != "tabletop":
    print(f"The text of this notebook describes the bundled model's pictures; you run '{model}'.")"""

# What a notebook can import in Colab at once. Anything else its first cell installs there.
IN_COLAB = {
    "IPython",
    "PIL",
    "ipywidgets",
    "matplotlib",
    "numpy",
    "psutil",
    "pycocotools",
    "scipy",
    "skimage",
}
IN_COLAB |= {"torch", "torchvision", "tqdm"}


TITLE = "# @title Set-up: just run it\n"


def notebooks() -> list[Path]:
    """The notebooks of the course, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]*_*.ipynb"))


def repository() -> str | None:
    """The address on GitHub that pyproject.toml names, the only place that knows it; None while it says OWNER."""
    name = re.search(r'^Repository = "https://github.com/([^"]+)"', PYPROJECT.read_text("utf-8"), re.M)[1]
    return None if name.startswith("OWNER/") else name


def set_repository(name: str) -> None:
    """Write "OWNER/REPO" into pyproject.toml."""
    if not re.fullmatch(r"[\w-]+/[\w.-]+", name):
        sys.exit(f"Give the address as OWNER/REPO, for example jane/segutils, not {name!r}.")
    line = f'Repository = "https://github.com/{name}"'
    _write(PYPROJECT, re.sub(r"^Repository = .*", line, PYPROJECT.read_text("utf-8"), flags=re.M))


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
    """Write badge, links and the first code cell into a notebook, in place.

    Raises `ValueError` when a term that the notebook should explain is not in its text.
    """
    if notebook.cells[-1].cell_type != "markdown":  # an exercise, say: the links need a place
        notebook.cells.append(nbformat.v4.new_markdown_cell(id="links"))
    first, last = notebook.cells[0], notebook.cells[-1]
    badge = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({colab_link(path)})" if repository() else ""
    heading, *body = [line for line in first.source.split("\n") if not is_generated(line)]
    body = "\n".join(body).strip("\n")
    first.source = "\n\n".join(filter(None, [heading, badge, navigation(path), body]))
    body = "\n".join(line for line in last.source.split("\n") if not is_generated(line)).strip("\n")
    last.source = "\n\n".join(filter(None, [body, navigation(path)]))
    link_terms(notebook, path)

    if not is_first_code_cell(notebook.cells[1]):
        notebook.cells.insert(1, nbformat.v4.new_code_cell(id="colab"))
    notebook.cells[1].source = first_code_cell(notebook)
    notebook.cells[1].metadata = {
        "cellView": "form",
        "jupyter": {"source_hidden": True},
    }  # nobody has to read it


def is_generated(line: str) -> bool:
    """Is this line of Markdown the badge, or the links to the neighbours?"""
    return line.startswith(("[![Open in Colab]", "Previous: [", "Next: ["))


def is_first_code_cell(cell: NotebookNode) -> bool:
    """Is this the code cell that is generated?"""
    return cell.cell_type == "code" and "google.colab" in cell.source


def first_code_cell(notebook: NotebookNode) -> str:
    """What the reader runs first: in Colab it fetches the course; and it says when another model is in use."""
    lines = FETCH.format(repository=repository()) if repository() else CANNOT_FETCH
    missing = missing_in_colab(notebook)
    if repository() and missing:
        lines += f"\n    %pip install -q {' '.join(missing)}"
    if "load_model(" in "".join(cell.source for cell in notebook.cells[2:]):
        return f"{TITLE}import os\nimport sys\n\n{lines}\n{ANOTHER_MODEL}"
    return f"{TITLE}import sys\n\n{lines}"


def missing_in_colab(notebook: NotebookNode) -> list[str]:
    """The packages, by their names for pip, that a notebook needs and Colab does not bring.

    It needs what its own cells import, and what those modules of segutils import from which it takes a name.
    """
    entrance = ast.parse((ROOT / "segutils" / "__init__.py").read_text("utf-8"))
    room_of = {name: module for module, name in imports(entrance)}
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    found = {
        pair for source in cells for pair in imports(ast.parse(TransformerManager().transform_cell(source)))
    }
    rooms = {room_of.get(name) if module == "segutils" else module for module, name in found}
    for room in rooms - {None}:
        file = ROOT.joinpath(*room.split(".")).with_suffix(".py")
        if room.startswith("segutils.") and file.exists():
            found |= imports(ast.parse(file.read_text("utf-8")))
    packages = (
        {module.split(".")[0] for module, _ in found} - sys.stdlib_module_names - IN_COLAB - {"segutils"}
    )
    return sorted(package.replace("_", "-") for package in packages)


def imports(code: ast.Module) -> set[tuple[str, str]]:
    """The modules that a piece of Python imports, anywhere in it, and the names it takes from them ("": none)."""
    nodes = list(ast.walk(code))
    whole = {(alias.name, "") for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return whole | {
        (node.module, a.name) for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names
    }


def colab_link(path: Path) -> str:
    """Where Colab opens a notebook."""
    return f"{COLAB}/github/{repository()}/blob/main/notebooks/{path.name}"


def stated_minutes(path: Path) -> str:
    """The number in a notebook's line '**Time**: 40 minutes'."""
    return re.search(r"^\*\*Time\*\*: (?:about )?(\d+)", _read(path).cells[0].source, re.M)[1]


def generated_readme(text: str) -> str:
    """README.md with the minutes that the notebooks state; once the address is known, links to Colab, Binder, Pages."""
    known, lines = repository(), []
    for line in text.split("\n"):
        picture = re.fullmatch(r"\[?(!\[.+\]\(docs/explorer\.png\))(?:\]\(.+\))?", line)
        if picture:
            line = f"[{picture[1]}]({PAGES.format(*known.split('/'))})" if known else picture[1]
        row = re.match(r"(\| \[.+?\]\(notebooks/(.+?)\) \| .+? \| )\d+ \|", line)
        if row and (FOLDER / row[2]).exists():
            place = f"{BINDER}/{known}/HEAD?labpath=notebooks/{row[2]}"
            links = f" [Colab]({colab_link(Path(row[2]))}), [Binder]({place}) |" if known else ""
            line = f"{row[1]}{stated_minutes(FOLDER / row[2])} |{links}"
        elif line.startswith("| Notebook |"):
            line = "| Notebook | Afterwards you can | Minutes |" + (" Without installing |" if known else "")
        elif line.startswith("|---|---|---|"):
            line = "|---|---|---|" + ("---|" if known else "")
        lines.append(line)
    return "\n".join(lines)


def build(paths: list[Path]) -> None:
    """Execute notebooks. One that fails is left as it was, and ends the build."""
    for path in paths:
        print(f"{path.name} ...", flush=True)
        notebook = _read(path)
        generate(notebook, path)
        client = NotebookClient(
            notebook,
            timeout=900,
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
        fold_solutions(notebook)
        _write(path, nbformat.writes(notebook) + "\n")
        subprocess.run([*NBSTRIPOUT, str(path)], check=True)
    regenerate()
    teaching.main()


def regenerate() -> None:
    """Bring what is generated up to date in README.md and in all notebooks, without executing them."""
    _write(README, generated_readme(README.read_text("utf-8")))
    for path in notebooks():
        notebook = _read(path)
        generate(notebook, path)
        if notebook != _read(path):  # such as the neighbours of a new one
            _write(path, nbformat.writes(notebook) + "\n")


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
        regenerate()
    else:
        sys.exit(__doc__)


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, so that it is never left half-written."""
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(text.encode("utf-8"))
    os.replace(draft, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
