"""load_model and the bundled Mask R-CNN: torchvision's conventions, whole files, clear errors."""

import shutil

import pytest
import torch
import torchvision
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from unchanged import unchanged

from segutils import add_classes, predict, replace_predictors, save_model
from segutils.images import DATA_DIR
from segutils.models import MODELS, MaskRCNN_Tabletop_Weights, downloads, load_model, maskrcnn_tabletop
from segutils.models.downloads import file_hash
from segutils.models.semantic import load_semantic_model
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


SKY = ["__background__", "galaxy", "star"]


@pytest.fixture(scope="module")
def own_file(tabletop, tmp_path_factory):
    """A file of a model of one's own: more classes, smaller pictures, another threshold."""
    model, names = add_classes(tabletop[0], CATEGORIES, ["galaxy"])
    model.transform.min_size, model.roi_heads.score_thresh = (320,), 0.3
    return model, names, save_model(model, tmp_path_factory.mktemp("own") / "sub" / "own.pth", names)


def test_a_model_of_one_s_own_comes_back_bit_for_bit(own_file, monkeypatch):
    model, names, path = own_file
    assert [file.name for file in path.parent.iterdir()] == ["own.pth"]
    image, _ = render_scene(7)
    expected = predict(model, [image])[0]
    monkeypatch.setenv("SEGUTILS_MODEL", str(path))
    for loaded, weights in (
        load_model(path, device="cpu"),
        load_model(str(path), device="cpu"),
        load_model(),
    ):
        assert not loaded.training and weights.meta["categories"] == names
        assert loaded.transform.min_size == (320,) and loaded.roi_heads.score_thresh == 0.3
        found = predict(loaded.cpu(), [image])[0]
        assert len(found["labels"]) > 0 and found["scores"].min() >= 0.3
        assert all(torch.equal(found[key], expected[key]) for key in ("boxes", "labels", "scores"))
        assert torch.equal(found["masks"].probs, expected["masks"].probs)
        assert torch.equal(weights.transforms()(image), WEIGHTS.transforms()(image))
    assert load_semantic_model()[1].meta["categories"] == list(CATEGORIES)  # which no such file changes


def test_half_precision_halves_the_file_and_refuses_what_it_cannot_hold(own_file, tmp_path):
    model, names, path = own_file
    with unchanged(model.state_dict()):
        small = save_model(model, tmp_path / "small.pth", names, half=True)
    assert small.stat().st_size < 8e6 and small.stat().st_size < 0.52 * path.stat().st_size
    back = load_model(small, device="cpu")[0].state_dict()
    for key, value in model.state_dict().items():
        assert back[key].dtype == value.dtype and torch.allclose(back[key], value, rtol=2**-11, atol=1e-3)
    large, _ = add_classes(model, names, ["star"])
    with torch.no_grad():
        large.roi_heads.box_predictor.cls_score.bias[0] = 1e5
    with pytest.raises(ValueError, match="cls_score.bias holds numbers that are .* too large for half=True"):
        save_model(large, small, [*names, "star"], half=True)
    assert load_model(small)[1].meta["categories"] == names  # the file that was there is whole


@pytest.mark.parametrize("name", ["coco", "coco_v2"])
def test_fine_tuned_coco_models_come_back(name, tmp_path, hub):
    torch.manual_seed(0)
    model = replace_predictors(MODELS[name][0](), SKY)
    path = save_model(model, tmp_path / "own.pth", SKY)
    loaded, weights = load_model(path, device="cpu")
    assert weights.meta == {"categories": SKY, "architecture": name}
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    for part in ("transform", "backbone", "rpn", "roi_heads"):
        assert repr(getattr(loaded, part)) == repr(getattr(model, part))


def test_what_cannot_be_saved_is_refused(tabletop, tmp_path):
    path = tmp_path / "own.pth"
    with pytest.raises(ValueError, match="has 12 classes .with the background., but categories has 3 names"):
        save_model(tabletop[0], path, SKY)
    with torch.device("meta"):
        others = [
            maskrcnn_resnet50_fpn(
                weights=None, weights_backbone=None, num_classes=3
            ),  # its batch norms learn
            torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights_backbone=None),
        ]
    anchors = replace_predictors(tabletop[0], SKY)
    anchors.rpn.anchor_generator.sizes = ((16,), (32,), (64,), (128,))
    for other in (*others, anchors):
        with pytest.raises(
            TypeError, match=r"save_model keeps Mask R-CNNs as load_model builds them .tabletop, "
        ):
            save_model(other, path, SKY)
    broken = replace_predictors(tabletop[0], SKY)
    with torch.no_grad():
        broken.roi_heads.box_predictor.cls_score.bias[0] = float("nan")
    with pytest.raises(ValueError, match="cls_score.bias holds numbers that are NaN or infinite.$"):
        save_model(broken, path, SKY)
    assert not path.exists()


def test_files_that_hold_no_model_of_ours_are_refused(own_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere.pth .looked for in"):
        load_model(tmp_path / "nowhere.pth")
    path = tmp_path / "own.pth"
    torch.save(own_file[0].state_dict(), path)
    with pytest.raises(ValueError, match=r"own.pth was not written by save_model.model, path, categories."):
        load_model(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"own.pth cannot be read: it's damaged, or no file of save_model"):
        load_model(path)
    shutil.copy(own_file[2], path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # broken off
    with pytest.raises(ValueError, match="own.pth cannot be read"):
        load_model(path)
    middle = len(whole) // 2  # one byte of the weights, which torch itself reads without a word
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match="own.pth is damaged: .* is not what was written. Copy it again"):
        load_model(path)


def test_no_code_in_a_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file ran code",))

    path = tmp_path / "trap.pth"
    torch.save({"architecture": Trap(), "categories": SKY, "settings": {}, "weights": {}}, path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(path)
