"""Whether provider plugins work here: ``python -m edgekit.checkup.plugin_probe PROVIDER``.

Each is tried in a process of its own, on one product of matrices: a library that brings its process down is then known by name.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.checkup.check import Check

__all__ = ["PluginReport", "plugin_checks", "probe_plugins"]

TIMEOUT_S = 60
SIDE = 64
# Products of float32 matrices differ in the order of their sums; bfloat16 would be a thousand times farther away.
TOLERANCE = 1e-4
# The child's exit status where the provider cannot be had.
REFUSED = 3


class PluginReport(msgspec.Struct, frozen=True):
    """One provider plugin.

    Attributes:
        provider: The execution provider.
        package: The package that it comes in.
        version: The package's version; ``None`` where it is not installed.
        works: Whether a model ran on it and gave what it should.
        detail: Why it does not.
    """

    provider: str
    package: str
    version: str | None
    works: bool
    detail: str = ""


def probe_plugins(command: Sequence[str] = (sys.executable, "-m", "edgekit.checkup.plugin_probe")) -> list[PluginReport]:
    """Tries every plugin that is installed; whatever happens ends up in its report. Imports onnxruntime."""
    from edgekit_runtime.plugins import PLUGINS

    reports = []
    for plugin in PLUGINS.values():
        if not plugin.installed:
            reports.append(PluginReport(plugin.provider, plugin.package, None, works=False, detail="it is not installed"))
            continue
        detail = _failure([*command, plugin.provider])
        reports.append(PluginReport(plugin.provider, plugin.package, plugin.version, works=detail is None, detail=detail or ""))
    return reports


def plugin_checks(reports: Sequence[PluginReport]) -> list[Check]:
    """A check for each plugin that is installed."""
    checks = []
    for report in reports:
        if report.version is None:
            continue
        name = f"{report.package} {report.version}"
        if report.works:
            why = f"{report.provider} runs float32 models here, and `deploy --target host` tries it"
            checks.append(Check("ok", f"{name} works", why))
        else:
            do = f"nothing, where other providers serve; otherwise pip install --upgrade {report.package}"
            checks.append(Check("warning", f"{name} is installed and cannot be used", report.detail, do))
    return checks


def _failure(command: Sequence[str]) -> str | None:
    """Why a plugin does not work; ``None`` where it does."""
    from edgekit_runtime.fresh_process import exit_name

    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer after {TIMEOUT_S} s"
    except OSError as error:
        return f"it could not be tried: {error.strerror or error}"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == REFUSED and said:
        return said[-1]
    return f"it brought its process down ({exit_name(done.returncode)}{f': {said[-1]}' if said else ''})"


def _try(provider: str) -> None:
    """Runs one product of matrices on a provider.

    Raises:
        SessionError: It cannot be had, or gives something else than the product.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from edgekit_runtime.errors import SessionError
    from edgekit_runtime.model import load
    from edgekit_runtime.plugins import plugin_devices
    from edgekit_runtime.session import Provider

    plugin_devices(provider)
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(2))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [SIDE, SIDE])],
        [numpy_helper.from_array(right, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(model.SerializeToString())
        got = load(path, provider=Provider(provider), threads=1)(left)["y"]
    worst = float(np.abs(got - left @ right).max())
    if not worst <= TOLERANCE:
        raise SessionError(f"a product of {SIDE}×{SIDE} matrices is {worst:.3g} off")


def main() -> int:
    """Tries the provider that is named on the command line."""
    from edgekit_runtime.errors import EdgekitError

    try:
        _try(sys.argv[1])
    except EdgekitError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
