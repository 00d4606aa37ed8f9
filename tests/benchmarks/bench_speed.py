"""How long a picture takes, on one thread: drawing a scene, the bundled model, torchvision's large one.

`python3 run.py bench` prints the table. Times are medians; nothing is asserted, since machines differ.
"""

import statistics
import time

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from segutils import load_image, load_model, render_scene, resize, sample_images


def milliseconds(action, repeats: int = 20) -> float:
    action()  # the first call warms up
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


@torch.inference_mode()
def test_speed():
    torch.set_num_threads(1)
    scene = render_scene(0)[0] / 255
    coins = load_image(sample_images()["coins"]) / 255
    tabletop = load_model()[0].cpu()
    large = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    print()
    for name, action, repeats in (
        ("render_scene, 640x480", lambda: render_scene(1), 20),
        ("tabletop, a scene of 640x480", lambda: tabletop([scene]), 20),
        ("tabletop, the coins, 384x303", lambda: tabletop([coins]), 20),
        ("maskrcnn_resnet50_fpn (random weights), a scene of 640x480", lambda: large([scene]), 3),
        ("resize to 320", lambda: resize(scene, 320), 20),
    ):
        print(f"{milliseconds(action, repeats):8.1f} ms  {name}")
