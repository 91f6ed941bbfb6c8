"""LSTM, GRU and RNN: one product for the inputs of all steps, then a loop over the steps.

::

    projected[d, row, gate] = X[row] · W[d, gate] + bias          a matrix product
    for each direction, and for a few rows of the batch side by side:
        for each step:
            gates = projected[step]
            gates += h · R transposed       8 rows of R at a time, sums in the L1 cache
            h, c  = activations of gates

R is transposed once where it is constant, so that gates lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sardonyx.dims import ceil_div
from sardonyx.dtypes import DOUBLE, INT64
from sardonyx.loops import doubles
from sardonyx.loops import mathematics as m
from sardonyx.loops.expr import Axis, Expr, Load, Ref, index, linear
from sardonyx.loops.kernel import For, If, Let, Local, Store
from sardonyx.loops.nest import (
    Contraction,
    Lowering,
    NotLowered,
    Source,
    Steps,
    widened,
)
from sardonyx.loops.scalars import apply, cast, const, select, size
from sardonyx.lowering.registry import rule
from sardonyx.lowering.support import agree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sardonyx.dims import DimLike
    from sardonyx.dtypes import DType
    from sardonyx.loops.expr import Index
    from sardonyx.loops.kernel import Block, Stmt
    from sardonyx.ops.recurrent import Choice

    Function = Callable[[Expr], Expr]

_ROWS: Final = 4
"""Rows of the batch that read R together."""
_BESIDE: Final = {1: 8, 2: 8, 3: 4, 4: 4}
"""Rows of R that are added to the sums at a time, for so many rows of the batch: their factors stay
in registers."""


# -- activations ------------------------------------------------------------------------------


def _number(value: float, like: Expr) -> Expr:
    return const(value, like.dtype)


def _affine(x: Expr, a: float, b: float) -> Expr:
    return apply("add", apply("mul", _number(a, x), x), _number(b, x))


def _held(x: Expr, low: float, high: float) -> Expr:
    return apply("max", apply("min", x, _number(high, x)), _number(low, x))


def _elu(x: Expr, a: float, _b: float) -> Expr:
    zero = _number(0, x)
    under = apply("min", x, zero)
    power = doubles.expm1(under) if x.dtype is DOUBLE else m.expm1(under)
    return select(apply("le", zero, x), x, apply("mul", _number(a, x), power))


def _leaky(x: Expr, a: float, _b: float) -> Expr:
    return select(apply("le", _number(0, x), x), x, apply("mul", _number(a, x), x))


def _softsign(x: Expr, _a: float, _b: float) -> Expr:
    return apply("div", x, apply("add", _number(1, x), apply("abs", x)))


def _softplus(x: Expr, _a: float, _b: float) -> Expr:
    if x.dtype is DOUBLE:
        raise NotLowered("Softplus of DOUBLE")
    return m.softplus(x)


_ACTIVATIONS: Final[dict[str, Callable[[Expr, float, float], Expr]]] = {
    "relu": lambda x, a, b: apply("max", x, _number(0, x)),
    "tanh": lambda x, a, b: m.tanh(x),
    "sigmoid": lambda x, a, b: m.sigmoid(x),
    "affine": _affine,
    "leakyrelu": _leaky,
    "thresholdedrelu": lambda x, a, b: select(apply("le", _number(a, x), x), x, _number(0, x)),
    "scaledtanh": lambda x, a, b: apply(
        "mul", _number(a, x), m.tanh(apply("mul", _number(b, x), x))
    ),
    "hardsigmoid": lambda x, a, b: _held(_affine(x, a, b), 0, 1),
    "elu": _elu,
    "softsign": _softsign,
    "softplus": _softplus,
}


def _function(choice: Choice, clip: float | None) -> Function:
    name, alpha, beta = choice

    def activate(x: Expr) -> Expr:
        if clip is not None and clip > 0:
            x = _held(x, -clip, clip)
        return _ACTIVATIONS[name](x, alpha, beta)

    return activate


# -- a layer ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of the batch side by side: at most `most`, and `count` of them, from `first` on."""

    most: int
    count: Expr
    first: Index

    def batch(self, row: Index) -> Index:
        """Which row of the batch the one numbered `row` is."""
        return linear((self.first, 1), (row, 1))


