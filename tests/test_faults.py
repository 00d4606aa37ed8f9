"""Faults that go through several modules, and those that would end in a wrong answer instead of an error.

tests/README.md lists all faults that the course guards against, with the tests that hold each.
"""

import ast
import copy
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from unchanged import unchanged

from segutils import (
    RoIMasks,
    draw_instances,
    evaluate,
    filter_model_output,
    get_boolean_mask,
    inspect_model_output,
    load_image,
    load_mask,
    load_model,
    predict,
    render_scene,
    resize,
    sample_images,
    show,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def model():
    return load_model("tabletop", device="cpu")[0]


@pytest.fixture(scope="module")
def scene():
    """A picture, and what is really in it."""
    return render_scene(68)


@pytest.fixture(scope="module")
def output(model, scene):
    """What the model finds in the picture: a list of one dict."""
    output = predict(model, [scene[0]])
    assert len(output[0]["scores"]) > 5
    return output


def dense(output):
    """The same output as torchvision gives it: soft masks of the picture's size (here 0 or 1)."""
    return [p | {"masks": (p["masks"] > 0.5).float()} for p in output]


# --- pictures -------------------------------------------------------------------------------------------------


def with_pixel(image, value):
    image = image.clone()
    image[1, 7, 9] = value
    return image


NOT_IN_RANGE = {
    "0 to 255": (lambda image: image.float(), "go from .* to 2[0-9][0-9].*Divide it by 255"),
    "one value of 255": (lambda image: with_pixel(image / 255, 255), "to 255.*Divide it by 255"),
    "normalised": (
        lambda image: (image / 255 - 0.45) / 0.22,
        "go from -.*If it was normalised, undo that first",
    ),
    "one NaN": (lambda image: with_pixel(image / 255, math.nan), "has 1 values that are NaN or infinite"),
    "all NaN": (lambda image: image * math.nan, "has [0-9]+ values that are NaN or infinite"),
    "infinite": (lambda image: with_pixel(image / 255, -math.inf), "has 1 values that are NaN or infinite"),
}


@pytest.mark.parametrize("spoilt", NOT_IN_RANGE)
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_no_stage_takes_floats_beyond_0_to_1(model, scene, output, spoilt, kind):
    spoil, message = NOT_IN_RANGE[spoilt]
    picture = spoil(scene[0])
    if kind == "tensor":
        stages = [lambda: predict(model, [picture])]
    else:
        picture, stages = picture.permute(1, 2, 0).numpy(), []
    stages += [
        lambda: show(picture),
        lambda: show([scene[0], picture]),
        lambda: draw_instances(picture, output[0]),
    ]
    for stage in stages:
        with unchanged(picture, scene[0], output), pytest.raises(ValueError, match=message):
            stage()


def test_what_the_message_advises_gives_the_right_answer(model, scene, output):
    [found] = predict(model, [scene[0].float() / 255])
    assert all(torch.equal(found[key], output[0][key]) for key in ("boxes", "labels", "scores"))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_a_16_bit_photo_gives_what_the_8_bit_one_gives(model, tmp_path, name):
    eight = load_image(sample_images()["coins"])
    sixteen = eight[0].numpy().astype(np.uint16) * 257
    Image.fromarray(sixteen).save(tmp_path / name)
    with unchanged(tmp_path):
        image = load_image(tmp_path / name)
    assert torch.equal(image, eight)
    assert len(predict(model, [image], 0.5)[0]["scores"]) == 24
    # Read by other means, it is refused, not clipped.
    other = torch.from_numpy(sixteen).expand(3, -1, -1)
    for stage in (lambda: predict(model, [other]), lambda: show(other), lambda: resize(other, 50)):
        with unchanged(other), pytest.raises(TypeError, match="uint16"):
            stage()


def test_a_palette_mask_comes_through_files_unharmed(scene, output, tmp_path):
    """The numbers of instances, saved with colours of any kind, are still those numbers when they are read."""
    owner = torch.zeros(scene[0].shape[1:], dtype=torch.uint8)
    for number, mask in enumerate(scene[1]["masks"], start=1):
        owner[mask.bool()] = number
    picture = Image.fromarray(owner.numpy()).convert("P")
    picture.putpalette(np.random.default_rng(3).integers(0, 256, 768, np.uint8).tobytes())
    picture.putdata(owner.flatten().tolist())
    picture.save(tmp_path / "mask.png")
    mask = load_mask(tmp_path / "mask.png")
    assert torch.equal(mask, owner.long())
    target = {
        "labels": scene[1]["labels"],
        "masks": torch.stack([mask == n for n in range(1, len(scene[1]["labels"]) + 1)]),
    }
    expected = {key: scene[1][key] for key in ("labels", "masks")}
    assert torch.equal(draw_instances(scene[0], target), draw_instances(scene[0], expected))


# --- predictions ----------------------------------------------------------------------------------------------


def test_as_many_answers_as_pictures(model, scene, capsys):
    """Nothing takes pictures and answers side by side, so none can drop what the other has too much of."""
    pictures = [scene[0], torch.zeros(3, 40, 60), scene[0][:, :100], torch.rand(3, 30, 30)]
    for count in (1, 2, 4):
        output = predict(model, pictures[:count])
        assert len(output) == len(filter_model_output(output, 0.5)) == len(get_boolean_mask(output)) == count
        assert [tuple(p["masks"].shape[2:]) for p in output] == [tuple(p.shape[1:]) for p in pictures[:count]]
        inspect_model_output(output)
        assert capsys.readouterr().out.count("\npicture ") == count
    with pytest.raises(ValueError, match="There are 4 pictures but 3 titles"):
        show(pictures, ["one", "two", "three"])
    with unchanged(pictures, output):
        with pytest.raises(
            TypeError, match=r"the prediction of one picture, but got the list of all. Use output\[0\]"
        ):
            draw_instances(pictures[0], output)
        # The wrong answer for a picture shows, as long as the sizes differ.
        with pytest.raises(ValueError, match="masks are 60 x 40 pixels .* but the picture is 30 x 30"):
            draw_instances(pictures[3], output[1])


@pytest.mark.parametrize("kind", ["small", "soft", "boolean"])
def test_masks_of_another_size_than_the_picture(scene, output, kind):
    small = resize(scene[0], 320)
    output = {"small": output, "soft": dense(output), "boolean": get_boolean_mask(output)}[kind]
    with unchanged(small, output):
        with pytest.raises(
            ValueError, match=r"masks are 640 x 480 pixels \(width x height\), but the picture is 320 x 240"
        ):
            draw_instances(small, output[0])
    assert draw_instances(scene[0], output[0]).shape == scene[0].shape  # as the message advises


def test_a_lower_threshold_after_a_higher_one_brings_nothing_back(model, scene, output):
    scores = output[0]["scores"]
    low, high = (scores[-1] / 2).item(), scores[2].item()
    with unchanged(output):
        for strict in (filter_model_output(output, high), predict(model, [scene[0]], high)):
            again = filter_model_output(strict, low)
            assert torch.equal(again[0]["scores"], strict[0]["scores"]) and len(again[0]["scores"]) == 3
        assert len(filter_model_output(output, low)[0]["scores"]) == len(
            scores
        )  # from the start: all are there


def test_nothing_found_goes_through_every_stage(model, scene, capsys):
    nothing = predict(model, [scene[0]], 1.0)
    assert len(nothing[0]["scores"]) == 0 and len(nothing[0]["masks"]) == 0
    with unchanged(nothing, scene[0]):
        inspect_model_output(nothing)
        boolean = get_boolean_mask(filter_model_output(nothing, 0.5))
        assert boolean[0]["masks"].shape == (0, *scene[0].shape[1:])
        for prediction in (nothing[0], boolean[0]):
            drawn = draw_instances(scene[0], prediction)
            assert torch.equal(drawn, scene[0]) and drawn.data_ptr() != scene[0].data_ptr()
    assert capsys.readouterr().out == "1 picture\npicture 1: no instances\n"


def test_scores_that_are_nan_do_not_better_the_average_precision(scene, output):
    image, target = scene
    spoilt = dense(output)
    spoilt[0]["scores"] = spoilt[0]["scores"].clone()
    spoilt[0]["scores"][3] = math.nan
    with unchanged(spoilt, image, target):
        with pytest.raises(ValueError, match=r"scores that are NaN \(not a number\): 1 of"):
            evaluate(spoilt, [target])
    assert 0.3 < evaluate(dense(output), [target])["AP"] < 1


# --- devices and memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("picture_on", DEVICES)
@pytest.mark.parametrize("output_on", DEVICES)
def test_pictures_and_outputs_may_lie_on_different_devices(model, scene, output, picture_on, output_on):
    image = scene[0].to(picture_on)
    for here in (output, dense(output)):
        moved = [{key: value.to(output_on) for key, value in p.items()} for p in here]
        with unchanged(image, moved):
            inspect_model_output(moved)
            kept = filter_model_output(moved, 0.5)
            boolean, expected = get_boolean_mask(kept), filter_model_output(here, 0.5)
            for key, value in boolean[0].items():
                assert value.device.type == output_on  # nothing is moved behind the reader's back
                if key != "masks":
                    assert torch.equal(value.cpu(), expected[0][key])
            differing = boolean[0]["masks"].cpu() != get_boolean_mask(expected)[0]["masks"]
            assert differing.float().mean() < 1e-5  # a GPU may round the last digit otherwise
            for prediction in (kept[0], boolean[0]):
                drawn = draw_instances(image, prediction)
                in_one_place = {key: value.cpu() for key, value in prediction.items()}
                assert (
                    torch.equal(drawn, draw_instances(scene[0], in_one_place)) and drawn.device.type == "cpu"
                )
            show([image, boolean[0]["masks"][0], drawn])
    with unchanged(image):
        [found] = predict(copy.deepcopy(model).to(output_on), [image])
    assert all(found[key].device.type == output_on for key in ("boxes", "labels", "scores"))


def test_memory_is_reckoned_before_it_is_taken(monkeypatch):
    """50 instances in a picture of 48 megapixels: refused before anything of that size is made."""
    corners = torch.rand(50, 2) * 2000
    boxes = torch.cat([corners, corners + 500], 1)
    huge = [
        {
            "boxes": boxes,
            "labels": torch.ones(50, dtype=torch.int64),
            "scores": torch.linspace(0.95, 0.05, 50),
            "masks": RoIMasks(torch.rand(50, 1, 28, 28), boxes, (6000, 8000)),
        }
    ]
    with unchanged(huge), monkeypatch.context() as patch:
        patch.setattr(np, "zeros", lambda *_, **__: pytest.fail("memory was taken"))
        with pytest.raises(
            MemoryError, match="50 masks of 6000 x 8000 pixels would take 2.4 GB, .*filter_model_output"
        ):
            get_boolean_mask(huge)
    few = get_boolean_mask(filter_model_output(huge, 0.9))  # the first way out that the message names
    assert few[0]["masks"].shape == (3, 6000, 8000)


def test_drawing_a_large_picture_pastes_no_mask(scene, output, monkeypatch):
    large = torch.nn.functional.interpolate(scene[0][None], scale_factor=4)[0]
    masks = output[0]["masks"]
    found = output[0] | {
        "boxes": masks.boxes * 4,
        "masks": RoIMasks(masks.probs, masks.boxes * 4, tuple(large.shape[1:])),
    }
    monkeypatch.setattr(RoIMasks, "paste", lambda *_: pytest.fail("pasted"))
    with unchanged(large, found):
        assert not torch.equal(draw_instances(large, found), large)


# --- training targets, as far as something takes them -----------------------------------------------------------


def test_masks_of_0_and_255_count_as_masks(scene, output):
    image, target = scene
    loud = target | {"masks": target["masks"].to(torch.uint8) * 255}
    with unchanged(image, loud):
        assert torch.equal(draw_instances(image, loud), draw_instances(image, target))
        assert torch.equal(get_boolean_mask([loud])[0]["masks"], target["masks"].bool())
        assert evaluate(output, [loud])["AP"] == evaluate(output, [target])["AP"]


def test_an_empty_target_and_an_empty_list_of_boxes(scene):
    image = scene[0]
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert torch.equal(draw_instances(image, none), image)
    shapeless = none | {"boxes": torch.tensor([])}  # what torch makes of an empty list
    with unchanged(image, shapeless), pytest.raises(ValueError, match=r"boxes must be \[N, 4\], not \[0\]"):
        draw_instances(image, shapeless)


def test_boxes_given_as_x_y_w_h(scene):
    image, target = scene
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    wrong = target | {"boxes": torch.stack([x1, y1, x2 - x1, y2 - y1], 1)}
    with (
        unchanged(image, wrong),
        pytest.raises(ValueError, match="Some of these are not: are they x, y, w, h"),
    ):
        draw_instances(image, wrong)


# --- the tests themselves -------------------------------------------------------------------------------------


def calls_in(path):
    """The names of all functions called in a file, with the names and values of their keyword arguments."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            yield name, {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def test_no_test_and_no_code_asks_torchvision_for_a_backbone_of_its_own():
    """Left out, `weights_backbone` makes some builders fetch 100 MB, even with `weights=None`."""
    counted = 0
    for path in [
        *TESTS.rglob("*.py"),
        *(TESTS.parent / "segutils").rglob("*.py"),
        *(TESTS.parent / "tools").glob("*.py"),
    ]:
        for name, arguments in calls_in(path):
            if re.fullmatch(r"(mask|faster|keypoint)rcnn_(resnet50|mobilenet)\w+", name) or name == "build":
                counted += name != "build"
                if arguments.get("weights") == "None" or name != "build":
                    assert arguments.get("weights_backbone") == "None", f"{path.name}: {name}({arguments})"
    assert counted >= 5


def test_the_list_of_faults_is_complete_and_names_tests_that_exist():
    lines = (TESTS / "README.md").read_text("utf-8").splitlines()
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d", line)
    ]
    assert [int(number) for number, *_ in table] == list(range(1, 57))
    for number, fault, now, held_by in table:
        named = re.findall(r"`(test_\w+\.py)::(\w+)`", held_by)
        assert fault and now and (named or "later: " in held_by or "not tested: " in held_by), f"row {number}"
        for file, test in named:
            functions = ast.walk(ast.parse((TESTS / file).read_text("utf-8")))
            assert test in {f.name for f in functions if isinstance(f, ast.FunctionDef)}, (
                f"row {number}: {file}::{test}"
            )
