"""From definitions to kernels: types agree, and kernels say nothing about the model."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import sardonyx as sx
from sardonyx.dims import symbol
from sardonyx.dtypes import DOUBLE, FLOAT, FLOAT16, INT64, DType
from sardonyx.limits import DEFAULT
from sardonyx.loops.check import KernelError
from sardonyx.loops.expr import Expr, Ref
from sardonyx.loops.nest import Lowering, Nest, Source, widened
from sardonyx.loops.printer import kernel_text
from sardonyx.loops.scalars import apply, cast
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import compile_model
from sardonyx.schedule.finish import finish
from sardonyx.schedule.launch import Launch
from sardonyx.schedule.nests import schedule_nest

M, N = symbol("M"), symbol("N")


def launch(nest: Nest, types: dict[str, DType], shapes: dict[str, Any] | None = None) -> Launch:
    def shape_of(buffer: Hashable) -> Any:
        return (shapes or {}).get(str(buffer), nest.shape)

    scheduled = schedule_nest(nest, "y", shape_of)
    return finish(
        scheduled.body,
        shape_of,
        lambda buffer: types[str(buffer)],
        label="test",
        extent=scheduled.extent,
        work=scheduled.work,
    )


def mixed(a: DType, b: DType, out: DType) -> Nest:
    """out[i, j] = a[i, j] * b[j]."""
    k = Lowering([(out, (M, N))])
    x, y = Source("a", a, (M, N)), Source("b", b, (N,))

    def element(i: Expr, j: Expr) -> Expr:
        return apply("mul", cast(widened(x[i, j]), FLOAT), cast(widened(y[j]), FLOAT))

    return k.compute((M, N), out, element)


def test_types_that_agree() -> None:
    found = launch(
        mixed(FLOAT16, DOUBLE, INT64), {"a": FLOAT16, "b": DOUBLE, "y": INT64}, {"b": (N,)}
    )
    assert [param.dtype for param in found.kernel.params] == [FLOAT16, DOUBLE, INT64]
    assert found.buffers == ("a", "b", "y")
    assert found.outputs == ("y",)


@pytest.mark.parametrize("wrong", ["a", "b", "y"])
def test_an_element_type_that_is_not_the_buffers(wrong: str) -> None:
    types = {"a": FLOAT16, "b": DOUBLE, "y": FLOAT}
    types[wrong] = INT64
    with pytest.raises(KernelError, match="which is INT64") as caught:
        launch(mixed(FLOAT16, DOUBLE, FLOAT), types, {"b": (N,)})
    assert "test" in caught.value.places[0]


def test_a_row_that_is_kept_has_its_own_type() -> None:
    k = Lowering([(FLOAT16, (M, N))])
    x = Source("x", FLOAT16, (M, N))

    def grown(point: Any) -> Expr:
        value = widened(x[point])
        for _ in range(9):
            value = apply("add", apply("mul", value, value), widened(x[point]))
        return value

    def result(point: Any, total: Ref) -> Expr:
        return apply("div", grown(point), total)

    nest = k.rows((M, N), [1], FLOAT16, [("total", "add", FLOAT, 0, grown)], result, spread=True)
    text = kernel_text(launch(nest, {"x": FLOAT16, "y": FLOAT16}).kernel)
    assert "local row0: FLOAT[s1]" in text


def test_kernels_are_the_same_whatever_values_are_called() -> None:
    shapes = {"b": (N,)}
    types = {"a": FLOAT, "b": FLOAT, "y": FLOAT}
    first = launch(mixed(FLOAT, FLOAT, FLOAT), types, shapes)
    second = launch(mixed(FLOAT, FLOAT, FLOAT), types, shapes)
    assert first.kernel.name == second.kernel.name
    other = launch(mixed(FLOAT, DOUBLE, FLOAT), {**types, "b": DOUBLE}, shapes)
    assert other.kernel.name != first.kernel.name


def test_a_half_input_with_a_float_scale() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 24])
    scale = helper.make_tensor_value_info("scale", TensorProto.FLOAT, [24])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 24])
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"])
    graph = helper.make_graph([node], "test", [x, scale], [y])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    loaded = sx.loads(proto.SerializeToString())
    evaluator = Evaluator(loaded)
    compiled = compile_model(loaded, evaluator, DEFAULT)
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((5, 24)).astype(np.float16),
        "scale": rng.standard_normal(24).astype(np.float32),
    }
    expected = evaluator.run(feeds)
    for _ in range(20):
        found = compiled.run(feeds)
        assert found["y"].dtype == expected["y"].dtype
        np.testing.assert_allclose(found["y"], expected["y"], rtol=2e-3, atol=2e-3)
