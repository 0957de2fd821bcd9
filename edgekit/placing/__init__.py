"""Placement by measurement: which nodes compute in integers, chosen by the time that each takes either way."""
