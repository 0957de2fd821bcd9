"""``edgekit doctor``: what this machine is, what follows from that for int8, and what is wrong with it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import msgspec

from edgekit.checkup.check import Check
from edgekit.checkup.integer_probes import OnnxruntimeFacts, ProbeResult
from edgekit.checkup.known_bad import Host, known_bad
from edgekit.checkup.packages import installed_versions, onnxruntime_distributions, package_checks
from edgekit.checkup.plugin_probe import PluginReport, plugin_checks, probe_plugins
from edgekit.checkup.probe_process import probe_checks, run_probes
from edgekit.checkup.surroundings import Surroundings, isa_in_words, surrounding_checks, surroundings
from edgekit_runtime.machine import Machine, machine

__all__ = ["Checkup", "doctor"]

PROVIDER_PACKAGES = {
    "QNNExecutionProvider": "onnxruntime-qnn",
    "WebGpuExecutionProvider": "onnxruntime-ep-webgpu",
}


class Checkup(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine is and what is wrong with it.

    Attributes:
        machine: Architecture, processor, instruction sets, cores, memory, system, Python.
        int8: What the instruction sets mean for int8, in words.
        surroundings: Cores, memory, disk and environment variables as this process finds them.
        versions: Versions of packages; ``None`` for what is missing.
        onnxruntime: Version, providers and build of the onnxruntime that imports here; ``None`` where none does.
        provider_packages: What to install for providers that come in a package of their own and are missing.
        plugins: Providers that edgekit registers itself, with their versions and whether they work.
        probes: What the integer probes saw.
        checks: What was checked and is worth telling, worst first.
    """

    machine: Machine
    int8: list[str]
    surroundings: Surroundings
    versions: dict[str, str | None]
    onnxruntime: OnnxruntimeFacts | None
    provider_packages: dict[str, str]
    plugins: list[PluginReport]
    probes: list[ProbeResult]
    checks: list[Check]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that will not work."""
        return all(check.severity != "problem" for check in self.checks)

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit doctor --json``."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        # The tag tells the probes' lines apart on their way here; nobody else needs it.
        for line in (*document["probes"], document["onnxruntime"] or {}):
            line.pop("type", None)
        return document


def doctor() -> Checkup:
    """Examines this machine. Whatever is broken becomes a check that says so; nothing is raised."""
    report = run_probes()
    here, around = machine(), surroundings()
    versions, builds = installed_versions(), onnxruntime_distributions()
    # Telling which plugins there are imports onnxruntime, which the probes have seen to be safe.
    plugins = probe_plugins() if report.onnxruntime is not None else []
    packages = PROVIDER_PACKAGES | {plugin.provider: plugin.package for plugin in plugins}
    installed = {name: version for name, version in versions.items() if version is not None}
    host = Host(here.architecture, platform.system(), processor_flags(_cpuinfo()))
    found = [
        *package_checks(versions, builds),
        *known_bad(installed, host),
        *probe_checks(report, here.isa),
        *plugin_checks(plugins),
        *surrounding_checks(around),
    ]
    return Checkup(
        machine=here,
        int8=isa_in_words(here.architecture, here.isa),
        surroundings=around,
        versions=versions,
        onnxruntime=report.onnxruntime,
        provider_packages={
            provider: f"pip install {package}" for provider, package in packages.items() if package not in installed
        },
        plugins=plugins,
        probes=report.results,
        checks=sorted(found, key=lambda check: ("problem", "warning", "ok").index(check.severity)),
    )


def processor_flags(cpuinfo: str) -> frozenset[str]:
    """Features in the kernel's own words, from the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, words = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(words.split())
    return frozenset()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
