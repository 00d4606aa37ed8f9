"""One file for a USB stick: the course, and every package that it needs. Set up from it, a computer needs no network.

python3 run.py bundle               the whole course, into output/
python3 run.py bundle --learners    the course without solutions, as `run.py handout` makes it

The packages are those for this system and this version of Python: make the bundle on a computer like theirs. COCO's
weights go along if they've been fetched (python -m segutils.models fetch coco).
"""

import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from handout import WHOLE, copy_to, course_files, write_learners
from packaging.markers import default_environment
from packaging.requirements import Requirement

from notebooks import ROOT

FOLDER = "segutils-course"  # what the bundle unpacks to
EXTRAS = re.search(r'"-e", "(\.\[.+?\])"', (ROOT / "run.py").read_text("utf-8"))[1]  # what run.py installs
BUILD = ["hatchling", "editables"]  # what pip fetches on its own to install a folder in place
SYSTEMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
GPU = ("nvidia_", "cuda_", "triton")  # what PyTorch brings along on Linux
FAT = 2**32 - 1  # bytes in the largest file that FAT32 holds

SHELL = """\
#!/bin/sh
# Sets up the course without a network, from the packages in wheels, and opens it.   sh start.sh
cd "$(dirname "$0")" || exit 1
export PIP_NO_INDEX=1 PIP_FIND_LINKS=../wheels # seen from the folder course, where pip runs
[ -d weights ] && export TORCH_HOME="$PWD/weights"
for python in python{version} python3 python; do
    if "$python" -c "{fits}" 2>/dev/null; then
        exec "$python" course/run.py "$@"
    fi
done
echo "{wrong}" >&2
exit 1
"""
BATCH = """\
@echo off
rem Sets up the course without a network, from the packages in wheels, and opens it.
cd /d "%~dp0"
set PIP_NO_INDEX=1
rem seen from the folder course, where pip runs
set PIP_FIND_LINKS=../wheels
if exist weights set "TORCH_HOME=%~dp0weights"
py -{version} -c "{fits}" 2>nul && goto start
echo {wrong}
pause
exit /b 1
:start
py -{version} course\\run.py %*
"""
PAGE = """\
INSTANCE SEGMENTATION WITH MASK R-CNN, IN NOTEBOOKS

This folder is for {system} ({machine}) with Python {version}. You need no network.

1. Copy the zip file from the stick to your disk, and unpack it there. It takes {size:.1f} GB,
   and up to 7 GB more when it's set up.
2. Open a terminal in the folder {folder} and type

       {command}

   The first time, this installs everything into course/.venv, and nothing elsewhere.
   That takes some minutes. Then the course opens in JupyterLab.
3. Later, start it with the same line. You can delete the folder wheels.

If it stops, the last lines say why. Do they say that these packages are for another version
of Python or another system? Then you need another bundle, or another Python.
"""


def collect_wheels(folder: Path) -> None:
    """Download what the course needs, with the settings that pip has on this computer, and build what isn't a wheel."""
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    wanted = [["-c", "constraints.txt", EXTRAS, *BUILD]]
    others = for_other_patches((ROOT / "constraints.txt").read_text("utf-8"), default_environment())
    wanted += [["--no-deps", *others]] if others else []
    if any(subprocess.call([*pip, *what], cwd=ROOT) != 0 for what in wanted):
        sys.exit("pip could not collect the packages; the lines above say why. There is no bundle.")
    for own in folder.glob("segutils-*.whl"):
        own.unlink()  # the course is installed from its folder


def for_other_patches(constraints: str, here: dict[str, str]) -> list[str]:
    """What `constraints.txt` asks for with an older or newer patch of the same Python (3.11.2 for 3.11.7), not here."""
    lines = [line for line in constraints.splitlines() if line and not line.startswith("#")]
    pinned = [requirement for requirement in map(Requirement, lines) if requirement.marker]
    patches = [here | {"python_full_version": f"{here['python_version']}.{patch}"} for patch in (0, 99)]
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in pinned
        if any(map(requirement.marker.evaluate, patches)) and not requirement.marker.evaluate(here)
    ]


