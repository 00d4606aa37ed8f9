"""Files of weights: fetched from the network once, checked each time they are used, and no failure left unexplained."""

import errno
import hashlib
import os
import re
import shutil
import socket
import ssl
import sys
import tempfile
import urllib.error
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from torch import Tensor
from tqdm import tqdm

TIMEOUT = 30
"""Seconds to wait for the next bytes of a download."""

_CHUNK = 1 << 20  # bytes read at once
_SPARE = 50_000_000  # bytes of disk that a download leaves free


class DownloadError(OSError):
    """Weights could not be fetched; the message says why, and what to do."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU after checking that the file is whole. No code in it is run.

    Args:
        path: a file named as torchvision names its weights, `NAME-HASH.pth`, HASH being the first 8 or more digits
            of the file's SHA-256.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file's SHA-256 is not the one in its name.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"The weights {path} are missing. A bundled file comes back with 'git restore data'."
        )
    if not is_whole(path):
        raise ValueError(
            f"{path} is damaged: its SHA-256 begins with {file_hash(path)[:8]}, which is not what its name says. "
            "A bundled file comes back with 'git restore data'."
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def is_whole(path: Path) -> bool:
    """Is a file's SHA-256 the one in its name?"""
    return file_hash(path).startswith(_named_hash(path))


def _named_hash(path: Path) -> str:
    named = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    return named[1] if named else "a name without a hash, which no file has"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached_file(url: str) -> Path:
    """The file of weights at a URL: from torch's cache when it lies there whole, else fetched into it.

    A damaged file is set aside, not deleted, and fetched anew once. Where the cache cannot be written to, a folder for
    temporary files takes its place, and a line says so. `TORCH_HOME` moves the cache.

    Raises `DownloadError` when the file cannot be had.
    """
    name = urlsplit(url).path.rsplit("/", 1)[1]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    temporary = Path(tempfile.gettempdir()) / "segutils-weights"
    for folder in (cache, temporary):
        if (folder / name).is_file() and is_whole(folder / name):
            return folder / name
    folder = cache
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as error:
        folder = temporary
        folder.mkdir(exist_ok=True)
        print(
            f"The cache {cache} cannot be written to ({error.strerror}). The weights go to {folder}, which may be "
            "emptied at any time. The environment variable TORCH_HOME names a better place."
        )
    path, aside = folder / name, None
    if path.exists():
        aside = path.with_name(f"{name}.damaged")
        path.replace(aside)
        print(f"{path} is damaged. It is kept as {aside.name}, and fetched once more.")
    try:
        _fetch(url, path)
    except (OSError, HTTPException) as error:
        raise DownloadError(_explain(url, path, aside, error)) from error
    return path


def _fetch(url: str, path: Path) -> None:
    """Fetch a URL into a file, which appears under its name only when it is whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    digest, received = hashlib.sha256(), 0
    try:
        with urlopen(Request(url, headers={"User-Agent": "segutils"}), timeout=TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            free = shutil.disk_usage(path.parent).free
            if total + _SPARE > free:
                raise OSError(
                    errno.ENOSPC, f"the disk is too full: {_mb(total + _SPARE)} are needed, {_mb(free)} free"
                )
            with (
                part.open("wb") as file,
                tqdm(total=total or None, desc=path.name, unit="B", unit_scale=True, file=sys.stdout) as bar,
            ):
                while chunk := response.read(_CHUNK):
                    if received == 0 and re.match(rb"\s*<(!doctype|html|\?xml)", chunk, re.IGNORECASE):
                        raise OSError(
                            "a web page came instead of the file: the network may want you to log in, "
                            "or block the address"
                        )
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    bar.update(len(chunk))
        if received < total:
            raise OSError(f"the connection broke off after {_mb(received)} of {_mb(total)}")
        if not digest.hexdigest().startswith(_named_hash(path)):
            raise OSError(
                f"what came is not the expected file: its SHA-256 begins with {digest.hexdigest()[:8]}"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _explain(url: str, path: Path, aside: Path | None, error: Exception) -> str:
    host = urlsplit(url).hostname
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        why = f"{host} refused: {error.code} {error.reason}"
    elif isinstance(reason, ssl.SSLError):
        why = (
            f"the connection to {host} cannot be trusted ({reason}). A firewall may stand between: ask who runs the "
            "network for its certificate, and name that file in the environment variable SSL_CERT_FILE"
        )
    elif isinstance(reason, TimeoutError):
        why = f"nothing came from {host} for {TIMEOUT} seconds"
    elif isinstance(reason, socket.gaierror):
        why = f"the name {host} is not known here: there is no network, or it lets nothing out"
    else:
        why = str(getattr(reason, "strerror", None) or reason)
    kept = f"The damaged file that was there is kept as {aside}.\n" if aside else ""
    return (
        f"The weights could not be fetched: {why}.\n"
        f"  from  {url}\n  to    {path}\n{kept}"
        "What you can do:\n"
        "- Run this again. Nothing half-finished was left behind.\n"
        "- Bring the file by hand, for instance on a USB stick: fetch it from the address above where there is a "
        "network, and put it at that path. The environment variable TORCH_HOME moves the folder: it becomes "
        "TORCH_HOME/hub/checkpoints.\n"
        "- Work without a network: load_model() gives the bundled model."
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
