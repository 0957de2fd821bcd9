"""The room as a whole: its exported names, its layer, its version."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import edgekit_export
import edgekit_runtime

MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(edgekit_export.__path__, prefix="edgekit_export.")
]


@pytest.mark.parametrize("module", [edgekit_export, *MODULES], ids=lambda module: module.__name__)
def test_exported_names_hold_and_have_docstrings(module: ModuleType) -> None:
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{module.__name__}.{name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_definitions_are_exported(module: ModuleType) -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__ and callable(value)
    }
    hidden = {name for name in defined - set(module.__all__) if inspect.getdoc(vars(module)[name]) is None}
    assert not hidden


def test_a_lower_room_never_imports_a_higher_one() -> None:
    modules = ", ".join(module.__name__ for module in MODULES)
    code = f"import sys, {modules}; print([name for name in sys.modules if name == 'edgekit' or name.startswith('edgekit.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_version() -> None:
    assert edgekit_export.__version__ == edgekit_runtime.__version__
