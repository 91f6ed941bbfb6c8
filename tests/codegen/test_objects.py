"""Object files loaded without LLVM behave as LLVM's loader has them, and damage is noticed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import sardonyx as sx
from build import from_nodes
from codegen.random_kernels import random_case
from codegen.running import run
from sardonyx.codegen.cache import ObjectCache
from sardonyx.codegen.elf import DamagedObjectError, ForeignObjectError, read
from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import host
from sardonyx.codegen.native import Library, compile_object, link_object, load_object
from sardonyx.codegen.objects import load

TRIPLE = host().triple
IS_KNOWN = TRIPLE.split("-")[0] in {"x86_64", "aarch64"} and sys.platform == "linux"
pytestmark = pytest.mark.skipif(not IS_KNOWN, reason="LLVM's loader is used here")

TABLE = """
@table = private unnamed_addr constant [8 x i64] [i64 3, i64 1, i64 4, i64 1, i64 5, i64 9, i64 2,
  i64 6], align 64

define internal double @scaled(double %x) noinline nounwind {
  %y = fmul double %x, 0x400921FB54442D18
  %z = fadd double %y, 0x4005BF0A8B145769
  ret double %z
}

define double @circle(double %x) nounwind {
  %y = call double @scaled(double %x)
  %z = fsub double %y, 0x3FB999999999999A
  ret double %z
}

define i64 @digit(i64 %i) nounwind {
  %p = getelementptr [8 x i64], ptr @table, i64 0, i64 %i
  %d = load i64, ptr %p
  ret i64 %d
}
"""
COPY = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define void @copy(ptr %to, ptr %from, i64 %n) nounwind {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %n, i1 false)
  ret void
}

define void @clear(ptr %to, i64 %n) nounwind {
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %n, i1 false)
  ret void
}
"""
COUNTER = """
@count = internal global i64 0

define i64 @next() nounwind {
  %old = load i64, ptr @count
  %new = add i64 %old, 1
  store i64 %new, ptr @count
  ret i64 %new
}
"""
ELSEWHERE = """
declare i64 @sardonyx_nowhere(i64)

define i64 @there(i64 %x) nounwind {
  %y = call i64 @sardonyx_nowhere(i64 %x)
  ret i64 %y
}
"""


