"""What is installed, read from package metadata: nothing is imported, so nothing that is broken can break the doctor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata

from edgekit.checkup.check import Check
from edgekit.checkup.known_bad import release

__all__ = ["OLDEST_ONNXRUNTIME", "TESTED_TORCH", "installed_versions", "onnxruntime_distributions", "package_checks"]

# The oldest onnxruntime that edgekit-runtime allows, and the torch that edgekit is tested with (constraints.txt).
OLDEST_ONNXRUNTIME = (1, 22)
TESTED_TORCH = "2.13.0"

PACKAGES = (
    "edgekit",
    "edgekit-runtime",
    "edgekit-export",
    "onnxruntime",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "torch",
    "msgspec",
    "safetensors",
)
# They hold a provider each and leave onnxruntime's own files alone.
PLUGINS = ("onnxruntime-ep-openvino", "onnxruntime-ep-webgpu", "onnxruntime-qnn", "openvino")


def installed_versions() -> dict[str, str | None]:
    """Versions of what edgekit uses; ``None`` for what is missing. Other builds of onnxruntime and plugins only where installed."""
    versions: dict[str, str | None] = {name: _version(name) for name in PACKAGES}
    versions.update({name: _version(name) for name in onnxruntime_distributions()})
    versions.update({name: version for name in PLUGINS if (version := _version(name)) is not None})
    return versions


def onnxruntime_distributions() -> list[str]:
    """Names of all installed distributions that bring a package ``onnxruntime``, sorted."""
    found = set()
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(("onnxruntime", "ort-")) and _brings_onnxruntime(distribution):
            found.add(name)
    return sorted(found)


def package_checks(versions: Mapping[str, str | None], builds: Iterable[str]) -> list[Check]:
    """Checks of installed packages; what is well gives none.

    Args:
        versions: As from `installed_versions`.
        builds: As from `onnxruntime_distributions`.
    """
    builds = list(builds)
    checks = []
    if not builds:
        checks.append(
            Check(
                "problem",
                "onnxruntime is not installed",
                "nothing can be measured or run without it",
                f"pip install 'onnxruntime>={_dotted(OLDEST_ONNXRUNTIME)}'",
            )
        )
    if len(builds) > 1:
        kept = next((name for name in builds if name != "onnxruntime"), builds[0])
        checks.append(
            Check(
                "problem",
                f"{len(builds)} builds of onnxruntime are installed: {', '.join(builds)}",
                "they unpack into one folder and overwrite each other's libraries, so providers vanish without a word "
                "(microsoft/onnxruntime#26996)",
                f"pip uninstall -y {' '.join(builds)}, then pip install the one you want, such as {kept}",
            )
        )
    for name in builds:
        version = versions.get(name)
        if version and release(version) < OLDEST_ONNXRUNTIME:
            checks.append(
                Check(
                    "problem",
                    f"{name} {version} is too old",
                    f"edgekit needs {_dotted(OLDEST_ONNXRUNTIME)} or newer",
                    f"pip install '{name}>={_dotted(OLDEST_ONNXRUNTIME)}'",
                )
            )
    torch = versions.get("torch")
    if torch is None:
        checks.append(
            Check(
                "warning",
                "torch is not installed",
                "PyTorch models cannot be exported here; .onnx files and bundles work",
                f"pip install torch=={TESTED_TORCH}",
            )
        )
    elif torch.partition("+")[0] != TESTED_TORCH:
        checks.append(
            Check(
                "warning",
                f"torch {torch}",
                f"edgekit is tested with {TESTED_TORCH}, and the exporter changes from release to release",
                f"where an export fails: pip install torch=={TESTED_TORCH}",
            )
        )
    return checks


def _brings_onnxruntime(distribution: metadata.Distribution) -> bool:
    files = distribution.files
    return files is None or any(file.parts == ("onnxruntime", "__init__.py") for file in files)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
