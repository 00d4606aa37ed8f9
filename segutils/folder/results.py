"""What a run over a folder leaves behind: `settings.json`, and parts, a line of JSON for each picture.

    out/settings.json           the model, the hash of its weights, thresholds, versions
    out/run-0001/part-....jsonl a block of pictures; a run that goes on later has a folder of its own

A part is written whole or not at all, so there is no list of what is done that could differ from what is there. Where
two rows speak of the same picture, the later run's counts.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from segutils.predictions import Prediction, mask_crops
from segutils.rle import decode_rle, encode_rle
from segutils.roi_masks import MAX_BYTES

SETTINGS = "settings.json"


def read_results(out: str | Path) -> Iterator[tuple[str, Prediction]]:
    """Read what `segment_folder` found: for each picture that worked its path, from the folder, and its prediction.

    The pictures come one after the other, sorted by path, so that a folder of any size can be read. A prediction is
    what `get_boolean_mask(predict(...))` gives, on the CPU: `boxes` float [N, 4], `labels` int64 [N], `scores` float
    [N], `masks` bool [N, H, W].

    Raises:
        FileNotFoundError: there are no results in `out`.
        ValueError: a part is damaged.
        MemoryError: a picture's masks would take more than `roi_masks.MAX_BYTES`.
    """
    rows = read_rows(out)
    return ((row["path"], _prediction(row)) for row in rows if "error" not in row)


def read_rows(out: str | Path) -> Iterator[dict]:
    """Read what `segment_folder` wrote, as it is: a dict for each picture, sorted by path.

    `path` is from the folder. `size` (bytes) and `time` (of the last change, nanoseconds since 1970) are those of the
    file. Then come `width`, `height` and `instances`, each with `category`, `category_id`, `score`, `bbox` (x, y,
    width, height) and `segmentation` (COCO's RLE); or `error`, which says why there are none. `warnings` are there
    where there were some.

    Raises `FileNotFoundError` when there are no results in `out`, and `ValueError` when a part is damaged.
    """
    read_settings(out)
    return _read_latest(Path(out))


def read_settings(out: str | Path) -> dict:
    """What `segment_folder` was asked for, from `out/settings.json`. Its `categories` name the labels.

    Raises `FileNotFoundError` when there are no results in `out`, and `ValueError` when the file is damaged.
    """
    path = Path(out) / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no results in '{out}': it has no {SETTINGS}. segment_folder(folder, '{out}') makes them."
        )
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"'{path}' is damaged ({error}). Move '{out}' away, and start from the beginning."
        ) from None


def save_coco(out: str | Path, path: str | Path) -> None:
    """Write the results as one file in COCO's format of results, a dict for each instance.

    It holds what `to_coco` gives for all the predictions of `read_results`, whose pictures are counted from 1, but
    never more than one picture is in memory.
    """
    rows = (row for row in read_rows(out) if "error" not in row)
    before = "["
    with open(path, "w", encoding="utf-8") as file:
        for image_id, row in enumerate(rows, start=1):
            for found in row["instances"]:
                keys = ("category_id", "score", "segmentation")
                one = {"image_id": image_id} | {key: found[key] for key in keys}
                file.write(f"{before}{json.dumps(one)}")
                before = ",\n"
        file.write("[]\n" if before == "[" else "]\n")


def read_parts(out: Path) -> Iterator[tuple[dict, Path, int]]:
    """Every row of every part, the earliest run first, with its file and where in the file it begins."""
    for part in sorted(out.glob("run-*/part-*.jsonl")):
        with part.open("rb") as file:
            start = 0
            for line in file:
                yield _parse(line, part), part, start
                start += len(line)


def write_part(path: Path, rows: list[dict]) -> None:
    """Write a part: a line of JSON for each row."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, whatever happens on the way.

    Raises `OSError`, with what to do, when it cannot be written. Then nothing is left of it, and what was there before
    still is.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def cannot_write(folder: Path, error: OSError) -> OSError:
    """The error to raise when nothing can be written to a folder."""
    return OSError(
        f"'{folder}' cannot be written to ({error.strerror or error}). What is finished stays. Make room, or choose "
        "another folder; then run the same again, and it goes on from there."
    )


def describe_instances(prediction: Prediction, categories: list[str]) -> list[dict]:
    """The instances of one picture as they stand in a row. The masks go from crops to RLE, and are never pasted."""
    masks = prediction["masks"]
    rles = encode_rle(mask_crops(masks), masks.shape[-2:])
    instances = []
    for label, score, box, rle in zip(
        prediction["labels"].tolist(), _short(prediction["scores"]), _short(prediction["boxes"]), rles
    ):
        x1, y1, x2, y2 = box
        instances.append(
            {
                "category": categories[label],
                "category_id": label,
                "score": score,
                # Rounded far beyond what a float32 holds, to be rid of 0.30000000000000004.
                "bbox": [x1, y1, round(x2 - x1, 9), round(y2 - y1, 9)],
                "segmentation": rle,
            }
        )
    return instances


def _short(values: torch.Tensor) -> list:
    """float32 as Python's floats with as few digits as name them: 0.1, not 0.10000000149011612."""
    values = values.cpu().numpy()
    return np.array([float(str(value)) for value in values.ravel()]).reshape(values.shape).tolist()


def _prediction(row: dict) -> Prediction:
    """Make a prediction of a row again."""
    found, size = row["instances"], (row["height"], row["width"])
    if len(found) * size[0] * size[1] > MAX_BYTES:
        raise MemoryError(
            f"The {len(found)} masks of '{row['path']}' would take {len(found) * size[0] * size[1] / 1e9:.1f} GB, more "
            f"than the {MAX_BYTES / 1e9:.1f} GB allowed. read_rows gives them as RLEs."
        )
    boxes = np.array([one["bbox"] for one in found], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = np.zeros((len(found), *size), dtype=bool)  # costs nothing where nothing is written to it
    for mask, one in zip(masks, found):
        left, top, crop = decode_rle(one["segmentation"])
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return {
        "boxes": torch.from_numpy(boxes.astype(np.float32)),
        "labels": torch.tensor([one["category_id"] for one in found], dtype=torch.int64),
        "scores": torch.tensor([one["score"] for one in found], dtype=torch.float32),
        "masks": torch.from_numpy(masks),
    }


def _read_latest(out: Path) -> Iterator[dict]:
    """Each picture's latest row, sorted by path: first find where they are, then read them one by one."""
    places = {row["path"]: (part, start) for row, part, start in read_parts(out)}
    for _, (part, start) in sorted(places.items()):
        with part.open("rb") as file:
            file.seek(start)
            yield _parse(file.readline(), part)


def _parse(line: bytes, part: Path) -> dict:
    try:
        row = json.loads(line)
        row["path"], row["size"], row["time"]
        return row
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"'{part}' is damaged: it has a line that is no row of results ({error!r:.80}). Delete that file, and run "
            "again: its pictures are done once more."
        ) from None
