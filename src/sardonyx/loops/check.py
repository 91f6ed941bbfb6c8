"""The rules that every finished kernel keeps, checked before code is written for it.

A kernel that breaks one could read or write outside of its buffers, or compute something else than
`interpret` says. So the rules are about what code generation relies on:

- names: buffers, sizes, axes, variables and named values are declared before they are used, inside
  of the block that declares them, and never twice at once;
- types: those that an operation takes (the 16-bit floats are only moved and converted), and a
  value that is stored has its buffer's type;
- loops: a parallel loop is the outermost and alone, an unrolled one has a constant extent;
- vector loops: no branch, buffer or other vector loop inside, inner loops are as long for all
  lanes, what is stored and loaded is so at one place, and a variable from outside is only
  accumulated, by one operation whose order does not matter.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sardonyx.dims import Dim
from sardonyx.dtypes import BOOL, INT32, INT64
from sardonyx.errors import SardonyxError
from sardonyx.loops.expr import Apply, Axis, Const, Linear, Load, Ref, coefficient, linear, walk
from sardonyx.loops.kernel import (
    Accumulate,
    For,
    If,
    Let,
    Local,
    Prefetch,
    Store,
    Var,
    expressions,
    fixed_extent,
    is_flat,
    statements,
)
from sardonyx.loops.nest import COMPUTED_AS, is_number
from sardonyx.loops.printer import statement_text
from sardonyx.loops.scalars import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Expr
    from sardonyx.loops.kernel import Block, Kernel, Stmt

__all__ = ["UNORDERED", "KernelError", "check_kernel"]

UNORDERED: Final = frozenset({"add", "mul", "min", "max", "minimum", "maximum", "and", "or", "xor"})
"""Operations that a vector loop may accumulate with: each has a neutral element."""

_MODES: Final = {"serial", "parallel", "vector", "unroll"}
_OF_FLOATS: Final = {"sqrt", "floor", "ceil", "trunc", "rint", "copysign"}
_OF_NUMBERS: Final = {"add", "sub", "mul", "div", "rem", "fma", "neg", "abs"}
_OF_BITS: Final = {"and", "or", "xor", "not"}
_OF_WORDS: Final = {"shl", "shr", "lshr"}
_LONGEST: Final = 300


class KernelError(SardonyxError):
    """A kernel that breaks a rule of the loop IR: a fault in sardonyx, never in the model."""


def check_kernel(kernel: Kernel) -> None:
    """Raise KernelError if a rule is broken, naming the kernel and the statement."""
    _Checker(kernel).check()


@dataclass(slots=True)
class _Scope:
    """What a block can name, and which of it differs between the lanes of a vector loop."""

    axes: set[Expr] = field(default_factory=set)
    names: dict[str, DType] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    buffers: dict[Any, DType] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)

    def copy(self) -> _Scope:
        return _Scope(
            set(self.axes),
            dict(self.names),
            set(self.variables),
            dict(self.buffers),
            set(self.differing),
        )


class _Checker:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sizes = set(kernel.sizes)
        self.written = {param.name for param in kernel.params if param.written}
        self.locals: set[str] = set()
        self.scope = _Scope()
        self.stmt: Stmt | None = None
        self.vector: For | None = None

    def require(self, holds: bool, message: str) -> None:
        if not holds:
            error = KernelError(message)
            if self.stmt is not None:
                error.at(statement_text(self.stmt)[:_LONGEST])
            raise error.at(f"kernel {self.kernel.name}")

    def check(self) -> None:
        kernel = self.kernel
        self.require(len(self.sizes) == len(kernel.sizes), "two sizes have one name")
        for param in kernel.params:
            self.require(param.name not in self.scope.buffers, f"two buffers are {param.name}")
            self.type(param.dtype)
            self.scope.buffers[param.name] = param.dtype
        self.block(kernel.body, outermost=True)

    @contextmanager
    def inside(self) -> Iterator[None]:
        outer = self.scope
        self.scope = outer.copy()
        yield
        self.scope = outer

    # -- statements -----------------------------------------------------------------------------

    def block(self, block: Block, *, outermost: bool = False) -> None:
        for stmt in block:
            self.stmt = stmt
            self.expressions(*expressions(stmt))
            if isinstance(stmt, For):
                self.loop(stmt, outermost=outermost, alone=len(block) == 1)
            elif isinstance(stmt, If):
                self.branch(stmt)
            elif isinstance(stmt, Var):
                self.require(stmt.start.dtype is stmt.dtype, "a variable starts with another type")
                self.named(stmt.name, stmt.dtype, differs=self.vector is not None)
                self.scope.variables.add(stmt.name)
            elif isinstance(stmt, Let):
                self.named(stmt.name, stmt.value.dtype, differs=self.differs(stmt.value))
            elif isinstance(stmt, Local):
                self.local(stmt)
            elif isinstance(stmt, Accumulate):
                self.accumulate(stmt)
            elif isinstance(stmt, Prefetch):
                self.require(self.vector is not None, "a hint is outside of a vector loop")
                self.buffer(stmt.buffer, stmt.indices)
            else:
                self.store(stmt)

    def named(self, name: str, dtype: DType, *, differs: bool) -> None:
        self.require(name not in self.scope.names, f"{name} is named twice")
        self.scope.names[name] = dtype
        if differs:
            self.scope.differing.add(name)

    def loop(self, stmt: For, *, outermost: bool, alone: bool) -> None:
        self.require(stmt.mode in _MODES, f"there is no mode {stmt.mode}")
        self.require(stmt.axis not in self.scope.axes, f"axis {stmt.axis.name} is bound twice")
        self.require(stmt.extent.dtype is INT64, "an extent is INT64")
        self.require(
            stmt.mode != "parallel" or (outermost and alone),
            "a parallel loop is the outermost statement and the only one",
        )
        self.require(
            stmt.mode != "unroll" or fixed_extent(stmt) is not None,
            "an unrolled loop has no fixed extent",
        )
        self.require(not self.differs(stmt.extent), "an inner loop is not as long for all lanes")
        vector = stmt.mode == "vector" or (stmt.mode == "parallel" and is_flat(stmt))
        if vector:
            self.vector_loop(stmt)
        with self.inside():
            self.scope.axes.add(stmt.axis)
            outer = self.vector
            self.vector = stmt if vector else outer
            self.block(stmt.body)
            self.vector = outer

    def vector_loop(self, stmt: For) -> None:
        self.require(self.vector is None, "a vector loop is inside of another")
        inner = list(statements(stmt.body))
        for part in inner:
            self.require(not isinstance(part, If), "a branch is in a vector loop")
            self.require(not isinstance(part, Local), "a buffer is declared in a vector loop")
        self.places(stmt, inner)
        own = {part.name for part in inner if isinstance(part, Var)}
        found: dict[str, str] = {}
        for part in inner:
            if isinstance(part, Accumulate) and part.name not in own:
                self.require(
                    found.setdefault(part.name, part.op) == part.op,
                    f"{part.name} is accumulated by two operations in a vector loop",
                )
                self.require(
                    part.op in UNORDERED, f"a vector loop accumulates {part.name} by {part.op}"
                )
        for expr in walk(*(expr for part in inner for expr in expressions(part))):
            self.require(
                not (isinstance(expr, Ref) and expr.name in found),
                "a variable is read in the vector loop that accumulates it",
            )

    def places(self, loop: For, inner: list[Stmt]) -> None:
        """What one lane stores, no other lane loads."""
        stored: dict[Any, list[Linear]] = {}
        for part in inner:
            if isinstance(part, Store):
                stored.setdefault(part.buffer, []).extend(part.indices)
        for expr in walk(*(expr for part in inner for expr in expressions(part))):
            if isinstance(expr, Load):
                self.require(
                    all(
                        _apart(place, position, loop)
                        for place in stored.get(expr.buffer, ())
                        for position in expr.indices
                    ),
                    f"a vector loop stores to {expr.buffer} what another of its lanes loads",
                )

    def branch(self, stmt: If) -> None:
        self.require(stmt.condition.dtype is BOOL, "a condition is BOOL")
        for block in (stmt.then, stmt.otherwise):
            with self.inside():
                self.block(block)

    def local(self, stmt: Local) -> None:
        self.require(
            stmt.name not in self.locals and stmt.name not in self.scope.buffers,
            f"two buffers are {stmt.name}",
        )
        self.require(len(stmt.shape) == 1, f"buffer {stmt.name} is not one-dimensional")
        self.dim(stmt.shape[0])
        self.type(stmt.dtype)
        self.locals.add(stmt.name)
        self.scope.buffers[stmt.name] = stmt.dtype

    def accumulate(self, stmt: Accumulate) -> None:
        self.require(stmt.name in self.scope.variables, f"there is no variable {stmt.name}")
        dtype = self.scope.names[stmt.name]
        self.require(stmt.value.dtype is dtype, f"variable {stmt.name} is {dtype}")
        variable = Ref(stmt.name, dtype)
        self.operation(stmt.op, (variable, stmt.value), dtype)

    def store(self, stmt: Store) -> None:
        dtype = self.buffer(stmt.buffer, stmt.indices)
        self.require(
            stmt.buffer in self.written or stmt.buffer in self.locals,
            f"buffer {stmt.buffer} is not one that the kernel writes",
        )
        self.require(
            stmt.value.dtype is dtype, f"buffer {stmt.buffer} is {dtype}, not {stmt.value.dtype}"
        )

    # -- expressions ----------------------------------------------------------------------------

    def differs(self, value: Expr) -> bool:
        """Whether the lanes of the vector loop that is being checked differ in `value`."""
        return self.vector is not None and any(
            part is self.vector.axis
            or (isinstance(part, Ref) and part.name in self.scope.differing)
            for part in walk(value)
        )

    def expressions(self, *values: Expr) -> None:
        for part in walk(*values):
            if isinstance(part, Const):
                self.require(_fits(part), f"{part.value} is no {part.dtype}")
            elif isinstance(part, Axis):
                self.require(part in self.scope.axes, f"axis {part.name} is not bound here")
            elif isinstance(part, Ref):
                dtype = self.scope.names.get(part.name)
                self.require(dtype is not None, f"nothing is named {part.name} here")
                self.require(part.dtype is dtype, f"{part.name} is {dtype}, not {part.dtype}")
            elif isinstance(part, Linear):
                self.dim(part.constant)
                for term, factor in part.terms:
                    self.require(term.dtype is INT64, f"an index of type {term.dtype}")
                    self.dim(factor)
            elif isinstance(part, Load):
                dtype = self.buffer(part.buffer, part.indices)
                self.require(part.dtype is dtype, f"buffer {part.buffer} is {dtype}")
            else:
                assert isinstance(part, Apply)
                self.operation(part.op, part.args, part.dtype)

    def buffer(self, buffer: Any, indices: tuple[Linear, ...]) -> DType:
        """The element type of a buffer that is used."""
        dtype = self.scope.buffers.get(buffer)
        self.require(dtype is not None, f"there is no buffer {buffer}")
        self.require(len(indices) == 1, f"an element of {buffer} has {len(indices)} indices")
        assert dtype is not None
        return dtype

    def dim(self, value: object) -> None:
        known = isinstance(value, int) or (isinstance(value, Dim) and str(value) in self.sizes)
        self.require(known, f"there is no size {value}")

    def type(self, dtype: DType) -> None:
        self.require(is_number(dtype), f"kernels do not compute with {dtype}")

    def operation(self, op: str, args: tuple[Expr, ...], result: DType) -> None:
        operation = OPERATIONS.get(op)
        self.require(operation is not None, f"there is no operation {op}")
        assert operation is not None
        self.require(len(args) == operation.arity, f"{op} takes {operation.arity} arguments")
        kinds = [arg.dtype for arg in args]
        for dtype in (*kinds, result):
            self.type(dtype)
        if not _takes(op, kinds, result, is_test=operation.is_test):
            spelt = ", ".join(str(kind) for kind in kinds)
            self.require(False, f"{op} does not take {spelt} and give {result}")


def _takes(op: str, kinds: list[DType], result: DType, *, is_test: bool) -> bool:
    """Whether `op` of values of types `kinds` gives a `result`."""
    first = kinds[0]
    if op == "cast":
        return True
    if op == "bits":
        return first.bits == result.bits and BOOL not in {first, result}
    if op == "select":
        return first is BOOL and kinds[1] is result and kinds[2] is result
    if op == "index":
        return all(kind is INT64 for kind in (*kinds, result))
    if any(kind is not first for kind in kinds) or result is not (BOOL if is_test else first):
        return False
    if first in COMPUTED_AS:
        return False
    if op in _OF_FLOATS:
        return first.is_floating
    if op == "dot2":
        return first is INT32
    if op in _OF_NUMBERS:
        return first is not BOOL
    if op in _OF_BITS:
        return not first.is_floating
    if op in _OF_WORDS:
        return first.is_integer and first is not BOOL
    return True


def _apart(stored: Linear, loaded: Linear, loop: For) -> bool:
    """Whether no step of `loop` loads at `loaded` what another one stores at `stored`."""
    step = coefficient(stored, loop.axis)
    gap = linear((stored, 1), (loaded, -1))
    if gap.terms or not isinstance(gap.constant, int) or not isinstance(step, int) or not step:
        return False
    steps, between = divmod(abs(gap.constant), abs(step))
    if not steps or between:
        return True
    extent = fixed_extent(loop)
    return extent is not None and steps >= extent


def _fits(number: Const) -> bool:
    """Whether a constant is one of its type's numbers."""
    value, dtype = number.value, number.dtype
    if dtype is BOOL:
        return value in {0, 1}
    if dtype.is_floating:
        with np.errstate(all="ignore"):
            held = float(np.asarray(value).astype(dtype.numpy))
        return held == value or held != held
    bounds = np.iinfo(dtype.numpy.str)
    return isinstance(value, int) and bounds.min <= value <= bounds.max
