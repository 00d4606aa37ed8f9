"""The rooms of segutils: which module may import which.

The core is flat, one file a stage; wings are folders for what is large and rarely read. Imports run downwards, in no
circle; the core needs no wing, and no wing needs another. So whoever wants one room reads it and those below, no more.
"""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import segutils

FOLDER = Path(segutils.__file__).parent

FLOORS = (  # from the ground up
    ("images", "roi_masks"),
    ("predictions", "display", "rle", "new_classes"),
    ("drawing", "inference", "evaluation", "targets", "measuring"),
    ("average_precision", "inside", "swapping", "training_curve", "annotations"),
    ("inside_figures", "error_types", "validation", "tiles", "doctor", "drafts"),
    ("training",),
    ("models", "explorer", "tabletop", "sky"),
    ("folder",),  # its workers load their models themselves
    ("setup_check", "__init__"),
)
DOORS = {
    ("tabletop.recipes", "models"),  # the recipes train what `models` builds
    ("sky", "tabletop"),  # skies are drawn with the pieces that tables are made of
}
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def read_rooms() -> dict[str, str]:
    """The source of every module, by its name within segutils: "images", "models", "models.semantic", "__init__"."""
    sources = {}
    for path in sorted(FOLDER.rglob("*.py")):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts)
        sources[name.removesuffix(".__init__")] = path.read_text("utf-8")
    return sources


def imports_of(source: str, modules: set[str]) -> set[str]:
    """The modules of segutils that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add("." * node.level)
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name.removeprefix("segutils.") in modules else node.module for name in whole}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    inside = {name for name in found if name.split(".")[0] in ("segutils", "")}
    return {"__init__" if name == "segutils" else name.removeprefix("segutils.") for name in inside}


def faults(sources: dict[str, str]) -> list[str]:
    """What breaks the rules of the house."""
    graph = {name: imports_of(source, set(sources)) for name, source in sources.items()}
    wrong = [f"{room} stands on no floor" for room in {name.split(".")[0] for name in graph} - set(FLOOR_OF)]
    for name, targets in graph.items():
        for target in sorted(targets):
            room, other = name.split(".")[0], target.split(".")[0]
            if target not in graph:
                wrong.append(f"{name} imports {target}, which is no module of segutils")
            elif room != other and (name, other) not in DOORS:
                if FLOOR_OF.get(other, 0) >= FLOOR_OF.get(room, 0):
                    wrong.append(f"{name} imports {target}, which does not lie below it")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        wrong.append(f"a circle: {' <- '.join(circle.args[1])}")
    return wrong


def test_every_import_runs_downwards_and_in_no_circle():
    assert faults(read_rooms()) == []


@pytest.mark.parametrize(
    "room, line, fault",
    [
        ("predictions", "from segutils.drawing import lay", "predictions imports drawing"),
        ("predictions", "from segutils import drawing", "predictions imports drawing"),
        ("images", "def load():\n    import segutils.predictions", "images imports predictions"),
        ("display", "from segutils.predictions import label_name", "display imports predictions"),
        ("inference", "from segutils.models import load_model", "inference imports models"),
        ("inference", "from segutils.inside import trace", "inference imports inside"),
        ("training", "from segutils import render_scene", "training imports __init__"),
        ("training", "from segutils.tabletop.scene import layout", "training imports tabletop.scene"),
        ("models.maskrcnn", "from segutils.tabletop import CATEGORIES", "models.maskrcnn imports tabletop"),
        ("explorer.view", "from segutils.models import load_model", "explorer.view imports models"),
        ("tabletop.scene", "from segutils.models import load_model", "tabletop.scene imports models"),
        ("tabletop.recipes", "from segutils.explorer import explore", "tabletop.recipes imports explorer"),
        ("explorer.view", "from segutils.explorer import widget", "a circle"),
        ("models.downloads", "from segutils.models import load_model", "a circle"),
        ("images", "from .predictions import label_name", "images imports ., which is no module"),
        ("attic", "", "attic stands on no floor"),
    ],
)
def test_an_import_that_breaks_the_rules_is_found(room, line, fault):
    rooms = read_rooms()
    found = faults(rooms | {room: f"{rooms.get(room, '')}\n{line}\n"})
    assert any(one.startswith(fault) for one in found), found


@pytest.mark.parametrize(
    "room, needed, foreign",
    [
        ("predictions", {"roi_masks"}, {"matplotlib", "ipywidgets", "skimage"}),
        ("inference", {"images", "predictions", "roi_masks"}, {"ipywidgets", "matplotlib.pyplot"}),
        ("inside", {"images", "inference", "predictions", "roi_masks"}, {"ipywidgets", "matplotlib.pyplot"}),
        ("evaluation", {"predictions", "roi_masks"}, {"ipywidgets", "matplotlib", "skimage", "pycocotools"}),
        (
            "average_precision",
            {"evaluation", "predictions", "rle", "roi_masks"},
            {"ipywidgets", "matplotlib", "skimage", "pycocotools"},
        ),
        ("new_classes", set(), {"matplotlib", "ipywidgets", "skimage"}),
        (
            "training",
            {
                "average_precision",
                "evaluation",
                "images",
                "inference",
                "new_classes",
                "predictions",
                "rle",
                "roi_masks",
                "targets",
                "training_curve",
                "validation",
            },
            {"ipywidgets", "matplotlib.pyplot"},
        ),
    ],
)
def test_a_room_comes_alone(room, needed, foreign):
    """As where somebody has copied it: without `segutils/__init__.py`, which hands everything on."""
    code = (
        "import sys, types\n"
        "segutils = sys.modules['segutils'] = types.ModuleType('segutils')\n"
        f"segutils.__path__ = [{str(FOLDER)!r}]\n"
        f"import segutils.{room}\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    rooms = {name.removeprefix("segutils.") for name in loaded if name.startswith("segutils.")}
    assert rooms == needed | {room}
    assert not loaded & foreign
