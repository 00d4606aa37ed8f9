"""Everything `setup_check` can find wrong is put in front of it once, and the message read."""

import hashlib
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from segutils import images

ROOT = Path(__file__).resolve().parents[1]
setup_check = importlib.import_module(
    "segutils.setup_check"
)  # the module: the package has a function of that name


@pytest.fixture
def data_dir(tmp_path, monkeypatch) -> Path:
    """A data folder of one file, listed in its README."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.pth").write_bytes(b"weights")
    row = f"| `weights/w.pth` | ours | MIT | `{hashlib.sha256(b'weights').hexdigest()}` |"
    (tmp_path / "README.md").write_text(f"# Data\n\n| file | origin |\n|---|---|\n{row}\n", "utf-8")
    monkeypatch.setattr(images, "DATA_DIR", tmp_path)
    return tmp_path


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_one_line_for_each_answer(data_dir, capsys):
    assert setup_check.setup_check() is True
    starts = [
        "Python ",
        "packages: torch ",
        "torch and ",
        "device: ",
        "room: ",
        "data and weights: 1",
        "widgets: ",
    ]
    assert [line.startswith(f"OK    {start}") for line, start in zip(lines(capsys), starts, strict=True)] == [
        True
    ] * 7


def test_an_old_python(data_dir, capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))
    monkeypatch.setattr(sys, "version", "3.8.10 (default)")
    assert setup_check.setup_check() is False
    assert "FAIL  Python is 3.8.10; the course needs 3.10 or newer." in lines(capsys)


def test_missing_packages_are_all_named(data_dir, capsys, monkeypatch):
    monkeypatch.setattr(setup_check, "_version", lambda name: None if name in ("tqdm", "psutil") else "1.0")
    assert setup_check.setup_check() is False
    assert lines(capsys)[1].startswith("FAIL  These packages are missing: psutil, tqdm. Run `python3 run.py`")


def test_a_torchvision_for_another_torch_is_explained(data_dir, capsys, monkeypatch):
    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("torchvision.ops.nms", nms)
    assert setup_check.setup_check() is False
    line = lines(capsys)[2]
    assert line.startswith(f"FAIL  torch {setup_check._version('torch')} and torchvision ")
    assert "(operator torchvision::nms does not exist)" in line
    assert "torchvision was built for another torch" in line
    assert line.endswith("pip install --force-reinstall torch torchvision")


def test_a_package_that_cannot_be_imported(data_dir, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert setup_check.setup_check() is False
    assert lines(capsys)[6].startswith("FAIL  ipywidgets cannot be imported (import of ipywidgets halted")


def test_a_graphics_card_is_named(data_dir, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card 3000")
    assert setup_check.setup_check() is True
    assert "OK    device: cuda (Card 3000)" in lines(capsys)


def test_little_memory_and_a_full_disk(data_dir, capsys, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0.3e9))
    assert setup_check.setup_check() is False
    assert "FAIL  Only 0.3 GB of memory are free; the course needs 1 GB. Close other programs." in lines(
        capsys
    )
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=4e9))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0.2e9))
    assert setup_check.setup_check() is False
    assert lines(capsys)[4].startswith("FAIL  Only 0.2 GB of disk are free in ")


def test_a_changed_a_missing_and_an_unlisted_data_file(data_dir, capsys):
    file = data_dir / "weights" / "w.pth"
    file.write_bytes(b"weightz")
    assert setup_check.setup_check() is False
    assert lines(capsys)[5].startswith(f"FAIL  {file} is not the file that data/README.md describes")
    file.unlink()
    assert setup_check.setup_check() is False
    assert lines(capsys)[5].startswith(f"FAIL  {file} is missing. Get it again: `git restore data`")
    (data_dir / "README.md").unlink()
    assert setup_check.setup_check() is False
    assert "which lists the data files, is missing or empty" in lines(capsys)[5]


def test_from_the_command_line_a_failure_is_an_exit_status(data_dir, capsys, monkeypatch):
    (data_dir / "README.md").unlink()
    looked = []
    monkeypatch.setattr(setup_check, "first_look", lambda: looked.append(True))
    with pytest.raises(SystemExit, match="The set-up is not complete: see FAIL above."):
        setup_check.main()
    assert looked == []


def test_it_explains_packages_that_are_missing_altogether(tmp_path):
    """Run as run.py runs it, by a Python that has the standard library alone."""
    command = [sys.executable, "-S", "-E", str(ROOT / "segutils" / "setup_check.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAIL  These packages are missing: torch, torchvision, numpy," in done.stdout
    assert "FAIL  torch None and torchvision None: not tried, because one is missing." in done.stdout
    assert "FAIL  data: not checked, because segutils cannot be imported" in done.stdout
    assert done.stderr == "The set-up is not complete: see FAIL above.\n"


def test_first_look_finds_24_coins(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = setup_check.first_look()
    assert lines(capsys) == [
        "24 coins in the photograph 'coins' (score >= 0.5); picture in output/first_look.png"
    ]
    assert path == Path("output/first_look.png")
    with Image.open(path) as picture, Image.open(images.sample_images()["coins"]) as photograph:
        assert picture.size == (768, 606) and photograph.size == (384, 303)
        assert picture.convert("RGB").getcolors(1000) is None  # coloured: the photograph has 256 greys


def test_first_look_saves_where_it_is_told(tmp_path, capsys):
    path = setup_check.first_look(tmp_path / "new" / "coins.png")
    assert path == tmp_path / "new" / "coins.png"
    assert path.is_file()


def test_data_readme_lists_every_data_file():
    """What the check trusts is complete: each file of data/, the README and the reader's photos apart."""
    data = ROOT / "data"
    files = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    files = {name for name in files if name != "README.md" and not re.match(r"photos/|\.", name)}
    sums = {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in files}
    assert setup_check.listed_files(data) == sums
