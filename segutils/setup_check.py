"""Is everything in place? One line for each answer.

`python -m segutils.setup_check` in a terminal, or `setup_check()` in the first cell of notebook 00. The heavy
packages are imported inside the functions, so that a missing or broken one is explained, not just raised.
"""

from __future__ import annotations  # an old Python shall get as far as the line that calls it too old

import hashlib
import re
import shutil
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "matplotlib",
    "ipywidgets",
    "anywidget",
    "traitlets",
    "scikit-image",
    "scipy",
    "pillow",
    "psutil",
    "tqdm",
    "pycocotools",
)
ANEW = "Run `python3 run.py` in the course's folder, or `pip install -e .` in an environment of your own."


class SetupProblem(Exception):
    """Something the course needs is missing; the message says what, and what to do."""


def setup_check() -> bool:
    """Check Python, packages, device, room, data and widgets; print one line for each, OK or FAIL.

    Returns True when nothing failed.
    """
    passed = True
    for check in (_python, _packages, _torch_pair, _device, _room, _data, _widgets):
        try:
            print(f"OK    {check()}")
        except SetupProblem as problem:
            print(f"FAIL  {problem}")
            passed = False
    return passed


def first_look(path: str | Path = "output/first_look.png") -> Path:
    """Segment the photograph "coins" with the bundled model, save the drawn result, and print what was found.

    path: where the PNG goes; its folder is made when it is missing. Returns the path.
    """
    from torchvision.transforms.functional import to_pil_image

    from segutils.drawing import draw_instances
    from segutils.images import load_image, resize, sample_images
    from segutils.inference import predict
    from segutils.models import load_model

    image = resize(load_image(sample_images()["coins"]), 768)  # twice its size, so that labels have room
    model, weights = load_model("tabletop")  # whatever SEGUTILS_MODEL says: nothing is downloaded for this
    [prediction] = predict(model, [image], score_threshold=0.5)

    categories = weights.meta["categories"]
    counts = Counter(categories[label] for label in prediction["labels"].tolist())
    found = ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.most_common())
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(draw_instances(image, prediction, categories, color_by="instance", boxes=False)).save(path)
    print(f"{found or 'nothing'} in the photograph 'coins' (score >= 0.5); picture in {path.as_posix()}")
    return path


def _python() -> str:
    if sys.version_info < (3, 10):  # noqa: UP036
        raise SetupProblem(f"Python is {sys.version.split()[0]}; the course needs 3.10 or newer.")
    return f"Python {sys.version.split()[0]}"


def _packages() -> str:
    missing = [name for name in PACKAGES if not _version(name)]
    if missing:
        raise SetupProblem(f"These packages are missing: {', '.join(missing)}. {ANEW}")
    shown = ", ".join(f"{name} {_version(name)}" for name in PACKAGES[:4])
    return f"packages: {shown}, and {len(PACKAGES) - 4} more"


def _version(package: str) -> str | None:
    """The version of an installed package, without importing it; None when it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _torch_pair() -> str:
    versions = f"torch {_version('torch')} and torchvision {_version('torchvision')}"
    if "None" in versions:
        raise SetupProblem(f"{versions}: not tried, because one is missing.")
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)
    except (ImportError, RuntimeError, OSError) as error:
        raise SetupProblem(
            f"{versions} do not fit together ({error}). "
            "'operator torchvision::nms does not exist' means that torchvision was built for another torch. "
            "Install both again, from one place: pip install --force-reinstall torch torchvision"
        ) from error
    return "torch and torchvision fit together"


def _device() -> str:
    torch = _import("torch")
    if torch.cuda.is_available():
        return f"device: cuda ({torch.cuda.get_device_name()})"
    return "device: cpu, which is all this course needs"


def _room() -> str:
    memory = _import("psutil").virtual_memory().available / 1e9
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    if memory < 1:
        raise SetupProblem(
            f"Only {memory:.1f} GB of memory are free; the course needs 1 GB. Close other programs."
        )
    if disk < 0.5:
        raise SetupProblem(
            f"Only {disk:.1f} GB of disk are free in {Path.cwd()}; 0.5 GB are needed. Make room."
        )
    return f"room: {memory:.1f} GB of memory and {disk:.0f} GB of disk are free"


def _data() -> str:
    try:
        from segutils.images import DATA_DIR
    except (ImportError, RuntimeError, OSError) as error:
        raise SetupProblem(f"data: not checked, because segutils cannot be imported ({error}).") from error
    again = "Get it again: `git restore data` in a clone, or install the package again."
    sums = listed_files(DATA_DIR)
    if not sums:
        raise SetupProblem(
            f"{DATA_DIR / 'README.md'}, which lists the data files, is missing or empty. {again}"
        )
    for name, expected in sums.items():
        file = DATA_DIR / name
        if not file.is_file():
            raise SetupProblem(f"{file} is missing. {again}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise SetupProblem(
                f"{file} is not the file that data/README.md describes: its SHA-256 differs. {again}"
            )
    return f"data and weights: {len(sums)} files, unchanged"


def listed_files(data_dir: Path) -> dict[str, str]:
    """Read the table of data/README.md: name of each file, relative to `data_dir` -> its SHA-256.

    A row counts when its first column is a path in backticks and it holds a sum of 64 hexadecimal digits.
    Returns an empty dict when there is no such file or row.
    """
    readme = Path(data_dir) / "README.md"
    text = readme.read_text("utf-8") if readme.is_file() else ""
    return dict(re.findall(r"^\|\s*`([^`]+)`.*?\b([0-9a-f]{64})\b", text, re.M))


def _widgets() -> str:
    widget = _import("ipywidgets").IntSlider()
    widget.close()
    return f"widgets: ipywidgets {_version('ipywidgets')}"


def _import(name: str):
    """Import a package of which another check may already have said that it is missing."""
    try:
        return __import__(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise SetupProblem(f"{name} cannot be imported ({error}). {ANEW}") from error


def main() -> None:
    """Check the set-up; when it is complete, segment the first photograph."""
    if not setup_check():
        sys.exit("The set-up is not complete: see FAIL above.")
    first_look()


if __name__ == "__main__":
    # Started by its path, as run.py does, this also works where `import segutils` fails.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
