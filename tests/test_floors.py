"""The floors of the house: who may import whom, what stays out, how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sardonyx

ROOT = Path(sardonyx.__file__).parent

FLOORS = [
    {"_version", "_modules", "errors", "dtypes", "dims", "limits"},
    {"ir", "loops"},
    {"ops", "wire"},
    {"infer", "reference", "autodiff", "convert", "rewrite", "lowering"},
    {"check"},
    {"compose", "kernels", "codegen"},
    {"schedule", "passes"},
    {"runtime"},
    {
        "backend",
        "bridge",
        "cli",
        "export",
        "train",
        "quantize",
        "compat",
        "view",
        "serve",
        "__main__",
    },
]
FREE = {
    "dtypes": {"errors"},
    "limits": {"errors"},
    "autodiff": {"infer"},
    "reference": {"autodiff"},
    "rewrite": {"infer"},
    "cli": {"bridge", "export", "backend"},
    "__main__": {"cli"},
}
"""Imports on one floor that are allowed: floor 0 is ordered, gradients are written from what is
inferred and before a model is run, and the command line shows all."""

FRAMEWORKS = {"torch", "tensorflow", "jax", "sklearn", "onnx", "onnxruntime", "openvino", "google"}
FRAMEWORK_HOMES = ("bridge", "export")
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}

LONG_FILES: set[str] = set()
LONGEST_FILE = 620


def rooms() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def floor_of(room: str) -> int:
    for number, floor in enumerate(FLOORS):
        if room in floor:
            return number
    raise AssertionError(f"{room} is on no floor: add it to FLOORS")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    if path == ROOT / "__init__.py":
        return
    room = room_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "sardonyx" or len(parts) < 2:
            continue
        target = parts[1]
        if not (ROOT / target).exists() and not (ROOT / f"{target}.py").exists():
            continue  # a public name of the package itself
        if target == room or target in FREE.get(room, set()):
            continue
        assert floor_of(target) < floor_of(room), f"{room} imports {name}"


def test_only_codegen_imports_llvmlite() -> None:
    found = {
        room_of(path) for path in rooms() for name in imported(path) if name.startswith("llvmlite")
    }
    assert found <= {"codegen"}


def test_frameworks_are_imported_only_by_their_exporter() -> None:
    for path in rooms():
        used = {name.split(".")[0] for name in imported(path)} & FRAMEWORKS
        assert not used or room_of(path) in FRAMEWORK_HOMES, f"{path} imports {used}"


def test_nothing_unpickles_or_executes_text() -> None:
    for path in rooms():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {name.split(".")[0] for name in imported(path)}
        assert not modules & {"pickle", "marshal", "shelve", "dill"}, path
        calls = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & FORBIDDEN_CALLS, path


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT))
        for path in rooms()
        if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    }
    assert long == LONG_FILES


def test_import_is_light() -> None:
    code = (
        "import sys; before = set(sys.modules); import sardonyx\n"
        "sardonyx.Session, sardonyx.load, sardonyx.check\n"
        "print('\\n'.join(m for m in sys.modules if m not in before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert not loaded & (FRAMEWORKS | {"llvmlite", "typer", "rich", "PIL"})
