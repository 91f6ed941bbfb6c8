"""Programs that the cache keeps: a session made of one does what the compiled session did."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sardonyx as sx
from sardonyx import Limits, Session
from sardonyx.codegen import cache as caching
from sardonyx.errors import ExecutionError
from sardonyx.runtime import stored
from sardonyx.wire.source import FileSource

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SARDONYX_CACHE", str(folder))
    caching.default_cache.cache_clear()
    yield folder
    caching.default_cache.cache_clear()


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def weighted(graph: str, **weights: Any) -> onnx.ModelProto:
    """The model `graph` with initializers."""
    model = onnx.parser.parse_model(HEAD + graph)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    return model


def proto(seed: int = 0) -> onnx.ModelProto:
    return weighted(
        "g (float[N, 32] x) => (float[N, 48] y) { p = MatMul(x, w) q = Add(p, b) y = Relu(q) }",
        w=random(32, 48, seed=seed),
        b=random(48, seed=seed + 1),
    )


def block(path: Path, *, seed: int = 0) -> Path:
    onnx.save_model(proto(seed), path)
    return path


def is_recalled(session: Session) -> bool:
    return "compile" not in session.timing


def twice(source: Any, **options: Any) -> tuple[Session, Session]:
    first, second = Session(source, **options), Session(source, **options)
    assert not is_recalled(first)
    assert is_recalled(second)
    return first, second


def same(a: list[Any], b: list[Any]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def test_a_second_session_gives_the_same_without_compiling(tmp_path: Path) -> None:
    first, second = twice(block(tmp_path / "m.onnx"))
    assert first.get_inputs() == second.get_inputs()
    assert first.get_outputs() == second.get_outputs()
    for rows in (1, 7, 64, 0):
        x = random(rows, 32)
        same(first.run(None, {"x": x}), second.run(None, {"x": x}))
    with pytest.raises(sx.errors.InputError, match="no input 'z'"):
        second.run(None, {"z": x})


@pytest.mark.parametrize(
    "graph",
    [
        "g (float[N, 4] x) => (float[N, 4] y, float[M] z) "
        "{ y = Neg(x) m = Constant<value_ints = [-1]>() z = Reshape(y, m) }",
        "g (float[N, 4] x) => (float[N, 4] y, int64[2] s, float[N, 4] z) "
        "{ y = Exp(x) s = Shape(y) z = Identity(x) }",
        "g (float[N, 4] x) => (float[K] y, float c) "
        "{ c = Constant<value_float = 2.5>() s = Size(x) t = Cast<to = 1>(s) u = Mul(t, c) "
        "m = Constant<value_ints = [-1]>() v = Reshape(x, m) y = Mul(v, u) }",
        "g (float[N, M] x) => (float[M, N] y) { y = Transpose(x) }",
        "g (float[A, B] x, float[B, A] w) => (float[A, A] y) { p = MatMul(x, w) y = Softmax(p) }",
        "g (float16[N, 8] x) => (float16[N] y) "
        "{ a = Constant<value_ints = [1]>() y = ReduceSum<keepdims = 0>(x, a) }",
        "g (float[N, 6] x) => (float[N, 3] y, float[N, 3] z) { y, z = Split<axis=1, num_outputs=2>(x) }",
        "g (bool[N] c, float[N] x) => (float[N] y) { n = Neg(x) y = Where(c, x, n) }",
    ],
)
def test_views_sizes_and_constants_come_back(graph: str) -> None:
    data = sx.dumps(sx.parse(HEAD + graph))
    first, second = twice(data)
    for n, m in ((3, 4), (5, 8), (1, 1)):
        sizes = {"N": n, "M": m, "A": n, "B": m}
        feeds = {}
        for arg in first.get_inputs():
            shape = [sizes[dim] if isinstance(dim, str) else dim for dim in arg.shape]
            dtype = {"tensor(bool)": bool, "tensor(float16)": np.float16}.get(arg.type, np.float32)
            feeds[arg.name] = random(*shape).astype(dtype)
        same(first.run(None, feeds), second.run(None, feeds))
        name = first.get_outputs()[-1].name
        same(first.run([name], feeds), second.run([name], feeds))


def test_weights_of_other_types_come_back() -> None:
    model = weighted(
        "g (float[N, 32] x) => (float[N, 16] y) "
        "{ f = Cast<to = 1>(w) p = MatMul(x, f) y = Mul(p, s) }",
        w=random(32, 16).astype(ml_dtypes.bfloat16),
        s=np.float32(0.5),
    )
    first, second = twice(model.SerializeToString())
    x = random(5, 32)
    same(first.run(None, {"x": x}), second.run(None, {"x": x}))


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    path = block(tmp_path / "m.onnx")
    x = random(3, 32)
    Session(path).run(None, {"x": x})
    block(path, seed=5)
    other = Session(path)
    assert not is_recalled(other)
    wanted = np.maximum(x @ random(32, 48, seed=5) + random(48, seed=6), 0)
    np.testing.assert_allclose(other.run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-5)


def test_other_external_weights_are_another_model(tmp_path: Path) -> None:
    inner = onnx.load(block(tmp_path / "inner.onnx"))
    path = tmp_path / "m.onnx"
    onnx.save_model(inner, path, save_as_external_data=True, location="weights", size_threshold=0)
    first, second = twice(path)
    x = random(3, 32)
    same(first.run(None, {"x": x}), second.run(None, {"x": x}))
    content = bytearray((tmp_path / "weights").read_bytes())
    content[:4] = np.float32(7).tobytes()
    (tmp_path / "weights").write_bytes(content)
    other = Session(path)
    assert not is_recalled(other)
    assert not np.array_equal(other.run(None, {"x": x})[0], first.run(None, {"x": x})[0])


def test_limits_and_precision_are_part_of_what_is_asked_for(tmp_path: Path) -> None:
    path = block(tmp_path / "m.onnx")
    twice(path)
    twice(path, precision="strict")
    twice(path, limits=Limits(tensor_bytes=8192))
    tight = Session(path, limits=Limits(tensor_bytes=8192))
    with pytest.raises(sx.errors.LimitError):
        tight.run(None, {"x": random(100, 32)})


def test_deadlines_and_cancelling_hold(tmp_path: Path) -> None:
    _, second = twice(block(tmp_path / "m.onnx"))
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(ExecutionError, match="cancelled"):
        second.run(None, {"x": random(2, 32)}, cancel=cancel)


def test_a_model_in_memory_may_have_been_changed(cache: Path) -> None:
    model = sx.parse(HEAD + "g (float[N] x) => (float[N] y) { y = Neg(x) }")
    for _ in range(2):
        assert not is_recalled(Session(model))


def test_damaged_entries_count_as_absent(tmp_path: Path, cache: Path) -> None:
    path = block(tmp_path / "m.onnx")
    x = random(3, 32)
    wanted = Session(path).run(None, {"x": x})
    for entry in cache.glob("*/*"):
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    again = Session(path)
    assert not is_recalled(again)
    same(again.run(None, {"x": x}), wanted)


def test_a_program_without_its_kernels_is_compiled_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = block(tmp_path / "m.onnx")
    wanted = Session(path).run(None, {"x": random(3, 32)})
    monkeypatch.setattr(stored, "known_addresses", lambda *_, **__: None)
    again = Session(path)
    assert not is_recalled(again)
    same(again.run(None, {"x": random(3, 32)}), wanted)


def test_nothing_is_kept_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SARDONYX_CACHE", "off")
    caching.default_cache.cache_clear()
    path = block(tmp_path / "m.onnx")
    for _ in range(2):
        assert not is_recalled(Session(path))


def test_what_the_reference_has_a_part_in_is_not_kept() -> None:
    data = sx.dumps(sx.parse(HEAD + "g (float[N] x) => (float[M] y) { u = Unique(x) y = Neg(u) }"))
    for _ in range(2):
        assert not is_recalled(Session(data))


def test_explain_has_the_compiler_look_again(tmp_path: Path) -> None:
    first, second = twice(block(tmp_path / "m.onnx"))
    assert [each.nodes for each in second.explain()] == [each.nodes for each in first.explain()]
    assert second.compiled is not None
    x = random(3, 32)
    same(first.run(None, {"x": x}), second.run(None, {"x": x}))


REGIONS = """
g (float[1, 1, H, W] x, float[R, 4] rois, int64[R] batch) => (float[R, 1, 1, 2] y) {
  y = RoiAlign <output_height = 1, output_width = 2, sampling_ratio = 0> (x, rois, batch)
}
"""


def test_runs_that_the_reference_takes_over(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    sx.save(sx.parse(HEAD.replace("21", "16") + REGIONS), path)
    feeds = {
        "x": random(1, 1, 3, 9000),
        "rois": np.float32([[0.5, 0.5, 8990.5, 2.5]]),
        "batch": np.int64([0]),
    }
    first, second = twice(path)
    wanted = first.run(None, feeds)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(second.run(None, feeds))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for each in found:
        same(each, wanted)

    third = Session(path)
    assert is_recalled(third)
    os.utime(path, (1, 1))
    with pytest.raises(ExecutionError, match="was changed") as caught:
        third.run(None, feeds)
    assert "make the session again" in str(caught.value)


def test_a_file_that_has_settled_is_read_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = block(tmp_path / "m.onnx")
    monkeypatch.setattr(FileSource, "identity", lambda self: ("settled", self.state()))
    read: list[int] = []
    plain = stored.blocks
    monkeypatch.setattr(stored, "blocks", lambda b: read.append(len(b)) or plain(b))
    twice(path)
    assert len(read) == 1
    block(path, seed=3)
    assert not is_recalled(Session(path))
    assert len(read) == 2


def test_timing_has_each_step_of_making_a_session() -> None:
    begin = time.perf_counter()
    first = Session(proto().SerializeToString())
    passed = time.perf_counter() - begin
    steps = ["open", "recall", "check", "rewrite", "read", "schedule", "compile", "pack", "keep"]
    assert sorted(first.timing) == sorted(steps)
    assert min(first.timing.values()) >= 0
    assert sum(first.timing.values()) <= passed
    again = Session(proto().SerializeToString())
    assert sorted(again.timing) == ["open", "recall"]


def test_timing_stays_what_it_was() -> None:
    model = onnx.parser.parse_model(
        HEAD
        + """g (float[N, M] x) => (float[N, M] y) {
            s = Shape(x) n = Gather(s, zero) c = Greater(n, two)
            y = If(c) <then_branch = t () => (float[N, M] a) { a = Exp(x) },
                       else_branch = e () => (float[N, M] b) { b = Neg(x) }> }"""
    )
    for name, value in (("zero", 0), ("two", 2)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    session = Session(model.SerializeToString())
    timing = dict(session.timing)
    for rows in (1, 5):
        session.run(None, {"x": random(rows, 3)})
    assert session.timing == timing
