"""Writing one text file aside and swapping it in, so that a kill leaves the old file, the new one, or nothing."""

from pathlib import Path

from edgekit_runtime.errors import OutputError

__all__ = ["check_text_path", "write_text"]


def check_text_path(path: Path, suffix: str) -> None:
    """Makes sure, before minutes of work, that a file may be written there.

    Args:
        path: Where to.
        suffix: What the name must end in.

    Raises:
        OutputError: The name ends in something else, a folder stands there, or its own folder is not there.
    """
    if path.suffix != suffix:
        raise OutputError(f"write {path}: expected a name that ends in {suffix}")
    if path.is_dir():
        raise OutputError(f"write {path}: it is a directory; give a file name that ends in {suffix}")
    if not path.parent.is_dir():
        raise OutputError(f"write {path}: there is no folder {path.parent}; make it first")


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8.

    Raises:
        OutputError: It could not be written; what stood there is untouched.
    """
    from edgekit_export.swap import translated_write_errors, workspace

    with translated_write_errors(path), workspace(path) as folder:
        aside = folder / path.name
        aside.write_text(text, "utf-8")
        aside.replace(path)
