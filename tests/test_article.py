"""The steps of the article that the course grew out of run on our functions, and its functions on our data.

Its code is not copied: the steps and the two functions are told again in our own words.
"""

import matplotlib.pyplot as plt
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.transforms import Resize
from torchvision.utils import draw_segmentation_masks, make_grid

from segutils.display import show
from segutils.drawing import draw_instances
from segutils.images import load_image, sample_images
from segutils.predictions import filter_model_output, get_boolean_mask, inspect_model_output


@pytest.fixture(scope="module")
def pictures():
    samples = sample_images()
    return [Resize((100, 100))(load_image(samples[name])) for name in ("astronaut", "chelsea")]


@pytest.fixture(scope="module")
def model_output(pictures):
    """What the article's model gives, with random weights: of the true form, gradients included."""
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, progress=False,
        min_size=64, max_size=64, box_score_thresh=0.0, box_detections_per_img=6,
    )  # fmt: skip
    model = model.eval()
    output = model([picture / 255 for picture in pictures])
    assert [len(p["scores"]) for p in output] == [6, 6] and output[0]["masks"].requires_grad
    return output


def snapshot(output):
    return [{key: value.clone() for key, value in p.items()} for p in output]


def equal(output, other):
    return len(output) == len(other) and all(
        p.keys() == q.keys() and all(torch.equal(p[key], q[key]) for key in p)
        for p, q in zip(output, other, strict=True)
    )


def test_the_articles_steps_run_on_our_functions(pictures, model_output, capsys):
    before = snapshot(model_output)
    show(make_grid(pictures))
    inspect_model_output(model_output)
    assert "picture 2: 6 instances" in capsys.readouterr().out

    # Random weights score low. At this threshold each picture keeps at least four of its six instances.
    threshold = min(p["scores"][3].item() for p in model_output)
    output = filter_model_output(output=model_output, score_threshold=threshold)
    output = get_boolean_mask(output)
    assert min(len(p["masks"]) for p in output) == 4

    show(
        [
            draw_segmentation_masks(picture, prediction.get("masks"), alpha=0.9)
            for picture, prediction in zip(pictures, output, strict=True)
        ]
    )
    show([draw_instances(picture, prediction) for picture, prediction in zip(pictures, output, strict=True)])
    assert plt.get_fignums() == []
    assert equal(model_output, before)


def articles_filter(output, score_threshold):
    """Filter every entry of every dict by score, as the article does."""
    return [
        {name: rows[prediction["scores"] >= score_threshold] for name, rows in prediction.items()}
        for prediction in output
    ]


def articles_masks(output):
    """Put boolean masks in the place of soft ones, in the dicts it is given, as the article does."""
    for prediction in output:
        prediction["masks"] = (prediction["masks"] > 0.5).squeeze(1)
    return output


@pytest.mark.parametrize("kept", [0, 1, 4, 6])
def test_the_articles_functions_run_on_our_predictions(model_output, kept):
    scores = model_output[0]["scores"]
    threshold = 1.0 if kept == 0 else scores[kept - 1].item()
    ours = filter_model_output(model_output, threshold)
    assert len(ours[0]["scores"]) == kept
    assert equal(articles_filter(model_output, threshold), ours)
    # Each takes what the other gives, in any mixture.
    assert equal(articles_filter(ours, threshold), ours)
    boolean = get_boolean_mask(ours)
    assert equal(articles_filter(get_boolean_mask(model_output), threshold), boolean)
    assert equal(articles_masks(snapshot(ours)), boolean)
    assert equal(get_boolean_mask(articles_masks(snapshot(ours))), boolean)
