"""Translations: what each operator of PyTorch is in ONNX, and the `op` that they write with."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from sardonyx import dims, dtypes
from sardonyx.dims import Dim
from sardonyx.errors import ExportError
from sardonyx.export.torch.sizes import Sizes
from sardonyx.ir.builder import Builder
from sardonyx.ir.graph import Graph
from sardonyx.ir.types import TensorType
from sardonyx.ir.value import Value
from sardonyx.ops import registry as operators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.ir.builder import AttributeTyper, Operand
    from sardonyx.ir.node import AttributeType, Node
    from sardonyx.ops.operator import Operator
    from sardonyx.ops.schema import Schema

__all__ = [
    "HIGHER_ORDER",
    "TRANSLATIONS",
    "Number",
    "TorchBuilder",
    "TorchValue",
    "Translation",
    "higher_order",
    "known",
    "positive",
    "product",
    "static",
    "translation",
]

Number: TypeAlias = int | float | bool
TorchValue: TypeAlias = Value | int | float | bool
"""A tensor, or a Python number in a tensor's place."""

Translation: TypeAlias = "Callable[..., Any]"

TRANSLATIONS: Final[dict[str, Translation]] = {}
"""Target (``aten.relu.default``) -> function of `op` and the target's arguments."""


HIGHER_ORDER: Final[dict[str, Translation]] = {}
"""Higher-order operator (``cond``) -> function of the walker, the node and its arguments."""


def higher_order(*names: str) -> Callable[[Translation], Translation]:
    """Register a function as the translation of higher-order operators, which call graphs.

    It is called as ``function(walker, node, *args, **kwargs)``: graphs are graph modules that
    ``walker.run`` walks, the rest is as torch's nodes gave it (a size is a SymInt).
    """

    def register(function: Translation) -> Translation:
        for name in names:
            HIGHER_ORDER[name] = function
        return function

    return register


def translation(*targets: str) -> Callable[[Translation], Translation]:
    """Register a function as the translation of `targets`.

    It is called as ``function(op, *args, **kwargs)`` with the target's arguments: a `Value` for
    each tensor, numbers, lists and None as they are, an `int` or `Dim` for each size, a `DType`
    for each dtype. It returns the value of the result, or a tuple of them.
    """

    def register(function: Translation) -> Translation:
        for target in targets:
            TRANSLATIONS[target] = function
        return function

    return register


