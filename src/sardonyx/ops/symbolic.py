"""Dimension arithmetic that inference shares, with None as "unknown".

A result is exact wherever the operation itself succeeds; what cannot be proven is None.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import limits
from sardonyx.dims import Dim, bounds, divide_exact, known_equal, symbol
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType
from sardonyx.ops.fact import Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import DimLike, Shape, Type

__all__ = [
    "add",
    "check_size",
    "constant_ints",
    "contents",
    "divide",
    "exact",
    "is_negative",
    "join",
    "join_shapes",
    "join_types",
    "most_of",
    "multiply",
    "normalized",
    "normalized_axes",
    "product",
    "sequence_fact",
    "subtract",
    "unify",
    "unknown",
    "value_length",
]


_LONGEST = limits.DEFAULT.rank * 2


UNNAMED = "?"
"""How the names of symbols begin that no file may use: dims that inference has no name for."""


def unknown(what: str, lower: int | None = 0, upper: int | None = None) -> Dim:
    """A dim that only data decides, within [lower, upper]; `what` says in words what it is.

    Within the outputs of one node the same words are the same dim; the driver gives each node
    a symbol of its own for it.
    """
    return symbol(UNNAMED + what, lower, upper)


def exact(function: Callable[..., Any], *dims: DimLike) -> DimLike:
    """`function` of `dims`; None where one is unknown or the expression grows too large."""
    if any(dim is None for dim in dims):
        return None
    try:
        result: DimLike = function(*dims)
    except (OverflowError, ZeroDivisionError):
        return None
    return result


def add(a: DimLike, b: DimLike) -> DimLike:
    """A + b."""
    return exact(lambda x, y: x + y, a, b)


def subtract(a: DimLike, b: DimLike) -> DimLike:
    """A - b."""
    return exact(lambda x, y: x - y, a, b)


def multiply(a: DimLike, b: DimLike) -> DimLike:
    """A * b; 0 where either is, whatever the other."""
    if a == 0 or b == 0:
        return 0
    return exact(lambda x, y: x * y, a, b)


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of `dims`."""
    total: DimLike = 1
    for dim in sorted(dims, key=lambda each: each is None):
        total = multiply(total, dim)
    return total


