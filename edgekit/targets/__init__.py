"""One TOML file a target."""
