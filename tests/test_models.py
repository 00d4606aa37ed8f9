"""load_model and the bundled Mask R-CNN: torchvision's conventions, whole files, clear errors."""

import pytest
import torch
import torchvision
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from segutils.images import DATA_DIR
from segutils.models import MODELS, MaskRCNN_Tabletop_Weights, downloads, load_model, maskrcnn_tabletop
from segutils.models.downloads import file_hash
from segutils.tabletop import CATEGORIES, render_scene

WEIGHTS = MaskRCNN_Tabletop_Weights.DEFAULT
FILE = DATA_DIR / "weights" / WEIGHTS.url


@pytest.fixture(scope="module")
def tabletop():
    return load_model("tabletop")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's cache, empty, and nothing that reaches a network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(downloads, "urlopen", lambda *_, **__: pytest.fail("a download was tried"))
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: pytest.fail("torch tried a download"))
    return tmp_path / "hub" / "checkpoints"


def test_load_model_gives_an_eval_model_and_its_weights(tabletop, hub):
    model, weights = tabletop
    assert not model.training
    assert weights is WEIGHTS
    assert weights.meta["categories"] == list(CATEGORIES)
    assert next(model.parameters()).dtype == torch.float32


def test_torchvision_s_own_calls_work(tabletop):
    model = get_model("maskrcnn_tabletop", weights="DEFAULT").eval()
    assert get_model_weights("maskrcnn_tabletop") is MaskRCNN_Tabletop_Weights
    x = [WEIGHTS.transforms()(render_scene(5)[0])]
    with torch.inference_mode():
        ours, theirs = tabletop[0](x)[0], model(x)[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_output_is_torchvision_s(tabletop):
    image, _ = render_scene(9)
    with torch.inference_mode():
        output = tabletop[0]([WEIGHTS.transforms()(image)])
    assert [*output[0]] == ["boxes", "labels", "scores", "masks"]
    n = len(output[0]["scores"])
    assert n > 0
    assert output[0]["masks"].shape == (n, 1, *image.shape[1:])
    assert output[0]["labels"].max() < len(CATEGORIES)


def test_random_weights_come_without_a_download(hub):
    one, two = maskrcnn_tabletop(weights=None), maskrcnn_tabletop(box_score_thresh=0.3)
    assert two.roi_heads.score_thresh == 0.3
    assert not torch.equal(*(m.roi_heads.box_predictor.cls_score.weight for m in (one, two)))


def test_the_bundled_file_is_small_half_precision_and_named_by_its_hash():
    assert FILE.stat().st_size <= 8e6
    assert FILE.stem.rsplit("-", 1)[1] == file_hash(FILE)[:8]
    saved = torch.load(FILE, weights_only=True)
    assert {v.dtype for v in saved.values()} == {torch.float16, torch.int64}


def test_the_environment_chooses_the_model(monkeypatch, hub):
    monkeypatch.setenv("SEGUTILS_MODEL", "resnet")
    with pytest.raises(ValueError, match="no model 'resnet'. Choose one of tabletop, coco, coco_v2"):
        load_model()
    assert load_model("tabletop")[1] is WEIGHTS
    monkeypatch.setenv("SEGUTILS_MODEL", "")
    assert load_model()[1] is WEIGHTS


def test_the_device_can_be_named():
    assert next(load_model(device="cpu")[0].parameters()).device.type == "cpu"
    assert next(load_model(device="meta")[0].parameters()).device.type == "meta"


@pytest.mark.parametrize("name", ["coco", "coco_v2"])
def test_coco_models_are_torchvision_s_own(hub, monkeypatch, name):
    """With random weights in the cache; their hash cannot be the true one, so that check is moved aside."""
    build = {"coco": maskrcnn_resnet50_fpn, "coco_v2": maskrcnn_resnet50_fpn_v2}[name]
    weights = MODELS[name][1]
    torch.manual_seed(0)
    stand_in = build(weights=None, weights_backbone=None).state_dict()
    hub.mkdir(parents=True)
    torch.save(stand_in, hub / weights.url.rsplit("/", 1)[1])
    monkeypatch.setattr(downloads, "file_hash", lambda path: path.stem.rsplit("-", 1)[1])
    ours, found = load_model(name, device="cpu")
    assert found is weights and not ours.training

    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: stand_in)
    theirs = build(weights=weights).eval()
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        for a, b in zip(ours.backbone(x).values(), theirs.backbone(x).values(), strict=True):
            assert torch.isfinite(a).all() and a.abs().max() > 0 and torch.equal(a, b)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert counts == [weights.meta["num_params"]] * 2
    for other in ("transform", "rpn", "roi_heads"):  # anchors, thresholds and sizes
        assert repr(getattr(ours, other)) == repr(getattr(theirs, other))


def test_builders_refuse_the_wrong_enum():
    with pytest.raises(TypeError, match="expected MaskRCNN_Tabletop_Weights"):
        maskrcnn_tabletop(weights=torchvision.models.ResNet18_Weights.DEFAULT)
