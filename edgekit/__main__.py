"""``python -m edgekit``: the same as ``edgekit``."""

from edgekit.cli import main

main()
