"""Arithmetic on sizes: what is known without computing tensors.

A host value is a Python number, or a tuple of them for a vector: INT64 scalars and vectors that
come from shapes. They may be symbolic integers of `torch.compile` and `torch.export`. Every
function here is one operator on host values; `host` registers it, with what the rank of the
result is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch

from sardonyx import dtypes
from sardonyx.errors import ExecutionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CASTS", "HOSTS", "Host", "boolean", "host", "integer", "ints", "numbers", "tensor"]

CASTS: Final = {
    dtypes.INT32: "int",
    dtypes.INT64: "int",
    dtypes.FLOAT: "float",
    dtypes.DOUBLE: "float",
    dtypes.BOOL: "bool",
}
"""Types that host values are converted to, and the Python types of their elements."""


_F = TypeVar("_F", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Host:
    """An operator on host values.

    `rank` gives the rank of its result from its operator's attributes and the inputs' ranks and
    constants, None where the result is no host value.
    """

    function: Callable[..., Any]
    rank: Callable[..., int | None]
    gives_bool: bool = False


HOSTS: Final[dict[str, Host]] = {}


def host(
    *names: str, rank: Callable[..., int | None], gives_bool: bool = False
) -> Callable[[_F], _F]:
    """Make the function that follows the one for the operators `names` on host values."""

    def register(function: _F) -> _F:
        for name in names:
            HOSTS[name] = Host(function, rank, gives_bool)
        return function

    return register


def tensor(value: Any, dtype: torch.dtype, device: torch.device | None = None) -> torch.Tensor:
    """The host `value` as a tensor."""
    if isinstance(value, tuple):
        if all(isinstance(item, (bool, int, float)) for item in value):
            return torch.tensor(value, dtype=dtype, device=device)
        return torch.stack(
            [torch.scalar_tensor(item, dtype=dtype, device=device) for item in value]
        )
    return torch.scalar_tensor(value, dtype=dtype, device=device)


def numbers(value: Any) -> tuple[Any, ...]:
    """The elements of a host value, or of a tensor, whose contents are read."""
    if isinstance(value, torch.Tensor):
        return tuple(value.detach().reshape(-1).tolist())
    return value if isinstance(value, tuple) else (value,)


def ints(value: Any) -> tuple[int, ...]:
    """The elements of an integer host value or tensor."""
    return numbers(value)


def integer(value: Any) -> int:
    """The only element of an integer host value or tensor."""
    found: int
    (found,) = numbers(value)
    return found


def boolean(value: Any) -> bool:
    """The only element of a condition."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ExecutionError(f"one element is required, got shape {list(value.shape)}")
        return bool(value.reshape(()))
    return bool(integer(value))


def _each(function: Callable[..., Any], *values: Any) -> Any:
    """`function` of numbers and tuples, which broadcast."""
    length = 1
    for value in values:
        if isinstance(value, tuple) and len(value) != 1:
            length = len(value)
    if not any(isinstance(value, tuple) for value in values):
        return function(*values)
    rows = [
        value * length
        if isinstance(value, tuple) and len(value) == 1
        else value
        if isinstance(value, tuple)
        else (value,) * length
        for value in values
    ]
    return tuple([function(*row) for row in zip(*rows, strict=True)])


def single(value: Any) -> Any:
    """A float rounded to FLOAT, as a tensor would hold it."""
    if type(value) is not float or value == 0 or not math.isfinite(value):
        return value
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(fraction * (1 << 24)), exponent - 24)


