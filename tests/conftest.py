"""What holds for all tests."""

from hypothesis import settings

# A shared machine stalls for seconds: a deadline would fail on that, not on the code.
settings.register_profile("edgekit", deadline=None)
settings.load_profile("edgekit")
