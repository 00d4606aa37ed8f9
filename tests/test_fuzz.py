"""Thousands of broken files, of pictures and of annotations: each gives a result or a message, none hangs."""

import json
import subprocess
import sys
from pathlib import Path


def report_of(script: str, count: int) -> dict:
    """What a fuzzing script reports of so many files, once nothing was wrong and none took much time or memory."""
    # In a process of its own: its peak of memory is that of the worst file, and a crash would be seen.
    # The timeout is for a file that hangs for good; however busy the machine, the rest is done long before.
    command = [sys.executable, Path(__file__).with_name(script), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    # Seconds of work for the processor, and memory: twenty times what the worst file takes today.
    assert report["slowest"][0] < 20, report["slowest"]
    assert report["hungriest"][0] < 500e6, report["hungriest"]
    return report["outcomes"]


def test_broken_files_give_a_picture_or_an_image_load_error():
    outcomes = report_of("fuzz.py", 3840)
    assert outcomes["picture"] > 200 and outcomes["ImageLoadError"] > 1000, outcomes
    assert outcomes["warning"] > 20, outcomes  # colour profiles were broken as well


def test_broken_files_of_annotations_give_a_result_or_a_message():
    outcomes = report_of("fuzz_annotations.py", 1050)
    assert outcomes["annotations"] > 200 and outcomes["error"] > 300 and outcomes["problems"] > 100, outcomes
