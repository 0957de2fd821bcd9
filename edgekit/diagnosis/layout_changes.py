"""Changes of layout that onnxruntime puts around its kernels."""

from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.profile import NUMBERED, Profile

__all__ = ["layout_changes"]

REORDERS = ("ReorderInput", "ReorderOutput")
SHOWN = 5


def layout_changes(profile: Profile) -> Finding | None:
    """Transposes that the model does not ask for, and reorders into blocks of channels and out of them."""
    changes = [
        time
        for time in profile.own.times
        if time.operator in REORDERS or (time.operator == "Transpose" and NUMBERED.sub("", time.name) not in profile.stored)
    ]
    if not changes:
        return None
    taken = sum(time.time_us for time in changes)
    worst = sorted(changes, key=lambda time: -time.time_us)
    counts = {kind: sum(time.operator == kind for time in changes) for kind in ("Transpose", *REORDERS)}
    return Finding(
        name="layout-changes",
        kind="slow",
        impact=taken / profile.total_us,
        title=f"{len(changes)} changes of layout take {taken:.0f} of {profile.total_us:.0f} µs",
        evidence=[
            ", ".join(f"{count} {kind}" for kind, count in counts.items() if count),
            *(f"{time.name}: {time.operator}, {time.time_us:.0f} µs" for time in worst[:SHOWN]),
        ],
        advice="they stand where kernels of different layouts meet: quantize the convolutions on both sides, or neither",
        nodes=[time.name for time in worst],
    )
