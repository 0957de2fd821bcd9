"""Session options as a report tells them."""

from edgekit_runtime.session import SessionConfig

__all__ = ["session_in_words"]


def session_in_words(config: SessionConfig) -> str:
    """What differs from the default session options, in words; empty where nothing does."""
    words = [] if config.threads is None else [f"{config.threads} thread{'s' if config.threads > 1 else ''}"]
    words += [] if config.spinning else ["threads that wait do not spin"]
    words += [] if config.memory_arena else ["no memory arena"]
    words += [] if config.blocked_layout else ["no blocked layout"]
    words += [] if config.graph_optimization == "all" else [f"graph optimization {config.graph_optimization}"]
    return ", ".join(words)
