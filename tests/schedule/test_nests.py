"""The loops that definitions become, as text before and after."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest

from codegen.running import compiled, run
from sardonyx.dims import symbol
from sardonyx.dtypes import FLOAT, FLOAT16
from sardonyx.loops import mathematics
from sardonyx.loops.expr import Expr, Ref
from sardonyx.loops.interpret import interpret
from sardonyx.loops.nest import Lowering, Nest, Source, widened
from sardonyx.loops.printer import kernel_text
from sardonyx.loops.scalars import apply
from sardonyx.schedule.finish import finish
from sardonyx.schedule.launch import Launch
from sardonyx.schedule.nests import schedule_nest

M, N, K = symbol("M"), symbol("N"), symbol("K")


def launch(nest: Nest, *sources: Source) -> Launch:
    shapes: dict[Hashable, Any] = {source.buffer: source.shape for source in sources}
    types = {source.buffer: source.dtype for source in sources}
    shapes["y"], types["y"] = nest.shape, nest.dtype
    scheduled = schedule_nest(nest, "y", shapes.__getitem__)
    return finish(
        scheduled.body,
        shapes.__getitem__,
        types.__getitem__,
        label="",
        extent=scheduled.extent,
        work=scheduled.work,
    )


def loops(found: Launch) -> str:
    """The kernel without its name."""
    head, *lines = kernel_text(found.kernel).splitlines()
    return "\n".join([head[head.index("(") :], *lines])


def sum_of(shape: tuple[Any, ...], along: list[int]) -> tuple[Launch, Source]:
    x = Source("x", FLOAT, shape)
    k = Lowering()
    stage = ("total", "add", FLOAT, 0.0, lambda point: x[point])
    return launch(k.rows(shape, along, FLOAT, [stage], lambda _p, total: total), x), x


def case_elementwise() -> Launch:
    a, b = Source("a", FLOAT, (M, N)), Source("b", FLOAT, (M, N))
    k = Lowering([(FLOAT, (M, N))])
    return launch(k.map(lambda x, y: apply("add", x, y), a, b), a, b)


def case_broadcast() -> Launch:
    a, b = Source("a", FLOAT, (M, N, 8)), Source("b", FLOAT, (8,))
    k = Lowering([(FLOAT, (M, N, 8))])
    return launch(k.map(lambda x, y: apply("mul", x, y), a, b), a, b)


def case_transposed() -> Launch:
    a = Source("a", FLOAT, (M, N))
    return launch(Lowering().compute((N, M), FLOAT, lambda i, j: a[j, i]), a)


def case_along() -> Launch:
    return sum_of((M, N), [1])[0]


def case_along_all() -> Launch:
    return sum_of((M, N), [0, 1])[0]


def case_across() -> Launch:
    return sum_of((M, N), [0])[0]


def case_between() -> Launch:
    return sum_of((M, N, K), [1])[0]


def case_over_one() -> Launch:
    return sum_of((M, 1), [1])[0]


def case_softmax() -> Launch:
    x = Source("x", FLOAT16, (M, N))
    k = Lowering()

    def grown(point: Any, peak: Expr) -> Expr:
        return mathematics.sigmoid(apply("sub", widened(x[point]), peak))

    stages = [
        ("peak", "max", FLOAT, float("-inf"), lambda point: widened(x[point])),
        ("total", "add", FLOAT, 0.0, grown),
    ]

    def result(point: Any, peak: Ref, total: Ref) -> Expr:
        return apply("div", grown(point, peak), total)

    return launch(k.rows((M, N), [1], FLOAT16, stages, result, spread=True), x)


GOLDEN = {
    "elementwise": """
(b0: FLOAT, b1: FLOAT, out b2: FLOAT; s0)
  parallel i0 < s0:
    b2[i0] = (b0[i0] + b1[i0])
""",
    "broadcast": """
