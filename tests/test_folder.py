"""A folder of pictures: what is written, what is done again, and what happens when something is killed or fails."""

import errno
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from unchanged import unchanged

import segutils.folder
from segutils import (
    RoIMasks,
    draw_instances,
    get_boolean_mask,
    load_image,
    load_model,
    measure_instances,
    predict,
    predict_tiles,
    read_results,
    render_scene,
    resize,
    save_model,
    segment_folder,
    to_coco,
)
from segutils.folder import engines, list_pictures, read_rows, read_settings, results, save_coco, worker
from segutils.folder.__main__ import main
from segutils.folder.engines import Blocks
from segutils.folder.worker import Worker

STANDIN = Path(__file__).with_name("standin_worker.py")
ODD_NAMES = (
    "a b/c  d.png",
    "grün/Ärger.PNG",
    "new\nline.png",
    "x" * 246 + ".png",
    "'\"%s{}#?.png",
    "日本.png",
)


def save(path: Path, seed: int = 0, side: int = 64) -> Path:
    """A drawn scene as a small file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(resize(render_scene(seed)[0], side)).save(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six pictures, one of them in a sub-folder, and two files that are none but are called so."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        save(folder / f"{seed}.png", seed, 200)
    save(folder / "deeper" / "still" / "5.png", 5, 200)
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:999])
    (folder / "text.jpg").write_text("This is a text.")
    (folder / "notes.txt").write_text("not a picture, and not called one")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def in_this_process(blocks, arguments, workers):
    """An engine without processes."""
    one = Worker(*arguments)
    while block := blocks.take():
        yield one(block)


@pytest.fixture
def quick(monkeypatch):
    """No processes of their own for the workers."""
    monkeypatch.setitem(engines.ENGINES, "local", in_this_process)


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """The rows of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(engines.ENGINES, "local", in_this_process)
        segment_folder(photos, out)
    return list(read_rows(out))


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("run-*/part-*.jsonl"))


# --- what is written --------------------------------------------------------------------------------------------


def test_a_row_for_each_picture_and_an_error_for_each_that_failed(photos, expected):
    assert [row["path"] for row in expected] == [
        "0.png", "1.png", "2.png", "3.png", "4.png", "cut.png", "deeper/still/5.png", "text.jpg",
    ]  # fmt: skip
    failed = {row["path"]: row["error"] for row in expected if "error" in row}
    assert list(failed) == ["cut.png", "text.jpg"]
    assert failed["cut.png"].startswith("is damaged or cut short")
    assert failed["text.jpg"].endswith("It looks like a text file.")
    for row in expected:
        status = (photos / row["path"]).stat()
        assert (row["size"], row["time"]) == (status.st_size, status.st_mtime_ns)
        if "error" not in row:
            assert (row["width"], row["height"]) == (200, 150)
            for one in row["instances"]:
                assert list(one) == ["category", "category_id", "score", "bbox", "segmentation"]
    assert sum(len(row.get("instances", ())) for row in expected) > 10


def test_the_results_are_those_of_predict_and_do_for_the_other_functions(photos, tmp_path, quick):
    with unchanged(photos):
        done = segment_folder(str(photos), str(tmp_path / "new" / "out"), score_threshold=0.3)
    assert done == (8, 8, 2, done.errors) and list(done.errors) == ["cut.png", "text.jpg"]
    model, weights = load_model(device="cpu")
    found = dict(read_results(tmp_path / "new" / "out"))
    assert list(found) == [f"{seed}.png" for seed in range(5)] + ["deeper/still/5.png"]
    for path, prediction in found.items():
        image = load_image(photos / path)
        [there] = get_boolean_mask(predict(model, [image], 0.3))
        assert list(there) == ["boxes", "labels", "scores", "masks"] == list(prediction)
        for key, value in there.items():
            assert torch.equal(prediction[key], value) and prediction[key].dtype == value.dtype
        draw_instances(image, prediction, weights.meta["categories"])
        assert len(measure_instances(prediction)["area"]) == len(prediction["scores"])
    assert read_settings(tmp_path / "new" / "out")["categories"] == weights.meta["categories"]
    save_coco(tmp_path / "new" / "out", tmp_path / "coco.json")
    coco = json.loads((tmp_path / "coco.json").read_text())
    other = to_coco(list(found.values()))
    for one in (coco, other):
        for instance in one:
            instance["score"] = torch.tensor(instance["score"]).item()  # float32, with all its digits
    assert coco == other and len(coco) > 10


