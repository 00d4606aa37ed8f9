"""Weights from a bad network: whatever goes wrong ends in a message that helps, and the next try can succeed."""

import errno
import hashlib
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from segutils.images import DATA_DIR
from segutils.models import MODELS, __main__, downloads, load_model
from segutils.models.downloads import DownloadError, cached_file, file_hash, is_whole, read_weights

CONTENT = bytes(range(256)) * 8_000  # 2 MB
NAME = f"model-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
BUNDLED = next((DATA_DIR / "weights").glob("*.pth"))
Usage = namedtuple("Usage", "total used free")


class BadNetwork(BaseHTTPRequestHandler):
    """Behaves as the server's `mood` says; "" is a network in good order."""

    def do_GET(self):
        self.server.asked.append(self.path)
        mood = self.server.moods.pop(0) if self.server.moods else ""
        if mood == "403":
            return self.send_error(403)
        if mood == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/elsewhere{self.path}")
            return self.end_headers()
        body = {
            "html": b"\n<!DOCTYPE html><html><body>Please log in to the Wi-Fi</body></html>",
            "other file": CONTENT[::-1],
            "empty": b"",
        }.get(mood, CONTENT)
        self.send_response(200)
        if mood != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mood == "cut off":
            self.wfile.write(body[: len(body) // 2])
            return self.connection.shutdown(socket.SHUT_RDWR)
        if mood == "stalled":
            self.wfile.write(body[: len(body) // 2])
            time.sleep(2)
            return None
        return self.wfile.write(body)

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass  # the other side has hung up, as it should

    def log_message(self, *_):
        pass


@pytest.fixture
def network():
    server = ThreadingHTTPServer(("127.0.0.1", 0), BadNetwork)
    server.moods, server.asked = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/models/{NAME}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch's cache, empty, and a folder for temporary files of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(downloads.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_a_file_is_fetched_once_and_shows_its_progress(network, cache, capfd):
    path = cached_file(network.url)
    assert path == cache / NAME and path.read_bytes() == CONTENT
    shown = capfd.readouterr()
    assert NAME in shown.out and "100%" in shown.out and shown.err == ""
    assert cached_file(network.url) == path
    assert network.asked == [f"/models/{NAME}"]  # the second time came from the cache
    assert capfd.readouterr() == ("", "")
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize("mood", ["redirect", "no length"])
def test_detours_and_servers_without_a_length_are_fine(network, cache, mood):
    network.moods = [mood]
    assert cached_file(network.url).read_bytes() == CONTENT
    assert network.asked[-1].endswith(NAME) and len(network.asked) == 1 + (mood == "redirect")


FAILURES = {
    "403": "127.0.0.1 refused: 403 Forbidden",
    "html": "a web page came instead of the file: the network may want you to log in",
    "cut off": "the connection broke off after 1 MB of 2 MB",
    "other file": "what came is not the expected file: its SHA-256 begins with",
    "empty": "what came is not the expected file: its SHA-256 begins with e3b0c442",
    "stalled": "nothing came from 127.0.0.1 for 0.5 seconds",
}


@pytest.mark.parametrize("mood", FAILURES)
def test_each_failure_says_why_and_what_to_do_and_the_next_try_succeeds(network, cache, mood):
    network.moods = [mood]
    with pytest.raises(DownloadError) as caught:
        cached_file(network.url)
    message = str(caught.value)
    assert FAILURES[mood] in message
    for help_ in (
        network.url,
        str(cache / NAME),
        "TORCH_HOME",
        "USB stick",
        "Run this again",
        "load_model()",
    ):
        assert help_ in message
    assert list(cache.iterdir()) == []  # nothing half-written stays
    assert cached_file(network.url).read_bytes() == CONTENT


def test_a_server_that_is_not_there(network, cache):
    network.shutdown()
    network.server_close()
    with pytest.raises(
        DownloadError, match=r"could not be fetched: Connection refused\.\n  from  http://127"
    ):
        cached_file(network.url)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            "the name 127.0.0.1 is not known here: there is no network",
        ),
        (ssl.SSLCertVerificationError("self-signed certificate"), "cannot be trusted .*SSL_CERT_FILE"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (TimeoutError("timed out"), "nothing came from 127.0.0.1 for 0.5 seconds"),
    ],
)
def test_failures_before_the_first_byte(network, cache, monkeypatch, reason, message):
    def urlopen(*_, **__):
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(downloads, "urlopen", urlopen)
    with pytest.raises(DownloadError, match=message):
        cached_file(network.url)
    assert list(cache.iterdir()) == []


BAD_FILES = {
    "empty": b"",
    "a web page": b"<html>404</html>",
    "cut short": CONTENT[:-1],
    "another file": CONTENT + b"!",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_in_the_cache_is_set_aside_and_fetched_once_more(network, cache, capsys, content):
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(content)
    assert cached_file(network.url).read_bytes() == CONTENT
    assert (cache / f"{NAME}.damaged").read_bytes() == content
    assert f"is damaged. It is kept as {NAME}.damaged, and fetched once more" in capsys.readouterr().out


def test_a_bad_file_and_no_network(network, cache, capsys):
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(b"bad")
    network.moods = ["403"]
    with pytest.raises(DownloadError, match=rf"403 Forbidden(.|\n)*is kept as .*{NAME}.damaged"):
        cached_file(network.url)
    assert len(network.asked) == 1
    assert [file.read_bytes() for file in cache.iterdir()] == [b"bad"]


@pytest.mark.parametrize("obstacle", ["a file", "read-only"])
def test_a_cache_that_cannot_be_written_to_gives_way_to_a_temporary_one(
    network, cache, tmp_path, monkeypatch, capsys, obstacle
):
    if obstacle == "a file":
        (tmp_path / "torch").write_text("a file where a folder should be")
    else:  # permissions do not stop the person who runs tests as root, so the test pretends

        def refuse(dir):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(downloads.tempfile, "TemporaryFile", refuse)
    path = cached_file(network.url)
    assert path == tmp_path / "tmp" / "segutils-weights" / NAME and path.read_bytes() == CONTENT
    said = capsys.readouterr().out
    assert (
        f"The cache {cache} cannot be written to" in said
        and str(path.parent) in said
        and "TORCH_HOME" in said
    )
    assert cached_file(network.url) == path and len(network.asked) == 1  # found there again


def test_a_good_file_in_a_read_only_cache_is_used(network, cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(CONTENT)
    monkeypatch.setattr(downloads.tempfile, "TemporaryFile", lambda dir: pytest.fail("tried to write"))
    assert cached_file(network.url) == cache / NAME and network.asked == []


def test_too_little_room_on_the_disk_is_found_before_the_download(network, cache, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 51_000_000))
    with pytest.raises(DownloadError, match="the disk is too full: 52 MB are needed, 51 MB free"):
        cached_file(network.url)
    assert list(cache.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(network, cache, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "tqdm", Full)
    with pytest.raises(DownloadError, match="No space left on device"):
        cached_file(network.url)
    assert list(cache.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(network, cache, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "tqdm", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cached_file(network.url)
    assert list(cache.iterdir()) == []
    assert cached_file(network.url).read_bytes() == CONTENT


# --- load_model and the command -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "coco_v2"])
def test_load_model_never_falls_back_in_silence(cache, monkeypatch, name):
    def urlopen(request, timeout):
        assert timeout == 0.5
        raise urllib.error.URLError(OSError(errno.EHOSTUNREACH, "No route to host"))

    monkeypatch.setattr(downloads, "urlopen", urlopen)
    with pytest.raises(DownloadError) as caught:
        load_model(name)
    url = MODELS[name][1].url
    assert url in str(caught.value) and str(cache / url.rsplit("/", 1)[1]) in str(caught.value)


def test_fetch_says_where_the_weights_lie(network, cache, monkeypatch, capsys):
    class Weights:
        url = network.url

    monkeypatch.setitem(MODELS, "coco", (None, Weights))
    __main__.main("fetch", "coco", "tabletop")
    said = capsys.readouterr().out
    assert f"coco: {cache / NAME} (2 MB)" in said and "tabletop: bundled, nothing to fetch" in said
    (cache / NAME).unlink()
    network.moods = ["cut off"]
    with pytest.raises(SystemExit, match="the connection broke off"):
        __main__.main("fetch", "coco")


@pytest.mark.parametrize("words", [(), ("fetch",), ("fetch", "cocoo"), ("get", "coco")])
def test_the_command_explains_itself(words):
    with pytest.raises(
        SystemExit, match="usage: python -m segutils.models fetch NAME(.|\n)*tabletop, coco, coco_v2"
    ):
        __main__.main(*words)


def test_the_command_starts_without_a_warning():
    done = subprocess.run([sys.executable, "-m", "segutils.models"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("usage:")


# --- files ----------------------------------------------------------------------------------------------------


def test_a_missing_a_damaged_and_a_strange_file_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing-12345678.pth are missing. .*git restore data"):
        read_weights(tmp_path / "missing-12345678.pth")
    for content in (b"", b"<html>not found</html>", BUNDLED.read_bytes()[:-1]):
        damaged = tmp_path / BUNDLED.name
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged: .*git restore data"):
            read_weights(damaged)
        assert damaged.read_bytes() == content
    unnamed = tmp_path / "weights.pth"
    unnamed.write_bytes(BUNDLED.read_bytes())
    assert not is_whole(unnamed)
    with pytest.raises(ValueError, match="not what its name says"):
        read_weights(unnamed)


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code ran",))

    torch.save({"trap": Trap()}, tmp_path / "trap.pth")
    file = (tmp_path / "trap.pth").rename(tmp_path / f"trap-{file_hash(tmp_path / 'trap.pth')[:8]}.pth")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        read_weights(Path(file))
