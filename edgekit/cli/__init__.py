"""The command line: ``edgekit VERB …``."""

from edgekit.cli.main import main

__all__ = ["main"]
