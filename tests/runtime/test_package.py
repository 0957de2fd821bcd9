"""What holds of every module of the runtime: what it exports, what it says of it, and what it imports."""

import ast
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import edgekit_runtime

MODULES = ["edgekit_runtime"] + [
    f"edgekit_runtime.{found.name}" for found in pkgutil.walk_packages(edgekit_runtime.__path__) if found.name != "__main__"
]
ALLOWED = {"numpy", "onnxruntime", "msgspec", "edgekit_runtime"}
HEAVY = ("torch", "onnx", "rich", "typer", "edgekit_export", "edgekit", "pandas", "scipy")


@pytest.mark.parametrize("name", MODULES)
def test_all_holds(name):
    module = import_module(name)
    assert module.__doc__
    exported = module.__all__
    assert len(set(exported)) == len(exported)
    for public in exported:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public} has no docstring"
            assert value.__module__.startswith("edgekit_runtime")


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_means_to_export_is_in_all(name):
    """Every public class and function that a module defines is exported, or is documented as the inside that it is."""
    module = import_module(name)
    for public, value in vars(module).items():
        own = getattr(value, "__module__", None) == name and (inspect.isclass(value) or inspect.isfunction(value))
        if own and not public.startswith("_"):
            assert value.__doc__, f"{name}.{public} has no docstring"


def test_names_that_come_later_are_listed():
    assert set(edgekit_runtime.__all__) <= set(dir(edgekit_runtime))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = edgekit_runtime.nothing


@pytest.mark.parametrize("path", sorted(Path(edgekit_runtime.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_imports_stay_inside_what_a_device_has(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [str(node.module)]
        for name in names:
            root = name.split(".")[0]
            assert root in ALLOWED or root in sys.stdlib_module_names, f"{path.name} imports {name}"
    assert len(path.read_text().splitlines()) < 300


def loaded_by(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sorted(sys.modules))"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_nothing_heavy_is_loaded(shared_bundle):
    code = "import edgekit_runtime.selftest, edgekit_runtime.benchmark, edgekit_runtime.__main__\n"
    modules = loaded_by(code + f"edgekit_runtime.selftest.selftest(edgekit_runtime.load({str(shared_bundle)!r}))")
    assert not modules.intersection(HEAVY)


def test_importing_the_package_is_lean():
    modules = loaded_by("from edgekit_runtime import load, InputError")
    assert not modules.intersection({*HEAVY, "msgspec", "subprocess", "edgekit_runtime.benchmark"})
