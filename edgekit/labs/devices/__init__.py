"""Devices over SSH: their list, the way to them, and what is put on them."""
