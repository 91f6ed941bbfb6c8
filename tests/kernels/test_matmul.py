"""Matrix products, compiled, against the reference: shapes, operands, types and epilogues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper, numpy_helper

import sardonyx as sx
from sardonyx.dtypes import from_numpy
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import compile_model

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
SHAPES = [
    (1, 1, 1),
    (1, 16, 64),
    (1, 1030, 9),
    (1, 10, 70),
    (2, 33, 17),
    (3, 1025, 12),
    (4, 8, 8),
    (5, 1, 40),
    (7, 7, 7),
    (8, 31, 16),
    (13, 64, 1),
    (25, 48, 65),
    (50, 17, 33),
    (0, 5, 5),
    (5, 0, 5),
    (5, 5, 0),
]
LARGE = [(70, 300, 129), (257, 65, 64), (1, 3000, 200), (6, 16, 2000)]


def random(shape: Sequence[int], dtype: Any, seed: int = 0) -> Any:
    generator = np.random.default_rng([*shape, seed])
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return generator.integers(info.min, info.max, shape, dtype, endpoint=True)
    return generator.standard_normal(shape).astype(dtype)


def agree(got: Any, want: Any, terms: int, size: float) -> None:
    """Within what rounding `terms` products costs, the sums of whose sizes are up to `size`."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind in "iu":
        np.testing.assert_array_equal(got, want)
        return
    bound = (terms + 8) * float(ml_dtypes.finfo(want.dtype).eps) * max(size, 1.0)
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=0, atol=bound)


class Product:
    """A compiled model of `nodes` whose inputs have symbols for the sizes that are None."""

    def __init__(
        self,
        nodes: Sequence[Any],
        inputs: dict[str, tuple[Any, Sequence[Any]]],
        constants: dict[str, Any] | None = None,
    ) -> None:
        infos = [
            helper.make_tensor_value_info(name, from_numpy(np.dtype(dtype)).code, shape)
            for name, (dtype, shape) in inputs.items()
        ]
        known = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
        output = helper.make_empty_tensor_value_info("y")
        graph = helper.make_graph(list(nodes), "test", infos, [output], known)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        model = sx.loads(proto.SerializeToString())
        self.evaluator = Evaluator(model)
        self.compiled = compile_model(model, self.evaluator, DEFAULT)
        kinds = {item.kind for item in self.compiled.compilation.explanations}
        assert "reference" not in kinds

    def agree(self, given: dict[str, Any], terms: int, size: float | None = None) -> None:
        want = self.evaluator.run(given)["y"]
        found = 1.0 if size is None else size
        if size is None and want.size:
            found = float(np.abs(want.astype(np.float64)).max())
        agree(self.compiled.run(given)["y"], want, terms, found)


def gemm(m: Any, n: Any, k: Any, dtype: Any, left: int, right: int, constant: bool) -> Product:
    """y = x w + c, with either operand transposed."""
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"], transA=left, transB=right)
    inputs: dict[str, Any] = {
        "x": (dtype, (k, m) if left else (m, k)),
        "w": (dtype, (n, k) if right else (k, n)),
        "c": (dtype, (n,)),
    }
    constants = {}
    if constant:
        constants = {name: random(inputs.pop(name)[1], dtype) for name in ("w", "c")}
    return Product([node], inputs, constants)


def gemm_feeds(m: int, n: int, k: int, dtype: Any, left: int, right: int, constant: bool) -> Any:
    found = {"x": random((k, m) if left else (m, k), dtype, 1)}
    if not constant:
        found |= {
            "w": random((n, k) if right else (k, n), dtype, 2),
            "c": random((n,), dtype, 3),
        }
    return found


@pytest.mark.parametrize(
    ("left", "right", "constant"), [(0, 0, False), (1, 1, False), (0, 1, True)]
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_known_sizes(shape: tuple[int, int, int], left: int, right: int, constant: bool) -> None:
    product = gemm(*shape, np.float32, left, right, constant)
    product.agree(gemm_feeds(*shape, np.float32, left, right, constant), shape[2])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_one_compiled_model_at_all_sizes(left: int, right: int, dtype: Any) -> None:
    product = gemm("M", "N", "K", dtype, left, right, constant=False)
    for m, n, k in SHAPES:
        product.agree(gemm_feeds(m, n, k, dtype, left, right, False), k)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("n", "k"), [(64, 64), (10, 33), (1, 20), (17, 1)])
def test_any_number_of_rows_with_known_weights(n: int, k: int, dtype: Any) -> None:
    product = gemm("M", n, k, dtype, 0, 1, constant=True)
    for m in (*range(14), 31, 70):
        product.agree(gemm_feeds(m, n, k, dtype, 0, 1, True), k)


