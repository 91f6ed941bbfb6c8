"""One operator's inference: facts of its inputs to facts of its outputs, contents included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sardonyx import dims
from sardonyx.dims import Dim
from sardonyx.dtypes import STRING
from sardonyx.errors import SardonyxError
from sardonyx.ir.tensor import SparseTensor
from sardonyx.ir.types import OptionalType, SequenceType, SparseTensorType, TensorType
from sardonyx.ops.fact import Fact
from sardonyx.ops.rational import CARRIED, carry
from sardonyx.ops.symbolic import UNNAMED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sardonyx.dtypes import DType
    from sardonyx.ir.tensor import Array
    from sardonyx.ir.types import Type
    from sardonyx.ir.value import Value
    from sardonyx.ops.operator import Operator

__all__ = ["ANONYMOUS", "constant_fact", "infer_outputs", "listed", "without_anonymous"]

_SMALL = 4096
"""Most elements of a value whose contents inference computes."""

ANONYMOUS = f"{UNNAMED}:"
"""How the symbols begin that stand for unnamed dims while inference runs."""


def without_anonymous(known: Type | None) -> Type | None:
    """The type as a file can say it: dims of symbols that only inference knows are None."""
    if isinstance(known, (TensorType, SparseTensorType)) and known.shape is not None:
        shape = tuple(None if _is_anonymous(dim) else dim for dim in known.shape)
        return type(known)(known.dtype, shape, known.denotation, known.denotations)
    if isinstance(known, (SequenceType, OptionalType)):
        element = without_anonymous(known.element)
        return None if element is None else type(known)(element, known.denotation)
    return known


def _is_anonymous(dim: int | Dim | None) -> bool:
    return isinstance(dim, Dim) and any(name.startswith(UNNAMED) for name in dims.symbols(dim))


def constant_fact(value: Value) -> Fact:
    """What a value's declaration says, with the contents of a small constant."""
    const = value.const
    if const is None:
        return Fact(value.type)
    if isinstance(const, SparseTensor):
        return Fact.tensor(const.values.dtype, const.shape)
    contents = None
    # a model that was read from bytes has no folder, and its external tensors no data
    if 0 < const.size <= _SMALL and not getattr(const, "is_detached", False):
        contents = const.numpy()
    return Fact.tensor(const.dtype, const.shape, contents)


def listed(result: Fact | Sequence[Fact]) -> Sequence[Fact]:
    """The result of `Operator.infer` as a sequence."""
    return [result] if isinstance(result, Fact) else result


def infer_outputs(operator: Operator, arguments: list[Any], n_outputs: int) -> Sequence[Fact]:
    """The operator's own inference, and contents through `reference` where inputs have them."""
    facts = listed(operator.infer(*arguments))
    given = [fact for fact in arguments if fact is not None]
    if not any(fact.value is not None for fact in given) or not operator.deterministic:
        return facts
    wanted = [fact for fact in facts[:n_outputs] if fact.value is None]
    if not wanted or not all(_is_small(fact) for fact in wanted):
        return facts
    try:
        results = _contents(operator, arguments, given)
    except (SardonyxError, ValueError, TypeError, IndexError, ArithmeticError):
        return facts
    if results is None:
        return facts
    return [
        fact.with_value(_held(np.asarray(result), fact.dtype))
        if fact.value is None and isinstance(fact.type, TensorType)
        else fact
        for fact, result in zip(facts, results, strict=False)
    ]


def _contents(operator: Operator, arguments: list[Any], given: list[Fact]) -> Sequence[Any] | None:
    """The outputs' contents, as far as they follow from the inputs'."""
    if all(fact.is_constant for fact in given):
        values = [None if fact is None else fact.constant_value() for fact in arguments]
    elif operator.moves_data or operator.op_type in CARRIED:
        arguments = [None if fact is None else _filled(fact) for fact in arguments]
        if any(fact is not None and fact.value is None for fact in arguments):
            return None
        if any(_is_float(fact) for fact in arguments) or _gives_float(operator):
            return carry(operator, arguments)
        values = [None if fact is None else fact.value for fact in arguments]
    else:
        return None
    with np.errstate(all="ignore"):
        results = operator.reference(*values)
    return results if isinstance(results, tuple) else (results,)


def _filled(fact: Fact) -> Fact:
    """`fact` with unknown elements for contents, where only their number is known."""
    if fact.value is not None or fact.dtype is None or fact.dtype is STRING or not _is_small(fact):
        return fact
    sizes = [dim for dim in fact.shape or () if isinstance(dim, int)]
    return fact.with_value(np.full(sizes, None, object))


def _gives_float(operator: Operator) -> bool:
    target = getattr(operator, "target", None)
    return target is not None and target.is_floating


def _is_float(fact: Fact | None) -> bool:
    return fact is not None and fact.dtype is not None and fact.dtype.is_floating


def _held(contents: Array, dtype: DType | None) -> Array | None:
    """`contents` as a fact of `dtype` holds them: numbers in an array of the type.

    A number that the type does not have, or a dim that may be below 0 where the type has no
    such numbers, is unknown: the run would wrap it. All unknown is no contents.
    """
    if contents.dtype != object or dtype is None or dtype is STRING:
        return contents
    if dtype.is_integer:
        low = 0 if dtype.kind == "uint" else -(1 << (dtype.bits - 1))
        high = (1 << (dtype.bits - (dtype.kind == "int"))) - 1
        items = [_within(item, low, high) for item in contents.reshape(-1).tolist()]
    else:
        items = contents.reshape(-1).tolist()
    if all(type(item) in (int, bool, float) for item in items):
        return np.array(items, dtype.numpy).reshape(contents.shape)
    if all(item is None for item in items):
        return None
    held = np.empty(len(items), object)
    held[:] = items
    return held.reshape(contents.shape)


def _within(item: Any, low: int, high: int) -> Any:
    if isinstance(item, Dim):
        lower = dims.bounds(item)[0] if low == 0 else 0
        return item if lower is not None and lower >= 0 else None
    return item if isinstance(item, int) and low <= item <= high else None


def _is_small(fact: Fact) -> bool:
    if not isinstance(fact.type, TensorType) or fact.shape is None:
        return False
    size = 1
    for dim in fact.shape:
        if not isinstance(dim, int):
            return False
        size *= dim
    return size <= _SMALL
