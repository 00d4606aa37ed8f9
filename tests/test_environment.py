"""One list of dependencies, three files: pyproject.toml has the floors, the others agree with it."""

import ast
import importlib
import re
import subprocess
import sys
import zipfile
from itertools import chain
from pathlib import Path

import colab_lane
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along for Python 3.10

ROOT = Path(__file__).resolve().parents[1]
setup_check = importlib.import_module(
    "segutils.setup_check"
)  # the module: the package has a function of that name
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text("utf-8")
PINS = [Requirement(line) for line in CONSTRAINTS.splitlines() if not line.startswith("#")]

CONDA_NAMES = {"pytorch": "torch"}  # conda-forge's name -> PyPI's
MODULES = {
    "skimage": "scikit-image",
    "PIL": "pillow",
    "faster_coco_eval": "faster-coco-eval",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "axe_playwright_python": "axe-playwright-python",
}
FROM_JUPYTER = {"IPython": "ipykernel"}  # comes with the package on the right
PLATFORMS = [("linux", "posix", "x86_64"), ("darwin", "posix", "arm64"), ("win32", "nt", "AMD64")]


def by_name(requirements) -> dict[str, str]:
    """Name -> version specifier, for a list of requirement strings."""
    return {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, requirements)}


RUN = by_name(PROJECT["dependencies"])
ALL = RUN | by_name(chain.from_iterable(EXTRAS.values()))


def test_environment_yml_has_the_floors_of_pyproject():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    conda = {CONDA_NAMES.get(name, name): floor for name, floor in by_name(conda).items()}
    assert conda.pop("python") == PROJECT["requires-python"]
    assert conda.pop("pip") == ""
    assert conda == RUN | by_name(EXTRAS["lab"] + EXTRAS["evaluation"])
    assert pip == {"pip": ["-e ."]}


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform, os_name, machine", PLATFORMS)
def test_every_dependency_has_one_pin_that_meets_its_floor(python, platform, os_name, machine):
    here = {"python_version": python, "python_full_version": f"{python}.2", "sys_platform": platform}
    here |= {"os_name": os_name, "platform_machine": machine}
    applying = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(here)]
    pins = {canonicalize_name(pin.name): str(pin.specifier) for pin in applying}
    assert len(pins) == len(applying), "a package is pinned twice for one platform"
    for name, floor in ALL.items():
        version = pins[name].removeprefix("==")
        assert Requirement(f"{name}{floor}").specifier.contains(version), f"{name} {version} is not {floor}"


def test_the_floors_admit_what_colab_has():
    pins = map(Requirement, colab_lane.INSTALLED + colab_lane.TAKEN_OVER)
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert set(RUN) <= set(versions), "Colab's version of a package that segutils needs isn't listed"
    for name in set(versions) & set(ALL):
        floor = Requirement(f"{name}{ALL[name]}").specifier
        assert floor.contains(versions[name]), f"Colab has {name} {versions[name]}, which is not {floor}"


def test_constraints_hold_names_versions_and_markers_only():
    assert not re.search(r"://|@|--|\bhash\b|\.(org|com|io)\b", CONSTRAINTS.split("\n", 2)[2])
    for pin in PINS:
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
        assert pin.url is None and not pin.extras, pin


def test_torch_and_torchvision_are_the_pair_that_was_tried():
    pins = {str(pin) for pin in PINS if pin.name in ("torch", "torchvision")}
    assert "torch==2.13" not in CONSTRAINTS
    assert pins == {
        'torch==2.14.1; python_full_version < "3.11"',
        'torch==2.15.0; python_full_version >= "3.11"',
        "torchvision==0.29.2",
    }


def test_no_file_names_a_package_registry():
    names = (
        "run.py",
        "pyproject.toml",
        "constraints.txt",
        "environment.yml",
        ".ci/run",
        "README.md",
        "CONTRIBUTING.md",
    )
    for name in names:
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(
            r"pypi\.org|pythonhosted|download\.pytorch|conda\.anaconda|index-url ?=? ?http", text
        ), name


def imports(code: str) -> set[str]:
    """The top-level names of what a piece of Python imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(code)))
    absolute = (node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level)
    plain = (alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names)
    return {name.split(".")[0] for name in chain(absolute, plain)} - set(sys.stdlib_module_names)


def undeclared(names: set[str], declared) -> set[str]:
    names = {MODULES.get(name, FROM_JUPYTER.get(name, name)) for name in names}
    return names - set(declared) - {"segutils"}


def test_the_package_imports_what_it_declares():
    declared = RUN | by_name(EXTRAS["evaluation"] + EXTRAS["ray"] + ["ipykernel"])
    for path in ROOT.glob("segutils/**/*.py"):
        assert undeclared(imports(path.read_text("utf-8")), declared) == set(), path.name


def test_the_notebooks_import_what_run_py_installs():
    declared = RUN | by_name(EXTRAS["evaluation"] + EXTRAS["lab"])
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        code = "\n".join(re.sub(r"^(\s*)[!%].*", r"\1pass", source, flags=re.M) for source in cells)
        assert undeclared(imports(code), declared) == set(), path.name


def test_the_tests_and_tools_import_what_they_declare():
    own = {path.stem for folder in ("tests", "tools") for path in ROOT.glob(f"{folder}/**/*.py")}
    own |= {"tomli", "run"}
    own |= {
        "datumaro",
        "supervision",
        "tidecv",
        "torchmetrics",
    }  # in make_..._results.py, which run in environments of their own
    for path in [ROOT / "conftest.py", *ROOT.glob("tests/**/*.py"), *ROOT.glob("tools/*.py")]:
        assert undeclared(imports(path.read_text("utf-8")), ALL) - own == set(), path.name


def test_an_import_that_is_not_declared_is_found():
    assert undeclared(
        imports("def f():\n    import cv2.data\n    from PIL import Image\n    import os"), RUN
    ) == {"cv2"}


def test_setup_check_asks_for_the_packages_that_pyproject_declares():
    assert set(setup_check.PACKAGES) == set(RUN)


def build(target: str, folder: Path) -> Path:
    """Build a wheel or an sdist from this folder, offline."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.iterdir())


def test_an_installed_wheel_finds_its_data_and_weights(tmp_path):
    with zipfile.ZipFile(build("wheel", tmp_path / "dist")) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "site")
    folders = {name.split("/")[0] for name in names}
    assert folders == {"segutils", f"segutils-{PROJECT['version']}.dist-info"}
    listed = {f"segutils/data/{name}" for name in setup_check.listed_files(ROOT / "data")}
    assert listed and listed <= set(names)
    assert "segutils/explorer/explorer.js" in names
    code = (
        "import segutils as s; s.load_model('tabletop'); "
        "print(s.DATA_DIR, sum(p.parent.name == 'scenes' for p in s.sample_images().values()))"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [
        str(tmp_path / "site" / "segutils" / "data"),
        str(len(list(ROOT.glob("data/scenes/*.png")))),
    ]


def test_an_installed_wheel_leaves_the_readers_own_photos_at_home(tmp_path):
    photos = [name for name in zipfile.ZipFile(build("wheel", tmp_path)).namelist() if "data/photos/" in name]
    assert set(photos) <= {"segutils/data/photos/README.md"}
