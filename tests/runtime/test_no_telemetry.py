"""A device talks to nobody: onnxruntime's usage data is off before onnxruntime is imported."""

import os
import subprocess
import sys

OPEN_SESSION = """
import sys
from pathlib import Path
import edgekit_runtime
assert "onnxruntime" not in sys.modules, "too late to set anything"
edgekit_runtime.load
import onnxruntime
print(onnxruntime.__version__)
"""


def run(home, **variables):
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), **variables}
    subprocess.run([sys.executable, "-c", OPEN_SESSION], env=environment, check=True, capture_output=True)


def test_nothing_is_written_to_the_home_folder(tmp_path):
    run(tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_an_owner_s_own_choice_is_left_alone(tmp_path):
    code = "import os, edgekit_runtime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "HOME": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "0"
