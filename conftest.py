"""What nbval leaves out when it runs the notebooks as tests: pictures are compared, and warnings are named.

Relies on attributes of nbval 0.11.0 that it does not document, which is why pyproject.toml pins it.
"""

import base64
import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.testing.compare import calculate_rms
from nbval.plugin import IPyNbCell, NbCellError
from PIL import Image

# Of 255. Other versions of FreeType or libjpeg move a few pixels, a changed picture moves many.
RMS_TOLERANCE = 10.0

# What the explorer leaves for pages, its picture as JPEG included. The still and the words beside it are compared.
EXPLORER = "application/vnd.segutils.explorer+json"


def pytest_configure(config):
    matplotlib.use("agg")  # for unit tests: no windows. Notebooks run in kernels of their own.
    config.option.nbval_sanitize_with = str(Path(__file__).parent / "tests" / "sanitize.cfg")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    item.parent.skip_compare = (*item.parent.skip_compare, EXPLORER)
    try:
        result = yield
    except NbCellError as error:
        if str(error) == "Cell outputs differ":
            fail_on_stderr(item)
        raise
    fail_on_stderr(item)
    if item.options["check"]:
        compare_pictures(item)
    return result


def fail_on_stderr(item):
    """A cell writes nothing to stderr: a warning is mended at its cause, and a misspelt magic is an error."""
    text = "".join(output.text for output in item.test_outputs if output.get("name") == "stderr")
    if text:
        item.raise_cell_error("The cell wrote to stderr", text)


def compare_pictures(item):
    """Compare the pictures under a cell with those in the notebook, pixel by pixel."""
    old_pictures, new_pictures = pictures(item.cell.outputs), pictures(item.test_outputs)
    if len(old_pictures) != len(new_pictures):
        counts = f"{len(old_pictures)} in the notebook, {len(new_pictures)} now"
        item.raise_cell_error(f"The number of pictures changed: {counts}")
    for number, (old, new) in enumerate(zip(old_pictures, new_pictures), start=1):
        if old.shape != new.shape:
            item.raise_cell_error(
                f"Picture {number} changed its size: {old.shape[1::-1]} -> {new.shape[1::-1]}"
            )
        rms = calculate_rms(old, new)
        if rms > RMS_TOLERANCE:
            item.raise_cell_error(f"Picture {number} changed: RMS {rms:.1f} > {RMS_TOLERANCE}")


def pictures(outputs):
    """Decode the picture of every output that has one, PNG or JPEG, to an array [H, W, 4]."""
    arrays = []
    for data in (output.get("data", {}) for output in outputs):
        encoded = data.get("image/png") or data.get("image/jpeg")
        if encoded:
            picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
            arrays.append(np.asarray(picture, np.int16))  # not uint8, in which 99 - 100 is 255
    return arrays
