"""Whether there are wheels of what the runtime needs for a target's Python: from facts that were tested, or as pip has it now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.checkup.asking_pip import Answer, ask_pip, wheel_platforms
from edgekit.checkup.check import Check
from edgekit.checkup.known_bad import release
from edgekit.checkup.wheel_facts import Found, System, wheel_facts
from edgekit.labs.devices.board import NEEDED, OLDEST_PYTHON

__all__ = ["online_wheel_checks", "wheel_checks"]

Ask = Callable[[Sequence[str], str, Sequence[str]], list[Answer]]


def wheel_checks(target: str, architecture: str, python: str | None) -> list[Check]:
    """Whether there are wheels of all that the runtime needs, from facts that were tested; the network is left alone.

    Args:
        target: The target's name.
        architecture: ``aarch64``, ``x86_64``, …
        python: Python's version there; by default those of the systems that the target runs on, or all that were tested.
    """
    facts = wheel_facts()
    if python is not None:
        old = _too_old(python)
        return old or [
            _wheels_of(target, architecture, python, next((s for s in facts.systems_of(target) if s.python == python), None))
        ]
    systems = facts.systems_of(target)
    if systems:
        return [_wheels_of(target, architecture, system.python, system) for system in systems]
    known = [found for found in facts.wheels if architecture in found.architectures]
    if not known:
        return [_unknown(target, architecture, "any Python")]
    whole = [found.python for found in known if not _lacking(found.packages)]
    return [
        Check(
            "ok",
            f"wheels for Python {_listed(whole)} on {architecture}",
            f"{_versions(known[0].packages)} and, for later Pythons, newer ones, on Linux with glibc "
            f"{_oldest_glibc(known[0].packages)} or newer; tested {facts.tested}",
        )
    ]


def online_wheel_checks(target: str, architecture: str, python: str | None, ask: Ask = ask_pip) -> list[Check]:
    """The same as `wheel_checks`, as the index has it that pip is set to use.

    Raises:
        InputError: There is no pip here.
    """
    facts = wheel_facts()
    systems = facts.systems_of(target) or list(facts.systems.values())
    wanted = [(python, max((s.glibc for s in systems if s.python == python), default=min(s.glibc for s in systems)))]
    if python is None:
        wanted = [(system.python, system.glibc) for system in systems]
    checks = []
    for version, glibc in wanted:
        assert version is not None
        packages = [f"{name}>={'.'.join(map(str, oldest))}" for name, oldest in NEEDED.items()]
        answers = ask(packages, version, wheel_platforms(architecture, glibc))
        place = f"Python {version} on {architecture} with glibc {glibc}"
        missing = [answer for answer in answers if answer.file is None]
        if missing:
            why = "; ".join(f"{answer.package}: {answer.reason}" for answer in missing)
            do = "take a Python that has them, or see that pip here reaches an index that has them"
            checks.append(Check("problem", f"pip finds not all wheels for {place}", why, do))
        else:
            checks.append(Check("ok", f"pip finds wheels for {place}", ", ".join(str(answer.file) for answer in answers)))
    return checks


def _wheels_of(target: str, architecture: str, python: str, system: System | None) -> Check:
    facts = wheel_facts()
    found = facts.of(architecture, python)
    if found is None:
        return _unknown(target, architecture, f"Python {python}")
    lacking = _lacking(found.packages)
    what = f"for Python {python} on {architecture}"
    whose = f", which {system.name} has" if system else ""
    if lacking:
        whole = [one.python for one in facts.wheels if architecture in one.architectures and not _lacking(one.packages)]
        return Check(
            "problem",
            f"no wheel of {_listed(lacking)} {what}",
            f"pip found none on {facts.tested}{whose}",
            f"take Python {_listed(whole)}, or ask again with --online",
        )
    oldest = _oldest_glibc(found.packages)
    if system is not None and release(system.glibc) < release(oldest):
        return Check("problem", f"wheels {what} need glibc {oldest}", f"{system.name} has {system.glibc}", "take a newer system")
    glibc = f"glibc {oldest} or newer, and {system.name} has {system.glibc}" if system else f"glibc {oldest} or newer"
    return Check("ok", f"wheels {what}", f"{_versions(found.packages)}; they need {glibc}; tested {facts.tested}")


def _unknown(target: str, architecture: str, python: str) -> Check:
    return Check(
        "warning",
        f"nothing is known of wheels for {python} on {architecture}",
        f"nobody has tested them for {target}",
        "ask with --online, or look on the device: python3 -m pip download --only-binary=:all: numpy onnxruntime msgspec",
    )


def _too_old(python: str) -> list[Check]:
    if release(python)[:2] >= OLDEST_PYTHON:
        return []
    return [
        Check(
            "problem",
            f"Python {python} is too old",
            "edgekit-runtime needs 3.11 or newer; Raspberry Pi OS has it since bookworm (2023)",
            "take a newer system, or another Python: edgekit device add NAME ADDRESS --python PATH",
        )
    ]


def _lacking(packages: dict[str, Found]) -> list[str]:
    return [name for name, oldest in NEEDED.items() if name not in packages or release(packages[name].version) < oldest]


def _versions(packages: dict[str, Found]) -> str:
    return ", ".join(f"{name} {found.version}" for name, found in packages.items())


def _oldest_glibc(packages: dict[str, Found]) -> str:
    return max((found.glibc for found in packages.values()), key=release)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else "".join(words)