def divide(total: DimLike, part: DimLike) -> DimLike:
    """Total / part, known to leave no remainder when `part` is not 0.

    Raises `InferenceError` where both are numbers and there is a remainder.
    """
    if total is None or part is None or part == 0:
        return None
    quotient = exact(divide_exact, total, part)
    if quotient is not None:
        return quotient
    if isinstance(total, int) and isinstance(part, int):
        raise InferenceError(f"{total} elements do not divide by {part}")
    return exact(lambda x, y: x // y, total, part)


def most_of(dim: DimLike) -> int | None:
    """The greatest number that `dim` can be, where there is one."""
    return None if dim is None else bounds(dim)[1]


def is_negative(dim: int | Dim) -> bool | None:
    """Whether the value is always (True) or never (False) below 0; None where not decided."""
    lower, upper = bounds(dim)
    if lower is not None and lower >= 0:
        return False
    return True if upper is not None and upper < 0 else None


def unify(a: DimLike, b: DimLike) -> DimLike:
    """The better known of two dims that must be equal; raises `InferenceError` if they never are.

    A number is better than a symbol and a symbol better than nothing.
    """
    if a is None or b is None:
        return b if a is None else a
    if known_equal(a, b) is False:
        raise InferenceError(f"sizes {a} and {b} differ")
    return b if isinstance(b, int) else a


def normalized(op_type: str, axis: int, rank: int) -> int:
    """`axis` counted from the front; raises `InferenceError` outside [-rank, rank - 1]."""
    if not -rank <= axis < rank:
        raise InferenceError(
            f"{op_type} requires -r <= axis < r, got axis={axis} for data of rank {rank}"
        )
    return axis % rank


def normalized_axes(op_type: str, axes: Iterable[int], rank: int) -> list[int]:
    """`axes` counted from the front; raises `InferenceError` where one repeats."""
    found = [normalized(op_type, int(axis), rank) for axis in axes]
    if len(set(found)) < len(found):
        raise InferenceError(f"{op_type} requires distinct axes, got {found} for rank {rank}")
    return found


def contents(fact: Fact) -> list[DimLike] | None:
    """The elements of an integer tensor as dims, or None where not even their number is known."""
    dims = fact.dims_value()
    if dims is None and (length := value_length(fact)) is not None and length <= _LONGEST:
        return [None] * length
    return dims


def constant_ints(fact: Fact | None) -> list[int] | None:
    """The contents of an integer tensor as ints, or None while any is symbolic or unknown."""
    dims = None if fact is None else contents(fact)
    if dims is None:
        return None
    ints = [dim for dim in dims if isinstance(dim, int)]
    return ints if len(ints) == len(dims) else None


def value_length(fact: Fact) -> int | None:
    """How many elements a rank 1 (or 0) tensor has, where known."""
    if fact.value is not None:
        return int(fact.value.size)
    if fact.shape is None or len(fact.shape) > 1:
        return None
    size = fact.shape[0] if fact.shape else 1
    return size if isinstance(size, int) else None


def join_shapes(a: Shape | None, b: Shape | None) -> Shape | None:
    """What is true of both shapes: dims that may differ are None, ranks that differ give None."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x is not None and x == y else None for x, y in zip(a, b, strict=True))


def join_types(a: Type | None, b: Type | None) -> Type | None:
    """What is true of both types; None where they are of different kinds."""
    if a is None or b is None or a == b:
        return a if a == b else None
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        dtype = a.dtype if a.dtype is b.dtype else None
        return TensorType(dtype, join_shapes(a.shape, b.shape))
    if isinstance(a, SparseTensorType) and isinstance(b, SparseTensorType):
        dtype = a.dtype if a.dtype is b.dtype else None
        return SparseTensorType(dtype, join_shapes(a.shape, b.shape))
    for kind in (SequenceType, OptionalType):
        if isinstance(a, kind) and isinstance(b, kind):
            element = join_types(a.element, b.element)
            return None if element is None else kind(element)
    if isinstance(a, OptionalType) != isinstance(b, OptionalType):
        inner = a.element if isinstance(a, OptionalType) else a
        other = b.element if isinstance(b, OptionalType) else b
        element = join_types(inner, other)
        return None if element is None else OptionalType(element)
    return None


def join(a: Fact, b: Fact) -> Fact:
    """What is true of both facts; contents stay where they are the same.

    An empty sequence says nothing of its elements, so the other one's type is true of both.
    """
    if a.elements is not None and b.elements is not None and len(a.elements) == len(b.elements):
        pairs = zip(a.elements, b.elements, strict=True)
        return sequence_fact(join_sequences(a, b), [join(x, y) for x, y in pairs])
    return Fact(join_sequences(a, b), a.value if _same_contents(a.value, b.value) else None)


def join_sequences(a: Fact, b: Fact) -> Type | None:
    """The type that is true of both facts, which may be of sequences."""
    for empty, other in ((a, b), (b, a)):
        if empty.elements == () and _element_dtype(empty.type) is _element_dtype(other.type):
            return other.type
    return join_types(a.type, b.type)


def sequence_fact(known: Type | None, elements: Sequence[Fact] | None) -> Fact:
    """The fact of a sequence of `elements`, of type `known`; of many, only the type is kept."""
    if known is None or elements is None or len(elements) > _LONGEST:
        return Fact(known)
    return Fact(known, None, tuple(elements))


def _element_dtype(known: Type | None) -> object:
    element = known.element if isinstance(known, SequenceType) else None
    return element.dtype if isinstance(element, TensorType) else None


def _same_contents(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a is b:
        return True
    return all(x is not None and x == y for x, y in zip(a.flat, b.flat, strict=True))


def check_size(op_type: str, shape: Sequence[int], itemsize: int) -> None:
    """Raise `LimitError` where a result of `shape` is over the limit, before it is allocated."""
    if any(dim < 0 for dim in shape):
        raise ExecutionError(f"{op_type}: negative size in shape {list(shape)}")
    needed = math.prod(shape) * max(itemsize, 1)
    addressed = math.prod(dim for dim in shape if dim) * max(itemsize, 1)
    if len(shape) > limits.active().rank:
        raise limits.exceeded("rank", limits.active().rank, len(shape))
    if needed > limits.active().tensor_bytes or addressed > np.iinfo(np.int64).max:
        raise limits.exceeded("tensor_bytes", limits.active().tensor_bytes, needed or addressed)
