"""Run every notebook as Colab would: with its old IPython and without what it lacks.

.venv/bin/python tests/colab_lane.py                              every notebook
.venv/bin/python tests/colab_lane.py notebooks/05_draw.ipynb      one, or several

The lane is an environment with Colab's versions of all that Jupyter consists of. What is large comes from .venv, by
links. In a copy of the course that has an address on GitHub, each notebook runs from top to bottom, in an empty folder
of its own: the first cell fetches the course (from the copy, in place of GitHub) and installs what Colab lacks. Below
each cell there have to be as many pictures as in the committed notebook, with the same descriptions, and no warnings.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebook_rules import code_cells, pictures, start
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LANE = ROOT / ".venv" / "colab-lane"  # goes when .venv goes
ADDRESS = "somebody/segutils"

# What Colab had in June 2026: https://github.com/googlecolab/backend-info, pip-freeze.gpu.txt.
INSTALLED = """
    anywidget==0.9.21 backcall==0.2.0 debugpy==1.8.15 decorator==4.4.2 entrypoints==0.4 ipykernel==6.17.1
    ipython==7.34.0 ipython-genutils==0.2.0 ipywidgets==7.7.1 jupyter_client==7.4.9 jupyter_core==5.9.1
    jupyterlab_widgets==3.0.16 matplotlib-inline==0.2.2 nest-asyncio==1.6.0 parso==0.8.7 pexpect==4.9.0
    pickleshare==0.7.5 platformdirs==4.10.0 prompt_toolkit==3.0.52 psutil==5.9.5 psygnal==0.15.1 ptyprocess==0.7.0
    Pygments==2.20.0 pyzmq==26.2.1 tornado==6.5.1 traitlets==5.7.1 wcwidth==0.7.0 widgetsnbextension==3.6.10
""".split()
# Taken over from .venv in the versions that are there, since they are large.
TAKEN_OVER = """
    matplotlib==3.10.0 numpy==2.0.2 pillow==11.3.0 pycocotools==2.0.11 scikit-image==0.25.2 scipy==1.16.3 torch==2.11.0
    torchvision==0.26.0 tqdm==4.67.3
""".split()

KERNEL = "import google.colab; from ipykernel.kernelapp import launch_new_instance; launch_new_instance()"

# The lane has to notice these, or it proves nothing.
FAULTS = {
    "unexpected keyword argument 'alt'": "from IPython.display import Image, display\ndisplay(Image(b'', alt='none'))",
    "No module named 'faster_coco_eval'": "import faster_coco_eval",
    "No module named 'segutils'": "import segutils",
    "below the cell [7] are 0 pictures, and 1 in the committed notebook": "7",
}
# What a notebook can do about the second one.
INSTALLS = ["%pip install -q faster-coco-eval", "from faster_coco_eval import COCOeval_faster"]


def make_lane() -> Path:
    """Make the environment, or bring it up to date, and return its Python."""
    python = LANE / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", LANE], check=True)
    subprocess.run([python, "-m", "pip", "install", "-qq", "--no-deps", *INSTALLED], check=True)
    [site] = {path.parent for path in LANE.rglob("site-packages/IPython")}
    links = LANE / "taken-over"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir()
    for path in top_level_files(with_dependencies(Requirement(pin).name for pin in TAKEN_OVER)):
        (links / path.name).symlink_to(path)
    (site / "taken-over.pth").write_text(f"{links}\n", "utf-8")
    (site / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (site / "google" / "colab" / "__init__.py").touch()
    return python


def with_dependencies(names) -> set[str]:
    """The distributions of these names in .venv, and all that they require."""
    found, waiting = set(), [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            key = (requirement.name, extra)
            if key not in found:
                found.add(key)
                needs = [Requirement(line) for line in metadata.requires(requirement.name) or []]
                waiting += [
                    need for need in needs if not need.marker or need.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in found}


def top_level_files(names: set[str]) -> set[Path]:
    """The modules, packages and metadata of distributions, as they lie in .venv's folder."""
    files = [file for name in names for file in metadata.files(name)]
    first = {
        (file.locate().parents[len(file.parts) - 1], file.parts[0]) for file in files if file.parts[0] != ".."
    }
    return {folder / part for folder, part in first if part != "__pycache__"}


