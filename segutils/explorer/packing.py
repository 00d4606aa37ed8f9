"""What `explorer.js` gets: pictures, instances and things as JSON, at the size of the screen.

The module enlarges, cuts, matches and draws by itself. It gets the 28 x 28 masks as the network made them, so all that
belongs to a picture takes little more than the picture.
"""

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from segutils.drawing import Color, class_colors
from segutils.evaluation import crowd_rows
from segutils.predictions import Prediction, label_name, mask_crops
from segutils.rle import encode_rle
from segutils.roi_masks import RoIMasks

MIME = "application/vnd.segutils.explorer+json"
"""The type of what `pack` returns, among the outputs of a notebook."""

MAX_BYTES = 800_000
"""A notebook keeps no more than this for an explorer."""

HEIGHT, WIDTH = 500, 860
"""The shown picture fits into this, in pixels, so that sliders and picture are on a laptop's screen together."""

VIEW = {
    "picture": 0,
    "score_threshold": 0.5,
    "mask_threshold": 0.5,
    "alpha": 0.45,
    "price": 1.0,
    "masks": True,
    "outlines": True,
    "boxes": True,
    "labels": True,
    "dropped": False,
    "missed": True,
}
"""What is shown first, of all classes."""


def pack(
    images: Sequence[Tensor],
    predictions: Sequence[Prediction],
    categories: Sequence[str],
    targets: Sequence[Prediction] | None = None,
    *,
    several: bool = False,
) -> dict:
    """Pack pictures, predictions and targets, which `explore` has checked and brought to the CPU, for `explorer.js`.

    several: whether they came as lists. Each picture is then packed as large as it is shown, else twice that for sharp
        screens, but never larger than it is.

    Returns a dict that can be written as JSON:

    - version: 1; has_target, several: bool; categories, colors: name and RGB of each label, its number as text the key;
      classes: these labels, the most found first; view: what is shown first.
    - pictures, for each: size and full_size, [width, height] as it is shown and as it is; jpeg: base64; labels; scores,
      float32 values; boxes, [[x1, y1, x2, y2], ...] in pixels of the shown size; masks; things.
    - masks: {"kind": "roi", "side": 28, "values": base64 of uint8 [N * 28 * 28], 255 for 1}, with boxes too where they
      are not those of the instances; or {"kind": "soft", "frames": [[left, top, width, height], ...], "values": base64
      of uint8, frame after frame}; or {"kind": "boolean", "rle": COCO's counts}. The last two have the shown size.
    - things: None without targets; else labels, crowds, rle at the shown size, and full_areas, in pixels of the whole.
    """
    true = targets or []
    found = Counter(label for prediction in predictions for label in prediction["labels"].tolist())
    colors = shared_colors(predictions, true)
    classes = sorted(colors, key=lambda label: (-found[label], label))
    return {
        "version": 1,
        "categories": {str(label): label_name(label, categories) for label in classes},
        "colors": {str(label): list(colors[label]) for label in classes},
        "classes": classes,
        "has_target": targets is not None,
        "several": several,
        "view": VIEW | {"classes": classes},
        "pictures": [
            _pack_picture(image, prediction, target, sharpness=1 if several else 2)
            for image, prediction, target in zip(
                images, predictions, true or [None] * len(images), strict=True
            )
        ],
    }


def for_a_notebook(payload: dict) -> dict | None:
    """What a notebook keeps, for pages made from it: of several pictures, small ones; None where it is too much."""
    if payload["several"]:
        smaller = [picture | {"jpeg": _smaller(picture["jpeg"])} for picture in payload["pictures"]]
        payload = payload | {"pictures": smaller}
    return payload if len(json.dumps(payload)) <= MAX_BYTES else None


def _smaller(jpeg: str) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(jpeg)))
    picture.thumbnail((360, 360))
    return _to_jpeg(picture, quality=60)


