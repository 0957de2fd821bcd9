"""Where labels go beside their points, so that they cover neither each other nor a point."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Box", "Place", "place_labels"]

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
RADII = (9, 14, 20, 28, 38)
COVERED = 1000.0
CROSSED = 12.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share any area."""
        return self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top

    def inside(self, other: "Box") -> bool:
        """Whether all of this one is in the other."""
        return self.left >= other.left and self.right <= other.right and self.bottom >= other.bottom and self.top <= other.top


@dataclass(frozen=True)
class Place:
    """Where a label goes: its offset from the point in pixels, and which side of the text sits there."""

    dx: float
    dy: float
    align: str
    covers: bool


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    avoid: Sequence[Box] = (),
) -> list[Place]:
    """A place for each label, one after the other, each where it does the least harm.

    Args:
        points: Where the points are, in pixels.
        sizes: Width and height of each label.
        frame: What no label may leave.
        avoid: Lines and bars that a label had better not cross.

    Returns:
        One place per point; ``covers`` is true where no place was free of other labels, points and the frame's edge.
    """
    markers = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    taken: list[Box] = []
    places: list[Place] = []
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        best: tuple[float, Place, Box] | None = None
        for radius in RADII:
            for across, up in DIRECTIONS:
                reach = radius if not (across and up) else radius * 0.75
                dx, dy = across * reach, up * (reach + height / 4 + 1)
                left = x + dx - (0 if across > 0 else width if across < 0 else width / 2)
                box = Box(left, y + dy - height / 2, left + width, y + dy + height / 2)
                harm = sum(box.overlaps(other) for other in (*taken, *markers)) + (not box.inside(frame))
                cost = COVERED * harm + CROSSED * sum(box.overlaps(line) for line in avoid) + radius
                align = "left" if across > 0 else "right" if across < 0 else "center"
                if best is None or cost < best[0]:
                    best = cost, Place(dx, dy, align, bool(harm)), box
        assert best is not None
        taken.append(best[2])
        places.append(best[1])
    return places
