"""The search: from a float graph to figures of the few candidates that are worth a verdict, within a budget of time."""