@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("right", [0, 1])
def test_large(shape: tuple[int, int, int], right: int) -> None:
    product = gemm(*shape, np.float32, 0, right, constant=False)
    product.agree(gemm_feeds(*shape, np.float32, 0, right, False), shape[2])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 9, 20), (3, 20, 40)),
        ((3, 9, 20), (20, 40)),
        ((9, 20), (4, 20, 40)),
        ((2, 1, 9, 20), (1, 3, 20, 40)),
        ((1, 1, 9, 20), (1, 3, 20, 40)),
        ((5, 1, 70), (5, 70, 30)),
        ((2, 3, 4, 5), (2, 3, 5, 6)),
        ((20,), (20, 40)),
        ((3, 9, 20), (20,)),
        ((20,), (20,)),
        ((0, 9, 20), (0, 20, 40)),
        ((3, 9, 0), (3, 0, 40)),
    ],
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_batches_broadcast(a: tuple[int, ...], b: tuple[int, ...], symbolic: bool) -> None:
    shapes: list[Any] = [a, b]
    if symbolic:
        names = {dim: f"d{dim}" for dim in (*a, *b) if dim != 1}
        shapes = [[names.get(dim, dim) for dim in shape] for shape in (a, b)]
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    product = Product([node], {"a": (np.float32, shapes[0]), "b": (np.float32, shapes[1])})
    product.agree({"a": random(a, np.float32), "b": random(b, np.float32, 1)}, a[-1])


@pytest.mark.parametrize("shape", [("M", 40, 24), (3, 40, 24), (12, 9, 9), (1, 40, 24)], ids=str)
def test_what_follows_is_done_on_the_sums(shape: tuple[Any, int, int]) -> None:
    m, n, k = shape
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "bias"], ["q"]),
        helper.make_node("Sigmoid", ["q"], ["r"]),
        helper.make_node("Mul", ["q", "r"], ["s"]),
        helper.make_node("Add", ["s", "rest"], ["y"]),
    ]
    product = Product(
        nodes,
        {
            "x": (np.float32, (m, k)),
            "w": (np.float32, (k, n)),
            "bias": (np.float32, (n,)),
            "rest": (np.float32, (m, n)),
        },
    )
    assert [item.kind for item in product.compiled.compilation.explanations] == ["kernel"]
    for rows in (1, 5, 30) if m == "M" else (m,):
        shapes = {"x": (rows, k), "w": (k, n), "bias": (n,), "rest": (rows, n)}
        product.agree({name: random(s, np.float32) for name, s in shapes.items()}, k + 8)


@pytest.mark.parametrize("kinds", [(np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8)])
@pytest.mark.parametrize("shape", [("M", "N", "K"), (1, 30, 9), (4, 1100, 40)], ids=str)
def test_bytes_are_summed_in_int32(kinds: tuple[Any, Any], shape: tuple[Any, Any, Any]) -> None:
    node = helper.make_node("MatMulInteger", ["a", "b", "za", "zb"], ["y"])
    m, n, k = shape
    product = Product(
        [node],
        {
            "a": (kinds[0], (m, k)),
            "b": (kinds[1], (k, n)),
            "za": (kinds[0], ()),
            "zb": (kinds[1], ()),
        },
    )
    for sizes in SHAPES if m == "M" else [shape]:
        rows, columns, depth = sizes
        given = {
            "a": random((rows, depth), kinds[0]),
            "b": random((depth, columns), kinds[1]),
            "za": np.array(3, kinds[0]),
            "zb": np.array(100, kinds[1]),
        }
        product.agree(given, depth)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_integers_wrap(dtype: Any) -> None:
    product = Product(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        {"a": (dtype, ("M", 33)), "b": (dtype, (33, 20))},
    )
    for rows in (1, 2, 9):
        product.agree({"a": random((rows, 33), dtype), "b": random((33, 20), dtype)}, 33)


def test_nan_and_infinity_go_where_they_belong() -> None:
    product = gemm("M", 40, 24, np.float32, 0, 1, constant=False)
    given = gemm_feeds(20, 40, 24, np.float32, 0, 1, False)
    given["x"][3, 4] = np.nan
    given["x"][7, 1] = np.inf
    given["w"][39, 5] = -np.inf
    want = product.evaluator.run(given)["y"]
    got = product.compiled.run(given)["y"]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_random_sizes() -> None:
    generator = np.random.default_rng(7)
    for _ in range(100):
        m, n, k = (int(size) for size in generator.integers(0, 71, 3))
        left, right, constant = (int(flag) for flag in generator.integers(0, 2, 3))
        product = gemm(m, n, k, np.float32, left, right, bool(constant))
        product.agree(gemm_feeds(m, n, k, np.float32, left, right, bool(constant)), k)