class TorchBuilder(Builder):
    """The `op` of translations: a `Builder` that knows what torch expects of the result.

    `result_dtype` and `result_shape` are those of the first output that torch computes for the
    node being translated, `result_dtypes` and `result_shapes` those of all; `common_dtype` is
    torch's promotion of its first two arguments; `node` is torch's node.
    """

    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__(graph, opset_imports={"": opset}, attribute_type=_attribute_types(opset))
        self.size_values = Sizes(self)
        self.result_dtype: DType | None = None
        self.result_shape: tuple[DimLike | None, ...] = ()
        self.result_shapes: list[tuple[DimLike | None, ...]] = []
        self.result_dtypes: list[DType] = []
        self.common_dtype: DType | None = None
        self.node: Any = None
        self.bodies: list[Graph] = [graph]
        self.warned_of_randomness = False

    @contextmanager
    def body(self, name: str) -> Iterator[Graph]:
        """Within the block, new nodes go to a new graph: a branch's or a loop's body.

        Constants still become initializers of the model's graph, where bodies see them; sizes
        that are computed within stay within.
        """
        graph = Graph(name)
        self.bodies.append(graph)
        try:
            with self.at(None), self.size_values.scope():
                yield graph
        finally:
            self.bodies.pop()

    def _insert(self, node: Node) -> None:
        if len(self.bodies) > 1:
            self.bodies[-1].nodes.append(node)
        else:
            super()._insert(node)

    def apply(
        self, op_type: str, inputs: Sequence[Operand], **keywords: Any
    ) -> Value | tuple[Value, ...]:
        """As `Builder.apply`; `ExportError` where the opset has no such operator or type."""
        domain = keywords.get("_domain", "")
        operator = operators.find(domain, op_type) if domain == "" else None
        if operator is not None:
            first = min(operator.schemas())
            self.require(first, op_type)
            self._check_types(operator.schema(self.opset), operator, inputs)
        return super().apply(op_type, inputs, **keywords)

    def _check_types(
        self, schema: Schema, operator: type[Operator], inputs: Sequence[Operand]
    ) -> None:
        for index, value in enumerate(inputs):
            param = schema.param_of(schema.inputs, index)
            if not isinstance(value, Value) or value.dtype is None or param is None:
                continue
            wanted = TensorType(value.dtype)
            if wanted in schema.allowed(param):
                continue
            newer = [
                version
                for version, other in sorted(operator.schemas().items())
                if version > self.opset
                and (same := other.param_of(other.inputs, index)) is not None
                and wanted in other.allowed(same)
            ]
            what = f"{operator.op_type} of {value.dtype.text}"
            if newer:
                self.require(newer[0], what)
            raise ExportError(f"ONNX has no {what}")

    def require(self, opset: int, what: str) -> None:
        """`ExportError` where the model's opset is older than `what` needs."""
        if self.opset < opset:
            raise ExportError(
                f"{what} needs opset {opset}, opset_version is {self.opset}",
                hint=f"pass opset_version={opset} or newer",
            )

    def constant(self, data: Any, dtype: DType) -> Value:
        """`data` as a constant of `dtype`."""
        return self.value(np.asarray(data).astype(dtype.numpy), dtype)

    def cast(self, x: TorchValue, dtype: DType) -> Value:
        """`x` as `dtype`; a number becomes a constant of it."""
        if not isinstance(x, Value):
            return self.scalar(x, dtype)
        if x.dtype is dtype:
            return x
        cast: Value = self.Cast(x, to=dtype.code)
        cast.type = TensorType(dtype, x.shape)
        return cast

    def scalar(self, x: TorchValue | Dim, dtype: DType) -> Value:
        """A number, or a size, as a scalar of `dtype`."""
        if isinstance(x, Dim):
            value = self.size_values.scalar(x)
            if dtype is dtypes.INT64:
                return value
            cast: Value = self.Cast(value, to=dtype.code)
            return cast
        if isinstance(x, Value):
            return self.cast(x, dtype)
        return self.constant(x, dtype)

    def typed(self, value: Value, dtype: DType, shape: Sequence[DimLike | None]) -> Value:
        """`value`, with its type said: what later steps of a translation may ask for."""
        value.type = TensorType(dtype, tuple(shape))
        return value

    def result(self) -> DType:
        """The element type that the result must have."""
        if self.result_dtype is None:
            raise ExportError("the result is no tensor")
        return self.result_dtype

    def shape_of(self, x: Value) -> tuple[DimLike, ...]:
        """The shape of `x`; `ExportError` where a size is known only from the data."""
        if x.shape is None or any(dim is None for dim in x.shape):
            raise ExportError(f"the shape of {x.name!r} is not known")
        return x.shape  # type: ignore[return-value]

    def rank_of(self, x: Value) -> int:
        """The rank of `x`."""
        if x.shape is None:
            raise ExportError(f"the rank of {x.name!r} is not known")
        return len(x.shape)

    def dtype_of(self, x: Value) -> DType:
        """The element type of `x`."""
        if x.dtype is None:
            raise ExportError(f"the element type of {x.name!r} is not known")
        return x.dtype

    def range_of(self, dtype: DType) -> tuple[int, int]:
        """The smallest and the largest number of an integer type."""
        span = 1 << dtype.bits
        return (0, span - 1) if dtype.kind == "uint" else (-span // 2, span // 2 - 1)

    def ints(self, values: Sequence[int]) -> Value:
        """A rank-1 INT64 constant."""
        return self.constant(np.array(values, np.int64).reshape(-1), dtypes.INT64)

    def sizes(self, values: Sequence[DimLike]) -> Value:
        """A rank-1 INT64 value of sizes: a constant where all are numbers."""
        parts: list[Value] = []
        for symbolic, group in groupby(values, lambda value: isinstance(value, Dim)):
            run = list(group)
            if symbolic:
                parts += self.size_values.vector([dim for dim in run if isinstance(dim, Dim)])
            else:
                parts.append(self.ints([size for size in run if not isinstance(size, Dim)]))
        if not parts:
            return self.ints([])
        joined: Value = parts[0] if len(parts) == 1 else self.Concat(*parts, axis=0)
        return joined

    def reshape(self, x: Value, shape: Sequence[DimLike]) -> Value:
        """`x` in `shape`: symbolic sizes are copied or inferred where that says the same."""
        target: list[DimLike] = list(shape)
        old = x.shape or ()
        if 0 in target:
            self.require(14, "a reshape to a size of 0")
            empty: Value = self.Reshape(x, self.sizes(target), allowzero=1)
            return empty
        if -1 not in target:
            target = _inferred(target, old)
        reshaped: Value = self.Reshape(x, self.sizes(target))
        return reshaped

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """`x` without `axes`, which are of size 1 and not negative."""
        if not axes:
            return x
        if self.opset >= 13:
            return self._shaped(self.Squeeze(x, self.ints(axes)), x, axes)
        return self._shaped(self.Squeeze(x, axes=list(axes)), x, axes)

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """`x` with new axes of size 1 at positions `axes` of the result, not negative."""
        if not axes:
            return x
        if self.opset >= 13:
            out: Value = self.Unsqueeze(x, self.ints(axes))
        else:
            out = self.Unsqueeze(x, axes=list(axes))
        if x.shape is not None and x.dtype is not None:
            shape = list(x.shape)
            for axis in sorted(axes):
                shape.insert(axis, 1)
            self.typed(out, x.dtype, shape)
        return out

    def reduce(self, kind: str, x: Value, axes: Sequence[int], keepdims: bool) -> Value:
        """ReduceSum, ReduceMean … (`kind`: ``Sum``) over `axes`; all where `axes` is empty."""
        name = f"Reduce{kind}"
        listed = list(axes) or None
        if self.opset >= (13 if kind == "Sum" else 18):
            made = self.apply(
                name, [x, None if listed is None else self.ints(listed)], keepdims=int(keepdims)
            )
        else:
            made = self.apply(name, [x], axes=listed, keepdims=int(keepdims))
        assert isinstance(made, Value)
        if x.shape is not None and x.dtype is not None:
            gone = {axis % len(x.shape) for axis in axes} if axes else set(range(len(x.shape)))
            kept = [
                1 if axis in gone else dim
                for axis, dim in enumerate(x.shape)
                if keepdims or axis not in gone
            ]
            self.typed(made, x.dtype, kept)
        return made

    def slice(self, x: Value, axis: int, start: DimLike, end: DimLike, step: int = 1) -> Value:
        """``x[start:end:step]`` along `axis`."""
        if self.opset < 10:
            if step != 1 or isinstance(start, Dim) or isinstance(end, Dim):
                self.require(10, "a slice with a step or of a dynamic size")
            short: Value = self.Slice(x, axes=[axis], starts=[start], ends=[end])
            return short
        bounds = [self.sizes([start]), self.sizes([end]), self.ints([axis])]
        made: Value = self.Slice(x, *bounds, None if step == 1 else self.ints([step]))
        return made

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """`x` with its axes in `order`."""
        made: Value = self.Transpose(x, perm=list(order))
        if x.shape is not None and x.dtype is not None:
            self.typed(made, x.dtype, [x.shape[axis] for axis in order])
        return made

    def clip(self, x: Value, low: Number | None, high: Number | None) -> Value:
        """`x` within [low, high]; None is no bound. `x` has a known dtype."""
        dtype = self.dtype_of(x)
        if self.opset >= 12 or (self.opset == 11 and dtype.is_floating):
            bounds = [
                None if bound is None else self.constant(bound, dtype) for bound in (low, high)
            ]
            made: Value = self.Clip(x, *bounds)
        elif not dtype.is_floating:
            self.require(12, "a clamp of integers")
            return x
        else:
            made = self.Clip(x, min=low, max=high)
        return self.typed(made, dtype, x.shape or ()) if x.shape is not None else made

    def _shaped(self, out: Value, x: Value, removed: Sequence[int]) -> Value:
        if x.shape is not None and x.dtype is not None:
            kept = [dim for axis, dim in enumerate(x.shape) if axis not in removed]
            self.typed(out, x.dtype, kept)
        return out


def _inferred(target: list[DimLike], old: Sequence[DimLike | None]) -> list[DimLike]:
    """`target` with -1 for its only symbolic size, and 0 for sizes copied from `old`."""
    if sum(isinstance(dim, Dim) for dim in target) > 1:
        target = [
            0 if isinstance(dim, Dim) and index < len(old) and old[index] == dim else dim
            for index, dim in enumerate(target)
        ]
    if sum(isinstance(dim, Dim) for dim in target) == 1:
        target = [-1 if isinstance(dim, Dim) else dim for dim in target]
    return target


def _attribute_types(opset: int) -> AttributeTyper:
    """What the schemas in force in `opset` say of attributes' types."""

    def attribute_type(domain: str, op_type: str, name: str) -> AttributeType | None:
        operator = operators.find(domain, op_type)
        if operator is None or opset < min(operator.schemas()):
            return None
        spec = operator.schema(opset).attributes.get(name)
        return None if spec is None else spec.type

    return attribute_type


def product(values: Sequence[DimLike]) -> DimLike:
    """The product of sizes."""
    total: DimLike = 1
    for value in values:
        total = total * value
    return total


def static(values: Sequence[DimLike], what: str) -> list[int]:
    """`values` as numbers; `ExportError` where one is dynamic: `what` needs them."""
    found: list[int] = []
    for value in values:
        if isinstance(value, Dim):
            raise ExportError(
                f"{what} needs a size that is dynamic: {dims.unparse(value)}",
                hint="make that dimension static",
            )
        found.append(int(value))
    return found


def known(shape: Sequence[DimLike | None]) -> tuple[DimLike, ...] | None:
    """`shape` where every size is known, as a number or a symbol."""
    found = tuple(dim for dim in shape if dim is not None)
    return found if len(found) == len(shape) else None


def positive(axes: int | Sequence[int] | None, rank: int) -> list[int]:
    """`axes` counted from the front, sorted; None is all of them."""
    if axes is None:
        return list(range(rank))
    listed = [axes] if isinstance(axes, int) else list(axes)
    return sorted({axis % rank for axis in listed}) if rank else []