@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_instances_come_back_bit_for_bit(seed, count):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 200])
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 99], 1)
    prediction = {
        "boxes": boxes,
        "labels": torch.randint(0, 3, [count], generator=generator),
        "scores": torch.rand(count, generator=generator),
        "masks": RoIMasks(torch.rand(count, 1, 28, 28, generator=generator), boxes, (211, 307)),
    }
    row = {"path": "", "width": 307, "height": 211}
    row["instances"] = results.describe_instances(prediction, ["nothing", "cup", "key"])
    back = results._prediction(json.loads(json.dumps(row)))
    for key in ("boxes", "labels", "scores"):
        assert torch.equal(back[key], prediction[key])
    assert torch.equal(back["masks"], prediction["masks"].paste())


def test_masks_that_would_not_fit_into_memory(tmp_path):
    rle = {"size": [60_000, 60_000], "counts": "PPP2"}
    row = {"path": "huge.png", "width": 60_000, "height": 60_000, "instances": [{"segmentation": rle}]}
    with pytest.raises(
        MemoryError, match="The 1 masks of 'huge.png' would take 3.6 GB, .* read_rows gives them"
    ):
        results._prediction(row)


def test_results_that_are_not_there_or_are_damaged(tmp_path, photos, quick):
    for read in (read_results, read_rows, read_settings):
        with pytest.raises(FileNotFoundError, match=r"no results in .*segment_folder\(folder"):
            read(tmp_path)
    segment_folder(photos, tmp_path)
    part = parts(tmp_path)[1]
    part.write_text(part.read_text()[:-9])
    for read in (lambda: list(read_rows(tmp_path)), lambda: segment_folder(photos, tmp_path)):
        with pytest.raises(ValueError, match=f"'{part}' is damaged: .* Delete that file, and run again"):
            read()
    part.unlink()  # as the message advises
    assert segment_folder(photos, tmp_path).new == 1 + 2  # and those that failed
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="settings.json' is damaged .* Move '.*' away"):
        segment_folder(photos, tmp_path)


def test_what_is_written_does_not_depend_on_where_it_is_called_from(
    photos, tmp_path, quick, monkeypatch, expected
):
    monkeypatch.chdir(photos.parent)
    segment_folder(photos.name, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert segment_folder(photos, "out").new == 2
    assert list(read_rows("out")) == expected


# --- which files are pictures -----------------------------------------------------------------------------------


def test_pictures_are_listed_by_the_end_of_their_name(photos):
    listed = list_pictures(photos)
    assert list(listed) == sorted(listed)
    assert set(listed) == {*(f"{n}.png" for n in range(5)), "deeper/still/5.png", "cut.png", "text.jpg"}


def test_links_are_followed_but_not_in_circles(photos, tmp_path):
    (tmp_path / "linked").symlink_to(photos / "deeper")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / ".git").mkdir()
    save(tmp_path / ".git" / "hidden.png")
    (tmp_path / "phone.HEIC").write_bytes(b"....ftypheic")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    listed = list_pictures(tmp_path)
    assert list(listed) == ["linked/still/5.png", "nowhere.png", "phone.HEIC"]
    assert listed["nowhere.png"] is None


def test_a_link_that_leads_nowhere_is_a_row(tmp_path, quick):
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    for _ in range(2):
        done = segment_folder(tmp_path, tmp_path / "out")
        assert done[:3] == (1, 1, 1) and done.errors["nowhere.png"].startswith("There is no file")


