"""Card: a bundle's model card in Markdown."""

from pathlib import Path
from typing import Any

import msgspec

from edgekit.model_card import model_card
from edgekit.text_file import check_text_path, write_text
from edgekit_runtime.bundle import check_files, read_manifest
from edgekit_runtime.errors import OutputError

__all__ = ["Card", "card"]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A model card.

    Attributes:
        bundle: What it is about.
        saved: Where it was written; ``None`` where that was not asked for.
        text: The card, in Markdown.
    """

    bundle: str
    saved: str | None
    text: str

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit card --json``."""
        return dict(msgspec.to_builtins(self))


def card(bundle: str | Path, *, out: str | Path | None = None) -> Card:
    """The model card of a bundle, from its manifest.

    Args:
        bundle: A ``NAME.edge`` directory, whose files are checked against its manifest first.
        out: A ``.md`` file to write it to; not into the bundle, which holds what its manifest lists and nothing else.

    Raises:
        BundleError: The bundle is damaged, incomplete, unsafe or too new.
        OutputError: The file cannot be written.
    """
    bundle = Path(bundle)
    manifest = read_manifest(bundle)
    check_files(bundle, manifest)
    if out is not None:
        check_text_path(Path(out), ".md")
        if Path(out).resolve().is_relative_to(bundle.resolve()):
            raise OutputError(f"write {out}: a bundle holds only what its manifest lists; write the card beside {bundle}")
    text = model_card(manifest, bundle.resolve().name)
    if out is not None:
        write_text(Path(out), text)
    return Card(bundle=str(bundle), saved=str(out) if out is not None else None, text=text)