@dataclass(slots=True)
class _Layer:
    """What is known of a layer, and how its code is written."""

    k: Lowering
    op: Any
    x: Source
    w: Source
    r: Source
    b: Source | None
    lengths: Source | None
    states: tuple[Source | None, ...]
    peepholes: Source | None = None
    projected: Source = field(init=False)
    turned: Source = field(init=False)
    functions: list[Function] = field(init=False)
    hidden: int = field(init=False)
    batch: DimLike = field(init=False)
    steps: DimLike = field(init=False)
    axis: Axis = field(init=False)
    time: Expr = field(init=False)

    def __post_init__(self) -> None:
        op, x = self.op, self.x
        if x.rank != 3 or self.w.rank != 3 or self.r.rank != 3:
            raise NotLowered(f"{op.op_type} of inputs that are not of rank 3")
        hidden = self.r.shape[2]
        if not isinstance(hidden, int) or not hidden:
            raise NotLowered(f"{op.op_type} of a hidden size that is not known")
        self.hidden = hidden
        self.batch, self.steps = (x.shape[0], x.shape[1]) if op.layout else (x.shape[1], x.shape[0])
        wide, count = hidden * op.gates, op.directions
        agree("W", self.w.shape[:2], (count, wide))
        agree("R", self.r.shape, (count, wide, hidden))
        self.k.require_equal(self.w.shape[2], x.shape[2])
        if self.b is not None:
            agree("B", self.b.shape, (count, 2 * wide))
        if self.peepholes is not None:
            agree("P", self.peepholes.shape, (count, 3 * hidden))
        if self.lengths is not None:
            self.batched("sequence_lens", self.lengths, 0, ())
        for state in self.states:
            if state is not None:
                self.batched("an initial state", state, 0 if op.layout else 1, (count, hidden))
        choices = op.activation_choices()
        if any(choice != choices[0] for choice in choices):
            raise NotLowered(f"{op.op_type} whose directions have different activations")
        self.functions = [_function(choice, op.clip) for choice in choices[0]]
        self.axis = Axis("step")
        self.time = Ref("time", INT64)

    def batched(self, what: str, given: Source, place: int, rest: tuple[int, ...]) -> None:
        """Hold the shape of an input that has the batch in dimension `place`."""
        if given.rank != len(rest) + 1:
            raise NotLowered(f"{what} of rank {given.rank}")
        agree(what, (*given.shape[:place], *given.shape[place + 1 :]), rest)
        self.k.require_equal(given.shape[place], self.batch)

    @property
    def dtype(self) -> DType:
        """The type that is computed in."""
        return widened(self.x[0, 0, 0]).dtype

    @property
    def wide(self) -> int:
        """How many gates a row has."""
        return self.hidden * int(self.op.gates)

    # -- before the steps -----------------------------------------------------------------------

    def project(self, bias: Callable[[Source, Axis, Axis], Expr]) -> None:
        """Define the input's part of all gates, and R with its gates side by side."""
        k = self.k
        count = self.op.directions
        depth = self.x.shape[2]
        total = self.steps * self.batch
        rows = k.define("rows", k.view(self.x, (total, depth)))
        direction, row, gate, each = k.axes(4)
        value: Expr = Ref("sum", self.dtype)
        if self.b is not None:
            value = apply("add", value, bias(self.b, direction, gate))
        product = Contraction(
            (count, total, self.wide),
            self.dtype,
            (direction,),
            (count,),
            row,
            gate,
            each,
            (total, self.wide, depth),
            widened(rows[row, each]),
            widened(self.w[direction, gate, each]),
            value,
            (index(direction), index(row), index(gate)),
        )
        self.projected = k.define("projected", product)
        shape = (count, self.hidden, self.wide)
        self.turned = k.define(
            "recurrence",
            k.compute(shape, self.dtype, lambda d, unit, g: widened(self.r[d, g, unit])),
        )

    # -- pieces of the steps --------------------------------------------------------------------

    def across(self, rows: _Rows, body: Callable[[Axis, Axis], Sequence[Stmt]]) -> For:
        """A loop over the rows, and over the units in vectors."""
        row, unit = Axis("row"), Axis("unit")
        inner = For(unit, index(self.hidden), tuple(body(row, unit)), "vector")
        return For(row, rows.count, (inner,))

    def held(self, name: str, row: Index, unit: Index, width: int = 0) -> Load:
        """An element of a scratch buffer that has rows of `width`."""
        place = linear((row, width or self.hidden), (unit, 1))
        return Load(name, [place], self.dtype)

    def put(self, name: str, row: Index, unit: Index, value: Expr, width: int = 0) -> Store:
        """Store an element of a scratch buffer."""
        place = linear((row, width or self.hidden), (unit, 1))
        return Store(name, (place,), value)

    def gate(self, row: Index, number: int, unit: Index) -> Load:
        """The sum of gate `number` of a unit."""
        place = linear((number * self.hidden, 1), (unit, 1))
        return self.held("gates", row, place, self.wide)

    def started(self, rows: _Rows, count: int, direction: Axis) -> For:
        """The gates as far as the input makes them; `count` of them."""
        row, column = Axis("row"), Axis("column")
        batch = rows.batch(row)
        pair = ((batch, self.steps), (self.time, 1))
        here = linear(*(pair if self.op.layout else ((self.time, self.batch), (batch, 1))))
        value = self.projected[direction, here, column]
        store = self.put("gates", row, column, value, self.wide)
        return For(row, rows.count, (For(column, index(count), (store,), "vector"),))

    def added(
        self, rows: _Rows, direction: Axis, source: str, first: int, count: int
    ) -> Iterator[Stmt]:
        """Add the product of `source` with R to `count` gates from the one numbered `first`."""
        row, column = Axis("row"), Axis(f"column{first}")
        place = linear((first, 1), (column, 1))

        def step(start: Index, beside: int, together: int) -> For:
            found: Expr = self.held("gates", row, place, self.wide)
            for number in range(beside):
                unit = linear((start, 1), (number, 1))
                weight = self.turned[direction, unit, place]
                found = apply("fma", self.held(source, row, unit), weight, found)
            inner: Stmt = self.put("gates", row, place, found, self.wide)
            if together > 1:
                inner = For(row, index(together), (inner,), "unroll")
            return For(column, index(count), (inner,), "vector")

        def product(together: int) -> Iterator[Stmt]:
            chunk, rest = Axis(f"chunk{together}"), Axis(f"rest{together}")
            beside = _BESIDE[together]
            whole = self.hidden // beside
            if whole:
                start = linear((chunk, beside))
                yield For(chunk, index(whole), (step(start, beside, together),))
            if self.hidden % beside:
                after = linear((whole * beside, 1), (rest, 1))
                yield For(rest, index(self.hidden % beside), (step(after, 1, together),))

        each = For(row, rows.count, tuple(product(1)))
        if rows.most == 1:
            yield each
            return
        everything = apply("eq", rows.count, index(rows.most))
        yield If(everything, tuple(product(rows.most)), (each,))

    # -- the whole ------------------------------------------------------------------------------

    def written(self, scratch: dict[str, int], step: Callable[..., Iterator[Stmt]]) -> Steps:
        """The layer: `step` writes the statements of a step but for where its results go.

        It is called with the rows and the direction, and puts the new states in the buffers
        ``new0`` and ``new1``. `scratch` are the buffers that it needs besides, with their widths.
        """
        k = self.k
        direction, block = k.axes(2)
        most = max(min(self.batch, _ROWS), 1) if isinstance(self.batch, int) else _ROWS
        first, count = Ref("first", INT64), Ref("count", INT64)
        left = apply("sub", size(self.batch), index(first))
        body: Block = (
            Let("first", linear((block, _ROWS))),
            Let("count", apply("min", left, const(most, INT64))),
            *self.code(_Rows(most, count, first), scratch, direction, step),
        )
        blocks = ceil_div(self.batch, _ROWS)
        dtype, shape = k.outputs[0]
        work = self.steps * (self.hidden * self.wide * _ROWS // 4)
        extents = (self.op.directions, blocks)
        return Steps(shape, dtype, (direction, block), extents, body, k.results, work)

    def code(
        self,
        rows: _Rows,
        scratch: dict[str, int],
        direction: Axis,
        step: Callable[..., Iterator[Stmt]],
    ) -> Block:
        """All steps of a few rows."""
        names = {f"state{number}": self.hidden for number in range(len(self.states))}
        widths = {**names, "gates": self.wide, **scratch}
        found: list[Stmt] = [
            Local(name, self.dtype, (rows.most * width,)) for name, width in widths.items()
        ]
        for number, state in enumerate(self.states):
            found.append(self.across(rows, self.first_state(rows, direction, number, state)))
        backward = apply("sub", size(self.steps), linear((self.axis, 1), (1, 1)))
        time: Expr = index(self.axis)
        if self.op.direction == "reverse":
            time = backward
        elif self.op.directions == 2:
            time = select(apply("eq", index(direction), const(1, INT64)), backward, time)
        body = (Let("time", time), *step(rows, direction), *self.results(rows, direction))
        found.append(For(self.axis, index(self.steps), body))
        ends = range(len(self.k.results) - 1)
        found += [self.across(rows, self.last_state(rows, direction, end)) for end in ends]
        return tuple(found)

    def place(self, rows: _Rows, direction: Axis, row: Index, unit: Index) -> tuple[Index, ...]:
        """Where a state of a unit lies in an input or output."""
        batch = rows.batch(row)
        return (batch, direction, unit) if self.op.layout else (direction, batch, unit)

    def first_state(
        self, rows: _Rows, direction: Axis, number: int, state: Source | None
    ) -> Callable[[Axis, Axis], Sequence[Stmt]]:
        """The statements that a state begins with."""

        def body(row: Axis, unit: Axis) -> Sequence[Stmt]:
            value: Expr = const(0, self.dtype)
            if state is not None:
                value = widened(state[self.place(rows, direction, row, unit)])
            return (self.put(f"state{number}", row, unit, value),)

        return body

    def last_state(
        self, rows: _Rows, direction: Axis, number: int
    ) -> Callable[[Axis, Axis], Sequence[Stmt]]:
        """The statements that give a state out."""

        def body(row: Axis, unit: Axis) -> Sequence[Stmt]:
            value = cast(self.held(f"state{number}", row, unit), self.k.outputs[0][0])
            where = tuple(map(index, self.place(rows, direction, row, unit)))
            return (Store(self.k.results[number + 1], where, value),)

        return body

    def results(self, rows: _Rows, direction: Axis) -> Iterator[Stmt]:
        """Take the new states of a step, but of rows whose sequence has ended."""
        row, unit = Axis("row"), Axis("unit")
        batch = rows.batch(row)
        where = tuple(map(index, (self.time, direction, batch, unit)))
        if self.op.layout:
            where = tuple(map(index, (batch, self.time, direction, unit)))
        dtype = self.k.outputs[0][0]

        def each(*stmts: Stmt) -> For:
            return For(unit, index(self.hidden), stmts, "vector")

        taken = [
            self.put(f"state{n}", row, unit, self.held(f"new{n}", row, unit))
            for n in range(len(self.states))
        ]
        value = cast(self.held("new0", row, unit), dtype)
        alive: Stmt = each(*taken, Store(self.k.results[0], where, value))
        if self.lengths is not None:
            length = cast(self.lengths[batch], INT64)
            outside = linear((self.steps, 1), (1, 1))
            given = select(apply("lt", length, const(0, INT64)), outside, length)
            held = apply("index", given, outside)
            zero = each(Store(self.k.results[0], where, const(0, dtype)))
            alive = If(apply("lt", index(self.time), held), (alive,), (zero,))
        yield For(row, rows.count, (alive,))


def _both(wide: int) -> Callable[[Source, Axis, Axis], Expr]:
    """Both halves of the bias."""
    return lambda b, d, gate: apply(
        "add", widened(b[d, gate]), widened(b[d, linear((gate, 1), (wide, 1))])
    )


def _outputs(k: Lowering, steps: Steps) -> tuple[Steps, ...]:
    return tuple([replace(steps, shape=shape, dtype=dtype) for dtype, shape in k.outputs])


@rule("LSTM")
def lstm(
    k: Lowering,
    op: Any,
    x: Source,
    w: Source,
    r: Source,
    b: Source | None = None,
    lengths: Source | None = None,
    initial_h: Source | None = None,
    initial_c: Source | None = None,
    peepholes: Source | None = None,
) -> tuple[Steps, ...]:
    layer = _Layer(k, op, x, w, r, b, lengths, (initial_h, initial_c), peepholes)
    f, g, out = layer.functions
    layer.project(_both(layer.wide))

    def step(rows: _Rows, direction: Axis) -> Iterator[Stmt]:
        yield layer.started(rows, layer.wide, direction)
        yield from layer.added(rows, direction, "state0", 0, layer.wide)

        def hole(number: int, unit: Axis, cell: Expr, gate: Expr) -> Expr:
            if peepholes is None:
                return gate
            place = linear((number * layer.hidden, 1), (unit, 1))
            return apply("add", gate, apply("mul", widened(peepholes[direction, place]), cell))

        def body(row: Axis, unit: Axis) -> Sequence[Stmt]:
            i, o, forget, cell = (layer.gate(row, n, unit) for n in range(4))
            before = layer.held("state1", row, unit)
            opened = f(hole(0, unit, before, i))
            if op.input_forget:
                kept = apply("sub", const(1, layer.dtype), opened)
            else:
                kept = f(hole(2, unit, before, forget))
            fresh = apply("add", apply("mul", kept, before), apply("mul", opened, g(cell)))
            c = Ref("c", layer.dtype)
            h = apply("mul", f(hole(1, unit, c, o)), out(c))
            return (
                Let("c", fresh),
                layer.put("new1", row, unit, c),
                layer.put("new0", row, unit, h),
            )

        yield layer.across(rows, body)

    hidden = layer.hidden
    return _outputs(k, layer.written({"new0": hidden, "new1": hidden}, step))


@rule("GRU")
def gru(
    k: Lowering,
    op: Any,
    x: Source,
    w: Source,
    r: Source,
    b: Source | None = None,
    lengths: Source | None = None,
    initial_h: Source | None = None,
) -> tuple[Steps, ...]:
    layer = _Layer(k, op, x, w, r, b, lengths, (initial_h,))
    f, g = layer.functions
    hidden, wide = layer.hidden, layer.wide
    apart = bool(op.linear_before_reset)

    def bias(given: Source, d: Axis, gate: Axis) -> Expr:
        other: Expr = widened(given[d, linear((gate, 1), (wide, 1))])
        if apart:
            inside = apply("lt", index(gate), const(2 * hidden, INT64))
            other = select(inside, other, const(0, layer.dtype))
        return apply("add", widened(given[d, gate]), other)

    layer.project(bias)

    def step(rows: _Rows, direction: Axis) -> Iterator[Stmt]:
        def reset(row: Axis, unit: Axis) -> Expr:
            return f(layer.gate(row, 1, unit))

        def alone(row: Axis, unit: Axis) -> Sequence[Stmt]:
            # the candidate's recurrent part is summed apart from the input's
            start: Expr = const(0, layer.dtype)
            if b is not None:
                start = widened(b[direction, linear((wide + 2 * hidden, 1), (unit, 1))])
            place = linear((2 * hidden, 1), (unit, 1))
            return (
                layer.put("input", row, unit, layer.gate(row, 2, unit)),
                layer.put("gates", row, place, start, wide),
            )

        def resetting(row: Axis, unit: Axis) -> Sequence[Stmt]:
            value = apply("mul", reset(row, unit), layer.held("state0", row, unit))
            return (layer.put("input", row, unit, value),)

        def last(row: Axis, unit: Axis) -> Sequence[Stmt]:
            summed: Expr = layer.gate(row, 2, unit)
            if apart:
                given = layer.held("input", row, unit)
                summed = apply("add", given, apply("mul", reset(row, unit), summed))
            z = Ref("z", layer.dtype)
            one = const(1, layer.dtype)
            before = layer.held("state0", row, unit)
            fresh = apply("mul", apply("sub", one, z), g(summed))
            return (
                Let("z", f(layer.gate(row, 0, unit))),
                layer.put("new0", row, unit, apply("add", fresh, apply("mul", z, before))),
            )

        yield layer.started(rows, wide, direction)
        if apart:
            yield layer.across(rows, alone)
            yield from layer.added(rows, direction, "state0", 0, wide)
        else:
            yield from layer.added(rows, direction, "state0", 0, 2 * hidden)
            yield layer.across(rows, resetting)
            yield from layer.added(rows, direction, "input", 2 * hidden, hidden)
        yield layer.across(rows, last)

    return _outputs(k, layer.written({"new0": hidden, "input": hidden}, step))


@rule("RNN")
def rnn(
    k: Lowering,
    op: Any,
    x: Source,
    w: Source,
    r: Source,
    b: Source | None = None,
    lengths: Source | None = None,
    initial_h: Source | None = None,
) -> tuple[Steps, ...]:
    layer = _Layer(k, op, x, w, r, b, lengths, (initial_h,))
    (f, *_) = layer.functions
    layer.project(_both(layer.wide))

    def step(rows: _Rows, direction: Axis) -> Iterator[Stmt]:
        yield layer.started(rows, layer.wide, direction)
        yield from layer.added(rows, direction, "state0", 0, layer.wide)

        def body(row: Axis, unit: Axis) -> Sequence[Stmt]:
            return (layer.put("new0", row, unit, f(layer.gate(row, 0, unit))),)

        yield layer.across(rows, body)

    return _outputs(k, layer.written({"new0": layer.hidden}, step))
