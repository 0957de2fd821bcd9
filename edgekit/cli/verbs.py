"""All verbs: importing a module puts its verbs into the program, and the help lists them in that order."""

from edgekit.cli import deploying, exporting, inspecting, measuring
from edgekit.cli.app import app

__all__ = ["app", "deploying", "exporting", "inspecting", "measuring"]
