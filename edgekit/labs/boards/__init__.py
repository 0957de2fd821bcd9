"""Boards that are emulated, one TOML file each."""
