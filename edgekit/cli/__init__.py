"""The command line: ``edgekit VERB …``."""

import sys

__all__ = ["main"]

INTERRUPTED = 130


def main() -> None:
    """The ``edgekit`` program."""
    try:
        from edgekit.cli.verbs import app

        app(prog_name="edgekit")
    except KeyboardInterrupt:
        # Before a command's own work began: nothing was touched yet.
        sys.exit(INTERRUPTED)
