"""The terminal: a console that leaves a reader who went away to the caller, and how figures are written."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Screen", "bounds", "bytes_in_words", "heading", "listing", "number", "pairs", "plain_table", "significant"]


class Screen(Console):
    """Standard output; a broken pipe is raised as such, and not turned into an exit status of its own."""

    def on_broken_pipe(self) -> None:
        """Raises what rich caught."""
        raise BrokenPipeError


def number(value: float | None, form: str = ".2f", scale: float = 1.0) -> str:
    """A figure, or a dash for what was not measured."""
    return "–" if value is None else format(value * scale, form)


def significant(value: float | None) -> str:
    """A figure with three significant digits, never in powers of ten."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-4 else f"{value:.3g}"


def bounds(value: float | None, interval: tuple[float, float] | None, form: str) -> str:
    """A figure with its interval."""
    if value is None or interval is None:
        return number(value, form)
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def bytes_in_words(count: int | None) -> str:
    """A number of bytes in the unit that suits it."""
    if count is None:
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"


def heading(screen: Console, text: str) -> None:
    """A title with space above."""
    screen.print()
    screen.print(Text(text, "bold"))


def plain_table(*columns: str, left: int = 1) -> Table:
    """A table without lines; the first `left` columns hold text, the others figures."""
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index < left else "right", no_wrap=index == 0)
    return table


def pairs(screen: Console, rows: list[tuple[str, str]], indent: int = 2) -> None:
    """Names with what belongs to them; long texts go on under their own column."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=indent - 2 if indent > 2 else 0)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row("", Text(name), Text(text))
    screen.print(table)


def listing(counts: dict[str, int]) -> str:
    """Counted things in one line."""
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