def copy_of_the_course(folder: Path) -> Path:
    """Copy the course as it is here, changes included, give it an address on GitHub, and make a repository of it."""
    listed = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    subprocess.run([sys.executable, "tools/notebooks.py", "colab", ADDRESS], cwd=folder, check=True)
    git = ["git", "-c", "user.name=Colab lane", "-c", "user.email=lane@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "The course"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def make_kernel(folder: Path, python: Path) -> None:
    """Let Jupyter find the lane's Python as the kernel "colab"."""
    argv = [str(python), "-Xfrozen_modules=off", "-c", KERNEL, "-f", "{connection_file}"]
    file = folder / "kernels" / "colab" / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    os.environ["JUPYTER_PATH"] = str(folder)


def run(notebook: nbformat.NotebookNode, course: Path) -> str | None:
    """Run a notebook in an empty folder. Returns what failed, or None."""
    committed = [pictures(cell) for cell in code_cells(notebook)]
    with tempfile.TemporaryDirectory() as folder:
        extra = Path(folder, "installed")  # what the notebook installs is gone with the folder
        site = extra / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        cwd = Path(folder, "content")
        for new in (site, cwd):
            new.mkdir(parents=True)
        environment = {
            name: os.environ[name] for name in os.environ if not re.match("SEGUTILS_|MPLBACKEND|PYTHON", name)
        }
        environment |= {"PIP_PREFIX": str(extra), "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        environment |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": f"https://github.com/{ADDRESS}"}
        environment |= {"GIT_CONFIG_KEY_0": f"url.file://{course}.insteadOf"}
        client = NotebookClient(
            notebook, timeout=600, kernel_name="colab", resources={"metadata": {"path": str(cwd)}}
        )
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            return str(error)
    for cell, before in zip(code_cells(notebook), committed):
        warned = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        if warned:
            return f"the cell {start(cell)} wrote to stderr:\n{''.join(warned)}"
        now = pictures(cell)
        if len(now) != len(before):
            return f"below the cell {start(cell)} are {len(now)} pictures, and {len(before)} in the committed notebook"
        # What is trained on another processor ends with other figures; the tests pass over those outputs as well.
        figures = r"[0-9.]+" if "nbval-ignore-output" in cell.metadata.get("tags", []) else r"(?!)"
        if [re.sub(figures, "", alt) for *_, alt in now] != [re.sub(figures, "", alt) for *_, alt in before]:
            return (
                f"below the cell {start(cell)} the pictures have other descriptions than in the committed one"
            )
    return None


def main(*names: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_kernel(Path(folder, "jupyter"), make_lane())
        course = copy_of_the_course(Path(folder, "course"))
        for message, code in FAULTS.items():
            cell = new_code_cell(code)
            if "picture" in message:
                cell.outputs = [new_output("display_data", data={"image/png": ""})]
            failure = run(new_notebook(cells=[cell]), course)
            if message not in (failure or ""):
                sys.exit(f"The lane should notice '{message}' below this cell:\n{code}\nInstead: {failure}")
        failure = run(new_notebook(cells=[new_code_cell(code) for code in INSTALLS]), course)
        if failure:
            sys.exit(f"A notebook could not install a package:\n{failure}")
        failed = 0
        for path in [Path(name) for name in names] or sorted(course.glob("notebooks/*.ipynb")):
            notebook = nbformat.read(course / "notebooks" / path.name, as_version=4)
            failure = run(notebook, course)
            failed += bool(failure)
            shown = sum(len(pictures(cell)) for cell in code_cells(notebook))
            good = f"{len(code_cells(notebook))} cells, {shown} pictures"
            print(f"{path.stem}: {f'FAILED{chr(10)}{failure}' if failure else good}", flush=True)
    sys.exit(f"{failed} notebook(s) failed in the Colab lane." if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
