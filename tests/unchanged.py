"""`with unchanged(image, output): ...` fails when the code in it changes anything that was handed in."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segutils import RoIMasks


@contextmanager
def unchanged(*things):
    """Compare before and after: tensors, arrays, pictures, masks, files and folders, in lists and dicts too."""
    before = [_print(thing) for thing in things]
    yield
    assert [_print(thing) for thing in things] == before


def _print(thing):
    """All there is to know about a thing, in a form that can be compared; NaN is equal to itself."""
    if isinstance(thing, torch.Tensor):
        values = thing.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return (
            str(thing.dtype),
            str(thing.device),
            thing.requires_grad,
            tuple(thing.shape),
            values.numpy().tobytes(),
        )
    if isinstance(thing, np.ndarray):
        return str(thing.dtype), thing.shape, thing.tobytes()
    if isinstance(thing, RoIMasks):
        return _print([thing.probs, thing.boxes]), thing.image_size
    if isinstance(thing, Image.Image):
        return thing.mode, thing.size, thing.tobytes()
    if isinstance(thing, dict):
        return [(key, _print(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [_print(value) for value in thing]
    if isinstance(thing, Path):
        if thing.is_dir():
            return sorted((file.name, _print(file)) for file in thing.iterdir())
        return thing.read_bytes() if thing.exists() else None
    return repr(thing)
