"""Kernels for processors that this one is not: what LLVM makes of them, and that they compute.

Their assembly is read, not run. What depends on the width of vectors alone is run here with 128
and 512 bits, which LLVM puts together from the vectors that there are.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from build import from_text
from lowering.compiled import assert_close
from sardonyx.codegen import build
from sardonyx.codegen.emit import emit_module
from sardonyx.codegen.machine import described, host
from sardonyx.codegen.native import assembly
from sardonyx.codegen.runner import runner_text
from sardonyx.limits import DEFAULT
from sardonyx.loops.machine import Machine
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import compile_model
from sardonyx.runtime.prepare import prepare
from sardonyx.runtime.program import Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.schedule.launch import Launch

LINUX = "unknown-linux-gnu"
MACHINES = {
    "x86-64": Machine(
        f"x86_64-{LINUX}", "x86-64", "", 128, 16, converts_halves=False, rounds=False, pairs=128
    ),
    "AVX2": Machine(f"x86_64-{LINUX}", "haswell", "", 256, 16, pairs=256),
    "AVX-512": Machine(f"x86_64-{LINUX}", "skylake-avx512", "", 512, 32, pairs=512),
    "AVX-512 with BF16 and VNNI": Machine(
        f"x86_64-{LINUX}", "sapphirerapids", "", 512, 32, pairs=512
    ),
    "NEON": Machine(f"aarch64-{LINUX}", "generic", "", 128, 32),
    "Apple": Machine("arm64-apple-darwin22.4.0", "apple-m1", "", 128, 32),
    "Windows": Machine("x86_64-pc-windows-msvc", "haswell", "", 256, 16, pairs=256),
}
MODELS = {
    "matmul": """g (float[N,64] x, float[64,96] w, float[96] b) => (float[N,96] y) {
        p = MatMul(x, w)
        q = Add(p, b)
        y = Relu(q)
    }""",
    "attention": """g (float[B,S,32] q, float[B,S,32] k, float[B,S,32] v) => (float[B,S,32] y) {
        y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)
    }""",
    "convolution": """g (float[N,8,H,W] x, float[16,8,3,3] w, float[16,1,3,3] d) => (y, z) {
        y = Conv<pads=[1,1,1,1]>(x, w)
        z = Conv<group=16, pads=[1,1,1,1]>(y, d)
    }""",
    "mathematics": """g (float[N] x, double[N] w) => (float[N] y, double[N] z) {
        a = Gelu(x)
        b = Sin(a)
        c = Floor(b)
        d = Round(a)
        y = Add(c, d)
        z = Tanh(w)
    }""",
    "rows": """g (float[N,M] x, float[M] s, float[M] b) => (float[N,M] y, float[N,1] z) {
        a = LayerNormalization(x, s, b)
        y = Softmax(a)
        z = ReduceLogSumExp(y, axes)
    }""",
    "integers": """g (uint8[N,64] x, int8[64,32] w, int64[N,32] k) => (int32[N,32] y, int64[N,32] z) {
        y = MatMulInteger(x, w)
        a = Cast<to=7>(y)
        z = Div(a, k)
    }""",
    "bytes": """g (uint8[N,7,H,W] x, int8[16,7,3,3] w, uint8[N,6] a, int8[6,40] b) => (y, z) {
        y = ConvInteger<pads=[1,1,1,1]>(x, w)
        z = MatMulInteger(a, b)
    }""",
    "halves": """g (float16[N,64] x, float16[64,32] w, bfloat16[N,32] b) => (bfloat16[N,32] y) {
        p = MatMul(x, w)
        q = Sigmoid(p)
        r = Cast<to=16>(q)
        y = Add(r, b)
    }""",
    "recurrent": """g (float[S,B,16] x, float[1,128,16] w, float[1,128,32] r) => (y, h, c) {
        y, h, c = LSTM<hidden_size=32>(x, w, r)
    }""",
    "indices": """g (float[N,M] x, int64[K] i) => (float[K,M] y, float[N,4] t, int64[N,4] u) {
        y = Gather(x, i)
        t, u = TopK(x, count)
    }""",
    "large": """g (float[4096,2048] x, float[2048] b) => (float[4096,2048] y) {
        y = Add(x, b)
    }""",
}
CONSTANTS = {"rows": "<int64[1] axes = {-1}>", "indices": "<int64[1] count = {4}>"}
MOVING = {"indices"}
OUTSIDE = {"memcpy", "memmove", "memset"}
"""What LLVM calls instead of a loop that it writes; every process has it."""


def model_of(name: str) -> Any:
    head, body = MODELS[name].split("{", 1)
    constants = CONSTANTS.get(name, "")
    return from_text(f'<ir_version: 10, opset_import: ["" : 23]>\n{head} {constants} {{{body}')


class _Anywhere:
    """In the place of code that is not for this machine."""

    def address(self, _: str) -> int:
        return 0


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compiles a model for a machine up to the machine code; gives its launches."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()

    def addresses(kernels: Any, _: Machine, *, strict: bool = False) -> dict[str, int]:
        return {kernel.name: 0 for kernel in kernels}

    def launches(name: str, machine: Machine) -> list[Launch]:
        compiler = "sardonyx.runtime.compiler"
        monkeypatch.setattr(f"{compiler}.host", lambda: machine)
        monkeypatch.setattr(f"{compiler}.addresses_of", addresses)
        monkeypatch.setattr(f"{compiler}.runner_library", lambda _: _Anywhere())
        model = prepare(model_of(name), DEFAULT)
        steps = compile_model(model, Evaluator(model), DEFAULT).compilation.steps
        return [found for step in steps if isinstance(step, Stretch) for found in step.launches]

    return launches


def called(text: str) -> set[str]:
    """The functions outside that assembly calls."""
    call = r"^\s+(?:callq?|jmp|bl|b)\s+\*?\"?_?([A-Za-z]\w*)\"?(?:@\w+)?(?:\(%rip\))?\s*$"
    defined = set(re.findall(r"^\"?_?([\w.]+)\"?:", text, re.MULTILINE))
    return {name for name in re.findall(call, text, re.MULTILINE) if name not in defined} - {"L"}


def innermost(text: str) -> Iterator[list[str]]:
    """The instructions of each loop that holds no other block."""
    lines = [re.split(r"\s*(?://|##|#|;)\s", line)[0].rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.match(r"\s+\.", line)]
    block: list[str] = []
    label = ""
    for line in lines:
        start = re.match(r"\"?([.\w$]+)\"?:", line)
        if start:
            block, label = [], start.group(1)
            continue
        block.append(line.strip())
        if label and re.search(rf"\s\"?{re.escape(label)}\"?$", line):
            yield block
            block, label = [], ""


def multiplies(line: str, machine: Machine) -> bool:
    """Whether an instruction multiplies whole vectors of the machine."""
    if machine.triple.startswith("x86_64"):
        register = {128: "%xmm", 256: "%ymm", 512: "%zmm"}[machine.vector_bits]
        return bool(re.match(r"v?(?:fmadd\d+ps|mulps)\s", line)) and register in line
    return bool(re.match(r"fmla(?:\.4s)?\s+(?:v\d+\.4s|v\d+, v\d+)", line))


@pytest.mark.parametrize("name", MACHINES)
def test_a_product_keeps_its_sums_in_registers(name: str, elsewhere: Any) -> None:
    machine = MACHINES[name]
    tile_rows = 12 if machine.registers >= 32 else 6
    (product,) = [x for x in elsewhere("matmul", machine) if not x.label.startswith("pack")]
    text = assembly(emit_module([product.kernel], machine), machine)
    loops = list(innermost(text))
    busiest = max(loops, key=lambda loop: sum(multiplies(line, machine) for line in loop))
    steps = 1 if name == "x86-64" else 4
    assert sum(multiplies(line, machine) for line in busiest) == steps * 2 * tile_rows
    assert not [line for line in busiest if re.search(r"%rsp|\bsp\b", line)]
    assert len(busiest) <= steps * 8 * tile_rows
    assert called(text) <= OUTSIDE


PAIRS = {
    "x86-64": r"pmaddwd\s.*%xmm",
    "AVX2": r"vpmaddwd\s.*%ymm",
    "AVX-512": r"vpmaddwd\s.*%zmm",
    "AVX-512 with BF16 and VNNI": r"vpdpwssd\s.*%zmm",
    "NEON": r"smlal2?\s+v\d+\.4s",
    "Apple": r"smlal2?(?:\.4s)?\s+v\d+",
    "Windows": r"vpmaddwd\s.*%ymm",
}


@pytest.mark.parametrize("model", ["integers", "bytes"])
@pytest.mark.parametrize("name", MACHINES)
def test_a_product_of_bytes_multiplies_pairs(name: str, model: str, elsewhere: Any) -> None:
    machine = MACHINES[name]
    found = elsewhere(model, machine)
    if model == "bytes":
        found = [x for x in found if "ConvInteger" in x.label]
    texts = [assembly(emit_module([x.kernel], machine), machine) for x in found]
    loops = [loop for text in texts for loop in innermost(text)]
    multiplied = [sum(bool(re.match(PAIRS[name], line)) for line in loop) for loop in loops]
    tile_rows = 12 if machine.registers >= 32 else 6
    if not machine.pairs:
        tile_rows = 2 * (tile_rows * 2 // 3)
    assert max(multiplied) == 2 * tile_rows
    busiest = loops[multiplied.index(max(multiplied))]
    assert not [line for line in busiest if re.search(r"%rsp|\bsp\b", line)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["x86-64", "AVX-512 with BF16 and VNNI", "NEON"])
def test_every_machine_computes_in_whole_vectors(name: str, model: str, elsewhere: Any) -> None:
    machine = replace(MACHINES[name], interleave=1)
    found = elsewhere(model, machine)
    assert found
    whole = {128: r"%xmm\d", 256: r"%ymm\d", 512: r"%zmm\d"}[machine.vector_bits]
    if name == "NEON":
        whole = r"\bv\d+\.(?:4s|2d|8h|16b)|\bq\d+\b"
    texts = [assembly(emit_module([x.kernel], machine), machine) for x in found]
    assert not {name for text in texts for name in called(text)} - OUTSIDE
    assert model in MOVING or any(re.search(whole, text) for text in texts)


@pytest.mark.parametrize("name", MACHINES)
def test_large_results_go_past_the_caches(name: str, elsewhere: Any) -> None:
    machine = MACHINES[name]
    (found,) = elsewhere("large", machine)
    text = assembly(emit_module([found.kernel], machine), machine)
    is_x86 = machine.triple.startswith("x86_64")
    assert re.search(r"\bv?movntp[sd]\b" if is_x86 else r"\bstnp\b", text)
    assert re.search(r"\bsfence\b" if is_x86 else r"\bdmb\b", text)
    (small,) = [x for x in elsewhere("matmul", machine) if not x.label.startswith("pack")]
    assert "movnt" not in assembly(emit_module([small.kernel], machine), machine)


@pytest.mark.parametrize("futex", [True, False])
@pytest.mark.parametrize("name", MACHINES)
def test_the_loop_over_launches_is_made_for_every_machine(
    name: str, futex: bool, elsewhere: Any
) -> None:
    machine = MACHINES[name]
    text = assembly(runner_text(machine, futex=futex), machine)
    assert called(text) <= OUTSIDE
    assert {"sardonyx_run", "sardonyx_help", "sardonyx_quit"} <= {
        found.lstrip("_") for found in re.findall(r"^\"?(\w+)\"?:", text, re.MULTILINE)
    }
    pause = "pause" if machine.triple.startswith("x86_64") else "isb"
    assert re.search(rf"^\s+{pause}\b", text, re.MULTILINE)


class Features(dict[str, bool]):
    """What LLVM says that a processor has."""

    def flatten(self) -> str:
        return ",".join(f"{'+' if has else '-'}{name}" for name, has in sorted(self.items()))


X86 = f"x86_64-{LINUX}"
BASE = ("sse2",)
LEVEL_2 = (*BASE, "sse4.1", "sse4.2")
LEVEL_3 = (*LEVEL_2, "avx", "avx2", "fma", "f16c")
LEVEL_4 = (*LEVEL_3, "avx512f", "avx512vl", "avx512dq", "avx512bw")


@pytest.mark.parametrize(
    "triple, names, bits, registers, halves, rounds",
    [
        (X86, BASE, 128, 16, False, False),
        (X86, LEVEL_2, 128, 16, False, True),
        (X86, (*LEVEL_2, "avx", "f16c"), 128, 16, True, True),
        (X86, LEVEL_3, 256, 16, True, True),
        (X86, (*LEVEL_3, "avx512f"), 256, 16, True, True),
        (X86, LEVEL_4, 512, 32, True, True),
        ("x86_64-pc-windows-msvc", LEVEL_3, 256, 16, True, True),
        (f"aarch64-{LINUX}", ("neon", "sve"), 128, 32, True, True),
        ("arm64-apple-darwin22.4.0", (), 128, 32, True, True),
        (f"riscv64-{LINUX}", (), 128, 16, False, False),
    ],
)
def test_a_machine_is_described_by_its_features(
    triple: str, names: tuple[str, ...], bits: int, registers: int, halves: bool, rounds: bool
) -> None:
    features = Features(dict.fromkeys(names, True), amx=False)
    found = described(triple, "some", features)
    assert (found.vector_bits, found.registers) == (bits, registers)
    assert (found.converts_halves, found.rounds) == (halves, rounds)
    assert "+" + names[-1] in found.features if names else found.features == "-amx"


def feeds_of(model: Any, sizes: dict[str, int]) -> dict[str, Any]:
    """Inputs for a size of each open dimension."""
    generator = np.random.default_rng(sum(sizes.values()))
    found = {}
    for value in model.graph.inputs:
        shape = [sizes.get(str(dim), dim) for dim in value.type.shape]
        kind = value.type.dtype.numpy
        if value.type.dtype.is_floating:
            found[value.name] = (generator.random(shape) * 2 - 0.5).astype(kind)
        else:
            found[value.name] = generator.integers(0, min(*sizes.values(), 4), shape).astype(kind)
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("bits", [128, 512])
def test_vectors_of_every_width_give_the_same(
    bits: int, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(host(), vector_bits=bits, registers=32 if bits == 512 else 16)
    for module in ("compiler", "program"):
        monkeypatch.setattr(f"sardonyx.runtime.{module}.host", lambda: machine)
    monkeypatch.setattr(build, "_ADDRESSES", {})
    whole = prepare(model_of(model), DEFAULT)
    evaluator = Evaluator(whole)
    native = compile_model(whole, evaluator, DEFAULT)
    assert not [e.reason for e in native.compilation.explanations if e.kind == "reference"]
    names = [value.name for value in whole.graph.outputs]
    for size in (1, 5, 19, 33):
        feeds = feeds_of(
            whole,
            {"N": size, "M": 2 * size + 3, "B": 2, "S": size, "K": size, "H": size, "W": size + 4},
        )
        expected, actual = evaluator.run(feeds, names), native.run(feeds)
        for name in names:
            assert_close(actual[name], expected[name], 64)
