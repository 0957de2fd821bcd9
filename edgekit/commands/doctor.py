"""``edgekit doctor``: what this machine is, what follows from that for int8, and what is wrong with it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import msgspec

from edgekit.checkup.findings import Finding
from edgekit.checkup.integer_probes import OnnxruntimeFacts, ProbeResult
from edgekit.checkup.known_bad import Host, known_bad
from edgekit.checkup.packages import installed_versions, onnxruntime_distributions, package_findings
from edgekit.checkup.plugin_probe import PluginReport, plugin_findings, probe_plugins
from edgekit.checkup.probe_process import probe_findings, run_probes
from edgekit.checkup.surroundings import Surroundings, isa_in_words, surrounding_findings, surroundings
from edgekit_runtime.machine import Machine, machine

__all__ = ["Diagnosis", "doctor"]

PROVIDER_PACKAGES = {
    "QNNExecutionProvider": "onnxruntime-qnn",
    "WebGpuExecutionProvider": "onnxruntime-ep-webgpu",
}


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
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
        findings: What was found, worst first.
    """

    machine: Machine
    int8: list[str]
    surroundings: Surroundings
    versions: dict[str, str | None]
    onnxruntime: OnnxruntimeFacts | None
    provider_packages: dict[str, str]
    plugins: list[PluginReport]
    probes: list[ProbeResult]
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that will not work."""
        return all(finding.severity != "problem" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit doctor --json``."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        # The tag tells the probes' lines apart on their way here; nobody else needs it.
        for line in (*document["probes"], document["onnxruntime"] or {}):
            line.pop("type", None)
        return document


def doctor() -> Diagnosis:
    """Examines this machine. Whatever is broken becomes a finding; nothing is raised."""
    report = run_probes()
    here, around = machine(), surroundings()
    versions, builds = installed_versions(), onnxruntime_distributions()
    # Telling which plugins there are imports onnxruntime, which the probes have seen to be safe.
    plugins = probe_plugins() if report.onnxruntime is not None else []
    packages = PROVIDER_PACKAGES | {plugin.provider: plugin.package for plugin in plugins}
    installed = {name: version for name, version in versions.items() if version is not None}
    host = Host(here.architecture, platform.system(), processor_flags(_cpuinfo()))
    found = [
        *package_findings(versions, builds),
        *known_bad(installed, host),
        *probe_findings(report, here.isa),
        *plugin_findings(plugins),
        *surrounding_findings(around),
    ]
    return Diagnosis(
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
        findings=sorted(found, key=lambda finding: ("problem", "warning", "ok").index(finding.severity)),
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
