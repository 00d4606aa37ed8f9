"""A worker without a model, for the tests of the engines: it speaks as `segutils.folder.worker.serve` does.

What it does with a picture stands in the picture's name.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(folder: Path, block: dict) -> dict:
    """Write a part that lists the paths, unless a name says otherwise."""
    for path in block["paths"]:
        first_time = not (folder / f"seen {path}").exists()
        (folder / f"seen {path}").touch()
        if "error" not in block and ("deadly" in path or ("once" in path and first_time)):
            os.kill(os.getpid(), signal.SIGKILL)
        if "bug" in path:
            return {"bug": "Traceback: a bug"}
        if "full" in path:
            return {"problem": "'out' cannot be written to"}
        if "slow" in path:
            threading.Event().wait()  # for ever
    (folder / f"part-{block['name']}").write_text(json.dumps(block["paths"]))
    errors = {path: block["error"] for path in block["paths"]} if "error" in block else {}
    return {"pictures": len(block["paths"]), "errors": errors, "process": os.getpid()}


def main() -> None:
    [folder] = json.loads(sys.stdin.readline())
    folder = Path(folder)
    if (folder / "no start").exists():
        sys.exit(7)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(work(folder, json.loads(line))), flush=True)


main()