def shared_colors(predictions: Sequence[Prediction], targets: Sequence[Prediction]) -> dict[int, Color]:
    """The colours of all classes in some pictures. Those of targets choose last: the others get what they get alone."""
    labels = [one["labels"] for one in (*predictions, *targets)]
    scores = [prediction["scores"] for prediction in predictions]
    scores += [torch.full((len(target["labels"]),), -1.0) for target in targets]
    return class_colors({"labels": torch.cat(labels), "scores": torch.cat(scores)})


def shown_size(image: Tensor) -> tuple[int, int]:
    """Height and width of a picture on the screen. Small pictures are enlarged, twice at most."""
    height, width = image.shape[1:]
    scale = min(HEIGHT / height, WIDTH / width, 2)
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_size(prediction: Prediction, size: tuple[int, int]) -> Prediction:
    """Bring the boxes and masks of a prediction or target to another size, (height, width), of its picture."""
    masks = prediction["masks"]
    height, width = masks.shape[-2:]
    scales = torch.tensor([size[1] / width, size[0] / height]).repeat(2)
    if isinstance(masks, RoIMasks):
        masks = RoIMasks(masks.probs, masks.boxes * scales, size)
    else:  # the nearest pixels: soft and boolean masks keep their kind
        rows, columns = (((torch.arange(n) + 0.5) * old / n).long() for n, old in zip(size, (height, width)))
        masks = masks[..., rows[:, None], columns]
    boxes = {"boxes": prediction["boxes"] * scales} if "boxes" in prediction else {}
    return prediction | boxes | {"masks": masks}


def _pack_picture(image: Tensor, prediction: Prediction, target: Prediction | None, sharpness: int) -> dict:
    size = shown_size(image)
    shown = to_size(prediction, size)
    jpeg_size = [min(sharpness * side, full) for side, full in zip(size, image.shape[1:])]
    picture = F.to_pil_image(F.resize(image, jpeg_size, antialias=True))
    return {
        "size": [size[1], size[0]],
        "full_size": [image.shape[2], image.shape[1]],
        "jpeg": _to_jpeg(picture, quality=85, subsampling=0),
        "labels": prediction["labels"].tolist(),
        "scores": prediction["scores"].float().tolist(),
        "boxes": shown["boxes"].float().tolist(),
        "masks": _pack_masks(shown["masks"], shown["boxes"]),
        "things": None if target is None else _pack_things(target, size),
    }


def _pack_masks(masks: Tensor | RoIMasks, boxes: Tensor) -> dict:
    """Pack masks of the shown size."""
    if isinstance(masks, RoIMasks):
        values = (255 * masks.probs).round().byte().numpy()
        packed = {"kind": "roi", "side": masks.probs.shape[-1], "values": _as_text(values.tobytes())}
        return packed if torch.equal(masks.boxes, boxes) else packed | {"boxes": masks.boxes.float().tolist()}
    if not masks.is_floating_point():
        return {"kind": "boolean", "rle": _to_rle(masks)}
    values = (255 * masks.reshape(-1, *masks.shape[-2:])).round().byte()
    crops = mask_crops(values)  # around all that is not 0
    frames = [[left, top, mask.shape[1], mask.shape[0]] for left, top, mask in crops]
    parts = [value[top : top + h, left : left + w] for value, (left, top, w, h) in zip(values, frames)]
    return {
        "kind": "soft",
        "frames": frames,
        "values": _as_text(b"".join(part.numpy().tobytes() for part in parts)),
    }


def _pack_things(target: Prediction, size: tuple[int, int]) -> dict:
    crops = mask_crops(target["masks"])
    return {
        "labels": target["labels"].tolist(),
        "crowds": crowd_rows(target).tolist(),
        "rle": _to_rle(to_size(target, size)["masks"]),
        "full_areas": [int(torch.count_nonzero(crop.mask)) for crop in crops],
    }


def _to_rle(masks: Tensor | RoIMasks) -> list[str]:
    return [rle["counts"] for rle in encode_rle(mask_crops(masks), masks.shape[-2:])]


def _to_jpeg(picture: Image.Image, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="jpeg", **options)
    return _as_text(buffer.getvalue())


def _as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()
