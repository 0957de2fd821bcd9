"""Find the files that an installed package carries, without importing the package."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

from edgekit_runtime.errors import MissingExtraError

__all__ = ["package_folder"]

HERE = Path(__file__).resolve().parent


def package_folder(package: str) -> Path:
    """The folder of an installed top-level package, which is looked up and not imported.

    foolbox and gensim take seconds and hundreds of megabytes to import; the recipes want a few of their files only.

    Args:
        package: The name that ``import`` would take, for example ``"gensim"``.

    Returns:
        The package's folder.

    Raises:
        MissingExtraError: The package is not installed.
    """
    # A recipe's folder is on the path while it is used, and a recipe may be called like the package that it reads.
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != HERE]
    spec = PathFinder.find_spec(package, elsewhere)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"the recipes in benchmarks/models need the package {package!r}, which is not installed; "
            "run this in the checkout: pip install '.[bench]'"
        )
    return Path(spec.submodule_search_locations[0])
