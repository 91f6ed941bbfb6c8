"""One operator, compiled, against its reference: one compiled model at several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

import sardonyx as sx
from sardonyx.dtypes import from_numpy
from sardonyx.errors import SardonyxError
from sardonyx.limits import DEFAULT
from sardonyx.reference import Evaluator
from sardonyx.runtime.compiled import CompiledModel, SizesDiffer, compile_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Make = Callable[[int], Sequence[Any]]

SIZES = (5, 9, 1, 16, 0)
IR_VERSION = 13


class Known:
    """An input that the model has as an initializer."""

    def __init__(self, value: Any, dtype: Any = np.int64) -> None:
        self.array = np.asarray(value, dtype)


def random(*shape: int, dtype: Any = np.float32, low: float = -3, high: float = 3) -> Any:
    """Numbers that are the same on each call with one shape."""
    generator = np.random.default_rng(sum(shape) + 7 * len(shape))
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return generator.random(shape) < 0.5
    if kind.kind in "iu":
        info = np.iinfo(kind)
        least, most = max(info.min, int(low)), min(info.max, int(high))
        return generator.integers(least, most, shape, dtype=np.int64, endpoint=True).astype(kind)
    return (generator.random(shape) * (high - low) + low).astype(kind)


def model_of(
    op_type: str, make: Make, *, opset: int, n_outputs: int, domain: str, attributes: dict[str, Any]
) -> Any:
    """A model of one node, whose input dims are symbols where `make` says they vary."""
    here, there = make(SIZES[0]), make(SIZES[1])
    names, infos, initializers = [], [], []
    for number, (a, b) in enumerate(zip(here, there, strict=True)):
        name = "" if a is None else f"x{number}"
        names.append(name)
        if isinstance(a, Known):
            from onnx import numpy_helper

            initializers.append(numpy_helper.from_array(a.array, name))
        elif a is not None:
            pairs = zip(a.shape, b.shape, strict=True)
            shape = [p if p == q else f"n{p}_{q}" for p, q in pairs]
            code = from_numpy(a.dtype).code
            infos.append(helper.make_tensor_value_info(name, code, shape))
    outputs = [f"y{number}" for number in range(n_outputs)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **attributes)
    infos_out = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "test", infos, infos_out, initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=IR_VERSION
    )
    return sx.loads(model.SerializeToString())


def compiled(model: Any) -> CompiledModel:
    """The compiled model."""
    return compile_model(model, Evaluator(model), DEFAULT)


def left_to_reference(model: CompiledModel) -> list[str]:
    """Why nodes are not compiled."""
    return [e.reason for e in model.compilation.explanations if e.kind == "reference"]


def assert_close(actual: Any, expected: Any, length: int, off: int = 0) -> None:
    """Equal but for the rounding of a sum of `length` terms; integers but for `off`."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    dtype = from_numpy(expected.dtype)
    if not dtype.is_floating:
        if off:
            actual, expected = actual.astype(np.float64), expected.astype(np.float64)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=off)
        return
    bits = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}[expected.dtype.name]
    tolerance = 2.0**-bits * max(16, 2 * length)
    wide = expected.astype(np.float64)
    size = np.abs(wide[np.isfinite(wide)]).max(initial=0)
    np.testing.assert_allclose(
        actual.astype(np.float64), wide, rtol=tolerance, atol=tolerance * min(size, 1e30)
    )


def check(
    op_type: str,
    make: Make,
    *,
    opset: int = 24,
    n_outputs: int = 1,
    sizes: Sequence[int] = SIZES,
    length: int = 1,
    off: int = 0,
    domain: str = "",
    **attributes: Any,
) -> None:
    """Compile the operator once and compare with its reference at several sizes."""
    model = model_of(
        op_type, make, opset=opset, n_outputs=n_outputs, domain=domain, attributes=attributes
    )
    native = compiled(model)
    reasons = left_to_reference(native)
    assert not reasons, reasons
    evaluator = Evaluator(model)
    names = [value.name for value in model.graph.outputs]
    for size in sizes:
        feeds = {
            f"x{number}": value
            for number, value in enumerate(make(size))
            if value is not None and not isinstance(value, Known)
        }
        try:
            expected = evaluator.run(feeds, names)
        except SardonyxError:
            expected = None
        try:
            actual = native.run(feeds)
        except (SardonyxError, SizesDiffer):
            assert expected is None
            continue
        assert expected is not None
        for name in names:
            assert_close(actual[name], expected[name], length, off)
