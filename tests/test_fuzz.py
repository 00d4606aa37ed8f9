"""Thousands of broken picture files: each gives a picture or an ImageLoadError, and none eats memory or hangs."""

import json
import subprocess
import sys
from pathlib import Path


def test_broken_files_give_a_picture_or_an_image_load_error():
    # In a process of its own: its peak of memory is that of the worst file, and a crash would be seen.
    # The timeout is for a file that hangs for good; however busy the machine, the rest is done long before.
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), "3840"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["outcomes"]["picture"] > 200 and report["outcomes"]["ImageLoadError"] > 1000
    assert report["outcomes"]["warning"] > 20  # colour profiles were broken as well
    # Seconds of work for the processor, twenty times what the slowest file takes today.
    assert report["slowest"][0] < 20, report["slowest"]
    assert report["hungriest"][0] < 500e6, report["hungriest"]