@pytest.mark.parametrize(
    "make, kind, message",
    [
        (lambda path: None, FileNotFoundError, "does not exist. It should be the folder with your pictures"),
        (Path.touch, NotADirectoryError, "is a file, not a folder"),
        (Path.mkdir, ValueError, "There are no pictures in .* It is empty"),
        (lambda path: (path.mkdir(), (path / "a.txt").touch()), ValueError, "Its files: 1 .txt"),
    ],
)
def test_folders_without_pictures(tmp_path, make, kind, message):
    make(tmp_path / "photos")
    with pytest.raises(kind, match=message):
        segment_folder(tmp_path / "photos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_odd_names(tmp_path, quick, capsys):
    for name in ODD_NAMES:
        save(tmp_path / "in" / name)
    name = os.fsdecode(b"not utf-8 \xff.png")
    save(tmp_path / "in" / name).write_bytes(b"")
    out = tmp_path / "o u\nt"
    assert segment_folder(tmp_path / "in", out)[:3] == (len(ODD_NAMES) + 1, len(ODD_NAMES) + 1, 1)
    assert {path for path, _ in read_results(out)} == set(ODD_NAMES)
    assert main(str(tmp_path / "in"), str(out)) == 1
    assert "not utf-8" in capsys.readouterr().out


# --- bad pictures, and bugs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(photos, tmp_path_factory):
    """A worker for the pictures. Its parts go to `work.run_folder`."""
    return Worker(
        str(photos), str(tmp_path_factory.mktemp("run")), segutils.folder._settings(photos, None, 0.5, None)
    )


def rows_of(work, name):
    return [json.loads(line) for line in (work.run_folder / f"part-{name}.jsonl").read_text().splitlines()]


def test_called_twice_a_worker_writes_the_same_part_again(work, expected):
    block = {"name": "7", "paths": ["1.png", "text.jpg", "deeper/still/5.png"]}
    with unchanged(block):
        report = work(block)
    assert report["pictures"] == 3 and list(report["errors"]) == ["text.jpg"]
    before = (work.run_folder / "part-7.jsonl").read_bytes()
    assert work(block) == report
    assert (work.run_folder / "part-7.jsonl").read_bytes() == before
    assert rows_of(work, "7") == [row for path in block["paths"] for row in expected if row["path"] == path]
    assert [path.name for path in work.run_folder.iterdir()] == ["part-7.jsonl"]


def test_pictures_of_one_size_share_a_batch_and_no_other_does(work, monkeypatch):
    monkeypatch.setattr(work, "batch", 2)
    sizes = []
    monkeypatch.setattr(
        worker,
        "predict",
        lambda model, images, _: sizes.append([tuple(i.shape) for i in images]) or predict(model, images),
    )
    save(work.folder / "small.gif", 0, 100)
    try:
        work(
            {
                "name": "8",
                "paths": ["0.png", "1.png", "2.png", "text.jpg", "cut.png", "3.png", "small.gif", "4.png"],
            }
        )
    finally:
        (work.folder / "small.gif").unlink()
    whole = (3, 150, 200)
    assert sizes == [[whole, whole], [whole], [whole], [(3, 75, 100)], [whole]]
    assert [row["path"] for row in rows_of(work, "8")][3:6] == ["text.jpg", "cut.png", "3.png"]


def test_what_is_wrong_with_a_picture_is_in_its_row(work, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "folder", tmp_path)
    Image.new("RGB", (700, 1)).save(tmp_path / "thin.png")
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    save(tmp_path / "profile.png")
    with Image.open(tmp_path / "profile.png") as picture:
        picture.save(tmp_path / "profile.png", icc_profile=b"no profile")
    (tmp_path / "folder.png").mkdir()
    paths = ["thin.png", "huge.png", "profile.png", "folder.png", "gone.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = work({"name": "9", "paths": paths})
    assert report["errors"]["thin.png"].startswith("is 700 x 1 pixels")
    assert report["errors"]["huge.png"].startswith("is too large (it has 9000 x 9000 pixels)")
    assert (
        "is a folder" in report["errors"]["folder.png"] and "There is no file" in report["errors"]["gone.png"]
    )
    thin, huge, profile, _, gone = rows_of(work, "9")
    assert (thin["width"], thin["height"]) == (700, 1) and "width" not in huge
    assert "has a colour profile that is ignored" in profile["warnings"][0] and "instances" in profile
    assert gone["size"] is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        torch.cuda.OutOfMemoryError("CUDA"),
    ],
)
def test_what_does_not_fit_into_memory_together_is_tried_alone_and_is_a_row_then(work, monkeypatch, error):
    def predict_small(model, images, threshold):
        if len(images) > 1 or images[0].float().mean() > 254:
            raise error
        return predict(model, images, threshold)

    monkeypatch.setattr(worker, "predict", predict_small)
    white, other = torch.full((3, 40, 60), 255, dtype=torch.uint8), torch.zeros(3, 40, 60)
    found = work._predict([other, white, other])
    assert found[1] == "does not fit into memory with its 60 x 40 pixels."
    assert isinstance(found[0], dict) and isinstance(found[2], dict)


