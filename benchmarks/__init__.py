"""Ratios against peers and limits: ``python -m benchmarks.NAME`` from the root of the checkout.

Each script prints rows for a person and, as its last line, one JSON document (`benchmarks.document`). A bar that does not
hold is a finding, not a failure: the exit status stays 0.
"""
