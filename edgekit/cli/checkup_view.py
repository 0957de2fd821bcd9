"""A checkup as a person reads it: what is wrong first, then the machine, then the probes behind it."""

from typing import TYPE_CHECKING

from rich.text import Text

from edgekit.cli.screen import Screen, bytes_in_words, heading, number, pairs, plain_table

if TYPE_CHECKING:
    from edgekit.checkup.check import Check
    from edgekit.commands.doctor import Checkup
    from edgekit.commands.doctor_target import TargetCheckup

__all__ = ["show_checkup", "show_target_checkup"]

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}
PROBE_COLOURS = {"exact": "", "saturates": "yellow", "wrong": "red", "failed": "red"}


def show_checkup(checkup: "Checkup") -> None:
    """Checks, the machine, the software, the probes."""
    screen = Screen()
    _show_checks(screen, checkup.checks)
    heading(screen, "machine")
    here, around = checkup.machine, checkup.surroundings
    rows = [
        ("processor", f"{here.cpu}, {here.architecture}"),
        ("instruction sets", ", ".join(here.isa) or "none that matter to int8"),
        *(("int8", line) for line in checkup.int8),
        ("cores", f"{here.cores} of {here.cores_total}"),
        ("memory", f"{bytes_in_words(around.memory_available_bytes)} free of {bytes_in_words(here.memory_bytes)}"),
        ("temporary files", f"{around.temp_folder}, {bytes_in_words(around.temp_free_bytes)} free"),
        ("system", f"{here.system}, Python {here.python}, {around.python_bits} bits"),
        *((name, value) for name, value in around.variables.items()),
    ]
    pairs(screen, rows)
    heading(screen, "software")
    facts = checkup.onnxruntime
    rows = [("onnxruntime here", "none imports" if facts is None else f"{facts.version} with {', '.join(facts.providers)}")]
    rows += [(plugin.package, f"{plugin.version}, works") for plugin in checkup.plugins if plugin.works]
    rows += [(f"{provider}", command) for provider, command in checkup.provider_packages.items()]
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in checkup.versions.items())
    pairs(screen, [*rows, ("versions", versions)])
    if checkup.probes:
        heading(screen, "integer probes")
        table = plain_table("probe", "result", "kernel", "expected", "got", left=3)
        for probe in checkup.probes:
            told = probe.kernel or probe.detail
            figures = (number(probe.expected, ",.0f"), number(probe.got, ",.0f"))
            table.add_row(probe.name, probe.status, Text(told), *figures, style=PROBE_COLOURS[probe.status])
        screen.print(table)


def show_target_checkup(checkup: "TargetCheckup") -> None:
    """What the target is, then the checks, worst first."""
    screen = Screen()
    rows = [
        ("target", f"{checkup.target}: {checkup.description}"),
        ("processor", f"{checkup.architecture}, {', '.join(checkup.isa) or 'no instruction sets that are known'}"),
        *(("int8", line) for line in checkup.int8),
    ]
    pairs(screen, [*rows, ("bundle", checkup.bundle)] if checkup.bundle else rows, indent=0)
    screen.print()
    _show_checks(screen, checkup.checks)


def _show_checks(screen: Screen, checks: "list[Check]") -> None:
    for check in checks:
        screen.print(Text.assemble((f"{check.severity}  ", COLOURS[check.severity]), (check.what, "bold")))
        pairs(screen, [(label, text) for label, text in (("why", check.why), ("do", check.do)) if text])
