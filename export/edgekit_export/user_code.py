"""Finding the line of the user's own code that an error or a log came from."""

import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_stack, walk_tb

import edgekit_runtime

__all__ = ["current_user_line", "error_chain", "last_user_line", "user_line_in_text"]

FRAME = re.compile(r'File "([^"]+)", line (\d+), in \w+\s*\n\s*([^\n]+)')
# torch's own code, Python's and ours are not where the user can change something.
PACKAGES = Path(sysconfig.get_paths()["purelib"])
STANDARD = Path(sysconfig.get_paths()["stdlib"])
OURS = (Path(__file__).parent, Path(edgekit_runtime.__file__).parent)


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def last_user_line(error: BaseException) -> str:
    """`` (FILE:LINE: "code")`` of the innermost line that is the user's, from messages and tracebacks; or nothing."""
    found = ""
    for link in error_chain(error):
        quoted = user_line_in_text(str(link))
        if quoted:
            return quoted
        for frame, number in walk_tb(link.__traceback__):
            file = Path(frame.f_code.co_filename)
            if _is_ours(file):
                found = ""  # what called us is not what we ran
            elif _is_users(file):
                found = _quoted(file, number)
    return found


def current_user_line() -> str:
    """The same, for the innermost frame of the user's that is running right now below one of ours."""
    below = False
    for frame, number in walk_stack(None):
        file = Path(frame.f_code.co_filename)
        if _is_users(file):
            return _quoted(file, number)
        if below and _is_ours(file):
            break  # what called us is not what we ran
        below = below or not _is_ours(file)
    return ""


def user_line_in_text(text: str) -> str:
    """The same, for the innermost frame that is quoted in a text."""
    found = ""
    for file, number, code in FRAME.findall(text):
        if _is_users(Path(file)):
            found = f' ({file}:{number}: "{code.strip()}")'
    return found


def _is_ours(file: Path) -> bool:
    return any(file.is_relative_to(folder) for folder in OURS)


def _is_users(file: Path) -> bool:
    if _is_ours(file) or file.is_relative_to(PACKAGES) or file.is_relative_to(STANDARD):
        return False
    return file.is_file()


def _quoted(file: Path, number: int) -> str:
    lines = file.read_text(errors="replace").splitlines()
    source = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return f' ({file}:{number}: "{source}")'
