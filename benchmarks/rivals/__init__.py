"""What ``benchmarks/peers.py`` is made of: one file a peer, run in an environment of the peer's own, and what drives them.

``environments.py``, ``material.py``, ``models.py``, ``workers.py``, ``timing_rounds.py`` and ``judging.py`` run in edgekit's
environment; ``serving.py`` and the files of the peers run in the peers' and need what ``pins/`` names. ``causes.py`` says why
edgekit lost where it did.
"""
