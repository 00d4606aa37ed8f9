#!/usr/bin/env python3
"""Set up this course and use it. All you need is Python 3.10 or newer.   (Windows: py run.py ...)

python3 run.py                     set up, check, segment a first photograph, open the course in JupyterLab
python3 run.py --no-lab            the same, but stop before JupyterLab
python3 run.py --model coco        let all notebooks use torchvision's COCO model (fetched once: 170 MB)
python3 run.py test [...]          run every test; what follows goes to pytest
python3 run.py build [...]         execute all notebooks in place, or only those named
python3 run.py bench               run the benchmarks
python3 run.py site                write the course as pages into site/, to read without Jupyter and network
python3 run.py handout             copies of the notebooks for learners, without solutions, and for teachers
python3 run.py bundle              one file for a USB stick: the course and all its packages, to set up offline
python3 run.py colab OWNER/REPO    point the Colab badges and first cells at your copy on GitHub
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "set-up-finished"  # written last: while it is missing or outdated, every call sets up again
COMMANDS = {
    "test": ["-m", "pytest", "-n", "auto", "--maxprocesses=4", "--dist=loadfile"],  # files whole
    "build": ["tools/notebooks.py", "build"],
    "bench": ["-m", "pytest", "-sq", "tests/benchmarks", "-o", "python_files=bench_*.py"],
    "site": ["tools/pages.py"],
    "handout": ["tools/handout.py"],
    "bundle": ["tools/bundle.py"],
    "colab": ["tools/notebooks.py", "colab"],
}
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # on Linux, none of them means: no browser to open
# Outputs are made and compared on one thread with the bundled model, whatever the person has set.
UNSET = ("SEGUTILS_MODEL", "MPLBACKEND")
FIXED = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "IPYKERNEL_CELL_NAME": "<cell>"}


def call(*command, **options):
    """Run a command in the repository and return its exit status."""
    return subprocess.call([str(part) for part in command], cwd=str(ROOT), **options)


def set_up():
    """Make .venv and install the project, unless that is done and nothing it depends on has changed."""
    files = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "run.py"))
    stamp = hashlib.sha256(files + str(ROOT).encode()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == stamp:
        return
    if sys.version_info < (3, 10):
        sys.exit(f"""This course needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}.
Install a newer one and name it in the command, for example: python3.12 run.py""")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit("""This Python cannot make virtual environments: its module venv or ensurepip is missing.
On Debian and Ubuntu this installs them: sudo apt install python3-venv""")
    own_index = os.environ.get("PIP_INDEX_URL") or os.environ.get("PIP_EXTRA_INDEX_URL")
    needed = 7 if sys.platform.startswith("linux") and not own_index else 3  # Linux packages bring CUDA along
    new = not PYTHON.exists() or call(PYTHON, "-c", "import pip", stderr=subprocess.DEVNULL) != 0
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if new and free < needed:
        sys.exit(f"""The disk is too full: the set-up needs {needed} GB in {ROOT}, and {free:.1f} GB are free.
Make room, or move this folder to a larger disk. Then run the same command again.""")
    print(f"Setting up in {VENV}. This takes some minutes, once.", flush=True)
    if new and call(sys.executable, "-m", "venv", "--clear", VENV) != 0:
        sys.exit(f"The virtual environment {VENV} could not be made. The lines above say why.")
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-c", "constraints.txt"]
    if call(*pip, "-e", ".[lab,evaluation,test,browser]") != 0:
        if shutil.disk_usage(str(ROOT)).free < 0.5e9:
            sys.exit("The disk is full. Make room, then run the same command again.")
        sys.exit("""pip could not install the packages; the lines above say why. If they speak of connections,
time-outs or 'No matching distribution', pip does not reach the network: connect, or name your proxy
in the environment variable HTTPS_PROXY. Then run the same command again.""")
    STAMP.write_text(stamp)


def main(command="", *rest):
    model, command, *rest = (*rest, "") if command == "--model" and rest else (None, command, *rest)
    if command not in ("", "--no-lab", *(() if model else COMMANDS)):
        sys.exit(__doc__)
    set_up()
    if command in COMMANDS:
        own = {name: os.environ[name] for name in os.environ if name not in UNSET}
        return call(PYTHON, *COMMANDS[command], *rest, env={**own, **FIXED})
    failed = call(PYTHON, "segutils/setup_check.py")
    if model and not failed:
        os.environ["SEGUTILS_MODEL"] = model
        failed = call(PYTHON, "-m", "segutils.models", "fetch", model)
    if failed or command == "--no-lab":
        return failed
    lab = [f"--ServerApp.root_dir={ROOT}", "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
    if sys.platform.startswith("linux") and not any(map(os.environ.get, SCREENS)):
        print("No screen here: open the address below with 'token=' in it in a browser.", flush=True)
        lab.append("--no-browser")
    lab += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # as in a container
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for JupyterLab, which asks back
    return call(PYTHON, "-m", "jupyterlab", *lab)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
