"""Thousands of broken picture files: each gives a picture or an ImageLoadError, soon, and without eating the memory."""

import json
import subprocess
import sys
from pathlib import Path


def test_broken_files_give_a_picture_or_an_image_load_error():
    # In a process of its own: its peak of memory is that of the worst file, and a crash would be seen.
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), "2700"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["outcomes"]["picture"] > 200 and report["outcomes"]["ImageLoadError"] > 1000
    assert report["slowest"][0] < 2, report["slowest"]
    assert report["hungriest"][0] < 500e6, report["hungriest"]
