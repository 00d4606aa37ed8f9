"""A real JupyterLab in a real Chromium: a server on a free port, and a page that runs notebooks."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Error, Page, Playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
CHANNELS = ("chrome", "msedge", "chromium")  # where Playwright knows to look on macOS and Windows
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
FLAGS += ["--disable-component-update", "--disable-sync"]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "notebook-extension/tracker": {"windowingMode": "none"},  # keeps the cells outside the window in the page
}
IS_READY = """async () => {
    let widget = null;
    while (!(widget = window.jupyterapp?.shell.currentWidget)?.sessionContext)
        await new Promise(done => setTimeout(done, 100));
    await widget.context.ready;
    await widget.sessionContext.ready;
    await widget.sessionContext.session.kernel.info;
}"""
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
CODE_CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .map(widget => widget.model.toJSON()).filter(cell => cell.cell_type == 'code')"""


def launch(playwright: Playwright) -> Browser | None:
    """Start the first Chromium, Chrome or Edge that is found on this machine; None when there is none."""
    for program in filter(None, map(shutil.which, PROGRAMS)):
        return playwright.chromium.launch(executable_path=program, args=FLAGS)
    for channel in CHANNELS:
        try:
            return playwright.chromium.launch(channel=channel, args=FLAGS)
        except Error:  # not installed: try the next one
            continue
    return None


@contextmanager
def jupyterlab(root: Path, state: Path) -> Iterator[str]:
    """Serve the folder `root`; everything JupyterLab remembers goes to `state`. Yields the address."""
    folders = {"CONFIG_DIR": "JUPYTER", "DATA_DIR": "JUPYTER", "RUNTIME_DIR": "JUPYTER"}
    folders |= {"SETTINGS_DIR": "JUPYTERLAB", "WORKSPACES_DIR": "JUPYTERLAB"}
    variables = {f"{prefix}_{name}": str(state / name.lower()) for name, prefix in folders.items()}
    for name, values in SETTINGS.items():
        file = state / "settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--allow-root", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += ["--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={root}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with (state / "server.log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log)
    try:
        _wait_for(f"{address}/api/status", server, state / "server.log")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


def open_notebook(page: Page, address: str, name: str) -> None:
    """Open a notebook and wait until its kernel answers (the status icon says 'idle' too early)."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    page.evaluate(IS_READY)


def run_all_cells(page: Page) -> list[dict]:
    """Run the open notebook and return its code cells, as they are afterwards."""
    page.evaluate(RUN_ALL)
    return page.evaluate(CODE_CELLS)
