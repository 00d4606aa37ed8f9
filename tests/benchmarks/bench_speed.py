"""How long a picture takes, on one thread: the bundled model, torchvision's large one, drawing a scene.

`python3 run.py bench -k speed` prints the table. Times are medians, each measured in a process of its own; nothing is
asserted, since machines differ.
"""

from measuring import duration, measure, ratio
from torchvision.models.detection import maskrcnn_resnet50_fpn

from segutils import load_image, load_model, predict, render_scene, resize, sample_images

SCENE, COINS = "a scene, 640x480", "the coins, 384x303"


def picture(name):
    return render_scene(0)[0] if name == SCENE else load_image(sample_images()["coins"])


def tabletop(name):
    model, image = load_model("tabletop", device="cpu")[0], picture(name) / 255
    return lambda: model([image])


def tabletop_predict(name):
    model, image = load_model("tabletop", device="cpu")[0], picture(name)
    return lambda: predict(model, [image])


def resnet50(name):
    # With random weights: the time is that of the trained model, except for the masks of what it would find.
    model, image = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval(), picture(name) / 255
    return lambda: model([image])


def drawing_a_scene(name):
    return lambda: render_scene(1)


def resizing(name):
    image = picture(name)
    return lambda: resize(image, 320)


def test_speed():
    print("\n\n| what | picture | a picture takes | share of ResNet-50's |\n|---|---|---|---|")
    for name in (SCENE, COINS):
        large = measure(resnet50, name, warm_up=(name,))
        print(f"| maskrcnn_resnet50_fpn (random weights) | {name} | {duration(large.seconds)} | 1 |")
        for what, way in (("tabletop", tabletop), ("tabletop, with predict", tabletop_predict)):
            took = measure(way, name, warm_up=(name,)).seconds
            print(f"| {what} | {name} | {duration(took)} | {ratio(large.seconds, took)} |", flush=True)
    for what, way in (("render_scene", drawing_a_scene), ("resize to 320", resizing)):
        print(f"| {what} | {SCENE} | {duration(measure(way, SCENE, warm_up=(SCENE,)).seconds)} | |")
