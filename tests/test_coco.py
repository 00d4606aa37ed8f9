"""Every notebook also runs with torchvision's COCO model: here with stand-ins of its architecture, untrained."""

from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn
from torchvision.models.segmentation import FCN_ResNet50_Weights, fcn_resnet50

from segutils import load_image, load_model, sample_images

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# 10a, 10b, 11b and 13b train, on a CPU, and 11a wants an opinion on drawn things: they ask for the bundled model by
# name.
NOTEBOOKS = [path for path in NOTEBOOKS if not path.stem.startswith(("10", "11", "13b"))]
WEIGHTS = MaskRCNN_ResNet50_FPN_Weights.DEFAULT
NAMES = WEIGHTS.meta["categories"]
FOUND = [NAMES.index(name) for name in ("person", "cat", "cup", "spoon", "tie", "book", "donut", "chair")]

# The stand-ins cannot have the hash that their file's name promises, and what counts in the true model, a short
# side of 800 pixels and 1000 proposals, takes seconds for a picture.
PATCH = """\
import functools, segutils.models.downloads

def hash_in_the_name(path):
    return path.stem.rsplit("-", 1)[1]

segutils.models.downloads.file_hash = hash_in_the_name
build, weights = segutils.models.MODELS["coco"]
segutils.models.MODELS["coco"] = functools.partial(
    build, min_size=128, max_size=224, rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_test=100
), weights

from torchvision.transforms._presets import SemanticSegmentation

def small(self, image, forward=SemanticSegmentation.forward):
    if self.resize_size == [520]:  # COCO's
        self.resize_size = [160]
    return forward(self, image)

SemanticSegmentation.forward = small

# The workers of a folder are processes of their own, where none of this holds: so they work in this one.
from segutils.folder import engines

def in_this_process(blocks, arguments, workers):
    worker = engines.Worker(*arguments)
    while block := blocks.take():
        yield worker(block)

engines.ENGINES["local"] = in_this_process
"""


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """Two of torch's caches, each with a file of weights: a model that finds eight things, and one that finds none."""
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=128).eval()
    seen = []
    model.roi_heads.box_head.register_forward_hook(lambda module, inputs, features: seen.append(features))
    homes = {}
    with torch.no_grad():
        model([WEIGHTS.transforms()(load_image(sample_images()["astronaut"]))])
        usual = seen[0].mean(dim=0)
        classes, boxes = model.roi_heads.box_predictor.cls_score, model.roi_heads.box_predictor.bbox_pred
        # Boxes as large as they get: the whole picture, once for each class.
        model.rpn.head.bbox_pred.weight.zero_()
        boxes.weight.zero_()
        boxes.bias.fill_(100).view(-1, 4)[:, :2] = 0
        # Which of the eight classes a proposal gets depends on what sets it apart from the usual one.
        directions = torch.randn(len(FOUND), len(usual))
        classes.weight[FOUND] = 0.1 * (directions - (directions @ usual / (usual @ usual))[:, None] * usual)
        classes.bias.fill_(-1e6)[FOUND] = 0
        for kind, background in [("finds_several", -1e6), ("finds_nothing", 1e6)]:
            classes.bias[0] = background
            homes[kind] = tmp_path_factory.mktemp(kind)
            file = homes[kind] / "hub" / "checkpoints" / WEIGHTS.url.rsplit("/", 1)[1]
            file.parent.mkdir(parents=True)
            state = model.state_dict()  # the true file was saved with batch norms that count nothing
            torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, file)
        semantic = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
        for kind, background in [("finds_several", 0), ("finds_nothing", 1e6)]:
            semantic.classifier[-1].bias[0] = background
            url = FCN_ResNet50_Weights.DEFAULT.url
            torch.save(semantic.state_dict(), homes[kind] / "hub" / "checkpoints" / url.rsplit("/", 1)[1])
    return homes


@pytest.mark.parametrize("kind", ["finds_several", "finds_nothing"])
def test_stand_in_is_what_it_is_called(kind, stand_ins, monkeypatch):
    [file] = stand_ins[kind].rglob("maskrcnn*.pth")
    [semantic_file] = stand_ins[kind].rglob("fcn*.pth")
    semantic_size = FCN_ResNet50_Weights.DEFAULT.meta["_file_size"]
    assert semantic_file.stat().st_size / 2**20 == pytest.approx(semantic_size, rel=0.01)
    assert file.stat().st_size / 2**20 == pytest.approx(WEIGHTS.meta["_file_size"], rel=0.01)
    monkeypatch.setenv("TORCH_HOME", str(stand_ins[kind]))
    monkeypatch.setattr("segutils.models.downloads.file_hash", lambda path: path.stem.rsplit("-", 1)[1])
    model, weights = load_model("coco", device="cpu")
    model.transform.min_size = (128,)  # as in PATCH
    with torch.inference_mode():
        [found] = model([weights.transforms()(load_image(sample_images()["chelsea"]))])
    if kind == "finds_nothing":
        assert len(found["scores"]) == 0
    else:
        sure = found["labels"][found["scores"] > 0.8].tolist()
        assert 4 <= len(set(sure)) and len(found["scores"]) <= 10


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("kind", ["finds_several", "finds_nothing"])
def test_notebook_runs_with_the_coco_model(kind, path, stand_ins, monkeypatch):
    """Whether it finds several things or nothing at all."""
    monkeypatch.setenv("TORCH_HOME", str(stand_ins[kind]))
    monkeypatch.setenv("SEGUTILS_MODEL", "coco")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PATCH))
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()  # raises CellExecutionError with the failing cell
    says_so = any("describes the bundled model" in o.get("text", "") for o in notebook.cells[2].outputs)
    assert says_so == any("load_model(" in cell.source for cell in notebook.cells[3:])
