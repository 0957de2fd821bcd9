"""All verbs: importing a module puts its verbs into the program, and the help lists them in that order."""

from edgekit.cli import certifying, deploying, device, exporting, inspecting, lab, measuring
from edgekit.cli.app import app

__all__ = ["app", "certifying", "deploying", "device", "exporting", "inspecting", "lab", "measuring"]
