"""What holds of the whole package: what it exports, what it imports, who may import whom, one version."""

import ast
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import edgekit
import edgekit_export
import edgekit_runtime

ROOT = Path(edgekit.__file__).parents[1]
MODULES = ["edgekit"] + [
    found.name for found in pkgutil.walk_packages(edgekit.__path__, "edgekit.") if not found.name.endswith("__main__")
]
HEAVY = ("torch", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "matplotlib", "jinja2", "edgekit_export", "scipy")
ROOMS = {
    "runtime": ROOT / "runtime" / "edgekit_runtime",
    "export": ROOT / "export" / "edgekit_export",
    "edgekit": ROOT / "edgekit",
}
FILES = [(room, path) for room, folder in ROOMS.items() for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("name", MODULES)
def test_all_holds_and_has_docstrings(name):
    module = import_module(name)
    assert module.__doc__
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for public in exported:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public} has no docstring"
    for public, value in vars(module).items():
        own = getattr(value, "__module__", None) == name and (inspect.isclass(value) or inspect.isfunction(value))
        if own and not public.startswith("_"):
            assert value.__doc__, f"{name}.{public} has no docstring"


def test_words_of_the_command_line_are_functions_whatever_was_imported():
    for name in edgekit.COMMANDS:
        import_module(f"edgekit.commands.{name}")
    for name in MODULES:
        import_module(name)
    for name in (*edgekit.COMMANDS, "load"):
        assert inspect.isfunction(getattr(edgekit, name)), name
        assert name in edgekit.__all__
    assert inspect.isfunction(import_module("edgekit.cli").main)
    with pytest.raises(AttributeError, match="has no attribute 'deplyo'; it has Recipe"):
        _ = edgekit.deplyo


@pytest.mark.parametrize(
    "code",
    [
        "import edgekit",
        "import edgekit; edgekit.Recipe(name='a', model=dict, example=dict)",
        "import sys; sys.argv = ['edgekit', '--help']; from edgekit.cli import main; main()",
        "import sys; sys.argv = ['edgekit', 'doctor', '--help']; from edgekit.cli import main; main()",
        "import sys; sys.argv = ['edgekit', 'deploy', '--help']; from edgekit.cli import main; main()",
    ],
)
def test_help_and_import_load_nothing_heavy(code):
    script = f"import atexit, sys\natexit.register(lambda: print('LOADED', *sys.modules, file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split("LOADED")[1].split())
    assert not loaded.intersection(HEAVY)


def test_one_version_everywhere():
    versions = {edgekit.__version__, edgekit_export.__version__, edgekit_runtime.__version__}
    for path in (ROOT / "pyproject.toml", ROOT / "runtime" / "pyproject.toml", ROOT / "export" / "pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        versions.add(project["version"])
        versions |= {text.split("==")[1] for text in project["dependencies"] if text.startswith("edgekit")}
        versions.add(importlib.metadata.version(project["name"]))
    assert len(versions) == 1, versions


def imports(path):
    """(imported module, whether at module level) of everything that a file imports."""
    tree = ast.parse(path.read_text())
    inner = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
    typing = {
        id(node) for outer in ast.walk(tree) if isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test)
        for node in ast.walk(outer)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            assert getattr(node, "level", 0) == 0, f"{path}: relative import"
            for name in names:
                yield name.split(".")[0], id(node) not in inner and id(node) not in typing


@pytest.mark.parametrize(("room", "path"), FILES, ids=[f"{path.parent.name}/{path.name}" for _, path in FILES])
def test_rooms_import_only_lower_ones(room, path):
    found = list(imports(path))
    names = {name for name, _ in found}
    if room == "runtime":
        assert names <= {"numpy", "onnxruntime", "msgspec", "edgekit_runtime"} | sys.stdlib_module_names
    if room == "export":
        assert "edgekit" not in names
    if room == "edgekit" and path.parent.name != "models":
        assert not {name for name, top in found if top} & {"torch", "edgekit_export"}


@pytest.mark.parametrize("path", [path for _, path in FILES], ids=[f"{path.parent.name}/{path.name}" for _, path in FILES])
def test_files_are_one_idea(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert path.stem not in ("utils", "helpers", "common", "misc")
    assert "TO" + "DO" not in text
