"""The worker: it holds a model, takes a block of paths, and writes a part. Every engine calls this one class."""

import hashlib
import json
import os
import queue
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from segutils.folder.results import describe_instances, write_part
from segutils.images import ImageLoadError, load_image
from segutils.inference import predict
from segutils.models import load_model
from segutils.predictions import Prediction
from segutils.tiles import predict_tiles

Block = dict
"""{"name": of the part, "paths": from the folder}; perhaps "error", which says why none of them can be done."""

BATCH = 8
"""How many pictures of one size go through a GPU at once. On a CPU it is one: more would not be faster."""


class Worker:
    """Calling it with a block runs the model on each picture, and writes a part. Called twice, the same part again.

    A picture that cannot be read, or done, becomes a row with its error. Any other error is raised.

    torch is set to one thread in this process: two would change the last digits of some scores, and a process a core
    is faster than a thread a core.
    """

    def __init__(self, folder: str, run_folder: str, settings: dict) -> None:
        torch.set_num_threads(1)
        self.folder, self.run_folder, self.settings = Path(folder), Path(run_folder), settings
        self.model, weights = load_model(settings["model"])
        if weights_hash(self.model) != settings["weights"]:
            raise ValueError(
                f"The weights of {settings['model']} have changed since the run began. Run it again."
            )
        self.categories = weights.meta["categories"]
        self.batch = BATCH if next(self.model.parameters()).is_cuda else 1
        # What is wrong with the model shows here, so that later it is the picture of which an error speaks.
        predict(self.model, [torch.zeros(3, 64, 64, dtype=torch.uint8)])

    def __call__(self, block: Block) -> dict:
        """Do a block. Returns `pictures`, their number, and `errors`, path -> what is wrong."""
        if "error" in block:
            rows = [self._about(path) | {"error": block["error"]} for path in block["paths"]]
        else:
            rows = [row for batch in self._batches(block["paths"]) for row in self._segment(batch)]
        write_part(self.run_folder / f"part-{block['name']}.jsonl", rows)
        return {
            "pictures": len(rows),
            "errors": {row["path"]: row["error"] for row in rows if "error" in row},
        }

    def _batches(self, paths: list[str]) -> Iterator[list[tuple[dict, Tensor | None]]]:
        """Read pictures, and gather neighbours of one size, so that none is padded: each result is as if alone."""
        batch: list[tuple[dict, Tensor | None]] = []
        for path in paths:
            row, image = self._load(path)
            alike = (
                batch and image is not None and batch[0][1] is not None and image.shape == batch[0][1].shape
            )
            if batch and (not alike or len(batch) == self.batch):
                yield batch
                batch = []
            batch.append((row, image))
        yield batch

    def _load(self, path: str) -> tuple[dict, Tensor | None]:
        row = self._about(path)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                image = load_image(self.folder / path)
        except (ImageLoadError, OSError, MemoryError) as error:
            reason = error.reason if isinstance(error, ImageLoadError) else str(error)
            return row | {"error": reason or "does not fit into memory."}, None
        row |= {"width": image.shape[2], "height": image.shape[1]}
        return row | ({"warnings": [str(one.message) for one in caught]} if caught else {}), image

    def _about(self, path: str) -> dict:
        """The start of a row: the path, and by what a change of the file is noticed, taken before it is read."""
        try:
            status = (self.folder / path).stat()
            return {"path": path, "size": status.st_size, "time": status.st_mtime_ns}
        except OSError:
            return {"path": path, "size": None, "time": None}

    def _segment(self, batch: list[tuple[dict, Tensor | None]]) -> list[dict]:
        rows, images = zip(*batch)
        if images[0] is None:
            return list(rows)
        results = zip(rows, self._predict(list(images)))
        return [
            row | ({"error": one} if isinstance(one, str) else {"instances": self._describe(one)})
            for row, one in results
        ]

    def _describe(self, prediction: Prediction) -> list[dict]:
        return describe_instances(prediction, self.categories)

    def _predict(self, images: list[Tensor]) -> list[Prediction | str]:
        """A prediction for each picture, or why there is none."""
        threshold, tile = self.settings["score_threshold"], self.settings["tile"]
        try:
            if tile is None:
                return predict(self.model, images, threshold)
            overlap = tile // 5
            return [predict_tiles(self.model, image, tile, overlap, threshold) for image in images]
        except ValueError as error:  # so long and thin that nothing would be left of it
            return [str(error).removeprefix("Picture 1 ")] * len(images)
        except (MemoryError, RuntimeError) as error:
            # torch's ways to say it: on a GPU a class of its own, on a CPU nothing but words.
            full = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
            if not full and "can't allocate memory" not in str(error):
                raise
        if len(images) == 1:
            height, width = images[0].shape[1:]
            return [f"does not fit into memory with its {width} x {height} pixels."]
        return [one for image in images for one in self._predict([image])]


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 of a model's weights, wherever they came from, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def serve() -> None:
    """Be the worker of another process: a line of JSON in for each block, a line out when it is done.

    The first line holds the arguments of `Worker`. The process ends with the one that started it, whose end closes the
    pipe, even in the middle of a picture.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library may print is no answer
    lines: queue.SimpleQueue = queue.SimpleQueue()

    def watch() -> None:
        for line in sys.stdin:
            lines.put(json.loads(line))
        os._exit(0)

    def answer(value: dict) -> None:
        print(json.dumps(value), file=answers, flush=True)

    threading.Thread(target=watch, daemon=True).start()
    try:
        worker = Worker(*lines.get())
        answer({})
        while True:
            answer(worker(lines.get()))
    except OSError as error:
        answer({"problem": str(error)})
    except Exception:
        answer({"bug": traceback.format_exc()})