def function(result: Any, address: int, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def test_code_constants_and_calls_lie_where_they_belong() -> None:
    found = load([compile_object(TABLE, host()), compile_object(COPY, host())], TRIPLE)
    assert set(found) == {"circle", "digit", "copy", "clear"}
    circle = function(ctypes.c_double, found["circle"], ctypes.c_double)
    assert circle(2.0) == pytest.approx(2 * np.pi + np.e - 0.1, rel=1e-15)
    digit = function(ctypes.c_int64, found["digit"], ctypes.c_int64)
    assert [digit(i) for i in range(8)] == [3, 1, 4, 1, 5, 9, 2, 6]
    source, target = np.arange(5000, dtype=np.uint8), np.zeros(5000, np.uint8)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    copy = function(None, found["copy"], pointer, pointer, size)
    copy(target.ctypes.data, source.ctypes.data, 4999)
    assert np.array_equal(target[:4999], source[:4999])
    assert not target[4999]
    clear = function(None, found["clear"], pointer, size)
    clear(target.ctypes.data, 100)
    assert not target[:100].any()
    assert np.array_equal(target[100:4999], source[100:4999])


def test_no_page_is_writable_and_executable() -> None:
    found = load([compile_object(TABLE, host())], TRIPLE)
    accesses = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, access = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if start <= found["digit"] < end:
            accesses.append(access)
    assert accesses == ["r-xp"]


def test_what_is_not_known_is_left_to_llvm() -> None:
    code = compile_object(COUNTER, host())
    with pytest.raises(ForeignObjectError):
        load([code], TRIPLE)
    library = load_object([code], host())
    count = function(ctypes.c_int64, library.address("next"))
    assert [count(), count(), count()] == [1, 2, 3]


def test_functions_of_others_are_not_called() -> None:
    with pytest.raises(ForeignObjectError):
        load([compile_object(ELSEWHERE, host())], TRIPLE)


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x02\x01\x01", b"MZ" + bytes(200), bytes(64)])
def test_what_is_no_object_file_is_refused(data: bytes) -> None:
    with pytest.raises((DamagedObjectError, ForeignObjectError)):
        load([data], TRIPLE)


def test_other_processors_are_refused() -> None:
    other = "aarch64" if TRIPLE.startswith("x86_64") else "x86_64"
    with pytest.raises(ForeignObjectError):
        load([compile_object(TABLE, host())], f"{other}-unknown-linux-gnu")
    with pytest.raises(ForeignObjectError):
        load([compile_object(TABLE, host())], "riscv64-unknown-linux-gnu")


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_kernels_give_the_same_bytes_with_both_loaders(seed: int) -> None:
    case = random_case(seed)
    code = compile_object(emit_module([case.kernel], host()), host())
    ours, theirs = (
        run(library, case.kernel, case.buffers, case.sizes, case.steps)
        for library in (Library(load([code], TRIPLE).get), link_object([code], host()))
    )
    assert {k: v.tobytes() for k, v in ours.items()} == {k: v.tobytes() for k, v in theirs.items()}


def test_relocations_are_within_their_file() -> None:
    file = read(compile_object(TABLE, host()))
    assert file.patches
    code = {number: section for number, section in file.sections.items() if section.is_code}
    assert all(patch.section in code for patch in file.patches)
    assert all(patch.offset + 4 <= len(code[patch.section].data) for patch in file.patches)


# -- in a process of its own ------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.strip()


def test_damaged_files_crash_nothing(tmp_path: Path) -> None:
    for number, text in enumerate((TABLE, COPY)):
        (tmp_path / f"{number}.o").write_bytes(compile_object(text, host()))
    found = python(f"""
        import pathlib, random
        from sardonyx.codegen.elf import DamagedObjectError, ForeignObjectError
        from sardonyx.codegen.objects import load
        chance = random.Random(11)
        refused = 0
        for path in sorted(pathlib.Path({str(tmp_path)!r}).iterdir()):
            whole = path.read_bytes()
            damaged = [whole[:n] for n in range(0, len(whole), 5)]
            for round in range(1500):
                data = bytearray(whole)
                for _ in range(chance.choice((1, 1, 2, 8))):
                    place = chance.randrange(len(data))
                    data[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, data[place] ^ 1))
                damaged.append(bytes(data))
            for place in range(0, len(whole) - 8, 4):
                damaged.append(whole[:place] + b"\\xff" * 8 + whole[place + 8:])
            for data in damaged:
                try:
                    load([data], {TRIPLE!r})
                except (DamagedObjectError, ForeignObjectError):
                    refused += 1
        print(refused)
    """)
    assert int(found) > 500


MODEL_RUN = """
    import sys
    import numpy as np
    import sardonyx as sx
    session = sx.Session(PATH, threads=2)
    (y,) = session.run(None, {"x": np.arange(12, dtype=np.float32).reshape(3, 4)})
    kinds = {item.kind for item in session.explain()}
    print("llvmlite.binding" in sys.modules, "kernel" in kinds, round(float(y.sum()), 3))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = numpy_helper.from_array(np.eye(4, 5, dtype=np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["y"]),
    ]
    path = tmp_path / "model.onnx"
    built = from_nodes(nodes, {"x": ["N", 4]}, {"y": ["N", 5]}, initializer=[weights])
    path.write_bytes(sx.dumps(built))
    return path


def test_a_session_with_a_warm_cache_does_without_llvm(tmp_path: Path, model: Path) -> None:
    code = MODEL_RUN.replace("PATH", repr(str(model)))
    cold, warm = (python(code, SARDONYX_CACHE=str(tmp_path / "cache")) for _ in range(2))
    assert cold.split()[:2] == ["True", "True"]
    assert warm.split()[:2] == ["False", "True"]
    assert warm.split()[2] == cold.split()[2]


def test_a_damaged_file_in_the_cache_is_compiled_again(tmp_path: Path, model: Path) -> None:
    code = MODEL_RUN.replace("PATH", repr(str(model)))
    cold = python(code, SARDONYX_CACHE=str(tmp_path / "cache"))
    cache = ObjectCache(tmp_path / "cache")
    for path in list(cache.folder.glob("*/*")):
        known = cache.get(path.name)
        assert known is not None
        cache.put(path.name, known[: len(known) // 2])
    again = python(code, SARDONYX_CACHE=str(tmp_path / "cache"))
    assert again == cold
    assert python(code, SARDONYX_CACHE=str(tmp_path / "cache")).split()[0] == "False"
