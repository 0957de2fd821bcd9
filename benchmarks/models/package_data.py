"""Find the files that an installed package carries, without importing the package."""

from importlib.util import find_spec
from pathlib import Path

from edgekit_runtime.errors import MissingExtraError

__all__ = ["package_folder"]


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
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"the recipes in benchmarks/models need the package {package!r}, which is not installed; "
            "run this in the checkout: pip install '.[bench]'"
        )
    return Path(spec.submodule_search_locations[0])
