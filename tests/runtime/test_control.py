"""If, Loop and Scan with compiled bodies: the same numbers as the reference, on any path."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import sardonyx as sx
from build import from_text
from sardonyx.errors import ExecutionError, LimitError
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import SizesDiffer, compile_model
from sardonyx.runtime.compiler import _MOST_VARIANTS

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


class Both:
    """A model compiled, and its reference."""

    def __init__(self, text: str, **limits: Any) -> None:
        self.model = from_text(HEAD + text)
        self.limits = DEFAULT.replace(**limits)
        self.evaluator = Evaluator(self.model, limits=self.limits)
        self.native = compile_model(self.model, self.evaluator, self.limits)

    def kinds(self) -> set[str]:
        return {item.kind for item in self.native.compilation.explanations}

    def check(self, *, empty: bool = False, **feeds: Any) -> dict[str, Any]:
        """Run both; what the compiled model gives.

        A scan output that is `empty` has zeros for the sizes that its body leaves open, by which it
        may not fit the others.
        """
        expected = self.evaluator.run(feeds)
        try:
            actual = self.native.run(feeds)
        except SizesDiffer:
            assert empty
            return expected
        for name, value in expected.items():
            assert actual[name].shape == value.shape
            assert actual[name].dtype == value.dtype
            np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-6)
        return actual


def x_of(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


YES, NO = np.array(True), np.array(False)

BRANCHES = """g (float[N, 4] x, bool c) => (float[N, 4] y) {
    z = Relu(x)
    y = If(c) <
        then_branch = a () => (float[N, 4] p) { s = Sigmoid(z) p = Mul(s, x) },
        else_branch = b () => (float[N, 4] q) { t = Exp(z) q = Sub(t, x) }>
}"""


@pytest.mark.parametrize("outcome", [YES, NO])
def test_the_taken_branch_runs(outcome: Any) -> None:
    both = Both(BRANCHES)
    assert both.kinds() == {"control", "kernel"}
    for count in (3, 1, 0, 8):
        both.check(x=x_of(count, 4), c=outcome)


def test_a_branch_may_give_out_what_it_captures_and_constants() -> None:
    both = Both("""g (float[N] x, bool c) => (float[M] y, float[N] z) {
        y, z = If(c) <
            then_branch = a () => (float[M] p, float[N] r) {
                p = Constant<value = float[2] {1, 2}>() r = Identity(x) },
            else_branch = b () => (float[M] q, float[N] s) { q = Abs(x) s = Neg(x) }>
    }""")
    for outcome in (YES, NO):
        both.check(x=x_of(5), c=outcome)


SIZED = """g (float[B, 8, T] x, float[8, 5] w) => (float[K, 5] y, bool short) {
    s = Shape(x)
    i = Constant<value_int = 2>()
    one = Constant<value_int = 1>()
    t = Gather(s, i)
    short = Equal(t, one)
    z = Sigmoid(x)
    p = If(short) <
        then_branch = a () => (flat) {
            axes = Constant<value_ints = [2]>() flat = Squeeze(z, axes) },
        else_branch = b () => (turned) { turned = Transpose<perm = [0, 2, 1]>(z) }>
    last = Constant<value_ints = [-1, 8]>()
    r = Reshape(p, last)
    y = MatMul(r, w)
}"""


def test_a_condition_on_sizes_is_decided_before() -> None:
    both = Both(SIZED)
    assert both.native.compilation.fork is not None
    w = x_of(8, 5)
    for batch, length in ((2, 1), (3, 4), (1, 1), (0, 1), (2, 7), (4, 4)):
        found = both.check(x=x_of(batch, 8, length), w=w)
        assert found["short"] == (length == 1)
    assert "reference" not in both.kinds()
    assert set(both.native.compilation.fork.programs) == {True, False}


def test_such_conditions_within_a_branch() -> None:
    inner = SIZED.split("=> (float[K, 5] y, bool short) {")[1].rsplit("}", 1)[0]
    both = Both(f"""g (float[B, 8, T] x, float[8, 5] w, bool c) => (float[K, 5] out) {{
        out = If(c) <
            then_branch = big () => (float[K, 5] y) {{ {inner} }},
            else_branch = small () => (float[K, 5] v) {{
                shape = Constant<value_ints = [-1, 8]>()
                flat = Reshape(x, shape) v = MatMul(flat, w) }}>
    }}""")
    w = x_of(8, 5)
    for batch, length, outcome in ((2, 1, YES), (3, 4, YES), (3, 4, NO), (1, 1, YES), (2, 6, NO)):
        both.check(x=x_of(batch, 8, length), w=w, c=outcome)
    assert "reference" not in both.kinds()


def test_programs_for_outcomes_stay_few() -> None:
    count = 6
    text = "g (float[N] x) => (float[N] y) { s = Size(x) v0 = Identity(x)\n"
    for k in range(count):
        text += f"""k{k} = Constant<value_int = {k + 2}>() r{k} = Mod(s, k{k})
            o{k} = Constant<value_int = {k % 2}>() c{k} = Equal(r{k}, o{k})
            v{k + 1} = If(c{k}) <then_branch = a{k} () => (float[N] p{k}) {{ p{k} = Exp(v{k}) }},
                else_branch = b{k} () => (float[N] q{k}) {{ q{k} = Tanh(v{k}) }}>\n"""
    both = Both(text + f"y = Identity(v{count}) }}")
    for length in range(1, 60):
        both.check(x=x_of(length) / 4)

    def programs(program: Any) -> int:
        inner = [] if program.fork is None else list(program.fork.programs.values())
        return 1 + sum(map(programs, inner))

    assert programs(both.native.compilation) <= 2 * _MOST_VARIANTS + 2


LOOP = """g (float[4] x, int64 trips, bool go, float limit) => (float[4] last, float[M, 4] all) {
    last, all = Loop(trips, go, x) <body = b (int64 i, bool before, float[4] v)
            => (bool after, float[4] w, float[4] scan) {
        f = Cast<to = 1>(i)
        u = Add(v, f)
        w = Sin(u)
        m = ReduceMax<keepdims = 0>(u)
        after = Less(m, limit)
        scan = Mul(w, x)
    }>
}"""


@pytest.mark.parametrize("trips", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("limit", [1e9, 5.0, -10.0])
def test_a_loop_ends_by_count_or_condition(trips: int, limit: float) -> None:
    both = Both(LOOP)
    assert both.kinds() <= {"control", "kernel"}
    for go in (YES, NO):
        both.check(x=x_of(4), trips=np.array(trips), go=go, limit=np.float32(limit))


def test_a_loop_without_inputs_but_states() -> None:
    both = Both("""g (float[3] x) => (float[3] y) {
        limit = Constant<value_float = 100.0>()
        y = Loop(,, x) <body = b (int64 i, bool c, float[3] v) => (bool d, float[3] w) {
            w = Add(v, v)
            s = ReduceL1<keepdims = 0>(w)
            d = Less(s, limit)
        }>
    }""")
    both.check(x=x_of(3))


def test_states_that_grow() -> None:
    both = Both("""g (float[2, 3] x, int64 trips) => (float[K, 3] y, float[M] sums) {
        y, sums = Loop(trips,, x) <body = b (int64 i, bool c, float[A, 3] v)
                => (bool d, float[B, 3] w, float total) {
            t = Tanh(v)
            w = Concat<axis = 0>(t, x)
            total = ReduceSum<keepdims = 0>(w)
            d = Identity(c)
        }>
    }""")
    assert "kernel" in both.kinds()
    for trips in (0, 1, 5, 2, 20):
        both.check(x=x_of(2, 3), trips=np.array(trips))


def test_states_that_trade_places() -> None:
    both = Both("""g (float[3] x, float[3] y, int64 trips) => (float[3] a, float[3] b, float[M, 3] s) {
        a, b, s = Loop(trips,, x, y) <body = g (int64 i, bool c, float[3] p, float[3] q)
                => (bool d, float[3] q2, float[3] p2, float[3] out) {
            d = Identity(c)
            half = Constant<value_float = 0.5>()
            q2 = Mul(q, half)
            p2 = Identity(p)
            out = Sub(p, q)
        }>
    }""")
    for trips in range(5):
        both.check(x=x_of(3), y=x_of(3) + 1, trips=np.array(trips))


def test_a_state_that_no_trip_changes() -> None:
    both = Both("""g (float[3] x, int64 trips) => (float[3] y, float[3] z, float[M, 3] s) {
        one = Constant<value_float = 1.0>()
        y, z, s = Loop(trips,, x, x) <body = b (int64 i, bool c, float[3] u, float[3] v)
                => (bool d, float[3] u2, float[3] v2, float[3] u3) {
            d = Identity(c) u2 = Identity(u) v2 = Add(v, one) u3 = Identity(u)
        }>
    }""")
    for trips in (0, 1, 6):
        both.check(x=x_of(3), trips=np.array(trips))


def test_the_number_of_the_trip_selects() -> None:
    both = Both("""g (float[N, 3] x) => (float[M, 3] y, float[K] z) {
        s = Shape<start = 0, end = 1>(x)
        axes = Constant<value_ints = [0]>()
        n = Squeeze(s, axes)
        one = Constant<value_int = 1>()
        y, z = Loop(n,) <body = b (int64 i, bool c) => (bool d, float[3] row, float[1] part) {
            d = Identity(c)
            g = Gather(x, i)
            row = Exp(g)
            next = Add(i, one)
            from = Unsqueeze(i, axes)
            to = Unsqueeze(next, axes)
            cut = Slice(row, from, to, axes)
            part = ReduceSum(cut, axes)
        }>
    }""")
    for count in (3, 1, 2):
        both.check(x=x_of(count, 3))


def test_loops_within_branches_within_loops() -> None:
    both = Both("""g (float[N] x, int64 n) => (float[N] y, float[M, N] all) {
        two = Constant<value_int = 2>()
        zero = Constant<value_int = 0>()
        half = Constant<value_float = 0.5>()
        y, all = Loop(n,, x) <body = outer (int64 i, bool c, float[N] v)
                => (bool d, float[N] w, float[N] kept) {
            d = Identity(c)
            r = Mod(i, two)
            even = Equal(r, zero)
            w = If(even) <
                then_branch = a () => (float[N] p) {
                    p = Loop(i,, v) <body = inner (int64 j, bool e, float[N] s)
                            => (bool f, float[N] t) {
                        f = Identity(e) u = Mul(s, half) t = Add(u, x) }> },
                else_branch = b () => (float[N] q) { q = Sin(v) }>
            kept = Abs(w)
        }>
    }""")
    assert "reference" not in both.kinds()
    for count in (4, 1, 9):
        for trips in (0, 1, 2, 7):
            both.check(x=x_of(count), n=np.array(trips), empty=not trips)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("backward", [0, 1])
def test_scan(axis: int, backward: int) -> None:
    both = Both(f"""g (float[4] s, float[P, Q] x, float[P, Q] z) => (float[4] e, float[K, L] y) {{
        e, y = Scan<num_scan_inputs = 2, scan_input_axes = [{axis}, {axis}],
                scan_input_directions = [{backward}, 0],
                scan_output_axes = [{axis}], scan_output_directions = [{backward}],
                body = b (float[4] v, float[4] a, float[4] c) => (float[4] w, float[4] out) {{
            m = Mul(v, a) n = Add(m, c) w = Tanh(n) out = Mul(w, a) }}>(s, x, z)
    }}""")
    assert both.kinds() == {"control", "kernel"}
    for length in (3, 1, 9):
        x, z = x_of(length, 4), x_of(4, length).T
        if axis:
            x, z = x.T, z.T
        both.check(s=x_of(4), x=np.ascontiguousarray(x), z=np.ascontiguousarray(z))


def test_what_is_not_compiled_runs_on_the_reference_within_the_body() -> None:
    both = Both("""g (float[N] x, int64 n) => (float[N] y, float[M, K] found) {
        y, found = Loop(n,, x) <body = b (int64 i, bool c, float[N] v)
                => (bool d, float[N] w, float[K] u) {
            d = Identity(c)
            w = Exp(v)
            r = Round(x)
            u, where, back, counts = Unique<sorted = 1>(r)
        }>
    }""")
    assert both.kinds() >= {"control", "kernel", "reference"}
    both.check(x=x_of(12), n=np.array(4))


def test_an_optional_state_and_a_sequence() -> None:
    both = Both("""g (float[2] x, int64 n) => (float[K] y) {
        empty = SequenceEmpty()
        last, all = Loop(n,, x, empty) <body = b (int64 i, bool c, float[2] v, seq(float[2]) s)
                => (bool d, float[2] w, seq(float[2]) t) {
            d = Identity(c) w = Sinh(v) t = SequenceInsert(s, w) }>
        y = ConcatFromSequence<axis = 0>(all)
    }""")
    for trips in (1, 4):
        both.check(x=x_of(2) / 8, n=np.array(trips))


def test_a_state_of_another_shape_than_declared() -> None:
    text = """g (float[N] x, int64 n) => (float[K] y) {
        y = Loop(n,, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] w) {
            d = Identity(c) w = Concat<axis = 0>(v, v) }>
    }"""
    feeds = {"x": x_of(3), "n": np.array(3)}
    expected = Evaluator(from_text(HEAD + text)).run(feeds)["y"]
    (actual,) = sx.Session(from_text(HEAD + text)).run(None, feeds)
    np.testing.assert_array_equal(actual, expected)


def test_a_fault_in_a_body_is_an_error() -> None:
    both = Both("""g (float[5] x, int64 n) => (float[M] y) {
        y = Loop(n,) <body = b (int64 i, bool c) => (bool d, float v) {
            d = Identity(c) g = Gather(x, i) v = Exp(g) }>
    }""")
    both.check(x=x_of(5), n=np.array(5))
    with pytest.raises(ExecutionError) as caught:
        both.native.run({"x": x_of(5), "n": np.array(6)})
    assert "Gather" in str(caught.value)
    both.check(x=x_of(5), n=np.array(4))


ENDLESS = """g (float[3] x) => (float[3] y) {
    y = Loop(,, x) <body = b (int64 i, bool c, float[3] v) => (bool d, float[3] w) {
        d = Constant<value = bool {1}>() w = Sin(v) }>
}"""


def test_trips_without_end_are_bounded() -> None:
    both = Both(ENDLESS, loop_iterations=1000)
    with pytest.raises(LimitError) as caught:
        both.native.run({"x": x_of(3)})
    assert "loop iterations" in str(caught.value)


def test_a_deadline_ends_a_loop() -> None:
    both = Both(ENDLESS, seconds=0.2)
    start = time.monotonic()
    with pytest.raises(LimitError):
        both.native.run({"x": x_of(3)})
    assert time.monotonic() - start < 5


def test_a_loop_can_be_cancelled() -> None:
    both = Both(ENDLESS)
    cancel = threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    with pytest.raises(ExecutionError, match="cancel"):
        both.native.run({"x": x_of(3)}, cancel)
    timer.join()


def test_scan_outputs_are_bounded() -> None:
    both = Both(LOOP, tensor_bytes=1 << 16)
    feeds = {"x": x_of(4), "go": YES, "limit": np.float32(1e9)}
    both.check(**feeds, trips=np.array(1 << 10))
    for trips in (1 << 13, 1 << 40):
        with pytest.raises(LimitError) as caught:
            both.native.run({**feeds, "trips": np.array(trips)})
        assert "tensor bytes" in str(caught.value)


def test_runs_leave_no_memory_behind() -> None:
    both = Both(LOOP)
    sized = Both(SIZED)
    w = x_of(8, 5)
    trips = [np.array(count) for count in range(7)]

    def growth(runs: int) -> int:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(runs):
            feeds = {"x": x_of(4), "go": YES, "limit": np.float32(1e9)}
            both.native.run({**feeds, "trips": trips[number % 7]})
            sized.native.run({"x": x_of(number % 5, 8, number % 3 + 1), "w": w})
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        growth(100)
        # now and then a table of a cache grows
        assert min(growth(500) for _ in range(3)) < 20_000
    finally:
        tracemalloc.stop()


def test_several_threads_at_once() -> None:
    both, sized = Both(LOOP), Both(SIZED)
    w = x_of(8, 5)

    def work(seed: int) -> None:
        for number in range(seed, seed + 12):
            trips = np.array(number % 5)
            both.check(x=x_of(4), trips=trips, go=YES, limit=np.float32(1e9))
            sized.check(x=x_of(number % 4, 8, number % 3 + 1), w=w)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


OPERATIONS = ["Sin", "Tanh", "Abs", "Neg", "Sigmoid", "Relu"]


@pytest.mark.parametrize("seed", range(8))
def test_random_bodies_as_onnxruntime_runs_them(seed: int) -> None:
    draw = np.random.default_rng(seed)
    known = ["v", "x", "f"]
    lines = ["f = Cast<to = 1>(i)"]
    for number in range(int(draw.integers(3, 9))):
        name = f"t{number}"
        if draw.random() < 0.5:
            lines.append(f"{name} = {draw.choice(OPERATIONS)}({draw.choice(known)})")
        else:
            a, b = draw.choice(known), draw.choice(known)
            lines.append(f"{name} = {draw.choice(['Add', 'Sub', 'Max'])}({a}, {b})")
        known.append(name)
    nodes = "\n".join(lines)
    text = f"""g (float[A, 3] x, int64 n) => (float[A, 3] y, float[M, A, 3] all) {{
        y, all = Loop(n,, x) <body = b (int64 i, bool c, float[A, 3] v)
                => (bool d, float[A, 3] w, float[A, 3] out) {{
            d = Identity(c)
            {nodes}
            p = Add({known[-1]}, x)
            w = Tanh(p)
            out = Add({known[-2]}, x)
        }}>
    }}"""
    both = Both(text)
    data = onnx.parser.parse_model(HEAD + text).SerializeToString()
    peer = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for count, trips in ((2, 5), (1, 0), (7, 3)):
        feeds = {"x": x_of(count, 3), "n": np.array(trips)}
        actual = both.check(**feeds, empty=not trips)
        for value, expected in zip(actual.values(), peer.run(None, feeds), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_sizes_that_do_not_fit_are_left_to_the_reference() -> None:
    both = Both("""g (float[N] x, float[M] z, bool c) => (float[N] y) {
        y = If(c) <then_branch = a () => (float[N] p) { p = Add(x, z) },
                   else_branch = b () => (float[N] q) { q = Exp(x) }>
    }""")
    both.check(x=x_of(4), z=x_of(4), c=YES)
    both.check(x=x_of(4), z=x_of(5), c=NO)
    with pytest.raises(SizesDiffer):
        both.native.run({"x": x_of(4), "z": x_of(1), "c": YES})
