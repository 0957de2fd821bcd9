"""Lines of printed text, rendered with fonts that come with matplotlib and worn a little, as a scanner would see them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.models.package_data import package_folder

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = ["HEIGHT", "font_folder", "lines_of_text", "picture_of", "texts"]

HEIGHT = 48
"""Pixels, of every picture."""
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralItalic.ttf",
)
SOURCES = {"calibration": "lee_background.cor", "evaluation": "lee.cor"}
SHARE_WITH_FIGURES = 0.2

Half = Literal["calibration", "evaluation"]


def font_folder() -> Path:
    """TrueType fonts that come with matplotlib: DejaVu and STIX, both free."""
    return package_folder("matplotlib") / "mpl-data" / "fonts" / "ttf"


@cache
def _font(name: str, size: int) -> "FreeTypeFont":
    package_folder("PIL")
    from PIL import ImageFont

    return ImageFont.truetype(str(font_folder() / name), size, layout_engine=ImageFont.Layout.BASIC)


def texts(half: Half, count: int, random: np.random.Generator) -> list[str]:
    """Two to six words in a row of news texts (gensim's Lee corpus), or, for one in five, a date, a word and a sum."""
    file = package_folder("gensim") / "test" / "test_data" / SOURCES[half]
    news = file.read_text(encoding="latin-1").splitlines()
    found = []
    for _ in range(count):
        words = news[int(random.integers(len(news)))].split()
        length = int(random.integers(2, 7))
        start = int(random.integers(0, max(len(words) - length, 1)))
        if random.random() < SHARE_WITH_FIGURES:
            day, month, year = random.integers(1, 31), random.integers(1, 13), random.integers(1950, 2030)
            found.append(f"{day}/{month}/{year} {words[start]} {random.uniform(0, 999):.2f}")
        else:
            found.append(" ".join(words[start : start + length]))
    return found


def picture_of(text: str, random: np.random.Generator) -> np.ndarray:
    """A text as a picture (48, width), uint8: a font, a size, a slight turn, a blur, grey paper and ink, and noise."""
    font = _font(FONTS[int(random.integers(len(FONTS)))], int(random.integers(22, 44)))

    from PIL import Image, ImageDraw, ImageFilter

    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    margin, paper, ink = int(random.integers(3, 9)), int(random.integers(170, 256)), int(random.integers(0, 90))
    page = Image.new("L", (right - left + 2 * margin, bottom - top + 2 * margin), paper)
    ImageDraw.Draw(page).text((margin - left, margin - top), text, fill=ink, font=font)
    page = page.rotate(random.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor=paper)
    page = page.filter(ImageFilter.GaussianBlur(random.uniform(0.0, 1.5)))
    page = page.resize((max(round(HEIGHT * page.width / page.height), 1), HEIGHT), Image.Resampling.BILINEAR)
    seen = np.asarray(page, np.float32) + random.normal(0.0, random.uniform(0.0, 20.0), (HEIGHT, page.width))
    return np.clip(np.round(seen), 0, 255).astype(np.uint8)


def lines_of_text(half: Half, count: int, seed: int) -> Sequence[tuple[np.ndarray, str]]:
    """Pictures (48, width), uint8, with their texts; the two halves take theirs from different news."""
    random = np.random.default_rng(seed)
    return [(picture_of(text, random), text) for text in texts(half, count, random)]