def test_a_bug_is_no_fault_of_a_picture(work, monkeypatch):
    def broken(*_):
        raise RuntimeError("expected channels last")

    monkeypatch.setattr(worker, "predict", broken)
    with pytest.raises(RuntimeError, match="expected channels last"):
        work({"name": "10", "paths": ["0.png"]})
    assert not (work.run_folder / "part-10.jsonl").exists()


def test_a_model_that_does_not_work_or_has_changed_is_noticed_before_the_first_picture(
    work, tmp_path, monkeypatch
):
    with pytest.raises(ValueError, match="The weights of tabletop have changed since the run began"):
        Worker(str(work.folder), str(tmp_path), work.settings | {"weights": "0" * 64})
    model, weights = load_model(device="cpu")
    next(model.parameters()).data.fill_(torch.nan)
    monkeypatch.setattr(worker, "load_model", lambda name: (model, weights))
    spoilt = work.settings | {"weights": worker.weights_hash(model)}
    assert spoilt["weights"] != work.settings["weights"]
    with pytest.raises(ValueError, match="NaN"):
        Worker(str(work.folder), str(tmp_path), spoilt)


def test_large_pictures_go_in_tiles(tmp_path, quick):
    image = render_scene(3)[0]
    (tmp_path / "in").mkdir()
    to_pil_image(image).save(tmp_path / "in" / "a.png")
    segment_folder(tmp_path / "in", tmp_path / "out", tile=400)
    [(_, found)] = read_results(tmp_path / "out")
    model, _ = load_model(device="cpu")
    whole, tiled = predict(model, [image], 0.5)[0], predict_tiles(model, image, 400, 80, 0.5)
    assert torch.equal(found["boxes"], tiled["boxes"]) and not torch.equal(found["boxes"], whole["boxes"])
    assert torch.equal(found["masks"], tiled["masks"].paste())


# --- stopped, and started again ---------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on(photos, tmp_path, monkeypatch, expected):
    opened = Counter()

    def stops(blocks, arguments, workers):
        one = Worker(*arguments)
        for _ in range(2):
            block = blocks.take()
            opened.update(block["paths"])
            yield one(block)
        raise KeyboardInterrupt

    monkeypatch.setitem(engines.ENGINES, "local", stops)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # eight blocks
    for done_before in (0, 2, 4):
        with pytest.raises(KeyboardInterrupt):
            segment_folder(photos, tmp_path)
        assert sum(opened.values()) == done_before + 2
    monkeypatch.setitem(engines.ENGINES, "local", in_this_process)
    done = segment_folder(photos, tmp_path)
    assert list(read_rows(tmp_path)) == expected
    # Pictures that failed are tried again, all others were opened once.
    assert set(opened) == {row["path"] for row in expected[:6]} and set(opened.values()) == {1}
    assert done[:3] == (8, 3, 2)
    assert [path.name for path in sorted(tmp_path.glob("run-*"))] == [f"run-000{n}" for n in (1, 2, 3, 4)]


