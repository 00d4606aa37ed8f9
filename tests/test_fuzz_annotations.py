"""Broken files of annotations: each gives a result, or a message that names the file."""

import json
import subprocess
import sys
from pathlib import Path


def test_broken_files_of_annotations_give_a_result_or_a_message():
    # In a process of its own: its peak of memory is that of the worst file, and a crash would be seen.
    command = [sys.executable, Path(__file__).with_name("fuzz_annotations.py"), "1050"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    outcomes = report["outcomes"]
    assert outcomes["annotations"] > 200 and outcomes["error"] > 300 and outcomes["problems"] > 100, outcomes
    # Seconds of work for the processor, and memory: many times what the worst file takes today.
    assert report["slowest"][0] < 20, report["slowest"]
    assert report["hungriest"][0] < 500e6, report["hungriest"]