def _widest(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    rank: int = max(ranks)
    return rank


def _same(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    found: int = ranks[0]
    return found


def _vector(_op: Any, _ranks: Any, _constants: Any) -> int | None:
    return 1


@host("Identity", rank=_same)
def identity(x: Any) -> Any:
    return x


@host("Add", rank=_widest)
def add(a: Any, b: Any) -> Any:
    return _each(lambda x, y: single(x + y), a, b)


@host("Sub", rank=_widest)
def sub(a: Any, b: Any) -> Any:
    return _each(lambda x, y: single(x - y), a, b)


@host("Mul", rank=_widest)
def mul(a: Any, b: Any) -> Any:
    return _each(lambda x, y: single(x * y), a, b)


def _quotient(x: Any, y: Any) -> Any:
    if isinstance(x, (float, torch.SymFloat)):
        return single(x / y)
    if isinstance(y, int) and y > 0 and (not isinstance(x, int) or x >= 0):
        return x // y
    if y == 0:
        return 0
    return x // y if (x >= 0) == (y > 0) else -(-x // y)


@host("Div", rank=_widest)
def div(a: Any, b: Any) -> Any:
    return _each(_quotient, a, b)


def _is_plain_mod(op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    return None if op.fmod else max(ranks)


@host("Mod", rank=_is_plain_mod)
def mod(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x % y if y != 0 else 0, a, b)


@host("Max", rank=_widest)
def maximum(*values: Any) -> Any:
    return _each(lambda *items: _fold(torch.sym_max, items), *values)


@host("Min", rank=_widest)
def minimum(*values: Any) -> Any:
    return _each(lambda *items: _fold(torch.sym_min, items), *values)


def _fold(function: Any, items: Sequence[Any]) -> Any:
    result = items[0]
    for item in items[1:]:
        result = function(result, item)
    return result


@host("Neg", rank=_same)
def neg(x: Any) -> Any:
    return _each(lambda item: -item, x)


@host("Abs", rank=_same)
def absolute(x: Any) -> Any:
    return _each(abs, x)


@host("Sqrt", rank=_same)
def sqrt(x: Any) -> Any:
    return _each(lambda item: single(torch.sym_sqrt(item)), x)


@host("Floor", rank=_same)
def floor(x: Any) -> Any:
    return _each(lambda item: torch.sym_float(math.floor(item)), x)


@host("Ceil", rank=_same)
def ceil(x: Any) -> Any:
    return _each(lambda item: torch.sym_float(math.ceil(item)), x)


def _cast(op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    rank: int | None = ranks[0]
    return rank if op.target in CASTS else None


@host("Cast", rank=_cast)
def cast(x: Any, *, to: str) -> Any:
    """`to` is float, int or bool."""
    change: Any = {"float": lambda v: single(torch.sym_float(v)), "int": torch.sym_int}.get(
        to, bool
    )
    return _each(change, x)


@host("Equal", rank=_widest, gives_bool=True)
def equal(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x == y, a, b)


@host("Greater", rank=_widest, gives_bool=True)
def greater(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x > y, a, b)


@host("Less", rank=_widest, gives_bool=True)
def less(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x < y, a, b)


@host("GreaterOrEqual", rank=_widest, gives_bool=True)
def greater_or_equal(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x >= y, a, b)


@host("LessOrEqual", rank=_widest, gives_bool=True)
def less_or_equal(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x <= y, a, b)


@host("Not", rank=_same, gives_bool=True)
def logical_not(x: Any) -> Any:
    return _each(torch.sym_not, x)


@host("And", rank=_widest, gives_bool=True)
def logical_and(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x and y, a, b)


@host("Or", rank=_widest, gives_bool=True)
def logical_or(a: Any, b: Any) -> Any:
    return _each(lambda x, y: x or y, a, b)


@host("Where", rank=_widest)
def where(condition: Any, x: Any, y: Any) -> Any:
    return _each(lambda c, a, b: a if c else b, condition, x, y)


def _gathered(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    rank: int | None = ranks[1]
    return rank if ranks[0] == 1 else None


@host("Gather", rank=_gathered)
def gather(data: Any, indices: Any) -> Any:
    return _each(lambda index: data[index], indices)


def _joined(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    return 1 if set(ranks) == {1} else None


@host("Concat", rank=_joined)
def concat(*parts: Any) -> Any:
    return tuple([item for part in parts for item in part])


def _sliced(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    return 1 if ranks[0] == 1 and all(rank == 1 for rank in ranks[1:] if rank is not None) else None


@host("Slice", rank=_sliced)
def cut(data: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    step = 1 if steps is None else steps[0]
    last = ends[0]
    if step < 0 and isinstance(last, int) and last < -len(data):
        last = None
    return data[slice(starts[0], last, step)]


def _unsqueezed(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    return 1 if ranks[0] == 0 and ranks[1] in {0, 1} else None


@host("Unsqueeze", rank=_unsqueezed)
def unsqueeze(data: Any, axes: Any) -> Any:
    return (data,)


def _squeezed(_op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    return 0 if ranks[0] == 1 and len(ranks) > 1 and ranks[1] is not None else None


@host("Squeeze", rank=_squeezed)
def squeeze(data: Any, axes: Any) -> Any:
    return data[0]


def _reshaped(_op: Any, ranks: Sequence[Any], constants: Sequence[Any]) -> int | None:
    target = constants[1]
    if target is None or len(target) > 1:
        return None
    return len(target)


@host("Reshape", rank=_reshaped)
def reshape(data: Any, shape: Any) -> Any:
    items = data if isinstance(data, tuple) else (data,)
    return items if shape else items[0]


def _reduced(op: Any, ranks: Sequence[Any], _constants: Any) -> int | None:
    return None if ranks[0] != 1 else 1 if op.keepdims else 0


@host("ReduceProd", rank=_reduced)
def product(data: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    result = _fold(lambda x, y: x * y, (1, *data))
    return (result,) if keepdims else result


@host("ReduceSum", rank=_reduced)
def total(data: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    result = _fold(lambda x, y: x + y, (0, *data))
    return (result,) if keepdims else result


@host("ReduceMax", rank=_reduced)
def greatest(data: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    result = _fold(torch.sym_max, data)
    return (result,) if keepdims else result


@host("ReduceMin", rank=_reduced)
def least(data: Any, axes: Any = None, *, keepdims: int = 1) -> Any:
    result = _fold(torch.sym_min, data)
    return (result,) if keepdims else result


def shape(data: Any, *, start: int = 0, end: int | None = None) -> tuple[int, ...]:
    """The sizes of a tensor from dimension `start` up to, not including, `end`."""
    if not isinstance(data, torch.Tensor):
        return (len(data),) if isinstance(data, tuple) else ()
    rank = data.dim()
    first, last, _ = slice(start, end).indices(rank)
    return tuple(data.shape[first:last])


def size(data: Any) -> int:
    """The number of elements of a tensor."""
    if not isinstance(data, torch.Tensor):
        return len(data) if isinstance(data, tuple) else 1
    count: int = data.numel()
    return count
