"""Complex tensors, which ONNX's operators do not take, as real ones.

A complex tensor is one real tensor with a last axis of size 2 (packed), as torch's view_as_real
gives it, or two of the complex tensor's own shape, its parts. Each form is made from the other
where an operation needs it, at most once in a graph.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx import dtypes
from sardonyx.errors import ExportError
from sardonyx.ir.tensor import Tensor
from sardonyx.ir.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.export.torch.registry import TorchBuilder, Translation
    from sardonyx.ir.graph import Graph
    from sardonyx.ir.tensor import Array

__all__ = [
    "COMPLEX_TRANSLATIONS",
    "Complex",
    "as_complex",
    "complex_translation",
    "constant_data",
    "part_dtype",
    "real_results",
]

COMPLEX_TRANSLATIONS: Final[dict[str, Translation]] = {}
"""Target -> function, for nodes that take or give complex tensors."""

_PARTS: Final = {dtypes.COMPLEX64: dtypes.FLOAT, dtypes.COMPLEX128: dtypes.DOUBLE}


def complex_translation(*targets: str) -> Callable[[Translation], Translation]:
    """Register a translation for calls in which a complex tensor goes in or comes out.

    As `translation`, but a complex tensor arrives, and is returned, as a `Complex`.
    """

    def register(function: Translation) -> Translation:
        for target in targets:
            COMPLEX_TRANSLATIONS[target] = function
        return function

    return register


def part_dtype(dtype: DType | None) -> DType:
    """The type of the parts of a complex type; of a real one, itself."""
    if dtype is None:
        raise ExportError("the element type of a complex tensor is not known")
    return _PARTS.get(dtype, dtype)


@contextmanager
def real_results(
    op: TorchBuilder, shapes: Sequence[Sequence[DimLike | None]] | None = None
) -> Iterator[None]:
    """Within the block `op` expects the parts' types, and results of `shapes`, where given."""
    before = op.result_dtype, op.result_shape, op.result_shapes, op.common_dtype
    try:
        op.result_dtype = None if op.result_dtype is None else part_dtype(op.result_dtype)
        op.common_dtype = None if op.common_dtype is None else part_dtype(op.common_dtype)
        if shapes is not None:
            op.result_shapes = [tuple(each) for each in shapes]
            op.result_shape = op.result_shapes[0]
        yield
    finally:
        op.result_dtype, op.result_shape, op.result_shapes, op.common_dtype = before


def constant_data(value: Value | None) -> Array | None:
    """The data of a constant; None for what the model computes."""
    return value.const.numpy() if value is not None and isinstance(value.const, Tensor) else None


