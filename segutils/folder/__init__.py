"""A folder of pictures, from ten on a laptop to a hundred thousand on a cluster, by one function and one command.

    python -m segutils.folder PHOTOS OUT

`results` says what is written, `worker` does the work, `engines` calls workers here or on a cluster.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from segutils.folder.engines import ENGINES, Blocks
from segutils.folder.results import (
    SETTINGS,
    cannot_write,
    read_parts,
    read_results,
    read_rows,
    read_settings,
    save_coco,
    write_whole,
)
from segutils.folder.worker import weights_hash
from segutils.models import load_model
from segutils.roi_masks import check_fraction

__all__ = [
    "Finished",
    "list_pictures",
    "read_results",
    "read_rows",
    "read_settings",
    "save_coco",
    "segment_folder",
]

BLOCK = 50
"""How many pictures a part holds at most, and so how many each worker loses at most when all is stopped."""


class Finished(NamedTuple):
    """How a run over a folder ended."""

    pictures: int  # in the folder
    new: int  # of these, done in this run; the others were there already
    failed: int  # of the new ones, how many have an error instead of instances
    errors: dict[str, str]  # the first ten of them: path -> what is wrong


def segment_folder(
    folder: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    *,
    score_threshold: float = 0.5,
    engine: str = "local",
    workers: int | None = None,
    tile: int | None = None,
) -> Finished:
    """Run a model on every picture in a folder and its sub-folders, and write what it finds as JSON lines.

    Stopped at any moment and started again, it goes on, and the results are those of a run that was not stopped. A
    picture that has changed since (its size, or time of last change) is done again; so is one that failed, for
    what was in its way may be gone. A picture that cannot be read, or done, is a row with its error.

    A bar shows the progress on a terminal. `read_results(out)` reads the results; see there, and `read_rows`.

    Args:
        folder: where the pictures are: any file that Pillow can open going by its name. Hidden ones are left out.
        out: where the results go; made when it is missing.
        model: what `load_model` takes: a name, or the path of a model of your own.
        score_threshold: report instances with at least this score, 0 to 1.
        engine: "local" for this computer, "ray" for a cluster or this computer, by Ray.
        workers: how many pictures are worked on at a time. None takes one a core, or one a GPU where there is one.
        tile: cut large pictures into overlapping squares of so many pixels a side (`predict_tiles`).

    Raises:
        FileNotFoundError, NotADirectoryError, ValueError: there is no such folder, there are no pictures in it,
            `out` holds results of other settings, or an argument is not as described.
        OSError: `out` cannot be written to, or the disk is full. What is finished stays.
        RuntimeError: a worker met an error that is no fault of a picture.
    """
    folder, out = Path(folder).expanduser(), Path(out).expanduser()
    check_fraction("score_threshold", score_threshold)
    if engine not in ENGINES:
        raise ValueError(f"There is no engine {engine!r}. Choose one of {', '.join(ENGINES)}.")
    for name, number in (("workers", workers), ("tile", tile)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise ValueError(f"{name} is a whole number above 0, not {number!r}.")
    pictures = list_pictures(folder)
    settings = _settings(folder, model, score_threshold, tile)
    _claim(out, settings)
    done = {
        row["path"]: (row["size"], row["time"]) if "error" not in row else None
        for row, _, _ in read_parts(out)
    }
    left = [path for path, state in pictures.items() if state is None or done.get(path) != state]
    failed, errors = 0, {}
    if left:
        # Some eight blocks a worker: then none has to wait long at the end for the last of the others.
        crew = workers or os.cpu_count() or 1
        blocks = Blocks(left, min(BLOCK, -(-len(left) // (8 * crew))))
        arguments = (str(folder.absolute()), str(_new_run(out).absolute()), settings)
        finished = len(pictures) - len(left)
        with (
            tqdm(total=len(pictures), initial=finished, unit=" pictures", disable=None) as bar,
            closing(ENGINES[engine](blocks, arguments, workers)) as reports,
        ):
            for report in reports:
                failed += len(report["errors"])
                errors |= dict(list(report["errors"].items())[: 10 - len(errors)])
                bar.set_postfix(failed=failed, refresh=False)
                bar.update(report["pictures"])
    return Finished(len(pictures), len(left), failed, dict(sorted(errors.items())))


def list_pictures(folder: str | Path) -> dict[str, tuple[int, int] | None]:
    """The pictures in a folder and its sub-folders: path from the folder -> size and time, as `read_rows` has them.

    A file counts as a picture by the end of its name. Hidden files and folders are left out; links are followed.

    Raises `FileNotFoundError` or `NotADirectoryError` when it is no folder, and `ValueError` when it holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind, what = (
            (NotADirectoryError, "is a file, not a folder")
            if folder.exists()
            else (FileNotFoundError, "does not exist")
        )
        raise kind(f"'{folder}' {what}. It should be the folder with your pictures.")
    pictures, others = {}, Counter()
    # HEIC even where Pillow lacks the plugin: the error of each picture then says how to get it.
    endings = {".heic", ".heif"}
    endings |= {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    for file in _walk(folder, ()):
        path = Path(file.path)
        ending = path.suffix.lower()
        if ending not in endings:
            others[ending or "without an ending"] += 1
            continue
        try:
            status = file.stat()
            state = status.st_size, status.st_mtime_ns
        except OSError:  # a link that leads nowhere: the worker will say so
            state = None
        pictures[path.relative_to(folder).as_posix()] = state
    if not pictures:
        found = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
        raise ValueError(
            f"There are no pictures in '{folder}'. " + (f"Its files: {found}." if found else "It is empty.")
        )
    return dict(sorted(pictures.items()))


def _walk(folder: str | Path, above: tuple) -> Iterator[os.DirEntry]:
    """The files in a folder and its sub-folders. above: the folders around it, to notice a link back to one of them."""
    status = os.stat(folder)
    above = (*above, (status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                status = os.stat(entry.path)
                if (status.st_dev, status.st_ino) not in above:
                    yield from _walk(entry.path, above)
            else:
                yield entry


def _settings(
    folder: Path, model: str | Path | None, score_threshold: float, tile: int | None
) -> dict[str, object]:
    """All that the results depend on."""
    name = str(model or os.environ.get("SEGUTILS_MODEL") or "tabletop")
    if Path(name).is_file():
        name = str(Path(name).absolute())
    network, weights = load_model(name, device="cpu")
    return {
        "folder": str(folder.absolute()),
        "model": name,
        "weights": weights_hash(network),
        "categories": list(weights.meta["categories"]),
        "score_threshold": float(score_threshold),
        "mask_threshold": 0.5,
        "tile": tile,
        "versions": {package: _version(package) for package in ("segutils", "torch", "torchvision")},
    }


def _claim(out: Path, settings: dict) -> None:
    """Write `settings.json`, or compare with the one that is there."""
    path = out / SETTINGS
    if not path.exists():
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(out, error) from error
        write_whole(path, _to_json(settings))
        return
    before = read_settings(out)
    differing = [
        f"{key}: {_brief(before.get(key))} then, {_brief(settings.get(key))} now"
        for key in sorted({*before, *settings})
        if before.get(key) != settings.get(key)
    ]
    if differing:
        raise ValueError(
            f"'{out}' holds results of other settings.\n  " + "\n  ".join(differing) + "\n"
            "Use the same settings, or another folder for these results."
        )


def _new_run(out: Path) -> Path:
    """A folder for the parts of this run, which no other run has, even one that starts at the same moment."""
    number = 1 + max(
        (int(path.name[4:]) for path in out.glob("run-*") if path.name[4:].isdecimal()), default=0
    )
    try:
        while True:
            run = out / f"run-{number:04}"
            try:
                run.mkdir()
                return run
            except FileExistsError:
                number += 1
    except OSError as error:
        raise cannot_write(out, error) from error


def _to_json(settings: dict) -> str:
    return json.dumps(settings, indent=2) + "\n"


def _brief(value: object) -> str:
    many = isinstance(value, list) and len(value) > 3
    return f"{', '.join(map(str, value[:3]))}, ... ({len(value)})" if many else str(value)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # segutils, where it lies beside the notebooks and is not installed
        return "not installed"