def test_what_has_changed_or_came_in_is_done(tmp_path, quick):
    photos, out = tmp_path / "in", tmp_path / "out"
    for seed in range(3):
        save(photos / f"{seed}.png", seed)
    assert segment_folder(photos, out).new == 3
    assert segment_folder(photos, out) == (3, 0, 0, {})
    assert len(list(out.glob("run-*"))) == 1  # nothing to do, nothing written
    status = (photos / "0.png").stat()
    os.utime(photos / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (photos / "1.png").write_bytes(b"damaged since")
    save(photos / "3.png", 3)
    assert segment_folder(photos, out)[:3] == (4, 3, 1)
    rows = {row["path"]: row for row in read_rows(out)}
    assert rows["0.png"]["time"] == status.st_mtime_ns + 1
    assert [path for path, _ in read_results(out)] == ["0.png", "2.png", "3.png"]
    save(photos / "1.png", 1)
    assert segment_folder(photos, out)[:3] == (4, 1, 0)
    assert len(list(read_results(out))) == 4


def test_other_settings_are_refused_and_named(photos, tmp_path, quick):
    segment_folder(photos, tmp_path)
    save(tmp_path / "other" / "1.png")
    with unchanged(tmp_path / "settings.json"):
        with pytest.raises(
            ValueError, match="of other settings.\n  score_threshold: 0.5 then, 0.7 now\nUse the same"
        ):
            segment_folder(photos, tmp_path, score_threshold=0.7)
        with pytest.raises(ValueError, match="\n  tile: None then, 640 now\n"):
            segment_folder(photos, tmp_path, tile=640)
        with pytest.raises(ValueError, match=f"\n  folder: {photos} then, {tmp_path / 'other'} now\n"):
            segment_folder(tmp_path / "other", tmp_path)
    before = read_settings(tmp_path)
    before["versions"]["torch"], before["weights"], before["categories"] = "1.0", "abc", ["a", "b", "c", "d"]
    (tmp_path / "settings.json").write_text(json.dumps(before))
    with pytest.raises(ValueError) as error:
        segment_folder(photos, tmp_path)
    for line in (
        "categories: a, b, c, ... (4) then, __background__, banana, book, ... (12) now",
        "weights: abc then",
    ):
        assert f"  {line}" in str(error.value)
    assert "'torch': '1.0'" in str(error.value)


def test_the_model_is_the_one_that_the_environment_names(photos, tmp_path, quick, monkeypatch):
    monkeypatch.setenv("SEGUTILS_MODEL", "no such model")
    with pytest.raises((ValueError, FileNotFoundError), match="no such model"):
        segment_folder(photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    segment_folder(photos, tmp_path / "out", "tabletop")


def test_a_model_of_one_s_own_is_named_by_its_path(photos, tmp_path, quick, monkeypatch, expected):
    model, weights = load_model(device="cpu")
    save_model(model, tmp_path / "my.pth", weights.meta["categories"])
    monkeypatch.chdir(tmp_path)
    segment_folder(photos, "out", "my.pth")
    assert read_settings("out")["model"] == str(tmp_path / "my.pth")
    found = {row["path"]: row for row in read_rows("out")}
    for row in expected:
        theirs = [one["category"] for one in row.get("instances", ())]
        assert [one["category"] for one in found[row["path"]].get("instances", ())] == theirs


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"score_threshold": 50}, "score_threshold must be a number from 0 to 1, not 50. Write 0.5"),
        ({"engine": "spark"}, "There is no engine 'spark'. Choose one of local, ray"),
        ({"workers": 0}, "workers is a whole number above 0, not 0"),
        ({"workers": True}, "workers is a whole number above 0, not True"),
        ({"tile": 1.5}, "tile is a whole number above 0, not 1.5"),
    ],
)
def test_arguments_are_checked(photos, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        segment_folder(photos, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


# --- where it is written ----------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(
    photos, tmp_path, quick, monkeypatch, expected
):
    sync, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) > 4:  # settings, then three parts
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(os, "cpu_count", lambda: 1)
        with pytest.raises(
            OSError, match="run-0001' cannot be written to \\(No space left on device\\). What is finished"
        ):
            segment_folder(photos, tmp_path)
    assert len(parts(tmp_path)) == 3 and not list(tmp_path.rglob(".*"))
    segment_folder(photos, tmp_path)
    assert list(read_rows(tmp_path)) == expected


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_folder_that_cannot_be_written_to(photos, tmp_path, quick, monkeypatch, capsys, call):
    real = getattr(Path, call)

    def read_only(path, *arguments, **options):
        if tmp_path in path.parents and (call == "mkdir" or "w" in arguments):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, call, read_only)
    assert main(str(photos), str(tmp_path / "out")) == 2
    assert "out' cannot be written to (Read-only file system)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_two_runs_at_once_have_parts_of_their_own(tmp_path):
    barrier, made = threading.Barrier(8), []

    def start():
        barrier.wait()
        made.append(segutils.folder._new_run(tmp_path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in made) == [f"run-{number:04}" for number in range(1, 9)]


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_says_what_failed_and_its_status_too(photos, tmp_path, quick, capsys):
    assert main(str(photos), str(tmp_path / "out"), "--score-threshold", "0.4") == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "8 pictures: 8 done now, 0 before; 2 failed"
    assert lines[1].startswith("  'cut.png': is damaged") and lines[2].startswith(
        "  'text.jpg': is not a picture"
    )
    assert len(lines) == 3 and printed.err == ""  # no bar, where there is no terminal
    assert main(str(photos), str(tmp_path / "out")) == 2
    assert "score_threshold: 0.4 then, 0.5 now" in capsys.readouterr().err


def test_only_the_first_ten_are_listed(tmp_path, quick, capsys):
    for number in range(13):
        (tmp_path / f"{number:02}.png").touch()
    assert main(str(tmp_path), str(tmp_path / "out")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and lines[0].endswith("13 failed") and lines[-1] == "  and 3 more"


def test_nothing_fails(tmp_path, quick, capsys):
    save(tmp_path / "1.png")
    assert main(str(tmp_path), str(tmp_path / "out")) == 0
    assert capsys.readouterr().out == "1 picture: 1 done now, 0 before; 0 failed\n"


# --- engines ----------------------------------------------------------------------------------------------------


@pytest.fixture
def standin(monkeypatch, tmp_path):
    """Workers without a model, that begin at once. Gives a function that runs blocks of two of these names."""
    monkeypatch.setattr(engines, "_COMMAND", STANDIN.read_text("utf-8"))

    def run(*names, workers=2, size=2):
        return engines.run_local(Blocks(names, size), (str(tmp_path),), workers)

    return run


def written(folder: Path) -> list[str]:
    return sorted(path for part in folder.glob("part-*") for path in json.loads(part.read_text()))


@pytest.fixture
def children():
    """The processes that this test started; others of the session, such as Python's resource tracker, stay out."""

    def living():
        processes = psutil.Process().children(recursive=True)
        return {one for one in processes if one.status() != psutil.STATUS_ZOMBIE} - before

    before = set()
    before = living()
    return living


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_every_block_is_done_once(standin, tmp_path, workers):
    names = [f"{number}.png" for number in range(15)]
    reports = list(standin(*names, workers=workers))
    assert [report["pictures"] for report in reports].count(2) == 7 and len(reports) == 8
    assert written(tmp_path) == sorted(names)
    assert len({report["process"] for report in reports}) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_kills_its_worker_becomes_a_row_and_the_others_are_done(standin, tmp_path, workers):
    names = ["0", "once 1", "2", "deadly 3", "4", "5", "6", "once 7", "once 8"]
    reports = list(standin(*names, workers=workers, size=3))
    errors = {path: error for report in reports for path, error in report["errors"].items()}
    assert list(errors) == ["deadly 3"]
    assert errors["deadly 3"] == (
        "The process that had this picture in hand ended, 2 times; the last time it was killed by signal 9."
    )
    assert set(written(tmp_path)) == set(names)


@pytest.mark.parametrize(
    "name, kind, message",
    [
        ("bug", RuntimeError, "no fault of a picture:\nTraceback: a bug"),
        ("full", OSError, "'out' cannot be written to"),
    ],
)
def test_other_errors_end_the_run(standin, children, name, kind, message):
    with pytest.raises(kind, match=message):
        list(standin("0", "1", name, "3", "4", "5", "slow"))
    assert children() == set()


def test_workers_that_cannot_begin_end_the_run(standin, tmp_path):
    (tmp_path / "no start").touch()
    with pytest.raises(RuntimeError, match="before it had begun, 2 times; .* gone with exit status 7"):
        list(standin("0", "1"))


def test_a_run_that_is_closed_stops_its_workers_in_the_middle_of_a_picture(standin, children):
    reports = standin("0", "1", "slow 2", "3", "slow 4", "5")
    next(reports)
    assert len(children()) >= 1
    reports.close()
    assert children() == set()


@pytest.mark.parametrize("seed", range(10))
def test_workers_killed_at_any_moment_lose_nothing(standin, tmp_path, seed):
    dice = random.Random(seed)
    names = [f"{number:02}.png" for number in range(40)]
    names = [
        f"once {name}" if dice.random() < 0.2 else name for name in names
    ]  # kill -9 there, the first time
    errors = [report["errors"] for report in standin(*names)]
    assert not any(errors) and set(written(tmp_path)) == set(names)
    assert len(list(tmp_path.glob("seen *"))) == 40


def test_cores_are_those_that_the_process_may_use():
    count = engines._count_cores()
    assert 1 <= count <= os.cpu_count()
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(allowed)})
            assert engines._count_cores() == 1
        finally:
            os.sched_setaffinity(0, allowed)


