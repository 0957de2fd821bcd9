"""Self-test: a bundle runs its golden inputs, on this machine or at another place, and says whether it computes what it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.labs.placed import PlacedSelfTest
    from edgekit.progress import Progress

__all__ = ["selftest"]


def selftest(
    bundle: str | Path,
    *,
    threads: int | None = None,
    check_isa: bool = True,
    on: str = "host",
    progress: Progress | None = None,
) -> PlacedSelfTest:
    """Runs a bundle's golden examples in a process of their own.

    Args:
        bundle: The bundle.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold on that machine's instruction sets.
        on: A place: an emulated board, a device, or ``host``.
        progress: Told what is going on.

    Raises:
        BundleError: The bundle is damaged, or it is a plain model, which has no golden examples.
        DeviceError: There is no such place, or it is not reached.
    """
    from edgekit.labs.place import find_place
    from edgekit.labs.placed import selftest_at

    return selftest_at(find_place(on, progress), Path(bundle), threads=threads, check_isa=check_isa, progress=progress)