(b0: FLOAT, b1: FLOAT, out b2: FLOAT; s0)
  parallel i0 < s0:
    vector i1 < 8:
      b2[8*i0 + i1] = (b0[8*i0 + i1] * b1[i1])
""",
    "transposed": """
(b0: FLOAT, out b1: FLOAT; s0, s1)
  parallel i0 < s0:
    vector i1 < s1:
      b1[s1*i0 + i1] = b0[i0 + s0*i1]
""",
    "along": """
(b0: FLOAT, out b1: FLOAT; s0, s1)
  parallel i0 < s0:
    var total: FLOAT = 0.0:float
    vector i1 < s1:
      total = add(total, b0[s1*i0 + i1])
    b1[i0] = total
""",
    "along_all": """
(b0: FLOAT, out b1: FLOAT; s0)
  parallel i0 < 1:
    var total: FLOAT = 0.0:float
    vector i1 < s0:
      total = add(total, b0[i1])
    b1[0] = total
""",
    "across": """
(b0: FLOAT, out b1: FLOAT; s0, s1)
  parallel i0 < 1:
    vector i1 < s0:
      var total: FLOAT = 0.0:float
      serial i2 < s1:
        total = add(total, b0[i1 + s0*i2])
      b1[i1] = total
""",
    "between": """
(b0: FLOAT, out b1: FLOAT; s0, s1, s2, s3)
  parallel i0 < s0:
    vector i1 < s1:
      var total: FLOAT = 0.0:float
      serial i2 < s2:
        total = add(total, b0[s3*i0 + i1 + s1*i2])
      b1[s1*i0 + i1] = total
""",
    "over_one": """
(b0: FLOAT, out b1: FLOAT; s0)
  parallel i0 < 1:
    vector i1 < s0:
      var total: FLOAT = 0.0:float
      total = add(total, b0[i1])
      b1[i1] = total
""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_loops(name: str) -> None:
    assert loops(globals()[f"case_{name}"]()) == GOLDEN[name].strip("\n")


def test_a_costly_part_of_a_row_is_computed_once() -> None:
    text = loops(case_softmax())
    assert text.count("local") == 1
    assert text.count("/") == 2  # once in the function, then by the total


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 40, 2), (4, 9, 17), (0, 3, 2), (3, 0, 2)])
@pytest.mark.parametrize("along", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]], ids=str)
def test_sums(along: list[int], sizes: tuple[int, int, int]) -> None:
    found, _ = sum_of((M, N, K), along)
    values = dict(zip("MNK", sizes))
    numbers = np.random.default_rng(0).integers(-9, 9, sizes).astype(np.float32)
    expected = numbers.sum(axis=tuple(along))
    check(found, {"x": numbers}, values, expected)


def test_a_sum_over_one_element() -> None:
    numbers = np.arange(19, dtype=np.float32).reshape(19, 1)
    check(case_over_one(), {"x": numbers}, {"M": 19}, numbers[:, 0])


def check(found: Launch, inputs: dict[str, Any], values: dict[str, int], expected: Any) -> None:
    from sardonyx.dims import Dim, evaluate

    def number(dim: Any) -> int:
        return evaluate(dim, values) if isinstance(dim, Dim) else dim

    given = {**inputs, "y": np.full(expected.shape, 77, np.float32)}
    buffers = {
        param.name: given[str(buffer)].reshape(-1)
        for param, buffer in zip(found.kernel.params, found.buffers)
    }
    sizes = {name: number(dim) for name, dim in zip(found.kernel.sizes, found.sizes)}
    library = compiled([found.kernel], strict=False)
    results = run(library, found.kernel, buffers, sizes, number(found.extent))
    meant = {name: array.copy() for name, array in buffers.items()}
    interpret(found.kernel, meant, sizes)
    for param, buffer in zip(found.kernel.params, found.buffers):
        if buffer == "y":
            np.testing.assert_array_equal(results[param.name], expected.reshape(-1))
            np.testing.assert_array_equal(meant[param.name], expected.reshape(-1))
