"""conftest.py adds picture comparison to nbval: does it fail when it should, and only then?"""

import base64
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DRAW = "from PIL import Image; display(Image.new('RGB', (20, 10), (200, 30, 30)))"
EXPLORER = "application/vnd.segutils.explorer+json"
LEFT = f"display({{'{EXPLORER}': {{'jpeg': 'new'}}, 'text/plain': '%s'}}, raw=True)"
TEXT = "<PIL.Image.Image image mode=RGB size=20x10>"
ONE_PIXEL = Image.new("RGB", (20, 10), (200, 30, 30))
ONE_PIXEL.putpixel((3, 3), (30, 30, 200))

# name: (code, pictures or data in the notebook, tags, what the report says, or None when the cell passes)
CELLS = {
    "same": (DRAW, [Image.new("RGB", (20, 10), (200, 30, 30))], [], None),
    "one pixel": (DRAW, [ONE_PIXEL], [], None),
    "one level": (DRAW, [Image.new("RGB", (20, 10), (201, 31, 31))], [], None),
    "other colour": (DRAW, [Image.new("RGB", (20, 10), (30, 30, 200))], [], "Picture 1 changed: RMS"),
    "other size": (DRAW, [Image.new("RGB", (20, 12))], [], "changed its size: (20, 12) -> (20, 10)"),
    "two for one": (f"{DRAW}; {DRAW}", [ONE_PIXEL], [], 'dissimilar number of outputs for key "text/plain"'),
    "none for one": ("", [ONE_PIXEL], [], "Missing output fields from running code: {'text/plain'}"),
    "ignored": (DRAW, [Image.new("RGB", (20, 12))], ["nbval-ignore-output"], None),
    "a warning": ("import warnings; warnings.warn('old')", [], [], "The cell wrote to stderr"),
    "a wrong magic": ("%no_such_magic", [], ["nbval-ignore-output"], "The cell wrote to stderr"),
    "an error": ("1 / 0", [], [], "ZeroDivisionError"),
    "explored": (LEFT % TEXT, [{EXPLORER: {"jpeg": "old"}, "text/plain": TEXT}], [], None),
    "other words": (LEFT % "Kept 2", [{EXPLORER: {}, "text/plain": "Kept 3"}], [], "text/plain"),
    "a text": ("print('new')", [], [], "Unexpected output fields from running code: {'stdout'}"),
}


def output_of(shown: Image.Image | dict) -> nbformat.NotebookNode:
    if isinstance(shown, Image.Image):
        file = io.BytesIO()
        shown.save(file, "png")
        shown = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": TEXT}
    return nbformat.v4.new_output("display_data", data=shown)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """The report of strict nbval, with our conftest.py and options, on a notebook of these cells."""
    folder = tmp_path_factory.mktemp("picture_check")
    (folder / "tests").mkdir()
    for name in ("conftest.py", "pyproject.toml", "tests/sanitize.cfg"):
        shutil.copy(ROOT / name, folder / name)
    cells = [
        nbformat.v4.new_code_cell(
            code, execution_count=count, outputs=list(map(output_of, pictures)), metadata={"tags": tags}
        )
        for count, (code, pictures, tags, _) in enumerate(CELLS.values(), start=1)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "toy.ipynb")
    command = [sys.executable, "-m", "pytest", "-rA", "--color=no", "-p", "no:cacheprovider", "toy.ipynb"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", CELLS)
def test_the_picture_check_fails_when_it_should(report, name):
    number, message = list(CELLS).index(name), CELLS[name][3]
    outcomes = dict(re.findall(r"^(?:PASSED|FAILED) toy\.ipynb::Cell (\d+)(.*)", report, re.M))
    failures = dict(re.findall(r"^Cell (\d+): (.*?)^[_=]{10}", report, re.M | re.S))
    assert len(outcomes) == len(CELLS)
    if message is None:
        assert str(number) not in failures
    else:
        assert message in failures[str(number)]
