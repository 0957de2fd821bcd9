"""Calibration: the ranges that a graph's tensors span on the recipe's calibration data."""

from edgekit_export.calibration.collect import calibrate
from edgekit_export.calibration.histogram import Histogram
from edgekit_export.calibration.observe import observed
from edgekit_export.calibration.ranges import METHODS, Method, Ranges, ranges_from
from edgekit_export.calibration.statistics import Statistics

__all__ = ["METHODS", "Histogram", "Method", "Ranges", "Statistics", "calibrate", "observed", "ranges_from"]