def test_the_true_thing_stopped_killed_and_finished(photos, tmp_path, expected, children):
    """Ctrl-C, then kill -9 of the command, then kill -9 of a worker: in the end the rows are those of a quiet run."""
    more = tmp_path / "photos"
    times = 12  # as many pictures again, so that there is time even on a fast machine
    for number in range(times):
        for row in expected:
            target = more / str(number) / row["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(photos / row["path"])
    wanted = [row | {"path": f"{number}/{row['path']}"} for number in range(times) for row in expected]
    wanted.sort(key=lambda row: row["path"])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "segutils.folder", str(more), str(out), "--workers", "1"]
    for way, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(parts(out))
        # Where a shell runs the tests in the background they ignore Ctrl-C, and so would the command.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
        while len(parts(out)) == before:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 1
        process.send_signal(way)
        assert process.wait() == status
        assert psutil.wait_procs(workers, timeout=60)[1] == []  # gone as well, in the middle of a picture
        if way == signal.SIGINT:
            assert (
                process.stderr.read()
                == "\nStopped. What is finished stays; the same command goes on from there.\n"
            )
        assert len(list(read_rows(out))) < len(wanted)
        process.stderr.close()

    ended = threading.Event()

    def kill_a_worker():
        before = len(parts(out))
        while len(parts(out)) == before and not ended.wait(0.05):
            pass
        [one] = children()
        one.kill()

    killer = threading.Thread(target=kill_a_worker, daemon=True)
    killer.start()
    done = segment_folder(more, out, workers=1)
    ended.set()
    killer.join()
    assert done.failed == 2 * times and done.pictures == 8 * times
    assert list(read_rows(out)) == wanted


def test_a_bug_is_not_taken_for_a_run_that_was_finished(tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("expected channels last")

    monkeypatch.setattr("segutils.folder.__main__.segment_folder", broken)
    assert main(str(tmp_path), str(tmp_path / "out")) == 2
    assert "expected channels last" in capsys.readouterr().err


# --- Ray --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_its_engine_says_how_to_get_it(photos, tmp_path, capsys):
    assert main(str(photos), str(tmp_path), "--engine", "ray") == 2
    assert 'pip install -e ".[ray]"' in capsys.readouterr().err


def test_ray_gives_the_same_rows(photos, tmp_path, expected, monkeypatch, capfd):
    ray = pytest.importorskip(
        "ray", reason="Ray is not installed; .ci/run tries it in an environment of its own"
    )
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert segment_folder(photos, tmp_path, engine="ray", workers=1)[:3] == (8, 8, 2)
    assert list(read_rows(tmp_path)) == expected
    assert not ray.is_initialized()
