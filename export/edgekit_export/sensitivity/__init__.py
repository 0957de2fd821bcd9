"""Sensitivity: what quantizing a node does, all others float, and what sparing it does, all others quantized."""

from edgekit_export.sensitivity.groups import Group
from edgekit_export.sensitivity.switchable import Switchable, open_switchable

__all__ = ["Group", "Switchable", "open_switchable"]