def coco_weights() -> list[Path]:
    """The files of COCO's models that this computer has fetched."""
    import torch

    return sorted(Path(torch.hub.get_dir(), "checkpoints").glob("maskrcnn_resnet50_fpn_*.pth"))


def start_script() -> tuple[str, str]:
    """Name and text of the script that sets up and starts the course on a computer like this one."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    here = (sys.version_info[:2], sys.platform, platform.machine())
    fits = (
        f"import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != {here})"
    )
    wrong = f"These packages are for Python {version} on {SYSTEMS.get(sys.platform, sys.platform)} "
    wrong += (
        f"({platform.machine()}), which was not found here. Install that Python, or ask for another bundle."
    )
    name, text = ("start.bat", BATCH) if sys.platform == "win32" else ("start.sh", SHELL)
    return name, text.format(version=version, fits=fits, wrong=wrong)


def write_bundle(target: Path, wheels: Path, course: Path, weights: list[Path]) -> None:
    """Pack everything into one zip file. The wheels and weights are packed already, so nothing is compressed."""
    files = {
        f"course/{path.relative_to(course).as_posix()}": path for path in course.rglob("*") if path.is_file()
    }
    files |= {f"wheels/{path.name}": path for path in wheels.iterdir()}
    files |= {f"weights/hub/checkpoints/{path.name}": path for path in weights}  # as under TORCH_HOME
    script, text = start_script()
    page = PAGE.format(
        system=SYSTEMS.get(sys.platform, sys.platform),
        machine=platform.machine(),
        version=f"{sys.version_info[0]}.{sys.version_info[1]}",
        size=sum(path.stat().st_size for path in files.values()) / 1e9,
        folder=FOLDER,
        command=script if script.endswith(".bat") else f"sh {script}",
    )
    with zipfile.ZipFile(target, "w") as bundle:
        for name, body in (("START_HERE.txt", page), (script, text)):
            bundle.writestr(
                f"{FOLDER}/{name}", body.replace("\n", "\r\n") if sys.platform == "win32" else body
            )
        for name, path in sorted(files.items()):
            bundle.write(path, f"{FOLDER}/{name}")


def remarks(target: Path, wheels: Path) -> list[str]:
    """What whoever made a bundle should know about its size."""
    size = target.stat().st_size
    gpu = sum(path.stat().st_size for path in wheels.iterdir() if path.name.startswith(GPU))
    lines = [f"{target.relative_to(ROOT)}: {size / 1e9:.1f} GB, with {len(list(wheels.iterdir()))} packages."]
    if gpu:
        lines.append(
            f"{gpu / 1e9:.1f} GB of it are PyTorch's GPU libraries. To do without them, set PIP_EXTRA_INDEX_URL to "
            "PyTorch's index of CPU builds, as README says under 'Other ways to install', and run this again."
        )
    if size > FAT:
        lines.append(
            "It's too large for a stick formatted as FAT32, which holds files up to 4 GB: use exFAT."
        )
    return lines


def main(*options: str) -> None:
    if set(options) - {"--learners"}:
        sys.exit(__doc__)
    output = ROOT / "output"
    output.mkdir(exist_ok=True)
    kind = f"{SYSTEMS.get(sys.platform, sys.platform)}-{platform.machine()}-python{sys.version_info[0]}"
    target = output / f"segutils-{kind}.{sys.version_info[1]}{'-learners' if options else ''}.zip"
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        wheels, course = Path(scratch, "wheels"), Path(scratch, "course")
        collect_wheels(wheels)
        if options:
            write_learners(course)
        else:
            for path in course_files(WHOLE):
                copy_to(course, path)
        write_bundle(target, wheels, course, coco_weights())
        print(*remarks(target, wheels), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
