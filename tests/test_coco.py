"""Every notebook also runs with torchvision's COCO model: here with a stand-in of its architecture, untrained."""

from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# The stand-in cannot have the hash that its file's name promises.
PATCH = "import segutils.models\n\nsegutils.models.file_hash = lambda path: path.stem.rsplit('-', 1)[1]"


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory):
    """torch's cache with a model that finds some things, none of them rightly."""
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    with torch.no_grad():  # spread the scores, so that some of them pass the threshold
        model.roi_heads.box_predictor.cls_score.weight.mul_(3)
    home = tmp_path_factory.mktemp("torch")
    file = home / "hub" / "checkpoints" / MaskRCNN_ResNet50_FPN_Weights.DEFAULT.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(model.state_dict(), file)
    return home


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_with_the_coco_model(path, torch_home, monkeypatch):
    monkeypatch.setenv("SEGUTILS_MODEL", "coco")
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    notebook = nbformat.read(path, as_version=4)
    before = [cell.source for cell in notebook.cells]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PATCH))
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()  # raises CellExecutionError with the failing cell
    assert [cell.source for cell in notebook.cells[1:]] == before