class Complex:
    """A complex tensor of `shape` whose parts are of `dtype`; at least one form is given."""

    def __init__(
        self,
        dtype: DType,
        shape: Sequence[DimLike | None],
        *,
        packed: Value | None = None,
        parts: tuple[Value, Value] | None = None,
        graph: Graph | None = None,
    ) -> None:
        self.dtype = dtype
        self.shape = tuple(shape)
        self._forms: dict[tuple[int, str], Value] = {}
        self._graph = id(graph)
        if packed is not None:
            self._forms[self._graph, "packed"] = packed
        if parts is not None:
            self._forms[self._graph, "real"], self._forms[self._graph, "imag"] = parts

    @property
    def rank(self) -> int:
        """The rank of the complex tensor."""
        return len(self.shape)

    def computed(self) -> list[tuple[Value, str]]:
        """The forms that stand where the tensor was made, each with the ending of its name."""
        endings = {"packed": "", "real": ".real", "imag": ".imag"}
        return [
            (value, endings[form])
            for (graph, form), value in self._forms.items()
            if graph == self._graph and form in endings
        ]

    def has_parts(self, op: TorchBuilder) -> bool:
        """Whether the parts stand already."""
        return self._find(op, "real") is not None and self._find(op, "imag") is not None

    def is_packed(self, op: TorchBuilder) -> bool:
        """Whether the packed form stands already."""
        return self._find(op, "packed") is not None

    def packed(self, op: TorchBuilder) -> Value:
        """One value with a last axis of 2."""
        found = self._find(op, "packed")
        if found is None:
            parts = [op.unsqueeze(part, [self.rank]) for part in self.parts(op)]
            found = op.Concat(*parts, axis=self.rank)
            found = self._keep(op, "packed", op.typed(found, self.dtype, [*self.shape, 2]))
        return found

    def real(self, op: TorchBuilder) -> Value:
        """The real part."""
        return self._part(op, "real", 0)

    def imag(self, op: TorchBuilder) -> Value:
        """The imaginary part."""
        return self._part(op, "imag", 1)

    def parts(self, op: TorchBuilder) -> tuple[Value, Value]:
        """The real and the imaginary part."""
        return self.real(op), self.imag(op)

    def spread(self, op: TorchBuilder) -> tuple[Value, Value | None]:
        """``(c, c)`` and ``(-d, d)`` of c + di, each with a last axis of 2; None is zero.

        With them another packed tensor is multiplied without being taken apart.
        """
        same, crossed = self._find(op, "same"), self._find(op, "crossed")
        if same is not None and crossed is not None:
            return same, crossed
        data = self._constant_data(op)
        kind = [*self.shape, 2]
        if data is not None:
            real, imag = data
            same = op.constant(np.stack([real, real], -1), self.dtype)
            crossed = op.constant(np.stack([-imag, imag], -1), self.dtype)
            if not np.any(imag):
                return same, None
        else:
            packed = self.packed(op)
            same = op.Gather(packed, op.ints([0, 0]), axis=self.rank)
            twice = op.Gather(packed, op.ints([1, 1]), axis=self.rank)
            crossed = op.Mul(twice, op.constant([-1, 1], self.dtype))
        op.typed(same, self.dtype, kind)
        op.typed(crossed, self.dtype, kind)
        return self._keep(op, "same", same), self._keep(op, "crossed", crossed)

    def _constant_data(self, op: TorchBuilder) -> tuple[Array, Array] | None:
        real, imag = (constant_data(self._find(op, form)) for form in ("real", "imag"))
        if real is not None and imag is not None:
            return real, imag
        data = constant_data(self._find(op, "packed"))
        return None if data is None else (data[..., 0], data[..., 1])

    def _part(self, op: TorchBuilder, form: str, index: int) -> Value:
        found = self._find(op, form)
        if found is None:
            packed = self.packed(op)
            data = constant_data(packed)
            if data is not None:
                found = op.constant(np.ascontiguousarray(data[..., index]), self.dtype)
            else:
                found = op.Gather(packed, op.constant(index, dtypes.INT64), axis=self.rank)
            found = self._keep(op, form, op.typed(found, self.dtype, self.shape))
        return found

    def _find(self, op: TorchBuilder, form: str) -> Value | None:
        places = [self._graph, *map(id, reversed(op.bodies))]
        return next(
            (self._forms[place, form] for place in places if (place, form) in self._forms), None
        )

    def _keep(self, op: TorchBuilder, form: str, value: Value) -> Value:
        self._forms[id(op.bodies[-1]), form] = value
        return value


def as_complex(op: TorchBuilder, x: Any, dtype: DType) -> Complex:
    """`x`, a complex or real tensor or a number, as a complex one with parts of `dtype`."""
    if isinstance(x, Complex):
        if x.dtype is dtype:
            return x
        return Complex(dtype, x.shape, packed=op.cast(x.packed(op), dtype), graph=op.bodies[-1])
    if isinstance(x, Value):
        real = op.cast(x, dtype)
        shape = op.shape_of(x)
        if all(isinstance(size, int) for size in shape):
            zeros = op.constant(np.zeros(shape), dtype)
        else:
            zeros = op.typed(op.Sub(real, real), dtype, shape)
        return Complex(dtype, shape, parts=(real, zeros), graph=op.bodies[-1])
    if isinstance(x, (int, float, complex)):
        number = complex(x)
        parts = (op.constant(number.real, dtype), op.constant(number.imag, dtype))
        return Complex(dtype, (), parts=parts, graph=op.bodies[0])
    raise ExportError(f"{x!r} is no complex number")
